/* norm.c: layer norm and RMS norm of rows, forward beside backward.
 *
 * Statistics are of two passes, since a row is in the first cache by then: the mean, then the squares of what differs from it. The
 * gradients of gamma and beta are sums over rows: parts of a number of rows that depends on the shape alone are summed apart and then
 * joined in order, so that any number of threads gives the same bits.
 */
#include "cpu.h"
#include "vec_math.h"

#include <math.h>

enum { PARTS_MOST = 64, PART_ROWS = 16 };

/* -- Forward. */

CPU_CLONES static float norm_mean(const float *x, int64_t n)
{
    float sum;
    VEC_SUM(sum, i, n, x[i]);
    return sum / (float)n;
}

/* Σ (x − mean)² / n */
CPU_CLONES static float norm_variance(const float *x, float mean, int64_t n)
{
    float sum;
    VEC_SUM(sum, i, n, (x[i] - mean) * (x[i] - mean));
    return sum / (float)n;
}

CPU_CLONES static void norm_apply(const float *x, float mean, float rstd, const float *gamma, const float *beta, float *y, int64_t n)
{
    CPU_LOOP(i, n)
        y[i] = (x[i] - mean) * rstd * gamma[i] + beta[i];
}

CPU_CLONES static void norm_scale(const float *x, float rstd, const float *gamma, float *y, int64_t n)
{
    CPU_LOOP(i, n)
        y[i] = x[i] * rstd * gamma[i];
}

/* -- Backward of one row. With g = dy · gamma and h = (x − mean) · rstd: dx = rstd · (g − Σ g / n − h · Σ g h / n), without the first
 * sum in RMS norm; dgamma += dy · h; dbeta += dy. */

CPU_CLONES static float norm_dot_gamma(const float *dy, const float *gamma, int64_t n)
{
    float sum;
    VEC_SUM(sum, i, n, dy[i] * gamma[i]);
    return sum;
}

CPU_CLONES static float norm_dot_normal(const float *x, float mean, float rstd, const float *dy, const float *gamma, int64_t n)
{
    float sum;
    VEC_SUM(sum, i, n, (x[i] - mean) * rstd * (dy[i] * gamma[i]));
    return sum;
}

CPU_CLONES static void norm_dx(const float *x, float mean, float rstd, const float *dy, const float *gamma, float g_mean, float gh_mean,
                               float *dx, int64_t n)
{
    CPU_LOOP(i, n)
        dx[i] = rstd * (dy[i] * gamma[i] - g_mean - (x[i] - mean) * rstd * gh_mean);
}

CPU_CLONES static void norm_add_dgamma(const float *x, float mean, float rstd, const float *dy, float *dgamma, int64_t n)
{
    CPU_LOOP(i, n)
        dgamma[i] += dy[i] * ((x[i] - mean) * rstd);
}

CPU_CLONES static void norm_add(const float *x, float *sum, int64_t n)
{
    CPU_LOOP(i, n)
        sum[i] += x[i];
}

/* -- All rows. */

struct work {
    const struct mbk_tensor *x, *dy, *out; /* out: y, or dx, which is optional */
    const struct mbk_tensor *dgamma, *dbeta;
    const float *gamma, *beta;             /* beta NULL: RMS norm, in which means are 0 */
    float *mean, *rstd, eps;
    float *own;                            /* three rows for each worker */
    float *sums;                           /* of each part, dgamma and dbeta */
    int64_t length, rows, part_rows, parts;
    int centred;
};

static void forward_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct work *w = context;
    int64_t n = w->length;
    float *own = w->own + 3 * n * worker;
    for (int64_t r = first; r < end; r++) {
        const float *x = cpu_in(w->x, r * n, n, own);
        float *y = cpu_out(w->out, r * n, own + n);
        float mean = w->centred ? norm_mean(x, n) : 0;
        float rstd = 1.0f / sqrtf(norm_variance(x, mean, n) + w->eps);
        if (w->centred)
            norm_apply(x, mean, rstd, w->gamma, w->beta, y, n);
        else
            norm_scale(x, rstd, w->gamma, y, n);
        cpu_put(w->out, r * n, n, y);
        if (w->mean)
            w->mean[r] = mean;
        if (w->rstd)
            w->rstd[r] = rstd;
    }
}

static void backward_row(const struct work *w, int64_t r, float *own, float *dgamma, float *dbeta)
{
    int64_t n = w->length;
    const float *x = cpu_in(w->x, r * n, n, own), *dy = cpu_in(w->dy, r * n, n, own + n);
    float mean = w->centred ? w->mean[r] : 0, rstd = w->rstd[r];
    if (w->dgamma)
        norm_add_dgamma(x, mean, rstd, dy, dgamma, n);
    if (w->dbeta)
        norm_add(dy, dbeta, n);
    if (!w->out)
        return;
    float *dx = cpu_out(w->out, r * n, own + 2 * n);
    float g_mean = w->centred ? norm_dot_gamma(dy, w->gamma, n) / (float)n : 0;
    float gh_mean = norm_dot_normal(x, mean, rstd, dy, w->gamma, n) / (float)n;
    norm_dx(x, mean, rstd, dy, w->gamma, g_mean, gh_mean, dx, n);
    cpu_put(w->out, r * n, n, dx);
}

