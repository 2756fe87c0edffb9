/* tokens.c: from texts to rows of tokens, and from these to batches; see tokens.h. */
#include "tagging.h"
#include "tokens.h"

#include <stdlib.h>
#include <string.h>

#define CHUNK 4096               /* texts that are encoded at once */
#define BUCKETED 32              /* batches whose rows are sorted together */
#define TOKENS_MOST ((int64_t)INT32_MAX)

static int set_vocabulary(struct mbl_tokens *t, const struct mbl_texts *x, struct mbl_error *e) {
    const struct mbl_special_ids *s = mbl_tokenizer_special(x->tokenizer);
    t->vocabulary = (int64_t)mbl_tokenizer_size(x->tokenizer);
    t->pad = s->pad >= 0 ? s->pad : 0;
    t->mask = s->mask;
    if (t->problem != MBL_MASKED_TOKEN) return 0;
    if (t->mask < 0) return mbl_error_set(e, "the tokenizer has no mask token, which masked language modelling takes");
    t->special = mbl_alloc((size_t)t->vocabulary * sizeof *t->special);
    for (int64_t i = 0; i < t->vocabulary; i++) t->special[i] = mbl_tokenizer_is_special(x->tokenizer, (int32_t)i);
    return 0;
}

/* -- texts */

static struct mbl_text text_of(const struct mbl_text_column *c, int64_t row) {
    return (struct mbl_text){c->bytes + c->offsets[row], (size_t)(c->offsets[row + 1] - c->offsets[row])};
}

/* Where the ids of what is read go: growing, since nobody knows beforehand how many there are. */
struct growing {
    struct mbl_tokens *t;
    size_t id_cap, type_cap;
    int64_t count;
};

static int append(struct growing *g, const int32_t *ids, const uint8_t *types, size_t n, struct mbl_error *e) {
    if ((int64_t)n > TOKENS_MOST - g->count) return mbl_error_set(e, "the texts have more than %lld tokens", (long long)TOKENS_MOST);
    g->t->ids = mbl_grow(g->t->ids, &g->id_cap, (size_t)g->count + n, sizeof *ids);
    memcpy(g->t->ids + g->count, ids, n * sizeof *ids);
    if (types) {
        g->t->types = mbl_grow(g->t->types, &g->type_cap, (size_t)g->count + n, 1);
        memcpy(g->t->types + g->count, types, n);
    }
    g->count += (int64_t)n;
    return 0;
}

/* A row a text, or a pair. Whether a row that is as long as may be was cut, only encoding it without a limit tells. */
static int read_rows(struct mbl_tokens *t, struct mbl_texts *x, const struct mbl_dataset *d, const struct mbl_text_column *const columns[2],
                     int64_t length, struct mbl_error *e) {
    struct mbl_text *texts = mbl_alloc(2 * CHUNK * sizeof *texts), *pairs = columns[1] ? texts + CHUNK : NULL;
    struct mbl_encoding encoded = {0}, whole = {0};
    const struct mbl_encode_options o = {.max_length = (size_t)length}, free_of_limits = {0};
    struct growing g = {.t = t};
    int status = -1;
    for (int64_t first = 0; first < d->rows; first += CHUNK) {
        int64_t n = d->rows - first < CHUNK ? d->rows - first : CHUNK;
        for (int64_t i = 0; i < n; i++) {
            texts[i] = text_of(columns[0], first + i);
            if (pairs) pairs[i] = text_of(columns[1], first + i);
        }
        if (mbl_tokenizer_encode(x->tokenizer, texts, pairs, (size_t)n, &o, &encoded, e)) goto done;
        for (int64_t i = 0; i < n; i++) {
            size_t begin = encoded.starts[i], tokens = encoded.starts[i + 1] - begin;
            t->starts[first + i] = g.count;
            if (append(&g, encoded.ids + begin, pairs ? encoded.types + begin : NULL, tokens, e)) goto done;
            if ((int64_t)tokens > t->longest) t->longest = (int64_t)tokens;
            if ((int64_t)tokens < length) continue;
            if (mbl_tokenizer_encode(x->tokenizer, &texts[i], pairs ? &pairs[i] : NULL, 1, &free_of_limits, &whole, e)) goto done;
            t->cut += (int64_t)whole.count > length;
        }
    }
    t->rows = d->rows;
    t->starts[t->rows] = g.count;
    status = 0;
done:
    mbl_encoding_free(&encoded);
    mbl_encoding_free(&whole);
    free(texts);
    return status;
}

