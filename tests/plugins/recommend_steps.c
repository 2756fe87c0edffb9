/* Forty steps of each recommender against the same in PyTorch: losses that were recorded (data/recommend.json). With MB_STEPS=FOLDER in the
 * environment all that goes into the steps is written there as well, for recommend_torch.py, which makes and checks the records. */
#include "lib/train.h"
#include "small_pairs.h"

#include <stdlib.h>

enum { STEPS = 40, ROWS = 48 };

static struct mbl_error error;

static const struct run {
    const char *name, *shape;
    struct mbl_train_options options;
} runs[] = {
    {"mse",
     "{\"kind\": \"matrix_factorization\", \"factors\": 8}",
     {.optimizer = MBL_ADAMW, .lr = 0.02, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 0.05}},
    {"bpr",
     "{\"kind\": \"matrix_factorization\", \"factors\": 8, \"loss\": \"bpr\", \"negatives\": 3}",
     {.optimizer = MBL_ADAMW, .lr = 0.02, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 0.05, .clip = 0.1}},
    {"softmax",
     "{\"kind\": \"matrix_factorization\", \"factors\": 8, \"loss\": \"softmax\", \"temperature\": 0.5}",
     {.optimizer = MBL_SGD, .lr = 0.2, .momentum = 0.9, .weight_decay = 0.001}},
    {"towers",
     "{\"kind\": \"two_towers\", \"embedding\": 8, \"hidden\": [16], \"factors\": 6, \"temperature\": 0.2, \"activation\": \"gelu\"}",
     {.optimizer = MBL_ADAMW, .lr = 0.01, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 0.01}},
    {"towers-bpr",
     "{\"kind\": \"two_towers\", \"embedding\": 8, \"hidden\": [], \"factors\": 6, \"loss\": \"bpr\", \"normalize\": false, "
     "\"temperature\": 1}",
     {.optimizer = MBL_ADAM, .lr = 0.01, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 0.001}},
};

/* What is written for PyTorch: tensors, copied when they are added. */
struct record {
    struct mbl_arena arena;
    struct mbl_tensor tensors[1024];
    size_t count;
};

static void keep(struct record *r, const char *name, enum mbl_dtype type, int rank, const int64_t *shape, const void *data) {
    CHECK(r->count < 1024);
    struct mbl_tensor *t = &r->tensors[r->count++];
    *t = (struct mbl_tensor){.name = mbl_arena_strdup(&r->arena, name), .type = type, .rank = rank};
    memcpy(t->shape, shape, (size_t)rank * sizeof *shape);
    size_t bytes = (size_t)mbl_tensor_count(t) * mbl_dtype_width(type);
    t->data = memcpy(mbl_arena_alloc(&r->arena, bytes + 1), data, bytes);
}

static void keep_step(struct record *r, struct mbl_trainer *t, int step) {
    const struct mbl_piece *p = &t->pieces[t->position / t->options.batch];
    struct mbl_batch b = {.training = true};
    if (mbl_feed_batch(t->train, t->host_order, p->first, p->rows, &b, &error)) FAIL("%s", error.text);
    const struct {
        const char *name;
        const struct mbk_tensor *tensor;
    } all[] = {{"users", &b.users}, {"user_rows", &b.user_rows}, {"items", &b.items}, {"item_rows", &b.item_rows}, {"adjust", &b.adjust}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].tensor->data)
            keep(r, mbl_arena_printf(&r->arena, "%d.%s", step, all[i].name), mbl_dtype_from_kernel(all[i].tensor->type),
                 all[i].tensor->rank, all[i].tensor->shape, all[i].tensor->data);
    keep(r, mbl_arena_printf(&r->arena, "%d.targets", step), MBL_F32, 1, &p->rows, t->host_targets + p->first);
}

static void keep_start(struct record *r, const struct mbl_model *m) {
    for (size_t i = 0; i < m->parameter_count; i++) {
        const struct mbl_parameter *p = &m->parameters[i];
        keep(r, mbl_arena_printf(&r->arena, "start.%s", p->name), MBL_F32, p->rank, p->shape, p->value.data);
    }
    for (enum mbl_side side = MBL_USERS; side < MBL_SIDES; side++) {
        const struct mbl_entities *s = &m->catalogue->side[side];
        const int64_t shape[2] = {s->count, (int64_t)s->number_count};
        float *scaled = pairs_kept(calloc((size_t)(s->count * shape[1]) + 1, sizeof *scaled));
        size_t column = 0, category = 0;
        for (size_t i = 0; i < s->trait_count; i++) {
            const struct mbl_trait *t = &s->traits[i];
            if (t->category)
                keep(r, mbl_arena_printf(&r->arena, "%s.codes.%zu", mbl_side_name(side), category++), MBL_I32, 1, shape, s->codes[i]);
            for (int64_t k = 0; !t->category && k < s->count; k++)
                scaled[k * shape[1] + (int64_t)column] = (s->numbers[k * shape[1] + (int64_t)column] - t->offset) * t->factor;
            column += !t->category;
        }
        if (column) keep(r, mbl_arena_printf(&r->arena, "%s.numbers", mbl_side_name(side)), MBL_F32, 2, shape, scaled);
    }
}

