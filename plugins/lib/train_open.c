/* train_open.c: what a training starts from: data, tokenizer, model, teacher; see train_session.h. */
#include "train_session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Multiplications of an operation below which a second thread costs more than it brings: to meet takes microseconds, and on a busy machine
 * a thread that is waited for may not be running at all. */
#define SMALL_WORK (INT64_C(1) << 21)

static const char *input(const struct mbl_session *s, const char *role) {
    return s->host->input_path(s->run, role, 0);
}

/* -- the device */

static int open_device(struct mbl_session *s, int threads, struct mbl_error *e) {
    const struct mbk_options options = {.threads = threads};
    const char *device = s->host->device(s->run);
    if (!mbk_open(device, &options, &s->k, e->text, sizeof e->text)) return 0;
    s->k = NULL;
    return mbl_error_wrap(e, "device %s", device);
}

/* A step that asked for GPUs sees those that it holds and no others, and trains on all of them. */
static int open_others(struct mbl_session *s, struct mbl_error *e) {
    if (strcmp(mbk_device(s->k), "cuda") || !s->host->env(s->run, "CUDA_VISIBLE_DEVICES")) return 0;
    int count = mbk_device_count("cuda");
    s->others = mbl_alloc((size_t)(count > 1 ? count : 1) * sizeof *s->others);
    for (int i = 1; i < count; i++) {
        char device[32];
        snprintf(device, sizeof device, "cuda:%d", i);
        if (mbk_open(device, NULL, &s->others[s->other_count], e->text, sizeof e->text)) return mbl_error_wrap(e, "device %s", device);
        s->host->log(s->run, MB_DEBUG, "and on %s: %s", device, mbk_description(s->others[s->other_count]));
        s->other_count++;
    }
    return 0;
}

/* The largest product of a step, in multiplications. */
static int64_t largest_work(const struct mbl_model *m, int64_t rows, int64_t time) {
    int64_t most = 0, places = m->schema.shape_rank ? m->schema.shape[0] * m->schema.shape[1] : 1;
    for (size_t i = 0; i < m->parameter_count; i++) {
        const struct mbl_parameter *p = &m->parameters[i];
        int64_t work = mbk_count(&p->value) * rows * (time > 1 ? time : 1) * (p->rank == 4 ? places : 1);
        if (p->rank >= 2 && work > most) most = work;
    }
    return most;
}

/* Before the model has any memory: a small one is better off with a thread of its own. What comes out is the same. */
static int fit_device(struct mbl_session *s, struct mbl_error *e) {
    const struct mbl_train_options *o = &s->trainer.options;
    int64_t rows = o->batch < s->train.rows ? o->batch : s->train.rows;
    bool small = largest_work(s->model, (rows + o->accumulate - 1) / o->accumulate, s->train.tokens.longest) < SMALL_WORK;
    if (small && !strcmp(mbk_device(s->k), "cpu") && s->host->cpus(s->run) > 1) {
        mbk_close(s->k);
        if (open_device(s, 1, e)) return -1;
        s->model->k = s->k;
    }
    s->host->log(s->run, MB_DEBUG, "on %s: %s", mbk_device(s->k), mbk_description(s->k));
    return 0;
}

/* -- texts */

/* What the rule says about texts, over what a folder said. */
static void read_text_params(const struct mbl_session *s, struct mbl_texts *x) {
    const struct mb_host *host = s->host;
    size_t count = host->param_count(s->run, "text");
    for (size_t i = 0; i < count && i < MBL_TEXT_COLUMNS; i++) {
        char path[32] = "text[0]";
        path[5] = (char)('0' + i);
        x->columns[i] = mbl_arena_strdup(&x->arena, host->param_string(s->run, path));
        if (i + 1 < MBL_TEXT_COLUMNS) x->columns[i + 1] = NULL;
    }
    if (host->param_given(s->run, "max_length")) x->length = host->param_int(s->run, "max_length");
    if (host->param_given(s->run, "subwords")) x->every_part = !strcmp(host->param_string(s->run, "subwords"), "all");
    if (host->param_given(s->run, "join")) x->join = mbl_arena_strdup(&x->arena, host->param_string(s->run, "join"));
}

