/* The database as a file: a kill loses nothing that was committed, a reader writes nothing, a damaged or strange file is no crash and no
 * lie, and what runs out is told. */
#include "state_world.h"

#include <linux/capability.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* -- lasting */

TEST("a killed mbuild loses what it did after its last commit and nothing else") {
    const char *path = path_in("state.db");
    pid_t child = fork();
    if (!child) {
        struct state *s;
        char *note;
        struct state_record a = record_of("committed"), b = record_of("not committed");
        if (state_open(path, false, &s, &note, &e) || state_put_record(s, &a, &e) || state_commit(s, &e) || state_put_record(s, &b, &e))
            _exit(1);
        kill(getpid(), SIGKILL);
    }
    int status;
    waitpid(child, &status, 0);
    CHECK(WIFSIGNALED(status));
    struct arena a = {0};
    struct state_record *r;
    for (int reading = 1; reading >= 0; reading--) {
        struct state *s = open_as(path, reading);
        OK(state_get_record(s, "committed", &a, &r, &e));
        CHECK(r != NULL);
        OK(state_get_record(s, "not committed", &a, &r, &e));
        CHECK(!r);
        state_close(s);
    }
    arena_free(&a);
}

TEST("a run that is killed at once is in the history, and its number isn't used again") {
    const char *path = path_in("state.db");
    pid_t child = fork();
    if (!child) {
        struct state *s;
        char *note;
        int64_t id;
        if (state_open(path, false, &s, &note, &e) || state_begin_run(s, "mbuild", &id, &e)) _exit(1);
        kill(getpid(), SIGKILL);
    }
    int status;
    waitpid(child, &status, 0);
    CHECK(WIFSIGNALED(status));
    struct state *s = open_as(path, false);
    int64_t id;
    OK(state_begin_run(s, "mbuild", &id, &e));
    CHECK_EQ(id, 2);
    state_close(s);
}

TEST("who reads sees what was committed while another writes, and doesn't wait for it") {
    struct state *writer = open_new();
    struct state_record a = record_of("a"), b = record_of("b");
    OK(state_put_record(writer, &a, &e));
    OK(state_commit(writer, &e));
    OK(state_put_record(writer, &b, &e));
    struct state *reader = open_as(path_in("state.db"), true);
    CHECK_EQ(count_records(reader), 1);
    OK(state_commit(writer, &e));
    CHECK_EQ(count_records(reader), 1); /* one view as long as it is open */
    state_close(reader);
    reader = open_as(path_in("state.db"), true);
    CHECK_EQ(count_records(reader), 2);
    state_close(reader);
    state_close(writer);
}

TEST("many commits keep the log short, and all of it lasts") {
    struct state *s = open_new();
    char name[32];
    for (int i = 0; i < 3000; i++) {
        snprintf(name, sizeof name, "step %d", i * 7919 % 3000);
        struct state_record r = record_of(name);
        OK(state_put_record(s, &r, &e));
        OK(state_commit(s, &e));
    }
    struct file_stat st;
    state_close(s);
    OK(sys_stat(path_in("state.db-wal"), false, &st, &e));
    CHECK(st.size < 1 << 20);
    s = open_new();
    CHECK_EQ(count_records(s), 3000);
    state_close(s);
}

/* -- reading only */

