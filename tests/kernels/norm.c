/* norm.c: layer norm and RMS norm on every backend, forward against float64, gradients against finite differences of it. */
#include "kernels.h"
#include "reference/reference.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>

static const int64_t shapes[][2] = { { 0, 5 }, { 3, 0 }, { 1, 1 }, { 1, 2 }, { 3, 7 }, { 2, 16 }, { 5, 17 }, { 3, 101 }, { 257, 10 },
                                     { 1031, 3 }, { 3, 1031 } };
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

struct norm_test {
    const char *backend;
    enum mbk_type type, out;
    int centred; /* layer norm */
};

static const double eps = 1e-5f;

/* Σ dy · y of one row. */
struct row {
    double *x, *gamma, *beta, *y;
    const double *dy;
    int64_t n;
};

static double weighted(void *context)
{
    const struct row *r = context;
    double mean, rstd, sum = 0;
    ref_norm(r->x, r->gamma, r->beta, eps, r->y, &mean, &rstd, r->n);
    for (int64_t i = 0; i < r->n; i++)
        sum += r->dy[i] * r->y[i];
    return sum;
}

static double *constant(int64_t n, double value)
{
    double *x = kernels_zeros(n);
    for (int64_t i = 0; i < n; i++)
        x[i] = value;
    return x;
}

static void norm_body(const void *argument)
{
    const struct norm_test *test = argument;
    struct mbk *k = kernels_open(test->backend, 3);
    for (int s = 0; s < SHAPES; s++) {
        int64_t rows = shapes[s][0], n = shapes[s][1], count = rows * n;
        double *x = kernels_random(count, -1, 3, 1), *gamma = kernels_random(n, 0.5, 1.5, 2), *beta = kernels_random(n, -1, 1, 3);
        double *y = kernels_zeros(count), *mean = kernels_zeros(rows), *rstd = kernels_zeros(rows), *dy = kernels_random(count, -1, 1, 4);
        double *dx = kernels_zeros(count), *dgamma = kernels_random(n, -1, 1, 5), *dbeta = kernels_random(n, -1, 1, 6),
            *one = kernels_zeros(n);
        struct mbk_tensor tx = kernels_put(k, test->type, SHAPE(rows, n), x), tgamma = kernels_put(k, test->type, SHAPE(n), gamma);
        struct mbk_tensor tbeta = kernels_put(k, test->type, SHAPE(n), beta), ty = kernels_put(k, test->out, SHAPE(rows, n), NULL);
        struct mbk_tensor tmean = kernels_put(k, MBK_F32, SHAPE(rows), NULL), trstd = kernels_put(k, MBK_F32, SHAPE(rows), NULL);
        struct mbk_tensor tdy = kernels_put(k, test->type, SHAPE(rows, n), dy), tdx = kernels_put(k, test->type, SHAPE(rows, n), NULL);
        struct mbk_tensor tdgamma = kernels_put(k, MBK_F32, SHAPE(n), dgamma), tdbeta = kernels_put(k, test->type, SHAPE(n), dbeta);
        double *size = constant(count, 8), *dx_size = constant(count, 0), *sums_size = constant(n, 4 * (double)rows),
            *rstd_size = constant(rows, 0);
        for (int64_t r = 0; r < rows; r++) {
            struct row row = { x + r * n, gamma, test->centred ? beta : NULL, y + r * n, dy + r * n, n };
            if (n > 0) {
                kernels_differentiate(weighted, &row, row.x, n, dx + r * n);
                kernels_differentiate(weighted, &row, gamma, n, one);
                for (int64_t i = 0; i < n; i++) {
                    dgamma[i] += one[i];
                    dbeta[i] += dy[r * n + i];
                }
                ref_norm(row.x, gamma, row.beta, eps, row.y, mean + r, rstd + r, n);
            }
            rstd_size[r] = rstd[r] * (1 + 4 * rstd[r] * rstd[r]);
            for (int64_t i = 0; i < n; i++) /* what is lost in x − mean counts as much as the row is narrow */
                size[r * n + i] = 4 + 16 * rstd[r], dx_size[r * n + i] = 16 * rstd[r] * (1 + 4 * rstd[r]);
        }
        if (test->centred)
            CHECK_RUN(k, mbk_layernorm(k, &tx, &tgamma, &tbeta, (float)eps, &ty, &tmean, &trstd));
        else
            CHECK_RUN(k, mbk_rmsnorm(k, &tx, &tgamma, (float)eps, &ty, &trstd));
        if (count > 0) {
            kernels_check(k, "y", &ty, y, size, 8);
            kernels_check(k, "rstd", &trstd, rstd, rstd_size, 8);
        }
        if (test->centred && count > 0)
            kernels_check(k, "mean", &tmean, mean, size, 2);
        for (int part = 0; part < 3; part++) { /* all; dx alone; the parameters' alone */
            const struct mbk_tensor *pdx = part == 2 ? NULL : &tdx, *pdgamma = part == 1 ? NULL : &tdgamma,
                *pdbeta = part == 1 ? NULL : &tdbeta;
            if (part == 2)
                for (int64_t i = 0; i < n; i++)
                    dgamma[i] = dbeta[i] = 0;
            if (part == 2) {
                CHECK_RUN(k, mbk_zero(k, &tdgamma));
                CHECK_RUN(k, mbk_zero(k, &tdbeta));
                for (int64_t r = 0; r < rows; r++)
                    for (int64_t i = 0; i < n; i++) {
                        double m = test->centred ? mean[r] : 0;
                        dgamma[i] += dy[r * n + i] * (x[r * n + i] - m) * rstd[r];
                        dbeta[i] += dy[r * n + i];
                    }
            }
            if (test->centred)
                CHECK_RUN(k, mbk_layernorm_backward(k, &tx, &tgamma, &tmean, &trstd, &tdy, pdx, pdgamma, pdbeta));
            else
                CHECK_RUN(k, mbk_rmsnorm_backward(k, &tx, &tgamma, &trstd, &tdy, pdx, pdgamma));
            kernels_check(k, "dx", &tdx, dx, dx_size, 32);
            if (count > 0)
                kernels_check(k, "dgamma, added to", &tdgamma, dgamma, sums_size, 64);
            if (test->centred && count > 0)
                kernels_check(k, "dbeta, added to", &tdbeta, dbeta, sums_size, 16);
        }
        struct mbk_tensor *all[] = { &tx, &tgamma, &tbeta, &ty, &tmean, &trstd, &tdy, &tdx, &tdgamma, &tdbeta };
        for (int i = 0; i < 10; i++)
            kernels_drop(k, all[i]);
        double *host[] = { x, gamma, beta, y, mean, rstd, dy, dx, dgamma, dbeta, one, size, dx_size, sums_size, rstd_size };
        for (int i = 0; i < 15; i++)
            free(host[i]);
    }
    double x[] = { 1, NAN, 2, 1, INFINITY, 2, 0, 0, 0 }, y[] = { NAN, NAN, NAN, NAN, NAN, NAN, 3, 3, 3 }, gamma[] = { 1, 1, 1 },
        beta[] = { 3, 3, 3 };
    struct mbk_tensor tx = kernels_put(k, test->type, SHAPE(3, 3), x), ty = kernels_put(k, test->out, SHAPE(3, 3), NULL);
    struct mbk_tensor tgamma = kernels_put(k, test->type, SHAPE(3), gamma), tbeta = kernels_put(k, test->type, SHAPE(3), beta);
    if (test->centred) {
        CHECK_RUN(k, mbk_layernorm(k, &tx, &tgamma, &tbeta, (float)eps, &ty, NULL, NULL));
    } else {
        y[3] = y[5] = y[6] = y[7] = y[8] = 0; /* infinity stands alone: 1 / ∞ is 0, and ∞ · 0 is NaN */
        CHECK_RUN(k, mbk_rmsnorm(k, &tx, &tgamma, (float)eps, &ty, NULL));
    }
    kernels_check(k, "of NaN, infinity and zeros", &ty, y, NULL, 1);
    struct mbk_tensor *all[] = { &tx, &ty, &tgamma, &tbeta };
    for (int i = 0; i < 4; i++)
        kernels_drop(k, all[i]);
    kernels_close(k);
}

