/* build.c: the loop that brings targets up to date: decides, schedules, settles; see build.h.
 *
 * One thread runs it. Everything slow happens elsewhere: steps in processes, digests and copies in jobs. Each step goes through
 * the states of graph.h; each change of state has its function here.
 */
#include "build_private.h"
#include "files.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define GRACE_MS 5000          /* between asking a step to stop and killing it */
#define COMMIT_NS 2000000000   /* at the longest between two commits while steps finish */

/* -- the heap of steps that wait for resources */

static bool before(const struct build *b, uint32_t x, uint32_t y) {
    const struct step *a = &b->session->graph.steps[x], *c = &b->session->graph.steps[y];
    return a->remaining_s != c->remaining_s ? a->remaining_s > c->remaining_s : x < y;
}

static void queue_add(struct build *b, uint32_t step) {
    uint32_t i = b->queue_count++;
    b->queue[i] = step;
    for (; i && before(b, step, b->queue[(i - 1) / 2]); i = (i - 1) / 2) {
        b->queue[i] = b->queue[(i - 1) / 2];
        b->queue[(i - 1) / 2] = step;
    }
}

static void queue_remove(struct build *b, uint32_t i) {
    uint32_t moved = b->queue[--b->queue_count];
    if (i == b->queue_count) return;
    b->queue[i] = moved;
    for (; i && before(b, moved, b->queue[(i - 1) / 2]); i = (i - 1) / 2) {
        b->queue[i] = b->queue[(i - 1) / 2];
        b->queue[(i - 1) / 2] = moved;
    }
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= b->queue_count) return;
        if (child + 1 < b->queue_count && before(b, b->queue[child + 1], b->queue[child])) child++;
        if (!before(b, b->queue[child], b->queue[i])) return;
        uint32_t t = b->queue[i];
        b->queue[i] = b->queue[child];
        b->queue[child] = t;
        i = child;
    }
}

/* -- steps that are done */

void build_make_ready(struct build *b, uint32_t step) {
    step_set_state(&b->session->graph.steps[step], STEP_READY);
    b->ready[(b->ready_head + b->ready_count++) % b->ready_size] = step;
}

static void count_done(struct build *b, const struct step *s) {
    b->done++;
    switch (s->state) {
    case STEP_BUILT: b->summary.built++; break;
    case STEP_RESTORED: b->summary.restored++; break;
    case STEP_CURRENT: b->summary.current++; break;
    case STEP_FAILED: b->summary.failed++; break;
    default: b->summary.skipped++; break;
    }
    if (s->record && s->state != STEP_SKIPPED) b->estimate_s -= s->record->seconds;
}

/* Everything that waits for a failed step, directly or not, can't be made. */
void build_skip_consumers(struct build *b, uint32_t failed) {
    struct graph *g = &b->session->graph;
    uint32_t *stack = mem_alloc((g->step_count + 1) * sizeof *stack), depth = 0;
    stack[depth++] = failed;
    while (depth) {
        const struct step *s = &g->steps[stack[--depth]];
        for (uint32_t i = 0; i < s->consumer_count; i++) {
            struct step *c = &g->steps[s->consumers[i]];
            if (step_done(c)) continue;
            step_set_state(c, STEP_SKIPPED);
            count_done(b, c);
            char reason[512];
            snprintf(reason, sizeof reason, "needs %.400s, which failed", g->steps[failed].name);
            struct ui_finish f = {.step = c->name, .what = c->plugin, .status = UI_SKIPPED, .reason = reason, .estimate_s = -1};
            ui_step_finished(b->session->ui, &f);
            stack[depth++] = s->consumers[i];
        }
    }
    free(stack);
}

static enum ui_status ui_status_of(enum step_state state) {
    switch (state) {
    case STEP_BUILT: return UI_BUILT;
    case STEP_RESTORED: return UI_RESTORED;
    case STEP_CURRENT: return UI_CURRENT;
    case STEP_FAILED: return UI_FAILED;
    default: return UI_SKIPPED;
    }
}

static int log_run_step(struct build *b, const struct step *s, const struct ui_finish *f, struct err *e) {
    struct state_run_step row = {.run_id = b->session->run_id, .step = s->name, .status = ui_status_name(ui_status_of(s->state)),
                                 .seconds = f->seconds, .log = f->log, .message = f->message,
                                 .params = s->binding ? s->binding->keyed : NULL, .metrics = f->metrics};
    if (s->build) row.key = s->build->decision.key;
    return state_put_run_step(b->session->state, &row, e);
}

