/* command_query.c: `targets`, `status`, `why`, `graph`: looking at what would be built. */
#include "build.h"
#include "command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Opens a session that changes nothing, for the targets that follow a subcommand's name. */
struct query {
    struct options options;
    struct session session;
    struct plan plan;
};

static int query_open(struct query *q, const struct options *o, int argc, char **argv, bool plan, struct err *e) {
    int rest;
    bool done = false;
    memset(q, 0, sizeof *q);
    q->options.command_line = o->command_line;
    q->options.directory = o->directory;
    q->options.file = o->file;
    q->options.color = o->color;
    q->options.device = o->device;
    if (options_parse(&q->options, argc, argv, true, &rest, &done, e)) return -1;
    if (session_open(&q->session, &q->options, true, e) || session_want(&q->session, &q->plan.order, &q->plan.count, e)) return -1;
    if (!plan) return 0;
    return build_prepare(&q->session, q->plan.order, q->plan.count, e) || build_plan(&q->session, &q->plan, e) ? -1 : 0;
}

static void query_close(struct query *q) {
    free(q->plan.decisions);
    free(q->plan.order);
    if (q->session.options) session_close(&q->session);
    options_free(&q->options);
}

int command_step(struct session *s, const char *name, uint32_t *step, struct err *e) {
    uint32_t *steps = NULL, count = 0, cap = 0;
    int status = graph_resolve(&s->graph, name, &steps, &count, &cap, e);
    if (!status && count != 1) status = err_set(e, count ? "%s stands for %u steps: name one of them" : "%s is a source: no step makes it", name, count);
    if (!status) *step = steps[0];
    free(steps);
    return status;
}

/* -- targets */

int command_targets(const struct options *o, int argc, char **argv, struct err *e) {
    struct query q;
    int status = query_open(&q, o, argc, argv, false, e);
    const struct graph *g = &q.session.graph;
    if (!status && q.options.target_count) status = err_set(e, "targets takes no argument, found %s", q.options.targets[0]);
    if (!status) {
        uint32_t rows = 1, n = g->step_count + g->alias_count + 1;
        const char **cells = mem_alloc((size_t)n * 4 * sizeof *cells);
        struct arena a = {0};
        cells[0] = "TARGET";
        cells[1] = "PLUGIN";
        cells[2] = "OUTPUT";
        cells[3] = "RULE";
        for (uint32_t i = 0; i < g->step_count; i++) {
            const struct step *s = &g->steps[i];
            struct buf outputs = {0};
            for (uint32_t k = 0; k < s->output_count && k < 4; k++) buf_addf(&outputs, "%s%s", k ? " " : "", g->files[s->outputs[k].file].path);
            if (s->output_count > 4) buf_addf(&outputs, " … (%u)", s->output_count);
            const char **row = cells + 4 * (size_t)rows++;
            row[0] = g->default_target && !strcmp(g->default_target, s->name) ? arena_printf(&a, "%s (default)", s->name) : s->name;
            row[1] = s->plugin;
            row[2] = arena_strdup(&a, buf_str(&outputs));
            row[3] = s->where;
            buf_free(&outputs);
        }
        for (uint32_t i = 0; i < g->alias_count; i++) {
            const char **row = cells + 4 * (size_t)rows++;
            row[0] = g->default_target && !strcmp(g->default_target, g->aliases[i].name) ? arena_printf(&a, "%s (default)", g->aliases[i].name) : g->aliases[i].name;
            row[1] = "alias";
            row[3] = g->aliases[i].where;
        }
        ui_table(1, cells, rows, 4, true);
        free(cells);
        arena_free(&a);
    }
    query_close(&q);
    return status;
}

/* -- status */

struct line {
    struct buf text;
};

static void add_reason(void *ctx, const char *reason, uint32_t cause) {
    (void)cause;
    struct line *l = ctx;
    buf_addf(&l->text, "%s%s", l->text.len ? "; " : "", reason);
}

