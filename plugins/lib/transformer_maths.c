/* transformer_maths.c: the maths of encoders and decoders, forward beside backward, each on the kernels alone; see transformer.h. */
#include "transformer_quantized.h"

#include <stdlib.h>

/* Remembers what failed first; true if anything has. */
static bool failed(struct mbl_maths *t, const char *what, int status) {
    if (!t->failed && status) t->failed = what;
    return t->failed != NULL;
}

int mbl_maths_end(const struct mbl_maths *t) {
    if (!t->failed) return 0;
    return t->told ? -1 : mbl_kernel_failed(t->m->k, t->failed, t->e);
}

static const struct mbk_tensor *value(const struct mbl_maths *t, size_t i) {
    return &t->m->parameters[i].value;
}

/* What a product reads of a weight. */
static const struct mbk_tensor *factor(const struct mbl_maths *t, size_t i) {
    const struct mbl_parameter *p = &t->m->parameters[i];
    return p->copy.data ? &p->copy : &p->value;
}

/* -- linear layers. The columns of a part are reached by the rows' distance, so that nothing is copied out of c_attn. */

static void *element(const struct mbk_tensor *whole, int64_t i) {
    const struct mbk_tensor one = {.type = whole->type};
    return (char *)whole->data + (size_t)i * mbk_bytes(&one);
}

static struct mbk_tensor part_of_weight(const struct mbl_linear *l, const struct mbk_tensor *whole) {
    if (!l->across) return *whole;
    return mbk_tensor2(element(whole, l->first), whole->type, l->in, l->out);
}

static struct mbk_tensor part_of_bias(const struct mbl_linear *l, const struct mbk_tensor *whole) {
    if (!l->across) return *whole;
    return mbk_tensor1(element(whole, l->first), whole->type, l->out);
}

static void observe(struct mbl_maths *t, const struct mbl_linear *l, const struct mbk_tensor *x) {
    struct mbl_observer *o = t->m->observer;
    if (t->failed || !o) return;
    t->told = failed(t, "observing", o->input(o, t->m->k, t->m->parameters[l->weight].name, x, t->e));
}

static void multiply(struct mbl_maths *t, const struct mbl_linear *l, const struct mbk_tensor *x, int64_t stride, enum mbk_activation f,
                     const struct mbk_tensor *before, const struct mbk_tensor *residual, const struct mbk_tensor *y) {
    observe(t, l, x);
    if (t->failed) return;
    if (mbl_parameter_quantized(&t->m->parameters[l->weight])) {
        failed(t, t->m->parameters[l->weight].name, mbl_quantized_multiply(t->m, l, x, stride, f, residual, y));
        return;
    }
    struct mbk_tensor w = part_of_weight(l, factor(t, l->weight)), bias;
    if (l->biased) bias = part_of_bias(l, value(t, l->bias));
    failed(t, t->m->parameters[l->weight].name,
           mbk_matmul(t->m->k, &(struct mbk_product){.a = x, .b = &w, .c = y, .transpose_b = !l->across, .bias = l->biased ? &bias : NULL,
                                                     .activation = f, .before = before, .residual = residual, .lda = stride,
                                                     .ldb = l->across ? l->whole : 0}));
}

void mbl_linear(struct mbl_maths *t, const struct mbl_linear *l, const struct mbk_tensor *x, int64_t stride, enum mbk_activation f,
                const struct mbk_tensor *before, const struct mbk_tensor *y) {
    multiply(t, l, x, stride, f, before, NULL, y);
}

void mbl_linear_back(struct mbl_maths *t, const struct mbl_linear *l, const struct mbk_tensor *x, int64_t stride,
                     const struct mbk_tensor *dy, const struct mbk_tensor *dx, bool add) {
    if (t->failed) return;
    struct mbk *k = t->m->k;
    const char *name = t->m->parameters[l->weight].name;
    struct mbk_tensor w = part_of_weight(l, factor(t, l->weight)), dw = part_of_weight(l, &t->m->parameters[l->weight].gradient), dbias;
    const int64_t whole = l->across ? l->whole : 0;
    const float more = add ? 1 : 0;
    if (dx && failed(t, name,
                     mbk_matmul(k, &(struct mbk_product){.a = dy, .b = &w, .c = dx, .transpose_b = l->across, .alpha = 1, .beta = more,
                                                         .ldb = whole, .ldc = stride})))
        return;
    if (dw.data) {
        struct mbk_product p = {.a = l->across ? x : dy, .b = l->across ? dy : x, .c = &dw, .transpose_a = 1, .alpha = 1, .beta = 1,
                                .lda = l->across ? stride : 0, .ldb = l->across ? 0 : stride, .ldc = whole};
        if (failed(t, name, mbk_matmul(k, &p))) return;
    }
    if (!l->biased || !t->m->parameters[l->bias].gradient.data) return;
    dbias = part_of_bias(l, &t->m->parameters[l->bias].gradient);
    failed(t, name, mbk_sum_rows(k, dy, &dbias));
}

