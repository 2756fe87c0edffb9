/* interface.c: what holds for all operations: errors that name both shapes, streams, memory, threads, and the same bits again. */
#include "kernels.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>

static float data[4096];
static int32_t integers[64];

static struct mbk_tensor f2(int64_t a, int64_t b)
{
    return mbk_tensor2(data, MBK_F32, a, b);
}

#define FAILS(k, call, ...) \
    do { \
        static const char *const parts[] = { __VA_ARGS__ }; \
        CHECK_EQ(call, -1); \
        for (size_t i_ = 0; i_ < sizeof parts / sizeof parts[0]; i_++) \
            CHECK_CONTAINS(mbk_error(k), parts[i_]); \
    } while (0)

TEST("an operation that gets shapes or types that do not fit says which, names both, and touches nothing")
{
    struct mbk *k = kernels_open("cpu", 1);
    memset(data, 0, sizeof data);
    struct mbk_tensor a = f2(2, 3), b = f2(4, 5), c = f2(2, 5), h = mbk_tensor2(data, MBK_BF16, 2, 3), i = mbk_tensor2(integers, MBK_I32,
            2, 3);
    struct mbk_tensor v = mbk_tensor1(data, MBK_F32, 4), labels = mbk_tensor1(integers, MBK_I32, 3), losses = mbk_tensor1(data, MBK_F32, 2);
    FAILS(k, mbk_matmul(k, &(struct mbk_product){ .a = &a, .b = &b, .c = &c }), "matmul: a is F32 [2, 3] and b is F32 [4, 5]", "inner");
    FAILS(k, mbk_matmul(k, &(struct mbk_product){ .a = &a, .b = &b, .c = &c, .transpose_b = 1 }), "b transposed is F32 [4, 5]");
    FAILS(k, mbk_matmul(k, &(struct mbk_product){ .a = &a, .c = &c }), "matmul: b is missing");
    FAILS(k, mbk_matmul(k, &(struct mbk_product){ .a = &a, .b = &h, .c = &c, .transpose_b = 1 }),
          "no product takes F32 and BF16 transposed to F32");
    FAILS(k, mbk_add(k, &a, &c, &a), "add: a is F32 [2, 3] and b is F32 [2, 5]");
    FAILS(k, mbk_add(k, &a, &v, &a), "a is F32 [2, 3] and b is F32 [4]", "C is 3 in one and 4 in the other");
    FAILS(k, mbk_add(k, &a, &h, &a), "a is F32 [2, 3] and b is BF16 [2, 3]", "the types must be the same");
    FAILS(k, mbk_activate(k, MBK_RELU, &i, &a), "activate: x is I32 [2, 3], not F32 or BF16");
    FAILS(k, mbk_activate(k, (enum mbk_activation)77, &a, &a), "activate: there is no activation 77");
    FAILS(k, mbk_linear(k, &a, &b, NULL, MBK_NONE, NULL, &c), "linear: x is F32 [2, 3] and w is F32 [4, 5]",
          "I is 3 in one and 5 in the other");
    FAILS(k, mbk_cross_entropy(k, &a, &labels, 0, 1, &losses, NULL), "logits is F32 [2, 3] and labels is I32 [3]", "R is 2 in one and 3");
    FAILS(k, mbk_cross_entropy(k, &a, &i, 0, 1, &losses, NULL), "labels is I32 [2, 3]");
    FAILS(k, mbk_softmax(k, &a, &v), "x is F32 [2, 3] and y is F32 [4]");
    FAILS(k, mbk_copy(k, &a, &h), "from is F32 [2, 3] and to is BF16 [2, 3]");
    struct mbk_tensor x = mbk_tensor4(data, MBK_F32, 1, 4, 4, 2), w = mbk_tensor4(data, MBK_F32, 3, 3, 3, 2), y = mbk_tensor4(data,
            MBK_F32, 1, 4, 4, 3);
    FAILS(k, mbk_conv2d(k, &(struct mbk_window){ 3, 3, 1, 1, 0, 0 }, &x, &w, NULL, MBK_NONE, NULL, &y),
          "x is F32 [1, 4, 4, 2] and y is F32 [1, 4, 4, 3]");
    FAILS(k, mbk_conv2d(k, &(struct mbk_window){ 5, 5, 1, 1, 2, 2 }, &x, &w, NULL, MBK_NONE, NULL, &y), "weight is F32 [3, 3, 3, 2]");
    FAILS(k, mbk_conv2d(k, &(struct mbk_window){ 1, 1, 1, 1, 1, 0 }, &x, &w, NULL, MBK_NONE, NULL, &y), "padding 1, 0 must be less");
    struct mbk_tensor none = mbk_tensor2(NULL, MBK_F32, 2, 3), odd = mbk_tensor2((char *)data + 1, MBK_F32, 2, 3), deep = a, less = f2(-1,
            3);
    struct mbk_tensor huge = mbk_tensor3(data, MBK_F32, INT64_MAX / 2, INT64_MAX / 2, 4);
    deep.rank = 9;
    FAILS(k, mbk_scale(k, 2, &none), "scale: x, F32 [2, 3], has no data");
    FAILS(k, mbk_scale(k, 2, &odd), "does not lie at a multiple of 4 bytes, as its type wants");
    struct mbk_tensor row = mbk_tensor2(data, MBK_F32, 1, 32), blocks = mbk_tensor2((char *)data + 1, MBK_Q8_0, 1, 32);
    FAILS(k, mbk_quantize_blocks(k, &row, &blocks), "q, Q8_0 [1, 32], does not lie at a multiple of 2 bytes, as its type wants");
    FAILS(k, mbk_scale(k, 2, &deep), "x has rank 9");
    FAILS(k, mbk_scale(k, 2, &less), "x is F32 [-1, 3], which no memory holds");
    FAILS(k, mbk_scale(k, 2, &huge), "which no memory holds");
    FAILS(k, mbk_dropout(k, 1, 0, 0, &a, &a), "the rate 1 is not in [0, 1)");
    for (size_t j = 0; j < sizeof data / sizeof data[0]; j++)
        CHECK(data[j] == 0);
    CHECK_RUN(k, mbk_scale(k, 2, &a));
    kernels_close(k);
}