/* Learned from the training part, where none is given. */
static int learn_tokenizer(struct mbl_session *s, struct mbl_texts *x, const struct mbl_architecture *a, struct mbl_error *e) {
    const struct mb_host *host = s->host;
    bool given = host->param_given(s->run, "tokenizer.kind");
    struct mbl_tokenizer_training o = {
        .model = given ? host->param_string(s->run, "tokenizer.kind") : a->usual == MBL_NEXT_TOKEN ? "bpe" : "wordpiece",
        .vocabulary = (size_t)host->param_int(s->run, "tokenizer.vocabulary"),
        .least_count = (size_t)host->param_int(s->run, "tokenizer.least_count"),
        .lowercase = host->param_bool(s->run, "tokenizer.lowercase"),
        .max_length = (size_t)x->length,
    };
    if (mbl_texts_learn(x, &s->train.data, &o, e)) return mbl_error_wrap(e, "learning a tokenizer");
    host->log(s->run, MB_INFO, "a %s tokenizer of %zu tokens was learned from the training part", o.model,
              mbl_tokenizer_size(x->tokenizer));
    return 0;
}

/* The texts of a model that starts from nothing: a tokenizer that is given, the teacher's, or one that is learned. */
static int open_texts(struct mbl_session *s, const struct mbl_architecture *a, struct mbl_texts **out, struct mbl_error *e) {
    const char *given = input(s, "tokenizer");
    bool own = given || s->host->param_given(s->run, "tokenizer.kind");
    const char *teacher = s->kind == MBL_DISTILL && !own ? input(s, "teacher") : NULL;
    struct mbl_texts *x = NULL;
    if (teacher && mbl_texts_open(teacher, &x, e)) return -1;
    if (!x) x = mbl_texts_new();
    *out = x;
    read_text_params(s, x);
    if (given) return mbl_tokenizer_open(given, &x->tokenizer, e);
    return x->tokenizer ? 0 : learn_tokenizer(s, x, a, e);
}

static void warn_of_cuts(const struct mbl_session *s, const struct mbl_feed *f) {
    if (f->tokens.cut)
        s->host->log(s->run, MB_WARN, "part %s: %lld of %lld texts are longer than %lld tokens and were cut", f->data.part,
                     (long long)f->tokens.cut, (long long)f->rows, (long long)f->tokens.longest);
}

/* -- the model */

