/* read.h: from files of any known format to a table. Formats are rows of a table in read.c; those that come as records (CSV, JSON Lines,
 * text) share read_records.c, which goes over the source twice: once to learn what the columns hold, once to load them into that.
 */
#ifndef DATASET_READ_H
#define DATASET_READ_H

#include "lib/archive.h"
#include "options.h"
#include "table.h"

/* How far the reading is; may be NULL. Returns 1 to stop it (the error is then "cancelled"). */
struct watcher {
    int (*see)(struct watcher *, double done, double total);
};

struct reading {
    const char *const *paths;
    size_t path_count;
    const struct options *options;
    struct watcher *watcher;
    void (*note)(struct reading *, const char *text); /* remarks on what was found; may be NULL */
    void *context;
};

/* Reads all files into `out`. Columns have their kinds; the label column is marked. Columns that are neither label, feature nor
 * group are not there. Errors say file and line. */
int read_table(struct reading *r, struct table *out, struct mbl_error *e);

/* -- records: what CSV, JSON Lines and text have in common */

struct cell {
    const char *text;
    size_t length;
    bool missing, quoted;
    bool list;                   /* several strings, each with a NUL behind it, counted in length */
};

struct records {
    int (*next)(struct records *, struct mbl_error *); /* 1: a record, 0: the end, -1: an error */
    void (*close)(struct records *);
    struct mbl_stream *stream;
    const char *const *names;    /* of the columns; there may be more after `next` (JSON Lines) */
    size_t name_count;
    int64_t line;                /* of the record */
    const struct cell *cells;    /* of the record; those beyond cell_count are missing */
    size_t cell_count;
};

/* Makers of records, one a file. They own the stream, also when they fail. */
int records_open_csv(struct mbl_stream *stream, const struct options *o, struct records **out, struct mbl_error *e);
int records_open_jsonl(struct mbl_stream *stream, const struct options *o, struct records **out, struct mbl_error *e);
int records_open_conll(struct mbl_stream *stream, const struct options *o, struct records **out, struct mbl_error *e);
int records_open_conllu(struct mbl_stream *stream, const struct options *o, struct records **out, struct mbl_error *e);
int records_open_text(struct mbl_stream *stream, const struct options *o, struct records **out, struct mbl_error *e);
/* One file's records, whatever its format; an error if that has none (arrays). Close them. */
int read_open(const char *path, const struct options *o, struct records **out, struct mbl_error *e);
int read_records(struct reading *r, int (*open)(struct mbl_stream *, const struct options *, struct records **, struct mbl_error *),
                 struct table *out, struct mbl_error *e);

/* -- lines, for makers of records. All zero is at the beginning. */
struct lines {
    struct mbl_buf block;        /* read and not yet given out: from `at` */
    size_t at;
    int64_t line;                /* of the last one given out */
    bool ended;
};
/* The next line, blank ones included, without its end, good until the next call: 1, or 0 at the end. Fails on what is no UTF-8 text. */
int lines_next(struct lines *l, struct mbl_stream *stream, const char **text, size_t *length, struct mbl_error *e);
bool lines_blank(const char *text, size_t length);
void lines_free(struct lines *l);

/* -- arrays: bytes of a whole file, unpacked. The columns point into `data`, which the table takes over. */
int read_idx(struct reading *r, struct table *out, struct mbl_error *e);
int read_npy(struct reading *r, struct table *out, struct mbl_error *e);

/* An array as IDX and NPY have it, parsed and checked, for these two and for the fuzzers. */
enum { ARRAY_RANK = 8 };
struct array {
    enum mbl_dtype type;
    int rank;
    int64_t shape[ARRAY_RANK];
    const unsigned char *data;   /* in the input */
    bool big_endian;
    uint64_t count;              /* elements */
};
int array_parse_idx(const void *data, size_t size, const char *name, struct array *out, struct mbl_error *e);
int array_parse_npy(const void *data, size_t size, const char *name, struct array *out, struct mbl_error *e);
double array_at(const struct array *a, uint64_t i);

/* Files of arrays to a table: one is the data, a second of rank 1, if there is one, the labels. */
int read_arrays(struct reading *r, int (*parse)(const void *, size_t, const char *, struct array *, struct mbl_error *), struct table *out,
                struct mbl_error *e);

/* Which columns play a part, by the rule: 0 none, otherwise label, feature or group. Fails if the rule names a column that is not there. */
enum column_use { COLUMN_UNUSED, COLUMN_FEATURE, COLUMN_LABEL, COLUMN_GROUP };
int read_uses(const struct options *o, const char *const *names, size_t count, const char *source, enum column_use *out,
              struct mbl_error *e);

/* Whether labels with these properties are classes, where the rule doesn't say: see the parameter `task`. */
bool read_are_classes(const struct options *o, bool numbers, bool integers, size_t distinct, size_t rows);

#endif
