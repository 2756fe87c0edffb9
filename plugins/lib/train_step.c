/* train_step.c: one step of training: forward, loss, backward, optimizer, piece by piece; see train.h.
 *
 * What differs between steps of one shape is what the arrays hold and what mbk_vary has set. So where the device records, a piece's work is
 * recorded once a shape: train_record.c. Nothing here waits for the device: losses are read at the end of an epoch.
 */
#include "recommend.h"
#include "train.h"

static struct mbk_tensor shaped(const struct mbk_tensor *t, int64_t rows, int64_t width) {
    return mbk_tensor2(t->data, t->type, rows, width);
}

/* One piece: its entries of the epoch's arrays, or copies of them, and what goes into the model. Work that is recorded must not look at
 * `piece`, which is all that differs between pieces of one shape. */
struct work {
    const struct mbl_trainer *leader; /* who has the rows' order */
    struct mbl_trainer *trainer;
    const struct mbl_piece *piece;
    struct mbl_shape shape;
    struct mbl_batch batch;
    struct mbk_tensor of[MBL_ARRAYS], doutputs, mixed, spare;
};

/* Loss of a batch against labels or targets; doutputs is optional. Gradients come out times what mbk_vary has set. */
static int hard_loss(const struct work *w, const struct mbk_tensor *outputs, float smoothing) {
    const struct mbl_model *m = w->trainer->model;
    const struct mbk_tensor *losses = &w->of[MBL_LOSSES];
    struct mbk_tensor column = shaped(&w->of[MBL_TARGETS], outputs->shape[0], 1);
    switch (m->problem) {
    case MBL_BINARY: return mbk_bce_with_logits(m->k, outputs, &column, 1, losses, &w->doutputs);
    case MBL_VALUES: return mbk_mse(m->k, outputs, &column, 1, losses, &w->doutputs);
    default: return mbk_cross_entropy(m->k, outputs, &w->of[MBL_LABELS], smoothing, 1, losses, &w->doutputs);
    }
}

/* Two classes by one logit: alpha · T² · BCE(z/T, σ(teacher/T)) + (1 − alpha) · BCE(z, target). `soft` holds the teacher's logits; the
 * first term differs from the Kullback-Leibler divergence only by the teacher's own entropy, so its gradient is the same. */
static int binary_distillation(const struct work *w, const struct mbk_tensor *z) {
    struct mbk *k = w->trainer->model->k;
    float T = (float)w->trainer->options.temperature, alpha = (float)w->trainer->options.alpha;
    int64_t rows = z->shape[0];
    const struct mbk_tensor *soft = &w->of[MBL_SOFT], *losses = &w->of[MBL_LOSSES], *dz = &w->doutputs;
    struct mbk_tensor cool = shaped(&w->mixed, rows, 1), column = shaped(&w->of[MBL_TARGETS], rows, 1);
    struct mbk_tensor flat = mbk_tensor1(dz->data, MBK_F32, rows), gradient = mbk_tensor1(cool.data, MBK_F32, rows);
    /* The soft part first, into losses and dz; then the hard part on top of it. */
    if (mbk_copy(k, z, &cool) || mbk_scale(k, 1 / T, &cool) || mbk_scale(k, 1 / T, soft) || mbk_activate(k, MBK_SIGMOID, soft, soft) ||
        mbk_bce_with_logits(k, &cool, soft, alpha * T, losses, dz) || mbk_scale(k, alpha * T * T, losses))
        return -1;
    return mbk_bce_with_logits(k, z, &column, 1 - alpha, &w->spare, &cool) || mbk_axpy(k, 1 - alpha, &w->spare, losses) ||
           mbk_axpy(k, 1, &gradient, &flat);
}

/* Numbers: alpha · (z − teacher)² + (1 − alpha) · (z − target)² has the gradient of (z − mix)², mix = alpha · teacher + (1 − alpha) ·
 * target. The losses told are those against the target, so that R² means what it says. */
static int value_distillation(const struct work *w, const struct mbk_tensor *z) {
    struct mbk *k = w->trainer->model->k;
    float alpha = (float)w->trainer->options.alpha;
    const struct mbk_tensor *soft = &w->of[MBL_SOFT], *targets = &w->of[MBL_TARGETS], *losses = &w->of[MBL_LOSSES];
    struct mbk_tensor flat = mbk_tensor1(soft->data, MBK_F32, z->shape[0]), column = shaped(targets, z->shape[0], 1);
    if (mbk_scale(k, alpha, soft) || mbk_axpy(k, 1 - alpha, targets, &flat)) return -1;
    return mbk_mse(k, z, soft, 1, losses, &w->doutputs) || mbk_mse(k, z, &column, 1, losses, NULL);
}

