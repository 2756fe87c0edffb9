/* kernels.h: tensor operations, one interface for every device.
 *
 * A `struct mbk` is one stream of work on one device, with its own scratch memory and its own last error; use it on one
 * thread at a time. Operations on it happen in the order of the calls; on a GPU a call returns before its work is done, and mbk_read and
 * mbk_sync wait. Every operation checks its shapes and types before it touches anything and returns 0, or -1 with a
 * message in mbk_error that names both shapes. Shapes with a 0 in them are fine and do nothing.
 *
 * Tensors are dense and row-major, last dimension fastest; a view is a tensor whose `data` points into another, at any
 * element that lies at a multiple of mbk_alignment. Operations never allocate what they return: the caller gives every output. An output may be an input only where "in place" is
 * said. Gradients are *added* to what a `d…` tensor of parameters holds, so that micro-batches accumulate; gradients of
 * activations are overwritten. A NULL tensor means "not wanted" where the comment says optional.
 *
 * "float" below is float32 or bfloat16, the same for all operands unless said; sums, statistics and losses are kept in
 * float32. NaN and infinity go where IEEE 754 sends them. The same calls with the same seed give the same bits on the same device.
 */
#ifndef MBUILD_KERNELS_H
#define MBUILD_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define MBK_MAX_RANK 6

enum mbk_type {
    MBK_F32 = 1, MBK_BF16, MBK_F16, MBK_F64, MBK_I64, MBK_I32, MBK_I8, MBK_U8,
    MBK_F8_E4M3, MBK_F8_E5M2,
    MBK_I4,               /* two to a byte, low nibble first, signed, in groups with a scale each (mbk_quantize_groups) */
    MBK_Q8_0, MBK_Q4_0, MBK_Q4_K /* GGUF's block layouts: 32, 32 and 256 elements of the last dimension to a block */
};

struct mbk_tensor {
    void *data;           /* on the device of the stream that it is given to */
    enum mbk_type type;
    int rank;             /* 0 is a scalar */
    int64_t shape[MBK_MAX_RANK];
};

/* -- Tensors; no device needed. */
struct mbk_tensor mbk_tensor(void *data, enum mbk_type type, int rank, const int64_t *shape);
struct mbk_tensor mbk_tensor1(void *data, enum mbk_type type, int64_t a);
struct mbk_tensor mbk_tensor2(void *data, enum mbk_type type, int64_t a, int64_t b);
struct mbk_tensor mbk_tensor3(void *data, enum mbk_type type, int64_t a, int64_t b, int64_t c);
struct mbk_tensor mbk_tensor4(void *data, enum mbk_type type, int64_t a, int64_t b, int64_t c, int64_t d);
int64_t mbk_count(const struct mbk_tensor *t);         /* elements */
size_t mbk_bytes(const struct mbk_tensor *t);          /* of its data; block types: whole blocks */
struct mbk_tensor mbk_rows(const struct mbk_tensor *t, int64_t first, int64_t count); /* a view along the first dimension */
/* the same data; counts must agree, else data is NULL */
struct mbk_tensor mbk_reshaped(const struct mbk_tensor *t, int rank, const int64_t *shape);
const char *mbk_type_name(enum mbk_type type);         /* "F32", as safetensors has it */
int mbk_block(enum mbk_type type);                     /* elements that are stored together: 1, of I4 2, of GGUF's blocks 32 or 256 */
size_t mbk_alignment(enum mbk_type type);              /* what the address of its data is a multiple of: GGUF's blocks begin with a half, so 2 */

