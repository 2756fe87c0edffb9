/* dataset_schema.c: a dataset's schema, from JSON and to what steps look at; see dataset.h. The step `dataset` writes it. */
#include "dataset.h"

#include <string.h>

#define FEATURES_MOST ((size_t)1 << 20) /* an image of 1024 × 1024: each feature has a name */
#define IMAGE_SIDE_MOST ((int64_t)1 << 20)

struct reading {
    struct mbl_arena *arena;
    struct mbl_schema *out;
    struct mbl_error *e;
};

/* A list of strings, no two alike unless `twins`. */
static int read_names(struct reading *r, const struct mbl_json *list, const char *what, const char *const **out, size_t *count) {
    if (!list || list->type != MBL_JSON_LIST) return mbl_error_set(r->e, "schema: %s must be a list of names", what);
    const char **names = mbl_arena_alloc(r->arena, (list->count + 1) * sizeof *names);
    for (size_t i = 0; i < list->count; i++) {
        if (list->items[i]->type != MBL_JSON_STRING) return mbl_error_set(r->e, "schema: %s: entry %zu is no name", what, i);
        names[i] = list->items[i]->string;
    }
    *out = names;
    *count = list->count;
    return 0;
}

static int read_column(struct reading *r, const struct mbl_json *entry, struct mbl_column *column) {
    static const char *const kinds[] = {[MBL_NUMERIC] = "numeric", [MBL_CATEGORY] = "category", [MBL_TEXT] = "text",
                                        [MBL_WORDS] = "words",   [MBL_LABEL] = "label"};
    const char *kind = mbl_json_get_string(entry, "kind");
    column->name = mbl_json_get_string(entry, "name");
    if (!column->name || !kind) return mbl_error_set(r->e, "schema: a column needs a name and a kind");
    for (size_t i = 1; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(kinds[i], kind)) column->kind = (enum mbl_column_kind)i;
    if (!column->kind) return mbl_error_set(r->e, "schema: column %s: unknown kind \"%.40s\"", column->name, kind);
    if (column->kind == MBL_NUMERIC) {
        int64_t width = mbl_json_get_int(entry, "width", 1);
        if (width < 1 || (uint64_t)width > FEATURES_MOST)
            return mbl_error_set(r->e, "schema: column %s: its width is out of range", column->name);
        column->width = (size_t)width;
    }
    if (column->kind == MBL_CATEGORY) {
        if (read_names(r, mbl_json_get(entry, "categories"), "categories", &column->categories, &column->category_count)) return -1;
        column->width = column->category_count;
    }
    column->first = r->out->features;
    r->out->features += column->width;
    if (r->out->features > FEATURES_MOST) return mbl_error_set(r->e, "schema: more than %zu features", FEATURES_MOST);
    return 0;
}

static int read_columns(struct reading *r) {
    const struct mbl_json *list = mbl_json_get(r->out->json, "columns");
    if (!list || list->type != MBL_JSON_LIST) return mbl_error_set(r->e, "schema: it has no list of columns");
    struct mbl_column *columns = mbl_arena_alloc(r->arena, (list->count + 1) * sizeof *columns);
    size_t words = 0;
    r->out->columns = columns;
    for (size_t i = 0; i < list->count; i++) {
        if (read_column(r, list->items[i], &columns[i])) return -1;
        r->out->column_count++;
        if (columns[i].kind == MBL_WORDS && words++) return mbl_error_set(r->e, "schema: more than one column of words");
        if (columns[i].kind != MBL_LABEL) continue;
        if (r->out->label) return mbl_error_set(r->e, "schema: two label columns, %s and %s", r->out->label, columns[i].name);
        r->out->label = columns[i].name;
    }
    return 0;
}

static int read_shape(struct reading *r) {
    struct mbl_schema *s = r->out;
    const struct mbl_json *shape = mbl_json_get(s->json, "shape");
    if (!shape) return 0;
    if (shape->type != MBL_JSON_LIST || shape->count != 3)
        return mbl_error_set(r->e, "schema: shape must be three numbers, height, width and channels");
    int64_t product = 1;
    for (int i = 0; i < 3; i++) {
        const struct mbl_json *v = shape->items[i];
        if (v->type != MBL_JSON_INT || v->integer < 1 || v->integer > IMAGE_SIDE_MOST)
            return mbl_error_set(r->e, "schema: shape: number %d is out of range", i);
        s->shape[i] = v->integer;
        product *= v->integer;
    }
    if ((uint64_t)product != s->features)
        return mbl_error_set(r->e, "schema: its shape takes %lld features; its columns give %zu", (long long)product, s->features);
    for (size_t i = 0; i < s->column_count; i++)
        if (s->columns[i].kind == MBL_CATEGORY)
            return mbl_error_set(r->e, "schema: column %s of an image is no number", s->columns[i].name);
    s->shape_rank = 3;
    return 0;
}

static void name_features(struct reading *r) {
    struct mbl_schema *s = r->out;
    const char **names = mbl_arena_alloc(r->arena, (s->features + 1) * sizeof *names);
    for (size_t i = 0; i < s->column_count; i++) {
        const struct mbl_column *c = &s->columns[i];
        for (size_t k = 0; k < c->width; k++)
            names[c->first + k] = c->kind == MBL_CATEGORY ? mbl_arena_printf(r->arena, "%s=%s", c->name, c->categories[k])
                                  : c->width > 1          ? mbl_arena_printf(r->arena, "%s[%zu]", c->name, k)
                                                          : c->name;
    }
    s->feature_names = names;
}

