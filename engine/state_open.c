/* state_open.c: opening the database: its layout and older ones, read-only ways that write nothing, damaged files; see state.h.
 *
 * WAL with synchronous=NORMAL: a commit is one append and no sync, a kill loses nothing that was committed, a power cut perhaps the last
 * commits but never the file. The log and its index stay beside the file between calls: a build with nothing to do then syncs nothing, and
 * readers find what they need without making files.
 */
#include "state_private.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUSY_MS 10000          /* how long another program may hold the file */
#define CACHE_KIB "16384"      /* at most; a first build's many new rows come in no order */
#define LOG_PAGES 4096         /* from here on a commit moves the log into the file */
#define LOG_PAGES_AT_CLOSE 256 /* so many are read again at the next start in less than a millisecond */
#define APPLICATION_ID 0x6d627364 /* "mbsd", in the file's header */

/* -- layouts: migrations[i] makes version i + 1 of version i; a new file is version 0 */

static const char *const migrations[] = {
    "CREATE TABLE note (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE file (path TEXT PRIMARY KEY, row BLOB NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE record (step TEXT NOT NULL UNIQUE, key BLOB NOT NULL, row BLOB NOT NULL);"
    "CREATE TABLE duration (step TEXT PRIMARY KEY, seconds REAL NOT NULL) WITHOUT ROWID;"
    /* found: digest of the inputs found while running, empty if none. */
    "CREATE TABLE action (id INTEGER PRIMARY KEY, key BLOB NOT NULL, found BLOB NOT NULL, built_ms INTEGER NOT NULL,"
    " step TEXT NOT NULL, row BLOB NOT NULL, UNIQUE (key, found));"
    /* Ids are never used again: logs lie in folders named by them. */
    "CREATE TABLE run (id INTEGER PRIMARY KEY AUTOINCREMENT, started_ms INTEGER NOT NULL, command TEXT NOT NULL,"
    " seconds REAL NOT NULL DEFAULT -1, status INTEGER NOT NULL DEFAULT -1, built INTEGER NOT NULL DEFAULT 0,"
    " restored INTEGER NOT NULL DEFAULT 0, current INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0,"
    " skipped INTEGER NOT NULL DEFAULT 0);"
    "CREATE TABLE run_step (id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL, step TEXT NOT NULL, status TEXT NOT NULL,"
    " key BLOB NOT NULL, seconds REAL NOT NULL, log TEXT, message TEXT, params TEXT, metrics TEXT);"
    "CREATE INDEX run_step_run ON run_step (run_id);"
    "CREATE INDEX run_step_step ON run_step (step);",
};
enum { LAYOUT = sizeof migrations / sizeof *migrations };

static const char table_count[] = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name IN"
                                  " ('note', 'file', 'record', 'duration', 'action', 'run', 'run_step')";
enum { TABLES = 7 };

static int exec(struct state *s, const char *sql, struct err *e) {
    return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : state_fail(s, "open it", e);
}

static int get_number(struct state *s, const char *sql, int *out, struct err *e) {
    sqlite3_stmt *q;
    if (sqlite3_prepare_v2(s->db, sql, -1, &q, NULL) != SQLITE_OK) return state_fail(s, "open it", e);
    int status = sqlite3_step(q) == SQLITE_ROW ? 0 : state_fail(s, "open it", e);
    if (!status) *out = sqlite3_column_int(q, 0);
    sqlite3_finalize(q);
    return status;
}

static int migrate(struct state *s, struct err *e) {
    int version;
    if (exec(s, "BEGIN IMMEDIATE", e) || get_number(s, "PRAGMA user_version", &version, e)) return -1;
    for (; version >= 0 && version < LAYOUT; version++)
        if (exec(s, migrations[version], e)) return -1;
    char *stamp = mem_printf("PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT", APPLICATION_ID, LAYOUT);
    int status = exec(s, stamp, e);
    free(stamp);
    return status;
}

/* Reads the layout's version; what is no database of ours counts as damaged. Looks at the header and the list of tables, no more: a
 * page further in that is damaged is met when it is read. */
