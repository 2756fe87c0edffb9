/* hf.c: what a Hugging Face config says of problem and labels; see hf.h. Its weights are hf_files.c's. */
#include "hf.h"
#include "transformer_quantized.h"

#include <math.h>
#include <string.h>

#define MOST_LABELS 65536

/* The classes of transformers, and what each learns. The first of a problem is the one that we write. */
static const struct {
    const char *kind, *name;
    enum mbl_problem problem;
} classes[] = {{"bert", "BertForSequenceClassification", MBL_CLASSES}, /* or MBL_VALUES: problem_type tells */
               {"bert", "BertForTokenClassification", MBL_TOKEN_CLASSES},
               {"bert", "BertForMaskedLM", MBL_MASKED_TOKEN},
               {"bert", "BertForPreTraining", MBL_MASKED_TOKEN},
               {"bert", "BertModel", MBL_EMBEDDING},
               {"distilbert", "DistilBertForSequenceClassification", MBL_CLASSES},
               {"distilbert", "DistilBertForTokenClassification", MBL_TOKEN_CLASSES},
               {"distilbert", "DistilBertForMaskedLM", MBL_MASKED_TOKEN},
               {"distilbert", "DistilBertModel", MBL_EMBEDDING},
               {"roberta", "RobertaForSequenceClassification", MBL_CLASSES},
               {"roberta", "RobertaForTokenClassification", MBL_TOKEN_CLASSES},
               {"roberta", "RobertaForMaskedLM", MBL_MASKED_TOKEN},
               {"roberta", "RobertaModel", MBL_EMBEDDING},
               {"gpt2", "GPT2LMHeadModel", MBL_NEXT_TOKEN},
               {"gpt2", "GPT2Model", MBL_NEXT_TOKEN},
               {"llama", "LlamaForCausalLM", MBL_NEXT_TOKEN},
               {"llama", "LlamaModel", MBL_NEXT_TOKEN},
               {"mistral", "MistralForCausalLM", MBL_NEXT_TOKEN},
               {"mistral", "MistralModel", MBL_NEXT_TOKEN},
               {"qwen2", "Qwen2ForCausalLM", MBL_NEXT_TOKEN},
               {"qwen2", "Qwen2Model", MBL_NEXT_TOKEN}};
#define CLASS_COUNT (sizeof classes / sizeof *classes)

static const char *class_of(const struct mbl_architecture *a, enum mbl_problem problem) {
    if (problem == MBL_VALUES || problem == MBL_BINARY) problem = MBL_CLASSES;
    for (size_t i = 0; i < CLASS_COUNT; i++)
        if (!strcmp(classes[i].kind, a->kind) && classes[i].problem == problem) return classes[i].name;
    return NULL;
}

static bool has_labels(enum mbl_problem p) {
    return p == MBL_CLASSES || p == MBL_BINARY || p == MBL_VALUES || p == MBL_TOKEN_CLASSES;
}

/* -- the problem */

static int read_class(struct mbl_model *m, struct mbl_error *e) {
    const struct mbl_architecture *a = m->architecture;
    const struct mbl_json *list = mbl_json_get(m->config, "architectures");
    if (!list || list->type == MBL_JSON_NULL) { /* a body without a head */
        m->problem = a->usual == MBL_NEXT_TOKEN ? MBL_NEXT_TOKEN : MBL_EMBEDDING;
        return 0;
    }
    bool named = list->type == MBL_JSON_LIST && list->count && list->items[0]->type == MBL_JSON_STRING;
    const char *name = named ? list->items[0]->string : NULL;
    const char *known = NULL;
    for (size_t i = 0; i < CLASS_COUNT; i++) {
        if (strcmp(classes[i].kind, a->kind)) continue;
        m->problem = classes[i].problem;
        if (name && !strcmp(name, classes[i].name)) return 0;
        known = known ? mbl_arena_printf(&m->arena, "%s, %s", known, classes[i].name) : classes[i].name;
    }
    return mbl_error_set(e, "architectures: one of %s expected%s%.80s", known, name ? ", found " : "", name ? name : "");
}

/* -- labels */

static int labels_of_config(struct mbl_model *m, struct mbl_error *e) {
    const struct mbl_json *table = mbl_json_get(m->config, "id2label"), *number = mbl_json_get(m->config, "num_labels");
    if (table && table->type != MBL_JSON_TABLE)
        return mbl_error_set(e, "id2label: a table expected, found %s", mbl_json_type_name(table->type));
    double n = table ? (double)table->count : number ? mbl_json_number(number) : 2;
    if (!(n >= 1 && n <= MOST_LABELS) || n != floor(n)) return mbl_error_set(e, "the number of labels must be from 1 to %d", MOST_LABELS);
    const char **names = mbl_arena_alloc(&m->arena, (size_t)n * sizeof *names);
    for (size_t i = 0; i < (size_t)n; i++) {
        const char *id = mbl_arena_printf(&m->arena, "%zu", i);
        names[i] = table ? mbl_json_get_string(table, id) : mbl_arena_printf(&m->arena, "LABEL_%zu", i);
        if (!names[i]) return mbl_error_set(e, "id2label: label \"%s\" is missing; %zu labels count from 0", id, (size_t)n);
    }
    m->schema.classes = names;
    m->schema.class_count = (size_t)n;
    return 0;
}

