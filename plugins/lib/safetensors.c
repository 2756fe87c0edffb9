/* safetensors.c: reading tensors out of safetensors files; see safetensors.h. safetensors_write.c makes them. */
#include "safetensors.h"

#include <stdlib.h>
#include <string.h>

#define HEADER_MOST 100000000u /* the format's own limit */

static const struct {
    const char *name;
    size_t width;
    enum mbk_type kernel;
} types[] = {
    [MBL_BOOL] = {"BOOL", 1, 0},           [MBL_U8] = {"U8", 1, MBK_U8},
    [MBL_I8] = {"I8", 1, MBK_I8},          [MBL_I16] = {"I16", 2, 0},
    [MBL_U16] = {"U16", 2, 0},             [MBL_F16] = {"F16", 2, MBK_F16},
    [MBL_BF16] = {"BF16", 2, MBK_BF16},    [MBL_I32] = {"I32", 4, MBK_I32},
    [MBL_U32] = {"U32", 4, 0},             [MBL_F32] = {"F32", 4, MBK_F32},
    [MBL_F64] = {"F64", 8, MBK_F64},       [MBL_I64] = {"I64", 8, MBK_I64},
    [MBL_U64] = {"U64", 8, 0},             [MBL_F8_E4M3] = {"F8_E4M3", 1, MBK_F8_E4M3},
    [MBL_F8_E5M2] = {"F8_E5M2", 1, MBK_F8_E5M2},
};
#define TYPE_COUNT (sizeof types / sizeof *types)

const char *mbl_dtype_name(enum mbl_dtype t) {
    return types[t].name;
}

enum mbl_dtype mbl_dtype_of(const char *name) {
    for (size_t i = 1; i < TYPE_COUNT; i++)
        if (!strcmp(types[i].name, name)) return (enum mbl_dtype)i;
    return 0;
}

size_t mbl_dtype_width(enum mbl_dtype t) {
    return types[t].width;
}

enum mbk_type mbl_dtype_kernel(enum mbl_dtype t) {
    return types[t].kernel;
}

enum mbl_dtype mbl_dtype_from_kernel(enum mbk_type t) {
    for (size_t i = 1; t && i < TYPE_COUNT; i++)
        if (types[i].kernel == t) return (enum mbl_dtype)i;
    return 0;
}

int64_t mbl_tensor_count(const struct mbl_tensor *t) {
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= t->shape[i];
    return n;
}

/* -- reading */

/* What is being read: where its data begins, and for messages the file's name. */
struct reader {
    const char *name;
    uint64_t data_size;
    struct mbl_error *e;
};

static const struct mbl_json *whole_number(const struct mbl_json *v) {
    return v && v->type == MBL_JSON_INT && v->integer >= 0 ? v : NULL;
}

static int read_shape(const struct reader *r, const struct mbl_json *shape, struct mbl_tensor *t, uint64_t *bytes) {
    if (!shape || shape->type != MBL_JSON_LIST) return mbl_error_set(r->e, "%s: tensor %s has no shape", r->name, t->name);
    if (shape->count > MBL_TENSOR_RANK)
        return mbl_error_set(r->e, "%s: tensor %s has %zu dimensions; at most %d are supported", r->name, t->name, shape->count,
                             MBL_TENSOR_RANK);
    t->rank = (int)shape->count;
    *bytes = types[t->type].width;
    /* A dimension of 0 must not hide an overflow of the others: whoever reads the shape may multiply in another order. */
    uint64_t without_zeros = *bytes;
    for (int i = 0; i < t->rank; i++) {
        const struct mbl_json *v = whole_number(shape->items[i]);
        if (!v) return mbl_error_set(r->e, "%s: tensor %s: dimension %d is no whole number", r->name, t->name, i);
        t->shape[i] = v->integer;
        if (v->integer && (__builtin_mul_overflow(without_zeros, (uint64_t)v->integer, &without_zeros) || without_zeros > INT64_MAX))
            return mbl_error_set(r->e, "%s: tensor %s: its shape overflows", r->name, t->name);
        *bytes *= (uint64_t)v->integer;
    }
    return 0;
}

