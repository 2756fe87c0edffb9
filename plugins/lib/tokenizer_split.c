/* tokenizer_split.c: pre-tokenizers: a text into the words that models see.
 *
 * The regular expressions that GPT-2, Llama 3 and Qwen 2 split by are matchers written by hand; any other is refused when the file is read.
 * In them a match begins wherever the last one ended, since every character begins one.
 */
#include "tokenizer_private.h"

#include <string.h>

/* -- the regular expressions */

enum { LETTER = MBL_UNICODE_LETTER, NUMBER = MBL_UNICODE_NUMBER, WHITE = MBL_UNICODE_WHITE };

/* Classes of the character at s[at], and its bytes; no classes and 0 bytes at the end. */
static inline unsigned peek(const char *s, size_t n, size_t at, size_t *length) {
    if (at >= n) return *length = 0, 0;
    return mbl_unicode_classes(mbl_utf8_decode(s + at, length));
}

/* Where the run of characters ends that have one of these classes (`in`) or none of them. */
static size_t run_end(const char *s, size_t n, size_t at, unsigned classes, bool in) {
    size_t length;
    while (at < n && !(peek(s, n, at, &length) & classes) != in) at += length;
    return at;
}

/* \s+(?!\S)|\s+ at s, which begins with white space: the last of a run is left to a word behind it. */
static size_t match_white(const char *s, size_t n) {
    size_t at = 0, last = 0, length;
    while (at < n && peek(s, n, at, &length) & WHITE) {
        last = at;
        at += length;
    }
    return at < n && last > 0 ? last : at;
}

/* 's|'t|'re|'ve|'m|'ll|'d: bytes of it, or 0. In any case, if asked: the long s folds to s as well. */
static size_t match_contraction(const char *s, size_t n, bool any_case) {
    if (n < 2 || s[0] != '\'') return 0;
    char a = s[1], b = n > 2 ? s[2] : 0;
    if (any_case) {
        if (n > 2 && a == '\xc5' && b == '\xbf') return 3;
        if (a >= 'A' && a <= 'Z') a = (char)(a + 32);
        if (b >= 'A' && b <= 'Z') b = (char)(b + 32);
    }
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

static size_t match_gpt2(const char *s, size_t n) {
    size_t first, next, contraction = match_contraction(s, n, false);
    if (contraction) return contraction;
    unsigned classes = peek(s, n, 0, &first);
    size_t at = 0;
    if (s[0] == ' ') {
        unsigned behind = peek(s, n, 1, &next);
        if (!next || behind & WHITE) return match_white(s, n);
        classes = behind;
        at = 1;
    } else if (classes & WHITE) {
        return match_white(s, n);
    }
    if (classes & LETTER) return run_end(s, n, at, LETTER, true);
    if (classes & NUMBER) return run_end(s, n, at, NUMBER, true);
    return run_end(s, n, at, LETTER | NUMBER | WHITE, false);
}

static bool is_newline(char c) {
    return c == '\r' || c == '\n';
}

/* What Llama 3, Qwen 2 and GPT-4 have in common; at most `digits` to a piece. */
static size_t match_gpt4(const char *s, size_t n, int digits) {
    size_t first, next, at, contraction = match_contraction(s, n, true);
    if (contraction) return contraction;
    unsigned classes = peek(s, n, 0, &first);
    /* [^\r\n\p{L}\p{N}]?\p{L}+ */
    if (classes & LETTER) return run_end(s, n, 0, LETTER, true);
    if (!(classes & NUMBER) && !is_newline(s[0]) && peek(s, n, first, &next) & LETTER) return run_end(s, n, first, LETTER, true);
    /* \p{N}{1,digits} */
    if (classes & NUMBER) {
        for (at = first; --digits > 0 && peek(s, n, at, &next) & NUMBER;) at += next;
        return at;
    }
    /*  ?[^\s\p{L}\p{N}]+[\r\n]* */
    at = s[0] == ' ';
    classes = peek(s, n, at, &next);
    if (next && !(classes & (LETTER | NUMBER | WHITE))) {
        at = run_end(s, n, at, LETTER | NUMBER | WHITE, false);
        while (at < n && is_newline(s[at])) at++;
        return at;
    }
    /* \s*[\r\n]+: as far as the last line end in the run of white space */
    size_t end = run_end(s, n, 0, WHITE, true);
    for (at = end; at > 0; at--)
        if (is_newline(s[at - 1])) return at;
    return match_white(s, n);
}

static size_t match_llama3(const char *s, size_t n) {
    return match_gpt4(s, n, 3);
}

static size_t match_qwen2(const char *s, size_t n) {
    return match_gpt4(s, n, 1);
}

size_t (*mbl_split_pattern(const char *regex))(const char *s, size_t n) {
    static const struct {
        const char *regex;
        size_t (*match)(const char *s, size_t n);
    } known[] = {
        {MBL_GPT2_PATTERN, match_gpt2},
        {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)"
         "|\\s+",
         match_llama3},
        {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
         match_qwen2},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(known[i].regex, regex)) return known[i].match;
    return NULL;
}