int command_status(const struct options *o, int argc, char **argv, struct err *e) {
    static const char *const words[] = {"current", "in the store", "stale", "waits"};
    struct query q;
    int status = query_open(&q, o, argc, argv, true, e);
    uint32_t stale = 0;
    if (!status) {
        struct arena a = {0};
        uint32_t rows = 0;
        const char **cells = mem_alloc(((size_t)q.plan.count + 1) * 3 * sizeof *cells);
        for (uint32_t i = 0; i < q.plan.count; i++) {
            struct line l = {{0}};
            if (q.plan.decisions[i].verdict == VERDICT_CURRENT) continue;
            decide_reasons(&q.session, q.plan.order[i], &q.plan.decisions[i], 3, add_reason, &l);
            const char **row = cells + 3 * (size_t)rows++;
            row[0] = q.session.graph.steps[q.plan.order[i]].name;
            row[1] = words[q.plan.decisions[i].verdict];
            row[2] = arena_strdup(&a, buf_str(&l.text));
            buf_free(&l.text);
            stale++;
        }
        ui_table(1, cells, rows, 3, false);
        if (stale) printf("%u of %u steps are not up to date\n", stale, q.plan.count);
        else printf("all %u steps are up to date\n", q.plan.count);
        free(cells);
        arena_free(&a);
    }
    query_close(&q);
    return status;
}

/* -- why */

struct explaining {
    struct query *query;
    int depth;
    bool *told; /* by step */
};

static uint32_t position(const struct query *q, uint32_t step) {
    for (uint32_t i = 0; i < q->plan.count; i++)
        if (q->plan.order[i] == step) return i;
    return NO_ID;
}

static void explain_step(struct explaining *x, uint32_t step);

static void explain_reason(void *ctx, const char *reason, uint32_t cause) {
    struct explaining *x = ctx;
    printf("%*s%s\n", 2 * x->depth, "", reason);
    if (cause == NO_ID || x->told[cause]) return;
    x->depth++;
    explain_step(x, cause);
    x->depth--;
}

static void explain_step(struct explaining *x, uint32_t step) {
    static const char *const words[] = {"is up to date", "is not in place, but the store has it", "is stale", "depends on what is stale"};
    struct query *q = x->query;
    uint32_t at = position(q, step);
    if (at == NO_ID || x->depth > 100) return;
    x->told[step] = true;
    const struct decision *d = &q->plan.decisions[at];
    printf("%*s%s %s%s\n", 2 * x->depth, "", q->session.graph.steps[step].name, words[d->verdict], d->verdict == VERDICT_CURRENT ? "" : ":");
    if (d->verdict == VERDICT_CURRENT) return;
    x->depth++;
    decide_reasons(&q->session, step, d, 50, explain_reason, x);
    x->depth--;
}

int command_why(const struct options *o, int argc, char **argv, struct err *e) {
    struct query q;
    uint32_t step;
    if (argc < 2) return err_set(e, "why: which target? usage: mbuild why TARGET");
    int status = query_open(&q, o, argc, argv, true, e);
    for (uint32_t i = 0; !status && i < q.options.target_count; i++) {
        status = command_step(&q.session, q.options.targets[i], &step, e);
        if (status) break;
        struct explaining x = {.query = &q, .told = mem_alloc(q.session.graph.step_count + 1)};
        explain_step(&x, step);
        free(x.told);
    }
    query_close(&q);
    return status;
}

/* -- graph */

static void dot_string(const char *s) {
    putchar('"');
    for (; *s; s++) {
        if (*s == '"' || *s == '\\') putchar('\\');
        if (*s == '\n') fputs("\\n", stdout);
        else putchar(*s);
    }
    putchar('"');
}

