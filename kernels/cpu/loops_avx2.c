/* loops_avx2.c: the loops of loops.h by AVX2 and fused multiply-adds. */
#include "loops.h"

#ifdef __x86_64__
#define TARGET __attribute__((target("avx2,fma")))
#define VEC_FMA(a, b, c) __builtin_fmaf(a, b, c)
#define LOOPS cpu_loops_avx2
#include "loops_body.h"
#endif
