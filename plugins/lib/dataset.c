/* dataset.c: reading a part of a dataset; see dataset.h. The file may come from anywhere, so all of it is checked against its schema. */
#include "dataset.h"
#include "utf8.h"

#include <stdlib.h>
#include <string.h>

struct opening {
    const char *path;
    struct mbl_dataset *d;
    struct mbl_error *e;
};

/* The tensor `name`, which must have that type and rank. Its first dimension must be `first` unless that is -1. */
static int find_tensor(const struct opening *o, const char *name, enum mbl_dtype type, int rank, int64_t first,
                       const struct mbl_tensor **out) {
    const struct mbl_tensor *t = *out = mbl_safetensors_find(&o->d->file, name);
    if (!t) return mbl_error_set(o->e, "%s: the tensor %s is missing", o->path, name);
    if (t->type != type)
        return mbl_error_set(o->e, "%s: the tensor %s is %s; %s expected", o->path, name, mbl_dtype_name(t->type), mbl_dtype_name(type));
    if (t->rank != rank) return mbl_error_set(o->e, "%s: the tensor %s has %d dimensions; %d expected", o->path, name, t->rank, rank);
    if (first >= 0 && t->shape[0] != first)
        return mbl_error_set(o->e, "%s: the tensor %s has %lld rows; %lld expected", o->path, name, (long long)t->shape[0],
                             (long long)first);
    return 0;
}

/* Its data, copied if whoever wrote the file didn't align it. */
static const void *aligned(const struct opening *o, const struct mbl_tensor *t) {
    if ((uintptr_t)t->data % mbl_dtype_width(t->type) == 0) return t->data;
    return memcpy(mbl_arena_alloc(&o->d->arena, t->bytes), t->data, t->bytes);
}

/* How many rows there are. Tags are as many as words; lines, which the step always writes, say how many rows these make. */
static int find_rows(const struct opening *o) {
    static const char *const candidates[] = {"label", "features", "line"};
    for (size_t i = 0; i < sizeof candidates / sizeof *candidates; i++) {
        const struct mbl_tensor *t = mbl_safetensors_find(&o->d->file, candidates[i]);
        if (!t || t->rank < 1 || (!i && o->d->schema.task == MBL_TAGGING)) continue;
        o->d->rows = t->shape[0];
        if ((uint64_t)o->d->rows <= o->d->file.map.size) return 0;
        return mbl_error_set(o->e, "%s: %lld rows in a file of %zu bytes", o->path, (long long)o->d->rows, o->d->file.map.size);
    }
    return mbl_error_set(o->e, "%s: no tensor tells how many rows there are", o->path);
}

static int open_labels(const struct opening *o) {
    struct mbl_dataset *d = o->d;
    const struct mbl_tensor *t;
    if (d->schema.task == MBL_REGRESSION) {
        if (find_tensor(o, "label", MBL_F32, 1, d->rows, &t)) return -1;
        d->targets = aligned(o, t);
    }
    if (d->schema.task == MBL_CLASSIFICATION || d->schema.task == MBL_TAGGING) {
        bool tags = d->schema.task == MBL_TAGGING;
        if (tags && !d->words.name) return mbl_error_set(o->e, "%s: it has tags, but no words", o->path);
        int64_t count = tags ? d->words.count : d->rows;
        if (find_tensor(o, "label", MBL_I32, 1, count, &t)) return -1;
        d->labels = aligned(o, t);
        for (int64_t i = 0; i < count; i++)
            if (d->labels[i] < 0 || (size_t)d->labels[i] >= d->schema.class_count)
                return mbl_error_set(o->e, "%s: %s %lld: class %d; there are %zu", o->path, tags ? "word" : "row", (long long)i,
                                     d->labels[i], d->schema.class_count);
    }
    return 0;
}

/* The tensor "features" against the schema; *numeric gets how many values a row has in it. */
static int check_features(const struct opening *o, const struct mbl_tensor **out, size_t *numeric) {
    const struct mbl_schema *s = &o->d->schema;
    *numeric = 0;
    for (size_t i = 0; i < s->column_count; i++)
        if (s->columns[i].kind == MBL_NUMERIC) *numeric += s->columns[i].width;
    *out = NULL;
    if (!*numeric) return 0;
    const struct mbl_tensor *t = mbl_safetensors_find(&o->d->file, "features");
    enum mbl_dtype type = t && t->type == MBL_U8 ? MBL_U8 : MBL_F32;
    if (find_tensor(o, "features", type, 1 + (s->shape_rank ? 3 : 1), o->d->rows, &t)) return -1;
    bool fits = s->shape_rank ? !memcmp(&t->shape[1], s->shape, sizeof s->shape) : (uint64_t)t->shape[1] == *numeric;
    if (!fits) return mbl_error_set(o->e, "%s: the tensor features doesn't have the shape that the schema says", o->path);
    *out = t;
    return 0;
}

