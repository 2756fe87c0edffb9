/* graph_want.c: from what the user typed to the steps that it takes, in order; and the states that they go through. */
#include "graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* -- targets */

static void add_step(uint32_t step, uint32_t **out, uint32_t *count, uint32_t *cap) {
    *out = mem_grow(*out, cap, *count + 1, sizeof **out);
    (*out)[(*count)++] = step;
}

static int unknown_target(struct graph *g, const char *target, struct err *e) {
    g->unknown_target = true;
    const char *near = mem_nearest(target, g->names.strings, g->names.count);
    if (near) return err_set(e, "there is no target \"%s\"; did you mean \"%s\"?", target, near);
    return err_set(e, "there is no target \"%s\"; `mbuild targets` lists what can be built", target);
}

static int resolve(struct graph *g, const char *target, int depth, uint32_t **out, uint32_t *count, uint32_t *cap, struct err *e) {
    uint32_t name = intern_find(&g->names, target);
    if (name != NO_ID && !(g->name_index[name] & NAME_ALIAS)) {
        add_step(g->name_index[name], out, count, cap);
        return 0;
    }
    if (name != NO_ID) {
        const struct alias *a = &g->aliases[g->name_index[name] & ~NAME_ALIAS];
        if (depth > 100) return err_set(e, "%s: the alias \"%s\" leads back to itself", a->where, a->name);
        for (uint32_t i = 0; i < a->count; i++) {
            struct err inner;
            if (resolve(g, a->names[i], depth + 1, out, count, cap, &inner)) {
                if (!strncmp(inner.text, a->where, strlen(a->where)) || depth) return err_set(e, "%s", inner.text);
                return err_set(e, "%s: alias \"%s\": %s", a->where, a->name, inner.text);
            }
        }
        return 0;
    }
    const char *path;
    struct err ignored;
    if (graph_normalize(g, target, &path, &ignored)) return unknown_target(g, target, e);
    uint32_t file = graph_find_file(g, path);
    if (file == NO_ID) {
        struct file_stat st;
        if (sys_stat(path, false, &st, e)) return -1;
        if (st.kind == FILE_ABSENT) return unknown_target(g, target, e);
        return 0; /* a plain file that no rule names: there it is */
    }
    uint32_t producer = graph_producer(g, file);
    if (producer != NO_ID) add_step(producer, out, count, cap);
    return 0;
}

int graph_resolve(struct graph *g, const char *target, uint32_t **out, uint32_t *count, uint32_t *cap, struct err *e) {
    return resolve(g, target, 0, out, count, cap, e);
}

/* -- what it takes */

enum mark { MARK_NEW, MARK_OPEN, MARK_CLOSED };

struct frame {
    uint32_t step, next; /* the next dependency to look at */
};

struct walk {
    struct graph *g;
    unsigned char *marks;
    struct frame *stack;
    uint32_t depth, cap;
    uint32_t *order, order_count;
};

bool graph_dependency(const struct graph *g, uint32_t step, uint32_t i, uint32_t *out) {
    const struct step *s = &g->steps[step];
    if (i < s->input_count) {
        *out = graph_producer(g, s->inputs[i].file);
        return true;
    }
    i -= s->input_count;
    if (i < s->need_count) {
        *out = s->needs[i];
        return true;
    }
    if (i > s->need_count || s->plugin_file == NO_ID) return false;
    *out = graph_producer(g, s->plugin_file);
    return true;
}

static int cycle_error(const struct walk *w, uint32_t again, struct err *e) {
    struct buf path = {0};
    uint32_t start = 0;
    while (w->stack[start].step != again) start++;
    uint32_t length = w->depth - start, shown = 0;
    for (uint32_t i = start; i < w->depth; i++) {
        if (length > 20 && i > start + 9 && i < w->depth - 9) { /* a long cycle: its ends tell enough */
            if (!shown++) buf_addf(&path, "… (%u more) → ", length - 19);
            continue;
        }
        buf_addf(&path, "%s → ", w->g->steps[w->stack[i].step].name);
    }
    err_set(e, "%s: a cycle: %s%s", w->g->steps[again].where, buf_str(&path), w->g->steps[again].name);
    buf_free(&path);
    return -1;
}

static void push(struct walk *w, uint32_t step) {
    w->marks[step] = MARK_OPEN;
    w->stack = mem_grow(w->stack, &w->cap, w->depth + 1, sizeof *w->stack);
    w->stack[w->depth++] = (struct frame){.step = step};
}

static int visit(struct walk *w, uint32_t root, struct err *e) {
    if (w->marks[root] != MARK_NEW) return 0;
    push(w, root);
    while (w->depth) {
        struct frame *f = &w->stack[w->depth - 1];
        uint32_t need;
        if (!graph_dependency(w->g, f->step, f->next++, &need)) {
            w->marks[f->step] = MARK_CLOSED;
            w->order[w->order_count++] = f->step;
            w->depth--;
        } else if (need != NO_ID && w->marks[need] == MARK_OPEN) {
            return cycle_error(w, need, e);
        } else if (need != NO_ID && w->marks[need] == MARK_NEW) {
            push(w, need);
        }
    }
    return 0;
}

