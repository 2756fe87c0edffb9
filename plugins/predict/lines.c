/* lines.c: answers for people and scripts to read: a line of JSON a row; see predict.h. */
#include "lib/metrics.h"
#include "lib/tagging.h"
#include "predict.h"

#include <math.h>
#include <stdlib.h>

int predict_open(struct answers *a, const char *data, struct mbl_feed *feed, struct mbl_error *e) {
    if (mbl_feed_open(feed, NULL, data, e)) return -1;
    feed->unlabelled = true;
    a->rows = feed->rows;
    return mbl_feed_bind(feed, a->model, e) || mbl_feed_upload(feed, e) ? mbl_error_wrap(e, "%s", data) : 0;
}

/* One line into `out`; what was needed for it is let go. */
static void end_line(struct mbl_arena *line, const struct mbl_feed *f, int64_t row, struct mbl_json *t, struct mbl_buf *out) {
    if (f->data.lines) mbl_json_set(line, t, "line", mbl_json_int(line, f->data.lines[row]));
    mbl_json_write(t, MBL_JSON_COMPACT, out);
    mbl_buf_addc(out, '\n');
    mbl_arena_free(line);
}

/* -- rows */

static void describe_row(const struct mbl_model *m, const float *z, struct mbl_arena *line, struct mbl_json *t) {
    int64_t best = 0;
    double sum = 0;
    if (m->problem == MBL_VALUES) {
        mbl_json_set(line, t, "value", mbl_json_float32(line, z[0]));
        return;
    }
    if (m->problem == MBL_EMBEDDING) {
        struct mbl_json *list = mbl_json_list(line);
        for (int64_t i = 0; i < m->outputs; i++) mbl_json_push(line, list, mbl_json_float32(line, z[i]));
        mbl_json_set(line, t, "embedding", list);
        return;
    }
    if (m->problem == MBL_BINARY) { /* one logit, of the second class */
        best = z[0] > 0;
        sum = 1 + exp(-fabs((double)z[0]));
    } else {
        for (int64_t i = 1; i < m->outputs; i++)
            if (z[i] > z[best]) best = i;
        for (int64_t i = 0; i < m->outputs; i++) sum += exp((double)z[i] - (double)z[best]);
    }
    mbl_json_set(line, t, "label", mbl_json_string(line, m->schema.classes[best]));
    mbl_json_set(line, t, "score", mbl_json_float32(line, (float)(1 / sum)));
}

static int describe_rows(struct answers *a, struct mbl_feed *f, int64_t batch, struct mbl_buf *out, struct mbl_error *e) {
    const struct mbl_model *m = a->model;
    struct mbl_arena line = {0};
    void *block;
    if (mbl_try_alloc(&block, (uint64_t)f->rows * (uint64_t)m->outputs, sizeof(float), "the answers", e)) return -1;
    a->outputs = block;
    if (mbl_predict(a->model, f, 0, f->rows, batch, a->outputs, e)) return -1;
    for (int64_t r = 0; r < f->rows; r++) {
        struct mbl_json *t = mbl_json_table(&line);
        describe_row(m, a->outputs + r * m->outputs, &line, t);
        end_line(&line, f, r, t, out);
    }
    return 0;
}

/* -- words */

struct tagged {
    const struct mbl_model *model;
    const struct mbl_words *words;
    const struct mbl_word_answers *answers;
    struct mbl_tagset set;
    struct mbl_entity *entities; /* room for a row's words, as the next two */
    int64_t *begins, *ends;
};

static void describe_entities(const struct tagged *x, int64_t first, int64_t n, const char *text, struct mbl_arena *line,
                              struct mbl_json *t) {
    size_t count = mbl_entities(&x->set, x->answers->tags + first, n, false, x->entities);
    struct mbl_json *list = mbl_json_list(line);
    const char *at = text;
    int64_t passed = 0; /* characters in front of `at` */
    for (size_t i = 0; i < count; i++) {
        const struct mbl_entity *entity = &x->entities[i];
        struct mbl_json *one = mbl_json_table(line);
        int64_t begin = x->begins[entity->begin], end = x->ends[entity->end - 1];
        double sum = 0;
        for (int64_t w = entity->begin; w < entity->end; w++) sum += (double)x->answers->scores[first + w];
        const char *from = NULL;
        for (; passed < end; passed++) {
            if (passed == begin) from = at;
            do at++;
            while (((unsigned char)*at & 0xc0) == 0x80);
        }
        if (!from) from = at; /* of words without a character */
        mbl_json_set(line, one, "label", mbl_json_string(line, x->set.types[entity->type]));
        mbl_json_set(line, one, "score", mbl_json_float32(line, (float)(sum / (double)(entity->end - entity->begin))));
        mbl_json_set(line, one, "start", mbl_json_int(line, begin));
        mbl_json_set(line, one, "end", mbl_json_int(line, end));
        mbl_json_set(line, one, "text", mbl_json_string(line, mbl_arena_strndup(line, from, (size_t)(at - from))));
        mbl_json_push(line, list, one);
    }
    mbl_json_set(line, t, "entities", list);
}

