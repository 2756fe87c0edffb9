/* recording.c: numbers that vary from step to step give the bits that arguments give, and a recorded step those of one that is called. */
#include "kernels.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS = 6, CLASSES = 5, COUNT = 1031, TIME = 9, SIZE = 8, DRAWS = 4 };

/* A step of everything that looks at mbk_vary, on tensors that stay where they are. */
struct step {
    struct mbk *k;
    struct mbk_tensor logits, labels, targets, losses[DRAWS + 1], slopes[DRAWS + 1], negative, x, dropped, normal, uniform;
    struct mbk_tensor q, keys, values, out, lse, dq, dkeys, dvalues, rows, sum, ids;
    struct mbk_parameter adam, sgd;
};

/* All of them, so that they can be compared and dropped. */
static int tensors_of(struct step *s, struct mbk_tensor **all)
{
    int n = 0;
    struct mbk_tensor *some[] = { &s->logits, &s->labels, &s->targets, &s->negative, &s->x, &s->dropped, &s->normal, &s->uniform, &s->q,
                                  &s->keys, &s->values, &s->out, &s->lse, &s->dq, &s->dkeys, &s->dvalues, &s->rows, &s->sum, &s->ids,
                                  &s->adam.value, &s->adam.gradient, &s->adam.first, &s->adam.second, &s->sgd.value, &s->sgd.gradient,
                                  &s->sgd.first };
    for (size_t i = 0; i < sizeof some / sizeof *some; i++)
        all[n++] = some[i];
    for (int i = 0; i <= DRAWS; i++) {
        all[n++] = &s->losses[i];
        all[n++] = &s->slopes[i];
    }
    return n;
}
enum { MOST_TENSORS = 64 };

static struct mbk_tensor filled(struct mbk *k, unsigned seed, int rank, const int64_t *shape)
{
    struct mbk_tensor probe = mbk_tensor(NULL, MBK_F32, rank, shape);
    double *values = kernels_random(mbk_count(&probe), -1, 1, seed);
    struct mbk_tensor t = kernels_put(k, MBK_F32, rank, shape, values);
    free(values);
    return t;
}

static struct mbk_tensor empty(struct mbk *k, enum mbk_type type, int rank, const int64_t *shape)
{
    struct mbk_tensor probe = mbk_tensor(NULL, type, rank, shape);
    double *values = kernels_zeros(mbk_count(&probe));
    struct mbk_tensor t = kernels_put(k, type, rank, shape, values);
    free(values);
    return t;
}

static struct step open_step(const char *backend)
{
    struct mbk *k = kernels_open(backend, 2);
    struct step s = {
        .k = k, .logits = filled(k, 1, SHAPE(ROWS, CLASSES)), .labels = empty(k, MBK_I32, SHAPE(ROWS)),
        .targets = filled(k, 2, SHAPE(ROWS, CLASSES)), .negative = filled(k, 3, SHAPE(ROWS, CLASSES)), .x = filled(k, 4, SHAPE(COUNT)),
        .dropped = empty(k, MBK_F32, SHAPE(COUNT)), .normal = empty(k, MBK_F32, SHAPE(COUNT)), .uniform = empty(k, MBK_F32, SHAPE(COUNT)),
        .q = filled(k, 5, SHAPE(2, TIME, 2, SIZE)), .keys = filled(k, 6, SHAPE(2, TIME, 2, SIZE)),
        .values = filled(k, 7, SHAPE(2, TIME, 2, SIZE)), .out = empty(k, MBK_F32, SHAPE(2, TIME, 2, SIZE)),
        .lse = empty(k, MBK_F32, SHAPE(2, 2, TIME)), .dq = empty(k, MBK_F32, SHAPE(2, TIME, 2, SIZE)),
        .dkeys = empty(k, MBK_F32, SHAPE(2, TIME, 2, SIZE)), .dvalues = empty(k, MBK_F32, SHAPE(2, TIME, 2, SIZE)),
        .rows = filled(k, 8, SHAPE(3, COUNT)), .sum = empty(k, MBK_F32, SHAPE(COUNT)), .ids = empty(k, MBK_I32, SHAPE(ROWS)),
    };
    for (int i = 0; i <= DRAWS; i++) {
        s.losses[i] = i < DRAWS ? empty(k, MBK_F32, SHAPE(ROWS)) : empty(k, MBK_F32, SHAPE(ROWS * CLASSES));
        s.slopes[i] = empty(k, MBK_F32, SHAPE(ROWS, CLASSES));
    }
    struct mbk_parameter *parameters[] = { &s.adam, &s.sgd };
    for (int i = 0; i < 2; i++)
        *parameters[i] = (struct mbk_parameter){
            .value = filled(k, 9, SHAPE(COUNT)), .gradient = filled(k, 10, SHAPE(COUNT)), .first = empty(k, MBK_F32, SHAPE(COUNT)),
            .second = empty(k, MBK_F32, SHAPE(COUNT)), .decay = 0.01f };
    return s;
}