static int piece_loss(const struct work *w, const struct mbk_tensor *outputs) {
    const struct mbl_trainer *t = w->trainer;
    if (!w->of[MBL_SOFT].data) return hard_loss(w, outputs, (float)t->options.label_smoothing);
    switch (t->model->problem) {
    case MBL_BINARY: return binary_distillation(w, outputs);
    case MBL_VALUES: return value_distillation(w, outputs);
    default:
        return mbk_distillation(t->model->k, outputs, &w->of[MBL_SOFT], &w->of[MBL_LABELS], (float)t->options.temperature,
                                (float)t->options.alpha, 1, &w->of[MBL_LOSSES], &w->doutputs);
    }
}

static int weigh_rows(const struct work *w) {
    struct mbk *k = w->trainer->model->k;
    return mbk_multiply(k, &w->doutputs, &w->of[MBL_WEIGHTS], &w->doutputs) ||
           mbk_multiply(k, &w->of[MBL_LOSSES], &w->of[MBL_ROW_WEIGHTS], &w->of[MBL_LOSSES]);
}

/* Which class each row is taken for; of one logit, the second where it is above 0: σ(z) rounded to even. */
static int predict_classes(const struct work *w, const struct mbk_tensor *outputs) {
    const struct mbl_model *m = w->trainer->model;
    if (m->problem == MBL_VALUES) return 0;
    if (m->problem != MBL_BINARY) return mbk_argmax(m->k, outputs, &w->of[MBL_PREDICTIONS]);
    struct mbk_tensor flat = mbk_tensor1(outputs->data, MBK_F32, outputs->shape[0]),
                      p = mbk_tensor1(w->mixed.data, MBK_F32, outputs->shape[0]);
    return mbk_activate(m->k, MBK_SIGMOID, &flat, &p) || mbk_cast(m->k, &p, &w->of[MBL_PREDICTIONS]);
}

/* The learning rate and the step's number are mbk_vary's. */
static int optimize(struct mbl_trainer *t) {
    struct mbk *k = t->model->k;
    const struct mbl_train_options *o = &t->options;
    const struct mbk_tensor *scale = o->clip > 0 ? &t->clip_scale : NULL;
    if (scale && mbk_gradient_norm(k, t->parameters, t->parameter_count, (float)o->clip, &t->norm, &t->clip_scale)) return -1;
    if (o->optimizer == MBL_SGD) {
        struct mbk_sgd sgd = {.lr = 1, .momentum = (float)o->momentum, .nesterov = o->nesterov, .gradient_scale = 1, .scale = scale};
        return mbk_sgd(k, &sgd, t->parameters, t->parameter_count);
    }
    struct mbk_adam adam = {.lr = 1, .beta1 = (float)o->beta1, .beta2 = (float)o->beta2, .eps = (float)o->epsilon,
                            .coupled = o->optimizer == MBL_ADAM, .step = 1, .gradient_scale = 1, .scale = scale};
    return mbk_adam(k, &adam, t->parameters, t->parameter_count);
}

/* All that a piece does on the device, and nothing else: it may be recorded. */
static int run_piece(void *context, struct mbl_error *e) {
    struct work *w = context;
    struct mbl_trainer *t = w->trainer;
    struct mbl_model *m = t->model;
    struct mbk *k = m->k;
    struct mbk_tensor outputs;
    if (w->shape.opens && mbk_zero_gradients(k, t->parameters, t->parameter_count)) return mbl_kernel_failed(k, "gradients", e);
    if (t->teacher_model) {
        struct mbl_batch asked = w->batch;
        asked.training = false;
        if (!t->teacher_model->counts_positions) asked.positions = (struct mbk_tensor){0}; /* they are as the student counts them */
        if (t->teacher_model->architecture->forward(t->teacher_model, &asked, &w->of[MBL_SOFT], e))
            return mbl_error_wrap(e, "the teacher");
    }
    if (m->architecture->forward(m, &w->batch, &outputs, e)) return -1;
    if (m->problem == MBL_RANKING) {
        if (mbl_pairs_loss(m, &outputs, &w->of[MBL_LABELS], 1, &w->of[MBL_LOSSES], &t->doutputs, &w->of[MBL_PREDICTIONS], e) ||
            m->architecture->backward(m, &w->batch, &t->doutputs, e))
            return -1;
        return w->shape.closes && optimize(t) ? mbl_kernel_failed(k, "optimizer", e) : 0;
    }
    if (piece_loss(w, &outputs)) return mbl_kernel_failed(k, "loss", e);
    if (t->options.balanced && weigh_rows(w)) return mbl_kernel_failed(k, "class weights", e);
    if (predict_classes(w, &outputs)) return mbl_kernel_failed(k, "predictions", e);
    if (m->architecture->backward(m, &w->batch, &w->doutputs, e)) return -1;
    return w->shape.closes && optimize(t) ? mbl_kernel_failed(k, "optimizer", e) : 0;
}

static bool by_entry(int array) {
    return array == MBL_LABELS || array == MBL_LOSSES || array == MBL_PREDICTIONS;
}

