/* ui_live.c: the area at the bottom of a terminal that shows what runs now; see ui_private.h.
 *
 *       digits   dataset  ━━━━━━━━━━━━━━╾─────  72 %  0:03  0:01 left  1290 rows
 *       teacher  train    ━━━━━╾──────────────  27 %  0:12  0:31 left  loss 0.2103, accuracy 0.9312  epoch 8/30
 *     3/12  2 running  0:15  0:58 left
 *
 * Lines of ui_plain.c scroll by above it. All of a redraw goes out in one write, over what stood there and without clearing it first, so
 * nothing flickers; there are at most 20 a second, and none where nothing changed. No line reaches the last column, so none is
 * wrapped; how many rows the old ones take after the terminal became narrower is reckoned.
 */
#include "sys.h"
#include "ui_private.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATIENCE_NS 150000000 /* a build shorter than this gets no area */
#define MOST_ROWS 16          /* of running steps */
#define METRICS 3
#define LEAST_TEXT 8          /* columns, to begin a step's own text */
#define DIM "\033[2m"
#define CYAN "\033[36m"
#define RED "\033[31m"
#define OFF "\033[0m"

struct ui_area {
    struct buf above;     /* lines that wait to go above the area */
    struct buf frame;     /* what stands on the terminal */
    struct buf next;
    uint32_t lines;       /* of the frame; 0: none stands */
    uint32_t columns;     /* that the terminal had then */
    int64_t drawn_ns;
};

bool ui_can_draw(const struct ui_options *o) {
    const char *term = getenv("TERM");
    return !o->json && !o->silent && term && *term && strcmp(term, "dumb") && isatty(o->out_fd);
}

/* -- one line of a running step */

/* Which columns there is room for, the same in all lines. */
struct layout {
    uint32_t width, indent, name, what, bar, percent, clock, left, detail;
};

struct row {
    const struct ui_step *step;
    struct buf name, what, clock, left;
};

static void paint(const struct ui *u, struct buf *b, const char *code, const char *text) {
    buf_addf(b, "%s%s%s", u->color_out ? code : "", text, u->color_out ? OFF : "");
}

static void pad(struct buf *b, uint32_t columns) {
    while (columns--) buf_addc(b, ' ');
}

static void repeat(struct buf *b, const char *text, uint32_t times) {
    while (times--) buf_adds(b, text);
}

/* Half columns are told apart by the heavy line's end. */
static void add_bar(const struct ui *u, struct buf *b, const struct ui_step *s, uint32_t columns) {
    uint32_t halves = s->total > 0 ? (uint32_t)(2 * columns * (s->done / s->total)) : 0;
    struct buf heavy = {0}, light = {0};
    repeat(&heavy, "━", halves / 2);
    if (halves % 2) buf_adds(&heavy, "╾");
    repeat(&light, "─", columns - (halves + 1) / 2);
    if (heavy.len) paint(u, b, CYAN, heavy.data);
    if (light.len) paint(u, b, DIM, light.data);
    buf_free(&heavy);
    buf_free(&light);
}

/* Four digits always, so that what stands behind doesn't jump about. */
static void add_steady(struct buf *b, double v) {
    double size = fabs(v);
    if (size != floor(size) && size >= 1e-3 && size < 1e4) buf_addf(b, "%#.4g", v);
    else ui_add_number(b, v);
}

/* Metrics, then what the step says it is at: metrics whole or not at all. */
static void add_detail(struct buf *b, const struct ui_step *s, uint32_t columns) {
    uint32_t shown = 0;
    for (uint32_t i = 0; i < s->metric_count && shown < METRICS; i++) {
        struct buf one = {0};
        if (shown) buf_adds(&one, ", ");
        ui_clean(&one, s->metrics[i].name, true);
        buf_addc(&one, ' ');
        add_steady(&one, s->metrics[i].value);
        uint32_t used = ui_columns(one.data);
        if (used <= columns) {
            buf_adds(b, one.data);
            columns -= used;
            shown++;
        }
        buf_free(&one);
    }
    uint32_t gap = shown ? 2 : 0;
    if (!s->text || columns < gap + LEAST_TEXT) return;
    pad(b, gap);
    ui_add_fit(b, s->text, columns - gap);
}

