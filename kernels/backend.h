/* backend.h: what a device must do to carry out kernels.h.
 *
 * The public functions (kernels/mbk*.c) check shapes and types once for all devices and then call the entry of the same
 * name in the stream's table. So an entry may rely on all that kernels.h asks for, and on this besides:
 *
 *   - no output has a 0 in its shape, nor any input but for the length of a sum: products with K = 0 do arrive;
 *   - optional tensors are NULL where not wanted, never tensors without data;
 *   - `float` operands are MBK_F32 or MBK_BF16 and agree as kernels.h says; an entry that lacks one of them returns
 *     mbk_unsupported(). A NULL entry is an operation that the device lacks, which the caller is told;
 *   - defaults are filled in: window strides ≥ 1, attention's scale, alpha and beta, leading dimensions.
 *
 * Data is on the device: nothing outside a backend ever reads through a tensor's pointer. Entries return 0, or -1 after
 * mbk_fail(). A backend must not know another one; it may call mbk_fail, mbk_unsupported and the tensor functions of kernels.h.
 */
#ifndef MBK_BACKEND_H
#define MBK_BACKEND_H

#include "mbuild/kernels.h"

#define MBK_BACKEND_VERSION 2 /* goes up with any change of this file: a library of another version is refused */
#define MBK_IGNORED_LABEL (-100)

struct mbk {
    const struct mbk_backend *backend;
    void *state;            /* the backend's own */
    size_t memory;          /* bytes taken from the device: the backend counts */
    struct mbk_varying varying; /* of mbk_vary */
    char description[128];  /* written by the backend's open */
    char error[512];
};

/* A product as it is done: batch times c[m, n] = activation(alpha · op(a)[m, k] op(b)[k, n] + beta · c + bias) + residual. The caller
 * has already folded a batch that shares b into the rows of a. Linear layers come as products as well. */
struct mbk_gemm {
    int64_t m, n, k, batch;
    const void *a, *b;
    void *c;
    /* F32 F32 F32; BF16 BF16 BF16 or F32; fp8 fp8 BF16 or F32; I8 I8 I32; float blocks like a or F32 */
    enum mbk_type a_type, b_type, c_type;
    int transpose_a, transpose_b;          /* stored as [k, m]; as [n, k] */
    int64_t lda, ldb, ldc;                 /* elements from stored row to stored row */
    int64_t stride_a, stride_b, stride_c;  /* elements from one of the batch to the next; 0: the same for all */
    float alpha, beta;                     /* beta 0: c is not read */
    const void *bias;                      /* [n] */
    enum mbk_type bias_type;
    enum mbk_activation activation;
    void *before;                          /* dense [batch, m, n] of c_type, as is residual */
    const void *residual;
};

struct mbk_backend {
    int version;            /* MBK_BACKEND_VERSION */
    size_t size;            /* sizeof(struct mbk_backend) */
    const char *name;       /* "cpu" */

    /* -- The device. `index` is the number after the colon. */
    int (*available)(int index);
    int (*open)(struct mbk *k, int index, const struct mbk_options *options); /* options are never NULL; fills state and description */
    void (*close)(struct mbk *k);
    int (*supports)(const struct mbk *k, enum mbk_type type);
    int (*sync)(struct mbk *k);

    /* -- Memory. */
    void *(*alloc)(struct mbk *k, size_t bytes); /* zeroed, aligned to 256; bytes > 0; NULL after mbk_fail */
    void (*free)(struct mbk *k, void *p);
    int (*write)(struct mbk *k, void *to, const void *from_host, size_t bytes);
    int (*read)(struct mbk *k, void *to_host, const void *from, size_t bytes);
    int (*copy)(struct mbk *k, void *to, const void *from, size_t bytes);
    int (*zero)(struct mbk *k, void *to, size_t bytes);
    int (*capture_begin)(struct mbk *k);         /* these five: NULL where calls are not recorded */
    int (*capture_end)(struct mbk *k, void **graph);
    int (*replay)(struct mbk *k, void *graph);
    int (*vary)(struct mbk *k);                  /* k->varying is new; without this entry it has gone into the arguments that arrive */
    void (*graph_free)(struct mbk *k, void *graph);

    /* -- Several streams of this backend, 2 or more. Messages are streams[0]'s. NULL where there can be but one. */
    int (*count)(void);                          /* devices; NULL: 1 */
    int (*comm_open)(struct mbk *const *streams, int count, void **comm);
    int (*all_reduce)(struct mbk *const *streams, int count, void *comm, const struct mbk_tensor *parts); /* alike, and not empty */
    void (*comm_close)(struct mbk *const *streams, int count, void *comm);