static void graph_dot(const struct query *q) {
    const struct graph *g = &q->session.graph;
    printf("digraph mbuild {\n  rankdir=LR;\n  node [shape=box];\n");
    for (uint32_t i = 0; i < q->plan.count; i++) {
        const struct step *s = &g->steps[q->plan.order[i]];
        printf("  ");
        dot_string(s->name);
        printf(";\n");
        for (uint32_t k = 0; k < s->input_count; k++) {
            const struct file *f = &g->files[s->inputs[k].file];
            uint32_t p = graph_producer(g, s->inputs[k].file);
            printf("  ");
            dot_string(p == NO_ID ? f->path : g->steps[p].name);
            printf(" -> ");
            dot_string(s->name);
            if (*s->inputs[k].role) {
                printf(" [label=");
                dot_string(s->inputs[k].role);
                printf("]");
            }
            printf(";\n");
        }
    }
    printf("}\n");
}

static void json_slots(const struct graph *g, const char *key, const struct slot *slots, uint32_t count, bool inputs, struct buf *b) {
    buf_addf(b, ",\"%s\":[", key);
    for (uint32_t k = 0; k < count; k++) {
        buf_adds(b, k ? ",{\"role\":" : "{\"role\":");
        value_write_string(slots[k].role, b);
        buf_adds(b, ",\"path\":");
        value_write_string(g->files[slots[k].file].path, b);
        uint32_t p = inputs ? graph_producer(g, slots[k].file) : NO_ID;
        if (p != NO_ID) {
            buf_adds(b, ",\"step\":");
            value_write_string(g->steps[p].name, b);
        }
        buf_addc(b, '}');
    }
    buf_addc(b, ']');
}

static void graph_json(const struct query *q) {
    const struct graph *g = &q->session.graph;
    struct buf b = {0};
    buf_adds(&b, "{\"version\":1,\"steps\":[");
    for (uint32_t i = 0; i < q->plan.count; i++) {
        const struct step *s = &g->steps[q->plan.order[i]];
        buf_adds(&b, i ? ",\n{\"name\":" : "\n{\"name\":");
        value_write_string(s->name, &b);
        buf_adds(&b, ",\"plugin\":");
        value_write_string(s->plugin, &b);
        buf_adds(&b, ",\"rule\":");
        value_write_string(s->where, &b);
        buf_adds(&b, ",\"params\":");
        value_write(&s->params, &b);
        json_slots(g, "inputs", s->inputs, s->input_count, true, &b);
        json_slots(g, "outputs", s->outputs, s->output_count, false, &b);
        buf_addc(&b, '}');
    }
    buf_adds(&b, "\n]}\n");
    fwrite(b.data, 1, b.len, stdout);
    buf_free(&b);
}

static void graph_text(const struct query *q) {
    const struct graph *g = &q->session.graph;
    for (uint32_t i = 0; i < q->plan.count; i++) {
        const struct step *s = &g->steps[q->plan.order[i]];
        printf("%s (%s)", s->name, s->plugin);
        for (uint32_t k = 0; k < s->input_count; k++) {
            uint32_t p = graph_producer(g, s->inputs[k].file), earlier = 0;
            while (earlier < k && (p == NO_ID || graph_producer(g, s->inputs[earlier].file) != p)) earlier++;
            if (earlier < k) continue; /* several outputs of one step */
            const char *from = p == NO_ID ? g->files[s->inputs[k].file].path : g->steps[p].name;
            printf("%s%s", k ? ", " : " ← ", from);
        }
        printf("\n");
    }
}

int command_graph(const struct options *o, int argc, char **argv, struct err *e) {
    struct query q;
    bool dot = false;
    int kept = 1;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--dot")) dot = true;
        else argv[kept++] = argv[i];
    }
    int status = query_open(&q, o, kept, argv, false, e);
    if (!status && dot) graph_dot(&q);
    else if (!status && q.options.json) graph_json(&q);
    else if (!status) graph_text(&q);
    query_close(&q);
    return status;
}
