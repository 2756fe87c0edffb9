/* attention.c: attention in blocks (Dao et al. 2022), by the products of gemm.h.
 *
 * The keys and values of one head are packed once, and blocks of queries go along them in blocks of keys, keeping for each query the
 * greatest score, the sum of exponentials and the weighted sum of values so far. Backward makes the scores again from lse, and sums the
 * gradients of keys and values over the queries of all heads of their group, in order. A thread has whole blocks of queries, or,
 * backward, whole groups of heads: no sum goes across threads. Scores that are not seen are never made, beyond the few that fill a tile.
 *
 * Scale is multiplied into the packed keys (and, for the keys' gradient, queries), never into scores.
 */
#include "gemm.h"
#include "loops.h"
#include "philox.h"
#include "vec_math.h"

#include <math.h>

enum {
    QUERIES = 96,          /* a block: a multiple of all rows_most */
    KEYS = 384,            /* a multiple of all columns_most, and of VEC_LANES */
    ROW = KEYS + VEC_LANES /* from row to row of a block of scores: an odd number of cache lines */
};

struct work {
    const struct mbk_attention *a;
    const struct mbk_tensor *dout, *dq, *dkeys, *dvalues;
    const struct cpu_gemm_kernel *kernel;
    const struct cpu_loops *loops;
    int64_t queries, keys, heads, groups, size;
    int64_t blocks, block;  /* of queries: how many, and how long */
    int64_t padded_keys, padded_size; /* to whole panels */
    cpu_philox *philox;
    uint32_t keep_from;     /* the least word that dropout keeps */
    float keep_factor;
    float *own;
    size_t own_size;        /* floats for each worker */
};

/* What a worker has. The last ones are for backward. */
struct room {
    float *keys_across, *values;     /* panels of keys, k along the head; panels of the head, k along the keys */
    float *buffer, *q, *scores, *out, *most, *sum, *kept;
    float *values_across, *keys_along, *dout, *dscores, *q_along, *dout_along, *dq, *dkeys, *dvalues, *delta;
    int values_odd, keys_odd; /* something that is no finite number is among what was packed */
};

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t round_up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

/* Lays the room out from `base` on; returns how many floats it takes. */
static size_t lay_out(const struct work *w, struct room *r, float *base)
{
    int64_t across = w->padded_keys * w->size, along = w->keys * w->padded_size, head = QUERIES * w->size, block = QUERIES * ROW;
    struct {
        float **to;
        int64_t floats;
    } parts[] = {
        { &r->keys_across, across }, { &r->values, along }, { &r->buffer, w->kernel->columns_most * w->size + w->padded_size },
        { &r->q, head }, { &r->scores, block }, { &r->out, head }, { &r->most, QUERIES }, { &r->sum, QUERIES },
        { &r->kept, ROW },
        { &r->values_across, across }, { &r->keys_along, along }, { &r->dout, head }, { &r->dscores, block },
        { &r->q_along, QUERIES * w->padded_size }, { &r->dout_along, QUERIES * w->padded_size }, { &r->dq, head },
        { &r->dkeys, w->keys * w->size }, { &r->dvalues, w->keys * w->size }, { &r->delta, QUERIES },
    };
    enum { FORWARD = 9, ALL = sizeof parts / sizeof parts[0] };
    size_t used = 0;
    for (int i = 0; i < (w->dout ? ALL : FORWARD); i++) {
        if (base)
            *parts[i].to = base + used;
        used += (size_t)round_up(parts[i].floats, 16);
    }
    return used;
}

/* -- Rows of one head: of `t` from element `base` on, `step` from row to row. */

struct rows_of {
    const struct mbk_tensor *t;
    int64_t base, step;
};

static struct rows_of query_rows(const struct work *w, const struct mbk_tensor *t, int64_t b, int64_t h)
{
    return (struct rows_of){ t, (b * w->queries * w->heads + h) * w->size, w->heads * w->size };
}

static struct rows_of key_rows(const struct work *w, const struct mbk_tensor *t, int64_t b, int64_t g)
{
    return (struct rows_of){ t, (b * w->keys * w->groups + g) * w->size, w->groups * w->size };
}

