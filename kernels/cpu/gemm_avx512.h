/* gemm_avx512.h: AVX-512's vectors for gemm_tile.h. What includes it says TARGET, V_FMA, ROWS and VECTORS. */
#ifndef MBK_CPU_GEMM_AVX512_H
#define MBK_CPU_GEMM_AVX512_H

#include <immintrin.h>

#define V __m512
#define V_MASK __mmask16
#define V_ZERO _mm512_setzero_ps()
#define V_ONE(x) _mm512_set1_ps(x)
#define V_LOAD(p) _mm512_loadu_ps(p)
#define V_STORE(p, v) _mm512_storeu_ps(p, v)
#define V_ADD(a, b) _mm512_add_ps(a, b)
#define V_SUM(v) _mm512_reduce_add_ps(v)
#define V_PART(n) ((__mmask16)((1u << (n)) - 1))
#define V_LOAD_PART(p, m) _mm512_maskz_loadu_ps(m, p)
#define V_STORE_PART(p, m, v) _mm512_mask_storeu_ps(p, m, v)
enum { WIDTH = 16 };

#endif
