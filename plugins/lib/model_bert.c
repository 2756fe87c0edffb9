/* model_bert.c: the encoder (Devlin et al. 2019): norms behind each sum, absolute positions, token types, and a head for each problem.
 *
 * Names, shapes and sizes are those of Hugging Face's BertModel and its Bert…For… classes, or of DistilBERT's and RoBERTa's, by
 * the model's layout (model_bert.h). With a sentence's tokens averaged (MBL_EMBEDDING) it is the encoder of sentence-transformers.
 */
#include "model_bert.h"
#include "hf.h"
#include "model_architectures.h"
#include "transformer.h"

#include <string.h>

struct layer {
    struct mbl_attention attention;
    struct mbl_linear join, widen, narrow;
    struct mbl_norm attention_norm, norm;
    struct {
        struct mbl_attended attended;
        struct mbk_tensor sum1, statistics1, h, before, wide, sum2, statistics2, out;
        struct mbk_tensor h_stream, out_stream; /* the same in float32, good until the next: what norms give, for the residual */
    } kept;                      /* of the batch */
};

struct bert {
    const struct mbl_bert_layout *layout;
    int64_t width, layers, inner;
    int64_t types_known;         /* rows of the table of types; 0: there is none */
    int64_t first_position;
    struct mbl_heads heads;
    enum mbk_activation f, transform_f;
    double dropout, head_dropout, join_dropout; /* join: behind attention */
    size_t words, positions, types, decoder_bias;
    struct mbl_norm embedding_norm, transform_norm;
    struct mbl_linear pooler, classifier, transform;
    struct layer *layer;
    bool pools;                  /* the problem's head stands on the pooled first token */
    /* of the batch */
    struct mbl_workspace space;
    struct mbk_tensor sum0, statistics0, x0, stream, x0_stream, pooled, pooled_before, transformed, transform_before, statistics, normed, weights, outputs;
    struct mbk_tensor d[3], spare, dwide, dpooled;
    struct mbl_attended dattended;
};

/* -- config and parameters */

static int read_config(struct mbl_model *m, struct bert *s, double *eps, double *deviation, struct mbl_error *e) {
    const struct mbl_json *c = m->config;
    const struct mbl_bert_layout *l = s->layout;
    int64_t pad = 0;
    if (mbl_config_only(m, "position_embedding_type", "\"absolute\"", e) || mbl_config_only(m, "is_decoder", "false", e) ||
        mbl_config_only(m, "add_cross_attention", "false", e) || mbl_config_only(m, "tie_word_embeddings", "true", e) ||
        mbl_config_int(m, c, "vocab_size", 1, INT32_MAX, l->vocabulary, &m->vocabulary, e) ||
        mbl_config_int(m, c, l->width, 1, MBL_WIDEST, 768, &s->width, e) ||
        mbl_config_int(m, c, l->layers, 0, MBL_MOST_LAYERS, l->usual_layers, &s->layers, e) ||
        mbl_config_int(m, c, l->heads, 1, MBL_WIDEST, 12, &s->heads.heads, e) ||
        mbl_config_int(m, c, l->inner, 1, MBL_WIDEST, 3072, &s->inner, e) ||
        mbl_config_int(m, c, "max_position_embeddings", 1, INT32_MAX, 512, &m->longest, e) ||
        (l->types && mbl_config_int(m, c, "type_vocab_size", 1, MBL_WIDEST, 2, &s->types_known, e)) ||
        mbl_config_float(m, c, l->dropout, 0, 0.95, 0.1, &s->dropout, e) ||
        mbl_config_float(m, c, l->attention_dropout, 0, 0.95, 0.1, &s->heads.dropout, e) ||
        (l->eps && mbl_config_float(m, c, l->eps, 0, 1, 1e-12, eps, e)) ||
        mbl_config_float(m, c, "initializer_range", 0, 10, 0.02, deviation, e) || mbl_config_act(m, l->act, "gelu", &s->f, e))
        return -1;
    s->transform_f = l->gelu_transform ? MBK_GELU : s->f;
    s->join_dropout = l->drops_behind_attention ? s->dropout : 0;
    /* DistilBERT's own is for rows alone. */
    s->head_dropout = l->own_head_dropout < 0 || m->problem == MBL_TOKEN_CLASSES ? s->dropout : l->own_head_dropout;
    const struct mbl_json *own = mbl_json_get(c, l->head_dropout);
    if (own && own->type != MBL_JSON_NULL && (l->own_head_dropout < 0 || m->problem != MBL_TOKEN_CLASSES) &&
        mbl_config_float(m, c, l->head_dropout, 0, 0.95, 0, &s->head_dropout, e))
        return -1;
    if (s->width % s->heads.heads)
        return mbl_error_set(e, "%s %lld is no multiple of the %lld attention heads", l->width, (long long)s->width,
                             (long long)s->heads.heads);
    if (l->counts_positions) {
        if (mbl_config_int(m, c, "pad_token_id", 0, m->vocabulary - 1, 1, &pad, e)) return -1;
        s->first_position = pad + 1;
        m->longest -= s->first_position;
        m->counts_positions = true;
        m->pad = (int32_t)pad;
        if (m->longest < 1)
            return mbl_error_set(e, "max_position_embeddings: more than %lld expected, since positions begin behind the pad token's id",
                                 (long long)s->first_position);
    }
    s->heads.groups = s->heads.heads;
    s->heads.size = s->width / s->heads.heads;
    return 0;
}

