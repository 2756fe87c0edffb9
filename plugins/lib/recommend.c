/* recommend.c: scores, losses and gradients of recommenders; see recommend.h. */
#include "recommend.h"

#include <stdlib.h>
#include <string.h>

#define AT_ONCE 1024 /* entities whose vectors are computed together */
#define AT_ONCE_LEAST 32
#define MOST_NEGATIVES 1000

static const char *const loss_names[] = {"mse", "bpr", "softmax"}; /* as enum mbl_pair_loss */

struct mbl_towers *mbl_towers_of(struct mbl_model *m) {
    return m->state;
}

bool mbl_towers_knows(const struct mbl_model *m, enum mbl_side side, int64_t index) {
    const struct mbl_towers *t = m->state;
    return index >= 0 && (index < m->catalogue->side[side].trained || t->cold[side]);
}

/* -- the config */

int mbl_config_flag(struct mbl_model *m, const struct mbl_json *config, const char *key, bool otherwise, bool *out, struct mbl_error *e) {
    const struct mbl_json *v = mbl_json_get(config, key);
    if (v && v->type != MBL_JSON_BOOL) return mbl_error_set(e, "%s: true or false expected", key);
    *out = v ? v->boolean : otherwise;
    mbl_json_set(&m->arena, m->config, key, mbl_json_bool(&m->arena, *out));
    return 0;
}

int mbl_pairing_problem(struct mbl_model *m, const struct mbl_json *config, struct mbl_error *e) {
    const char *kind = m->architecture->kind, *loss = mbl_json_get_string(config, "loss");
    bool rated = mbl_json_get_string(m->schema.json, "rating") != NULL, ranks = m->architecture->usual == MBL_RANKING;
    struct mbl_pairing *p = &m->pairing;
    int i = 0;
    if (!loss) loss = ranks ? "softmax" : rated ? "mse" : "bpr";
    while (i < 3 && strcmp(loss_names[i], loss)) i++;
    if (i == 3 || (i == MBL_LOSS_MSE && ranks))
        return mbl_error_set(e, "loss: one of %s expected for %s, found %.60s", ranks ? "softmax, bpr" : "mse, bpr, softmax", kind, loss);
    p->loss = (enum mbl_pair_loss)i;
    if (p->loss == MBL_LOSS_MSE && !rated)
        return mbl_error_set(e, "loss: mse learns ratings, and the data have none: give the dataset a rating = \"column\"");
    m->problem = p->loss == MBL_LOSS_MSE ? MBL_VALUES : MBL_RANKING;
    m->outputs = 1;
    return 0;
}

int mbl_pairing_configure(struct mbl_model *m, const struct mbl_json *config, double otherwise, struct mbl_error *e) {
    struct mbl_pairing *p = &m->pairing;
    struct mbl_towers *t = m->state;
    mbl_json_set(&m->arena, m->config, "loss", mbl_json_string(&m->arena, loss_names[p->loss]));
    t->bias[MBL_USERS] = t->bias[MBL_ITEMS] = MBL_TOWER_NONE;
    p->negatives = 0;
    p->temperature = 1;
    if (m->quantized) return mbl_error_set(e, "a %s is float32: it isn't quantized", m->architecture->kind);
    if (p->loss == MBL_LOSS_BPR && mbl_config_int(m, config, "negatives", 1, MOST_NEGATIVES, 1, &p->negatives, e)) return -1;
    if (p->loss != MBL_LOSS_MSE && mbl_config_float(m, config, "temperature", 1e-4, 1e4, otherwise, &p->temperature, e)) return -1;
    return p->loss == MBL_LOSS_SOFTMAX ? mbl_config_flag(m, config, "log_q", true, &p->log_q, e) : 0;
}

size_t mbl_towers_table(struct mbl_model *m, enum mbl_side side, const struct mbl_entities *s, const char *name, int64_t width,
                        float deviation) {
    const int64_t shape[2] = {s->trained + 1, width};
    size_t at = mbl_model_declare(m, mbl_arena_printf(&m->arena, "%s_%s.weight", mbl_side_name(side), name), MBK_F32, 2, shape);
    m->parameters[at].deviation = deviation;
    m->parameters[at].decays = width > 1;
    m->parameters[at].padded = true;
    return at;
}

/* -- memory */

