/* int8.h: the innermost part of 8-bit products, one for each kind of instruction.
 *
 * As in gemm.h a tile of c stays in registers while k runs, four elements of k at a step: a step of the packed b holds four bytes for
 * each of columns_most columns, and a is read four bytes at a time from rows padded to fours. Sums are exact in 32 bits for k up to 2^17.
 */
#ifndef MBK_CPU_INT8_H
#define MBK_CPU_INT8_H

#include "cpu.h"

struct cpu_int8_tile {
    int64_t steps;    /* of four */
    const int8_t *a;  /* row i from a + i · a_row on */
    int64_t a_row;
    const int8_t *b;  /* one panel */
    int32_t *c;
    int64_t ldc;
    int rows, columns;
};

struct cpu_int8_kernel {
    int rows_most, columns_most;
    int offset; /* what the instruction adds to each element of a to make it unsigned: the sums then are offset · Σ b too great */
    void (*tile)(const struct cpu_int8_tile *t);
    int32_t (*dot)(const int8_t *a, const int8_t *b, int64_t n); /* Σ a b, exact: nothing is offset */
};

int32_t cpu_int8_dot(const int8_t *a, const int8_t *b, int64_t n); /* in C, for whoever has nothing better */
extern const struct cpu_int8_kernel cpu_int8_plain;
#ifdef __x86_64__
extern const struct cpu_int8_kernel cpu_int8_avx2, cpu_int8_avx_vnni, cpu_int8_avx512_vnni, cpu_int8_amx;
#endif

#endif
