/* model_gpt2.c: the decoder of Radford et al. 2019: norms before each branch, learned positions, output tied to the embedding.
 *
 * Names, shapes and sizes are those of Hugging Face's GPT2LMHeadModel; linear weights lie across, [in, out], as its Conv1D has them.
 */
#include "hf.h"
#include "model_architectures.h"
#include "transformer.h"

#include <math.h>

struct layer {
    struct mbl_norm norm1, norm2;
    struct mbl_attention attention;
    struct mbl_linear join, widen, narrow;
    struct {
        struct mbl_attended attended;
        struct mbk_tensor statistics1, n1, x1, statistics2, n2, before, wide, out;
    } kept;                      /* of the batch */
};

struct gpt2 {
    int64_t width, layers, inner;
    struct mbl_heads heads;
    enum mbk_activation f;
    double dropout, embedding_dropout;
    size_t words, positions;
    struct mbl_norm norm;
    struct layer *layer;
    /* of the batch */
    struct mbl_workspace space;
    struct mbk_tensor x0, statistics, normed, outputs;
    struct mbk_tensor d[3], spare, dwide;
    struct mbl_attended dattended;
};

/* -- config and parameters */

static int read_config(struct mbl_model *m, struct gpt2 *s, double *eps, double *deviation, struct mbl_error *e) {
    const struct mbl_json *c = m->config, *inner = mbl_json_get(c, "n_inner");
    if (mbl_config_only(m, "scale_attn_weights", "true", e) || mbl_config_only(m, "scale_attn_by_inverse_layer_idx", "false", e) ||
        mbl_config_only(m, "add_cross_attention", "false", e) || mbl_config_only(m, "tie_word_embeddings", "true", e) ||
        mbl_config_int(m, c, "vocab_size", 1, INT32_MAX, 50257, &m->vocabulary, e) ||
        mbl_config_int(m, c, "n_embd", 1, MBL_WIDEST, 768, &s->width, e) ||
        mbl_config_int(m, c, "n_layer", 0, MBL_MOST_LAYERS, 12, &s->layers, e) ||
        mbl_config_int(m, c, "n_head", 1, MBL_WIDEST, 12, &s->heads.heads, e) ||
        mbl_config_int(m, c, "n_positions", 1, INT32_MAX, 1024, &m->longest, e) ||
        mbl_config_float(m, c, "resid_pdrop", 0, 0.95, 0.1, &s->dropout, e) ||
        mbl_config_float(m, c, "embd_pdrop", 0, 0.95, 0.1, &s->embedding_dropout, e) ||
        mbl_config_float(m, c, "attn_pdrop", 0, 0.95, 0.1, &s->heads.dropout, e) ||
        mbl_config_float(m, c, "layer_norm_epsilon", 0, 1, 1e-5, eps, e) ||
        mbl_config_float(m, c, "initializer_range", 0, 10, 0.02, deviation, e) ||
        mbl_config_act(m, "activation_function", "gelu_new", &s->f, e))
        return -1;
    s->inner = 4 * s->width;
    if (inner && inner->type != MBL_JSON_NULL && mbl_config_int(m, c, "n_inner", 1, MBL_WIDEST * 4, 0, &s->inner, e)) return -1;
    if (s->width % s->heads.heads)
        return mbl_error_set(e, "n_embd %lld is no multiple of the %lld heads", (long long)s->width, (long long)s->heads.heads);
    s->heads.groups = s->heads.heads;
    s->heads.size = s->width / s->heads.heads;
    s->heads.causal = true;
    return 0;
}

static void declare_layer(struct mbl_model *m, struct gpt2 *s, struct layer *l, const char *name, double eps, float deviation) {
    struct mbl_arena *a = &m->arena;
    const int64_t C = s->width;
    const float last = deviation / sqrtf(2 * (float)s->layers); /* of what adds to the residual */
    l->norm1 = mbl_norm_declare(m, mbl_arena_printf(a, "%s.ln_1", name), C, true, eps);
    struct mbl_linear all = mbl_linear_declare_across(m, mbl_arena_printf(a, "%s.attn.c_attn", name), C, 3 * C, deviation);
    l->attention.query = mbl_linear_part(&all, 0, C);
    l->attention.key = mbl_linear_part(&all, C, C);
    l->attention.value = mbl_linear_part(&all, 2 * C, C);
    l->join = mbl_linear_declare_across(m, mbl_arena_printf(a, "%s.attn.c_proj", name), C, C, last);
    l->norm2 = mbl_norm_declare(m, mbl_arena_printf(a, "%s.ln_2", name), C, true, eps);
    l->widen = mbl_linear_declare_across(m, mbl_arena_printf(a, "%s.mlp.c_fc", name), C, s->inner, deviation);
    l->narrow = mbl_linear_declare_across(m, mbl_arena_printf(a, "%s.mlp.c_proj", name), s->inner, C, last);
}

