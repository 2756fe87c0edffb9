/* ui_plain.c: plain lines: one when a step has finished, whole blocks for failures, one at the end; see ui_private.h.
 *
 * Each begins with a word of eight columns that says what happened, so the names stand below each other and grep finds them. What went
 * well goes to stdout, failures and warnings to stderr. On a terminal the same lines appear above the live area.
 */
#include "sys.h"
#include "ui_private.h"

#include <stdlib.h>
#include <string.h>

#define VERB 8                         /* columns of the first word */
#define INDENT "         "             /* VERB and a space */
#define HEARTBEAT_NS 60000000000       /* between two lines about the progress of a step */
#define FULL (32 * 1024)               /* bytes that may wait for the next tick */

#define GREEN "\033[32m"
#define RED "\033[1;31m"
#define YELLOW "\033[33m"
#define CYAN "\033[36m"
#define DIM "\033[2m"
#define PLAIN ""

/* Lines being written, and the stream that they go to. */
struct lines {
    struct ui *ui;
    bool error, color;
    struct buf text;
};

static struct lines begin(struct ui *u, bool error) {
    return (struct lines){.ui = u, .error = error, .color = error ? u->color_err : u->color_out};
}

static void paint(struct lines *l, const char *code, const char *clean) {
    bool paints = l->color && *code;
    buf_addf(&l->text, "%s%s%s", paints ? code : "", clean, paints ? "\033[0m" : "");
}

static void verb(struct lines *l, const char *code, const char *word) {
    for (size_t n = strlen(word); n < VERB; n++) buf_addc(&l->text, ' ');
    paint(l, code, word);
    buf_addc(&l->text, ' ');
}

static void name(struct lines *l, const char *step, const char *what) {
    ui_clean(&l->text, step, true);
    if (!what || !*what) return;
    struct buf b = {0};
    buf_addc(&b, '(');
    ui_clean(&b, what, true);
    buf_addc(&b, ')');
    buf_addc(&l->text, ' ');
    paint(l, DIM, b.data);
    buf_free(&b);
}

/* An error message that begins file:line: keeps the beginning of its line, where editors look for it. */
static bool names_line(const char *message) {
    size_t n = strcspn(message, " \n:");
    return message[n] == ':' && message[n + 1] >= '0' && message[n + 1] <= '9';
}

/* Each line of `text`, with something in front. */
static void block(struct lines *l, const char *before, const char *text) {
    struct buf b = {0};
    ui_clean(&b, text, false);
    for (const char *at = buf_str(&b); *at;) {
        size_t n = strcspn(at, "\n");
        buf_adds(&l->text, before);
        buf_add(&l->text, at, n);
        buf_addc(&l->text, '\n');
        at += at[n] ? n + 1 : n;
    }
    buf_free(&b);
}

/* Sends the lines off. `lazily`: they may wait for the next tick. */
static void end(struct lines *l, bool lazily) {
    struct ui *u = l->ui;
    struct ui_out *o = l->error ? &u->err : &u->out;
    if (ui_area_takes(u, l->error)) {
        ui_area_above(u, &l->text);
    } else if (l->text.len) {
        if (l->error) ui_out_flush(&u->out);
        buf_add(&o->pending, l->text.data, l->text.len);
        if (!lazily || o->pending.len > FULL) ui_out_flush(o);
    }
    buf_free(&l->text);
}

/* -- steps */

static void add_params(struct lines *l, const char *json) {
    struct arena a = {0};
    struct value v;
    struct err ignored;
    struct buf b = {0};
    if (!value_parse(json, strlen(json), &a, &v, &ignored) && v.type == VALUE_TABLE) {
        for (uint32_t i = 0; i < v.count; i++) {
            buf_addf(&b, "%s%s = ", i ? ", " : "", v.keys[i]);
            value_write(&v.items[i], &b);
        }
    }
    if (b.len) block(l, INDENT, b.data);
    buf_free(&b);
    arena_free(&a);
}

static void step_started(struct ui *u, struct ui_step *s, const char *why, const char *params) {
    const struct ui_options *o = &u->options;
    if (o->silent || !(o->verbose || why)) return;
    struct lines l = begin(u, false);
    verb(&l, CYAN, "start");
    name(&l, s->name, s->what);
    if (why) {
        buf_adds(&l.text, ": ");
        ui_clean(&l.text, why, true);
    }
    buf_addc(&l.text, '\n');
    if (params && o->verbose) add_params(&l, params);
    end(&l, false);
}

/* Where there is no live area, a long step still says now and then that it lives. */
static void progress(struct ui *u, struct ui_step *s) {
    int64_t now = sys_now_ns();
    if (u->options.silent || now - s->told_ns < HEARTBEAT_NS) return;
    s->told_ns = now;
    struct lines l = begin(u, false);
    verb(&l, CYAN, "running");
    name(&l, s->name, s->what);
    buf_adds(&l.text, " for ");
    ui_add_clock(&l.text, (double)(now - s->started_ns) / 1e9);
    if (s->total > 0) buf_addf(&l.text, ", %.0f %%", 100 * s->done / s->total);
    double left = ui_step_left(s, now);
    if (left >= 0) {
        buf_adds(&l.text, ", ");
        ui_add_clock(&l.text, left);
        buf_adds(&l.text, " left");
    }
    if (s->text) buf_addf(&l.text, ", %s", s->text);
    buf_addc(&l.text, '\n');
    end(&l, false);
}

