/* product.c: matrix products, linear layers and their gradients, on every backend, against float64. */
#include "kernels.h"
#include "reference/reference.h"
#include "test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct product_case {
    int64_t m, n, k;
    int transpose_a, transpose_b;
    double alpha, beta;
    int bias, residual, before;
    enum mbk_activation activation;
} cases[] = {
    { 1, 1, 1, 0, 0, 1, 0, 0, 0, 0, MBK_NONE },
    { 0, 3, 5, 0, 1, 1, 0, 0, 0, 0, MBK_NONE },
    { 3, 0, 5, 0, 1, 1, 0, 0, 0, 0, MBK_NONE },
    { 3, 5, 0, 0, 1, 1, 0, 1, 0, 0, MBK_NONE },
    { 3, 5, 0, 0, 1, 1, 0.5, 0, 0, 0, MBK_NONE },
    { 2, 3, 7, 0, 0, 1, 0, 0, 0, 0, MBK_NONE },
    { 7, 5, 3, 1, 0, 1, 0, 0, 0, 0, MBK_NONE },
    { 5, 7, 3, 0, 1, 1, 0, 1, 0, 0, MBK_RELU },
    { 3, 4, 2, 1, 1, 1, 0, 0, 0, 0, MBK_NONE },
    { 1, 67, 131, 0, 1, 1, 0, 1, 0, 0, MBK_NONE },
    { 1, 67, 131, 0, 0, 1, 0, 1, 0, 0, MBK_NONE },
    { 2, 33, 1031, 0, 1, 1, 0, 1, 0, 1, MBK_SILU },
    { 17, 49, 257, 0, 0, 1, 0, 1, 1, 1, MBK_GELU },
    { 17, 49, 257, 1, 1, 1, 0, 1, 1, 1, MBK_GELU_TANH },
    { 101, 97, 263, 0, 1, 1, 0, 1, 1, 1, MBK_TANH },
    { 97, 101, 521, 1, 0, 1, 1, 0, 0, 0, MBK_NONE },
    { 64, 96, 48, 0, 1, -0.5, 2, 1, 0, 0, MBK_SIGMOID },
    { 31, 15, 16, 0, 0, 0.25, 0, 0, 0, 0, MBK_NONE },
    { 193, 47, 64, 0, 1, 1, 0, 1, 0, 0, MBK_RELU },
    { 13, 241, 37, 1, 1, 1, 1, 0, 0, 0, MBK_NONE },
    /* so long that operands are taken in parts */
    { 2, 150, 60001, 0, 0, 1, 1, 1, 0, 0, MBK_NONE },
    { 150, 3, 60001, 1, 0, 1, 0, 1, 1, 1, MBK_TANH },
};

struct product_test {
    const struct product_case *c;
    const char *backend;
    enum mbk_type type, c_type;
    int threads;
};

static void product_body(const void *argument)
{
    const struct product_test *test = argument;
    const struct product_case *c = test->c;
    struct mbk *k = kernels_open(test->backend, test->threads);
    double *a = kernels_random(c->m * c->k, -1, 1, 1), *b = kernels_random(c->k * c->n, -1, 1, 2), *y = kernels_random(c->m * c->n, -1, 1,
            3);
    double *bias = kernels_random(c->n, -1, 1, 4), *residual = kernels_random(c->m * c->n, -1, 1, 5);
    int64_t a_shape[] = { c->transpose_a ? c->k : c->m, c->transpose_a ? c->m : c->k };
    int64_t b_shape[] = { c->transpose_b ? c->n : c->k, c->transpose_b ? c->k : c->n };
    struct mbk_tensor ta = kernels_put(k, test->type, 2, a_shape, a), tb = kernels_put(k, test->type, 2, b_shape, b);
    struct mbk_tensor tc = kernels_put(k, test->c_type, SHAPE(c->m, c->n), c->beta != 0 ? y : NULL);
    struct mbk_tensor tbias = kernels_put(k, test->type, SHAPE(c->n), bias);
    struct mbk_tensor tresidual = kernels_put(k, test->c_type, SHAPE(c->m, c->n), residual), tbefore = kernels_put(k, test->c_type,
            SHAPE(c->m, c->n), NULL);
    struct mbk_product p = { .a = &ta, .b = &tb, .c = &tc, .transpose_a = c->transpose_a, .transpose_b = c->transpose_b,
                             .alpha = (float)c->alpha, .beta = (float)c->beta, .bias = c->bias ? &tbias : NULL, .activation = c->activation,
                             .residual = c->residual ? &tresidual : NULL, .before = c->before ? &tbefore : NULL };
    CHECK_RUN(k, mbk_matmul(k, &p));
    double *magnitude = kernels_zeros(c->m * c->n), *before = kernels_zeros(c->m * c->n);
    ref_matmul(c->m, c->n, c->k, c->alpha, a, c->transpose_a, b, c->transpose_b, c->beta, y, magnitude);
    for (int64_t i = 0; i < c->m * c->n; i++) {
        y[i] += c->bias ? bias[i % c->n] : 0;
        before[i] = y[i];
        y[i] = ref_activation(c->activation, y[i]) + (c->residual ? residual[i] : 0);
        magnitude[i] += 3 + fabs(y[i]) / kernels_epsilon(MBK_F32) * (test->c_type == MBK_BF16 ? kernels_epsilon(MBK_BF16) / 4 : 0);
    }
    kernels_check(k, "c", &tc, y, magnitude, (double)c->k + 4);
    if (c->before)
        kernels_check(k, "before", &tbefore, before, magnitude, (double)c->k + 4);
    struct mbk_tensor *all[] = { &ta, &tb, &tc, &tbias, &tresidual, &tbefore };
    for (int i = 0; i < 6; i++)
        kernels_drop(k, all[i]);
    double *host[] = { a, b, y, bias, residual, magnitude, before };
    for (int i = 0; i < 7; i++)
        free(host[i]);
    kernels_close(k);
}