static int labels_of_schema(struct mbl_model *m, struct mbl_error *e) {
    const struct mbl_schema *s = &m->schema;
    const struct mbl_json *table = mbl_json_get(m->config, "id2label");
    bool words = m->problem == MBL_TOKEN_CLASSES;
    if (words != (s->task == MBL_TAGGING))
        return mbl_error_set(e, "the model is to give %s a class; the data have %s", words ? "each word" : "each row",
                             s->task == MBL_TAGGING   ? "a tag for each word: problem = \"token_classification\" is for such"
                             : s->task == MBL_NO_TASK ? "no label"
                                                      : "a label for each row");
    if (s->task == MBL_REGRESSION) return 0;
    if (s->task == MBL_NO_TASK || s->class_count < 2)
        return mbl_error_set(e, "the data have %s to tell apart; a label with two classes or more is expected",
                             s->task == MBL_NO_TASK ? "no label" : "too few classes");
    if (!table) return 0;
    if (table->type != MBL_JSON_TABLE || table->count != s->class_count)
        return mbl_error_set(e, "id2label: a table of %zu labels expected, as the dataset has classes", s->class_count);
    for (size_t i = 0; i < s->class_count; i++) {
        const char *id = mbl_arena_printf(&m->arena, "%zu", i), *label = mbl_json_get_string(table, id);
        if (!label || strcmp(label, s->classes[i]))
            return mbl_error_set(e, "id2label: label %s is \"%.60s\", but the dataset's class is \"%.60s\"", id,
                                 label ? label : "(missing)", s->classes[i]);
    }
    return 0;
}

static void write_labels(struct mbl_model *m) {
    struct mbl_arena *a = &m->arena;
    struct mbl_json *names = mbl_json_table(a), *ids = mbl_json_table(a);
    const char *const one = "LABEL_0";
    size_t n = m->problem == MBL_VALUES ? 1 : m->schema.class_count;
    for (size_t i = 0; i < n; i++) {
        const char *name = m->problem == MBL_VALUES ? one : m->schema.classes[i];
        mbl_json_set(a, names, mbl_arena_printf(a, "%zu", i), mbl_json_string(a, name));
        mbl_json_set(a, ids, name, mbl_json_int(a, (int64_t)i));
    }
    mbl_json_set(a, m->config, "id2label", names);
    mbl_json_set(a, m->config, "label2id", ids);
    if (m->problem != MBL_TOKEN_CLASSES) mbl_json_set(a, m->config, "problem_type", mbl_json_string(a, mbl_problem_name(m->problem)));
}

static int read_labels(struct mbl_model *m, struct mbl_error *e) {
    if (m->has_schema ? labels_of_schema(m, e) : labels_of_config(m, e)) return -1;
    const char *type = mbl_json_get_string(m->config, "problem_type");
    if (m->problem == MBL_CLASSES) {
        bool value = m->has_schema ? m->schema.task == MBL_REGRESSION : type ? !strcmp(type, "regression") : m->schema.class_count == 1;
        if (value) m->problem = MBL_VALUES;
        if (type && strcmp(type, mbl_problem_name(m->problem)))
            return mbl_error_set(e, "problem_type \"%.60s\": this version knows single_label_classification and regression%s", type,
                                 m->has_schema ? ", and the dataset's task must agree" : "");
    }
    if (m->problem == MBL_VALUES) {
        if (!m->has_schema && m->schema.class_count != 1)
            return mbl_error_set(e, "a regression to %zu numbers; this version knows one", m->schema.class_count);
        if (!isfinite(m->schema.target_mean) || !isfinite(m->schema.target_deviation) || !(m->schema.target_deviation > 0))
            return mbl_error_set(e, "the target's mean %g and deviation %g are no use: a target that varies is expected",
                                 m->schema.target_mean, m->schema.target_deviation);
        m->schema.task = MBL_REGRESSION;
        m->outputs = 1;
    } else {
        m->schema.task = m->problem == MBL_TOKEN_CLASSES ? MBL_TAGGING : MBL_CLASSIFICATION;
        m->outputs = (int64_t)m->schema.class_count;
    }
    write_labels(m);
    return 0;
}

int mbl_hf_configure(struct mbl_model *m, struct mbl_json *config, struct mbl_error *e) {
    struct mbl_arena *a = &m->arena;
    m->config = config;
    mbl_json_set(a, config, "model_type", mbl_json_string(a, m->architecture->model_type));
    struct mbl_json *schema = mbl_json_get(config, "dataset");
    if (schema && mbl_schema_parse(schema, a, &m->schema, e)) return mbl_error_wrap(e, "dataset");
    m->has_schema = schema != NULL;
    if (!schema) m->schema.target_deviation = 1;
    if (mbl_json_get(config, "quantization"))
        return mbl_error_set(e, "quantization: that is how models of features say it; a %s has quantization_config", m->architecture->kind);
    if (mbl_quantized_configure(m, e)) return -1;
    if (read_class(m, e) || (has_labels(m->problem) && read_labels(m, e))) return -1;
    struct mbl_json *list = mbl_json_list(a);
    mbl_json_push(a, list, mbl_json_string(a, class_of(m->architecture, m->problem)));
    mbl_json_set(a, config, "architectures", list);
    return 0;
}