TEST("reading makes no file and changes none") {
    struct state *s = open_new();
    struct state_record r = record_of("a");
    OK(state_put_record(s, &r, &e));
    state_close(s);
    static const char *const names[] = {"state.db", "state.db-wal", "state.db-shm"};
    struct file_stat before[3], after[3];
    for (int i = 0; i < 3; i++) OK(sys_stat(path_in(names[i]), false, &before[i], &e));
    usleep(20000);
    s = open_as(path_in("state.db"), true);
    CHECK_EQ(count_records(s), 1);
    CHECK(state_put_record(s, &r, &e));
    CHECK_CONTAINS(e.text, "opened for reading");
    OK(state_commit(s, &e));
    state_close(s);
    for (int i = 0; i < 3; i++) {
        OK(sys_stat(path_in(names[i]), false, &after[i], &e));
        after[i].ctime_ns = before[i].ctime_ns; /* for root SQLite gives each file the owner that it has */
        CHECKF(file_stat_same(&before[i], &after[i]), "%s changed", names[i]);
    }
    s = open_as(path_in("absent.db"), true);
    CHECK_EQ(count_records(s), 0);
    CHECK(state_put_record(s, &r, &e));
    state_close(s);
    OK(sys_stat(path_in("absent.db"), false, &after[0], &e));
    CHECK_EQ(after[0].kind, FILE_ABSENT);
}

/* Root may write everywhere by a right that it can lay aside and take up again. */
static void override_modes(bool may) {
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    const unsigned rights = 1u << CAP_DAC_OVERRIDE | 1u << CAP_DAC_READ_SEARCH;
    CHECK(!syscall(SYS_capget, &head, data));
    data[0].effective = may ? data[0].effective | (data[0].permitted & rights) : data[0].effective & ~rights;
    CHECK(!syscall(SYS_capset, &head, data));
}

static void make_read_only(const char *folder) {
    CHECK(!chmod(folder, 0555));
    override_modes(false);
}

static void make_writable(const char *folder) {
    override_modes(true);
    CHECK(!chmod(folder, 0755));
}

TEST("a folder that may not be written is read all the same, with a log beside the database or without") {
    static const char folder[] = "a%b?c#d", path[] = "a%b?c#d/state.db", log[] = "a%b?c#d/state.db-wal";
    CHECK(!chdir(test_folder()) && !mkdir(folder, 0755));
    struct state *s = open_as(path, false);
    struct state_record r = record_of("a");
    OK(state_put_record(s, &r, &e));
    state_close(s);
    make_read_only(folder);
    s = open_as(path, true);
    CHECK_EQ(count_records(s), 1);
    state_close(s);
    make_writable(folder);
    CHECK(!unlink("a%b?c#d/state.db-shm"));
    make_read_only(folder); /* the log can't be read without an index, and none can be made */
    char *note;
    CHECK(state_open(path, true, &s, &note, &e));
    CHECK_CONTAINS(e.text, "not writable");
    make_writable(folder);
    sql(path, "SELECT * FROM note"); /* merges the log */
    CHECK(access(log, F_OK));
    make_read_only(folder);
    s = open_as(path, true);
    CHECK_EQ(count_records(s), 1);
    state_close(s);
    make_writable(folder);
    CHECK(access(log, F_OK));
    CHECK(!chdir("/"));
}

/* -- damage, and other layouts */

static void write_text(const char *path, const char *text, size_t n) {
    OK(sys_write_file(path, text, n, false, &e));
}

TEST("a file that is no database is moved aside with what lies beside it, and said so") {
    struct file_stat st;
    struct state *s;
    struct buf b = {0};
    char *note;
    for (int i = 0; i < 400; i++) buf_adds(&b, "this is no database\n");
    write_text(path_in("state.db"), b.data, b.len);
    write_text(path_in("state.db-wal"), "log", 3);
    OK(state_open(path_in("state.db"), true, &s, &note, &e));
    CHECK_CONTAINS(note, "state.db");
    CHECK_EQ(count_records(s), 0);
    state_close(s);
    free(note);
    OK(sys_stat(path_in("state.db.damaged"), false, &st, &e));
    CHECK_EQ(st.kind, FILE_ABSENT); /* a reader moves nothing */
    OK(state_open(path_in("state.db"), false, &s, &note, &e));
    CHECK_CONTAINS(note, "state.db.damaged");
    CHECK_CONTAINS(note, "not a database");
    struct state_record r = record_of("a");
    OK(state_put_record(s, &r, &e));
    state_close(s);
    free(note);
    OK(sys_stat(path_in("state.db.damaged"), false, &st, &e));
    CHECK_EQ(st.size, b.len);
    s = open_new();
    CHECK_EQ(count_records(s), 1);
    state_close(s);
    buf_free(&b);
}