/* -- splitting */

static void add_word(struct mbl_encode_work *w, size_t begin, size_t end) {
    if (begin == end) return;
    w->words = mbl_grow(w->words, &w->word_cap, w->word_count + 1, sizeof *w->words);
    w->words[w->word_count++] = (struct mbl_span){(uint32_t)begin, (uint32_t)end};
}

/* Pieces that match and pieces that don't arrive in turn; the behavior says which of them become words, and which are joined. */
struct pieces {
    struct mbl_encode_work *work;
    enum mbl_split_behavior behavior;
    size_t begin, end; /* of the word that isn't done yet */
    bool open, was_match;
};

static void pieces_close(struct pieces *p) {
    if (p->open) add_word(p->work, p->begin, p->end);
    p->open = false;
}

static void pieces_add(struct pieces *p, size_t begin, size_t end, bool match) {
    if (begin == end) return;
    bool join = false;
    switch (p->behavior) {
    case MBL_SPLIT_REMOVED:
        if (match) return;
        break;
    case MBL_SPLIT_ISOLATED: break;
    case MBL_SPLIT_PREVIOUS: join = match && !p->was_match; break;
    case MBL_SPLIT_CONTIGUOUS: join = match == p->was_match; break;
    case MBL_SPLIT_NEXT: join = !match && p->was_match; break;
    }
    if (!join || !p->open) {
        pieces_close(p);
        p->begin = begin;
    }
    p->open = true;
    p->end = end;
    p->was_match = match;
}

/* Splits by single characters of some classes. */
static void split_classes(struct pieces *p, const char *s, struct mbl_span span, unsigned classes) {
    size_t length, plain = span.begin;
    for (size_t at = span.begin; at < span.end; at += length) {
        if (!(peek(s, span.end, at, &length) & classes)) continue;
        pieces_add(p, plain, at, false);
        pieces_add(p, at, at + length, true);
        plain = at + length;
    }
    pieces_add(p, plain, span.end, false);
}

static void split_literal(struct pieces *p, const struct mbl_splitter *step, const char *s, struct mbl_span span) {
    size_t at = span.begin;
    for (const char *hit; at < span.end && (hit = memmem(s + at, span.end - at, step->text,
                                                         step->text_length)); at = (size_t)(hit - s) + step->text_length) {
        pieces_add(p, at, (size_t)(hit - s), step->invert);
        pieces_add(p, (size_t)(hit - s), (size_t)(hit - s) + step->text_length, !step->invert);
    }
    pieces_add(p, at, span.end, step->invert);
}

/* \w+|[^\w\s]+ */
static void split_whitespace(struct mbl_encode_work *w, const char *s, struct mbl_span span) {
    size_t at = span.begin, length;
    while (at < span.end) {
        unsigned classes = peek(s, span.end, at, &length);
        size_t end = at + length;
        if (classes & MBL_UNICODE_WORD) end = run_end(s, span.end, at, MBL_UNICODE_WORD, true);
        else if (!(classes & WHITE)) end = run_end(s, span.end, at, MBL_UNICODE_WORD | WHITE, false);
        if (classes & MBL_UNICODE_WORD || !(classes & WHITE)) add_word(w, at, end);
        at = end;
    }
}

static void split_bert(struct mbl_encode_work *w, const char *s, struct mbl_span span) {
    size_t length, begin = span.begin;
    for (size_t at = span.begin; at < span.end; at += length) {
        unsigned classes = peek(s, span.end, at, &length);
        if (!(classes & (WHITE | MBL_UNICODE_PUNCT))) continue;
        add_word(w, begin, at);
        if (classes & MBL_UNICODE_PUNCT) add_word(w, at, at + length);
        begin = at + length;
    }
    add_word(w, begin, span.end);
}