static struct mbk_tensor entries_of(const struct mbl_trainer *t, const struct mbl_piece *p, int array) {
    return by_entry(array) ? mbk_rows(&t->arrays[array], p->at, p->entries) : mbk_rows(&t->arrays[array], p->first, p->rows);
}

/* Views of the epoch's arrays, or copies of what they hold for the piece where addresses must stay. */
static int open_work(struct work *w, struct mbl_error *e) {
    struct mbl_trainer *t = w->trainer;
    const struct mbl_piece *p = w->piece;
    struct mbk *k = t->model->k;
    for (int i = 0; i < MBL_ARRAYS; i++) {
        if (!t->arrays[i].data) continue;
        w->of[i] = entries_of(t, p, i);
        if (!t->records) continue;
        struct mbk_tensor from = w->of[i];
        w->of[i].data = t->fixed[i].data;
        if (i != MBL_LOSSES && i != MBL_PREDICTIONS && mbk_copy(k, &from, &w->of[i])) return mbl_kernel_failed(k, "a batch", e);
    }
    if (t->model->problem != MBL_RANKING) w->doutputs = mbk_rows(&t->doutputs, 0, p->entries);
    if (t->mixed.data) w->mixed = mbk_rows(&t->mixed, 0, p->rows);
    if (t->spare.data) w->spare = mbk_rows(&t->spare, 0, p->rows);
    w->batch = (struct mbl_batch){.training = true, .seed = mbl_seed_for(t->options.seed, MBL_FOR_DROPOUT), .x = w->of[MBL_X]};
    if (t->model->architecture->takes == MBL_TAKES_FEATURES) return 0;
    return mbl_feed_batch(t->train, w->leader->host_order, p->first, p->rows, &w->batch, e);
}

static int close_work(const struct work *w, struct mbl_error *e) {
    const struct mbl_trainer *t = w->trainer;
    struct mbk *k = t->model->k;
    struct mbk_tensor losses = entries_of(t, w->piece, MBL_LOSSES), predictions = entries_of(t, w->piece, MBL_PREDICTIONS);
    if (!t->records) return 0;
    return mbk_copy(k, &w->of[MBL_LOSSES], &losses) || mbk_copy(k, &w->of[MBL_PREDICTIONS], &predictions) ? mbl_kernel_failed(k, "a batch", e)
                                                                                                        : 0;
}

/* A member's pieces among first … end - 1: each in its turn, so that as many as there can be are done at the same time. */
static int do_pieces(struct mbl_trainer *t, int rank, int64_t first, int64_t end, struct mbk_varying v, struct mbl_error *e) {
    struct mbl_trainer *m = mbl_trainer_member(t, rank);
    int64_t ranks = t->stream_count + 1, own = first + rank;
    for (int64_t i = own; i < end; i += ranks) {
        const struct mbl_piece *p = &t->pieces[i];
        struct work w = {.leader = t, .trainer = m, .piece = p, .shape = {.rows = p->rows, .width = p->width, .opens = i == own}};
        w.shape.closes = ranks == 1 && i == end - 1;
        v.offset = ((uint64_t)t->step * (uint64_t)t->pieces_per_step + (uint64_t)(i - first)) * MBL_DROPOUT_STRIDE;
        if (mbk_vary(m->model->k, &v)) return mbl_kernel_failed(m->model->k, "a step's numbers", e);
        if (open_work(&w, e) || mbl_trainer_work(m, &w.shape, run_piece, &w, e) || close_work(&w, e)) return -1;
    }
    if (own < end) return 0;
    /* None was left of a short batch: it adds nothing, and updates as the others do. */
    if (mbk_vary(m->model->k, &v) || mbk_zero_gradients(m->model->k, m->parameters, m->parameter_count))
        return mbl_kernel_failed(m->model->k, "gradients", e);
    return 0;
}

int mbl_trainer_step(struct mbl_trainer *t, struct mbl_error *e) {
    int64_t first = t->position / t->options.batch * t->pieces_per_step, end = first + t->pieces_per_step, counted = 0, rows = 0;
    if (end > t->piece_count) end = t->piece_count;
    for (int64_t i = first; i < end; i++) {
        counted += t->pieces[i].counted;
        rows += t->pieces[i].rows;
    }
    const struct mbk_varying v = {.step = t->step, .lr = (float)mbl_learning_rate(&t->options, t->step, t->steps_per_epoch),
                                  .scale = 1 / (float)(counted ? counted : 1)}; /* by chance nothing of a batch is masked */
    for (int rank = 0; rank <= t->stream_count; rank++)
        if (do_pieces(t, rank, first, end, v, e)) return -1;
    if (t->stream_count && mbl_group_sum(t, e)) return -1;
    for (int rank = 0; t->stream_count && rank <= t->stream_count; rank++) {
        struct mbl_trainer *m = mbl_trainer_member(t, rank);
        if (optimize(m)) return mbl_kernel_failed(m->model->k, "optimizer", e);
    }
    t->position += rows;
    t->step++;
    return 0;
}