static void save_record(struct record *r, const struct run *run, const struct mbl_model *m, const float *losses) {
    const char *folder = getenv("MB_STEPS");
    const int64_t steps = STEPS;
    struct mbl_json *metadata = mbl_json_table(&r->arena), *o = mbl_json_table(&r->arena);
    struct mbl_buf text = {0}, options = {0};
    keep(r, "losses", MBL_F32, 1, &steps, losses);
    mbl_json_write(m->config, MBL_JSON_COMPACT, &text);
    static const char *const optimizers[] = {"sgd", "adam", "adamw"};
    mbl_json_set(&r->arena, o, "kind", mbl_json_string(&r->arena, optimizers[run->options.optimizer]));
    mbl_json_set(&r->arena, o, "lr", mbl_json_float(&r->arena, run->options.lr));
    mbl_json_set(&r->arena, o, "momentum", mbl_json_float(&r->arena, run->options.momentum));
    mbl_json_set(&r->arena, o, "weight_decay", mbl_json_float(&r->arena, run->options.weight_decay));
    mbl_json_set(&r->arena, o, "clip", mbl_json_float(&r->arena, run->options.clip));
    mbl_json_write(o, MBL_JSON_COMPACT, &options);
    mbl_json_set(&r->arena, metadata, "config", mbl_json_string(&r->arena, mbl_buf_str(&text)));
    mbl_json_set(&r->arena, metadata, "optimizer", mbl_json_string(&r->arena, mbl_buf_str(&options)));
    if (mbl_safetensors_save(mbl_path_join(&r->arena, folder, mbl_arena_printf(&r->arena, "%s.safetensors", run->name)), r->tensors,
                             r->count, metadata, &error))
        FAIL("%s", error.text);
    mbl_buf_free(&text);
    mbl_buf_free(&options);
}

static void make_parts(void) {
    const struct world w = {.users = 50, .items = 40, .clubs = 5, .each = 10, .seed = 3};
    struct mbl_buf pairs = {0}, users = {0}, items = {0};
    struct fake *f;
    world_write(&w, &pairs, &users, &items);
    if (pairs_make(&f, "{\"rating\": \"rating\"}", pairs.data, users.data, items.data) != MB_OK) FAIL("%s", f->message);
    mbl_buf_free(&pairs);
    mbl_buf_free(&users);
    mbl_buf_free(&items);
}

static void open_run(const struct run *run, struct mbl_trainer *t, struct mbl_feed *feed) {
    struct mbl_arena arena = {0};
    struct mbl_json *given, *config;
    struct mbl_model *m;
    struct mbk *k;
    if (mbk_open("cpu", &(struct mbk_options){.threads = 1}, &k, error.text, sizeof error.text) ||
        mbl_feed_open(feed, NULL, pairs_path("all"), &error) ||
        mbl_json_parse(run->shape, strlen(run->shape), "shape", &arena, &given, &error) ||
        mbl_model_config(given, &feed->data.schema, &arena, &config, &error) || mbl_model_create(k, config, &m, &error) ||
        mbl_catalogue_read(m->schema.json, &feed->data.file, &m->catalogue, &error) || mbl_feed_bind(feed, m, &error) ||
        mbl_model_allocate(m, &error) || mbl_model_initialize(m, 5, &error))
        FAIL("%s", error.text);
    pairs_kept(k);
    *t = (struct mbl_trainer){.model = pairs_kept(m), .train = feed, .options = run->options};
    t->options.epochs = 100;
    t->options.batch = ROWS;
    t->options.seed = 11;
    if (mbl_trainer_open(t, &error)) FAIL("%s", error.text);
    mbl_arena_free(&arena);
}

static const struct mbl_json *recorded(const char *name, struct mbl_arena *a) {
    struct mbl_json *root;
    if (mbl_json_read(test_source("tests/plugins/data/recommend.json"), a, &root, &error)) FAIL("%s", error.text);
    return mbl_json_get(root, name);
}

static void check_run(const struct run *run) {
    struct mbl_trainer *t = pairs_kept(calloc(1, sizeof *t));
    struct mbl_feed *feed = pairs_kept(calloc(1, sizeof *feed));
    struct record *r = pairs_kept(calloc(1, sizeof *r));
    struct mbl_arena a = {0};
    struct mbl_epoch figures;
    float losses[STEPS] = {0};
    make_parts();
    open_run(run, t, feed);
    keep_start(r, t->model);
    for (int step = 0; step < STEPS; step++) {
        if (t->position == 0 && mbl_trainer_begin_epoch(t, &error)) FAIL("%s", error.text);
        const struct mbl_piece *p = &t->pieces[t->position / ROWS];
        keep_step(r, t, step);
        if (mbl_trainer_step(t, &error)) FAIL("%s", error.text);
        const float *all = (const float *)t->arrays[MBL_LOSSES].data + p->at;
        for (int64_t i = 0; i < p->rows; i++) losses[step] += all[i] / (float)p->rows;
        if (t->position >= feed->rows && mbl_trainer_end_epoch(t, &figures, &error)) FAIL("%s", error.text);
    }
    if (getenv("MB_STEPS")) save_record(r, run, t->model, losses);
    const struct mbl_json *expected = recorded(run->name, &a);
    CHECK(getenv("MB_STEPS") || (expected && expected->count == STEPS));
    for (int step = 0; step < STEPS && expected; step++) {
        double e = mbl_json_number(expected->items[step]);
        CHECKF(fabs((double)losses[step] - e) <= 1e-4, "step %d: loss %.6f, in PyTorch %.6f", step, (double)losses[step], e);
    }
    mbl_arena_free(&r->arena);
    mbl_arena_free(&a);
}

TEST("40 steps have PyTorch's losses: matrix factorization of ratings") { check_run(&runs[0]); }
TEST("40 steps have PyTorch's losses: matrix factorization by bpr, gradients clipped") { check_run(&runs[1]); }
TEST("40 steps have PyTorch's losses: matrix factorization by in-batch softmax") { check_run(&runs[2]); }
TEST("40 steps have PyTorch's losses: two towers by in-batch softmax") { check_run(&runs[3]); }
TEST("40 steps have PyTorch's losses: two towers by bpr") { check_run(&runs[4]); }