static void close_step(struct step *s)
{
    struct mbk_tensor *all[MOST_TENSORS];
    for (int i = tensors_of(s, all); i-- > 0;)
        kernels_drop(s->k, all[i]);
    kernels_drop(s->k, &s->sgd.second);
    kernels_close(s->k);
}

/* The calls, with `v` in their arguments. Returns what the first that fails returns. */
static int call_step(struct step *s, const struct mbk_varying *v)
{
    struct mbk *k = s->k;
    struct mbk_attention a = { .q = &s->q, .keys = &s->keys, .values = &s->values, .out = &s->out, .lse = &s->lse, .causal = 1,
                               .dropout = 0.3f, .seed = 5, .offset = 40 + v->offset };
    struct mbk_adam adam = { .lr = 0.01f * v->lr, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .step = 1 + v->step, .gradient_scale = 1 };
    struct mbk_sgd sgd = { .lr = 0.01f * v->lr, .momentum = 0.9f, .gradient_scale = 1 };
    float scale = 0.25f * v->scale;
    return mbk_cross_entropy(k, &s->logits, &s->labels, 0.1f, scale, &s->losses[0], &s->slopes[0]) ||
           mbk_bce_with_logits(k, &s->logits, &s->targets, scale, &s->losses[1], &s->slopes[1]) ||
           mbk_mse(k, &s->logits, &s->targets, scale, &s->losses[2], &s->slopes[2]) ||
           mbk_distillation(k, &s->logits, &s->targets, &s->labels, 2, 0.5f, scale, &s->losses[3], &s->slopes[3]) ||
           mbk_bpr(k, &s->logits, &s->negative, scale, &s->losses[4], &s->slopes[4], NULL) ||
           mbk_dropout(k, 0.4f, 1, 10 + v->offset, &s->x, &s->dropped) || mbk_random_normal(k, 0, 1, 2, 20 + v->offset, &s->normal) ||
           mbk_random_uniform(k, 0, 1, 3, 30 + v->offset, &s->uniform) || mbk_attend(k, &a) ||
           mbk_attend_backward(k, &a, &s->q, &s->dq, &s->dkeys, &s->dvalues) || mbk_zero(k, &s->sum) ||
           mbk_private_sum(k, &s->rows, 1, 0.5f, 6, 50 + v->offset, &s->sum) ||
           mbk_sample(k, &s->logits, 1, 3, 0.9f, 7, 60 + v->offset, &s->ids) || mbk_adam(k, &adam, &s->adam, 1) ||
           mbk_sgd(k, &sgd, &s->sgd, 1);
}

/* Powers of two, so that a product is the same in whatever order it is taken. */
static const struct mbk_varying none = { .scale = 1, .lr = 1 };
static const struct mbk_varying steps[] = {
    { .offset = 0, .step = 0, .scale = 1, .lr = 1 }, { .offset = 1000, .step = 1, .scale = 0.5f, .lr = 0.25f },
    { .offset = (uint64_t)7 << 33, .step = 2, .scale = 4, .lr = 2 }, { .offset = 3, .step = 1000000, .scale = 0.125f, .lr = 0.5f },
};
enum { STEPS = sizeof steps / sizeof *steps };

static void check_same(struct step *a, struct step *b)
{
    struct mbk_tensor *mine[MOST_TENSORS], *theirs[MOST_TENSORS];
    int n = tensors_of(a, mine);
    tensors_of(b, theirs);
    for (int i = 0; i < n; i++) {
        size_t bytes = mbk_bytes(mine[i]);
        void *x = malloc(bytes), *y = malloc(bytes);
        CHECK_RUN(a->k, mbk_read(a->k, x, mine[i]->data, bytes));
        CHECK_RUN(b->k, mbk_read(b->k, y, theirs[i]->data, bytes));
        CHECK_MEM(x, y, bytes);
        free(x);
        free(y);
    }
}

