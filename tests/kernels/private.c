/* private.c: the ranking loss, and sums of single examples' gradients with noise, on every backend. */
#include "kernels.h"
#include "reference/reference.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>

struct private_test {
    const char *backend;
    enum mbk_type type;
};

static double softplus(void *context)
{
    double x = *(double *)context;
    return fmax(-x, 0) + log1p(exp(-fabs(x)));
}

static void ranking_body(const void *argument)
{
    const struct private_test *test = argument;
    static const int64_t lengths[] = { 0, 1, 3, 16, 101, 5003 };
    struct mbk *k = kernels_open(test->backend, 3);
    for (int s = 0; s < 6; s++) {
        int64_t n = lengths[s];
        double *p = kernels_random(n, -30, 30, 1), *q = kernels_random(n, -30, 30, 2), *losses = kernels_zeros(n), *dp = kernels_zeros(n);
        double *dq = kernels_zeros(n), *size = kernels_zeros(n);
        struct mbk_tensor tp = kernels_put(k, test->type, SHAPE(n), p), tq = kernels_put(k, test->type, SHAPE(n), q);
        struct mbk_tensor tl = kernels_put(k, MBK_F32, SHAPE(n), NULL), tdp = kernels_put(k, test->type, SHAPE(n), NULL);
        struct mbk_tensor tdq = kernels_put(k, test->type, SHAPE(n), NULL);
        for (int64_t i = 0; i < n; i++) {
            double d = p[i] - q[i];
            losses[i] = softplus(&d);
            kernels_differentiate(softplus, &d, &d, 1, dp + i);
            dp[i] *= 0.25;
            dq[i] = -dp[i];
            size[i] = 60;
        }
        CHECK_RUN(k, mbk_bpr(k, &tp, &tq, 0.25f, &tl, &tdp, &tdq));
        kernels_check(k, "losses", &tl, losses, size, 4);
        kernels_check(k, "dpositive", &tdp, dp, size, 2);
        kernels_check(k, "dnegative", &tdq, dq, size, 2);
        CHECK_RUN(k, mbk_bpr(k, &tp, &tq, 0.25f, &tl, NULL, NULL));
        kernels_check(k, "losses alone", &tl, losses, size, 4);
        struct mbk_tensor *all[] = { &tp, &tq, &tl, &tdp, &tdq };
        for (int i = 0; i < 5; i++)
            kernels_drop(k, all[i]);
        double *host[] = { p, q, losses, dp, dq, size };
        for (int i = 0; i < 6; i++)
            free(host[i]);
    }
    double p[] = { 1000, -1000, NAN, INFINITY, -INFINITY }, q[] = { 0, 0, 0, 0, 0 }, losses[] = { 0, 1000, NAN, 0, INFINITY },
        dp[] = { 0, -1, NAN, 0, -1 };
    struct mbk_tensor tp = kernels_put(k, test->type, SHAPE(5), p), tq = kernels_put(k, test->type, SHAPE(5), q);
    struct mbk_tensor tl = kernels_put(k, MBK_F32, SHAPE(5), NULL), tdp = kernels_put(k, test->type, SHAPE(5), NULL);
    CHECK_RUN(k, mbk_bpr(k, &tp, &tq, 1, &tl, &tdp, NULL));
    kernels_check(k, "losses far out", &tl, losses, NULL, 1);
    kernels_check(k, "gradients far out", &tdp, dp, NULL, 1);
    struct mbk_tensor *all[] = { &tp, &tq, &tl, &tdp };
    for (int i = 0; i < 4; i++)
        kernels_drop(k, all[i]);
    kernels_close(k);
}

/* Box-Muller as random_normal has it. */
static double noise_of(uint64_t seed, uint64_t offset, int64_t i)
{
    double u = ((ref_random_word(seed, offset, (uint64_t)(i & ~1)) >> 8) + 1) / 16777216.0;
    double angle = 2 * 3.14159265358979323846 * (double)(ref_random_word(seed, offset, (uint64_t)(i | 1)) >> 8) / 16777216.0;
    return sqrt(-2 * log(u)) * (i & 1 ? sin(angle) : cos(angle));
}

