/* options.c: the step's parameters, declared and read; see options.h. */
#include "options.h"
#include "lib/tagging.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const char *const part_names[PART_COUNT] = {"train", "val", "test", "all"};

static const char *const formats[] = {"auto", "csv", "jsonl", "idx", "npy", "text", "conll", "conllu", NULL};
static const char *const headers[] = {"auto", "yes", "no", NULL};
static const char *const schemes[] = {"auto", MBL_SCHEMES, NULL};
static const char *const tasks[] = {"auto", "classification", "regression", "none", NULL};
static const char *const scalings[] = {"none", "standard", "minmax", NULL};
static const char *const duplicate_policies[] = {"keep", "drop", "fail", NULL};
static const char *const missing_policies[] = {"keep", "drop", "fail", "mean", NULL};

static const struct mb_param clean_fields[] = {
    {.name = "duplicates",
     .type = MB_ENUM,
     .choices = duplicate_policies,
     .deflt = "\"keep\"",
     .help = "what to do about rows that are copies of earlier ones"},
    {.name = "missing",
     .type = MB_ENUM,
     .choices = missing_policies,
     .deflt = "\"fail\"",
     .help = "what to do about missing values: mean fills in the training part's mean, or its most frequent category"},
    {.name = "na",
     .type = MB_LIST,
     .element = MB_STRING,
     .deflt = "[\"NA\", \"N/A\", \"NaN\", \"nan\", \"null\"]",
     .help = "cells that mean missing, beside empty ones"},
    {0}};

static const struct mb_param bound_fields[] = {
    {.name = "min", .type = MB_FLOAT, .help = "at least"},
    {.name = "max", .type = MB_FLOAT, .help = "at most"},
    {0}};

static const struct mb_param most_fields[] = {
    {.name = "max", .type = MB_FLOAT, .flags = MB_REQUIRED, .least = 0, .most = 1, .help = "largest share of values that may be missing"},
    {0}};

static const struct mb_param expect_fields[] = {
    {.name = "rows", .type = MB_TABLE, .fields = bound_fields, .unit = "rows", .help = "how many rows are left after cleaning"},
    {.name = "columns",
     .type = MB_LIST,
     .element = MB_STRING,
     .help = "label and features, and a group, are just these columns, in this order"},
    {.name = "features", .type = MB_INT, .least = 0, .most = 1e9, .help = "how many features there are"},
    {.name = "classes", .type = MB_ANY, .help = "how many classes there are, or their names"},
    {.name = "range", .type = MB_LIST, .element = MB_FLOAT, .help = "least and greatest value of all numeric features"},
    {.name = "ranges", .type = MB_TABLE, .help = "least and greatest value by column: { age = { 0, 120 } }"},
    {.name = "values", .type = MB_TABLE, .help = "the values that a column may have: { colour = { \"red\", \"blue\" } }"},
    {.name = "missing", .type = MB_TABLE, .fields = most_fields, .help = "how much may be missing in any column, before cleaning"},
    {.name = "unique", .type = MB_LIST, .element = MB_STRING, .help = "columns of which no two rows have the same value"},
    {.name = "balance",
     .type = MB_FLOAT,
     .least = 0,
     .most = 1,
     .help = "the rarest class has at least this share of the most frequent one's rows"},
    {0}};

static const struct mb_param split_fields[] = {
    {.name = "train", .type = MB_FLOAT, .deflt = "0", .least = 0, .most = 1, .help = "share of the rows for training"},
    {.name = "val", .type = MB_FLOAT, .deflt = "0", .least = 0, .most = 1, .help = "share for validation"},
    {.name = "test", .type = MB_FLOAT, .deflt = "0", .least = 0, .most = 1, .help = "share for the test"},
    {.name = "stratify", .type = MB_BOOL, .deflt = "false", .help = "each part gets its share of each class"},
    {.name = "seed", .type = MB_INT, .deflt = "0", .help = "of the generator that picks"},
    {.name = "group", .type = MB_STRING, .help = "a column: rows with the same value go to the same part"},
    {0}};