static int64_t items_of(const struct mbl_model *m, int64_t rows) {
    return rows * (1 + m->pairing.negatives);
}

int64_t mbl_pairs_outputs(const struct mbl_model *m, int64_t rows) {
    return m->pairing.loss == MBL_LOSS_SOFTMAX ? rows * rows : items_of(m, rows);
}

void mbl_towers_release(struct mbl_model *m) {
    struct mbl_towers *t = m->state;
    if (!t) return;
    struct mbk_tensor *all[] = {&t->ones, &t->products, &t->spread, &t->scores, &t->biases, &t->dvectors[MBL_USERS],
                                &t->dvectors[MBL_ITEMS], &t->dbiases, &t->spare};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (all[i]->data) mbk_free(m->k, all[i]->data);
        all[i]->data = NULL;
    }
    t->room = 0;
    t->training = false;
}

int mbl_towers_reserve(struct mbl_model *m, int64_t rows, bool training, struct mbl_error *e) {
    struct mbl_towers *t = m->state;
    if (rows <= t->room && (t->training || !training)) return 0;
    if (rows < t->room) rows = t->room; /* only ever grows, as mbl_net_reserve has it */
    training |= t->training;
    mbl_towers_release(m);
    int64_t items = items_of(m, rows), outputs = mbl_pairs_outputs(m, rows), D = t->width;
    const struct {
        struct mbk_tensor *tensor, shape;
        bool wanted;
    } arrays[] = {
        {&t->ones, mbk_tensor2(NULL, MBK_F32, 1, D), true},
        {&t->products, mbk_tensor2(NULL, MBK_F32, rows, D), true},
        {&t->spread, mbk_tensor2(NULL, MBK_F32, rows, D), training},
        {&t->scores, mbk_tensor1(NULL, MBK_F32, outputs), true},
        {&t->biases, mbk_tensor1(NULL, MBK_F32, items), true},
        {&t->dvectors[MBL_USERS], mbk_tensor2(NULL, MBK_F32, rows, D), training},
        {&t->dvectors[MBL_ITEMS], mbk_tensor2(NULL, MBK_F32, items, D), training},
        {&t->dbiases, mbk_tensor1(NULL, MBK_F32, items), training},
        {&t->spare, mbk_tensor1(NULL, MBK_F32, 2 * rows), true},
    };
    if ((double)outputs * 4 > 1e15) return mbl_error_set(e, "a batch of %lld pairs is too large", (long long)rows);
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        if (!arrays[i].wanted) continue;
        *arrays[i].tensor = arrays[i].shape;
        arrays[i].tensor->data = mbk_alloc(m->k, mbk_bytes(arrays[i].tensor) + 1);
        if (!arrays[i].tensor->data)
            return mbl_error_set(e, "no memory for a batch of %lld pairs; make the batch smaller", (long long)rows);
    }
    float *one = mbl_alloc((size_t)D * sizeof *one);
    for (int64_t i = 0; i < D; i++) one[i] = 1;
    int status = mbk_write(m->k, t->ones.data, one, mbk_bytes(&t->ones)) ? mbl_kernel_failed(m->k, "a batch of pairs", e) : 0;
    free(one);
    if (status || t->reserve(m, MBL_USERS, rows, training, e) || t->reserve(m, MBL_ITEMS, items, training, e)) return -1;
    t->room = rows;
    t->training = training;
    return 0;
}

/* -- forward */

/* Data may be NULL, for what isn't wanted. */
static struct mbk_tensor flat(const struct mbk_tensor *t, int64_t first, int64_t count) {
    return mbk_tensor1(t->data ? (float *)t->data + first : NULL, MBK_F32, count);
}

static struct mbk_tensor column(const struct mbk_tensor *t, int64_t first, int64_t count) {
    return mbk_tensor2((float *)t->data + first, MBK_F32, count, 1);
}

static struct mbl_tower_call call_of(const struct mbl_batch *b, enum mbl_side side) {
    struct mbl_tower_call c = {.side = side, .indices = side == MBL_USERS ? b->users : b->items, .training = b->training, .seed = b->seed,
                               .rows = side == MBL_USERS ? b->user_rows : b->item_rows,
                               .offset = b->offset + (side == MBL_ITEMS ? MBL_DROPOUT_STRIDE / 2 : 0)};
    return c;
}

