/* What lasts between calls of mbuild: everything written is read back, a kill loses nothing that was committed, and no file, however damaged
 * or hostile, is a crash or a lie. */
#include "state_private.h"
#include "test.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct err e;

static const char *path_in(const char *name) {
    static char paths[8][512];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", test_folder(), name);
    return path;
}

static struct state *open_as(const char *path, bool read_only) {
    struct state *s;
    char *note;
    CHECKF(!state_open(path, read_only, &s, &note, &e), "%s", e.text);
    CHECKF(!note, "%s", note);
    return s;
}

static struct state *open_new(void) {
    return open_as(path_in("state.db"), false);
}

#define OK(call) CHECKF(!(call), "%s", e.text)

static struct digest digest_of(const char *text) {
    return digest_bytes(text, strlen(text));
}

static struct artifact artifact_of(const char *text) {
    return (struct artifact){.type = ARTIFACT_FILE, .digest = digest_of(text), .size = strlen(text)};
}

static struct state_file file_of(const char *path) {
    return (struct state_file){.path = path,
                               .stat = {.kind = FILE_REGULAR, .executable = true, .size = UINT64_MAX, .ino = 77, .dev = 2049, .mtime_ns = INT64_MIN, .ctime_ns = INT64_MAX},
                               .artifact = artifact_of(path)};
}

static struct state_input inputs[] = {{.role = "data", .path = "in.csv"}, {.role = "key", .path = "secret.pem"}, {.role = "", .path = "/usr/include/math.h"}};
static struct state_output outputs[] = {{.role = "model", .path = "build/m"}, {.role = "log", .path = "build/\xff.log"}};

static struct state_record record_of(const char *step) {
    inputs[0].artifact = artifact_of("data");
    inputs[2].artifact = artifact_of("header");
    outputs[0].artifact = (struct artifact){.type = ARTIFACT_FOLDER, .digest = digest_of("model"), .size = 1ull << 40};
    outputs[1].artifact = artifact_of("log");
    return (struct state_record){.step = step, .key = digest_of(step), .plugin = digest_of("plugin"), .plugin_name = "family.train", .plugin_version = "1.2",
                                 .params = "{\"lr\":0.1}", .env = "{\"\":\"\"}", .inputs = inputs, .input_count = 3, .outputs = outputs, .output_count = 2,
                                 .metrics = "{}", .seconds = 1.5, .peak_bytes = 1u << 30, .built_ms = 1700000000000, .run_id = 7};
}

static void check_artifact(const struct artifact *found, const struct artifact *expected) {
    CHECK(artifact_same(found, expected));
    CHECK_EQ(found->size, expected->size);
}

static void check_record(const struct state_record *r, const struct state_record *x) {
    CHECK(r != NULL);
    CHECK_STR(r->step, x->step);
    CHECK(digest_same(&r->key, &x->key) && digest_same(&r->plugin, &x->plugin));
    CHECK_STR(r->plugin_name, x->plugin_name);
    CHECK_STR(r->plugin_version, x->plugin_version);
    CHECK_STR(r->params, x->params);
    CHECK_STR(r->env, x->env);
    CHECK_STR(r->metrics, x->metrics);
    CHECK(r->seconds == x->seconds);
    CHECK_EQ(r->peak_bytes, x->peak_bytes);
    CHECK_EQ(r->built_ms, x->built_ms);
    CHECK_EQ(r->run_id, x->run_id);
    CHECK_EQ(r->input_count, x->input_count);
    CHECK_EQ(r->output_count, x->output_count);
    for (uint32_t i = 0; i < x->input_count; i++) {
        CHECK_STR(r->inputs[i].role, x->inputs[i].role);
        CHECK_STR(r->inputs[i].path, x->inputs[i].path);
        check_artifact(&r->inputs[i].artifact, &x->inputs[i].artifact);
    }
    for (uint32_t i = 0; i < x->output_count; i++) {
        CHECK_STR(r->outputs[i].role, x->outputs[i].role);
        CHECK_STR(r->outputs[i].path, x->outputs[i].path);
        check_artifact(&r->outputs[i].artifact, &x->outputs[i].artifact);
    }
}

static void sql(const char *path, const char *text) {
    sqlite3 *db;
    char *message = NULL;
    CHECK_EQ(sqlite3_open(path, &db), SQLITE_OK);
    CHECKF(sqlite3_exec(db, text, NULL, NULL, &message) == SQLITE_OK, "%s: %s", text, message);
    sqlite3_close(db);
}

