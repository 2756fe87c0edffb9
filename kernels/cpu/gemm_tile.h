/* gemm_tile.h: the innermost product for any width of vector; no header in the usual sense: a file defines what follows and includes it.
 *
 *     TARGET                    the function attribute that allows the instructions
 *     V, WIDTH                  a vector of floats and how many it holds
 *     V_ZERO, V_ONE(x)          all 0; all x
 *     V_LOAD(p), V_STORE(p, v)  whole, unaligned
 *     V_FMA(a, b, c)            a · b + c
 *     V_SUM(v)                  of all its floats, in a fixed order
 *     V_MASK, V_PART(n)         selects the first n
 *     V_LOAD_PART(p, m), V_STORE_PART(p, m, v)
 *     ROWS, VECTORS             the tile
 *
 * Each element of c is summed over k in the same order whatever the tile, so how c is cut into tiles cannot be seen in the bits.
 */

enum { COLUMNS = VECTORS * WIDTH };

/* rows and vectors are constants wherever this is inlined, so that all sums stay in registers. */
TARGET static inline __attribute__((always_inline)) void tile_of(const struct cpu_tile *t, int rows, int vectors)
{
    V sum[ROWS][VECTORS];
    CPU_UNROLL
    for (int i = 0; i < rows; i++)
        CPU_UNROLL
        for (int j = 0; j < vectors; j++)
            sum[i][j] = V_ZERO;
    const float *a = t->a, *b = t->b;
    int64_t a_row = t->a_row, a_step = t->a_step;
    for (int64_t p = 0; p < t->k; p++) {
        V column[VECTORS];
        CPU_UNROLL
        for (int j = 0; j < vectors; j++)
            column[j] = V_LOAD(b + j * WIDTH);
        CPU_UNROLL
        for (int i = 0; i < rows; i++) {
            V one = V_ONE(a[i * a_row]);
            CPU_UNROLL
            for (int j = 0; j < vectors; j++)
                sum[i][j] = V_FMA(one, column[j], sum[i][j]);
        }
        a += a_step;
        b += COLUMNS;
    }
    V_MASK part = V_PART(t->columns - (vectors - 1) * WIDTH);
    CPU_UNROLL
    for (int i = 0; i < rows; i++) {
        float *c = t->c + i * t->ldc;
        CPU_UNROLL
        for (int j = 0; j < vectors - 1; j++) {
            V v = sum[i][j];
            if (t->add)
                v = V_ADD(V_LOAD(c + j * WIDTH), v);
            V_STORE(c + j * WIDTH, v);
        }
        float *last = c + (vectors - 1) * WIDTH;
        V v = sum[i][vectors - 1];
        if (t->add)
            v = V_ADD(V_LOAD_PART(last, part), v);
        V_STORE_PART(last, part, v);
    }
}

#define TILE_FUNCTION(rows, vectors) \
    TARGET static void tile_##rows##_##vectors(const struct cpu_tile *t) \
    { \
        tile_of(t, rows, vectors); \
    }

/* Dots of up to 4 × 4 rows: each load of a row serves four products. */
TARGET static inline __attribute__((always_inline)) void dots_of(const struct cpu_dots *d, int rows, int columns)
{
    V sum[CPU_DOTS_MOST][CPU_DOTS_MOST];
    CPU_UNROLL
    for (int i = 0; i < rows; i++)
        CPU_UNROLL
        for (int j = 0; j < columns; j++)
            sum[i][j] = V_ZERO;
    int64_t whole = d->k / WIDTH * WIDTH;
    for (int64_t p = 0; p < whole; p += WIDTH) {
        V b[CPU_DOTS_MOST];
        CPU_UNROLL
        for (int j = 0; j < columns; j++)
            b[j] = V_LOAD(d->b + j * d->b_row + p);
        CPU_UNROLL
        for (int i = 0; i < rows; i++) {
            V a = V_LOAD(d->a + i * d->a_row + p);
            CPU_UNROLL
            for (int j = 0; j < columns; j++)
                sum[i][j] = V_FMA(a, b[j], sum[i][j]);
        }
    }
    V_MASK part = V_PART(d->k - whole);
    CPU_UNROLL
    for (int i = 0; i < rows; i++)
        CPU_UNROLL
        for (int j = 0; j < columns; j++) {
            if (d->k > whole)
                sum[i][j] = V_FMA(V_LOAD_PART(d->a + i * d->a_row + whole, part), V_LOAD_PART(d->b + j * d->b_row + whole, part),
                                  sum[i][j]);
            d->c[i * d->ldc + j] = d->alpha * V_SUM(sum[i][j]);
        }
}

#define DOTS_FUNCTION(rows, columns) \
    TARGET static void dots_##rows##_##columns(const struct cpu_dots *d) \
    { \
        dots_of(d, rows, columns); \
    }
