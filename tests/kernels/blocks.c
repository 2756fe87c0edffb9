/* blocks.c: GGUF's blocks and 4-bit groups on every backend.
 *
 * What bytes come of blocks is recorded: Q8_0 and Q4_0 as the Python package gguf 0.19.0 (gguf.quants) makes them, Q4_K as ggml's plain C
 * does, and all back to floats as gguf does; of a few blocks the bytes, of a thousand their FNV-1a hash.
 */
#include "kernels.h"
#include "reference/reference.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 1024, ELEMENTS = 256 };

struct block_test {
    const char *backend;
    enum mbk_type type; /* of the blocks */
};

static const enum mbk_type formats[] = { MBK_Q8_0, MBK_Q4_0, MBK_Q4_K };

static const struct recorded {
    enum mbk_type type;
    int64_t elements, bytes; /* of a block */
    uint64_t hash, back;     /* of all blocks; of the floats that they are */
    uint8_t first[144];      /* the first block */
} recorded[] = {
    { MBK_Q8_0, 32, 34, 0x44dedd1841e205dc, 0x48f603adf6c9cb49,
      { 2, 32, 143, 210, 76, 96, 204, 74, 149, 135, 157, 43, 248, 116, 184, 225, 129, 140, 179, 195, 102, 157, 191, 184, 97, 193, 165,
        68, 137, 30, 200, 67, 62, 180 } },
    { MBK_Q4_0, 32, 18, 0x19c60c2aa45b0c0b, 0xb5beeeb6d750f874,
      { 243, 47, 49, 69, 237, 46, 69, 61, 225, 64, 34, 203, 24, 175, 67, 198, 192, 49 } },
    { MBK_Q4_K, 256, 144, 0x535ada53c680e563, 0xbf3e9a9af2f7d250,
      { 59, 24, 10, 36, 252, 60, 61, 254, 254, 59, 59, 255, 190, 0, 12, 191, 97, 197, 141, 254, 165, 13, 1, 160, 242, 27, 151, 15, 179,
        198, 224, 17, 99, 100, 46, 2, 68, 243, 94, 100, 2, 124, 240, 138, 228, 60, 12, 211, 254, 42, 173, 251, 98, 251, 160, 217, 230,
        190, 0, 127, 94, 253, 103, 88, 135, 159, 69, 171, 50, 211, 38, 115, 27, 65, 184, 110, 252, 37, 74, 251, 10, 7, 13, 9, 1, 7, 8,
        5, 4, 4, 2, 15, 5, 9, 6, 10, 3, 13, 5, 12, 7, 4, 1, 4, 10, 0, 14, 5, 5, 12, 14, 12, 239, 175, 79, 127, 207, 127, 127, 175, 31,
        239, 255, 31, 223, 143, 127, 15, 239, 239, 143, 127, 95, 175, 47, 175, 15, 15, 31, 79, 175, 175, 159, 31 } },
};

/* Blocks of four kinds, some parts of them all 0 or all the same. */
static double *block_numbers(void)
{
    double *x = kernels_random(BLOCKS * ELEMENTS, -1, 1, 5);
    for (int i = 0; i < BLOCKS * ELEMENTS; i++) {
        double u = x[i];
        int kind = i / ELEMENTS % 4, part = i / 32;
        x[i] = kind == 0 ? u : kind == 1 ? u * u * u * u * u : kind == 2 ? floor(u * 8) / 8 : fabs(u) * ldexp(1, part % 8 * 2 - 8);
        x[i] = part % 37 == 5 ? 0 : part % 37 == 6 ? 0.375 : x[i];
    }
    return x;
}

static uint64_t hash_of(const void *bytes, size_t n)
{
    uint64_t h = 0xcbf29ce484222325;
    for (size_t i = 0; i < n; i++)
        h = (h ^ ((const uint8_t *)bytes)[i]) * 0x100000001b3;
    return h;
}

static struct mbk_tensor allocate(struct mbk *k, enum mbk_type type, int64_t rows, int64_t n)
{
    struct mbk_tensor t = mbk_tensor2(NULL, type, rows, n);
    t.data = mbk_alloc(k, mbk_bytes(&t) + 1);
    CHECKF(t.data != NULL, "%s", mbk_error(k));
    return t;
}

static void *bytes_of(struct mbk *k, const struct mbk_tensor *t)
{
    void *bytes = malloc(mbk_bytes(t) + 1);
    CHECK(bytes != NULL);
    CHECK_RUN(k, mbk_read(k, bytes, t->data, mbk_bytes(t)));
    return bytes;
}