static void load_rows(const struct work *w, struct rows_of r, int64_t first, int64_t n, float *to)
{
    for (int64_t i = 0; i < n; i++, to += w->size) {
        const float *from = cpu_in(r.t, r.base + (first + i) * r.step, w->size, to);
        if (from != to)
            memcpy(to, from, (size_t)w->size * sizeof *to);
    }
}

/* Rows s … s + n − 1 as floats: where they lie, or in `buffer`. */
static const float *rows_as_floats(const struct work *w, struct rows_of r, int64_t s, int64_t n, float *buffer, int64_t *step)
{
    *step = r.step;
    if (r.t->type == MBK_F32)
        return (const float *)r.t->data + r.base + s * r.step;
    load_rows(w, r, s, n, buffer);
    *step = w->size;
    return buffer;
}

static void store_row(const struct work *w, struct rows_of r, int64_t i, const float *from)
{
    float *to = cpu_out(r.t, r.base + i * r.step, (float *)(uintptr_t)from);
    if (to != from)
        memcpy(to, from, (size_t)w->size * sizeof *to);
    cpu_put(r.t, r.base + i * r.step, w->size, from);
}

/* Panels of rows, in each of which the elements of one place in the head stand together. */
static void pack_across(const struct work *w, struct rows_of r, int64_t n, float factor, float *to, float *buffer)
{
    int64_t width = w->kernel->columns_most;
    for (int64_t i = 0; i < n; i += width) {
        int64_t rows = least(width, n - i), step = r.step;
        const float *from = (const float *)r.t->data + r.base + i * step;
        if (r.t->type != MBK_F32) {
            load_rows(w, r, i, rows, buffer);
            from = buffer;
            step = w->size;
        }
        w->kernel->transpose(from, step, rows, w->size, to + i * w->size, width, factor);
    }
}

CPU_CLONES static void attention_scale(const float *from, float factor, float *to, int64_t n)
{
    CPU_LOOP(i, n)
        to[i] = from[i] * factor;
}

CPU_CLONES static int attention_finite(const float *x, int64_t n)
{
    uint32_t most = 0;
    CPU_LOOP(i, n)
    {
        uint32_t bits = vec_bits(x[i]) & 0x7fffffff;
        most = bits > most ? bits : most;
    }
    return most < 0x7f800000;
}

/* Panels of places in the head, in each of which the elements of one row stand together; `rows` of them to a panel. *odd tells whether
 * one is no finite number: see add_weighted. */
static void pack_along(const struct work *w, struct rows_of r, int64_t first, int64_t n, int64_t rows, float factor, float *to,
                       float *buffer, int *odd)
{
    int64_t width = w->kernel->columns_most;
    *odd = 0;
    for (int64_t i = 0; i < n; i++) {
        const float *from = cpu_in(r.t, r.base + (first + i) * r.step, w->size, buffer);
        *odd |= w->a->causal && !attention_finite(from, w->size);
        for (int64_t c = 0; c < w->size; c += width) {
            int64_t columns = least(width, w->size - c);
            float *row = to + c * rows + i * width;
            attention_scale(from + c, factor, row, columns);
            memset(row + columns, 0, (size_t)(width - columns) * sizeof *row);
        }
    }
}

/* -- Who sees what. */

static int64_t real_keys(const struct work *w, int64_t b)
{
    int64_t n = w->a->lengths ? ((const int32_t *)w->a->lengths->data)[b] : w->keys;
    return n < 0 ? 0 : least(n, w->keys);
}

/* The end of the keys that query t sees. */
static int64_t seen_keys(const struct work *w, int64_t t, int64_t real)
{
    int64_t end = w->a->causal ? t + w->keys - w->queries + 1 : real;
    return end < 0 ? 0 : least(end, real);
}

/* A block of queries before a block of keys. */
struct block {
    int64_t t, queries, s, keys, real; /* keys: to the end of what its last query sees */
};

/* Of the block's keys, how many query i sees. */
static int64_t seen(const struct work *w, const struct block *b, int64_t i)
{
    int64_t end = seen_keys(w, b->t + i, b->real) - b->s;
    return end < 0 ? 0 : least(end, b->keys);
}

/* -- Products over a block. Tiles that nobody sees are left out. */