    /* -- Products. */
    int (*gemm)(struct mbk *k, const struct mbk_gemm *g);
    int (*linear_int8)(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *x_scales, const struct mbk_tensor *w,
                       const struct mbk_tensor *w_scales, const struct mbk_tensor *bias, enum mbk_activation f, const struct mbk_tensor *y);
    int (*linear_int4)(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *w, const struct mbk_tensor *scales, int group,
                       const struct mbk_tensor *bias, enum mbk_activation f, const struct mbk_tensor *y);

    /* -- Elementwise. */
    int (*activate)(struct mbk *k, enum mbk_activation f, const struct mbk_tensor *x, const struct mbk_tensor *y);
    int (*activate_backward)(struct mbk *k, enum mbk_activation f, const struct mbk_tensor *x, const struct mbk_tensor *dy,
                             const struct mbk_tensor *dx);
    int (*add)(struct mbk *k, const struct mbk_tensor *a, const struct mbk_tensor *b, const struct mbk_tensor *c); /* b like a, or [last] */
    int (*multiply)(struct mbk *k, const struct mbk_tensor *a, const struct mbk_tensor *b, const struct mbk_tensor *c); /* the same */
    int (*scale)(struct mbk *k, float factor, const struct mbk_tensor *x);
    int (*axpy)(struct mbk *k, float factor, const struct mbk_tensor *x, const struct mbk_tensor *y);
    int (*cast)(struct mbk *k, const struct mbk_tensor *from, const struct mbk_tensor *to);
    int (*dropout)(struct mbk *k, float rate, uint64_t seed, uint64_t offset, const struct mbk_tensor *x, const struct mbk_tensor *y);
    int (*random_normal)(struct mbk *k, float mean, float deviation, uint64_t seed, uint64_t offset, const struct mbk_tensor *x);
    int (*random_uniform)(struct mbk *k, float least, float most, uint64_t seed, uint64_t offset, const struct mbk_tensor *x);

    /* -- Images. */
    int (*conv2d)(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *x, const struct mbk_tensor *weight,
                  const struct mbk_tensor *bias, enum mbk_activation f, const struct mbk_tensor *before, const struct mbk_tensor *y);
    int (*conv2d_backward)(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *x, const struct mbk_tensor *weight,
                           const struct mbk_tensor *dy, const struct mbk_tensor *dx, const struct mbk_tensor *dweight,
                           const struct mbk_tensor *dbias); /* dx, dweight, dbias optional */
    int (*maxpool2d)(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *x, const struct mbk_tensor *y,
                     const struct mbk_tensor *argmax); /* argmax optional */
    int (*maxpool2d_backward)(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *argmax, const struct mbk_tensor *dy,
                              const struct mbk_tensor *dx);
    int (*avgpool2d)(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *x, const struct mbk_tensor *y);
    int (*avgpool2d_backward)(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *dy, const struct mbk_tensor *dx);

    /* -- Rows. Any rank ≥ 1: mbk_row_count and mbk_row_length. */
    int (*softmax)(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *y);
    int (*softmax_backward)(struct mbk *k, const struct mbk_tensor *y, const struct mbk_tensor *dy, const struct mbk_tensor *dx);
    int (*layernorm)(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *gamma, const struct mbk_tensor *beta, float eps,
                     const struct mbk_tensor *y, const struct mbk_tensor *mean, const struct mbk_tensor *rstd);
    int (*layernorm_backward)(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *gamma, const struct mbk_tensor *mean,
                              const struct mbk_tensor *rstd, const struct mbk_tensor *dy, const struct mbk_tensor *dx,
                              const struct mbk_tensor *dgamma, const struct mbk_tensor *dbeta);
    int (*rmsnorm)(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *gamma, float eps, const struct mbk_tensor *y,
                   const struct mbk_tensor *rstd);
    int (*rmsnorm_backward)(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *gamma, const struct mbk_tensor *rstd,
                            const struct mbk_tensor *dy, const struct mbk_tensor *dx, const struct mbk_tensor *dgamma);
    int (*argmax)(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *out);
    int (*top_k)(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *values, const struct mbk_tensor *indices);
    int (*sum_rows)(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *out); /* out float, of any of both types */
    int (*sum)(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *out);
    int (*min_max)(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *out);
    int (*histogram)(struct mbk *k, const struct mbk_tensor *x, float least, float most, const struct mbk_tensor *counts);

