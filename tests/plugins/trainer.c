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

static struct mbk *open_device(const char *kind, int index) {
    char device[32];
    struct mbk *k;
    snprintf(device, sizeof device, index ? "%s:%d" : "%s", kind, index);
    if (mbk_open(device, &(struct mbk_options){.threads = 1}, &k, error.text, sizeof error.text)) FAIL("%s", error.text);
    return kept(k);
}

/* A trainer on small data, on so many devices of a kind (the CPU counts as any number), with a teacher's answers or NULL; everything stays open
 * until the test's process ends. */
static struct mbl_trainer *open_on(const char *kind, int devices, const struct small *small, const char *shape, const struct mbl_train_options *o, const float *teacher) {
    static struct mbl_arena arena;
    struct mbl_trainer *t = kept(calloc(1, sizeof *t));
    struct mbl_feed *feed = kept(calloc(1, sizeof *feed));
    struct mbl_json *given, *config;
    struct mbk *k = open_device(kind, 0), **others = kept(calloc((size_t)devices, sizeof *others));
    char *path = mbl_arena_printf(&arena, "%s/part", test_folder());
    small_write(path, small, NULL);
    for (int i = 1; i < devices; i++) others[i - 1] = open_device(kind, strcmp(kind, "cpu") ? i : 0);
    if (mbl_feed_open(feed, NULL, path, &error) || mbl_json_parse(shape, strlen(shape), "shape", &arena, &given, &error) ||
        mbl_model_config(given, &feed->data.schema, &arena, &config, &error) || mbl_model_create(k, config, &t->model, &error) ||
        mbl_feed_bind(feed, t->model, &error) || mbl_model_allocate(t->model, &error) || mbl_model_initialize(t->model, 3, &error))
        FAIL("%s", error.text);
    t->train = feed;
    t->options = *o;
    t->teacher = teacher;
    t->streams = others;
    t->stream_count = devices - 1;
    if (mbl_trainer_open(t, &error)) FAIL("%s", error.text);
    return t;
}

static struct mbl_trainer *open_with(const struct small *small, const char *shape, const struct mbl_train_options *o, const float *teacher) {
    return open_on("cpu", 1, small, shape, o, teacher);
}

