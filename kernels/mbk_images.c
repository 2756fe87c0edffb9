/* mbk_images.c: checks of convolution and pooling. */
#include "mbk_check.h"

int64_t mbk_window_out(int64_t in, int kernel, int stride, int pad)
{
    int64_t room = in + 2 * (int64_t)pad - kernel;
    return in < 1 || room < 0 ? 0 : room / (stride < 1 ? 1 : stride) + 1;
}

/* Fills the strides in, and checks the window and what comes out of it. `x` [N, H, W, C] stands for x or dx, `y` for y or dy. */
static int check_window(struct mbk *k, const char *operation, const struct mbk_window *w, struct mbk_window *filled, const char *x_name,
                        const struct mbk_tensor *x, const char *y_name, const struct mbk_tensor *y)
{
    *filled = *w;
    if (filled->stride_h == 0)
        filled->stride_h = 1;
    if (filled->stride_w == 0)
        filled->stride_w = 1;
    if (w->kernel_h < 1 || w->kernel_w < 1 || filled->stride_h < 0 || filled->stride_w < 0 || w->pad_h < 0 || w->pad_w < 0)
        return mbk_fail(k, "%s: a window of %d × %d with stride %d, %d and padding %d, %d is none", operation, w->kernel_h, w->kernel_w,
                        w->stride_h, w->stride_w, w->pad_h, w->pad_w);
    if (w->pad_h >= w->kernel_h || w->pad_w >= w->kernel_w)
        return mbk_fail(k, "%s: padding %d, %d must be less than the window's %d × %d", operation, w->pad_h, w->pad_w, w->kernel_h,
                        w->kernel_w);
    int64_t out_h = mbk_window_out(x->shape[1], w->kernel_h, filled->stride_h, w->pad_h);
    int64_t out_w = mbk_window_out(x->shape[2], w->kernel_w, filled->stride_w, w->pad_w);
    if (y->shape[1] != out_h || y->shape[2] != out_w)
        return mbk_mismatch(k, operation, x_name, x, y_name, y, "the window gives another height or width (mbk_window_out)");
    return 0;
}

static int check_weight(struct mbk *k, const char *operation, const struct mbk_window *w, const struct mbk_tensor *x,
                        const struct mbk_tensor *weight)
{
    if (weight->shape[1] == w->kernel_h && weight->shape[2] == w->kernel_w)
        return 0;
    return mbk_mismatch(k, operation, "x", x, "weight", weight, "weight is not [O, KH, KW, I] of the window's size");
}

int mbk_conv2d(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *x, const struct mbk_tensor *weight,
               const struct mbk_tensor *bias, enum mbk_activation f, const struct mbk_tensor *before, const struct mbk_tensor *y)
{
    struct mbk_window filled;
    if (mbk_check(k, "conv2d", "x:f[N,H,W,I] weight:f[O,Y,X,I] bias?:F[O] before?:f[N,P,Q,O] y:f[N,P,Q,O]", x, weight, bias, before, y) ||
        check_window(k, "conv2d", w, &filled, "x", x, "y", y) || check_weight(k, "conv2d", w, x, weight) ||
        mbk_check_activation(k, "conv2d", f))
        return -1;
    return mbk_count(y) == 0 ? 0 : MBK_CALL(k, conv2d, &filled, x, weight, bias, f, before, y);
}

int mbk_conv2d_backward(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *x, const struct mbk_tensor *weight,
                        const struct mbk_tensor *dy, const struct mbk_tensor *dx, const struct mbk_tensor *dweight,
                            const struct mbk_tensor *dbias)
{
    struct mbk_window filled;
    if (mbk_check(k, "conv2d_backward", "x:f[N,H,W,I] weight:f[O,Y,X,I] dy:f[N,P,Q,O] dx?:f[N,H,W,I] dweight?:F[O,Y,X,I] dbias?:F[O]", x,
                  weight, dy, dx, dweight, dbias) ||
        check_window(k, "conv2d_backward", w, &filled, "x", x, "dy", dy) || check_weight(k, "conv2d_backward", w, x, weight))
        return -1;
    if (mbk_count(dy) == 0 || mbk_count(x) == 0)
        return dx ? mbk_zero(k, dx) : 0;
    return MBK_CALL(k, conv2d_backward, &filled, x, weight, dy, dx, dweight, dbias);
}

int mbk_maxpool2d(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *x, const struct mbk_tensor *y,
                  const struct mbk_tensor *argmax)
{
    struct mbk_window filled;
    if (mbk_check(k, "maxpool2d", "x:f[N,H,W,C] y:f[N,P,Q,C] argmax?:I32[N,P,Q,C]", x, y, argmax) ||
        check_window(k, "maxpool2d", w, &filled, "x", x, "y", y))
        return -1;
    return mbk_count(y) == 0 ? 0 : MBK_CALL(k, maxpool2d, &filled, x, y, argmax);
}

int mbk_maxpool2d_backward(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *argmax, const struct mbk_tensor *dy,
                           const struct mbk_tensor *dx)
{
    struct mbk_window filled;
    if (mbk_check(k, "maxpool2d_backward", "argmax:I32[N,P,Q,C] dy:f[N,P,Q,C] dx:f[N,H,W,C]", argmax, dy, dx) ||
        check_window(k, "maxpool2d_backward", w, &filled, "dx", dx, "dy", dy))
        return -1;
    if (mbk_count(dy) == 0)
        return mbk_zero(k, dx);
    return MBK_CALL(k, maxpool2d_backward, &filled, argmax, dy, dx);
}

int mbk_avgpool2d(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *x, const struct mbk_tensor *y)
{
    struct mbk_window filled;
    if (mbk_check(k, "avgpool2d", "x:f[N,H,W,C] y:f[N,P,Q,C]", x, y) || check_window(k, "avgpool2d", w, &filled, "x", x, "y", y))
        return -1;
    return mbk_count(y) == 0 ? 0 : MBK_CALL(k, avgpool2d, &filled, x, y);
}

int mbk_avgpool2d_backward(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *dy, const struct mbk_tensor *dx)
{
    struct mbk_window filled;
    if (mbk_check(k, "avgpool2d_backward", "dy:f[N,P,Q,C] dx:f[N,H,W,C]", dy, dx) ||
        check_window(k, "avgpool2d_backward", w, &filled, "dx", dx, "dy", dy))
        return -1;
    if (mbk_count(dy) == 0)
        return mbk_zero(k, dx);
    return MBK_CALL(k, avgpool2d_backward, &filled, dy, dx);
}
