/* elementwise.c: activations, sums, casts, dropout and random numbers, on every backend, against float64. */
#include "kernels.h"
#include "reference/reference.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>

struct backend_type {
    const char *backend;
    enum mbk_type type;
    enum mbk_activation f;
};

static const int64_t sizes[] = { 0, 1, 3, 15, 17, 64, 257, 1031, 40009 };
enum { SIZES = sizeof sizes / sizeof sizes[0] };
static const char *const activation_names[] = { "none", "relu", "gelu", "gelu_tanh", "silu", "tanh", "sigmoid" };

static double total_of_one(void *context)
{
    double *at = context;
    return ref_activation((enum mbk_activation)at[1], at[0]);
}

static void activation_body(const void *argument)
{
    const struct backend_type *test = argument;
    struct mbk *k = kernels_open(test->backend, 3);
    for (int s = 0; s < SIZES; s++) {
        int64_t n = sizes[s];
        double *x = kernels_random(n, -6, 6, 1), *dy = kernels_random(n, -1, 1, 2), *y = kernels_zeros(n), *dx = kernels_zeros(n);
        for (int64_t i = 0; i < n && n > 100; i++)
            x[i] = i % 10 ? x[i] : 20 * x[i];
        struct mbk_tensor tx = kernels_put(k, test->type, SHAPE(n), x), tdy = kernels_put(k, test->type, SHAPE(n), dy);
        struct mbk_tensor ty = kernels_put(k, test->type, SHAPE(n), NULL), tdx = kernels_put(k, test->type, SHAPE(n), NULL);
        double *magnitude = kernels_zeros(n), *slope_magnitude = kernels_zeros(n);
        for (int64_t i = 0; i < n; i++) {
            double at[2] = { x[i], (double)test->f };
            y[i] = ref_activation(test->f, x[i]);
            kernels_differentiate(total_of_one, at, at, 1, &dx[i]);
            dx[i] = x[i] == 0 ? NAN : dx[i] * dy[i];
            magnitude[i] = 1 + fabs(x[i]);
            slope_magnitude[i] = 1 + fabs(x[i]) * 3;
        }
        CHECK_RUN(k, mbk_activate(k, test->f, &tx, &ty));
        kernels_check(k, "y", &ty, y, magnitude, 4);
        CHECK_RUN(k, mbk_activate_backward(k, test->f, &tx, &tdy, &tdx));
        kernels_check(k, "dx", &tdx, dx, slope_magnitude, 16);
        CHECK_RUN(k, mbk_activate(k, test->f, &tx, &tx));
        kernels_check(k, "y in place", &tx, y, magnitude, 4);
        struct mbk_tensor *all[] = { &tx, &tdy, &ty, &tdx };
        for (int i = 0; i < 4; i++)
            kernels_drop(k, all[i]);
        double *host[] = { x, dy, y, dx, magnitude, slope_magnitude };
        for (int i = 0; i < 6; i++)
            free(host[i]);
    }
    double special[] = { NAN, INFINITY, -INFINITY, 0, 3e38, -3e38, 1e-40 }, expected[7];
    struct mbk_tensor t = kernels_put(k, test->type, SHAPE(7), special);
    for (int i = 0; i < 7; i++)
        expected[i] = ref_activation(test->f, special[i]);
    CHECK_RUN(k, mbk_activate(k, test->f, &t, &t));
    double *found = kernels_get(k, &t);
    for (int i = 0; i < 5; i++) /* what IEEE leaves no doubt about: −∞ · 0 may be NaN or, as a limit, 0 */
        if (i != 2)
            CHECK_NEAR(found[i], expected[i], 1e-6 * fabs(expected[i]));
    free(found);
    kernels_drop(k, &t);
    kernels_close(k);
}

