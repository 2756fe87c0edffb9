/* tokenizer_encode.c: texts to tokens: the way through all steps, truncation, and the frame of special tokens around it all. */
#include "tokenizer_private.h"
#include "utf8.h"

#include <stdlib.h>
#include <string.h>

/* -- one text */

static void encode_word(const struct mbl_tokenizer *t, struct mbl_encode_work *w, const struct mbl_token_text *text, struct mbl_span word) {
    const char *s = text->bytes + word.begin;
    size_t first = w->count, length = word.end - word.begin;
    if (t->chunked || !mbl_cache_get(w, s, length, word.begin)) {
        if (t->bpe) mbl_bpe_word(t, w, text, word.begin, word.end);
        else mbl_wordpiece_word(t, w, text, word.begin, word.end);
        if (!t->chunked) mbl_cache_put(w, s, length, word.begin, first);
    }
    if (!w->offsets) return;
    for (size_t i = first; i < w->count; i++) mbl_token_origin(text, w->tokens[i].begin, w->tokens[i].end, &w->tokens[i]);
}

static void encode_normal(const struct mbl_tokenizer *t, struct mbl_encode_work *w, struct mbl_token_text text) {
    mbl_split(t, w, &text);
    for (size_t i = 0; i < w->word_count; i++) encode_word(t, w, &text, w->words[i]);
}

static struct mbl_token_text text_part(const struct mbl_token_text *text, size_t begin, size_t end) {
    return (struct mbl_token_text){text->bytes + begin, end - begin, text->from ? text->from + begin : NULL, text->base + begin};
}

/* A stretch without tokens that are looked for before the normalizers. */
static void encode_plain(const struct mbl_tokenizer *t, struct mbl_encode_work *w, struct mbl_token_text text) {
    size_t at = 0, done = 0, begin, end;
    const struct mbl_added_token *a;
    mbl_normalize_text(t, w, &text);
    if (!t->normal.any) {
        encode_normal(t, w, text);
        return;
    }
    /* Splitting may overwrite the room that the text lies in: it keeps it as long as all splitters only read. */
    struct mbl_token_text kept = text;
    char *bytes = NULL;
    struct mbl_span *from = NULL;
    if (t->rewrites && text.length) {
        kept.bytes = bytes = memcpy(mbl_alloc(text.length), text.bytes, text.length);
        if (text.from) kept.from = from = memcpy(mbl_alloc(text.length * sizeof *from), text.from, text.length * sizeof *from);
    }
    while ((a = mbl_added_find(t, &t->normal, kept.bytes, kept.length, &at, &begin, &end))) {
        if (begin > done) encode_normal(t, w, text_part(&kept, done, begin));
        mbl_work_add(w, a->id, begin, end);
        if (w->offsets) mbl_token_origin(&kept, begin, end, &w->tokens[w->count - 1]);
        at = done = end;
    }
    if (done < kept.length) encode_normal(t, w, text_part(&kept, done, kept.length));
    free(bytes);
    free(from);
}

/* Between ASCII's spaces each stretch stands for itself, so it can be looked up as it is. */
static void encode_chunks(const struct mbl_tokenizer *t, struct mbl_encode_work *w, const char *s, size_t begin, size_t end) {
    static const bool space[256] = {[' '] = true, ['\t'] = true, ['\n'] = true, ['\r'] = true};
    for (size_t at = begin; at < end;) {
        if (space[(unsigned char)s[at]]) {
            at++;
            continue;
        }
        size_t stop = at, first = w->count;
        while (stop < end && !space[(unsigned char)s[stop]]) stop++;
        if (!mbl_cache_get(w, s + at, stop - at, at)) {
            encode_plain(t, w, (struct mbl_token_text){s + at, stop - at, NULL, at});
            mbl_cache_put(w, s + at, stop - at, at, first);
        }
        at = stop;
    }
}

