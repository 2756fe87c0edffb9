/* gemm_avx2.c: the innermost product by AVX2 and FMA: 6 × 16 in twelve registers, two loads of b and six broadcasts of a to twelve
 * multiply-adds. */
#include "gemm.h"

#ifdef __x86_64__
#include <immintrin.h>

static const int32_t first_n[16] = { -1, -1, -1, -1, -1, -1, -1, -1 };

/* The halves, then pairs. */
__attribute__((target("avx2"))) static inline float sum_of(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
}

#define TARGET __attribute__((target("avx2,fma")))
#define V __m256
#define V_MASK __m256i
#define V_ZERO _mm256_setzero_ps()
#define V_ONE(x) _mm256_set1_ps(x)
#define V_LOAD(p) _mm256_loadu_ps(p)
#define V_STORE(p, v) _mm256_storeu_ps(p, v)
#define V_ADD(a, b) _mm256_add_ps(a, b)
#define V_FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define V_SUM(v) sum_of(v)
#define V_PART(n) _mm256_loadu_si256((const __m256i *)(const void *)(first_n + 8 - (n)))
#define V_LOAD_PART(p, m) _mm256_maskload_ps(p, m)
#define V_STORE_PART(p, m, v) _mm256_maskstore_ps(p, m, v)
enum { WIDTH = 8, ROWS = 6, VECTORS = 2 };

#include "gemm_tile.h"

#define ROW_OF_TILES(rows) TILE_FUNCTION(rows, 1) TILE_FUNCTION(rows, 2)
ROW_OF_TILES(1)
ROW_OF_TILES(2)
ROW_OF_TILES(3)
ROW_OF_TILES(4)
ROW_OF_TILES(5)
ROW_OF_TILES(6)

DOTS_FUNCTIONS

static void tile(const struct cpu_tile *t)
{
#define ENTRIES(rows) { tile_##rows##_1, tile_##rows##_2 }
    static void (*const tiles[ROWS][VECTORS])(const struct cpu_tile *t) = { ENTRIES(1), ENTRIES(2), ENTRIES(3),
                                                                           ENTRIES(4), ENTRIES(5), ENTRIES(6) };
    tiles[t->rows - 1][(t->columns - 1) / WIDTH](t);
}

const struct cpu_gemm_kernel cpu_gemm_avx2 = { ROWS, COLUMNS, tile, dots, transpose };
#endif
