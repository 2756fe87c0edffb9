/* int8_tile.h: the innermost 8-bit product for any width of vector, included like gemm_tile.h by files that define
 *
 *     NAME(x), TARGET, V, WIDTH   a name of one's own; how many 32-bit sums a vector holds
 *     V_ZERO, V_LOAD(p)
 *     A, A_FOUR(p)                four bytes of a, to all
 *     V_DOT(sum, a, b)            sum + the products of each four bytes
 *     V_SAVE(p, v, n)             the first n sums
 *     ROWS, VECTORS
 */
TARGET static inline __attribute__((always_inline)) void NAME(tile_of)(const struct cpu_int8_tile *t, int rows, int vectors)
{
    V sum[ROWS][VECTORS];
    CPU_UNROLL
    for (int i = 0; i < rows; i++)
        CPU_UNROLL
        for (int j = 0; j < vectors; j++)
            sum[i][j] = V_ZERO;
    const int8_t *a = t->a, *b = t->b;
    int64_t a_row = t->a_row;
    for (int64_t p = 0; p < t->steps; p++) {
        V column[VECTORS];
        CPU_UNROLL
        for (int j = 0; j < vectors; j++)
            column[j] = V_LOAD(b + j * WIDTH * 4);
        CPU_UNROLL
        for (int i = 0; i < rows; i++) {
            A four = A_FOUR(a + i * a_row);
            CPU_UNROLL
            for (int j = 0; j < vectors; j++)
                sum[i][j] = V_DOT(sum[i][j], four, column[j]);
        }
        a += 4;
        b += VECTORS * WIDTH * 4;
    }
    CPU_UNROLL
    for (int i = 0; i < rows; i++)
        CPU_UNROLL
        for (int j = 0; j < vectors; j++)
            V_SAVE(t->c + i * t->ldc + j * WIDTH, sum[i][j], j == vectors - 1 ? t->columns - j * WIDTH : WIDTH);
}

#define TILE_FUNCTION(rows, vectors) \
    TARGET static void NAME(tile_##rows##_##vectors)(const struct cpu_int8_tile *t) \
    { \
        NAME(tile_of)(t, rows, vectors); \
    }
