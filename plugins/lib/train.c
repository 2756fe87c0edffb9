/* train.c: a trainer's memory, the learning rate and what chance decides; see train.h. Steps are train_step.c's, epochs train_epoch.c's. */
#include "recommend.h"
#include "train.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* -- chance */

uint64_t mbl_seed_for(uint64_t seed, enum mbl_purpose purpose) {
    uint32_t words[4];
    mbk_philox(seed, (uint64_t)purpose, words);
    return (uint64_t)words[0] << 32 | words[1];
}

void mbl_shuffle(uint64_t seed, int64_t epoch, int64_t n, int32_t *out) {
    uint64_t key = mbl_seed_for(seed, MBL_FOR_ORDER);
    for (int64_t i = 0; i < n; i++) out[i] = (int32_t)i;
    for (int64_t i = n - 1; i > 0; i--) {
        uint32_t words[4];
        mbk_philox(key, (uint64_t)epoch << 32 | (uint64_t)i, words);
        /* 64 random bits against fewer than 2^32 choices: the bias is below 2^-32. */
        int64_t k = (int64_t)(((uint64_t)words[0] << 32 | words[1]) % (uint64_t)(i + 1));
        int32_t other = out[k];
        out[k] = out[i];
        out[i] = other;
    }
}

double mbl_learning_rate(const struct mbl_train_options *o, int64_t step, int64_t steps_per_epoch) {
    double warm = floor(o->warmup * (double)steps_per_epoch), total = (double)(o->epochs * steps_per_epoch);
    if ((double)step < warm) return o->lr * (double)(step + 1) / warm;
    double done = total > warm ? ((double)step - warm) / (total - warm) : 1;
    switch (o->schedule) {
    case MBL_COSINE: return o->lr * (o->final + (1 - o->final) * (1 + cos(done * 3.14159265358979323846)) / 2);
    case MBL_LINEAR_DOWN: return o->lr * (1 - (1 - o->final) * done);
    case MBL_STEPWISE: return o->lr * pow(o->factor, (double)(step / steps_per_epoch / o->every));
    default: return o->lr;
    }
}

/* -- opening */

static int device_tensor(struct mbl_trainer *t, struct mbk_tensor *out, struct mbk_tensor shape, struct mbl_error *e) {
    *out = shape;
    out->data = mbk_alloc(t->model->k, mbk_bytes(out));
    return out->data ? 0 : mbl_error_set(e, "no memory for training (%zu bytes)", mbk_bytes(out));
}

/* Class weights are n / (classes · count): their mean over the rows is 1. */
static void balance_classes(struct mbl_trainer *t) {
    size_t classes = t->model->schema.class_count;
    int64_t *counts = mbl_alloc(classes * sizeof *counts);
    t->class_weights = mbl_alloc(classes * sizeof *t->class_weights);
    for (int64_t r = 0; r < t->train->rows; r++) counts[t->train->data.labels[r]]++;
    for (size_t c = 0; c < classes; c++)
        if (counts[c]) t->class_weights[c] = (float)((double)t->train->rows / ((double)classes * (double)counts[c]));
    free(counts);
}

static int open_parameters(struct mbl_trainer *t, struct mbl_error *e) {
    struct mbl_model *m = t->model;
    struct mbk *k = m->k;
    if (mbl_model_allocate_gradients(m, e)) return -1;
    t->moments = mbk_alloc(k, 2 * m->block_bytes);
    if (t->options.early_stop) t->kept = mbk_alloc(k, m->block_bytes);
    if (!t->moments || (t->options.early_stop && !t->kept))
        return mbl_error_set(e, "no memory for the optimizer's state (%zu bytes)", (t->options.early_stop ? 3 : 2) * m->block_bytes);
    t->parameters = mbl_alloc((m->parameter_count + 1) * sizeof *t->parameters);
    t->parameter_count = (int)m->parameter_count;
    for (size_t i = 0; i < m->parameter_count; i++) {
        const struct mbl_parameter *p = &m->parameters[i];
        struct mbk_parameter *o = &t->parameters[i];
        *o = (struct mbk_parameter){.value = p->value, .gradient = p->gradient, .first = p->value, .second = p->value};
        size_t offset = (size_t)((char *)p->value.data - (char *)m->values);
        if (p->copy.data) {
            o->value = p->copy;
            o->master = p->value;
        }
        o->first.data = (char *)t->moments + offset;
        o->second.data = (char *)t->moments + m->block_bytes + offset;
        o->decay = p->decays ? (float)t->options.weight_decay : 0;
    }
    return 0;
}

