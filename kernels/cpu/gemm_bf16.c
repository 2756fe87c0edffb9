/* gemm_bf16.c: products of bfloat16 by AVX512-BF16 or AMX, sums in float32: two elements of k that stand together are multiplied and added at
 * once.
 *
 * To gemm.c such a pair is one element of 32 bits that it moves about like a float, and k is half as long. Where k runs along the rows
 * of an operand, pairs are lying there already; where it runs down the columns, two rows are first laid into each other.
 */
#include "amx.h"

#ifdef __x86_64__
#include "gemm_avx512.h"

#define TARGET __attribute__((target("avx512f,avx512bf16")))
#define V_FMA(a, b, c) _mm512_dpbf16_ps(c, (__m512bh)(a), (__m512bh)(b))
enum { ROWS = 8, VECTORS = 3 };

#include "gemm_tile.h"

#define ROW_OF_TILES(rows) TILE_FUNCTION(rows, 1) TILE_FUNCTION(rows, 2) TILE_FUNCTION(rows, 3)
ROW_OF_TILES(1)
ROW_OF_TILES(2)
ROW_OF_TILES(3)
ROW_OF_TILES(4)
ROW_OF_TILES(5)
ROW_OF_TILES(6)
ROW_OF_TILES(7)
ROW_OF_TILES(8)

DOTS_FUNCTIONS

static void tile(const struct cpu_tile *t)
{
#define ENTRIES(rows) { tile_##rows##_1, tile_##rows##_2, tile_##rows##_3 }
    static void (*const tiles[ROWS][VECTORS])(const struct cpu_tile *t) = { ENTRIES(1), ENTRIES(2), ENTRIES(3), ENTRIES(4),
                                                                           ENTRIES(5), ENTRIES(6), ENTRIES(7), ENTRIES(8) };
    tiles[t->rows - 1][(t->columns - 1) / WIDTH](t);
}

static const struct cpu_gemm_kernel vectors = { ROWS, COLUMNS, tile, dots, transpose };
static const struct cpu_gemm_kernel matrices = { AMX_ROWS, AMX_COLUMNS, cpu_amx_tile_bf16, dots, transpose };

/* -- Pairs. */

/* One operand of one product or of a batch. */
struct operand {
    const uint16_t *from;
    int down;              /* whether k runs down the columns */
    int64_t k, others, batch, ld, stride; /* others: its size that is not k */
    uint32_t *pairs;       /* where they are laid; NULL: they are lying */
};

static int64_t half(int64_t k)
{
    return (k + 1) / 2;
}

static int are_lying(const struct operand *o)
{
    return !o->down && (uintptr_t)o->from % sizeof(uint32_t) == 0 && o->k % 2 == 0 && o->ld % 2 == 0 && o->stride % 2 == 0;
}

CPU_CLONES static void bf16_join_rows(const uint16_t *first, const uint16_t *second, uint32_t *to, int64_t n)
{
    CPU_LOOP(i, n)
        to[i] = first[i] | (uint32_t)second[i] << 16;
}

CPU_CLONES static void bf16_widen_row(const uint16_t *first, uint32_t *to, int64_t n)
{
    CPU_LOOP(i, n)
        to[i] = first[i];
}

/* Rows of pairs, over the batch. */
static void lay_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct operand *o = context;
    int64_t rows = o->down ? half(o->k) : o->others, length = o->down ? o->others : half(o->k);
    (void)worker;
    for (int64_t r = first; r < end; r++) {
        int64_t row = r % rows;
        const uint16_t *from = o->from + r / rows * o->stride + (o->down ? 2 * row : row) * o->ld;
        uint32_t *to = o->pairs + r * length;
        if (o->down && 2 * row + 1 < o->k)
            bf16_join_rows(from, from + o->ld, to, length);
        else if (o->down)
            bf16_widen_row(from, to, length);
        else
            memcpy(to, from, (size_t)o->k * sizeof *from);
        if (!o->down && o->k % 2)
            to[length - 1] = from[o->k - 1];
    }
}

