/* gemm.h: the innermost part of matrix products, one for each level of processor.
 *
 * A tile of c, up to `rows_most` × `columns_most`, is kept in registers while k runs. b comes packed: panels of columns_most columns, in
 * each of which the elements of one k stand together, those beyond the last column 0. a is taken where it lies: element (row, k) is
 * a[row · a_row + k · a_step].
 */
#ifndef MBK_CPU_GEMM_H
#define MBK_CPU_GEMM_H

#include "cpu.h"

struct cpu_tile {
    int64_t k;
    const float *a;
    int64_t a_row, a_step;
    const float *b; /* one panel, from the first k on */
    float *c;
    int64_t ldc;
    int rows, columns;
    int add; /* c += the product, else c = */
};

/* For few rows of a, where packing b would cost more than it gives: c[i, j] = Σ a[i, k] b[j, k], rows of both taken where they lie. */
struct cpu_dots {
    int64_t k;
    const float *a, *b;
    int64_t a_row, b_row;
    float *c;
    int64_t ldc;
    int rows, columns; /* 1 … CPU_DOTS_MOST each */
    float alpha;
};
enum { CPU_DOTS_MOST = 4 };

struct cpu_gemm_kernel {
    int rows_most, columns_most;
    void (*tile)(const struct cpu_tile *t);
    void (*dots)(const struct cpu_dots *d);
    /* to[j · width + i] = factor · from[i · ld + j] for i < rows, j < columns; the rest of each row of `to` is cleared. */
    void (*transpose)(const float *from, int64_t ld, int64_t rows, int64_t columns, float *to, int64_t width, float factor);
};

extern const struct cpu_gemm_kernel cpu_gemm_plain;
#ifdef __x86_64__
extern const struct cpu_gemm_kernel cpu_gemm_avx2, cpu_gemm_avx512, cpu_gemm_avx512_wide; /* the last: for attention */
#endif

/* The one for this processor. */
const struct cpu_gemm_kernel *cpu_gemm_kernel_of(const struct mbk *k);

/* Weights that are no floats, as b, transposed: n elements from `first` on are made floats, all of a row or 256 at a time of it; or the
 * dot product of all of a row with x is made at once, for which one row of a asks; dot may be NULL. */
struct cpu_gemm_reader {
    void (*read)(const void *context, int64_t first, int64_t n, float *to);
    float (*dot)(const void *context, int64_t first, int64_t n, const float *x);
};
/* cpu_gemm by one kernel; reader NULL: b is floats. */
int cpu_gemm_by(struct mbk *k, const struct mbk_gemm *g, const struct cpu_gemm_kernel *kernel, const struct cpu_gemm_reader *reader,
                const void *context);

/* Products of bfloat16 by the instructions for it (gemm_bf16.c): alpha is 1, and k above 0. */
int cpu_gemm_bf16(struct mbk *k, const struct mbk_gemm *g);

/* Products of bytes (int8.c). */
int cpu_gemm_int8(struct mbk *k, const struct mbk_gemm *g);

/* A float32 product by CBLAS, one of the batch and what is not bias, activation or residual (gemm_blas.c). */
void cpu_gemm_blas(struct mbk *k, const struct mbk_gemm *g, const float *a, const float *b, float *c);

#endif
