/* select.c: the greatest elements of rows, and drawing one of them. A few are kept in a heap while the row goes by; many are sorted by
 * digits. */
#include "select.h"
#include "cpu.h"
#include "vec_math.h"

#include <math.h>

/* -- The greatest of ranks. */

/* A heap with the least on top: what is at `i` sinks to its place. */
static void sink(uint64_t *heap, int64_t n, int64_t i)
{
    uint64_t rank = heap[i];
    for (int64_t child; (child = 2 * i + 1) < n; i = child) {
        child += child + 1 < n && heap[child + 1] < heap[child];
        if (heap[child] >= rank)
            break;
        heap[i] = heap[child];
    }
    heap[i] = rank;
}

static void keep_few(uint64_t *ranks, int64_t n, int64_t wanted)
{
    for (int64_t i = wanted / 2 - 1; i >= 0; i--)
        sink(ranks, wanted, i);
    for (int64_t i = wanted; i < n; i++)
        if (ranks[i] > ranks[0]) {
            ranks[0] = ranks[i];
            sink(ranks, wanted, 0);
        }
    for (int64_t last = wanted - 1; last > 0; last--) { /* the least goes to the end */
        uint64_t least = ranks[0];
        ranks[0] = ranks[last];
        ranks[last] = least;
        sink(ranks, last, 0);
    }
}

/* By the upper 32 bits, eight at a time; stable, and indices ascend already. */
static uint64_t *sort_all(uint64_t *from, uint64_t *to, int64_t n)
{
    for (int shift = 32; shift < 64; shift += 8) {
        int64_t start[256] = { 0 }, sum = 0;
        for (int64_t i = 0; i < n; i++)
            start[~(from[i] >> shift) & 255]++;
        for (int d = 0; d < 256; d++) {
            int64_t count = start[d];
            start[d] = sum;
            sum += count;
        }
        for (int64_t i = 0; i < n; i++)
            to[start[~(from[i] >> shift) & 255]++] = from[i];
        uint64_t *swap = from;
        from = to;
        to = swap;
    }
    return from;
}

uint64_t *cpu_greatest(uint64_t *ranks, uint64_t *room, int64_t n, int64_t wanted)
{
    if (wanted > n / 8)
        return sort_all(ranks, room, n);
    keep_few(ranks, n, wanted);
    return ranks;
}

/* -- Rows. */

struct work {
    const struct mbk_tensor *x, *values; /* values: of top_k */
    int32_t *indices;                    /* or the ids that were drawn */
    int64_t length, wanted;
    float temperature, top_p;
    uint64_t seed, offset;
    uint64_t *own;                       /* two rows of ranks for each worker */
    float *floats;                       /* two rows for each worker */
};

static uint64_t *rank_row(const struct work *w, const float *x, int worker)
{
    uint64_t *ranks = w->own + 2 * w->length * worker;
    for (int64_t i = 0; i < w->length; i++)
        ranks[i] = cpu_rank_of(x[i], i);
    return cpu_greatest(ranks, ranks + w->length, w->length, w->wanted);
}

static int run(struct mbk *k, struct work *w, cpu_body *body, int ranks)
{
    size_t mark = cpu_mark(k), threads = (size_t)cpu_of(k)->threads;
    w->length = mbk_row_length(w->x);
    w->floats = cpu_scratch(k, 2 * sizeof(float) * (size_t)w->length * threads);
    w->own = w->floats && ranks ? cpu_scratch(k, 2 * sizeof(uint64_t) * (size_t)w->length * threads) : NULL;
    int good = w->floats && (w->own || !ranks);
    if (good)
        cpu_parallel(k, mbk_row_count(w->x), cpu_grain(8 * w->length), body, w);
    cpu_release(k, mark);
    return good ? 0 : -1;
}

static void top_k_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct work *w = context;
    float *own = w->floats + 2 * w->length * worker;
    for (int64_t r = first; r < end; r++) {
        const float *x = cpu_in(w->x, r * w->length, w->length, own);
        const uint64_t *ranks = rank_row(w, x, worker);
        float *values = cpu_out(w->values, r * w->wanted, own + w->length);
        for (int64_t i = 0; i < w->wanted; i++) {
            int64_t at = cpu_index_of(ranks[i]);
            values[i] = x[at];
            w->indices[r * w->wanted + i] = (int32_t)at;
        }
        cpu_put(w->values, r * w->wanted, w->wanted, values);
    }
}

int cpu_top_k(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *values, const struct mbk_tensor *indices)
{
    struct work w = { .x = x, .values = values, .indices = indices->data, .wanted = mbk_row_length(values) };
    return run(k, &w, top_k_body, 1);
}

/* -- Sampling. In the order of rank where the choice is limited, else of index, element i is drawn if it is the first with w0 + … + wi >
 * u · Σ w. */

CPU_CLONES static void sample_weigh(const float *x, float most, float temperature, float *weights, int64_t n)
{
    CPU_LOOP(i, n)
        weights[i] = vec_exp((x[i] - most) / temperature);
}

/* The first place at which the sum of weights is more than `target` (or_equal: as much); the last that weighs anything if rounding
 * leaves none. */
static int64_t find(const float *weights, int64_t n, double target, int or_equal, double *up_to)
{
    double sum = 0;
    int64_t place = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += (double)weights[i];
        if (weights[i] > 0)
            place = i;
        if (sum > target || (or_equal && sum >= target))
            break;
    }
    *up_to = sum;
    return place;
}

static void sample_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct work *w = context;
    float *own = w->floats + 2 * w->length * worker, *weights = own + w->length;
    for (int64_t r = first; r < end; r++) {
        const float *x = cpu_in(w->x, r * w->length, w->length, own);
        uint64_t best = 0;
        for (int64_t i = 0; i < w->length; i++) {
            uint64_t rank = cpu_rank_of(x[i], i);
            best = rank > best ? rank : best;
        }
        int64_t greatest = cpu_index_of(best), n = w->wanted;
        w->indices[r] = (int32_t)greatest;
        if (!isfinite(x[greatest]))
            continue; /* NaN or infinity: it has all the weight */
        const uint64_t *ranks = w->own ? rank_row(w, x, worker) : NULL;
        float most = x[greatest];
        for (int64_t i = 0; ranks && i < n; i++)
            weights[i] = x[cpu_index_of(ranks[i])];
        sample_weigh(ranks ? weights : x, most, w->temperature, weights, n);
        double whole = 0;
        for (int64_t i = 0; i < n; i++)
            whole += (double)weights[i];
        if (w->top_p < 1)
            n = find(weights, n, (double)w->top_p * whole, 1, &whole) + 1;
        uint32_t words[4];
        mbk_philox(w->seed, w->offset + (uint64_t)r, words);
        double up_to;
        int64_t place = find(weights, n, (double)(words[0] >> 8) * 0x1p-24 * whole, 0, &up_to);
        w->indices[r] = (int32_t)(ranks ? cpu_index_of(ranks[place]) : place);
    }
}

int cpu_sample(struct mbk *k, const struct mbk_tensor *logits, float temperature, int top_k, float top_p, uint64_t seed, uint64_t offset,
               const struct mbk_tensor *ids)
{
    if (temperature == 0)
        return cpu_argmax(k, logits, ids);
    int64_t length = mbk_row_length(logits);
    struct work w = { .x = logits, .indices = ids->data, .wanted = top_k > 0 && top_k < length ? top_k : length, .temperature = temperature,
                      .top_p = top_p, .seed = seed, .offset = offset };
    return run(k, &w, sample_body, w.wanted < length || top_p < 1);
}