/* -- Streams. */
struct mbk;
struct mbk_options {
    int threads;          /* CPU: how many to keep busy, this one included; 0: one a processor */
    size_t scratch;       /* bytes of scratch to take at once; it grows in the first steps anyway */
};
/* `device`: "cpu", "cuda", "cuda:1". On failure returns -1 and fills `message`. `options` may be NULL. */
int mbk_open(const char *device, const struct mbk_options *options, struct mbk **out, char *message, size_t message_size);
void mbk_close(struct mbk *k);
const char *mbk_error(const struct mbk *k);            /* of the last call that failed; lasts until the next one that does */
const char *mbk_device(const struct mbk *k);           /* "cpu", "cuda" */
const char *mbk_description(const struct mbk *k);      /* "2 threads, AVX-512 VNNI BF16, OpenBLAS", for logs and `doctor` */
int mbk_available(const char *device);                 /* 1 if mbk_open would probably succeed */
int mbk_supports(const struct mbk *k, enum mbk_type type); /* whether products take it as it is: fp8 is for Hopper */
int mbk_sync(struct mbk *k);

/* -- Several streams of one kind, each on a device of its own, that share the work of one thread. */
struct mbk_comm;
/* 1 or more streams, which must outlive it. On CUDA by NCCL. On failure returns -1 and fills `message`. */
int mbk_comm_open(struct mbk *const *streams, int count, struct mbk_comm **out, char *message, size_t message_size);
void mbk_comm_close(struct mbk_comm *c); /* NULL is fine */
/* parts[i], float and all alike, is on stream i: each becomes the sum of all, with the same bits on all streams, and the same again for the
 * same devices; the CPU adds them in the order of the streams. In the order of each stream; it can't be recorded. A message is the first
 * stream's. */
int mbk_all_reduce(struct mbk_comm *c, const struct mbk_tensor *parts);
int mbk_device_count(const char *kind);                /* of "cpu": 1; of "cuda": those that the process sees, 0 without the backend */

/* -- Memory of the device, aligned to 256 bytes. Allocation is for set-up, not for loops. */
void *mbk_alloc(struct mbk *k, size_t bytes);          /* zeroed; NULL if there is none */
void mbk_free(struct mbk *k, void *p);
int mbk_write(struct mbk *k, void *to, const void *from_host, size_t bytes);
int mbk_read(struct mbk *k, void *to_host, const void *from, size_t bytes); /* waits */
int mbk_copy(struct mbk *k, const struct mbk_tensor *from, const struct mbk_tensor *to); /* same type and count */
int mbk_zero(struct mbk *k, const struct mbk_tensor *t);
size_t mbk_memory_used(const struct mbk *k);           /* bytes taken from the device, scratch included */
/* Recording: begin, the calls of a step, end; then replay as often as wanted, which costs the host one call (a CUDA graph). The calls are
 * not carried out while they are recorded, and nothing may be allocated, written or read meanwhile: make the same calls once before, so that
 * all they need is there. Addresses, shapes and numbers are those of the recording, but for what mbk_vary sets.
 * mbk_records: whether the device records at all; the CPU doesn't, nor does any with MBK_GRAPHS=0 in the environment. mbk_capture_begin
 * returns 1 there: just call. mbk_replay returns 1 if memory of the stream was freed since, to which the recording may point: record anew. */
int mbk_records(const struct mbk *k);
int mbk_capture_begin(struct mbk *k);
int mbk_capture_end(struct mbk *k, void **graph); /* ends it whatever happened; *graph is NULL on failure */
int mbk_replay(struct mbk *k, void *graph);
void mbk_graph_free(struct mbk *k, void *graph);
/* What differs from one replay to the next, and is looked up when the work is done: operations that take a Philox offset add `offset` to
 * theirs, losses multiply their `scale` by `scale`, optimizers their `lr` by `lr`, and Adam adds `step` to its step. Holds for all work behind
 * it in the stream, recorded or not. NULL goes back to what a new stream has: 0, 0, 1, 1. */
struct mbk_varying {
    uint64_t offset;
    int64_t step;
    float scale, lr;
};
int mbk_vary(struct mbk *k, const struct mbk_varying *v);

/* -- Products. */
enum mbk_activation { MBK_NONE, MBK_RELU, MBK_GELU, MBK_GELU_TANH, MBK_SILU, MBK_TANH, MBK_SIGMOID };

