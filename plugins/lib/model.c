/* model.c: a model's config, its parameters and their memory; see model.h. Files are model_files.c's. */
#include "hf.h"
#include "model_architectures.h"
#include "recommend.h"
#include "texts.h"
#include "transformer_quantized.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct mbl_architecture *const architectures[] = {&mbl_mlp,  &mbl_cnn,   &mbl_bert,
                                                            &mbl_distilbert, &mbl_roberta,
                                                            &mbl_gpt2, &mbl_llama, &mbl_mistral, &mbl_qwen2, &mbl_matrix_factorization,
                                                            &mbl_two_towers};
#define ARCHITECTURE_COUNT (sizeof architectures / sizeof *architectures)

const struct mbl_architecture *mbl_architecture_find(const char *name) {
    for (size_t i = 0; i < ARCHITECTURE_COUNT; i++)
        if (!strcmp(architectures[i]->kind, name) || !strcmp(architectures[i]->model_type, name)) return architectures[i];
    return NULL;
}

const char *mbl_architecture_names(struct mbl_arena *a) {
    const char *all = architectures[0]->kind;
    for (size_t i = 1; i < ARCHITECTURE_COUNT; i++) all = mbl_arena_printf(a, "%s, %s", all, architectures[i]->kind);
    return all;
}

const char *mbl_problem_name(enum mbl_problem p) {
    switch (p) {
    case MBL_VALUES: return "regression";
    case MBL_NEXT_TOKEN: return "next_token";
    case MBL_MASKED_TOKEN: return "masked_token";
    case MBL_TOKEN_CLASSES: return "token_classification";
    case MBL_EMBEDDING: return "embedding";
    case MBL_RANKING: return "ranking";
    default: return "single_label_classification";
    }
}

bool mbl_problem_per_token(enum mbl_problem p) {
    return p == MBL_NEXT_TOKEN || p == MBL_MASKED_TOKEN || p == MBL_TOKEN_CLASSES;
}

enum mbk_type mbl_model_output_type(const struct mbl_model *m, bool training) {
    return training && (m->problem == MBL_NEXT_TOKEN || m->problem == MBL_MASKED_TOKEN) ? m->compute : MBK_F32;
}

int mbl_model_reserve(struct mbl_model *m, int64_t rows, int64_t time, bool training, struct mbl_error *e) {
    if (m->architecture->takes == MBL_TAKES_TOKENS) return m->architecture->reserve_tokens(m, rows, time, training, e);
    return m->architecture->reserve(m, rows, training, e);
}

int mbl_kernel_failed(struct mbk *k, const char *what, struct mbl_error *e) {
    return mbl_error_set(e, "%s: %s", what, mbk_error(k));
}

/* -- fields of a config */

int mbl_config_int(struct mbl_model *m, const struct mbl_json *config, const char *key, int64_t least, int64_t most, int64_t otherwise,
                   int64_t *out, struct mbl_error *e) {
    const struct mbl_json *v = mbl_json_get(config, key);
    double d = v ? mbl_json_number(v) : (double)otherwise;
    if (!(d >= (double)least && d <= (double)most) || d != floor(d))
        return mbl_error_set(e, "%s: a whole number from %lld to %lld expected", key, (long long)least, (long long)most);
    *out = (int64_t)d;
    mbl_json_set(&m->arena, m->config, key, mbl_json_int(&m->arena, *out));
    return 0;
}

int mbl_config_float(struct mbl_model *m, const struct mbl_json *config, const char *key, double least, double most, double otherwise,
                     double *out, struct mbl_error *e) {
    const struct mbl_json *v = mbl_json_get(config, key);
    *out = v ? mbl_json_number(v) : otherwise;
    if (!(*out >= least && *out <= most)) return mbl_error_set(e, "%s: a number from %g to %g expected", key, least, most);
    mbl_json_set(&m->arena, m->config, key, mbl_json_float(&m->arena, *out));
    return 0;
}