static void recorded_body(const void *argument)
{
    const struct block_test *test = argument;
    const struct recorded *r = recorded;
    while (r->type != test->type)
        r++;
    struct mbk *k = kernels_open(test->backend, 3);
    double *x = block_numbers();
    struct mbk_tensor tx = kernels_put(k, MBK_F32, SHAPE(BLOCKS, ELEMENTS), x), tq = allocate(k, r->type, BLOCKS, ELEMENTS);
    struct mbk_tensor tback = kernels_put(k, MBK_F32, SHAPE(BLOCKS, ELEMENTS), NULL);
    CHECK_EQ(mbk_bytes(&tq), BLOCKS * ELEMENTS / r->elements * r->bytes);
    CHECK_RUN(k, mbk_quantize_blocks(k, &tx, &tq));
    uint8_t *q = bytes_of(k, &tq);
    for (int i = 0; i < r->bytes; i++)
        CHECKF(q[i] == r->first[i], "byte %d of the first block is %d, not %d", i, q[i], r->first[i]);
    CHECKF(hash_of(q, mbk_bytes(&tq)) == r->hash, "the blocks' hash is %016llx", (unsigned long long)hash_of(q, mbk_bytes(&tq)));
    CHECK_RUN(k, mbk_dequantize_blocks(k, &tq, &tback));
    float *back = bytes_of(k, &tback);
    CHECKF(hash_of(back, mbk_bytes(&tback)) == r->back, "the hash of the floats is %016llx",
           (unsigned long long)hash_of(back, mbk_bytes(&tback)));
    kernels_drop(k, &tx);
    kernels_drop(k, &tback);
    mbk_free(k, tq.data);
    free(q);
    free(back);
    free(x);
    kernels_close(k);
}

/* From and to bfloat16: the same blocks as of the same numbers in float32, and the same numbers, rounded. */
static void narrow_body(const void *argument)
{
    const struct block_test *test = argument;
    struct mbk *k = kernels_open(test->backend, 2);
    double *x = block_numbers();
    struct mbk_tensor narrow = kernels_put(k, MBK_BF16, SHAPE(BLOCKS, ELEMENTS), x);
    struct mbk_tensor wide = kernels_put(k, MBK_F32, SHAPE(BLOCKS, ELEMENTS), x);
    struct mbk_tensor q = allocate(k, test->type, BLOCKS, ELEMENTS), same = allocate(k, test->type, BLOCKS, ELEMENTS);
    CHECK_RUN(k, mbk_quantize_blocks(k, &narrow, &q));
    CHECK_RUN(k, mbk_quantize_blocks(k, &wide, &same));
    uint8_t *a = bytes_of(k, &q), *b = bytes_of(k, &same);
    CHECK_MEM(a, b, mbk_bytes(&q));
    CHECK_RUN(k, mbk_dequantize_blocks(k, &q, &wide));
    CHECK_RUN(k, mbk_dequantize_blocks(k, &q, &narrow));
    double *expected = kernels_get(k, &wide);
    kernels_check(k, "in bfloat16", &narrow, expected, NULL, 0);
    kernels_drop(k, &narrow);
    kernels_drop(k, &wide);
    mbk_free(k, q.data);
    mbk_free(k, same.data);
    free(a);
    free(b);
    free(x);
    free(expected);
    /* What is not finite is nobody's crash. */
    double odd[ELEMENTS] = { NAN, INFINITY, -INFINITY, 1, -1, 3e38, -3e38, 1e-45 };
    struct mbk_tensor todd = kernels_put(k, MBK_F32, SHAPE(1, ELEMENTS), odd), tq = allocate(k, test->type, 1, ELEMENTS);
    CHECK_RUN(k, mbk_quantize_blocks(k, &todd, &tq));
    CHECK_RUN(k, mbk_dequantize_blocks(k, &tq, &todd));
    CHECK_RUN(k, mbk_sync(k));
    kernels_drop(k, &todd);
    mbk_free(k, tq.data);
    kernels_close(k);
}

/* -- Products of weights in blocks or groups: against those of the same weights as floats. */

static const struct {
    int64_t m, n, k;
    int bias, residual;
    enum mbk_activation activation;
} products[] = {
    { 1, 1, 256, 0, 0, MBK_NONE }, { 1, 67, 512, 1, 0, MBK_RELU }, { 3, 33, 256, 0, 1, MBK_NONE }, { 7, 5, 1280, 1, 1, MBK_GELU },
    { 17, 49, 256, 0, 0, MBK_NONE }, { 33, 101, 768, 1, 0, MBK_SILU }, { 0, 3, 256, 1, 0, MBK_NONE }, { 130, 97, 512, 1, 1, MBK_TANH },
    { 1, 3, 32, 0, 0, MBK_NONE }, { 1, 9, 224, 1, 0, MBK_NONE }, { 2, 5, 96, 0, 0, MBK_NONE },
};