static int look(struct state *s, int *version, struct err *e) {
    int id, tables, all;
    if (get_number(s, "PRAGMA user_version", version, e) || get_number(s, "PRAGMA application_id", &id, e)
        || get_number(s, table_count, &tables, e) || get_number(s, "SELECT count(*) FROM sqlite_schema", &all, e))
        return -1;
    if (!*version && !all) return 0;
    if (id == APPLICATION_ID && *version > LAYOUT)
        return err_set(e,
                       "%s was written by a newer mbuild (layout %d; this one knows up to %d): use that mbuild, "
                       "or remove the file and let everything be built anew",
                       s->path, *version, LAYOUT);
    if (id == APPLICATION_ID && *version > 0 && (*version < LAYOUT || tables == TABLES)) return 0;
    s->damaged = true;
    return err_set(e, "%s is no database of mbuild's", s->path);
}

/* -- connections */

static void disconnect(struct state *s) {
    for (int i = 0; i < STATE_STATEMENTS; i++) {
        sqlite3_finalize(s->statements[i]);
        s->statements[i] = NULL;
    }
    sqlite3_close(s->db);
    s->db = NULL;
}

static int connect(struct state *s, const char *name, int flags, struct err *e) {
    if (sqlite3_open_v2(name, &s->db, flags | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK) return state_fail(s, "open it", e);
    sqlite3_busy_timeout(s->db, BUSY_MS);
    /* Nothing that a stranger wrote into the file may run as code. */
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    return 0;
}

static int on_commit(void *ctx, sqlite3 *db, const char *name, int pages) {
    struct state *s = ctx;
    s->wal_pages = pages;
    if (pages >= LOG_PAGES) sqlite3_wal_checkpoint_v2(db, name, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL); /* if not now, then later */
    return SQLITE_OK;
}

static int open_writable(struct state *s, struct err *e) {
    int version;
    if (connect(s, s->path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, e)) return -1;
    /* Where the file system can't do WAL, SQLite stays with its journal, which is slower and as safe. */
    if (exec(s, "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -" CACHE_KIB, e)) return -1;
    sqlite3_wal_hook(s->db, on_commit, s);
    if (look(s, &version, e)) return -1;
    return version < LAYOUT ? migrate(s, e) : 0;
}

static int open_empty(struct state *s, struct err *e) {
    return connect(s, ":memory:", SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, e) || migrate(s, e) ? -1 : 0;
}

/* -- read-only */

/* The file as a URI, for options that go only by one. */
static char *uri_of(const char *path, const char *options) {
    struct buf b = {0};
    buf_adds(&b, *path == '/' ? "file://" : "file:");
    for (const char *p = path; *p; p++) {
        if (strchr("%?#", *p)) buf_addf(&b, "%%%02x", (unsigned char)*p);
        else buf_addc(&b, *p);
    }
    buf_adds(&b, options);
    return b.data;
}

static bool folder_writable(const char *path) {
    const char *slash = strrchr(path, '/');
    char *folder = !slash ? mem_strdup(".") : mem_printf("%.*s", (int)(slash - path) + 1, path);
    bool writable = !faccessat(AT_FDCWD, folder, W_OK, AT_EACCESS);
    free(folder);
    return writable;
}

static int beside(const char *path, const char *suffix, struct file_stat *st, struct err *e) {
    char *name = mem_printf("%s%s", path, suffix);
    int status = sys_stat(name, false, st, e);
    free(name);
    return status;
}

static int connect_reading(struct state *s, struct err *e) {
    struct file_stat log, index;
    if (beside(s->path, "-wal", &log, e) || beside(s->path, "-shm", &index, e)) return -1;
    const char *options = NULL;
    if (log.kind == FILE_REGULAR && index.kind == FILE_REGULAR) options = "?mode=ro&readonly_shm=1";
    else if (folder_writable(s->path))
        options = "?mode=ro"; /* makes an empty log and an index: another mbuild may begin to write meanwhile */
    else if (log.kind == FILE_ABSENT || !log.size) options = "?immutable=1";
    else
        return err_set(e,
                       "%s cannot be read: its log %s-wal has not been merged into it, and the folder is not writable; "
                       "run mbuild where it is, or copy the folder",
                       s->path, s->path);
    char *uri = uri_of(s->path, options);
    int status = connect(s, uri, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, e);
    free(uri);
    return status;
}

/* An older layout is brought to ours in memory. */
static int migrate_copy(struct state *s, struct err *e) {
    sqlite3 *from = s->db;
    s->db = NULL;
    int status = connect(s, ":memory:", SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, e);
    sqlite3_backup *b = status ? NULL : sqlite3_backup_init(s->db, "main", from, "main");
    if (b) sqlite3_backup_step(b, -1);
    if (!status && sqlite3_backup_finish(b) != SQLITE_OK) status = state_fail(s, "read it", e);
    sqlite3_close(from);
    return status ? status : migrate(s, e);
}

static int open_reading(struct state *s, struct err *e) {
    struct file_stat st;
    int version;
    if (sys_stat(s->path, false, &st, e)) return -1;
    if (st.kind == FILE_ABSENT) return open_empty(s, e);
    if (connect_reading(s, e) || look(s, &version, e)) return -1;
    if (version < LAYOUT) return migrate_copy(s, e);
    /* One view of it for as long as it is open; beside that, without this each query would read the log anew where its index isn't ours
     * to write. */
    return exec(s, "BEGIN; SELECT count(*) FROM sqlite_schema", e);
}

/* -- damaged files */

int state_move_aside(const char *path, struct err *e) {
    /* The log first: a new file beside an old log would take the log's pages for its own. */
    static const char *const suffixes[] = {"-wal", "-shm", "-journal", ""};
    int status = 0;
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes && !status; i++) {
        struct file_stat st;
        char *from = mem_printf("%s%s", path, suffixes[i]), *to = mem_printf("%s.damaged%s", path, suffixes[i]);
        status = sys_stat(from, true, &st, e);
        if (!status) status = st.kind == FILE_ABSENT ? sys_unlink(to, e) : sys_rename(from, to, e);
        free(from);
        free(to);
    }
    return status ? err_wrap(e, "%s is damaged and cannot be moved aside", path) : 0;
}

