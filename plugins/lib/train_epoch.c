/* train_epoch.c: what surrounds the steps of an epoch: the order of the rows, their labels, the figures, the best weights; see train.h. */
#include "metrics.h"
#include "recommend.h"
#include "train.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The first `bytes` of an array of all rows, to the device, or to all of them. */
static int bring(struct mbl_trainer *t, enum mbl_array array, const void *from, size_t bytes, struct mbl_error *e) {
    for (int i = 0; i <= t->stream_count; i++) {
        const struct mbl_trainer *m = mbl_trainer_member(t, i);
        if (mbk_write(m->model->k, m->arrays[array].data, from, bytes)) return mbl_kernel_failed(m->model->k, "an epoch's rows", e);
    }
    return 0;
}

static int bring_staged(struct mbl_trainer *t, enum mbl_array array, struct mbl_error *e) {
    return bring(t, array, t->staging, mbk_bytes(&t->arrays[array]), e);
}

/* Rows of `width` numbers in the epoch's order. */
static int arrange(struct mbl_trainer *t, const float *from, size_t width, enum mbl_array array, struct mbl_error *e) {
    for (int64_t i = 0; i < t->train->rows; i++)
        memcpy(t->staging + (size_t)i * width, from + (size_t)t->host_order[i] * width, width * sizeof *from);
    return bring_staged(t, array, e);
}

static int arrange_features(struct mbl_trainer *t, struct mbl_error *e) {
    const struct mbl_train_options *o = &t->options;
    const struct mbl_schema *s = &t->model->schema;
    size_t width = s->features;
    if (!o->shift && !o->mirror) return arrange(t, t->train->scaled, width, MBL_X, e);
    for (int64_t i = 0; i < t->train->rows; i++) {
        int64_t row = t->host_order[i];
        mbl_augment_row(o, s, t->epoch, row, t->train->data.features + (size_t)row * width, t->staging + (size_t)i * width);
    }
    return bring_staged(t, MBL_X, e);
}

static int arrange_weights(struct mbl_trainer *t, struct mbl_error *e) {
    size_t width = (size_t)t->model->outputs;
    int64_t n = t->train->rows;
    for (int64_t i = 0; i < n; i++)
        for (size_t c = 0; c < width; c++) t->staging[(size_t)i * width + c] = t->class_weights[t->host_labels[i]];
    if (bring_staged(t, MBL_WEIGHTS, e)) return -1;
    for (int64_t i = 0; i < n; i++) t->staging[i] = t->class_weights[t->host_labels[i]];
    return bring_staged(t, MBL_ROW_WEIGHTS, e);
}

/* Rows of about the same length side by side, but only where that spares padding. */
static void arrange_tokens(struct mbl_trainer *t) {
    struct mbl_tokens *x = &t->train->tokens;
    x->seed = mbl_seed_for(t->options.seed, MBL_FOR_MASKS);
    x->epoch = t->epoch;
    for (int i = 0; i < t->stream_count; i++) {
        t->others[i].train->tokens.seed = x->seed;
        t->others[i].train->tokens.epoch = x->epoch;
    }
    if (!t->per_token) mbl_tokens_bucket(x, mbl_seed_for(t->options.seed, MBL_FOR_BUCKETS), t->epoch, t->options.batch, t->host_order);
}

/* Where each piece's entries lie, and their labels. */
static void arrange_pieces(struct mbl_trainer *t) {
    const struct mbl_tokens *x = &t->train->tokens;
    t->used = 0;
    for (int64_t i = 0; i < t->piece_count; i++) {
        struct mbl_piece *p = &t->pieces[i];
        p->at = t->used;
        p->width = x->rows ? mbl_tokens_width(x, t->host_order, p->first, p->rows) : 1;
        p->entries = t->per_token ? p->rows * p->width : p->rows;
        p->counted = t->per_token ? mbl_tokens_labels(x, t->host_order, p->first, p->rows, p->width, t->host_labels + p->at) : p->rows;
        t->used += p->entries;
    }
}

int mbl_trainer_begin_epoch(struct mbl_trainer *t, struct mbl_error *e) {
    const struct mbl_feed *f = t->train;
    bool tokens = t->model->architecture->takes == MBL_TAKES_TOKENS, features = t->model->architecture->takes == MBL_TAKES_FEATURES;
    bool ranks = t->model->problem == MBL_RANKING;
    mbl_shuffle(t->options.seed, t->epoch, f->rows, t->host_order);
    if (tokens) arrange_tokens(t);
    t->train->pairs.seed = mbl_seed_for(t->options.seed, MBL_FOR_NEGATIVES);
    t->train->pairs.epoch = t->epoch;
    arrange_pieces(t);
    for (int64_t i = 0; i < f->rows && !t->per_token; i++) { /* a binary problem's targets are its labels as numbers */
        int64_t r = t->host_order[i];
        t->host_labels[i] = f->data.labels ? f->data.labels[r]
                            : ranks        ? mbl_pairs_label(t->model, i % t->options.batch % t->piece_rows)
                                           : 0;
        t->host_targets[i] = f->targets ? f->targets[r] : (float)t->host_labels[i];
    }
    t->gathered = t->position;
    if (bring(t, MBL_LABELS, t->host_labels, (size_t)t->used * sizeof *t->host_labels, e) ||
        (!t->per_token && bring(t, MBL_TARGETS, t->host_targets, mbk_bytes(&t->arrays[MBL_TARGETS]), e)) ||
        (features && arrange_features(t, e)) || (t->teacher && arrange(t, t->teacher, (size_t)t->model->outputs, MBL_SOFT, e)) ||
        (t->options.balanced && arrange_weights(t, e)))
        return -1;
    return 0;
}