TEST("moving aside takes along what SQLite keeps beside the file, and leaves nothing of an earlier one") {
    static const char *const suffixes[] = {"", "-wal", "-shm", "-journal"};
    struct buf b = {0};
    char name[64];
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "state.db%s", suffixes[i]);
        if (i < 2) write_text(path_in(name), suffixes[i], strlen(suffixes[i]));
        snprintf(name, sizeof name, "state.db.damaged%s", suffixes[i]);
        write_text(path_in(name), "earlier", 7);
    }
    OK(state_move_aside(path_in("state.db"), &e));
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "state.db%s", suffixes[i]);
        CHECK(access(path_in(name), F_OK));
        snprintf(name, sizeof name, "state.db.damaged%s", suffixes[i]);
        buf_clear(&b);
        CHECKF(!sys_read_file(path_in(name), &b, &e) == (i < 2) && !strcmp(buf_str(&b), i < 2 ? suffixes[i] : ""), "%s", name);
    }
    buf_free(&b);
}

TEST("a database that was cut short is moved aside") {
    struct state *s = open_new();
    char *note;
    fill(s, 200);
    state_close(s);
    sql(path_in("state.db"), "SELECT 1 FROM note"); /* merges the log */
    CHECK(!truncate(path_in("state.db"), 8192));
    OK(state_open(path_in("state.db"), false, &s, &note, &e));
    CHECK_CONTAINS(note, "state.db.damaged");
    CHECK_EQ(count_records(s), 0);
    free(note);
    state_close(s);
}

TEST("damage that is met later is an error that says what to do, and the next call starts afresh") {
    struct state *s = open_new();
    char *note;
    fill(s, 2000);
    state_close(s);
    sql(path_in("state.db"), "PRAGMA journal_mode = DELETE");
    struct buf b = {0};
    OK(sys_read_file(path_in("state.db"), &b, &e));
    CHECK(b.len > 400000);
    memset(b.data + 65536, 0xa5, b.len - 65536);
    write_text(path_in("state.db"), b.data, b.len);
    buf_free(&b);
    struct arena a = {0};
    struct records all = {.count = 0};
    OK(state_open(path_in("state.db"), false, &s, &note, &e));
    CHECK(!note);
    CHECK(state_each_record(s, &a, take_record, &all, &e));
    CHECK_CONTAINS(e.text, path_in("state.db"));
    CHECK_CONTAINS(e.text, "malformed");
    CHECK_CONTAINS(e.text, "run mbuild again");
    arena_free(&a);
    state_close(s);
    s = open_new();
    CHECK_EQ(count_records(s), 0);
    state_close(s);
}

TEST("a database of somebody else's, or one that lacks a table, counts as damaged") {
    static const char *const spoil[] = {"CREATE TABLE t (x); PRAGMA user_version = 1", "CREATE TABLE t (x)"};
    struct state *s;
    char *note;
    for (int i = 0; i < 2; i++) {
        char name[32];
        snprintf(name, sizeof name, "%d.db", i);
        sql(path_in(name), spoil[i]);
        OK(state_open(path_in(name), false, &s, &note, &e));
        CHECK_CONTAINS(note, "no database of mbuild's");
        free(note);
        state_close(s);
    }
    state_close(open_new());
    sql(path_in("state.db"), "DROP TABLE record");
    OK(state_open(path_in("state.db"), false, &s, &note, &e));
    CHECK_CONTAINS(note, "damaged");
    free(note);
    state_close(s);
}