static struct mbl_trainer *open_trainer(const char *shape, const struct mbl_train_options *o) {
    return open_with(&data, shape, o, NULL);
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

TEST("features reach the model as the schema scales them")
{
    const struct mbl_train_options o = {.epochs = 1, .batch = ROWS};
    struct mbl_trainer *t = open_trainer("{\"kind\": \"mlp\", \"hidden\": []}", &o);
    for (int i = 0; i < ROWS * FEATURES; i++) CHECK_NEAR(t->train->scaled[i], (t->train->data.features[i] - 0.5f) * 2, 1e-6);
}

TEST("dropout leaves out other values in each step")
{
    const struct mbl_train_options o = {.optimizer = MBL_SGD, .lr = 0, .epochs = 9, .batch = ROWS, .seed = 1};
    static const struct small alike = {.rows = ROWS, .features = FEATURES, .classes = 0, .seed = 1, .noise = 0}; /* so their order is nothing */
    struct mbl_trainer *t = open_with(&alike, "{\"kind\": \"mlp\", \"hidden\": [32], \"dropout\": 0.5}", &o, NULL);
    double first = one_epoch(t), second = one_epoch(t), third = one_epoch(t);
    CHECK(fabs(first - second) > 1e-4 && fabs(second - third) > 1e-4 && fabs(first - third) > 1e-4);
}

/* One step of SGD from the same weights: what it takes off them is lr times the gradient, which for one logit, or one number, is
 * the mean over rows of d(row) · x. `d` says d. */
static void check_distilled_step(const struct small *small, double (*d)(double z, double teacher, double target)) {
    static float teacher[ROWS];
    const struct mbl_train_options o = {.optimizer = MBL_SGD, .lr = 0.5, .epochs = 1, .batch = ROWS, .seed = 1, .temperature = 3, .alpha = 0.7};
    for (int i = 0; i < ROWS; i++) teacher[i] = (float)(small_random(21, (uint64_t)i) * 6 - 3);
    struct mbl_trainer *t = open_with(small, "{\"kind\": \"mlp\", \"hidden\": []}", &o, teacher);
    float *w = mbl_model_find(t->model, "head.weight")->value.data;
    double before[FEATURES], gradient[FEATURES] = {0}, bias = *(float *)mbl_model_find(t->model, "head.bias")->value.data;
    for (int f = 0; f < FEATURES; f++) before[f] = w[f];
    for (int i = 0; i < ROWS; i++) {
        const float *x = t->train->scaled + i * FEATURES;
        double z = bias, target = small->classes ? t->train->data.labels[i] : (double)t->train->targets[i];
        for (int f = 0; f < FEATURES; f++) z += before[f] * x[f];
        for (int f = 0; f < FEATURES; f++) gradient[f] += d(z, teacher[i], target) * x[f] / ROWS;
    }
    one_epoch(t);
    for (int f = 0; f < FEATURES; f++) CHECK_NEAR(w[f], before[f] - 0.5 * gradient[f], 1e-5);
}

static double sigmoid(double z) {
    return 1 / (1 + exp(-z));
}
/* Hinton et al. 2015: the soft part's gradient, T² · ∂/∂z KL = T · (σ(z/T) − σ(teacher/T)). */
static double of_one_logit(double z, double teacher, double target) {
    return 0.7 * 3 * (sigmoid(z / 3) - sigmoid(teacher / 3)) + 0.3 * (sigmoid(z) - target);
}
static double of_a_number(double z, double teacher, double target) {
    return 0.7 * 2 * (z - teacher) + 0.3 * 2 * (z - target);
}

TEST("a distilled step of one logit has the gradient of both its parts")
{
    static const struct small two = {.rows = ROWS, .features = FEATURES, .classes = 2, .seed = 12, .noise = 1.5};
    check_distilled_step(&two, of_one_logit);
}

TEST("a distilled step of a number has the gradient of both its parts")
{
    static const struct small number = {.rows = ROWS, .features = FEATURES, .classes = 0, .seed = 13, .noise = 1.5};
    check_distilled_step(&number, of_a_number);
}

/* Whether an image that the model sees is the raw one, moved so and mirrored or not. */
static bool is_moved(const float *seen, const float *raw, int down, int right, bool mirror) {
    for (int y = 0; y < 4; y++)
        for (int x = 0; x < 5; x++) {
            int from_y = y - down, from_x = (mirror ? 4 - x : x) - right;
            bool inside = from_y >= 0 && from_y < 4 && from_x >= 0 && from_x < 5;
            float expected = ((inside ? raw[from_y * 5 + from_x] : 0) - 0.5f) * 2;
            if (fabsf(seen[y * 5 + x] - expected) > 1e-6f) return false;
        }
    return true;
}

TEST("augmented images are moved and mirrored anew in each epoch, every way, and nothing else happens to them")
{
    static const struct small pictures = {.rows = ROWS, .features = 20, .classes = 2, .shape = {4, 5, 1}, .seed = 14, .noise = 1};
    const struct mbl_train_options o = {.optimizer = MBL_SGD, .epochs = 9, .batch = ROWS, .seed = 1, .shift = 1, .mirror = true};
    struct mbl_trainer *t = open_with(&pictures, "{\"kind\": \"mlp\", \"hidden\": []}", &o, NULL);
    int seen[2][18] = {{0}}, ways = 0, changed = 0;
    int way_of[2][ROWS];
    for (int epoch = 0; epoch < 2; epoch++) {
        if (mbl_trainer_begin_epoch(t, &error)) FAIL("%s", error.text);
        for (int i = 0; i < ROWS; i++) {
            const float *image = (const float *)t->arrays[MBL_X].data + (size_t)i * 20, *raw = t->train->data.features + (size_t)t->host_order[i] * 20;
            int way = 0;
            while (way < 18 && !is_moved(image, raw, way % 3 - 1, way / 3 % 3 - 1, way / 9)) way++;
            CHECKF(way < 18, "image %d is no moved one", i);
            seen[epoch][way]++;
            way_of[epoch][t->host_order[i]] = way;
        }
        one_epoch(t);
    }
    for (int way = 0; way < 18; way++) ways += seen[0][way] + seen[1][way] > 0;
    for (int row = 0; row < ROWS; row++) changed += way_of[0][row] != way_of[1][row];
    CHECKF(ways >= 16 && changed > ROWS / 2, "%d ways, %d rows changed", ways, changed);
}

/* -- recorded steps */

struct recorded {
    const char *name, *shape;
    struct small data;
    struct mbl_train_options options;
    bool teacher;
};
enum { RECORDED_EPOCHS = 4 };

/* The losses of each epoch and the weights in the end; `graphs`: "1" or "0". */
static char *train_recorded(const struct recorded *r, const char *graphs, double losses[RECORDED_EPOCHS], size_t *bytes) {
    static float teacher[ROWS * 8];
    setenv("MBK_GRAPHS", graphs, 1);
    for (int i = 0; i < ROWS * 8; i++) teacher[i] = (float)(small_random(21, (uint64_t)i) * 6 - 3);
    struct mbl_trainer *t = open_on("cuda", 1, &r->data, r->shape, &r->options, r->teacher ? teacher : NULL);
    size_t memory = 0;
    for (int i = 0; i < RECORDED_EPOCHS; i++) {
        losses[i] = one_epoch(t);
        if (i == 1) memory = mbk_memory_used(t->model->k);
    }
    CHECK_EQ(mbk_memory_used(t->model->k), memory);
    CHECK_STR(t->unrecorded.text, "");
    /* Of each shape the first piece is done by calls. */
    CHECK_EQ(t->replays, *graphs == '1' ? RECORDED_EPOCHS * t->piece_count - t->recording_count : 0);
    char *weights = kept(malloc(t->model->block_bytes));
    if (mbk_read(t->model->k, weights, t->model->values, t->model->block_bytes)) FAIL("%s", mbk_error(t->model->k));
    *bytes = t->model->block_bytes;
    return weights;
}

static void recorded_body(const void *argument) {
    double with[RECORDED_EPOCHS], without[RECORDED_EPOCHS];
    size_t bytes;
    if (!mbk_available("cuda")) SKIP("there is no cuda here");
    char *a = train_recorded(argument, "1", with, &bytes), *b = train_recorded(argument, "0", without, &bytes);
    CHECK_MEM(a, b, bytes);
    CHECK_MEM(with, without, sizeof with);
    CHECK(((const struct recorded *)argument)->teacher || with[RECORDED_EPOCHS - 1] < with[0]); /* those teachers know nothing */
}

TEST_TABLE
{
    static const struct mbl_train_options adamw = {.optimizer = MBL_ADAMW, .lr = 0.01, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8,
                                                   .weight_decay = 0.01, .clip = 1, .schedule = MBL_COSINE, .epochs = RECORDED_EPOCHS,
                                                   .batch = 16, .accumulate = 2, .seed = 1, .temperature = 2, .alpha = 0.5};
    static struct recorded tests[] = {
        {"dropout, class weights and pieces", "{\"kind\": \"mlp\", \"hidden\": [16], \"dropout\": 0.2}",
         {.rows = ROWS, .features = FEATURES, .classes = CLASSES, .seed = 11, .noise = 1.5}, {0}, false},
        {"images", "{\"kind\": \"cnn\", \"channels\": [4], \"hidden\": [8]}",
         {.rows = ROWS, .features = 20, .classes = 2, .shape = {4, 5, 1}, .seed = 14, .noise = 1}, {0}, false},
        {"a teacher of classes", "{\"kind\": \"mlp\", \"hidden\": [8]}",
         {.rows = ROWS, .features = FEATURES, .classes = CLASSES, .seed = 11, .noise = 1.5}, {0}, true},
        {"a teacher of two classes", "{\"kind\": \"mlp\", \"hidden\": [8]}",
         {.rows = ROWS, .features = FEATURES, .classes = 2, .seed = 12, .noise = 1.5}, {0}, true},
        {"a teacher of numbers", "{\"kind\": \"mlp\", \"hidden\": [8]}",
         {.rows = ROWS, .features = FEATURES, .classes = 0, .seed = 13, .noise = 1.5}, {0}, true},
    };
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        tests[i].options = adamw;
        tests[i].options.balanced = i == 0;
        if (i == 1) tests[i].options.optimizer = MBL_SGD;
        test_add(recorded_body, &tests[i], "cuda: steps that are recorded give the bits of steps that are called: %s", tests[i].name);
    }
}

