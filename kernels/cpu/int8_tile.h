/* int8_tile.h: the innermost 8-bit product for any width of vector, included like gemm_tile.h by files that define
 *
 *     NAME(x), TARGET, V, WIDTH   a name of one's own; how many 32-bit sums a vector holds
 *     V_ZERO, V_LOAD(p)
 *     A, A_FOUR(p)                four bytes of a, to all
 *     V_DOT(sum, a, b)            sum + the products of each four bytes
 *     V_SAVE(p, v, n)             the first n sums
 *     ROWS, VECTORS               at most 8 and 3
 *
 * The sums are variables, not an array: gcc 12 keeps an array of integer vectors in memory beside the registers.
 */
#define EACH_ROW(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define SUMS(i) V s##i##_0 = V_ZERO, s##i##_1 = V_ZERO, s##i##_2 = V_ZERO;
#define DOT(i) \
    if (i < rows) { \
        A four = A_FOUR(a + i * a_row); \
        s##i##_0 = V_DOT(s##i##_0, four, column0); \
        if (vectors > 1) \
            s##i##_1 = V_DOT(s##i##_1, four, column1); \
        if (vectors > 2) \
            s##i##_2 = V_DOT(s##i##_2, four, column2); \
    }
#define SAVE(i) \
    if (i < rows) { \
        int32_t *c = t->c + i * t->ldc; \
        V_SAVE(c, s##i##_0, vectors > 1 ? WIDTH : t->columns); \
        if (vectors > 1) \
            V_SAVE(c + WIDTH, s##i##_1, vectors > 2 ? WIDTH : t->columns - WIDTH); \
        if (vectors > 2) \
            V_SAVE(c + 2 * WIDTH, s##i##_2, t->columns - 2 * WIDTH); \
    }

/* rows and vectors are constants wherever this is inlined, so what is not of the tile goes away. */
TARGET static inline __attribute__((always_inline)) void NAME(tile_of)(const struct cpu_int8_tile *t, int rows, int vectors)
{
    EACH_ROW(SUMS)
    const int8_t *a = t->a, *b = t->b;
    int64_t a_row = t->a_row;
    for (int64_t p = 0; p < t->steps; p++) {
        V column0 = V_LOAD(b), column1 = vectors > 1 ? V_LOAD(b + WIDTH * 4) : column0,
            column2 = vectors > 2 ? V_LOAD(b + WIDTH * 8) : column0;
        EACH_ROW(DOT)
        a += 4;
        b += VECTORS * WIDTH * 4;
    }
    EACH_ROW(SAVE)
}

#undef EACH_ROW
#undef SUMS
#undef DOT
#undef SAVE
#undef TILE_FUNCTION
#define TILE_FUNCTION(rows, vectors) \
    TARGET static void NAME(tile_##rows##_##vectors)(const struct cpu_int8_tile *t) \
    { \
        NAME(tile_of)(t, rows, vectors); \
    }