void mbl_tied(struct mbl_maths *t, size_t table, const size_t *bias, const struct mbk_tensor *x, const struct mbk_tensor *y) {
    struct mbl_linear l = {.weight = table, .bias = bias ? *bias : 0, .biased = bias != NULL};
    multiply(t, &l, x, 0, MBK_NONE, NULL, NULL, y);
}

void mbl_tied_back(struct mbl_maths *t, size_t table, const size_t *bias, const struct mbk_tensor *x, const struct mbk_tensor *dy,
                   const struct mbk_tensor *dx) {
    struct mbl_linear l = {.weight = table, .bias = bias ? *bias : 0, .biased = bias != NULL};
    mbl_linear_back(t, &l, x, 0, dy, dx, false);
}

/* -- dropout: each site has a key of its own, so its mask depends on nothing but the step */

static uint64_t key_of(const struct mbl_maths *t, int site) {
    return t->b->seed ^ ((uint64_t)site + 1) * UINT64_C(0x9E3779B97F4A7C15);
}

static bool drops(const struct mbl_maths *t, double rate) {
    return t->b->training && rate > 0;
}

void mbl_drop(struct mbl_maths *t, double rate, int site, const struct mbk_tensor *x) {
    if (t->failed || !drops(t, rate)) return;
    failed(t, "dropout", mbk_dropout(t->m->k, (float)rate, key_of(t, site), t->b->offset, x, x));
}

void mbl_join(struct mbl_maths *t, const struct mbl_linear *l, const struct mbk_tensor *x, double rate, int site,
              const struct mbk_tensor *residual, const struct mbk_tensor *y) {
    if (!drops(t, rate)) {
        multiply(t, l, x, 0, MBK_NONE, NULL, residual, y);
        return;
    }
    mbl_linear(t, l, x, 0, MBK_NONE, NULL, y);
    mbl_drop(t, rate, site, y);
    mbl_add(t, residual, y);
}

void mbl_join_back(struct mbl_maths *t, const struct mbl_linear *l, const struct mbk_tensor *x, double rate, int site,
                   const struct mbk_tensor *dy, const struct mbk_tensor *spare, const struct mbk_tensor *dx) {
    dy = mbl_as(t, dy, spare);
    if (!t->failed && drops(t, rate)) {
        failed(t, "dropout", mbk_dropout(t->m->k, (float)rate, key_of(t, site), t->b->offset, dy, spare));
        dy = spare;
    }
    mbl_linear_back(t, l, x, 0, dy, dx, false);
}

/* -- norms */

void mbl_norm_apply(struct mbl_maths *t, const struct mbl_norm *n, const struct mbk_tensor *x, const struct mbk_tensor *statistics,
                   const struct mbk_tensor *y) {
    if (t->failed) return;
    int64_t rows = x->shape[0];
    struct mbk_tensor mean = mbk_tensor1(statistics->data, MBK_F32, rows), rstd = mean;
    rstd.data = (float *)statistics->data + rows;
    const struct mbk_tensor *gamma = value(t, n->weight);
    failed(t, t->m->parameters[n->weight].name,
           n->centred ? mbk_layernorm(t->m->k, x, gamma, value(t, n->bias), n->eps, y, &mean, &rstd)
                      : mbk_rmsnorm(t->m->k, x, gamma, n->eps, y, &rstd));
}

void mbl_norm_back(struct mbl_maths *t, const struct mbl_norm *n, const struct mbk_tensor *x, const struct mbk_tensor *statistics,
                        const struct mbk_tensor *dy, const struct mbk_tensor *dx) {
    if (t->failed) return;
    int64_t rows = x->shape[0];
    struct mbk_tensor mean = mbk_tensor1(statistics->data, MBK_F32, rows), rstd = mean;
    rstd.data = (float *)statistics->data + rows;
    const struct mbl_parameter *gamma = &t->m->parameters[n->weight], *beta = n->centred ? &t->m->parameters[n->bias] : NULL;
    failed(t, gamma->name,
           n->centred
               ? mbk_layernorm_backward(t->m->k, x, &gamma->value, &mean, &rstd, dy, dx, &gamma->gradient, &beta->gradient)
               : mbk_rmsnorm_backward(t->m->k, x, &gamma->value, &rstd, dy, dx, &gamma->gradient));
}

/* -- elementwise */