static void sums_body(const void *argument)
{
    const struct backend_type *test = argument;
    struct mbk *k = kernels_open(test->backend, 2);
    for (int s = 0; s < SIZES; s++) {
        int64_t n = sizes[s], rows = 3;
        double *a = kernels_random(rows * n, -1, 1, 1), *b = kernels_random(rows * n, -1, 1, 2), *row = kernels_random(n, -1, 1, 3),
            *y = kernels_zeros(rows * n),
               *one = kernels_zeros(rows * n);
        struct mbk_tensor ta = kernels_put(k, test->type, SHAPE(rows, n), a), tb = kernels_put(k, test->type, SHAPE(rows, n), b);
        struct mbk_tensor trow = kernels_put(k, test->type, SHAPE(n), row), tc = kernels_put(k, test->type, SHAPE(rows, n), NULL);
        for (int op = 0; op < 6; op++) {
            for (int64_t i = 0; i < rows * n; i++) {
                one[i] = 1;
                double other = op % 2 ? row[i % n] : b[i];
                y[i] = op < 2 ? a[i] + other : op < 4 ? a[i] * other : op == 4 ? 0.3f * a[i] : 0.3f * a[i] + 0.7f * b[i];
                if (op == 5 && test->type == MBK_BF16)
                    y[i] = kernels_round(MBK_BF16, 0.3f * a[i]) + 0.7f * b[i];
            }
            const struct mbk_tensor *other = op % 2 ? &trow : &tb;
            if (op < 4)
                CHECK_RUN(k, (op < 2 ? mbk_add : mbk_multiply)(k, &ta, other, &tc));
            else if (op == 4)
                CHECK_RUN(k, mbk_scale(k, 0.3f, &ta));
            else
                CHECK_RUN(k, mbk_axpy(k, 0.7f, &tb, &ta));
            kernels_check(k, "sum or product", op < 4 ? &tc : &ta, y, one, 4);
        }
        struct mbk_tensor *all[] = { &ta, &tb, &trow, &tc };
        for (int i = 0; i < 4; i++)
            kernels_drop(k, all[i]);
        double *host[] = { a, b, row, y, one };
        for (int i = 0; i < 5; i++)
            free(host[i]);
    }
    kernels_close(k);
}

/* -- Casts. */

static void cast_body(const void *argument)
{
    const struct backend_type *test = argument;
    static const enum mbk_type floats[] = { MBK_F32, MBK_BF16, MBK_F16, MBK_F8_E4M3, MBK_F8_E5M2 };
    static const double most[] = { 3.4028234663852886e38, 3.3895313892515355e38, 65504, 448, 57344 };
    struct mbk *k = kernels_open(test->backend, 2);
    double edges[] = { 0, 1, -1, 0.1, -0.1, 1e-3, 1e-5, 6e-8, 5.9e-8, 1e-30, 447, 448, 463, 464, 465, 500, 57344, 61439, 61440, 65504,
                       65519, 65520, 1e6,
                       -1e6, 1e38, 2.5, 3.5, 1.0625, 1.1875, NAN, INFINITY, -INFINITY, 1.00390625, 1.01171875 };
    enum { EDGES = sizeof edges / sizeof edges[0], N = 1500 };
    double *x = kernels_random(N, -3, 3, 1);
    for (int i = 0; i < N; i++)
        x[i] = i < EDGES ? edges[i] : ldexp(x[i], i % 40 - 25);
    struct mbk_tensor from = kernels_put(k, MBK_F32, SHAPE(N), x), back = kernels_put(k, MBK_F32, SHAPE(N), NULL);
    for (int f = 1; f < 5; f++) {
        double expected[N];
        int saturates = floats[f] == MBK_F8_E4M3 || floats[f] == MBK_F8_E5M2;
        for (int i = 0; i < N; i++) {
            double y = kernels_round(floats[f], x[i]);
            expected[i] = fabs(y) > most[f] ? copysign(saturates ? most[f] : INFINITY, y) : y;
        }
        void *data = mbk_alloc(k, 4 * N);
        CHECK(data != NULL);
        struct mbk_tensor to = mbk_tensor1(data, floats[f], N);
        CHECK_RUN(k, mbk_cast(k, &from, &to));
        CHECK_RUN(k, mbk_cast(k, &to, &back));
        kernels_check(k, mbk_type_name(floats[f]), &back, expected, expected, 0);
        mbk_free(k, data);
    }
    static const enum mbk_type integers[] = { MBK_I64, MBK_I32, MBK_I8, MBK_U8 };
    static const double low[] = { -9223372036854775808.0, -2147483648.0, -128, 0 }, high[] = { 9223372036854775807.0, 2147483647, 127,
            255 };
    for (int f = 0; f < 4; f++) {
        double expected[N];
        for (int i = 0; i < N; i++) {
            double y = nearbyint(x[i]);
            expected[i] = isnan(y) ? 0 : y < low[f] ? low[f] : y > high[f] ? high[f] : y;
        }
        struct mbk_tensor to = kernels_put(k, integers[f], SHAPE(N), NULL);
        CHECK_RUN(k, mbk_cast(k, &from, &to));
        kernels_check(k, mbk_type_name(integers[f]), &to, expected, NULL, 0);
        CHECK_RUN(k, mbk_cast(k, &to, &back));
        for (int i = 0; i < N; i++)
            expected[i] = kernels_round(MBK_F32, expected[i]);
        kernels_check(k, "and back", &back, expected, expected, 0);
        kernels_drop(k, &to);
    }
    kernels_drop(k, &from);
    kernels_drop(k, &back);
    free(x);
    kernels_close(k);
}

