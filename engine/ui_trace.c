/* ui_trace.c: the build as a Chrome trace (--trace=FILE), which Perfetto and chrome://tracing show; see ui_private.h.
 *
 * The file is a JSON array of events ("Trace Event Format", JSON Array Format). A step is a pair of events in the first
 * lane that is free, so there are as many lanes as steps ran at a time; metrics and the number of running steps are counters.
 * Each event is written over the array's end together with a new end, in one write: so the file is a whole array at any
 * time, whenever mbuild is killed. Failing to write it is a warning and the trace's end, not the build's.
 */
#include "sys.h"
#include "sys_call.h"
#include "ui_private.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define END "\n]\n"
#define BUILD_LANE 1   /* Perfetto keeps 0 for itself */
#define FIRST_LANE 2
#define SAMPLE_NS 50000000 /* between two samples of a counter */

struct ui_tracer {
    char *path;
    int fd;
    bool seeks;       /* a file, whose end can be written over */
    bool any;
    uint8_t *lanes;   /* of steps: whether taken */
    uint32_t lane_count, lane_cap;
};

static void give_up(struct ui *u) {
    struct ui_tracer *t = u->tracer;
    int number = errno;
    close(t->fd);
    t->fd = -1;
    ui_message(u, 2, "cannot write the trace %s: %s; it ends here", t->path, strerror(number));
}

static int put(struct ui_tracer *t, const char *bytes, size_t n) {
    for (ssize_t wrote; n; bytes += wrote, n -= (size_t)wrote)
        if ((wrote = sys_call_write(t->fd, bytes, n)) < 0) return -1;
    return 0;
}

/* Adds an event, given from behind its common keys on: `more` begins with a comma. */
static void add(struct ui *u, char phase, const char *name, uint32_t lane, const char *more) {
    struct ui_tracer *t = u->tracer;
    if (t->fd < 0) return;
    struct buf b = {0};
    buf_adds(&b, t->any ? ",\n" : "[\n");
    buf_addf(&b, "{\"ph\":\"%c\",\"name\":", phase);
    value_write_string(name, &b);
    buf_addf(&b, ",\"pid\":1,\"tid\":%u,\"ts\":%.3f%s}", lane, (double)(sys_now_ns() - u->opened_ns) / 1e3, more);
    if (t->seeks) buf_adds(&b, END);
    if (t->seeks && t->any && lseek(t->fd, -(off_t)strlen(END), SEEK_END) < 0) give_up(u);
    else if (put(t, b.data, b.len)) give_up(u);
    t->any = true;
    buf_free(&b);
}

static void add_name(struct ui *u, const char *what, uint32_t lane, const char *name) {
    struct buf b = {0};
    buf_adds(&b, ",\"args\":{\"name\":");
    value_write_string(name, &b);
    buf_addc(&b, '}');
    add(u, 'M', what, lane, b.data);
    buf_free(&b);
}

static void add_counter(struct ui *u, const char *name, double v) {
    struct value value = {.type = VALUE_FLOAT, .number = v};
    struct buf b = {0};
    if (!isfinite(v)) return;
    buf_adds(&b, ",\"args\":{\"value\":");
    value_write(&value, &b);
    buf_addc(&b, '}');
    add(u, 'C', name, BUILD_LANE, b.data);
    buf_free(&b);
}

int ui_trace_open(struct ui *u, const char *path, struct err *e) {
    int fd = sys_call_open(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0) return err_errno(e, "cannot open the trace %s", path);
    struct ui_tracer *t = u->tracer = mem_alloc(sizeof *t);
    t->path = mem_strdup(path);
    t->fd = fd;
    t->seeks = lseek(fd, 0, SEEK_END) >= 0;
    u->faces[1] = &ui_trace;
    add_name(u, "process_name", BUILD_LANE, "mbuild");
    return 0;
}

/* -- lanes */

static uint32_t take_lane(struct ui *u) {
    struct ui_tracer *t = u->tracer;
    uint32_t lane = 0;
    while (lane < t->lane_count && t->lanes[lane]) lane++;
    if (lane == t->lane_count) {
        t->lanes = mem_grow(t->lanes, &t->lane_cap, ++t->lane_count, sizeof *t->lanes);
        char name[32];
        snprintf(name, sizeof name, "lane %u", lane + 1);
        add_name(u, "thread_name", FIRST_LANE + lane, name);
    }
    t->lanes[lane] = 1;
    return FIRST_LANE + lane;
}