static void right(struct buf *b, const char *text, uint32_t columns) {
    uint32_t used = ui_columns(text);
    if (used < columns) pad(b, columns - used);
    buf_adds(b, text);
}

static void add_row(const struct ui *u, struct buf *b, const struct row *r, const struct layout *l) {
    const struct ui_step *s = r->step;
    struct buf text = {0};
    pad(b, l->indent);
    ui_add_padded(b, buf_str(&r->name), l->name);
    if (l->what) {
        pad(b, 2);
        ui_add_padded(&text, buf_str(&r->what), l->what);
        paint(u, b, DIM, buf_str(&text));
    }
    if (l->bar) {
        pad(b, 2);
        add_bar(u, b, s, l->bar);
    }
    buf_clear(&text);
    if (l->percent) {
        if (s->total > 0) buf_addf(&text, "%.0f %%", s->done >= s->total ? 100 : 99.49 * s->done / s->total); /* 100 is the end */
        pad(b, 1);
        right(b, buf_str(&text), l->percent);
    }
    buf_clear(&text);
    if (l->clock) right(&text, buf_str(&r->clock), l->clock + 2);
    if (l->left) right(&text, buf_str(&r->left), l->left + 2);
    if (text.len) paint(u, b, DIM, text.data);
    buf_clear(&text);
    if (l->detail) add_detail(&text, s, l->detail);
    if (text.len) {
        pad(b, 2);
        buf_adds(b, text.data);
    }
    buf_free(&text);
}

/* Gives columns to the parts of a line, the most useful first, as long as there are some. */
static struct layout plan(const struct row *rows, uint32_t count, uint32_t width) {
    struct layout l = {.width = width, .indent = width >= 40 ? 2 : 0}, widest = {0};
    bool progress = false;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t name = ui_columns(buf_str(&rows[i].name)), what = ui_columns(buf_str(&rows[i].what));
        uint32_t clock = (uint32_t)rows[i].clock.len, left = (uint32_t)rows[i].left.len;
        if (name > widest.name) widest.name = name;
        if (what > widest.what) widest.what = what;
        if (clock > widest.clock) widest.clock = clock;
        if (left > widest.left) widest.left = left;
        progress |= rows[i].step->total > 0;
    }
    uint32_t most = width / 3 > 28 ? 28 : width / 3 > 8 ? width / 3 : 8, bar = width / 6;
    l.name = widest.name < most ? widest.name : most;
    if (l.indent + l.name > width) l.name = width - l.indent;
    uint32_t room = width - l.indent - l.name;
    const struct {
        uint32_t *part, columns, gap, least; /* `least`: what must be left over for others */
        bool wanted;
    } parts[] = {
        {&l.percent, 5, 1, 0, progress},
        {&l.clock, widest.clock, 2, 0, true},
        {&l.bar, bar > 24 ? 24 : bar < 10 ? 10 : bar, 2, 16, progress},
        {&l.left, widest.left, 2, 0, widest.left},
        {&l.what, widest.what < 12 ? widest.what : 12, 2, 20, widest.what},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (!parts[i].wanted || room < parts[i].columns + parts[i].gap + parts[i].least) continue;
        *parts[i].part = parts[i].columns;
        room -= parts[i].columns + parts[i].gap;
    }
    l.detail = room > 8 ? room - 2 : 0;
    return l;
}

/* -- the frame */

