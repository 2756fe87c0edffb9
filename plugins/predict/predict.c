/* predict.c: the step `predict`: a model's answers to a part of a dataset, or to rows of tokens given by their ids.
 *
 * What comes out is `outputs`, float32: logits of each class, values in the target's own unit, embeddings, or, of a model that answers to
 * each token, the logits [rows, time, …]. The output's name says how it is written: ….json as nested lists, ….jsonl as what the answers
 * mean (lines.c), anything else as safetensors.
 */
#include "predict.h"
#include "lib/precision.h"

#include <stdlib.h>
#include <string.h>

#define MOST_TOKENS (INT64_C(1) << 30)

static void close_answers(struct answers *a) {
    free(a->outputs);
    mbl_model_free(a->model);
    if (a->k) mbk_close(a->k);
    mbl_arena_free(&a->arena);
}

static bool ends(const char *name, const char *with) {
    size_t n = strlen(name), m = strlen(with);
    return n >= m && !strcmp(name + n - m, with);
}

/* -- a dataset */

static int answer_data(struct answers *a, const char *path, int64_t batch, struct mbl_error *e) {
    struct mbl_feed feed = {0};
    void *out = NULL;
    int status = -1;
    if (!predict_open(a, path, &feed, e) &&
        !mbl_try_alloc(&out, (uint64_t)feed.rows * (uint64_t)a->model->outputs, sizeof(float), "the answers", e) &&
        !mbl_predict(a->model, &feed, 0, feed.rows, batch, out, e))
        status = 0;
    a->outputs = out;
    mbl_feed_close(&feed);
    return status;
}

/* -- ids */

struct rows_of_ids {
    int64_t rows, time;
    int32_t *ids, *types, *positions, *lengths; /* [rows, time], types and positions may be NULL; [rows] */
};

static int make_room(struct answers *a, struct rows_of_ids *x, int64_t rows, int64_t time, bool types, struct mbl_error *e) {
    if (rows < 1 || time < 1 || rows > MOST_TOKENS / time)
        return mbl_error_set(e, "%lld rows of %lld tokens; one of each is the least, and %lld tokens in all the most", (long long)rows,
                             (long long)time, (long long)MOST_TOKENS);
    size_t count = (size_t)(rows * time);
    *x = (struct rows_of_ids){.rows = rows, .time = time};
    x->ids = mbl_arena_alloc(&a->arena, count * sizeof *x->ids);
    x->types = types ? mbl_arena_alloc(&a->arena, count * sizeof *x->types) : NULL;
    x->lengths = mbl_arena_alloc(&a->arena, (size_t)rows * sizeof *x->lengths);
    return 0;
}

/* One list of a list of lists; `most`: what each may be. */
static int read_list(const struct mbl_json *lists, size_t r, const char *name, int64_t length, int64_t most, int32_t *out,
                     struct mbl_error *e) {
    const struct mbl_json *row = lists->items[r];
    if (row->type != MBL_JSON_LIST || (length >= 0 && row->count != (size_t)length))
        return mbl_error_set(e, "%s[%zu]: a list of %s expected", name, r + 1, length < 0 ? "ids" : "as many numbers as ids");
    for (size_t i = 0; i < row->count; i++) {
        double d = mbl_json_number(row->items[i]);
        if (!(d >= 0 && d < (double)most) || d != (double)(int64_t)d)
            return mbl_error_set(e, "%s[%zu][%zu]: a whole number from 0 to %lld expected", name, r + 1, i + 1, (long long)most - 1);
        out[i] = (int32_t)d;
    }
    return 0;
}

static int read_json(struct answers *a, const char *path, struct rows_of_ids *x, struct mbl_error *e) {
    struct mbl_json *root;
    if (mbl_json_read(path, &a->arena, &root, e)) return -1;
    const struct mbl_json *ids = root->type == MBL_JSON_TABLE ? mbl_json_get(root, "ids") : root;
    const struct mbl_json *types = root->type == MBL_JSON_TABLE ? mbl_json_get(root, "types") : NULL;
    if (!ids || ids->type != MBL_JSON_LIST || (types && (types->type != MBL_JSON_LIST || types->count != ids->count)))
        return mbl_error_set(e, "%s: { \"ids\": [[…], …], \"types\": [[…], …] } expected, types as many as ids or none", path);
    size_t time = 0;
    for (size_t r = 0; r < ids->count; r++)
        if (ids->items[r]->type == MBL_JSON_LIST && ids->items[r]->count > time) time = ids->items[r]->count;
    if (make_room(a, x, (int64_t)ids->count, (int64_t)time, types != NULL, e)) return mbl_error_wrap(e, "%s", path);
    for (size_t r = 0; r < ids->count; r++) {
        if (read_list(ids, r, "ids", -1, a->model->vocabulary, x->ids + r * time, e)) return mbl_error_wrap(e, "%s", path);
        x->lengths[r] = (int32_t)ids->items[r]->count;
        if (types && read_list(types, r, "types", x->lengths[r], INT32_MAX, x->types + r * time, e)) return mbl_error_wrap(e, "%s", path);
    }
    return 0;
}

