/* state_world.h: what tests of the database share: a file of its own for each test, records to put there, SQL to spoil it with. */
#ifndef TESTS_UNIT_STATE_WORLD_H
#define TESTS_UNIT_STATE_WORLD_H

#include "state_private.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct err e;

static inline const char *path_in(const char *name) {
    static char paths[8][512];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", test_folder(), name);
    return path;
}

static inline struct state *open_as(const char *path, bool read_only) {
    struct state *s;
    char *note;
    CHECKF(!state_open(path, read_only, &s, &note, &e), "%s", e.text);
    CHECKF(!note, "%s", note);
    return s;
}

static inline struct state *open_new(void) {
    return open_as(path_in("state.db"), false);
}

#define OK(call) CHECKF(!(call), "%s", e.text)

static inline struct digest digest_of(const char *text) {
    return digest_bytes(text, strlen(text));
}

static inline struct artifact artifact_of(const char *text) {
    return (struct artifact){.type = ARTIFACT_FILE, .digest = digest_of(text), .size = strlen(text)};
}

static inline struct state_file file_of(const char *path) {
    return (struct state_file){.path = path,
                               .stat = {.kind = FILE_REGULAR,
                                        .executable = true,
                                        .size = UINT64_MAX,
                                        .ino = 77,
                                        .dev = 2049,
                                        .mtime_ns = INT64_MIN,
                                        .ctime_ns = INT64_MAX},
                               .artifact = artifact_of(path)};
}

static struct state_input inputs[] = {
    {.role = "data", .path = "in.csv"}, {.role = "key", .path = "secret.pem"}, {.role = "", .path = "/usr/include/math.h"}};
static struct state_output outputs[] = {{.role = "model", .path = "build/m"}, {.role = "log", .path = "build/\xff.log"}};

static inline struct state_record record_of(const char *step) {
    inputs[0].artifact = artifact_of("data");
    inputs[2].artifact = artifact_of("header");
    outputs[0].artifact = (struct artifact){.type = ARTIFACT_FOLDER, .digest = digest_of("model"), .size = 1ull << 40};
    outputs[1].artifact = artifact_of("log");
    return (struct state_record){.step = step,
                                 .key = digest_of(step),
                                 .plugin = digest_of("plugin"),
                                 .plugin_name = "family.train",
                                 .plugin_version = "1.2",
                                 .params = "{\"lr\":0.1}",
                                 .env = "{\"\":\"\"}",
                                 .inputs = inputs,
                                 .input_count = 3,
                                 .outputs = outputs,
                                 .output_count = 2,
                                 .metrics = "{}",
                                 .seconds = 1.5,
                                 .peak_bytes = 1u << 30,
                                 .built_ms = 1700000000000,
                                 .run_id = 7};
}

static inline void sql(const char *path, const char *text) {
    sqlite3 *db;
    char *message = NULL;
    CHECK_EQ(sqlite3_open(path, &db), SQLITE_OK);
    CHECKF(sqlite3_exec(db, text, NULL, NULL, &message) == SQLITE_OK, "%s: %s", text, message);
    sqlite3_close(db);
}

struct records {
    struct state_record *last;
    int count, stop_at;
};

static inline void take_record(void *ctx, struct state_record *r) {
    struct records *all = ctx;
    all->last = r;
    all->count++;
}

static inline int count_records(struct state *s) {
    struct arena a = {0};
    struct records all = {.count = 0};
    OK(state_each_record(s, &a, take_record, &all, &e));
    arena_free(&a);
    return all.count;
}

static inline void fill(struct state *s, int count) {
    char name[32];
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof name, "step %d", i);
        struct state_record r = record_of(name);
        OK(state_put_record(s, &r, &e));
    }
    OK(state_commit(s, &e));
}

static inline void check_artifact(const struct artifact *found, const struct artifact *expected) {
    CHECK(artifact_same(found, expected));
    CHECK_EQ(found->size, expected->size);
}

static inline void check_record(const struct state_record *r, const struct state_record *x) {
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

#endif