const struct mb_param dataset_params[] = {
    {.name = "format",
     .type = MB_ENUM,
     .choices = formats,
     .deflt = "\"auto\"",
     .help = "of the source; auto looks at the content, but for text, conll and conllu"},
    {.name = "separator", .type = MB_STRING, .help = "of a CSV's fields; by the first line if not said"},
    {.name = "header",
     .type = MB_ENUM,
     .choices = headers,
     .deflt = "\"auto\"",
     .help = "whether a CSV begins with column names; auto: if no cell of its first line is a number"},
    {.name = "columns", .type = MB_LIST, .element = MB_STRING, .help = "names for the columns, instead of a header's"},
    {.name = "label", .type = MB_ANY, .help = "the column to predict: a name, or a number, from the end if negative"},
    {.name = "features", .type = MB_LIST, .element = MB_STRING, .help = "the columns to predict it from; all others if not said"},
    {.name = "ignore", .type = MB_LIST, .element = MB_STRING, .deflt = "[]", .help = "columns to leave out"},
    {.name = "text", .type = MB_LIST, .element = MB_STRING, .deflt = "[]", .help = "columns that hold text, not categories"},
    {.name = "words", .type = MB_STRING, .help = "the column of lists of words; tokens or words, or the only one, if not said"},
    {.name = "tags",
     .type = MB_LIST,
     .element = MB_STRING,
     .deflt = "[]",
     .help = "a label of lists: all the tags there are, in this order; names for those that the source has as numbers from 0"},
    {.name = "scheme",
     .type = MB_ENUM,
     .choices = schemes,
     .deflt = "\"auto\"",
     .help = "how tags mark entities: with B-, I-, E-, S- …, or not at all (plain); auto: by the tags' names"},
    {.name = "category",
     .type = MB_LIST,
     .element = MB_STRING,
     .deflt = "[]",
     .help = "columns that hold categories although they look like numbers"},
    {.name = "shape",
     .type = MB_LIST,
     .element = MB_INT,
     .least = 1,
     .most = 1 << 20,
     .help = "of images: height, width, and channels (1 if not said)"},
    {.name = "task",
     .type = MB_ENUM,
     .choices = tasks,
     .deflt = "\"auto\"",
     .help = "auto: classification if labels are words, or at most 100 different integers with 5 rows each on average"},
    {.name = "scaling",
     .type = MB_ENUM,
     .choices = scalings,
     .deflt = "\"standard\"",
     .help = "fitted on the training part, by feature, of images by channel; kept in the schema, values stay raw"},
    {.name = "clean", .type = MB_TABLE, .fields = clean_fields, .deflt = "{}", .help = "copies and missing values"},
    {.name = "expect",
     .type = MB_TABLE,
     .fields = expect_fields,
     .help = "what must hold, or the build stops and lists the rows that broke it"},
    {.name = "split", .type = MB_TABLE, .fields = split_fields, .help = "shares that sum to 1; without it there is one part, all"},
    {.name = "licence", .type = MB_STRING, .help = "the data's licence, kept in the schema"},
    {0}};

/* -- checking */

static int check_split(const struct mb_host *host, struct mb_run *run) {
    double sum = 0;
    for (int i = 0; i < PART_ALL; i++) {
        char path[32];
        snprintf(path, sizeof path, "split.%s", part_names[i]);
        sum += host->param_float(run, path);
    }
    if (fabs(sum - 1) > 1e-6) return host->fail(run, "split: train, val and test must sum to 1; these sum to %g", sum);
    return MB_OK;
}

static int check_pair(const struct mb_host *host, struct mb_run *run, const char *name, const struct mbl_json *pair) {
    if (pair->type != MBL_JSON_LIST || pair->count != 2 || !mbl_json_is_number(pair->items[0]) || !mbl_json_is_number(pair->items[1]))
        return host->fail(run, "expect.%s: two numbers expected, the least and the greatest", name);
    if (mbl_json_number(pair->items[0]) > mbl_json_number(pair->items[1]))
        return host->fail(run, "expect.%s: the least is greater than the greatest", name);
    return MB_OK;
}

static int check_names(const struct mb_host *host, struct mb_run *run, const char *name, const struct mbl_json *list) {
    bool fine = list->type == MBL_JSON_LIST;
    for (size_t i = 0; fine && i < list->count; i++) fine = list->items[i]->type == MBL_JSON_STRING || mbl_json_is_number(list->items[i]);
    return fine ? MB_OK : host->fail(run, "expect.%s: a list of values expected", name);
}

/* What the schema leaves open: tables whose keys are columns. */
static int check_expect(const struct mb_host *host, struct mb_run *run) {
    struct mbl_arena arena = {0};
    struct mbl_error e;
    struct mbl_json *expect;
    const char *text = host->param_json(run, "expect");
    int status = MB_OK;
    if (mbl_json_parse(text, strlen(text), "expect", &arena, &expect, &e)) return host->fail(run, "%s", e.text);
    const struct mbl_json *range = mbl_json_get(expect, "range"), *ranges = mbl_json_get(expect, "ranges"),
                          *values = mbl_json_get(expect, "values"), *classes = mbl_json_get(expect, "classes");
    if (range) status = check_pair(host, run, "range", range);
    for (size_t i = 0; ranges && i < ranges->count && status == MB_OK && ranges->type == MBL_JSON_TABLE; i++)
        status = check_pair(host, run, mbl_arena_printf(&arena, "ranges.%s", ranges->keys[i]), ranges->items[i]);
    for (size_t i = 0; values && i < values->count && status == MB_OK && values->type == MBL_JSON_TABLE; i++)
        status = check_names(host, run, mbl_arena_printf(&arena, "values.%s", values->keys[i]), values->items[i]);
    if (classes && classes->type != MBL_JSON_INT && status == MB_OK) status = check_names(host, run, "classes", classes);
    mbl_arena_free(&arena);
    return status;
}

