/* dataset.c: the step `dataset`: from files to cleaned, checked and split tensors. What each stage does is in its own file; here is their
 * order.
 *
 * read.h → clean → expect → split → fill in → fit the scaling on the training part → schema and parts (lib/dataset.h).
 */
#include "explain.h"
#include "interactions.h"
#include "read.h"
#include "write.h"

#include <stdlib.h>
#include <string.h>

struct step {
    const struct mb_host *host;
    struct mb_run *run;
    struct watcher watcher;
    struct options options;
    struct table table;
    struct cleaned cleaned;
    struct rows parts[PART_COUNT];
    struct mbl_arena arena;
    struct mbl_error e;
};

static int see(struct watcher *w, double done, double total) {
    struct step *s = (struct step *)((char *)w - offsetof(struct step, watcher));
    s->host->progress(s->run, done, total, "reading");
    return s->host->cancelled(s->run);
}

static void note(void *context, const char *text) {
    struct step *s = context;
    s->host->log(s->run, MB_WARN, "%s", text);
}

static void reading_note(struct reading *r, const char *text) {
    note(r->context, text);
}

/* Outputs must be parts that the split makes. */
static int check_outputs(struct step *s) {
    for (int p = 0; p < PART_COUNT; p++) {
        bool wanted = s->host->output_count(s->run, part_names[p]) > 0, made = s->options.fractions[p] > 0;
        if (wanted && !made)
            return mbl_error_set(&s->e,
                                 s->options.split ? "the output %s is asked for, but split.%s is 0"
                                                  : "the output %s is asked for, but there is no split%s",
                                 part_names[p], s->options.split ? part_names[p] : "");
    }
    return 0;
}

static int read_source(struct step *s) {
    size_t n = s->host->input_count(s->run, "from");
    const char **paths = mbl_arena_alloc(&s->arena, (n + 1) * sizeof *paths);
    for (size_t i = 0; i < n; i++) paths[i] = s->host->input_path(s->run, "from", i);
    if (!n) return mbl_error_set(&s->e, "from: no file");
    struct reading r = {
        .paths = paths, .path_count = n, .options = &s->options, .watcher = &s->watcher, .note = reading_note, .context = s};
    return read_table(&r, &s->table, &s->e);
}

/* The rule's shape, or the source's own, against the features. */
static int settle_shape(struct step *s) {
    struct table *t = &s->table;
    size_t features = 0;
    const char *word = NULL;
    for (size_t i = 0; i < t->column_count; i++) {
        const struct column *c = &t->columns[i];
        if (c->is_label || c->is_group || column_is_text(c)) continue;
        if (c->kind == MBL_CATEGORY) word = c->name;
        features += c->width;
    }
    if (!s->options.shape_rank) return 0;
    t->shape_rank = s->options.shape_rank;
    memcpy(t->shape, s->options.shape, sizeof t->shape);
    if (word) return mbl_error_set(&s->e, "shape: column %s holds words; an image is numbers alone", word);
    int64_t product = t->shape[0] * t->shape[1] * t->shape[2];
    if ((uint64_t)product == features) return 0;
    return mbl_error_set(&s->e, "shape: %lld × %lld × %lld takes %lld features; there are %zu", (long long)t->shape[0],
                         (long long)t->shape[1], (long long)t->shape[2], (long long)product, features);
}

static int clean(struct step *s) {
    if (clean_rows(&s->table, &s->options, &s->cleaned, &s->e)) return -1;
    const struct cleaned *c = &s->cleaned;
    for (size_t i = 0; i < s->table.column_count; i++)
        if (s->table.columns[i].kind == MBL_CATEGORY)
            table_settle_categories(&s->table.columns[i], s->table.rows, c->rows.at, c->rows.count);
    struct column *label = table_label(&s->table);
    if (label && label->kind == MBL_WORDS) {
        table_settle_tags(label, s->table.rows, c->rows.at, c->rows.count, s->options.tags.items, s->options.tags.count);
        if (tags_fit(&s->table, &s->options, &s->cleaned.rows, &s->e)) return -1;
    }
    if (c->duplicates && s->options.duplicates == POLICY_KEEP && s->options.split)
        s->host->log(s->run, MB_WARN,
                     "%zu %s; split apart, a copy may be trained on and tested (clean.duplicates = \"drop\")", c->duplicates,
                     c->duplicates == 1 ? "row is a copy of another" : "rows are copies of others");
    if (c->missing && s->options.missing == POLICY_KEEP)
        s->host->log(s->run, MB_WARN, "%zu %s missing values, kept as NaN", c->missing, c->missing == 1 ? "row has" : "rows have");
    return 0;
}

static int expect(struct step *s) {
    struct mbl_json *json;
    if (!s->host->param_given(s->run, "expect")) return 0;
    const char *text = s->host->param_json(s->run, "expect");
    if (mbl_json_parse(text, strlen(text), "expect", &s->arena, &json, &s->e)) return -1;
    return expect_hold(&s->table, json, &s->cleaned.rows, &s->e);
}

