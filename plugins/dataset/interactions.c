/* interactions.c: the step dataset.interactions: from records of who took what to parts that recommenders learn from. What each stage does
 * is in its own file (interactions.h); here are the parameters and their order.
 */
#include "interactions.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const formats[] = {"auto", "csv", "jsonl", NULL};
static const char *const headers[] = {"auto", "yes", "no", NULL};
static const char *const duplicates[] = {"fail", "drop", "last", NULL};
static const char *const splits[] = {"random", "time", "last", NULL};             /* as enum split_by, from SPLIT_RANDOM on */
static const char *const unknowns[] = {"fail", "keep", "drop", NULL}; /* as enum stranger */
static const char *const missings[] = {"fail", "keep", NULL};

static const struct mb_param clean_fields[] = {
    {.name = "duplicates", .type = MB_ENUM, .choices = duplicates, .deflt = "\"fail\"",
     .help = "a pair of user and item that is there again: drop keeps the first, last the latest by time"},
    {.name = "na", .type = MB_LIST, .element = MB_STRING, .deflt = "[\"NA\", \"N/A\", \"NaN\", \"nan\", \"null\"]",
     .help = "cells that mean missing, beside empty ones"},
    {0}};

static const struct mb_param split_fields[] = {
    {.name = "by", .type = MB_ENUM, .choices = splits, .deflt = "\"random\"",
     .help = "last: of each user the latest val + test interactions; time: the latest of all; random"},
    {.name = "train", .type = MB_FLOAT, .deflt = "0", .least = 0, .most = 1, .help = "share of the interactions; not with last"},
    {.name = "val", .type = MB_FLOAT, .deflt = "0", .least = 0, .most = 1e6, .help = "share; with last: how many of each user"},
    {.name = "test", .type = MB_FLOAT, .deflt = "0", .least = 0, .most = 1e6, .help = "share; with last: how many of each user"},
    {.name = "seed", .type = MB_INT, .deflt = "0", .help = "of the generator that picks"},
    {0}};

static const struct mb_param table_fields[] = {
    {.name = "id", .type = MB_STRING, .help = "its column of ids; called like that of the interactions if not said"},
    {.name = "ignore", .type = MB_LIST, .element = MB_STRING, .deflt = "[]", .help = "columns to leave out"},
    {.name = "category", .type = MB_LIST, .element = MB_STRING, .deflt = "[]",
     .help = "columns that hold categories although they look like numbers"},
    {.name = "unknown", .type = MB_ENUM, .choices = unknowns, .deflt = "\"fail\"",
     .help = "an entry without any interaction: keep recommends it by its features"},
    {.name = "missing", .type = MB_ENUM, .choices = missings, .deflt = "\"fail\"",
     .help = "an interaction of one that has no entry: keep takes its features as unknown"},
    {0}};

const struct mb_param interactions_params[] = {
    {.name = "format", .type = MB_ENUM, .choices = formats, .deflt = "\"auto\"", .help = "of the sources; auto looks at the content"},
    {.name = "separator", .type = MB_STRING, .help = "of a CSV's fields; by the first line if not said"},
    {.name = "header", .type = MB_ENUM, .choices = headers, .deflt = "\"auto\"",
     .help = "whether a CSV begins with column names; auto: if no cell of its first line is a number"},
    {.name = "columns", .type = MB_LIST, .element = MB_STRING, .help = "names for the columns, instead of a header's"},
    {.name = "user", .type = MB_STRING, .deflt = "\"user\"", .help = "the column that says who"},
    {.name = "item", .type = MB_STRING, .deflt = "\"item\"", .help = "the column that says what"},
    {.name = "rating", .type = MB_STRING, .help = "the column that says how much it was liked, a number"},
    {.name = "time", .type = MB_STRING, .help = "the column that says when: a number, or a date as in ISO 8601"},
    {.name = "least_rating", .type = MB_FLOAT, .help = "interactions that are rated lower don't count"},
    {.name = "clean", .type = MB_TABLE, .fields = clean_fields, .deflt = "{}", .help = "pairs that are there again"},
    {.name = "split", .type = MB_TABLE, .fields = split_fields, .help = "what is held back; without it there is one part, all"},
    {.name = "users", .type = MB_TABLE, .fields = table_fields, .deflt = "{}", .help = "how to read the table of users"},
    {.name = "items", .type = MB_TABLE, .fields = table_fields, .deflt = "{}", .help = "how to read the table of items"},
    {.name = "licence", .type = MB_STRING, .help = "the data's licence, kept in the schema"},
    {0}};

