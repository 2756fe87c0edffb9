/* pool.cu: greatest and mean of windows, forward beside backward. A thread makes one element; backward it gathers what comes to an element of
 * dx from the windows over it, in their order.
 */
#include "device.cuh"

struct pool {
    int64_t height, width, channels, out_h, out_w;
    struct mbk_window w;
};

static pool describe(const struct mbk_window *w, const struct mbk_tensor *x, const struct mbk_tensor *y)
{
    return { x->shape[1], x->shape[2], x->shape[3], y->shape[1], y->shape[2], *w };
}

/* Where element i of [N, H, W, C] is. */
struct place {
    int64_t image, row, column, channel;

    __device__ __forceinline__ place(int64_t i, int64_t height, int64_t width, int64_t channels)
    {
        if (i >> 32 == 0) {
            uint32_t at = (uint32_t)i, c = (uint32_t)channels, w = (uint32_t)width, h = (uint32_t)height;
            channel = at % c, at /= c, column = at % w, at /= w, row = at % h, image = at / h;
        } else {
            channel = i % channels, i /= channels, column = i % width, i /= width, row = i % height, image = i / height;
        }
    }
};

/* The part of window number `at` that lies inside [0, size). */
__device__ __forceinline__ void span(int64_t at, int kernel, int stride, int pad, int64_t size, int64_t &first, int64_t &end)
{
    int64_t start = at * stride - pad;
    first = start < 0 ? 0 : start;
    end = start + kernel > size ? size : start + kernel;
}

/* The windows over place `at`. */
__device__ __forceinline__ void windows_over(int64_t at, int kernel, int stride, int pad, int64_t windows, int64_t &first, int64_t &end)
{
    int64_t padded = at + pad;
    first = padded < kernel ? 0 : (padded - kernel) / stride + 1;
    end = padded / stride + 1 < windows ? padded / stride + 1 : windows;
}

template <class T, bool max>
struct pool_op {
    pool p;
    const T *x;
    T *y;
    int32_t *argmax; /* optional */

    template <int N>
    __device__ __forceinline__ void run(int64_t i) const
    {
        place o(i, p.out_h, p.out_w, p.channels);
        const T *image = x + o.image * p.height * p.width * p.channels;
        int64_t top, bottom, left, right, where = 0;
        span(o.row, p.w.kernel_h, p.w.stride_h, p.w.pad_h, p.height, top, bottom);
        span(o.column, p.w.kernel_w, p.w.stride_w, p.w.pad_w, p.width, left, right);
        float found = 0;
        for (int64_t h = top; h < bottom; h++)
            for (int64_t v = left; v < right; v++) {
                int64_t at = (h * p.width + v) * p.channels + o.channel;
                float here = to_float(image[at]);
                if (!max) {
                    found += here;
                } else if ((h == top && v == left) || here > found || (here != here && found == found)) {
                    found = here; /* the first of equals; a NaN is the greatest */
                    where = at;
                }
            }
        y[i] = from_float<T>(max ? found : found * (1.0f / (float)((int64_t)p.w.kernel_h * p.w.kernel_w)));
        if (max && argmax)
            argmax[i] = (int32_t)where;
    }
};

template <bool max>
static int forward(struct mbk *k, const char *what, const struct mbk_window *w, const struct mbk_tensor *x, const struct mbk_tensor *y,
                   const struct mbk_tensor *argmax)
{
    return gpu_with_float(k, what, x->type, [&](auto zero) {
        using T = decltype(zero);
        pool_op<T, max> op = { describe(w, x, y), (const T *)x->data, (T *)y->data, argmax ? (int32_t *)argmax->data : nullptr };
        return gpu_elementwise<1>(k, what, mbk_count(y), false, op);
    });
}

template <class T, bool max>
struct pool_backward_op {
    pool p;
    const T *dy;
    T *dx;
    const int32_t *argmax;

    template <int N>
    __device__ __forceinline__ void run(int64_t i) const
    {
        place o(i, p.height, p.width, p.channels);
        int32_t me = (int32_t)((o.row * p.width + o.column) * p.channels + o.channel);
        int64_t top, bottom, left, right;
        windows_over(o.row, p.w.kernel_h, p.w.stride_h, p.w.pad_h, p.out_h, top, bottom);
        windows_over(o.column, p.w.kernel_w, p.w.stride_w, p.w.pad_w, p.out_w, left, right);
        float sum = 0;
        for (int64_t h = top; h < bottom; h++)
            for (int64_t v = left; v < right; v++) {
                int64_t at = ((o.image * p.out_h + h) * p.out_w + v) * p.channels + o.channel;
                if (!max || argmax[at] == me)
                    sum += to_float(dy[at]);
            }
        dx[i] = from_float<T>(max ? sum : sum * (1.0f / (float)((int64_t)p.w.kernel_h * p.w.kernel_w)));
    }
};

template <bool max>
static int backward(struct mbk *k, const char *what, const struct mbk_window *w, const struct mbk_tensor *argmax, const struct mbk_tensor *dy,
                    const struct mbk_tensor *dx)
{
    return gpu_with_float(k, what, dy->type, [&](auto zero) {
        using T = decltype(zero);
        pool_backward_op<T, max> op = { describe(w, dx, dy), (const T *)dy->data, (T *)dx->data,
                                        argmax ? (const int32_t *)argmax->data : nullptr };
        return gpu_elementwise<1>(k, what, mbk_count(dx), false, op);
    });
}

extern "C" int gpu_maxpool2d(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *x, const struct mbk_tensor *y,
                             const struct mbk_tensor *argmax)
{
    return forward<true>(k, "maxpool2d", w, x, y, argmax);
}

extern "C" int gpu_maxpool2d_backward(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *argmax, const struct mbk_tensor *dy,
                                      const struct mbk_tensor *dx)
{
    return backward<true>(k, "maxpool2d_backward", w, argmax, dy, dx);
}

extern "C" int gpu_avgpool2d(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *x, const struct mbk_tensor *y)
{
    return forward<false>(k, "avgpool2d", w, x, y, nullptr);
}

extern "C" int gpu_avgpool2d_backward(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *dy, const struct mbk_tensor *dx)
{
    return backward<false>(k, "avgpool2d_backward", w, nullptr, dy, dx);
}
