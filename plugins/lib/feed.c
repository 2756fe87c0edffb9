/* feed.c: data on their way into a model; see feed.h. */
#include "feed.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int scale_features(struct mbl_feed *f, const struct mbl_schema *s, struct mbl_error *e) {
    size_t n = s->features;
    for (int64_t r = 0; r < f->rows; r++) {
        const float *row = f->data.features + (size_t)r * n;
        float *scaled = f->scaled + (size_t)r * n;
        for (size_t i = 0; i < n; i++) {
            scaled[i] = (row[i] - s->offset[i]) * s->factor[i];
            if (isfinite(scaled[i])) continue;
            return mbl_error_set(e, "line %lld: %s is %s; a model needs numbers: clean the data with missing = \"drop\" or \"mean\"",
                                 (long long)f->data.lines[r], s->feature_names[i],
                                 isfinite(row[i]) ? "too large"
                                 : isnan(row[i])  ? "missing (NaN)"
                                                  : "infinite");
        }
    }
    return 0;
}

static int standardize_targets(struct mbl_feed *f, const struct mbl_schema *s, struct mbl_error *e) {
    void *p;
    if (mbl_try_alloc(&p, (uint64_t)f->rows, sizeof *f->targets, "the targets", e)) return -1;
    f->targets = p;
    for (int64_t r = 0; r < f->rows; r++) {
        f->targets[r] = (float)((f->data.targets[r] - s->target_mean) / s->target_deviation);
        if (!isfinite(f->targets[r])) return mbl_error_set(e, "line %lld: the target is no finite number", (long long)f->data.lines[r]);
    }
    return 0;
}

/* What a model of tokens was made for, against what the data have: its labels alone, since it reads columns by name. */
static int check_labels(const struct mbl_feed *f, const struct mbl_model *m, struct mbl_error *e) {
    const struct mbl_schema *mine = &m->schema, *theirs = &f->data.schema;
    if (f->unlabelled || mbl_problem_per_token(m->problem) || m->problem == MBL_EMBEDDING) return 0;
    if (m->problem == MBL_VALUES)
        return theirs->task == MBL_REGRESSION ? 0 : mbl_error_set(e, "the model gives numbers; these data have no numbers as labels");
    if (theirs->task != MBL_CLASSIFICATION) return mbl_error_set(e, "the model gives classes; these data have no classes as labels");
    if (mine->class_count != theirs->class_count)
        return mbl_error_set(e, "the model knows %zu classes, these data have %zu", mine->class_count, theirs->class_count);
    for (size_t i = 0; i < mine->class_count; i++)
        if (strcmp(mine->classes[i], theirs->classes[i]))
            return mbl_error_set(e, "class %zu is \"%.100s\" to the model and \"%.100s\" in these data", i, mine->classes[i],
                                 theirs->classes[i]);
    return 0;
}

/* A model that knows one type is told none; one that counts positions must be told them where a text has the pad token in it. */
static void fit_tokens(struct mbl_feed *f, const struct mbl_model *m) {
    struct mbl_tokens *t = &f->tokens;
    int64_t tokens = t->starts[t->rows];
    if (m->text_types <= 1) {
        free(t->types);
        t->types = NULL;
    }
    for (int64_t i = 0; m->counts_positions && i < tokens && !f->pads_inside; i++) f->pads_inside = t->ids[i] == m->pad;
}

static int bind_tokens(struct mbl_feed *f, struct mbl_model *m, struct mbl_error *e) {
    struct mbl_texts *x = m->texts;
    if (!x) return mbl_error_set(e, "the model's folder has no tokenizer: tokenizer.json, or vocab.txt, or vocab.json with merges.txt");
    if ((int64_t)mbl_tokenizer_size(x->tokenizer) > m->vocabulary)
        return mbl_error_set(e, "the tokenizer has ids up to %zu, the model takes %lld", mbl_tokenizer_size(x->tokenizer) - 1,
                             (long long)m->vocabulary);
    if (x->length > m->longest)
        return mbl_error_set(e, "max_length is %lld, but the model takes rows of at most %lld tokens", (long long)x->length,
                             (long long)m->longest);
    struct mbl_dataset data = f->data;
    if (f->unlabelled) data.schema.task = MBL_NO_TASK; /* tags that the model doesn't know are no matter then */
    if (check_labels(f, m, e) || mbl_tokens_open(&f->tokens, x, &data, m->problem, x->length ? x->length : m->longest, &m->schema, e))
        return -1;
    f->rows = f->tokens.rows;
    fit_tokens(f, m);
    return 0;
}