int mbl_config_list(struct mbl_model *m, const struct mbl_json *config, const char *key, int64_t least, int64_t most, int64_t **out,
                    size_t *count, struct mbl_error *e) {
    const struct mbl_json *v = mbl_json_get(config, key);
    bool empty_table = v && v->type == MBL_JSON_TABLE && !v->count; /* Lua's {} is both */
    *count = v && !empty_table ? v->count : 0;
    if (v && !empty_table && v->type != MBL_JSON_LIST)
        return mbl_error_set(e, "%s: a list of whole numbers expected, found %s", key, mbl_json_type_name(v->type));
    if (*count > MBL_MOST_LAYERS) return mbl_error_set(e, "%s: %zu entries; at most %d expected", key, *count, MBL_MOST_LAYERS);
    *out = mbl_arena_alloc(&m->arena, (*count + 1) * sizeof **out);
    struct mbl_json *list = mbl_json_list(&m->arena);
    for (size_t i = 0; i < *count; i++) {
        double d = mbl_json_number(v->items[i]);
        if (!(d >= (double)least && d <= (double)most) || d != floor(d))
            return mbl_error_set(e, "%s[%zu]: a whole number from %lld to %lld expected", key, i + 1, (long long)least, (long long)most);
        (*out)[i] = (int64_t)d;
        mbl_json_push(&m->arena, list, mbl_json_int(&m->arena, (int64_t)d));
    }
    mbl_json_set(&m->arena, m->config, key, list);
    return 0;
}

int mbl_config_activation(struct mbl_model *m, const struct mbl_json *config, enum mbk_activation *out, struct mbl_error *e) {
    static const struct {
        const char *name;
        enum mbk_activation value;
    } known[] = {{"relu", MBK_RELU}, {"gelu", MBK_GELU}, {"gelu_tanh", MBK_GELU_TANH},
                 {"silu", MBK_SILU}, {"tanh", MBK_TANH}, {"sigmoid", MBK_SIGMOID}};
    const struct mbl_json *v = mbl_json_get(config, "activation");
    const char *name = v ? mbl_json_get_string(config, "activation") : "relu";
    for (size_t i = 0; name && i < sizeof known / sizeof *known; i++) {
        if (strcmp(known[i].name, name)) continue;
        *out = known[i].value;
        mbl_json_set(&m->arena, m->config, "activation", mbl_json_string(&m->arena, name));
        return 0;
    }
    return mbl_error_set(e, "activation: one of relu, gelu, gelu_tanh, silu, tanh, sigmoid expected%s%.60s", name ? ", found " : "",
                         name ? name : "");
}

/* -- the config of a new model */

static bool has_field(const struct mbl_architecture *a, const char *key) {
    for (size_t i = 0; a->fields[i]; i++)
        if (!strcmp(a->fields[i], key)) return true;
    return false;
}

int mbl_model_config(const struct mbl_json *shape, const struct mbl_schema *schema, struct mbl_arena *a, struct mbl_json **out,
                     struct mbl_error *e) {
    const char *kind = mbl_json_get_string(shape, "kind");
    const struct mbl_architecture *architecture = kind ? mbl_architecture_find(kind) : NULL;
    if (!architecture)
        return mbl_error_set(e, "model.kind: one of %s expected%s%.60s", mbl_architecture_names(a), kind ? ", found " : "",
                             kind ? kind : "");
    *out = mbl_json_table(a);
    for (size_t i = 0; i < shape->count; i++) {
        if (!strcmp(shape->keys[i], "kind")) continue;
        if (!has_field(architecture, shape->keys[i])) {
            const char *all = architecture->fields[0];
            for (size_t f = 1; architecture->fields[f]; f++) all = mbl_arena_printf(a, "%s, %s", all, architecture->fields[f]);
            return mbl_error_set(e, "model: %s has no field \"%s\"; it has %s", kind, shape->keys[i], all);
        }
        mbl_json_set(a, *out, shape->keys[i], shape->items[i]);
    }
    mbl_json_set(a, *out, "model_type", mbl_json_string(a, architecture->model_type));
    mbl_json_set(a, *out, "dataset", schema->json);
    return architecture->takes == MBL_TAKES_TOKENS ? mbl_hf_config_new(architecture, schema, a, *out, e) : 0;
}

/* -- creating */

