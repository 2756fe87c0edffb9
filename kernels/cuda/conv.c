/* conv.c: convolution by cuDNN, or by products where cuDNN is not there or has no plan.
 *
 * Layout is NHWC throughout. Of cuDNN's algorithms only those are asked for that sum in one fixed order and do so directly: transforms
 * (Winograd, FFT) lose digits, and the ones with atomic sums give other bits each time. float32 is float32 (FMA), bfloat16 takes the
 * tensor cores. Descriptors, algorithm and workspace of a shape are found once and kept. Bias and activation are gpu_finish's; in bfloat16 the
 * bias is laid out first and the convolution added to it, so that their sum is rounded once.
 */
#include "gpu.h"

#include <stdlib.h>
#include <string.h>

/* y's bias, activation, and what went into it, in one pass; y is `from` y, or nothing yet. */
static int finish(struct mbk *k, const void *from, const struct mbk_tensor *bias, enum mbk_activation f, const struct mbk_tensor *before,
                  const struct mbk_tensor *y)
{
    if (from && !bias && f == MBK_NONE && !before)
        return 0;
    int64_t columns = y->shape[3];
    struct gpu_finish job = {
        .rows = mbk_count(y) / columns, .columns = columns, .from = from, .from_type = y->type, .ld_from = columns,
        .c = y->data, .c_type = y->type, .ldc = columns, .bias = bias ? bias->data : NULL, .bias_type = bias ? bias->type : MBK_F32,
        .activation = f, .before = before ? before->data : NULL,
    };
    return gpu_finish(k, "conv2d", &job);
}

#if HAVE_CUDNN
#include <cudnn.h>

enum direction { FORWARD, TO_DATA, TO_WEIGHT };

struct key {
    int64_t x[4], w[4], y[4];
    struct mbk_window window;
    int type, direction;
};

struct plan {
    struct key key;
    int usable; /* 0: cuDNN has no algorithm that we want */
    cudnnTensorDescriptor_t x, y;
    cudnnFilterDescriptor_t w;
    cudnnConvolutionDescriptor_t conv;
    int algorithm;
    size_t workspace;
    struct plan *next;
};

struct gpu_conv_plans {
    struct plan *first;
    int count;
};

/* A network has tens of shapes; this many come only from ever-changing image sizes. */
enum { MOST_PLANS = 1024 };

static int check(struct mbk *k, cudnnStatus_t status)
{
    return status == CUDNN_STATUS_SUCCESS ? 0 : mbk_fail(k, "conv2d: cuDNN: %s", cudnnGetErrorString(status));
}

static void free_plan(struct plan *p)
{
    if (p->x)
        (void)cudnnDestroyTensorDescriptor(p->x);
    if (p->y)
        (void)cudnnDestroyTensorDescriptor(p->y);
    if (p->w)
        (void)cudnnDestroyFilterDescriptor(p->w);
    if (p->conv)
        (void)cudnnDestroyConvolutionDescriptor(p->conv);
    free(p);
}

static void forget_plans(struct gpu_conv_plans *plans)
{
    for (struct plan *p = plans->first, *next; p; p = next) {
        next = p->next;
        free_plan(p);
    }
    plans->first = NULL;
    plans->count = 0;
}

void gpu_conv_close(struct mbk *k)
{
    struct gpu *g = gpu_of(k);
    if (g->conv_plans) {
        forget_plans(g->conv_plans);
        free(g->conv_plans);
        g->conv_plans = NULL;
    }
    if (g->cudnn)
        (void)cudnnDestroy((cudnnHandle_t)g->cudnn);
    g->cudnn = NULL;
}

static int open_cudnn(struct mbk *k)
{
    struct gpu *g = gpu_of(k);
    if (g->cudnn)
        return 0;
    if (g->capturing)
        return mbk_fail(k, "conv2d: run the step once before it is recorded");
    cudnnHandle_t handle = NULL;
    if (check(k, cudnnCreate(&handle)))
        return -1;
    if (check(k, cudnnSetStream(handle, g->stream))) {
        (void)cudnnDestroy(handle);
        return -1;
    }
    g->cudnn = handle;
    return 0;
}