/* -- words */

/* The words' classes as the model counts them: data of their own may lack some, or have others first. */
static int read_tags(struct mbl_tokens *t, const struct mbl_dataset *d, const struct mbl_schema *classes, struct mbl_error *e) {
    const struct mbl_schema *s = &d->schema;
    int32_t *place;
    void *tags;
    if (t->words.text || s->task != MBL_TAGGING) return 0;
    if (mbl_try_alloc(&tags, (uint64_t)t->words.count, sizeof *t->tags, "the tags", e)) return -1;
    t->tags = tags;
    place = mbl_alloc(s->class_count * sizeof *place);
    for (size_t i = 0; i < s->class_count; i++) {
        size_t k = 0;
        while (k < classes->class_count && strcmp(classes->classes[k], s->classes[i])) k++;
        place[i] = k < classes->class_count ? (int32_t)k : -1;
    }
    int status = 0;
    for (int64_t w = 0; w < t->words.count && !status; w++) {
        t->tags[w] = place[d->labels[w]];
        if (t->tags[w] < 0) status = mbl_error_set(e, "the model doesn't know the tag \"%.100s\"", s->classes[d->labels[w]]);
    }
    free(place);
    return status;
}

/* Room for what stands beside the ids. */
static void grow_beside(struct mbl_tokens *t, size_t count, size_t *first_cap, size_t *label_cap) {
    t->firsts = mbl_grow(t->firsts, first_cap, count, sizeof *t->firsts);
    if (t->tags) t->labels = mbl_grow(t->labels, label_cap, count, sizeof *t->labels);
}

/* A row a sentence; the first token of a word carries its label. */
static int read_sentences(struct mbl_tokens *t, const struct mbl_texts *x, const struct mbl_tagset *set, int64_t length,
                          struct mbl_error *e) {
    const struct mbl_encode_options o = {.max_length = (size_t)length}, free_of_limits = {0};
    struct mbl_encoding encoded = {0}, whole = {0};
    struct growing g = {.t = t};
    size_t first_cap = 0, label_cap = 0;
    int status = 0;
    for (int64_t r = 0; r < t->words.row_count && !status; r++) {
        const int64_t *row = t->words.rows + r, at = g.count;
        status = mbl_tokenizer_encode_words(x->tokenizer, t->words.words, row, 1, &o, &encoded, e);
        if (!status) status = append(&g, encoded.ids, NULL, encoded.count, e);
        if (status) break;
        grow_beside(t, (size_t)g.count, &first_cap, &label_cap);
        for (size_t i = 0; i < encoded.count; i++) {
            int32_t word = encoded.words[i], tag = t->tags && word >= 0 ? t->tags[row[0] + word] : MBL_NO_LABEL;
            bool first = word >= 0 && (!i || encoded.words[i - 1] != word);
            t->firsts[at + (int64_t)i] = first ? (int32_t)row[0] + word : -1;
            if (t->tags) t->labels[at + (int64_t)i] = first || word < 0 ? tag : x->every_part ? set->inner[tag] : MBL_NO_LABEL;
        }
        t->starts[r] = at;
        if ((int64_t)encoded.count > t->longest) t->longest = (int64_t)encoded.count;
        if ((int64_t)encoded.count < length) continue;
        status = mbl_tokenizer_encode_words(x->tokenizer, t->words.words, row, 1, &free_of_limits, &whole, e);
        t->cut += (int64_t)whole.count > length;
    }
    t->rows = t->words.row_count;
    t->starts[t->rows] = g.count;
    mbl_encoding_free(&encoded);
    mbl_encoding_free(&whole);
    return status;
}