/* What follows from the data: the problem, and how many outputs. */
static int set_problem(struct mbl_model *m, const struct mbl_json *config, struct mbl_error *e) {
    const struct mbl_schema *s = &m->schema;
    if (s->task == MBL_TAGGING)
        return mbl_error_set(e, "the data have a tag for each word, which models of tokens learn: encoder { … }, or finetune");
    bool pairs = m->architecture->takes == MBL_TAKES_PAIRS;
    if (pairs != (s->task == MBL_INTERACTIONS))
        return mbl_error_set(e,
                             pairs ? "a %s learns from interactions: give the dataset a user = \"column\" and an item = \"column\""
                                   : "the data are interactions of users and items, which a %s can't learn from: matrix_factorization "
                                     "and two_towers can",
                             m->architecture->kind);
    if (pairs) return mbl_pairing_problem(m, config, e);
    if (!s->features) return mbl_error_set(e, "the data have no numeric or categorical column to learn from");
    switch (s->task) {
    case MBL_REGRESSION:
        m->problem = MBL_VALUES;
        m->outputs = 1;
        if (!isfinite(s->target_mean) || !isfinite(s->target_deviation) || !(s->target_deviation > 0))
            return mbl_error_set(e, "the target's mean %g and deviation %g are no use: a target that varies is expected", s->target_mean,
                                 s->target_deviation);
        return 0;
    case MBL_CLASSIFICATION:
        if (s->class_count < 2)
            return mbl_error_set(e, "the data have %s class%s%s%s; at least two are needed to tell apart",
                                 s->class_count ? "just one" : "no", s->class_count ? " (" : "", s->class_count ? s->classes[0] : "",
                                 s->class_count ? ")" : "");
        m->problem = s->class_count == 2 ? MBL_BINARY : MBL_CLASSES;
        m->outputs = s->class_count == 2 ? 1 : (int64_t)s->class_count;
        return 0;
    default: return mbl_error_set(e, "the data have no label to learn: give the dataset a label = \"column\"");
    }
}

static int check_finite(const float *v, size_t n, const char *what, struct mbl_error *e) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(v[i])) return mbl_error_set(e, "dataset: the %s of feature %zu is no finite number", what, i + 1);
    return 0;
}

/* What transformers expects beside our own fields; on reading it must agree with the schema. */
static int set_labels(struct mbl_model *m, const struct mbl_json *config, struct mbl_error *e) {
    struct mbl_arena *a = &m->arena;
    const char *given = mbl_json_get_string(config, "problem_type"), *name = mbl_problem_name(m->problem);
    if (given && strcmp(given, name))
        return mbl_error_set(e, "problem_type is \"%.60s\", but the dataset's task makes it \"%s\"", given, name);
    mbl_json_set(a, m->config, "problem_type", mbl_json_string(a, name));
    struct mbl_json *list = mbl_json_list(a);
    mbl_json_push(a, list,
                  mbl_json_string(a, mbl_arena_printf(a, "%sFor%s", m->architecture->class_name,
                                                      m->problem == MBL_VALUES    ? "Regression"
                                                      : m->problem == MBL_RANKING ? "Ranking"
                                                                                  : "Classification")));
    mbl_json_set(a, m->config, "architectures", list);
    if (m->problem == MBL_VALUES || m->problem == MBL_RANKING) return 0;
    const struct mbl_json *labels = mbl_json_get(config, "id2label");
    if (labels && (labels->type != MBL_JSON_TABLE || labels->count != m->schema.class_count))
        return mbl_error_set(e, "id2label: a table of %zu labels expected, as the dataset has classes", m->schema.class_count);
    struct mbl_json *id2label = mbl_json_table(a), *label2id = mbl_json_table(a);
    for (size_t i = 0; i < m->schema.class_count; i++) {
        const char *id = mbl_arena_printf(a, "%zu", i), *label = mbl_json_get_string(labels, id), *class = m->schema.classes[i];
        if (labels && (!label || strcmp(label, class)))
            return mbl_error_set(e, "id2label: label %s is \"%.60s\", but the dataset's class is \"%.60s\"", id,
                                 label ? label : "(missing)", class);
        mbl_json_set(a, id2label, id, mbl_json_string(a, class));
        mbl_json_set(a, label2id, class, mbl_json_int(a, (int64_t)i));
    }
    mbl_json_set(a, m->config, "id2label", id2label);
    mbl_json_set(a, m->config, "label2id", label2id);
    return 0;
}

static int set_quantization(struct mbl_model *m, const struct mbl_json *config, struct mbl_error *e) {
    struct mbl_json *q = mbl_json_get(config, "quantization");
    if (!q) return 0;
    const char *scheme = mbl_json_get_string(q, "scheme");
    if (!scheme || strcmp(scheme, "int8"))
        return mbl_error_set(e, "quantization.scheme: \"int8\" expected%s%.60s", scheme ? ", found " : "", scheme ? scheme : "");
    m->quantized = true;
    mbl_json_set(&m->arena, m->config, "quantization", q);
    return 0;
}