static void backward_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct work *w = context;
    int64_t n = w->length;
    for (int64_t part = first; part < end; part++) {
        float *sums = w->sums + 2 * n * part;
        int64_t row = part * w->part_rows, stop = row + w->part_rows < w->rows ? row + w->part_rows : w->rows;
        memset(sums, 0, 2 * sizeof *sums * (size_t)n);
        for (; row < stop; row++)
            backward_row(w, row, w->own + 3 * n * worker, sums, sums + n);
    }
}

/* Adds `first` … `end` − 1 of the parts' sums to a gradient. */
static void join(const struct work *w, const struct mbk_tensor *gradient, const float *sums, int64_t first, int64_t end)
{
    float total[CPU_PIECE], buffer[CPU_PIECE];
    for (int64_t i = first, n; gradient && i < end; i += n) {
        n = end - i < CPU_PIECE ? end - i : CPU_PIECE;
        memcpy(total, sums + i, (size_t)n * sizeof *total);
        for (int64_t part = 1; part < w->parts; part++)
            norm_add(sums + 2 * w->length * part + i, total, n);
        float *out = cpu_out(gradient, i, buffer);
        const float *before = cpu_in(gradient, i, n, buffer);
        for (int64_t j = 0; j < n; j++)
            out[j] = before[j] + total[j];
        cpu_put(gradient, i, n, out);
    }
}

static void join_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct work *w = context;
    (void)worker;
    join(w, w->dgamma, w->sums, first, end);
    join(w, w->dbeta, w->sums + w->length, first, end);
}

/* gamma and beta as floats; w->out like x. */
static int run(struct mbk *k, struct work *w, const struct mbk_tensor *gamma, const struct mbk_tensor *beta)
{
    size_t mark = cpu_mark(k), row = sizeof(float) * (size_t)mbk_row_length(w->x);
    w->length = mbk_row_length(w->x);
    w->rows = mbk_row_count(w->x);
    w->part_rows = (w->rows + PARTS_MOST - 1) / PARTS_MOST;
    if (w->part_rows < PART_ROWS)
        w->part_rows = PART_ROWS;
    w->parts = (w->rows + w->part_rows - 1) / w->part_rows;
    size_t sums = w->dy ? 2 * (size_t)w->parts : 0;
    float *own = cpu_scratch(k, row * (2 + sums + 3 * (size_t)cpu_of(k)->threads));
    if (own) {
        w->gamma = cpu_in(gamma, 0, w->length, own);
        if (beta)
            w->beta = cpu_in(beta, 0, w->length, own + w->length);
        w->sums = own + 2 * w->length;
        w->own = w->sums + (int64_t)sums * w->length;
        if (w->dy) {
            cpu_parallel(k, w->parts, cpu_grain(8 * w->length * w->part_rows), backward_body, w);
            int64_t grain = cpu_grain(2 * w->parts);
            cpu_parallel(k, w->length, grain < 16 ? 16 : grain, join_body, w);
        } else {
            cpu_parallel(k, w->rows, cpu_grain(4 * w->length), forward_body, w);
        }
    }
    cpu_release(k, mark);
    return own ? 0 : -1;
}

static float *floats_of(const struct mbk_tensor *t)
{
    return t ? t->data : NULL;
}

int cpu_layernorm(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *gamma, const struct mbk_tensor *beta, float eps,
                  const struct mbk_tensor *y, const struct mbk_tensor *mean, const struct mbk_tensor *rstd)
{
    struct work w = { .x = x, .out = y, .eps = eps, .mean = floats_of(mean), .rstd = floats_of(rstd), .centred = 1 };
    return run(k, &w, gamma, beta);
}

int cpu_layernorm_backward(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *gamma, const struct mbk_tensor *mean,
                           const struct mbk_tensor *rstd, const struct mbk_tensor *dy, const struct mbk_tensor *dx,
                           const struct mbk_tensor *dgamma, const struct mbk_tensor *dbeta)
{
    struct work w = { .x = x, .dy = dy, .out = dx, .dgamma = dgamma, .dbeta = dbeta, .mean = mean->data, .rstd = rstd->data, .centred = 1 };
    return run(k, &w, gamma, NULL);
}

int cpu_rmsnorm(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *gamma, float eps, const struct mbk_tensor *y,
                const struct mbk_tensor *rstd)
{
    struct work w = { .x = x, .out = y, .eps = eps, .rstd = floats_of(rstd) };
    return run(k, &w, gamma, NULL);
}

int cpu_rmsnorm_backward(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *gamma, const struct mbk_tensor *rstd,
                         const struct mbk_tensor *dy, const struct mbk_tensor *dx, const struct mbk_tensor *dgamma)
{
    struct work w = { .x = x, .dy = dy, .out = dx, .dgamma = dgamma, .rstd = rstd->data };
    return run(k, &w, gamma, NULL);
}
