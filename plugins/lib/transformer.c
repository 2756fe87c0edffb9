/* transformer.c: parameters and memory of encoders and decoders; see transformer.h. The maths are transformer_maths.c's. */
#include "transformer_quantized.h"

#include <string.h>

/* -- parameters */

static size_t declare(struct mbl_model *m, const char *name, const char *part, int64_t a, int64_t b, float deviation) {
    const int64_t shape[2] = {a, b};
    size_t i = mbl_model_declare(m, mbl_arena_printf(&m->arena, "%s.%s", name, part), MBK_F32, b ? 2 : 1, shape);
    m->parameters[i].deviation = deviation;
    m->parameters[i].decays = b != 0;
    return i;
}

struct mbl_linear mbl_linear_declare(struct mbl_model *m, const char *name, int64_t in, int64_t out, bool biased, float deviation) {
    struct mbl_linear l = {.biased = biased, .in = in, .out = out};
    if (!mbl_quantized_declare(m, name, out, in, &l.weight, &l.scales)) l.weight = declare(m, name, "weight", out, in, deviation);
    m->parameters[l.weight].multiplied = true;
    if (biased) l.bias = declare(m, name, "bias", out, 0, 0);
    return l;
}

struct mbl_linear mbl_linear_declare_across(struct mbl_model *m, const char *name, int64_t in, int64_t out, float deviation) {
    struct mbl_linear l = {.biased = true, .in = in, .out = out, .whole = out};
    l.across = !mbl_quantized_declare(m, name, out, in, &l.weight, &l.scales);
    if (l.across) l.weight = declare(m, name, "weight", in, out, deviation);
    m->parameters[l.weight].across = l.across;
    m->parameters[l.weight].multiplied = true;
    l.bias = declare(m, name, "bias", out, 0, 0);
    return l;
}

void mbl_linear_keep(struct mbl_model *m, const struct mbl_linear *l) {
    m->parameters[l->weight].multiplied = false;
}

struct mbl_linear mbl_linear_part(const struct mbl_linear *l, int64_t first, int64_t out) {
    struct mbl_linear part = *l;
    part.first = first;
    part.out = out;
    return part;
}

struct mbl_norm mbl_norm_declare(struct mbl_model *m, const char *name, int64_t width, bool centred, double eps) {
    struct mbl_norm n = {.centred = centred, .eps = (float)eps};
    n.weight = declare(m, name, "weight", width, 0, 0);
    m->parameters[n.weight].start = 1;
    if (centred) n.bias = declare(m, name, "bias", width, 0, 0);
    return n;
}

size_t mbl_table_declare(struct mbl_model *m, const char *name, int64_t rows, int64_t width, float deviation) {
    size_t weight;
    if (mbl_quantized_declare(m, name, rows, width, &weight, NULL)) return weight;
    return declare(m, name, "weight", rows, width, deviation);
}

void mbl_table_tie(struct mbl_model *m, size_t table) {
    m->parameters[table].multiplied = true;
}

/* -- config */

int mbl_config_act(struct mbl_model *m, const char *key, const char *otherwise, enum mbk_activation *out, struct mbl_error *e) {
    static const struct {
        const char *name; /* as transformers' ACT2FN has it */
        enum mbk_activation value;
    } known[] = {{"gelu", MBK_GELU}, {"gelu_new", MBK_GELU_TANH}, {"gelu_pytorch_tanh", MBK_GELU_TANH}, {"gelu_fast", MBK_GELU_TANH},
                 {"relu", MBK_RELU}, {"silu", MBK_SILU}, {"swish", MBK_SILU}, {"tanh", MBK_TANH}, {"sigmoid", MBK_SIGMOID}};
    const struct mbl_json *v = mbl_json_get(m->config, key);
    const char *name = v ? mbl_json_get_string(m->config, key) : otherwise;
    for (size_t i = 0; name && i < sizeof known / sizeof *known; i++) {
        if (strcmp(known[i].name, name)) continue;
        *out = known[i].value;
        mbl_json_set(&m->arena, m->config, key, mbl_json_string(&m->arena, name));
        return 0;
    }
    return mbl_error_set(e, "%s: one of gelu, gelu_new, gelu_pytorch_tanh, gelu_fast, relu, silu, swish, tanh, sigmoid expected%s%.60s",
                         key, name ? ", found " : "", name ? name : "");
}

int mbl_config_only(const struct mbl_model *m, const char *key, const char *fine, struct mbl_error *e) {
    const struct mbl_json *v = mbl_json_get(m->config, key);
    if (!v || v->type == MBL_JSON_NULL) return 0;
    struct mbl_buf text = {0};
    mbl_json_write(v, MBL_JSON_COMPACT, &text);
    int status = 0;
    if (strcmp(mbl_buf_str(&text), fine)) status = mbl_error_set(e, "%s is %.60s; this version knows but %s", key, mbl_buf_str(&text), fine);
    mbl_buf_free(&text);
    return status;
}

bool mbl_config_bool(const struct mbl_model *m, const char *key, bool otherwise) {
    return mbl_json_get_bool(m->config, key, otherwise);
}

/* -- memory */

struct mbk_tensor mbl_carve_shape(struct mbl_carver *c, enum mbk_type type, int rank, const int64_t *shape) {
    struct mbk_tensor t = mbk_tensor(c->block ? c->block + c->used : NULL, type, rank, shape);
    c->used += (mbk_bytes(&t) + 255) & ~(size_t)255;
    return t;
}