/* scores[i, j] = Σ a[i, …] across[…, j]; `step` from row to row of a. */
static void make_scores(const struct work *w, const struct block *b, const float *a, int64_t step, const float *across, float *scores)
{
    int64_t width = w->kernel->columns_most, most = w->kernel->rows_most;
    for (int64_t j = 0; j < b->keys; j += width)
        for (int64_t i = 0; i < b->queries; i += most) {
            struct cpu_tile t = { .k = w->size, .a = a + i * step, .a_row = step, .a_step = 1, .b = across + (b->s + j) * w->size,
                                  .c = scores + i * ROW + j, .ldc = ROW, .rows = (int)least(most, b->queries - i),
                                  .columns = (int)least(width, b->keys - j) };
            if (j < seen(w, b, i + t.rows - 1))
                w->kernel->tile(&t);
        }
}

/* out[i, …] += Σ_j scores[i, j] along[j, …]; `along` is of all keys.
 *
 * The rows of a tile go along the keys that its last row sees, and those before it have weights of 0 there. But 0 times what is no finite
 * number is none: where `along` has such (`odd`), all rows go along what the first one sees, and then each alone along the rest. */
static void add_weighted(const struct work *w, const struct block *b, const float *scores, const float *along, int odd, float *out)
{
    int64_t width = w->kernel->columns_most, most = w->kernel->rows_most;
    for (int64_t i = 0; i < b->queries; i += most)
        for (int64_t c = 0; c < w->size; c += width) {
            struct cpu_tile t = { .a = scores + i * ROW, .a_row = ROW, .a_step = 1, .b = along + c * w->keys + b->s * width,
                                  .c = out + i * w->size + c, .ldc = w->size, .rows = (int)least(most, b->queries - i),
                                  .columns = (int)least(width, w->size - c), .add = 1 };
            int64_t rows = t.rows;
            t.k = seen(w, b, odd ? i : i + rows - 1);
            w->kernel->tile(&t);
            t.rows = 1;
            for (int64_t r = 1, all = t.k; odd && r < rows; r++) {
                t.a = scores + (i + r) * ROW + all;
                t.b = along + c * w->keys + (b->s + all) * width;
                t.c = out + (i + r) * w->size + c;
                t.k = seen(w, b, i + r) - all;
                w->kernel->tile(&t);
            }
        }
}

/* The first of the block's queries that sees its key j. */
static int64_t first_to_see(const struct work *w, const struct block *b, int64_t j)
{
    int64_t first = w->a->causal ? b->s + j - (w->keys - w->queries) - b->t : 0;
    return first < 0 ? 0 : least(first, b->queries);
}

/* out[s + j, …] += Σ_i scores[i, j] along[i, …]; `along` is of the block's queries. `odd` as above. */
static void add_weighted_across(const struct work *w, const struct block *b, const float *scores, const float *along, int odd, float *out)
{
    int64_t width = w->kernel->columns_most, most = w->kernel->rows_most;
    for (int64_t c = 0; c < w->size; c += width)
        for (int64_t j = 0; j < b->keys; j += most) {
            struct cpu_tile t = { .a_row = 1, .a_step = ROW, .c = out + (b->s + j) * w->size + c, .ldc = w->size,
                                  .rows = (int)least(most, b->keys - j), .columns = (int)least(width, w->size - c), .add = 1 };
            int64_t rows = t.rows, first = first_to_see(w, b, odd ? j + rows - 1 : j);
            t.k = b->queries - first;
            t.a = scores + first * ROW + j;
            t.b = along + c * QUERIES + first * width;
            w->kernel->tile(&t);
            t.rows = 1;
            for (int64_t r = 0; odd && r + 1 < rows; r++) {
                int64_t own = first_to_see(w, b, j + r);
                t.k = first - own;
                t.a = scores + own * ROW + j + r;
                t.b = along + c * QUERIES + own * width;
                t.c = out + (b->s + j + r) * w->size + c;
                w->kernel->tile(&t);
            }
        }
}

/* Row i of scores beyond what it sees becomes `value`, up to a whole vector and to the end of the tiles that read it: those of keys of
 * which it sees the first, those of queries of which the last sees more. Returns that length. */