/* "3/12  2 running  0:15  0:58 left", as much of it as fits. */
static void add_status(const struct ui *u, struct buf *b, uint32_t width, int64_t now) {
    struct buf parts[5] = {{0}};
    const char *const codes[] = {"", RED, "", DIM, DIM};
    double spent = (double)(now - u->started_ns) / 1e9;
    double left = u->estimate_s < 0 ? -1 : u->estimate_s - (double)(now - u->estimate_ns) / 1e9;
    uint32_t known = u->finished + u->running_count; /* a dynamic rule may have added steps */
    buf_addf(&parts[0], "%u/%u", u->finished, known > u->steps ? known : u->steps);
    if (u->failed) buf_addf(&parts[1], "%u failed", u->failed);
    if (u->running_count) buf_addf(&parts[2], "%u running", u->running_count);
    ui_add_clock(&parts[3], spent);
    if (left >= 1) {
        ui_add_clock(&parts[4], left);
        buf_adds(&parts[4], " left");
    }
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        size_t gap = i ? 2 : 0;
        if (parts[i].len && parts[i].len + gap <= width) { /* all ASCII */
            pad(b, (uint32_t)gap);
            if (*codes[i]) paint(u, b, codes[i], parts[i].data);
            else buf_adds(b, parts[i].data);
            width -= (uint32_t)(parts[i].len + gap);
        }
        buf_free(&parts[i]);
    }
}

/* Writes the area as it should be now to a->next; returns its lines. */
static uint32_t compose(struct ui *u, int64_t now, uint32_t columns, uint32_t rows) {
    struct ui_area *a = u->area;
    struct row shown[MOST_ROWS] = {{0}};
    uint32_t width = columns > 1 ? columns - 1 : 1;
    uint32_t most = rows / 2 > 1 ? rows / 2 : 1, count = u->running_count;
    if (most > MOST_ROWS) most = MOST_ROWS;
    if (count > most) count = most > 1 ? most - 1 : 1;
    for (uint32_t i = 0; i < count; i++) {
        struct row *r = &shown[i];
        r->step = u->running[i];
        ui_clean(&r->name, r->step->name, true);
        ui_clean(&r->what, r->step->what, true);
        ui_add_clock(&r->clock, (double)(now - r->step->started_ns) / 1e9);
        double left = ui_step_left(r->step, now);
        if (left >= 1) {
            ui_add_clock(&r->left, left);
            buf_adds(&r->left, " left");
        }
    }
    struct layout l = plan(shown, count, width);
    buf_clear(&a->next);
    for (uint32_t i = 0; i < count; i++) {
        add_row(u, &a->next, &shown[i], &l);
        buf_addc(&a->next, '\n');
        buf_free(&shown[i].name);
        buf_free(&shown[i].what);
        buf_free(&shown[i].clock);
        buf_free(&shown[i].left);
    }
    if (u->running_count > count) {
        struct buf more = {0};
        pad(&more, l.indent);
        buf_addf(&more, "… and %u more", u->running_count - count);
        ui_add_fit(&a->next, more.data, width);
        buf_addc(&a->next, '\n');
        buf_free(&more);
    }
    add_status(u, &a->next, width, now);
    return count + (u->running_count > count) + 1;
}

/* -- the terminal */

/* Goes to the area's first row. What was drawn for a wider terminal may take several rows a line now. */
static void go_up(struct ui_area *a, struct buf *b, uint32_t columns) {
    uint32_t rows = 0;
    for (const char *at = buf_str(&a->frame); a->lines; at++) {
        struct buf plain = {0}, line = {0};
        size_t n = strcspn(at, "\n");
        buf_add(&line, at, n);
        ui_clean(&plain, buf_str(&line), true);
        uint32_t used = ui_columns(buf_str(&plain));
        rows += columns && used > columns ? (used + columns - 1) / columns : 1;
        buf_free(&plain);
        buf_free(&line);
        at += n;
        if (!*at) break;
    }
    buf_addc(b, '\r');
    if (rows > 1) buf_addf(b, "\033[%uA", rows - 1);
}

/* Appends lines so that each clears what stood in its row. */
static void add_over(struct buf *b, const struct buf *lines) {
    for (const char *at = buf_str(lines); *at;) {
        size_t n = strcspn(at, "\n");
        buf_add(b, at, n);
        buf_adds(b, "\033[K");
        if (at[n]) buf_addc(b, '\n');
        at += n + (at[n] != 0);
    }
}