/* The first of an ordered list of algorithms that cuDNN takes for the shape. */
static int choose(struct mbk *k, struct plan *p)
{
    static const int forward[] = { CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM, CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM, -1 };
    static const int to_data[] = { CUDNN_CONVOLUTION_BWD_DATA_ALGO_1, -1 };
    static const int to_weight[] = { CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1, -1 };
    static const int *const wanted[] = { [FORWARD] = forward, [TO_DATA] = to_data, [TO_WEIGHT] = to_weight };
    cudnnHandle_t h = gpu_of(k)->cudnn;
    for (const int *a = wanted[p->key.direction]; *a >= 0; a++) {
        cudnnStatus_t status;
        size_t bytes = 0;
        switch (p->key.direction) {
        case FORWARD:
            status = cudnnGetConvolutionForwardWorkspaceSize(h, p->x, p->w, p->conv, p->y, (cudnnConvolutionFwdAlgo_t)*a, &bytes);
            break;
        case TO_DATA:
            status = cudnnGetConvolutionBackwardDataWorkspaceSize(h, p->w, p->y, p->conv, p->x, (cudnnConvolutionBwdDataAlgo_t)*a, &bytes);
            break;
        default:
            status = cudnnGetConvolutionBackwardFilterWorkspaceSize(h, p->x, p->y, p->conv, p->w, (cudnnConvolutionBwdFilterAlgo_t)*a,
                                                                    &bytes);
        }
        if (status == CUDNN_STATUS_SUCCESS) {
            p->algorithm = *a;
            p->workspace = bytes;
            p->usable = 1;
            return 0;
        }
    }
    return 0;
}

static int describe(struct mbk *k, struct plan *p)
{
    const struct key *key = &p->key;
    const struct mbk_window *w = &key->window;
    cudnnDataType_t type = key->type == MBK_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
    if (check(k, cudnnCreateTensorDescriptor(&p->x)) || check(k, cudnnCreateTensorDescriptor(&p->y)) ||
        check(k, cudnnCreateFilterDescriptor(&p->w)) || check(k, cudnnCreateConvolutionDescriptor(&p->conv)))
        return -1;
    return check(k, cudnnSetTensor4dDescriptor(p->x, CUDNN_TENSOR_NHWC, type, (int)key->x[0], (int)key->x[3], (int)key->x[1],
                                               (int)key->x[2])) ||
           check(k, cudnnSetTensor4dDescriptor(p->y, CUDNN_TENSOR_NHWC, type, (int)key->y[0], (int)key->y[3], (int)key->y[1],
                                               (int)key->y[2])) ||
           check(k, cudnnSetFilter4dDescriptor(p->w, type, CUDNN_TENSOR_NHWC, (int)key->w[0], (int)key->w[3], (int)key->w[1],
                                               (int)key->w[2])) ||
           check(k, cudnnSetConvolution2dDescriptor(p->conv, w->pad_h, w->pad_w, w->stride_h, w->stride_w, 1, 1, CUDNN_CROSS_CORRELATION,
                                                    CUDNN_DATA_FLOAT)) ||
           check(k, cudnnSetConvolutionMathType(p->conv, key->type == MBK_BF16 ? CUDNN_TENSOR_OP_MATH : CUDNN_FMA_MATH)) ? -1 : 0;
}

static struct plan *find_plan(struct mbk *k, enum direction direction, const struct mbk_window *w, const struct mbk_tensor *x,
                              const struct mbk_tensor *weight, const struct mbk_tensor *y)
{
    struct gpu *g = gpu_of(k);
    struct key key;
    memset(&key, 0, sizeof key);
    memcpy(key.x, x->shape, sizeof key.x);
    memcpy(key.w, weight->shape, sizeof key.w);
    memcpy(key.y, y->shape, sizeof key.y);
    key.window = *w;
    key.type = x->type;
    key.direction = direction;
    if (open_cudnn(k))
        return NULL;
    if (!g->conv_plans && !(g->conv_plans = calloc(1, sizeof *g->conv_plans))) {
        mbk_fail(k, "conv2d: no memory for plans");
        return NULL;
    }
    for (struct plan *p = g->conv_plans->first; p; p = p->next)
        if (memcmp(&p->key, &key, sizeof key) == 0)
            return p;
    if (g->conv_plans->count >= MOST_PLANS)
        forget_plans(g->conv_plans);
    struct plan *p = calloc(1, sizeof *p);
    if (!p) {
        mbk_fail(k, "conv2d: no memory for a plan");
        return NULL;
    }
    p->key = key;
    /* cuDNN counts in int. */
    int fits = mbk_count(x) <= INT32_MAX && mbk_count(weight) <= INT32_MAX && mbk_count(y) <= INT32_MAX;
    if (fits && (describe(k, p) || choose(k, p))) {
        free_plan(p);
        return NULL;
    }
    p->next = g->conv_plans->first;
    g->conv_plans->first = p;
    g->conv_plans->count++;
    return p;
}

