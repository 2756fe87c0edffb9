/* reference.h: every operation in float64 and in the plainest C, for tests alone. Nothing is fast, nothing is shared with a backend.
 *
 * Arrays are dense and row-major as in kernels.h. Gradients are not here: tests take finite differences of
 * these. Only attention has its own, which is compared with finite differences first.
 */
#ifndef MBK_REFERENCE_H
#define MBK_REFERENCE_H

#include <stdint.h>

#include "mbuild/kernels.h"

double ref_activation(enum mbk_activation f, double x);

/* c[m, n] = alpha op(a) op(b) + beta c; magnitude (optional) the same with |a|, |b|, |c|: what rounding errors are measured by. */
void ref_matmul(int64_t m, int64_t n, int64_t k, double alpha, const double *a, int transpose_a, const double *b, int transpose_b,
                double beta,
                double *c, double *magnitude);

/* Images, NHWC. y [images, out_h, out_w, out]. */
struct ref_images {
    int64_t images, height, width, in, out; /* pooling: out is not used */
    struct mbk_window w;                    /* strides filled in */
};
void ref_conv2d(const struct ref_images *s, const double *x, const double *weight, const double *bias, double *y);
void ref_maxpool2d(const struct ref_images *s, const double *x, double *y, int64_t *argmax);
void ref_avgpool2d(const struct ref_images *s, const double *x, double *y);

/* One row. */
void ref_softmax(const double *x, double *y, int64_t n);
double ref_cross_entropy(const double *x, int label, double smoothing, int64_t n);
double ref_bce(const double *x, const double *targets, int64_t n);
double ref_mse(const double *x, const double *targets, int64_t n);
double ref_distillation(const double *student, const double *teacher, int label, double temperature, double alpha, int64_t n);

/* Layer norm of a row; beta NULL: RMS norm, with a mean of 0. */
void ref_norm(const double *x, const double *gamma, const double *beta, double eps, double *y, double *mean, double *rstd, int64_t n);
/* One head at one position. */
/* The wavelengths of n / 2 pairs, as Llama 3.1's rope_type "llama3" has them; factor 0: not scaled; original 0: all by the factor. */
void ref_rope_waves(double base, double factor, double low, double high, double original, double *waves, int64_t n);
void ref_rope(double *x, int64_t position, const double *waves, int sign, int64_t n);

/* Attention, shapes as in mbk_attention. `backward` adds to zeros; `out` is what forward gave, perhaps rounded. */
struct ref_attention {
    int64_t batch, queries, keys, heads, groups, size;
    const double *lengths; /* of each of the batch, or NULL */
    double scale;
    int causal;
    double dropout;
    uint64_t seed, offset;
};
void ref_attend(const struct ref_attention *a, const double *q, const double *keys, const double *values, double *out, double *lse);
void ref_attend_backward(const struct ref_attention *a, const double *q, const double *keys, const double *values, const double *out,
                         const double *dout, double *dq, double *dkeys, double *dvalues);

/* One element. `o` as in kernels.h. */
void ref_adam(const struct mbk_adam *o, double decay, double *p, double gradient, double *first, double *second);
void ref_sgd(const struct mbk_sgd *o, double decay, double *p, double gradient, double *velocity);

/* The scale for a row, and an element under it. */
double ref_row_scale(const double *x, int64_t n);
int ref_quantize(double x, double scale);

/* Word i of the random stream, by the paper's definition. */
uint32_t ref_random_word(uint64_t seed, uint64_t offset, uint64_t i);

#endif