/* Those on the device. */
static int open_arrays(struct mbl_trainer *t, struct mbl_error *e) {
    int64_t n = t->train->rows, all = t->capacity, width = t->model->outputs, features = (int64_t)t->model->schema.features;
    int64_t piece = t->per_token ? t->piece_rows * t->train->tokens.longest : t->piece_rows;
    bool features_only = t->model->architecture->takes == MBL_TAKES_FEATURES, ranks = t->model->problem == MBL_RANKING;
    const struct {
        struct mbk_tensor *tensor, shape;
        bool wanted;
    } arrays[] = {
        {&t->arrays[MBL_X], mbk_tensor2(NULL, MBK_F32, n, features), features_only},
        {&t->arrays[MBL_LABELS], mbk_tensor1(NULL, MBK_I32, all), true},
        {&t->arrays[MBL_TARGETS], mbk_tensor1(NULL, MBK_F32, n), !t->per_token},
        {&t->arrays[MBL_LOSSES], mbk_tensor1(NULL, MBK_F32, all), true},
        {&t->arrays[MBL_PREDICTIONS], mbk_tensor1(NULL, MBK_I32, all), true},
        {&t->arrays[MBL_SOFT], mbk_tensor2(NULL, MBK_F32, n, width), t->teacher != NULL},
        {&t->arrays[MBL_WEIGHTS], mbk_tensor2(NULL, MBK_F32, n, width), t->options.balanced},
        {&t->arrays[MBL_ROW_WEIGHTS], mbk_tensor1(NULL, MBK_F32, n), t->options.balanced},
        {&t->doutputs,
         ranks ? mbk_tensor1(NULL, MBK_F32, mbl_pairs_outputs(t->model, piece))
               : mbk_tensor2(NULL, mbl_model_output_type(t->model, true), piece, width),
         true},
        {&t->mixed, mbk_tensor2(NULL, MBK_F32, piece, width), !t->per_token},
        {&t->spare, mbk_tensor1(NULL, MBK_F32, piece), t->teacher != NULL || ranks},
        {&t->judged, mbk_tensor1(NULL, MBK_I32, piece), ranks},
        {&t->norm, mbk_tensor(NULL, MBK_F32, 0, NULL), true},
        {&t->clip_scale, mbk_tensor(NULL, MBK_F32, 0, NULL), true},
    };
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        if (arrays[i].wanted && device_tensor(t, arrays[i].tensor, arrays[i].shape, e)) return -1;
    for (int i = 0; i < MBL_ARRAYS && t->records; i++) {
        struct mbk_tensor one = t->arrays[i];
        one.shape[0] = i == MBL_LABELS || i == MBL_LOSSES || i == MBL_PREDICTIONS ? piece : t->piece_rows;
        if (one.data && device_tensor(t, &t->fixed[i], one, e)) return -1;
    }
    return 0;
}

static int open_host(struct mbl_trainer *t, struct mbl_error *e) {
    int64_t n = t->train->rows, all = t->capacity, width = t->model->outputs, features = (int64_t)t->model->schema.features;
    bool features_only = t->model->architecture->takes == MBL_TAKES_FEATURES, ranks = t->model->problem == MBL_RANKING;
    if (t->options.balanced) balance_classes(t);
    int64_t staged = t->per_token ? 0 : ranks ? t->piece_rows : !features_only ? n * width : n * (features > width ? features : width);
    const struct {
        void *to;
        int64_t count;
    } host[] = {{&t->host_order, n}, {&t->host_labels, all}, {&t->host_predictions, all}, {&t->host_targets, t->per_token ? 0 : n},
                {&t->host_losses, all}, {&t->staging, staged}};
    for (size_t i = 0; i < sizeof host / sizeof *host; i++) {
        void *p;
        if (mbl_try_alloc(&p, (uint64_t)host[i].count, sizeof(float), "training", e)) return -1;
        memcpy(host[i].to, &p, sizeof p);
    }
    return 0;
}