static int64_t fill_row(const struct work *w, const struct block *b, int64_t i, float *row, float value)
{
    int64_t n = seen(w, b, i), end = round_up(least(n + w->kernel->rows_most - 1, b->keys), VEC_LANES);
    for (int64_t j = n; j < end; j++)
        row[j] = value;
    return end;
}

/* -- Dropout: what the weights of query row `row` of [B · H · T] are multiplied with. */

CPU_CLONES static void attention_keep(const uint32_t *words, uint32_t from, float factor, float *kept, int64_t n)
{
    CPU_LOOP(i, n)
        kept[i] = words[i] >= from ? factor : 0.0f;
}

static void keep_row(const struct work *w, int64_t row, int64_t s, float *kept, int64_t n)
{
    uint32_t words[PHILOX_WORDS];
    int64_t element = row * w->keys + s;
    for (int64_t i = 0, count; i < n; i += count) {
        int64_t skip = (element + i) % 4;
        w->philox(w->a->seed, w->a->offset + (uint64_t)(element + i) / 4, words);
        count = least(n - i, PHILOX_WORDS - skip);
        attention_keep(words + skip, w->keep_from, w->keep_factor, kept + i, count);
    }
}

/* -- Forward. */

CPU_CLONES static void attention_multiply(float *x, const float *y, int64_t n)
{
    CPU_LOOP(i, n)
        x[i] *= y[i];
}

CPU_CLONES static void attention_divide(float *x, float divisor, int64_t n)
{
    CPU_LOOP(i, n)
        x[i] /= divisor;
}

/* Row i of scores, of which n are to be weighed, into weights, dropout applied; what came before them is brought to the same footing. */
static void weigh_row(const struct work *w, struct room *r, int64_t i, int64_t n, int64_t head_row, int64_t s)
{
    float *row = r->scores + i * ROW, before = r->most[i], sum = w->loops->attention_weigh(row, n, &r->most[i]);
    float correction = before == r->most[i] ? 1 : expf(before - r->most[i]);
    r->sum[i] = r->sum[i] * correction + sum;
    if (correction != 1 && s > 0)
        attention_scale(r->out + i * w->size, correction, r->out + i * w->size, w->size);
    if (w->a->dropout > 0) {
        keep_row(w, head_row, s, r->kept, n);
        attention_multiply(row, r->kept, n);
    }
}

static void begin_rows(const struct work *w, struct room *r, int64_t n)
{
    memset(r->out, 0, (size_t)(n * w->size) * sizeof *r->out);
    for (int64_t i = 0; i < n; i++) {
        r->most[i] = -INFINITY;
        r->sum[i] = 0;
    }
}

/* Query t of head h, whose sums are in row i. */
static void finish_row(const struct work *w, struct room *r, int64_t i, int64_t batch, int64_t h, int64_t t, int64_t real)
{
    float *row = r->out + i * w->size;
    if (seen_keys(w, t, real) > 0)
        attention_divide(row, r->sum[i], w->size);
    else
        memset(row, 0, (size_t)w->size * sizeof *row);
    store_row(w, query_rows(w, w->a->out, batch, h), t, row);
    if (w->a->lse)
        ((float *)w->a->lse->data)[(batch * w->heads + h) * w->queries + t] = r->most[i] + logf(r->sum[i]);
}

static void forward_block(const struct work *w, struct room *r, int64_t batch, int64_t h, struct block b)
{
    int64_t head_row = (batch * w->heads + h) * w->queries + b.t, end = seen_keys(w, b.t + b.queries - 1, b.real), step;
    const float *q = rows_as_floats(w, query_rows(w, w->a->q, batch, h), b.t, b.queries, r->q, &step);
    begin_rows(w, r, b.queries);
    for (b.s = 0; b.s < end; b.s += KEYS) {
        b.keys = least(KEYS, end - b.s);
        make_scores(w, &b, q, step, r->keys_across, r->scores);
        for (int64_t i = 0; i < b.queries; i++)
            weigh_row(w, r, i, fill_row(w, &b, i, r->scores + i * ROW, -INFINITY), head_row + i, b.s);
        add_weighted(w, &b, r->scores, r->values, r->values_odd, r->out);
    }
    for (int64_t i = 0; i < b.queries; i++)
        finish_row(w, r, i, batch, h, b.t + i, b.real);
}