int mbl_feed_bind(struct mbl_feed *f, struct mbl_model *m, struct mbl_error *e) {
    const struct mbl_schema *s = &m->schema;
    bool tokens = m->architecture->takes == MBL_TAKES_TOKENS, pairs = m->architecture->takes == MBL_TAKES_PAIRS;
    f->model = m;
    if (!f->rows) return mbl_error_set(e, "part \"%s\" has no rows", f->data.part);
    if (tokens          ? bind_tokens(f, m, e)
        : pairs         ? mbl_pairs_open(&f->pairs, m, &f->data, e)
        : f->unlabelled ? mbl_schema_takes(s, &f->data.schema, e)
                        : mbl_schema_compatible(s, &f->data.schema, e))
        return mbl_error_wrap(e, "these data aren't what the model takes");
    if (pairs) f->data.targets = f->pairs.x.ratings;
    bool words = m->problem == MBL_TOKEN_CLASSES, none = m->problem == MBL_VALUES ? !f->data.targets : !f->data.labels;
    if (words) none = !f->tokens.tags;
    if ((mbl_problem_per_token(m->problem) && !words) || m->problem == MBL_RANKING) return 0;
    if (none && !f->unlabelled && m->problem != MBL_EMBEDDING) return mbl_error_set(e, "part \"%s\" has no labels", f->data.part);
    if (m->architecture->takes == MBL_TAKES_FEATURES) {
        void *scaled;
        if (mbl_try_alloc(&scaled, (uint64_t)f->rows * s->features, sizeof(float), "the scaled features", e)) return -1;
        f->scaled = scaled;
        if (scale_features(f, s, e)) return -1;
    }
    return m->problem == MBL_VALUES && !f->unlabelled ? standardize_targets(f, s, e) : 0;
}

int mbl_feed_upload(struct mbl_feed *f, struct mbl_error *e) {
    struct mbk *k = f->model->k;
    if (!f->scaled) return 0;
    f->x = mbk_tensor2(NULL, MBK_F32, f->rows, (int64_t)f->model->schema.features);
    f->x.data = mbk_alloc(k, mbk_bytes(&f->x));
    if (!f->x.data) return mbl_error_set(e, "no memory for part \"%s\" (%zu bytes)", f->data.part, mbk_bytes(&f->x));
    if (mbk_write(k, f->x.data, f->scaled, mbk_bytes(&f->x))) return mbl_kernel_failed(k, f->data.part, e);
    free(f->scaled);
    f->scaled = NULL;
    return 0;
}

int mbl_feed_open(struct mbl_feed *f, struct mbl_model *m, const char *path, struct mbl_error *e) {
    memset(f, 0, sizeof *f);
    if (mbl_dataset_open(path, &f->data, e)) return -1;
    f->rows = f->data.rows;
    if (!m || (!mbl_feed_bind(f, m, e) && !mbl_feed_upload(f, e))) return 0;
    mbl_feed_close(f);
    return mbl_error_wrap(e, "%s", path);
}

static void release_batch(struct mbl_feed *f) {
    for (size_t i = 0; i < sizeof f->batch / sizeof *f->batch; i++) {
        if (f->batch[i].data) mbk_free(f->model->k, f->batch[i].data);
        f->batch[i].data = NULL;
    }
    free(f->staging);
    f->staging = NULL;
    f->room = 0;
}

void mbl_feed_share(const struct mbl_feed *from, struct mbl_model *m, struct mbl_feed *out) {
    *out = *from;
    memset(out->batch, 0, sizeof out->batch);
    out->x = (struct mbk_tensor){0};
    out->staging = NULL;
    out->room = 0;
    out->model = m;
    out->shared = true;
}

void mbl_feed_close(struct mbl_feed *f) {
    release_batch(f);
    if (f->shared) {
        memset(f, 0, sizeof *f);
        return;
    }
    if (f->model) mbl_pairs_close(&f->pairs, f->model->k);
    if (f->x.data) mbk_free(f->model->k, f->x.data);
    free(f->targets);
    free(f->scaled);
    mbl_tokens_close(&f->tokens);
    mbl_dataset_close(&f->data);
    memset(f, 0, sizeof *f);
}

/* -- batches */

enum { IDS, TYPES, POSITIONS, LENGTHS, LABELS, FIGURES };