int options_check(const struct mb_host *host, struct mb_run *run) {
    if (host->param_given(run, "separator")) {
        const char *s = host->param_string(run, "separator");
        if (strlen(s) != 1 || *s == '"' || *s == '\n' || *s == '\r')
            return host->fail(run, "separator: one character expected, such as \";\" or \"\\t\"");
    }
    if (host->param_given(run, "label")) {
        enum mb_type type = host->param_type(run, "label");
        if (type != MB_STRING && (type != MB_INT || host->param_int(run, "label") == 0))
            return host->fail(run, "label: a column's name or number expected; the last column is -1");
    }
    if (host->param_given(run, "shape")) {
        size_t n = host->param_count(run, "shape");
        if (n != 2 && n != 3) return host->fail(run, "shape: height, width and perhaps channels expected; there are %zu numbers", n);
    }
    if (host->param_given(run, "split") && check_split(host, run)) return MB_FAILED;
    return host->param_given(run, "expect") ? check_expect(host, run) : MB_OK;
}

/* -- reading */

static const char *read_string(const struct mb_host *host, struct mb_run *run, const char *path) {
    return host->param_given(run, path) ? host->param_string(run, path) : NULL;
}

static struct names read_names(const struct mb_host *host, struct mb_run *run, struct options *o, const char *path) {
    struct names list = {NULL, host->param_given(run, path) ? host->param_count(run, path) : 0};
    list.items = mbl_arena_alloc(&o->arena, (list.count + 1) * sizeof *list.items);
    for (size_t i = 0; i < list.count; i++) list.items[i] = host->param_string(run, mbl_arena_printf(&o->arena, "%s[%zu]", path, i));
    return list;
}

static enum policy read_policy(const struct mb_host *host, struct mb_run *run, const char *path) {
    const char *word = host->param_string(run, path);
    for (int i = 0; missing_policies[i]; i++)
        if (!strcmp(word, missing_policies[i])) return (enum policy)i;
    return POLICY_FAIL;
}

void options_read(const struct mb_host *host, struct mb_run *run, struct options *o) {
    *o = (struct options){0};
    o->format = host->param_string(run, "format");
    o->header = host->param_string(run, "header");
    o->task = host->param_string(run, "task");
    o->scaling = host->param_string(run, "scaling");
    o->licence = read_string(host, run, "licence");
    const char *separator = read_string(host, run, "separator");
    o->separator = separator ? *separator : 0;
    o->columns = read_names(host, run, o, "columns");
    o->features = read_names(host, run, o, "features");
    o->ignore = read_names(host, run, o, "ignore");
    o->text = read_names(host, run, o, "text");
    o->category = read_names(host, run, o, "category");
    o->words = read_string(host, run, "words");
    o->tags = read_names(host, run, o, "tags");
    o->scheme = host->param_string(run, "scheme");
    o->na = read_names(host, run, o, "clean.na");
    if (host->param_given(run, "label")) {
        if (host->param_type(run, "label") == MB_INT) o->label_index = host->param_int(run, "label");
        else o->label = host->param_string(run, "label");
    }
    if (host->param_given(run, "shape")) {
        size_t n = host->param_count(run, "shape");
        o->shape_rank = 3;
        o->shape[2] = 1;
        for (size_t i = 0; i < n && i < 3; i++) o->shape[i] = host->param_int(run, mbl_arena_printf(&o->arena, "shape[%zu]", i));
    }
    o->duplicates = read_policy(host, run, "clean.duplicates");
    o->missing = read_policy(host, run, "clean.missing");
    o->split = host->param_given(run, "split");
    o->fractions[PART_ALL] = o->split ? 0 : 1;
    if (!o->split) return;
    for (int i = 0; i < PART_ALL; i++) o->fractions[i] = host->param_float(run, mbl_arena_printf(&o->arena, "split.%s", part_names[i]));
    o->stratify = host->param_bool(run, "split.stratify");
    o->seed = (uint64_t)host->param_int(run, "split.seed");
    o->group = read_string(host, run, "split.group");
}

void options_free(struct options *o) {
    mbl_arena_free(&o->arena);
}

bool names_have(const struct names *list, const char *name) {
    for (size_t i = 0; i < list->count; i++)
        if (!strcmp(list->items[i], name)) return true;
    return false;
}
