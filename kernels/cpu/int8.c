/* int8.c: products of 8-bit integers with exact 32-bit sums, and the linear layer that is made of one, its scales, bias and activation.
 *
 * b is packed as in gemm.c, four elements of k to a step; the sums of its columns are kept beside it for the instructions that need a
 * unsigned. Threads take rows of c, or columns where the rows are few. All is exact up to the last scaling, so no order matters.
 */
#include "amx.h"
#include "loops.h"
#include "gemm.h"

enum {
    ROWS_AT_ONCE = 48,
    SUMS_MOST = 768,         /* rows_most · columns_most of any kernel */
    PACKED_MOST = 8 << 20, /* bytes of b that are packed at once */
    FEW_ROWS = 16,         /* up to so many rows of a, b transposed, b is not packed */
    FEW_COLUMNS = 48,      /* columns done at once then */
    ONE_THREAD = 1 << 22   /* products of so many multiplications are done before another thread would have woken up */
};

struct work {
    const struct cpu_int8_kernel *kernel;
    const struct cpu_gemm_kernel *words; /* whose transpose moves words of four bytes; NULL: none that is worth it */
    int64_t m, n, k, padded; /* padded: k up to a multiple of four */
    const int8_t *a, *b;     /* b [n, k], or [k, n] where transposed is 0 */
    int64_t lda, ldb, ldc;
    int transposed_a, transposed_b;
    int64_t first_column, columns, row_blocks, group_columns;
    int8_t *packed;
    int32_t *column_sums; /* offset · Σ b of each column */
    char *own;
    size_t own_size;
    /* What is made of the sums. */
    int32_t *c;                        /* the product itself, or, where it is NULL: */
    const struct mbk_tensor *y, *bias;
    const float *a_scales, *b_scales;
    int a_scale_each;                  /* a scale for each row of a */
    enum mbk_activation activation;
    const struct cpu_loops *loops;
};

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

CPU_CLONES static int32_t row_sum(const int8_t *x, int64_t n)
{
    int32_t sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i];
    return sum;
}

/* A whole panel whose rows are fours of bytes at multiples of four: moved as words. */
static int pack_words(const struct work *w, int64_t panel, int8_t *to)
{
    int64_t width = w->kernel->columns_most, column = w->first_column + panel * width, n = least(width,
            w->first_column + w->columns - column);
    const int8_t *from = w->b + column * w->ldb;
    if (!w->words || !w->transposed_b || w->k % 4 || w->ldb % 4 || (uintptr_t)from % 4)
        return 0;
    w->words->transpose((const float *)(const void *)from, w->ldb / 4, n, w->k / 4, (float *)(void *)to, width, 1);
    for (int64_t j = 0; j < width; j++)
        w->column_sums[panel * width + j] = j < n && w->kernel->offset ? w->kernel->offset * row_sum(from + j * w->ldb, w->k) : 0;
    return 1;
}

static int8_t element_b(const struct work *w, int64_t k, int64_t n)
{
    return w->transposed_b ? w->b[n * w->ldb + k] : w->b[k * w->ldb + n];
}

static void pack_panels(void *context, int64_t first, int64_t end, int worker)
{
    const struct work *w = context;
    int64_t width = w->kernel->columns_most;
    (void)worker;
    for (int64_t panel = first; panel < end; panel++) {
        int8_t *to = w->packed + panel * width * w->padded;
        if (pack_words(w, panel, to))
            continue;
        for (int64_t j = 0; j < width; j++) {
            int64_t column = w->first_column + panel * width + j;
            int8_t *four = to + j * 4;
            int32_t sum = 0;
            int inside = column < w->first_column + w->columns;
            int64_t k = 0;
            if (inside && w->transposed_b) {
                const int8_t *row = w->b + column * w->ldb;
                for (; k + 4 <= w->k; k += 4, four += width * 4) {
                    memcpy(four, row + k, 4);
                    sum += row[k] + row[k + 1] + row[k + 2] + row[k + 3];
                }
            }
            for (; k < w->padded; k += 4, four += width * 4)
                for (int q = 0; q < 4; q++) {
                    four[q] = inside && k + q < w->k ? element_b(w, k + q, column) : 0;
                    sum += four[q];
                }
            w->column_sums[panel * width + j] = w->kernel->offset * sum;
        }
    }
}

