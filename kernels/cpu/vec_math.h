/* vec_math.h: exp, tanh, erf and log of floats, written so that the compiler makes vectors of loops over them: no calls, no branches, no
 * tables. Errors against the exact value are at most 2 units in the last place over the whole range (tests/kernels/math.c); NaN and
 * infinity go where they do in libm. To be used inside CPU_CLONES functions.
 */
#ifndef MBK_CPU_VEC_MATH_H
#define MBK_CPU_VEC_MATH_H

#include <stdint.h>
#include <string.h>

/* a · b + c. A file whose functions are all for processors that fuse it may define it so before it includes this. */
#ifndef VEC_FMA
#define VEC_FMA(a, b, c) ((a) * (b) + (c))
#endif

#define VEC_MATH static inline __attribute__((always_inline))

VEC_MATH uint32_t vec_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

VEC_MATH float vec_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

VEC_MATH float vec_abs(float x)
{
    return vec_float(vec_bits(x) & 0x7fffffff);
}

/* e^x = 2^n · e^r with n the nearest integer to x / ln 2. 2^n is multiplied in by halves, so that results below the normal numbers and
 * overflow come out by themselves. ln 2 is in two parts, the first of which has room for n below its last bit (Cody and Waite). */
VEC_MATH float vec_exp(float x)
{
    const float magic = 12582912.0f; /* 1.5 · 2^23: adding it rounds to an integer in the low bits */
    x = x > 89.0f ? 89.0f : x;
    x = x < -104.0f ? -104.0f : x;
    float t = VEC_FMA(x, 1.44269504f, magic);
    float n = t - magic;
    uint32_t e = vec_bits(t) - vec_bits(magic);
    float r = VEC_FMA(n, -0.693359375f, x);
    r = VEC_FMA(n, 2.12194440e-4f, r);
    float p = 1.9875691500e-4f;
    p = VEC_FMA(p, r, 1.3981999507e-3f);
    p = VEC_FMA(p, r, 8.3334519073e-3f);
    p = VEC_FMA(p, r, 4.1665795894e-2f);
    p = VEC_FMA(p, r, 1.6666665459e-1f);
    p = VEC_FMA(p, r, 5.0000001201e-1f);
    p = VEC_FMA(p, r * r, r);
    p = p + 1.0f;
    uint32_t half = (uint32_t)((int32_t)e >> 1);
    float a = vec_float((half + 127) << 23), b = vec_float((e - half + 127) << 23);
    return p * a * b;
}

/* Cephes' tanhf: a polynomial near 0, else 1 − 2 / (e^2x + 1). */
VEC_MATH float vec_tanh(float x)
{
    float a = vec_abs(x), z = x * x;
    float p = -5.70498872745e-3f;
    p = VEC_FMA(p, z, 2.06390887954e-2f);
    p = VEC_FMA(p, z, -5.37397155531e-2f);
    p = VEC_FMA(p, z, 1.33314422036e-1f);
    p = VEC_FMA(p, z, -3.33332819422e-1f);
    float small = VEC_FMA(p * z, x, x);
    float large = 1.0f - 2.0f / (vec_exp(2.0f * a) + 1.0f);
    large = vec_float(vec_bits(large) | (vec_bits(x) & 0x80000000));
    return a < 0.625f ? small : large;
}

/* Two minimax polynomials, as N. Juffa gives them: odd near 0, 1 − e^p(x) elsewhere. */
VEC_MATH float vec_erf(float x)
{
    float a = vec_abs(x);
    a = a > 10.0f ? 10.0f : a;
    float s = a * a;
    float p = VEC_FMA(-1.72853470e-5f, a, 3.83197126e-4f);
    float q = VEC_FMA(-3.88396438e-3f, a, 2.42546219e-2f);
    p = VEC_FMA(p, s, q);
    p = VEC_FMA(p, a, -1.06777877e-1f);
    p = VEC_FMA(p, a, -6.34846687e-1f);
    p = VEC_FMA(p, a, -1.28717512e-1f);
    p = VEC_FMA(p, a, -a);
    float large = 1.0f - vec_exp(p);
    large = vec_float(vec_bits(large) | (vec_bits(x) & 0x80000000));
    float z = -5.96761703e-4f;
    z = VEC_FMA(z, s, 4.99119423e-3f);
    z = VEC_FMA(z, s, -2.67681349e-2f);
    z = VEC_FMA(z, s, 1.12819925e-1f);
    z = VEC_FMA(z, s, -3.76125336e-1f);
    z = VEC_FMA(z, s, 1.28379166e-1f);
    float small = VEC_FMA(z, x, x);
    return a < 0.927734375f ? small : large;
}

VEC_MATH float vec_sigmoid(float x)
{
    return 1.0f / (1.0f + vec_exp(-x));
}

/* Sums over a row go into 16 lanes, element i to lane i % 16, which are joined in a fixed order: vectors of any width give the same
 * bits. */
enum { VEC_LANES = 16 };

VEC_MATH float vec_join(float lane[VEC_LANES])
{
    for (int width = VEC_LANES / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++)
            lane[i] += lane[i + width];
    return lane[0];
}

/* VEC_SUM(sum, i, n, expression in i): sum = Σ expression, i from 0 to n − 1. The expression should be no more than a product: lanes are
 * laid out side by side before the compiler makes vectors of them, and then branches stay branches. */
#define VEC_SUM(sum, i, n, expression) \
    do { \
        float lane_[VEC_LANES] = { 0 }; \
        int64_t i_ = 0; \
        for (; i_ + VEC_LANES <= (n); i_ += VEC_LANES) \
            for (int l_ = 0; l_ < VEC_LANES; l_++) { \
                int64_t i = i_ + l_; \
                lane_[l_] += (expression); \
            } \
        for (int l_ = 0; i_ < (n); i_++, l_++) { \
            int64_t i = i_; \
            lane_[l_] += (expression); \
        } \
        (sum) = vec_join(lane_); \
    } while (0)

/* The greatest of a row, NaN overlooked; minus infinity of none. */
VEC_MATH float vec_max(const float *x, int64_t n)
{
    float lane[VEC_LANES];
    for (int l = 0; l < VEC_LANES; l++)
        lane[l] = -__builtin_inff();
    int64_t i = 0;
    for (; i + VEC_LANES <= n; i += VEC_LANES)
        for (int l = 0; l < VEC_LANES; l++)
            lane[l] = x[i + l] > lane[l] ? x[i + l] : lane[l];
    for (int l = 0; i < n; i++, l++)
        lane[l] = x[i] > lane[l] ? x[i] : lane[l];
    for (int width = VEC_LANES / 2; width > 0; width /= 2)
        for (int l = 0; l < width; l++)
            lane[l] = lane[l + width] > lane[l] ? lane[l + width] : lane[l];
    return lane[0];
}

#endif
