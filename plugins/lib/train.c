/* train.c: one step of training, and what surrounds an epoch; see train.h. */
#include "train.h"
#include "metrics.h"

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
    t->kept = mbk_alloc(k, m->block_bytes);
    if (!t->moments || !t->kept) return mbl_error_set(e, "no memory for the optimizer's state (%zu bytes)", 3 * m->block_bytes);
    t->parameters = mbl_alloc((m->parameter_count + 1) * sizeof *t->parameters);
    t->parameter_count = (int)m->parameter_count;
    for (size_t i = 0; i < m->parameter_count; i++) {
        const struct mbl_parameter *p = &m->parameters[i];
        struct mbk_parameter *o = &t->parameters[i];
        *o = (struct mbk_parameter){.value = p->value, .gradient = p->gradient, .first = p->value, .second = p->value};
        size_t offset = (size_t)((char *)p->value.data - (char *)m->values);
        o->first.data = (char *)t->moments + offset;
        o->second.data = (char *)t->moments + m->block_bytes + offset;
        o->decay = p->decays ? (float)t->options.weight_decay : 0;
    }
    return 0;
}

static int open_arrays(struct mbl_trainer *t, struct mbl_error *e) {
    int64_t n = t->train->rows, width = t->model->outputs, batch = t->options.batch, features = (int64_t)t->model->schema.features;
    const struct {
        struct mbk_tensor *tensor, shape;
        bool wanted;
    } arrays[] = {
        {&t->x, mbk_tensor2(NULL, MBK_F32, n, features), true},
        {&t->labels, mbk_tensor1(NULL, MBK_I32, n), true},
        {&t->targets, mbk_tensor1(NULL, MBK_F32, n), true},
        {&t->losses, mbk_tensor1(NULL, MBK_F32, n), true},
        {&t->predictions, mbk_tensor1(NULL, MBK_I32, n), true},
        {&t->soft, mbk_tensor2(NULL, MBK_F32, n, width), t->teacher != NULL},
        {&t->weights, mbk_tensor2(NULL, MBK_F32, n, width), t->options.balanced},
        {&t->row_weights, mbk_tensor1(NULL, MBK_F32, n), t->options.balanced},
        {&t->doutputs, mbk_tensor2(NULL, MBK_F32, batch, width), true},
        {&t->mixed, mbk_tensor2(NULL, MBK_F32, batch, width), true},
        {&t->spare, mbk_tensor1(NULL, MBK_F32, batch), t->teacher != NULL},
        {&t->norm, mbk_tensor(NULL, MBK_F32, 0, NULL), true},
        {&t->clip_scale, mbk_tensor(NULL, MBK_F32, 0, NULL), true},
    };
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        if (arrays[i].wanted && device_tensor(t, arrays[i].tensor, arrays[i].shape, e)) return -1;
    if (t->options.balanced) balance_classes(t);
    void *p[6] = {NULL};
    int status = 0;
    for (int i = 0; i < 6 && !status; i++)
        status = mbl_try_alloc(&p[i], (uint64_t)(i < 5 ? n : n * (features > width ? features : width)), sizeof(float), "training", e);
    t->host_order = p[0];
    t->host_labels = p[1];
    t->host_predictions = p[2];
    t->host_targets = p[3];
    t->host_losses = p[4];
    t->staging = p[5];
    return status;
}

int mbl_trainer_open(struct mbl_trainer *t, struct mbl_error *e) {
    int64_t n = t->train->rows;
    if (n > INT32_MAX) return mbl_error_set(e, "%lld rows: at most %d fit", (long long)n, INT32_MAX);
    if (t->options.batch > n) t->options.batch = n;
    t->steps_per_epoch = (n + t->options.batch - 1) / t->options.batch;
    if (open_parameters(t, e) || open_arrays(t, e)) return -1;
    return t->model->architecture->reserve(t->model, t->options.batch, true, e);
}

void mbl_trainer_close(struct mbl_trainer *t) {
    if (!t->model) return;
    struct mbk *k = t->model->k;
    void *device[] = {t->moments,       t->kept,         t->x.data,           t->labels.data, t->targets.data,
                      t->soft.data,     t->weights.data, t->row_weights.data, t->losses.data, t->predictions.data,
                      t->doutputs.data, t->mixed.data,   t->spare.data,       t->norm.data,   t->clip_scale.data};
    for (size_t i = 0; i < sizeof device / sizeof *device; i++)
        if (device[i]) mbk_free(k, device[i]);
    void *host[] = {t->parameters, t->host_order, t->host_labels, t->host_predictions, t->host_targets, t->host_losses, t->staging,
                    t->class_weights, t->answers};
    for (size_t i = 0; i < sizeof host / sizeof *host; i++) free(host[i]);
    memset(t, 0, sizeof *t);
}

