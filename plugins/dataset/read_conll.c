/* read_conll.c: columns of words, as the CoNLL tasks have them: a line a word, its fields parted by a tab or by spaces, a blank line behind
 * each sentence. A sentence is a record whose cells are lists, one a column.
 *
 * CoNLL-U (universaldependencies.org/format.html) is the one with names for its ten columns, comments, and lines that are no words of
 * their own: ranges of contracted words and words that are only thought.
 */
#include "read.h"

#include <stdlib.h>
#include <string.h>

#define COLUMNS_MOST 64

static const char *const conllu_names[] = {"id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc"};
#define CONLLU_COLUMNS (sizeof conllu_names / sizeof *conllu_names)

struct field {
    const char *text;
    size_t length;
};

struct conll_records {
    struct records records;
    struct lines lines;
    struct mbl_arena arena;
    const struct options *options;
    bool conllu;
    const char *names[COLUMNS_MOST];
    struct mbl_buf columns[COLUMNS_MOST]; /* of the sentence */
    struct cell cells[COLUMNS_MOST];
    size_t width;                /* 0: no word was seen yet */
    int64_t words;               /* of the sentence */
};

static struct conll_records *conll_of(struct records *r) {
    return (struct conll_records *)r;
}

static void conll_close(struct records *r) {
    struct conll_records *c = conll_of(r);
    mbl_stream_close(r->stream);
    lines_free(&c->lines);
    for (size_t i = 0; i < COLUMNS_MOST; i++) mbl_buf_free(&c->columns[i]);
    mbl_arena_free(&c->arena);
    free(c);
}

/* Fields lie between tabs where the line has one, between runs of spaces otherwise. Returns how many there are, of which at most
 * COLUMNS_MOST are in `out`. */
static size_t split_line(const char *s, size_t n, bool tabs, struct field out[COLUMNS_MOST]) {
    size_t count = 0;
    tabs = tabs || memchr(s, '\t', n);
    for (size_t at = 0; at <= n;) {
        while (!tabs && at < n && s[at] == ' ') at++;
        if (!tabs && at == n) break;
        const char *end = memchr(s + at, tabs ? '\t' : ' ', n - at);
        size_t stop = end ? (size_t)(end - s) : n;
        struct field f = {s + at, stop - at};
        while (f.length && *f.text == ' ') f.text++, f.length--;
        while (f.length && f.text[f.length - 1] == ' ') f.length--;
        if (count < COLUMNS_MOST) out[count] = f;
        count++;
        at = stop + 1;
    }
    return count;
}

/* The first word says how many columns there are. */
static int name_columns(struct conll_records *c, size_t width, struct mbl_error *e) {
    const struct options *o = c->options;
    const char *file = mbl_stream_name(c->records.stream);
    if (width > COLUMNS_MOST)
        return mbl_error_set(e, "%s:%lld: %zu fields; at most %d expected", file, (long long)c->lines.line, width, COLUMNS_MOST);
    if (c->conllu && width != CONLLU_COLUMNS)
        return mbl_error_set(e, "%s:%lld: %zu fields between tabs; CoNLL-U has ten", file, (long long)c->lines.line, width);
    if (o->columns.count && o->columns.count != width)
        return mbl_error_set(e, "%s:%lld: the rule names %zu columns; found %zu fields", file, (long long)c->lines.line, o->columns.count,
                             width);
    for (size_t i = 0; i < width; i++)
        c->names[i] = o->columns.count  ? o->columns.items[i]
                      : c->conllu       ? conllu_names[i]
                      : !i              ? "word"
                      : i + 1 == width  ? "tag"
                                        : mbl_arena_printf(&c->arena, "c%zu", i + 1);
    c->width = c->records.name_count = c->records.cell_count = width;
    return 0;
}

static int add_word(struct conll_records *c, const char *s, size_t n, struct mbl_error *e) {
    const char *file = mbl_stream_name(c->records.stream);
    struct field fields[COLUMNS_MOST];
    size_t count = split_line(s, n, c->conllu, fields);
    if (count && fields[0].length == 10 && !memcmp(fields[0].text, "-DOCSTART-", 10)) return 0;
    if (c->conllu && (memchr(fields[0].text, '-', fields[0].length) || memchr(fields[0].text, '.', fields[0].length))) return 0;
    if (!c->width && name_columns(c, count, e)) return -1;
    if (count != c->width)
        return mbl_error_set(e, "%s:%lld: found %zu field%s, expected %zu as in the lines before", file, (long long)c->lines.line, count,
                             count == 1 ? "" : "s", c->width);
    if (!c->words++) c->records.line = c->lines.line;
    for (size_t i = 0; i < count; i++) {
        if (!fields[i].length)
            return mbl_error_set(e, "%s:%lld: column %s is empty", file, (long long)c->lines.line, c->names[i]);
        mbl_buf_add(&c->columns[i], fields[i].text, fields[i].length);
        mbl_buf_addc(&c->columns[i], 0);
    }
    return 0;
}

static int conll_next(struct records *r, struct mbl_error *e) {
    struct conll_records *c = conll_of(r);
    const char *text;
    size_t length;
    int got;
    c->words = 0;
    for (size_t i = 0; i < c->width; i++) c->columns[i].len = 0;
    while ((got = lines_next(&c->lines, r->stream, &text, &length, e)) > 0) {
        if (lines_blank(text, length)) {
            if (c->words) break;
            continue;
        }
        if (c->conllu && *text == '#') continue;
        if (add_word(c, text, length, e)) return -1;
    }
    if (got < 0 || !c->words) return got;
    for (size_t i = 0; i < c->width; i++)
        c->cells[i] = (struct cell){.text = mbl_buf_str(&c->columns[i]), .length = c->columns[i].len, .list = true};
    return 1;
}

static int open_columns(struct mbl_stream *stream, const struct options *o, bool conllu, struct records **out) {
    struct conll_records *c = mbl_alloc(sizeof *c);
    c->records = (struct records){.next = conll_next, .close = conll_close, .stream = stream, .names = c->names, .cells = c->cells};
    c->options = o;
    c->conllu = conllu;
    *out = &c->records;
    return 0;
}

int records_open_conll(struct mbl_stream *stream, const struct options *o, struct records **out, struct mbl_error *e) {
    (void)e;
    return open_columns(stream, o, false, out);
}

int records_open_conllu(struct mbl_stream *stream, const struct options *o, struct records **out, struct mbl_error *e) {
    (void)e;
    return open_columns(stream, o, true, out);
}
