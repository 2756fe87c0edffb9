/* The trainer, step by step: against the same training in float64, and for what it takes from the system. */
#include "lib/train.h"
#include "small_data.h"

#include <malloc.h>
#include <math.h>

#define ROWS 60
#define FEATURES 4
#define CLASSES 3

static struct mbl_error error;
static const struct small data = {.rows = ROWS, .features = FEATURES, .classes = CLASSES, .seed = 11, .noise = 1.5};

/* A trainer on small data; everything stays open until the test's process ends. */
static struct mbl_trainer *open_trainer(const char *shape, const struct mbl_train_options *o) {
    static struct mbl_arena arena;
    struct mbl_trainer *t = kept(calloc(1, sizeof *t));
    struct mbl_feed *feed = kept(calloc(1, sizeof *feed));
    struct mbl_json *given, *config;
    struct mbk *k;
    char *path = mbl_arena_printf(&arena, "%s/part", test_folder());
    small_write(path, &data, NULL);
    if (mbk_open("cpu", &(struct mbk_options){.threads = 1}, &k, error.text, sizeof error.text) ||
        mbl_feed_open(feed, NULL, path, &error) || mbl_json_parse(shape, strlen(shape), "shape", &arena, &given, &error) ||
        mbl_model_config(given, &feed->data.schema, &arena, &config, &error) || mbl_model_create(k, config, &t->model, &error) ||
        mbl_feed_bind(feed, t->model, &error) || mbl_model_allocate(t->model, &error) || mbl_model_initialize(t->model, 3, &error))
        FAIL("%s", error.text);
    t->train = feed;
    t->options = *o;
    if (mbl_trainer_open(t, &error)) FAIL("%s", error.text);
    kept(k);
    return t;
}

static double one_epoch(struct mbl_trainer *t) {
    struct mbl_epoch figures;
    if (mbl_trainer_begin_epoch(t, &error)) FAIL("%s", error.text);
    while (t->position < t->train->rows)
        if (mbl_trainer_step(t, &error)) FAIL("%s", error.text);
    if (mbl_trainer_end_epoch(t, &figures, &error)) FAIL("%s", error.text);
    return figures.loss;
}

/* -- softmax regression in double: what one layer with all rows as one batch has to do, whatever their order */

struct reference {
    double w[CLASSES][FEATURES], b[CLASSES], v[CLASSES][FEATURES], vb[CLASSES], m[CLASSES][FEATURES], mb[CLASSES], loss;
    int step;
};

static void reference_gradient(struct reference *r, const float *x, const int32_t *labels, double gw[CLASSES][FEATURES],
                               double gb[CLASSES]) {
    memset(gw, 0, sizeof(double) * CLASSES * FEATURES);
    memset(gb, 0, sizeof(double) * CLASSES);
    r->loss = 0;
    for (int i = 0; i < ROWS; i++) {
        double z[CLASSES], sum = 0;
        for (int c = 0; c < CLASSES; c++) {
            z[c] = r->b[c];
            for (int f = 0; f < FEATURES; f++) z[c] += r->w[c][f] * x[i * FEATURES + f];
            sum += exp(z[c]);
        }
        r->loss += (log(sum) - z[labels[i]]) / ROWS;
        for (int c = 0; c < CLASSES; c++) {
            double d = (exp(z[c]) / sum - (c == labels[i])) / ROWS;
            gb[c] += d;
            for (int f = 0; f < FEATURES; f++) gw[c][f] += d * x[i * FEATURES + f];
        }
    }
}

static void reference_update(struct reference *r, const struct mbl_train_options *o, double *p, double *v, double *m, double g,
                             double decay) {
    if (o->optimizer == MBL_SGD) {
        g += decay * *p;
        *v = o->momentum * *v + g;
        *p -= o->lr * (o->nesterov ? g + o->momentum * *v : *v);
        return;
    }
    if (o->optimizer == MBL_ADAM) g += decay * *p;
    *m = o->beta1 * *m + (1 - o->beta1) * g;
    *v = o->beta2 * *v + (1 - o->beta2) * g * g;
    double m_hat = *m / (1 - pow(o->beta1, r->step)), v_hat = *v / (1 - pow(o->beta2, r->step));
    *p -= o->lr * (m_hat / (sqrt(v_hat) + o->epsilon) + (o->optimizer == MBL_ADAMW ? decay * *p : 0));
}