    /* -- Losses. */
    int (*cross_entropy)(struct mbk *k, const struct mbk_tensor *logits, const struct mbk_tensor *labels, float smoothing, float scale,
                         const struct mbk_tensor *losses, const struct mbk_tensor *dlogits);
    int (*bce_with_logits)(struct mbk *k, const struct mbk_tensor *logits, const struct mbk_tensor *targets, float scale,
                           const struct mbk_tensor *losses, const struct mbk_tensor *dlogits);
    int (*mse)(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *targets, float scale, const struct mbk_tensor *losses,
               const struct mbk_tensor *dx);
    int (*distillation)(struct mbk *k, const struct mbk_tensor *student, const struct mbk_tensor *teacher, const struct mbk_tensor *labels,
                        float temperature, float alpha, float scale, const struct mbk_tensor *losses, const struct mbk_tensor *dstudent);
    int (*bpr)(struct mbk *k, const struct mbk_tensor *positive, const struct mbk_tensor *negative, float scale,
               const struct mbk_tensor *losses, const struct mbk_tensor *dpositive, const struct mbk_tensor *dnegative);

    /* -- Sequences. */
    int (*embedding)(struct mbk *k, const struct mbk_tensor *table, const struct mbk_tensor *ids, const struct mbk_tensor *y);
    int (*embedding_backward)(struct mbk *k, const struct mbk_tensor *ids, const struct mbk_tensor *dy, const struct mbk_tensor *dtable);
    int (*rope)(struct mbk *k, const struct mbk_tensor *x, int64_t start, const struct mbk_rotary *r, int sign);
    int (*attend)(struct mbk *k, const struct mbk_attention *a); /* lengths, lse optional */
    int (*attend_backward)(struct mbk *k, const struct mbk_attention *a, const struct mbk_tensor *dout, const struct mbk_tensor *dq,
                           const struct mbk_tensor *dkeys, const struct mbk_tensor *dvalues);
    int (*sample)(struct mbk *k, const struct mbk_tensor *logits, float temperature, int top_k, float top_p, uint64_t seed,
                  uint64_t offset, const struct mbk_tensor *ids);

    /* -- Optimizers. Parameters without elements may be among them. */
    int (*adam)(struct mbk *k, const struct mbk_adam *o, struct mbk_parameter *parameters, int count);
    int (*sgd)(struct mbk *k, const struct mbk_sgd *o, struct mbk_parameter *parameters, int count);
    int (*gradient_norm)(struct mbk *k, const struct mbk_parameter *parameters, int count, float most, const struct mbk_tensor *norm,
                         const struct mbk_tensor *scale);
    int (*zero_gradients)(struct mbk *k, struct mbk_parameter *parameters, int count);
    int (*private_sum)(struct mbk *k, const struct mbk_tensor *gradients, float most, float noise, uint64_t seed, uint64_t offset,
                       const struct mbk_tensor *sum);

    /* -- Quantization. */
    int (*quantize_rows)(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *q, const struct mbk_tensor *scales);
    int (*quantize)(struct mbk *k, const struct mbk_tensor *x, float scale, const struct mbk_tensor *q);
    int (*dequantize_rows)(struct mbk *k, const struct mbk_tensor *q, const struct mbk_tensor *scales, const struct mbk_tensor *x);
    int (*quantize_groups)(struct mbk *k, const struct mbk_tensor *x, int group, const struct mbk_tensor *q,
                           const struct mbk_tensor *scales);
    int (*dequantize_groups)(struct mbk *k, const struct mbk_tensor *q, const struct mbk_tensor *scales, int group,
                             const struct mbk_tensor *x);
    int (*quantize_blocks)(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *q);
    int (*dequantize_blocks)(struct mbk *k, const struct mbk_tensor *q, const struct mbk_tensor *x);
};

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* The one symbol of libmbkernels-cuda.so. */
const struct mbk_backend *mbk_cuda_backend(void);

/* Keeps the message and returns -1. */
int mbk_fail(struct mbk *k, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* "layernorm: BF16 is not supported on cpu"; returns -1. */
int mbk_unsupported(struct mbk *k, const char *operation, enum mbk_type type);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

/* A tensor as rows of its last dimension; a scalar is one row of one. */
/* One of GGUF's types. */
static inline int mbk_is_blocks(enum mbk_type type)
{
    return mbk_block(type) >= 32;
}

static inline int64_t mbk_row_length(const struct mbk_tensor *t)
{
    return t->rank == 0 ? 1 : t->shape[t->rank - 1];
}

static inline int64_t mbk_row_count(const struct mbk_tensor *t)
{
    int64_t rows = 1;
    for (int i = 0; i + 1 < t->rank; i++)
        rows *= t->shape[i];
    return rows;
}

#endif
