/* model_llama.c: the decoder of Touvron et al. 2023: RMS norms, rotary positions, a gated SiLU, heads that share keys in groups.
 *
 * Names, shapes and sizes are those of Hugging Face's LlamaForCausalLM, and of Mistral's and Qwen2's, which are the same but for biases and
 * a window of keys. Rows are no longer than the window, within which it makes no difference.
 */
#include "hf.h"
#include "model_architectures.h"
#include "transformer.h"

#include <math.h>
#include <string.h>

/* In what its relatives differ. */
struct habits {
    const struct mbl_architecture *architecture;
    bool qkv_bias;               /* queries, keys and values have biases, whatever attention_bias says */
    bool says_bias;              /* attention_bias and mlp_bias are heeded */
    const char *window;          /* config.json: how many keys a query sees; NULL: all */
    const char *window_switch;   /* and whether it does; NULL: where there is a window */
    int64_t usual_window;
};
static const struct habits habits[] = {{&mbl_llama, false, true, NULL, NULL, 0},
                                       {&mbl_mistral, false, false, "sliding_window", NULL, 4096},
                                       {&mbl_qwen2, true, false, "sliding_window", "use_sliding_window", 4096}};

static const struct habits *habits_of(const struct mbl_model *m) {
    const struct habits *h = habits;
    while (h->architecture != m->architecture) h++;
    return h;
}

struct layer {
    struct mbl_norm norm1, norm2;
    struct mbl_attention attention;
    struct mbl_linear join, gate, up, down;
    struct {
        struct mbl_attended attended;
        struct mbk_tensor statistics1, n1, x1, statistics2, n2, before, opened, wide, gated, out;
    } kept;                      /* of the batch */
};

struct llama {
    int64_t width, layers, inner;
    struct mbl_heads heads;
    enum mbk_activation f;
    bool tied;
    size_t words;
    struct mbl_norm norm;
    struct mbl_linear head;
    struct layer *layer;
    /* of the batch */
    struct mbl_workspace space;
    struct mbk_tensor x0, statistics, normed, outputs;
    struct mbk_tensor d[3], spare, dgate, dup;
    struct mbl_attended dattended;
};

/* -- config and parameters */

/* A number of a table that scales rotary positions. */
static int read_scale(const struct mbl_json *t, const char *table, const char *key, double least, float *out, struct mbl_error *e) {
    const struct mbl_json *v = mbl_json_get(t, key);
    double d = v ? mbl_json_number(v) : NAN;
    *out = (float)d;
    if (d >= least && d <= 1e9) return 0;
    return mbl_error_set(e, "%s.%s: a number of at least %g expected%s", table, key, least, v ? "" : "; it is missing");
}

/* One table of what is said of rotary positions. "dynamic" changes the base for rows that are longer than max_position_embeddings, which
 * none is here. */
static int read_scaling(const struct mbl_json *t, const char *table, struct mbk_rotary *r, struct mbl_error *e) {
    const char *type = mbl_json_get_string(t, "rope_type");
    const struct mbl_json *part = mbl_json_get(t, "partial_rotary_factor");
    if (!type) type = mbl_json_get_string(t, "type");
    if (part && mbl_json_number(part) != 1) return mbl_error_set(e, "%s.partial_rotary_factor: 1 is all that this version knows", table);
    if (!type || !strcmp(type, "default") || !strcmp(type, "dynamic")) return 0;
    if (!strcmp(type, "linear")) return read_scale(t, table, "factor", 1, &r->factor, e);
    if (strcmp(type, "llama3"))
        return mbl_error_set(e, "%s: the type \"%.60s\" is none that this version knows (default, linear, dynamic, llama3)", table, type);
    if (read_scale(t, table, "factor", 1, &r->factor, e) || read_scale(t, table, "low_freq_factor", 1e-6, &r->low, e) ||
        read_scale(t, table, "high_freq_factor", 1e-6, &r->high, e) ||
        read_scale(t, table, "original_max_position_embeddings", 1, &r->original, e))
        return -1;
    return r->high > r->low ? 0 : mbl_error_set(e, "%s: high_freq_factor must be above low_freq_factor", table);
}