/* -- files */

struct files {
    struct state_file file;
    char path[100];
    int count;
};

static void take_file(void *ctx, const struct state_file *f) {
    struct files *all = ctx;
    all->file = *f;
    snprintf(all->path, sizeof all->path, "%s", f->path);
    all->count++;
}

TEST("a file's stat and digest come back as they were") {
    struct state *s = open_new();
    struct state_file f = file_of("a b/\xc3\xa4 \xff"), g = file_of("gone");
    g.artifact = (struct artifact){0};
    OK(state_put_file(s, &f, &e));
    state_close(s);
    s = open_new();
    struct files all = {.count = 0};
    OK(state_each_file(s, take_file, &all, &e));
    CHECK_EQ(all.count, 1);
    CHECK_STR(all.path, f.path);
    CHECK(file_stat_same(&all.file.stat, &f.stat));
    check_artifact(&all.file.artifact, &f.artifact);
    f.stat.size = 3;
    OK(state_put_file(s, &f, &e));
    OK(state_put_file(s, &g, &e));
    all.count = 0;
    OK(state_each_file(s, take_file, &all, &e));
    CHECK_EQ(all.count, 2);
    state_close(s);
}

TEST("a file whose stat is too fresh to be trusted is not recorded") {
    struct state *s = open_new();
    struct state_file f = file_of("a");
    struct files all = {.count = 0};
    f.stat.fresh = true;
    OK(state_put_file(s, &f, &e));
    OK(state_each_file(s, take_file, &all, &e));
    CHECK_EQ(all.count, 0);
    state_close(s);
}

/* -- records */

struct records {
    struct state_record *last;
    int count, stop_at;
};

static void take_record(void *ctx, struct state_record *r) {
    struct records *all = ctx;
    all->last = r;
    all->count++;
}

TEST("a record comes back as it was, its inputs and outputs in their order") {
    struct state *s = open_new();
    struct arena a = {0};
    struct state_record r = record_of("teacher"), *found;
    struct records all = {.count = 0};
    OK(state_put_record(s, &r, &e));
    OK(state_get_record(s, "teacher", &a, &found, &e));
    check_record(found, &r);
    state_close(s);
    s = open_new();
    OK(state_each_record(s, &a, take_record, &all, &e));
    CHECK_EQ(all.count, 1);
    check_record(all.last, &r);
    OK(state_get_record(s, "student", &a, &found, &e));
    CHECK(!found);
    arena_free(&a);
    state_close(s);
}

TEST("a step has one record, the last that was put; dropped, it has none, but its duration stays known") {
    struct state *s = open_new();
    struct arena a = {0};
    struct state_record r = record_of("teacher"), *found;
    OK(state_put_record(s, &r, &e));
    r.params = "{}";
    r.input_count = r.output_count = 0;
    r.seconds = 42;
    OK(state_put_record(s, &r, &e));
    OK(state_get_record(s, "teacher", &a, &found, &e));
    check_record(found, &r);
    CHECK(state_get_duration(s, "teacher") == 42);
    OK(state_drop_record(s, "teacher", &e));
    OK(state_get_record(s, "teacher", &a, &found, &e));
    CHECK(!found);
    CHECK(state_get_duration(s, "teacher") == 42);
    CHECK(state_get_duration(s, "nobody") == 0);
    OK(state_drop_record(s, "nobody", &e));
    arena_free(&a);
    state_close(s);
}

/* -- actions */

static bool take_action(void *ctx, struct state_record *r) {
    struct records *all = ctx;
    all->last = r;
    return ++all->count == all->stop_at;
}

