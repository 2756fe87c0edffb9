/* blocks.h: GGUF's block layouts, and 4-bit groups, as rows of floats: what products of such weights read. */
#ifndef MBK_CPU_BLOCKS_H
#define MBK_CPU_BLOCKS_H

#include "cpu.h"

/* n elements from `first` on, whole blocks of them; type is MBK_Q8_0, MBK_Q4_0 or MBK_Q4_K. */
void cpu_blocks_to_floats(enum mbk_type type, const void *data, int64_t first, int64_t n, float *to);
/* The scales and minima of the eight parts of a block of Q4_K, six bits each, in twelve bytes. The lower six bits of parts 0 … 3 are
 * bytes 0 … 3 and, of the minima, 4 … 7; of parts 4 … 7 the lower four bits of both are bytes 8 … 11, and the upper two stand above
 * those of parts 0 … 3. Four parts at a time, a byte each. */
static inline void cpu_q4_k_scales(const uint8_t packed[12], uint8_t scales[8], uint8_t minima[8])
{
    uint32_t a, b, c, low, high;
    memcpy(&a, packed, 4);
    memcpy(&b, packed + 4, 4);
    memcpy(&c, packed + 8, 4);
    low = a & 0x3f3f3f3f;
    high = (c & 0x0f0f0f0f) | (a >> 2 & 0x30303030);
    memcpy(scales, &low, 4);
    memcpy(scales + 4, &high, 4);
    low = b & 0x3f3f3f3f;
    high = (c >> 4 & 0x0f0f0f0f) | (b >> 2 & 0x30303030);
    memcpy(minima, &low, 4);
    memcpy(minima + 4, &high, 4);
}

#ifdef __x86_64__
/* Σ of so many of them times x, without making floats of them first (blocks_avx512.c); and of n 4-bit weights in groups, whose length is a
 * multiple of CPU_INT4_DOT, q and scales from the first of them on. */
enum { CPU_INT4_DOT = 32 };
float cpu_blocks_dot_avx512(enum mbk_type type, const void *data, int64_t first, int64_t n, const float *x);
float cpu_int4_dot_avx512(const uint8_t *q, const float *scales, int64_t group, int64_t n, const float *x);
#endif

#endif