TEST("a database of a newer mbuild is refused with advice, and left as it is") {
    struct state *s;
    char *note;
    state_close(open_new());
    sql(path_in("state.db"), "PRAGMA user_version = 99; ALTER TABLE note RENAME TO memo");
    for (int reading = 0; reading < 2; reading++) {
        CHECK(state_open(path_in("state.db"), reading, &s, &note, &e));
        CHECK(!note && !s);
        CHECK_CONTAINS(e.text, "newer mbuild (layout 99");
        CHECK_CONTAINS(e.text, "remove the file");
    }
    struct file_stat st;
    OK(sys_stat(path_in("state.db.damaged"), false, &st, &e));
    CHECK_EQ(st.kind, FILE_ABSENT);
}

TEST("layout 0, an empty database, is brought to today's; for a reader in memory alone") {
    sql(path_in("state.db"), "PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; CREATE TABLE t (x); DROP TABLE t");
    struct state *s = open_as(path_in("state.db"), true);
    CHECK_EQ(count_records(s), 0);
    state_close(s);
    s = open_new();
    fill(s, 1);
    state_close(s);
    s = open_as(path_in("state.db"), true);
    CHECK_EQ(count_records(s), 1);
    state_close(s);
}

static bool take_any(void *ctx, struct state_record *r) {
    take_record(ctx, r);
    return false;
}

static void ignore_artifact(void *ctx, const struct artifact *a) {
    (void)ctx, (void)a;
}

static void ignore_file(void *ctx, const struct state_file *f) {
    (void)ctx, (void)f;
}

static void ignore_run_step(void *ctx, const struct state_run_step *r) {
    (void)ctx, (void)r;
}

/* Everything that mbuild does with a database; how much of it failed. */
static int use_all(struct state *s, bool writing) {
    struct arena a = {0};
    struct records all = {.count = 0};
    struct state_record r = record_of("step 7"), *found;
    struct state_file f = file_of("f");
    struct state_run_step step = {.run_id = 1, .step = "step 7", .status = "built"};
    const char *value;
    int failed = 0;
    int64_t id;
    failed += !!state_each_record(s, &a, take_record, &all, &e);
    failed += !!state_get_record(s, "step 7", &a, &found, &e);
    failed += !!state_each_action(s, &r.key, &a, take_any, &all, &e);
    failed += !!state_each_artifact(s, ignore_artifact, NULL, &e);
    failed += !!state_each_file(s, ignore_file, NULL, &e);
    failed += !!state_each_run_step(s, 1, "step 7", 9, &a, ignore_run_step, NULL, &e);
    failed += !!state_get_note(s, "a", &a, &value, &e);
    CHECK(state_get_duration(s, "step 7") >= 0);
    if (writing) {
        failed += !!state_begin_run(s, "mbuild", &id, &e);
        failed += !!state_put_run_step(s, &step, &e);
        failed += !!state_put_record(s, &r, &e);
        failed += !!state_put_action(s, &r, &e);
        failed += !!state_put_file(s, &f, &e);
        failed += !!state_put_note(s, "a", "b", &e);
        failed += !!state_commit(s, &e);
    }
    arena_free(&a);
    return failed;
}