/* Mean loss, and accuracy or R² (1 − squared error over the targets' spread; a number's loss is its squared error). */
static void judge(const struct mbl_trainer *t, struct mbl_epoch *out) {
    int64_t n = t->train->rows, counted = 0;
    double loss = 0, hits = 0, mean = 0, spread = 0;
    for (int64_t i = 0; i < t->piece_count; i++) counted += t->pieces[i].counted;
    for (int64_t i = 0; i < t->used; i++) loss += t->host_losses[i]; /* 0 where there is no label */
    for (int64_t i = 0; i < t->used; i++) hits += t->host_labels[i] != MBL_NO_LABEL && t->host_predictions[i] == t->host_labels[i];
    out->loss = loss / (double)(counted ? counted : 1);
    out->score = hits / (double)(counted ? counted : 1);
    if (t->model->problem != MBL_VALUES) return;
    for (int64_t i = 0; i < n; i++) mean += t->host_targets[i] / (double)n;
    for (int64_t i = 0; i < n; i++) spread += (t->host_targets[i] - mean) * (t->host_targets[i] - mean);
    out->score = spread > 0 ? 1 - loss / spread : 0;
}

int mbl_trainer_end_epoch(struct mbl_trainer *t, struct mbl_epoch *out, struct mbl_error *e) {
    struct mbk *k = t->model->k;
    const struct mbk_tensor *losses = &t->arrays[MBL_LOSSES], *predictions = &t->arrays[MBL_PREDICTIONS];
    if (mbl_group_gather(t, e)) return -1;
    if (mbk_read(k, t->host_losses, losses->data, mbk_bytes(losses)) ||
        mbk_read(k, t->host_predictions, predictions->data, mbk_bytes(predictions)))
        return mbl_kernel_failed(k, "an epoch's losses", e);
    judge(t, out);
    t->epoch++;
    t->position = 0;
    return 0;
}

static int validate_tokens(struct mbl_trainer *t, struct mbl_feed *f, struct mbl_epoch *out, struct mbl_error *e) {
    struct mbl_token_score sums;
    f->tokens.seed = mbl_seed_for(t->options.seed, MBL_FOR_MASKS); /* the same tokens each time, so that epochs can be compared */
    if (mbl_feed_judge(t->model, f, 0, f->rows, t->piece_rows, &sums, e)) return -1;
    double n = (double)(sums.tokens ? sums.tokens : 1);
    *out = (struct mbl_epoch){sums.loss / n, (double)sums.hits / n};
    return 0;
}

int mbl_trainer_validate(struct mbl_trainer *t, struct mbl_feed *f, struct mbl_epoch *out, struct mbl_error *e) {
    struct mbl_model *m = t->model;
    if (t->per_token) return validate_tokens(t, f, out, e);
    if (m->problem == MBL_RANKING) return mbl_trainer_validate_pairs(t, f, out, e);
    if (!t->answers || t->answer_rows < f->rows) {
        void *p;
        if (mbl_try_alloc(&p, (uint64_t)f->rows * (uint64_t)m->outputs, sizeof(float), "validation", e)) return -1;
        free(t->answers);
        t->answers = p;
        t->answer_rows = f->rows;
    }
    if (mbl_predict(m, f, 0, f->rows, t->piece_rows, t->answers, e)) return -1;
    mbl_score_brief(m->problem, m->schema.class_count, f->rows, t->answers, f->data.labels, f->data.targets, &out->loss, &out->score);
    if (m->problem == MBL_VALUES)
        out->loss /= m->schema.target_deviation * m->schema.target_deviation; /* in the unit of the training loss */
    return 0;
}

static int copy_block(struct mbl_trainer *t, void *from, void *to, struct mbl_error *e) {
    int64_t bytes = (int64_t)t->model->block_bytes;
    struct mbk_tensor a = mbk_tensor1(from, MBK_U8, bytes), b = mbk_tensor1(to, MBK_U8, bytes);
    return mbk_copy(t->model->k, &a, &b) ? mbl_kernel_failed(t->model->k, "the best weights", e) : 0;
}

int mbl_trainer_keep_best(struct mbl_trainer *t, struct mbl_error *e) {
    t->has_best = true;
    return copy_block(t, t->model->values, t->kept, e);
}

int mbl_trainer_restore_best(struct mbl_trainer *t, struct mbl_error *e) {
    if (!t->has_best) return 0;
    return copy_block(t, t->kept, t->model->values, e) ? -1 : mbl_model_refresh(t->model, e);
}