static int spread_category(const struct opening *o, const struct mbl_column *c, float *matrix) {
    const struct mbl_tensor *t;
    char *name = mbl_arena_printf(&o->d->arena, "category:%s", c->name);
    if (find_tensor(o, name, MBL_I32, 1, o->d->rows, &t)) return -1;
    const int32_t *codes = aligned(o, t);
    for (int64_t i = 0; i < o->d->rows; i++) {
        if (codes[i] < -1 || (codes[i] >= 0 && (size_t)codes[i] >= c->category_count))
            return mbl_error_set(o->e, "%s: row %lld: column %s has no category %d", o->path, (long long)i, c->name, codes[i]);
        if (codes[i] >= 0) matrix[(size_t)i * o->d->schema.features + c->first + (size_t)codes[i]] = 1;
    }
    return 0;
}

static void spread_numbers(const struct mbl_schema *s, const struct mbl_tensor *t, size_t numeric, int64_t rows, float *matrix) {
    size_t from = 0;
    for (size_t i = 0; i < s->column_count; i++) {
        const struct mbl_column *c = &s->columns[i];
        if (c->kind != MBL_NUMERIC) continue;
        for (size_t row = 0; row < (size_t)rows; row++) {
            float *to = matrix + row * s->features + c->first;
            size_t at = row * numeric + from;
            if (t->type == MBL_F32) memcpy(to, (const char *)t->data + at * 4, c->width * 4);
            else for (size_t k = 0; k < c->width; k++) to[k] = ((const uint8_t *)t->data)[at + k];
        }
        from += c->width;
    }
}

static int open_features(const struct opening *o) {
    struct mbl_dataset *d = o->d;
    const struct mbl_schema *s = &d->schema;
    const struct mbl_tensor *t;
    size_t numeric;
    if (!s->features) return 0;
    if (check_features(o, &t, &numeric)) return -1;
    if (t && numeric == s->features && t->type == MBL_F32 && (uintptr_t)t->data % 4 == 0) {
        d->features = t->data;
        return 0;
    }
    uint64_t count = 0;
    if (__builtin_mul_overflow((uint64_t)d->rows, (uint64_t)s->features, &count)) count = UINT64_MAX;
    if (mbl_try_alloc(&d->matrix, count, sizeof(float), o->path, o->e)) return -1;
    d->features = d->matrix;
    if (t && numeric == s->features) return mbl_tensor_floats(t, d->matrix, o->e);
    if (t) spread_numbers(s, t, numeric, d->rows, d->matrix);
    for (size_t i = 0; i < s->column_count; i++)
        if (s->columns[i].kind == MBL_CATEGORY && spread_category(o, &s->columns[i], d->matrix)) return -1;
    return 0;
}

/* Whether at[0] … at[count] part 0 … whole. */
static bool check_parts(const int64_t *at, int64_t count, int64_t whole) {
    bool fine = at[0] == 0 && at[count] == whole;
    for (int64_t i = 0; i < count && fine; i++) fine = at[i] <= at[i + 1] && at[i + 1] <= whole;
    return fine;
}

static int check_strings(const struct opening *o, const char *column, const char *what, const char *bytes, int64_t size, const int64_t *at,
                         int64_t count) {
    if (!check_parts(at, count, size))
        return mbl_error_set(o->e, "%s: column %s: its offsets don't part its %lld bytes", o->path, column, (long long)size);
    for (int64_t i = 0; i < count; i++) {
        size_t n = (size_t)(at[i + 1] - at[i]);
        if (mbl_utf8_check(bytes + at[i], n) != n)
            return mbl_error_set(o->e, "%s: %s %lld: column %s is not UTF-8", o->path, what, (long long)i, column);
    }
    return 0;
}