static int look_up_bias(struct mbl_model *m, enum mbl_side side, const struct mbk_tensor *rows, const struct mbk_tensor *to) {
    struct mbk_tensor y = column(to, 0, rows->shape[0]);
    return mbk_embedding(m->k, &m->parameters[mbl_towers_of(m)->bias[side]].value, rows, &y);
}

/* scores[j, r] = user r · item (j, r), over the temperature. */
static int score_pairs(struct mbl_model *m, const struct mbl_batch *b, int64_t rows) {
    struct mbl_towers *t = m->state;
    struct mbk_tensor products = mbk_rows(&t->products, 0, rows);
    int64_t items = b->item_rows.shape[0];
    for (int64_t at = 0; at < items; at += rows) {
        struct mbk_tensor v = mbk_rows(&t->vectors[MBL_ITEMS], at, rows), s = column(&t->scores, at, rows);
        if (mbk_multiply(m->k, &t->vectors[MBL_USERS], &v, &products) ||
            mbk_linear(m->k, &products, &t->ones, NULL, MBK_NONE, NULL, &s))
            return -1;
    }
    struct mbk_tensor all = flat(&t->scores, 0, items), biases = flat(&t->biases, 0, items), first = flat(&t->biases, 0, rows);
    if (m->pairing.temperature != 1 && mbk_scale(m->k, (float)(1 / m->pairing.temperature), &all)) return -1;
    if (t->bias[MBL_ITEMS] != MBL_TOWER_NONE &&
        (look_up_bias(m, MBL_ITEMS, &b->item_rows, &t->biases) || mbk_axpy(m->k, 1, &biases, &all)))
        return -1;
    if (t->bias[MBL_USERS] == MBL_TOWER_NONE) return 0; /* which only ratings have: one score a pair */
    return look_up_bias(m, MBL_USERS, &b->user_rows, &t->biases) || mbk_axpy(m->k, 1, &first, &all);
}

/* logits[r, c] = user r · item c, over the temperature, plus the item's bias, plus what the batch says of the two. */
static int score_all(struct mbl_model *m, const struct mbl_batch *b, int64_t rows) {
    struct mbl_towers *t = m->state;
    struct mbk_tensor logits = mbk_tensor2(t->scores.data, MBK_F32, rows, rows), biases = flat(&t->biases, 0, rows);
    bool biased = t->bias[MBL_ITEMS] != MBL_TOWER_NONE;
    if (biased && look_up_bias(m, MBL_ITEMS, &b->item_rows, &t->biases)) return -1;
    const struct mbk_product p = {.a = &t->vectors[MBL_USERS], .b = &t->vectors[MBL_ITEMS], .c = &logits, .transpose_b = 1,
                                  .alpha = (float)(1 / m->pairing.temperature), .bias = biased ? &biases : NULL, .residual = &b->adjust};
    return mbk_matmul(m->k, &p);
}

int mbl_towers_forward(struct mbl_model *m, const struct mbl_batch *b, struct mbk_tensor *outputs, struct mbl_error *e) {
    struct mbl_towers *t = m->state;
    int64_t rows = b->user_rows.shape[0];
    bool all = m->pairing.loss == MBL_LOSS_SOFTMAX;
    for (enum mbl_side side = MBL_USERS; side < MBL_SIDES; side++) {
        struct mbl_tower_call c = call_of(b, side);
        if (t->forward(m, &c, &t->vectors[side], e)) return -1;
    }
    if (all ? score_all(m, b, rows) : score_pairs(m, b, rows)) return mbl_kernel_failed(m->k, "scores", e);
    *outputs = all ? mbk_tensor2(t->scores.data, MBK_F32, rows, rows) : mbk_tensor2(t->scores.data, MBK_F32, b->item_rows.shape[0], 1);
    return 0;
}

/* -- backward */

static int pairs_backward(struct mbl_model *m, int64_t rows, int64_t items, const struct mbk_tensor *dscores, const struct mbk_tensor *du,
                          const struct mbk_tensor *dv) {
    struct mbl_towers *t = m->state;
    struct mbk_tensor products = mbk_rows(&t->products, 0, rows), spread = mbk_rows(&t->spread, 0, rows);
    for (int64_t at = 0; at < items; at += rows) {
        struct mbk_tensor g = column(dscores, at, rows), v = mbk_rows(&t->vectors[MBL_ITEMS], at, rows), dvj = mbk_rows(dv, at, rows);
        const struct mbk_tensor *to = at ? &products : du;
        const struct mbk_product p = {.a = &g, .b = &t->ones, .c = &spread, .alpha = (float)(1 / m->pairing.temperature)};
        if (mbk_matmul(m->k, &p) || mbk_multiply(m->k, &spread, &t->vectors[MBL_USERS], &dvj) || mbk_multiply(m->k, &spread, &v, to) ||
            (at && mbk_axpy(m->k, 1, &products, du)))
            return -1;
    }
    return 0;
}

