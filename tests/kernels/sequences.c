/* sequences.c: embedding, rotary positions, the greatest of rows and sampling, on every backend. */
#include "kernels.h"
#include "reference/reference.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>

struct sequence_test {
    const char *backend;
    enum mbk_type type;
};

static double *constant(int64_t n, double value)
{
    double *x = kernels_zeros(n);
    for (int64_t i = 0; i < n; i++)
        x[i] = value;
    return x;
}

/* -- Embedding. */

static void embedding_body(const void *argument)
{
    const struct sequence_test *test = argument;
    static const int64_t shapes[][3] = { { 1, 1, 1 }, { 0, 4, 3 }, { 5, 3, 7 }, { 301, 2, 16 }, { 97, 5000, 33 }, { 1031, 100, 2 },
                                         { 40, 7, 1031 } };
    struct mbk *k = kernels_open(test->backend, 3);
    for (int s = 0; s < (int)(sizeof shapes / sizeof shapes[0]); s++) {
        int64_t rows = shapes[s][0], table = shapes[s][1], n = shapes[s][2];
        double *x = kernels_random(table * n, -1, 1, 1), *ids = kernels_random(rows, 0, (double)table, 2), *y = kernels_zeros(rows * n);
        double *dy = kernels_random(rows * n, -1, 1, 3), *dtable = kernels_random(table * n, -1, 1, 4), *size = constant(table * n, 1);
        for (int64_t r = 0; r < rows; r++)
            ids[r] = r % 3 == 0 ? (double)(table - 1) : floor(ids[r]); /* one that comes often */
        struct mbk_tensor tx = kernels_put(k, test->type, SHAPE(table, n), x), tids = kernels_put(k, MBK_I32, SHAPE(rows), ids);
        struct mbk_tensor ty = kernels_put(k, test->type, SHAPE(rows, n), NULL), tdy = kernels_put(k, test->type, SHAPE(rows, n), dy);
        enum mbk_type other = test->type == MBK_F32 ? MBK_BF16 : MBK_F32;
        struct mbk_tensor tother = kernels_put(k, other, SHAPE(rows, n), NULL);
        struct mbk_tensor tdtable = kernels_put(k, test->type, SHAPE(table, n), dtable);
        for (int64_t i = 0; i < rows * n; i++) {
            int64_t at = (int64_t)ids[i / n] * n + i % n;
            y[i] = x[at];
            dtable[at] += dy[i];
            size[at] += 1;
        }
        CHECK_RUN(k, mbk_embedding(k, &tx, &tids, &ty));
        kernels_check(k, "rows of the table", &ty, y, NULL, 0);
        CHECK_RUN(k, mbk_embedding(k, &tx, &tids, &tother));
        kernels_check(k, "rows of the table, as another float", &tother, y, NULL, 0);
        CHECK_RUN(k, mbk_embedding_backward(k, &tids, &tdy, &tdtable));
        kernels_check(k, "the table's gradient, added to", &tdtable, dtable, size, 8);
        struct mbk_tensor *all[] = { &tx, &tids, &ty, &tother, &tdy, &tdtable };
        for (int i = 0; i < 6; i++)
            kernels_drop(k, all[i]);
        double *host[] = { x, ids, y, dy, dtable, size };
        for (int i = 0; i < 6; i++)
            free(host[i]);
    }
    kernels_close(k);
}

TEST("cpu: an id that is not in the table is named with its place")
{
    struct mbk *k = kernels_open("cpu", 2);
    float table[6] = { 0 }, y[4];
    int32_t ids[2] = { 2, 3 };
    struct mbk_tensor t = mbk_tensor2(table, MBK_F32, 3, 2), tids = mbk_tensor1(ids, MBK_I32, 2), ty = mbk_tensor2(y, MBK_F32, 2, 2);
    CHECK_EQ(mbk_embedding(k, &t, &tids, &ty), -1);
    CHECK_STR(mbk_error(k), "embedding: id 1 is 3, and the table has 3 rows");
    ids[1] = -1;
    CHECK_EQ(mbk_embedding_backward(k, &tids, &ty, &t), -1);
    CHECK_STR(mbk_error(k), "embedding_backward: id 1 is -1, and the table has 3 rows");
    struct mbk_tensor wide = mbk_tensor2(y, MBK_F32, 1, 3);
    CHECK_EQ(mbk_embedding(k, &t, &tids, &wide), -1);
    CHECK_CONTAINS(mbk_error(k), "F32 [3, 2]");
    CHECK_CONTAINS(mbk_error(k), "F32 [1, 3]");
    kernels_close(k);
}

/* -- Rotary positions. */

