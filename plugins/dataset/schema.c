/* schema.c: a dataset's schema, with the scaling fitted on the training part alone; see write.h. */
#include "lib/tagging.h"
#include "write.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool is_feature(const struct column *c) {
    return !c->is_label && !c->is_group && !column_is_text(c);
}

/* Sums over the rows of `train`, one a feature or one a channel. NaN, missing and kept, counts for nothing. */
struct fit {
    size_t count;               /* features or channels */
    double *sum, *squares, *least, *most, *seen;
    bool *fixed;                /* one-hot: not scaled */
};

static void fit_add(struct fit *f, size_t i, double v, bool second) {
    if (isnan(v)) return;
    if (second) {
        double d = v - f->sum[i]; /* by now the mean */
        f->squares[i] += d * d;
        return;
    }
    f->sum[i] += v;
    f->seen[i]++;
    if (v < f->least[i]) f->least[i] = v;
    if (v > f->most[i]) f->most[i] = v;
}

static void fit_pass(struct fit *f, const struct finished *x, const struct rows *train, bool second) {
    const struct table *t = x->table;
    for (size_t i = 0; i < train->count; i++) {
        size_t at = 0;
        for (size_t k = 0; k < t->column_count; k++) {
            const struct column *c = &t->columns[k];
            if (!is_feature(c)) continue;
            for (size_t m = 0; c->kind == MBL_NUMERIC && m < c->width; m++)
                fit_add(f, (at + m) % f->count, (double)table_number(c, train->at[i], m), second);
            at += c->kind == MBL_NUMERIC ? c->width : c->dictionary.count;
        }
    }
}

static void fit_fixed(struct fit *f, const struct table *t) {
    size_t at = 0;
    for (size_t k = 0; k < t->column_count; k++) {
        const struct column *c = &t->columns[k];
        if (!is_feature(c)) continue;
        size_t width = c->kind == MBL_NUMERIC ? c->width : c->dictionary.count;
        for (size_t m = 0; c->kind == MBL_CATEGORY && m < width; m++) f->fixed[at + m] = true;
        at += width;
    }
}

static size_t feature_count(const struct table *t) {
    size_t n = 0;
    for (size_t k = 0; k < t->column_count; k++)
        if (is_feature(&t->columns[k])) n += t->columns[k].kind == MBL_NUMERIC ? t->columns[k].width : t->columns[k].dictionary.count;
    return n;
}

static struct mbl_json *scaling_of(const struct finished *x, const struct rows *train, struct mbl_arena *a) {
    const struct table *t = x->table;
    struct mbl_json *scaling = mbl_json_table(a), *offset = mbl_json_list(a), *factor = mbl_json_list(a);
    const char *kind = x->options->scaling;
    struct fit f = {.count = t->shape_rank ? (size_t)t->shape[2] : feature_count(t)};
    mbl_json_set(a, scaling, "kind", mbl_json_string(a, kind));
    if (!strcmp(kind, "none") || !f.count) return scaling;
    double *block = mbl_arena_alloc(a, 5 * f.count * sizeof *block);
    f.sum = block;
    f.squares = block + f.count;
    f.least = block + 2 * f.count;
    f.most = block + 3 * f.count;
    f.seen = block + 4 * f.count;
    f.fixed = mbl_arena_alloc(a, f.count * sizeof *f.fixed);
    for (size_t i = 0; i < f.count; i++) f.least[i] = INFINITY, f.most[i] = -INFINITY;
    if (!t->shape_rank) fit_fixed(&f, t);
    fit_pass(&f, x, train, false);
    for (size_t i = 0; i < f.count; i++) f.sum[i] = f.seen[i] > 0 ? f.sum[i] / f.seen[i] : 0;
    bool standard = !strcmp(kind, "standard");
    if (standard) fit_pass(&f, x, train, true);
    for (size_t i = 0; i < f.count; i++) {
        double low = standard ? f.sum[i] : f.least[i], width = standard ? sqrt(f.squares[i] / f.seen[i]) : f.most[i] - f.least[i];
        bool idle = f.fixed[i] || f.seen[i] <= 0;
        float scale = (float)(1 / width); /* of a constant feature: infinite, then 1 */
        mbl_json_push(a, offset, mbl_json_float32(a, idle ? 0 : (float)low));
        mbl_json_push(a, factor, mbl_json_float32(a, idle || !isfinite(scale) ? 1 : scale));
    }
    mbl_json_set(a, scaling, "offset", offset);
    mbl_json_set(a, scaling, "factor", factor);
    return scaling;
}

static struct mbl_json *target_of(const struct column *label, const struct rows *train, struct mbl_arena *a) {
    struct mbl_json *target = mbl_json_table(a);
    double sum = 0, squares = 0, n = (double)train->count;
    for (size_t i = 0; i < train->count; i++) sum += (double)table_number(label, train->at[i], 0);
    double mean = sum / n;
    for (size_t i = 0; i < train->count; i++) {
        double d = (double)table_number(label, train->at[i], 0) - mean;
        squares += d * d;
    }
    double deviation = sqrt(squares / n);
    mbl_json_set(a, target, "mean", mbl_json_float(a, mean));
    mbl_json_set(a, target, "deviation", mbl_json_float(a, deviation > 0 ? deviation : 1));
    return target;
}

static struct mbl_json *names_list(const struct dictionary *d, struct mbl_arena *a) {
    struct mbl_json *list = mbl_json_list(a);
    for (size_t i = 0; i < d->count; i++) mbl_json_push(a, list, mbl_json_string(a, d->names[i]));
    return list;
}