static int configure(struct mbl_model *m, const struct mbl_json *config, struct mbl_error *e) {
    (void)config; /* m->config is a copy of it */
    struct gpt2 *s = mbl_arena_alloc(&m->arena, sizeof *s);
    double eps, initial;
    m->state = s;
    if (m->problem != MBL_NEXT_TOKEN) return mbl_error_set(e, "a gpt2 cannot learn the problem %s", mbl_problem_name(m->problem));
    if (read_config(m, s, &eps, &initial, e)) return -1;
    const float deviation = (float)initial;
    s->words = mbl_table_declare(m, "transformer.wte", m->vocabulary, s->width, deviation);
    mbl_table_tie(m, s->words);
    s->positions = mbl_table_declare(m, "transformer.wpe", m->longest, s->width, deviation);
    s->layer = mbl_arena_alloc(&m->arena, (size_t)(s->layers + 1) * sizeof *s->layer);
    for (int64_t i = 0; i < s->layers; i++)
        declare_layer(m, s, &s->layer[i], mbl_arena_printf(&m->arena, "transformer.h.%lld", (long long)i), eps, deviation);
    s->norm = mbl_norm_declare(m, "transformer.ln_f", s->width, true, eps);
    m->outputs = m->vocabulary;
    m->cache_layers = s->layers;
    m->cache_width = s->width;
    return 0;
}

/* -- memory. Outside training all layers share one set of values. */

static void lay_out_layer(const struct gpt2 *s, struct layer *l, struct mbl_carver *c, enum mbk_type T, int64_t rows, int64_t time,
                          bool training) {
    const int64_t R = rows * time, C = s->width;
    l->kept.statistics1 = mbl_carve(c, MBK_F32, 2, R);
    l->kept.n1 = mbl_carve(c, T, R, C);
    l->kept.attended = mbl_carve_attended(c, T, &s->heads, rows, time);
    l->kept.x1 = mbl_carve(c, MBK_F32, R, C);
    l->kept.statistics2 = mbl_carve(c, MBK_F32, 2, R);
    l->kept.n2 = mbl_carve(c, T, R, C);
    l->kept.before = training ? mbl_carve(c, T, R, s->inner) : (struct mbk_tensor){0};
    l->kept.wide = mbl_carve(c, T, R, s->inner);
    l->kept.out = mbl_carve(c, MBK_F32, R, C);
}

static void lay_out(struct mbl_model *m, struct mbl_carver *c, int64_t rows, int64_t time, bool training, bool cached) {
    struct gpt2 *s = m->state;
    const enum mbk_type T = m->compute;
    const int64_t R = rows * time, C = s->width, answers = cached ? rows : R;
    s->x0 = mbl_carve(c, MBK_F32, R, C);
    for (int64_t i = 0; i < s->layers; i++) {
        if (training || !i) lay_out_layer(s, &s->layer[i], c, T, rows, time, training);
        else s->layer[i].kept = s->layer[0].kept;
    }
    s->statistics = mbl_carve(c, MBK_F32, 2, answers);
    s->normed = mbl_carve(c, T, answers, C);
    s->outputs = mbl_carve(c, mbl_model_output_type(m, training), answers, m->outputs);
    if (!training) return;
    for (int i = 0; i < 3; i++) s->d[i] = mbl_carve(c, MBK_F32, R, C);
    s->spare = mbl_carve_as(c, T, &s->d[2]);
    s->dwide = mbl_carve(c, T, R, s->inner);
    s->dattended = mbl_carve_attended(c, T, &s->heads, rows, time);
}

static int reserve_tokens(struct mbl_model *m, int64_t rows, int64_t time, bool training, struct mbl_error *e) {
    return mbl_workspace_prepare(m, &((struct gpt2 *)m->state)->space, lay_out, rows, time, training, false, e);
}

static void release(struct mbl_model *m) {
    if (m->state) mbl_workspace_release(m, &((struct gpt2 *)m->state)->space);
}

/* -- forward */

/* Dropout's sites: three to a layer, and one before. */
static int site(int64_t layer, int i) {
    return 1 + (int)layer * 3 + i;
}

static void forward_layer(struct mbl_maths *t, const struct gpt2 *s, const struct layer *l, int64_t i, const struct mbk_tensor *x) {
    mbl_norm_apply(t, &l->norm1, x, &l->kept.statistics1, &l->kept.n1);
    mbl_attend(t, &s->heads, &l->attention, i, site(i, 0), &l->kept.n1, &l->kept.attended);
    mbl_join(t, &l->join, &l->kept.attended.out, s->dropout, site(i, 1), x, &l->kept.x1);
    mbl_norm_apply(t, &l->norm2, &l->kept.x1, &l->kept.statistics2, &l->kept.n2);
    mbl_linear(t, &l->widen, &l->kept.n2, 0, s->f, t->b->training ? &l->kept.before : NULL, &l->kept.wide);
    mbl_join(t, &l->narrow, &l->kept.wide, s->dropout, site(i, 2), &l->kept.x1, &l->kept.out);
}