/* c = activation(alpha · op(a) op(b) + beta · c + bias) + residual.
 * a [..., M, K], b [..., K, N], c [..., M, N]; transposed: a [..., K, M], b [..., N, K]. Leading dimensions are a batch; an operand
 * of rank 2 serves the whole batch. a, b float, or both MBK_I8 with c MBK_I32; c float32 or as a. b may be MBK_Q8_0, MBK_Q4_0, MBK_Q4_K
 * transposed ([N, K], float a). */
struct mbk_product {
    const struct mbk_tensor *a, *b, *c;
    int transpose_a, transpose_b;
    float alpha, beta;                   /* both 0 means alpha 1, beta 0 */
    const struct mbk_tensor *bias;       /* [N], float; optional */
    enum mbk_activation activation;
    const struct mbk_tensor *before;     /* optional: gets what goes into the activation, for backward; like c */
    const struct mbk_tensor *residual;   /* like c; optional */
    int64_t lda, ldb, ldc;               /* elements from row to row; 0: dense. Rank 2 only */
};
int mbk_matmul(struct mbk *k, const struct mbk_product *p);

/* Linear layer y = activation(x wᵀ + bias): x [R, I], w [O, I], y [R, O]. */
int mbk_linear(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *w, const struct mbk_tensor *bias,
               enum mbk_activation activation, const struct mbk_tensor *before, const struct mbk_tensor *y);
/* Its backward after the activation's own: dy is the gradient of what goes into the activation. dx (optional) [R, I] is set, dw, dbias
 * (optional) are added to. */
int mbk_linear_backward(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *w, const struct mbk_tensor *dy,
                        const struct mbk_tensor *dx, const struct mbk_tensor *dw, const struct mbk_tensor *dbias);

/* -- Elementwise. In place is fine. */
int mbk_activate(struct mbk *k, enum mbk_activation f, const struct mbk_tensor *x, const struct mbk_tensor *y);
/* dx = dy · f'(x), x what went into the activation. */
int mbk_activate_backward(struct mbk *k, enum mbk_activation f, const struct mbk_tensor *x, const struct mbk_tensor *dy,
                          const struct mbk_tensor *dx);
/* c = a + b; b may be [last dimension] */
int mbk_add(struct mbk *k, const struct mbk_tensor *a, const struct mbk_tensor *b, const struct mbk_tensor *c);
int mbk_multiply(struct mbk *k, const struct mbk_tensor *a, const struct mbk_tensor *b, const struct mbk_tensor *c);
int mbk_scale(struct mbk *k, float factor, const struct mbk_tensor *x); /* x = factor · x */
int mbk_axpy(struct mbk *k, float factor, const struct mbk_tensor *x, const struct mbk_tensor *y); /* y += factor · x */
/* among floats (fp8 too) and integers; round to nearest even, saturating to integers and fp8 */
int mbk_cast(struct mbk *k, const struct mbk_tensor *from, const struct mbk_tensor *to);
/* y = x · mask / (1 − rate), mask from Philox4x32-10 (Salmon et al., SC 2011): element i uses word i % 4 of counter offset + i / 4 under
 * key `seed`, and is kept if word / 2³² ≥ rate. Backward is the same call on dy. In place is fine. */
int mbk_dropout(struct mbk *k, float rate, uint64_t seed, uint64_t offset, const struct mbk_tensor *x, const struct mbk_tensor *y);
/* Box-Muller on the same counters */
int mbk_random_normal(struct mbk *k, float mean, float deviation, uint64_t seed, uint64_t offset, const struct mbk_tensor *x);
int mbk_random_uniform(struct mbk *k, float least, float most, uint64_t seed, uint64_t offset, const struct mbk_tensor *x);
/* The generator itself, on the host: four words of counter (offset) under key `seed`. */
void mbk_philox(uint64_t seed, uint64_t offset, uint32_t out[4]);

/* -- Images. Layout NHWC; weights [O, KH, KW, I]. */
struct mbk_window {
    int kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w; /* stride 0 means 1 */
};
int mbk_conv2d(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *x, const struct mbk_tensor *weight,
               const struct mbk_tensor *bias, enum mbk_activation f, const struct mbk_tensor *before, const struct mbk_tensor *y);