/* -- checking */

static int check_split(const struct mb_host *host, struct mb_run *run) {
    double train = host->param_float(run, "split.train"), val = host->param_float(run, "split.val"),
           test = host->param_float(run, "split.test");
    if (!strcmp(host->param_string(run, "split.by"), "last")) {
        if (host->param_given(run, "split.train") && train != 0)
            return host->fail(
                run, "split: by = \"last\" takes how many interactions of each user to hold back, val and test; train is the rest");
        if (val != floor(val) || test != floor(test) || val + test < 1)
            return host->fail(run, "split: by = \"last\": val and test are whole numbers of interactions, one at least; found %g and %g",
                              val, test);
        return MB_OK;
    }
    if (fabs(train + val + test - 1) > 1e-6)
        return host->fail(run, "split: train, val and test must sum to 1; these sum to %g", train + val + test);
    return train > 0 ? MB_OK : host->fail(run, "split: train is 0: nothing would be left to learn from");
}

int interactions_check(const struct mb_host *host, struct mb_run *run) {
    if (host->param_given(run, "separator")) {
        const char *s = host->param_string(run, "separator");
        if (strlen(s) != 1 || *s == '"' || *s == '\n' || *s == '\r')
            return host->fail(run, "separator: one character expected, such as \";\" or \"\\t\"");
    }
    const char *names[4] = {host->param_string(run, "user"), host->param_string(run, "item")};
    if (host->param_given(run, "rating")) names[2] = host->param_string(run, "rating");
    if (host->param_given(run, "time")) names[3] = host->param_string(run, "time");
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < i; k++)
            if (names[i] && names[k] && !strcmp(names[i], names[k]))
                return host->fail(run, "column \"%s\" can't be two of user, item, rating and time", names[i]);
    if (host->param_given(run, "least_rating") && !names[2]) return host->fail(run, "least_rating needs a column rating = …");
    if (host->param_given(run, "split") && !strcmp(host->param_string(run, "split.by"), "time") && !names[3])
        return host->fail(run, "split: by = \"time\" needs a column time = …");
    return host->param_given(run, "split") ? check_split(host, run) : MB_OK;
}

/* -- reading the parameters */

static const char *string_or(const struct interactions *x, const char *path, const char *otherwise) {
    return x->host->param_given(x->run, path) ? x->host->param_string(x->run, path) : otherwise;
}

static int choice(const struct interactions *x, const char *path, const char *const *names) {
    const char *word = x->host->param_string(x->run, path);
    int i = 0;
    while (names[i + 1] && strcmp(names[i], word)) i++;
    return i;
}

static struct names read_names(struct interactions *x, const char *path) {
    struct names list = {NULL, x->host->param_given(x->run, path) ? x->host->param_count(x->run, path) : 0};
    list.items = mbl_arena_alloc(&x->arena, (list.count + 1) * sizeof *list.items);
    for (size_t i = 0; i < list.count; i++) list.items[i] = x->host->param_string(x->run, mbl_arena_printf(&x->arena, "%s[%zu]", path, i));
    return list;
}

static void read_side_options(struct interactions *x, enum mbl_side side, const char *table) {
    struct mbl_arena *a = &x->arena;
    struct side_options *o = &x->side[side];
    o->id = string_or(x, mbl_arena_printf(a, "%s.id", table), x->column[side]);
    o->ignore = read_names(x, mbl_arena_printf(a, "%s.ignore", table));
    o->category = read_names(x, mbl_arena_printf(a, "%s.category", table));
    o->unknown = (enum stranger)choice(x, mbl_arena_printf(a, "%s.unknown", table), unknowns);
    o->missing = (enum stranger)choice(x, mbl_arena_printf(a, "%s.missing", table), missings);
}