TEST("a device that there is not is refused by name")
{
    char message[200];
    struct mbk *k;
    CHECK_EQ(mbk_open("tpu", NULL, &k, message, sizeof message), -1);
    CHECK_STR(message, "there is no device \"tpu\"; there are cpu, cuda and cuda:N");
    CHECK_EQ(mbk_open("cuda:x", NULL, &k, message, sizeof message), -1);
    CHECK_CONTAINS(message, "does not end in a number");
    CHECK_EQ(mbk_open("cpu:1", NULL, &k, message, sizeof message), -1);
    CHECK(k == NULL);
    CHECK(!mbk_available("tpu") && !mbk_available("cpu:1") && mbk_available("cpu"));
}

TEST("views share data, count elements and keep to their rows")
{
    struct mbk_tensor t = f2(6, 4), r = mbk_rows(&t, 2, 3), s = mbk_reshaped(&t, SHAPE(2, 3, 4)), bad = mbk_reshaped(&t, SHAPE(5, 5));
    CHECK(r.data == data + 8 && mbk_count(&r) == 12 && s.data == data && s.rank == 3 && bad.data == NULL);
    CHECK(mbk_rows(&t, 4, 3).data == NULL && mbk_rows(&t, -1, 1).data == NULL);
    struct mbk_tensor q = mbk_tensor2(data, MBK_Q4_K, 3, 512), i4 = mbk_tensor2(data, MBK_I4, 3, 5);
    CHECK_EQ(mbk_bytes(&q), 3 * 2 * 144);
    CHECK_EQ(mbk_bytes(&i4), 9);
    CHECK_STR(mbk_type_name(MBK_F8_E4M3), "F8_E4M3");
    CHECK_STR(mbk_type_name((enum mbk_type)99), "");
    CHECK_EQ(mbk_window_out(28, 3, 2, 1), 14);
    CHECK_EQ(mbk_window_out(2, 3, 1, 0), 0);
}

/* -- On every backend. */