int mbk_conv2d_backward(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *x, const struct mbk_tensor *weight,
                        const struct mbk_tensor *dy, const struct mbk_tensor *dx, const struct mbk_tensor *dweight,
                            const struct mbk_tensor *dbias);
/* argmax I32 like y, optional: the element's index in x's image [H, W, C]; the first of equals; NaN counts as greatest. */
int mbk_maxpool2d(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *x, const struct mbk_tensor *y,
                  const struct mbk_tensor *argmax);
int mbk_maxpool2d_backward(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *argmax, const struct mbk_tensor *dy,
                           const struct mbk_tensor *dx);
int mbk_avgpool2d(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *x, const struct mbk_tensor *y); /* padding counts */
int mbk_avgpool2d_backward(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *dy, const struct mbk_tensor *dx);
int64_t mbk_window_out(int64_t in, int kernel, int stride, int pad); /* the size that comes out of a window */

/* -- Rows. x [R, C] or any rank, C the last dimension. */
int mbk_softmax(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *y); /* in place is fine */
int mbk_softmax_backward(struct mbk *k, const struct mbk_tensor *y, const struct mbk_tensor *dy, const struct mbk_tensor *dx);
/* gamma, beta [C]; mean, rstd F32 [R], kept for backward (optional in inference); y is a float of its own, to go into products. */
int mbk_layernorm(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *gamma, const struct mbk_tensor *beta, float eps,
                  const struct mbk_tensor *y, const struct mbk_tensor *mean, const struct mbk_tensor *rstd);
int mbk_layernorm_backward(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *gamma, const struct mbk_tensor *mean,
                           const struct mbk_tensor *rstd, const struct mbk_tensor *dy, const struct mbk_tensor *dx,
                           const struct mbk_tensor *dgamma, const struct mbk_tensor *dbeta);
int mbk_rmsnorm(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *gamma, float eps, const struct mbk_tensor *y,
                const struct mbk_tensor *rstd);
int mbk_rmsnorm_backward(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *gamma, const struct mbk_tensor *rstd,
                         const struct mbk_tensor *dy, const struct mbk_tensor *dx, const struct mbk_tensor *dgamma);
int mbk_argmax(struct mbk *k, const struct mbk_tensor *x,
               const struct mbk_tensor *out /* I32 [R] */); /* the first of equals; NaN counts as greatest */
int mbk_top_k(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *values /* [R, n] */,
              const struct mbk_tensor *indices /* I32 */); /* descending, ties by index */
int mbk_sum_rows(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *out /* [C], added to */);
int mbk_sum(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *out /* F32 scalar, set */);
int mbk_min_max(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *out /* F32 [2], set; NaN if there is one */);
/* Counts float values in `bins` equal parts of [least, most]; outside values go to the first and last, NaN
 * nowhere. The bin is ⌊(x − least) · (bins / (most − least))⌋ in float32. counts I64 [bins], added to. */
int mbk_histogram(struct mbk *k, const struct mbk_tensor *x, float least, float most, const struct mbk_tensor *counts);

/* -- Losses. `losses` F32 [R] (set), `dlogits` like logits (optional, set), already times `scale` (1/R for a mean).
 * A label of -100 is a row that doesn't count: loss and gradient 0. */
int mbk_cross_entropy(struct mbk *k, const struct mbk_tensor *logits /* [R, C] */, const struct mbk_tensor *labels /* I32 [R] */,
                      float smoothing, float scale, const struct mbk_tensor *losses, const struct mbk_tensor *dlogits);
int mbk_bce_with_logits(struct mbk *k, const struct mbk_tensor *logits /* [R, C] */,
                        const struct mbk_tensor *targets /* F32, like logits */,
                        float scale, const struct mbk_tensor *losses /* the mean over C */, const struct mbk_tensor *dlogits);
int mbk_mse(struct mbk *k, const struct mbk_tensor *x /* [R, C] */, const struct mbk_tensor *targets /* F32 */, float scale,
            const struct mbk_tensor *losses /* the mean over C */, const struct mbk_tensor *dx);
