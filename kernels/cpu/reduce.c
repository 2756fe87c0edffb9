/* reduce.c: what becomes of many elements: sums, extremes, counts. Partial results cover a fixed number of elements or rows each and are
 * joined in order, whatever the threads. */
#include "cpu.h"
#include "vec_math.h"

#include <math.h>

enum { PART = 4096 };

/* -- Sum, and least and greatest, by parts. */

CPU_CLONES static float part_sum(const float *x, int64_t n)
{
    float sum;
    VEC_SUM(sum, i, n, x[i]);
    return sum;
}

/* -greatest of -x, greatest of x, and whether there is a NaN. */
CPU_CLONES static void part_extremes(const float *x, int64_t n, float *least, float *most)
{
    float low[VEC_LANES], high[VEC_LANES];
    uint32_t nan[VEC_LANES] = { 0 }, any = 0;
    for (int l = 0; l < VEC_LANES; l++) {
        low[l] = INFINITY;
        high[l] = -INFINITY;
    }
    int64_t i = 0;
    for (; i + VEC_LANES <= n; i += VEC_LANES)
        for (int l = 0; l < VEC_LANES; l++) {
            float v = x[i + l];
            low[l] = v < low[l] ? v : low[l];
            high[l] = v > high[l] ? v : high[l];
            nan[l] |= v != v ? 1u : 0u;
        }
    for (int l = 0; i < n; i++, l++) {
        low[l] = x[i] < low[l] ? x[i] : low[l];
        high[l] = x[i] > high[l] ? x[i] : high[l];
        nan[l] |= x[i] != x[i] ? 1u : 0u;
    }
    *least = low[0];
    *most = high[0];
    for (int l = 0; l < VEC_LANES; l++) {
        *least = low[l] < *least ? low[l] : *least;
        *most = high[l] > *most ? high[l] : *most;
        any |= nan[l];
    }
    if (any)
        *least = *most = NAN;
}

struct parts {
    const struct mbk_tensor *x;
    int64_t count;
    float *first, *second; /* a number or two for each part; second NULL: the sum is wanted */
};

static void parts_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct parts *p = context;
    float buffer[PART];
    (void)worker;
    for (int64_t i = first; i < end; i++) {
        int64_t n = p->count - i * PART < PART ? p->count - i * PART : PART;
        const float *x = cpu_in(p->x, i * PART, n, buffer);
        if (p->second)
            part_extremes(x, n, &p->first[i], &p->second[i]);
        else
            p->first[i] = part_sum(x, n);
    }
}

int cpu_sum(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *out)
{
    size_t mark = cpu_mark(k);
    struct parts p = { .x = x, .count = mbk_count(x) };
    int64_t parts = (p.count + PART - 1) / PART;
    p.first = cpu_scratch(k, (size_t)parts * sizeof(float));
    if (p.first) {
        cpu_parallel(k, parts, cpu_grain(PART), parts_body, &p);
        double sum = 0;
        for (int64_t i = 0; i < parts; i++)
            sum += (double)p.first[i];
        *(float *)out->data = (float)sum;
    }
    cpu_release(k, mark);
    return p.first ? 0 : -1;
}

int cpu_min_max(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *out)
{
    size_t mark = cpu_mark(k);
    struct parts p = { .x = x, .count = mbk_count(x) };
    int64_t parts = (p.count + PART - 1) / PART;
    p.first = cpu_scratch(k, 2 * (size_t)parts * sizeof(float));
    if (p.first) {
        p.second = p.first + parts;
        cpu_parallel(k, parts, cpu_grain(PART), parts_body, &p);
        float *result = out->data;
        result[0] = p.first[0];
        result[1] = p.second[0];
        for (int64_t i = 1; i < parts; i++) { /* a NaN wins, and stays */
            if (p.first[i] < result[0] || isnan(p.first[i]))
                result[0] = p.first[i];
            if (p.second[i] > result[1] || isnan(p.second[i]))
                result[1] = p.second[i];
        }
    }
    cpu_release(k, mark);
    return p.first ? 0 : -1;
}

/* -- The sum of all rows. Each thread has columns of its own; blocks of rows are summed apart first, which keeps the error down. */

enum { COLUMNS = 256, ROWS = 64 };

CPU_CLONES static void add_row_to(float *sum, const float *x, int64_t n)
{
    CPU_LOOP(i, n)
        sum[i] += x[i];
}

/* Eight rows, one after the other as above, for one pass over the sums. */
CPU_CLONES static void add_eight_rows_to(float *sum, const float *x, int64_t row, int64_t n)
{
    CPU_LOOP(i, n)
        sum[i] = sum[i] + x[i] + x[i + row] + x[i + 2 * row] + x[i + 3 * row] + x[i + 4 * row] + x[i + 5 * row] + x[i + 6 * row] + x[i
                + 7 * row];
}

