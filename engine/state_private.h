/* state_private.h: what the database's files share: the connection, kept statements, and rows as bytes. */
#ifndef ENGINE_STATE_PRIVATE_H
#define ENGINE_STATE_PRIVATE_H

#include "state.h"

#include <sqlite3.h>

/* One row each in state.c's table. */
enum state_statement {
    STATE_BEGIN, STATE_COMMIT, STATE_ROLLBACK,
    STATE_GET_NOTE, STATE_PUT_NOTE,
    STATE_ALL_FILES, STATE_PUT_FILE,
    STATE_GET_RECORD, STATE_ALL_RECORDS, STATE_PUT_RECORD, STATE_DROP_RECORD,
    STATE_KEEP_DURATION, STATE_GET_DURATION, STATE_ANY_DURATION,
    STATE_GET_ACTIONS, STATE_ALL_ACTIONS, STATE_PUT_ACTION, STATE_DROP_ACTION, STATE_PRUNE_ACTIONS,
    STATE_PUT_RUN, STATE_END_RUN, STATE_ALL_RUNS, STATE_PUT_RUN_STEP, STATE_PRUNE_RUN_STEPS,
    STATE_RUN_STEPS, STATE_RUN_STEPS_OF_RUN, STATE_RUN_STEPS_OF_STEP, STATE_RUN_STEPS_OF_BOTH,
    STATE_STATEMENTS
};

struct state {
    char *path;
    sqlite3 *db;
    sqlite3_stmt *statements[STATE_STATEMENTS]; /* prepared when first used */
    bool read_only;
    bool damaged;    /* found while it was used: state_close moves the file aside */
    int wal_pages;   /* in the write-ahead log after the last commit */
    struct buf row;  /* the one that is being written */
};

/* -- statements. Parameters by `form`, a letter each: t text (or NULL), b bytes and their size_t, i int64_t, d double. They must stay as
 * they are until the statement has run. */

/* Runs a statement that writes, in the transaction that it begins if there is none. */
int state_exec(struct state *s, enum state_statement which, struct err *e, const char *form, ...);

/* Begins the transaction that writes will belong to, if there is none, so that reads until its end need no locks of their own. */
void state_begin(struct state *s);

/* Readies one that reads, for state_next: 1 a row, 0 the end, -1 an error. Whoever stops before the end calls sqlite3_reset. */
sqlite3_stmt *state_query(struct state *s, enum state_statement which, struct err *e, const char *form, ...);
int state_next(struct state *s, sqlite3_stmt *statement, struct err *e);

/* A column's text, or NULL if it is anything but text without NULs. Valid until the next row. */
const char *state_text(sqlite3_stmt *statement, int column);
/* A digest, or -1 if the column is anything but 32 bytes. */
int state_digest(sqlite3_stmt *statement, int column, struct digest *out);

/* Tells what SQLite says, of which file, and what to do; returns -1. */
int state_fail(struct state *s, const char *what, struct err *e);

/* Moves a damaged database to PATH.damaged, with what SQLite keeps beside it. */
int state_move_aside(const char *path, struct err *e);

/* -- rows as bytes (state_row.c): eight bytes of check over the row and the name it lies under, then the fields. Whoever reads one trusts
 * nothing: -1 for whatever a writer here doesn't write. */
void state_write_file(struct buf *out, const struct state_file *f);
int state_read_file(const void *row, size_t size, const char *path, struct state_file *out);

void state_write_record(struct buf *out, const struct state_record *r);
/* Everything but `step` and `key`, which stand in columns of their own and go into the check; they must be set before. Strings
 * point into a copy in the arena. */
int state_read_record(const void *row, size_t size, struct arena *a, struct state_record *out);

/* The same without the check, for the fuzzer. */
int state_read_file_fields(const void *fields, size_t size, struct state_file *out);
int state_read_record_fields(const void *fields, size_t size, struct arena *a, struct state_record *out);

#endif