/* -- several devices */

enum { SHARED_EPOCHS = 3 };

struct shared {
    const char *kind, *name;
    int devices;
    int64_t batch;
};

static const struct mbl_train_options shared_options = {.optimizer = MBL_ADAMW, .lr = 0.01, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8,
                                                        .weight_decay = 0.01, .clip = 1, .schedule = MBL_COSINE, .balanced = true,
                                                        .epochs = SHARED_EPOCHS, .accumulate = 1, .seed = 1};

/* On so many devices, each piece of a batch on another one; or all on one, in as many pieces. */
static struct mbl_trainer *open_shared(const struct shared *s, int devices) {
    struct mbl_train_options o = shared_options;
    o.batch = s->batch;
    o.accumulate = s->devices / devices;
    return open_on(s->kind, devices, &data, "{\"kind\": \"mlp\", \"hidden\": [16], \"dropout\": 0.2}", &o, NULL);
}

static float *weights_of(const struct mbl_trainer *t, int rank) {
    const struct mbl_model *m = rank ? t->others[rank - 1].model : t->model;
    float *weights = kept(malloc(m->block_bytes));
    if (mbk_read(m->k, weights, m->values, m->block_bytes)) FAIL("%s", mbk_error(m->k));
    return weights;
}

static void shared_body(const void *argument) {
    const struct shared *s = argument;
    if (strcmp(s->kind, "cpu") && mbk_device_count(s->kind) < s->devices) SKIP("there are %d of %s here", mbk_device_count(s->kind), s->kind);
    struct mbl_trainer *one = open_shared(s, 1), *many = open_shared(s, s->devices), *again = open_shared(s, s->devices);
    size_t bytes = one->model->block_bytes, count = bytes / sizeof(float);
    CHECK_EQ(one->piece_rows, many->piece_rows);
    for (int epoch = 0; epoch < SHARED_EPOCHS; epoch++) {
        double alone = one_epoch(one), together = one_epoch(many);
        CHECK_NEAR(together, alone, 1e-5);
        CHECK_MEM(many->host_predictions, one->host_predictions, (size_t)one->used * sizeof *one->host_predictions);
        double same = one_epoch(again);
        CHECK_MEM(&same, &together, sizeof same);
    }
    float *expected = weights_of(one, 0), *found = weights_of(many, 0);
    for (size_t i = 0; i < count; i++) CHECK_NEAR(found[i], expected[i], 2e-5);
    for (int rank = 0; rank < s->devices; rank++) {
        CHECK_MEM(weights_of(many, rank), found, bytes);
        CHECK_MEM(weights_of(again, rank), found, bytes);
    }
    mbl_trainer_close(many);
}

