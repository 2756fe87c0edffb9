/* mma.cuh: the tensor cores' product of bfloat16, by a warp: c [16, 8] += a [16, 16] b [16, 8], float32 sums (PTX ISA, mma.m16n8k16).
 *
 * With g = lane / 4 and t = lane % 4 a thread holds of c: row g, columns 2t and 2t + 1, then the same of row g + 8; of a: two neighbours from
 * column 2t of rows g and g + 8, then from column 2t + 8 of the same; of b: rows 2t and 2t + 1 of column g, then rows 2t + 8 and 2t + 9.
 */
#ifndef MBK_MMA_CUH
#define MBK_MMA_CUH

#include "device.cuh"

__device__ __forceinline__ void mma_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

#endif
