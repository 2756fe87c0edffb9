/* gemm_avx512_wide.c: the innermost product by AVX-512, 6 × 64 in 24 registers: four loads of b and six broadcasts of a to 24
 * multiply-adds. */
#include "gemm.h"

#ifdef __x86_64__
#include "gemm_avx512.h"

#define TARGET __attribute__((target("avx512f")))
#define V_FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
enum { ROWS = 6, VECTORS = 4 };

#include "gemm_tile.h"

#define ROW_OF_TILES(rows) TILE_FUNCTION(rows, 1) TILE_FUNCTION(rows, 2) TILE_FUNCTION(rows, 3) TILE_FUNCTION(rows, 4)
ROW_OF_TILES(1)
ROW_OF_TILES(2)
ROW_OF_TILES(3)
ROW_OF_TILES(4)
ROW_OF_TILES(5)
ROW_OF_TILES(6)

DOTS_FUNCTIONS

static void tile(const struct cpu_tile *t)
{
#define ENTRIES(rows) { tile_##rows##_1, tile_##rows##_2, tile_##rows##_3, tile_##rows##_4 }
    static void (*const tiles[ROWS][VECTORS])(const struct cpu_tile *t) = { ENTRIES(1), ENTRIES(2), ENTRIES(3), ENTRIES(4),
                                                                           ENTRIES(5), ENTRIES(6) };
    tiles[t->rows - 1][(t->columns - 1) / WIDTH](t);
}

const struct cpu_gemm_kernel cpu_gemm_avx512_wide = { ROWS, COLUMNS, tile, dots, transpose };
#endif