int mbl_feed_reserve(struct mbl_feed *f, int64_t rows, struct mbl_error *e) {
    void *staging;
    if (f->model->architecture->takes == MBL_TAKES_PAIRS) return mbl_pairs_reserve(&f->pairs, f->model, rows, e);
    if (f->model->architecture->takes != MBL_TAKES_TOKENS || rows <= f->room) return 0;
    release_batch(f);
    int64_t cells = rows * f->tokens.longest;
    bool per_token = mbl_problem_per_token(f->model->problem);
    if (mbl_try_alloc(&staging, 3 * (uint64_t)cells + (uint64_t)rows, sizeof(int32_t), "a batch", e)) return -1;
    f->staging = staging;
    for (int i = 0; i < (per_token ? FIGURES + 1 : LABELS); i++) {
        if ((i == TYPES && !f->tokens.types) || (i == POSITIONS && !f->pads_inside)) continue;
        f->batch[i] = mbk_tensor1(NULL, MBK_I32, i == LENGTHS ? rows : i == FIGURES ? 2 * cells : cells);
        f->batch[i].data = mbk_alloc(f->model->k, mbk_bytes(&f->batch[i]));
        if (!f->batch[i].data) return mbl_error_set(e, "no memory for a batch of %lld rows", (long long)rows);
    }
    f->room = rows;
    return 0;
}

int mbl_feed_batch(struct mbl_feed *f, const int32_t *order, int64_t first, int64_t rows, struct mbl_batch *b, struct mbl_error *e) {
    struct mbk *k = f->model->k;
    if (f->model->architecture->takes == MBL_TAKES_PAIRS) return mbl_pairs_batch(&f->pairs, f->model, order, first, rows, b, e);
    if (f->model->architecture->takes != MBL_TAKES_TOKENS) {
        b->x = mbk_rows(&f->x, first, rows);
        return 0;
    }
    int64_t width = mbl_tokens_width(&f->tokens, order, first, rows), cells = rows * width;
    int32_t *ids = f->staging, *types = ids + cells, *positions = types + cells, *lengths = positions + cells;
    b->ids = mbk_tensor2(f->batch[IDS].data, MBK_I32, rows, width);
    b->types = mbk_tensor2(f->batch[TYPES].data, MBK_I32, rows, width);
    b->positions = mbk_tensor2(f->batch[POSITIONS].data, MBK_I32, rows, width);
    b->lengths = mbk_tensor1(f->batch[LENGTHS].data, MBK_I32, rows);
    mbl_tokens_fill(&f->tokens, order, first, rows, width, ids, b->types.data ? types : NULL, lengths);
    for (int64_t i = 0; b->positions.data && i < rows; i++) mbl_count_positions(f->model, ids + i * width, width, positions + i * width);
    if (b->positions.data && mbk_write(k, b->positions.data, positions, mbk_bytes(&b->positions))) return mbl_kernel_failed(k, "a batch", e);
    if (mbk_write(k, b->ids.data, ids, mbk_bytes(&b->ids)) || (b->types.data && mbk_write(k, b->types.data, types, mbk_bytes(&b->types))) ||
        mbk_write(k, b->lengths.data, lengths, mbk_bytes(&b->lengths)))
        return mbl_kernel_failed(k, "a batch", e);
    return 0;
}

/* -- answers */

int mbl_predict(struct mbl_model *m, struct mbl_feed *f, int64_t first, int64_t count, int64_t batch, float *out, struct mbl_error *e) {
    if (batch > count) batch = count;
    if (mbl_model_reserve(m, batch, f->tokens.longest, false, e) || mbl_feed_reserve(f, batch, e)) return -1;
    for (int64_t done = 0; done < count;) {
        int64_t rows = count - done < batch ? count - done : batch;
        struct mbl_batch b = {0};
        struct mbk_tensor outputs;
        if (mbl_feed_batch(f, NULL, first + done, rows, &b, e) || m->architecture->forward(m, &b, &outputs, e)) return -1;
        if (mbk_read(m->k, out + done * m->outputs, outputs.data, mbk_bytes(&outputs)))
            return mbl_kernel_failed(m->k, "reading answers", e);
        done += rows;
    }
    if (m->problem == MBL_VALUES)
        for (int64_t i = 0; i < count * m->outputs; i++) out[i] = (float)(out[i] * m->schema.target_deviation + m->schema.target_mean);
    return 0;
}