static void describe_sentence(const struct tagged *x, const struct mbl_feed *f, int64_t r, struct mbl_arena *line, struct mbl_buf *text,
                              struct mbl_buf *out) {
    int64_t first = x->words->rows[r], n = x->words->rows[r + 1] - first;
    struct mbl_json *t = mbl_json_table(line), *words = mbl_json_list(line), *tags = mbl_json_list(line), *scores = mbl_json_list(line);
    text->len = 0;
    mbl_words_text(x->words, r, text, x->begins, x->ends);
    for (int64_t w = first; w < first + n; w++) {
        const struct mbl_text *word = &x->words->words[w];
        int32_t tag = x->answers->tags[w];
        mbl_json_push(line, words, mbl_json_string(line, mbl_arena_strndup(line, word->data, word->length)));
        mbl_json_push(line, tags, tag < 0 ? mbl_json_null(line) : mbl_json_string(line, x->model->schema.classes[tag]));
        mbl_json_push(line, scores, mbl_json_float32(line, x->answers->scores[w]));
    }
    mbl_json_set(line, t, "text", mbl_json_string(line, mbl_arena_strndup(line, mbl_buf_str(text), text->len)));
    mbl_json_set(line, t, "words", words);
    mbl_json_set(line, t, "tags", tags);
    mbl_json_set(line, t, "scores", scores);
    if (x->set.scheme != MBL_PLAIN) describe_entities(x, first, n, mbl_buf_str(text), line, t);
    end_line(line, f, r, t, out);
}

static int describe_sentences(struct answers *a, struct mbl_feed *f, int64_t batch, struct mbl_buf *out, struct mbl_error *e) {
    struct mbl_word_answers answers = {0};
    struct tagged x = {.model = a->model, .words = &f->tokens.words, .answers = &answers};
    struct mbl_arena line = {0};
    struct mbl_buf text = {0};
    int64_t longest = 1;
    for (int64_t r = 0; r < f->rows; r++) {
        int64_t n = x.words->rows[r + 1] - x.words->rows[r];
        if (n > longest) longest = n;
    }
    mbl_tagset_open(&a->model->schema, &a->arena, &x.set);
    int status = mbl_word_answers_open(&answers, f, e) || mbl_feed_tag(a->model, f, 0, f->rows, batch, &answers, e);
    if (!status) {
        x.entities = mbl_alloc((size_t)longest * sizeof *x.entities);
        x.begins = mbl_alloc((size_t)longest * sizeof *x.begins);
        x.ends = mbl_alloc((size_t)longest * sizeof *x.ends);
        for (int64_t r = 0; r < f->rows; r++) describe_sentence(&x, f, r, &line, &text, out);
    }
    free(x.entities);
    free(x.begins);
    free(x.ends);
    mbl_buf_free(&text);
    mbl_word_answers_close(&answers);
    return status ? -1 : 0;
}

int predict_lines(struct answers *a, const char *data, int64_t batch, const char *to, struct mbl_error *e) {
    struct mbl_feed feed = {0};
    struct mbl_buf out = {0};
    bool words = a->model->problem == MBL_TOKEN_CLASSES;
    int status = predict_open(a, data, &feed, e);
    if (!status) status = words ? describe_sentences(a, &feed, batch, &out, e) : describe_rows(a, &feed, batch, &out, e);
    if (!status) status = mbl_file_write(to, mbl_buf_str(&out), out.len, e);
    mbl_buf_free(&out);
    mbl_feed_close(&feed);
    return status;
}