/* Hinton, Vinyals, Dean 2015: alpha · T² · KL(softmax(teacher/T) ‖ softmax(student/T)) + (1 − alpha) · cross-entropy(student, labels).
 * labels may be NULL if alpha is 1. */
int mbk_distillation(struct mbk *k, const struct mbk_tensor *student, const struct mbk_tensor *teacher, const struct mbk_tensor *labels,
                     float temperature, float alpha, float scale, const struct mbk_tensor *losses, const struct mbk_tensor *dstudent);
/* Rendle et al. 2009 (BPR): −log σ(positive − negative), each [R]. */
int mbk_bpr(struct mbk *k, const struct mbk_tensor *positive, const struct mbk_tensor *negative, float scale,
            const struct mbk_tensor *losses,
            const struct mbk_tensor *dpositive, const struct mbk_tensor *dnegative);

/* -- Sequences. */
/* y[r] = table[ids[r]]: ids I32 [R], table [V, C], y [R, C]. An id outside the table is an error where the host can see it, else NaN.
 * The table may be MBK_Q8_0, MBK_Q4_0 or MBK_Q4_K, whose rows then are whole blocks. */
int mbk_embedding(struct mbk *k, const struct mbk_tensor *table, const struct mbk_tensor *ids, const struct mbk_tensor *y);
int mbk_embedding_backward(struct mbk *k, const struct mbk_tensor *ids, const struct mbk_tensor *dy,
                           const struct mbk_tensor *dtable /* added to; same bits every time */);
/* How fast rotary positions turn: at pair i of D/2 by base^(−2i/D) a position. With a factor (0: none) all turn so much slower (linear
 * interpolation); with `original` too, as in Llama 3, those alone that turn fewer than `low` times in so many positions, those that turn
 * more than `high` times not, and the ones between them as far as they lie between. */
struct mbk_rotary {
    float base, factor;
    float low, high, original;
};
/* Rotary positions (Su et al. 2021) in Llama's layout (halves, not pairs): x [B, T, H, D] in place; positions start + t. sign −1 is
 * backward. */
int mbk_rope(struct mbk *k, const struct mbk_tensor *x, int64_t start, const struct mbk_rotary *r, int sign);
/* Attention (Vaswani et al. 2017; blocked as Dao et al. 2022: no whole score matrix). q [B, T, H, D]; keys, values [B, S, G, D] with H a
 * multiple of G (grouped heads). lengths I32 [B] (optional): how many keys of each row are real, counted from the left. causal: query t
 * sees keys up to t + S − T. out like q; lse F32 [B, H, T], kept for backward. A query that sees nothing gives 0. On
 * CUDA what is not finite among keys and queries may reach others of its head that don't see it; on the CPU it doesn't. */
struct mbk_attention {
    const struct mbk_tensor *q, *keys, *values, *lengths, *out, *lse;
    float scale;          /* 0: 1/√D */
    int causal;
    float dropout;        /* with seed, offset as mbk_dropout, over [B, H, T, S] */
    uint64_t seed, offset;
};
int mbk_attend(struct mbk *k, const struct mbk_attention *a);
int mbk_attend_backward(struct mbk *k, const struct mbk_attention *a, const struct mbk_tensor *dout, const struct mbk_tensor *dq,
                        const struct mbk_tensor *dkeys, const struct mbk_tensor *dvalues);
/* One token from each row of logits [R, V], for generation; ids I32 [R]. temperature 0: the greatest. top_k 0, top_p 1: no limit. Row r
 * draws from counter offset + r. */
int mbk_sample(struct mbk *k, const struct mbk_tensor *logits, float temperature, int top_k, float top_p, uint64_t seed, uint64_t offset,
               const struct mbk_tensor *ids);

/* -- Optimizers, over many tensors at once. */
struct mbk_parameter {
    struct mbk_tensor value;      /* float */
    struct mbk_tensor gradient;   /* float, perhaps another */
    struct mbk_tensor master;     /* F32; data NULL where value is float32 */
    struct mbk_tensor first, second; /* F32 moments; SGD uses the first alone */
    float decay;                  /* weight decay of this one (0 for biases and norms) */
};
/* AdamW (Loshchilov and Hutter 2019), decay decoupled: p −= lr · (m̂ / (√v̂ + eps) + decay · p); `coupled`: decay · p is added to the
 * gradient instead (Adam with L2). step counts from 1. The gradient is first multiplied by `gradient_scale`. */