static int open_text(const struct opening *o, const struct mbl_column *c, struct mbl_text_column *text) {
    const struct mbl_tensor *bytes, *offsets;
    struct mbl_dataset *d = o->d;
    if (find_tensor(o, mbl_arena_printf(&d->arena, "text:%s", c->name), MBL_U8, 1, -1, &bytes)) return -1;
    if (find_tensor(o, mbl_arena_printf(&d->arena, "text:%s:offsets", c->name), MBL_I64, 1, d->rows + 1, &offsets)) return -1;
    *text = (struct mbl_text_column){c->name, bytes->data, aligned(o, offsets)};
    return check_strings(o, c->name, "row", text->bytes, bytes->shape[0], text->offsets, d->rows);
}

static int open_words(const struct opening *o, const struct mbl_column *c) {
    const struct mbl_tensor *bytes, *offsets, *rows;
    struct mbl_dataset *d = o->d;
    if (find_tensor(o, mbl_arena_printf(&d->arena, "words:%s", c->name), MBL_U8, 1, -1, &bytes) ||
        find_tensor(o, mbl_arena_printf(&d->arena, "words:%s:offsets", c->name), MBL_I64, 1, -1, &offsets) ||
        find_tensor(o, mbl_arena_printf(&d->arena, "words:%s:rows", c->name), MBL_I64, 1, d->rows + 1, &rows))
        return -1;
    int64_t count = offsets->shape[0] - 1;
    if (count < 0) return mbl_error_set(o->e, "%s: column %s: it has no offsets", o->path, c->name);
    d->words = (struct mbl_word_column){c->name, bytes->data, aligned(o, offsets), aligned(o, rows), count};
    return check_parts(d->words.rows, d->rows, count)
               ? check_strings(o, c->name, "word", d->words.bytes, bytes->shape[0], d->words.offsets, count)
               : mbl_error_set(o->e, "%s: column %s: its rows don't part its %lld words", o->path, c->name, (long long)count);
}

static int open_texts(const struct opening *o) {
    struct mbl_dataset *d = o->d;
    d->texts = mbl_arena_alloc(&d->arena, (d->schema.column_count + 1) * sizeof *d->texts);
    for (size_t i = 0; i < d->schema.column_count; i++) {
        if (d->schema.columns[i].kind == MBL_WORDS && open_words(o, &d->schema.columns[i])) return -1;
        if (d->schema.columns[i].kind != MBL_TEXT) continue;
        if (open_text(o, &d->schema.columns[i], &d->texts[d->text_count])) return -1;
        d->text_count++;
    }
    return 0;
}

static int open_schema(const struct opening *o) {
    struct mbl_dataset *d = o->d;
    const char *schema = mbl_json_get_string(d->file.metadata, "schema");
    struct mbl_json *json;
    if (!schema)
        return mbl_error_set(o->e, "%s is no part of a dataset: its metadata has no schema; the step dataset makes such files", o->path);
    if (mbl_json_parse(schema, strlen(schema), "schema", &d->arena, &json, o->e) || mbl_schema_parse(json, &d->arena, &d->schema, o->e))
        return mbl_error_wrap(o->e, "%s", o->path);
    d->part = mbl_json_get_string(d->file.metadata, "part");
    return d->part ? 0 : mbl_error_set(o->e, "%s: its metadata doesn't say which part of the dataset it is", o->path);
}

int mbl_dataset_open(const char *path, struct mbl_dataset *out, struct mbl_error *e) {
    *out = (struct mbl_dataset){0};
    struct opening o = {path, out, e};
    if (mbl_safetensors_open(path, &out->file, e)) return -1;
    int failed = open_schema(&o) || find_rows(&o) || open_texts(&o) || open_labels(&o) || open_features(&o);
    const struct mbl_tensor *lines = NULL;
    if (!failed && mbl_safetensors_find(&out->file, "line")) {
        failed = find_tensor(&o, "line", MBL_I64, 1, out->rows, &lines);
        if (!failed) out->lines = aligned(&o, lines);
    }
    if (!failed) return 0;
    mbl_dataset_close(out);
    return -1;
}

void mbl_dataset_close(struct mbl_dataset *d) {
    free(d->matrix);
    mbl_arena_free(&d->arena);
    mbl_safetensors_close(&d->file);
    *d = (struct mbl_dataset){0};
}

int mbl_dataset_find(const char *const *paths, size_t count, const char *part) {
    int found = -1;
    for (size_t i = 0; i < count && found < 0; i++) {
        struct mbl_safetensors file;
        struct mbl_error ignored;
        if (mbl_safetensors_open(paths[i], &file, &ignored)) continue;
        const char *name = mbl_json_get_string(file.metadata, "part");
        if (name && !strcmp(name, part)) found = (int)i;
        mbl_safetensors_close(&file);
    }
    return found;
}
