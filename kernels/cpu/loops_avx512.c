/* loops_avx512.c: the loops of loops.h by AVX-512. */
#include "loops.h"

#ifdef __x86_64__
#define TARGET __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,fma")))
#define VEC_FMA(a, b, c) __builtin_fmaf(a, b, c)
#define LOOPS cpu_loops_avx512
#include "loops_body.h"
#endif