struct rows {
    const struct mbk_tensor *x, *out;
};

static void rows_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct rows *w = context;
    int64_t rows = mbk_row_count(w->x), length = mbk_row_length(w->x);
    float buffer[COLUMNS], block[COLUMNS], total[COLUMNS];
    (void)worker;
    for (int64_t c = first, n; c < end; c += n) {
        n = end - c < COLUMNS ? end - c : COLUMNS;
        memset(total, 0, sizeof total);
        for (int64_t r = 0; r < rows; r += ROWS) {
            memset(block, 0, sizeof block);
            int64_t i = r, last = r + ROWS < rows ? r + ROWS : rows;
            for (; w->x->type == MBK_F32 && i + 8 <= last; i += 8)
                add_eight_rows_to(block, (const float *)w->x->data + i * length + c, length, n);
            for (; i < last; i++)
                add_row_to(block, cpu_in(w->x, i * length + c, n, buffer), n);
            add_row_to(total, block, n);
        }
        float *out = cpu_out(w->out, c, block);
        const float *before = cpu_in(w->out, c, n, buffer);
        for (int64_t i = 0; i < n; i++)
            out[i] = before[i] + total[i];
        cpu_put(w->out, c, n, out);
    }
}

int cpu_sum_rows(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *out)
{
    struct rows w = { x, out };
    int64_t grain = cpu_grain(mbk_row_count(x));
    cpu_parallel(k, mbk_row_length(x), grain < 16 ? 16 : grain, rows_body, &w);
    return 0;
}

/* -- The index of the greatest. */

CPU_CLONES static float greatest_of_row(const float *x, int64_t n)
{
    return vec_max(x, n);
}

CPU_CLONES static int has_nan(const float *x, int64_t n)
{
    uint32_t any = 0;
    for (int64_t i = 0; i < n; i++)
        any |= x[i] != x[i] ? 1u : 0u;
    return any != 0;
}

struct argmax {
    const struct mbk_tensor *x;
    int32_t *out;
    float *own; /* a row for each worker */
    int64_t length;
};

static void argmax_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct argmax *w = context;
    for (int64_t r = first; r < end; r++) {
        const float *x = cpu_in(w->x, r * w->length, w->length, w->own + w->length * worker);
        int nan = has_nan(x, w->length);
        float most = greatest_of_row(x, w->length);
        int64_t i = 0;
        while (i < w->length - 1 && !(nan ? isnan(x[i]) : x[i] == most))
            i++;
        w->out[r] = (int32_t)i;
    }
}

int cpu_argmax(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *out)
{
    size_t mark = cpu_mark(k);
    struct argmax w = { .x = x, .out = out->data, .length = mbk_row_length(x) };
    w.own = cpu_scratch(k, (size_t)w.length * (size_t)cpu_of(k)->threads * sizeof(float));
    if (w.own)
        cpu_parallel(k, mbk_row_count(x), cpu_grain(w.length), argmax_body, &w);
    cpu_release(k, mark);
    return w.own ? 0 : -1;
}

/* -- Histogram. */

struct histogram {
    const struct mbk_tensor *x;
    float least, factor;
    int64_t bins, *own; /* counts for each worker */
};

static void histogram_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct histogram *h = context;
    int64_t *counts = h->own + h->bins * worker;
    float buffer[CPU_PIECE], top = (float)(h->bins - 1);
    for (int64_t i = first; i < end; i += CPU_PIECE) {
        int64_t n = end - i < CPU_PIECE ? end - i : CPU_PIECE;
        const float *x = cpu_in(h->x, i, n, buffer);
        for (int64_t j = 0; j < n; j++) {
            float bin = floorf((x[j] - h->least) * h->factor);
            if (isnan(bin))
                continue;
            counts[bin <= 0 ? 0 : bin >= top ? h->bins - 1 : (int64_t)bin]++;
        }
    }
}

int cpu_histogram(struct mbk *k, const struct mbk_tensor *x, float least, float most, const struct mbk_tensor *counts)
{
    size_t mark = cpu_mark(k);
    struct histogram h = { .x = x, .least = least, .bins = mbk_count(counts) };
    h.factor = (float)h.bins / (most - least);
    size_t bytes = (size_t)h.bins * (size_t)cpu_of(k)->threads * sizeof(int64_t);
    h.own = cpu_scratch(k, bytes);
    if (h.own) {
        memset(h.own, 0, bytes);
        cpu_parallel(k, mbk_count(x), cpu_grain(4), histogram_body, &h);
        int64_t *total = counts->data;
        for (int64_t i = 0; i < h.bins * cpu_of(k)->threads; i++)
            total[i % h.bins] += h.own[i];
    }
    cpu_release(k, mark);
    return h.own ? 0 : -1;
}