TEST_TABLE
{
    static const enum mbk_type types[][2] = { { MBK_F32, MBK_F32 }, { MBK_BF16, MBK_BF16 }, { MBK_BF16, MBK_F32 } };
    enum { CASES = sizeof cases / sizeof cases[0] };
    static struct product_test tests[KERNELS_BACKENDS * 3 * CASES];
    struct product_test *t = tests;
    for (int b = 0; b < KERNELS_BACKENDS; b++)
        for (int y = 0; y < 3; y++)
            for (int i = 0; i < (int)CASES; i++, t++) {
                const struct product_case *c = &cases[i];
                *t = (struct product_test){ c, kernels_backends[b], types[y][0], types[y][1], 1 + i % 3 };
                test_add(product_body, t, "%s, %s to %s: the product of %lldx%lldx%lld%s%s is right%s%s%s, activation %d", t->backend,
                         mbk_type_name(t->type), mbk_type_name(t->c_type), (long long)c->m, (long long)c->n, (long long)c->k,
                         c->transpose_a ? ", a transposed" : "", c->transpose_b ? ", b transposed" : "", c->bias ? ", bias" : "",
                         c->beta != 0 ? ", added to" : "", c->residual ? ", residual" : "", (int)c->activation);
            }
}

/* -- Batches and strides. */

struct backend_type {
    const char *backend;
    enum mbk_type type;
};

static void batch_body(const void *argument)
{
    const struct backend_type *test = argument;
    enum { B = 3, H = 2, M = 19, N = 21, K = 33 };
    struct mbk *k = kernels_open(test->backend, 2);
    double *a = kernels_random(B * H * M * K, -1, 1, 1), *b = kernels_random(B * H * K * N, -1, 1, 2), *y = kernels_zeros(B * H * M * N);
    double *magnitude = kernels_zeros(B * H * M * N);
    struct mbk_tensor ta = kernels_put(k, test->type, SHAPE(B, H, M, K), a), tb = kernels_put(k, test->type, SHAPE(B, H, K, N), b);
    struct mbk_tensor tc = kernels_put(k, test->type, SHAPE(B, H, M, N), NULL);
    CHECK_RUN(k, mbk_matmul(k, &(struct mbk_product){ .a = &ta, .b = &tb, .c = &tc }));
    for (int i = 0; i < B * H; i++)
        ref_matmul(M, N, K, 1, a + i * M * K, 0, b + i * K * N, 0, 0, y + i * M * N, magnitude + i * M * N);
    kernels_check(k, "a batch", &tc, y, magnitude, K);
    /* One b for all, then one a, transposed. */
    struct mbk_tensor one = mbk_tensor2(tb.data, tb.type, K, N);
    CHECK_RUN(k, mbk_matmul(k, &(struct mbk_product){ .a = &ta, .b = &one, .c = &tc }));
    for (int i = 0; i < B * H; i++)
        ref_matmul(M, N, K, 1, a + i * M * K, 0, b, 0, 0, y + i * M * N, magnitude + i * M * N);
    kernels_check(k, "one b for a batch", &tc, y, magnitude, K);
    struct mbk_tensor turned = mbk_tensor2(ta.data, ta.type, K, M);
    CHECK_RUN(k, mbk_matmul(k, &(struct mbk_product){ .a = &turned, .b = &tb, .c = &tc, .transpose_a = 1 }));
    for (int i = 0; i < B * H; i++)
        ref_matmul(M, N, K, 1, a, 1, b + i * K * N, 0, 0, y + i * M * N, magnitude + i * M * N);
    kernels_check(k, "one a for a batch", &tc, y, magnitude, K);
    kernels_drop(k, &ta);
    kernels_drop(k, &tb);
    kernels_drop(k, &tc);
    free(a);
    free(b);
    free(y);
    free(magnitude);
    kernels_close(k);
}