/* Reads an entry of the header. *begin gets the offset of its data. */
static int read_entry(const struct reader *r, const struct mbl_json *entry, struct mbl_tensor *t, uint64_t *begin) {
    const char *type = mbl_json_get_string(entry, "dtype");
    if (!type) return mbl_error_set(r->e, "%s: tensor %s has no dtype", r->name, t->name);
    t->type = mbl_dtype_of(type);
    if (!t->type) return mbl_error_set(r->e, "%s: tensor %s: unknown dtype %.40s", r->name, t->name, type);
    uint64_t bytes = 0;
    if (read_shape(r, mbl_json_get(entry, "shape"), t, &bytes)) return -1;
    const struct mbl_json *offsets = mbl_json_get(entry, "data_offsets");
    if (!offsets || offsets->type != MBL_JSON_LIST || offsets->count != 2 || !whole_number(offsets->items[0]) ||
        !whole_number(offsets->items[1]))
        return mbl_error_set(r->e, "%s: tensor %s: data_offsets must be two whole numbers", r->name, t->name);
    uint64_t end = (uint64_t)offsets->items[1]->integer;
    *begin = (uint64_t)offsets->items[0]->integer;
    if (*begin > end || end > r->data_size)
        return mbl_error_set(r->e, "%s: tensor %s: data_offsets %llu to %llu leave the file's %llu bytes of data", r->name, t->name,
                             (unsigned long long)*begin, (unsigned long long)end, (unsigned long long)r->data_size);
    if (end - *begin != bytes)
        return mbl_error_set(r->e, "%s: tensor %s: its shape takes %llu bytes but data_offsets say %llu", r->name, t->name,
                             (unsigned long long)bytes, (unsigned long long)(end - *begin));
    t->bytes = (size_t)bytes;
    return 0;
}

static int read_metadata(const struct reader *r, struct mbl_json *table, struct mbl_safetensors *out) {
    if (table->type != MBL_JSON_TABLE)
        return mbl_error_set(r->e, "%s: __metadata__ is %s; a table expected", r->name, mbl_json_type_name(table->type));
    for (size_t i = 0; i < table->count; i++)
        if (table->items[i]->type != MBL_JSON_STRING)
            return mbl_error_set(r->e, "%s: __metadata__: %.100s is %s; only strings are allowed", r->name, table->keys[i],
                                 mbl_json_type_name(table->items[i]->type));
    out->metadata = table;
    return 0;
}

static int by_data(const void *a, const void *b) {
    const struct mbl_tensor *s = a, *t = b;
    uintptr_t x = (uintptr_t)s->data, y = (uintptr_t)t->data;
    if (x != y) return x < y ? -1 : 1;
    return s->bytes < t->bytes ? -1 : s->bytes > t->bytes; /* empty ones before what begins there */
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct mbl_tensor *)a)->name, ((const struct mbl_tensor *)b)->name);
}

/* The tensors must cover the data from first byte to last, each byte once. */
static int check_cover(const struct reader *r, struct mbl_safetensors *s, const unsigned char *data) {
    if (s->count) qsort(s->tensors, s->count, sizeof *s->tensors, by_data);
    const unsigned char *at = data;
    for (size_t i = 0; i < s->count; i++) {
        const struct mbl_tensor *t = &s->tensors[i];
        const unsigned char *begin = t->data;
        if (begin < at) return mbl_error_set(r->e, "%s: tensors %s and %s overlap", r->name, s->tensors[i - 1].name, t->name);
        if (begin > at) return mbl_error_set(r->e, "%s: a hole of %zu bytes before tensor %s", r->name, (size_t)(begin - at), t->name);
        at = begin + t->bytes;
    }
    size_t left = (size_t)r->data_size - (size_t)(at - data);
    if (left) return mbl_error_set(r->e, "%s: %zu bytes behind the last tensor belong to none", r->name, left);
    if (s->count) qsort(s->tensors, s->count, sizeof *s->tensors, by_name);
    return 0;
}

static int read_header(const char *name, const unsigned char *bytes, size_t size, struct mbl_safetensors *out, struct mbl_error *e) {
    uint64_t length = 0;
    if (size < 8) return mbl_error_set(e, "%s is no safetensors file: it has %zu bytes, the format begins with 8 of length", name, size);
    for (int i = 7; i >= 0; i--) length = length << 8 | bytes[i];
    if (length > HEADER_MOST || length > size - 8)
        return mbl_error_set(e, "%s is no safetensors file, or was cut off: a header of %llu bytes in %zu bytes", name,
                             (unsigned long long)length, size);
    struct reader r = {.name = name, .data_size = size - 8 - length, .e = e};
    const unsigned char *data = bytes + 8 + length;
    struct mbl_json *header;
    if (length == 0 || bytes[8] != '{') return mbl_error_set(e, "%s: the header must begin with {", name);
    if (mbl_json_parse((const char *)bytes + 8, (size_t)length, name, &out->arena, &header, e))
        return mbl_error_wrap(e, "safetensors header");
    out->metadata = mbl_json_table(&out->arena);
    out->tensors = mbl_arena_alloc(&out->arena, header->count * sizeof *out->tensors);
    for (size_t i = 0; i < header->count; i++) {
        if (!strcmp(header->keys[i], "__metadata__")) {
            if (read_metadata(&r, header->items[i], out)) return -1;
            continue;
        }
        struct mbl_tensor *t = &out->tensors[out->count++];
        uint64_t begin = 0;
        t->name = header->keys[i];
        if (read_entry(&r, header->items[i], t, &begin)) return -1;
        t->data = data + begin;
    }
    return check_cover(&r, out, data);
}

