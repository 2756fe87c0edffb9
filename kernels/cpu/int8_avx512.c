/* int8_avx512.c: 8-bit products by AVX-512 VNNI: 64 products and sums an instruction, bytes of a unsigned and so offset by 128. */
#include "amx.h"

#ifdef __x86_64__
#include <immintrin.h>

#define NAME(x) x
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vnni")))
#define V __m512i
#define A __m512i
#define V_ZERO _mm512_setzero_si512()
#define V_LOAD(p) _mm512_loadu_si512(p)
#define A_FOUR(p) _mm512_xor_si512(_mm512_set1_epi32(four_bytes(p)), _mm512_set1_epi32((int)0x80808080))
#define V_DOT(sum, a, b) dot(sum, a, b)
#define V_SAVE(p, v, n) _mm512_mask_storeu_epi32(p, (__mmask16)((1u << (n)) - 1), v)
enum { WIDTH = 16, ROWS = 8, VECTORS = 3 };

static inline int four_bytes(const int8_t *p)
{
    int four;
    memcpy(&four, p, sizeof four);
    return four;
}

/* As an instruction of its own: gcc 12 gives the intrinsic's result a new register, and runs out of them. */
TARGET static inline __attribute__((always_inline)) __m512i dot(__m512i sum, __m512i a, __m512i b)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
}

TARGET static int32_t dot_of(const int8_t *a, const int8_t *b, int64_t n)
{
    const __m512i offset = _mm512_set1_epi8((char)0x80);
    __m512i sum[2] = { _mm512_setzero_si512(), _mm512_setzero_si512() }, excess[2] = { sum[0], sum[0] };
    int64_t i = 0;
    for (; i + 128 <= n; i += 128) {
        __m512i y0 = _mm512_loadu_si512(b + i), y1 = _mm512_loadu_si512(b + i + 64);
        sum[0] = dot(sum[0], _mm512_xor_si512(_mm512_loadu_si512(a + i), offset), y0);
        sum[1] = dot(sum[1], _mm512_xor_si512(_mm512_loadu_si512(a + i + 64), offset), y1);
        excess[0] = dot(excess[0], offset, y0);
        excess[1] = dot(excess[1], offset, y1);
    }
    for (; i < n; i += 64) {
        __mmask64 part = n - i < 64 ? ((__mmask64)1 << (n - i)) - 1 : ~(__mmask64)0;
        __m512i y = _mm512_maskz_loadu_epi8(part, b + i);
        sum[0] = dot(sum[0], _mm512_xor_si512(_mm512_maskz_loadu_epi8(part, a + i), offset), y);
        excess[0] = dot(excess[0], offset, y);
    }
    __m512i all = _mm512_sub_epi32(_mm512_add_epi32(sum[0], sum[1]), _mm512_add_epi32(excess[0], excess[1]));
    return _mm512_reduce_add_epi32(all);
}

#include "int8_tile.h"

#define ROW_OF_TILES(rows) TILE_FUNCTION(rows, 1) TILE_FUNCTION(rows, 2) TILE_FUNCTION(rows, 3)
ROW_OF_TILES(1)
ROW_OF_TILES(2)
ROW_OF_TILES(3)
ROW_OF_TILES(4)
ROW_OF_TILES(5)
ROW_OF_TILES(6)
ROW_OF_TILES(7)
ROW_OF_TILES(8)

static void tile(const struct cpu_int8_tile *t)
{
#define ENTRIES(rows) { tile_##rows##_1, tile_##rows##_2, tile_##rows##_3 }
    static void (*const tiles[ROWS][VECTORS])(const struct cpu_int8_tile *t) = { ENTRIES(1), ENTRIES(2), ENTRIES(3), ENTRIES(4),
                                                                                ENTRIES(5), ENTRIES(6), ENTRIES(7), ENTRIES(8) };
    tiles[t->rows - 1][(t->columns - 1) / WIDTH](t);
}

const struct cpu_int8_kernel cpu_int8_avx512_vnni = { ROWS, VECTORS * WIDTH, 128, tile, dot_of };
/* Whoever has AMX has VNNI, which rows by themselves are better served by. */
const struct cpu_int8_kernel cpu_int8_amx = { AMX_ROWS, AMX_COLUMNS, 0, cpu_amx_tile_int8, dot_of };
#endif