static int read_words(struct mbl_tokens *t, struct mbl_texts *x, const struct mbl_dataset *d, const struct mbl_schema *classes,
                      int64_t length, struct mbl_error *e) {
    struct mbl_arena a = {0};
    struct mbl_tagset set;
    void *starts;
    mbl_tagset_open(classes, &a, &set);
    int status = mbl_words_open(&t->words, x, d, e) || set_vocabulary(t, x, e) || read_tags(t, d, classes, e) ||
                 mbl_try_alloc(&starts, (uint64_t)d->rows + 1, sizeof *t->starts, "rows", e);
    if (!status) {
        t->starts = starts;
        status = read_sentences(t, x, &set, length, e);
    }
    mbl_arena_free(&a);
    return status ? -1 : 0;
}

/* -- streams */

/* All texts as one, joined by `join`: a vocabulary may have tokens that reach over where they meet. */
static int read_joined(struct growing *g, const struct mbl_texts *x, const struct mbl_dataset *d, const struct mbl_text_column *c,
                       struct mbl_error *e) {
    struct mbl_buf all = {0};
    struct mbl_encoding encoded = {0};
    const struct mbl_encode_options o = {.no_special = true};
    int status = -1;
    uint64_t bytes = (uint64_t)c->offsets[d->rows] + (uint64_t)d->rows * strlen(x->join);
    if (bytes > MBL_TOKENIZER_TEXT_MOST) {
        mbl_error_set(e, "the texts have %llu bytes; joined by text they may have %zu: leave join out", (unsigned long long)bytes,
                      MBL_TOKENIZER_TEXT_MOST);
        goto done;
    }
    for (int64_t r = 0; r < d->rows; r++) {
        struct mbl_text text = text_of(c, r);
        mbl_buf_add(&all, text.data, text.length);
        mbl_buf_adds(&all, x->join);
    }
    if (mbl_tokenizer_encode(x->tokenizer, &(struct mbl_text){mbl_buf_str(&all), all.len}, NULL, 1, &o, &encoded, e)) goto done;
    status = append(g, encoded.ids, NULL, encoded.count, e);
done:
    mbl_encoding_free(&encoded);
    mbl_buf_free(&all);
    return status;
}

/* Text by text, with the end of text behind each where the tokenizer has one. */
static int read_apart(struct growing *g, const struct mbl_texts *x, const struct mbl_dataset *d, const struct mbl_text_column *c,
                      struct mbl_error *e) {
    struct mbl_text *texts = mbl_alloc(CHUNK * sizeof *texts);
    struct mbl_encoding encoded = {0};
    const struct mbl_encode_options o = {.no_special = true};
    const struct mbl_special_ids *special = mbl_tokenizer_special(x->tokenizer);
    int32_t end = special->eos >= 0 ? special->eos : special->sep;
    int status = 0;
    for (int64_t first = 0; first < d->rows && !status; first += CHUNK) {
        int64_t n = d->rows - first < CHUNK ? d->rows - first : CHUNK;
        for (int64_t i = 0; i < n; i++) texts[i] = text_of(c, first + i);
        status = mbl_tokenizer_encode(x->tokenizer, texts, NULL, (size_t)n, &o, &encoded, e);
        for (int64_t i = 0; i < n && !status; i++) {
            status = append(g, encoded.ids + encoded.starts[i], NULL, encoded.starts[i + 1] - encoded.starts[i], e);
            if (!status && end >= 0) status = append(g, &end, NULL, 1, e);
        }
    }
    mbl_encoding_free(&encoded);
    free(texts);
    return status;
}

static int set_row_starts(struct mbl_tokens *t, int64_t count, int64_t length, struct mbl_error *e) {
    void *starts;
    t->rows = (count + length - 1) / length;
    if (mbl_try_alloc(&starts, (uint64_t)t->rows + 1, sizeof *t->starts, "rows", e)) return -1;
    t->starts = starts;
    for (int64_t r = 0; r < t->rows; r++) t->starts[r] = r * length;
    t->starts[t->rows] = count;
    t->longest = count < length ? count : length;
    return 0;
}

