/* dense.c: products, activations, and images in float64. */
#include "reference.h"

#include <math.h>

double ref_activation(enum mbk_activation f, double x)
{
    switch (f) {
    case MBK_RELU: return x > 0 ? x : isnan(x) ? x : 0;
    case MBK_GELU: return x * 0.5 * (1 + erf(x / sqrt(2.0)));
    case MBK_GELU_TANH: return 0.5 * x * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    case MBK_SILU: return x / (1 + exp(-x));
    case MBK_TANH: return tanh(x);
    case MBK_SIGMOID: return 1 / (1 + exp(-x));
    case MBK_NONE: break;
    }
    return x;
}

void ref_matmul(int64_t m, int64_t n, int64_t k, double alpha, const double *a, int transpose_a, const double *b, int transpose_b,
                double beta,
                double *c, double *magnitude)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = 0, size = 0;
            for (int64_t p = 0; p < k; p++) {
                double x = a[transpose_a ? p * m + i : i * k + p] * b[transpose_b ? j * k + p : p * n + j];
                sum += x;
                size += fabs(x);
            }
            double before = beta == 0 ? 0 : beta * c[i * n + j];
            if (magnitude)
                magnitude[i * n + j] = fabs(alpha) * size + fabs(before);
            c[i * n + j] = alpha * sum + before;
        }
}

/* The element of x under place (kh, kw) of window (p, q), or -1 in the padding; channel apart. */
static int64_t under(const struct ref_images *s, int64_t image, int64_t p, int64_t q, int kh, int kw)
{
    int64_t h = p * s->w.stride_h - s->w.pad_h + kh, v = q * s->w.stride_w - s->w.pad_w + kw;
    return h < 0 || h >= s->height || v < 0 || v >= s->width ? -1 : ((image * s->height + h) * s->width + v) * s->in;
}

static int64_t out_height(const struct ref_images *s)
{
    return mbk_window_out(s->height, s->w.kernel_h, s->w.stride_h, s->w.pad_h);
}

static int64_t out_width(const struct ref_images *s)
{
    return mbk_window_out(s->width, s->w.kernel_w, s->w.stride_w, s->w.pad_w);
}

void ref_conv2d(const struct ref_images *s, const double *x, const double *weight, const double *bias, double *y)
{
    for (int64_t image = 0; image < s->images; image++)
        for (int64_t p = 0; p < out_height(s); p++)
            for (int64_t q = 0; q < out_width(s); q++)
                for (int64_t o = 0; o < s->out; o++) {
                    double sum = bias ? bias[o] : 0;
                    for (int kh = 0; kh < s->w.kernel_h; kh++)
                        for (int kw = 0; kw < s->w.kernel_w; kw++) {
                            int64_t at = under(s, image, p, q, kh, kw);
                            for (int64_t i = 0; at >= 0 && i < s->in; i++)
                                sum += x[at + i] * weight[((o * s->w.kernel_h + kh) * s->w.kernel_w + kw) * s->in + i];
                        }
                    *y++ = sum;
                }
}

void ref_maxpool2d(const struct ref_images *s, const double *x, double *y, int64_t *argmax)
{
    for (int64_t image = 0; image < s->images; image++)
        for (int64_t p = 0; p < out_height(s); p++)
            for (int64_t q = 0; q < out_width(s); q++)
                for (int64_t i = 0; i < s->in; i++) {
                    int64_t best = -1;
                    for (int kh = 0; kh < s->w.kernel_h; kh++)
                        for (int kw = 0; kw < s->w.kernel_w; kw++) {
                            int64_t at = under(s, image, p, q, kh, kw);
                            if (at >= 0 && (best < 0 || x[at + i] > x[best] || (isnan(x[at + i]) && !isnan(x[best]))))
                                best = at + i;
                        }
                    *y++ = x[best];
                    if (argmax)
                        *argmax++ = best - image * s->height * s->width * s->in;
                }
}

void ref_avgpool2d(const struct ref_images *s, const double *x, double *y)
{
    for (int64_t image = 0; image < s->images; image++)
        for (int64_t p = 0; p < out_height(s); p++)
            for (int64_t q = 0; q < out_width(s); q++)
                for (int64_t i = 0; i < s->in; i++) {
                    double sum = 0;
                    for (int kh = 0; kh < s->w.kernel_h; kh++)
                        for (int kw = 0; kw < s->w.kernel_w; kw++) {
                            int64_t at = under(s, image, p, q, kh, kw);
                            sum += at >= 0 ? x[at + i] : 0;
                        }
                    *y++ = sum / (s->w.kernel_h * s->w.kernel_w);
                }
}