static void memory_body(const void *backend)
{
    struct mbk *k = kernels_open(backend, 2);
    size_t before = mbk_memory_used(k);
    unsigned char *p = mbk_alloc(k, 1000), host[1000];
    CHECK(p != NULL && (uintptr_t)p % 256 == 0);
    CHECK(mbk_memory_used(k) >= before + 1000);
    memset(host, 1, sizeof host);
    CHECK_RUN(k, mbk_read(k, host, p, sizeof host));
    for (int i = 0; i < 1000; i++)
        CHECK_EQ(host[i], 0);
    memset(host, 7, sizeof host);
    CHECK_RUN(k, mbk_write(k, p + 100, host, 800));
    struct mbk_tensor from = mbk_tensor1(p + 100, MBK_U8, 50), to = mbk_tensor2(p, MBK_U8, 5, 10), part = mbk_tensor1(p + 500, MBK_U8, 10);
    CHECK_RUN(k, mbk_copy(k, &from, &to));
    CHECK_RUN(k, mbk_zero(k, &part));
    CHECK_RUN(k, mbk_read(k, host, p, sizeof host));
    for (int i = 0; i < 1000; i++)
        CHECK_EQ(host[i], i < 50 || (i >= 100 && i < 900 && (i < 500 || i >= 510)) ? 7 : 0);
    mbk_free(k, p);
    mbk_free(k, NULL);
    CHECK_EQ(mbk_memory_used(k), before);
    CHECK(mbk_alloc(k, SIZE_MAX / 2 + 1) == NULL);
    CHECK_CONTAINS(mbk_error(k), "no memory");
    kernels_close(k);
}

/* One step of a small network: everything that sums. */
struct net {
    struct mbk *k;
    struct mbk_tensor x, w1, b1, w2, h, before, y, dy, dh, dx, dw1, db1, dw2, losses, labels, norm, image, filter, map, dimage, dfilter,
        soft;
};

static struct net net_open(struct mbk *k)
{
    enum { ROWS = 150, IN = 37, HIDDEN = 131, OUT = 11 };
    double *r[] = { kernels_random(ROWS * IN, -1, 1, 1), kernels_random(HIDDEN * IN, -1, 1, 2), kernels_random(HIDDEN, -1, 1, 3),
                    kernels_random(OUT * HIDDEN, -1, 1, 4),
                    kernels_random(ROWS, 0, OUT, 5), kernels_random(5 * 9 * 9 * 3, -1, 1, 6), kernels_random(4 * 3 * 3 * 3, -1, 1, 7) };
    struct net n = {
        .k = k, .x = kernels_put(k, MBK_F32, SHAPE(ROWS, IN), r[0]), .w1 = kernels_put(k, MBK_F32, SHAPE(HIDDEN, IN), r[1]),
        .b1 = kernels_put(k, MBK_F32, SHAPE(HIDDEN), r[2]), .w2 = kernels_put(k, MBK_F32, SHAPE(OUT, HIDDEN), r[3]),
        .labels = kernels_put(k, MBK_I32, SHAPE(ROWS), r[4]), .h = kernels_put(k, MBK_F32, SHAPE(ROWS, HIDDEN), NULL),
        .before = kernels_put(k, MBK_F32, SHAPE(ROWS, HIDDEN), NULL), .y = kernels_put(k, MBK_F32, SHAPE(ROWS, OUT), NULL),
        .dy = kernels_put(k, MBK_F32, SHAPE(ROWS, OUT), NULL), .dh = kernels_put(k, MBK_F32, SHAPE(ROWS, HIDDEN), NULL),
        .dx = kernels_put(k, MBK_F32, SHAPE(ROWS, IN), NULL), .dw1 = kernels_put(k, MBK_F32, SHAPE(HIDDEN, IN), NULL),
        .db1 = kernels_put(k, MBK_F32, SHAPE(HIDDEN), NULL), .dw2 = kernels_put(k, MBK_F32, SHAPE(OUT, HIDDEN), NULL),
        .losses = kernels_put(k, MBK_F32, SHAPE(ROWS), NULL), .norm = kernels_put(k, MBK_F32, 0, NULL, NULL),
        .image = kernels_put(k, MBK_F32, SHAPE(5, 9, 9, 3), r[5]), .filter = kernels_put(k, MBK_F32, SHAPE(4, 3, 3, 3), r[6]),
        .map = kernels_put(k, MBK_F32, SHAPE(5, 9, 9, 4), NULL), .dimage = kernels_put(k, MBK_F32, SHAPE(5, 9, 9, 3), NULL),
        .dfilter = kernels_put(k, MBK_F32, SHAPE(4, 3, 3, 3), NULL), .soft = kernels_put(k, MBK_F32, SHAPE(ROWS, HIDDEN), NULL),
    };
    for (int i = 0; i < 7; i++)
        free(r[i]);
    return n;
}