static void rope_body(const void *argument)
{
    const struct sequence_test *test = argument;
    static const int64_t shapes[][5] = { { 1, 1, 1, 2, 0 }, { 2, 5, 3, 6, 0 }, { 1, 3, 2, 64, 7 }, { 3, 17, 1, 34, 131071 },
                                         { 2, 0, 3, 4, 0 } };
    static const struct mbk_rotary speeds[] = { { .base = 10000 }, { .base = 10000, .factor = 4 },
                                                { .base = 500000, .factor = 8, .low = 1, .high = 4, .original = 256 } };
    enum { SHAPES = sizeof shapes / sizeof shapes[0], ALL = SHAPES * 3 };
    struct mbk *k = kernels_open(test->backend, 3);
    for (int c = 0; c < ALL; c++) {
        int s = c % SHAPES;
        const struct mbk_rotary *r = &speeds[c / SHAPES];
        int64_t batch = shapes[s][0], times = shapes[s][1], heads = shapes[s][2], n = shapes[s][3], start = shapes[s][4];
        double *waves = kernels_zeros(n);
        ref_rope_waves(r->base, r->factor, r->low, r->high, r->original, waves, n);
        int64_t count = batch * times * heads * n;
        double *x = kernels_random(count, -1, 1, 1), *turned = kernels_zeros(count), *size = constant(count, 2);
        struct mbk_tensor tx = kernels_put(k, test->type, SHAPE(batch, times, heads, n), x);
        for (int64_t i = 0; i < count; i++)
            turned[i] = x[i];
        for (int64_t row = 0; row < batch * times * heads; row++)
            ref_rope(turned + row * n, start + row / heads % times, waves, 1, n);
        CHECK_RUN(k, mbk_rope(k, &tx, start, r, 1));
        kernels_check(k, "turned", &tx, turned, size, 4);
        double *rounded = kernels_get(k, &tx);
        for (int64_t row = 0; row < batch * times * heads; row++)
            ref_rope(rounded + row * n, start + row / heads % times, waves, -1, n);
        CHECK_RUN(k, mbk_rope(k, &tx, start, r, -1));
        kernels_check(k, "turned back", &tx, rounded, size, 4);
        kernels_drop(k, &tx);
        double *host[] = { x, turned, size, rounded, waves };
        for (int h = 0; h < 5; h++)
            free(host[h]);
    }
    kernels_close(k);
}

/* -- The greatest of rows. */

static void top_k_body(const void *argument)
{
    const struct sequence_test *test = argument;
    static const int64_t shapes[][3] = { { 1, 1, 1 }, { 0, 3, 2 }, { 3, 7, 7 }, { 5, 101, 3 }, { 2, 1031, 40 }, { 2, 1031, 1031 },
                                         { 257, 10, 1 } };
    struct mbk *k = kernels_open(test->backend, 3);
    for (int s = 0; s < (int)(sizeof shapes / sizeof shapes[0]); s++) {
        int64_t rows = shapes[s][0], n = shapes[s][1], wanted = shapes[s][2];
        double *x = kernels_random(rows * n, -20, 20, 1), *values = kernels_zeros(rows * wanted), *indices = kernels_zeros(rows * wanted);
        for (int64_t i = 0; i < rows * n; i++)
            x[i] = i % 11 == 5 ? -0.0 : i % 11 == 7 ? 0 : i % 101 == 50 ? -INFINITY : floor(x[i]); /* many ties */
        struct mbk_tensor tx = kernels_put(k, test->type, SHAPE(rows, n), x);
        struct mbk_tensor tvalues = kernels_put(k, test->type, SHAPE(rows, wanted), NULL);
        struct mbk_tensor tindices = kernels_put(k, MBK_I32, SHAPE(rows, wanted), NULL);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t i = 0; i < wanted; i++) {
                int64_t best = -1;
                for (int64_t j = 0; j < n; j++) {
                    int taken = 0;
                    for (int64_t before = 0; before < i; before++)
                        taken |= indices[r * wanted + before] == (double)j;
                    if (!taken && (best < 0 || x[r * n + j] > x[r * n + best]))
                        best = j;
                }
                indices[r * wanted + i] = (double)best;
                values[r * wanted + i] = x[r * n + best];
            }
        CHECK_RUN(k, mbk_top_k(k, &tx, &tvalues, &tindices));
        kernels_check(k, "values", &tvalues, values, NULL, 0);
        kernels_check(k, "indices", &tindices, indices, NULL, 0);
        struct mbk_tensor *all[] = { &tx, &tvalues, &tindices };
        for (int i = 0; i < 3; i++)
            kernels_drop(k, all[i]);
        double *host[] = { x, values, indices };
        for (int i = 0; i < 3; i++)
            free(host[i]);
    }
    double x[] = { 1, NAN, INFINITY, NAN }, values[] = { NAN, NAN, INFINITY }, indices[] = { 1, 3, 2 };
    struct mbk_tensor tx = kernels_put(k, test->type, SHAPE(1, 4), x), tvalues = kernels_put(k, test->type, SHAPE(1, 3), NULL);
    struct mbk_tensor tindices = kernels_put(k, MBK_I32, SHAPE(1, 3), NULL);
    CHECK_RUN(k, mbk_top_k(k, &tx, &tvalues, &tindices));
    kernels_check(k, "values where there is NaN", &tvalues, values, NULL, 0);
    kernels_check(k, "indices where there is NaN", &tindices, indices, NULL, 0);
    struct mbk_tensor *all[] = { &tx, &tvalues, &tindices };
    for (int i = 0; i < 3; i++)
        kernels_drop(k, all[i]);
    kernels_close(k);
}