/* Cuts an epoch into steps of `batch` rows, and these into pieces, as many for each device; which rows they are is for
 * mbl_trainer_begin_epoch to say. */
static void cut_pieces(struct mbl_trainer *t) {
    int64_t n = t->train->rows, batch = t->options.batch, pieces = t->options.accumulate * (1 + t->stream_count);
    t->steps_per_epoch = (n + batch - 1) / batch;
    t->piece_rows = (batch + pieces - 1) / pieces;
    t->pieces_per_step = (batch + t->piece_rows - 1) / t->piece_rows;
    t->pieces = mbl_alloc((size_t)(t->steps_per_epoch * t->pieces_per_step) * sizeof *t->pieces);
    for (int64_t step = 0; step < n; step += batch)
        for (int64_t first = step; first < n && first < step + batch; first += t->piece_rows) {
            int64_t end = step + batch < n ? step + batch : n;
            struct mbl_piece *p = &t->pieces[t->piece_count++];
            p->first = first;
            p->rows = first + t->piece_rows < end ? t->piece_rows : end - first;
        }
}

static int set_precision(struct mbl_trainer *t, struct mbl_error *e) {
    if (t->options.precision != MBK_BF16) return 0;
    if (t->teacher_model && !t->teacher_model->quantized && mbl_model_narrow(t->teacher_model, false, e)) return -1;
    return mbl_model_narrow(t->model, true, e);
}

static int open_member(struct mbl_trainer *t, struct mbl_error *e) {
    t->records = mbk_records(t->model->k);
    if (set_precision(t, e) || open_parameters(t, e) || open_arrays(t, e) || mbl_feed_reserve(t->train, t->piece_rows, e)) return -1;
    if (t->teacher_model && mbl_model_reserve(t->teacher_model, t->piece_rows, t->train->tokens.longest, false, e)) return -1;
    return mbl_model_reserve(t->model, t->piece_rows, t->train->tokens.longest, true, e);
}

int mbl_trainer_open(struct mbl_trainer *t, struct mbl_error *e) {
    int64_t n = t->train->rows;
    if (n > INT32_MAX) return mbl_error_set(e, "%lld rows: at most %d fit", (long long)n, INT32_MAX);
    if (t->options.batch > n) t->options.batch = n;
    if (t->options.accumulate < 1) t->options.accumulate = 1;
    t->per_token = mbl_problem_per_token(t->model->problem);
    t->capacity = t->per_token ? n * t->train->tokens.longest : n;
    cut_pieces(t);
    if (mbl_group_create(t, e) || open_host(t, e)) return -1;
    for (int i = 0; i <= t->stream_count; i++)
        if (open_member(mbl_trainer_member(t, i), e)) return -1;
    return 0;
}

void mbl_trainer_close(struct mbl_trainer *t) {
    if (!t->model) return;
    struct mbk *k = t->model->k;
    mbl_group_close(t);
    mbl_trainer_forget(t);
    (void)mbk_vary(k, NULL);
    void *device[] = {t->moments, t->kept, t->doutputs.data, t->mixed.data, t->spare.data, t->norm.data, t->clip_scale.data, t->judged.data};
    for (size_t i = 0; i < sizeof device / sizeof *device; i++)
        if (device[i]) mbk_free(k, device[i]);
    for (int i = 0; i < MBL_ARRAYS; i++) {
        if (t->arrays[i].data) mbk_free(k, t->arrays[i].data);
        if (t->fixed[i].data) mbk_free(k, t->fixed[i].data);
    }
    void *host[] = {t->parameters, t->host_order, t->host_labels, t->host_predictions, t->host_targets, t->host_losses, t->staging,
                    t->class_weights, t->answers, t->pieces, t->recordings};
    for (size_t i = 0; i < sizeof host / sizeof *host; i++) free(host[i]);
    memset(t, 0, sizeof *t);
}