TEST("a key's actions come the newest first; those with the same discovered inputs are one") {
    struct state *s = open_new();
    struct arena a = {0};
    struct state_record r = record_of("x");
    OK(state_put_action(s, &r, &e));
    inputs[2].artifact = artifact_of("another header");
    r.metrics = "{\"n\":2}";
    OK(state_put_action(s, &r, &e));
    struct records all = {.stop_at = 1};
    OK(state_each_action(s, &r.key, &a, take_action, &all, &e));
    CHECK_EQ(all.count, 1);
    check_record(all.last, &r);
    inputs[2].artifact = artifact_of("header");
    r.metrics = "{\"n\":3}";
    OK(state_put_action(s, &r, &e)); /* takes the first one's place, as the newest */
    all = (struct records){.stop_at = 1};
    OK(state_each_action(s, &r.key, &a, take_action, &all, &e));
    check_record(all.last, &r);
    all = (struct records){.stop_at = 0};
    OK(state_each_action(s, &r.key, &a, take_action, &all, &e));
    CHECK_EQ(all.count, 2);
    CHECK_STR(all.last->metrics, "{\"n\":2}");
    OK(state_drop_action(s, &r.key, &e));
    all.count = 0;
    OK(state_each_action(s, &r.key, &a, take_action, &all, &e));
    CHECK_EQ(all.count, 0);
    arena_free(&a);
    state_close(s);
}

TEST("pruning forgets actions that are old and that no record uses") {
    struct state *s = open_new();
    struct arena a = {0};
    struct state_record used = record_of("used"), old = record_of("old"), young = record_of("young");
    young.built_ms += 1000;
    OK(state_put_record(s, &used, &e));
    OK(state_put_action(s, &used, &e));
    OK(state_put_action(s, &old, &e));
    OK(state_put_action(s, &young, &e));
    uint32_t dropped;
    OK(state_prune_actions(s, old.built_ms + 1, &dropped, &e));
    CHECK_EQ(dropped, 1);
    const struct state_record *each[] = {&used, &young, &old};
    for (int i = 0; i < 3; i++) {
        struct records all = {.count = 0};
        OK(state_each_action(s, &each[i]->key, &a, take_action, &all, &e));
        CHECK_EQ(all.count, i < 2);
    }
    arena_free(&a);
    state_close(s);
}

struct roots {
    const struct digest *wanted;
    int hits, count;
};

static void take_artifact(void *ctx, const struct artifact *a) {
    struct roots *roots = ctx;
    CHECK(a->type != ARTIFACT_NONE);
    roots->count++;
    roots->hits += digest_same(&a->digest, roots->wanted);
}

TEST("every artifact of records and actions is a root of the store, the absent ones left out") {
    struct state *s = open_new();
    struct state_record r = record_of("a");
    OK(state_put_record(s, &r, &e));
    outputs[0].artifact = artifact_of("only in the action");
    OK(state_put_action(s, &r, &e));
    struct digest action = outputs[0].artifact.digest, model = digest_of("model");
    struct roots roots = {.wanted = &action};
    OK(state_each_artifact(s, take_artifact, &roots, &e));
    CHECK_EQ(roots.hits, 1);
    CHECK_EQ(roots.count, 8); /* of five each, one is a secret's */
    roots = (struct roots){.wanted = &model};
    OK(state_each_artifact(s, take_artifact, &roots, &e));
    CHECK_EQ(roots.hits, 1);
    state_close(s);
}

/* -- runs and notes */

struct runs {
    struct state_run run[4];
    struct state_run_step step[4];
    int count;
};

static void take_run(void *ctx, const struct state_run *r) {
    struct runs *all = ctx;
    all->run[all->count++] = *r;
}

static void take_run_step(void *ctx, const struct state_run_step *r) {
    struct runs *all = ctx;
    all->step[all->count++] = *r;
}

TEST("runs come the newest first, and one that was killed shows that it never ended") {
    struct state *s = open_new();
    struct arena a = {0};
    struct runs all = {.count = 0};
    int64_t first, second;
    OK(state_begin_run(s, "mbuild -j4 release", &first, &e));
    struct state_run r = {.id = first, .seconds = 2.5, .command = "mbuild -j4 release", .status = 2, .built = 1, .restored = 2, .current = 3, .failed = 4, .skipped = UINT32_MAX};
    OK(state_end_run(s, &r, &e));
    state_close(s);
    s = open_new();
    OK(state_begin_run(s, "mbuild", &second, &e));
    CHECK(second > first);
    OK(state_each_run(s, 4, &a, take_run, &all, &e));
    CHECK_EQ(all.count, 2);
    CHECK_EQ(all.run[0].id, second);
    CHECK_EQ(all.run[0].status, -1);
    CHECK(all.run[0].seconds == -1);
    CHECK_STR(all.run[0].command, "mbuild");
    CHECK_EQ(all.run[1].status, 2);
    CHECK(all.run[1].seconds == 2.5);
    CHECK(llabs(all.run[1].started_ms - sys_wall_ms()) < 60000);
    CHECK_EQ(all.run[1].built + all.run[1].restored + all.run[1].current + all.run[1].failed, 10);
    CHECK_EQ(all.run[1].skipped, UINT32_MAX);
    all.count = 0;
    OK(state_each_run(s, 1, &a, take_run, &all, &e));
    CHECK_EQ(all.count, 1);
    arena_free(&a);
    state_close(s);
}