/* Kills nothing: another trainer, opened anew, goes on from the first one's checkpoint. */
static void resumed_body(const void *argument) {
    const struct shared *s = argument;
    struct mbl_trainer *whole = open_shared(s, s->devices), *first = open_shared(s, s->devices), *second = open_shared(s, s->devices);
    struct mbl_buf log = {0};
    double expected[2], found[2];
    expected[0] = one_epoch(whole);
    expected[1] = one_epoch(whole);
    if (mbl_trainer_begin_epoch(first, &error)) FAIL("%s", error.text);
    for (int step = 0; step < 2; step++)
        if (mbl_trainer_step(first, &error)) FAIL("%s", error.text);
    if (mbl_checkpoint_write(first, test_folder(), "so far", &error)) FAIL("%s", error.text);
    CHECK_EQ(mbl_checkpoint_read(second, test_folder(), &log, &error), 0);
    CHECK_STR(mbl_buf_str(&log), "so far");
    mbl_buf_free(&log);
    CHECK_EQ(second->position, 2 * s->batch);
    found[0] = one_epoch(second);
    found[1] = one_epoch(second);
    CHECK_MEM(found, expected, sizeof found);
    CHECK_MEM(weights_of(second, 1), weights_of(whole, 0), whole->model->block_bytes);
}

/* Rows of tokens of several lengths, made here: row r is `lengths` long, each token follows from its place. One more lies behind, which the last
 * row's last token is to foretell. */
enum { TOKEN_ROWS = 37, WORDS = 13, LONGEST = 24 };

static void fill_tokens(struct mbl_tokens *t, enum mbl_problem problem) {
    int64_t count = 0;
    *t = (struct mbl_tokens){.problem = problem, .rows = TOKEN_ROWS, .longest = LONGEST, .pad = 0, .mask = 1, .vocabulary = WORDS};
    t->ids = kept(calloc(TOKEN_ROWS * LONGEST + 1, sizeof *t->ids));
    t->starts = kept(calloc(TOKEN_ROWS + 1, sizeof *t->starts));
    t->special = kept(calloc(WORDS, sizeof *t->special));
    t->special[0] = t->special[1] = true;
    for (int64_t r = 0; r < TOKEN_ROWS; r++) {
        t->starts[r] = count;
        for (int64_t n = 3 + r * 7 % (LONGEST - 2); n > 0; n--, count++) t->ids[count] = (int32_t)(2 + (count * count + r) % (WORDS - 2));
    }
    t->starts[TOKEN_ROWS] = count;
    t->ids[count] = 2;
}