int mbl_safetensors_parse(const void *data, size_t size, const char *name, struct mbl_safetensors *out, struct mbl_error *e) {
    *out = (struct mbl_safetensors){0};
    if (!read_header(name, data, size, out, e)) return 0;
    mbl_safetensors_close(out);
    return -1;
}

int mbl_safetensors_open(const char *path, struct mbl_safetensors *out, struct mbl_error *e) {
    *out = (struct mbl_safetensors){0};
    if (mbl_map_open(path, &out->map, e)) return -1;
    if (!read_header(path, out->map.data, out->map.size, out, e)) return 0;
    mbl_safetensors_close(out);
    return -1;
}

void mbl_safetensors_close(struct mbl_safetensors *s) {
    mbl_arena_free(&s->arena);
    mbl_map_close(&s->map);
    *s = (struct mbl_safetensors){0};
}

const struct mbl_tensor *mbl_safetensors_find(const struct mbl_safetensors *s, const char *name) {
    size_t low = 0, high = s->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(s->tensors[middle].name, name);
        if (order == 0) return &s->tensors[middle];
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    return NULL;
}

/* -- conversion. Files of others need not be aligned, so elements are copied out. */

static float half_float(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 0x1f, fraction = h & 0x3ff, bits;
    float f;
    if (exponent == 31) bits = sign | 0x7f800000u | fraction << 13;
    else if (exponent) bits = sign | (exponent + 112) << 23 | fraction << 13;
    else { /* subnormal: fraction · 2^-24 */
        f = (float)fraction * 0x1p-24f;
        return sign ? -f : f;
    }
    memcpy(&f, &bits, sizeof f);
    return f;
}

#define CONVERT(name, type, expression)                                                                  \
    static void convert_##name(const unsigned char *from, int64_t n, float *out) {                       \
        for (int64_t i = 0; i < n; i++) {                                                                \
            type v;                                                                                      \
            memcpy(&v, from + (size_t)i * sizeof v, sizeof v);                                           \
            out[i] = (expression);                                                                       \
        }                                                                                                \
    }
CONVERT(u8, uint8_t, (float)v)
CONVERT(i8, int8_t, (float)v)
CONVERT(u16, uint16_t, (float)v)
CONVERT(i16, int16_t, (float)v)
CONVERT(u32, uint32_t, (float)v)
CONVERT(i32, int32_t, (float)v)
CONVERT(u64, uint64_t, (float)v)
CONVERT(i64, int64_t, (float)v)
CONVERT(f16, uint16_t, half_float(v))
CONVERT(f64, double, (float)v)

static void convert_f32(const unsigned char *from, int64_t n, float *out) {
    if (n) memcpy(out, from, (size_t)n * sizeof *out);
}

static void convert_bf16(const unsigned char *from, int64_t n, float *out) {
    for (int64_t i = 0; i < n; i++) {
        uint16_t v;
        memcpy(&v, from + (size_t)i * 2, 2);
        uint32_t bits = (uint32_t)v << 16;
        memcpy(&out[i], &bits, 4);
    }
}

int mbl_tensor_floats(const struct mbl_tensor *t, float *out, struct mbl_error *e) {
    static void (*const converters[TYPE_COUNT])(const unsigned char *, int64_t, float *) = {
        [MBL_BOOL] = convert_u8,  [MBL_U8] = convert_u8,   [MBL_I8] = convert_i8,   [MBL_U16] = convert_u16, [MBL_I16] = convert_i16,
        [MBL_U32] = convert_u32,  [MBL_I32] = convert_i32, [MBL_U64] = convert_u64, [MBL_I64] = convert_i64, [MBL_F16] = convert_f16,
        [MBL_BF16] = convert_bf16, [MBL_F32] = convert_f32, [MBL_F64] = convert_f64,
    };
    if (!converters[t->type]) return mbl_error_set(e, "tensor %s is %s, which cannot be read as float32", t->name, mbl_dtype_name(t->type));
    converters[t->type](t->data, mbl_tensor_count(t), out);
    return 0;
}
