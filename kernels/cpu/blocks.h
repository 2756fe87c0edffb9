/* blocks.h: GGUF's block layouts, and 4-bit groups, as rows of floats: what products of such weights read. */
#ifndef MBK_CPU_BLOCKS_H
#define MBK_CPU_BLOCKS_H

#include "cpu.h"

/* n elements from `first` on, whole blocks of them; type is MBK_Q8_0, MBK_Q4_0 or MBK_Q4_K. */
void cpu_blocks_to_floats(enum mbk_type type, const void *data, int64_t first, int64_t n, float *to);

#endif