/* Up to transformers 4 rope_theta and rope_scaling, from 5 on rope_parameters { rope_theta, rope_type }. */
static int read_rope(struct mbl_model *m, struct mbk_rotary *out, struct mbl_error *e) {
    static const char *const tables[] = {"rope_parameters", "rope_scaling"};
    const struct mbl_json *theta = mbl_json_get(m->config, "rope_theta");
    for (int i = 0; i < 2; i++) {
        const struct mbl_json *t = mbl_json_get(m->config, tables[i]);
        if (!t || t->type == MBL_JSON_NULL) continue;
        if (t->type != MBL_JSON_TABLE) return mbl_error_set(e, "%s: a table expected, found %s", tables[i], mbl_json_type_name(t->type));
        if (read_scaling(t, tables[i], out, e)) return -1;
        if (mbl_json_get(t, "rope_theta")) theta = mbl_json_get(t, "rope_theta");
    }
    double base = theta ? mbl_json_number(theta) : 10000;
    out->base = (float)base;
    return base > 1 && base < 1e30 ? 0 : mbl_error_set(e, "rope_theta: a number above 1 expected");
}

/* Rows are cut to the window. */
static int read_window(struct mbl_model *m, const struct habits *h, struct mbl_error *e) {
    if (!h->window || (h->window_switch && !mbl_config_bool(m, h->window_switch, false))) return 0;
    const struct mbl_json *v = mbl_json_get(m->config, h->window);
    double window = v && v->type != MBL_JSON_NULL ? mbl_json_number(v) : v ? (double)m->longest : (double)h->usual_window;
    if (!(window >= 1)) return mbl_error_set(e, "%s: a number of at least 1 expected", h->window);
    if (window < (double)m->longest) m->longest = (int64_t)window;
    return 0;
}

static int read_config(struct mbl_model *m, struct llama *s, double *eps, double *deviation, struct mbl_error *e) {
    const struct mbl_json *c = m->config, *groups = mbl_json_get(c, "num_key_value_heads"), *size = mbl_json_get(c, "head_dim");
    if (mbl_config_only(m, "pretraining_tp", "1", e) || mbl_config_int(m, c, "vocab_size", 1, INT32_MAX, 32000, &m->vocabulary, e) ||
        mbl_config_int(m, c, "hidden_size", 1, MBL_WIDEST, 4096, &s->width, e) ||
        mbl_config_int(m, c, "num_hidden_layers", 0, MBL_MOST_LAYERS, 32, &s->layers, e) ||
        mbl_config_int(m, c, "num_attention_heads", 1, MBL_WIDEST, 32, &s->heads.heads, e) ||
        mbl_config_int(m, c, "intermediate_size", 1, MBL_WIDEST * 4, 11008, &s->inner, e) ||
        mbl_config_int(m, c, "max_position_embeddings", 1, INT32_MAX, 2048, &m->longest, e) ||
        mbl_config_float(m, c, "attention_dropout", 0, 0.95, 0, &s->heads.dropout, e) ||
        mbl_config_float(m, c, "rms_norm_eps", 0, 1, 1e-6, eps, e) ||
        mbl_config_float(m, c, "initializer_range", 0, 10, 0.02, deviation, e) || mbl_config_act(m, "hidden_act", "silu", &s->f, e) ||
        read_rope(m, &s->heads.rotary, e) || read_window(m, habits_of(m), e))
        return -1;
    s->heads.groups = s->heads.heads;
    s->heads.size = s->width / s->heads.heads;
    s->heads.causal = true;
    if (groups && groups->type != MBL_JSON_NULL &&
        mbl_config_int(m, c, "num_key_value_heads", 1, s->heads.heads, 1, &s->heads.groups, e))
        return -1;
    bool own_size = size && size->type != MBL_JSON_NULL;
    if (own_size && mbl_config_int(m, c, "head_dim", 2, MBL_WIDEST, 2, &s->heads.size, e)) return -1;
    if (s->heads.heads % s->heads.groups || s->heads.size % 2 || s->heads.size < 2 || (!own_size && s->width % s->heads.heads))
        return mbl_error_set(e, "%lld attention heads of %lld in %lld groups do not share a width of %lld evenly",
                             (long long)s->heads.heads, (long long)s->heads.size, (long long)s->heads.groups, (long long)s->width);
    s->tied = mbl_config_bool(m, "tie_word_embeddings", false);
    return 0;
}