/* Numbers for each feature: given one by one, one a channel, or one for all. */
static int read_numbers(struct reading *r, const struct mbl_json *scaling, const char *key, float otherwise, const float **out) {
    const struct mbl_schema *s = r->out;
    const struct mbl_json *list = mbl_json_get(scaling, key);
    float *numbers = mbl_arena_alloc(r->arena, (s->features + 1) * sizeof *numbers);
    *out = numbers;
    size_t channels = s->shape_rank ? (size_t)s->shape[2] : 1;
    size_t count = list && list->type == MBL_JSON_LIST ? list->count : 0;
    if (list && count != s->features && count != channels && count != 1)
        return mbl_error_set(r->e, "schema: scaling.%s must have a number for each of the %zu features or %zu channels", key, s->features,
                             channels);
    for (size_t i = 0; i < s->features; i++) {
        const struct mbl_json *v = list ? list->items[i % count] : NULL;
        if (v && !mbl_json_is_number(v)) return mbl_error_set(r->e, "schema: scaling.%s: entry %zu is no number", key, i % count);
        numbers[i] = v ? (float)mbl_json_number(v) : otherwise;
    }
    return 0;
}

static const char *const tasks[] = {
    [MBL_NO_TASK] = "none",
    [MBL_CLASSIFICATION] = "classification",
    [MBL_REGRESSION] = "regression",
    [MBL_TAGGING] = "token_classification",
    [MBL_INTERACTIONS] = "interactions"};
#define TASK_COUNT (sizeof tasks / sizeof *tasks)

static int read_task(struct reading *r) {
    const char *task = mbl_json_get_string(r->out->json, "task");
    for (size_t i = 0; task && i < TASK_COUNT; i++) {
        if (strcmp(tasks[i], task)) continue;
        r->out->task = (enum mbl_task)i;
        return 0;
    }
    return mbl_error_set(r->e, "schema: task must be classification, regression, token_classification, interactions or none");
}

int mbl_schema_parse(struct mbl_json *json, struct mbl_arena *arena, struct mbl_schema *out, struct mbl_error *e) {
    *out = (struct mbl_schema){.json = json};
    struct reading r = {arena, out, e};
    if (json->type != MBL_JSON_TABLE) return mbl_error_set(e, "schema: a table expected, found %s", mbl_json_type_name(json->type));
    int64_t version = mbl_json_get_int(json, "version", 0);
    if (version != MBL_SCHEMA_VERSION)
        return mbl_error_set(e, "schema: format version %lld; this mbuild reads version %d", (long long)version, MBL_SCHEMA_VERSION);
    if (read_task(&r)) return -1;
    const struct mbl_json *scaling = mbl_json_get(json, "scaling"), *target = mbl_json_get(json, "target");
    out->scaling = mbl_json_get_string(scaling, "kind");
    if (!out->scaling) out->scaling = "none";
    out->target_mean = mbl_json_get_float(target, "mean", 0);
    out->target_deviation = mbl_json_get_float(target, "deviation", 1);
    if (out->task == MBL_INTERACTIONS) return 0; /* it has no columns: what there is to read is interactions.h's */
    if (read_columns(&r) || read_shape(&r)) return -1;
    name_features(&r);
    if (!out->label != !out->task) return mbl_error_set(e, "schema: a label and a task need each other");
    if (out->task == MBL_CLASSIFICATION || out->task == MBL_TAGGING) {
        if (read_names(&r, mbl_json_get(json, "classes"), "classes", &out->classes, &out->class_count)) return -1;
        if (out->class_count < 1) return mbl_error_set(e, "schema: classification without classes");
    }
    if (out->task == MBL_TAGGING) out->scheme = mbl_json_get_string(json, "scheme");
    return read_numbers(&r, scaling, "offset", 0, &out->offset) || read_numbers(&r, scaling, "factor", 1, &out->factor) ? -1 : 0;
}

int mbl_schema_read(const char *path, struct mbl_arena *arena, struct mbl_schema *out, struct mbl_error *e) {
    struct mbl_json *json;
    if (mbl_json_read(path, arena, &json, e)) return -1;
    return mbl_schema_parse(json, arena, out, e) ? mbl_error_wrap(e, "%s", path) : 0;
}

static int compare_names(const char *what, const char *const *a, size_t m, const char *const *b, size_t n, struct mbl_error *e) {
    if (m != n) return mbl_error_set(e, "%zu %s here, %zu there", m, what, n);
    for (size_t i = 0; i < n; i++)
        if (strcmp(a[i], b[i]))
            return mbl_error_set(e, "of the %s, number %zu is \"%.100s\" here and \"%.100s\" there", what, i + 1, a[i], b[i]);
    return 0;
}

int mbl_schema_takes(const struct mbl_schema *a, const struct mbl_schema *b, struct mbl_error *e) {
    if (a->shape_rank != b->shape_rank || memcmp(a->shape, b->shape, sizeof a->shape))
        return mbl_error_set(e, "images of %lld × %lld × %lld here, of %lld × %lld × %lld there", (long long)a->shape[0],
                             (long long)a->shape[1], (long long)a->shape[2], (long long)b->shape[0], (long long)b->shape[1],
                             (long long)b->shape[2]);
    return compare_names("features", a->feature_names, a->features, b->feature_names, b->features, e);
}

int mbl_schema_compatible(const struct mbl_schema *a, const struct mbl_schema *b, struct mbl_error *e) {
    if (a->task != b->task)
        return mbl_error_set(e, "%s here, %s there", a->task ? tasks[a->task] : "unlabelled", b->task ? tasks[b->task] : "unlabelled");
    if (mbl_schema_takes(a, b, e)) return -1;
    return compare_names("classes", a->classes, a->class_count, b->classes, b->class_count, e);
}