static void put(struct ui *u, const struct buf *b) {
    if (b->len && !u->out.dead && ui_write(u->out.fd, b->data, b->len)) u->out.dead = true;
}

static void draw(struct ui *u, int64_t now) {
    struct ui_area *a = u->area;
    uint32_t columns, rows;
    a->drawn_ns = now;
    if (ui_term_resumed()) a->lines = 0;
    if (!a->lines && now - u->started_ns < PATIENCE_NS) {
        put(u, &a->above);
        buf_clear(&a->above);
        return;
    }
    if (!a->above.len && !ui_term_foreground(u->out.fd)) return;
    ui_term_size(u->out.fd, &columns, &rows);
    if (!columns) columns = 80;
    if (!rows) rows = 24;
    uint32_t lines = compose(u, now, columns, rows);
    bool same = a->lines && !a->above.len && columns == a->columns && !strcmp(buf_str(&a->next), buf_str(&a->frame));
    if (same) return;
    struct buf b = {0};
    if (a->lines) go_up(a, &b, columns);
    add_over(&b, &a->above);
    add_over(&b, &a->next);
    buf_adds(&b, "\033[J");
    if (!a->lines) ui_term_hide(u->out.fd);
    put(u, &b);
    buf_free(&b);
    buf_clear(&a->above);
    struct buf t = a->frame;
    a->frame = a->next;
    a->next = t;
    a->lines = lines;
    a->columns = columns;
}

/* Takes the area away; what scrolled above stays. */
static void erase(struct ui *u) {
    struct ui_area *a = u->area;
    struct buf b = {0};
    uint32_t columns, rows;
    if (!a) return;
    if (a->lines) {
        ui_term_size(u->out.fd, &columns, &rows);
        go_up(a, &b, columns);
        buf_adds(&b, "\033[J");
    }
    buf_add(&b, buf_str(&a->above), a->above.len);
    put(u, &b);
    buf_free(&b);
    buf_clear(&a->above);
    a->lines = 0;
    ui_term_show();
}

bool ui_area_takes(const struct ui *u, bool error) {
    return u->area && u->building && (!error || isatty(u->err.fd));
}

void ui_area_above(struct ui *u, const struct buf *lines) {
    if (lines->len) buf_add(&u->area->above, lines->data, lines->len);
}

/* -- the face: plain lines, and the area below them */

static void build_started(struct ui *u, const char *command, uint32_t steps, double estimate_s) {
    (void)command;
    (void)steps;
    (void)estimate_s;
    if (!u->area) u->area = mem_alloc(sizeof *u->area);
}

static void step_started(struct ui *u, struct ui_step *s, const char *why, const char *params) {
    ui_plain.step_started(u, s, why, params);
}

static void log_line(struct ui *u, const char *step, int level, const char *text) {
    ui_plain.log(u, step, level, text);
}

static void step_finished(struct ui *u, struct ui_step *s, const struct ui_finish *f) {
    ui_plain.step_finished(u, s, f);
}

static void message(struct ui *u, int level, const char *text) {
    ui_plain.message(u, level, text);
}

static void build_finished(struct ui *u, const struct ui_summary *s) {
    erase(u);
    ui_plain.build_finished(u, s);
}

static void tick(struct ui *u, int64_t now) {
    if (u->area && u->building && now - u->area->drawn_ns >= UI_REDRAW_NS) draw(u, now);
}

static void close_area(struct ui *u) {
    erase(u);
    if (!u->area) return;
    buf_free(&u->area->above);
    buf_free(&u->area->frame);
    buf_free(&u->area->next);
    free(u->area);
    u->area = NULL;
}

const struct ui_face ui_live_area = {.build_started = build_started, .step_started = step_started, .log = log_line,
                                     .step_finished = step_finished, .message = message, .build_finished = build_finished, .tick = tick,
                                     .close = close_area};