static int check_size(const struct mbl_model *m, struct mbl_error *e) {
    double values = 0;
    for (size_t i = 0; i < m->parameter_count; i++) {
        double count = 1;
        for (int d = 0; d < m->parameters[i].rank; d++) count *= (double)m->parameters[i].shape[d];
        values += count;
    }
    if (values > (double)MBL_MOST_VALUES)
        return mbl_error_set(e, "the model would have %.3g parameters; at most %.3g expected", values, (double)MBL_MOST_VALUES);
    return 0;
}

static int configure(struct mbl_model *m, const struct mbl_json *given, struct mbl_error *e) {
    /* A copy of our own: the schema keeps pointers into its JSON. */
    struct mbl_buf text = {0};
    struct mbl_json *config;
    mbl_json_write(given, MBL_JSON_COMPACT, &text);
    int status = mbl_json_parse(mbl_buf_str(&text), text.len, "config.json", &m->arena, &config, e);
    mbl_buf_free(&text);
    if (status) return -1;
    if (config->type != MBL_JSON_TABLE) return mbl_error_set(e, "a table expected, found %s", mbl_json_type_name(config->type));
    const char *type = mbl_json_get_string(config, "model_type");
    if (!type) return mbl_error_set(e, "model_type is missing");
    m->architecture = mbl_architecture_find(type);
    if (!m->architecture)
        return mbl_error_set(e, "model_type \"%.60s\" is none that this version knows (%s)", type, mbl_architecture_names(&m->arena));
    if (m->architecture->takes == MBL_TAKES_TOKENS)
        return mbl_hf_configure(m, config, e) || m->architecture->configure(m, m->config, e) || mbl_quantized_check(m, e) ? -1
                                                                                                                          : check_size(m, e);
    struct mbl_json *schema = mbl_json_get(config, "dataset");
    if (!schema) return mbl_error_set(e, "dataset is missing: the schema of the data that the model takes");
    if (mbl_schema_parse(schema, &m->arena, &m->schema, e)) return mbl_error_wrap(e, "dataset");
    m->has_schema = true;
    if (set_problem(m, config, e) || check_finite(m->schema.offset, m->schema.features, "offset", e) ||
        check_finite(m->schema.factor, m->schema.features, "factor", e))
        return -1;
    m->config = mbl_json_table(&m->arena);
    mbl_json_set(&m->arena, m->config, "model_type", mbl_json_string(&m->arena, m->architecture->model_type));
    mbl_json_set(&m->arena, m->config, "dataset", schema);
    if (set_labels(m, config, e) || set_quantization(m, config, e) || m->architecture->configure(m, config, e)) return -1;
    return check_size(m, e);
}

int mbl_model_create(struct mbk *k, const struct mbl_json *config, struct mbl_model **out, struct mbl_error *e) {
    struct mbl_model *m = mbl_alloc(sizeof *m);
    m->k = k;
    m->compute = m->saved = MBK_F32;
    *out = NULL;
    if (configure(m, config, e)) {
        mbl_model_free(m);
        return -1;
    }
    *out = m;
    return 0;
}

void mbl_model_free(struct mbl_model *m) {
    if (!m) return;
    if (m->architecture) m->architecture->release(m);
    if (m->values) mbk_free(m->k, m->values);
    if (m->gradients) mbk_free(m->k, m->gradients);
    if (m->scratch) mbk_free(m->k, m->scratch);
    if (m->copies) mbk_free(m->k, m->copies);
    free(m->parameters);
    mbl_texts_free(m->texts);
    mbl_catalogue_free(m->catalogue);
    mbl_arena_free(&m->arena);
    free(m);
}

/* -- parameters */

/* The shape in memory: [O, height, width, I] for [O, I, height, width], a matrix stays a matrix. */
static struct mbk_tensor in_memory(enum mbk_type type, int rank, const int64_t *shape) {
    if (rank == 4) return mbk_tensor4(NULL, type, shape[0], shape[2], shape[3], shape[1]);
    return mbk_tensor(NULL, type, rank, shape);
}

