/* gpu.h: what the files of the CUDA backend share.
 *
 * A `struct gpu` is one stream on one device with its libraries' handles, its scratch memory, the pinned memory that host copies go through,
 * and the plans that cuBLASLt and cuDNN have made for shapes seen before. All work goes to that one stream, so scratch may be given out again
 * as soon as the call that took it has been queued. Nothing here waits for the device but mbk_sync, mbk_read, mbk_write when its staging is
 * full, mbk_free and the growth of scratch. Must not know how an operation is computed.
 */
#ifndef MBK_GPU_H
#define MBK_GPU_H

#include "backend.h"
#include "config.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { GPU_LEAST_ARCH = 80, GPU_FP8_ARCH = 89 };

struct gpu_gemm_plans;
struct gpu_conv_plans;

/* Blocks of scratch; all but the last are full or were too small. */
struct gpu_scratch_block {
    char *base;
    size_t size, used;
};

struct gpu_scratch {
    struct gpu_scratch_block blocks[32];
    int count;
    int depth;        /* marks that have not been released */
    long takes;       /* since the outermost of them */
};

/* Pinned memory in segments: a segment is written again when the copies out of it are done. */
enum { GPU_SEGMENTS = 4, GPU_SEGMENT = 4 << 20 };
struct gpu_staging {
    char *memory;
    cudaEvent_t done[GPU_SEGMENTS];
    int current;
    size_t used;      /* of the current segment */
};

struct gpu_allocation {
    void *p;
    size_t bytes;
};

struct gpu {
    int index;        /* of the device */
    int arch;         /* 90 is compute capability 9.0 */
    int processors;   /* multiprocessors */
    cudaStream_t stream;
    int capturing;
    long captures;    /* graphs recorded: they hold addresses of scratch, which then may not move */
    long frees;       /* of mbk_free so far */
    struct mbk_varying *varying; /* k->varying as the device has it */
    struct gpu_allocation *allocations; /* of mbk_alloc */
    int allocation_count, allocation_room;
    struct gpu_scratch scratch;
    struct gpu_staging up, down;
    cublasLtHandle_t lt;
    void *lt_workspace;
    size_t lt_workspace_size;
    struct gpu_gemm_plans *gemm_plans;
    void *cudnn;      /* cudnnHandle_t, made when first wanted */
    struct gpu_conv_plans *conv_plans;
};

static inline struct gpu *gpu_of(struct mbk *k)
{
    return (struct gpu *)k->state;
}

/* 0, or -1 with "what: CUDA's message (name)". */
int gpu_check(struct mbk *k, const char *what, cudaError_t error);
int gpu_check_lt(struct mbk *k, const char *what, cublasStatus_t status);
/* Makes the stream's device the calling thread's. Every entry that calls CUDA but through gpu_launch does so first. */
int gpu_enter(struct mbk *k);

/* Scratch of at least `bytes`, aligned to 256, of undefined content; NULL after mbk_fail. Give all of it back, before returning, by the mark
 * that was taken before. A recorded step cannot grow it: the same step must have run once before. */
size_t gpu_scratch_mark(struct mbk *k);
void *gpu_scratch(struct mbk *k, const char *what, size_t bytes);
void gpu_scratch_release(struct mbk *k, size_t mark);

/* What mbk_vary has set, on the device: kernels look it up when they run. */
static inline const struct mbk_varying *gpu_varying(struct mbk *k)
{
    return gpu_of(k)->varying;
}

/* Memory that counts in k->memory. */
void *gpu_malloc(struct mbk *k, const char *what, size_t bytes);
void gpu_release(struct mbk *k, void *p, size_t bytes);

/* Whether this library holds code for the stream's device: asks for a kernel of ours. */
int gpu_has_code(void);

/* -- What operations use of each other. */

/* c [rows, columns], rows ldc apart: c = activation(c · row_scale[r] · column_scale[c] + bias) + residual, `before` gets what goes in. Dense
 * before and residual. `from` is c itself, or another matrix of from_type with rows ld_from apart (I32 sums of an int8 product, F32 sums for a BF16 c), or
 * NULL: 0. */
struct gpu_finish {
    int64_t rows, columns;
    const void *from;
    enum mbk_type from_type;
    int64_t ld_from;
    void *c;
    enum mbk_type c_type;
    int64_t ldc;
    const float *row_scale;      /* optional */
    int one_row_scale;           /* row_scale is a single number */
    const float *column_scale;   /* optional */
    const void *bias;            /* optional */
    enum mbk_type bias_type;
    enum mbk_activation activation;
    void *before;                /* of c_type; optional */
    const void *residual;        /* of c_type; optional */
};
int gpu_finish(struct mbk *k, const char *what, const struct gpu_finish *f);