/* Each code of the small floats as the number that OCP's 8-bit formats (E4M3 without infinity, E5M2 with) and IEEE 754's half give it. */
static void decode_body(const void *argument)
{
    const struct backend_type *test = argument;
    static const struct {
        enum mbk_type type;
        int exponent, mantissa, infinity; /* bits of the two; whether the highest exponent is IEEE 754's */
    } formats[] = { { MBK_F8_E4M3, 4, 3, 0 }, { MBK_F8_E5M2, 5, 2, 1 }, { MBK_F16, 5, 10, 1 } };
    struct mbk *k = kernels_open(test->backend, 2);
    for (int f = 0; f < 3; f++) {
        int e = formats[f].exponent, m = formats[f].mantissa, bytes = e + m == 7 ? 1 : 2, count = 2 << (e + m), bias = (1 << (e - 1)) - 1;
        double *expected = kernels_zeros(count);
        uint8_t *codes = malloc((size_t)(count * bytes));
        void *data = mbk_alloc(k, (size_t)(count * bytes));
        CHECK(codes && data);
        for (int i = 0; i < count; i++) {
            int field = i >> m & ((1 << e) - 1), low = i & ((1 << m) - 1), highest = field == (1 << e) - 1;
            double x = field ? ldexp(low + (1 << m), field - bias - m) : ldexp(low, 1 - bias - m);
            if (highest && (formats[f].infinity || low == (1 << m) - 1))
                x = formats[f].infinity && low == 0 ? INFINITY : NAN;
            expected[i] = i >> (e + m) ? -x : x;
            for (int b = 0; b < bytes; b++)
                codes[i * bytes + b] = (uint8_t)(i >> 8 * b);
        }
        struct mbk_tensor from = mbk_tensor1(data, formats[f].type, count), to = kernels_put(k, MBK_F32, SHAPE(count), NULL);
        CHECK_RUN(k, mbk_write(k, data, codes, mbk_bytes(&from)));
        CHECK_RUN(k, mbk_cast(k, &from, &to));
        kernels_check(k, mbk_type_name(formats[f].type), &to, expected, NULL, 0);
        kernels_drop(k, &to);
        mbk_free(k, data);
        free(codes);
        free(expected);
    }
    kernels_close(k);
}

/* -- Random numbers. */

TEST("Philox4x32-10 gives Random123's known answers")
{
    uint32_t words[4];
    mbk_philox(0, 0, words); /* kat_vectors: counter 0, key 0 */
    CHECK_EQ(words[0], 0x6627e8d5);
    CHECK_EQ(words[1], 0xe169c58d);
    CHECK_EQ(words[2], 0xbc57ac4c);
    CHECK_EQ(words[3], 0x9b00dbd8);
    for (uint64_t i = 0; i < 4000; i++) {
        mbk_philox(0x123456789abcdef0, i * 0x10000001b3 + (i / 4), words);
        CHECK_EQ(words[i % 4], ref_random_word(0x123456789abcdef0, i * 0x10000001b3 + (i / 4) - i / 4, i));
    }
}

