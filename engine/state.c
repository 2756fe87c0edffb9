/* state.c: the database's transaction, its statements and what goes wrong with them, and notes; see state.h.
 *
 * All SQL that runs while mbuild works stands in one table. Nothing here knows what a record means; how the file is opened, laid out and
 * mended is state_open.c.
 */
#include "state_private.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static const char *const statements[STATE_STATEMENTS] = {
    [STATE_BEGIN] = "BEGIN IMMEDIATE",
    [STATE_COMMIT] = "COMMIT",
    [STATE_ROLLBACK] = "ROLLBACK",

    [STATE_GET_NOTE] = "SELECT value FROM note WHERE name = ?1",
    [STATE_PUT_NOTE] = "INSERT INTO note VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",

    [STATE_ALL_FILES] = "SELECT path, row FROM file",
    [STATE_PUT_FILE] = "INSERT INTO file VALUES (?1, ?2) ON CONFLICT (path) DO UPDATE SET row = excluded.row",

    [STATE_GET_RECORD] = "SELECT step, key, row FROM record WHERE step = ?1",
    [STATE_ALL_RECORDS] = "SELECT step, key, row FROM record",
    [STATE_PUT_RECORD] = "INSERT INTO record VALUES (?1, ?2, ?3)"
                         " ON CONFLICT (step) DO UPDATE SET key = excluded.key, row = excluded.row",
    [STATE_DROP_RECORD] = "DELETE FROM record WHERE step = ?1",
    [STATE_KEEP_DURATION] = "INSERT INTO duration VALUES (?1, ?2) ON CONFLICT (step) DO UPDATE SET seconds = excluded.seconds",
    [STATE_GET_DURATION] = "SELECT seconds FROM duration WHERE step = ?1",
    [STATE_ANY_DURATION] = "SELECT 1 FROM duration LIMIT 1",

    [STATE_GET_ACTIONS] = "SELECT step, key, row FROM action WHERE key = ?1 ORDER BY id DESC",
    [STATE_ALL_ACTIONS] = "SELECT step, key, row FROM action",
    [STATE_PUT_ACTION] = "REPLACE INTO action (key, found, built_ms, step, row) VALUES (?1, ?2, ?3, ?4, ?5)",
    [STATE_DROP_ACTION] = "DELETE FROM action WHERE key = ?1",
    [STATE_PRUNE_ACTIONS] = "DELETE FROM action WHERE built_ms < ?1 AND key NOT IN (SELECT key FROM record)",

    [STATE_PUT_RUN] = "INSERT INTO run (started_ms, command) VALUES (?1, ?2)",
    [STATE_END_RUN] = "INSERT INTO run VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
                      " ON CONFLICT (id) DO UPDATE SET seconds = excluded.seconds, status = excluded.status, built = excluded.built,"
                      " restored = excluded.restored, current = excluded.current, failed = excluded.failed, skipped = excluded.skipped",
    [STATE_ALL_RUNS] = "SELECT id, started_ms, command, seconds, status, built, restored, current, failed, skipped"
                       " FROM run ORDER BY id DESC LIMIT ?1",
    [STATE_PUT_RUN_STEP] = "INSERT INTO run_step (run_id, step, status, key, seconds, log, message, params, metrics)"
                           " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    [STATE_PRUNE_RUN_STEPS] = "DELETE FROM run_step WHERE id <= (SELECT max(id) FROM run_step) - ?1",
#define RUN_STEPS "SELECT run_id, step, status, key, seconds, log, message, params, metrics FROM run_step "
    [STATE_RUN_STEPS] = RUN_STEPS "ORDER BY id DESC LIMIT ?3",
    [STATE_RUN_STEPS_OF_RUN] = RUN_STEPS "WHERE run_id = ?1 ORDER BY id DESC LIMIT ?3",
    [STATE_RUN_STEPS_OF_STEP] = RUN_STEPS "WHERE step = ?2 ORDER BY id DESC LIMIT ?3",
    [STATE_RUN_STEPS_OF_BOTH] = RUN_STEPS "WHERE run_id = ?1 AND step = ?2 ORDER BY id DESC LIMIT ?3",
#undef RUN_STEPS
};

/* -- what goes wrong */

static const char *advice(int code) {
    switch (code & 0xff) {
    case SQLITE_FULL: return "make room there, then run mbuild again";
    case SQLITE_BUSY: case SQLITE_LOCKED: return "another program holds it; run mbuild again when that has ended";
    case SQLITE_CORRUPT: case SQLITE_NOTADB: case SQLITE_ERROR:
        return "the file is damaged: run mbuild again, which moves it aside and makes a new one";
    case SQLITE_READONLY: case SQLITE_CANTOPEN: case SQLITE_PERM: case SQLITE_AUTH:
        return "check that you may write it and the folder that it lies in";
    case SQLITE_IOERR: return "check the disk that it lies on";
    case SQLITE_TOOBIG: return "no row can be as large as that";
    default: return NULL;
    }
}

int state_fail(struct state *s, const char *what, struct err *e) {
    int code = s->db ? sqlite3_errcode(s->db) : SQLITE_NOMEM;
    const char *todo = advice(code);
    int primary = code & 0xff;
    /* All SQL is ours, so that a plain error can only mean that a table isn't what we made it. */
    if (primary == SQLITE_CORRUPT || primary == SQLITE_NOTADB || primary == SQLITE_ERROR) s->damaged = true;
    return err_set(e, "%s: cannot %s: %s%s%s", s->path, what, s->db ? sqlite3_errmsg(s->db) : "out of memory", todo ? "; " : "",
                   todo ? todo : "");
}

