/* im2col.cu: convolution as matrix products: each window of an image is laid out as a row. The sum back into an image gathers, for each of its
 * elements, from the rows that hold it, in their order, so no two threads add to one place, and in float32, so it is rounded once. Images are
 * taken some at a time, so that the rows never take more than MOST_BYTES of scratch.
 */
#include "device.cuh"

enum { MOST_BYTES = 256 << 20 };

/* Integers of 32 bits where they suffice: the divisions are what these kernels do most. */
template <class T, class Int>
__global__ void __launch_bounds__(GPU_THREADS) im2col_kernel(gpu_windows g, const T *x, int64_t count, T *columns)
{
    Int channels = (Int)g.channels, out_w = (Int)g.out_w, out_h = (Int)g.out_h, kernel_w = g.w.kernel_w, kernel_h = g.w.kernel_h;
    for (int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; at < count; at += (int64_t)gridDim.x * blockDim.x) {
        Int i = (Int)at, c = i % channels;
        i /= channels;
        Int kx = i % kernel_w;
        i /= kernel_w;
        Int ky = i % kernel_h;
        i /= kernel_h;
        Int ox = i % out_w;
        i /= out_w;
        Int oy = i % out_h, n = i / out_h;
        int64_t row = (int64_t)oy * g.w.stride_h + ky - g.w.pad_h, column = (int64_t)ox * g.w.stride_w + kx - g.w.pad_w;
        bool inside = row >= 0 && row < g.height && column >= 0 && column < g.width;
        columns[at] = inside ? x[(((int64_t)n * g.height + row) * g.width + column) * g.channels + c] : from_float<T>(0);
    }
}

extern "C" int gpu_im2col(struct mbk *k, const struct gpu_windows *g, enum mbk_type type, const void *x, int64_t images, void *columns)
{
    int64_t count = images * g->out_h * g->out_w * g->w.kernel_h * g->w.kernel_w * g->channels;
    return gpu_with_float(k, "conv2d", type, [&](auto zero) {
        using T = decltype(zero);
        return gpu_launch(k, "conv2d", count <= UINT32_MAX ? im2col_kernel<T, uint32_t> : im2col_kernel<T, uint64_t>,
                          dim3(gpu_blocks(k, count, GPU_THREADS)), dim3(GPU_THREADS), 0, *g, (const T *)x, count, (T *)columns);
    });
}

template <class T, class Int>
__global__ void __launch_bounds__(GPU_THREADS) col2im_kernel(gpu_windows g, const float *columns, int64_t count, T *x)
{
    Int channels = (Int)g.channels, width = (Int)g.width, height = (Int)g.height;
    for (int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; at < count; at += (int64_t)gridDim.x * blockDim.x) {
        Int i = (Int)at, c = i % channels;
        i /= channels;
        int64_t column = i % width + g.w.pad_w;
        i /= width;
        int64_t row = i % height + g.w.pad_h, n = i / height;
        /* Windows oy with oy · stride ≤ row < oy · stride + kernel. */
        int64_t first_y = row < g.w.kernel_h ? 0 : (row - g.w.kernel_h) / g.w.stride_h + 1, last_y = row / g.w.stride_h;
        int64_t first_x = column < g.w.kernel_w ? 0 : (column - g.w.kernel_w) / g.w.stride_w + 1, last_x = column / g.w.stride_w;
        last_y = last_y < g.out_h ? last_y : g.out_h - 1;
        last_x = last_x < g.out_w ? last_x : g.out_w - 1;
        float sum = 0;
        for (int64_t oy = first_y; oy <= last_y; oy++)
            for (int64_t ox = first_x; ox <= last_x; ox++) {
                int64_t window = (n * g.out_h + oy) * g.out_w + ox, ky = row - oy * g.w.stride_h, kx = column - ox * g.w.stride_w;
                sum += columns[((window * g.w.kernel_h + ky) * g.w.kernel_w + kx) * g.channels + c];
            }
        x[at] = from_float<T>(sum);
    }
}

extern "C" int gpu_col2im(struct mbk *k, const struct gpu_windows *g, enum mbk_type type, const float *columns, int64_t images, void *x)
{
    int64_t count = images * g->height * g->width * g->channels;
    return gpu_with_float(k, "conv2d_backward", type, [&](auto zero) {
        using T = decltype(zero);
        return gpu_launch(k, "conv2d_backward", count <= UINT32_MAX ? col2im_kernel<T, uint32_t> : col2im_kernel<T, uint64_t>,
                          dim3(gpu_blocks(k, count, GPU_THREADS)), dim3(GPU_THREADS), 0, *g, columns, count, (T *)x);
    });
}

/* -- The products. */

struct shape {
    gpu_windows g;
    int64_t images, outputs, inner, windows; /* inner: KH · KW · I; windows: of one image */
    int64_t at_once;                         /* images */
    size_t size;                             /* of an element */
    bool pointwise;                          /* x itself is the matrix of windows */
};