/* -- one step */

static struct mbk_tensor shaped(const struct mbk_tensor *t, int64_t rows, int64_t width) {
    return mbk_tensor2(t->data, t->type, rows, width);
}

/* Loss of a batch against labels or targets; doutputs is optional. `labels`, `targets`: views of the batch's rows. */
static int hard_loss(const struct mbl_model *m, const struct mbk_tensor *outputs, const struct mbk_tensor *labels,
                     const struct mbk_tensor *targets, float smoothing, float scale, const struct mbk_tensor *losses,
                     const struct mbk_tensor *doutputs) {
    struct mbk_tensor column = shaped(targets, outputs->shape[0], 1);
    switch (m->problem) {
    case MBL_CLASSES: return mbk_cross_entropy(m->k, outputs, labels, smoothing, scale, losses, doutputs);
    case MBL_BINARY: return mbk_bce_with_logits(m->k, outputs, &column, scale, losses, doutputs);
    default: return mbk_mse(m->k, outputs, &column, scale, losses, doutputs);
    }
}

/* Two classes by one logit: alpha · T² · BCE(z/T, σ(teacher/T)) + (1 − alpha) · BCE(z, target). `soft` holds the teacher's logits; the
 * first term differs from the Kullback-Leibler divergence only by the teacher's own entropy, so its gradient is the same. */
static int binary_distillation(struct mbl_trainer *t, const struct mbk_tensor *z, struct mbk_tensor *soft, const struct mbk_tensor *targets,
                               float scale, const struct mbk_tensor *losses, const struct mbk_tensor *dz) {
    struct mbk *k = t->model->k;
    float T = (float)t->options.temperature, alpha = (float)t->options.alpha;
    int64_t rows = z->shape[0];
    struct mbk_tensor cool = shaped(&t->mixed, rows, 1), column = shaped(targets, rows, 1), other = mbk_rows(&t->spare, 0, rows);
    struct mbk_tensor flat = mbk_tensor1(dz->data, MBK_F32, rows), gradient = mbk_tensor1(cool.data, MBK_F32, rows);
    /* The soft part first, into losses and dz; then the hard part on top of it. */
    if (mbk_copy(k, z, &cool) || mbk_scale(k, 1 / T, &cool) || mbk_scale(k, 1 / T, soft) || mbk_activate(k, MBK_SIGMOID, soft, soft) ||
        mbk_bce_with_logits(k, &cool, soft, scale * alpha * T, losses, dz) || mbk_scale(k, alpha * T * T, losses))
        return -1;
    return mbk_bce_with_logits(k, z, &column, scale * (1 - alpha), &other, &cool) || mbk_axpy(k, 1 - alpha, &other, losses) ||
           mbk_axpy(k, 1, &gradient, &flat);
}

/* Numbers: alpha · (z − teacher)² + (1 − alpha) · (z − target)² has the gradient of (z − mix)², mix = alpha · teacher + (1 − alpha) ·
 * target. The losses told are those against the target, so that R² means what it says. */
static int value_distillation(struct mbl_trainer *t, const struct mbk_tensor *z, struct mbk_tensor *soft, const struct mbk_tensor *targets,
                              float scale, const struct mbk_tensor *losses, const struct mbk_tensor *dz) {
    struct mbk *k = t->model->k;
    float alpha = (float)t->options.alpha;
    struct mbk_tensor flat = mbk_tensor1(soft->data, MBK_F32, z->shape[0]), column = shaped(targets, z->shape[0], 1);
    if (mbk_scale(k, alpha, soft) || mbk_axpy(k, 1 - alpha, targets, &flat)) return -1;
    return mbk_mse(k, z, soft, scale, losses, dz) || mbk_mse(k, z, &column, scale, losses, NULL);
}

/* The rows of a batch out of the epoch's arrays. */
struct rows {
    struct mbk_tensor labels, targets, soft, losses, predictions, doutputs;
};

static int batch_loss(struct mbl_trainer *t, const struct mbk_tensor *outputs, struct rows *r) {
    struct mbl_model *m = t->model;
    float scale = 1 / (float)outputs->shape[0];
    if (!t->teacher)
        return hard_loss(m, outputs, &r->labels, &r->targets, (float)t->options.label_smoothing, scale, &r->losses, &r->doutputs);
    switch (m->problem) {
    case MBL_CLASSES:
        return mbk_distillation(m->k, outputs, &r->soft, &r->labels, (float)t->options.temperature, (float)t->options.alpha, scale,
                                &r->losses, &r->doutputs);
    case MBL_BINARY: return binary_distillation(t, outputs, &r->soft, &r->targets, scale, &r->losses, &r->doutputs);
    default: return value_distillation(t, outputs, &r->soft, &r->targets, scale, &r->losses, &r->doutputs);
    }
}

