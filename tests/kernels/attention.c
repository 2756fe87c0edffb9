/* attention.c: attention on every backend against float64, whose own gradients are finite differences. */
#include "kernels.h"
#include "reference/reference.h"
#include "test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Shapes around the blocks and tiles there are: 8 × 48, 6 × 64 and 6 × 16, 96 queries, 384 keys. */
static const struct {
    int64_t batch, queries, keys, heads, groups, size;
    int causal;
    double dropout;
    double lengths[3]; /* of keys; none if the first is below 0 */
} cases[] = {
    { 1, 1, 1, 1, 1, 1, 0, 0, { -1 } },
    { 2, 3, 5, 4, 2, 7, 0, 0, { -1 } },
    { 2, 1, 523, 6, 2, 20, 1, 0, { 523, 401 } }, /* few queries, many keys, grouped */
    { 1, 4, 130, 8, 1, 64, 1, 0.25, { -1 } },
    { 3, 2, 7, 2, 2, 3, 1, 0, { 7, 0, 1 } },
    { 1, 3, 2, 100, 1, 4, 1, 0, { -1 } },        /* more heads than a block has rows */
    { 1, 7, 7, 2, 2, 8, 1, 0, { -1 } },
    { 2, 17, 31, 3, 1, 13, 1, 0, { -1 } },
    { 2, 31, 17, 2, 1, 16, 1, 0, { -1 } },       /* more queries than keys: the first see nothing */
    { 3, 9, 50, 2, 2, 64, 0, 0, { 50, 0, 33 } }, /* one of the batch has no keys */
    { 2, 101, 101, 2, 1, 33, 1, 0, { 101, 57 } },
    { 1, 97, 131, 1, 1, 64, 0, 0, { -1 } },
    { 1, 130, 401, 2, 1, 24, 1, 0, { -1 } },
    { 1, 5, 1031, 2, 1, 17, 0, 0, { -1 } },
    { 1, 200, 797, 1, 1, 5, 1, 0, { 700 } },
    { 2, 13, 19, 4, 2, 8, 0, 0.25, { -1 } },
    { 1, 103, 103, 2, 1, 16, 1, 0.5, { 99 } },
    { 1, 131, 131, 2, 1, 128, 1, 0.25, { -1 } },
};
enum { CASES = sizeof cases / sizeof cases[0] };

struct attention_test {
    const char *backend;
    enum mbk_type type;
};

static struct ref_attention reference_of(int i)
{
    return (struct ref_attention){ .batch = cases[i].batch, .queries = cases[i].queries, .keys = cases[i].keys, .heads = cases[i].heads,
                                   .groups = cases[i].groups, .size = cases[i].size, .causal = cases[i].causal, .dropout = cases[i].dropout,
                                   .lengths = cases[i].lengths[0] < 0 ? NULL : cases[i].lengths, .seed = 11, .offset = 5,
                                   .scale = (double)(1 / sqrtf((float)cases[i].size)) };
}

/* -- The reference itself. */

struct difference {
    const struct ref_attention *a;
    double *q, *keys, *values, *out, *lse, *dout;
    int64_t count;
};

static double weighted_out(void *context)
{
    const struct difference *d = context;
    double sum = 0;
    ref_attend(d->a, d->q, d->keys, d->values, d->out, d->lse);
    for (int64_t i = 0; i < d->count; i++)
        sum += d->out[i] * d->dout[i];
    return sum;
}

TEST("the reference's gradients of attention are finite differences")
{
    static const int small[] = { 0, 1, 4, 5, 6, 15 };
    for (int i = 0; i < 6; i++) {
        struct ref_attention a = reference_of(small[i]);
        int64_t queries = a.batch * a.queries * a.heads * a.size, keys = a.batch * a.keys * a.groups * a.size;
        struct difference d = { &a, kernels_random(queries, -1, 1, 1), kernels_random(keys, -1, 1, 2), kernels_random(keys, -1, 1, 3),
                                kernels_zeros(queries), kernels_zeros(a.batch * a.heads * a.queries), kernels_random(queries, -1, 1, 4),
                                queries };
        double *dq = kernels_zeros(queries), *dkeys = kernels_zeros(keys), *dvalues = kernels_zeros(keys);
        double *expected = kernels_zeros(queries > keys ? queries : keys);
        struct { double *x, *gradient; int64_t n; } parts[] = { { d.q, dq, queries }, { d.keys, dkeys, keys },
                                                                { d.values, dvalues, keys } };
        ref_attend(&a, d.q, d.keys, d.values, d.out, d.lse);
        ref_attend_backward(&a, d.q, d.keys, d.values, d.out, d.dout, dq, dkeys, dvalues);
        for (int p = 0; p < 3; p++) {
            kernels_differentiate(weighted_out, &d, parts[p].x, parts[p].n, expected);
            for (int64_t j = 0; j < parts[p].n; j++)
                CHECK_NEAR(parts[p].gradient[j], expected[j], 1e-8);
        }
        double *host[] = { d.q, d.keys, d.values, d.out, d.lse, d.dout, dq, dkeys, dvalues, expected };
        for (int j = 0; j < 10; j++)
            free(host[j]);
    }
}