static void declare_layer(struct mbl_model *m, struct bert *s, struct layer *l, const char *name, double eps, float deviation) {
    struct mbl_arena *a = &m->arena;
    const struct mbl_bert_layout *names = s->layout;
    const int64_t C = s->width;
    l->attention.query = mbl_linear_declare(m, mbl_arena_printf(a, "%s.%s", name, names->query), C, C, true, deviation);
    l->attention.key = mbl_linear_declare(m, mbl_arena_printf(a, "%s.%s", name, names->key), C, C, true, deviation);
    l->attention.value = mbl_linear_declare(m, mbl_arena_printf(a, "%s.%s", name, names->value), C, C, true, deviation);
    l->join = mbl_linear_declare(m, mbl_arena_printf(a, "%s.%s", name, names->join), C, C, true, deviation);
    l->attention_norm = mbl_norm_declare(m, mbl_arena_printf(a, "%s.%s", name, names->attention_norm), C, true, eps);
    l->widen = mbl_linear_declare(m, mbl_arena_printf(a, "%s.%s", name, names->widen), C, s->inner, true, deviation);
    l->narrow = mbl_linear_declare(m, mbl_arena_printf(a, "%s.%s", name, names->narrow), s->inner, C, true, deviation);
    l->norm = mbl_norm_declare(m, mbl_arena_printf(a, "%s.%s", name, names->norm), C, true, eps);
}