static int weigh_rows(struct mbl_trainer *t, const struct rows *r, int64_t first, int64_t rows) {
    struct mbk_tensor weights = mbk_rows(&t->weights, first, rows), single = mbk_rows(&t->row_weights, first, rows);
    struct mbk *k = t->model->k;
    return mbk_multiply(k, &r->doutputs, &weights, &r->doutputs) || mbk_multiply(k, &r->losses, &single, &r->losses);
}

/* Which class each row is taken for; of one logit, the second where it is above 0: σ(z) rounded to even. */
static int predict_classes(struct mbl_model *m, const struct mbk_tensor *outputs, const struct mbk_tensor *scratch,
                           const struct mbk_tensor *out) {
    if (m->problem == MBL_CLASSES) return mbk_argmax(m->k, outputs, out);
    if (m->problem != MBL_BINARY) return 0;
    struct mbk_tensor flat = mbk_tensor1(outputs->data, MBK_F32, outputs->shape[0]),
                      p = mbk_tensor1(scratch->data, MBK_F32, outputs->shape[0]);
    return mbk_activate(m->k, MBK_SIGMOID, &flat, &p) || mbk_cast(m->k, &p, out);
}

static int optimize(struct mbl_trainer *t, double lr) {
    struct mbk *k = t->model->k;
    const struct mbl_train_options *o = &t->options;
    const struct mbk_tensor *scale = o->clip > 0 ? &t->clip_scale : NULL;
    if (scale && mbk_gradient_norm(k, t->parameters, t->parameter_count, (float)o->clip, &t->norm, &t->clip_scale)) return -1;
    if (o->optimizer == MBL_SGD) {
        struct mbk_sgd sgd = {
            .lr = (float)lr, .momentum = (float)o->momentum, .nesterov = o->nesterov, .gradient_scale = 1, .scale = scale};
        return mbk_sgd(k, &sgd, t->parameters, t->parameter_count);
    }
    struct mbk_adam adam = {.lr = (float)lr, .beta1 = (float)o->beta1, .beta2 = (float)o->beta2, .eps = (float)o->epsilon,
                            .coupled = o->optimizer == MBL_ADAM, .step = t->step + 1, .gradient_scale = 1, .scale = scale};
    return mbk_adam(k, &adam, t->parameters, t->parameter_count);
}

int mbl_trainer_step(struct mbl_trainer *t, struct mbl_error *e) {
    struct mbl_model *m = t->model;
    struct mbk *k = m->k;
    int64_t first = t->position, left = t->train->rows - first, rows = left < t->options.batch ? left : t->options.batch;
    struct mbl_batch b = {.x = mbk_rows(&t->x, first, rows), .training = true, .seed = mbl_seed_for(t->options.seed, MBL_FOR_DROPOUT),
                          .offset = (uint64_t)t->step * MBL_DROPOUT_STRIDE};
    struct rows r = {.labels = mbk_rows(&t->labels, first, rows),
                     .targets = mbk_rows(&t->targets, first, rows),
                     .losses = mbk_rows(&t->losses, first, rows),
                     .predictions = mbk_rows(&t->predictions, first, rows),
                     .doutputs = mbk_rows(&t->doutputs, 0, rows)};
    struct mbk_tensor scratch = mbk_rows(&t->mixed, 0, rows), outputs;
    if (t->teacher) r.soft = mbk_rows(&t->soft, first, rows);
    if (mbk_zero_gradients(k, t->parameters, t->parameter_count)) return mbl_kernel_failed(k, "gradients", e);
    if (m->architecture->forward(m, &b, &outputs, e)) return -1;
    if (batch_loss(t, &outputs, &r)) return mbl_kernel_failed(k, "loss", e);
    if (t->options.balanced && weigh_rows(t, &r, first, rows)) return mbl_kernel_failed(k, "class weights", e);
    if (predict_classes(m, &outputs, &scratch, &r.predictions)) return mbl_kernel_failed(k, "predictions", e);
    if (m->architecture->backward(m, &b, &r.doutputs, e)) return -1;
    if (optimize(t, mbl_learning_rate(&t->options, t->step, t->steps_per_epoch))) return mbl_kernel_failed(k, "optimizer", e);
    t->position += rows;
    t->step++;
    return 0;
}

/* -- an epoch */

/* Rows of `width` numbers in the epoch's order, to the device. */
static int arrange(struct mbl_trainer *t, const float *from, size_t width, const struct mbk_tensor *to) {
    for (int64_t i = 0; i < t->train->rows; i++)
        memcpy(t->staging + (size_t)i * width, from + (size_t)t->host_order[i] * width, width * sizeof *from);
    return mbk_write(t->model->k, to->data, t->staging, mbk_bytes(to));
}