TEST("the steps of runs are found by run, by name, by both, and all; the newest first, and no more than wanted") {
    struct state *s = open_new();
    struct arena a = {0};
    struct runs all = {.count = 0};
    struct state_run_step r = {.run_id = 1, .step = "a", .status = "failed", .key = digest_of("k"), .seconds = 3, .log = ".mbuild/log/1/a.log", .message = "no"};
    OK(state_put_run_step(s, &r, &e));
    OK(state_put_run_step(s, &(struct state_run_step){.run_id = 1, .step = "b", .status = "built", .params = "{}", .metrics = "{\"x\":1}"}, &e));
    OK(state_put_run_step(s, &(struct state_run_step){.run_id = 2, .step = "a", .status = "skipped"}, &e));
    static const struct { int64_t run; const char *step; uint32_t most; int count; const char *first; } rows[] = {
        {0, NULL, 4, 3, "skipped"}, {1, NULL, 4, 2, "built"}, {0, "a", 4, 2, "skipped"}, {1, "a", 4, 1, "failed"}, {0, NULL, 1, 1, "skipped"}, {9, NULL, 4, 0, NULL}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        all.count = 0;
        OK(state_each_run_step(s, rows[i].run, rows[i].step, rows[i].most, &a, take_run_step, &all, &e));
        CHECK_EQ(all.count, rows[i].count);
        if (rows[i].first) CHECK_STR(all.step[0].status, rows[i].first);
    }
    all.count = 0;
    OK(state_each_run_step(s, 1, "a", 4, &a, take_run_step, &all, &e));
    CHECK_STR(all.step[0].log, r.log);
    CHECK_STR(all.step[0].message, "no");
    CHECK(!all.step[0].params && !all.step[0].metrics && all.step[0].seconds == 3 && digest_same(&all.step[0].key, &r.key));
    arena_free(&a);
    state_close(s);
}

TEST("a new run lets the oldest of more than a million step rows go") {
    state_close(open_new());
    sql(path_in("state.db"), "INSERT INTO run_step VALUES (1, 1, 'a', 'built', zeroblob(32), 0, '', '', '', ''), (2, 1, 'b', 'built', zeroblob(32), 0, '', '', '', ''),"
                             " (1000001, 2, 'c', 'built', zeroblob(32), 0, '', '', '', '')");
    struct state *s = open_new();
    struct arena a = {0};
    struct runs all = {.count = 0};
    int64_t id;
    OK(state_begin_run(s, "mbuild", &id, &e));
    OK(state_each_run_step(s, 0, NULL, 4, &a, take_run_step, &all, &e));
    CHECK_EQ(all.count, 2);
    CHECK_STR(all.step[1].step, "b");
    arena_free(&a);
    state_close(s);
}

TEST("a note is the last text that was put under its name") {
    struct state *s = open_new();
    struct arena a = {0};
    const char *value;
    OK(state_get_note(s, "plugin:ab", &a, &value, &e));
    CHECK(!value);
    OK(state_put_note(s, "plugin:ab", "one", &e));
    OK(state_put_note(s, "plugin:ab", "", &e));
    OK(state_get_note(s, "plugin:ab", &a, &value, &e));
    CHECK_STR(value, "");
    arena_free(&a);
    state_close(s);
}

/* -- lasting */

static int count_records(struct state *s) {
    struct arena a = {0};
    struct records all = {.count = 0};
    OK(state_each_record(s, &a, take_record, &all, &e));
    arena_free(&a);
    return all.count;
}