/* Returns 1 where cuDNN can't: then products do it. beta 1 adds to `out`. */
static int run(struct mbk *k, enum direction direction, const struct mbk_window *w, const struct mbk_tensor *x, const struct mbk_tensor *weight,
               const struct mbk_tensor *y, const void *from, void *out, float beta)
{
    float alpha = 1;
    cudnnHandle_t h;
    cudnnStatus_t status;
    struct plan *p = find_plan(k, direction, w, x, weight, y);
    if (!p)
        return -1;
    if (!p->usable)
        return 1;
    size_t mark = gpu_scratch_mark(k);
    void *space = gpu_scratch(k, "conv2d", p->workspace);
    if (!space) {
        gpu_scratch_release(k, mark);
        return -1;
    }
    h = gpu_of(k)->cudnn;
    switch (direction) {
    case FORWARD:
        status = cudnnConvolutionForward(h, &alpha, p->x, from, p->w, weight->data, p->conv, (cudnnConvolutionFwdAlgo_t)p->algorithm, space,
                                         p->workspace, &beta, p->y, out);
        break;
    case TO_DATA:
        status = cudnnConvolutionBackwardData(h, &alpha, p->w, weight->data, p->y, from, p->conv,
                                              (cudnnConvolutionBwdDataAlgo_t)p->algorithm, space, p->workspace, &beta, p->x, out);
        break;
    default:
        status = cudnnConvolutionBackwardFilter(h, &alpha, p->x, x->data, p->y, from, p->conv,
                                                (cudnnConvolutionBwdFilterAlgo_t)p->algorithm, space, p->workspace, &beta, p->w, out);
    }
    gpu_scratch_release(k, mark);
    if (status == CUDNN_STATUS_NOT_SUPPORTED) { /* what it promised it cannot do: never ask again */
        p->usable = 0;
        return 1;
    }
    return check(k, status);
}

/* Then x is the matrix already, and cuBLASLt is as good. */
static int is_pointwise(const struct mbk_window *w)
{
    return w->kernel_h == 1 && w->kernel_w == 1 && w->stride_h == 1 && w->stride_w == 1 && w->pad_h == 0 && w->pad_w == 0;
}

static int convolve(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *x, const struct mbk_tensor *weight, float beta,
                    const struct mbk_tensor *y)
{
    int status = is_pointwise(w) ? 1 : run(k, FORWARD, w, x, weight, y, x->data, y->data, beta);
    return status == 1 ? gpu_conv_forward_by_product(k, w, x, weight, beta, y) : status;
}

static int convolve_back(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *x, const struct mbk_tensor *weight,
                         const struct mbk_tensor *dy, const struct mbk_tensor *dx, const struct mbk_tensor *dweight)
{
    int pointwise = is_pointwise(w);
    if (dx) {
        int status = pointwise ? 1 : run(k, TO_DATA, w, dx, weight, dy, dy->data, dx->data, 0);
        if (status == 1)
            status = gpu_conv_backward_by_product(k, w, x, weight, dy, dx, NULL);
        if (status)
            return -1;
    }
    if (dweight) {
        /* Gradients in float32 of images in bfloat16 are beyond cuDNN's filters. */
        int status = pointwise || dweight->type != x->type ? 1 : run(k, TO_WEIGHT, w, x, dweight, dy, dy->data, dweight->data, 1);
        if (status == 1)
            status = gpu_conv_backward_by_product(k, w, x, weight, dy, NULL, dweight);
        if (status)
            return -1;
    }
    return 0;
}

#else

void gpu_conv_close(struct mbk *k)
{
    (void)k;
}

static int convolve(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *x, const struct mbk_tensor *weight, float beta,
                    const struct mbk_tensor *y)
{
    return gpu_conv_forward_by_product(k, w, x, weight, beta, y);
}

static int convolve_back(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *x, const struct mbk_tensor *weight,
                         const struct mbk_tensor *dy, const struct mbk_tensor *dx, const struct mbk_tensor *dweight)
{
    return gpu_conv_backward_by_product(k, w, x, weight, dy, dx, dweight);
}

#endif

int gpu_conv2d(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *x, const struct mbk_tensor *weight,
               const struct mbk_tensor *bias, enum mbk_activation f, const struct mbk_tensor *before, const struct mbk_tensor *y)
{
    int first = bias && y->type == MBK_BF16, nothing = x->shape[3] == 0; /* nothing: sums of no channels */
    if (gpu_enter(k))
        return -1;
    if ((first || nothing) && finish(k, NULL, first ? bias : NULL, MBK_NONE, NULL, y))
        return -1;
    if (!nothing && convolve(k, w, x, weight, first ? 1 : 0, y))
        return -1;
    return finish(k, y->data, first ? NULL : bias, f, before, y);
}

int gpu_conv2d_backward(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *x, const struct mbk_tensor *weight,
                        const struct mbk_tensor *dy, const struct mbk_tensor *dx, const struct mbk_tensor *dweight,
                        const struct mbk_tensor *dbias)
{
    if (gpu_enter(k) || convolve_back(k, w, x, weight, dy, dx, dweight))
        return -1;
    if (!dbias)
        return 0;
    struct mbk_tensor rows = mbk_tensor2(dy->data, dy->type, mbk_count(dy) / dy->shape[3], dy->shape[3]);
    return gpu_sum_rows(k, &rows, dbias);
}