/* Blocks of queries, counted over batch and heads. */
static void forward_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct work *w = context;
    struct room r;
    int64_t packed = -1;
    lay_out(w, &r, w->own + w->own_size * (size_t)worker);
    for (int64_t i = first; i < end; i++) {
        int64_t batch = i / w->blocks / w->heads, h = i / w->blocks % w->heads, group = h / (w->heads / w->groups);
        struct block b = { .t = i % w->blocks * w->block, .real = real_keys(w, batch) };
        b.queries = least(w->block, w->queries - b.t);
        if (packed != batch * w->groups + group) {
            packed = batch * w->groups + group;
            pack_across(w, key_rows(w, w->a->keys, batch, group), b.real, w->a->scale, r.keys_across, r.buffer);
            pack_along(w, key_rows(w, w->a->values, batch, group), 0, b.real, w->keys, 1, r.values, r.buffer, &r.values_odd);
        }
        forward_block(w, &r, batch, h, b);
    }
}

/* -- Forward of a few queries, as generation asks for them: packing would cost more than the products. The queries of all heads of a
 * group go along its keys together. */

enum { FEW_QUERIES = 4 };

/* out += Σ p[s] · row s of values */
CPU_CLONES static void attention_gather(const float *p, const float *values, int64_t step, int64_t n, float *out, int64_t size)
{
    int64_t s = 0;
    for (; s + 4 <= n; s += 4) {
        const float *a = values + s * step, *b = a + step, *c = b + step, *d = c + step;
        float pa = p[s], pb = p[s + 1], pc = p[s + 2], pd = p[s + 3];
        CPU_LOOP(i, size)
            out[i] += (pa * a[i] + pb * b[i]) + (pc * c[i] + pd * d[i]);
    }
    for (; s < n; s++) {
        float one = p[s];
        CPU_LOOP(i, size)
            out[i] += one * values[s * step + i];
    }
}

/* Groups of heads, counted over the batch. Row i: head i / queries of the group, query i % queries. */
static void few_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct work *w = context;
    struct room r;
    int64_t each = w->heads / w->groups, rows = each * w->queries;
    lay_out(w, &r, w->own + w->own_size * (size_t)worker);
    for (int64_t g = first; g < end; g++) {
        int64_t batch = g / w->groups, group = g % w->groups, real = real_keys(w, batch), last = seen_keys(w, w->queries - 1, real);
        for (int64_t h = 0; h < each; h++)
            load_rows(w, query_rows(w, w->a->q, batch, group * each + h), 0, w->queries, r.q + h * w->queries * w->size);
        begin_rows(w, &r, rows);
        for (int64_t s = 0; s < last; s += KEYS) {
            int64_t n = least(KEYS, last - s), step;
            const float *keys = rows_as_floats(w, key_rows(w, w->a->keys, batch, group), s, n, r.keys_across, &step);
            for (int64_t j = 0; j < n; j += CPU_DOTS_MOST)
                for (int64_t i = 0; i < rows; i += CPU_DOTS_MOST)
                    w->kernel->dots(&(struct cpu_dots){ .k = w->size, .a = r.q + i * w->size, .a_row = w->size, .b = keys + j * step,
                                                        .b_row = step, .c = r.scores + i * ROW + j, .ldc = ROW, .alpha = w->a->scale,
                                                        .rows = (int)least(CPU_DOTS_MOST, rows - i),
                                                        .columns = (int)least(CPU_DOTS_MOST, n - j) });
            const float *values = rows_as_floats(w, key_rows(w, w->a->values, batch, group), s, n, r.keys_across, &step);
            for (int64_t i = 0; i < rows; i++) {
                int64_t mine = seen_keys(w, i % w->queries, real) - s, filled = round_up(n, VEC_LANES);
                mine = mine < 0 ? 0 : least(mine, n);
                for (int64_t j = mine; j < filled; j++)
                    r.scores[i * ROW + j] = -INFINITY;
                weigh_row(w, &r, i, filled, (batch * w->heads + group * each) * w->queries + i, s);
                attention_gather(r.scores + i * ROW, values, step, mine, r.out + i * w->size, w->size);
            }
        }
        for (int64_t i = 0; i < rows; i++)
            finish_row(w, &r, i, batch, group * each + i / w->queries, i % w->queries, real);
    }
}

