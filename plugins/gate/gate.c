/* gate.c: stops what depends on it unless figures are good enough.
 *
 * A gate that isn't passed fails its step, so that nothing behind it is made, and its message names each broken threshold: what was
 * found, what was demanded, and by how much it was missed. One that is passed leaves a report of the same.
 */
#include "lib/lookup.h"

#include <math.h>
#include <mbuild/plugin.h>
#include <stdio.h>
#include <string.h>

static const struct mb_role roles[] = {
    {.name = "scores", .flags = MB_INPUT | MB_MANY | MB_NAMED, .kind = "metrics", .help = "figures in JSON, such as `evaluate` makes"},
    {.name = "report", .flags = MB_OUTPUT, .kind = "gate", .help = "what was demanded and what was found, JSON"},
    {0}};

static const struct mb_param params[] = {
    {.name = "thresholds", .type = MB_TABLE, .deflt = "{}", .help = "by a figure's dotted name: min, max or both"},
    {.name = "drop", .type = MB_TABLE, .deflt = "{}", .help = "by a figure's dotted name: max, how far it may lie below the baseline's"},
    {.name = "rise", .type = MB_TABLE, .deflt = "{}", .help = "the same for figures that should be small: how far above the baseline's"},
    {0}};

enum { MIN, MAX };
static const char *const bound_names[] = {"min", "max"};

/* The three tables, what they compare, and how a broken bound is told. */
struct rule {
    const char *param;
    int sign;                /* 0: the figure itself; -1: baseline - figure; +1: figure - baseline */
    const char *verb;        /* of the baseline's message */
};
static const struct rule rules[] = {{"thresholds", 0, ""}, {"drop", -1, "lies below"}, {"rise", 1, "lies above"}};
#define RULES (sizeof rules / sizeof *rules)

struct gate {
    const struct mb_host *host;
    struct mb_run *run;
    struct mbl_arena arena;
    struct mbl_buf broken;     /* a line for each */
    struct mbl_json *checks;
    const char *file;          /* the scores looked at */
    const struct mbl_json *scores;
};

/* -- parameters */

static int check_bounds(const struct mb_host *host, struct mb_run *run, const struct rule *r, const struct mbl_json *limits,
                        const char *figure) {
    if (limits->type != MBL_JSON_TABLE || !limits->count)
        return host->fail(run, "%s: %s", figure, r->sign ? "{ max = … } expected" : "{ min = …, max = … } expected, or one of these");
    for (size_t i = 0; i < limits->count; i++) {
        bool known = !strcmp(limits->keys[i], "max") || (!r->sign && !strcmp(limits->keys[i], "min"));
        if (!known)
            return host->fail(run, "%s%s%s: unknown bound %s; there %s", r->sign ? r->param : "", r->sign ? "." : "", figure,
                              limits->keys[i], r->sign ? "is max" : "are min and max");
        if (!mbl_json_is_number(limits->items[i])) return host->fail(run, "%s: %s: a number expected", figure, limits->keys[i]);
    }
    const struct mbl_json *min = mbl_json_get(limits, "min"), *max = mbl_json_get(limits, "max");
    if (min && max && mbl_json_number(min) > mbl_json_number(max)) return host->fail(run, "%s: min is greater than max", figure);
    return MB_OK;
}

static struct mbl_json *read_param(const struct mb_host *host, struct mb_run *run, const char *name, struct mbl_arena *a) {
    struct mbl_error e;
    struct mbl_json *v;
    const char *text = host->param_json(run, name);
    if (mbl_json_parse(text, strlen(text), name, a, &v, &e)) {
        host->fail(run, "%s", e.text);
        return NULL;
    }
    return v;
}

static int check(const struct mb_host *host, struct mb_run *run) {
    struct mbl_arena a = {0};
    size_t count = 0;
    int status = MB_OK;
    for (size_t k = 0; k < RULES && !status; k++) {
        const struct mbl_json *table = read_param(host, run, rules[k].param, &a);
        if (!table) status = MB_FAILED;
        for (size_t i = 0; !status && i < table->count; i++, count++)
            status = check_bounds(host, run, &rules[k], table->items[i], table->keys[i]);
    }
    if (!status && !count)
        status = host->fail(run, "there is no threshold: a gate that demands nothing, such as accuracy = { min = 0.9 }, stops nothing");
    mbl_arena_free(&a);
    return status;
}

/* -- comparing */