TEST("bytes spoilt anywhere in the file or its log are an error or are passed over, and never more") {
    struct state *s = open_new();
    CHECK_EQ(use_all(s, true), 0);
    fill(s, 60);
    state_close(s);
    sql(path_in("state.db"), "SELECT * FROM note"); /* merges the log */
    s = open_new();
    CHECK_EQ(use_all(s, true), 0);
    state_close(s);
    struct buf file = {0}, log = {0};
    OK(sys_read_file(path_in("state.db"), &file, &e));
    OK(sys_read_file(path_in("state.db-wal"), &log, &e));
    CHECK(log.len > 4096);
    uint64_t random = 1;
    int refused = 0, failed = 0;
    for (int round = 0; round < 300; round++) {
        struct buf *target = round % 4 ? &file : &log;
        struct buf kept = {0};
        buf_add(&kept, target->data, target->len);
        for (int i = 0; i <= round % 40; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            size_t range = round % 3 ? target->len : 4096; /* the header and the list of tables more often */
            target->data[(random >> 33) % range] = (char)(random >> 24);
        }
        write_text(path_in("state.db"), file.data, file.len);
        write_text(path_in("state.db-wal"), log.data, log.len);
        OK(sys_unlink(path_in("state.db-shm"), &e));
        for (int reading = 1; reading >= 0; reading--) {
            char *note;
            e.text[0] = 0;
            if (state_open(path_in("state.db"), reading, &s, &note, &e)) {
                CHECK_CONTAINS(e.text, "state.db");
                refused++;
                continue;
            }
            refused += note != NULL;
            int parts = use_all(s, !reading);
            if (parts) CHECK_CONTAINS(e.text, "state.db");
            failed += parts > 0;
            free(note);
            state_close(s);
        }
        target->len = 0;
        buf_add(target, kept.data, kept.len);
        buf_free(&kept);
    }
    CHECKF(refused > 10 && failed > 10, "%d refused, %d failed", refused, failed); /* it was spoilt indeed */
    buf_free(&file);
    buf_free(&log);
}

/* -- what runs out */

TEST("a full disk is an error that says so, and mbuild goes on when there is room") {
    struct state *s = open_new();
    fill(s, 1);
    CHECK_EQ(sqlite3_exec(s->db, "PRAGMA max_page_count = 30", NULL, NULL, NULL), SQLITE_OK);
    int status = 0;
    char name[32];
    for (int i = 0; i < 1000 && !status; i++) {
        snprintf(name, sizeof name, "more %d", i);
        struct state_record r = record_of(name);
        status = state_put_record(s, &r, &e);
    }
    CHECK(status);
    CHECK_CONTAINS(e.text, "database or disk is full");
    CHECK_CONTAINS(e.text, path_in("state.db"));
    CHECK_CONTAINS(e.text, "make room");
    CHECK_EQ(sqlite3_exec(s->db, "PRAGMA max_page_count = 100000", NULL, NULL, NULL), SQLITE_OK);
    fill(s, 100);
    state_close(s);
    s = open_new();
    CHECK(count_records(s) >= 100);
    state_close(s);
}

TEST("another program that holds the file is waited for a while, then named as the reason") {
    struct state *s = open_new();
    sqlite3 *other;
    CHECK_EQ(sqlite3_open(path_in("state.db"), &other), SQLITE_OK);
    CHECK_EQ(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_busy_timeout(s->db, 50);
    CHECK(state_put_note(s, "a", "b", &e));
    CHECK_CONTAINS(e.text, "another program holds it");
    sqlite3_close(other);
    OK(state_put_note(s, "a", "b", &e));
    state_close(s);
}

TEST("memory that SQLite lacks is an error at whatever point it runs out, and never a wrong answer") {
    state_close(open_new());
    struct state_record r = record_of("a");
    bool done = false;
    int failures = 0;
    for (int64_t spare = 0; !done && spare < 4 << 20; spare += 997) {
        struct state *s = NULL;
        struct arena a = {0};
        struct state_record *found = NULL;
        char *note = NULL;
        sqlite3_hard_heap_limit64(sqlite3_memory_used() + spare + 1);
        int status = state_open(path_in("state.db"), false, &s, &note, &e);
        if (!status) status = state_put_record(s, &r, &e);
        if (!status) status = state_commit(s, &e);
        if (!status) status = state_get_record(s, "a", &a, &found, &e);
        sqlite3_hard_heap_limit64(0);
        CHECKF(!note, "%s", note);
        if (status) CHECK_CONTAINS(e.text, "out of memory");
        else check_record(found, &r);
        failures += status != 0;
        done = !status;
        arena_free(&a);
        if (s) state_close(s);
    }
    CHECK(done && failures > 10);
}
