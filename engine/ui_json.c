/* ui_json.c: events as JSON, an object a line (docs/events.md describes them); see ui_private.h.
 *
 * Keys are only ever added. What comes as JSON text (parameters, metrics) is parsed before it goes on, so that no line breaks.
 */
#include "config.h"
#include "sys.h"
#include "ui_private.h"

#include <math.h>
#include <string.h>

#define SCHEMA 1
#define FULL (32 * 1024)

static void add_key(struct buf *b, const char *key) {
    buf_addf(b, ",\"%s\":", key);
}

static void add_string(struct buf *b, const char *key, const char *text) {
    if (!text || !*text) return;
    add_key(b, key);
    value_write_string(text, b);
}

/* JSON knows neither NaN nor infinity: they become null. */
static void add_number(struct buf *b, const char *key, double v) {
    struct value value = {.type = isfinite(v) ? VALUE_FLOAT : VALUE_NONE, .number = v};
    add_key(b, key);
    value_write(&value, b);
}

static void add_count(struct buf *b, const char *key, uint64_t n) {
    buf_addf(b, ",\"%s\":%llu", key, (unsigned long long)n);
}

static void add_seconds(struct buf *b, const char *key, double v) {
    add_number(b, key, isfinite(v) ? round(v * 1e6) / 1e6 : v);
}

static void add_object(struct buf *b, const char *key, const char *json) {
    if (!json) return;
    struct arena a = {0};
    struct value v;
    struct err ignored;
    if (!value_parse(json, strlen(json), &a, &v, &ignored) && v.type == VALUE_TABLE && v.count) {
        add_key(b, key);
        value_write(&v, b);
    }
    arena_free(&a);
}

/* The line is built right in the buffer that is to be written. */
static struct buf *begin(struct ui *u, const char *event) {
    struct buf *b = &u->out.pending;
    buf_addf(b, "{\"event\":\"%s\"", event);
    add_seconds(b, "time", (double)(sys_now_ns() - u->opened_ns) / 1e9);
    return b;
}

/* `lazily`: it may wait for the next tick. */
static void end(struct ui *u, bool lazily) {
    buf_adds(&u->out.pending, "}\n");
    if (!lazily || u->out.pending.len > FULL) ui_out_flush(&u->out);
}

static void build_started(struct ui *u, const char *command, uint32_t steps, double estimate_s) {
    struct buf *b = begin(u, "build_started");
    add_count(b, "schema", SCHEMA);
    add_string(b, "mbuild", MBUILD_VERSION);
    add_string(b, "command", command);
    add_count(b, "steps", steps);
    if (estimate_s >= 0) add_seconds(b, "estimate_seconds", estimate_s);
    end(u, false);
}

static void step_started(struct ui *u, struct ui_step *s, const char *why, const char *params) {
    struct buf *b = begin(u, "step_started");
    s->told_ns = 0;
    add_string(b, "step", s->name);
    add_string(b, "what", s->what);
    add_string(b, "why", why);
    add_object(b, "params", params);
    end(u, false);
}

static void progress(struct ui *u, struct ui_step *s) {
    int64_t now = sys_now_ns();
    bool last = s->total > 0 && s->done >= s->total;
    if (!last && now - s->told_ns < UI_REDRAW_NS) return;
    s->told_ns = now;
    struct buf *b = begin(u, "progress");
    add_string(b, "step", s->name);
    add_number(b, "done", s->done);
    add_number(b, "total", s->total);
    add_string(b, "text", s->text);
    end(u, false);
}

static void metric(struct ui *u, struct ui_step *s, struct ui_metric *m) {
    struct buf *b = begin(u, "metric");
    add_string(b, "step", s->name);
    add_string(b, "name", m->name);
    add_number(b, "value", m->value);
    end(u, false);
}

static void add_message(struct ui *u, const char *step, int level, const char *text) {
    static const char *const levels[] = {"debug", "info", "warning", "error"};
    struct buf *b = begin(u, "message");
    add_string(b, "level", levels[level < 0 ? 0 : level > 3 ? 3 : level]);
    add_string(b, "step", step);
    add_key(b, "text");
    value_write_string(text, b);
    end(u, false);
}

static void log_line(struct ui *u, const char *step, int level, const char *text) {
    if (level >= 2 || u->options.verbose) add_message(u, step, level, text);
}

static void message(struct ui *u, int level, const char *text) {
    if (level >= 1 || u->options.verbose) add_message(u, NULL, level, text);
}

static void step_finished(struct ui *u, struct ui_step *s, const struct ui_finish *f) {
    (void)s;
    struct buf *b = begin(u, "step_finished");
    add_string(b, "step", f->step);
    add_string(b, "what", f->what);
    add_string(b, "status", ui_status_name(f->status));
    add_seconds(b, "seconds", f->seconds);
    if (f->peak_bytes) add_count(b, "peak_bytes", f->peak_bytes);
    if (f->warm) add_count(b, "warm", f->warm);
    add_string(b, "reason", f->reason);
    add_object(b, "metrics", f->metrics);
    add_string(b, "message", f->message);
    add_string(b, "tail", f->tail);
    add_string(b, "log", f->log);
    add_string(b, "again", f->again);
    if (f->estimate_s >= 0) add_seconds(b, "estimate_seconds", f->estimate_s);
    end(u, f->status == UI_CURRENT);
}

static void build_finished(struct ui *u, const struct ui_summary *s) {
    struct buf *b = begin(u, "build_finished");
    add_count(b, "status", (uint64_t)s->status);
    buf_addf(b, ",\"interrupted\":%s", s->interrupted ? "true" : "false");
    add_count(b, "built", s->built);
    add_count(b, "restored", s->restored);
    add_count(b, "current", s->current);
    add_count(b, "failed", s->failed);
    add_count(b, "skipped", s->skipped);
    add_seconds(b, "seconds", s->seconds);
    end(u, false);
}

static void tick(struct ui *u, int64_t now) {
    (void)now;
    ui_out_flush(&u->out);
}

const struct ui_face ui_json = {.build_started = build_started, .step_started = step_started, .progress = progress, .metric = metric,
                                .log = log_line, .step_finished = step_finished, .message = message, .build_finished = build_finished,
                                .tick = tick};