/* What the tokenizer knows and the config has a place for, unless the rule says something else. */
static void set_ids(struct mbl_session *s, const struct mbl_architecture *a, const struct mbl_tokenizer *t, struct mbl_json *shape) {
    const struct mbl_special_ids *special = mbl_tokenizer_special(t);
    const struct {
        const char *key;
        int64_t value;
    } known[] = {{"vocab_size", (int64_t)mbl_tokenizer_size(t)}, {"pad_token_id", special->pad}, {"bos_token_id", special->bos},
                 {"eos_token_id", special->eos}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        for (size_t f = 0; a->fields[f]; f++)
            if (known[i].value >= 0 && !strcmp(a->fields[f], known[i].key) && !mbl_json_get(shape, known[i].key))
                mbl_json_set(&s->arena, shape, known[i].key, mbl_json_int(&s->arena, known[i].value));
}

static int create_model(struct mbl_session *s, struct mbl_error *e) {
    const char *text = s->host->param_json(s->run, "model");
    struct mbl_texts *texts = NULL;
    struct mbl_json *shape, *config;
    if (mbl_json_parse(text, strlen(text), "model", &s->arena, &shape, e)) return -1;
    const char *kind = mbl_json_get_string(shape, "kind");
    const struct mbl_architecture *a = kind ? mbl_architecture_find(kind) : NULL;
    bool pairs = a && a->takes == MBL_TAKES_PAIRS;
    int status = 0;
    if (pairs && s->kind != MBL_TRAIN) return mbl_error_set(e, "a %s can't be distilled: train it", kind);
    if (a && a->takes == MBL_TAKES_TOKENS) {
        status = open_texts(s, a, &texts, e);
        if (!status) set_ids(s, a, texts->tokenizer, shape);
    }
    if (!status) status = mbl_model_config(shape, &s->train.data.schema, &s->arena, &config, e);
    if (!status) status = mbl_model_create(s->k, config, &s->model, e);
    if (!status && pairs) status = mbl_catalogue_read(s->model->schema.json, &s->train.data.file, &s->model->catalogue, e);
    if (status) mbl_texts_free(texts);
    else s->model->texts = texts;
    return status;
}

/* What a model of the folder is to learn: what the rule says, or what the data's labels say, or what its kind is for. */
static int find_problem(struct mbl_session *s, const char *folder, enum mbl_problem *out, struct mbl_error *e) {
    static const enum mbl_problem known[] = {MBL_CLASSES, MBL_VALUES, MBL_NEXT_TOKEN, MBL_MASKED_TOKEN, MBL_TOKEN_CLASSES};
    struct mbl_json *config;
    if (mbl_json_read(mbl_path_join(&s->arena, folder, "config.json"), &s->arena, &config, e)) return -1;
    const char *type = mbl_json_get_string(config, "model_type");
    const struct mbl_architecture *a = type ? mbl_architecture_find(type) : NULL;
    if (!a)
        return mbl_error_set(e, "%s/config.json: model_type is %.60s; %s expected", folder, type ? type : "missing",
                             mbl_architecture_names(&s->arena));
    if (a->takes != MBL_TAKES_TOKENS)
        return mbl_error_set(e, "%s: a model of kind %s can't be fine-tuned; train it, or distill it", folder, a->kind);
    enum mbl_task task = s->train.data.schema.task;
    static const enum mbl_problem by_task[] = {
        [MBL_CLASSIFICATION] = MBL_CLASSES, [MBL_REGRESSION] = MBL_VALUES, [MBL_TAGGING] = MBL_TOKEN_CLASSES};
    *out = task == MBL_NO_TASK ? a->usual : by_task[task];
    if (!s->host->param_given(s->run, "problem")) return 0;
    const char *wanted = s->host->param_string(s->run, "problem");
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(mbl_problem_name(known[i]), wanted)) *out = known[i];
    return 0;
}

static int load_model(struct mbl_session *s, struct mbl_error *e) {
    const char *folder = input(s, "base");
    enum mbl_problem problem = MBL_CLASSES;
    uint64_t seed = mbl_seed_for(s->trainer.options.seed, MBL_FOR_WEIGHTS);
    if (find_problem(s, folder, &problem, e) ||
        mbl_model_load_for(s->k, folder, problem, &s->train.data.schema, seed, &s->model, e))
        return -1;
    if (!s->model->texts && mbl_texts_open(folder, &s->model->texts, e)) return -1;
    if (!s->model->texts)
        return mbl_error_set(e, "%s has no tokenizer: tokenizer.json, or vocab.txt, or vocab.json with merges.txt expected", folder);
    read_text_params(s, s->model->texts);
    return 0;
}

static int open_model(struct mbl_session *s, struct mbl_error *e) {
    const char *path = input(s, "train");
    bool fresh = s->kind != MBL_FINETUNE;
    if (mbl_feed_open(&s->train, NULL, path, e)) return -1;
    if ((fresh ? create_model(s, e) : load_model(s, e)) || mbl_feed_bind(&s->train, s->model, e)) return mbl_error_wrap(e, "%s", path);
    if (fresh && (fit_device(s, e) || mbl_model_allocate(s->model, e) ||
                  mbl_model_initialize(s->model, mbl_seed_for(s->trainer.options.seed, MBL_FOR_WEIGHTS), e)))
        return -1;
    path = input(s, "val");
    s->has_val = path != NULL;
    if (path && mbl_feed_open(&s->val, s->model, path, e)) return -1;
    warn_of_cuts(s, &s->train);
    warn_of_cuts(s, &s->val);
    return 0;
}

/* -- the teacher */