/* -- statements */

static sqlite3_stmt *statement_of(struct state *s, enum state_statement which, struct err *e) {
    sqlite3_stmt **kept = &s->statements[which];
    if (!*kept && sqlite3_prepare_v3(s->db, statements[which], -1, SQLITE_PREPARE_PERSISTENT, kept, NULL) != SQLITE_OK) {
        state_fail(s, "use it", e);
        return NULL;
    }
    return *kept;
}

/* SQLite only points at what is bound: it must stay until the statement has run. */
static int bind(sqlite3_stmt *statement, const char *form, va_list args) {
    int code = SQLITE_OK;
    for (int i = 1; form[i - 1] && code == SQLITE_OK; i++) {
        const char *text;
        const void *bytes;
        switch (form[i - 1]) {
        case 't':
            text = va_arg(args, const char *);
            code = sqlite3_bind_text64(statement, i, text, text ? strlen(text) : 0, SQLITE_STATIC, SQLITE_UTF8);
            break;
        case 'b':
            bytes = va_arg(args, const void *);
            code = sqlite3_bind_blob64(statement, i, bytes, va_arg(args, size_t), SQLITE_STATIC);
            break;
        case 'i': code = sqlite3_bind_int64(statement, i, va_arg(args, int64_t)); break;
        default: code = sqlite3_bind_double(statement, i, va_arg(args, double)); break;
        }
    }
    return code;
}

static int exec_plain(struct state *s, enum state_statement which, const char *what, struct err *e) {
    sqlite3_stmt *statement = statement_of(s, which, e);
    if (!statement) return -1;
    int status = sqlite3_step(statement) == SQLITE_DONE ? 0 : state_fail(s, what, e);
    sqlite3_reset(statement);
    return status;
}

void state_begin(struct state *s) {
    struct err ignored; /* then each read has its own */
    if (!s->read_only && sqlite3_get_autocommit(s->db)) exec_plain(s, STATE_BEGIN, "begin to write", &ignored);
}

int state_exec(struct state *s, enum state_statement which, struct err *e, const char *form, ...) {
    if (s->read_only) return err_set(e, "%s: cannot write to it: it was opened for reading", s->path);
    /* SQLite ends the transaction by itself where a write fails for good; then a new one begins. What was lost is made again. */
    if (sqlite3_get_autocommit(s->db) && exec_plain(s, STATE_BEGIN, "begin to write", e)) return -1;
    sqlite3_stmt *statement = statement_of(s, which, e);
    if (!statement) return -1;
    va_list args;
    va_start(args, form);
    int code = bind(statement, form, args);
    va_end(args);
    int status = code == SQLITE_OK && sqlite3_step(statement) == SQLITE_DONE ? 0 : state_fail(s, "write to it", e);
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    return status;
}

sqlite3_stmt *state_query(struct state *s, enum state_statement which, struct err *e, const char *form, ...) {
    sqlite3_stmt *statement = statement_of(s, which, e);
    if (!statement) return NULL;
    sqlite3_reset(statement);
    va_list args;
    va_start(args, form);
    int code = bind(statement, form, args);
    va_end(args);
    if (code == SQLITE_OK) return statement;
    state_fail(s, "read it", e);
    return NULL;
}

int state_next(struct state *s, sqlite3_stmt *statement, struct err *e) {
    int code = sqlite3_step(statement);
    if (code == SQLITE_ROW) return 1;
    int status = code == SQLITE_DONE ? 0 : state_fail(s, "read it", e);
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    return status;
}

const char *state_text(sqlite3_stmt *statement, int column) {
    if (sqlite3_column_type(statement, column) != SQLITE_TEXT) return NULL;
    const char *text = (const char *)sqlite3_column_text(statement, column);
    return text && strlen(text) == (size_t)sqlite3_column_bytes(statement, column) ? text : NULL;
}

int state_digest(sqlite3_stmt *statement, int column, struct digest *out) {
    if (sqlite3_column_type(statement, column) != SQLITE_BLOB) return -1;
    const void *bytes = sqlite3_column_blob(statement, column);
    if (!bytes || sqlite3_column_bytes(statement, column) != (int)sizeof out->bytes) return -1;
    memcpy(out->bytes, bytes, sizeof out->bytes);
    return 0;
}

/* -- the transaction */

int state_commit(struct state *s, struct err *e) {
    if (s->read_only || sqlite3_get_autocommit(s->db)) return 0;
    return exec_plain(s, STATE_COMMIT, "commit what was written", e);
}

void state_abandon(struct state *s) {
    struct err ignored; /* what can't be taken back by itself goes when the database is opened next */
    if (!s->read_only && !sqlite3_get_autocommit(s->db)) exec_plain(s, STATE_ROLLBACK, "take back what was written", &ignored);
}

/* -- notes */

int state_get_note(struct state *s, const char *name, struct arena *a, const char **value, struct err *e) {
    *value = NULL;
    sqlite3_stmt *q = state_query(s, STATE_GET_NOTE, e, "t", name);
    if (!q) return -1;
    int more;
    while ((more = state_next(s, q, e)) > 0) {
        const char *text = state_text(q, 0);
        if (text) *value = arena_strdup(a, text);
    }
    return more;
}

int state_put_note(struct state *s, const char *name, const char *value, struct err *e) {
    return state_exec(s, STATE_PUT_NOTE, e, "tt", name, value);
}