const struct mbk_tensor *mbl_as(struct mbl_maths *t, const struct mbk_tensor *x, const struct mbk_tensor *room) {
    if (t->failed || x->type == room->type) return x;
    failed(t, "cast", mbk_cast(t->m->k, x, room));
    return room;
}

void mbl_activate_back(struct mbl_maths *t, enum mbk_activation f, const struct mbk_tensor *before, const struct mbk_tensor *dy) {
    if (t->failed) return;
    failed(t, "activation", mbk_activate_backward(t->m->k, f, before, dy, dy));
}

void mbl_add(struct mbl_maths *t, const struct mbk_tensor *x, const struct mbk_tensor *y) {
    if (t->failed) return;
    failed(t, "sum", mbk_add(t->m->k, y, x, y));
}

void mbl_multiply(struct mbl_maths *t, const struct mbk_tensor *a, const struct mbk_tensor *b, const struct mbk_tensor *c) {
    if (t->failed) return;
    failed(t, "product", mbk_multiply(t->m->k, a, b, c));
}

void mbl_zero(struct mbl_maths *t, const struct mbk_tensor *x) {
    if (t->failed) return;
    failed(t, "zeroes", mbk_zero(t->m->k, x));
}

/* 1 / length for each real token, 0 behind; a row of no tokens gives zeroes. */
static void fill_weights(float *w, const int32_t *lengths, int64_t rows, int64_t time) {
    for (int64_t r = 0; r < rows; r++) {
        int64_t n = lengths ? lengths[r] : time;
        for (int64_t i = 0; i < time; i++) w[r * time + i] = i < n ? 1 / (float)n : 0;
    }
}

void mbl_mean_rows(struct mbl_maths *t, const struct mbk_tensor *x, const struct mbk_tensor *weights, const struct mbk_tensor *y) {
    if (t->failed) return;
    int64_t rows = t->b->ids.shape[0], time = t->b->ids.shape[1];
    float *w = mbl_alloc(mbk_bytes(weights));
    int32_t *lengths = t->b->lengths.data ? mbl_alloc((size_t)rows * sizeof *lengths) : NULL;
    if (!lengths || !failed(t, "lengths", mbk_read(t->m->k, lengths, t->b->lengths.data, (size_t)rows * sizeof *lengths))) {
        fill_weights(w, lengths, rows, time);
        struct mbk_tensor tokens = mbk_tensor3(x->data, MBK_F32, rows, time, x->shape[1]),
                          mean = mbk_tensor3(y->data, MBK_F32, rows, 1, x->shape[1]);
        failed(t, "mean of tokens", mbk_write(t->m->k, weights->data, w, mbk_bytes(weights)) ||
               mbk_matmul(t->m->k, &(struct mbk_product){.a = weights, .b = &tokens, .c = &mean}));
    }
    free(lengths);
    free(w);
}

/* -- embeddings */

static struct mbk_tensor flat(const struct mbk_tensor *ids) {
    return mbk_tensor1(ids->data, MBK_I32, mbk_count(ids));
}

void mbl_embed(struct mbl_maths *t, size_t table, const struct mbk_tensor *ids, const struct mbk_tensor *x) {
    if (t->failed) return;
    struct mbk_tensor all = flat(ids);
    failed(t, t->m->parameters[table].name, mbk_embedding(t->m->k, value(t, table), &all, x));
}

void mbl_embed_back(struct mbl_maths *t, size_t table, const struct mbk_tensor *ids, const struct mbk_tensor *dx) {
    if (t->failed) return;
    struct mbk_tensor all = flat(ids);
    failed(t, t->m->parameters[table].name, mbk_embedding_backward(t->m->k, &all, dx, &t->m->parameters[table].gradient));
}

void mbl_add_row(struct mbl_maths *t, size_t table, const struct mbk_tensor *x) {
    if (t->failed) return;
    struct mbk_tensor row = mbk_tensor1(value(t, table)->data, MBK_F32, x->shape[1]);
    failed(t, t->m->parameters[table].name, mbk_add(t->m->k, x, &row, x));
}

void mbl_add_row_back(struct mbl_maths *t, size_t table, const struct mbk_tensor *dx) {
    if (t->failed) return;
    struct mbk_tensor row = mbk_tensor1(t->m->parameters[table].gradient.data, MBK_F32, dx->shape[1]);
    failed(t, t->m->parameters[table].name, mbk_sum_rows(t->m->k, dx, &row));
}

/* The table's first `time` rows are one long row, the same for each row of the batch. */
static struct mbk_tensor long_rows(const struct mbl_maths *t, const struct mbk_tensor *x) {
    int64_t rows = t->b->ids.shape[0], time = t->b->ids.shape[1];
    return mbk_tensor2(x->data, MBK_F32, rows, time * x->shape[1]);
}