static struct mbl_json *columns_of(const struct table *t, struct mbl_arena *a) {
    static const char *const kinds[] = {[MBL_NUMERIC] = "numeric", [MBL_CATEGORY] = "category", [MBL_TEXT] = "text", [MBL_WORDS] = "words"};
    struct mbl_json *list = mbl_json_list(a);
    for (size_t i = 0; i < t->column_count; i++) {
        const struct column *c = &t->columns[i];
        struct mbl_json *entry = mbl_json_table(a);
        if (c->is_group) continue;
        mbl_json_set(a, entry, "name", mbl_json_string(a, c->name));
        mbl_json_set(a, entry, "kind", mbl_json_string(a, c->is_label ? "label" : kinds[c->kind]));
        if (!c->is_label && c->kind == MBL_CATEGORY) mbl_json_set(a, entry, "categories", names_list(&c->dictionary, a));
        if (!c->is_label && c->width > 1) mbl_json_set(a, entry, "width", mbl_json_int(a, (int64_t)c->width));
        if (c->filled && c->kind == MBL_NUMERIC) mbl_json_set(a, entry, "fill", mbl_json_float32(a, c->fill));
        if (c->filled && c->kind == MBL_CATEGORY) mbl_json_set(a, entry, "fill", mbl_json_string(a, c->dictionary.names[(size_t)c->fill]));
        mbl_json_push(a, list, entry);
    }
    return list;
}

/* How many rows each part has, and rows, or words, of each class. */
static void add_rows(const struct finished *x, const struct column *label, struct mbl_json *schema, struct mbl_arena *a) {
    struct mbl_json *rows = mbl_json_table(a), *classes = mbl_json_table(a);
    bool classified = label && label->kind != MBL_NUMERIC, tags = classified && label->kind == MBL_WORDS;
    for (int p = 0; p < PART_COUNT; p++) {
        if (!x->parts[p].count) continue;
        mbl_json_set(a, rows, part_names[p], mbl_json_int(a, (int64_t)x->parts[p].count));
        if (!classified) continue;
        int64_t *counts = mbl_arena_alloc(a, label->dictionary.count * sizeof *counts);
        struct mbl_json *list = mbl_json_list(a);
        for (size_t i = 0; i < x->parts[p].count; i++) {
            size_t row = x->parts[p].at[i], first = tags ? (size_t)label->starts[row] : row;
            size_t end = tags ? (size_t)label->starts[row + 1] : row + 1;
            for (size_t k = first; k < end; k++) counts[label->codes[k]]++;
        }
        for (size_t i = 0; i < label->dictionary.count; i++) mbl_json_push(a, list, mbl_json_int(a, counts[i]));
        mbl_json_set(a, classes, part_names[p], list);
    }
    mbl_json_set(a, schema, "rows", rows);
    if (classified) mbl_json_set(a, schema, tags ? "class_words" : "class_rows", classes);
}

static const char *task_of(const struct column *label) {
    if (!label) return "none";
    return label->kind == MBL_WORDS ? "token_classification" : label->kind == MBL_CATEGORY ? "classification" : "regression";
}

struct mbl_json *write_schema(const struct finished *x, struct mbl_arena *a) {
    const struct table *t = x->table;
    const struct column *label = table_label(t);
    const struct rows *train = &x->parts[x->options->split ? PART_TRAIN : PART_ALL];
    struct mbl_json *schema = mbl_json_table(a), *source = mbl_json_table(a), *digests = mbl_json_list(a);
    /* A split without a training part (a test set of its own) has nothing to fit on but its own rows. */
    for (int p = PART_COUNT - 1; p >= 0 && !train->count; p--) train = &x->parts[p];
    mbl_json_set(a, schema, "version", mbl_json_int(a, MBL_SCHEMA_VERSION));
    mbl_json_set(a, schema, "task", mbl_json_string(a, task_of(label)));
    mbl_json_set(a, schema, "columns", columns_of(t, a));
    if (label && label->kind != MBL_NUMERIC) mbl_json_set(a, schema, "classes", names_list(&label->dictionary, a));
    if (label && label->kind == MBL_WORDS) {
        const struct dictionary *d = &label->dictionary;
        bool said = strcmp(x->options->scheme, "auto") != 0;
        const char *scheme = said ? x->options->scheme : mbl_scheme_name(mbl_scheme_by_names(d->names, d->count));
        mbl_json_set(a, schema, "scheme", mbl_json_string(a, scheme));
    }
    if (label && label->kind == MBL_NUMERIC) mbl_json_set(a, schema, "target", target_of(label, train, a));
    if (t->shape_rank) {
        struct mbl_json *shape = mbl_json_list(a);
        for (int i = 0; i < 3; i++) mbl_json_push(a, shape, mbl_json_int(a, t->shape[i]));
        mbl_json_set(a, schema, "shape", shape);
    }
    mbl_json_set(a, schema, "scaling", scaling_of(x, train, a));
    add_rows(x, label, schema, a);
    for (size_t i = 0; i < x->digest_count; i++) mbl_json_push(a, digests, mbl_json_string(a, x->digests[i]));
    mbl_json_set(a, source, "sha256", digests);
    if (x->options->licence) mbl_json_set(a, source, "licence", mbl_json_string(a, x->options->licence));
    mbl_json_set(a, schema, "source", source);
    return schema;
}