TEST_TABLE
{
    static const enum mbk_type types[][2] = { { MBK_F32, MBK_F32 }, { MBK_BF16, MBK_BF16 }, { MBK_F32, MBK_BF16 }, { MBK_BF16, MBK_F32 } };
    enum { TYPES = sizeof types / sizeof types[0] };
    static struct norm_test tests[KERNELS_BACKENDS * 2 * TYPES];
    struct norm_test *t = tests;
    for (int b = 0; b < KERNELS_BACKENDS; b++)
        for (int y = 0; y < 2 * TYPES; y++, t++) {
            const enum mbk_type *type = types[y % TYPES];
            *t = (struct norm_test){ kernels_backends[b], type[0], type[1], y < TYPES };
            test_add(norm_body, t, "%s, %s to %s: %s norm, and its gradients are finite differences", t->backend, mbk_type_name(type[0]),
                     mbk_type_name(type[1]), t->centred ? "layer" : "RMS");
        }
}

TEST("cpu: norms name both shapes where they don't go together")
{
    struct mbk *k = kernels_open("cpu", 1);
    float x[12] = { 0 }, g[5] = { 0 };
    struct mbk_tensor tx = mbk_tensor2(x, MBK_F32, 3, 4), tg = mbk_tensor1(g, MBK_F32, 5);
    CHECK_EQ(mbk_layernorm(k, &tx, &tg, &tg, 1e-5f, &tx, NULL, NULL), -1);
    CHECK_CONTAINS(mbk_error(k), "F32 [3, 4]");
    CHECK_CONTAINS(mbk_error(k), "F32 [5]");
    CHECK_EQ(mbk_rmsnorm(k, &tx, &tg, 1e-5f, &tx, NULL), -1);
    CHECK_CONTAINS(mbk_error(k), "F32 [3, 4]");
    kernels_close(k);
}