static int configure(struct mbl_model *m, const struct mbl_json *config, struct mbl_error *e) {
    (void)config; /* m->config is a copy of it */
    struct bert *s = mbl_arena_alloc(&m->arena, sizeof *s);
    double eps = 1e-12, initial;
    m->state = s;
    const struct mbl_bert_layout *l = s->layout = mbl_bert_layout_of(m->architecture);
    if (read_config(m, s, &eps, &initial, e)) return -1;
    const float deviation = (float)initial;
    const int64_t C = s->width;
    const char *body = m->problem == MBL_EMBEDDING ? "" : l->body;
    struct mbl_arena *a = &m->arena;
    s->words = mbl_table_declare(m, mbl_arena_printf(a, "%sembeddings.word_embeddings", body), m->vocabulary, C, deviation);
    s->positions = mbl_table_declare(m, mbl_arena_printf(a, "%sembeddings.position_embeddings", body), s->first_position + m->longest, C,
                                     deviation);
    if (s->types_known)
        s->types = mbl_table_declare(m, mbl_arena_printf(a, "%sembeddings.token_type_embeddings", body), s->types_known, C, deviation);
    m->text_types = s->types_known > 0 ? s->types_known : 1;
    s->embedding_norm = mbl_norm_declare(m, mbl_arena_printf(a, "%sembeddings.LayerNorm", body), C, true, eps);
    s->layer = mbl_arena_alloc(a, (size_t)(s->layers + 1) * sizeof *s->layer);
    for (int64_t i = 0; i < s->layers; i++)
        declare_layer(m, s, &s->layer[i], mbl_arena_printf(a, "%s%s%lld", body, l->layer, (long long)i), eps, deviation);
    s->pools = m->problem == MBL_CLASSES || m->problem == MBL_VALUES;
    if (m->problem == MBL_EMBEDDING && l->pooler)
        s->pooler = mbl_linear_declare(m, mbl_arena_printf(a, "%s%s", body, l->pooler), C, C, true, deviation);
    if (s->pools)
        s->pooler = mbl_linear_declare(m, mbl_arena_printf(a, "%s%s", l->pool_in_body ? body : "", l->pool), C, C, true, deviation);
    if (s->pools) mbl_linear_keep(m, &s->pooler);
    switch (m->problem) {
    case MBL_MASKED_TOKEN:
        m->outputs = m->vocabulary;
        mbl_table_tie(m, s->words);
        s->transform = mbl_linear_declare(m, l->transform, C, C, true, deviation);
        s->transform_norm = mbl_norm_declare(m, l->transform_norm, C, true, eps);
        s->decoder_bias = mbl_model_declare(m, l->decoder_bias, MBK_F32, 1, &m->vocabulary);
        return 0;
    case MBL_EMBEDDING: m->outputs = C; return 0;
    case MBL_CLASSES:
    case MBL_VALUES:
    case MBL_TOKEN_CLASSES:
        s->classifier = mbl_linear_declare(m, s->pools ? l->classifier : l->token_classifier, C, m->outputs, true, deviation);
        mbl_linear_keep(m, &s->classifier);
        return 0;
    default: return mbl_error_set(e, "a %s cannot learn the problem %s", m->architecture->kind, mbl_problem_name(m->problem));
    }
}

/* -- memory. Outside training all layers share one set of values. */

/* `x` in float32: itself, or one memory for all of them. */
static struct mbk_tensor stream_of(const struct bert *s, const struct mbk_tensor *x) {
    return x->type == MBK_F32 ? *x : s->stream;
}

static void lay_out_layer(const struct bert *s, struct layer *l, struct mbl_carver *c, enum mbk_type T, int64_t rows, int64_t time,
                          bool training) {
    const int64_t R = rows * time, C = s->width;
    l->kept.attended = mbl_carve_attended(c, T, &s->heads, rows, time);
    l->kept.sum1 = mbl_carve(c, MBK_F32, R, C);
    l->kept.statistics1 = mbl_carve(c, MBK_F32, 2, R);
    l->kept.h = mbl_carve(c, T, R, C);
    l->kept.h_stream = stream_of(s, &l->kept.h);
    l->kept.before = training ? mbl_carve(c, T, R, s->inner) : (struct mbk_tensor){0};
    l->kept.wide = mbl_carve(c, T, R, s->inner);
    l->kept.sum2 = training ? mbl_carve(c, MBK_F32, R, C) : l->kept.sum1;
    l->kept.statistics2 = mbl_carve(c, MBK_F32, 2, R);
    l->kept.out = mbl_carve(c, T, R, C);
    l->kept.out_stream = stream_of(s, &l->kept.out);
}

