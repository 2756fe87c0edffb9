/* read_arrays.c: IDX and NPY, dense arrays in a file, to a table; see read.h.
 *
 * IDX: two zero bytes, a type, the number of dimensions, each as big-endian u32, then the data, big-endian (Y. LeCun, the MNIST page). NPY:
 * NumPy Enhancement Proposal 1, versions 1 to 3; the header is a Python literal.
 */
#include "read.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MOST ((size_t)1 << 36)
#define COLUMNS_MOST 4096 /* a matrix of more is one wide column, without a name for each */

static int array_measure(struct array *a, const unsigned char *data, size_t have, const char *name, struct mbl_error *e) {
    uint64_t bytes = mbl_dtype_width(a->type);
    a->data = data;
    a->count = 1;
    for (int i = 0; i < a->rank; i++) {
        if (a->shape[i] <= 0) return mbl_error_set(e, "%s: dimension %d is %lld", name, i, (long long)a->shape[i]);
        if (__builtin_mul_overflow(bytes, (uint64_t)a->shape[i], &bytes) || bytes > INT64_MAX)
            return mbl_error_set(e, "%s: its shape overflows", name);
        a->count *= (uint64_t)a->shape[i];
    }
    if (bytes == have) return 0;
    return mbl_error_set(e, "%s: its header speaks of %llu bytes of data; %zu are there", name, (unsigned long long)bytes, have);
}

int array_parse_idx(const void *data, size_t size, const char *name, struct array *out, struct mbl_error *e) {
    static const enum mbl_dtype types[] = {
        [8] = MBL_U8, [9] = MBL_I8, [0x0b] = MBL_I16, [0x0c] = MBL_I32, [0x0d] = MBL_F32, [0x0e] = MBL_F64};
    const unsigned char *b = data;
    *out = (struct array){.big_endian = true};
    if (size < 4 || b[0] || b[1] || b[2] >= sizeof types / sizeof *types || !types[b[2]])
        return mbl_error_set(e, "%s is no IDX file: it doesn't begin with 0, 0, a type and a number of dimensions", name);
    out->type = types[b[2]];
    out->rank = b[3];
    if (out->rank < 1 || out->rank > ARRAY_RANK)
        return mbl_error_set(e, "%s: %d dimensions; 1 to %d are understood", name, out->rank, ARRAY_RANK);
    size_t header = 4 + 4 * (size_t)out->rank;
    if (size < header) return mbl_error_set(e, "%s: the header is cut off", name);
    for (int i = 0; i < out->rank; i++) {
        const unsigned char *d = b + 4 + 4 * i;
        out->shape[i] = (int64_t)d[0] << 24 | (int64_t)d[1] << 16 | (int64_t)d[2] << 8 | d[3];
    }
    return array_measure(out, b + header, size - header, name, e);
}

/* -- NPY's header: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), } */

struct literal {
    const char *at, *end;
};

static bool literal_take(struct literal *l, const char *word) {
    while (l->at < l->end && (*l->at == ' ' || *l->at == '\n')) l->at++;
    size_t n = strlen(word);
    if ((size_t)(l->end - l->at) < n || memcmp(l->at, word, n)) return false;
    l->at += n;
    return true;
}

static bool literal_string(struct literal *l, char *out, size_t size) {
    bool single = literal_take(l, "'");
    if (!single && !literal_take(l, "\"")) return false;
    const char *end = memchr(l->at, single ? '\'' : '"', (size_t)(l->end - l->at));
    if (!end || (size_t)(end - l->at) >= size) return false;
    memcpy(out, l->at, (size_t)(end - l->at));
    out[end - l->at] = 0;
    l->at = end + 1;
    return true;
}

static bool literal_shape(struct literal *l, struct array *a) {
    if (!literal_take(l, "(")) return false;
    while (!literal_take(l, ")")) {
        int64_t v = 0;
        const char *begin = l->at;
        for (; l->at < l->end && *l->at >= '0' && *l->at <= '9'; l->at++)
            if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *l->at - '0', &v)) return false;
        if (l->at == begin || a->rank == ARRAY_RANK) return false;
        a->shape[a->rank++] = v;
        if (!literal_take(l, ",")) return literal_take(l, ")");
    }
    return true;
}