/* -- a new config, and one for another problem */

static int set_class(const struct mbl_architecture *architecture, enum mbl_problem problem, struct mbl_arena *a, struct mbl_json *config,
                     struct mbl_error *e) {
    const char *name = class_of(architecture, problem);
    if (!name) return mbl_error_set(e, "a %s cannot learn the problem %s", architecture->kind, mbl_problem_name(problem));
    struct mbl_json *list = mbl_json_list(a);
    mbl_json_push(a, list, mbl_json_string(a, name));
    mbl_json_set(a, config, "architectures", list);
    return 0;
}

static struct mbl_json *without(const struct mbl_json *table, const char *const *keys, struct mbl_arena *a) {
    struct mbl_json *out = mbl_json_table(a);
    for (size_t i = 0; i < table->count; i++) {
        const char *const *key = keys;
        while (*key && strcmp(*key, table->keys[i])) key++;
        if (!*key) mbl_json_set(a, out, table->keys[i], table->items[i]);
    }
    return out;
}

int mbl_hf_config_new(const struct mbl_architecture *architecture, const struct mbl_schema *schema, struct mbl_arena *a,
                      struct mbl_json *config, struct mbl_error *e) {
    static const enum mbl_problem all[] = {MBL_CLASSES, MBL_VALUES, MBL_NEXT_TOKEN, MBL_MASKED_TOKEN, MBL_TOKEN_CLASSES, MBL_EMBEDDING};
    const struct mbl_json *asked = mbl_json_get(config, "problem");
    enum mbl_problem problem = architecture->usual;
    if (asked) {
        const char *name = mbl_json_get_string(config, "problem"), *known = NULL;
        problem = 0;
        for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
            const char *one = mbl_problem_name(all[i]);
            known = known ? mbl_arena_printf(a, "%s, %s", known, one) : one;
            if (name && !strcmp(name, one)) problem = all[i];
        }
        if (!problem) return mbl_error_set(e, "model.problem: one of %s expected%s%.60s", known, name ? ", found " : "", name ? name : "");
        static const char *const own[] = {"problem", NULL};
        struct mbl_json *rest = without(config, own, a);
        *config = *rest;
    } else if (schema && problem != MBL_NEXT_TOKEN && schema->task != MBL_NO_TASK) {
        problem = schema->task == MBL_REGRESSION ? MBL_VALUES : schema->task == MBL_TAGGING ? MBL_TOKEN_CLASSES : MBL_CLASSES;
    }
    return set_class(architecture, problem, a, config, e);
}

int mbl_model_load_for(struct mbk *k, const char *folder, enum mbl_problem problem, const struct mbl_schema *schema, uint64_t seed,
                       struct mbl_model **out, struct mbl_error *e) {
    static const char *const changed[] = {"architectures", "dataset", "id2label", "label2id", "num_labels", "problem_type", NULL};
    struct mbl_arena a = {0};
    struct mbl_json *config;
    struct mbl_hf_weights w = {0};
    struct mbl_model *m = NULL;
    int status = -1;
    *out = NULL;
    const char *path = mbl_path_join(&a, folder, "config.json");
    if (mbl_json_read(path, &a, &config, e)) goto done;
    const char *type = mbl_json_get_string(config, "model_type");
    const struct mbl_architecture *architecture = type ? mbl_architecture_find(type) : NULL;
    if (!architecture || architecture->takes != MBL_TAKES_TOKENS) {
        mbl_error_set(e,
                      "%s: model_type%s%.60s is no model of tokens that this version knows (bert, distilbert, roberta, gpt2, llama, mistral, "
                      "qwen2)",
                      path, type ? " " : "", type ? type : " (missing)");
        goto done;
    }
    if (mbl_json_get(config, "quantization_config")) {
        mbl_error_set(e, "%s: the model is quantized: such weights don't learn; train on from the model that it was made of, and quantize "
                      "what comes of that", path);
        goto done;
    }
    config = without(config, changed, &a);
    if (schema) mbl_json_set(&a, config, "dataset", schema->json);
    if (set_class(architecture, problem, &a, config, e) || mbl_model_create(k, config, &m, e)) {
        mbl_error_wrap(e, "%s", path);
        goto done;
    }
    if (mbl_hf_open(folder, &w, e) || mbl_hf_read(m, w.tensors, w.count, true, e)) {
        mbl_error_wrap(e, "%s", folder);
        goto done;
    }
    if (mbl_model_initialize_missing(m, seed, e)) goto done;
    *out = m;
    m = NULL;
    status = 0;
done:
    mbl_hf_close(&w);
    mbl_model_free(m);
    mbl_arena_free(&a);
    return status;
}
