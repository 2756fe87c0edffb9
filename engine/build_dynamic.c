/* build_dynamic.c: dynamic rules in the midst of a build: a function asks for artifacts, the build grows by what it takes to make
 * them, and the function goes on when they are made. Plans think the same through without making anything (plan.c).
 */
#include "build_private.h"

#include <stdlib.h>
#include <string.h>

int dynamic_define(struct session *s, uint32_t step, enum rules_answer *answer, struct err *e) {
    struct graph *g = &s->graph;
    const uint32_t *needs;
    uint32_t count, before = g->step_count;
    if (rules_define(s->rules, step, answer, &needs, &count, e) || bind_plugin_names(s, e)) return -1;
    for (uint32_t i = before; i < g->step_count; i++) /* steps that the function declared */
        if (state_get_record(s->state, g->steps[i].name, &g->arena, &g->steps[i].record, e)) return -1;
    return graph_check(g, e);
}

/* Room for all steps of the order in the ring and the heap. */
static void enlarge(struct build *b) {
    uint32_t *ready = mem_alloc((b->count + 1) * sizeof *ready);
    for (uint32_t i = 0; i < b->ready_count; i++) ready[i] = b->ready[(b->ready_head + i) % b->ready_size];
    free(b->ready);
    b->ready = ready;
    b->ready_head = 0;
    b->ready_size = b->count;
    b->queue = mem_realloc(b->queue, (b->count + 1) * sizeof *b->queue);
}

/* A step that waits for one that has failed already. */
static bool skip_hopeless(struct build *b, uint32_t step) {
    uint32_t need;
    for (uint32_t i = 0; graph_dependency(&b->session->graph, step, i, &need); i++) {
        if (need == NO_ID || !step_done(&b->session->graph.steps[need]) || step_succeeded(&b->session->graph.steps[need])) continue;
        build_skip_consumers(b, need);
        return true;
    }
    return false;
}

static int grow(struct build *b, uint32_t step, struct err *e) {
    struct graph *g = &b->session->graph;
    uint32_t before = b->count;
    if (graph_want_more(g, step, &b->order, &b->count, &b->order_cap, e)) return -1;
    if (b->count > before) enlarge(b);
    if (build_prepare_more(b->session, b->order + before, b->count - before, e)) return -1;
    /* What the function made of the step itself is checked like any rule, and its sources are looked at. */
    if (g->steps[step].defined && build_prepare_more(b->session, &step, 1, e)) return -1;
    ui_steps_added(b->session->ui, b->count - before);
    for (uint32_t i = before; i < b->count; i++) {
        struct step *s = &g->steps[b->order[i]];
        s->remaining_s = s->record ? s->record->seconds : 0;
        b->estimate_s += s->remaining_s;
        if (!step_done(s) && !skip_hopeless(b, b->order[i]) && !s->waiting) build_make_ready(b, b->order[i]);
    }
    if (!step_done(&g->steps[step]) && !skip_hopeless(b, step) && !g->steps[step].waiting) build_make_ready(b, step);
    return 0;
}

void build_define(struct build *b, uint32_t step) {
    struct graph *g = &b->session->graph;
    enum rules_answer answer;
    struct err e;
    int status = dynamic_define(b->session, step, &answer, &e);
    if (!status) {
        step_set_state(&g->steps[step], STEP_WAITING);
        status = grow(b, step, &e);
        if (status && g->steps[step].state == STEP_WAITING) step_set_state(&g->steps[step], STEP_READY);
    }
    if (!status) return;
    struct ui_finish f = {.message = e.text};
    build_finish_step(b, step, STEP_FAILED, &f);
}