void mbl_positions(struct mbl_maths *t, size_t table, int64_t start, const struct mbk_tensor *x) {
    if (t->failed) return;
    int64_t width = x->shape[1];
    struct mbk_tensor rows = long_rows(t, x),
                      row = mbk_tensor1((float *)value(t, table)->data + start * width, MBK_F32, t->b->ids.shape[1] * width);
    failed(t, t->m->parameters[table].name, mbk_add(t->m->k, &rows, &row, &rows));
}

void mbl_positions_back(struct mbl_maths *t, size_t table, int64_t start, const struct mbk_tensor *dx) {
    if (t->failed) return;
    const int64_t width = dx->shape[1];
    struct mbk_tensor rows = long_rows(t, dx),
                      row = mbk_tensor1((float *)t->m->parameters[table].gradient.data + start * width, MBK_F32, t->b->ids.shape[1] * width);
    failed(t, t->m->parameters[table].name, mbk_sum_rows(t->m->k, &rows, &row));
}

/* -- attention */

static struct mbk_tensor split(const struct mbl_maths *t, const struct mbk_tensor *x, int64_t heads, int64_t size) {
    int64_t rows = t->b->ids.shape[0];
    return mbk_tensor4(x->data, x->type, rows, x->shape[0] / rows, heads, size);
}

struct views {
    struct mbk_tensor q, k, v, out;
    struct mbk_attention a;
};

static void look(const struct mbl_maths *t, const struct mbl_heads *h, int site, const struct mbl_attended *y, struct views *x) {
    x->q = split(t, &y->q, h->heads, h->size);
    x->k = split(t, &y->k, h->groups, h->size);
    x->v = split(t, &y->v, h->groups, h->size);
    x->out = split(t, &y->out, h->heads, h->size);
    x->a = (struct mbk_attention){.q = &x->q, .keys = &x->k, .values = &x->v, .out = &x->out, .lse = &y->lse, .causal = h->causal,
                                  .lengths = t->b->lengths.data && !t->b->cache ? &t->b->lengths : NULL,
                                  .dropout = drops(t, h->dropout) ? (float)h->dropout : 0, .seed = key_of(t, site),
                                  .offset = t->b->offset};
}

/* In place; sign −1 is backward. */
static void rotate(struct mbl_maths *t, const struct mbl_heads *h, int64_t heads, int sign, const struct mbk_tensor *x) {
    if (t->failed || !(h->rotary.base > 0)) return;
    struct mbk_tensor view = split(t, x, heads, h->size);
    failed(t, "rotary positions", mbk_rope(t->m->k, &view, t->b->cache ? t->b->cache->used : 0, &h->rotary, sign));
}

void mbl_attend(struct mbl_maths *t, const struct mbl_heads *h, const struct mbl_attention *a, int64_t layer, int site,
                const struct mbk_tensor *x, const struct mbl_attended *y) {
    struct mbk_tensor k = y->k, v = y->v;
    struct mbl_attended seen = *y;
    struct views views;
    mbl_past_next(t, layer, &k, &v, &seen.k, &seen.v);
    mbl_linear(t, &a->query, x, 0, MBK_NONE, NULL, &y->q);
    mbl_linear(t, &a->key, x, 0, MBK_NONE, NULL, &k);
    mbl_linear(t, &a->value, x, 0, MBK_NONE, NULL, &v);
    rotate(t, h, h->heads, 1, &y->q);
    rotate(t, h, h->groups, 1, &k);
    if (t->failed) return;
    look(t, h, site, &seen, &views);
    failed(t, "attention", mbk_attend(t->m->k, &views.a));
}

void mbl_attend_back(struct mbl_maths *t, const struct mbl_heads *h, const struct mbl_attention *a, int site, const struct mbk_tensor *x,
                     const struct mbl_attended *y, const struct mbl_attended *dy, const struct mbk_tensor *dx, bool add) {
    if (t->failed) return;
    struct views views, d;
    look(t, h, site, y, &views);
    look(t, h, site, dy, &d);
    failed(t, "attention", mbk_attend_backward(t->m->k, &views.a, &d.out, &d.q, &d.k, &d.v));
    rotate(t, h, h->heads, -1, &dy->q);
    rotate(t, h, h->groups, -1, &dy->k);
    mbl_linear_back(t, &a->query, x, 0, &dy->q, dx, add);
    mbl_linear_back(t, &a->key, x, 0, &dy->k, dx, true);
    mbl_linear_back(t, &a->value, x, 0, &dy->v, dx, true);
}