static void random_body(const void *argument)
{
    const struct backend_type *test = argument;
    struct mbk *k = kernels_open(test->backend, 3);
    uint64_t seed = 0xfedcba9876543210, offset = 0xfffffffffffffff0u / 4 * 4 - 3; /* the counter's words carry */
    for (int s = 0; s < SIZES; s++) {
        int64_t n = sizes[s];
        double *x = kernels_random(n, -1, 1, 1), *expected = kernels_zeros(n), *one = kernels_zeros(n);
        struct mbk_tensor tx = kernels_put(k, test->type, SHAPE(n), x), ty = kernels_put(k, test->type, SHAPE(n), NULL);
        float rate = 0.3f;
        for (int64_t i = 0; i < n; i++) {
            double keep = (double)ref_random_word(seed, offset, (uint64_t)i) / 4294967296.0 >= (double)rate;
            expected[i] = keep * x[i] / (1 - (double)rate);
            one[i] = 1;
        }
        CHECK_RUN(k, mbk_dropout(k, rate, seed, offset, &tx, &ty));
        kernels_check(k, "dropout", &ty, expected, one, 4);
        for (int64_t i = 0; i < n; i++)
            expected[i] = -2 + 5 * ((ref_random_word(seed, offset, (uint64_t)i) >> 8) / 16777216.0);
        CHECK_RUN(k, mbk_random_uniform(k, -2, 3, seed, offset, &ty));
        kernels_check(k, "uniform", &ty, expected, one, 8);
        for (int64_t i = 0; i < n; i++) {
            double u = ((ref_random_word(seed, offset, (uint64_t)(i & ~1)) >> 8) + 1) / 16777216.0;
            double angle = 2 * 3.14159265358979323846 * (ref_random_word(seed, offset, (uint64_t)(i | 1)) >> 8) / 16777216.0;
            expected[i] = 1 + 0.5 * sqrt(-2 * log(u)) * (i & 1 ? sin(angle) : cos(angle));
        }
        CHECK_RUN(k, mbk_random_normal(k, 1, 0.5f, seed, offset, &ty));
        kernels_check(k, "normal", &ty, expected, one, 64);
        kernels_drop(k, &tx);
        kernels_drop(k, &ty);
        free(x);
        free(expected);
        free(one);
    }
    kernels_close(k);
}

TEST_TABLE
{
    static struct backend_type tests[KERNELS_BACKENDS * 2 * 8];
    struct backend_type *t = tests;
    for (int b = 0; b < KERNELS_BACKENDS; b++)
        for (int y = 0; y < 2; y++) {
            for (int f = MBK_NONE; f <= MBK_SIGMOID; f++, t++) {
                *t = (struct backend_type){ kernels_backends[b], y ? MBK_BF16 : MBK_F32, (enum mbk_activation)f };
                test_add(activation_body, t, "%s, %s: %s is right, and its slope its finite difference", t->backend, mbk_type_name(t->type),
                         activation_names[f]);
            }
            *t = (struct backend_type){ kernels_backends[b], y ? MBK_BF16 : MBK_F32, MBK_NONE };
            test_add(sums_body, t, "%s, %s: sums, products and multiples, of a row for all rows too", t->backend, mbk_type_name(t->type));
            test_add(random_body, t, "%s, %s: dropout, uniform and normal numbers are Philox's, element by element", t->backend,
                     mbk_type_name(t->type));
            if (y == 0) {
                test_add(cast_body, t, "%s: casts round to nearest even, and saturate where they should", t->backend);
                test_add(decode_body, t, "%s: each code of fp8 and half is the number that its format says, infinity and NaN too", t->backend);
            }
            t++;
        }
}