int mbl_feed_judge(struct mbl_model *m, struct mbl_feed *f, int64_t first, int64_t count, int64_t batch, struct mbl_token_score *out,
                   struct mbl_error *e) {
    struct mbk *k = m->k;
    *out = (struct mbl_token_score){0};
    if (batch > count) batch = count;
    if (mbl_model_reserve(m, batch, f->tokens.longest, false, e) || mbl_feed_reserve(f, batch, e)) return -1;
    for (int64_t done = 0; done < count;) {
        int64_t rows = count - done < batch ? count - done : batch;
        struct mbl_batch b = {0};
        struct mbk_tensor outputs;
        if (mbl_feed_batch(f, NULL, first + done, rows, &b, e) || m->architecture->forward(m, &b, &outputs, e)) return -1;
        int64_t width = b.ids.shape[1], cells = rows * width;
        out->tokens += mbl_tokens_labels(&f->tokens, NULL, first + done, rows, width, f->staging);
        struct mbk_tensor labels = mbk_tensor1(f->batch[LABELS].data, MBK_I32, cells),
                          losses = mbk_tensor1(f->batch[FIGURES].data, MBK_F32, cells),
                          guesses = mbk_tensor1((char *)f->batch[FIGURES].data + mbk_bytes(&losses), MBK_I32, cells);
        const int32_t *wanted = f->staging, *guessed = f->staging + cells;
        if (mbk_write(k, labels.data, f->staging, mbk_bytes(&labels)) || mbk_cross_entropy(k, &outputs, &labels, 0, 1, &losses, NULL) ||
            mbk_argmax(k, &outputs, &guesses) || mbk_read(k, f->staging + cells, guesses.data, mbk_bytes(&guesses)))
            return mbl_kernel_failed(k, "judging tokens", e);
        for (int64_t i = 0; i < cells; i++) out->hits += wanted[i] != MBL_NO_LABEL && wanted[i] == guessed[i];
        if (mbk_read(k, f->staging, losses.data, mbk_bytes(&losses))) return mbl_kernel_failed(k, "judging tokens", e);
        for (int64_t i = 0; i < cells; i++) {
            float loss;
            memcpy(&loss, &f->staging[i], sizeof loss);
            out->loss += (double)loss;
        }
        done += rows;
    }
    return 0;
}

/* One row of logits: the likeliest class, its probability, and the negative log-likelihood of `label` where there is one. */
static int32_t judge_word(const float *z, int64_t n, int32_t label, float *probability, double *loss) {
    int64_t best = 0;
    double sum = 0;
    for (int64_t i = 1; i < n; i++)
        if (z[i] > z[best]) best = i;
    for (int64_t i = 0; i < n; i++) sum += exp((double)z[i] - (double)z[best]);
    *probability = (float)(1 / sum);
    if (label >= 0) *loss += log(sum) - ((double)z[label] - (double)z[best]);
    return (int32_t)best;
}

int mbl_word_answers_open(struct mbl_word_answers *out, const struct mbl_feed *f, struct mbl_error *e) {
    void *tags = NULL, *scores = NULL;
    uint64_t count = (uint64_t)f->tokens.words.count;
    *out = (struct mbl_word_answers){0};
    if (mbl_try_alloc(&tags, count, sizeof *out->tags, "answers", e) || mbl_try_alloc(&scores, count, sizeof *out->scores, "answers", e)) {
        free(tags);
        return -1;
    }
    out->tags = tags;
    out->scores = scores;
    return 0;
}

void mbl_word_answers_close(struct mbl_word_answers *a) {
    free(a->tags);
    free(a->scores);
    *a = (struct mbl_word_answers){0};
}

int mbl_feed_tag(struct mbl_model *m, struct mbl_feed *f, int64_t first, int64_t count, int64_t batch, struct mbl_word_answers *out,
                 struct mbl_error *e) {
    const struct mbl_tokens *t = &f->tokens;
    void *block;
    if (batch > count) batch = count;
    if (mbl_model_reserve(m, batch, t->longest, false, e) || mbl_feed_reserve(f, batch, e) ||
        mbl_try_alloc(&block, (uint64_t)(batch * t->longest) * (uint64_t)m->outputs, sizeof(float), "answers", e))
        return -1;
    float *logits = block;
    int status = 0;
    out->judged = 0;
    out->loss = 0;
    for (int64_t w = t->words.rows[first]; w < t->words.rows[first + count]; w++) out->tags[w] = -1, out->scores[w] = 0;
    for (int64_t done = 0; done < count && !status;) {
        int64_t rows = count - done < batch ? count - done : batch;
        struct mbl_batch b = {0};
        struct mbk_tensor outputs;
        status = mbl_feed_batch(f, NULL, first + done, rows, &b, e) || m->architecture->forward(m, &b, &outputs, e);
        if (!status && mbk_read(m->k, logits, outputs.data, mbk_bytes(&outputs))) status = mbl_kernel_failed(m->k, "reading answers", e);
        for (int64_t i = 0; i < rows && !status; i++) {
            int64_t r = first + done + i, from = t->starts[r], n = t->starts[r + 1] - from;
            for (int64_t k = 0; k < n; k++) {
                int32_t word = t->firsts[from + k];
                if (word < 0) continue;
                int32_t label = t->tags ? t->tags[word] : -1;
                const float *z = logits + (i * b.ids.shape[1] + k) * m->outputs;
                out->tags[word] = judge_word(z, m->outputs, label, &out->scores[word], &out->loss);
                out->judged += label >= 0;
            }
        }
        done += rows;
    }
    free(block);
    return status ? -1 : 0;
}