/* -- Backward. With p = e^(score − lse), pd = p · kept, dp = dout · value, delta = Σ out dout: ds = p (dp · kept − delta); dq = scale ds
 * keys, dkeys = scale dsᵀ q, dvalues = pdᵀ dout. */

CPU_CLONES static float attention_dot(const float *x, const float *y, int64_t n)
{
    float sum;
    VEC_SUM(sum, i, n, x[i] * y[i]);
    return sum;
}

/* Scores into weights (dropout applied), and the weights' gradient into the scores'. */
static void backward_rows(const struct work *w, struct room *r, const struct block *b, const float *lse, int64_t head_row)
{
    for (int64_t i = 0; i < b->queries; i++) {
        float *p = r->scores + i * ROW, *dp = r->dscores + i * ROW;
        int64_t n = fill_row(w, b, i, p, -INFINITY), mine = seen(w, b, i);
        if (w->a->dropout > 0)
            keep_row(w, head_row + i, b->s, r->kept, n);
        w->loops->attention_slopes(p, dp, w->a->dropout > 0 ? r->kept : NULL, lse[i], r->delta[i], n);
        memset(p + mine, 0, (size_t)(n - mine) * sizeof *p); /* lse may be −∞, and dp is nonsense there */
        memset(dp + mine, 0, (size_t)(n - mine) * sizeof *dp);
    }
}

static void backward_block(const struct work *w, struct room *r, int64_t batch, int64_t h, struct block b)
{
    int64_t head_row = (batch * w->heads + h) * w->queries + b.t, end = seen_keys(w, b.t + b.queries - 1, b.real);
    const float *lse = (const float *)w->a->lse->data + head_row;
    struct rows_of q = query_rows(w, w->a->q, batch, h), dout = query_rows(w, w->dout, batch, h);
    int64_t q_step, dout_step, out_step;
    int q_odd, dout_odd;
    const float *q_rows = rows_as_floats(w, q, b.t, b.queries, r->q, &q_step);
    const float *dout_rows = rows_as_floats(w, dout, b.t, b.queries, r->dout, &dout_step);
    const float *out_rows = rows_as_floats(w, query_rows(w, w->a->out, batch, h), b.t, b.queries, r->out, &out_step);
    pack_along(w, q, b.t, b.queries, QUERIES, w->a->scale, r->q_along, r->buffer, &q_odd);
    pack_along(w, dout, b.t, b.queries, QUERIES, 1, r->dout_along, r->buffer, &dout_odd);
    memset(r->dq, 0, (size_t)(b.queries * w->size) * sizeof *r->dq);
    for (int64_t i = 0; i < b.queries; i++)
        r->delta[i] = attention_dot(out_rows + i * out_step, dout_rows + i * dout_step, w->size);
    for (b.s = 0; b.s < end; b.s += KEYS) {
        b.keys = least(KEYS, end - b.s);
        make_scores(w, &b, q_rows, q_step, r->keys_across, r->scores);
        make_scores(w, &b, dout_rows, dout_step, r->values_across, r->dscores);
        backward_rows(w, r, &b, lse, head_row);
        add_weighted(w, &b, r->dscores, r->keys_along, r->keys_odd, r->dq);
        add_weighted_across(w, &b, r->scores, r->dout_along, dout_odd, r->dvalues);
        add_weighted_across(w, &b, r->dscores, r->q_along, q_odd, r->dkeys);
    }
    for (int64_t i = 0; i < b.queries; i++)
        store_row(w, query_rows(w, w->dq, batch, h), b.t + i, r->dq + i * w->size);
}

