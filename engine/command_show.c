/* command_show.c: `show` and `log`: what the database tells of artifacts and past runs. */
#include "command.h"
#include "files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int open_session(struct session *s, struct options *own, const struct options *o, int argc, char **argv, struct err *e) {
    int rest;
    bool done = false;
    memset(s, 0, sizeof *s);
    s->lock_fd = -1;
    memset(own, 0, sizeof *own);
    own->command_line = o->command_line;
    own->directory = o->directory;
    own->file = o->file;
    own->color = o->color;
    return options_parse(own, argc, argv, true, &rest, &done, e) || session_open(s, own, true, e) ? -1 : 0;
}

/* -- show */

static void show_artifact(const char *label, const char *role, const char *path, const struct artifact *a) {
    char hex[DIGEST_HEX + 1], size[24];
    digest_to_hex(&a->digest, hex);
    const char *kind = a->type == ARTIFACT_FOLDER ? " (folder)" : a->type == ARTIFACT_EXECUTABLE ? " (executable)" : "";
    if (a->type == ARTIFACT_NONE) printf("  %-10s %-12s %s (secret or absent)\n", label, role, path);
    else printf("  %-10s %-12s %s\n             %-12s sha256 %s, %s%s\n", label, role, path, "", hex, ui_bytes(a->size, size), kind);
}

static void show_table(const char *label, const char *json, struct arena *a) {
    struct value v;
    struct err ignored;
    if (!json || value_parse(json, strlen(json), a, &v, &ignored) || v.type != VALUE_TABLE) return;
    for (uint32_t i = 0; i < v.count; i++) {
        struct buf b = {0};
        value_write(&v.items[i], &b);
        printf("  %-10s %s = %s\n", i ? "" : label, v.keys[i], buf_str(&b));
        buf_free(&b);
    }
}

static void show_lineage(const struct graph *g, uint32_t step, int depth, bool *told) {
    const struct step *s = &g->steps[step];
    printf("  %*s%s (%s)%s\n", 2 * depth, "", s->name, s->plugin, told[step] && s->input_count ? " …" : "");
    if (told[step] || depth > 60) return;
    told[step] = true;
    for (uint32_t i = 0; i < s->input_count; i++) {
        uint32_t p = graph_producer(g, s->inputs[i].file);
        bool again = false;
        for (uint32_t k = 0; k < i; k++) again |= p != NO_ID && graph_producer(g, s->inputs[k].file) == p;
        if (again) continue;
        if (p != NO_ID) show_lineage(g, p, depth + 1, told);
        else printf("  %*s%s\n", 2 * depth + 2, "", g->files[s->inputs[i].file].path);
    }
}

static void show_step(struct session *s, uint32_t index) {
    const struct step *step = &s->graph.steps[index];
    const struct state_record *r = step->record;
    struct arena a = {0};
    char text[32], hex[DIGEST_HEX + 1];
    printf("%s, made by %s (%s)\n", step->name, step->plugin, step->where);
    if (!r) {
        printf("  not built yet\n");
    } else {
        digest_to_hex(&r->key, hex);
        printf("  built      %s, in %s\n", ui_ago(r->built_ms, text), ui_seconds(r->seconds, (char[24]){0}));
        if (r->peak_bytes) printf("  memory     %s at most\n", ui_bytes(r->peak_bytes, text));
        printf("  key        %s\n  plugin     %s %s\n", hex, r->plugin_name, r->plugin_version);
        for (uint32_t i = 0; i < r->output_count; i++) show_artifact("output", r->outputs[i].role, r->outputs[i].path, &r->outputs[i].artifact);
        for (uint32_t i = 0; i < r->input_count; i++)
            show_artifact(*r->inputs[i].role ? "input" : "found", r->inputs[i].role, r->inputs[i].path, &r->inputs[i].artifact);
        show_table("parameters", r->params, &a);
        show_table("metrics", r->metrics, &a);
    }
    bool *told = mem_alloc(s->graph.step_count + 1);
    printf("\nlineage\n");
    show_lineage(&s->graph, index, 0, told);
    free(told);
    arena_free(&a);
}

int command_show(const struct options *o, int argc, char **argv, struct err *e) {
    struct session s;
    struct options own;
    uint32_t step;
    if (argc < 2) return err_set(e, "show: which target? usage: mbuild show TARGET");
    int status = open_session(&s, &own, o, argc, argv, e);
    for (uint32_t i = 0; !status && i < own.target_count; i++) {
        status = command_step(&s, own.targets[i], &step, e);
        if (!status) show_step(&s, step);
    }
    session_close(&s);
    options_free(&own);
    return status;
}

/* -- log */

static void run_time(int64_t ms, char out[32]) {
    time_t t = (time_t)(ms / 1000);
    struct tm tm;
    if (!localtime_r(&t, &tm) || !strftime(out, 32, "%Y-%m-%d %H:%M:%S", &tm)) snprintf(out, 32, "?");
}

static void print_run(void *ctx, const struct state_run *r) {
    (void)ctx;
    char when[32], took[24];
    run_time(r->started_ms, when);
    printf("run %lld  %s  %s\n", (long long)r->id, when, r->command);
    if (r->status < 0) printf("        never ended: killed, or still at work\n");
    else
        printf("        %s in %s: %u built, %u restored, %u current, %u failed, %u skipped\n", r->status ? r->status == 130 ? "interrupted" : "failed" : "done",
               ui_seconds(r->seconds, took), r->built, r->restored, r->current, r->failed, r->skipped);
}

static void print_run_step(void *ctx, const struct state_run_step *r) {
    (void)ctx;
    char took[24];
    printf("run %lld  %-8s  %s%s%s\n", (long long)r->run_id, r->status, r->step, r->seconds > 0 ? ", " : "", r->seconds > 0 ? ui_seconds(r->seconds, took) : "");
    if (r->message && *r->message) printf("        %s\n", r->message);
    if (r->metrics && strlen(r->metrics) > 2) printf("        metrics %s\n", r->metrics);
    if (r->params && strlen(r->params) > 2) printf("        params %s\n", r->params);
    if (r->log && *r->log) printf("        log %s\n", r->log);
}

int command_log(const struct options *o, int argc, char **argv, struct err *e) {
    struct session s;
    struct options own;
    struct arena a = {0};
    uint32_t step;
    int status = open_session(&s, &own, o, argc, argv, e);
    if (!status && !own.target_count) status = state_each_run(s.state, 20, &a, print_run, NULL, e);
    for (uint32_t i = 0; !status && i < own.target_count; i++) {
        status = command_step(&s, own.targets[i], &step, e);
        if (!status) status = state_each_run_step(s.state, 0, s.graph.steps[step].name, 20, &a, print_run_step, NULL, e);
    }
    arena_free(&a);
    session_close(&s);
    options_free(&own);
    return status;
}