static int all_backward(struct mbl_model *m, const struct mbk_tensor *dlogits, const struct mbk_tensor *du, const struct mbk_tensor *dv) {
    struct mbl_towers *t = m->state;
    float alpha = (float)(1 / m->pairing.temperature);
    const struct mbk_product user = {.a = dlogits, .b = &t->vectors[MBL_ITEMS], .c = du, .alpha = alpha},
                             item = {.a = dlogits, .b = &t->vectors[MBL_USERS], .c = dv, .alpha = alpha, .transpose_a = 1};
    return mbk_matmul(m->k, &user) || mbk_matmul(m->k, &item);
}

static int bias_backward(struct mbl_model *m, enum mbl_side side, const struct mbk_tensor *rows, const struct mbk_tensor *d) {
    size_t at = mbl_towers_of(m)->bias[side];
    struct mbk_tensor dy = column(d, 0, rows->shape[0]);
    return at == MBL_TOWER_NONE ? 0 : mbk_embedding_backward(m->k, rows, &dy, &m->parameters[at].gradient);
}

int mbl_towers_backward(struct mbl_model *m, const struct mbl_batch *b, const struct mbk_tensor *doutputs, struct mbl_error *e) {
    struct mbl_towers *t = m->state;
    struct mbk *k = m->k;
    int64_t rows = b->user_rows.shape[0], items = b->item_rows.shape[0];
    bool all = m->pairing.loss == MBL_LOSS_SOFTMAX;
    struct mbk_tensor du = mbk_rows(&t->dvectors[MBL_USERS], 0, rows), dv = mbk_rows(&t->dvectors[MBL_ITEMS], 0, items),
                      d = mbk_tensor2(doutputs->data, MBK_F32, rows, all ? rows : items / (rows ? rows : 1)),
                      sums = flat(&t->dbiases, 0, items);
    int failed = all ? all_backward(m, &d, &du, &dv) : pairs_backward(m, rows, items, doutputs, &du, &dv);
    if (!failed && all && t->bias[MBL_ITEMS] != MBL_TOWER_NONE) failed = mbk_zero(k, &sums) || mbk_sum_rows(k, &d, &sums);
    if (failed || bias_backward(m, MBL_ITEMS, &b->item_rows, all ? &sums : doutputs) ||
        bias_backward(m, MBL_USERS, &b->user_rows, doutputs))
        return mbl_kernel_failed(k, "gradients of scores", e);
    struct mbl_tower_call users = call_of(b, MBL_USERS), listed = call_of(b, MBL_ITEMS);
    return t->backward(m, &users, &du, e) || t->backward(m, &listed, &dv, e) ? -1 : 0;
}

/* -- losses */

int32_t mbl_pairs_label(const struct mbl_model *m, int64_t i) {
    return m->pairing.loss == MBL_LOSS_SOFTMAX ? (int32_t)i : 1;
}

/* The mean over the negatives of each; right is a row whose item beats the first of them. */
static int bpr_loss(struct mbl_model *m, const struct mbk_tensor *scores, int64_t rows, float scale, const struct mbk_tensor *losses,
                    const struct mbk_tensor *d, const struct mbk_tensor *predictions) {
    struct mbl_towers *t = m->state;
    struct mbk *k = m->k;
    int64_t n = m->pairing.negatives;
    struct mbk_tensor taken = flat(scores, 0, rows), other = flat(scores, rows, rows), spare = flat(&t->spare, 0, rows),
                      slope = flat(&t->spare, rows, rows), dtaken = flat(d, 0, rows);
    if (mbk_copy(k, &taken, &spare) || mbk_axpy(k, -1, &other, &spare) || mbk_activate(k, MBK_SIGMOID, &spare, &spare) ||
        mbk_cast(k, &spare, predictions)) /* σ above a half is rounded to 1 */
        return -1;
    for (int64_t j = 1; j <= n; j++) {
        bool first = j == 1;
        other = flat(scores, j * rows, rows);
        struct mbk_tensor dother = flat(d, j * rows, rows);
        if (mbk_bpr(k, &taken, &other, scale / (float)n, first ? losses : &spare, d->data ? first ? &dtaken : &slope : NULL,
                    d->data ? &dother : NULL) ||
            (!first && mbk_axpy(k, 1, &spare, losses)) || (!first && d->data && mbk_axpy(k, 1, &slope, &dtaken)))
            return -1;
    }
    return n > 1 ? mbk_scale(k, 1 / (float)n, losses) : 0;
}

