/* reasons.c: why a step isn't current, by cause: its record against what is there now; see decide.h. */
#include "decide.h"
#include "files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct telling {
    uint32_t most, told;
    void (*each)(void *ctx, const char *reason, uint32_t cause);
    void *ctx;
};

static void tell(struct telling *t, uint32_t cause, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void tell(struct telling *t, uint32_t cause, const char *format, ...) {
    if (t->told++ >= t->most) return;
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    t->each(t->ctx, text, cause);
}

/* A value as a reason shows it. */
static void show(const struct value *v, char out[80]) {
    struct buf b = {0};
    if (v) value_write(v, &b);
    snprintf(out, 80, b.len < 70 ? "%s" : "%.66s…", v ? buf_str(&b) : "none");
    buf_free(&b);
}

/* Two tables of parameters, compared leaf by leaf. */
static void compare_params(struct telling *t, const char *what, const char *prefix, const struct value *then, const struct value *now) {
    uint32_t i = 0, k = 0;
    while (i < then->count || k < now->count) {
        int order = i == then->count ? 1 : k == now->count ? -1 : strcmp(then->keys[i], now->keys[k]);
        const char *key = order <= 0 ? then->keys[i] : now->keys[k];
        const struct value *a = order <= 0 ? &then->items[i] : NULL, *b = order >= 0 ? &now->items[k] : NULL;
        char name[512], before[80], after[80];
        snprintf(name, sizeof name, "%s%s%s", prefix, *prefix ? "." : "", key);
        if (a && b && a->type == VALUE_TABLE && b->type == VALUE_TABLE) {
            compare_params(t, what, name, a, b);
        } else if (!a || !b || !value_equal(a, b)) {
            show(a, before);
            show(b, after);
            tell(t, NO_ID, "%s %s: %s → %s", what, name, before, after);
        }
        i += order <= 0;
        k += order >= 0;
    }
}

static void compare_json(struct telling *t, const char *what, const char *then, const char *now, struct arena *a) {
    struct value x, y;
    struct err ignored;
    if (value_parse(then, strlen(then), a, &x, &ignored) || value_parse(now, strlen(now), a, &y, &ignored)) return;
    if (x.type == VALUE_TABLE && y.type == VALUE_TABLE) compare_params(t, what, "", &x, &y);
}

/* The n-th input of a role in the record, or NULL. */
static const struct state_input *recorded_input(const struct state_record *r, const char *role, uint32_t nth) {
    for (uint32_t i = 0; i < r->input_count; i++)
        if (!strcmp(r->inputs[i].role, role) && !nth--) return &r->inputs[i];
    return NULL;
}

/* An input that is another: by what differs, where the plugin can tell. */
static void tell_changed(struct session *s, struct telling *t, const struct step *step, uint32_t input, const struct artifact *then) {
    uint32_t file = step->inputs[input].file, producer = graph_producer(&s->graph, file);
    char *differs = t->told < t->most ? explain_input(s, step, input, then) : NULL;
    const char *path = s->graph.files[file].path;
    if (differs) tell(t, producer, "input %s: %s", path, differs);
    else tell(t, producer, "input %s changed", path);
    free(differs);
}

static void compare_inputs(struct session *s, struct telling *t, const struct step *step, const struct decision *d, const struct state_record *r) {
    const struct graph *g = &s->graph;
    uint32_t declared = 0;
    for (uint32_t i = 0; i < step->input_count; i++) {
        const struct role_type *role = step->binding->inputs[i];
        const struct file *f = &g->files[step->inputs[i].file];
        uint32_t nth = 0;
        for (uint32_t k = 0; k < i; k++) nth += step->binding->inputs[k] == role;
        const struct state_input *then = recorded_input(r, role->name, nth);
        if (f->secret) continue;
        if (!then) tell(t, NO_ID, "input %s is new", f->path);
        else if (d->verdict != VERDICT_OPEN && f->state == FILE_KNOWN && !artifact_same(&then->artifact, &f->artifact)) {
            if (strcmp(then->path, f->path)) tell(t, NO_ID, "input %s: %s → %s", role->name, then->path, f->path);
            else tell_changed(s, t, step, i, &then->artifact);
        } else if (role->flags & MB_NAMED && strcmp(then->path, f->path)) tell(t, NO_ID, "input %s is now called %s", then->path, f->path);
    }
    for (uint32_t i = 0; i < r->input_count; i++) declared += *r->inputs[i].role != 0;
    if (declared > step->input_count) tell(t, NO_ID, "%u inputs fewer than before", declared - step->input_count);
    for (uint32_t i = 0; i < r->input_count; i++) {
        if (*r->inputs[i].role) continue;
        uint32_t file = graph_file(&s->graph, r->inputs[i].path);
        struct err ignored;
        if (file_learn(&s->graph, file, &ignored)) continue;
        const struct artifact *now = &s->graph.files[file].artifact;
        if (artifact_same(now, &r->inputs[i].artifact)) continue;
        tell(t, NO_ID, now->type == ARTIFACT_NONE ? "%s, which it read when it ran, is gone" : "%s, which it read when it ran, changed", r->inputs[i].path);
    }
}

static void compare_outputs(struct session *s, struct telling *t, const struct step *step, const struct state_record *r) {
    for (uint32_t i = 0; i < step->output_count; i++) {
        if (step->outputs[i].shared) continue;
        struct err ignored;
        if (file_learn(&s->graph, step->outputs[i].file, &ignored)) continue;
        const struct file *f = &s->graph.files[step->outputs[i].file];
        const struct state_output *then = NULL;
        for (uint32_t k = 0; k < r->output_count; k++)
            if (!strcmp(r->outputs[k].path, f->path)) then = &r->outputs[k];
        if (f->standing.type == ARTIFACT_NONE) tell(t, NO_ID, "output %s is missing", f->path);
        else if (!then) tell(t, NO_ID, "output %s is new in the rule", f->path);
        else if (!artifact_same(&then->artifact, &f->standing)) tell(t, NO_ID, "output %s was altered", f->path);
    }
    for (uint32_t k = 0; k < r->output_count; k++) {
        const struct role_type *role = schema_find_role(step->binding->type, r->outputs[k].role);
        struct file_stat st;
        struct err ignored;
        if (role && role->flags & MB_ADDS && !sys_stat(r->outputs[k].path, true, &st, &ignored) && st.kind == FILE_ABSENT)
            tell(t, NO_ID, "output %s is missing", r->outputs[k].path);
    }
}

uint32_t decide_reasons(struct session *s, uint32_t index, const struct decision *d, uint32_t most,
                        void (*each)(void *ctx, const char *reason, uint32_t cause), void *ctx) {
    struct step *step = &s->graph.steps[index];
    const struct state_record *r = step->record;
    struct telling t = {.most = most, .each = each, .ctx = ctx};
    struct arena scratch = {0};
    if (s->options->always) tell(&t, NO_ID, "-B makes everything again");
    if (!r) tell(&t, NO_ID, "it was never built");
    if (r && step->binding) {
        const struct binding *b = step->binding;
        if (strcmp(r->plugin_name, step->plugin)) tell(&t, NO_ID, "plugin %s → %s", r->plugin_name, step->plugin);
        else if (!digest_same(&r->plugin, &b->plugin->digest)) {
            if (strcmp(r->plugin_version, b->plugin->type.version)) tell(&t, NO_ID, "plugin %s: version %s → %s", step->plugin, r->plugin_version, b->plugin->type.version);
            else tell(&t, step->plugin_file == NO_ID ? NO_ID : graph_producer(&s->graph, step->plugin_file), "plugin %s changed", step->plugin);
        }
        compare_json(&t, "parameter", r->params, b->keyed, &scratch);
        compare_inputs(s, &t, step, d, r);
        if (d->env) {
            struct buf now = {0};
            buf_adds(&now, "{\"\":");
            value_write_string(d->fingerprint ? d->fingerprint : "", &now);
            if (strlen(d->env) > 2) buf_addf(&now, ",%s", d->env + 1);
            else buf_addc(&now, '}');
            compare_json(&t, "environment", r->env, buf_str(&now), &scratch);
            buf_free(&now);
        }
        compare_outputs(s, &t, step, r);
    }
    for (uint32_t i = 0; d->verdict == VERDICT_OPEN && i < step->input_count; i++) {
        uint32_t p = graph_producer(&s->graph, step->inputs[i].file);
        if (p != NO_ID && s->graph.steps[p].planned_open)
            tell(&t, p, "input %s will be made anew", s->graph.files[step->inputs[i].file].path);
    }
    bool by_device = step->binding && step->binding->type->flags & MB_DEVICE_MATTERS; /* no record says where it was made */
    if (!t.told && d->verdict != VERDICT_CURRENT)
        tell(&t, NO_ID, by_device ? "the device that it is made on, or the number of GPUs, is another" : "what it depends on is not what it was");
    arena_free(&scratch);
    return t.told;
}
