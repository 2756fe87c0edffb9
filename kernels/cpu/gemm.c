/* gemm.c: matrix products of floats, in the manner of Goto and van de Geijn (2008).
 *
 * b is packed into panels, the whole of its k at once, all threads helping; then each thread takes blocks of c. A block's rows of a are
 * used where they lie if they are rows of floats, else packed too. What comes after the product (bias, activation, residual) is done on
 * each strip of c while it is near. How c is cut changes no sum, so any number of threads gives the same bits.
 */
#include "gemm.h"
#include "blocks.h"
#include "loops.h"

enum {
    BLOCK_K = 384,        /* so many k of a panel of b, used by all rows of a block, come from the second cache */
    PIECE_K = 256,        /* b's rows are made floats in pieces: whole blocks of any quantized type, and no more than BLOCK_K */
    BLOCK_ROWS = 48,      /* so many rows of a by BLOCK_K stay near beside it: a multiple of all rows_most */
    FEW_ROWS = 16,        /* up to so many rows of a, b transposed, b is not packed */
    FEW_COLUMNS = 48,     /* columns done at once then */
    PACKED_MOST = 4 << 20, /* floats of b that are packed at once, unless k is too long for that */
    ONE_THREAD = 1 << 20   /* products of so many multiplications are done before another thread would have woken up */
};

struct work {
    const struct mbk_gemm *g;
    const struct cpu_gemm_kernel *kernel;
    const struct cpu_loops *loops;
    const struct cpu_gemm_reader *reader; /* of quantized weights, else NULL */
    const void *read_context;
    int64_t b_first;                   /* where one of the batch begins, for the reader */
    const char *a, *b; /* of one of the batch */
    char *c, *before;
    const char *residual;
    int64_t first_column, columns;     /* what of c is done now; first_column a multiple of columns_most */
    int64_t row_blocks, group_columns; /* blocks of c: row_blocks of BLOCK_ROWS, each cut into groups of so many columns */
    float *packed;                     /* b: panels of k · columns_most */
    float *own;                        /* own_size floats for each worker */
    size_t own_size;
};