void build_finish_step(struct build *b, uint32_t index, enum step_state state, const struct ui_finish *finish) {
    struct step *s = &b->session->graph.steps[index];
    struct ui_finish f = *finish;
    struct err e;
    step_set_state(s, state);
    count_done(b, s);
    f.step = s->name;
    f.what = s->plugin;
    f.status = ui_status_of(state);
    f.estimate_s = b->estimate_s > 0 ? b->estimate_s / b->session->cpus : -1;
    ui_step_finished(b->session->ui, &f);
    if (state != STEP_CURRENT && log_run_step(b, s, &f, &e) && !b->failed) {
        *b->fatal = e;
        b->failed = b->stopping = true;
    }
    build_step_free(s->build);
    if (step_succeeded(s)) {
        for (uint32_t i = 0; i < s->consumer_count; i++) {
            struct step *c = &b->session->graph.steps[s->consumers[i]];
            if (c->state == STEP_WAITING && !--c->waiting) build_make_ready(b, s->consumers[i]);
        }
    } else if (state == STEP_FAILED) {
        build_skip_consumers(b, index);
        if (!b->session->options->keep_going) b->stopping = true;
    }
}

static void fail_step(struct build *b, uint32_t step, const char *message) {
    struct ui_finish f = {.message = message};
    build_finish_step(b, step, STEP_FAILED, &f);
}

/* -- deciding */

static void plan_outputs(struct build_step *bs, const struct state_record *r) {
    struct graph *g = &bs->build->session->graph;
    const struct step *step = &g->steps[bs->step];
    bs->outputs = mem_grow(bs->outputs, &bs->output_cap, r->output_count + 1, sizeof *bs->outputs);
    bs->output_count = 0;
    for (uint32_t i = 0; i < r->output_count; i++) {
        const struct state_output *o = &r->outputs[i];
        const struct role_type *role = schema_find_role(step->binding->type, o->role);
        struct placed *p = &bs->outputs[bs->output_count++];
        *p = (struct placed){.role = o->role, .path = o->path, .artifact = o->artifact, .added = role && role->flags & MB_ADDS};
        if (!p->added) { /* the rule may have given it another place since */
            uint32_t nth = 0;
            for (uint32_t k = 0; k < i; k++) nth += !strcmp(r->outputs[k].role, o->role);
            for (uint32_t k = 0; k < step->output_count; k++)
                if (step->binding->outputs[k] == role && !nth--) p->path = g->files[step->outputs[k].file].path;
        }
        p->file = graph_file(g, p->path);
        struct err ignored; /* what can't be read is replaced */
        p->stands = !file_learn(g, p->file, &ignored) && artifact_same(&g->files[p->file].artifact, &p->artifact);
    }
}

static void on_restored(void *ctx, void *arg);

static void decide(struct build *b, uint32_t index) {
    struct session *s = b->session;
    struct step *step = &s->graph.steps[index];
    struct decision d;
    struct err e;
    if (step->dynamic && !step->defined) {
        build_define(b, index);
        return;
    }
    const struct binding *before = step->binding; /* its plugin may have been made only now */
    if (bind_step(s, index, &e) || (s->graph.steps[index].binding != before && bind_check(s, index, &e)) || decide_step(s, index, &d, &e)) {
        fail_step(b, index, e.text);
        return;
    }
    step = &s->graph.steps[index];
    if (d.verdict == VERDICT_CURRENT) {
        build_finish_step(b, index, STEP_CURRENT, &(struct ui_finish){0});
        return;
    }
    struct build_step *bs = build_step_new(b, index);
    bs->decision = d;
    if (d.verdict == VERDICT_RESTORE) {
        plan_outputs(bs, d.from);
        step_set_state(step, STEP_SETTLING);
        b->settling++;
        jobs_submit(s->jobs, settle_restored, on_restored, bs);
        return;
    }
    step_set_state(step, STEP_QUEUED);
    queue_add(b, index);
}

/* -- running */

static bool resources_free(const struct build *b, const struct step *s) {
    int cpu = s->resources.cpu ? s->resources.cpu : b->session->cpus;
    if (cpu > b->cpu_free || s->resources.gpu > b->gpu_free || s->resources.mem > b->mem_free) return false;
    return s->resources.pool == NO_ID || b->session->graph.pools[s->resources.pool].used < b->session->graph.pools[s->resources.pool].size;
}