static void declare_layer(struct mbl_model *m, struct llama *s, struct layer *l, const char *name, double eps, float deviation) {
    struct mbl_arena *a = &m->arena;
    const int64_t C = s->width, Q = s->heads.heads * s->heads.size, K = s->heads.groups * s->heads.size;
    const struct habits *h = habits_of(m);
    const bool attention_bias = h->says_bias && mbl_config_bool(m, "attention_bias", false), qkv_bias = h->qkv_bias || attention_bias;
    const bool mlp_bias = h->says_bias && mbl_config_bool(m, "mlp_bias", false);
    l->norm1 = mbl_norm_declare(m, mbl_arena_printf(a, "%s.input_layernorm", name), C, false, eps);
    l->attention.query = mbl_linear_declare(m, mbl_arena_printf(a, "%s.self_attn.q_proj", name), C, Q, qkv_bias, deviation);
    l->attention.key = mbl_linear_declare(m, mbl_arena_printf(a, "%s.self_attn.k_proj", name), C, K, qkv_bias, deviation);
    l->attention.value = mbl_linear_declare(m, mbl_arena_printf(a, "%s.self_attn.v_proj", name), C, K, qkv_bias, deviation);
    l->join = mbl_linear_declare(m, mbl_arena_printf(a, "%s.self_attn.o_proj", name), Q, C, attention_bias, deviation);
    l->norm2 = mbl_norm_declare(m, mbl_arena_printf(a, "%s.post_attention_layernorm", name), C, false, eps);
    l->gate = mbl_linear_declare(m, mbl_arena_printf(a, "%s.mlp.gate_proj", name), C, s->inner, mlp_bias, deviation);
    l->up = mbl_linear_declare(m, mbl_arena_printf(a, "%s.mlp.up_proj", name), C, s->inner, mlp_bias, deviation);
    l->down = mbl_linear_declare(m, mbl_arena_printf(a, "%s.mlp.down_proj", name), s->inner, C, mlp_bias, deviation);
}

static int configure(struct mbl_model *m, const struct mbl_json *config, struct mbl_error *e) {
    (void)config; /* m->config is a copy of it */
    struct llama *s = mbl_arena_alloc(&m->arena, sizeof *s);
    double eps, initial;
    m->state = s;
    if (m->problem != MBL_NEXT_TOKEN) return mbl_error_set(e, "a %s cannot learn the problem %s", m->architecture->kind,
                                                            mbl_problem_name(m->problem));
    if (read_config(m, s, &eps, &initial, e)) return -1;
    const float deviation = (float)initial;
    s->words = mbl_table_declare(m, "model.embed_tokens", m->vocabulary, s->width, deviation);
    s->layer = mbl_arena_alloc(&m->arena, (size_t)(s->layers + 1) * sizeof *s->layer);
    for (int64_t i = 0; i < s->layers; i++)
        declare_layer(m, s, &s->layer[i], mbl_arena_printf(&m->arena, "model.layers.%lld", (long long)i), eps, deviation);
    s->norm = mbl_norm_declare(m, "model.norm", s->width, false, eps);
    if (s->tied) mbl_table_tie(m, s->words);
    else s->head = mbl_linear_declare(m, "lm_head", s->width, m->vocabulary, false, deviation);
    m->outputs = m->vocabulary;
    m->cache_layers = s->layers;
    m->cache_width = s->heads.groups * s->heads.size;
    return 0;
}