static struct mbl_trainer *open_tokens(const char *config, enum mbl_problem problem, enum mbk_type precision, int devices, int pieces) {
    static struct mbl_arena arena;
    struct mbl_trainer *t = kept(calloc(1, sizeof *t));
    struct mbl_feed *feed = kept(calloc(1, sizeof *feed));
    struct mbk *k = open_device("cpu", 0), **others = kept(calloc((size_t)devices, sizeof *others));
    struct mbl_json *json;
    if (mbl_json_parse(config, strlen(config), "config", &arena, &json, &error) || mbl_model_create(k, json, &t->model, &error) ||
        mbl_model_allocate(t->model, &error) || mbl_model_initialize(t->model, 3, &error))
        FAIL("%s", error.text);
    fill_tokens(&feed->tokens, problem);
    feed->rows = TOKEN_ROWS;
    feed->model = t->model;
    for (int i = 1; i < devices; i++) others[i - 1] = open_device("cpu", 0);
    t->train = feed;
    t->options = shared_options;
    t->options.balanced = false;
    t->options.batch = 10;
    t->options.accumulate = pieces;
    t->options.precision = precision;
    t->streams = others;
    t->stream_count = devices - 1;
    if (mbl_trainer_open(t, &error)) FAIL("%s", error.text);
    return t;
}

struct shared_tokens {
    const char *name, *config;
    enum mbl_problem problem;
    enum mbk_type precision;
};

static void shared_tokens_body(const void *argument) {
    const struct shared_tokens *s = argument;
    double tolerance = s->precision == MBK_BF16 ? 2e-3 : 2e-5;
    struct mbl_trainer *one = open_tokens(s->config, s->problem, s->precision, 1, 2);
    struct mbl_trainer *two = open_tokens(s->config, s->problem, s->precision, 2, 1);
    size_t bytes = one->model->block_bytes;
    for (int epoch = 0; epoch < SHARED_EPOCHS; epoch++) {
        double alone = one_epoch(one), together = one_epoch(two);
        CHECK_NEAR(together, alone, tolerance);
        CHECK_MEM(two->host_labels, one->host_labels, (size_t)one->used * sizeof *one->host_labels);
    }
    float *expected = weights_of(one, 0), *found = weights_of(two, 0);
    for (size_t i = 0; i < bytes / sizeof *found; i++) CHECK_NEAR(found[i], expected[i], tolerance * 10);
    CHECK_MEM(weights_of(two, 1), found, bytes);
    mbl_trainer_close(two);
}

TEST_TABLE
{
    static const struct shared tests[] = {
        {"cpu", "two devices", 2, 16},
        {"cpu", "two devices, a last step that is for one alone", 2, 28},
        {"cpu", "three devices", 3, 20},
        {"cuda", "two devices", 2, 16},
        {"cuda", "three devices", 3, 20},
    };
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        test_add(shared_body, &tests[i], "%s: training on %s is that on one with as many pieces, and the same bits again and on each", tests[i].kind,
                 tests[i].name);
    static const char gpt2[] = "{\"model_type\": \"gpt2\", \"architectures\": [\"GPT2LMHeadModel\"], \"vocab_size\": 13, \"n_embd\": 16, "
                               "\"n_layer\": 1, \"n_head\": 2, \"n_positions\": 24}";
    static const char bert[] = "{\"model_type\": \"bert\", \"architectures\": [\"BertForMaskedLM\"], \"vocab_size\": 13, \"hidden_size\": 16, "
                               "\"num_hidden_layers\": 1, \"num_attention_heads\": 2, \"intermediate_size\": 32, \"max_position_embeddings\": 24}";
    static const struct shared_tokens of_tokens[] = {
        {"a decoder", gpt2, MBL_NEXT_TOKEN, MBK_F32},
        {"an encoder", bert, MBL_MASKED_TOKEN, MBK_F32},
        {"a decoder in bfloat16", gpt2, MBL_NEXT_TOKEN, MBK_BF16},
    };
    for (size_t i = 0; i < sizeof of_tokens / sizeof *of_tokens; i++)
        test_add(shared_tokens_body, &of_tokens[i], "cpu: %s learns on two devices what it learns on one, with the same masks and dropout",
                 of_tokens[i].name);
    test_add(resumed_body, &tests[1], "cpu: training on two devices goes on from a checkpoint with the same bits");
}