static void take_resources(struct build *b, struct build_step *bs, int sign) {
    const struct step *s = &b->session->graph.steps[bs->step];
    bs->cpu = s->resources.cpu ? s->resources.cpu : b->session->cpus;
    b->cpu_free -= sign * bs->cpu;
    b->cpu_used += sign * bs->cpu;
    b->gpu_free -= sign * s->resources.gpu;
    if (sign > 0) bs->gpus = gpus_hold(&b->session->gpu_list, s->resources.gpu);
    else gpus_release(&b->session->gpu_list, bs->gpus);
    if (sign > 0) b->mem_free -= s->resources.mem;
    else b->mem_free += s->resources.mem;
    if (s->resources.pool != NO_ID) b->session->graph.pools[s->resources.pool].used += sign;
}

/* A token for each processor beyond the first. With nothing running one's own must do, whatever the step asks for: who else would end? */
static bool token_free(struct build *b, const struct step *s) {
    int cpu = s->resources.cpu ? s->resources.cpu : b->session->cpus, wanted = b->cpu_used + cpu - 1;
    if (b->tokens < wanted) b->tokens = jobserver_hold(b->session->jobserver, wanted);
    if (b->tokens >= wanted || !b->running) return true;
    b->starved = true;
    return false;
}

static void return_tokens(struct build *b) {
    int wanted = b->cpu_used > 1 ? b->cpu_used - 1 : 0;
    if (b->tokens > wanted) b->tokens = jobserver_hold(b->session->jobserver, wanted);
    if (!b->running) jobserver_refill(b->session->jobserver);
}

struct reason {
    char text[512];
};

static void keep_reason(void *ctx, const char *reason, uint32_t cause) {
    (void)cause;
    snprintf(((struct reason *)ctx)->text, sizeof ((struct reason *)ctx)->text, "%s", reason);
}

static void start(struct build *b, uint32_t index) {
    struct session *s = b->session;
    struct step *step = &s->graph.steps[index];
    struct build_step *bs = step->build;
    struct reason why = {""};
    struct err e;
    if (s->options->explain) decide_reasons(s, index, &bs->decision, 1, keep_reason, &why);
    take_resources(b, bs, 1);
    step_set_state(step, STEP_RUNNING);
    b->running++;
    ui_step_started(s->ui, step->name, step->plugin, *why.text ? why.text : NULL, s->options->verbose ? step->binding->keyed : NULL);
    if (!build_step_start(bs, &e)) return;
    take_resources(b, bs, -1);
    b->running--;
    fail_step(b, index, e.text);
}

static void start_what_fits(struct build *b) {
    b->starved = false;
    for (uint32_t i = 0; i < b->queue_count && !b->stopping && b->cpu_free > 0;) {
        uint32_t step = b->queue[i];
        const struct step *s = &b->session->graph.steps[step];
        if (!resources_free(b, s) || !token_free(b, s)) {
            i++; /* a smaller one behind it may fit */
            continue;
        }
        queue_remove(b, i);
        start(b, step);
        i = 0;
    }
    return_tokens(b);
}

/* -- settling */

static void finish_failed(struct build_step *bs, const char *message, const char *tail) {
    struct build *b = bs->build;
    const struct step *step = &b->session->graph.steps[bs->step];
    struct buf again = {0};
    options_add_again(&again, b->session->options, step->name);
    struct ui_finish f = {.seconds = bs->seconds, .message = message, .tail = tail, .log = bs->logged ? bs->log : NULL,
                          .again = buf_str(&again), .peak_bytes = bs->peak_bytes, .warm = bs->warm};
    build_finish_step(b, bs->step, STEP_FAILED, &f);
    buf_free(&again);
}

static void on_restored(void *ctx, void *arg) {
    struct build *b = ctx;
    struct build_step *bs = arg;
    struct session *s = b->session;
    struct err e;
    b->settling--;
    if (bs->status && bs->corrupt) { /* make it again */
        ui_message(s->ui, MB_WARN, "the store's copy of what %s made is damaged, so it is made again: %s", s->graph.steps[bs->step].name, bs->error.text);
        if (state_drop_action(s->state, &bs->decision.key, &e)) finish_failed(bs, e.text, NULL);
        else {
            step_set_state(&s->graph.steps[bs->step], STEP_QUEUED);
            queue_add(b, bs->step);
        }
        return;
    }
    if (bs->status) {
        finish_failed(bs, bs->error.text, NULL);
        return;
    }
    if (build_step_record(bs, false, &e)) {
        finish_failed(bs, e.text, NULL);
        return;
    }
    struct ui_finish f = {.metrics = bs->decision.from->metrics};
    build_finish_step(b, bs->step, STEP_RESTORED, &f);
}

