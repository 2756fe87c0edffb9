/* ui_private.h: what the files of the display share.
 *
 * ui.c keeps what is known of a build and hands each event to *faces*, tables of functions: one of plain lines, live area or JSON,
 * and beside it the trace. Faces write through ui_out.c and put foreign text through ui_text.c. None of them may call the engine.
 */
#ifndef ENGINE_UI_PRIVATE_H
#define ENGINE_UI_PRIVATE_H

#include "mem.h"
#include "ui.h"
#include "value.h"

#define UI_REDRAW_NS 50000000 /* between two redraws, and between two progress events of a step in --json */

/* -- ui_out.c: a descriptor that whole lines go to */

struct ui_out {
    int fd;
    bool dead;          /* nobody reads any more: what follows is dropped */
    struct buf pending;
};
void ui_out_flush(struct ui_out *o);
/* Writes all of it, waiting where the descriptor would block; -1 if that can't be done. */
int ui_write(int fd, const char *bytes, size_t n);

/* -- ui_text.c: text from outside */

/* Appends `text` without escape sequences, control characters and marks that reorder text; bytes that aren't UTF-8 become U+FFFD.
 * With `one_line` line ends and tabs become spaces. */
void ui_clean(struct buf *b, const char *text, bool one_line);
uint32_t ui_columns(const char *text);                         /* that clean text takes on a terminal */
void ui_add_fit(struct buf *b, const char *text, uint32_t columns); /* clean text, cut with "…" */
void ui_add_padded(struct buf *b, const char *text, uint32_t columns);
/* How many bytes of clean text fit into a line of so many columns, ending between words if it can. */
size_t ui_break_line(const char *text, uint32_t columns);

/* -- ui_format.c */

void ui_add_number(struct buf *b, double v);                   /* in short, for people: "0.9722" */
void ui_add_clock(struct buf *b, double seconds);              /* "0:07", "1:02:03" */
/* The first few numbers of a JSON object: "accuracy 0.9722, loss 0.05"; nothing if there are none. */
void ui_add_metrics(struct buf *b, const char *json);

/* -- what is known of steps that run */

struct ui_metric {
    char *name;
    double value;
    int64_t traced_ns;
};

struct ui_step {
    char *name, *what;
    uint32_t hash;      /* of the name */
    int64_t started_ns;
    double done, total; /* total 0: nothing said */
    double first;       /* `done` at the first report: a resumed step doesn't begin at 0 */
    int64_t first_ns;
    char *text;         /* of the last progress, clean; or NULL */
    struct ui_metric *metrics;
    uint32_t metric_count, metric_cap;
    int64_t told_ns;    /* when a face last told its progress */
    uint32_t lane;      /* of the trace; 0: none yet */
};

struct ui_face {
    void (*build_started)(struct ui *u, const char *command, uint32_t steps, double estimate_s);
    void (*step_started)(struct ui *u, struct ui_step *s, const char *why, const char *params);
    void (*progress)(struct ui *u, struct ui_step *s);
    void (*metric)(struct ui *u, struct ui_step *s, struct ui_metric *m);
    void (*log)(struct ui *u, const char *step, int level, const char *text);
    void (*step_finished)(struct ui *u, struct ui_step *s /* or NULL */, const struct ui_finish *f);
    void (*message)(struct ui *u, int level, const char *text);
    void (*build_finished)(struct ui *u, const struct ui_summary *s);
    void (*tick)(struct ui *u, int64_t now);
    void (*close)(struct ui *u);
};
extern const struct ui_face ui_plain, ui_live_area, ui_json, ui_trace;

struct ui_area;  /* ui_live.c */
struct ui_tracer; /* ui_trace.c */

struct ui {
    struct ui_options options;
    const struct ui_face *faces[2];
    struct ui_out out, err;
    bool color_out, color_err;
    int64_t opened_ns, started_ns;
    bool building;
    uint32_t steps, finished, failed;
    struct ui_step **running; /* in the order in which they started */
    uint32_t running_count, running_cap;
    double estimate_s;  /* time left as of estimate_ns; < 0: unknown */
    int64_t estimate_ns;
    char **failures;    /* names, for the last line; the first few */
    uint32_t failure_count, failure_cap;
    struct ui_area *area;
    struct ui_tracer *tracer;
};

/* Seconds of work left in a step by its progress, or < 0. */
double ui_step_left(const struct ui_step *s, int64_t now);

/* -- ui_live.c, ui_trace.c */

bool ui_can_draw(const struct ui_options *o);
/* Whether lines for that stream (`error`: of failures) go above the live area now. */
bool ui_area_takes(const struct ui *u, bool error);
void ui_area_above(struct ui *u, const struct buf *lines);
int ui_trace_open(struct ui *u, const char *path, struct err *e);

/* -- ui_term.c: the terminal's cursor, which must come back whatever ends the program */

void ui_term_hide(int fd);
void ui_term_show(void);
/* Whether the program was stopped and goes on since the last call: what was drawn isn't where it was. */
bool ui_term_resumed(void);
bool ui_term_foreground(int fd);
void ui_term_size(int fd, uint32_t *columns, uint32_t *rows); /* 0: unknown */

#endif