/* Columns 3 … 12 of a wider matrix, as heads of attention are. */
static void stride_body(const void *argument)
{
    const struct backend_type *test = argument;
    enum { M = 11, N = 9, K = 10, WIDE = 29, FIRST = 3 };
    struct mbk *k = kernels_open(test->backend, 2);
    double *a = kernels_random(M * WIDE, -1, 1, 1), *b = kernels_random(N * WIDE, -1, 1, 2), *c = kernels_random(M * WIDE, -1, 1, 3);
    struct mbk_tensor ta = kernels_put(k, test->type, SHAPE(M, WIDE), a), tb = kernels_put(k, test->type, SHAPE(N, WIDE), b),
                      tc = kernels_put(k, test->type, SHAPE(M, WIDE), c);
    size_t size = test->type == MBK_F32 ? 4 : 2;
    struct mbk_tensor va = mbk_tensor2((char *)ta.data + FIRST * size, test->type, M, K), vb = mbk_tensor2((char *)tb.data + FIRST * size,
            test->type, N, K),
                      vc = mbk_tensor2((char *)tc.data + FIRST * size, test->type, M, N);
    struct mbk_product p = { .a = &va, .b = &vb, .c = &vc, .transpose_b = 1, .lda = WIDE, .ldb = WIDE, .ldc = WIDE };
    CHECK_RUN(k, mbk_matmul(k, &p));
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            c[i * WIDE + FIRST + j] = 0;
            for (int q = 0; q < K; q++)
                c[i * WIDE + FIRST + j] += a[i * WIDE + FIRST + q] * b[j * WIDE + FIRST + q];
        }
    double *magnitude = kernels_zeros(M * WIDE);
    for (int i = 0; i < M * WIDE; i++)
        magnitude[i] = K;
    kernels_check(k, "a part of a matrix, and what lies around it", &tc, c, magnitude, 4);
    kernels_drop(k, &ta);
    kernels_drop(k, &tb);
    kernels_drop(k, &tc);
    free(a);
    free(b);
    free(c);
    free(magnitude);
    kernels_close(k);
}

/* -- The linear layer's gradients: d Σ weight · (x wᵀ + bias) by finite differences. */

enum { R = 7, I = 13, O = 5 };

struct linear {
    double *x, *w, *bias, *weight;
};

static double linear_loss(void *context)
{
    const struct linear *l = context;
    double y[R * O], sum = 0;
    ref_matmul(R, O, I, 1, l->x, 0, l->w, 1, 0, y, NULL);
    for (int i = 0; i < R * O; i++)
        sum += l->weight[i] * (y[i] + l->bias[i % O]);
    return sum;
}