static bool like(const struct mbl_tensor *t, int rank, const int64_t *shape) {
    bool same = t && t->type == MBL_I32 && t->rank == rank;
    for (int i = 0; same && i < rank; i++) same = t->shape[i] == shape[i];
    return same;
}

static int read_tensors(struct answers *a, const char *path, struct rows_of_ids *x, struct mbl_error *e) {
    struct mbl_safetensors file = {0};
    if (mbl_safetensors_open(path, &file, e)) return -1;
    const struct mbl_tensor *ids = mbl_safetensors_find(&file, "ids"), *types = mbl_safetensors_find(&file, "types"),
                            *lengths = mbl_safetensors_find(&file, "lengths");
    int status = -1;
    if (!ids || ids->type != MBL_I32 || ids->rank != 2 || (types && !like(types, 2, ids->shape)) ||
        (lengths && !like(lengths, 1, ids->shape)))
        mbl_error_set(e, "ids I32 [rows, time] expected, and perhaps types I32 [rows, time] and lengths I32 [rows]");
    else status = make_room(a, x, ids->shape[0], ids->shape[1], types != NULL, e);
    if (!status) {
        memcpy(x->ids, ids->data, ids->bytes);
        if (types) memcpy(x->types, types->data, types->bytes);
        for (int64_t r = 0; r < x->rows; r++) x->lengths[r] = (int32_t)x->time;
        if (lengths) memcpy(x->lengths, lengths->data, lengths->bytes);
    }
    mbl_safetensors_close(&file);
    return status ? mbl_error_wrap(e, "%s", path) : 0;
}

static int check_ids(const struct answers *a, const struct rows_of_ids *x, struct mbl_error *e) {
    int64_t kinds = a->model->text_types ? a->model->text_types : 1;
    for (int64_t r = 0; r < x->rows; r++)
        if (x->lengths[r] < 1 || x->lengths[r] > x->time)
            return mbl_error_set(e, "row %lld has %d tokens; from 1 to %lld expected", (long long)r + 1, x->lengths[r], (long long)x->time);
    for (int64_t i = 0; i < x->rows * x->time; i++) {
        if (x->ids[i] < 0 || x->ids[i] >= a->model->vocabulary)
            return mbl_error_set(e, "row %lld: the id %d is none of the model's, which are below %lld", (long long)(i / x->time) + 1,
                                 x->ids[i], (long long)a->model->vocabulary);
        if (x->types && (x->types[i] < 0 || x->types[i] >= kinds))
            return mbl_error_set(e, "row %lld: the type %d is none of the model's, which are below %lld", (long long)(i / x->time) + 1,
                                 x->types[i], (long long)kinds);
    }
    return 0;
}

static void count_positions(struct answers *a, struct rows_of_ids *x) {
    bool differ = false;
    if (!a->model->counts_positions) return;
    int32_t *positions = mbl_arena_alloc(&a->arena, (size_t)(x->rows * x->time) * sizeof *positions);
    for (int64_t r = 0; r < x->rows; r++) {
        differ |= mbl_count_positions(a->model, x->ids + r * x->time, x->lengths[r], positions + r * x->time);
        for (int64_t i = x->lengths[r]; i < x->time; i++) positions[r * x->time + i] = a->model->pad;
    }
    x->positions = differ ? positions : NULL;
}

/* A batch's views of device memory that holds up to `batch` rows. */
static int answer_batch(struct answers *a, const struct rows_of_ids *x, int64_t first, int64_t rows, void *const device[4],
                        struct mbl_error *e) {
    struct mbl_model *m = a->model;
    size_t tokens = (size_t)(rows * x->time), width = sizeof *x->ids;
    struct mbl_batch b = {.ids = mbk_tensor2(device[0], MBK_I32, rows, x->time), .lengths = mbk_tensor1(device[2], MBK_I32, rows)};
    if (x->types) b.types = mbk_tensor2(device[1], MBK_I32, rows, x->time);
    if (x->positions) b.positions = mbk_tensor2(device[3], MBK_I32, rows, x->time);
    struct mbk_tensor y;
    if (x->positions && mbk_write(m->k, device[3], x->positions + first * x->time, tokens * width))
        return mbl_kernel_failed(m->k, "writing positions", e);
    if (mbk_write(m->k, device[0], x->ids + first * x->time, tokens * width) ||
        (x->types && mbk_write(m->k, device[1], x->types + first * x->time, tokens * width)) ||
        mbk_write(m->k, device[2], x->lengths + first, (size_t)rows * width))
        return mbl_kernel_failed(m->k, "writing ids", e);
    if (m->architecture->forward(m, &b, &y, e)) return -1;
    int64_t each = (a->time ? a->time : 1) * m->outputs;
    if (mbk_read(m->k, a->outputs + first * each, y.data, mbk_bytes(&y))) return mbl_kernel_failed(m->k, "reading answers", e);
    return 0;
}