static enum mbl_dtype npy_type(const char *descr, bool *big_endian) {
    static const struct {
        const char *code;
        enum mbl_dtype type;
    } codes[] = {{"b1", MBL_BOOL}, {"u1", MBL_U8}, {"i1", MBL_I8}, {"u2", MBL_U16}, {"i2", MBL_I16}, {"f2", MBL_F16}, {"u4", MBL_U32},
                 {"i4", MBL_I32}, {"f4", MBL_F32}, {"u8", MBL_U64}, {"i8", MBL_I64}, {"f8", MBL_F64}};
    if (!strchr("<>|=", descr[0]) || !descr[0]) return 0;
    *big_endian = descr[0] == '>';
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (!strcmp(codes[i].code, descr + 1)) return codes[i].type;
    return 0;
}

static int npy_header(struct literal *l, const char *name, struct array *out, struct mbl_error *e) {
    bool fortran = false, shaped = false;
    if (!literal_take(l, "{")) return mbl_error_set(e, "%s: its NPY header is no dictionary", name);
    while (!literal_take(l, "}")) {
        char key[32], descr[32];
        if (!literal_string(l, key, sizeof key) || !literal_take(l, ":"))
            return mbl_error_set(e, "%s: its NPY header cannot be read", name);
        bool fine = false;
        if (!strcmp(key, "descr")) {
            fine = literal_string(l, descr, sizeof descr);
            out->type = fine ? npy_type(descr, &out->big_endian) : 0;
            if (!out->type) return mbl_error_set(e, "%s: its type is %s; numbers are expected", name, fine ? descr : "no simple one");
        } else if (!strcmp(key, "fortran_order")) {
            fortran = literal_take(l, "True");
            fine = fortran || literal_take(l, "False");
        } else if (!strcmp(key, "shape") && !shaped) {
            fine = shaped = literal_shape(l, out);
        }
        if (!fine) return mbl_error_set(e, "%s: its NPY header cannot be read at \"%.30s\"", name, key);
        literal_take(l, ",");
    }
    if (!out->type || !shaped) return mbl_error_set(e, "%s: its NPY header lacks descr or shape", name);
    if (out->rank == 0) return mbl_error_set(e, "%s holds a single number; rows are expected", name);
    if (fortran && out->rank > 1)
        return mbl_error_set(
            e, "%s lies column by column (fortran_order); numpy.save(file, numpy.ascontiguousarray(a)) writes it row by row", name);
    return 0;
}

int array_parse_npy(const void *data, size_t size, const char *name, struct array *out, struct mbl_error *e) {
    const unsigned char *b = data;
    *out = (struct array){0};
    if (size < 10 || memcmp(b, "\x93NUMPY", 6)) return mbl_error_set(e, "%s is no NPY file", name);
    if (b[6] < 1 || b[6] > 3) return mbl_error_set(e, "%s: NPY version %d.%d is not known", name, b[6], b[7]);
    size_t begin = b[6] == 1 ? 10 : 12, length = b[8] | (size_t)b[9] << 8;
    if (size < begin) return mbl_error_set(e, "%s: the header is cut off", name);
    if (b[6] > 1) length |= (size_t)b[10] << 16 | (size_t)b[11] << 24;
    if (length > size - begin) return mbl_error_set(e, "%s: the header is cut off", name);
    struct literal l = {(const char *)b + begin, (const char *)b + begin + length};
    if (npy_header(&l, name, out, e)) return -1;
    return array_measure(out, b + begin + length, size - begin - length, name, e);
}

/* -- elements */

double array_at(const struct array *a, uint64_t i) {
    size_t width = mbl_dtype_width(a->type);
    unsigned char b[8] = {0};
    uint64_t bits = 0;
    memcpy(b, a->data + i * width, width);
    for (size_t k = 0; k < width; k++) bits |= (uint64_t)b[a->big_endian ? width - 1 - k : k] << 8 * k;
    uint32_t low = (uint32_t)bits;
    float f;
    double d;
    switch (a->type) {
    case MBL_I8: return (int8_t)bits;
    case MBL_I16: return (int16_t)bits;
    case MBL_I32: return (int32_t)bits;
    case MBL_I64: return (double)(int64_t)bits;
    case MBL_F32: memcpy(&f, &low, sizeof f); return (double)f;
    case MBL_F64: memcpy(&d, &bits, sizeof d); return d;
    case MBL_F16: {
        int exponent = (int)(bits >> 10 & 0x1f);
        double fraction = (double)(bits & 0x3ff);
        d = exponent == 31 ? (fraction > 0 ? NAN : INFINITY) : exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
        return bits & 0x8000 ? -d : d;
    }
    default: return (double)bits; /* BOOL and the unsigned ones */
    }
}