/* All that comes out, as bytes; free with free. */
static unsigned char *net_step(struct net *n, size_t *bytes)
{
    struct mbk *k = n->k;
    struct mbk_window w = { 3, 3, 1, 1, 1, 1 };
    struct mbk_tensor *zero[] = { &n->dw1, &n->db1, &n->dw2, &n->dfilter };
    for (int i = 0; i < 4; i++)
        CHECK_RUN(k, mbk_zero(k, zero[i]));
    CHECK_RUN(k, mbk_linear(k, &n->x, &n->w1, &n->b1, MBK_GELU, &n->before, &n->h));
    CHECK_RUN(k, mbk_dropout(k, 0.1f, 3, 4, &n->h, &n->h));
    CHECK_RUN(k, mbk_linear(k, &n->h, &n->w2, NULL, MBK_NONE, NULL, &n->y));
    CHECK_RUN(k, mbk_cross_entropy(k, &n->y, &n->labels, 0.1f, 0.01f, &n->losses, &n->dy));
    CHECK_RUN(k, mbk_linear_backward(k, &n->h, &n->w2, &n->dy, &n->dh, &n->dw2, NULL));
    CHECK_RUN(k, mbk_activate_backward(k, MBK_GELU, &n->before, &n->dh, &n->dh));
    CHECK_RUN(k, mbk_linear_backward(k, &n->x, &n->w1, &n->dh, &n->dx, &n->dw1, &n->db1));
    CHECK_RUN(k, mbk_conv2d(k, &w, &n->image, &n->filter, NULL, MBK_NONE, NULL, &n->map));
    CHECK_RUN(k, mbk_conv2d_backward(k, &w, &n->image, &n->filter, &n->map, &n->dimage, &n->dfilter, NULL));
    CHECK_RUN(k, mbk_softmax(k, &n->h, &n->soft));
    struct mbk_parameter p[3] = { { .gradient = n->dw1 }, { .gradient = n->dw2 }, { .gradient = n->db1 } };
    CHECK_RUN(k, mbk_gradient_norm(k, p, 3, 1, &n->norm, NULL));
    const struct mbk_tensor *out[] = { &n->y, &n->losses, &n->dx, &n->dw1, &n->db1, &n->dw2, &n->map, &n->dimage, &n->dfilter, &n->soft,
                                       &n->norm };
    size_t all = 0;
    for (int i = 0; i < 11; i++)
        all += mbk_bytes(out[i]);
    unsigned char *host = malloc(all), *at = host;
    CHECK(host != NULL);
    for (int i = 0; i < 11; i++) {
        CHECK_RUN(k, mbk_read(k, at, out[i]->data, mbk_bytes(out[i])));
        at += mbk_bytes(out[i]);
    }
    *bytes = all;
    return host;
}

static void again_body(const void *backend)
{
    struct mbk *k = kernels_open(backend, 2);
    struct net n = net_open(k);
    size_t bytes;
    unsigned char *first = net_step(&n, &bytes);
    for (int i = 1; i < 100; i++) {
        unsigned char *next = net_step(&n, &bytes);
        CHECK_MEM(next, first, bytes);
        free(next);
    }
    free(first);
    kernels_close(k);
}

static void allocation_body(const void *backend)
{
    struct mbk *k = kernels_open(backend, 2);
    struct net n = net_open(k);
    size_t bytes, used = 0;
    for (int i = 0; i < 5; i++) {
        free(net_step(&n, &bytes));
        if (i > 0)
            CHECK_EQ(mbk_memory_used(k), used);
        used = mbk_memory_used(k);
    }
    kernels_close(k);
}

TEST_TABLE
{
    for (int b = 0; b < KERNELS_BACKENDS; b++) {
        const char *backend = kernels_backends[b];
        test_add(memory_body, backend, "%s: memory is zeroed, aligned, counted, and given back", backend);
        test_add(again_body, backend, "%s: a hundred runs of a training step give the same bits", backend);
        test_add(allocation_body, backend, "%s: after the first step no memory is taken", backend);
    }
}

TEST("cpu: any number of threads gives the same bits")
{
    unsigned char *one = NULL;
    size_t bytes;
    for (int threads = 1; threads <= 5; threads++) {
        struct mbk *k = kernels_open("cpu", threads);
        struct net n = net_open(k);
        unsigned char *found = net_step(&n, &bytes);
        if (one)
            CHECK_MEM(found, one, bytes);
        if (one)
            free(found);
        else
            one = found;
        kernels_close(k);
    }
    free(one);
}
