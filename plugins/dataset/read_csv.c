/* read_csv.c: CSV as records: the header, and that all rows have as many fields. */
#include "lib/csv.h"
#include "read.h"

#include <stdlib.h>
#include <string.h>

struct csv_records {
    struct records records;
    struct mbl_csv csv;
    struct mbl_arena arena;
    struct dictionary names; /* to see that no two are alike */
    struct cell *cells;
    size_t width;
    bool waiting; /* the first row was no header and is still to be given out */
};

static struct csv_records *csv_of(struct records *r) {
    return (struct csv_records *)r;
}

static void csv_close(struct records *r) {
    struct csv_records *c = csv_of(r);
    mbl_csv_close(&c->csv);
    mbl_stream_close(c->records.stream);
    mbl_arena_free(&c->arena);
    dictionary_free(&c->names);
    free(c->cells);
    free(c);
}

/* Spaces around a field that isn't quoted are no part of it: so people write tables by hand. */
static struct cell trim(const struct mbl_field *f) {
    struct cell cell = {.text = f->text, .length = f->length, .quoted = f->quoted};
    if (f->quoted) return cell;
    while (cell.length && (*cell.text == ' ' || *cell.text == '\t')) cell.text++, cell.length--;
    while (cell.length && (cell.text[cell.length - 1] == ' ' || cell.text[cell.length - 1] == '\t')) cell.length--;
    return cell;
}

static int csv_next(struct records *r, struct mbl_error *e) {
    struct csv_records *c = csv_of(r);
    if (!c->waiting) {
        int got = mbl_csv_next(&c->csv, e);
        if (got <= 0) return got;
    }
    c->waiting = false;
    if (c->csv.count != c->width)
        return mbl_error_set(e, "%s:%lld: ragged row: found %zu field%s, expected %zu", mbl_stream_name(r->stream),
                             (long long)c->csv.line, c->csv.count, c->csv.count == 1 ? "" : "s", c->width);
    for (size_t i = 0; i < c->width; i++) c->cells[i] = trim(&c->csv.fields[i]);
    r->line = c->csv.line;
    return 1;
}

static bool looks_like_header(const struct mbl_csv *csv) {
    double number;
    for (size_t i = 0; i < csv->count; i++) {
        struct cell cell = trim(&csv->fields[i]);
        if (!cell.length || table_parse_number(cell.text, cell.length, &number)) return false;
    }
    return true;
}

static int read_header(struct csv_records *c, const struct options *o, bool header, struct mbl_error *e) {
    const char **names = mbl_arena_alloc(&c->arena, (c->width + 1) * sizeof *names);
    const char *file = mbl_stream_name(c->records.stream);
    if (o->columns.count && o->columns.count != c->width)
        return mbl_error_set(e, "%s:%lld: the rule names %zu column%s; found %zu field%s", file, (long long)c->csv.line, o->columns.count,
                             o->columns.count == 1 ? "" : "s", c->width, c->width == 1 ? "" : "s");
    for (size_t i = 0; i < c->width; i++) {
        struct cell cell = trim(&c->csv.fields[i]);
        if (o->columns.count) names[i] = o->columns.items[i];
        else if (!header) names[i] = mbl_arena_printf(&c->arena, "c%zu", i + 1);
        else if (cell.length) names[i] = mbl_arena_strndup(&c->arena, cell.text, cell.length);
        else return mbl_error_set(e, "%s:%lld: column %zu has no name in the header", file, (long long)c->csv.line, i + 1);
        if (dictionary_add(&c->names, names[i], strlen(names[i])) < i)
            return mbl_error_set(e, "%s:%lld: two columns are called \"%.200s\"", file, (long long)c->csv.line, names[i]);
    }
    c->records.names = names;
    c->records.name_count = c->records.cell_count = c->width;
    return 0;
}

int records_open_csv(struct mbl_stream *stream, const struct options *o, struct records **out, struct mbl_error *e) {
    struct csv_records *c = mbl_alloc(sizeof *c);
    c->records = (struct records){.next = csv_next, .close = csv_close, .stream = stream};
    *out = &c->records;
    if (mbl_csv_open(&c->csv, stream, o->separator, e)) goto fail;
    int got = mbl_csv_next(&c->csv, e);
    if (got < 0) goto fail;
    if (got == 0) {
        mbl_error_set(e, "%s is empty", mbl_stream_name(stream));
        goto fail;
    }
    bool header = !strcmp(o->header, "yes") || (!strcmp(o->header, "auto") && looks_like_header(&c->csv));
    c->width = c->csv.count;
    c->cells = mbl_alloc(c->width * sizeof *c->cells);
    c->records.cells = c->cells;
    if (read_header(c, o, header, e)) goto fail;
    c->waiting = !header;
    return 0;
fail:
    csv_close(&c->records);
    *out = NULL;
    return -1;
}