static void add_labelled(struct lines *l, const char *label, const char *text) {
    buf_addf(&l->text, INDENT "%-6s", label);
    ui_clean(&l->text, text, true);
    buf_addc(&l->text, '\n');
}

static void step_failed(struct ui *u, const struct ui_finish *f) {
    char took[24];
    struct lines l = begin(u, true);
    verb(&l, RED, "failed");
    name(&l, f->step, f->what);
    if (f->seconds > 0) buf_addf(&l.text, " after %s", ui_seconds(f->seconds, took));
    buf_addc(&l.text, '\n');
    if (f->message && *f->message) block(&l, names_line(f->message) ? "" : INDENT, f->message);
    if (f->tail && *f->tail) block(&l, INDENT "│ ", f->tail);
    if (f->log) add_labelled(&l, "log", f->log);
    if (f->again) add_labelled(&l, "again", f->again);
    end(&l, false);
}

static void step_finished(struct ui *u, struct ui_step *s, const struct ui_finish *f) {
    static const char *const colors[] = {GREEN, CYAN, DIM, RED, YELLOW};
    const struct ui_options *o = &u->options;
    (void)s;
    if (f->status == UI_FAILED) {
        step_failed(u, f);
        return;
    }
    if (o->silent || (f->status != UI_BUILT && !o->verbose)) return;
    char took[24], peak[24];
    struct lines l = begin(u, false);
    verb(&l, colors[f->status], ui_status_name(f->status));
    name(&l, f->step, f->what);
    if (f->seconds > 0) buf_addf(&l.text, " in %s", ui_seconds(f->seconds, took));
    if (o->verbose && f->peak_bytes) buf_addf(&l.text, ", %s", ui_bytes(f->peak_bytes, peak));
    if (o->verbose && f->warm > 1) buf_adds(&l.text, ", in a warm process");
    struct buf more = {0};
    if (f->status == UI_BUILT) ui_add_metrics(&more, f->metrics);
    if (f->reason) ui_clean(&more, f->reason, true);
    if (more.len) buf_addf(&l.text, ": %s", more.data);
    buf_free(&more);
    buf_addc(&l.text, '\n');
    end(&l, f->status == UI_CURRENT);
}

/* -- messages */

static const struct {
    const char *word, *color;
} levels[] = {[0] = {"debug", DIM}, {"", PLAIN}, {"warning", YELLOW}, {"error", RED}};

static int known_level(int level) {
    return level < 0 ? 0 : level > 3 ? 3 : level;
}

static void log_line(struct ui *u, const char *step, int level, const char *text) {
    const struct ui_options *o = &u->options;
    level = known_level(level);
    if ((level < 2 && !o->verbose) || (level < 3 && o->silent)) return;
    struct lines l = begin(u, level >= 2);
    verb(&l, levels[level].color, levels[level].word);
    if (*step) {
        ui_clean(&l.text, step, true);
        buf_adds(&l.text, ": ");
    }
    ui_clean(&l.text, text, true);
    buf_addc(&l.text, '\n');
    end(&l, false);
}

static void message(struct ui *u, int level, const char *text) {
    const struct ui_options *o = &u->options;
    level = known_level(level);
    if ((level == 0 && !o->verbose) || (level < 3 && o->silent)) return;
    struct lines l = begin(u, level >= 2);
    if (*levels[level].word && !names_line(text)) verb(&l, levels[level].color, levels[level].word);
    ui_clean(&l.text, text, false);
    buf_addc(&l.text, '\n');
    end(&l, false);
}

/* -- the end */

static void add_counts(struct buf *b, const struct ui_summary *s) {
    const struct {
        uint32_t count;
        const char *word;
    } counts[] = {{s->built, "built"}, {s->restored, "restored"}, {s->current, "current"}, {s->failed, "failed"}, {s->skipped, "skipped"}};
    char took[24];
    bool some = false;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        if (!counts[i].count) continue;
        buf_addf(b, "%s%u %s", some ? ", " : "", counts[i].count, counts[i].word);
        some = true;
    }
    buf_addf(b, "%sin %s\n", some ? " " : "", ui_seconds(s->seconds, took));
}

static void add_failures(struct ui *u, struct buf *b) {
    for (uint32_t i = 0; i < u->failure_count; i++) {
        if (i) buf_adds(b, ", ");
        ui_clean(b, u->failures[i], true);
    }
    if (u->failed > u->failure_count) buf_addf(b, " and %u more", u->failed - u->failure_count);
    if (u->failed) buf_adds(b, ": ");
}

static void build_finished(struct ui *u, const struct ui_summary *s) {
    bool idle = !s->status && !s->built && !s->restored && !s->failed && !s->skipped;
    if (u->options.silent) return;
    struct lines l = begin(u, false);
    if (idle) {
        ui_clean(&l.text, s->nothing ? s->nothing : "nothing to do", false);
        buf_addc(&l.text, '\n');
    } else {
        bool failed = s->status && !s->interrupted;
        verb(&l, failed ? RED : s->interrupted ? YELLOW : GREEN, failed ? "failed" : s->interrupted ? "stopped" : "done");
        if (failed) add_failures(u, &l.text);
        if (s->interrupted) buf_adds(&l.text, "by an interrupt: ");
        add_counts(&l.text, s);
    }
    end(&l, false);
}

static void tick(struct ui *u, int64_t now) {
    (void)now;
    ui_out_flush(&u->out);
}

const struct ui_face ui_plain = {.step_started = step_started, .progress = progress, .log = log_line, .step_finished = step_finished,
                                 .message = message, .build_finished = build_finished, .tick = tick};