static void vary_body(const void *backend)
{
    struct step told = open_step(backend), varied = open_step(backend);
    for (int i = 0; i < STEPS; i++) {
        CHECK_RUN(told.k, call_step(&told, &steps[i]));
        CHECK_RUN(varied.k, mbk_vary(varied.k, &steps[i]));
        CHECK_RUN(varied.k, call_step(&varied, &none));
        check_same(&told, &varied);
    }
    CHECK_RUN(varied.k, mbk_vary(varied.k, NULL));
    CHECK_RUN(told.k, call_step(&told, &none));
    CHECK_RUN(varied.k, call_step(&varied, &none));
    check_same(&told, &varied);
    close_step(&told);
    close_step(&varied);
}

static void record_body(const void *backend)
{
    struct step told = open_step(backend), recorded = open_step(backend);
    struct mbk *k = recorded.k;
    void *graph = NULL;
    CHECK(mbk_records(k));
    CHECK_RUN(told.k, call_step(&told, &steps[0])); /* once without, for scratch memory */
    CHECK_RUN(k, call_step(&recorded, &steps[0]));
    CHECK_RUN(k, mbk_capture_begin(k));
    int status = call_step(&recorded, &none);
    CHECK_EQ(mbk_vary(k, &steps[1]), -1);
    CHECK_RUN(k, mbk_capture_end(k, &graph));
    CHECK_EQ(status, 0);
    check_same(&told, &recorded); /* nothing was done */
    for (int i = 0; i < STEPS; i++) {
        CHECK_RUN(told.k, call_step(&told, &steps[i]));
        CHECK_RUN(k, mbk_vary(k, &steps[i]));
        CHECK_RUN(k, mbk_replay(k, graph));
        check_same(&told, &recorded);
    }
    mbk_free(k, mbk_alloc(k, 100));
    CHECK_EQ(mbk_replay(k, graph), 1);
    mbk_graph_free(k, graph);
    close_step(&told);
    close_step(&recorded);
}

static void failing_body(const void *backend)
{
    struct step s = open_step(backend);
    struct mbk *k = s.k;
    void *graph = NULL;
    CHECK(mbk_records(k));
    CHECK_RUN(k, call_step(&s, &none));
    CHECK_RUN(k, mbk_capture_begin(k));
    CHECK_EQ(mbk_capture_begin(k), -1);
    CHECK(mbk_alloc(k, 1 << 20) == NULL);
    CHECK_CONTAINS(mbk_error(k), "run the step once before it is recorded");
    float x;
    CHECK_EQ(mbk_read(k, &x, s.x.data, sizeof x), -1);
    CHECK_EQ(mbk_write(k, s.x.data, &x, sizeof x), -1);
    CHECK_EQ(mbk_sync(k), -1);
    (void)mbk_capture_end(k, &graph);
    mbk_graph_free(k, graph);
    CHECK_EQ(mbk_capture_end(k, &graph), -1);
    CHECK(graph == NULL);
    CHECK_RUN(k, call_step(&s, &none)); /* and goes on as if nothing had been */
    close_step(&s);
}

TEST("cpu: calls aren't recorded, and whoever asks is told")
{
    struct mbk *k = kernels_open("cpu", 1);
    void *graph = &graph;
    CHECK_EQ(mbk_records(k), 0);
    CHECK_EQ(mbk_capture_begin(k), 1);
    CHECK_EQ(mbk_capture_end(k, &graph), -1);
    CHECK(graph == NULL);
    CHECK_CONTAINS(mbk_error(k), "cpu records no calls");
    kernels_close(k);
}

TEST_TABLE
{
    for (int b = 0; b < KERNELS_BACKENDS; b++) {
        const char *backend = kernels_backends[b];
        test_add(vary_body, backend, "%s: what varies gives the bits that arguments give, to draws, losses and optimizers", backend);
        if (b == 0)
            continue; /* the CPU's own test is above */
        test_add(record_body, backend, "%s: a recorded step gives the bits of one that is called, and isn't replayed over freed memory", backend);
        test_add(failing_body, backend, "%s: what can't be recorded fails by name, and the stream goes on", backend);
    }
}
