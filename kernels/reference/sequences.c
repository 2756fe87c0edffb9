/* sequences.c: norms of rows, rotary positions and attention in float64. */
#include "reference.h"

#include <math.h>
#include <stdlib.h>

void ref_norm(const double *x, const double *gamma, const double *beta, double eps, double *y, double *mean, double *rstd, int64_t n)
{
    double m = 0, variance = 0;
    for (int64_t i = 0; beta && i < n; i++)
        m += x[i] / (double)n;
    for (int64_t i = 0; i < n; i++)
        variance += (x[i] - m) * (x[i] - m) / (double)n;
    *mean = m;
    *rstd = 1 / sqrt(variance + eps);
    for (int64_t i = 0; i < n; i++)
        y[i] = (x[i] - m) * *rstd * gamma[i] + (beta ? beta[i] : 0);
}

void ref_rope_waves(double base, double factor, double low, double high, double original, double *waves, int64_t n)
{
    const double circle = 2 * acos(-1.0);
    for (int64_t i = 0; i < n / 2; i++) {
        double wave = waves[i] = circle * pow(base, 2 * (double)i / (double)n);
        if (factor <= 0)
            continue;
        if (original <= 0 || wave > original / low) {
            waves[i] = wave * factor;
        } else if (wave >= original / high) {
            double smooth = (original / wave - low) / (high - low);
            waves[i] = circle / ((1 - smooth) * (circle / wave) / factor + smooth * (circle / wave));
        }
    }
}

void ref_rope(double *x, int64_t position, const double *waves, int sign, int64_t n)
{
    for (int64_t i = 0; i < n / 2; i++) {
        double angle = (double)position * 2 * acos(-1.0) / waves[i], a = x[i], b = x[i + n / 2];
        x[i] = a * cos(angle) - sign * b * sin(angle);
        x[i + n / 2] = b * cos(angle) + sign * a * sin(angle);
    }
}

/* -- Attention. */

static int64_t seen_keys(const struct ref_attention *a, int64_t b, int64_t t)
{
    int64_t n = a->lengths ? (int64_t)a->lengths[b] : a->keys, end = a->causal ? t + a->keys - a->queries + 1 : n;
    return end < 0 ? 0 : end < n ? end : n;
}

static double kept(const struct ref_attention *a, int64_t b, int64_t h, int64_t t, int64_t s)
{
    if (a->dropout == 0)
        return 1;
    uint64_t i = (uint64_t)(((b * a->heads + h) * a->queries + t) * a->keys + s);
    return ref_random_word(a->seed, a->offset, i) / 4294967296.0 >= a->dropout ? 1 / (1 - a->dropout) : 0;
}

static int64_t query(const struct ref_attention *a, int64_t b, int64_t h, int64_t t)
{
    return ((b * a->queries + t) * a->heads + h) * a->size;
}

static int64_t key(const struct ref_attention *a, int64_t b, int64_t h, int64_t s)
{
    return ((b * a->keys + s) * a->groups + h / (a->heads / a->groups)) * a->size;
}

/* The weights of one query, before dropout; returns the log of the sum of exponentials. */
static double weigh(const struct ref_attention *a, const double *q, const double *keys, int64_t b, int64_t h, int64_t t, double *p)
{
    double most = -INFINITY, sum = 0;
    int64_t end = seen_keys(a, b, t);
    for (int64_t s = 0; s < end; s++) {
        p[s] = 0;
        for (int64_t d = 0; d < a->size; d++)
            p[s] += a->scale * q[query(a, b, h, t) + d] * keys[key(a, b, h, s) + d];
        most = p[s] > most ? p[s] : most;
    }
    for (int64_t s = 0; s < end; s++)
        sum += exp(p[s] - most);
    for (int64_t s = 0; s < end; s++)
        p[s] = exp(p[s] - most) / sum;
    return most + log(sum);
}

void ref_attend(const struct ref_attention *a, const double *q, const double *keys, const double *values, double *out, double *lse)
{
    double *p = malloc((size_t)(a->keys + 1) * sizeof *p);
    for (int64_t b = 0; p && b < a->batch; b++)
        for (int64_t h = 0; h < a->heads; h++)
            for (int64_t t = 0; t < a->queries; t++) {
                lse[(b * a->heads + h) * a->queries + t] = weigh(a, q, keys, b, h, t, p);
                for (int64_t d = 0; d < a->size; d++) {
                    double sum = 0;
                    for (int64_t s = 0; s < seen_keys(a, b, t); s++)
                        sum += p[s] * kept(a, b, h, t, s) * values[key(a, b, h, s) + d];
                    out[query(a, b, h, t) + d] = sum;
                }
            }
    free(p);
}

void ref_attend_backward(const struct ref_attention *a, const double *q, const double *keys, const double *values, const double *out,
                         const double *dout, double *dq, double *dkeys, double *dvalues)
{
    double *p = malloc((size_t)(a->keys + 1) * sizeof *p);
    for (int64_t b = 0; p && b < a->batch; b++)
        for (int64_t h = 0; h < a->heads; h++)
            for (int64_t t = 0; t < a->queries; t++) {
                int64_t at = query(a, b, h, t);
                double delta = 0;
                weigh(a, q, keys, b, h, t, p);
                for (int64_t d = 0; d < a->size; d++)
                    delta += out[at + d] * dout[at + d];
                for (int64_t s = 0; s < seen_keys(a, b, t); s++) {
                    int64_t from = key(a, b, h, s);
                    double keep = kept(a, b, h, t, s), dp = 0;
                    for (int64_t d = 0; d < a->size; d++)
                        dp += dout[at + d] * values[from + d];
                    double ds = p[s] * (keep * dp - delta);
                    for (int64_t d = 0; d < a->size; d++) {
                        dq[at + d] += a->scale * ds * keys[from + d];
                        dkeys[from + d] += a->scale * ds * q[at + d];
                        dvalues[from + d] += p[s] * keep * dout[at + d];
                    }
                }
            }
    free(p);
}
