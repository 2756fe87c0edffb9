/* ui.h: what the user sees of a build. The only room that prints while a build runs.
 *
 * Three faces of the same events: a live area on a terminal, plain lines elsewhere, JSON lines for programs (--json). Beside them
 * a Chrome trace (--trace=FILE). Progress and metrics of steps that run are kept here and drawn at most 20 times a second.
 * Messages of failed steps end with the last lines of output, where the log is and the command that runs it again.
 */
#ifndef ENGINE_UI_H
#define ENGINE_UI_H

#include "err.h"
#include <stdbool.h>
#include <stdint.h>

enum ui_color { UI_COLOR_AUTO, UI_COLOR_ALWAYS, UI_COLOR_NEVER };
struct ui_options {
    bool json;        /* events on stdout, one object a line; messages for people go to stderr only if they are errors outside a build */
    bool silent;      /* -s: failures alone */
    bool verbose;     /* -v: each step's parameters and log lines, restored and current steps too */
    bool explain;     /* --explain: why each step runs, as its start is told */
    enum ui_color color;
    const char *trace; /* path or NULL */
    int out_fd, err_fd; /* 1 and 2; tests give others */
};

enum ui_status { UI_BUILT, UI_RESTORED, UI_CURRENT, UI_FAILED, UI_SKIPPED };
const char *ui_status_name(enum ui_status s); /* "built" … */

struct ui;
int ui_open(const struct ui_options *o, struct ui **out, struct err *e);
void ui_close(struct ui *u); /* leaves the terminal as it was; safe after a failure */

/* `estimate_s` is the time left by history, or < 0 if unknown. */
void ui_build_started(struct ui *u, const char *command, uint32_t steps, double estimate_s);
void ui_steps_added(struct ui *u, uint32_t steps); /* there is more to do than the build began with */
void ui_step_started(struct ui *u, const char *step, const char *what /* "train" */, const char *why /* or NULL */, const char *params /* JSON or NULL */);
void ui_progress(struct ui *u, const char *step, double done, double total, const char *text);
void ui_metric(struct ui *u, const char *step, const char *name, double value);
void ui_log(struct ui *u, const char *step, int level, const char *text); /* info: verbose only; warnings and errors always */

struct ui_finish {
    const char *step, *what;
    enum ui_status status;
    double seconds;          /* 0 if it did not run */
    double estimate_s;       /* of the build: time left now, < 0 unknown */
    const char *reason;      /* why skipped; what restored; or NULL */
    const char *metrics;     /* JSON object or NULL: shown in short after a built step ("accuracy 0.9722") */
    const char *message, *tail, *log, *again; /* of a failure; tail may have several lines */
    uint64_t peak_bytes;
    uint32_t warm;           /* which step of a warm process it was, from 1; 0: it had a process of its own */
};
void ui_step_finished(struct ui *u, const struct ui_finish *f);

/* A message that belongs to no step. level as mb_level. In a live area it appears above it. */
void ui_message(struct ui *u, int level, const char *format, ...) __attribute__((format(printf, 3, 4)));

struct ui_summary {
    uint32_t built, restored, current, failed, skipped;
    double seconds;
    int status;              /* exit status */
    bool interrupted;
    const char *nothing;     /* what to say if nothing was to be done: "release is up to date" */
};
void ui_build_finished(struct ui *u, const struct ui_summary *s);

void ui_tick(struct ui *u); /* redraws if due; cheap */
bool ui_live(const struct ui *u);

/* Formatting shared with the subcommands; each returns `out`. */
char *ui_bytes(uint64_t n, char out[24]);      /* "1.4 MiB" */
char *ui_seconds(double s, char out[24]);      /* "0.8 ms" "12.3 s" "2 min 05 s" */
char *ui_ago(int64_t wall_ms, char out[32]);   /* "3 minutes ago" */
int ui_width(int fd);                          /* columns; 80 if unknown */
bool ui_colored(int fd, enum ui_color c);      /* honours NO_COLOR and TERM=dumb */
/* Prints rows as aligned columns; cells is rows × columns, NULL is empty; first row is a header if `header`. UTF-8 aware. */
void ui_table(int fd, const char *const *cells, uint32_t rows, uint32_t columns, bool header);

#endif