static int answer_ids(struct answers *a, const char *path, int64_t batch, struct mbl_error *e) {
    struct mbl_model *m = a->model;
    struct rows_of_ids x;
    void *block, *device[4] = {0};
    if (m->architecture->takes != MBL_TAKES_TOKENS) return mbl_error_set(e, "a %s takes no ids, but data", m->architecture->kind);
    if ((ends(path, ".json") ? read_json(a, path, &x, e) : read_tensors(a, path, &x, e)) || check_ids(a, &x, e)) return -1;
    count_positions(a, &x);
    a->rows = x.rows;
    a->time = mbl_problem_per_token(m->problem) ? x.time : 0;
    a->lengths = x.lengths;
    if (mbl_try_alloc(&block, (uint64_t)x.rows * (uint64_t)(a->time ? a->time : 1) * (uint64_t)m->outputs, sizeof(float), "the answers", e))
        return -1;
    a->outputs = block;
    if (batch > x.rows) batch = x.rows;
    int status = mbl_model_reserve(m, batch, x.time, false, e);
    for (int i = 0; i < 4 && !status; i++) {
        device[i] = mbk_alloc(m->k, (size_t)(batch * x.time) * sizeof(int32_t));
        if (!device[i]) status = mbl_error_set(e, "no memory for %lld rows of %lld tokens", (long long)batch, (long long)x.time);
    }
    for (int64_t r = 0; r < x.rows && !status; r += batch)
        status = answer_batch(a, &x, r, r + batch < x.rows ? batch : x.rows - r, device, e);
    for (int i = 0; i < 4; i++)
        if (device[i]) mbk_free(m->k, device[i]);
    if (!status && m->problem == MBL_VALUES)
        for (int64_t i = 0; i < x.rows; i++)
            a->outputs[i] = (float)(a->outputs[i] * m->schema.target_deviation + m->schema.target_mean);
    return status;
}

/* -- writing */

static struct mbl_json *numbers(struct mbl_arena *arena, const float *v, int64_t n) {
    struct mbl_json *list = mbl_json_list(arena);
    for (int64_t i = 0; i < n; i++) mbl_json_push(arena, list, mbl_json_float32(arena, v[i]));
    return list;
}

/* What padding says is left out. */
static int write_json(struct answers *a, const char *path, struct mbl_error *e) {
    struct mbl_arena *arena = &a->arena;
    struct mbl_json *root = mbl_json_table(arena), *rows = mbl_json_list(arena), *classes = mbl_json_list(arena);
    int64_t n = a->model->outputs;
    for (int64_t r = 0; r < a->rows; r++) {
        if (!a->time) {
            mbl_json_push(arena, rows, numbers(arena, a->outputs + r * n, n));
            continue;
        }
        struct mbl_json *row = mbl_json_list(arena);
        for (int64_t i = 0; i < a->lengths[r]; i++) mbl_json_push(arena, row, numbers(arena, a->outputs + (r * a->time + i) * n, n));
        mbl_json_push(arena, rows, row);
    }
    for (size_t i = 0; i < a->model->schema.class_count; i++)
        mbl_json_push(arena, classes, mbl_json_string(arena, a->model->schema.classes[i]));
    mbl_json_set(arena, root, "outputs", rows);
    mbl_json_set(arena, root, "problem_type", mbl_json_string(arena, mbl_problem_name(a->model->problem)));
    if (classes->count) mbl_json_set(arena, root, "classes", classes);
    return mbl_json_save(path, root, e);
}

static int write_tensors(struct answers *a, const char *path, struct mbl_error *e) {
    struct mbl_json *metadata = mbl_json_table(&a->arena);
    mbl_json_set(&a->arena, metadata, "problem_type", mbl_json_string(&a->arena, mbl_problem_name(a->model->problem)));
    struct mbl_tensor t[2] = {{.name = "outputs", .type = MBL_F32, .rank = a->time ? 3 : 2, .data = a->outputs},
                              {.name = "lengths", .type = MBL_I32, .rank = 1, .shape = {a->rows}, .data = a->lengths}};
    int d = 0;
    t[0].shape[d++] = a->rows;
    if (a->time) t[0].shape[d++] = a->time;
    t[0].shape[d] = a->model->outputs;
    return mbl_safetensors_save(path, t, a->lengths ? 2 : 1, metadata, e);
}