static void reference_step(struct reference *r, const struct mbl_train_options *o, const float *x, const int32_t *labels) {
    double gw[CLASSES][FEATURES], gb[CLASSES], norm = 0;
    reference_gradient(r, x, labels, gw, gb);
    for (int c = 0; c < CLASSES; c++) {
        norm += gb[c] * gb[c];
        for (int f = 0; f < FEATURES; f++) norm += gw[c][f] * gw[c][f];
    }
    double clip = o->clip > 0 ? fmin(1, o->clip / (sqrt(norm) + 1e-6)) : 1;
    r->step++;
    for (int c = 0; c < CLASSES; c++) {
        reference_update(r, o, &r->b[c], &r->vb[c], &r->mb[c], gb[c] * clip, 0);
        for (int f = 0; f < FEATURES; f++) reference_update(r, o, &r->w[c][f], &r->v[c][f], &r->m[c][f], gw[c][f] * clip, o->weight_decay);
    }
}

static void compare_with_reference(const struct mbl_train_options *o) {
    struct mbl_trainer *t = open_trainer("{\"kind\": \"mlp\", \"hidden\": []}", o);
    const float *w = mbl_model_find(t->model, "head.weight")->value.data, *b = mbl_model_find(t->model, "head.bias")->value.data;
    struct reference r = {.step = 0};
    for (int c = 0; c < CLASSES; c++) {
        r.b[c] = b[c];
        for (int f = 0; f < FEATURES; f++) r.w[c][f] = w[c * FEATURES + f];
    }
    for (int step = 0; step < 30; step++) {
        double loss = one_epoch(t);
        reference_step(&r, o, t->train->scaled, t->train->data.labels);
        CHECK_NEAR(loss, r.loss, 1e-5);
    }
    for (int c = 0; c < CLASSES; c++) {
        CHECK_NEAR(b[c], r.b[c], 1e-4);
        for (int f = 0; f < FEATURES; f++) CHECK_NEAR(w[c * FEATURES + f], r.w[c][f], 1e-4);
    }
}

TEST("training by SGD with momentum, decay and clipping is what float64 makes of it")
{
    compare_with_reference(&(struct mbl_train_options){
        .optimizer = MBL_SGD, .lr = 0.3, .momentum = 0.9, .weight_decay = 0.01, .clip = 0.2, .epochs = 30, .batch = ROWS, .seed = 1});
}

TEST("training by SGD with Nesterov's momentum is what float64 makes of it")
{
    compare_with_reference(&(struct mbl_train_options){
        .optimizer = MBL_SGD, .lr = 0.3, .momentum = 0.8, .nesterov = true, .epochs = 30, .batch = ROWS, .seed = 1});
}

TEST("training by Adam, its decay coupled, is what float64 makes of it")
{
    compare_with_reference(&(struct mbl_train_options){.optimizer = MBL_ADAM,
                                                       .lr = 0.02,
                                                       .beta1 = 0.9,
                                                       .beta2 = 0.99,
                                                       .epsilon = 1e-8,
                                                       .weight_decay = 0.1,
                                                       .epochs = 30,
                                                       .batch = ROWS,
                                                       .seed = 1});
}

TEST("training by AdamW, its decay decoupled, is what float64 makes of it")
{
    compare_with_reference(&(struct mbl_train_options){.optimizer = MBL_ADAMW,
                                                       .lr = 0.02,
                                                       .beta1 = 0.9,
                                                       .beta2 = 0.999,
                                                       .epsilon = 1e-8,
                                                       .weight_decay = 0.1,
                                                       .clip = 0.05,
                                                       .epochs = 30,
                                                       .batch = ROWS,
                                                       .seed = 1});
}

TEST("after its first epoch a training takes no more memory, of the device or of the system")
{
    const struct mbl_train_options o = {.optimizer = MBL_ADAMW,
                                        .lr = 0.01,
                                        .beta1 = 0.9,
                                        .beta2 = 0.999,
                                        .epsilon = 1e-8,
                                        .clip = 1,
                                        .balanced = true,
                                        .epochs = 50,
                                        .batch = 16,
                                        .seed = 1};
    struct mbl_trainer *t = open_trainer("{\"kind\": \"mlp\", \"hidden\": [32, 16], \"dropout\": 0.2}", &o);
    one_epoch(t);
    size_t device = mbk_memory_used(t->model->k);
    struct mallinfo2 before = mallinfo2();
    for (int i = 0; i < 49; i++) one_epoch(t);
    struct mallinfo2 after = mallinfo2();
    CHECK_EQ(mbk_memory_used(t->model->k), device);
    CHECK_EQ(after.uordblks, before.uordblks);
    CHECK_EQ(after.hblkhd, before.hblkhd);
}
