/* csv.c: rows of CSV, one at a time; see csv.h. A small state machine over blocks of the stream. */
#include "csv.h"
#include "utf8.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES ((size_t)256 << 10)

static int csv_fail(const struct mbl_csv *c, int64_t line, const char *what, struct mbl_error *e) {
    return mbl_error_set(e, "%s:%lld: %s", mbl_stream_name(c->stream), (long long)line, what);
}

/* Sees to it that there are bytes in the block, unless the stream has ended. What is unread stays at its front. */
static int csv_fill(struct mbl_csv *c, struct mbl_error *e) {
    if (c->ended) return 0;
    memmove(c->block, c->block + c->at, c->have - c->at);
    c->have -= c->at;
    c->at = 0;
    while (c->have < BLOCK_BYTES && !c->ended) {
        size_t got;
        if (mbl_stream_read(c->stream, c->block + c->have, BLOCK_BYTES - c->have, &got, e)) return -1;
        c->have += got;
        c->ended = got == 0;
    }
    return 0;
}

/* The next byte without taking it; -1 at the end, -2 on an error. */
static int csv_peek(struct mbl_csv *c, struct mbl_error *e) {
    if (c->at == c->have && csv_fill(c, e)) return -2;
    return c->at < c->have ? (unsigned char)c->block[c->at] : -1;
}

static char csv_guess_separator(const struct mbl_csv *c) {
    static const char candidates[] = ",\t;|";
    size_t counts[4] = {0}, best = 0;
    bool quoted = false;
    for (size_t i = c->at; i < c->have && (quoted || (c->block[i] != '\n' && c->block[i] != '\r')); i++) {
        char b = c->block[i];
        if (b == '"') quoted = !quoted;
        const char *hit = b && !quoted ? strchr(candidates, b) : NULL;
        if (hit) counts[hit - candidates]++;
    }
    for (size_t i = 1; i < 4; i++)
        if (counts[i] > counts[best]) best = i;
    return candidates[best];
}

int mbl_csv_open(struct mbl_csv *c, struct mbl_stream *stream, char separator, struct mbl_error *e) {
    *c = (struct mbl_csv){.stream = stream, .separator = separator, .next_line = 1};
    c->block = mbl_alloc(BLOCK_BYTES);
    if (csv_fill(c, e)) return -1;
    const unsigned char *b = (const unsigned char *)c->block;
    if (c->have >= 2 && ((b[0] == 0xff && b[1] == 0xfe) || (b[0] == 0xfe && b[1] == 0xff)))
        return csv_fail(c, 1, "this is UTF-16; UTF-8 is expected (iconv -f UTF-16 -t UTF-8 converts it)", e);
    if (c->have >= 3 && b[0] == 0xef && b[1] == 0xbb && b[2] == 0xbf) c->at = 3;
    if (!separator) c->separator = csv_guess_separator(c);
    return 0;
}

void mbl_csv_close(struct mbl_csv *c) {
    free(c->fields);
    free(c->block);
    mbl_buf_free(&c->row);
    *c = (struct mbl_csv){0};
}

/* Takes a line's end: LF, CR or CRLF. */
static int csv_end_line(struct mbl_csv *c, struct mbl_error *e) {
    bool cr = c->block[c->at++] == '\r';
    c->next_line++;
    int next = cr ? csv_peek(c, e) : 0;
    if (next == '\n') c->at++;
    return next == -2 ? -1 : 0;
}

static int csv_add(struct mbl_csv *c, const char *bytes, size_t n, struct mbl_error *e) {
    if (n > MBL_CSV_ROW_MOST - c->row.len)
        return csv_fail(c, c->line, "the row that begins here is longer than 64 MiB; is a quote not closed?", e);
    mbl_buf_add(&c->row, bytes, n);
    return 0;
}

/* The inside of a quoted field, after its first quote, up to and with its last. */
static int csv_quoted(struct mbl_csv *c, struct mbl_error *e) {
    int64_t begin = c->next_line;
    bool after_cr = false;
    for (;;) {
        int b = csv_peek(c, e);
        if (b == -2) return -1;
        if (b == -1) return csv_fail(c, begin, "the quote that is opened here is never closed", e);
        if (b == '"') {
            c->at++;
            b = csv_peek(c, e);
            if (b == -2) return -1;
            if (b != '"') return 0;
            if (csv_add(c, "\"", 1, e)) return -1;
            c->at++;
            continue;
        }
        size_t run = c->at;
        while (run < c->have && c->block[run] != '"') {
            char byte = c->block[run++];
            if (byte == '\r' || (byte == '\n' && !after_cr)) c->next_line++; /* CRLF counts once */
            after_cr = byte == '\r';
        }
        if (csv_add(c, c->block + c->at, run - c->at, e)) return -1;
        c->at = run;
    }
}

static int csv_plain(struct mbl_csv *c, struct mbl_error *e) {
    for (;;) {
        size_t run = c->at;
        while (run < c->have && c->block[run] != c->separator && c->block[run] != '\n' && c->block[run] != '\r') run++;
        if (csv_add(c, c->block + c->at, run - c->at, e)) return -1;
        c->at = run;
        if (run < c->have) return 0;
        int b = csv_peek(c, e);
        if (b == -2) return -1;
        if (b == -1) return 0;
    }
}

/* One field. *more says whether a separator followed it. */
static int csv_field(struct mbl_csv *c, bool *more, struct mbl_error *e) {
    int b = csv_peek(c, e);
    size_t begin = c->row.len;
    bool quoted = b == '"';
    if (b == -2) return -1;
    if (quoted) c->at++;
    if (quoted ? csv_quoted(c, e) : csv_plain(c, e)) return -1;
    b = csv_peek(c, e);
    if (b == -2) return -1;
    *more = b == (unsigned char)c->separator;
    if (*more) c->at++;
    else if (b == '\n' || b == '\r') {
        if (csv_end_line(c, e)) return -1;
    } else if (b != -1) {
        return csv_fail(c, c->next_line,
                        "after a closing quote a separator or the line's end is expected; a quote inside of a quoted field is doubled", e);
    }
    c->fields = mbl_grow(c->fields, &c->field_cap, c->count + 1, sizeof *c->fields);
    c->fields[c->count++] = (struct mbl_field){.length = c->row.len - begin, .quoted = quoted};
    return csv_add(c, "", 1, e);
}

/* The bytes have come to rest: the fields get their pointers, and the text is looked at. */
static int csv_finish(struct mbl_csv *c, struct mbl_error *e) {
    const char *p = c->row.data;
    for (size_t i = 0; i < c->count; i++) {
        struct mbl_field *f = &c->fields[i];
        f->text = p;
        p += f->length + 1;
        if (memchr(f->text, 0, f->length)) return csv_fail(c, c->line, "a NUL byte; is this a text file?", e);
        if (mbl_utf8_check(f->text, f->length) == f->length) continue;
        return csv_fail(c, c->line, "bytes that are not UTF-8 (iconv -f LATIN1 -t UTF-8 converts many a file)", e);
    }
    return 1;
}

int mbl_csv_next(struct mbl_csv *c, struct mbl_error *e) {
    int b;
    while ((b = csv_peek(c, e)) == '\n' || b == '\r')
        if (csv_end_line(c, e)) return -1;
    if (b < 0) return b == -1 ? 0 : -1;
    c->line = c->next_line;
    c->row.len = c->count = 0;
    bool more = true;
    while (more)
        if (csv_field(c, &more, e)) return -1;
    return csv_finish(c, e);
}