static shape shape_of(const struct mbk_window *w, const struct mbk_tensor *x, const struct mbk_tensor *weight, const struct mbk_tensor *y)
{
    shape s = {};
    s.g = { x->shape[1], x->shape[2], x->shape[3], y->shape[1], y->shape[2], *w };
    s.images = x->shape[0];
    s.outputs = weight->shape[0];
    s.inner = (int64_t)w->kernel_h * w->kernel_w * x->shape[3];
    s.windows = y->shape[1] * y->shape[2];
    s.size = x->type == MBK_BF16 ? 2 : 4;
    s.pointwise = w->kernel_h == 1 && w->kernel_w == 1 && w->stride_h == 1 && w->stride_w == 1 && w->pad_h == 0 && w->pad_w == 0;
    int64_t fit = MOST_BYTES / (s.windows * s.inner * (int64_t)sizeof(float));
    s.at_once = s.pointwise || fit > s.images ? s.images : fit < 1 ? 1 : fit;
    return s;
}

static char *image(const struct mbk_tensor *t, const shape &s, int64_t i)
{
    return (char *)t->data + (size_t)(i * t->shape[1] * t->shape[2] * t->shape[3]) * s.size;
}

/* Windows of `count` images from `first` on. */
static const void *windows_of(struct mbk *k, const shape &s, const struct mbk_tensor *x, int64_t first, int64_t count, void *space)
{
    if (s.pointwise)
        return image(x, s, first);
    return gpu_im2col(k, &s.g, x->type, image(x, s, first), count, space) ? nullptr : space;
}

/* c = a b, all of `type` but c. */
static int multiply(struct mbk *k, enum mbk_type type, int64_t m, int64_t n, int64_t inner, const void *a, bool transpose_a, const void *b,
                    bool transpose_b, void *c, enum mbk_type c_type, float beta)
{
    struct mbk_gemm g = {};
    g.m = m;
    g.n = n;
    g.k = inner;
    g.batch = 1;
    g.a = a;
    g.b = b;
    g.c = c;
    g.a_type = g.b_type = type;
    g.c_type = c_type;
    g.transpose_a = transpose_a;
    g.transpose_b = transpose_b;
    g.lda = transpose_a ? m : inner;
    g.ldb = transpose_b ? inner : n;
    g.ldc = n;
    g.alpha = 1;
    g.beta = beta;
    return gpu_gemm(k, &g);
}

extern "C" int gpu_conv_forward_by_product(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *x,
                                           const struct mbk_tensor *weight, float beta, const struct mbk_tensor *y)
{
    shape s = shape_of(w, x, weight, y);
    size_t mark = gpu_scratch_mark(k);
    void *space = s.pointwise ? nullptr : gpu_scratch(k, "conv2d", (size_t)(s.at_once * s.windows * s.inner) * s.size);
    int status = s.pointwise || space ? 0 : -1;
    for (int64_t i = 0; i < s.images && status == 0; i += s.at_once) {
        int64_t count = s.images - i < s.at_once ? s.images - i : s.at_once;
        const void *windows = windows_of(k, s, x, i, count, space);
        status = !windows ? -1
                          : multiply(k, x->type, count * s.windows, s.outputs, s.inner, windows, false, weight->data, true, image(y, s, i),
                                     y->type, beta);
    }
    gpu_scratch_release(k, mark);
    return status;
}

extern "C" int gpu_conv_backward_by_product(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *x,
                                            const struct mbk_tensor *weight, const struct mbk_tensor *dy, const struct mbk_tensor *dx,
                                            const struct mbk_tensor *dweight)
{
    shape s = shape_of(w, x, weight, dy);
    size_t mark = gpu_scratch_mark(k);
    void *space = s.pointwise ? nullptr : gpu_scratch(k, "conv2d_backward", (size_t)(s.at_once * s.windows * s.inner) * sizeof(float));
    int status = s.pointwise || space ? 0 : -1;
    for (int64_t i = 0; i < s.images && status == 0; i += s.at_once) {
        int64_t count = s.images - i < s.at_once ? s.images - i : s.at_once;
        if (dweight) {
            const void *windows = windows_of(k, s, x, i, count, space);
            status = !windows ? -1
                              : multiply(k, x->type, s.outputs, s.inner, count * s.windows, image(dy, s, i), true, windows, false,
                                         dweight->data, dweight->type, 1);
        }
        if (dx && status == 0) {
            void *rows = s.pointwise ? image(dx, s, i) : space;
            status = multiply(k, x->type, count * s.windows, s.inner, s.outputs, image(dy, s, i), false, weight->data, false, rows,
                              s.pointwise ? x->type : MBK_F32, 0);
            if (status == 0 && !s.pointwise)
                status = gpu_col2im(k, &s.g, x->type, (const float *)space, count, image(dx, s, i));
        }
    }
    gpu_scratch_release(k, mark);
    return status;
}
