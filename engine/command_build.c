/* command_build.c: `mbuild [target …]`, with -n and -q. */
#include "build.h"
#include "command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_reason(void *ctx, const char *reason, uint32_t cause) {
    (void)cause;
    struct buf *b = ctx;
    buf_addf(b, "%s%s", b->len ? "; " : "", reason);
}

/* -n and -q: the same decisions as a build, and nothing done. */
static int plan_only(struct session *s, const uint32_t *order, uint32_t count, struct err *e) {
    struct decision *decisions = mem_alloc((count + 1) * sizeof *decisions);
    int status = build_plan(s, order, count, decisions, e);
    uint32_t stale = 0;
    for (uint32_t i = 0; i < count && !status; i++) {
        static const char *const words[] = {"", "restore", "run", "perhaps run"};
        const struct step *step = &s->graph.steps[order[i]];
        if (decisions[i].verdict == VERDICT_CURRENT) continue;
        stale++;
        if (s->options->question) continue;
        struct buf why = {0};
        decide_reasons(s, order[i], &decisions[i], 2, print_reason, &why);
        ui_message(s->ui, 1, "would %s %s (%s): %s", words[decisions[i].verdict], step->name, step->plugin, buf_str(&why));
        buf_free(&why);
    }
    free(decisions);
    if (status) return -1;
    if (!stale && !s->options->question) ui_message(s->ui, 1, "nothing to do");
    return s->options->question && stale ? 1 : 0;
}

static const char *nothing_text(struct session *s, char out[256]) {
    const struct options *o = s->options;
    const char *name = o->target_count == 1 ? o->targets[0] : !o->target_count ? s->graph.default_target : NULL;
    if (name) snprintf(out, 256, "%.200s is up to date: nothing to do", name);
    else snprintf(out, 256, "everything is up to date: nothing to do");
    return out;
}

static int build(struct session *s, const uint32_t *order, uint32_t count, struct err *e) {
    struct ui_summary summary = {0};
    char nothing[256];
    if (state_begin_run(s->state, s->options->command_line, &s->run_id, e)) return -1;
    int status = build_run(s, order, count, &summary, e);
    summary.nothing = nothing_text(s, nothing);
    struct state_run run = {.id = s->run_id, .seconds = summary.seconds, .command = s->options->command_line, .status = summary.status,
                            .built = summary.built, .restored = summary.restored, .current = summary.current,
                            .failed = summary.failed, .skipped = summary.skipped};
    struct err later;
    if ((state_end_run(s->state, &run, &later) || state_commit(s->state, &later)) && !status) {
        *e = later;
        status = -1;
    }
    ui_build_finished(s->ui, &summary);
    return status ? -1 : summary.status;
}

int command_build(const struct options *o, bool *unknown, struct err *e) {
    struct session s;
    uint32_t *order = NULL, count = 0;
    bool dry = o->dry_run || o->question;
    int status = session_open(&s, o, dry, e);
    if (!status) status = session_want(&s, &order, &count, e);
    if (!status) status = build_prepare(&s, order, count, e);
    if (!status) status = dry ? plan_only(&s, order, count, e) : build(&s, order, count, e);
    *unknown = s.graph.unknown_target;
    free(order);
    session_close(&s);
    return status;
}
