/* embedding.c: rows of a table by their numbers, of GGUF's blocks too, and their gradient.
 *
 * Backward sorts the places by id, stably, and sums each run of equal ids in the order of its places before it goes to the table: each
 * row of the table is read and written once, rounded once, and the order of the sum is that of the places whatever the threads do.
 */
#include "blocks.h"

enum { DIGIT_BITS = 11, DIGITS = 1 << DIGIT_BITS, BLOCK_ROWS = 64 };

static int check_ids(struct mbk *k, const char *operation, const int32_t *ids, int64_t count, int64_t rows)
{
    for (int64_t i = 0; i < count; i++)
        if (ids[i] < 0 || ids[i] >= rows)
            return mbk_fail(k, "%s: id %lld is %d, and the table has %lld rows", operation, (long long)i, (int)ids[i], (long long)rows);
    return 0;
}

struct gather {
    const char *table;
    char *y;
    const int32_t *ids;
    size_t row;
};

static void gather_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct gather *w = context;
    (void)worker;
    for (int64_t r = first; r < end; r++)
        memcpy(w->y + (size_t)r * w->row, w->table + (size_t)w->ids[r] * w->row, w->row);
}

/* Rows of blocks or of another float than y's, made floats as they are taken. */
struct unpack {
    const struct mbk_tensor *table, *y;
    const int32_t *ids;
};

static void unpack_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct unpack *w = context;
    int blocks = mbk_is_blocks(w->table->type);
    int64_t length = w->table->shape[1], block = blocks ? mbk_block(w->table->type) : 1, piece = CPU_PIECE / block * block;
    float buffer[CPU_PIECE];
    (void)worker;
    for (int64_t r = first; r < end; r++)
        for (int64_t c = 0; c < length; c += piece) {
            int64_t n = length - c < piece ? length - c : piece, at = r * length + c;
            int64_t from = w->ids[r] * length + c;
            float *to = cpu_out(w->y, at, buffer);
            if (blocks)
                cpu_blocks_to_floats(w->table->type, w->table->data, from, n, to);
            else if (w->table->type == MBK_F32)
                to = (float *)w->table->data + from; /* and y is not: it is but put there */
            else
                cpu_in(w->table, from, n, to);
            cpu_put(w->y, at, n, to);
        }
}

int cpu_embedding(struct mbk *k, const struct mbk_tensor *table, const struct mbk_tensor *ids, const struct mbk_tensor *y)
{
    struct gather w = { table->data, y->data, ids->data, (size_t)table->shape[1] * (table->type == MBK_F32 ? 4 : 2) };
    if (check_ids(k, "embedding", w.ids, mbk_count(ids), table->shape[0]))
        return -1;
    if (table->type != y->type) {
        struct unpack unpack = { table, y, ids->data };
        cpu_parallel(k, mbk_count(ids), cpu_grain(table->shape[1]), unpack_body, &unpack);
        return 0;
    }
    cpu_parallel(k, mbk_count(ids), cpu_grain(table->shape[1]), gather_body, &w);
    return 0;
}

/* -- Backward. */

struct place {
    uint32_t id, at;
};

/* Sorts by id, equal ids by their places; a digit of DIGIT_BITS at a time, from the lowest. Returns the one of the two that it ends up
 * in. */
static struct place *sort_places(struct place *from, struct place *to, int64_t count, int64_t rows)
{
    for (int shift = 0; shift < 32 && (rows - 1) >> shift != 0; shift += DIGIT_BITS) {
        int64_t start[DIGITS] = { 0 }, sum = 0;
        for (int64_t i = 0; i < count; i++)
            start[from[i].id >> shift & (DIGITS - 1)]++;
        for (int d = 0; d < DIGITS; d++) {
            int64_t n = start[d];
            start[d] = sum;
            sum += n;
        }
        for (int64_t i = 0; i < count; i++)
            to[start[from[i].id >> shift & (DIGITS - 1)]++] = from[i];
        struct place *swap = from;
        from = to;
        to = swap;
    }
    return from;
}

CPU_CLONES static void embedding_add(const float *x, float *sum, int64_t n)
{
    CPU_LOOP(i, n)
        sum[i] += x[i];
}

struct scatter {
    const struct mbk_tensor *dy, *dtable;
    const struct place *places;
    int64_t count, length;
};

/* The run of places i … end − 1, of columns c … c + n − 1. Blocks of rows are summed apart first, which keeps the error down. */
static void add_run(const struct scatter *w, int64_t i, int64_t end, int64_t c, int64_t n)
{
    float total[CPU_PIECE], block[CPU_PIECE], buffer[CPU_PIECE];
    int64_t at = (int64_t)w->places[i].id * w->length + c;
    const float *before = cpu_in(w->dtable, at, n, buffer);
    memcpy(total, before, (size_t)n * sizeof *total);
    while (i < end) {
        int64_t stop = end - i < BLOCK_ROWS ? end : i + BLOCK_ROWS;
        memset(block, 0, (size_t)n * sizeof *block);
        for (; i < stop; i++)
            embedding_add(cpu_in(w->dy, (int64_t)w->places[i].at * w->length + c, n, buffer), block, n);
        embedding_add(block, total, n);
    }
    float *out = cpu_out(w->dtable, at, total);
    if (out != total)
        memcpy(out, total, (size_t)n * sizeof *total);
    cpu_put(w->dtable, at, n, total);
}

static void scatter_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct scatter *w = context;
    (void)worker;
    for (int64_t i = 0, stop; i < w->count; i = stop) {
        for (stop = i + 1; stop < w->count && w->places[stop].id == w->places[i].id;)
            stop++;
        for (int64_t c = first; c < end; c += CPU_PIECE)
            add_run(w, i, stop, c, end - c < CPU_PIECE ? end - c : CPU_PIECE);
    }
}

int cpu_embedding_backward(struct mbk *k, const struct mbk_tensor *ids, const struct mbk_tensor *dy, const struct mbk_tensor *dtable)
{
    int64_t count = mbk_count(ids);
    const int32_t *id = ids->data;
    if (check_ids(k, "embedding_backward", id, count, dtable->shape[0]))
        return -1;
    if (count > UINT32_MAX)
        return mbk_fail(k, "embedding_backward: %lld ids are more than can be sorted", (long long)count);
    size_t mark = cpu_mark(k);
    struct place *places = cpu_scratch(k, 2 * (size_t)count * sizeof *places);
    if (places) {
        struct scatter w = { .dy = dy, .dtable = dtable, .count = count, .length = dtable->shape[1] };
        for (int64_t i = 0; i < count; i++)
            places[i] = (struct place){ (uint32_t)id[i], (uint32_t)i };
        w.places = sort_places(places, places + count, count, dtable->shape[0]);
        /* Each thread has columns of its own, whole cache lines of them. */
        int64_t grain = cpu_grain(2 * count);
        cpu_parallel(k, w.length, (grain + 15) / 16 * 16, scatter_body, &w);
    }
    cpu_release(k, mark);
    return places ? 0 : -1;
}
