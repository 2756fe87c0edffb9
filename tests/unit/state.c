/* What lasts between calls of mbuild: everything written is read back as it was, and a row that was spoilt is no row. */
#include "state_world.h"

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
    CHECK(!state_keeps_durations(s));
    OK(state_drop_record(s, "teacher", &e));
    CHECK(state_keeps_durations(s));
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
    struct state_run r = {.id = first,
                          .seconds = 2.5,
                          .command = "mbuild -j4 release",
                          .status = 2,
                          .built = 1,
                          .restored = 2,
                          .current = 3,
                          .failed = 4,
                          .skipped = UINT32_MAX};
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
    struct state_run_step r = {
        .run_id = 1, .step = "a", .status = "failed", .key = digest_of("k"), .seconds = 3, .log = ".mbuild/log/1/a.log", .message = "no"};
    OK(state_put_run_step(s, &r, &e));
    OK(state_put_run_step(s, &(struct state_run_step){.run_id = 1, .step = "b", .status = "built", .params = "{}", .metrics = "{\"x\":1}"},
                          &e));
    OK(state_put_run_step(s, &(struct state_run_step){.run_id = 2, .step = "a", .status = "skipped"}, &e));
    static const struct { int64_t run; const char *step; uint32_t most; int count; const char *first;
    } rows[] = {{0, NULL, 4, 3, "skipped"}, {1, NULL, 4, 2, "built"},   {0, "a", 4, 2, "skipped"},
                {1, "a", 4, 1, "failed"},   {0, NULL, 1, 1, "skipped"}, {9, NULL, 4, 0, NULL}};
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
    sql(path_in("state.db"), "INSERT INTO run_step VALUES (1, 1, 'a', 'built', zeroblob(32), 0, '', '', '', ''), (2, 1, 'b', 'built', "
                             "zeroblob(32), 0, '', '', '', ''),"
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

/* -- many */

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
    CHECKF(wrote < 30 && records < 5 && read < 5, "%.3f, %.3f, %.3f s", wrote, records,
           read); /* far above what is usual, for slow machines */
    arena_free(&a);
    state_close(s);
}