/* Whether an id is the same token to both. */
static int check_vocabulary(const struct mbl_model *teacher, const struct mbl_model *student, struct mbl_error *e) {
    const struct mbl_tokenizer *a = teacher->texts ? teacher->texts->tokenizer : NULL, *b = student->texts->tokenizer;
    if (!a) return mbl_error_set(e, "its folder has no tokenizer");
    if (teacher->outputs != student->outputs || mbl_tokenizer_size(a) != mbl_tokenizer_size(b))
        return mbl_error_set(e, "it has a vocabulary of %lld, the student one of %lld", (long long)teacher->outputs,
                             (long long)student->outputs);
    for (int32_t i = 0; i < (int32_t)mbl_tokenizer_size(a); i++) {
        const char *x = mbl_tokenizer_token(a, i), *y = mbl_tokenizer_token(b, i);
        if ((x || y) && (!x || !y || strcmp(x, y)))
            return mbl_error_set(e, "token %d is \"%.60s\" to it and \"%.60s\" to the student", i, x ? x : "(none)", y ? y : "(none)");
    }
    return 0;
}

/* Whether a class of words is the same to both. */
static int check_tags(const struct mbl_model *teacher, const struct mbl_model *student, struct mbl_error *e) {
    const struct mbl_schema *a = &teacher->schema, *b = &student->schema;
    if (student->problem != MBL_TOKEN_CLASSES) return 0;
    for (size_t i = 0; i < a->class_count || i < b->class_count; i++) {
        const char *x = i < a->class_count ? a->classes[i] : "(none)", *y = i < b->class_count ? b->classes[i] : "(none)";
        if (strcmp(x, y)) return mbl_error_set(e, "class %zu is \"%.60s\" to it and \"%.60s\" to the student", i, x, y);
    }
    return 0;
}

/* A teacher that answers to each token is asked batch by batch, on the student's own stream. */
static int open_teacher(struct mbl_session *s, const char *folder, struct mbl_error *e) {
    if (mbl_model_load(s->k, folder, &s->teacher_model, e)) return -1;
    if (s->teacher_model->problem != s->model->problem)
        return mbl_error_set(e, "it answers with %s, the student with %s", mbl_problem_name(s->teacher_model->problem),
                             mbl_problem_name(s->model->problem));
    if (s->train.tokens.longest > s->teacher_model->longest)
        return mbl_error_set(e, "it takes rows of at most %lld tokens; max_length = %lld would do", (long long)s->teacher_model->longest,
                             (long long)s->teacher_model->longest);
    return check_tags(s->teacher_model, s->model, e) || check_vocabulary(s->teacher_model, s->model, e) ? -1 : 0;
}

/* Any other answers once to all rows: it doesn't change, and no row changes between epochs. */
static int ask_teacher(struct mbl_session *s, const char *folder, struct mbl_error *e) {
    struct mbk *k;
    struct mbl_model *teacher;
    struct mbl_feed feed = {0};
    void *answers = NULL;
    int status = -1;
    if (mbl_model_load_on(s->host->device(s->run), s->host->cpus(s->run), folder, &k, &teacher, e)) return -1;
    if (teacher->architecture->takes == MBL_TAKES_FEATURES && mbl_schema_compatible(&teacher->schema, &s->model->schema, e)) {
        mbl_error_wrap(e, "the teacher %s was not made for these data", folder);
        goto done;
    }
    if (mbl_feed_open(&feed, teacher, input(s, "train"), e)) goto done;
    if (teacher->outputs != s->model->outputs || feed.rows != s->train.rows) {
        mbl_error_set(e, "the teacher %s gives %lld numbers a row, the student %lld", folder, (long long)teacher->outputs,
                      (long long)s->model->outputs);
        goto done;
    }
    if (mbl_try_alloc(&answers, (uint64_t)feed.rows * (uint64_t)teacher->outputs, sizeof(float), "the teacher's answers", e)) goto done;
    s->teacher = answers;
    if (mbl_predict(teacher, &feed, 0, feed.rows, feed.tokens.rows ? s->trainer.options.batch : 256, s->teacher, e)) {
        mbl_error_wrap(e, "the teacher %s", folder);
        goto done;
    }
    for (int64_t i = 0; teacher->problem == MBL_VALUES && i < feed.rows; i++)
        s->teacher[i] = (float)((s->teacher[i] - s->model->schema.target_mean) / s->model->schema.target_deviation);
    status = 0;
done:
    mbl_feed_close(&feed);
    mbl_model_free(teacher);
    mbk_close(k);
    return status;
}

