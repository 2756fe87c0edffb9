/* quantize.c: floats to bytes and back, on every backend, to the last bit. */
#include "kernels.h"
#include "reference/reference.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>

struct quantize_test {
    const char *backend;
    enum mbk_type type;
};

static const int64_t shapes[][2] = { { 0, 4 }, { 3, 0 }, { 1, 1 }, { 3, 7 }, { 5, 64 }, { 2, 1031 }, { 257, 33 } };

static void rows_body(const void *argument)
{
    const struct quantize_test *test = argument;
    struct mbk *k = kernels_open(test->backend, 3);
    for (int s = 0; s < (int)(sizeof shapes / sizeof shapes[0]); s++) {
        int64_t rows = shapes[s][0], n = shapes[s][1], count = rows * n;
        double *x = kernels_random(count, -1, 1, 1), *q = kernels_zeros(count), *scales = kernels_zeros(rows), *back = kernels_zeros(count);
        for (int64_t i = 0; i < count; i++)
            x[i] = i / n == 2 ? 0 : ldexp(x[i], (int)(i / n % 7) * 5 - 15);
        struct mbk_tensor tx = kernels_put(k, test->type, SHAPE(rows, n), x), tq = kernels_put(k, MBK_I8, SHAPE(rows, n), NULL);
        struct mbk_tensor ts = kernels_put(k, MBK_F32, SHAPE(rows), NULL), tback = kernels_put(k, test->type, SHAPE(rows, n), NULL);
        for (int64_t r = 0; r < rows; r++) {
            scales[r] = kernels_round(MBK_F32, ref_row_scale(x + r * n, n)); /* the same operations in the same precision: the same bits */
            for (int64_t i = 0; i < n; i++) {
                q[r * n + i] = ref_quantize(kernels_round(MBK_F32, x[r * n + i] / scales[r]), 1);
                back[r * n + i] = kernels_round(MBK_F32, q[r * n + i] * scales[r]);
            }
        }
        CHECK_RUN(k, mbk_quantize_rows(k, &tx, &tq, &ts));
        kernels_check(k, "scales", &ts, scales, NULL, 0);
        kernels_check(k, "bytes", &tq, q, NULL, 0);
        CHECK_RUN(k, mbk_dequantize_rows(k, &tq, &ts, &tback));
        kernels_check(k, "and back", &tback, back, NULL, 0);
        struct mbk_tensor *all[] = { &tx, &tq, &ts, &tback };
        for (int i = 0; i < 4; i++)
            kernels_drop(k, all[i]);
        double *host[] = { x, q, scales, back };
        for (int i = 0; i < 4; i++)
            free(host[i]);
    }
    kernels_close(k);
}

static void scale_body(const void *argument)
{
    const struct quantize_test *test = argument;
    struct mbk *k = kernels_open(test->backend, 2);
    double x[] = { 0, 0.25, 0.75, 1.25, -0.25, -0.75, 63.5, 64, -64, 1e30, -INFINITY, INFINITY, NAN, 63.25, 0.5, -63.25, 1e-30 }, q[17];
    struct mbk_tensor tx = kernels_put(k, test->type, SHAPE(17), x), tq = kernels_put(k, MBK_I8, SHAPE(17), NULL);
    for (int i = 0; i < 17; i++)
        q[i] = ref_quantize(x[i], 0.5);
    CHECK_RUN(k, mbk_quantize(k, &tx, 0.5f, &tq));
    kernels_check(k, "bytes", &tq, q, NULL, 0);
    double special[] = { INFINITY, 1, -INFINITY, NAN, 1, -1 }, bytes[] = { 0, 0, 0, 0, 127, -127 }, scales[] = { INFINITY, 1 / 127.0 };
    struct mbk_tensor ts = kernels_put(k, test->type, SHAPE(2, 3), special), tb = kernels_put(k, MBK_I8, SHAPE(2, 3), NULL),
        tscales = kernels_put(k, MBK_F32, SHAPE(2), NULL);
    CHECK_RUN(k, mbk_quantize_rows(k, &ts, &tb, &tscales));
    kernels_check(k, "scales of rows with NaN and infinity", &tscales, scales, NULL, 1);
    kernels_check(k, "bytes of rows with NaN and infinity", &tb, bytes, NULL, 0);
    struct mbk_tensor *all[] = { &tx, &tq, &ts, &tb, &tscales };
    for (int i = 0; i < 5; i++)
        kernels_drop(k, all[i]);
    kernels_close(k);
}

TEST_TABLE
{
    static struct quantize_test tests[KERNELS_BACKENDS * 2];
    struct quantize_test *t = tests;
    for (int b = 0; b < KERNELS_BACKENDS; b++)
        for (int y = 0; y < 2; y++, t++) {
            *t = (struct quantize_test){ kernels_backends[b], y ? MBK_BF16 : MBK_F32 };
            test_add(rows_body, t, "%s, %s: rows to bytes with a scale each, and back", t->backend, mbk_type_name(t->type));
            test_add(scale_body, t, "%s, %s: a given scale rounds to nearest even and saturates; NaN is 0", t->backend,
                     mbk_type_name(t->type));
        }
}