/* -- memory. Outside training all layers share one set of values. */

static void lay_out_layer(const struct llama *s, struct layer *l, struct mbl_carver *c, enum mbk_type T, int64_t rows, int64_t time,
                          bool training) {
    const int64_t R = rows * time, C = s->width;
    l->kept.statistics1 = mbl_carve(c, MBK_F32, 2, R);
    l->kept.n1 = mbl_carve(c, T, R, C);
    l->kept.attended = mbl_carve_attended(c, T, &s->heads, rows, time);
    l->kept.x1 = mbl_carve(c, MBK_F32, R, C);
    l->kept.statistics2 = mbl_carve(c, MBK_F32, 2, R);
    l->kept.n2 = mbl_carve(c, T, R, C);
    l->kept.before = training ? mbl_carve(c, T, R, s->inner) : (struct mbk_tensor){0};
    l->kept.opened = mbl_carve(c, T, R, s->inner);
    l->kept.wide = mbl_carve(c, T, R, s->inner);
    l->kept.gated = training ? mbl_carve(c, T, R, s->inner) : l->kept.opened;
    l->kept.out = mbl_carve(c, MBK_F32, R, C);
}

static void lay_out(struct mbl_model *m, struct mbl_carver *c, int64_t rows, int64_t time, bool training, bool cached) {
    struct llama *s = m->state;
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
    s->dattended = mbl_carve_attended(c, T, &s->heads, rows, time);
    s->dgate = mbl_carve(c, T, R, s->inner);
    s->dup = mbl_carve(c, T, R, s->inner);
}

static int reserve_tokens(struct mbl_model *m, int64_t rows, int64_t time, bool training, struct mbl_error *e) {
    return mbl_workspace_prepare(m, &((struct llama *)m->state)->space, lay_out, rows, time, training, false, e);
}

static void release(struct mbl_model *m) {
    if (m->state) mbl_workspace_release(m, &((struct llama *)m->state)->space);
}

/* -- forward */

static void forward_layer(struct mbl_maths *t, const struct llama *s, const struct layer *l, int64_t i, const struct mbk_tensor *x) {
    mbl_norm_apply(t, &l->norm1, x, &l->kept.statistics1, &l->kept.n1);
    mbl_attend(t, &s->heads, &l->attention, i, (int)i, &l->kept.n1, &l->kept.attended);
    mbl_join(t, &l->join, &l->kept.attended.out, 0, 0, x, &l->kept.x1);
    mbl_norm_apply(t, &l->norm2, &l->kept.x1, &l->kept.statistics2, &l->kept.n2);
    mbl_linear(t, &l->gate, &l->kept.n2, 0, s->f, t->b->training ? &l->kept.before : NULL, &l->kept.opened);
    mbl_linear(t, &l->up, &l->kept.n2, 0, MBK_NONE, NULL, &l->kept.wide);
    mbl_multiply(t, &l->kept.opened, &l->kept.wide, &l->kept.gated);
    mbl_join(t, &l->down, &l->kept.gated, 0, 0, &l->kept.x1, &l->kept.out);
}

static const struct mbk_tensor *input_of(const struct llama *s, int64_t layer) {
    return layer ? &s->layer[layer - 1].kept.out : &s->x0;
}