/* -- Backends. */

static double *constant(int64_t n, double value)
{
    double *x = kernels_zeros(n);
    for (int64_t i = 0; i < n; i++)
        x[i] = value;
    return x;
}

static void attention_body(const void *argument)
{
    const struct attention_test *test = argument;
    struct mbk *k = kernels_open(test->backend, 3);
    for (int i = 0; i < CASES; i++) {
        struct ref_attention a = reference_of(i);
        int64_t queries = a.batch * a.queries * a.heads * a.size, keys = a.batch * a.keys * a.groups * a.size,
            rows = a.batch * a.heads * a.queries;
        double *q = kernels_random(queries, -2, 2, 1), *key = kernels_random(keys, -2, 2, 2), *value = kernels_random(keys, -2, 2, 3);
        double *out = kernels_zeros(queries), *lse = kernels_zeros(rows), *dout = kernels_random(queries, -1, 1, 4), lengths[3];
        memcpy(lengths, cases[i].lengths, sizeof lengths);
        double *dq = kernels_zeros(queries), *dkey = kernels_zeros(keys), *dvalue = kernels_zeros(keys);
        struct mbk_tensor tq = kernels_put(k, test->type, SHAPE(a.batch, a.queries, a.heads, a.size), q);
        struct mbk_tensor tkey = kernels_put(k, test->type, SHAPE(a.batch, a.keys, a.groups, a.size), key);
        struct mbk_tensor tvalue = kernels_put(k, test->type, SHAPE(a.batch, a.keys, a.groups, a.size), value);
        struct mbk_tensor tout = kernels_put(k, test->type, SHAPE(a.batch, a.queries, a.heads, a.size), NULL);
        struct mbk_tensor tlse = kernels_put(k, MBK_F32, SHAPE(a.batch, a.heads, a.queries), NULL);
        struct mbk_tensor tdout = kernels_put(k, test->type, SHAPE(a.batch, a.queries, a.heads, a.size), dout);
        struct mbk_tensor tdq = kernels_put(k, test->type, SHAPE(a.batch, a.queries, a.heads, a.size), NULL);
        struct mbk_tensor tdkey = kernels_put(k, test->type, SHAPE(a.batch, a.keys, a.groups, a.size), NULL);
        struct mbk_tensor tdvalue = kernels_put(k, test->type, SHAPE(a.batch, a.keys, a.groups, a.size), NULL);
        struct mbk_tensor tlengths = kernels_put(k, MBK_I32, SHAPE(a.batch), lengths);
        struct mbk_attention m = { .q = &tq, .keys = &tkey, .values = &tvalue, .out = &tout, .lse = &tlse, .causal = a.causal,
                                   .lengths = a.lengths ? &tlengths : NULL, .dropout = (float)a.dropout, .seed = a.seed,
                                   .offset = a.offset };
        char what[64];
        snprintf(what, sizeof what, "out of case %d", i);
        ref_attend(&a, q, key, value, out, lse);
        double *size = constant(queries, 2 / (1 - a.dropout)), *lse_size = constant(rows, 8);
        CHECK_RUN(k, mbk_attend(k, &m));
        kernels_check(k, what, &tout, out, size, 60);
        snprintf(what, sizeof what, "lse of case %d", i);
        kernels_check(k, what, &tlse, lse, lse_size, 16);
        double *rounded = kernels_get(k, &tout), *gradient_size = constant(queries > keys ? queries : keys,
                                                                           4 * sqrt((double)(a.queries * a.heads)));
        ref_attend_backward(&a, q, key, value, rounded, dout, dq, dkey, dvalue);
        CHECK_RUN(k, mbk_attend_backward(k, &m, &tdout, &tdq, &tdkey, &tdvalue));
        snprintf(what, sizeof what, "dq of case %d", i);
        kernels_check(k, what, &tdq, dq, gradient_size, 60);
        snprintf(what, sizeof what, "dkeys of case %d", i);
        kernels_check(k, what, &tdkey, dkey, gradient_size, 60);
        snprintf(what, sizeof what, "dvalues of case %d", i);
        kernels_check(k, what, &tdvalue, dvalue, gradient_size, 60);
        struct mbk_tensor *all[] = { &tq, &tkey, &tvalue, &tout, &tlse, &tdout, &tdq, &tdkey, &tdvalue, &tlengths };
        for (int j = 0; j < 10; j++)
            kernels_drop(k, all[j]);
        double *host[] = { q, key, value, out, lse, dout, dq, dkey, dvalue, size, lse_size, rounded, gradient_size };
        for (int j = 0; j < 13; j++)
            free(host[j]);
    }
    kernels_close(k);
}

