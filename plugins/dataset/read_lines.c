/* read_lines.c: what comes line by line: JSON Lines (an object a line) and plain text (a row a line), as records. */
#include "lib/json.h"
#include "lib/utf8.h"
#include "read.h"

#include <stdlib.h>
#include <string.h>

#define LINE_MOST ((size_t)64 << 20)
#define BLOCK_BYTES ((size_t)256 << 10)

/* -- lines */

int lines_next(struct lines *l, struct mbl_stream *stream, const char **text, size_t *length, struct mbl_error *e) {
    const char *file = mbl_stream_name(stream);
    for (size_t searched = 0;;) {
        char *begin = l->block.data ? l->block.data + l->at : NULL;
        size_t have = l->block.len - l->at;
        char *end = have > searched ? memchr(begin + searched, '\n', have - searched) : NULL;
        if (!end && !l->ended) {
            size_t got;
            if (have > LINE_MOST) return mbl_error_set(e, "%s:%lld: a line longer than 64 MiB", file, (long long)l->line + 1);
            if (l->at) memmove(l->block.data, begin, have);
            l->at = 0;
            l->block.len = searched = have;
            l->block.data = mbl_grow(l->block.data, &l->block.cap, have + BLOCK_BYTES, 1);
            if (mbl_stream_read(stream, l->block.data + have, BLOCK_BYTES, &got, e)) return -1;
            l->block.len += got;
            l->ended = got == 0;
            continue;
        }
        if (!have) return 0;
        size_t n = end ? (size_t)(end - begin) : have, taken = end ? n + 1 : n;
        l->line++;
        l->at += taken;
        if (n && begin[n - 1] == '\r') n--;
        if (l->line == 1 && n >= 3 && !memcmp(begin, "\xef\xbb\xbf", 3)) begin += 3, n -= 3;
        if (memchr(begin, 0, n) || mbl_utf8_check(begin, n) != n)
            return mbl_error_set(e, "%s:%lld: this is not UTF-8 text", file, (long long)l->line);
        *text = begin;
        *length = n;
        return 1;
    }
}

bool lines_blank(const char *text, size_t length) {
    bool blank = true;
    for (size_t i = 0; i < length && blank; i++) blank = text[i] == ' ' || text[i] == '\t';
    return blank;
}

void lines_free(struct lines *l) {
    mbl_buf_free(&l->block);
}

struct line_records {
    struct records records;
    struct lines lines;
    struct mbl_arena arena;      /* of the record */
    struct dictionary keys;      /* JSON Lines: those met so far */
    const char *name;            /* text: the one column's */
    struct cell *cells;
    size_t cell_cap;
    struct mbl_buf values;       /* of cells that are no strings */
};

static struct line_records *lines_of(struct records *r) {
    return (struct line_records *)r;
}

static void lines_close(struct records *r) {
    struct line_records *l = lines_of(r);
    mbl_stream_close(r->stream);
    lines_free(&l->lines);
    mbl_buf_free(&l->values);
    mbl_arena_free(&l->arena);
    dictionary_free(&l->keys);
    free(l->cells);
    free(l);
}

/* The next line that isn't blank: 1, or 0 at the end. */
static int next_line(struct line_records *l, const char **text, size_t *length, struct mbl_error *e) {
    int got;
    do got = lines_next(&l->lines, l->records.stream, text, length, e);
    while (got > 0 && lines_blank(*text, *length));
    l->records.line = l->lines.line;
    return got;
}

static struct line_records *lines_new(struct mbl_stream *stream, int (*next)(struct records *, struct mbl_error *)) {
    struct line_records *l = mbl_alloc(sizeof *l);
    l->records = (struct records){.next = next, .close = lines_close, .stream = stream};
    return l;
}

/* -- text */

static int text_next(struct records *r, struct mbl_error *e) {
    struct line_records *l = lines_of(r);
    return next_line(l, &l->cells[0].text, &l->cells[0].length, e);
}

int records_open_text(struct mbl_stream *stream, const struct options *o, struct records **out, struct mbl_error *e) {
    if (o->columns.count > 1) {
        mbl_error_set(e, "%s: plain text has one column; the rule names %zu", mbl_stream_name(stream), o->columns.count);
        mbl_stream_close(stream);
        return -1;
    }
    struct line_records *l = lines_new(stream, text_next);
    l->name = o->columns.count ? o->columns.items[0] : "text";
    l->cells = mbl_alloc(sizeof *l->cells);
    l->cells[0].quoted = true;
    l->records.names = &l->name;
    l->records.cells = l->cells;
    l->records.name_count = l->records.cell_count = 1;
    *out = &l->records;
    return 0;
}