static int find_teacher(struct mbl_session *s, struct mbl_error *e) {
    const char *folder = input(s, "teacher");
    if (!mbl_problem_per_token(s->model->problem)) return ask_teacher(s, folder, e);
    return open_teacher(s, folder, e) ? mbl_error_wrap(e, "the teacher %s", folder) : 0;
}

/* -- all of it */

static int check_against_data(const struct mbl_session *s, struct mbl_error *e) {
    const struct mbl_train_options *o = &s->trainer.options;
    bool values = s->model->problem == MBL_VALUES, ranks = s->model->problem == MBL_RANKING;
    if (o->early_stop && !s->has_val) return mbl_error_set(e, "early_stop needs a validation part: give the dataset's split a val share");
    if (o->early_stop && o->watched == MBL_WATCH_ACCURACY && values)
        return mbl_error_set(e, "early_stop.metric: regression has no val_accuracy; take val_loss or val_r2");
    if (o->early_stop && (o->watched == MBL_WATCH_NDCG) != ranks && o->watched != MBL_WATCH_LOSS)
        return mbl_error_set(e, ranks ? "early_stop.metric: ranking has val_loss and val_ndcg"
                                      : "early_stop.metric: val_ndcg is for ranking");
    if (ranks && (o->balanced || o->label_smoothing > 0))
        return mbl_error_set(e, "class_weights and label_smoothing: ranking has no classes");
    if (ranks && s->model->pairing.loss == MBL_LOSS_SOFTMAX && o->accumulate > 1)
        return mbl_error_set(e, "accumulate: a batch whose items are compared with each other can't go in pieces");
    if (o->early_stop && o->watched == MBL_WATCH_R2 && !values)
        return mbl_error_set(e, "early_stop.metric: classification has no val_r2; take val_loss or val_accuracy");
    if (o->balanced && values) return mbl_error_set(e, "class_weights: regression has no classes");
    if (o->balanced && mbl_problem_per_token(s->model->problem)) return mbl_error_set(e, "class_weights: rows have classes here, not tokens");
    if ((o->shift || o->mirror) && !s->model->schema.shape_rank) return mbl_error_set(e, "augment is for images: these data have no shape");
    if (o->label_smoothing > 0 && (values || s->model->problem == MBL_BINARY || s->model->outputs < 3))
        return mbl_error_set(e, "label_smoothing is for three classes or more");
    return 0;
}

int mbl_session_open(struct mbl_session *s, struct mbl_error *e) {
    mbl_train_read_options(s->host, s->run, s->kind, &s->trainer.options);
    if (open_device(s, s->host->cpus(s->run), e)) return -1;
    if (open_model(s, e) || check_against_data(s, e) || (s->kind == MBL_DISTILL && find_teacher(s, e))) return -1;
    s->trainer.model = s->model;
    s->trainer.train = &s->train;
    s->trainer.teacher = s->teacher;
    s->trainer.teacher_model = s->teacher_model;
    if (open_others(s, e)) return -1;
    s->trainer.streams = s->others;
    s->trainer.stream_count = s->other_count;
    return mbl_trainer_open(&s->trainer, e);
}

void mbl_session_close(struct mbl_session *s) {
    mbl_trainer_close(&s->trainer);
    mbl_feed_close(&s->train);
    mbl_feed_close(&s->val);
    mbl_model_free(s->teacher_model);
    mbl_model_free(s->model);
    free(s->teacher);
    mbl_buf_free(&s->log);
    mbl_arena_free(&s->arena);
    for (int i = 0; i < s->other_count; i++) mbk_close(s->others[i]);
    free(s->others);
    if (s->k) mbk_close(s->k);
}