static int arrange_features(struct mbl_trainer *t) {
    const struct mbl_train_options *o = &t->options;
    const struct mbl_schema *s = &t->model->schema;
    size_t width = s->features;
    if (!o->shift && !o->mirror) return arrange(t, t->train->scaled, width, &t->x);
    for (int64_t i = 0; i < t->train->rows; i++) {
        int64_t row = t->host_order[i];
        mbl_augment_row(o, s, t->epoch, row, t->train->data.features + (size_t)row * width, t->staging + (size_t)i * width);
    }
    return mbk_write(t->model->k, t->x.data, t->staging, mbk_bytes(&t->x));
}

static int arrange_weights(struct mbl_trainer *t) {
    size_t width = (size_t)t->model->outputs;
    int64_t n = t->train->rows;
    for (int64_t i = 0; i < n; i++)
        for (size_t c = 0; c < width; c++) t->staging[(size_t)i * width + c] = t->class_weights[t->host_labels[i]];
    if (mbk_write(t->model->k, t->weights.data, t->staging, mbk_bytes(&t->weights))) return -1;
    for (int64_t i = 0; i < n; i++) t->staging[i] = t->class_weights[t->host_labels[i]];
    return mbk_write(t->model->k, t->row_weights.data, t->staging, mbk_bytes(&t->row_weights));
}

int mbl_trainer_begin_epoch(struct mbl_trainer *t, struct mbl_error *e) {
    struct mbk *k = t->model->k;
    const struct mbl_feed *f = t->train;
    mbl_shuffle(t->options.seed, t->epoch, f->rows, t->host_order);
    for (int64_t i = 0; i < f->rows; i++) { /* a binary problem's targets are its labels as numbers */
        int64_t r = t->host_order[i];
        t->host_labels[i] = f->data.labels ? f->data.labels[r] : 0;
        t->host_targets[i] = f->targets ? f->targets[r] : (float)t->host_labels[i];
    }
    if (mbk_write(k, t->labels.data, t->host_labels, mbk_bytes(&t->labels)) ||
        mbk_write(k, t->targets.data, t->host_targets, mbk_bytes(&t->targets)) || arrange_features(t) ||
        (t->teacher && arrange(t, t->teacher, (size_t)t->model->outputs, &t->soft)) || (t->options.balanced && arrange_weights(t)))
        return mbl_kernel_failed(k, "an epoch's rows", e);
    return 0;
}

/* Mean loss, and accuracy or R² (1 − squared error over the targets' spread; a number's loss is its squared error). */
static void judge(const struct mbl_trainer *t, struct mbl_epoch *out) {
    int64_t n = t->train->rows;
    double loss = 0, hits = 0, mean = 0, spread = 0;
    for (int64_t i = 0; i < n; i++) loss += t->host_losses[i];
    for (int64_t i = 0; i < n; i++) hits += t->host_predictions[i] == t->host_labels[i];
    for (int64_t i = 0; i < n; i++) mean += t->host_targets[i] / (double)n;
    for (int64_t i = 0; i < n; i++) spread += (t->host_targets[i] - mean) * (t->host_targets[i] - mean);
    out->loss = loss / (double)n;
    if (t->model->problem != MBL_VALUES) out->score = hits / (double)n;
    else out->score = spread > 0 ? 1 - loss / spread : 0;
}

int mbl_trainer_end_epoch(struct mbl_trainer *t, struct mbl_epoch *out, struct mbl_error *e) {
    struct mbk *k = t->model->k;
    if (mbk_read(k, t->host_losses, t->losses.data, mbk_bytes(&t->losses)) ||
        mbk_read(k, t->host_predictions, t->predictions.data, mbk_bytes(&t->predictions)))
        return mbl_kernel_failed(k, "an epoch's losses", e);
    judge(t, out);
    t->epoch++;
    t->position = 0;
    return 0;
}

int mbl_trainer_validate(struct mbl_trainer *t, const struct mbl_feed *f, struct mbl_epoch *out, struct mbl_error *e) {
    struct mbl_model *m = t->model;
    if (!t->answers || t->answer_rows < f->rows) {
        void *p;
        if (mbl_try_alloc(&p, (uint64_t)f->rows * (uint64_t)m->outputs, sizeof(float), "validation", e)) return -1;
        free(t->answers);
        t->answers = p;
        t->answer_rows = f->rows;
    }
    if (mbl_predict(m, f, 0, f->rows, t->options.batch, t->answers, e)) return -1;
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
    return t->has_best ? copy_block(t, t->kept, t->model->values, e) : 0;
}