/* -- the step */

static int predict(const struct mb_host *host, struct mb_run *run, struct answers *a, struct mbl_error *e) {
    const char *data = host->input_path(run, "data", 0), *ids = host->input_path(run, "ids", 0);
    const char *to = host->output_path(run, "outputs", 0), *name = host->output_name(run, "outputs", 0);
    int64_t batch = host->param_int(run, "batch");
    if (mbl_model_load_on(host->device(run), host->cpus(run), host->input_path(run, "model", 0), &a->k, &a->model, e) ||
        (mbl_precision_is_narrow(host, run) && mbl_model_narrow(a->model, false, e)))
        return -1;
    if (a->model->problem == MBL_RANKING && (data || ids)) {
        enum predict_form form = ends(name, ".json") ? PREDICT_JSON : ends(name, ".jsonl") ? PREDICT_LINES : PREDICT_TENSORS;
        int status = predict_lists(host, run, a, form, to, e);
        host->metric(run, "rows", (double)a->rows);
        return status;
    }
    if (!data == !ids) return mbl_error_set(e, "either data or ids expected: what is the model to answer to?");
    if (data) {
        const enum mbl_problem problem = a->model->problem;
        if (problem == MBL_TOKEN_CLASSES && !ends(name, ".jsonl"))
            return mbl_error_set(e, "a model of %s answers to each word: to = \"build/….jsonl\" has these answers, a line a row",
                                 mbl_problem_name(problem));
        if (problem == MBL_NEXT_TOKEN || problem == MBL_MASKED_TOKEN)
            return mbl_error_set(e, "a model of %s answers to each token: give ids = … rather than data", mbl_problem_name(problem));
        if (ends(name, ".jsonl")) {
            int status = predict_lines(a, data, batch, to, e);
            host->metric(run, "rows", (double)a->rows);
            return status;
        }
    } else if (ends(name, ".jsonl")) {
        return mbl_error_set(e, "%s: lines of JSON are for data; answers to ids are logits, as .json or .safetensors", name);
    }
    if (data ? answer_data(a, data, batch, e) : answer_ids(a, ids, batch, e)) return -1;
    host->metric(run, "rows", (double)a->rows);
    return ends(name, ".json") ? write_json(a, to, e) : write_tensors(a, to, e);
}

static int run_predict(const struct mb_host *host, struct mb_run *run) {
    struct answers a = {0};
    struct mbl_error e;
    int status = predict(host, run, &a, &e);
    close_answers(&a);
    return status ? host->fail(run, "%s", e.text) : MB_OK;
}

static const struct mb_role roles[] = {
    {.name = "model", .flags = MB_INPUT | MB_FOLDER, .kind = "model", .help = "the model that answers"},
    {.name = "data", .flags = MB_INPUT | MB_OPTIONAL, .kind = "dataset", .help = "rows to answer to"},
    {.name = "ids", .flags = MB_INPUT | MB_OPTIONAL,
     .help = "or rows of tokens: JSON { \"ids\": [[…], …], \"types\" } or safetensors with ids, types, lengths; recommenders: JSON "
             "{ \"users\": [\"u1\", { \"id\": \"u9\", \"features\": { … } }] }, beside data or alone"},
    {.name = "outputs", .flags = MB_OUTPUT, .help = "the answers; numbers as JSON if its name ends in .json, what they mean, a line a row, if in .jsonl, else safetensors"},
    {0}};

static const char *const unknowns[] = {"popular", "fail", NULL};

static const struct mb_param params[] = {
    {.name = "batch", .type = MB_INT, .deflt = "32", .least = 1, .most = 1e7, .unit = "rows", .help = "how many rows at a time"},
    {.name = "k", .type = MB_INT, .deflt = "10", .least = 1, .most = 100000, .unit = "items", .help = "recommenders: items for each user"},
    {.name = "exclude_seen", .type = MB_BOOL, .deflt = "true",
     .help = "recommenders: leave out what a user is known, by the data, to have taken"},
    {.name = "unknown", .type = MB_ENUM, .choices = unknowns, .deflt = "\"popular\"",
     .help = "recommenders: a user whom the model can't tell anything of gets the most popular items, or fails the step"},
    MBL_PRECISION_PARAM,
    {0}};

static const struct mb_step steps[] = {
    {.name = "predict", .help = "a model's answers to data, or to tokens",
     .flags = MB_DETERMINISTIC | MB_GPU_MAY | MB_DEVICE_MATTERS | MB_REENTRANT,
     .roles = roles, .params = params, .run = run_predict},
    {0}};

static const struct mb_plugin plugin = {MB_PLUGIN_HEAD, .name = "predict", .version = "1.0", .help = "answers of models", .steps = steps};
MB_PLUGIN(plugin);