static void broken(struct gate *g, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void broken(struct gate *g, const char *format, ...) {
    va_list args;
    char line[1024];
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    mbl_buf_addf(&g->broken, "\n  %s", line);
    if (g->host->input_count(g->run, "scores") > 1) mbl_buf_addf(&g->broken, " (%s)", g->file);
}

/* The figure's value in `table`; false after telling why there is none. `whose`: "" or "the baseline's ". */
static bool find_figure(struct gate *g, const struct mbl_json *table, const char *name, const char *whose, double *value) {
    const struct mbl_json *found = mbl_lookup(table, name);
    if (found && mbl_json_is_number(found)) {
        *value = mbl_json_number(found);
        return true;
    }
    const char *near = mbl_lookup_nearest(table, name, false, &g->arena);
    if (found) broken(g, "%s%s is %s in %s, a number is wanted", whose, name, mbl_json_type_name(found->type), g->file);
    else if (near) broken(g, "%s has no figure %s%s; did you mean \"%s\"?", g->file, whose, name, near);
    else broken(g, "%s has no figure %s%s", g->file, whose, name);
    return false;
}

static void compare(struct gate *g, const struct rule *r, const char *name, const struct mbl_json *limits) {
    struct mbl_arena *a = &g->arena;
    const struct mbl_json *baseline = mbl_json_get(g->scores, "baseline");
    double value, reference = 0;
    if (!find_figure(g, g->scores, name, "", &value)) return;
    if (r->sign && !baseline) {
        broken(g, "%s of %s can't be compared: %s has no baseline; give `evaluate` one", r->param, name, g->file);
        return;
    }
    if (r->sign && !find_figure(g, baseline, name, "baseline.", &reference)) return;
    double measured = r->sign ? r->sign * (value - reference) : value;
    struct mbl_json *c = mbl_json_table(a);
    bool passed = true;
    mbl_json_set(a, c, "figure", mbl_json_string(a, name));
    mbl_json_set(a, c, "scores", mbl_json_string(a, g->file));
    mbl_json_set(a, c, "found", mbl_json_float(a, value));
    if (r->sign) {
        mbl_json_set(a, c, "baseline", mbl_json_float(a, reference));
        mbl_json_set(a, c, r->param, mbl_json_float(a, measured));
    }
    for (int bound = MIN; bound <= MAX; bound++) {
        const struct mbl_json *limit = mbl_json_get(limits, bound_names[bound]);
        if (!limit) continue;
        double demanded = mbl_json_number(limit);
        mbl_json_set(a, c, bound_names[bound], mbl_json_float(a, demanded));
        if (bound == MIN ? measured >= demanded : measured <= demanded) continue; /* NaN passes nothing */
        passed = false;
        if (r->sign)
            broken(g, "%s is %.6g and %s the baseline's %.6g by %.6g, at most %.6g is allowed: %.4g too much", name, value, r->verb,
                   reference, measured, demanded, measured - demanded);
        else
            broken(g, "%s is %.6g, at %s %.6g is demanded: %.4g too %s", name, value, bound == MIN ? "least" : "most", demanded,
                   fabs(measured - demanded), bound == MIN ? "low" : "high");
    }
    mbl_json_set(a, c, "passed", mbl_json_bool(a, passed));
    mbl_json_push(a, g->checks, c);
    g->host->metric(g->run, name, value);
}

static int compare_all(struct gate *g) {
    struct mbl_error e;
    for (size_t i = 0; i < g->host->input_count(g->run, "scores"); i++) {
        struct mbl_json *scores;
        g->file = g->host->input_name(g->run, "scores", i);
        if (mbl_json_read(g->host->input_path(g->run, "scores", i), &g->arena, &scores, &e)) return g->host->fail(g->run, "%s", e.text);
        if (scores->type != MBL_JSON_TABLE)
            return g->host->fail(g->run, "%s holds %s; a table of figures expected", g->file, mbl_json_type_name(scores->type));
        g->scores = scores;
        for (size_t k = 0; k < RULES; k++) {
            const struct mbl_json *table = read_param(g->host, g->run, rules[k].param, &g->arena);
            if (!table) return MB_FAILED;
            for (size_t n = 0; n < table->count; n++) compare(g, &rules[k], table->keys[n], table->items[n]);
        }
    }
    if (g->broken.len) return g->host->fail(g->run, "the gate is closed:%s", mbl_buf_str(&g->broken));
    return MB_OK;
}

static int write_report(struct gate *g) {
    struct mbl_arena *a = &g->arena;
    struct mbl_json *report = mbl_json_table(a);
    struct mbl_error e;
    mbl_json_set(a, report, "kind", mbl_json_string(a, "gate"));
    mbl_json_set(a, report, "format", mbl_json_int(a, 1));
    mbl_json_set(a, report, "passed", mbl_json_bool(a, true));
    mbl_json_set(a, report, "checks", g->checks);
    return mbl_json_save(g->host->output_path(g->run, "report", 0), report, &e) ? g->host->fail(g->run, "%s", e.text) : MB_OK;
}

static int run(const struct mb_host *host, struct mb_run *run) {
    struct gate g = {.host = host, .run = run};
    g.checks = mbl_json_list(&g.arena);
    int status = compare_all(&g);
    if (!status) status = write_report(&g);
    mbl_buf_free(&g.broken);
    mbl_arena_free(&g.arena);
    return status;
}

static const struct mb_step steps[] = {
    {.name = "gate", .help = "stop what depends on it unless figures are good enough", .flags = MB_DETERMINISTIC, .roles = roles,
     .params = params, .run = run, .check = check},
    {0}};

static const struct mb_plugin plugin = {MB_PLUGIN_HEAD, .name = "gate", .version = "1.0", .help = "thresholds on figures", .steps = steps};
MB_PLUGIN(plugin);