static size_t type_size(enum mbk_type type)
{
    return type == MBK_F32 ? 4 : 2;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static const float *as_floats(enum mbk_type type, const char *base, int64_t first, int64_t n, float *buffer)
{
    struct mbk_tensor t = { .data = (void *)(uintptr_t)base, .type = type };
    return cpu_in(&t, first, n, buffer);
}

static const float *b_as_floats(const struct work *w, int64_t first, int64_t n, float *buffer)
{
    if (!w->reader)
        return as_floats(w->g->b_type, w->b, first, n, buffer);
    w->reader->read(w->read_context, w->b_first + first, n, buffer);
    return buffer;
}

/* -- Packing. */

/* Panels first … end − 1, counted from first_column. */
static void pack_panels(void *context, int64_t first, int64_t end, int worker)
{
    const struct work *w = context;
    const struct mbk_gemm *g = w->g;
    int64_t width = w->kernel->columns_most;
    float *buffer = w->own + w->own_size * (size_t)worker;
    for (int64_t panel = first; panel < end; panel++) {
        float *to = w->packed + panel * width * g->k;
        int64_t column = w->first_column + panel * width, n = least(width, w->first_column + w->columns - column);
        if (g->transpose_b && g->b_type == MBK_F32) {
            w->kernel->transpose((const float *)(const void *)w->b + column * g->ldb, g->ldb, n, g->k, to, width, g->alpha);
            continue;
        }
        if (g->transpose_b) { /* rows of b, PIECE_K elements of each at a time */
            for (int64_t p = 0; p < g->k; p += PIECE_K) {
                int64_t length = least(PIECE_K, g->k - p);
                for (int64_t j = 0; j < n; j++) {
                    float *row = buffer + j * PIECE_K;
                    const float *from = b_as_floats(w, (column + j) * g->ldb + p, length, row);
                    if (from != row)
                        memcpy(row, from, (size_t)length * sizeof *row);
                }
                w->kernel->transpose(buffer, PIECE_K, n, length, to + p * width, width, g->alpha);
            }
            continue;
        }
        for (int64_t p = 0; p < g->k; p++) {
            const float *from = b_as_floats(w, p * g->ldb + column, n, buffer);
            float *row = to + p * width;
            if (g->alpha == 1)
                for (int64_t j = 0; j < n; j++)
                    row[j] = from[j];
            else
                for (int64_t j = 0; j < n; j++)
                    row[j] = g->alpha * from[j];
            for (int64_t j = n; j < width; j++)
                row[j] = 0;
        }
    }
}

/* rows × length of a from (row, p) on; says in the tile where they are and how they lie. */
static void place_a(const struct work *w, int64_t row, int64_t rows, int64_t p, int64_t length, float *buffer, struct cpu_tile *t)
{
    const struct mbk_gemm *g = w->g;
    if (!g->transpose_a) {
        t->a_row = g->lda;
        t->a_step = 1;
        t->a = (const float *)(const void *)w->a + row * g->lda + p;
        if (g->a_type == MBK_F32)
            return;
        for (int64_t i = 0; i < rows; i++)
            as_floats(g->a_type, w->a, (row + i) * g->lda + p, length, buffer + i * BLOCK_K);
        t->a_row = BLOCK_K;
        t->a = buffer;
        return;
    }
    for (int64_t q = 0; q < length; q++) {
        float *to = buffer + q * BLOCK_ROWS;
        const float *from = as_floats(g->a_type, w->a, (p + q) * g->lda + row, rows, to);
        if (from != to)
            memcpy(to, from, (size_t)rows * sizeof *to);
    }
    t->a_row = 1;
    t->a_step = BLOCK_ROWS;
    t->a = buffer;
}

/* -- What comes after the product, on a piece of a row of c: `sum` is it, in c itself or, where c is no float32, apart. */
static void finish(const struct work *w, float *sum, int64_t row, int64_t column, int64_t n)
{
    const struct mbk_gemm *g = w->g;
    float buffer[64];
    int64_t at = row * g->n + column; /* in before and residual, which are dense */
    struct mbk_tensor c = { .data = w->c, .type = g->c_type }, before = { .data = w->before, .type = g->c_type };
    if (g->bias) {
        const float *bias = as_floats(g->bias_type, g->bias, column, n, buffer);
        for (int64_t j = 0; j < n; j++)
            sum[j] += bias[j];
    }
    if (w->before) {
        float *to = cpu_out(&before, at, sum);
        if (to != sum)
            memcpy(to, sum, (size_t)n * sizeof *to);
        cpu_put(&before, at, n, to);
    }
    if (g->activation != MBK_NONE)
        w->loops->activations[g->activation].forward(sum, sum, n);
    if (w->residual) {
        const float *residual = as_floats(g->c_type, w->residual, at, n, buffer);
        for (int64_t j = 0; j < n; j++)
            sum[j] += residual[j];
    }
    cpu_put(&c, row * g->ldc + column, n, sum);
}

/* -- Blocks of c. */

static void do_block(const struct work *w, int64_t row, int64_t rows, int64_t column, int64_t columns, float *own)
{
    const struct mbk_gemm *g = w->g;
    int64_t width = w->kernel->columns_most, most = w->kernel->rows_most;
    int direct = g->c_type == MBK_F32;
    float *a_buffer = own, *sums = own + BLOCK_ROWS * BLOCK_K;
    int64_t sums_ld = direct ? g->ldc : columns;
    float *c = direct ? (float *)(void *)w->c + row * g->ldc + column : sums;
    if (g->beta != 0 && (g->beta != 1 || !direct))
        for (int64_t i = 0; i < rows; i++) {
            float *to = c + i * sums_ld;
            const float *from = as_floats(g->c_type, w->c, (row + i) * g->ldc + column, columns, to);
            for (int64_t j = 0; j < columns; j++)
                to[j] = g->beta * from[j];
        }
    int plain = !g->bias && !w->before && !w->residual && g->activation == MBK_NONE && direct;
    int64_t p = 0;
    do {
        int64_t length = least(BLOCK_K, g->k - p);
        struct cpu_tile t = { .k = length, .ldc = sums_ld, .add = p > 0 || g->beta != 0 };
        place_a(w, row, rows, p, length, a_buffer, &t);
        const float *a = t.a;
        for (int64_t j = 0; j < columns; j += width) {
            t.b = w->packed + (column - w->first_column + j) * g->k + p * width;
            t.columns = (int)least(width, columns - j);
            for (int64_t i = 0; i < rows; i += most) {
                t.rows = (int)least(most, rows - i);
                t.a = a + i * t.a_row;
                t.c = c + i * sums_ld + j;
                w->kernel->tile(&t);
            }
            if (p + length >= g->k && !plain)
                for (int64_t i = 0; i < rows; i++)
                    finish(w, c + i * sums_ld + j, row + i, column + j, t.columns);
        }
        p += length;
    } while (p < g->k);
}

static void do_blocks(void *context, int64_t first, int64_t end, int worker)
{
    const struct work *w = context;
    for (int64_t i = first; i < end; i++) {
        int64_t row = i % w->row_blocks * BLOCK_ROWS, column = i / w->row_blocks * w->group_columns;
        do_block(w, row, least(BLOCK_ROWS, w->g->m - row), w->first_column + column, least(w->group_columns, w->columns - column),
                 w->own + w->own_size * (size_t)worker);
    }
}

/* -- Few rows of a: an element of the loop is FEW_COLUMNS columns of c. */

static void do_few(void *context, int64_t first, int64_t end, int worker)
{
    const struct work *w = context;
    const struct mbk_gemm *g = w->g;
    float sums[FEW_ROWS * FEW_COLUMNS], *b_own = w->own + w->own_size * (size_t)worker;
    for (int64_t group = first; group < end; group++) {
        int64_t column = group * FEW_COLUMNS, columns = least(FEW_COLUMNS, g->n - column);
        int one = w->reader && w->reader->dot && g->m == 1;
        for (int64_t j = 0; one && j < columns; j++)
            sums[j] = g->alpha * w->reader->dot(w->read_context, w->b_first + (column + j) * g->ldb, g->k, w->packed);
        for (int64_t j = 0; !one && j < columns; j += CPU_DOTS_MOST) {
            struct cpu_dots d = { .k = g->k, .a_row = g->k, .b_row = g->ldb, .ldc = FEW_COLUMNS, .alpha = g->alpha };
            d.columns = (int)least(CPU_DOTS_MOST, columns - j);
            if (g->b_type == MBK_F32) {
                d.b = (const float *)(const void *)w->b + (column + j) * g->ldb;
            } else {
                for (int i = 0; i < d.columns; i++)
                    b_as_floats(w, (column + j + i) * g->ldb, g->k, b_own + i * g->k);
                d.b = b_own;
                d.b_row = g->k;
            }
            for (int64_t i = 0; i < g->m; i += CPU_DOTS_MOST) {
                d.rows = (int)least(CPU_DOTS_MOST, g->m - i);
                d.a = w->packed + i * g->k;
                d.c = sums + i * FEW_COLUMNS + j;
                w->kernel->dots(&d);
            }
        }
        for (int64_t i = 0; i < g->m; i++) {
            float *to = g->c_type == MBK_F32 ? (float *)(void *)w->c + i * g->ldc + column : sums + i * FEW_COLUMNS, buffer[FEW_COLUMNS];
            const float *before = g->beta != 0 ? as_floats(g->c_type, w->c, i * g->ldc + column, columns, buffer) : NULL;
            for (int64_t j = 0; j < columns; j++)
                to[j] = sums[i * FEW_COLUMNS + j] + (before ? g->beta * before[j] : 0);
            finish(w, to, i, column, columns);
        }
    }
}

/* All of a as dense rows of floats goes to `packed`. */
static int few_rows(struct mbk *k, struct work *w)
{
    const struct mbk_gemm *g = w->g;
    size_t mark = cpu_mark(k);
    w->own_size = (size_t)(g->b_type == MBK_F32 ? 0 : CPU_DOTS_MOST * g->k);
    w->packed = cpu_scratch(k, (size_t)(g->m * g->k) * sizeof(float));
    w->own = w->packed ? cpu_scratch(k, w->own_size * sizeof(float) * (size_t)cpu_of(k)->threads) : NULL;
    if (w->own) {
        for (int64_t i = 0; i < g->m; i++) {
            float *to = w->packed + i * g->k;
            const float *from = as_floats(g->a_type, w->a, i * g->lda, g->k, to);
            if (from != to)
                memcpy(to, from, (size_t)g->k * sizeof *to);
        }
        cpu_parallel(k, (g->n + FEW_COLUMNS - 1) / FEW_COLUMNS, cpu_grain(FEW_COLUMNS * g->k), do_few, w);
    }
    cpu_release(k, mark);
    return w->own ? 0 : -1;
}

/* -- By CBLAS, for processors without a file of their own. */

static void finish_rows(void *context, int64_t first, int64_t end, int worker)
{
    const struct work *w = context;
    (void)worker;
    for (int64_t i = first; i < end; i++)
        for (int64_t j = 0; j < w->g->n; j += FEW_COLUMNS)
            finish(w, (float *)(void *)w->c + i * w->g->ldc + j, i, j, least(FEW_COLUMNS, w->g->n - j));
}

/* -- Products. */

static void place(struct work *w, int64_t index)
{
    const struct mbk_gemm *g = w->g;
    int64_t dense = index * g->m * g->n * (int64_t)type_size(g->c_type);
    w->a = (const char *)g->a + index * g->stride_a * (int64_t)type_size(g->a_type);
    w->b = w->reader ? NULL : (const char *)g->b + index * g->stride_b * (int64_t)type_size(g->b_type);
    w->b_first = index * g->stride_b;
    w->c = (char *)g->c + index * g->stride_c * (int64_t)type_size(g->c_type);
    w->before = g->before ? (char *)g->before + dense : NULL;
    w->residual = g->residual ? (const char *)g->residual + dense : NULL;
}

/* How many columns of c are done at once, how they are cut, and what memory that takes. */
static void plan(struct work *w, int threads, int64_t *columns_at_once)
{
    const struct mbk_gemm *g = w->g;
    int64_t width = w->kernel->columns_most;
    int64_t fit = g->k > 0 ? PACKED_MOST / g->k / width * width : g->n;
    int64_t whole = (g->n + width - 1) / width * width;
    *columns_at_once = least(whole, fit < 4 * width ? 4 * width : fit);
    w->row_blocks = (g->m + BLOCK_ROWS - 1) / BLOCK_ROWS;
    int64_t panels = *columns_at_once / width, groups = 1;
    if (threads > 1 && w->row_blocks % threads != 0 && w->row_blocks < 8 * threads)
        groups = least(panels, threads);
    w->group_columns = (panels + groups - 1) / groups * width;
    if (w->group_columns > 16 * width)
        w->group_columns = 16 * width;
    w->own_size = BLOCK_ROWS * BLOCK_K + (g->c_type == MBK_F32 ? 0 : (size_t)(BLOCK_ROWS * w->group_columns));
}

/* All of one of the batch; `k` NULL: on this thread alone. */
static void product(struct mbk *k, struct work *w, int64_t columns_at_once, int worker)
{
    int64_t width = w->kernel->columns_most;
    for (w->first_column = 0; w->first_column < w->g->n; w->first_column += columns_at_once) {
        w->columns = least(columns_at_once, w->g->n - w->first_column);
        int64_t panels = (w->columns + width - 1) / width;
        int64_t blocks = w->row_blocks * ((w->columns + w->group_columns - 1) / w->group_columns);
        if (k) {
            cpu_parallel(k, panels, cpu_grain(width * w->g->k), pack_panels, w);
            cpu_parallel(k, blocks, 1, do_blocks, w);
        } else {
            pack_panels(w, 0, panels, worker);
            do_blocks(w, 0, blocks, worker);
        }
    }
}

struct batch {
    const struct work *work;
    int64_t columns_at_once;
    float *packed; /* for each worker */
    size_t packed_size;
};

static void batch_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct batch *b = context;
    struct work w = *b->work;
    w.packed = b->packed + b->packed_size * (size_t)worker;
    for (int64_t i = first; i < end; i++) {
        place(&w, i);
        product(NULL, &w, b->columns_at_once, worker);
    }
}