/* The heads of few numbers are float32 throughout: they cost nothing. */
static void lay_out(struct mbl_model *m, struct mbl_carver *c, int64_t rows, int64_t time, bool training, bool cached) {
    (void)cached; /* decoders only */
    struct bert *s = m->state;
    const enum mbk_type T = m->compute;
    const int64_t R = rows * time, C = s->width;
    s->sum0 = mbl_carve(c, MBK_F32, R, C);
    s->statistics0 = mbl_carve(c, MBK_F32, 2, R);
    s->x0 = mbl_carve(c, T, R, C);
    s->stream = mbl_carve_as(c, MBK_F32, &s->x0);
    s->x0_stream = stream_of(s, &s->x0);
    for (int64_t i = 0; i < s->layers; i++) {
        if (training || !i) lay_out_layer(s, &s->layer[i], c, T, rows, time, training);
        else s->layer[i].kept = s->layer[0].kept;
    }
    int64_t wide_rows = mbl_problem_per_token(m->problem) ? R : rows;
    s->pooled = mbl_carve(c, MBK_F32, rows, C);
    s->pooled_before = mbl_carve(c, MBK_F32, rows, C);
    const int64_t transformed = m->problem == MBL_MASKED_TOKEN ? R : 0;
    s->transformed = mbl_carve(c, MBK_F32, transformed, C);
    s->transform_before = mbl_carve(c, MBK_F32, transformed, C);
    s->statistics = mbl_carve(c, MBK_F32, 2, transformed);
    s->normed = mbl_carve(c, T, transformed, C);
    s->weights = mbl_carve_shape(c, MBK_F32, 3, (const int64_t[]){rows, 1, time});
    s->outputs = mbl_carve(c, mbl_model_output_type(m, training), wide_rows, m->outputs);
    if (!training) return;
    for (int i = 0; i < 3; i++) s->d[i] = mbl_carve(c, MBK_F32, R, C);
    s->spare = mbl_carve_as(c, T, &s->d[2]);
    s->dwide = mbl_carve(c, T, R, s->inner);
    s->dattended = mbl_carve_attended(c, T, &s->heads, rows, time);
    s->dpooled = mbl_carve(c, MBK_F32, rows, C);
}

static int reserve_tokens(struct mbl_model *m, int64_t rows, int64_t time, bool training, struct mbl_error *e) {
    return mbl_workspace_prepare(m, &((struct bert *)m->state)->space, lay_out, rows, time, training, false, e);
}

static void release(struct mbl_model *m) {
    if (m->state) mbl_workspace_release(m, &((struct bert *)m->state)->space);
}

/* -- forward */

/* Dropout's sites: three to a layer, and some beside, one of them in the place of a layer behind the last. */
enum { SITE_EMBEDDINGS, SITE_HEAD, SITE_LAYERS };
static int site(int64_t layer, int i) {
    return SITE_LAYERS + (int)layer * 3 + i;
}

static void embed(struct mbl_maths *t, struct bert *s) {
    mbl_embed(t, s->words, &t->b->ids, &s->sum0);
    if (t->b->positions.data) {
        mbl_embed(t, s->positions, &t->b->positions, &s->x0_stream);
        mbl_add(t, &s->x0_stream, &s->sum0);
    } else mbl_positions(t, s->positions, s->first_position, &s->sum0);
    if (t->b->types.data && s->types_known) {
        mbl_embed(t, s->types, &t->b->types, &s->x0_stream);
        mbl_add(t, &s->x0_stream, &s->sum0);
    } else if (s->types_known) mbl_add_row(t, s->types, &s->sum0);
    mbl_norm_apply(t, &s->embedding_norm, &s->sum0, &s->statistics0, &s->x0_stream);
    mbl_drop(t, s->dropout, SITE_EMBEDDINGS, &s->x0_stream);
    mbl_as(t, &s->x0_stream, &s->x0);
}

static void forward_layer(struct mbl_maths *t, const struct bert *s, const struct layer *l, int64_t i, const struct mbk_tensor *x,
                          const struct mbk_tensor *stream) {
    mbl_attend(t, &s->heads, &l->attention, i, site(i, 0), x, &l->kept.attended);
    mbl_join(t, &l->join, &l->kept.attended.out, s->join_dropout, site(i, 1), stream, &l->kept.sum1);
    mbl_norm_apply(t, &l->attention_norm, &l->kept.sum1, &l->kept.statistics1, &l->kept.h_stream);
    const struct mbk_tensor *h = mbl_as(t, &l->kept.h_stream, &l->kept.h);
    mbl_linear(t, &l->widen, h, 0, s->f, t->b->training ? &l->kept.before : NULL, &l->kept.wide);
    mbl_join(t, &l->narrow, &l->kept.wide, s->dropout, site(i, 2), &l->kept.h_stream, &l->kept.sum2);
    mbl_norm_apply(t, &l->norm, &l->kept.sum2, &l->kept.statistics2, &l->kept.out_stream);
    mbl_as(t, &l->kept.out_stream, &l->kept.out);
}