static int forward(struct mbl_model *m, const struct mbl_batch *b, struct mbk_tensor *outputs, struct mbl_error *e) {
    struct llama *s = m->state;
    if (mbl_batch_check(m, b, e) ||
        mbl_workspace_prepare(m, &s->space, lay_out, b->ids.shape[0], b->ids.shape[1], b->training, b->cache != NULL, e))
        return -1;
    struct mbl_maths t = {.m = m, .b = b, .e = e};
    mbl_embed(&t, s->words, &b->ids, &s->x0);
    for (int64_t i = 0; i < s->layers; i++) forward_layer(&t, s, &s->layer[i], i, input_of(s, i));
    struct mbk_tensor x = mbl_past_done(&t, input_of(s, s->layers));
    mbl_norm_apply(&t, &s->norm, &x, &s->statistics, &s->normed);
    if (s->tied) mbl_tied(&t, s->words, NULL, &s->normed, &s->outputs);
    else mbl_linear(&t, &s->head, &s->normed, 0, MBK_NONE, NULL, &s->outputs);
    *outputs = s->outputs;
    return mbl_maths_end(&t);
}

/* -- backward: forward, read upwards. d[0] is the gradient of the residual stream. */

static void backward_layer(struct mbl_maths *t, const struct llama *s, const struct layer *l, int64_t i, const struct mbk_tensor *x) {
    const struct mbk_tensor *d = s->d;
    mbl_join_back(t, &l->down, &l->kept.gated, 0, 0, &d[0], &s->spare, &s->dgate);
    mbl_multiply(t, &s->dgate, &l->kept.opened, &s->dup);
    mbl_multiply(t, &s->dgate, &l->kept.wide, &s->dgate);
    mbl_activate_back(t, s->f, &l->kept.before, &s->dgate);
    mbl_linear_back(t, &l->up, &l->kept.n2, 0, &s->dup, &d[1], false);
    mbl_linear_back(t, &l->gate, &l->kept.n2, 0, &s->dgate, &d[1], true);
    mbl_norm_back(t, &l->norm2, &l->kept.x1, &l->kept.statistics2, &d[1], &d[2]);
    mbl_add(t, &d[2], &d[0]);
    mbl_join_back(t, &l->join, &l->kept.attended.out, 0, 0, &d[0], &s->spare, &s->dattended.out);
    mbl_attend_back(t, &s->heads, &l->attention, (int)i, &l->kept.n1, &l->kept.attended, &s->dattended, &d[1], false);
    mbl_norm_back(t, &l->norm1, x, &l->kept.statistics1, &d[1], &d[2]);
    mbl_add(t, &d[2], &d[0]);
}

static int backward(struct mbl_model *m, const struct mbl_batch *b, const struct mbk_tensor *doutputs, struct mbl_error *e) {
    struct llama *s = m->state;
    struct mbl_maths t = {.m = m, .b = b, .e = e};
    if (s->tied) mbl_tied_back(&t, s->words, NULL, &s->normed, doutputs, &s->d[1]);
    else mbl_linear_back(&t, &s->head, &s->normed, 0, doutputs, &s->d[1], false);
    mbl_norm_back(&t, &s->norm, input_of(s, s->layers), &s->statistics, &s->d[1], &s->d[0]);
    for (int64_t i = s->layers; i-- > 0;) backward_layer(&t, s, &s->layer[i], i, input_of(s, i));
    mbl_embed_back(&t, s->words, &b->ids, &s->d[0]);
    return mbl_maths_end(&t);
}

static const char *const fields[] = {"problem", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
                                     "num_key_value_heads", "head_dim", "intermediate_size", "hidden_act", "attention_dropout",
                                     "attention_bias", "mlp_bias", "max_position_embeddings", "rms_norm_eps", "rope_theta",
                                     "initializer_range", "tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id", NULL};

#define DECODER(kind_, class_)                                                                                                            \
    {.kind = kind_, .model_type = kind_, .class_name = class_, .takes = MBL_TAKES_TOKENS, .usual = MBL_NEXT_TOKEN, .fields = fields,      \
     .configure = configure, .reserve_tokens = reserve_tokens, .forward = forward, .backward = backward, .release = release}

const struct mbl_architecture mbl_llama = DECODER("llama", "Llama");
const struct mbl_architecture mbl_mistral = DECODER("mistral", "Mistral");
const struct mbl_architecture mbl_qwen2 = DECODER("qwen2", "Qwen2");
