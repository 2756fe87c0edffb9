/* fake_host.h: a host for steps, so that C tests run one as the engine would, in this process: parameters with their defaults out of the plugin's
 * own table, inputs and outputs by role, and what the step reports.
 *
 *     struct fake f = {0};
 *     fake_open(&f, "train", "{\"epochs\": 3}");
 *     fake_path(&f, "train", "x.safetensors");
 *     CHECK_EQ(fake_run(&f), MB_OK);
 */
#ifndef FAKE_HOST_H
#define FAKE_HOST_H

#include "lib/json.h"
#include "test.h"

#include <dlfcn.h>
#include <mbuild/plugin.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fake {
    const struct mb_step *step;
    struct mbl_arena arena;
    struct mbl_json *params;
    struct {
        const char *role, *path;
    } paths[16];
    int path_count;
    struct {
        char name[64];
        double value;
    } metrics[64];
    int metric_count;
    const char *checkpoints;     /* folder, or NULL */
    int cancel_after, asked;     /* cancelled answers 1 from the n-th question on; 0: never */
    int progress_count;
    char message[4096], warnings[4096];
};

static inline struct fake *fake_of(struct mb_run *run) {
    return (struct fake *)(void *)run;
}

/* The defaults of a table of parameters, put where nothing is given; unknown names end the test. */
static inline struct mbl_json *fake_fill(struct fake *f, const struct mb_param *params, struct mbl_json *given) {
    struct mbl_json *out = mbl_json_table(&f->arena);
    struct mbl_error e;
    for (; params && params->name; params++) {
        struct mbl_json *v = mbl_json_get(given, params->name);
        if (!v && params->deflt && mbl_json_parse(params->deflt, strlen(params->deflt), params->name, &f->arena, &v, &e)) FAIL("%s", e.text);
        if (!v) continue;
        if (params->type == MB_TABLE && params->fields) v = fake_fill(f, params->fields, v);
        mbl_json_set(&f->arena, out, params->name, v);
    }
    return out;
}

static inline struct mbl_json *fake_at(struct fake *f, const char *path) {
    struct mbl_json *v = f->params;
    char key[128];
    while (*path && v) {
        size_t n = strcspn(path, ".[");
        snprintf(key, sizeof key, "%.*s", (int)n, path);
        v = mbl_json_get(v, key);
        for (path += n; *path == '['; path = strchr(path, ']') + 1) {
            size_t i = strtoul(path + 1, NULL, 10);
            v = v && v->type == MBL_JSON_LIST && i < v->count ? v->items[i] : NULL;
        }
        path += *path == '.';
    }
    return v;
}

static inline struct mbl_json *fake_must(struct mb_run *run, const char *path) {
    struct mbl_json *v = fake_at(fake_of(run), path);
    if (!v) FAIL("the step asks for parameter %s, which has no value", path);
    return v;
}

static inline int fake_param_given(struct mb_run *run, const char *path) { return fake_at(fake_of(run), path) != NULL; }
static inline int fake_param_bool(struct mb_run *run, const char *path) { return fake_must(run, path)->boolean; }
static inline int64_t fake_param_int(struct mb_run *run, const char *path) { return (int64_t)mbl_json_number(fake_must(run, path)); }
static inline double fake_param_float(struct mb_run *run, const char *path) { return mbl_json_number(fake_must(run, path)); }
static inline const char *fake_param_string(struct mb_run *run, const char *path) { return fake_must(run, path)->string; }
static inline size_t fake_param_count(struct mb_run *run, const char *path) {
    struct mbl_json *v = fake_at(fake_of(run), path);
    return v && v->type >= MBL_JSON_LIST ? v->count : 0;
}
static inline enum mb_type fake_param_type(struct mb_run *run, const char *path) {
    static const enum mb_type types[] = {0, MB_BOOL, MB_INT, MB_FLOAT, MB_STRING, MB_LIST, MB_TABLE};
    struct mbl_json *v = fake_at(fake_of(run), path);
    return v ? types[v->type] : 0;
}
static inline const char *fake_param_json(struct mb_run *run, const char *path) {
    struct mbl_buf b = {0};
    mbl_json_write(fake_must(run, path), MBL_JSON_COMPACT, &b);
    const char *text = mbl_arena_strdup(&fake_of(run)->arena, mbl_buf_str(&b));
    mbl_buf_free(&b);
    return text;
}

static inline const char *fake_find(struct mb_run *run, const char *role, size_t i) {
    struct fake *f = fake_of(run);
    for (int k = 0; k < f->path_count; k++)
        if (!strcmp(f->paths[k].role, role) && i-- == 0) return f->paths[k].path;
    return NULL;
}
static inline size_t fake_count(struct mb_run *run, const char *role) {
    size_t n = 0;
    while (fake_find(run, role, n)) n++;
    return n;
}

