/* loops_body.h: what loops.h declares, for any level; no header in the usual sense: a file defines TARGET, the function attribute that
 * allows the instructions, where there are any VEC_FMA, and LOOPS, the table's name, and includes it.
 */
#include "loops.h"
#include "vec_math.h"

VEC_MATH float relu(float x) { return x < 0 ? 0 : x; }
VEC_MATH float relu_slope(float x) { return x <= 0 ? 0.0f : 1.0f; }

/* Hendrycks and Gimpel 2016: x Φ(x). */
VEC_MATH float gelu(float x) { return 0.5f * x * (1.0f + vec_erf(x * 0.707106781f)); }
VEC_MATH float gelu_slope(float x)
{
    return 0.5f * (1.0f + vec_erf(x * 0.707106781f)) + x * 0.398942280f * vec_exp(-0.5f * x * x);
}

/* Their approximation, as GPT-2 has it: x/2 (1 + tanh(√(2/π) (x + 0.044715 x³))). */
VEC_MATH float gelu_tanh(float x) { return 0.5f * x * (1.0f + vec_tanh(0.797884561f * (x + 0.044715f * x * x * x))); }
VEC_MATH float gelu_tanh_slope(float x)
{
    float t = vec_tanh(0.797884561f * (x + 0.044715f * x * x * x));
    return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * 0.797884561f * (1.0f + 0.134145f * x * x);
}

VEC_MATH float silu(float x) { return x * vec_sigmoid(x); }
VEC_MATH float silu_slope(float x)
{
    float s = vec_sigmoid(x);
    return s * (1.0f + x * (1.0f - s));
}

VEC_MATH float tanh_slope(float x)
{
    float t = vec_tanh(x);
    return 1.0f - t * t;
}

VEC_MATH float sigmoid_slope(float x)
{
    float s = vec_sigmoid(x);
    return s * (1.0f - s);
}

#define ACTIVATION(name, value, slope) \
    TARGET static void name##_forward(const float *x, float *y, int64_t n) \
    { \
        CPU_LOOP(i, n) \
            y[i] = value(x[i]); \
    } \
    TARGET static void name##_backward(const float *x, const float *dy, float *dx, int64_t n) \
    { \
        CPU_LOOP(i, n) \
            dx[i] = dy[i] * slope(x[i]); \
    }

ACTIVATION(relu, relu, relu_slope)
ACTIVATION(gelu, gelu, gelu_slope)
ACTIVATION(gelu_tanh, gelu_tanh, gelu_tanh_slope)
ACTIVATION(silu, silu, silu_slope)
ACTIVATION(tanh, vec_tanh, tanh_slope)
ACTIVATION(sigmoid, vec_sigmoid, sigmoid_slope)

static void none_forward(const float *x, float *y, int64_t n)
{
    if (x != y)
        memmove(y, x, (size_t)n * sizeof *y);
}

static void none_backward(const float *x, const float *dy, float *dx, int64_t n)
{
    (void)x;
    if (dy != dx)
        memmove(dx, dy, (size_t)n * sizeof *dx);
}

TARGET static float exponentials(const float *x, float most, float inverse, float *p, int64_t n)
{
    float sum;
    CPU_LOOP(i, n)
        p[i] = vec_exp((x[i] - most) * inverse);
    VEC_SUM(sum, i, n, p[i]);
    return sum;
}

TARGET static void softmax(const float *x, float *y, int64_t n)
{
    float most = vec_max(x, n), sum;
    CPU_LOOP(i, n)
        y[i] = vec_exp(x[i] - most);
    VEC_SUM(sum, i, n, y[i]);
    CPU_LOOP(i, n)
        y[i] /= sum;
}

TARGET static float attention_weigh(float *x, int64_t n, float *most)
{
    float greatest = vec_max(x, n), sum;
    *most = greatest > *most ? greatest : *most;
    float shift = *most == -__builtin_inff() ? 0 : *most; /* nothing but −∞ so far: all weigh 0 */
    CPU_LOOP(i, n)
        x[i] = vec_exp(x[i] - shift);
    VEC_SUM(sum, i, n, x[i]);
    return sum;
}

TARGET static void attention_slopes(float *p, float *dp, const float *kept, float lse, float delta, int64_t n)
{
    CPU_LOOP(i, n)
        p[i] = vec_exp(p[i] - lse);
    if (!kept) {
        CPU_LOOP(i, n)
            dp[i] = p[i] * (dp[i] - delta);
        return;
    }
    CPU_LOOP(i, n)
    {
        float weight = p[i], factor = kept[i];
        dp[i] = weight * (dp[i] * factor - delta);
        p[i] = weight * factor;
    }
}

const struct cpu_loops LOOPS = {
    .activations = {
        [MBK_NONE] = { none_forward, none_backward },
        [MBK_RELU] = { relu_forward, relu_backward },
        [MBK_GELU] = { gelu_forward, gelu_backward },
        [MBK_GELU_TANH] = { gelu_tanh_forward, gelu_tanh_backward },
        [MBK_SILU] = { silu_forward, silu_backward },
        [MBK_TANH] = { tanh_forward, tanh_backward },
        [MBK_SIGMOID] = { sigmoid_forward, sigmoid_backward },
    },
    .softmax = softmax,
    .exponentials = exponentials,
    .attention_weigh = attention_weigh,
    .attention_slopes = attention_slopes,
};