static void encode_stretch(const struct mbl_tokenizer *t, struct mbl_encode_work *w, const char *s, size_t begin, size_t end) {
    if (begin == end) return;
    if (t->chunked) encode_chunks(t, w, s, begin, end);
    else encode_plain(t, w, (struct mbl_token_text){s + begin, end - begin, NULL, begin});
}

static bool is_space(uint32_t c) {
    return c == mbl_byte_chars[' '] || mbl_unicode_classes(c) & MBL_UNICODE_WHITE;
}

/* The characters of a string that are spaces, at its beginning and at its end. */
static void count_spaces(const char *s, size_t n, size_t *leading, size_t *trailing) {
    size_t length;
    *leading = *trailing = 0;
    for (size_t at = 0; at < n && is_space(mbl_utf8_decode(s + at, &length)); at += length) ++*leading;
    for (size_t end = n; end > 0; ++*trailing) {
        size_t last = end - 1;
        while (last > 0 && ((unsigned char)s[last] & 0xc0) == 0x80) last--;
        if (!is_space(mbl_utf8_decode(s + last, &length))) break;
        end = last;
    }
}

/* ByteLevel's and Roberta's offsets leave out as many characters as a token has spaces at its ends, but for a single space at the very
 * beginning, if
 * one is put there. */
static void trim_offsets(const struct mbl_tokenizer *t, struct mbl_encode_work *w, const char *s, size_t from, size_t count) {
    for (size_t i = from; i < from + count; i++) {
        struct mbl_token *token = &w->tokens[i];
        const char *text = t->tokens[token->id];
        size_t leading, trailing, length;
        if (t->added_by_id[token->id] >= 0) count_spaces(s + token->begin, token->end - token->begin, &leading, &trailing);
        else count_spaces(text, strlen(text), &leading, &trailing);
        if (leading == 1 && t->trim_prefix && (i == from || token->begin == 0)) leading = 0;
        for (; leading && token->begin < token->end; leading--) {
            mbl_utf8_decode(s + token->begin, &length);
            token->begin += (uint32_t)length;
        }
        for (; trailing && token->end > token->begin; trailing--) {
            do token->end--;
            while (token->end > token->begin && ((unsigned char)s[token->end] & 0xc0) == 0x80);
        }
    }
}

static int encode_text(const struct mbl_tokenizer *t, struct mbl_encode_work *w, const struct mbl_text *text, const char *what,
                       size_t number,
                       struct mbl_error *e) {
    const char *s = text->length ? text->data : "";
    size_t n = text->length, bad, at = 0, done = 0, begin, end;
    const struct mbl_added_token *a;
    if (n > MBL_TOKENIZER_TEXT_MOST) return mbl_error_set(e, "%s %zu has %zu bytes; at most %zu are expected", what, number, n,
                                                          MBL_TOKENIZER_TEXT_MOST);
    if ((bad = mbl_utf8_check(s, n)) < n)
        return mbl_error_set(e, "%s %zu: byte %zu (0x%02x) is not UTF-8", what, number, bad, (unsigned)(unsigned char)s[bad]);
    while (t->raw.any && (a = mbl_added_find(t, &t->raw, s, n, &at, &begin, &end))) {
        if (begin > done) encode_stretch(t, w, s, done, begin);
        mbl_work_add(w, a->id, begin, end);
        at = done = end;
    }
    encode_stretch(t, w, s, done, n);
    return 0;
}

/* -- truncation and the frame */