const struct cpu_gemm_kernel *cpu_gemm_kernel_of(const struct mbk *k)
{
#ifdef __x86_64__
    switch (cpu_of(k)->level) {
    case CPU_AVX512: return &cpu_gemm_avx512;
    case CPU_AVX2: return &cpu_gemm_avx2;
    case CPU_PLAIN: break;
    }
#endif
    (void)k;
    return &cpu_gemm_plain;
}

static void read_blocks(const void *context, int64_t first, int64_t n, float *to)
{
    const struct mbk_gemm *g = context;
    cpu_blocks_to_floats(g->b_type, g->b, first, n, to);
}

#ifdef __x86_64__
static float dot_blocks(const void *context, int64_t first, int64_t n, const float *x)
{
    const struct mbk_gemm *g = context;
    return cpu_blocks_dot_avx512(g->b_type, g->b, first, n, x);
}
#endif

static int multiply_blocks(struct mbk *k, const struct mbk_gemm *g)
{
    struct cpu_gemm_reader reader = { .read = read_blocks };
#ifdef __x86_64__
    if (cpu_of(k)->level == CPU_AVX512)
        reader.dot = dot_blocks;
#endif
    return cpu_gemm_by(k, g, cpu_gemm_kernel_of(k), &reader, g);
}

int cpu_gemm(struct mbk *k, const struct mbk_gemm *g)
{
    if (g->a_type == MBK_I8)
        return cpu_gemm_int8(k, g);
    int floats = g->a_type == MBK_F32 || g->a_type == MBK_BF16;
    if (floats && (g->b_type == MBK_Q8_0 || g->b_type == MBK_Q4_0 || g->b_type == MBK_Q4_K))
        return multiply_blocks(k, g);
    if (!floats || (g->b_type != MBK_F32 && g->b_type != MBK_BF16))
        return mbk_unsupported(k, "matmul", floats ? g->b_type : g->a_type);
#ifdef __x86_64__
    if (cpu_of(k)->avx512_bf16 && g->a_type == MBK_BF16 && g->b_type == MBK_BF16 && g->alpha == 1 && g->k > 0)
        return cpu_gemm_bf16(k, g);
#endif
    return cpu_gemm_by(k, g, cpu_gemm_kernel_of(k), NULL, NULL);
}