static void expect_product(int i, const double *a, const double *w, const double *bias, const double *residual, double *c, double *size)
{
    int64_t m = products[i].m, n = products[i].n;
    ref_matmul(m, n, products[i].k, 1, a, 0, w, 1, 0, c, size);
    for (int64_t j = 0; j < m * n; j++) {
        double sum = c[j] + (products[i].bias ? bias[j % n] : 0);
        c[j] = ref_activation(products[i].activation, sum) + (products[i].residual ? residual[j] : 0);
        size[j] += 4 + (products[i].residual ? fabs(residual[j]) : 0);
    }
}

/* How many roundings of float32, times the size of the sums, a product may be off. CUDA's products of many rows in bfloat16 read weights that
 * were rounded to it, to 8 bits. */
static double roundings(const char *backend, enum mbk_type type, int64_t rows)
{
    return type == MBK_BF16 && rows > 8 && !strcmp(backend, "cuda") ? 16 + 32768 : 16;
}

static void product_body(const void *argument)
{
    const struct block_test *test = argument;
    struct mbk *k = kernels_open(test->backend, 3);
    CHECK(mbk_supports(k, test->type) && mbk_supports(k, MBK_I4));
    for (int i = 0; i < 2 * (int)(sizeof products / sizeof products[0]); i++) {
        int p = i / 2;
        enum mbk_type type = i % 2 ? MBK_BF16 : MBK_F32;
        int64_t m = products[p].m, n = products[p].n, inner = products[p].k;
        if (test->type == MBK_Q4_K && inner % 256)
            continue;
        double *a = kernels_random(m * inner, -1, 1, 1), *w = kernels_random(n * inner, -1, 1, 2), *bias = kernels_random(n, -1, 1, 3);
        double *residual = kernels_random(m * n, -1, 1, 4), *c = kernels_zeros(m * n), *size = kernels_zeros(m * n);
        struct mbk_tensor ta = kernels_put(k, type, SHAPE(m, inner), a), tw = kernels_put(k, MBK_F32, SHAPE(n, inner), w);
        struct mbk_tensor tbias = kernels_put(k, type, SHAPE(n), bias), tresidual = kernels_put(k, type, SHAPE(m, n), residual);
        struct mbk_tensor tc = kernels_put(k, type, SHAPE(m, n), NULL), tq = allocate(k, test->type, n, inner);
        CHECK_RUN(k, mbk_quantize_blocks(k, &tw, &tq));
        CHECK_RUN(k, mbk_dequantize_blocks(k, &tq, &tw));
        double *back = kernels_get(k, &tw);
        expect_product(p, a, back, bias, residual, c, size);
        CHECK_RUN(k, mbk_matmul(k, &(struct mbk_product){ .a = &ta, .b = &tq, .c = &tc, .transpose_b = 1,
                                                          .bias = products[p].bias ? &tbias : NULL,
                                                          .residual = products[p].residual ? &tresidual : NULL,
                                                          .activation = products[p].activation }));
        kernels_check(k, "the product", &tc, c, size, roundings(test->backend, type, m));
        struct mbk_tensor *all[] = { &ta, &tw, &tbias, &tresidual, &tc };
        for (int j = 0; j < 5; j++)
            kernels_drop(k, all[j]);
        mbk_free(k, tq.data);
        double *host[] = { a, w, bias, residual, c, size, back };
        for (int j = 0; j < 7; j++)
            free(host[j]);
    }
    kernels_close(k);
}