/* Rows of a masked language model begin and end with the tokenizer's marks, where it has them. */
static int wrap_rows(struct mbl_tokens *t, int64_t count, int64_t length, const struct mbl_special_ids *s, struct mbl_error *e) {
    bool wrapped = s->cls >= 0 && s->sep >= 0;
    int64_t inner = wrapped ? length - 2 : length, rows = (count + inner - 1) / inner;
    if (!wrapped) return set_row_starts(t, count, length, e);
    int32_t *bare = t->ids;
    void *ids;
    if (mbl_try_alloc(&ids, (uint64_t)(count + 2 * rows), sizeof *t->ids, "the tokens", e)) return -1;
    t->ids = ids;
    for (int64_t r = 0, to = 0; r < rows; r++) {
        int64_t n = count - r * inner < inner ? count - r * inner : inner;
        t->ids[to++] = s->cls;
        memcpy(t->ids + to, bare + r * inner, (size_t)n * sizeof *bare);
        to += n;
        t->ids[to++] = s->sep;
    }
    free(bare);
    return set_row_starts(t, count + 2 * rows, length, e);
}

static int read_stream(struct mbl_tokens *t, struct mbl_texts *x, const struct mbl_dataset *d, const struct mbl_text_column *c,
                       int64_t length, struct mbl_error *e) {
    struct growing g = {.t = t};
    if (x->join ? read_joined(&g, x, d, c, e) : read_apart(&g, x, d, c, e)) return -1;
    if (g.count < 2) return mbl_error_set(e, "part \"%s\" has no text to learn from in column %s", d->part, c->name);
    /* The last token has no next one. It stays behind the rows, where the label of the last row's last token is looked for. */
    if (t->problem == MBL_NEXT_TOKEN) return set_row_starts(t, g.count - 1, length, e);
    return wrap_rows(t, g.count, length, mbl_tokenizer_special(x->tokenizer), e);
}

/* -- opening */

int mbl_tokens_open(struct mbl_tokens *t, struct mbl_texts *x, const struct mbl_dataset *d, enum mbl_problem problem, int64_t length,
                    const struct mbl_schema *classes, struct mbl_error *e) {
    const struct mbl_text_column *columns[MBL_TEXT_COLUMNS];
    void *starts;
    *t = (struct mbl_tokens){.problem = problem};
    int64_t marks = (int64_t)mbl_tokenizer_special_count(x->tokenizer, true);
    if (length <= marks)
        return mbl_error_set(e, "max_length: more than %lld tokens expected, found %lld", (long long)marks, (long long)length);
    if (problem == MBL_TOKEN_CLASSES) return read_words(t, x, d, classes, length, e);
    if (mbl_texts_columns(x, d, columns, e) || set_vocabulary(t, x, e)) return -1;
    if (mbl_problem_per_token(problem)) {
        if (columns[1])
            return mbl_error_set(e, "a language model reads one column; text = { \"%s\" } or text = { \"%s\" }", columns[0]->name,
                                 columns[1]->name);
        return read_stream(t, x, d, columns[0], length, e);
    }
    if (mbl_try_alloc(&starts, (uint64_t)d->rows + 1, sizeof *t->starts, "rows", e)) return -1;
    t->starts = starts;
    return read_rows(t, x, d, columns, length, e);
}

void mbl_tokens_close(struct mbl_tokens *t) {
    free(t->ids);
    free(t->types);
    free(t->starts);
    free(t->special);
    mbl_words_close(&t->words);
    free(t->firsts);
    free(t->labels);
    free(t->tags);
    free(t->scratch);
    free(t->swapped);
    *t = (struct mbl_tokens){0};
}

/* -- batches */

static int64_t row_at(const int32_t *order, int64_t first, int64_t i) {
    return order ? order[first + i] : first + i;
}

int64_t mbl_tokens_width(const struct mbl_tokens *t, const int32_t *order, int64_t first, int64_t rows) {
    int64_t width = 1;
    for (int64_t i = 0; i < rows; i++) {
        int64_t r = row_at(order, first, i), n = t->starts[r + 1] - t->starts[r];
        if (n > width) width = n;
    }
    width = (width + 7) / 8 * 8;
    return width < t->longest ? width : t->longest;
}