/* Rows of a as the tiles want them: whole fours. */
static const int8_t *place_a(const struct work *w, int64_t row, int64_t rows, int8_t *buffer, int64_t *a_row)
{
    if (!w->transposed_a && w->k % 4 == 0) {
        *a_row = w->lda;
        return w->a + row * w->lda;
    }
    *a_row = w->padded;
    for (int64_t i = 0; i < rows; i++) {
        int8_t *to = buffer + i * w->padded;
        if (w->transposed_a)
            for (int64_t k = 0; k < w->k; k++)
                to[k] = w->a[k * w->lda + row + i];
        else
            memcpy(to, w->a + (row + i) * w->lda, (size_t)w->k);
        memset(to + w->k, 0, (size_t)(w->padded - w->k));
    }
    return buffer;
}

CPU_CLONES static void rescale_loop(const int32_t *sums, const int32_t *column_sums, float a_scale, const float *b_scales, float *y,
                                    int64_t n)
{
    CPU_LOOP(j, n)
        y[j] = (float)(sums[j] - column_sums[j]) * (a_scale * b_scales[j]);
}

static void finish(const struct work *w, const int32_t *sums, const int32_t *column_sums, int64_t row, int64_t column, int64_t n)
{
    float y_buffer[64], bias_buffer[64];
    if (w->c) {
        for (int64_t j = 0; j < n; j++)
            w->c[row * w->ldc + column + j] = sums[j] - column_sums[j];
        return;
    }
    float *y = cpu_out(w->y, row * w->n + column, y_buffer);
    rescale_loop(sums, column_sums, w->a_scales[w->a_scale_each ? row : 0], w->b_scales + column, y, n);
    if (w->bias) {
        const float *bias = cpu_in(w->bias, column, n, bias_buffer);
        for (int64_t j = 0; j < n; j++)
            y[j] += bias[j];
    }
    if (w->activation != MBK_NONE)
        w->loops->activations[w->activation].forward(y, y, n);
    cpu_put(w->y, row * w->n + column, n, y);
}

static void do_blocks(void *context, int64_t first, int64_t end, int worker)
{
    const struct work *w = context;
    int64_t width = w->kernel->columns_most, most = w->kernel->rows_most;
    int32_t sums[SUMS_MOST];
    for (int64_t i = first; i < end; i++) {
        int64_t row = i % w->row_blocks * ROWS_AT_ONCE, rows = least(ROWS_AT_ONCE, w->m - row);
        int64_t group = i / w->row_blocks * w->group_columns, columns = least(w->group_columns, w->columns - group), a_row;
        const int8_t *a = place_a(w, row, rows, (int8_t *)w->own + w->own_size * (size_t)worker, &a_row);
        for (int64_t j = 0; j < columns; j += width)
            for (int64_t r = 0; r < rows; r += most) {
                struct cpu_int8_tile t = {
                    .steps = w->padded / 4, .a = a + r * a_row, .a_row = a_row, .b = w->packed + (group + j) * w->padded, .c = sums,
                    .ldc = width, .rows = (int)least(most, rows - r), .columns = (int)least(width, columns - j),
                };
                w->kernel->tile(&t);
                for (int q = 0; q < t.rows; q++)
                    finish(w, sums + q * width, w->column_sums + group + j, row + r + q, w->first_column + group + j, t.columns);
            }
    }
}

/* Few rows of a: an element of the loop is FEW_COLUMNS columns of c. */
static void do_few(void *context, int64_t first, int64_t end, int worker)
{
    static const int32_t nothing[FEW_COLUMNS];
    const struct work *w = context;
    int32_t sums[FEW_ROWS][FEW_COLUMNS];
    (void)worker;
    for (int64_t i = first; i < end; i++) {
        int64_t column = i * FEW_COLUMNS, n = least(FEW_COLUMNS, w->n - column);
        for (int64_t j = 0; j < n; j++)
            for (int64_t row = 0; row < w->m; row++)
                sums[row][j] = w->kernel->dot(w->a + row * w->lda, w->b + (column + j) * w->ldb, w->k);
        for (int64_t row = 0; row < w->m; row++)
            finish(w, sums[row], nothing, row, column, n);
    }
}

static const struct cpu_int8_kernel *choose_kernel(const struct mbk *k)
{
#ifdef __x86_64__
    const struct cpu *c = cpu_of(k);
    if (c->amx)
        return &cpu_int8_amx;
    if (c->avx512_vnni)
        return &cpu_int8_avx512_vnni;
    if (c->avx_vnni)
        return &cpu_int8_avx_vnni;
    if (c->level >= CPU_AVX2)
        return &cpu_int8_avx2;
#endif
    (void)k;
    return &cpu_int8_plain;
}