size_t mbl_model_declare(struct mbl_model *m, const char *name, enum mbk_type type, int rank, const int64_t *shape) {
    m->parameters = mbl_grow(m->parameters, &m->parameter_cap, m->parameter_count + 1, sizeof *m->parameters);
    struct mbl_parameter *p = &m->parameters[m->parameter_count];
    *p = (struct mbl_parameter){.name = mbl_arena_strdup(&m->arena, name), .rank = rank, .height = 1, .width = 1};
    for (int i = 0; i < rank; i++) p->shape[i] = shape[i];
    p->value = in_memory(type, rank, shape);
    return m->parameter_count++;
}

bool mbl_parameter_quantized(const struct mbl_parameter *p) {
    return p->value.type == MBK_I8 || mbk_block(p->value.type) > 1;
}

struct mbl_parameter *mbl_model_find(const struct mbl_model *m, const char *name) {
    for (size_t i = 0; i < m->parameter_count; i++)
        if (!strcmp(m->parameters[i].name, name)) return &m->parameters[i];
    return NULL;
}

bool mbl_count_positions(const struct mbl_model *m, const int32_t *ids, int64_t n, int32_t *out) {
    int32_t next = m->pad + 1;
    bool differ = false;
    for (int64_t i = 0; i < n; i++) {
        out[i] = ids[i] == m->pad ? m->pad : next++;
        differ |= ids[i] == m->pad;
    }
    return differ;
}

int64_t mbl_model_parameter_count(const struct mbl_model *m) {
    int64_t sum = 0;
    for (size_t i = 0; i < m->parameter_count; i++) {
        const char *name = m->parameters[i].name, *end = strrchr(name, '.');
        if (!strcmp(end, ".weight") || !strcmp(end, ".bias")) sum += mbk_count(&m->parameters[i].value);
    }
    return sum;
}

static size_t aligned(size_t bytes) {
    return (bytes + 255) & ~(size_t)255;
}

/* One block for all, so that it can be copied and kept as a whole. */
static int allocate_block(struct mbl_model *m, const char *what, void **out, struct mbl_error *e) {
    m->block_bytes = 0;
    for (size_t i = 0; i < m->parameter_count; i++) m->block_bytes += aligned(mbk_bytes(&m->parameters[i].value));
    *out = mbk_alloc(m->k, m->block_bytes);
    if (!*out) return mbl_error_set(e, "no memory for the model's %s (%zu bytes)", what, m->block_bytes);
    return 0;
}

int mbl_model_allocate(struct mbl_model *m, struct mbl_error *e) {
    if (allocate_block(m, "parameters", &m->values, e)) return -1;
    char *next = m->values;
    for (size_t i = 0; i < m->parameter_count; i++) {
        m->parameters[i].value.data = next;
        next += aligned(mbk_bytes(&m->parameters[i].value));
    }
    return 0;
}

int mbl_model_allocate_gradients(struct mbl_model *m, struct mbl_error *e) {
    if (m->quantized) return mbl_error_set(e, "the model is quantized: such weights don't learn; train the model that it was made of");
    if (allocate_block(m, "gradients", &m->gradients, e)) return -1;
    char *next = m->gradients;
    for (size_t i = 0; i < m->parameter_count; i++) {
        m->parameters[i].gradient = m->parameters[i].value;
        m->parameters[i].gradient.data = next;
        next += aligned(mbk_bytes(&m->parameters[i].value));
    }
    return 0;
}

static int initialize(struct mbl_model *m, uint64_t seed, bool all, struct mbl_error *e) {
    uint64_t offset = 0;
    for (size_t i = 0; i < m->parameter_count; i++) {
        const struct mbl_parameter *p = &m->parameters[i];
        if ((all || p->missing) &&
            (p->deviation > 0 ? mbk_random_normal(m->k, 0, p->deviation, seed, offset, &p->value)
                              : mbk_random_uniform(m->k, p->start - p->bound, p->start + p->bound, seed, offset, &p->value)))
            return mbl_kernel_failed(m->k, p->name, e);
        struct mbk_tensor nobody = mbk_rows(&p->value, 0, p->padded);
        if (p->padded && mbk_zero(m->k, &nobody)) return mbl_kernel_failed(m->k, p->name, e);
        offset += ((uint64_t)mbk_count(&p->value) + 3) / 4;
    }
    return 0;
}

int mbl_model_initialize(struct mbl_model *m, uint64_t seed, struct mbl_error *e) {
    return initialize(m, seed, true, e);
}

int mbl_model_initialize_missing(struct mbl_model *m, uint64_t seed, struct mbl_error *e) {
    return initialize(m, seed, false, e);
}