struct mbk_tensor mbl_carve(struct mbl_carver *c, enum mbk_type type, int64_t rows, int64_t columns) {
    return mbl_carve_shape(c, type, 2, (const int64_t[]){rows, columns});
}

struct mbk_tensor mbl_carve_as(struct mbl_carver *c, enum mbk_type type, const struct mbk_tensor *like) {
    return like->type == type ? *like : mbl_carve_shape(c, type, like->rank, like->shape);
}

struct mbl_attended mbl_carve_attended(struct mbl_carver *c, enum mbk_type type, const struct mbl_heads *h, int64_t rows, int64_t time) {
    const int64_t R = rows * time, Q = h->heads * h->size, K = h->groups * h->size;
    struct mbl_attended y;
    y.q = mbl_carve(c, type, R, Q);
    y.k = mbl_carve(c, type, R, K);
    y.v = mbl_carve(c, type, R, K);
    y.out = mbl_carve(c, type, R, Q);
    y.lse = mbl_carve_shape(c, MBK_F32, 3, (const int64_t[]){rows, h->heads, time});
    return y;
}

int mbl_workspace_prepare(struct mbl_model *m, struct mbl_workspace *w, mbl_layout *layout, int64_t rows, int64_t time, bool training,
                          bool cached, struct mbl_error *e) {
    if (w->laid_out && w->rows == rows && w->time == time && w->training == training && w->cached == cached && w->compute == m->compute)
        return 0;
    if ((double)rows * (double)time > 1e9)
        return mbl_error_set(e, "a batch of %lld rows of %lld tokens is too large", (long long)rows, (long long)time);
    struct mbl_carver c = {0};
    w->laid_out = false;
    layout(m, &c, rows, time, training, cached);
    if (c.used > w->bytes) {
        if (w->block) mbk_free(m->k, w->block);
        w->bytes = 0;
        w->block = mbk_alloc(m->k, c.used);
        if (!w->block)
            return mbl_error_set(e, "no memory for the layers of a batch of %lld rows of %lld tokens (%zu bytes); make the batch smaller",
                                 (long long)rows, (long long)time, c.used);
        w->bytes = c.used;
    }
    c = (struct mbl_carver){.block = w->block};
    layout(m, &c, rows, time, training, cached);
    w->rows = rows;
    w->time = time;
    w->compute = m->compute;
    w->training = training;
    w->cached = cached;
    w->laid_out = true;
    return 0;
}

void mbl_workspace_release(struct mbl_model *m, struct mbl_workspace *w) {
    if (w->block) mbk_free(m->k, w->block);
    *w = (struct mbl_workspace){0};
}

static bool like_ids(const struct mbk_tensor *t, const struct mbk_tensor *ids) {
    return t->type == MBK_I32 && t->rank == 2 && t->shape[0] == ids->shape[0] && t->shape[1] == ids->shape[1];
}

int mbl_batch_check(const struct mbl_model *m, const struct mbl_batch *b, struct mbl_error *e) {
    if (!b->ids.data || b->ids.type != MBK_I32 || b->ids.rank != 2 || b->ids.shape[0] < 1 || b->ids.shape[1] < 1)
        return mbl_error_set(e, "%s takes rows of tokens: ids I32 [rows, time], at least one of each", m->architecture->kind);
    int64_t time = b->ids.shape[1] + (b->cache ? b->cache->used : 0);
    if (time > m->longest)
        return mbl_error_set(e, "a row has %lld tokens, but the model has positions for %lld", (long long)time, (long long)m->longest);
    if (b->types.data && !like_ids(&b->types, &b->ids)) return mbl_error_set(e, "the tokens' types must be as many as the ids");
    if (b->lengths.data && (b->lengths.type != MBK_I32 || mbk_count(&b->lengths) != b->ids.shape[0]))
        return mbl_error_set(e, "there must be a length for each of the %lld rows", (long long)b->ids.shape[0]);
    if (b->cache && (b->ids.shape[0] != 1 || b->training || time > b->cache->room))
        return mbl_error_set(e, "a cache of %lld tokens is for one row at a time, outside training; found %lld rows and %lld tokens",
                             (long long)b->cache->room, (long long)b->ids.shape[0], (long long)time);
    return 0;
}

/* -- the cache */

static struct mbk_tensor cache_part(const struct mbl_past *c, int64_t layer, int value, int64_t first, int64_t count) {
    const struct mbk_tensor all = mbk_tensor2(c->block, c->type, c->layers * 2 * c->room, c->width);
    return mbk_rows(&all, (layer * 2 + value) * c->room + first, count);
}

void mbl_past_next(struct mbl_maths *t, int64_t layer, struct mbk_tensor *k, struct mbk_tensor *v, struct mbk_tensor *all_k,
                    struct mbk_tensor *all_v) {
    const struct mbl_past *c = t->b->cache;
    if (!c) return;
    int64_t more = t->b->ids.shape[1];
    *k = cache_part(c, layer, 0, c->used, more);
    *v = cache_part(c, layer, 1, c->used, more);
    *all_k = cache_part(c, layer, 0, 0, c->used + more);
    *all_v = cache_part(c, layer, 1, 0, c->used + more);
}

struct mbk_tensor mbl_past_done(struct mbl_maths *t, const struct mbk_tensor *x) {
    if (!t->b->cache) return *x;
    t->b->cache->used += x->shape[0];
    return mbk_rows(x, x->shape[0] - 1, 1);
}