/* -- JSON Lines */

static size_t column_of(struct line_records *l, const char *key, size_t guess) {
    if (guess < l->keys.count && !strcmp(l->keys.names[guess], key)) return guess; /* most lines have the same order */
    size_t i = dictionary_add(&l->keys, key, strlen(key));
    l->records.names = l->keys.names;
    l->records.name_count = l->keys.count;
    return i;
}

/* A value's text; lists hold no lists. */
static int set_cell(struct line_records *l, const char *key, const struct mbl_json *v, struct cell *cell, struct mbl_error *e) {
    const char *file = mbl_stream_name(l->records.stream);
    *cell = (struct cell){.text = "", .quoted = v->type == MBL_JSON_STRING, .missing = v->type == MBL_JSON_NULL};
    if (v->type == MBL_JSON_TABLE)
        return mbl_error_set(e, "%s:%lld: \"%.100s\" is %s; numbers, strings, true, false, null and lists of such are understood", file,
                             (long long)l->records.line, key, mbl_json_type_name(v->type));
    if (v->type == MBL_JSON_STRING) {
        cell->text = v->string;
        cell->length = v->count;
        return 0;
    }
    if (cell->missing) return 0;
    l->values.len = 0;
    if (v->type != MBL_JSON_LIST) mbl_json_write(v, MBL_JSON_COMPACT, &l->values);
    for (size_t i = 0; v->type == MBL_JSON_LIST && i < v->count; i++) {
        const struct mbl_json *item = v->items[i];
        bool torn = item->type == MBL_JSON_STRING && memchr(item->string, 0, item->count);
        if (item->type == MBL_JSON_NULL || item->type >= MBL_JSON_LIST || torn)
            return mbl_error_set(e, "%s:%lld: \"%.100s\": entry %zu is %s; strings and numbers are understood in a list", file,
                                 (long long)l->records.line, key, i + 1,
                                 torn ? "a string with a NUL" : mbl_json_type_name(item->type));
        if (item->type == MBL_JSON_STRING) mbl_buf_add(&l->values, item->string, item->count);
        else mbl_json_write(item, MBL_JSON_COMPACT, &l->values);
        mbl_buf_addc(&l->values, 0);
    }
    cell->list = v->type == MBL_JSON_LIST;
    cell->text = mbl_arena_strndup(&l->arena, mbl_buf_str(&l->values), l->values.len);
    cell->length = l->values.len;
    return 0;
}

static int jsonl_next(struct records *r, struct mbl_error *e) {
    struct line_records *l = lines_of(r);
    const char *text, *file = mbl_stream_name(r->stream);
    size_t length;
    struct mbl_json *record;
    int got = next_line(l, &text, &length, e);
    if (got <= 0) return got;
    mbl_arena_free(&l->arena);
    if (mbl_json_parse(text, length, "column", &l->arena, &record, e)) return mbl_error_wrap(e, "%s:%lld", file, (long long)r->line);
    if (record->type != MBL_JSON_TABLE)
        return mbl_error_set(e, "%s:%lld: an object expected on each line, found %s", file, (long long)r->line,
                             mbl_json_type_name(record->type));
    for (size_t i = 0; i < r->cell_count; i++) l->cells[i] = (struct cell){.text = "", .missing = true};
    for (size_t i = 0; i < record->count; i++) {
        size_t column = column_of(l, record->keys[i], i);
        while (r->cell_count <= column) {
            l->cells = mbl_grow(l->cells, &l->cell_cap, r->cell_count + 1, sizeof *l->cells);
            l->cells[r->cell_count++] = (struct cell){.text = "", .missing = true};
        }
        if (set_cell(l, record->keys[i], record->items[i], &l->cells[column], e)) return -1;
    }
    r->cells = l->cells;
    return 1;
}

int records_open_jsonl(struct mbl_stream *stream, const struct options *o, struct records **out, struct mbl_error *e) {
    if (o->columns.count) {
        mbl_error_set(e, "%s: JSON Lines name their columns themselves; `columns` is for CSV", mbl_stream_name(stream));
        mbl_stream_close(stream);
        return -1;
    }
    *out = &lines_new(stream, jsonl_next)->records;
    return 0;
}