/* -- What isn't seen. */

/* Rows first … end − 1 of x, [rows, each], are finite. */
static void check_finite(struct mbk *k, const char *what, const struct mbk_tensor *x, int64_t first, int64_t end, int64_t each)
{
    double *host = kernels_get(k, x);
    for (int64_t i = first * each; i < end * each; i++)
        CHECKF(isfinite(host[i]), "%s: element %lld of row %lld is %g", what, (long long)(i % each), (long long)(i / each), host[i]);
    free(host);
}

enum { UNSEEN_TIME = 70, UNSEEN_HEADS = 2 };

/* q, keys, values, dout, of which the rows first … end − 1 are no numbers where `odd` says so; then out, dq, dkeys, dvalues. */
static void attend_odd(struct mbk *k, const struct attention_test *test, int64_t size, const int odd[4], int64_t first, int64_t end,
                       struct mbk_tensor t[8])
{
    int64_t width = UNSEEN_HEADS * size;
    struct mbk_tensor lse = kernels_put(k, MBK_F32, SHAPE(1, UNSEEN_HEADS, UNSEEN_TIME), NULL);
    for (int i = 0; i < 8; i++) {
        double *x = kernels_random(UNSEEN_TIME * width, -2, 2, (uint64_t)i + 1);
        for (int64_t j = first * width; i < 4 && odd[i] && j < end * width; j++)
            x[j] = j % 3 ? (double)NAN : (double)INFINITY;
        t[i] = kernels_put(k, test->type, SHAPE(1, UNSEEN_TIME, UNSEEN_HEADS, size), i < 4 ? x : NULL);
        free(x);
    }
    struct mbk_attention a = { .q = &t[0], .keys = &t[1], .values = &t[2], .out = &t[4], .lse = &lse, .causal = 1 };
    CHECK_RUN(k, mbk_attend(k, &a));
    CHECK_RUN(k, mbk_attend_backward(k, &a, &t[3], &t[5], &t[6], &t[7]));
    kernels_drop(k, &lse);
}

static void unseen_body(const void *argument)
{
    static const int64_t sizes[] = { 7, 64 };
    const struct attention_test *test = argument;
    struct mbk *k = kernels_open(test->backend, 2);
    for (int s = 0; s < 2; s++)
        for (int64_t odd = 1; odd < UNSEEN_TIME; odd += 4) {
            int64_t width = UNSEEN_HEADS * sizes[s];
            struct mbk_tensor t[8];
            attend_odd(k, test, sizes[s], (const int[]){ 0, 1, 1, 0 }, odd, UNSEEN_TIME, t); /* keys that earlier queries don't see */
            check_finite(k, "out", &t[4], 0, odd, width);
            check_finite(k, "dq", &t[5], 0, odd, width);
            for (int i = 0; i < 8; i++)
                kernels_drop(k, &t[i]);
            attend_odd(k, test, sizes[s], (const int[]){ 1, 0, 0, 1 }, odd, odd + 1, t); /* a query that doesn't see later keys */
            check_finite(k, "dkeys", &t[6], odd + 1, UNSEEN_TIME, width);
            check_finite(k, "dvalues", &t[7], odd + 1, UNSEEN_TIME, width);
            for (int i = 0; i < 8; i++)
                kernels_drop(k, &t[i]);
        }
    kernels_close(k);
}

TEST_TABLE
{
    static struct attention_test tests[KERNELS_BACKENDS * 2];
    struct attention_test *t = tests;
    for (int b = 0; b < KERNELS_BACKENDS; b++)
        for (int y = 0; y < 2; y++, t++) {
            *t = (struct attention_test){ kernels_backends[b], y ? MBK_BF16 : MBK_F32 };
            test_add(attention_body, t, "%s, %s: attention and its gradients, masked, grouped and dropped", t->backend,
                     mbk_type_name(t->type));
            if (strcmp(t->backend, "cpu") == 0)
                test_add(unseen_body, t, "%s, %s: what a causal query doesn't see may be anything, not a number too", t->backend,
                         mbk_type_name(t->type));
        }
}
