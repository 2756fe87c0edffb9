/* cpu.h: what the CPU's operations share: threads, scratch memory, what the processor can do, and elements of any float type.
 *
 * Every operation works in float32. Operands of another float type are taken a row or a piece at a time: cpu_in gives the
 * elements as floats, copied into a buffer only where that is needed; cpu_out says where to write, and cpu_put brings it home.
 *
 * The same calls give the same bits for any number of threads: work is cut into ranges of independent elements or rows, or, for
 * sums across rows, into parts whose size does not depend on the threads and which are added in order.
 */
#ifndef MBK_CPU_H
#define MBK_CPU_H

#include "backend.h"

#include <string.h>

/* What the processor can do, from the least to the most; each has all that is before it. */
enum cpu_level {
    CPU_PLAIN,   /* whatever the compiler was told */
    CPU_AVX2,    /* AVX2, FMA, F16C: x86-64-v3 */
    CPU_AVX512,  /* AVX-512 F, BW, CD, DQ, VL: x86-64-v4 */
};

struct cpu {
    int threads;
    enum cpu_level level;
    int avx512_vnni, avx_vnni, avx512_bf16, amx; /* beside the level */
    int blas;                  /* float32 products go to CBLAS */
    struct cpu_pool *pool;
    char *scratch;          /* one block; what did not fit lies in `overflow` until it is released */
    size_t scratch_cap, scratch_used, scratch_peak;
    struct cpu_overflow *overflow;
};

static inline struct cpu *cpu_of(const struct mbk *k)
{
    return k->state;
}

/* -- Threads. Cuts [0, count) into a few ranges a thread, each of whole multiples of `grain` but for the last, calls body(context, first,
 * end, worker) on each, and waits. worker < threads tells which scratch is its own; it may be called for several ranges. Ranges depend on
 * the number of threads, so that no sum may go across elements of [0, count) within body. Cannot fail; must not be called from within a
 * body. */
typedef void cpu_body(void *context, int64_t first, int64_t end, int worker);
void cpu_parallel(struct mbk *k, int64_t count, int64_t grain, cpu_body *body, void *context);

/* A grain such that a range holds work worth a thread: `cost` is what one of count costs, in elements touched. */
static inline int64_t cpu_grain(int64_t cost)
{
    enum { WORTH_A_THREAD = 32768 };
    return cost >= WORTH_A_THREAD ? 1 : cost < 1 ? WORTH_A_THREAD : WORTH_A_THREAD / cost;
}

struct cpu_pool *cpu_pool_open(int threads); /* NULL if threads cannot be had */
void cpu_pool_close(struct cpu_pool *pool);

/* -- Scratch, as a stack: what was taken after a mark goes when it is released. Aligned to 64, not cleared. NULL after mbk_fail. */
size_t cpu_mark(struct mbk *k);
void *cpu_scratch(struct mbk *k, size_t bytes);
void cpu_release(struct mbk *k, size_t mark);

/* A function compiled several times, of which the best is taken at load time. For loops that the compiler vectorizes: without contraction
 * or reordering, all of them give the same bits. Features rather than arch=…, which means the one maker's processor. Only static functions,
 * since gcc and clang differ in what a declaration elsewhere would need, but under names that no other file has, since clang 14 lets the
 * choosing function be seen by all. */
#if defined __x86_64__ && defined __linux__ && !defined __SANITIZE_THREAD__
#define CPU_CLONES __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define CPU_CLONES
#endif

/* A loop over independent elements, which the compiler need not prove: in place is the same element, and outputs overlap no other
 * inputs. */
#ifdef __clang__
#pragma clang diagnostic ignored "-Wpass-failed" /* at -O1 it says of each that it did not */
#define CPU_LOOP(i, n) _Pragma("clang loop vectorize(assume_safety)") for (int64_t i = 0; i < (n); i++)
#else
#define CPU_LOOP(i, n) _Pragma("GCC ivdep") for (int64_t i = 0; i < (n); i++)
#endif

/* Before a loop over registers, which must not stay a loop. */
#ifdef __clang__
#define CPU_UNROLL _Pragma("unroll")
#else
#define CPU_UNROLL _Pragma("GCC unroll 16")
#endif

/* -- Elements. */
static inline float cpu_bf16_to_float(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint16_t cpu_float_to_bf16(float x) /* to nearest even; a NaN stays one */
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? (bits >> 16) | 0x40 : rounded);
}

void cpu_bf16_to_floats(const uint16_t *from, float *to, int64_t n);
void cpu_floats_to_bf16(const float *from, uint16_t *to, int64_t n);

/* n elements of t from `first` on as floats: t's own, or in `buffer`. t is F32 or BF16. */
static inline const float *cpu_in(const struct mbk_tensor *t, int64_t first, int64_t n, float *buffer)
{
    if (t->type == MBK_F32)
        return (const float *)t->data + first;
    cpu_bf16_to_floats((const uint16_t *)t->data + first, buffer, n);
    return buffer;
}

/* Where to write elements of t from `first` on. */
static inline float *cpu_out(const struct mbk_tensor *t, int64_t first, float *buffer)
{
    return t->type == MBK_F32 ? (float *)t->data + first : buffer;
}

/* What was written there goes into t. */
static inline void cpu_put(const struct mbk_tensor *t, int64_t first, int64_t n, const float *written)
{
    if (t->type != MBK_F32)
        cpu_floats_to_bf16(written, (uint16_t *)t->data + first, n);
}

/* How many elements the elementwise operations convert at once. */
enum { CPU_PIECE = 1024 };

/* -- The operations there are, a line for each file; cpu_NAME is the entry NAME of struct mbk_backend. */
#define CPU_OPERATIONS(OP) \
    OP(gemm) OP(linear_int8) OP(linear_int4) OP(quantize_rows) OP(quantize) OP(dequantize_rows) \
    OP(activate) OP(activate_backward) \
    OP(add) OP(multiply) OP(scale) OP(axpy) OP(cast) \
    OP(dropout) OP(random_normal) OP(random_uniform) \
    OP(conv2d) OP(conv2d_backward) \
    OP(maxpool2d) OP(maxpool2d_backward) OP(avgpool2d) OP(avgpool2d_backward) \
    OP(softmax) OP(softmax_backward) \
    OP(argmax) OP(sum_rows) OP(sum) OP(min_max) OP(histogram) \
    OP(cross_entropy) OP(bce_with_logits) OP(mse) OP(distillation) \
    OP(layernorm) OP(layernorm_backward) OP(rmsnorm) OP(rmsnorm_backward) OP(top_k) \
    OP(embedding) OP(embedding_backward) OP(rope) OP(attend) OP(attend_backward) OP(sample) \
    OP(bpr) OP(private_sum) OP(quantize_groups) OP(dequantize_groups) OP(quantize_blocks) OP(dequantize_blocks) \
    OP(adam) OP(sgd) OP(gradient_norm) OP(zero_gradients) \
    OP(comm_open) OP(all_reduce) OP(comm_close)

#define CPU_DECLARE(name) __typeof__(*((struct mbk_backend *)0)->name) cpu_##name;
CPU_OPERATIONS(CPU_DECLARE)

#endif