static void on_settled(void *ctx, void *arg) {
    struct build *b = ctx;
    struct build_step *bs = arg;
    struct err e;
    b->settling--;
    if (bs->status || build_step_record(bs, true, &e)) {
        finish_failed(bs, bs->status ? bs->error.text : e.text, NULL);
        return;
    }
    explain_keep(b->session, &b->session->graph.steps[bs->step]);
    struct ui_finish f = {.seconds = bs->seconds, .peak_bytes = bs->peak_bytes, .warm = bs->warm, .metrics = b->session->graph.steps[bs->step].record->metrics,
                          .log = bs->logged ? bs->log : NULL};
    build_finish_step(b, bs->step, STEP_BUILT, &f);
}

static void remove_folder(struct build_step *bs) {
    struct err ignored;
    if (bs->folder) sys_remove_tree(bs->folder, &ignored);
    if (bs->first_folder) sys_remove_tree(bs->first_folder, &ignored);
    bs->folder = bs->first_folder = NULL;
}

static void on_finished(struct build *b, struct build_step *bs, const struct worker_result *r) {
    struct step *step = &b->session->graph.steps[bs->step];
    struct err e;
    take_resources(b, bs, -1);
    b->running--;
    bs->run = NULL;
    bs->seconds = r->seconds;
    bs->peak_bytes = r->peak_bytes;
    bs->warm = r->warm;
    bs->logged = r->logged;
    if (r->outcome == WORKER_OK) {
        if (settle_inputs_unchanged(bs, &e) || build_step_check_found(bs, &e)) {
            remove_folder(bs);
            finish_failed(bs, e.text, NULL);
            return;
        }
        if (repro_run_again(bs)) {
            step_set_state(step, STEP_QUEUED);
            queue_add(b, bs->step);
            return;
        }
        step_set_state(step, STEP_SETTLING);
        b->settling++;
        jobs_submit(b->session->jobs, settle_built, on_settled, bs);
        return;
    }
    remove_folder(bs);
    if (b->interrupted) {
        struct ui_finish f = {.seconds = bs->seconds, .reason = "interrupted"};
        build_finish_step(b, bs->step, STEP_SKIPPED, &f);
    } else if (bs->attempt < step->retries && !b->stopping) {
        bs->attempt++;
        ui_message(b->session->ui, MB_WARN, "%s failed, attempt %u of %u: %s", step->name, bs->attempt, step->retries + 1, r->message);
        step_set_state(step, STEP_QUEUED);
        queue_add(b, bs->step);
    } else {
        finish_failed(bs, r->message, r->tail);
    }
}

static void on_worker_event(void *ctx, const struct worker_event *ev) {
    struct build *b = ctx;
    struct build_step *bs = ev->tag;
    if (ev->type == WORKER_FINISHED) on_finished(b, bs, &ev->result);
    else build_step_event(bs, ev);
}

/* -- interruption */

static void stop_all(struct build *b, uint32_t grace_ms) {
    for (uint32_t i = 0; i < b->count; i++) {
        struct step *s = &b->session->graph.steps[b->order[i]];
        if (s->state == STEP_RUNNING && s->build->run) worker_cancel(s->build->run, grace_ms);
    }
}

static void on_signal(struct build *b, int fd) {
    struct signalfd_siginfo info;
    if (read(fd, &info, sizeof info) != sizeof info) return;
    stop_all(b, b->interrupted ? 0 : GRACE_MS); /* the second time at once */
    b->interrupted = b->stopping = true;
}

static int open_signals(sigset_t *old) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, old);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* -- the loop */

/* What stays when nothing more will start: steps that were never decided. */
static void skip_rest(struct build *b) {
    for (uint32_t i = 0; i < b->count; i++) {
        uint32_t index = b->order[i];
        struct step *s = &b->session->graph.steps[index];
        if (step_done(s)) continue;
        struct ui_finish f = {.reason = b->interrupted ? "interrupted" : "the build stopped"};
        build_finish_step(b, index, STEP_SKIPPED, &f);
    }
}

static int commit(struct build *b, struct err *e) {
    struct session *s = b->session;
    b->committed_ns = sys_now_ns();
    if (store_sync(s->store, e)) {
        state_abandon(s->state); /* it may speak of objects that are lost; a second attempt to sync would say that all is well */
        return -1;
    }
    return state_commit(s->state, e);
}