/* -- to a table */

static int number_of(const struct array *a, uint64_t i, const char *file, float *out, struct mbl_error *e) {
    *out = (float)array_at(a, i);
    if (isinf(*out)) return mbl_error_set(e, "%s: element %llu is infinite, or too large for float32", file, (unsigned long long)i);
    return 0;
}

/* `width` elements of each row, from the `first` on, as a column. */
static int fill_numbers(const struct array *a, const char *file, size_t row_width, size_t first, struct column *c, struct mbl_error *e) {
    size_t rows = (size_t)a->shape[0];
    void *numbers;
    if (row_width == c->width && a->type == MBL_U8) {
        c->bytes = a->data;
        return 0;
    }
    if (mbl_try_alloc(&numbers, (uint64_t)rows * c->width, sizeof *c->numbers, file, e)) return -1;
    c->numbers = numbers;
    for (size_t i = 0; i < rows; i++)
        for (size_t k = 0; k < c->width; k++)
            if (number_of(a, (uint64_t)i * row_width + first + k, file, &c->numbers[i * c->width + k], e)) return -1;
    return 0;
}

/* Labels: classes or targets. Element `first` of each row. */
static int fill_label(const struct options *o, const struct array *a, const char *file, size_t row_width, size_t first, struct column *c,
                      struct mbl_error *e) {
    size_t rows = (size_t)a->shape[0];
    bool integers = true;
    for (size_t i = 0; i < rows && integers; i++) {
        double v = array_at(a, (uint64_t)i * row_width + first);
        integers = v == floor(v) && fabs(v) < 9e15;
    }
    if (integers) {
        c->codes = mbl_alloc(rows * sizeof *c->codes);
        for (size_t i = 0; i < rows; i++) {
            char name[32];
            double v = array_at(a, (uint64_t)i * row_width + first);
            int n = snprintf(name, sizeof name, "%lld", (long long)v);
            c->codes[i] = (int32_t)dictionary_add(&c->dictionary, name, (size_t)n);
        }
    }
    c->is_label = true;
    bool classes = read_are_classes(o, true, integers, c->dictionary.count, rows);
    if (classes && !integers) return mbl_error_set(e, "%s: labels of a classification must be integers", file);
    if (classes) {
        c->kind = MBL_CATEGORY;
        return 0;
    }
    free(c->codes);
    c->codes = NULL;
    dictionary_free(&c->dictionary);
    c->kind = MBL_NUMERIC;
    c->width = 1;
    return fill_numbers(a, file, row_width, first, c, e);
}

/* A matrix with a column for each of its columns, so that the rule can name them. */
static int spread_matrix(const struct options *o, const struct array *a, const char *file, struct table *t, struct mbl_error *e) {
    size_t width = a->rank == 2 ? (size_t)a->shape[1] : 1;
    const char **names = mbl_arena_alloc(&t->arena, width * sizeof *names);
    enum column_use *uses = mbl_arena_alloc(&t->arena, width * sizeof *uses);
    if (width > COLUMNS_MOST) return mbl_error_set(e, "%s: %zu columns; only up to %d can be named", file, width, COLUMNS_MOST);
    if (o->columns.count && o->columns.count != width)
        return mbl_error_set(e, "%s: the rule names %zu columns; found %zu", file, o->columns.count, width);
    for (size_t i = 0; i < width; i++) names[i] = o->columns.count ? o->columns.items[i] : mbl_arena_printf(&t->arena, "c%zu", i + 1);
    if (read_uses(o, names, width, file, uses, e)) return -1;
    t->columns = mbl_arena_alloc(&t->arena, width * sizeof *t->columns);
    for (size_t i = 0; i < width; i++) {
        if (uses[i] == COLUMN_UNUSED) continue;
        struct column *c = &t->columns[t->column_count++];
        *c = (struct column){.name = names[i], .kind = MBL_NUMERIC, .width = 1};
        if (uses[i] == COLUMN_GROUP) return mbl_error_set(e, "%s: split.group is for formats with names", file);
        if (uses[i] == COLUMN_LABEL ? fill_label(o, a, file, width, i, c, e) : fill_numbers(a, file, width, i, c, e)) return -1;
    }
    return 0;
}