int cpu_gemm_by(struct mbk *k, const struct mbk_gemm *g, const struct cpu_gemm_kernel *kernel, const struct cpu_gemm_reader *reader,
                const void *context)
{
    struct work w = { .g = g, .kernel = kernel, .loops = cpu_loops_of(k), .reader = reader, .read_context = context };
    struct batch b = { .work = &w };
    if (cpu_of(k)->blas && g->a_type == MBK_F32 && g->b_type == MBK_F32 && g->c_type == MBK_F32 && g->k > 0) {
        for (int64_t i = 0; i < g->batch; i++) {
            place(&w, i);
            cpu_gemm_blas(k, g, (const float *)(const void *)w.a, (const float *)(const void *)w.b, (float *)(void *)w.c);
            cpu_parallel(k, g->m, cpu_grain(g->n), finish_rows, &w);
        }
        return 0;
    }
    if (g->batch == 1 && g->m <= FEW_ROWS && g->transpose_b && !g->transpose_a) {
        place(&w, 0);
        return few_rows(k, &w);
    }
    int threads = cpu_of(k)->threads, by_batch = g->batch >= threads && (g->batch > threads || threads == 1);
    int alone = g->m * g->n <= ONE_THREAD && g->m * g->n * g->k <= ONE_THREAD;
    plan(&w, by_batch || alone ? 1 : threads, &b.columns_at_once);
    size_t mark = cpu_mark(k);
    b.packed_size = (size_t)(b.columns_at_once * (g->k > 0 ? g->k : 1));
    w.own = cpu_scratch(k, w.own_size * sizeof(float) * (size_t)threads);
    b.packed = w.own ? cpu_scratch(k, b.packed_size * sizeof(float) * (size_t)(by_batch ? threads : 1)) : NULL;
    if (b.packed && by_batch && g->batch > 1) {
        cpu_parallel(k, g->batch, cpu_grain(g->m * g->n * (g->k / 8 + 1)), batch_body, &b);
    } else if (b.packed) {
        w.packed = b.packed;
        for (int64_t i = 0; i < g->batch; i++) {
            place(&w, i);
            product(alone ? NULL : k, &w, b.columns_at_once, 0);
        }
    }
    cpu_release(k, mark);
    return b.packed ? 0 : -1;
}
