/* elementwise.cu: activations, sums, products and multiples of tensors. A thread moves 16 bytes of each operand. */
#include "device.cuh"

template <class T>
struct activate_op {
    const T *x;
    T *y;
    int f;

    template <int N>
    __device__ __forceinline__ void run(int64_t i) const
    {
        float v[N];
        load<N>(x + i, v);
#pragma unroll
        for (int j = 0; j < N; j++)
            v[j] = activation_of(f, v[j]);
        store<N>(y + i, v);
    }
};

extern "C" int gpu_activate(struct mbk *k, enum mbk_activation f, const struct mbk_tensor *x, const struct mbk_tensor *y)
{
    return gpu_with_float(k, "activate", x->type, [&](auto zero) {
        using T = decltype(zero);
        activate_op<T> op = { (const T *)x->data, (T *)y->data, f };
        return gpu_elementwise<16 / sizeof(T)>(k, "activate", mbk_count(y), gpu_aligned(x->data) && gpu_aligned(y->data), op);
    });
}

template <class T>
struct activate_backward_op {
    const T *x, *dy;
    T *dx;
    int f;

    template <int N>
    __device__ __forceinline__ void run(int64_t i) const
    {
        float v[N], d[N];
        load<N>(x + i, v);
        load<N>(dy + i, d);
        if (f != MBK_NONE)
#pragma unroll
            for (int j = 0; j < N; j++)
                d[j] *= activation_slope(f, v[j]);
        store<N>(dx + i, d);
    }
};

extern "C" int gpu_activate_backward(struct mbk *k, enum mbk_activation f, const struct mbk_tensor *x, const struct mbk_tensor *dy,
                                     const struct mbk_tensor *dx)
{
    return gpu_with_float(k, "activate_backward", x->type, [&](auto zero) {
        using T = decltype(zero);
        activate_backward_op<T> op = { (const T *)x->data, (const T *)dy->data, (T *)dx->data, f };
        bool aligned = gpu_aligned(x->data) && gpu_aligned(dy->data) && gpu_aligned(dx->data);
        return gpu_elementwise<16 / sizeof(T)>(k, "activate_backward", mbk_count(dx), aligned, op);
    });
}

/* -- c = a + b, c = a · b; b like a, or a row of `row` elements that goes to each of a's. Packs don't cross rows' ends. */

template <class T, bool multiply>
struct pair_op {
    const T *a, *b;
    T *c;
    int64_t row; /* 0: b is like a */

    template <int N>
    __device__ __forceinline__ void run(int64_t i) const
    {
        float v[N], w[N];
        int64_t at = i;
        if (row)
            at = ((i | row) >> 32) == 0 ? (uint32_t)i % (uint32_t)row : i % row;
        load<N>(a + i, v);
        load<N>(b + at, w);
#pragma unroll
        for (int j = 0; j < N; j++)
            v[j] = multiply ? v[j] * w[j] : v[j] + w[j];
        store<N>(c + i, v);
    }
};

template <bool multiply>
static int run_pair(struct mbk *k, const char *what, const struct mbk_tensor *a, const struct mbk_tensor *b, const struct mbk_tensor *c)
{
    return gpu_with_float(k, what, a->type, [&](auto zero) {
        using T = decltype(zero);
        constexpr int N = 16 / sizeof(T);
        int64_t row = b->rank == 1 && a->rank > 1 ? b->shape[0] : 0;
        pair_op<T, multiply> op = { (const T *)a->data, (const T *)b->data, (T *)c->data, row };
        bool aligned = gpu_aligned(a->data) && gpu_aligned(b->data) && gpu_aligned(c->data) && row % N == 0;
        return gpu_elementwise<N>(k, what, mbk_count(c), aligned, op);
    });
}

extern "C" int gpu_add(struct mbk *k, const struct mbk_tensor *a, const struct mbk_tensor *b, const struct mbk_tensor *c)
{
    return run_pair<false>(k, "add", a, b, c);
}

extern "C" int gpu_multiply(struct mbk *k, const struct mbk_tensor *a, const struct mbk_tensor *b, const struct mbk_tensor *c)
{
    return run_pair<true>(k, "multiply", a, b, c);
}

template <class T>
struct scale_op {
    T *x;
    float factor;

    template <int N>
    __device__ __forceinline__ void run(int64_t i) const
    {
        float v[N];
        load<N>(x + i, v);
#pragma unroll
        for (int j = 0; j < N; j++)
            v[j] *= factor;
        store<N>(x + i, v);
    }
};

extern "C" int gpu_scale(struct mbk *k, float factor, const struct mbk_tensor *x)
{
    return gpu_with_float(k, "scale", x->type, [&](auto zero) {
        using T = decltype(zero);
        scale_op<T> op = { (T *)x->data, factor };
        return gpu_elementwise<16 / sizeof(T)>(k, "scale", mbk_count(x), gpu_aligned(x->data), op);
    });
}

template <class X, class Y>
struct axpy_op {
    const X *x;
    Y *y;
    float factor;

    template <int N>
    __device__ __forceinline__ void run(int64_t i) const
    {
        float v[N], w[N];
        load<N>(x + i, v);
        load<N>(y + i, w);
#pragma unroll
        for (int j = 0; j < N; j++)
            w[j] += factor * v[j];
        store<N>(y + i, w);
    }
};

extern "C" int gpu_axpy(struct mbk *k, float factor, const struct mbk_tensor *x, const struct mbk_tensor *y)
{
    return gpu_with_float(k, "axpy", x->type, [&](auto x_zero) {
        return gpu_with_float(k, "axpy", y->type, [&](auto y_zero) {
            using X = decltype(x_zero);
            using Y = decltype(y_zero);
            axpy_op<X, Y> op = { (const X *)x->data, (Y *)y->data, factor };
            return gpu_elementwise<16 / (sizeof(X) < sizeof(Y) ? sizeof(X) : sizeof(Y))>(k, "axpy", mbk_count(y),
                                                                                          gpu_aligned(x->data) && gpu_aligned(y->data), op);
        });
    });
}