static void free_lane(struct ui_tracer *t, uint32_t lane) {
    t->lanes[lane - FIRST_LANE] = 0;
}

/* -- events */

static void build_started(struct ui *u, const char *command, uint32_t steps, double estimate_s) {
    struct buf b = {0};
    (void)estimate_s;
    add_name(u, "thread_name", BUILD_LANE, "build");
    buf_adds(&b, ",\"args\":{\"command\":");
    value_write_string(command, &b);
    buf_addf(&b, ",\"steps\":%u}", steps);
    add(u, 'B', "build", BUILD_LANE, b.data);
    buf_free(&b);
}

static void step_started(struct ui *u, struct ui_step *s, const char *why, const char *params) {
    struct buf b = {0};
    (void)params;
    if (s->lane) add(u, 'E', s->name, s->lane, ",\"args\":{\"status\":\"tried again\"}");
    else s->lane = take_lane(u);
    buf_adds(&b, ",\"cat\":");
    value_write_string(s->what, &b);
    buf_adds(&b, ",\"args\":{\"what\":");
    value_write_string(s->what, &b);
    if (why) {
        buf_adds(&b, ",\"why\":");
        value_write_string(why, &b);
    }
    buf_addc(&b, '}');
    add(u, 'B', s->name, s->lane, b.data);
    add_counter(u, "running", u->running_count);
    buf_free(&b);
}

static void metric(struct ui *u, struct ui_step *s, struct ui_metric *m) {
    int64_t now = sys_now_ns();
    if (m->traced_ns && now - m->traced_ns < SAMPLE_NS) return;
    m->traced_ns = now;
    struct buf name = {0};
    buf_addf(&name, "%s: %s", s->name, m->name);
    add_counter(u, name.data, m->value);
    buf_free(&name);
}

static void step_finished(struct ui *u, struct ui_step *s, const struct ui_finish *f) {
    if (f->status == UI_CURRENT || (!s && f->status == UI_SKIPPED)) return;
    struct buf b = {0};
    if (!s) buf_adds(&b, ",\"s\":\"p\"");
    buf_addf(&b, ",\"args\":{\"status\":\"%s\"", ui_status_name(f->status));
    if (f->peak_bytes) buf_addf(&b, ",\"peak_bytes\":%llu", (unsigned long long)f->peak_bytes);
    if (f->warm) buf_addf(&b, ",\"warm\":%u", f->warm);
    if (f->message) {
        buf_adds(&b, ",\"message\":");
        value_write_string(f->message, &b);
    }
    buf_addc(&b, '}');
    if (s) {
        add(u, 'E', f->step, s->lane, b.data);
        free_lane(u->tracer, s->lane);
        add_counter(u, "running", u->running_count);
    } else { /* came from the store, or failed before it could start */
        add(u, 'i', f->step, BUILD_LANE, b.data);
    }
    buf_free(&b);
}

static void message(struct ui *u, int level, const char *text) {
    if (level >= 2) add(u, 'i', text, BUILD_LANE, ",\"s\":\"g\"");
}

static void build_finished(struct ui *u, const struct ui_summary *s) {
    struct buf b = {0};
    buf_addf(&b, ",\"args\":{\"status\":%d,\"built\":%u,\"restored\":%u,\"current\":%u,\"failed\":%u,\"skipped\":%u}", s->status, s->built,
             s->restored, s->current, s->failed, s->skipped);
    add(u, 'E', "build", BUILD_LANE, b.data);
    buf_free(&b);
}

static void close_trace(struct ui *u) {
    struct ui_tracer *t = u->tracer;
    if (t->fd >= 0 && !t->seeks && put(t, END, strlen(END))) give_up(u);
    if (t->fd >= 0 && close(t->fd)) {
        t->fd = -1;
        ui_message(u, 2, "cannot write the trace %s: %s", t->path, strerror(errno));
    }
    free(t->path);
    free(t->lanes);
    free(t);
    u->tracer = NULL;
    u->faces[1] = NULL;
}

const struct ui_face ui_trace = {.build_started = build_started, .step_started = step_started, .metric = metric,
                                 .step_finished = step_finished, .message = message, .build_finished = build_finished, .close = close_trace};