static inline const char *fake_digest(struct mb_run *run, const char *role, size_t i) { return fake_find(run, role, i) ? "00" : NULL; }

static inline const char *fake_checkpoints(struct mb_run *run) { return fake_of(run)->checkpoints; }
static inline const char *fake_device(struct mb_run *run) { return (void)run, "cpu"; }
static inline int fake_cpus(struct mb_run *run) { return (void)run, 1; }
static inline int fake_cancelled(struct mb_run *run) {
    struct fake *f = fake_of(run);
    return f->cancel_after && ++f->asked >= f->cancel_after;
}
static inline void fake_log(struct mb_run *run, enum mb_level level, const char *format, ...) {
    struct fake *f = fake_of(run);
    if (level != MB_WARN) return;
    va_list args;
    va_start(args, format);
    vsnprintf(f->warnings, sizeof f->warnings, format, args);
    va_end(args);
}
static inline void fake_progress(struct mb_run *run, double done, double total, const char *text) {
    (void)text;
    CHECK(done >= 0 && done <= total);
    fake_of(run)->progress_count++;
}
static inline void fake_metric(struct mb_run *run, const char *name, double value) {
    struct fake *f = fake_of(run);
    int i = 0;
    while (i < f->metric_count && strcmp(f->metrics[i].name, name)) i++;
    CHECK(i < 64);
    snprintf(f->metrics[i].name, sizeof f->metrics[i].name, "%s", name);
    f->metrics[i].value = value;
    if (i == f->metric_count) f->metric_count++;
}
static inline int fake_fail(struct mb_run *run, const char *format, ...) {
    struct fake *f = fake_of(run);
    va_list args;
    va_start(args, format);
    vsnprintf(f->message, sizeof f->message, format, args);
    va_end(args);
    return MB_FAILED;
}

static const struct mb_host fake_host = {
    .size = sizeof fake_host, .abi_major = MB_ABI_MAJOR, .abi_minor = MB_ABI_MINOR, .param_given = fake_param_given, .param_bool = fake_param_bool,
    .param_int = fake_param_int, .param_float = fake_param_float, .param_string = fake_param_string, .param_json = fake_param_json,
    .param_count = fake_param_count, .param_type = fake_param_type, .input_digest = fake_digest,
    .input_count = fake_count, .input_path = fake_find, .output_count = fake_count, .output_path = fake_find, .checkpoint_folder = fake_checkpoints,
    .device = fake_device, .cpus = fake_cpus, .cancelled = fake_cancelled, .log = fake_log, .progress = fake_progress, .metric = fake_metric,
    .fail = fake_fail};

/* Loads a plugin of the build and takes its first step, or the one behind the dot of "dataset.interactions"; `params` is JSON. */
static inline void fake_open(struct fake *f, const char *plugin, const char *params) {
    char name[128];
    struct mbl_error e;
    struct mbl_json *given;
    memset(f, 0, sizeof *f);
    size_t family = strcspn(plugin, ".");
    snprintf(name, sizeof name, "lib/mbuild/%.*s.so", (int)family, plugin);
    void *handle = dlopen(test_built(name), RTLD_NOW);
    if (!handle) FAIL("%s", dlerror());
    const struct mb_plugin *const *entry = dlsym(handle, "mbuild_plugin");
    CHECK(entry != NULL);
    f->step = (*entry)->steps;
    while (plugin[family] && f->step->name && strcmp(f->step->name, plugin + family + 1) != 0) f->step++;
    CHECK(f->step->name != NULL);
    if (mbl_json_parse(params, strlen(params), "params", &f->arena, &given, &e)) FAIL("%s", e.text);
    f->params = fake_fill(f, f->step->params, given);
}

static inline void fake_path(struct fake *f, const char *role, const char *path) {
    CHECK(f->path_count < 16);
    f->paths[f->path_count].role = role;
    f->paths[f->path_count++].path = path;
}

static inline int fake_run(struct fake *f) {
    struct mb_run *run = (struct mb_run *)(void *)f;
    *f->message = 0;
    int status = f->step->check ? f->step->check(&fake_host, run) : MB_OK;
    return status ? status : f->step->run(&fake_host, run);
}

static inline double fake_value(const struct fake *f, const char *name) {
    for (int i = 0; i < f->metric_count; i++)
        if (!strcmp(f->metrics[i].name, name)) return f->metrics[i].value;
    FAIL("the step told no metric %s", name);
}

#endif