/* Instead of a damaged one: a new one, or for a reader an empty one. */
static int open_anew(struct state *s, char **note, struct err *e) {
    struct err found = *e;
    s->damaged = false;
    if (s->read_only) {
        *note = mem_printf("%s; it counts as empty now, and the next build moves it aside and makes everything anew", found.text);
        return open_empty(s, e);
    }
    if (state_move_aside(s->path, e)) return -1;
    *note = mem_printf("%s was damaged and is now %s.damaged; what was known of earlier builds is lost, so everything is built anew (%s)",
                       s->path, s->path, found.text);
    return open_writable(s, e);
}

/* -- open and close */

int state_open(const char *path, bool read_only, struct state **out, char **note, struct err *e) {
    struct state *s = mem_alloc(sizeof *s);
    s->path = mem_strdup(path);
    s->read_only = read_only;
    *note = NULL;
    int status = read_only ? open_reading(s, e) : open_writable(s, e);
    if (status && s->damaged) {
        disconnect(s);
        status = open_anew(s, note, e);
    }
    if (!status) {
        *out = s;
        return 0;
    }
    disconnect(s);
    free(s->path);
    free(s);
    *out = NULL;
    return -1;
}

void state_close(struct state *s) {
    struct err ignored; /* who wants to know whether it lasts commits before */
    if (!s) return;
    state_commit(s, &ignored);
    if (!s->read_only && !s->damaged && s->wal_pages >= LOG_PAGES_AT_CLOSE) {
        sqlite3_busy_timeout(s->db, 0); /* a reader in the way: then the next one does it */
        sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    }
    disconnect(s);
    if (s->damaged && !s->read_only) state_move_aside(s->path, &ignored);
    buf_free(&s->row);
    free(s->path);
    free(s);
}