static void private_body(const void *argument)
{
    const struct private_test *test = argument;
    static const int64_t shapes[][2] = { { 0, 5 }, { 1, 1 }, { 3, 7 }, { 200, 17 }, { 5, 4099 }, { 65, 1031 } };
    struct mbk *k = kernels_open(test->backend, 3);
    for (int s = 0; s < 12; s++) {
        int64_t rows = shapes[s / 2][0], n = shapes[s / 2][1];
        double *x = kernels_random(rows * n, -1, 1, 1), *sum = kernels_random(n, -1, 1, 2), *size = kernels_zeros(n),
            noise = s % 2 ? 0.75 : 0;
        for (int64_t i = 0; i < rows * n; i++)
            x[i] *= i / n % 3 == 0 ? 1e-3 : 1; /* some rows are short enough */
        struct mbk_tensor tx = kernels_put(k, test->type, SHAPE(rows, n), x), tsum = kernels_put(k, test->type, SHAPE(n), sum);
        for (int64_t i = 0; i < n; i++)
            size[i] = fabs(sum[i]) + 8;
        for (int64_t r = 0; r < rows; r++) {
            double squares = 0;
            for (int64_t i = 0; i < n; i++)
                squares += x[r * n + i] * x[r * n + i];
            double factor = fmin(1, 1.5 / sqrt(squares));
            for (int64_t i = 0; i < n; i++) {
                sum[i] += factor * x[r * n + i];
                size[i] += fabs(factor * x[r * n + i]);
            }
        }
        for (int64_t i = 0; i < n && noise > 0; i++)
            sum[i] += noise * 1.5 * noise_of(9, 77, i);
        CHECK_RUN(k, mbk_private_sum(k, &tx, 1.5f, (float)noise, 9, 77, &tsum));
        kernels_check(k, noise > 0 ? "the sum with noise" : "the sum", &tsum, sum, size, 24);
        kernels_drop(k, &tx);
        kernels_drop(k, &tsum);
        free(x);
        free(sum);
        free(size);
    }
    double x[] = { 1, NAN, 0, 0, INFINITY, 0 }, sum[] = { 0, 0 }, nan[] = { NAN, NAN }, part[] = { NAN, 0 };
    struct mbk_tensor tx = kernels_put(k, test->type, SHAPE(3, 2), x), tsum = kernels_put(k, test->type, SHAPE(2), sum);
    struct mbk_tensor first = mbk_rows(&tx, 0, 2), last = mbk_rows(&tx, 2, 1);
    CHECK_RUN(k, mbk_private_sum(k, &first, 1, 0, 0, 0, &tsum));
    kernels_check(k, "an example with NaN, which has no norm", &tsum, nan, NULL, 0);
    CHECK_RUN(k, mbk_zero(k, &tsum));
    CHECK_RUN(k, mbk_private_sum(k, &last, 1, 0, 0, 0, &tsum));
    kernels_check(k, "infinity is cut by an infinite norm", &tsum, part, NULL, 0);
    kernels_drop(k, &tx);
    kernels_drop(k, &tsum);
    kernels_close(k);
}

TEST_TABLE
{
    static struct private_test tests[KERNELS_BACKENDS * 2];
    struct private_test *t = tests;
    for (int b = 0; b < KERNELS_BACKENDS; b++)
        for (int y = 0; y < 2; y++, t++) {
            *t = (struct private_test){ kernels_backends[b], y ? MBK_BF16 : MBK_F32 };
            test_add(ranking_body, t, "%s, %s: the ranking loss, and its gradients are finite differences", t->backend,
                     mbk_type_name(t->type));
            test_add(private_body, t, "%s, %s: gradients are cut to a norm each, summed, and blurred", t->backend, mbk_type_name(t->type));
        }
}