/* Of n[0] and n[1] tokens, how many may stay so that they are `most` together. */
static int truncate_lengths(size_t n[2], bool pair, size_t most, enum mbl_truncation how, size_t number, struct mbl_error *e) {
    size_t total = n[0] + n[1], excess;
    if (total <= most) return 0;
    excess = total - most;
    if (most == 0 || (how == MBL_TRUNCATE_LONGEST_FIRST && !pair)) {
        n[0] = most;
        n[1] = 0;
        return 0;
    }
    if (how == MBL_TRUNCATE_LONGEST_FIRST) {
        size_t shorter = n[0] > n[1], small = n[shorter], large;
        large = small > most || most - small < small ? small : most - small;
        if (small + large > most) {
            small = most / 2;
            large = small + most % 2;
        }
        n[shorter] = small;
        n[!shorter] = large;
        return 0;
    }
    size_t which = how == MBL_TRUNCATE_ONLY_SECOND;
    if (which == 1 && !pair) return mbl_error_set(e, "text %zu: only second texts are to be cut, and there is none", number);
    if (n[which] <= excess)
        return mbl_error_set(e, "text %zu: only the %s text is to be cut, whose %zu tokens are too few to take %zu off", number, which
                             ? "second" : "first",
                             n[which], excess);
    n[which] -= excess;
    return 0;
}

static void out_add(struct mbl_encoding *out, int32_t id, uint8_t type, uint32_t begin, uint32_t end, bool offsets) {
    out->ids[out->count] = id;
    out->types[out->count] = type;
    if (offsets) {
        out->offsets[out->count][0] = begin;
        out->offsets[out->count][1] = end;
    }
    out->count++;
}

static void frame_put(const struct mbl_tokenizer *t, struct mbl_encode_work *w, const struct mbl_text *const texts[2], const size_t had[2],
                      const size_t keep[2], const struct mbl_encode_options *o, struct mbl_encoding *out) {
    const struct mbl_frame *f = &t->frames[texts[1] != NULL];
    size_t need = out->count + f->added + keep[0] + keep[1], word = 0;
    out->ids = mbl_grow(out->ids, &out->id_cap, need, sizeof *out->ids);
    out->types = mbl_grow(out->types, &out->type_cap, need, sizeof *out->types);
    if (o->offsets) out->offsets = mbl_grow(out->offsets, &out->offset_cap, need, sizeof *out->offsets);
    if (w->ends) out->words = mbl_grow(out->words, &out->word_cap, need, sizeof *out->words);
    for (size_t i = 0; i < f->count; i++) {
        const struct mbl_frame_part *p = &f->parts[i];
        if (p->sequence < 0) {
            for (size_t k = 0; k < p->count && !o->no_special; k++) {
                if (w->ends) out->words[out->count] = -1;
                out_add(out, p->ids[k], p->type, 0, 0, o->offsets);
            }
            continue;
        }
        size_t n = keep[p->sequence], from = (p->sequence ? had[0] : 0) + (o->truncate_left ? had[p->sequence] - n : 0);
        if (o->offsets && t->trim) trim_offsets(t, w, texts[p->sequence]->data, from, n);
        for (size_t k = from; k < from + n; k++) {
            while (w->ends && w->ends[word] <= k) word++;
            if (w->ends) out->words[out->count] = (int32_t)word;
            out_add(out, w->tokens[k].id, p->type, w->tokens[k].begin, w->tokens[k].end, o->offsets);
        }
    }
}

static const struct mbl_encode_options no_options;

/* Empties `out`, and what it doesn't get this time it doesn't have. */
static int start_encoding(const struct mbl_tokenizer *t, size_t count, size_t added, const struct mbl_encode_options *o, struct mbl_encoding *out,
                 struct mbl_error *e) {
    if (!out->work) out->work = mbl_alloc(sizeof *out->work);
    free(out->words);
    out->words = NULL;
    out->word_cap = 0;
    if (!o->offsets) {
        free(out->offsets);
        out->offsets = NULL;
        out->offset_cap = 0;
    }
    out->count = out->texts = 0;
    out->starts = mbl_grow(out->starts, &out->start_cap, count + 1, sizeof *out->starts);
    out->starts[0] = 0;
    if (o->max_length && o->max_length < added)
        return mbl_error_set(e, "at most %zu tokens are asked for, but the special ones alone are %zu", o->max_length, added);
    mbl_cache_open(out->work, t->serial, o->offsets || t->origins);
    out->work->ends = NULL;
    return 0;
}