static const struct mbk_tensor *input_of(const struct gpt2 *s, int64_t layer) {
    return layer ? &s->layer[layer - 1].kept.out : &s->x0;
}

static int forward(struct mbl_model *m, const struct mbl_batch *b, struct mbk_tensor *outputs, struct mbl_error *e) {
    struct gpt2 *s = m->state;
    if (mbl_batch_check(m, b, e) ||
        mbl_workspace_prepare(m, &s->space, lay_out, b->ids.shape[0], b->ids.shape[1], b->training, b->cache != NULL, e))
        return -1;
    struct mbl_maths t = {.m = m, .b = b, .e = e};
    mbl_embed(&t, s->words, &b->ids, &s->x0);
    mbl_positions(&t, s->positions, b->cache ? b->cache->used : 0, &s->x0);
    mbl_drop(&t, s->embedding_dropout, 0, &s->x0);
    for (int64_t i = 0; i < s->layers; i++) forward_layer(&t, s, &s->layer[i], i, input_of(s, i));
    struct mbk_tensor x = mbl_past_done(&t, input_of(s, s->layers));
    mbl_norm_apply(&t, &s->norm, &x, &s->statistics, &s->normed);
    mbl_tied(&t, s->words, NULL, &s->normed, &s->outputs);
    *outputs = s->outputs;
    return mbl_maths_end(&t);
}

/* -- backward: forward, read upwards. d[0] is the gradient of the residual stream. */

static void backward_layer(struct mbl_maths *t, const struct gpt2 *s, const struct layer *l, int64_t i, const struct mbk_tensor *x) {
    const struct mbk_tensor *d = s->d;
    mbl_join_back(t, &l->narrow, &l->kept.wide, s->dropout, site(i, 2), &d[0], &s->spare, &s->dwide);
    mbl_activate_back(t, s->f, &l->kept.before, &s->dwide);
    mbl_linear_back(t, &l->widen, &l->kept.n2, 0, &s->dwide, &d[1], false);
    mbl_norm_back(t, &l->norm2, &l->kept.x1, &l->kept.statistics2, &d[1], &d[2]);
    mbl_add(t, &d[2], &d[0]);
    mbl_join_back(t, &l->join, &l->kept.attended.out, s->dropout, site(i, 1), &d[0], &s->spare, &s->dattended.out);
    mbl_attend_back(t, &s->heads, &l->attention, site(i, 0), &l->kept.n1, &l->kept.attended, &s->dattended, &d[1], false);
    mbl_norm_back(t, &l->norm1, x, &l->kept.statistics1, &d[1], &d[2]);
    mbl_add(t, &d[2], &d[0]);
}

static int backward(struct mbl_model *m, const struct mbl_batch *b, const struct mbk_tensor *doutputs, struct mbl_error *e) {
    struct gpt2 *s = m->state;
    struct mbl_maths t = {.m = m, .b = b, .e = e};
    mbl_tied_back(&t, s->words, NULL, &s->normed, doutputs, &s->d[1]);
    mbl_norm_back(&t, &s->norm, input_of(s, s->layers), &s->statistics, &s->d[1], &s->d[0]);
    for (int64_t i = s->layers; i-- > 0;) backward_layer(&t, s, &s->layer[i], i, input_of(s, i));
    mbl_drop(&t, s->embedding_dropout, 0, &s->d[0]);
    mbl_positions_back(&t, s->positions, 0, &s->d[0]);
    mbl_embed_back(&t, s->words, &b->ids, &s->d[0]);
    return mbl_maths_end(&t);
}

static const char *const fields[] = {"problem", "vocab_size", "n_embd", "n_layer", "n_head", "n_inner", "n_positions",
                                     "activation_function", "resid_pdrop", "embd_pdrop", "attn_pdrop", "layer_norm_epsilon",
                                     "initializer_range", "bos_token_id", "eos_token_id", "pad_token_id", NULL};

const struct mbl_architecture mbl_gpt2 = {.kind = "gpt2",
                                          .model_type = "gpt2",
                                          .class_name = "GPT2",
                                          .takes = MBL_TAKES_TOKENS,
                                          .usual = MBL_NEXT_TOKEN,
                                          .fields = fields,
                                          .configure = configure,
                                          .reserve_tokens = reserve_tokens,
                                          .forward = forward,
                                          .backward = backward,
                                          .release = release};
