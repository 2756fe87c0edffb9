/* mbk_tensor.c: tensors as such: sizes, views, the names of types. Touches no device. */
#include "backend.h"

#include <string.h>

/* A block of `block` elements takes `bytes` and lies at a multiple of `align`: GGUF's hold halves. */
static const struct type_row {
    const char *name;
    int block, bytes, align;
} types[] = {
    [MBK_F32] = { "F32", 1, 4, 4 },         [MBK_BF16] = { "BF16", 1, 2, 2 },       [MBK_F16] = { "F16", 1, 2, 2 },
    [MBK_F64] = { "F64", 1, 8, 8 },         [MBK_I64] = { "I64", 1, 8, 8 },         [MBK_I32] = { "I32", 1, 4, 4 },
    [MBK_I8] = { "I8", 1, 1, 1 },           [MBK_U8] = { "U8", 1, 1, 1 },           [MBK_F8_E4M3] = { "F8_E4M3", 1, 1, 1 },
    [MBK_F8_E5M2] = { "F8_E5M2", 1, 1, 1 }, [MBK_I4] = { "I4", 2, 1, 1 },           [MBK_Q8_0] = { "Q8_0", 32, 34, 2 },
    [MBK_Q4_0] = { "Q4_0", 32, 18, 2 },     [MBK_Q4_K] = { "Q4_K", 256, 144, 2 },
};

static const struct type_row *type_row(enum mbk_type type)
{
    static const struct type_row none = { "", 1, 0, 1 };
    unsigned index = (unsigned)type;
    return index < sizeof types / sizeof types[0] && types[index].name ? &types[index] : &none;
}

const char *mbk_type_name(enum mbk_type type)
{
    return type_row(type)->name;
}

size_t mbk_alignment(enum mbk_type type)
{
    return (size_t)type_row(type)->align;
}

int mbk_block(enum mbk_type type)
{
    return type_row(type)->block;
}

struct mbk_tensor mbk_tensor(void *data, enum mbk_type type, int rank, const int64_t *shape)
{
    struct mbk_tensor t = { .data = data, .type = type, .rank = rank };
    for (int i = 0; i < rank && i < MBK_MAX_RANK; i++)
        t.shape[i] = shape[i];
    return t;
}

struct mbk_tensor mbk_tensor1(void *data, enum mbk_type type, int64_t a)
{
    return mbk_tensor(data, type, 1, (int64_t[]){ a });
}

struct mbk_tensor mbk_tensor2(void *data, enum mbk_type type, int64_t a, int64_t b)
{
    return mbk_tensor(data, type, 2, (int64_t[]){ a, b });
}

struct mbk_tensor mbk_tensor3(void *data, enum mbk_type type, int64_t a, int64_t b, int64_t c)
{
    return mbk_tensor(data, type, 3, (int64_t[]){ a, b, c });
}

struct mbk_tensor mbk_tensor4(void *data, enum mbk_type type, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return mbk_tensor(data, type, 4, (int64_t[]){ a, b, c, d });
}

/* -1 where the count does not fit or a dimension is below 0. The limit leaves room for eight bytes an element. */
int64_t mbk_count(const struct mbk_tensor *t)
{
    int64_t count = 1;
    int empty = 0;
    if (t->rank < 0 || t->rank > MBK_MAX_RANK)
        return -1;
    for (int i = 0; i < t->rank; i++) {
        if (t->shape[i] < 0)
            return -1;
        if (t->shape[i] == 0)
            empty = 1;
        else if (count > (INT64_MAX >> 4) / t->shape[i])
            return -1;
        else
            count *= t->shape[i];
    }
    return empty ? 0 : count;
}

size_t mbk_bytes(const struct mbk_tensor *t)
{
    const struct type_row *row = type_row(t->type);
    int64_t count = mbk_count(t);
    if (count <= 0)
        return 0;
    if (row->block == 1)
        return (size_t)count * (size_t)row->bytes;
    int64_t length = mbk_row_length(t);
    return (size_t)(count / length) * (size_t)((length + row->block - 1) / row->block) * (size_t)row->bytes;
}

struct mbk_tensor mbk_rows(const struct mbk_tensor *t, int64_t first, int64_t count)
{
    struct mbk_tensor one = *t, view = *t;
    if (t->rank == 0 || first < 0 || count < 0 || first > t->shape[0] - count) {
        view.data = NULL;
        return view;
    }
    one.shape[0] = 1;
    view.shape[0] = count;
    if (view.data)
        view.data = (char *)t->data + (size_t)first * mbk_bytes(&one);
    return view;
}

struct mbk_tensor mbk_reshaped(const struct mbk_tensor *t, int rank, const int64_t *shape)
{
    struct mbk_tensor other = mbk_tensor(t->data, t->type, rank, shape);
    if (mbk_count(&other) != mbk_count(t))
        other.data = NULL;
    return other;
}