/* Whether token `at` is hidden, and behind what. */
static bool hide(const struct mbl_tokens *t, int64_t at, int32_t *id) {
    uint32_t words[4];
    if (t->special[*id]) return false;
    mbk_philox(t->seed, (uint64_t)t->epoch << 32 | (uint64_t)at, words);
    if (words[0] / 4294967296.0 >= 0.15) return false;
    double kind = words[1] / 4294967296.0;
    if (kind < 0.8) *id = t->mask;
    else if (kind < 0.9) *id = (int32_t)(words[2] % (uint64_t)t->vocabulary);
    return true;
}

void mbl_tokens_fill(const struct mbl_tokens *t, const int32_t *order, int64_t first, int64_t rows, int64_t width, int32_t *ids,
                     int32_t *types, int32_t *lengths) {
    for (int64_t i = 0; i < rows; i++) {
        int64_t r = row_at(order, first, i), from = t->starts[r], n = t->starts[r + 1] - from;
        for (int64_t k = 0; k < width; k++) {
            ids[i * width + k] = k < n ? t->ids[from + k] : t->pad;
            if (types) types[i * width + k] = k < n && t->types ? t->types[from + k] : 0;
            if (t->problem == MBL_MASKED_TOKEN && k < n) hide(t, from + k, &ids[i * width + k]);
        }
        lengths[i] = (int32_t)n;
    }
}

int64_t mbl_tokens_labels(const struct mbl_tokens *t, const int32_t *order, int64_t first, int64_t rows, int64_t width, int32_t *labels) {
    int64_t counted = 0;
    for (int64_t i = 0; i < rows; i++) {
        int64_t r = row_at(order, first, i), from = t->starts[r], n = t->starts[r + 1] - from;
        for (int64_t k = 0; k < width; k++) {
            int32_t id = k < n ? t->ids[from + k] : t->pad, label = MBL_NO_LABEL;
            if (k < n && t->problem == MBL_NEXT_TOKEN) label = t->ids[from + k + 1];
            if (k < n && t->labels) label = t->labels[from + k];
            if (k < n && t->problem == MBL_MASKED_TOKEN && hide(t, from + k, &id)) label = t->ids[from + k];
            labels[i * width + k] = label;
            counted += label != MBL_NO_LABEL;
        }
    }
    return counted;
}

/* -- order */

struct mbl_sized_row {
    int64_t length, place;       /* place: in the shuffled order, so that equals stay shuffled */
    int32_t row;
};

static int by_length(const void *a, const void *b) {
    const struct mbl_sized_row *x = a, *y = b;
    if (x->length != y->length) return x->length < y->length ? 1 : -1;
    return (x->place > y->place) - (x->place < y->place);
}

void mbl_tokens_bucket(struct mbl_tokens *t, uint64_t seed, int64_t epoch, int64_t batch, int32_t *order) {
    int64_t stretch = batch * BUCKETED, full = t->rows / batch;
    if (stretch > t->rows) stretch = t->rows;
    if (!t->scratch) {
        t->scratch = mbl_alloc((size_t)stretch * sizeof *t->scratch);
        t->swapped = mbl_alloc((size_t)batch * sizeof *t->swapped);
    }
    struct mbl_sized_row *rows = t->scratch;
    for (int64_t first = 0; first < t->rows; first += stretch) {
        int64_t n = t->rows - first < stretch ? t->rows - first : stretch;
        for (int64_t i = 0; i < n; i++) {
            int32_t r = order[first + i];
            rows[i] = (struct mbl_sized_row){t->starts[r + 1] - t->starts[r], i, r};
        }
        qsort(rows, (size_t)n, sizeof *rows, by_length);
        for (int64_t i = 0; i < n; i++) order[first + i] = rows[i].row;
    }
    for (int64_t i = full - 1; i > 0; i--) {
        uint32_t words[4];
        mbk_philox(seed, (uint64_t)epoch << 32 | (uint64_t)i, words);
        int64_t k = (int64_t)(((uint64_t)words[0] << 32 | words[1]) % (uint64_t)(i + 1));
        size_t bytes = (size_t)batch * sizeof *order;
        if (k == i) continue;
        memcpy(t->swapped, order + i * batch, bytes);
        memcpy(order + i * batch, order + k * batch, bytes);
        memcpy(order + k * batch, t->swapped, bytes);
    }
}
