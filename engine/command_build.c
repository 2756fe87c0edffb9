/* command_build.c: `mbuild [target …]`, with -n and -q. */
#include "build.h"
#include "command.h"
#include "snapshot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_reason(void *ctx, const char *reason, uint32_t cause) {
    (void)cause;
    struct buf *b = ctx;
    buf_addf(b, "%s%s", b->len ? "; " : "", reason);
}

/* -n and -q: the same decisions as a build, and nothing done. Where nothing can be written, a build ends here too: if all is current. */
static int plan_only(struct session *s, struct plan *p, struct err *e) {
    int status = build_plan(s, p, e);
    uint32_t stale = 0;
    for (uint32_t i = 0; i < p->count && !status; i++) {
        static const char *const words[] = {"", "restore", "run", "perhaps run"};
        const struct step *step = &s->graph.steps[p->order[i]];
        if (p->decisions[i].verdict == VERDICT_CURRENT) continue;
        stale++;
        if (s->options->question || !s->options->dry_run) continue;
        struct buf why = {0};
        decide_reasons(s, p->order[i], &p->decisions[i], 2, print_reason, &why);
        ui_message(s->ui, 1, "would %s %s (%s): %s", words[p->decisions[i].verdict], step->name, step->plugin, buf_str(&why));
        buf_free(&why);
    }
    free(p->decisions);
    if (status) return -1;
    if (stale && !s->options->question && !s->options->dry_run) {
        *e = s->unwritable_why;
        return err_wrap(e, "%u step%s to be made, but nothing can be written here", stale, stale == 1 ? " is" : "s are");
    }
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

/* Where a build's steps come from: the rules, or an earlier build's snapshot. */
struct want {
    struct snapshot *thawed;   /* NULL: the rules were evaluated */
    struct plan plan;
};

static int build(struct session *s, struct want *w, struct err *e) {
    struct ui_summary summary = {0};
    char text[256];
    const char *nothing = w->thawed ? snapshot_nothing(w->thawed) : nothing_text(s, text);
    if (state_begin_run(s->state, s->options->command_line, &s->run_id, e)) return -1;
    int status = build_run(s, &w->plan, &summary, e);
    summary.nothing = nothing;
    if (w->thawed) summary.current += snapshot_step_count(w->thawed) - w->plan.count; /* those that nothing could have changed */
    struct state_run run = {.id = s->run_id, .seconds = summary.seconds, .command = s->options->command_line, .status = summary.status,
                            .built = summary.built, .restored = summary.restored, .current = summary.current,
                            .failed = summary.failed, .skipped = summary.skipped};
    struct err later;
    if ((state_end_run(s->state, &run, &later) || state_commit(s->state, &later)) && !status) {
        *e = later;
        status = -1;
    }
    if (!status && !summary.status) snapshot_save(s, w->plan.order, w->plan.count, nothing, w->thawed);
    else snapshot_drop(s);
    ui_build_finished(s->ui, &summary);
    return status ? -1 : summary.status;
}

/* Nothing changed since the last build that asked the same. */
static int answer_current(struct session *s, const struct snapshot *snap) {
    struct ui_summary summary = {.current = snapshot_step_count(snap), .nothing = snapshot_nothing(snap)};
    if (s->options->question) return 0;
    if (s->options->dry_run) {
        ui_message(s->ui, 1, "nothing to do");
        return 0;
    }
    summary.seconds = (double)(sys_wall_ms() - s->started_ns / 1000000) / 1e3;
    ui_build_started(s->ui, s->options->command_line, summary.current, -1);
    ui_build_finished(s->ui, &summary);
    return 0;
}

static int evaluate(struct session *s, struct want *w, struct err *e) {
    return session_evaluate(s, e) || session_want(s, &w->plan.order, &w->plan.count, e) ? -1 : 0;
}

/* The steps to look at: those that what changed can reach, or all that the rules tell. */
static int find_steps(struct session *s, struct snapshot *snap, struct want *w, struct err *e) {
    uint32_t *steps = NULL, count = 0;
    int status = snap ? snapshot_thaw(snap, s, &steps, &count, e) : 1;
    if (!status) {
        w->thawed = snap;
        status = graph_want(&s->graph, steps, count, &w->plan.order, &w->plan.count, e);
    } else if (status > 0) {
        status = evaluate(s, w, e);
    }
    free(steps);
    return status;
}

int command_build(const struct options *o, bool *unknown, struct err *e) {
    struct session s;
    struct want w = {0};
    struct snapshot *snap = NULL;
    bool dry = o->dry_run || o->question;
    int status = session_begin(&s, o, dry, e);
    if (!status && !o->always) snap = snapshot_open(&s);
    enum snapshot_answer answer = snap ? snapshot_check(snap) : SNAPSHOT_USELESS;
    if (!status && answer == SNAPSHOT_CURRENT) {
        status = answer_current(&s, snap);
    } else if (!status) {
        dry = s.read_only;
        status = session_load(&s, e);
        if (!status) status = find_steps(&s, answer == SNAPSHOT_STALE && !dry ? snap : NULL, &w, e);
        if (!status) status = build_prepare(&s, w.plan.order, w.plan.count, e);
        if (!status) status = dry ? plan_only(&s, &w.plan, e) : build(&s, &w, e);
    }
    *unknown = s.graph.unknown_target;
    free(w.plan.order);
    session_close(&s);
    snapshot_close(snap);
    return status;
}