#define DOTS_ROW(rows) DOTS_FUNCTION(rows, 1) DOTS_FUNCTION(rows, 2) DOTS_FUNCTION(rows, 3) DOTS_FUNCTION(rows, 4)
#define DOTS_ENTRIES(rows) { dots_##rows##_1, dots_##rows##_2, dots_##rows##_3, dots_##rows##_4 }
#define DOTS_FUNCTIONS \
    DOTS_ROW(1) DOTS_ROW(2) DOTS_ROW(3) DOTS_ROW(4) \
    static void dots(const struct cpu_dots *d) \
    { \
        static void (*const all[CPU_DOTS_MOST][CPU_DOTS_MOST])(const struct cpu_dots *d) = { DOTS_ENTRIES(1), DOTS_ENTRIES(2), \
                                                                                            DOTS_ENTRIES(3), DOTS_ENTRIES(4) }; \
        all[d->rows - 1][d->columns - 1](d); \
    }

static inline float scaled(float x, float factor)
{
    return factor == 1 ? x : factor * x;
}

enum { AHEAD = 64 }; /* floats */

/* In 8 × 8 blocks in registers; what is left over, one by one. */
__attribute__((target("avx2"))) static void transpose(const float *from, int64_t ld, int64_t rows, int64_t columns, float *to,
                                                      int64_t width,
                                                      float factor)
{
    int64_t whole_rows = rows / 8 * 8, whole_columns = columns / 8 * 8;
    __m256 f = _mm256_set1_ps(factor);
    for (int64_t j = 0; j < whole_columns; j += 8) {
        for (int64_t i = 0; i < whole_rows; i += 8) {
            const float *s = from + i * ld + j;
            float *d = to + j * width + i;
            /* Eight rows at once are more than the processor foresees by itself. */
            for (int q = 0; j % 16 == 0 && q < 8; q++)
                _mm_prefetch((const char *)(s + q * ld + AHEAD), _MM_HINT_T0);
            __m256 r0 = _mm256_loadu_ps(s), r1 = _mm256_loadu_ps(s + ld), r2 = _mm256_loadu_ps(s + 2 * ld),
                r3 = _mm256_loadu_ps(s + 3 * ld);
            __m256 r4 = _mm256_loadu_ps(s + 4 * ld), r5 = _mm256_loadu_ps(s + 5 * ld), r6 = _mm256_loadu_ps(s + 6 * ld),
                   r7 = _mm256_loadu_ps(s + 7 * ld);
            __m256 p0 = _mm256_unpacklo_ps(r0, r1), p1 = _mm256_unpackhi_ps(r0, r1), p2 = _mm256_unpacklo_ps(r2, r3),
                   p3 = _mm256_unpackhi_ps(r2, r3);
            __m256 p4 = _mm256_unpacklo_ps(r4, r5), p5 = _mm256_unpackhi_ps(r4, r5), p6 = _mm256_unpacklo_ps(r6, r7),
                   p7 = _mm256_unpackhi_ps(r6, r7);
            __m256 q0 = _mm256_shuffle_ps(p0, p2, 0x44), q1 = _mm256_shuffle_ps(p0, p2, 0xEE), q2 = _mm256_shuffle_ps(p1, p3, 0x44),
                   q3 = _mm256_shuffle_ps(p1, p3, 0xEE);
            __m256 q4 = _mm256_shuffle_ps(p4, p6, 0x44), q5 = _mm256_shuffle_ps(p4, p6, 0xEE), q6 = _mm256_shuffle_ps(p5, p7, 0x44),
                   q7 = _mm256_shuffle_ps(p5, p7, 0xEE);
            __m256 t[8] = {
                _mm256_permute2f128_ps(q0, q4, 0x20), _mm256_permute2f128_ps(q1, q5, 0x20), _mm256_permute2f128_ps(q2, q6, 0x20),
                _mm256_permute2f128_ps(q3, q7, 0x20), _mm256_permute2f128_ps(q0, q4, 0x31), _mm256_permute2f128_ps(q1, q5, 0x31),
                _mm256_permute2f128_ps(q2, q6, 0x31), _mm256_permute2f128_ps(q3, q7, 0x31),
            };
            for (int q = 0; q < 8; q++)
                _mm256_storeu_ps(d + q * width, factor == 1 ? t[q] : _mm256_mul_ps(f, t[q]));
        }
        for (int64_t q = j; q < j + 8; q++)
            for (int64_t i = whole_rows; i < rows; i++)
                to[q * width + i] = scaled(from[i * ld + q], factor);
    }
    for (int64_t j = whole_columns; j < columns; j++)
        for (int64_t i = 0; i < rows; i++)
            to[j * width + i] = scaled(from[i * ld + j], factor);
    for (int64_t j = 0; rows < width && j < columns; j++)
        for (int64_t i = rows; i < width; i++)
            to[j * width + i] = 0;
}