static void read_params(struct interactions *x) {
    const struct mb_host *host = x->host;
    const char *separator = string_or(x, "separator", "");
    x->reading = (struct options){.format = host->param_string(x->run, "format"), .header = host->param_string(x->run, "header"),
                                  .task = "none", .scaling = "none", .separator = *separator, .missing = POLICY_KEEP,
                                  .no_lists = true};
    x->reading.na = read_names(x, "clean.na");
    x->column[MBL_USERS] = host->param_string(x->run, "user");
    x->column[MBL_ITEMS] = host->param_string(x->run, "item");
    x->rating = string_or(x, "rating", NULL);
    x->time = string_or(x, "time", NULL);
    x->licence = string_or(x, "licence", NULL);
    x->has_least = host->param_given(x->run, "least_rating");
    if (x->has_least) x->least_rating = host->param_float(x->run, "least_rating");
    x->duplicates = host->param_string(x->run, "clean.duplicates");
    read_side_options(x, MBL_USERS, "users");
    read_side_options(x, MBL_ITEMS, "items");
    if (!host->param_given(x->run, "split")) return;
    x->by = (enum split_by)(SPLIT_RANDOM + choice(x, "split.by", splits));
    for (int p = 0; p < PART_ALL; p++) x->shares[p] = host->param_float(x->run, mbl_arena_printf(&x->arena, "split.%s", part_names[p]));
    x->seed = (uint64_t)host->param_int(x->run, "split.seed");
}

/* -- the step */

static int open_sources(struct interactions *x) {
    x->file_count = x->host->input_count(x->run, "from");
    if (!x->file_count) return mbl_error_set(&x->e, "from: no file");
    x->files = mbl_arena_alloc(&x->arena, x->file_count * sizeof *x->files);
    for (size_t i = 0; i < x->file_count; i++) x->files[i] = x->host->input_path(x->run, "from", i);
    return 0;
}

static int read_all(struct interactions *x) {
    struct names columns = read_names(x, "columns"), none = {0};
    x->reading.columns = columns; /* of the interactions; tables of features have headers of their own */
    if (interactions_read(x)) return -1;
    x->reading.columns = none;
    return interactions_read_tables(x);
}

static void report(const struct interactions *x) {
    static const char *const metrics[PART_COUNT] = {"rows_train", "rows_val", "rows_test", NULL};
    const struct mb_host *host = x->host;
    size_t counts[PART_COUNT] = {0};
    for (size_t i = 0; i < x->count; i++) counts[x->pairs[i].part]++;
    host->metric(x->run, "rows", (double)x->count);
    host->metric(x->run, "dropped", (double)(x->repeated + x->unloved));
    host->metric(x->run, "users", (double)x->entities[MBL_USERS].count);
    host->metric(x->run, "items", (double)x->entities[MBL_ITEMS].count);
    for (int p = 0; p < PART_ALL; p++)
        if (counts[p]) host->metric(x->run, metrics[p], (double)counts[p]);
    if (x->repeated + x->unloved)
        host->log(x->run, MB_INFO, "%zu interactions dropped: %zu rated below %g, %zu of pairs that are there again",
                  x->repeated + x->unloved, x->unloved, x->least_rating, x->repeated);
}

static void release(struct interactions *x) {
    for (enum mbl_side side = MBL_USERS; side < MBL_SIDES; side++) {
        dictionary_free(&x->ids[side]);
        if (x->has_table[side]) table_free(&x->tables[side]);
        free(x->entry[side]);
    }
    free(x->pairs);
    mbl_arena_free(&x->arena);
}

int interactions_run(const struct mb_host *host, struct mb_run *run) {
    struct interactions x = {.host = host, .run = run};
    read_params(&x);
    int failed = open_sources(&x) || read_all(&x) || interactions_divide(&x) || interactions_write(&x);
    if (!failed) report(&x);
    release(&x);
    if (failed && host->cancelled(run)) return MB_CANCELLED;
    return failed ? host->fail(run, "%s", x.e.text) : MB_OK;
}

const struct mb_role interactions_roles[] = {
    {.name = "from", .flags = MB_INPUT | MB_MANY, .help = "who took what: CSV, TSV or JSON Lines, plain or compressed"},
    {.name = "users", .flags = MB_INPUT | MB_OPTIONAL, .help = "a table of users and their features"},
    {.name = "items", .flags = MB_INPUT | MB_OPTIONAL, .help = "a table of items and their features"},
    {.name = "schema", .flags = MB_OUTPUT | MB_OPTIONAL, .kind = "dataset", .help = "columns, features, their scaling, as JSON"},
    {.name = "train", .flags = MB_OUTPUT | MB_OPTIONAL, .kind = "dataset", .help = "the training part, safetensors"},
    {.name = "val", .flags = MB_OUTPUT | MB_OPTIONAL, .kind = "dataset", .help = "the validation part"},
    {.name = "test", .flags = MB_OUTPUT | MB_OPTIONAL, .kind = "dataset", .help = "the test part"},
    {.name = "all", .flags = MB_OUTPUT | MB_OPTIONAL, .kind = "dataset", .help = "all interactions, where there is no split"},
    {0}};