/* c = beta · c where there is no product to add (K = 0); beta 0 sets it. Batches are `batch` matrices stride_c apart. */
int gpu_scale_matrix(struct mbk *k, const struct mbk_gemm *g);
/* Any int8 product, by dot products of four bytes: for what the tensor cores' layouts don't fit. */
int gpu_gemm_int8_any(struct mbk *k, const struct mbk_gemm *g);
/* mbk_embedding of a table in GGUF blocks. */
int gpu_embedding_blocks(struct mbk *k, const struct mbk_tensor *table, const struct mbk_tensor *ids, const struct mbk_tensor *y);
/* Weights in GGUF blocks, [n, k], to floats of `type`. */
int gpu_dequantize(struct mbk *k, const char *what, enum mbk_type blocks, const void *q, int64_t rows, int64_t columns, enum mbk_type type,
                   void *x);
/* [rows, columns] of one-byte elements, ld apart, to `to`: [to_rows, to_columns] dense, transposed if wanted; what is beyond is 0. */
int gpu_pack_bytes(struct mbk *k, const char *what, const void *from, int64_t rows, int64_t columns, int64_t ld, int transpose, void *to,
                   int64_t to_rows, int64_t to_columns);
/* One or few rows by weights in blocks, read as they are. Returns 1 if the shape is not one for it. */
int gpu_gemv_blocks(struct mbk *k, const struct mbk_gemm *g);
enum { GPU_GEMV_ROWS = 8 }; /* of a, at most, that it takes */
void gpu_gemm_close(struct mbk *k);
void gpu_conv_close(struct mbk *k);

/* x's windows as rows: images [images, H, W, C] to columns [images · P · Q, KH · KW · C] of the same type; and, from float32, their sum back. */
struct gpu_windows {
    int64_t height, width, channels, out_h, out_w;
    struct mbk_window w;
};
int gpu_im2col(struct mbk *k, const struct gpu_windows *g, enum mbk_type type, const void *x, int64_t images, void *columns);
int gpu_col2im(struct mbk *k, const struct gpu_windows *g, enum mbk_type type, const float *columns, int64_t images, void *x);
/* Convolution as products of these, for shapes that cuDNN has no plan for, and without cuDNN. */
int gpu_conv_forward_by_product(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *x, const struct mbk_tensor *weight,
                                float beta, const struct mbk_tensor *y);
int gpu_conv_backward_by_product(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *x, const struct mbk_tensor *weight,
                                 const struct mbk_tensor *dy, const struct mbk_tensor *dx, const struct mbk_tensor *dweight);

/* -- The entries of the table: gpu_NAME is NAME of struct mbk_backend. */
#define GPU_OPERATIONS(OP) \
    OP(gemm) OP(linear_int8) OP(linear_int4) \
    OP(activate) OP(activate_backward) OP(add) OP(multiply) OP(scale) OP(axpy) OP(cast) \
    OP(dropout) OP(random_normal) OP(random_uniform) \
    OP(conv2d) OP(conv2d_backward) OP(maxpool2d) OP(maxpool2d_backward) OP(avgpool2d) OP(avgpool2d_backward) \
    OP(softmax) OP(softmax_backward) OP(layernorm) OP(layernorm_backward) OP(rmsnorm) OP(rmsnorm_backward) \
    OP(argmax) OP(top_k) OP(sum_rows) OP(sum) OP(min_max) OP(histogram) \
    OP(cross_entropy) OP(bce_with_logits) OP(mse) OP(distillation) OP(bpr) \
    OP(embedding) OP(embedding_backward) OP(rope) OP(attend) OP(attend_backward) OP(sample) \
    OP(adam) OP(sgd) OP(gradient_norm) OP(zero_gradients) OP(private_sum) \
    OP(quantize_rows) OP(quantize) OP(dequantize_rows) OP(quantize_groups) OP(dequantize_groups) \
    OP(quantize_blocks) OP(dequantize_blocks) \
    OP(comm_open) OP(all_reduce) OP(comm_close)

#define GPU_DECLARE(name) __typeof__(*((struct mbk_backend *)0)->name) gpu_##name;
GPU_OPERATIONS(GPU_DECLARE)

#ifdef __cplusplus
}
#endif
#endif