static void forward_head(struct mbl_maths *t, struct bert *s, const struct mbk_tensor *x, const struct mbk_tensor *stream) {
    const int64_t rows = t->b->ids.shape[0], stride = t->b->ids.shape[1] * s->width;
    struct mbk_tensor first = mbk_tensor2(stream->data, MBK_F32, rows, s->width);
    switch (t->m->problem) {
    case MBL_MASKED_TOKEN:
        mbl_linear(t, &s->transform, x, 0, s->transform_f, &s->transform_before, &s->transformed);
        mbl_norm_apply(t, &s->transform_norm, &s->transformed, &s->statistics, &s->normed);
        mbl_tied(t, s->words, &s->decoder_bias, &s->normed, &s->outputs);
        return;
    case MBL_TOKEN_CLASSES:
        mbl_drop(t, s->head_dropout, SITE_HEAD, stream);
        mbl_linear(t, &s->classifier, stream, 0, MBK_NONE, NULL, &s->outputs);
        return;
    case MBL_EMBEDDING: mbl_mean_rows(t, stream, &s->weights, &s->outputs); return;
    default:
        if (s->layout->drops_before_pool) mbl_drop(t, s->head_dropout, site(s->layers, 0), stream); /* the first tokens alone count */
        mbl_linear(t, &s->pooler, &first, stride, s->layout->pooling, &s->pooled_before, &s->pooled);
        mbl_drop(t, s->head_dropout, SITE_HEAD, &s->pooled);
        mbl_linear(t, &s->classifier, &s->pooled, 0, MBK_NONE, NULL, &s->outputs);
    }
}

static const struct mbk_tensor *input_of(const struct bert *s, int64_t layer) {
    return layer ? &s->layer[layer - 1].kept.out : &s->x0;
}

static const struct mbk_tensor *stream_into(const struct bert *s, int64_t layer) {
    return layer ? &s->layer[layer - 1].kept.out_stream : &s->x0_stream;
}

static int forward(struct mbl_model *m, const struct mbl_batch *b, struct mbk_tensor *outputs, struct mbl_error *e) {
    struct bert *s = m->state;
    if (mbl_batch_check(m, b, e) || reserve_tokens(m, b->ids.shape[0], b->ids.shape[1], b->training, e)) return -1;
    struct mbl_maths t = {.m = m, .b = b, .e = e};
    embed(&t, s);
    for (int64_t i = 0; i < s->layers; i++) forward_layer(&t, s, &s->layer[i], i, input_of(s, i), stream_into(s, i));
    forward_head(&t, s, input_of(s, s->layers), stream_into(s, s->layers));
    *outputs = s->outputs;
    return mbl_maths_end(&t);
}

/* -- backward: each function is its forward, read upwards */

/* The gradient of the last layer's output into d[0]. */
static void backward_head(struct mbl_maths *t, struct bert *s, const struct mbk_tensor *x, const struct mbk_tensor *stream,
                          const struct mbk_tensor *dy) {
    const int64_t rows = t->b->ids.shape[0], stride = t->b->ids.shape[1] * s->width;
    struct mbk_tensor first = mbk_tensor2(stream->data, MBK_F32, rows, s->width), dfirst = first;
    dfirst.data = s->d[0].data;
    switch (t->m->problem) {
    case MBL_MASKED_TOKEN:
        mbl_tied_back(t, s->words, &s->decoder_bias, &s->normed, dy, &s->d[1]);
        mbl_norm_back(t, &s->transform_norm, &s->transformed, &s->statistics, &s->d[1], &s->d[2]);
        mbl_activate_back(t, s->transform_f, &s->transform_before, &s->d[2]);
        mbl_linear_back(t, &s->transform, x, 0, mbl_as(t, &s->d[2], &s->spare), &s->d[0], false);
        return;
    case MBL_TOKEN_CLASSES:
        mbl_linear_back(t, &s->classifier, stream, 0, dy, &s->d[0], false);
        mbl_drop(t, s->head_dropout, SITE_HEAD, &s->d[0]);
        return;
    default:
        mbl_linear_back(t, &s->classifier, &s->pooled, 0, dy, &s->dpooled, false);
        mbl_drop(t, s->head_dropout, SITE_HEAD, &s->dpooled);
        mbl_activate_back(t, s->layout->pooling, &s->pooled_before, &s->dpooled);
        mbl_zero(t, &s->d[0]);
        mbl_linear_back(t, &s->pooler, &first, stride, &s->dpooled, &dfirst, false);
        if (s->layout->drops_before_pool) mbl_drop(t, s->head_dropout, site(s->layers, 0), &s->d[0]);
    }
}

