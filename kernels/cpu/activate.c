/* activate.c: activations, forward beside backward. Others reach the loops by cpu_activation: products apply them to what they have
 * made. */
#include "activate.h"
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

#define LOOPS(name, value, slope) \
    CPU_CLONES static void name##_forward(const float *x, float *y, int64_t n) \
    { \
        CPU_LOOP(i, n) \
            y[i] = value(x[i]); \
    } \
    CPU_CLONES static void name##_backward(const float *x, const float *dy, float *dx, int64_t n) \
    { \
        CPU_LOOP(i, n) \
            dx[i] = dy[i] * slope(x[i]); \
    }

LOOPS(relu, relu, relu_slope)
LOOPS(gelu, gelu, gelu_slope)
LOOPS(gelu_tanh, gelu_tanh, gelu_tanh_slope)
LOOPS(silu, silu, silu_slope)
LOOPS(tanh, vec_tanh, tanh_slope)
LOOPS(sigmoid, vec_sigmoid, sigmoid_slope)

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

static const struct {
    cpu_activation_forward *forward;
    cpu_activation_backward *backward;
} table[] = {
    [MBK_NONE] = { none_forward, none_backward },
    [MBK_RELU] = { relu_forward, relu_backward },
    [MBK_GELU] = { gelu_forward, gelu_backward },
    [MBK_GELU_TANH] = { gelu_tanh_forward, gelu_tanh_backward },
    [MBK_SILU] = { silu_forward, silu_backward },
    [MBK_TANH] = { tanh_forward, tanh_backward },
    [MBK_SIGMOID] = { sigmoid_forward, sigmoid_backward },
};

cpu_activation_forward *cpu_activation(enum mbk_activation f)
{
    return table[f].forward;
}

struct work {
    enum mbk_activation f;
    const struct mbk_tensor *x, *dy, *out; /* dy NULL: forward */
};

static void work_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct work *w = context;
    float x_buffer[CPU_PIECE], dy_buffer[CPU_PIECE], out_buffer[CPU_PIECE];
    (void)worker;
    for (int64_t i = first; i < end; i += CPU_PIECE) {
        int64_t n = end - i < CPU_PIECE ? end - i : CPU_PIECE;
        const float *x = cpu_in(w->x, i, n, x_buffer);
        float *out = cpu_out(w->out, i, out_buffer);
        if (w->dy)
            table[w->f].backward(x, cpu_in(w->dy, i, n, dy_buffer), out, n);
        else
            table[w->f].forward(x, out, n);
        cpu_put(w->out, i, n, out);
    }
}

int cpu_activate(struct mbk *k, enum mbk_activation f, const struct mbk_tensor *x, const struct mbk_tensor *y)
{
    struct work w = { f, x, NULL, y };
    cpu_parallel(k, mbk_count(y), cpu_grain(4), work_body, &w);
    return 0;
}

int cpu_activate_backward(struct mbk *k, enum mbk_activation f, const struct mbk_tensor *x, const struct mbk_tensor *dy,
                          const struct mbk_tensor *dx)
{
    struct work w = { f, x, dy, dx };
    cpu_parallel(k, mbk_count(dx), cpu_grain(4), work_body, &w);
    return 0;
}