TEST("a killed mbuild loses what it did after its last commit and nothing else") {
    const char *path = path_in("state.db");
    pid_t child = fork();
    if (!child) {
        struct state *s;
        char *note;
        struct state_record a = record_of("committed"), b = record_of("not committed");
        if (state_open(path, false, &s, &note, &e) || state_put_record(s, &a, &e) || state_commit(s, &e) || state_put_record(s, &b, &e)) _exit(1);
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

/* Root may write everywhere, so the test goes on as nobody. */
static void make_read_only(const char *folder) {
    if (geteuid() == 0 && seteuid(65534)) SKIP("cannot give up being root");
    CHECK(geteuid() == 65534 || !chmod(folder, 0555));
}

static void make_writable(const char *folder) {
    CHECK(!seteuid(getuid()));
    CHECK(!chmod(folder, 0755));
}

TEST("a folder that may not be written is read all the same, with a log beside the database or without") {
    char folder[400], path[420], more[440];
    snprintf(folder, sizeof folder, "%s/a%%b?c#d", test_folder());
    snprintf(path, sizeof path, "%s/state.db", folder);
    CHECK(!mkdir(folder, 0755) && !chmod(test_folder(), 0755));
    struct state *s = open_as(path, false);
    struct state_record r = record_of("a");
    OK(state_put_record(s, &r, &e));
    state_close(s);
    make_read_only(folder);
    s = open_as(path, true);
    CHECK_EQ(count_records(s), 1);
    state_close(s);
    make_writable(folder);
    snprintf(more, sizeof more, "%s-shm", path);
    CHECK(!unlink(more));
    make_read_only(folder); /* the log can't be read without an index, and none can be made */
    char *note;
    CHECK(state_open(path, true, &s, &note, &e));
    CHECK_CONTAINS(e.text, "not writable");
    make_writable(folder);
    sql(path, "SELECT * FROM note"); /* merges the log */
    snprintf(more, sizeof more, "%s-wal", path);
    CHECK(access(more, F_OK));
    make_read_only(folder);
    s = open_as(path, true);
    CHECK_EQ(count_records(s), 1);
    state_close(s);
    make_writable(folder);
    CHECK(access(more, F_OK));
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

static void fill(struct state *s, int count) {
    char name[32];
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof name, "step %d", i);
        struct state_record r = record_of(name);
        OK(state_put_record(s, &r, &e));
    }
    OK(state_commit(s, &e));
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

/* -- hostile rows */

static void count_nothing(struct state *s) {
    struct arena a = {0};
    struct records all = {.count = 0};
    struct files files = {.count = 0};
    struct runs runs = {.count = 0};
    struct digest zero = {{0}}, none = digest_of("none");
    struct roots roots = {.wanted = &none};
    struct state_record *r;
    const char *value;
    OK(state_each_record(s, &a, take_record, &all, &e));
    OK(state_each_action(s, &zero, &a, take_action, &all, &e));
    OK(state_get_record(s, "a", &a, &r, &e));
    OK(state_each_file(s, take_file, &files, &e));
    OK(state_each_artifact(s, take_artifact, &roots, &e));
    OK(state_each_run_step(s, 0, NULL, 4, &a, take_run_step, &runs, &e));
    OK(state_get_note(s, "a", &a, &value, &e));
    CHECK_EQ(all.count + files.count + roots.count + runs.count, 0);
    CHECK(!r && !value);
    CHECK(state_get_duration(s, "a") >= 0);
    arena_free(&a);
}

TEST("rows with wrong types, lengths or checks are passed over") {
    static const char *const rows[] = {
        "INSERT INTO record VALUES ('a', x'00', x'00')",
        "INSERT INTO record VALUES ('a', zeroblob(32), x'')",
        "INSERT INTO record VALUES ('a', zeroblob(32), zeroblob(1000))",
        "INSERT INTO record VALUES (x'00ff', 'text', 3)",
        "INSERT INTO record VALUES ('a' || char(0), zeroblob(31), 0.5)",
        "INSERT INTO file VALUES ('a', x'')",
        "INSERT INTO file VALUES (12, zeroblob(100))",
        "INSERT INTO file VALUES ('a', 'text')",
        "INSERT INTO action VALUES (1, zeroblob(32), x'', 'when', 'a', zeroblob(300))",
        "INSERT INTO action VALUES (1, zeroblob(32), x'', 0, 'a', '')",
        "INSERT INTO run_step VALUES (1, 'x', 2, 3, 4, 5, 6, 7, 8, 9)",
        "INSERT INTO note VALUES ('a', x'ffff')",
        "INSERT INTO note VALUES ('a', 'x' || char(0))",
        "INSERT INTO duration VALUES ('a', -1)",
        "INSERT INTO duration VALUES ('a', 9e999)",
        "INSERT INTO duration VALUES ('a', 'text')",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char name[32];
        snprintf(name, sizeof name, "%zu.db", i);
        state_close(open_as(path_in(name), false));
        sql(path_in(name), rows[i]);
        struct state *s = open_as(path_in(name), false);
        count_nothing(s);
        state_close(s);
    }
}

TEST("a flipped bit in a row, or a row under another name, makes it no row") {
    struct buf b = {0};
    struct arena a = {0};
    struct state_file f = file_of("a"), file;
    state_write_file(&b, &f);
    CHECK(!state_read_file(b.data, b.len, "a", &file));
    CHECK(state_read_file(b.data, b.len, "b", &file));
    for (size_t bit = 0; bit < 8 * b.len; bit++) {
        b.data[bit / 8] ^= (char)(1 << bit % 8);
        CHECKF(state_read_file(b.data, b.len, "a", &file), "bit %zu", bit);
        b.data[bit / 8] ^= (char)(1 << bit % 8);
    }
    struct state_record r = record_of("a"), read = {.step = "a", .key = r.key};
    state_write_record(&b, &r);
    CHECK(!state_read_record(b.data, b.len, &a, &read));
    check_record(&read, &r);
    for (size_t n = 0; n < b.len; n++) CHECK(state_read_record(b.data, n, &a, &read));
    for (size_t bit = 0; bit < 8 * b.len; bit++) {
        b.data[bit / 8] ^= (char)(1 << bit % 8);
        CHECKF(state_read_record(b.data, b.len, &a, &read), "bit %zu", bit);
        b.data[bit / 8] ^= (char)(1 << bit % 8);
    }
    read.step = "b";
    CHECK(state_read_record(b.data, b.len, &a, &read));
    arena_free(&a);
    buf_free(&b);
}

TEST("no cut or changed field of a row is read past its end") {
    struct buf b = {0};
    struct state_file file;
    struct state_record r = record_of("a"), read = {.step = "a"};
    state_write_record(&b, &r);
    for (size_t n = 0; n + 8 < b.len; n++) {
        char *exact = mem_alloc(n); /* so that a sanitizer sees it */
        struct arena a = {0};
        memcpy(exact, b.data + 8, n);
        CHECK(state_read_record_fields(exact, n, &a, &read));
        state_read_file_fields(exact, n, &file);
        arena_free(&a);
        free(exact);
    }
    for (size_t at = 8; at < b.len; at++) {
        char kept = b.data[at];
        struct arena a = {0};
        b.data[at] = (char)0xff;
        if (!state_read_record_fields(b.data + 8, b.len - 8, &a, &read)) CHECK(read.input_count <= b.len && read.output_count <= b.len);
        b.data[at] = kept;
        arena_free(&a);
    }
    buf_free(&b);
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

TEST("100,000 records and files are written and read in a small part of the time that a build may take") {
    struct state *s = open_new();
    int64_t began = sys_now_ns();
    char name[64];
    enum { COUNT = 100000 };
    for (int i = 0; i < COUNT; i++) {
        snprintf(name, sizeof name, "build/some/folder/%d", (int)((uint64_t)i * 2654435761u % 1000003));
        struct state_record r = record_of(name);
        struct state_file f = {.path = name, .stat = {.kind = FILE_REGULAR, .size = 1}, .artifact = artifact_of("x")};
        OK(state_put_record(s, &r, &e));
        OK(state_put_file(s, &f, &e));
    }
    OK(state_commit(s, &e));
    double wrote = (double)(sys_now_ns() - began) / 1e9;
    began = sys_now_ns();
    struct arena a = {0};
    struct records all = {.count = 0};
    struct files files = {.count = 0};
    OK(state_each_record(s, &a, take_record, &all, &e));
    double records = (double)(sys_now_ns() - began) / 1e9;
    began = sys_now_ns();
    OK(state_each_file(s, take_file, &files, &e));
    double read = (double)(sys_now_ns() - began) / 1e9;
    fprintf(stderr, "100,000 records and files: written in %.3f s, read in %.3f and %.3f s\n", wrote, records, read);
    CHECK_EQ(all.count, COUNT);
    CHECK_EQ(files.count, COUNT);
    CHECKF(wrote < 30 && records < 5 && read < 5, "%.3f, %.3f, %.3f s", wrote, records, read); /* far above what is usual, for slow machines */
    arena_free(&a);
    state_close(s);
}
