/* convert.c: elements of one type as those of another. */
#include "cpu.h"

CPU_CLONES void cpu_bf16_to_floats(const uint16_t *from, float *to, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = cpu_bf16_to_float(from[i]);
}

CPU_CLONES void cpu_floats_to_bf16(const float *from, uint16_t *to, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = cpu_float_to_bf16(from[i]);
}
