/* loops.c: the loops of loops.h for processors of which nothing is known, and the choice among all. */
#define TARGET
#define LOOPS cpu_loops_plain
#include "loops_body.h"

const struct cpu_loops *cpu_loops_of(const struct mbk *k)
{
#ifdef __x86_64__
    switch (cpu_of(k)->level) {
    case CPU_AVX512: return &cpu_loops_avx512;
    case CPU_AVX2: return &cpu_loops_avx2;
    case CPU_PLAIN: break;
    }
#endif
    (void)k;
    return &cpu_loops_plain;
}