struct mbk_adam {
    float lr, beta1, beta2, eps;
    int coupled;
    int64_t step;
    float gradient_scale;
    const struct mbk_tensor *scale; /* optional F32 scalar on the device, multiplied in as well: from mbk_clip_scale */
};
int mbk_adam(struct mbk *k, const struct mbk_adam *o, struct mbk_parameter *parameters, int count);
/* v = momentum · v + g + decay · p; p −= lr · (nesterov ? g + momentum · v : v), as PyTorch's SGD. */
struct mbk_sgd {
    float lr, momentum;
    int nesterov;
    float gradient_scale;
    const struct mbk_tensor *scale;
};
int mbk_sgd(struct mbk *k, const struct mbk_sgd *o, struct mbk_parameter *parameters, int count);
/* The 2-norm over all gradients, F32 scalar; and the factor min(1, most / (norm + 1e-6)) that clips it. Either may be NULL. */
int mbk_gradient_norm(struct mbk *k, const struct mbk_parameter *parameters, int count, float most, const struct mbk_tensor *norm,
                      const struct mbk_tensor *scale);
int mbk_zero_gradients(struct mbk *k, struct mbk_parameter *parameters, int count);
/* Abadi et al. 2016: gradients [B, P] of single examples: each row scaled to norm ≤ most, summed into `sum` [P] (added), plus noise of
 * deviation `noise` · most, Philox as above. */
int mbk_private_sum(struct mbk *k, const struct mbk_tensor *gradients, float most, float noise, uint64_t seed, uint64_t offset,
                    const struct mbk_tensor *sum);

/* -- Quantization. Symmetric, q = round-to-nearest-even(x / scale), scale = max|x| / 127 (a row of zeros: scale 1). */
int mbk_quantize_rows(struct mbk *k, const struct mbk_tensor *x /* float [R, C] */, const struct mbk_tensor *q /* I8 */,
                      const struct mbk_tensor *scales /* F32 [R], set */);
int mbk_quantize(struct mbk *k, const struct mbk_tensor *x, float scale,
                 const struct mbk_tensor *q /* I8: one given scale for all; beyond ±127 saturates, NaN gives 0 */);
int mbk_dequantize_rows(struct mbk *k, const struct mbk_tensor *q, const struct mbk_tensor *scales, const struct mbk_tensor *x);
/* y = activation(x_scales[r] · w_scales[o] · (x wᵀ) + bias): x I8 [R, I], w I8 [O, I]; x_scales F32 [R] or scalar; y float32 or bfloat16. */
int mbk_linear_int8(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *x_scales, const struct mbk_tensor *w,
                    const struct mbk_tensor *w_scales, const struct mbk_tensor *bias, enum mbk_activation f, const struct mbk_tensor *y);
/* 4-bit weights in groups along the last dimension: q I4 [O, I], scales F32 [O, I / group]. */
int mbk_quantize_groups(struct mbk *k, const struct mbk_tensor *x, int group, const struct mbk_tensor *q, const struct mbk_tensor *scales);
int mbk_dequantize_groups(struct mbk *k, const struct mbk_tensor *q, const struct mbk_tensor *scales, int group,
                          const struct mbk_tensor *x);
int mbk_linear_int4(struct mbk *k, const struct mbk_tensor *x /* float */, const struct mbk_tensor *w, const struct mbk_tensor *scales,
                    int group,
                    const struct mbk_tensor *bias, enum mbk_activation f, const struct mbk_tensor *y);
/* To and from GGUF's blocks (ggml-common.h, ggml-quants.c); the last dimension is a multiple of the block. */
int mbk_quantize_blocks(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *q);
int mbk_dequantize_blocks(struct mbk *k, const struct mbk_tensor *q, const struct mbk_tensor *x);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