/* Fills consumers and waiting counts; a producer that is needed by several slots counts once. */
static void connect(struct graph *g, const uint32_t *order, uint32_t count) {
    uint32_t *last = mem_alloc(g->step_count * sizeof *last); /* the consumer that was last added to a producer, +1 */
    for (int pass = 0; pass < 2; pass++) {                     /* count, then fill */
        for (uint32_t k = 0; k < count; k++) {
            struct step *s = &g->steps[order[k]];
            uint32_t need;
            for (uint32_t i = 0; graph_dependency(g, order[k], i, &need); i++) {
                if (need == NO_ID || last[need] == order[k] + 1) continue;
                last[need] = order[k] + 1;
                struct step *p = &g->steps[need];
                if (pass) {
                    p->consumers[p->consumer_count] = order[k];
                    s->waiting++;
                }
                p->consumer_count++;
            }
        }
        if (pass) break;
        for (uint32_t k = 0; k < count; k++) {
            struct step *s = &g->steps[order[k]];
            s->consumers = mem_realloc(s->consumers, s->consumer_count * sizeof *s->consumers);
            s->consumer_count = 0;
        }
        memset(last, 0, g->step_count * sizeof *last);
    }
    free(last);
}

int graph_want(struct graph *g, const uint32_t *steps, uint32_t count, uint32_t **order, uint32_t *order_count, struct err *e) {
    struct walk w = {.g = g};
    w.marks = mem_alloc(g->step_count);
    w.order = mem_alloc(g->step_count * sizeof *w.order);
    int status = 0;
    for (uint32_t i = 0; i < count && !status; i++) status = visit(&w, steps[i], e);
    free(w.marks);
    free(w.stack);
    if (status) {
        free(w.order);
        return -1;
    }
    connect(g, w.order, w.order_count);
    for (uint32_t i = 0; i < w.order_count; i++) step_set_state(&g->steps[w.order[i]], STEP_WAITING);
    *order = w.order;
    *order_count = w.order_count;
    return 0;
}

/* -- what a dynamic rule asks for in the midst of a build */

void graph_add_need(struct graph *g, uint32_t step, uint32_t need) {
    struct step *s = &g->steps[step];
    for (uint32_t i = 0; i < s->need_count; i++)
        if (s->needs[i] == need) return;
    s->needs = mem_grow(s->needs, &s->need_cap, s->need_count + 1, sizeof *s->needs);
    s->needs[s->need_count++] = need;
    g->steps[need].needed = true;
}

static bool waits_for(const struct graph *g, uint32_t consumer, uint32_t producer) {
    const struct step *p = &g->steps[producer];
    for (uint32_t i = p->consumer_count; i--;) /* added last, as a rule */
        if (p->consumers[i] == consumer) return true;
    return false;
}

/* Makes `step` wait for those of its dependencies that aren't done. */
static void wait_for_open(struct graph *g, uint32_t step) {
    uint32_t need;
    g->steps[step].waiting = 0;
    for (uint32_t i = 0; graph_dependency(g, step, i, &need); i++) {
        if (need == NO_ID || step_succeeded(&g->steps[need])) continue;
        struct step *p = &g->steps[need];
        if (waits_for(g, step, need)) continue;
        p->consumers = mem_realloc(p->consumers, (p->consumer_count + 1) * sizeof *p->consumers);
        p->consumers[p->consumer_count++] = step;
        g->steps[step].waiting++;
    }
}

int graph_want_more(struct graph *g, uint32_t step, uint32_t **order, uint32_t *count, uint32_t *cap, struct err *e) {
    struct walk w = {.g = g};
    w.marks = mem_alloc(g->step_count);
    w.order = mem_alloc(g->step_count * sizeof *w.order);
    for (uint32_t i = 0; i < g->step_count; i++)
        if (step_done(&g->steps[i])) w.marks[i] = MARK_CLOSED;
    int status = visit(&w, step, e);
    for (uint32_t i = 0; i < w.order_count && !status; i++) {
        struct step *s = &g->steps[w.order[i]];
        if (s->state != STEP_UNWANTED) continue;
        step_set_state(s, STEP_WAITING);
        wait_for_open(g, w.order[i]);
        *order = mem_grow(*order, cap, *count + 1, sizeof **order);
        (*order)[(*count)++] = w.order[i];
    }
    if (!status) wait_for_open(g, step);
    free(w.marks);
    free(w.stack);
    free(w.order);
    return status;
}

/* -- states */

static const uint16_t allowed[] = {
#define TO(state) (uint16_t)(1u << (state))
    [STEP_UNWANTED] = TO(STEP_WAITING),
    [STEP_WAITING] = TO(STEP_READY) | TO(STEP_SKIPPED),
    [STEP_READY] = TO(STEP_WAITING) | TO(STEP_QUEUED) | TO(STEP_SETTLING) | TO(STEP_CURRENT) | TO(STEP_RESTORED) | TO(STEP_FAILED) | TO(STEP_SKIPPED),
    [STEP_QUEUED] = TO(STEP_RUNNING) | TO(STEP_FAILED) | TO(STEP_SKIPPED),
    [STEP_RUNNING] = TO(STEP_SETTLING) | TO(STEP_QUEUED) | TO(STEP_BUILT) | TO(STEP_FAILED) | TO(STEP_SKIPPED),
    [STEP_SETTLING] = TO(STEP_BUILT) | TO(STEP_RESTORED) | TO(STEP_QUEUED) | TO(STEP_FAILED) | TO(STEP_SKIPPED),
    [STEP_BUILT] = 0, [STEP_RESTORED] = 0, [STEP_CURRENT] = 0, [STEP_FAILED] = 0, [STEP_SKIPPED] = 0,
#undef TO
};

void step_set_state(struct step *s, enum step_state state) {
    if (!(allowed[s->state] >> state & 1)) {
        fprintf(stderr, "mbuild: bug: step %s can't go from state %d to %d\n", s->name, s->state, state);
        abort();
    }
    s->state = state;
}

bool step_done(const struct step *s) {
    return s->state >= STEP_BUILT;
}

bool step_succeeded(const struct step *s) {
    return s->state == STEP_BUILT || s->state == STEP_RESTORED || s->state == STEP_CURRENT;
}