/* Rows of a table of blocks are the rows of the table made floats. */
static void rows_body(const void *argument)
{
    const struct block_test *test = argument;
    static const int64_t shapes[][3] = { { 1, 1, 256 }, { 37, 5, 256 }, { 4, 300, 1536 }, { 0, 3, 256 } };
    struct mbk *k = kernels_open(test->backend, 3);
    for (int s = 0; s < 2 * (int)(sizeof shapes / sizeof shapes[0]); s++) {
        int64_t rows = shapes[s / 2][0], table = shapes[s / 2][1], n = shapes[s / 2][2];
        enum mbk_type type = s % 2 ? MBK_BF16 : MBK_F32;
        double *x = kernels_random(table * n, -1, 1, 1), *ids = kernels_random(rows, 0, (double)table, 2), *y = kernels_zeros(rows * n);
        for (int64_t r = 0; r < rows; r++)
            ids[r] = floor(ids[r]);
        struct mbk_tensor tx = kernels_put(k, MBK_F32, SHAPE(table, n), x), tids = kernels_put(k, MBK_I32, SHAPE(rows), ids);
        struct mbk_tensor ty = kernels_put(k, type, SHAPE(rows, n), NULL), tq = allocate(k, test->type, table, n);
        CHECK_RUN(k, mbk_quantize_blocks(k, &tx, &tq));
        CHECK_RUN(k, mbk_dequantize_blocks(k, &tq, &tx));
        double *back = kernels_get(k, &tx);
        for (int64_t i = 0; i < rows * n; i++)
            y[i] = kernels_round(type, back[(int64_t)ids[i / n] * n + i % n]);
        CHECK_RUN(k, mbk_embedding(k, &tq, &tids, &ty));
        kernels_check(k, "rows of the table", &ty, y, NULL, 0);
        struct mbk_tensor *all[] = { &tx, &tids, &ty };
        for (int i = 0; i < 3; i++)
            kernels_drop(k, all[i]);
        mbk_free(k, tq.data);
        double *host[] = { x, ids, y, back };
        for (int i = 0; i < 4; i++)
            free(host[i]);
    }
    kernels_close(k);
}

/* -- Groups of 4 bits. */

static void group_body(const void *argument)
{
    const struct block_test *test = argument;
    static const int64_t shapes[][3] = { { 1, 2, 2 }, { 3, 6, 2 }, { 0, 8, 4 }, { 5, 96, 32 }, { 257, 14, 14 }, { 7, 1030, 206 },
                                         { 2, 4096, 128 } };
    struct mbk *k = kernels_open(test->backend, 3);
    for (int s = 0; s < (int)(sizeof shapes / sizeof shapes[0]); s++) {
        int64_t rows = shapes[s][0], n = shapes[s][1], group = shapes[s][2], count = rows * n;
        double *x = kernels_random(count, -1, 1, 1), *scales = kernels_zeros(count / group), *back = kernels_zeros(count);
        for (int64_t i = 0; i < count; i++)
            x[i] = i / group == 3 ? 0 : ldexp(x[i], (int)(i / group % 7) * 4 - 12);
        struct mbk_tensor tx = kernels_put(k, test->type, SHAPE(rows, n), x), tback = kernels_put(k, test->type, SHAPE(rows, n), NULL);
        struct mbk_tensor ts = kernels_put(k, MBK_F32, SHAPE(rows, n / group), NULL), tq = allocate(k, MBK_I4, rows, n);
        CHECK_RUN(k, mbk_quantize_groups(k, &tx, (int)group, &tq, &ts));
        CHECK_RUN(k, mbk_dequantize_groups(k, &tq, &ts, (int)group, &tback));
        uint8_t *q = bytes_of(k, &tq);
        for (int64_t i = 0; i < count; i++) {
            double most = 0;
            for (int64_t j = i / group * group; j < i / group * group + group; j++)
                most = fmax(most, fabs(x[j]));
            double scale = most > 0 ? kernels_round(MBK_F32, most / 7) : 1, level = nearbyint(kernels_round(MBK_F32, x[i] / scale));
            int nibble = i % 2 ? q[i / 2] >> 4 : q[i / 2] & 15;
            scales[i / group] = scale;
            CHECKF((nibble ^ 8) - 8 == (int)level, "element %lld of %lldx%lld is %d, not %g", (long long)i, (long long)rows, (long long)n,
                   (nibble ^ 8) - 8, level);
            back[i] = kernels_round(test->type, level * scale);
        }
        kernels_check(k, "scales", &ts, scales, NULL, 0);
        kernels_check(k, "and back", &tback, back, NULL, 1);
        struct mbk_tensor *all[] = { &tx, &tback, &ts };
        for (int i = 0; i < 3; i++)
            kernels_drop(k, all[i]);
        mbk_free(k, tq.data);
        free(q);
        free(x);
        free(scales);
        free(back);
    }
    for (int p = 0; p < (int)(sizeof products / sizeof products[0]); p++) {
        int64_t m = products[p].m, n = products[p].n, inner = products[p].k;
        int group = inner % 64 ? 32 : p % 2 ? 64 : inner % 20 == 0 ? 20 : 2;
        if (products[p].residual)
            continue;
        double *a = kernels_random(m * inner, -1, 1, 1), *w = kernels_random(n * inner, -1, 1, 2), *bias = kernels_random(n, -1, 1, 3);
        double *c = kernels_zeros(m * n), *size = kernels_zeros(m * n);
        struct mbk_tensor ta = kernels_put(k, test->type, SHAPE(m, inner), a), tw = kernels_put(k, MBK_F32, SHAPE(n, inner), w);
        struct mbk_tensor tbias = kernels_put(k, test->type, SHAPE(n), bias), tc = kernels_put(k, test->type, SHAPE(m, n), NULL);
        struct mbk_tensor ts = kernels_put(k, MBK_F32, SHAPE(n, inner / group), NULL), tq = allocate(k, MBK_I4, n, inner);
        CHECK_RUN(k, mbk_quantize_groups(k, &tw, group, &tq, &ts));
        CHECK_RUN(k, mbk_dequantize_groups(k, &tq, &ts, group, &tw));
        double *back = kernels_get(k, &tw);
        expect_product(p, a, back, bias, NULL, c, size);
        CHECK_RUN(k, mbk_linear_int4(k, &ta, &tq, &ts, group, products[p].bias ? &tbias : NULL, products[p].activation, &tc));
        kernels_check(k, "the linear layer", &tc, c, size, roundings(test->backend, test->type, m));
        struct mbk_tensor *all[] = { &ta, &tw, &tbias, &tc, &ts };
        for (int j = 0; j < 5; j++)
            kernels_drop(k, all[j]);
        mbk_free(k, tq.data);
        double *host[] = { a, w, bias, c, size, back };
        for (int j = 0; j < 6; j++)
            free(host[j]);
    }
    kernels_close(k);
}