/* -- Sampling: many rows of the same logits are drawn from, and how often each comes is what its probability says. */

static void sample_body(const void *argument)
{
    const struct sequence_test *test = argument;
    enum { ROWS = 20000, N = 7 };
    static const struct {
        double temperature;
        int top_k;
        double top_p;
        double expected[N]; /* of logits log 1, log 4, log 2, log 8, log 4, log 1, −∞, with temperature 1; ½ squares the weights */
    } draws[] = {
        { 1, 0, 1, { 1 / 20.0, 4 / 20.0, 2 / 20.0, 8 / 20.0, 4 / 20.0, 1 / 20.0, 0 } },
        { 0.5, 0, 1, { 1 / 102.0, 16 / 102.0, 4 / 102.0, 64 / 102.0, 16 / 102.0, 1 / 102.0, 0 } },
        { 1, 2, 1, { 0, 4 / 12.0, 0, 8 / 12.0, 0, 0, 0 } },
        { 1, 0, 0.75, { 0, 4 / 16.0, 0, 8 / 16.0, 4 / 16.0, 0, 0 } },
        { 1, 4, 0.9, { 0, 4 / 18.0, 2 / 18.0, 8 / 18.0, 4 / 18.0, 0, 0 } },
        { 1, 4, 0.8, { 0, 4 / 16.0, 0, 8 / 16.0, 4 / 16.0, 0, 0 } },
        { 0, 0, 1, { 0, 0, 0, 1, 0, 0, 0 } },
        { 1, 1, 1, { 0, 0, 0, 1, 0, 0, 0 } },
        { 1, 0, 1e-6, { 0, 0, 0, 1, 0, 0, 0 } },
        { 1e-30, 0, 1, { 0, 0, 0, 1, 0, 0, 0 } },
    };
    static const double weights[N] = { 1, 4, 2, 8, 4, 1, 0 };
    struct mbk *k = kernels_open(test->backend, 3);
    double *x = kernels_zeros(ROWS * N);
    for (int64_t i = 0; i < ROWS * N; i++)
        x[i] = log(weights[i % N]);
    struct mbk_tensor tx = kernels_put(k, test->type, SHAPE(ROWS, N), x), tids = kernels_put(k, MBK_I32, SHAPE(ROWS), NULL);
    for (int d = 0; d < (int)(sizeof draws / sizeof draws[0]); d++) {
        int counts[N] = { 0 };
        CHECK_RUN(k, mbk_sample(k, &tx, (float)draws[d].temperature, draws[d].top_k, (float)draws[d].top_p, 3, 1000, &tids));
        double *ids = kernels_get(k, &tids);
        for (int i = 0; i < ROWS; i++)
            counts[(int)ids[i]]++;
        for (int i = 0; i < N; i++) { /* five standard deviations, and what bfloat16 makes of the logits */
            double p = draws[d].expected[i], most = 5 * sqrt(p * (1 - p) / ROWS) + (p > 0 && p < 1 ? 8 * kernels_epsilon(test->type) : 0);
            CHECKF(fabs(counts[i] / (double)ROWS - p) <= most, "draw %d: %d came %d times of %d, not %g", d, i, counts[i], ROWS, p * ROWS);
        }
        if (d == 0) { /* row r is drawn by counter offset + r, in the order of indices */
            for (int r = 0; r < ROWS && test->type == MBK_F32; r++) {
                double u = (ref_random_word(3, 1000, 4 * (uint64_t)r) >> 8) / 16777216.0, sum = 0;
                int i = -1;
                while (sum <= u * 20 && i < N - 1)
                    sum += weights[++i];
                CHECKF(i == (int)ids[r] || fabs(sum - u * 20) < 1e-4 || fabs(sum - weights[i] - u * 20) < 1e-4, "row %d drew %g, not %d",
                       r, ids[r], i);
            }
        }
        free(ids);
    }
    kernels_drop(k, &tx);
    kernels_drop(k, &tids);
    free(x);
    kernels_close(k);
}

TEST_TABLE
{
    static struct sequence_test tests[KERNELS_BACKENDS * 2];
    struct sequence_test *t = tests;
    for (int b = 0; b < KERNELS_BACKENDS; b++)
        for (int y = 0; y < 2; y++, t++) {
            *t = (struct sequence_test){ kernels_backends[b], y ? MBK_BF16 : MBK_F32 };
            const char *type = mbk_type_name(t->type);
            test_add(embedding_body, t, "%s, %s: rows of a table, and its gradient", t->backend, type);
            test_add(rope_body, t, "%s, %s: rotary positions, there and back", t->backend, type);
            test_add(top_k_body, t, "%s, %s: the greatest of rows, ties by index", t->backend, type);
            test_add(sample_body, t, "%s, %s: tokens come as often as their probabilities say", t->backend, type);
        }
}