int mbl_pairs_loss(struct mbl_model *m, const struct mbk_tensor *outputs, const struct mbk_tensor *labels, float scale,
                   const struct mbk_tensor *losses, const struct mbk_tensor *doutputs, const struct mbk_tensor *predictions,
                   struct mbl_error *e) {
    int64_t rows = losses->shape[0];
    int failed;
    if (m->pairing.loss == MBL_LOSS_SOFTMAX) {
        struct mbk_tensor d = *outputs;
        d.data = doutputs->data;
        failed = mbk_cross_entropy(m->k, outputs, labels, 0, scale, losses, d.data ? &d : NULL) || mbk_argmax(m->k, outputs, predictions);
    } else {
        failed = bpr_loss(m, outputs, rows, scale, losses, doutputs, predictions);
    }
    return failed ? mbl_kernel_failed(m->k, "the loss of pairs", e) : 0;
}

/* -- vectors for ranking */

static int embed_some(struct mbl_model *m, struct mbl_tower_call *c, float *vectors, float *biases, struct mbl_error *e) {
    struct mbl_towers *t = m->state;
    struct mbk_tensor y;
    int64_t n = c->rows.shape[0];
    if (t->forward(m, c, &y, e)) return -1;
    if (mbk_read(m->k, vectors, y.data, mbk_bytes(&y))) return mbl_kernel_failed(m->k, "vectors", e);
    for (int64_t i = 0; i < n; i++) biases[i] = 0;
    if (t->bias[c->side] == MBL_TOWER_NONE) return 0;
    struct mbk_tensor b = flat(&t->biases, 0, n);
    if (look_up_bias(m, c->side, &c->rows, &t->biases) || mbk_read(m->k, biases, b.data, mbk_bytes(&b)))
        return mbl_kernel_failed(m->k, "biases", e);
    return 0;
}

int mbl_towers_embed(struct mbl_model *m, enum mbl_side side, const int32_t *indices, int64_t count, float *vectors, float *biases,
                     struct mbl_error *e) {
    struct mbl_towers *t = m->state;
    int64_t most = AT_ONCE / (1 + m->pairing.negatives), trained = m->catalogue->side[side].trained; /* reserve has room for negatives */
    if (most < AT_ONCE_LEAST) most = AT_ONCE_LEAST;
    int64_t at_once = count < most ? count : most;
    size_t bytes = (size_t)at_once * sizeof(int32_t);
    if (!count) return 0;
    if (m->architecture->reserve(m, at_once, false, e)) return -1;
    void *device = mbk_alloc(m->k, 2 * bytes);
    int32_t *rows = mbl_alloc(bytes);
    int status = device ? 0 : mbl_error_set(e, "no memory for %lld indices", (long long)at_once);
    for (int64_t done = 0; done < count && !status; done += at_once) {
        int64_t n = count - done < at_once ? count - done : at_once;
        struct mbl_tower_call c = {
            .side = side, .indices = mbk_tensor1(device, MBK_I32, n), .rows = mbk_tensor1((char *)device + bytes, MBK_I32, n)};
        for (int64_t i = 0; i < n; i++) rows[i] = indices[done + i] < trained ? indices[done + i] + 1 : 0;
        if (mbk_write(m->k, c.indices.data, indices + done, (size_t)n * sizeof *rows) ||
            mbk_write(m->k, c.rows.data, rows, (size_t)n * sizeof *rows))
            status = mbl_kernel_failed(m->k, "indices", e);
        if (!status) status = embed_some(m, &c, vectors + done * t->width, biases + done, e);
    }
    if (device) mbk_free(m->k, device);
    free(rows);
    return status;
}
