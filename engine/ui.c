/* ui.c: what is known of the build, and the way of each event to the faces; see ui.h and ui_private.h. */
#include "ui_private.h"
#include "sys.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define NAMED_FAILURES 8

#define EACH(u, event, ...)                                                                    \
    for (size_t each = 0; each < sizeof (u)->faces / sizeof *(u)->faces; each++)               \
        if ((u)->faces[each] && (u)->faces[each]->event) (u)->faces[each]->event(__VA_ARGS__)

int ui_open(const struct ui_options *o, struct ui **out, struct err *e) {
    struct ui *u = mem_alloc(sizeof *u);
    *out = u;
    u->options = *o;
    u->opened_ns = u->started_ns = sys_now_ns();
    u->estimate_s = -1;
    u->out.fd = o->out_fd;
    u->err.fd = o->err_fd;
    u->color_out = ui_colored(o->out_fd, o->color);
    u->color_err = ui_colored(o->err_fd, o->color);
    u->faces[0] = o->json ? &ui_json : ui_can_draw(o) ? &ui_live_area : &ui_plain;
    signal(SIGPIPE, SIG_IGN); /* a reader that has gone is an error of write */
    return o->trace ? ui_trace_open(u, o->trace, e) : 0;
}

/* -- steps that run */

static uint32_t hash_name(const char *s) { /* FNV-1a */
    uint32_t h = 2166136261u;
    for (; *s; s++) h = (h ^ (unsigned char)*s) * 16777619u;
    return h;
}

static uint32_t find_running(const struct ui *u, const char *name) {
    uint32_t hash = hash_name(name);
    for (uint32_t i = 0; i < u->running_count; i++)
        if (u->running[i]->hash == hash && !strcmp(u->running[i]->name, name)) return i;
    return NO_ID;
}

static void step_free(struct ui_step *s) {
    if (!s) return;
    for (uint32_t i = 0; i < s->metric_count; i++) free(s->metrics[i].name);
    free(s->metrics);
    free(s->text);
    free(s->name);
    free(s->what);
    free(s);
}

static struct ui_step *take_running(struct ui *u, const char *name) {
    uint32_t i = find_running(u, name);
    if (i == NO_ID) return NULL;
    struct ui_step *s = u->running[i];
    memmove(u->running + i, u->running + i + 1, (--u->running_count - i) * sizeof *u->running);
    return s;
}

double ui_step_left(const struct ui_step *s, int64_t now) {
    double spent = (double)(now - s->first_ns) / 1e9, gained = s->done - s->first;
    if (s->total <= 0 || gained <= 0 || spent < 2 || gained / s->total < 0.01) return -1;
    return spent * (s->total - s->done) / gained;
}

void ui_close(struct ui *u) {
    if (!u) return;
    EACH(u, close, u);
    ui_out_flush(&u->out);
    ui_out_flush(&u->err);
    for (uint32_t i = 0; i < u->running_count; i++) step_free(u->running[i]);
    for (uint32_t i = 0; i < u->failure_count; i++) free(u->failures[i]);
    free(u->running);
    free(u->failures);
    buf_free(&u->out.pending);
    buf_free(&u->err.pending);
    free(u);
}

/* -- events */

static void set_estimate(struct ui *u, double estimate_s) {
    u->estimate_s = isfinite(estimate_s) ? estimate_s : -1;
    u->estimate_ns = sys_now_ns();
}

void ui_build_started(struct ui *u, const char *command, uint32_t steps, double estimate_s) {
    u->steps = steps;
    u->building = true;
    u->started_ns = sys_now_ns();
    set_estimate(u, estimate_s);
    EACH(u, build_started, u, command, steps, u->estimate_s);
}

void ui_steps_added(struct ui *u, uint32_t steps) {
    u->steps += steps;
}

void ui_step_started(struct ui *u, const char *step, const char *what, const char *why, const char *params) {
    struct ui_step *earlier = take_running(u, step), *s = mem_alloc(sizeof *s);
    s->name = mem_strdup(step);
    s->what = mem_strdup(what ? what : "");
    s->hash = hash_name(step);
    s->started_ns = s->told_ns = sys_now_ns();
    if (earlier) s->lane = earlier->lane; /* it is tried again */
    step_free(earlier);
    u->running = mem_grow(u->running, &u->running_cap, u->running_count + 1, sizeof *u->running);
    u->running[u->running_count++] = s;
    EACH(u, step_started, u, s, why, params);
}

void ui_progress(struct ui *u, const char *step, double done, double total, const char *text) {
    uint32_t i = find_running(u, step);
    if (i == NO_ID) return;
    struct ui_step *s = u->running[i];
    if (!isfinite(done) || done < 0) done = 0;
    if (!isfinite(total) || total < 0) total = 0;
    if (total > 0 && done > total) done = total;
    if (!s->first_ns || done < s->first || total != s->total) {
        s->first = done;
        s->first_ns = sys_now_ns();
    }
    s->done = done;
    s->total = total;
    free(s->text);
    s->text = NULL;
    if (text && *text) {
        struct buf b = {0};
        ui_clean(&b, text, true);
        s->text = b.data;
    }
    EACH(u, progress, u, s);
}

void ui_metric(struct ui *u, const char *step, const char *name, double value) {
    uint32_t i = find_running(u, step), k = 0;
    if (i == NO_ID) return;
    struct ui_step *s = u->running[i];
    while (k < s->metric_count && strcmp(s->metrics[k].name, name)) k++;
    if (k == s->metric_count) {
        s->metrics = mem_grow(s->metrics, &s->metric_cap, k + 1, sizeof *s->metrics);
        s->metrics[s->metric_count++] = (struct ui_metric){.name = mem_strdup(name)};
    }
    s->metrics[k].value = value;
    EACH(u, metric, u, s, &s->metrics[k]);
}

void ui_log(struct ui *u, const char *step, int level, const char *text) {
    EACH(u, log, u, step, level, text);
}

void ui_step_finished(struct ui *u, const struct ui_finish *f) {
    struct ui_step *s = f->status == UI_CURRENT ? NULL : take_running(u, f->step);
    u->finished++;
    if (f->status == UI_FAILED) {
        u->failed++;
        if (u->failure_count < NAMED_FAILURES) {
            u->failures = mem_grow(u->failures, &u->failure_cap, u->failure_count + 1, sizeof *u->failures);
            u->failures[u->failure_count++] = mem_strdup(f->step);
        }
    }
    if (f->status != UI_SKIPPED) set_estimate(u, f->estimate_s);
    EACH(u, step_finished, u, s, f);
    step_free(s);
}

void ui_message(struct ui *u, int level, const char *format, ...) {
    struct buf b = {0};
    va_list args;
    va_start(args, format);
    buf_addv(&b, format, args);
    va_end(args);
    EACH(u, message, u, level, buf_str(&b));
    buf_free(&b);
}

void ui_build_finished(struct ui *u, const struct ui_summary *s) {
    u->building = false;
    EACH(u, build_finished, u, s);
}

void ui_tick(struct ui *u) {
    int64_t now = sys_now_ns();
    EACH(u, tick, u, now);
}

bool ui_live(const struct ui *u) {
    return u->faces[0] == &ui_live_area;
}
