/* int8_avx2.c: 8-bit products for processors with vectors of 256 bits: by AVX-VNNI where it is there, else by AVX2.
 *
 * AVX2's own product of bytes saturates, so there the even and the odd bytes are spread to 16 bits, and pairs of those are multiplied and
 * added, which is exact.
 */
#include "int8.h"

#ifdef __x86_64__
#include <immintrin.h>

enum { WIDTH = 8, ROWS = 6, VECTORS = 2 };

static const int32_t first_n[16] = { -1, -1, -1, -1, -1, -1, -1, -1 };

static inline int four_bytes(const int8_t *p)
{
    int four;
    memcpy(&four, p, sizeof four);
    return four;
}

#define ROW_OF_TILES(rows) TILE_FUNCTION(rows, 1) TILE_FUNCTION(rows, 2)
#define ALL_TILES ROW_OF_TILES(1) ROW_OF_TILES(2) ROW_OF_TILES(3) ROW_OF_TILES(4) ROW_OF_TILES(5) ROW_OF_TILES(6)
#define ENTRIES(rows) { NAME(tile_##rows##_1), NAME(tile_##rows##_2) }
#define TABLE { ENTRIES(1), ENTRIES(2), ENTRIES(3), ENTRIES(4), ENTRIES(5), ENTRIES(6) }
#define V __m256i
#define V_ZERO _mm256_setzero_si256()
#define V_LOAD(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define V_SAVE(p, v, n) _mm256_maskstore_epi32(p, _mm256_loadu_si256((const __m256i *)(const void *)(first_n + 8 - (n))), v)

/* -- AVX-VNNI. */
#define NAME(x) vnni_##x
#define TARGET __attribute__((target("avx2,avxvnni")))
#define A __m256i
#define A_FOUR(p) _mm256_xor_si256(_mm256_set1_epi32(four_bytes(p)), _mm256_set1_epi32((int)0x80808080))
#define V_DOT(sum, a, b) _mm256_dpbusd_avx_epi32(sum, a, b)
#include "int8_tile.h"
ALL_TILES

static void vnni_tile(const struct cpu_int8_tile *t)
{
    static void (*const tiles[ROWS][VECTORS])(const struct cpu_int8_tile *t) = TABLE;
    tiles[t->rows - 1][(t->columns - 1) / WIDTH](t);
}

const struct cpu_int8_kernel cpu_int8_avx_vnni = { ROWS, VECTORS * WIDTH, 128, vnni_tile, cpu_int8_dot };

/* -- AVX2. */
#undef NAME
#undef TARGET
#undef A
#undef A_FOUR
#undef V_DOT
#define NAME(x) avx2_##x
#define TARGET __attribute__((target("avx2")))
#define A struct halves
#define A_FOUR(p) spread(_mm256_set1_epi32(four_bytes(p)))
#define V_DOT(sum, a, b) dot(sum, a, b)

struct halves {
    __m256i even, odd;
};

TARGET static inline __attribute__((always_inline)) struct halves spread(__m256i bytes)
{
    return (struct halves){ _mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8), _mm256_srai_epi16(bytes, 8) };
}

TARGET static inline __attribute__((always_inline)) __m256i dot(__m256i sum, struct halves a, __m256i b)
{
    struct halves c = spread(b);
    return _mm256_add_epi32(sum, _mm256_add_epi32(_mm256_madd_epi16(a.even, c.even), _mm256_madd_epi16(a.odd, c.odd)));
}

#include "int8_tile.h"
ALL_TILES

static void avx2_tile(const struct cpu_int8_tile *t)
{
    static void (*const tiles[ROWS][VECTORS])(const struct cpu_int8_tile *t) = TABLE;
    tiles[t->rows - 1][(t->columns - 1) / WIDTH](t);
}

const struct cpu_int8_kernel cpu_int8_avx2 = { ROWS, VECTORS * WIDTH, 0, avx2_tile, cpu_int8_dot };
#endif