static void split_pattern(struct mbl_encode_work *w, const struct mbl_splitter *step, const char *s, struct mbl_span span) {
    for (size_t at = span.begin; at < span.end;) {
        size_t n = step->match(s + at, span.end - at);
        add_word(w, at, at + n);
        at += n;
    }
}

static void split_span(const struct mbl_splitter *step, struct mbl_encode_work *w, const char *s, struct mbl_span span) {
    struct pieces p = {.work = w, .behavior = step->behavior};
    switch (step->kind) {
    case MBL_SPLIT_BERT: split_bert(w, s, span); break;
    case MBL_SPLIT_WHITESPACE: split_whitespace(w, s, span); break;
    case MBL_SPLIT_WHITE: split_classes(&p, s, span, WHITE); break;
    case MBL_SPLIT_PUNCTUATION: split_classes(&p, s, span, MBL_UNICODE_PUNCT); break;
    case MBL_SPLIT_DIGITS: split_classes(&p, s, span, MBL_UNICODE_NUMERIC); break;
    case MBL_SPLIT_LITERAL:
    case MBL_SPLIT_METASPACE: split_literal(&p, step, s, span); break;
    case MBL_SPLIT_PATTERN:
    case MBL_SPLIT_BYTES: split_pattern(w, step, s, span); break;
    }
    pieces_close(&p);
}

/* Metaspace and ByteLevel write the words anew: spaces replaced, something put in front of each. */
static void split_rewrite(const struct mbl_splitter *step, struct mbl_encode_work *w, struct mbl_token_text *text) {
    struct mbl_transform f;
    mbl_transform_begin(&f, text, mbl_work_room(w, text), w->offsets);
    for (size_t i = 0; i < w->word_count; i++) {
        struct mbl_span *word = &w->words[i];
        size_t begin = f.out->length;
        const char *s = text->bytes + word->begin;
        size_t n = word->end - word->begin;
        struct mbl_token origin = {0};
        f.at = word->begin;
        if (step->kind == MBL_SPLIT_BYTES) {
            if (step->prefix_space && s[0] != ' ') mbl_transform_insert(&f, " ", 1, f.at);
        } else {
            bool there = s[0] == ' ' || (n >= step->text_length && !memcmp(s, step->text, step->text_length));
            if (step->prepend == MBL_PREPEND_FIRST) mbl_token_origin(text, word->begin, word->end, &origin);
            if (!there && (step->prepend == MBL_PREPEND_ALWAYS || (step->prepend == MBL_PREPEND_FIRST && origin.begin == 0)))
                mbl_transform_insert(&f, step->text, step->text_length, f.at);
        }
        for (const char *space; step->kind == MBL_SPLIT_METASPACE && f.at < word->end && (space = memchr(text->bytes + f.at, ' ',
                                                                                                         word->end - f.at));) {
            mbl_transform_copy(&f, (size_t)(space - text->bytes) - f.at);
            mbl_transform_insert(&f, step->text, step->text_length, f.at);
            mbl_transform_skip(&f, 1);
        }
        mbl_transform_copy(&f, word->end - f.at);
        *word = (struct mbl_span){(uint32_t)begin, (uint32_t)f.out->length};
    }
    mbl_transform_end(&f, text);
}

static bool rewrites(const struct mbl_splitter *step) {
    return step->kind == MBL_SPLIT_METASPACE || (step->kind == MBL_SPLIT_BYTES && step->prefix_space);
}

void mbl_split(const struct mbl_tokenizer *t, struct mbl_encode_work *w, struct mbl_token_text *text) {
    w->word_count = 0;
    add_word(w, 0, text->length);
    for (size_t i = 0; i < t->splitter_count; i++) {
        const struct mbl_splitter *step = &t->splitters[i];
        if (rewrites(step)) split_rewrite(step, w, text);
        if (!step->split) continue;
        struct mbl_span *before = w->words;
        size_t count = w->word_count, cap = w->word_cap;
        w->words = w->spare;
        w->word_cap = w->spare_cap;
        w->word_count = 0;
        w->spare = before;
        w->spare_cap = cap;
        for (size_t j = 0; j < count; j++) split_span(step, w, text->bytes, before[j]);
    }
}