static int wait_for_events(struct build *b, int signal_fd, struct err *e) {
    struct session *s = b->session;
    struct pollfd fds[] = {{.fd = workers_fd(s->workers), .events = POLLIN}, {.fd = jobs_fd(s->jobs), .events = POLLIN},
                           {.fd = signal_fd, .events = POLLIN},
                           {.fd = b->starved ? jobserver_fd(s->jobserver) : -1, .events = POLLIN}};
    int timeout = workers_wait_ms(s->workers);
    if (ui_live(s->ui) && (timeout < 0 || timeout > 100)) timeout = 100;
    if (poll(fds, 4, timeout) < 0 && errno != EINTR) return err_errno(e, "poll");
    if (workers_poll(s->workers, on_worker_event, b, e)) return -1;
    if (fds[1].revents) jobs_drain(s->jobs, b);
    if (fds[2].revents) on_signal(b, signal_fd);
    return 0;
}

static int loop(struct build *b, int signal_fd, struct err *e) {
    for (;;) {
        while (b->ready_count && !b->stopping) {
            uint32_t step = b->ready[b->ready_head];
            b->ready_head = (b->ready_head + 1) % b->ready_size;
            b->ready_count--;
            decide(b, step);
        }
        start_what_fits(b);
        ui_tick(b->session->ui);
        if (!b->running && !b->settling && (b->stopping || (!b->ready_count && !b->queue_count))) return 0;
        if (b->ready_count && !b->stopping) continue;
        if (wait_for_events(b, signal_fd, e)) return -1;
        if (sys_now_ns() - b->committed_ns > COMMIT_NS && commit(b, e)) return -1;
    }
}

/* The longest way from each step to the end of the build, by how long steps took when they last ran. */
static void measure_paths(struct build *b) {
    struct graph *g = &b->session->graph;
    bool kept = state_keeps_durations(b->session->state); /* of steps that were cleaned away; few repos have any */
    for (uint32_t i = b->count; i--;) {
        struct step *s = &g->steps[b->order[i]];
        double longest = 0, own = s->record ? s->record->seconds : kept ? state_get_duration(b->session->state, s->name) : 0;
        for (uint32_t k = 0; k < s->consumer_count; k++)
            if (g->steps[s->consumers[k]].remaining_s > longest) longest = g->steps[s->consumers[k]].remaining_s;
        s->remaining_s = longest + own;
        b->estimate_s += own;
    }
}

int build_run(struct session *s, struct plan *p, struct ui_summary *summary, struct err *e) {
    uint32_t count = p->count;
    struct build b = {.session = s, .order = p->order, .count = count, .order_cap = count, .ready_size = count, .cpu_free = s->cpus, .gpu_free = s->gpus, .mem_free = s->memory, .fatal = e};
    sigset_t old;
    int64_t started = sys_now_ns();
    b.committed_ns = started;
    b.ready = mem_alloc((count + 1) * sizeof *b.ready);
    b.queue = mem_alloc((count + 1) * sizeof *b.queue);
    measure_paths(&b);
    int signal_fd = open_signals(&old);
    ui_build_started(s->ui, s->options->command_line, count, b.estimate_s > 0 ? b.estimate_s / s->cpus : -1);
    for (uint32_t i = 0; i < count; i++)
        if (!s->graph.steps[b.order[i]].waiting) build_make_ready(&b, b.order[i]);
    int status = signal_fd < 0 ? err_errno(e, "signalfd") : count ? loop(&b, signal_fd, e) : 0;
    if (status) { /* what still runs must not outlive us */
        stop_all(&b, 0);
        b.stopping = true;
    }
    if (b.failed) status = -1;
    jobs_wait_all(s->jobs, &b);
    workers_cool(s->workers);
    if (!status) skip_rest(&b);
    for (uint32_t i = 0; i < b.count; i++) build_step_free(s->graph.steps[b.order[i]].build);
    struct err later;
    if (files_save(&s->graph, s->state, &later) && !status) {
        *e = later;
        status = -1;
    }
    b.summary.interrupted = b.interrupted;
    b.summary.seconds = (double)(sys_now_ns() - started) / 1e9;
    b.summary.status = b.interrupted ? 130 : b.summary.failed || status ? 2 : 0;
    *summary = b.summary;
    if (commit(&b, &later) && !status) { /* also of a build that failed: whoever closes the database commits what is left */
        *e = later;
        summary->status = 2;
        status = -1;
    }
    if (signal_fd >= 0) close(signal_fd);
    sigprocmask(SIG_SETMASK, &old, NULL);
    p->order = b.order;
    p->count = b.count;
    free(b.ready);
    free(b.queue);
    return status;
}
