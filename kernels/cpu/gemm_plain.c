/* gemm_plain.c: the innermost product in plain C, for processors that have no file of their own; the compiler makes NEON or SSE of it. */
#include "gemm.h"
#include "vec_math.h"

enum { ROWS = 4, COLUMNS = 16 };

static void tile(const struct cpu_tile *t)
{
    float sum[ROWS][COLUMNS] = { { 0 } };
    if (t->rows == ROWS) {
        for (int64_t p = 0; p < t->k; p++)
            for (int i = 0; i < ROWS; i++)
                for (int j = 0; j < COLUMNS; j++)
                    sum[i][j] += t->a[i * t->a_row + p * t->a_step] * t->b[p * COLUMNS + j];
    } else {
        for (int64_t p = 0; p < t->k; p++)
            for (int i = 0; i < t->rows; i++)
                for (int j = 0; j < COLUMNS; j++)
                    sum[i][j] += t->a[i * t->a_row + p * t->a_step] * t->b[p * COLUMNS + j];
    }
    for (int i = 0; i < t->rows; i++)
        for (int j = 0; j < t->columns; j++)
            t->c[i * t->ldc + j] = t->add ? t->c[i * t->ldc + j] + sum[i][j] : sum[i][j];
}

static void dots(const struct cpu_dots *d)
{
    for (int i = 0; i < d->rows; i++)
        for (int j = 0; j < d->columns; j++) {
            const float *a = d->a + i * d->a_row, *b = d->b + j * d->b_row;
            float sum;
            VEC_SUM(sum, p, d->k, a[p] * b[p]);
            d->c[i * d->ldc + j] = d->alpha * sum;
        }
}

static void transpose(const float *from, int64_t ld, int64_t rows, int64_t columns, float *to, int64_t width, float factor)
{
    for (int64_t j = 0; j < columns; j++) {
        for (int64_t i = 0; i < rows; i++)
            to[j * width + i] = factor * from[i * ld + j];
        for (int64_t i = rows; i < width; i++)
            to[j * width + i] = 0;
    }
}

const struct cpu_gemm_kernel cpu_gemm_plain = { ROWS, COLUMNS, tile, dots, transpose };