/* d[0] holds the gradient of the layer's output, and that of its input when done. */
static void backward_layer(struct mbl_maths *t, const struct bert *s, const struct layer *l, int64_t i, const struct mbk_tensor *x) {
    const struct mbk_tensor *d = s->d;
    mbl_norm_back(t, &l->norm, &l->kept.sum2, &l->kept.statistics2, &d[0], &d[1]);
    mbl_join_back(t, &l->narrow, &l->kept.wide, s->dropout, site(i, 2), &d[1], &s->spare, &s->dwide);
    mbl_activate_back(t, s->f, &l->kept.before, &s->dwide);
    mbl_linear_back(t, &l->widen, &l->kept.h, 0, &s->dwide, &d[1], true);
    mbl_norm_back(t, &l->attention_norm, &l->kept.sum1, &l->kept.statistics1, &d[1], &d[0]);
    mbl_join_back(t, &l->join, &l->kept.attended.out, s->join_dropout, site(i, 1), &d[0], &s->spare, &s->dattended.out);
    mbl_attend_back(t, &s->heads, &l->attention, site(i, 0), x, &l->kept.attended, &s->dattended, &d[0], true);
}

static void backward_embeddings(struct mbl_maths *t, struct bert *s) {
    mbl_drop(t, s->dropout, SITE_EMBEDDINGS, &s->d[0]);
    mbl_norm_back(t, &s->embedding_norm, &s->sum0, &s->statistics0, &s->d[0], &s->d[1]);
    if (t->b->types.data && s->types_known) mbl_embed_back(t, s->types, &t->b->types, &s->d[1]);
    else if (s->types_known) mbl_add_row_back(t, s->types, &s->d[1]);
    if (t->b->positions.data) mbl_embed_back(t, s->positions, &t->b->positions, &s->d[1]);
    else mbl_positions_back(t, s->positions, s->first_position, &s->d[1]);
    mbl_embed_back(t, s->words, &t->b->ids, &s->d[1]);
}

static int backward(struct mbl_model *m, const struct mbl_batch *b, const struct mbk_tensor *doutputs, struct mbl_error *e) {
    struct bert *s = m->state;
    if (m->problem == MBL_EMBEDDING) return mbl_error_set(e, "a model of embeddings has nothing to learn by");
    struct mbl_maths t = {.m = m, .b = b, .e = e};
    backward_head(&t, s, input_of(s, s->layers), stream_into(s, s->layers), doutputs);
    for (int64_t i = s->layers; i-- > 0;) backward_layer(&t, s, &s->layer[i], i, input_of(s, i));
    backward_embeddings(&t, s);
    return mbl_maths_end(&t);
}

static const char *const fields[] = {"problem", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
                                     "intermediate_size", "hidden_act", "hidden_dropout_prob", "attention_probs_dropout_prob",
                                     "max_position_embeddings", "type_vocab_size", "layer_norm_eps", "initializer_range",
                                     "classifier_dropout", "pad_token_id", NULL};

static const char *const distilbert_fields[] = {"problem", "vocab_size", "dim", "n_layers", "n_heads", "hidden_dim", "activation", "dropout",
                                                "attention_dropout", "max_position_embeddings", "initializer_range",
                                                "seq_classif_dropout", "pad_token_id", NULL};

#define ENCODER(kind_, class_, fields_)                                                                                                   \
    {.kind = kind_, .model_type = kind_, .class_name = class_, .takes = MBL_TAKES_TOKENS, .usual = MBL_MASKED_TOKEN, .fields = fields_,   \
     .configure = configure, .reserve_tokens = reserve_tokens, .forward = forward, .backward = backward, .release = release}

const struct mbl_architecture mbl_bert = ENCODER("bert", "Bert", fields);
const struct mbl_architecture mbl_distilbert = ENCODER("distilbert", "DistilBert", distilbert_fields);
const struct mbl_architecture mbl_roberta = ENCODER("roberta", "Roberta", fields);