static void linear_body(const void *argument)
{
    const struct backend_type *test = argument;
    struct mbk *k = kernels_open(test->backend, 2);
    struct linear l = { kernels_random(R * I, -1, 1, 1), kernels_random(O * I, -1, 1, 2), kernels_random(O, -1, 1, 3),
                        kernels_random(R * O, -1, 1, 4) };
    struct mbk_tensor x = kernels_put(k, test->type, SHAPE(R, I), l.x), w = kernels_put(k, test->type, SHAPE(O, I), l.w);
    struct mbk_tensor bias = kernels_put(k, test->type, SHAPE(O), l.bias), dy = kernels_put(k, test->type, SHAPE(R, O), l.weight);
    double *dw = kernels_random(O * I, -1, 1, 5), *dbias = kernels_random(O, -1, 1, 6), gradient[R * I], one[R * I];
    struct mbk_tensor tdx = kernels_put(k, test->type, SHAPE(R, I), NULL), tdw = kernels_put(k, test->type, SHAPE(O, I), dw),
                      tdbias = kernels_put(k, test->type, SHAPE(O), dbias), y = kernels_put(k, test->type, SHAPE(R, O), NULL);
    for (int i = 0; i < R * I; i++)
        one[i] = 10;
    double expected[R * O];
    ref_matmul(R, O, I, 1, l.x, 0, l.w, 1, 0, expected, NULL);
    for (int i = 0; i < R * O; i++)
        expected[i] += l.bias[i % O];
    CHECK_RUN(k, mbk_linear(k, &x, &w, &bias, MBK_NONE, NULL, &y));
    kernels_check(k, "y", &y, expected, one, 20);
    CHECK_RUN(k, mbk_linear_backward(k, &x, &w, &dy, &tdx, &tdw, &tdbias));
    kernels_differentiate(linear_loss, &l, l.x, R * I, gradient);
    kernels_check(k, "dx", &tdx, gradient, one, 20);
    kernels_differentiate(linear_loss, &l, l.w, O * I, gradient);
    for (int i = 0; i < O * I; i++)
        gradient[i] += dw[i];
    kernels_check(k, "dw, added to", &tdw, gradient, one, 20);
    kernels_differentiate(linear_loss, &l, l.bias, O, gradient);
    for (int i = 0; i < O; i++)
        gradient[i] += dbias[i];
    kernels_check(k, "dbias, added to", &tdbias, gradient, one, 20);
    CHECK_RUN(k, mbk_linear_backward(k, &x, &w, &dy, NULL, NULL, NULL));
    struct mbk_tensor *all[] = { &x, &w, &bias, &dy, &tdx, &tdw, &tdbias, &y };
    for (int i = 0; i < 8; i++)
        kernels_drop(k, all[i]);
    double *host[] = { l.x, l.w, l.bias, l.weight, dw, dbias };
    for (int i = 0; i < 6; i++)
        free(host[i]);
    kernels_close(k);
}

/* -- Infinity and NaN. */

static void special_body(const void *argument)
{
    const struct backend_type *test = argument;
    struct mbk *k = kernels_open(test->backend, 2);
    double a[] = { INFINITY, 1, NAN, 1, 1, 1, 0, -INFINITY, 1 }, b[] = { 1, 0, 0, 1, 0, 0, 1, 0, 1 }, c[] = { NAN, NAN, NAN, NAN, NAN,
            NAN, NAN, NAN, NAN };
    struct mbk_tensor ta = kernels_put(k, test->type, SHAPE(3, 3), a), tb = kernels_put(k, test->type, SHAPE(3, 3), b),
        tc = kernels_put(k, test->type, SHAPE(3, 3), c);
    CHECK_RUN(k, mbk_matmul(k, &(struct mbk_product){ .a = &ta, .b = &tb, .c = &tc }));
    double expected[9];
    ref_matmul(3, 3, 3, 1, a, 0, b, 0, 0, expected, NULL);
    kernels_check(k, "c, which held NaN", &tc, expected, NULL, 4);
    kernels_drop(k, &ta);
    kernels_drop(k, &tb);
    kernels_drop(k, &tc);
    kernels_close(k);
}

/* -- Bytes. */

static const int64_t int8_cases[][3] = { { 1, 1, 1 }, { 1, 10, 32 }, { 3, 5, 7 }, { 17, 49, 131 }, { 64, 48, 64 }, { 50, 97, 258 }, { 2,
        3, 0 }, { 5, 0, 4 } };