/* Lays the pairs, if they are not lying, and says where they are. Returns -1 after mbk_fail. */
static int lay(struct mbk *k, struct operand *o, const void **data, int64_t *ld, int64_t *stride)
{
    if (are_lying(o)) {
        *ld = o->ld / 2;
        *stride = o->stride / 2;
        return 0;
    }
    int64_t rows = o->down ? half(o->k) : o->others, length = o->down ? o->others : half(o->k), batch = o->stride ? o->batch : 1;
    o->pairs = cpu_scratch(k, sizeof *o->pairs * (size_t)(batch * rows * length));
    if (!o->pairs)
        return -1;
    cpu_parallel(k, batch * rows, cpu_grain(2 * length), lay_body, o);
    *data = o->pairs;
    *ld = length;
    *stride = o->stride ? rows * length : 0;
    return 0;
}

/* What is laid of an operand at once, where k runs down its columns: so many others, a multiple of all that tiles have. By the shape
 * alone, as few as fit PAIRS_MOST, so that large operands, the logits' say, take no second memory of their size. */
enum { PAIRS_MOST = 4 << 20, OTHERS_LEAST = 144 };

static int64_t others_at_once(const struct operand *o)
{
    int64_t most = PAIRS_MOST / half(o->k) / OTHERS_LEAST * OTHERS_LEAST;
    return !o->down || o->batch > 1 || most >= o->others ? o->others : most < OTHERS_LEAST ? OTHERS_LEAST : most;
}

static size_t c_size(const struct mbk_gemm *g)
{
    return g->c_type == MBK_F32 ? 4 : 2;
}

/* The product of the rows of c from `first` on, with b's pairs as they are laid. */
static int multiply_rows(struct mbk *k, const struct mbk_gemm *g, struct operand a, int64_t first, int64_t rows)
{
    struct mbk_gemm part = *g;
    size_t mark = cpu_mark(k), offset = (size_t)(first * g->n) * c_size(g);
    a.from += first;
    a.others = part.m = rows;
    part.c = (char *)g->c + (size_t)(first * g->ldc) * c_size(g);
    part.before = g->before ? (char *)g->before + offset : NULL;
    part.residual = g->residual ? (const char *)g->residual + offset : NULL;
    int status = lay(k, &a, &part.a, &part.lda, &part.stride_a);
    if (status == 0)
        status = cpu_gemm_by(k, &part, cpu_of(k)->amx ? &matrices : &vectors, NULL, NULL);
    cpu_release(k, mark);
    return status;
}

/* The product of the columns of c from `first` on. */
static int multiply_columns(struct mbk *k, const struct mbk_gemm *g, const struct operand *a, struct operand b, int64_t first,
                            int64_t columns)
{
    struct mbk_gemm part = *g;
    size_t mark = cpu_mark(k);
    b.from += first;
    b.others = part.n = columns;
    part.c = (char *)g->c + (size_t)first * c_size(g);
    part.bias = g->bias ? (const char *)g->bias + (size_t)first * (g->bias_type == MBK_F32 ? 4 : 2) : NULL;
    int status = lay(k, &b, &part.b, &part.ldb, &part.stride_b);
    int64_t rows = others_at_once(a);
    for (int64_t row = 0; status == 0 && row < g->m; row += rows)
        status = multiply_rows(k, &part, *a, row, g->m - row < rows ? g->m - row : rows);
    cpu_release(k, mark);
    return status;
}

int cpu_gemm_bf16(struct mbk *k, const struct mbk_gemm *g)
{
    struct mbk_gemm pairs = *g;
    struct operand a = { .from = g->a, .down = g->transpose_a, .k = g->k, .others = g->m, .batch = g->batch, .ld = g->lda,
                         .stride = g->stride_a };
    struct operand b = { .from = g->b, .down = !g->transpose_b, .k = g->k, .others = g->n, .batch = g->batch, .ld = g->ldb,
                         .stride = g->stride_b };
    pairs.a_type = pairs.b_type = MBK_F32;
    pairs.k = half(g->k);
    /* What is dense with c goes by whole rows of it. */
    int64_t columns = g->before || g->residual ? g->n : others_at_once(&b);
    int status = 0;
    for (int64_t first = 0; status == 0 && first < g->n; first += columns)
        status = multiply_columns(k, &pairs, &a, b, first, g->n - first < columns ? g->n - first : columns);
    return status;
}
#endif