static int run(struct mbk *k, struct work *w)
{
    w->kernel = choose_kernel(k);
    w->loops = cpu_loops_of(k);
    w->padded = (w->k + 3) / 4 * 4;
#ifdef __x86_64__
    w->words = cpu_of(k)->level >= CPU_AVX2 ? &cpu_gemm_avx2 : NULL;
#endif
    if (w->m <= FEW_ROWS && w->transposed_b && !w->transposed_a) {
        cpu_parallel(k, (w->n + FEW_COLUMNS - 1) / FEW_COLUMNS, cpu_grain(w->m * FEW_COLUMNS * w->k / 4), do_few, w);
        return 0;
    }
    int threads = cpu_of(k)->threads;
    int64_t width = w->kernel->columns_most, whole = (w->n + width - 1) / width * width;
    int64_t fit = w->padded > 0 ? PACKED_MOST / w->padded / width * width : whole;
    int64_t at_once = least(whole, fit < 4 * width ? 4 * width : fit);
    w->row_blocks = (w->m + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE;
    int64_t panels_most = at_once / width, groups = w->row_blocks < 4 * threads ? least(panels_most, 2 * threads) : 1;
    w->group_columns = (panels_most + groups - 1) / groups * width;
    w->own_size = (size_t)(ROWS_AT_ONCE * w->padded);
    size_t mark = cpu_mark(k);
    w->own = cpu_scratch(k, w->own_size * (size_t)threads);
    w->column_sums = w->own ? cpu_scratch(k, (size_t)at_once * sizeof(int32_t)) : NULL;
    w->packed = w->column_sums ? cpu_scratch(k, (size_t)(at_once * w->padded)) : NULL;
    for (w->first_column = 0; w->packed && w->first_column < w->n; w->first_column += at_once) {
        w->columns = least(at_once, w->n - w->first_column);
        int64_t panels = (w->columns + width - 1) / width;
        int64_t blocks = w->row_blocks * ((w->columns + w->group_columns - 1) / w->group_columns);
        int alone = w->m * w->n <= ONE_THREAD && w->m * w->n * w->k <= ONE_THREAD;
        cpu_parallel(k, panels, cpu_grain(width * w->padded / 4), pack_panels, w);
        cpu_parallel(k, blocks, alone ? blocks : 1, do_blocks, w);
    }
    cpu_release(k, mark);
    return w->packed ? 0 : -1;
}

int cpu_linear_int8(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *x_scales, const struct mbk_tensor *w,
                    const struct mbk_tensor *w_scales, const struct mbk_tensor *bias, enum mbk_activation f, const struct mbk_tensor *y)
{
    int64_t rows = mbk_row_count(x), in = w->shape[1];
    struct work work = {
        .m = rows, .n = w->shape[0], .k = in, .a = x->data, .b = w->data, .lda = in, .ldb = in, .transposed_b = 1, .y = y, .bias = bias,
        .a_scales = x_scales->data, .b_scales = w_scales->data, .a_scale_each = x_scales->rank != 0, .activation = f,
    };
    return run(k, &work);
}

/* The product of mbk_matmul: gemm.c hands it on. */
int cpu_gemm_int8(struct mbk *k, const struct mbk_gemm *g)
{
    int failed = 0;
    for (int64_t i = 0; i < g->batch && !failed; i++) {
        struct work work = {
            .m = g->m, .n = g->n, .k = g->k, .a = (const int8_t *)g->a + i * g->stride_a, .b = (const int8_t *)g->b + i * g->stride_b,
            .c = (int32_t *)g->c + i * g->stride_c, .lda = g->lda, .ldb = g->ldb, .ldc = g->ldc, .transposed_a = g->transpose_a,
            .transposed_b = g->transpose_b,
        };
        failed = run(k, &work);
    }
    return failed;
}

/* -- In plain C. */

enum { PLAIN_ROWS = 4, PLAIN_COLUMNS = 16 };

static void plain_tile(const struct cpu_int8_tile *t)
{
    for (int i = 0; i < t->rows; i++) {
        int32_t sum[PLAIN_COLUMNS] = { 0 };
        for (int64_t p = 0; p < t->steps; p++)
            for (int j = 0; j < PLAIN_COLUMNS; j++)
                for (int q = 0; q < 4; q++)
                    sum[j] += t->a[i * t->a_row + p * 4 + q] * t->b[(p * PLAIN_COLUMNS + j) * 4 + q];
        memcpy(t->c + i * t->ldc, sum, (size_t)t->columns * sizeof *sum);
    }
}

CPU_CLONES static int32_t dot_loop(const int8_t *a, const int8_t *b, int64_t n)
{
    int32_t sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

int32_t cpu_int8_dot(const int8_t *a, const int8_t *b, int64_t n)
{
    return dot_loop(a, b, n);
}

const struct cpu_int8_kernel cpu_int8_plain = { PLAIN_ROWS, PLAIN_COLUMNS, 0, plain_tile, cpu_int8_dot };