static void int8_body(const void *argument)
{
    const struct backend_type *test = argument;
    struct mbk *k = kernels_open(test->backend, 2);
    for (int i = 0; i < (int)(sizeof int8_cases / sizeof int8_cases[0]); i++) {
        int64_t m = int8_cases[i][0], n = int8_cases[i][1], depth = int8_cases[i][2];
        double *a = kernels_random(m * depth, -128, 128, 1), *b = kernels_random(n * depth, -128, 128, 2), *c = kernels_zeros(m * n);
        for (int64_t j = 0; j < m * depth; j++)
            a[j] = j % 11 == 0 ? -128 : floor(a[j]);
        for (int64_t j = 0; j < n * depth; j++)
            b[j] = j % 13 == 0 ? -128 : floor(b[j]);
        double *a_scales = kernels_random(m, 0.01, 0.1, 3), *b_scales = kernels_random(n, 0.01, 0.1, 4), *bias = kernels_random(n, -1, 1,
                5);
        struct mbk_tensor ta = kernels_put(k, MBK_I8, SHAPE(m, depth), a), tb = kernels_put(k, MBK_I8, SHAPE(n, depth), b);
        struct mbk_tensor tsa = kernels_put(k, MBK_F32, SHAPE(m), a_scales), tsb = kernels_put(k, MBK_F32, SHAPE(n), b_scales);
        struct mbk_tensor tbias = kernels_put(k, MBK_F32, SHAPE(n), bias), ty = kernels_put(k, test->type, SHAPE(m, n), NULL);
        struct mbk_tensor tc = kernels_put(k, MBK_I32, SHAPE(m, n), NULL), tone = kernels_put(k, MBK_F32, 0, NULL, b_scales);
        ref_matmul(m, n, depth, 1, a, 0, b, 1, 0, c, NULL);
        CHECK_RUN(k, mbk_matmul(k, &(struct mbk_product){ .a = &ta, .b = &tb, .c = &tc, .transpose_b = 1 }));
        kernels_check(k, "integers", &tc, c, NULL, 0);
        double *y = kernels_zeros(m * n), *magnitude = kernels_zeros(m * n);
        for (int each = 0; each < 2; each++) {
            for (int64_t j = 0; j < m * n; j++) {
                double z = c[j] * a_scales[0] * b_scales[j % n];
                if (each)
                    z = c[j] * a_scales[j / n] * b_scales[j % n];
                y[j] = ref_activation(MBK_RELU, z + bias[j % n]);
                magnitude[j] = fabs(z) + 1;
            }
            struct mbk_tensor scalar = mbk_tensor(tsa.data, MBK_F32, 0, NULL);
            CHECK_RUN(k, mbk_linear_int8(k, &ta, each ? &tsa : &scalar, &tb, &tsb, &tbias, MBK_RELU, &ty));
            kernels_check(k, each ? "a scale for each row" : "one scale", &ty, y, magnitude, 8);
        }
        struct mbk_tensor *all[] = { &ta, &tb, &tsa, &tsb, &tbias, &ty, &tc, &tone };
        for (int j = 0; j < 8; j++)
            kernels_drop(k, all[j]);
        double *host[] = { a, b, c, a_scales, b_scales, bias, y, magnitude };
        for (int j = 0; j < 8; j++)
            free(host[j]);
    }
    kernels_close(k);
}

TEST_TABLE
{
    static struct backend_type tests[KERNELS_BACKENDS * 2];
    struct backend_type *t = tests;
    for (int b = 0; b < KERNELS_BACKENDS; b++)
        for (int y = 0; y < 2; y++, t++) {
            *t = (struct backend_type){ kernels_backends[b], y ? MBK_BF16 : MBK_F32 };
            const char *type = mbk_type_name(t->type);
            test_add(batch_body, t, "%s, %s: a batch of products, and one operand for all of it", t->backend, type);
            test_add(stride_body, t, "%s, %s: a product of parts of wider matrices touches nothing around them", t->backend, type);
            test_add(linear_body, t, "%s, %s: a linear layer's gradients are its finite differences, and parameters' are added to",
                     t->backend, type);
            test_add(special_body, t, "%s, %s: NaN and infinity go through a product where IEEE says, and beta 0 does not read c",
                     t->backend, type);
            test_add(int8_body, t, "%s, I8 to %s: products of bytes are exact, and scaled, whatever the shape", t->backend, type);
        }
}

/* -- Every level of the processor that this one has. */

static void level_body(const void *argument)
{
    setenv("MBK_CPU", argument, 1);
    for (int i = 0; i < (int)(sizeof cases / sizeof cases[0]); i++)
        for (int type = MBK_F32; type <= MBK_BF16; type++)
            product_body(&(struct product_test){ &cases[i], "cpu", (enum mbk_type)type, MBK_F32, 2 });
    int8_body(&(struct backend_type){ "cpu", MBK_F32 });
    unsetenv("MBK_CPU");
}

TEST_TABLE
{
    static const char *const levels[] = { "plain", "blas", "avx2", "avx-vnni", "avx512" };
    for (int i = 0; i < 5; i++)
        test_add(level_body, levels[i], "cpu: products are right with %s instructions alone", levels[i]);
}