/* One wide column, an image if there are three dimensions or four, and perhaps labels from a file of their own. */
static int wide_table(const struct options *o, const struct array *arrays, const char *const *files, const struct array *labels,
                      struct table *t, struct mbl_error *e) {
    const struct array *a = arrays;
    size_t width = (size_t)(a->count / (uint64_t)a->shape[0]);
    t->columns = mbl_arena_alloc(&t->arena, 2 * sizeof *t->columns);
    t->columns[t->column_count++] = (struct column){.name = "x", .kind = MBL_NUMERIC, .width = width};
    if (fill_numbers(a, files[0], width, 0, &t->columns[0], e)) return -1;
    if (a->rank == 3 || a->rank == 4) {
        t->shape_rank = 3;
        t->shape[0] = a->shape[1];
        t->shape[1] = a->shape[2];
        t->shape[2] = a->rank == 4 ? a->shape[3] : 1;
    }
    if (!labels) return 0;
    if (labels->shape[0] != a->shape[0])
        return mbl_error_set(e, "%s has %lld labels; %s has %lld rows", files[1], (long long)labels->shape[0], files[0],
                             (long long)a->shape[0]);
    struct column *c = &t->columns[t->column_count++];
    *c = (struct column){.name = o->label ? mbl_arena_strdup(&t->arena, o->label) : "label"};
    return fill_label(o, labels, files[1], 1, 0, c, e);
}

static int load_arrays(const struct options *o, struct array *arrays, const char **files, size_t count, struct table *t,
                       struct mbl_error *e) {
    bool named = o->columns.count || o->features.count || o->ignore.count || o->label || o->label_index;
    if (count == 2 && arrays[0].rank == 1) { /* the rule may name them in any order */
        struct array a = arrays[0];
        const char *file = files[0];
        arrays[0] = arrays[1], arrays[1] = a;
        files[0] = files[1], files[1] = file;
    }
    if (count == 2 && (arrays[0].rank < 2 || arrays[1].rank != 1))
        return mbl_error_set(
            e, "%s and %s: of two arrays one holds the rows and one, of one dimension, the labels; found %d and %d dimensions", files[0],
            files[1], arrays[0].rank, arrays[1].rank);
    if (count == 1 && arrays[0].rank <= 2 && named) return spread_matrix(o, arrays, files[0], t, e);
    if (count == 1 && (o->label || o->label_index))
        return mbl_error_set(e, "%s: images bring no label along; give the file with the labels as well", files[0]);
    return wide_table(o, arrays, files, count == 2 ? &arrays[1] : NULL, t, e);
}

int read_arrays(struct reading *r, int (*parse)(const void *, size_t, const char *, struct array *, struct mbl_error *), struct table *out,
                struct mbl_error *e) {
    struct array arrays[2];
    const char *files[2] = {"", ""};
    if (r->path_count > 2)
        return mbl_error_set(e, "%s: at most two arrays, rows and labels, make a dataset; there are %zu", r->paths[0], r->path_count);
    for (size_t i = 0; i < r->path_count; i++) {
        struct mbl_stream *stream;
        files[i] = mbl_arena_strdup(&out->arena, r->paths[i]);
        if (mbl_stream_open(files[i], &stream, e)) return -1;
        int failed = mbl_stream_all(stream, FILE_MOST, &out->data[i], e);
        mbl_stream_close(stream);
        if (failed || parse(out->data[i].data, out->data[i].len, files[i], &arrays[i], e)) return -1;
        if (r->watcher && r->watcher->see(r->watcher, (double)(i + 1), (double)r->path_count)) return mbl_error_set(e, "cancelled");
    }
    if (load_arrays(r->options, arrays, files, r->path_count, out, e)) return -1;
    out->rows = (size_t)arrays[0].shape[0];
    out->lines = mbl_alloc(out->rows * sizeof *out->lines);
    for (size_t i = 0; i < out->rows; i++) out->lines[i] = (int64_t)i + 1;
    out->files = mbl_arena_alloc(&out->arena, sizeof *out->files);
    out->file_starts = mbl_arena_alloc(&out->arena, sizeof *out->file_starts);
    out->files[0] = files[0];
    out->file_count = 1;
    return 0;
}

int read_idx(struct reading *r, struct table *out, struct mbl_error *e) {
    return read_arrays(r, array_parse_idx, out, e);
}

int read_npy(struct reading *r, struct table *out, struct mbl_error *e) {
    return read_arrays(r, array_parse_npy, out, e);
}