int mbl_tokenizer_encode(const struct mbl_tokenizer *t, const struct mbl_text *texts, const struct mbl_text *pairs, size_t count,
                         const struct mbl_encode_options *options, struct mbl_encoding *out, struct mbl_error *e) {
    const struct mbl_encode_options *o = options ? options : &no_options;
    size_t added = o->no_special ? 0 : t->frames[pairs != NULL].added;
    if (start_encoding(t, count, added, o, out, e)) return -1;
    struct mbl_encode_work *w = out->work;
    for (size_t i = 0; i < count; i++) {
        size_t had[2] = {0}, keep[2];
        w->count = 0;
        if (encode_text(t, w, &texts[i], "text", i, e)) return -1;
        had[0] = w->count;
        if (pairs && encode_text(t, w, &pairs[i], "the second text of", i, e)) return -1;
        had[1] = w->count - had[0];
        memcpy(keep, had, sizeof keep);
        if (o->max_length && truncate_lengths(keep, pairs != NULL, o->max_length - added, o->truncation, i, e)) return -1;
        frame_put(t, w, (const struct mbl_text *const[]){&texts[i], pairs ? &pairs[i] : NULL}, had, keep, o, out);
        out->starts[++out->texts] = out->count;
    }
    return 0;
}

int mbl_tokenizer_encode_words(const struct mbl_tokenizer *t, const struct mbl_text *words, const int64_t *rows, size_t count,
                               const struct mbl_encode_options *options, struct mbl_encoding *out, struct mbl_error *e) {
    struct mbl_encode_options o = options ? *options : no_options;
    size_t added = o.no_special ? 0 : t->frames[0].added, *ends = NULL, cap = 0;
    o.offsets = false;
    if (start_encoding(t, count, added, &o, out, e)) return -1;
    struct mbl_encode_work *w = out->work;
    int status = 0;
    for (size_t i = 0; i < count && !status; i++) {
        size_t n = (size_t)(rows[i + 1] - rows[i]);
        w->count = 0;
        ends = mbl_grow(ends, &cap, n + 1, sizeof *ends);
        for (size_t k = 0; k < n && !status; k++) {
            status = encode_text(t, w, &words[rows[i] + (int64_t)k], "word", k, e);
            ends[k] = w->count;
        }
        size_t had[2] = {w->count, 0}, keep[2] = {w->count, 0};
        if (!status && o.max_length) status = truncate_lengths(keep, false, o.max_length - added, o.truncation, i, e);
        if (status) break;
        w->ends = ends;
        frame_put(t, w, (const struct mbl_text *const[2]){NULL, NULL}, had, keep, &o, out);
        out->starts[++out->texts] = out->count;
    }
    w->ends = NULL;
    free(ends);
    return status;
}

/* -- what was encoded */

size_t mbl_encoding_width(const struct mbl_encoding *x) {
    size_t width = 0;
    for (size_t i = 0; i < x->texts; i++)
        if (x->starts[i + 1] - x->starts[i] > width) width = x->starts[i + 1] - x->starts[i];
    return width;
}

void mbl_encoding_pad(const struct mbl_encoding *x, size_t width, int32_t pad, int32_t *ids, int32_t *types, int32_t *mask) {
    for (size_t i = 0; i < x->texts; i++) {
        for (size_t k = 0; k < width; k++) {
            size_t from = x->starts[i] + k, to = i * width + k;
            bool there = from < x->starts[i + 1];
            ids[to] = there ? x->ids[from] : pad;
            if (types) types[to] = there ? x->types[from] : 0;
            if (mask) mask[to] = there;
        }
    }
}

void mbl_encoding_free(struct mbl_encoding *x) {
    free(x->ids);
    free(x->types);
    free(x->offsets);
    free(x->words);
    free(x->starts);
    if (x->work) mbl_work_close(x->work);
    free(x->work);
    *x = (struct mbl_encoding){0};
}
