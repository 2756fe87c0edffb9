/* train_step.c: one step of training: forward, loss, backward, optimizer, piece by piece; see train.h. */
#include "train.h"

static struct mbk_tensor shaped(const struct mbk_tensor *t, int64_t rows, int64_t width) {
    return mbk_tensor2(t->data, t->type, rows, width);
}

/* Loss of a batch against labels or targets; doutputs is optional. `labels`, `targets`: views of the batch's rows. */
static int hard_loss(const struct mbl_model *m, const struct mbk_tensor *outputs, const struct mbk_tensor *labels,
                     const struct mbk_tensor *targets, float smoothing, float scale, const struct mbk_tensor *losses,
                     const struct mbk_tensor *doutputs) {
    struct mbk_tensor column = shaped(targets, outputs->shape[0], 1);
    switch (m->problem) {
    case MBL_BINARY: return mbk_bce_with_logits(m->k, outputs, &column, scale, losses, doutputs);
    case MBL_VALUES: return mbk_mse(m->k, outputs, &column, scale, losses, doutputs);
    default: return mbk_cross_entropy(m->k, outputs, labels, smoothing, scale, losses, doutputs);
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

/* A piece's entries out of the epoch's arrays. */
struct rows {
    struct mbk_tensor labels, targets, soft, losses, predictions, doutputs;
};

static int piece_loss(struct mbl_trainer *t, const struct mbk_tensor *outputs, struct rows *r, float scale) {
    struct mbl_model *m = t->model;
    if (!r->soft.data)
        return hard_loss(m, outputs, &r->labels, &r->targets, (float)t->options.label_smoothing, scale, &r->losses, &r->doutputs);
    switch (m->problem) {
    case MBL_BINARY: return binary_distillation(t, outputs, &r->soft, &r->targets, scale, &r->losses, &r->doutputs);
    case MBL_VALUES: return value_distillation(t, outputs, &r->soft, &r->targets, scale, &r->losses, &r->doutputs);
    default:
        return mbk_distillation(m->k, outputs, &r->soft, &r->labels, (float)t->options.temperature, (float)t->options.alpha, scale,
                                &r->losses, &r->doutputs);
    }
}

static int weigh_rows(struct mbl_trainer *t, const struct rows *r, const struct mbl_piece *p) {
    struct mbk_tensor weights = mbk_rows(&t->weights, p->first, p->rows), single = mbk_rows(&t->row_weights, p->first, p->rows);
    struct mbk *k = t->model->k;
    return mbk_multiply(k, &r->doutputs, &weights, &r->doutputs) || mbk_multiply(k, &r->losses, &single, &r->losses);
}

/* Which class each row is taken for; of one logit, the second where it is above 0: σ(z) rounded to even. */
static int predict_classes(struct mbl_model *m, const struct mbk_tensor *outputs, const struct mbk_tensor *scratch,
                           const struct mbk_tensor *out) {
    if (m->problem == MBL_VALUES) return 0;
    if (m->problem != MBL_BINARY) return mbk_argmax(m->k, outputs, out);
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

/* `offset`: of dropout. */
static int run_piece(struct mbl_trainer *t, const struct mbl_piece *p, float scale, uint64_t offset, struct mbl_error *e) {
    struct mbl_model *m = t->model;
    struct mbk *k = m->k;
    struct mbl_batch b = {.training = true, .seed = mbl_seed_for(t->options.seed, MBL_FOR_DROPOUT), .offset = offset}, asked;
    struct rows r = {.labels = mbk_rows(&t->labels, p->at, p->entries),
                     .losses = mbk_rows(&t->losses, p->at, p->entries),
                     .predictions = mbk_rows(&t->predictions, p->at, p->entries),
                     .doutputs = mbk_rows(&t->doutputs, 0, p->entries)};
    struct mbk_tensor scratch = {0}, outputs;
    if (m->architecture->takes != MBL_TAKES_TOKENS) b.x = mbk_rows(&t->x, p->first, p->rows);
    else if (mbl_feed_batch(t->train, t->host_order, p->first, p->rows, &b, e)) return -1;
    if (t->teacher) r.soft = mbk_rows(&t->soft, p->first, p->rows);
    if (t->teacher_model) {
        asked = b;
        asked.training = false;
        if (t->teacher_model->architecture->forward(t->teacher_model, &asked, &r.soft, e)) return mbl_error_wrap(e, "the teacher");
    }
    if (!t->per_token) {
        r.targets = mbk_rows(&t->targets, p->first, p->rows);
        scratch = mbk_rows(&t->mixed, 0, p->rows);
    }
    if (m->architecture->forward(m, &b, &outputs, e)) return -1;
    if (piece_loss(t, &outputs, &r, scale)) return mbl_kernel_failed(k, "loss", e);
    if (t->options.balanced && weigh_rows(t, &r, p)) return mbl_kernel_failed(k, "class weights", e);
    if (predict_classes(m, &outputs, &scratch, &r.predictions)) return mbl_kernel_failed(k, "predictions", e);
    return m->architecture->backward(m, &b, &r.doutputs, e);
}

int mbl_trainer_step(struct mbl_trainer *t, struct mbl_error *e) {
    struct mbk *k = t->model->k;
    int64_t first = t->position / t->options.batch * t->pieces_per_step, end = first + t->pieces_per_step, counted = 0, rows = 0;
    if (end > t->piece_count) end = t->piece_count;
    for (int64_t i = first; i < end; i++) {
        counted += t->pieces[i].counted;
        rows += t->pieces[i].rows;
    }
    if (mbk_zero_gradients(k, t->parameters, t->parameter_count)) return mbl_kernel_failed(k, "gradients", e);
    float scale = 1 / (float)(counted ? counted : 1); /* by chance nothing of a batch is masked */
    for (int64_t i = first; i < end; i++) {
        uint64_t offset = ((uint64_t)t->step * (uint64_t)t->pieces_per_step + (uint64_t)(i - first)) * MBL_DROPOUT_STRIDE;
        if (run_piece(t, &t->pieces[i], scale, offset, e)) return -1;
    }
    if (optimize(t, mbl_learning_rate(&t->options, t->step, t->steps_per_epoch))) return mbl_kernel_failed(k, "optimizer", e);
    t->position += rows;
    t->step++;
    return 0;
}
