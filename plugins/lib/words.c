/* words.c: see words.h. */
#include "words.h"
#include "tokenizer_unicode.h"

#include <stdlib.h>
#include <string.h>

static int take_column(struct mbl_words *w, const struct mbl_dataset *d, struct mbl_error *e) {
    const struct mbl_word_column *c = &d->words;
    void *words;
    if (mbl_try_alloc(&words, (uint64_t)c->count, sizeof *w->words, "the words", e)) return -1;
    w->words = words;
    w->count = c->count;
    for (int64_t i = 0; i < c->count; i++)
        w->words[i] = (struct mbl_text){c->bytes + c->offsets[i], (size_t)(c->offsets[i + 1] - c->offsets[i])};
    memcpy(w->rows, c->rows, ((size_t)d->rows + 1) * sizeof *w->rows);
    return 0;
}

/* The word at or behind *at; false at the end. */
static bool next_word(const char *s, size_t n, size_t *at, struct mbl_text *out) {
    size_t length, begin = *at;
    while (begin < n && mbl_unicode_classes(mbl_utf8_decode(s + begin, &length)) & MBL_UNICODE_WHITE) begin += length;
    size_t end = begin;
    while (end < n) {
        unsigned classes = mbl_unicode_classes(mbl_utf8_decode(s + end, &length));
        if (classes & MBL_UNICODE_WHITE || (classes & MBL_UNICODE_PUNCT && end > begin)) break;
        end += length;
        if (classes & MBL_UNICODE_PUNCT) break;
    }
    *at = end;
    *out = (struct mbl_text){s + begin, end - begin};
    return end > begin;
}

static int cut_text(struct mbl_words *w, const struct mbl_text_column *c, int64_t rows, struct mbl_error *e) {
    struct mbl_text word;
    void *words;
    mbl_unicode_open();
    for (int pass = 0; pass < 2; pass++) { /* first to count, then to keep */
        if (pass) {
            if (mbl_try_alloc(&words, (uint64_t)w->count, sizeof *w->words, "the words", e)) return -1;
            w->words = words;
        }
        w->count = 0;
        for (int64_t r = 0; r < rows; r++) {
            const char *s = c->bytes + c->offsets[r];
            size_t n = (size_t)(c->offsets[r + 1] - c->offsets[r]), at = 0;
            w->rows[r] = w->count;
            while (next_word(s, n, &at, &word)) {
                if (pass) w->words[w->count] = word;
                w->count++;
            }
        }
        w->rows[rows] = w->count;
    }
    w->text = c;
    return 0;
}

int mbl_words_open(struct mbl_words *w, struct mbl_texts *t, const struct mbl_dataset *d, struct mbl_error *e) {
    const char *asked = t->columns[0];
    const struct mbl_text_column *text = NULL;
    void *rows;
    *w = (struct mbl_words){.row_count = d->rows};
    for (size_t i = 0; i < d->text_count; i++)
        if (d->text_count == 1 || (asked && !strcmp(d->texts[i].name, asked))) text = &d->texts[i];
    bool own = d->words.name && (!asked || !text || !strcmp(asked, d->words.name));
    if (!own && !text)
        return mbl_error_set(e, "part \"%s\" has no column of words; give the dataset format = \"conll\", or lists of words in JSON Lines",
                             d->part);
    if (mbl_try_alloc(&rows, (uint64_t)d->rows + 1, sizeof *w->rows, "rows", e)) return -1;
    w->rows = rows;
    if (own ? take_column(w, d, e) : cut_text(w, text, d->rows, e)) return -1;
    if (!w->count) return mbl_error_set(e, "part \"%s\" has no words", d->part);
    if (w->count > INT32_MAX) return mbl_error_set(e, "part \"%s\" has %lld words; at most %d fit", d->part, (long long)w->count, INT32_MAX);
    if (!asked) t->columns[0] = mbl_arena_strdup(&t->arena, own ? d->words.name : text->name);
    return 0;
}

void mbl_words_close(struct mbl_words *w) {
    free(w->words);
    free(w->rows);
    *w = (struct mbl_words){0};
}

static int64_t characters(const char *s, size_t n) {
    int64_t count = 0;
    for (size_t i = 0; i < n; i++) count += ((unsigned char)s[i] & 0xc0) != 0x80;
    return count;
}

void mbl_words_text(const struct mbl_words *w, int64_t row, struct mbl_buf *out, int64_t *begins, int64_t *ends) {
    const struct mbl_text *words = w->words + w->rows[row];
    int64_t n = w->rows[row + 1] - w->rows[row], at = 0;
    if (w->text) {
        const char *s = w->text->bytes + w->text->offsets[row], *done = s;
        mbl_buf_add(out, s, (size_t)(w->text->offsets[row + 1] - w->text->offsets[row]));
        for (int64_t i = 0; i < n; i++) {
            begins[i] = at += characters(done, (size_t)(words[i].data - done));
            ends[i] = at += characters(words[i].data, words[i].length);
            done = words[i].data + words[i].length;
        }
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        if (i) mbl_buf_addc(out, ' ');
        mbl_buf_add(out, words[i].data, words[i].length);
        begins[i] = at + (i > 0);
        ends[i] = at = begins[i] + characters(words[i].data, words[i].length);
    }
}