/* Groups of heads, counted over the batch. */
static void backward_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct work *w = context;
    struct room r;
    int64_t each = w->heads / w->groups;
    lay_out(w, &r, w->own + w->own_size * (size_t)worker);
    for (int64_t i = first; i < end; i++) {
        int64_t batch = i / w->groups, group = i % w->groups, real = real_keys(w, batch);
        struct rows_of keys = key_rows(w, w->a->keys, batch, group), values = key_rows(w, w->a->values, batch, group);
        pack_across(w, keys, real, w->a->scale, r.keys_across, r.buffer);
        pack_across(w, values, real, 1, r.values_across, r.buffer);
        pack_along(w, keys, 0, real, w->keys, w->a->scale, r.keys_along, r.buffer, &r.keys_odd);
        memset(r.dkeys, 0, (size_t)(w->keys * w->size) * sizeof *r.dkeys);
        memset(r.dvalues, 0, (size_t)(w->keys * w->size) * sizeof *r.dvalues);
        for (int64_t h = group * each; h < (group + 1) * each; h++)
            for (int64_t t = 0; t < w->queries; t += w->block)
                backward_block(w, &r, batch, h, (struct block){ .t = t, .queries = least(w->block, w->queries - t), .real = real });
        for (int64_t s = 0; s < w->keys; s++) {
            store_row(w, key_rows(w, w->dkeys, batch, group), s, r.dkeys + s * w->size);
            store_row(w, key_rows(w, w->dvalues, batch, group), s, r.dvalues + s * w->size);
        }
    }
}

/* -- Both. */

/* Most heads are 64 or 128 wide, which tiles of 64 columns fill and those of 48 do not. */
static const struct cpu_gemm_kernel *choose_kernel(const struct mbk *k, int64_t size)
{
#ifdef __x86_64__
    if (cpu_of(k)->level == CPU_AVX512 && size % cpu_gemm_avx512_wide.columns_most == 0)
        return &cpu_gemm_avx512_wide;
#endif
    (void)size;
    return cpu_gemm_kernel_of(k);
}

static int run(struct mbk *k, struct work *w)
{
    const struct mbk_attention *a = w->a;
    struct room r;
    size_t mark = cpu_mark(k);
    w->loops = cpu_loops_of(k);
    w->queries = a->q->shape[1];
    w->heads = a->q->shape[2];
    w->size = a->q->shape[3];
    w->keys = a->keys->shape[1];
    w->groups = a->keys->shape[2];
    w->kernel = choose_kernel(k, w->size);
    w->padded_keys = round_up(w->keys, w->kernel->columns_most);
    w->padded_size = round_up(w->size, w->kernel->columns_most);
    /* Blocks as even as whole tiles allow. */
    w->blocks = (w->queries + QUERIES - 1) / QUERIES;
    w->block = round_up((w->queries + w->blocks - 1) / w->blocks, w->kernel->rows_most);
    w->blocks = (w->queries + w->block - 1) / w->block;
    w->philox = cpu_philox_of(k);
    w->keep_from = (uint32_t)ceil((double)a->dropout * 4294967296.0); /* the greatest float below 1 fits */
    w->keep_factor = 1.0f / (1.0f - a->dropout);
    w->own_size = lay_out(w, &r, NULL);
    w->own = cpu_scratch(k, w->own_size * sizeof(float) * (size_t)cpu_of(k)->threads);
    int64_t batch = a->q->shape[0], pair = w->queries * w->keys * (w->size / 8 + 1);
    if (w->own && w->dout)
        cpu_parallel(k, batch * w->groups, cpu_grain(2 * pair * (w->heads / w->groups)), backward_body, w);
    else if (w->own && w->queries <= FEW_QUERIES && w->heads / w->groups * w->queries <= QUERIES)
        cpu_parallel(k, batch * w->groups, cpu_grain(pair * (w->heads / w->groups)), few_body, w);
    else if (w->own)
        cpu_parallel(k, batch * w->heads * w->blocks, cpu_grain(pair / w->blocks), forward_body, w);
    cpu_release(k, mark);
    return w->own ? 0 : -1;
}

int cpu_attend(struct mbk *k, const struct mbk_attention *a)
{
    return run(k, &(struct work){ .a = a });
}

int cpu_attend_backward(struct mbk *k, const struct mbk_attention *a, const struct mbk_tensor *dout, const struct mbk_tensor *dq,
                        const struct mbk_tensor *dkeys, const struct mbk_tensor *dvalues)
{
    return run(k, &(struct work){ .a = a, .dout = dout, .dq = dq, .dkeys = dkeys, .dvalues = dvalues });
}