TEST_TABLE
{
    static struct block_test tests[KERNELS_BACKENDS * 5];
    struct block_test *t = tests;
    for (int b = 0; b < KERNELS_BACKENDS; b++) {
        for (int i = 0; i < 3; i++, t++) {
            *t = (struct block_test){ kernels_backends[b], formats[i] };
            const char *type = mbk_type_name(t->type);
            test_add(recorded_body, t, "%s: blocks of %s are GGUF's to the bit, there and back", t->backend, type);
            test_add(narrow_body, t, "%s: blocks of %s from and to bfloat16, and of what is not finite", t->backend, type);
            test_add(product_body, t, "%s: products of weights in %s", t->backend, type);
            test_add(rows_body, t, "%s: rows of a table in %s", t->backend, type);
        }
        for (int y = 0; y < 2; y++, t++) {
            *t = (struct block_test){ kernels_backends[b], y ? MBK_BF16 : MBK_F32 };
            test_add(group_body, t, "%s, %s: groups of 4 bits, there and back, and linear layers of them", t->backend,
                     mbk_type_name(t->type));
        }
    }
}

TEST("cpu: rows that are no whole blocks or groups are refused by both shapes")
{
    struct mbk *k = kernels_open("cpu", 1);
    float x[512] = { 0 };
    uint8_t q[512];
    struct mbk_tensor tx = mbk_tensor2(x, MBK_F32, 2, 33), tq = mbk_tensor2(q, MBK_Q8_0, 2, 33), ts = mbk_tensor2(x, MBK_F32, 2, 3);
    CHECK_EQ(mbk_quantize_blocks(k, &tx, &tq), -1);
    CHECK_CONTAINS(mbk_error(k), "F32 [2, 33]");
    CHECK_CONTAINS(mbk_error(k), "Q8_0 [2, 33]");
    struct mbk_tensor t4 = mbk_tensor2(q, MBK_I4, 2, 33);
    CHECK_EQ(mbk_quantize_groups(k, &tx, 11, &t4, &ts), -1);
    CHECK_CONTAINS(mbk_error(k), "F32 [2, 33]");
    CHECK_CONTAINS(mbk_error(k), "F32 [2, 3]");
    struct mbk_tensor a = mbk_tensor2(x, MBK_F32, 1, 64), w = mbk_tensor2(q, MBK_Q4_0, 2, 96), c = mbk_tensor2(x, MBK_F32, 1, 2);
    CHECK_EQ(mbk_matmul(k, &(struct mbk_product){ .a = &a, .b = &w, .c = &c, .transpose_b = 1 }), -1);
    CHECK_CONTAINS(mbk_error(k), "F32 [1, 64]");
    CHECK_CONTAINS(mbk_error(k), "Q4_0 [2, 96]");
    kernels_close(k);
}
