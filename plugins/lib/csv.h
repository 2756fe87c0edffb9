/* csv.h: rows of CSV and its relatives (RFC 4180), one at a time, from a stream.
 *
 * Fields may be quoted and then hold separators, line ends and doubled quotes; lines end in LF, CRLF or CR; a UTF-8 BOM is skipped, and so
 * are empty lines. A quote inside an unquoted field stands for itself. Errors begin "file:line:".
 */
#ifndef MBL_CSV_H
#define MBL_CSV_H

#include "archive.h"
#include <stdbool.h>

#define MBL_CSV_ROW_MOST ((size_t)64 << 20) /* bytes of one row: a quote that is never closed must not swallow a whole file */

struct mbl_field {
    const char *text; /* NUL-terminated, UTF-8, has no NUL of its own */
    size_t length;
    bool quoted;
};

struct mbl_csv {
    struct mbl_stream *stream;   /* the caller's */
    char separator;
    int64_t line;                /* where the row that was read last begins, 1-based */
    struct mbl_field *fields;    /* of that row; last until the next one is read */
    size_t count;
    /* Private. */
    size_t field_cap;
    struct mbl_buf row;          /* the fields' bytes, each with a NUL */
    char *block;
    size_t at, have;             /* in the block */
    int64_t next_line;
    bool ended;
};

/* separator 0: the one of comma, tab, semicolon and bar that stands most often outside quotes in the first line; comma if none does. */
MBL_EXPORT int mbl_csv_open(struct mbl_csv *c, struct mbl_stream *stream, char separator, struct mbl_error *e);
MBL_EXPORT int mbl_csv_next(struct mbl_csv *c, struct mbl_error *e); /* 1: a row, 0: the end, -1: an error */
MBL_EXPORT void mbl_csv_close(struct mbl_csv *c);                    /* all zero is fine */

#endif