static int divide(struct step *s) {
    if (split_rows(&s->table, &s->options, &s->cleaned.rows, s->parts, note, s, &s->e)) return -1;
    if (s->options.missing != POLICY_MEAN) return 0;
    const struct rows *train = &s->parts[s->options.split ? PART_TRAIN : PART_ALL];
    if (!train->count) return mbl_error_set(&s->e, "clean.missing = \"mean\" takes the training part's mean; split.train is 0");
    return fill_missing(&s->table, train, &s->e);
}

static int write_all(struct step *s) {
    size_t n = s->host->input_count(s->run, "from");
    const char **digests = mbl_arena_alloc(&s->arena, (n + 1) * sizeof *digests);
    for (size_t i = 0; i < n; i++) digests[i] = s->host->input_digest(s->run, "from", i);
    struct finished f = {&s->table, &s->options, s->parts, digests, n};
    struct mbl_json *schema = write_schema(&f, &s->arena);
    struct mbl_schema parsed; /* whoever reads it must be able to */
    if (mbl_schema_parse(schema, &s->arena, &parsed, &s->e)) return -1;
    const char *path = s->host->output_path(s->run, "schema", 0);
    if (path && mbl_json_save(path, schema, &s->e)) return -1;
    for (int p = 0; p < PART_COUNT; p++) {
        path = s->host->output_path(s->run, part_names[p], 0);
        if (path && write_part(&f, p, schema, path, &s->e)) return -1;
    }
    s->host->metric(s->run, "features", (double)parsed.features);
    if (parsed.task == MBL_CLASSIFICATION || parsed.task == MBL_TAGGING) s->host->metric(s->run, "classes", (double)parsed.class_count);
    return 0;
}

static void report(struct step *s) {
    static const char *const metrics[PART_COUNT] = {"rows_train", "rows_val", "rows_test", NULL};
    const struct mb_host *host = s->host;
    size_t kept = s->cleaned.rows.count;
    host->metric(s->run, "rows", (double)kept);
    host->metric(s->run, "dropped", (double)(s->table.rows - kept));
    const struct column *words = table_words(&s->table);
    if (words) {
        int64_t count = 0;
        for (size_t i = 0; i < kept; i++) count += words->starts[s->cleaned.rows.at[i] + 1] - words->starts[s->cleaned.rows.at[i]];
        host->metric(s->run, "words", (double)count);
    }
    for (int p = 0; p < PART_ALL; p++)
        if (s->parts[p].count) host->metric(s->run, metrics[p], (double)s->parts[p].count);
    if (kept < s->table.rows)
        host->log(s->run, MB_INFO, "%zu of %zu rows dropped: %zu with missing values, %zu copies", s->table.rows - kept, s->table.rows,
                  s->options.missing == POLICY_DROP ? s->cleaned.missing : 0,
                  s->options.duplicates == POLICY_DROP ? s->cleaned.duplicates : 0);
}

static int run(const struct mb_host *host, struct mb_run *run) {
    struct step s = {.host = host, .run = run, .watcher = {see}};
    options_read(host, run, &s.options);
    int failed = check_outputs(&s) || read_source(&s) || settle_shape(&s) || clean(&s) || expect(&s) || divide(&s) || write_all(&s);
    if (!failed) report(&s);
    free(s.cleaned.rows.at);
    for (int p = 0; p < PART_COUNT; p++) free(s.parts[p].at);
    table_free(&s.table);
    options_free(&s.options);
    mbl_arena_free(&s.arena);
    if (failed && host->cancelled(run)) return MB_CANCELLED;
    return failed ? host->fail(run, "%s", s.e.text) : MB_OK;
}

static const struct mb_role roles[] = {
    {.name = "from",
     .flags = MB_INPUT | MB_MANY,
     .help = "the source: files of one format, plain or compressed by gzip, xz, bzip2 or zstd"},
    {.name = "schema", .flags = MB_OUTPUT | MB_OPTIONAL, .kind = "dataset", .help = "columns, classes, scaling, as JSON"},
    {.name = "train", .flags = MB_OUTPUT | MB_OPTIONAL, .kind = "dataset", .help = "the training part, safetensors"},
    {.name = "val", .flags = MB_OUTPUT | MB_OPTIONAL, .kind = "dataset", .help = "the validation part"},
    {.name = "test", .flags = MB_OUTPUT | MB_OPTIONAL, .kind = "dataset", .help = "the test part"},
    {.name = "all", .flags = MB_OUTPUT | MB_OPTIONAL, .kind = "dataset", .help = "all rows, without a split"},
    {0}};

static const struct mb_step steps[] = {{.name = "dataset",
                                        .help = "read, clean, check and split a table, images, text or tagged words",
                                        .flags = MB_DETERMINISTIC,
                                        .roles = roles,
                                        .params = dataset_params,
                                        .run = run,
                                        .check = options_check,
                                        .explain = dataset_explain},
                                       {.name = "interactions",
                                        .help = "who took what, checked and split, for recommenders",
                                        .flags = MB_DETERMINISTIC,
                                        .roles = interactions_roles,
                                        .params = interactions_params,
                                        .run = interactions_run,
                                        .check = interactions_check},
                                       {0}};

static const struct mb_plugin plugin = {MB_PLUGIN_HEAD, .name = "dataset", .version = "1.0", .help = "datasets", .steps = steps};
MB_PLUGIN(plugin);
