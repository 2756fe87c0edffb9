/* rows.c: softmax, losses and reductions, on every backend, against float64 and finite differences. */
#include "kernels.h"
#include "reference/reference.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>

static const int64_t shapes[][2] = { { 0, 5 }, { 1, 1 }, { 1, 2 }, { 3, 7 }, { 2, 16 }, { 5, 17 }, { 3, 101 }, { 257, 10 }, { 3, 1031 } };
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

struct row_test {
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

/* -- Softmax. */

static void softmax_body(const void *argument)
{
    const struct row_test *test = argument;
    struct mbk *k = kernels_open(test->backend, 3);
    for (int s = 0; s < SHAPES; s++) {
        int64_t rows = shapes[s][0], n = shapes[s][1], count = rows * n;
        double *x = kernels_random(count, -20, 20, 1), *y = kernels_zeros(count), *dy = kernels_random(count, -1, 1, 2),
            *dx = kernels_zeros(count);
        struct mbk_tensor tx = kernels_put(k, test->type, SHAPE(rows, n), x), ty = kernels_put(k, test->type, SHAPE(rows, n), NULL);
        struct mbk_tensor tdy = kernels_put(k, test->type, SHAPE(rows, n), dy), tdx = kernels_put(k, test->type, SHAPE(rows, n), NULL);
        for (int64_t r = 0; r < rows; r++)
            ref_softmax(x + r * n, y + r * n, n);
        CHECK_RUN(k, mbk_softmax(k, &tx, &ty));
        kernels_check(k, "y", &ty, y, NULL, 60); /* exp's error grows with |x|: x's own rounding is worth |x| */
        double *rounded = kernels_get(k, &ty), *size = kernels_zeros(count);
        for (int64_t r = 0; r < rows; r++) {
            double dot = 0;
            for (int64_t i = 0; i < n; i++)
                dot += rounded[r * n + i] * dy[r * n + i];
            for (int64_t i = 0; i < n; i++) {
                dx[r * n + i] = rounded[r * n + i] * (dy[r * n + i] - dot);
                size[r * n + i] = rounded[r * n + i];
            }
        }
        CHECK_RUN(k, mbk_softmax_backward(k, &ty, &tdy, &tdx));
        kernels_check(k, "dx", &tdx, dx, size, 16);
        CHECK_RUN(k, mbk_softmax(k, &tx, &tx));
        kernels_check(k, "y in place", &tx, y, NULL, 60);
        struct mbk_tensor *all[] = { &tx, &ty, &tdy, &tdx };
        for (int i = 0; i < 4; i++)
            kernels_drop(k, all[i]);
        double *host[] = { x, y, dy, dx, rounded, size };
        for (int i = 0; i < 6; i++)
            free(host[i]);
    }
    double x[] = { NAN, 1, 2, -INFINITY, 0, 0, 1000, -1000, -1000 }, y[] = { NAN, NAN, NAN, 0, 0.5, 0.5, 1, 0, 0 };
    struct mbk_tensor t = kernels_put(k, test->type, SHAPE(3, 3), x);
    CHECK_RUN(k, mbk_softmax(k, &t, &t));
    kernels_check(k, "of NaN, -infinity and large numbers", &t, y, NULL, 1);
    kernels_drop(k, &t);
    kernels_close(k);
}

/* -- Losses: each as a function of one row. */

struct loss {
    int kind, label;
    double *x, *targets, parameter;
    int64_t n;
};

static const char *const loss_names[] = { "cross-entropy", "smoothed cross-entropy", "binary cross-entropy", "squared error",
                                          "distillation",
                                          "distillation with labels" };

static double loss_of(void *context)
{
    const struct loss *l = context;
    switch (l->kind) {
    case 0: return ref_cross_entropy(l->x, l->label, 0, l->n);
    case 1: return ref_cross_entropy(l->x, l->label, (double)0.1f, l->n);
    case 2: return ref_bce(l->x, l->targets, l->n);
    case 3: return ref_mse(l->x, l->targets, l->n);
    case 4: return ref_distillation(l->x, l->targets, 0, 4, 1, l->n);
    default: return ref_distillation(l->x, l->targets, l->label, 4, 0.75, l->n);
    }
}

static void run_loss(struct mbk *k, int kind, const struct mbk_tensor *x, const struct mbk_tensor *targets, const struct mbk_tensor *labels,
                     float scale, const struct mbk_tensor *losses, const struct mbk_tensor *dx)
{
    switch (kind) {
    case 0: CHECK_RUN(k, mbk_cross_entropy(k, x, labels, 0, scale, losses, dx)); break;
    case 1: CHECK_RUN(k, mbk_cross_entropy(k, x, labels, 0.1f, scale, losses, dx)); break;
    case 2: CHECK_RUN(k, mbk_bce_with_logits(k, x, targets, scale, losses, dx)); break;
    case 3: CHECK_RUN(k, mbk_mse(k, x, targets, scale, losses, dx)); break;
    case 4: CHECK_RUN(k, mbk_distillation(k, x, targets, NULL, 4, 1, scale, losses, dx)); break;
    default: CHECK_RUN(k, mbk_distillation(k, x, targets, labels, 4, 0.75f, scale, losses, dx)); break;
    }
}

static void loss_body(const void *argument)
{
    const struct row_test *test = argument;
    struct mbk *k = kernels_open(test->backend, 3);
    for (int kind = 0; kind < 6; kind++)
        for (int s = 0; s < SHAPES; s++) {
            int64_t rows = shapes[s][0], n = shapes[s][1], count = rows * n;
            int ignores = kind != 2 && kind != 3 && kind != 4;
            double *x = kernels_random(count, -5, 5, 1), *targets = kernels_random(count, kind == 2 ? 0 : -5, kind == 2 ? 1 : 5, 2);
            double *labels = kernels_zeros(rows), *losses = kernels_zeros(rows), *dx = kernels_zeros(count), scale = 0.25;
            double *loss_size = constant(rows, 10), *size = constant(count, scale);
            for (int64_t r = 0; r < rows; r++)
                labels[r] = ignores && r % 5 == 2 ? -100 : (double)(r * 7 % n);
            struct mbk_tensor tx = kernels_put(k, test->type, SHAPE(rows, n), x), ttargets = kernels_put(k, MBK_F32, SHAPE(rows, n),
                    targets);
            struct mbk_tensor tlabels = kernels_put(k, MBK_I32, SHAPE(rows), labels), tlosses = kernels_put(k, MBK_F32, SHAPE(rows), NULL);
            struct mbk_tensor tdx = kernels_put(k, test->type, SHAPE(rows, n), NULL);
            for (int64_t r = 0; r < rows; r++) {
                struct loss l = { kind, (int)labels[r], x + r * n, targets + r * n, 0, n };
                if (labels[r] < 0)
                    continue;
                losses[r] = loss_of(&l);
                kernels_differentiate(loss_of, &l, l.x, n, dx + r * n);
                for (int64_t i = 0; i < n; i++) {
                    dx[r * n + i] *= scale;
                    size[r * n + i] = scale * (1 + (kind == 2 || kind == 3 ? 12 / (double)n : 4));
                }
            }
            run_loss(k, kind, &tx, &ttargets, &tlabels, (float)scale, &tlosses, &tdx);
            kernels_check(k, loss_names[kind], &tlosses, losses, loss_size, 8 + (double)n / 8);
            kernels_check(k, "its gradient", &tdx, dx, size, 16);
            run_loss(k, kind, &tx, &ttargets, &tlabels, (float)scale, &tlosses, NULL);
            kernels_check(k, "the loss alone", &tlosses, losses, loss_size, 8 + (double)n / 8);
            struct mbk_tensor *all[] = { &tx, &ttargets, &tlabels, &tlosses, &tdx };
            for (int i = 0; i < 5; i++)
                kernels_drop(k, all[i]);
            double *host[] = { x, targets, labels, losses, dx, loss_size, size };
            for (int i = 0; i < 7; i++)
                free(host[i]);
        }
    double x[] = { 1000, -1000, 0, NAN }, targets[] = { 0, 1, 0.5, 0 }, losses[] = { 1000, 1000, 0.69314718056, NAN };
    struct mbk_tensor tx = kernels_put(k, MBK_F32, SHAPE(4, 1), x), t = kernels_put(k, MBK_F32, SHAPE(4, 1), targets), l = kernels_put(k,
            MBK_F32, SHAPE(4), NULL);
    CHECK_RUN(k, mbk_bce_with_logits(k, &tx, &t, 1, &l, NULL));
    kernels_check(k, "binary cross-entropy far out", &l, losses, NULL, 2);
    kernels_drop(k, &tx);
    kernels_drop(k, &t);
    kernels_drop(k, &l);
    kernels_close(k);
}

/* -- Reductions. */

static void reduce_body(const void *argument)
{
    const struct row_test *test = argument;
    struct mbk *k = kernels_open(test->backend, 3);
    static const int64_t more[][2] = { { 1031, 17 }, { 130, 301 } };
    for (int s = 0; s < SHAPES + 2; s++) {
        int64_t rows = s < SHAPES ? shapes[s][0] : more[s - SHAPES][0], n = s < SHAPES ? shapes[s][1] : more[s - SHAPES][1],
            count = rows * n;
        double *x = kernels_random(count, -3, 2, 1), *columns = kernels_random(n, -1, 1, 2), *size = constant(n, 0), least = INFINITY,
            most = -INFINITY;
        struct mbk_tensor tx = kernels_put(k, test->type, SHAPE(rows, n), x), tcolumns = kernels_put(k, test->type, SHAPE(n), columns);
        struct mbk_tensor tsum = kernels_put(k, MBK_F32, 0, NULL, NULL), textremes = kernels_put(k, MBK_F32, SHAPE(2), NULL);
        double sum = 0, magnitude = 0, bins[7] = { 1, 2, 3, 4, 5, 6, 7 }, *where = kernels_zeros(rows);
        struct mbk_tensor tbins = kernels_put(k, MBK_I64, SHAPE(7), bins), twhere = kernels_put(k, MBK_I32, SHAPE(rows), NULL);
        for (int64_t i = 0; i < count; i++) {
            columns[i % n] += x[i];
            size[i % n] += fabs(x[i]);
            sum += x[i];
            magnitude += fabs(x[i]);
            least = fmin(least, x[i]);
            most = fmax(most, x[i]);
            float bin = floorf(((float)x[i] - -2.0f) * (7.0f / 3.0f));
            bins[bin < 0 ? 0 : bin > 6 ? 6 : (int)bin]++;
            if (i % n == 0 || x[i] > x[i / n * n + (int64_t)where[i / n]])
                where[i / n] = (double)(i % n);
        }
        CHECK_RUN(k, mbk_sum_rows(k, &tx, &tcolumns));
        kernels_check(k, "the sum of rows, added to", &tcolumns, columns, size, 24);
        CHECK_RUN(k, mbk_sum(k, &tx, &tsum));
        kernels_check(k, "the sum", &tsum, &sum, &magnitude, 64);
        CHECK_RUN(k, mbk_histogram(k, &tx, -2, 1, &tbins));
        kernels_check(k, "the histogram, added to", &tbins, bins, NULL, 0);
        CHECK_RUN(k, mbk_argmax(k, &tx, &twhere));
        kernels_check(k, "the greatest of each row", &twhere, where, NULL, 0);
        if (count > 0) {
            CHECK_RUN(k, mbk_min_max(k, &tx, &textremes));
            kernels_check(k, "least and greatest", &textremes, (double[]){ least, most }, NULL, 0);
        }
        struct mbk_tensor *all[] = { &tx, &tcolumns, &tsum, &textremes, &tbins, &twhere };
        for (int i = 0; i < 6; i++)
            kernels_drop(k, all[i]);
        double *host[] = { x, columns, size, where };
        for (int i = 0; i < 4; i++)
            free(host[i]);
    }
    /* −∞ three times; 1 twice; 3, 3, 2 and 9 */
    double x[] = { 1, 3, 3, 2, NAN, 9, -INFINITY, -INFINITY, -INFINITY, 1, NAN, NAN }, where[] = { 1, 1, 0, 1 }, counts[] = { 3, 2, 4 };
    struct mbk_tensor t = kernels_put(k, test->type, SHAPE(4, 3), x), w = kernels_put(k, MBK_I32, SHAPE(4), NULL), e = kernels_put(k,
            MBK_F32, SHAPE(2), NULL);
    CHECK_RUN(k, mbk_argmax(k, &t, &w));
    kernels_check(k, "the first of equals, NaN greater than all", &w, where, NULL, 0);
    CHECK_RUN(k, mbk_min_max(k, &t, &e));
    kernels_check(k, "extremes where there is NaN", &e, (double[]){ NAN, NAN }, NULL, 0);
    double zeros[] = { 0, 0, 0 };
    struct mbk_tensor b = kernels_put(k, MBK_I64, SHAPE(3), zeros);
    CHECK_RUN(k, mbk_histogram(k, &t, 0, 3, &b));
    kernels_check(k, "a histogram where there is NaN", &b, counts, NULL, 0);
    kernels_drop(k, &t);
    kernels_drop(k, &w);
    kernels_drop(k, &e);
    kernels_drop(k, &b);
    kernels_close(k);
}

TEST_TABLE
{
    static struct row_test tests[KERNELS_BACKENDS * 2];
    struct row_test *t = tests;
    for (int b = 0; b < KERNELS_BACKENDS; b++)
        for (int y = 0; y < 2; y++, t++) {
            *t = (struct row_test){ kernels_backends[b], y ? MBK_BF16 : MBK_F32 };
            test_add(softmax_body, t, "%s, %s: softmax and its gradient", t->backend, mbk_type_name(t->type));
            test_add(loss_body, t, "%s, %s: losses are right, and their gradients finite differences", t->backend, mbk_type_name(t->type));
            test_add(reduce_body, t, "%s, %s: sums, extremes, histograms and the greatest of rows", t->backend, mbk_type_name(t->type));
        }
}

TEST("cpu: a label that is no class is named with its row")
{
    struct mbk *k = kernels_open("cpu", 1);
    float x[6] = { 0 }, losses[2];
    int32_t labels[2] = { 1, 3 };
    struct mbk_tensor tx = mbk_tensor2(x, MBK_F32, 2, 3), tl = mbk_tensor1(labels, MBK_I32, 2), out = mbk_tensor1(losses, MBK_F32, 2);
    CHECK_EQ(mbk_cross_entropy(k, &tx, &tl, 0, 1, &out, NULL), -1);
    CHECK_STR(mbk_error(k), "cross_entropy: the label of row 1 is 3, and there are 3 classes");
    kernels_close(k);
}
