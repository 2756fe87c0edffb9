/* ui.c: what the display prints, for the same events through each face. */
#include "sys.h"
#include "test.h"
#include "ui_private.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* -- formatting */

TEST("sizes are told in binary units, with a digit behind the point where it says something") {
    static const struct {
        uint64_t n;
        const char *text;
    } cases[] = {{0, "0 B"}, {1023, "1023 B"}, {1024, "1.0 KiB"}, {1536, "1.5 KiB"}, {1048575, "1.0 MiB"}, {1468006, "1.4 MiB"},
                 {104857600, "100 MiB"}, {1ull << 40, "1.0 TiB"}, {UINT64_MAX, "16.0 EiB"}};
    char out[24];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) CHECK_STR(ui_bytes(cases[i].n, out), cases[i].text);
}

TEST("times are told in the unit that a person would use") {
    static const struct {
        double s;
        const char *text;
    } cases[] = {{0, "0.0 ms"}, {0.0008, "0.8 ms"}, {0.00999, "10 ms"}, {0.41, "410 ms"}, {0.9999, "1.00 s"}, {1.5, "1.50 s"}, {9.999, "10.0 s"},
                 {12.34, "12.3 s"}, {59.99, "1 min 00 s"}, {125, "2 min 05 s"}, {3599.9, "1 h 00 min"}, {11220, "3 h 07 min"},
                 {90000, "1 d 01 h"}, {-1, "0.0 ms"}, {NAN, "0.0 ms"}, {1e300, "ages"}};
    char out[24];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) CHECK_STR(ui_seconds(cases[i].s, out), cases[i].text);
}

TEST("how long ago something was is told in one unit") {
    char out[32];
    int64_t now = sys_wall_ms();
    CHECK_STR(ui_ago(now - 1000, out), "just now");
    CHECK_STR(ui_ago(now + 100000, out), "just now");
    CHECK_STR(ui_ago(now - 30500, out), "30 seconds ago");
    CHECK_STR(ui_ago(now - 61000, out), "1 minute ago");
    CHECK_STR(ui_ago(now - 3 * 3600000 - 5, out), "3 hours ago");
    CHECK_STR(ui_ago(now - 40ll * 86400000, out), "1 month ago");
    CHECK_STR(ui_ago(now - 800ll * 86400000, out), "2 years ago");
}

TEST("metrics are told in short: numbers alone, whole, and no more than fit a line") {
    struct buf b = {0};
    ui_add_metrics(&b, "{\"accuracy\":0.97221,\"a_very_long_name_of_a_metric_that_nobody_wants_to_read_to_its_end\":1,\"epochs\":30,\"name\":\"x\",\"nan\":null}");
    CHECK_STR(buf_str(&b), "accuracy 0.9722, epochs 30");
    buf_clear(&b);
    ui_add_metrics(&b, "{}");
    ui_add_metrics(&b, "[1]");
    ui_add_metrics(&b, "nonsense");
    ui_add_metrics(&b, NULL);
    CHECK_STR(buf_str(&b), "");
    buf_free(&b);
}

/* -- text from outside */

static const char *clean(const char *text, bool one_line) {
    static struct buf b;
    buf_clear(&b);
    ui_clean(&b, text, one_line);
    return buf_str(&b);
}

TEST("no escape sequence or control character of a step reaches the terminal") {
    CHECK_STR(clean("a\033[31mred\033[0m b", true), "ared b");
    CHECK_STR(clean("\033]0;title\aX\033]8;;http://x\033\\link", true), "Xlink");
    CHECK_STR(clean("\033(B\033c\033Pq#0\033\\x", true), "x");
    CHECK_STR(clean("end\033", true), "end");
    CHECK_STR(clean("end\033[", true), "end");
    CHECK_STR(clean("end\033]0;", true), "end");
    CHECK_STR(clean("a\rb\bc\x7f\a\v", true), "abc");
    CHECK_STR(clean("a\xc2\x9b" "31mb", true), "a31mb");
    CHECK_STR(clean("safe\xe2\x80\xaetxt.exe", true), "safetxt.exe");
    CHECK_STR(clean("a\tb\nc", true), "a b c");
    CHECK_STR(clean("a\tb\nc", false), "a\tb\nc");
    CHECK_STR(clean("\xff\xc3(\xed\xa0\x80z", true), "\xef\xbf\xbd\xef\xbf\xbd(\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz");
}

TEST("columns are those of a terminal: wide characters take two, combining ones none") {
    CHECK_EQ(ui_columns("abc"), 3);
    CHECK_EQ(ui_columns("日本"), 4);
    CHECK_EQ(ui_columns("e\xcc\x81"), 1);
    CHECK_EQ(ui_columns("ü→…"), 3);
    CHECK_EQ(ui_columns("😀"), 2);
}

TEST("a cut text never takes more columns than it may, at any width") {
    static const char *const texts[] = {"a plain name", "日本語の名前", "éäx", "a日b本c"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        for (uint32_t columns = 0; columns < 16; columns++) {
            struct buf b = {0};
            ui_add_fit(&b, texts[i], columns);
            CHECK(ui_columns(buf_str(&b)) <= columns);
            if (ui_columns(texts[i]) <= columns) CHECK_STR(buf_str(&b), texts[i]);
            buf_clear(&b);
            ui_add_padded(&b, texts[i], columns);
            CHECK_EQ(ui_columns(buf_str(&b)), columns);
            buf_free(&b);
        }
    }
}

/* -- tables */

static const char *slurp(int fd) {
    static char text[1 << 20];
    size_t n = 0;
    for (ssize_t got; n < sizeof text - 1 && (got = read(fd, text + n, sizeof text - 1 - n)) > 0;) n += (size_t)got;
    text[n] = 0;
    return text;
}

static const char *table(const char *const *cells, uint32_t rows, uint32_t columns, bool header) {
    int p[2];
    CHECK(!pipe(p));
    ui_table(p[1], cells, rows, columns, header);
    close(p[1]);
    const char *text = slurp(p[0]);
    close(p[0]);
    return text;
}

TEST("a table's columns stand below each other by width, not by bytes, with no spaces at the ends of lines") {
    const char *const cells[] = {"NAME", "PLUGIN", "WHY", "日本", "train", NULL, "ü\n\033[1mx", NULL, "input x changed"};
    CHECK_STR(table(cells, 3, 3, true), "NAME  PLUGIN  WHY\n日本  train\nü x           input x changed\n");
    CHECK_STR(table(cells, 0, 3, true), "");
}

TEST("in a pipe a row of a table is one line, however long") {
    char longest[2000];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    const char *const cells[] = {"a", longest};
    CHECK_EQ(strlen(table(cells, 1, 2, false)), 3 + sizeof longest - 1 + 1);
}

/* -- a terminal */

struct terminal {
    int master, slave;
};

static struct terminal terminal_open(unsigned short columns) {
    struct terminal t = {.master = posix_openpt(O_RDWR | O_NOCTTY)};
    struct winsize size = {.ws_col = columns, .ws_row = 24};
    if (t.master < 0 || grantpt(t.master) || unlockpt(t.master)) SKIP("there are no pseudo-terminals here");
    t.slave = open(ptsname(t.master), O_RDWR | O_NOCTTY);
    CHECK(t.slave >= 0);
    CHECK(!ioctl(t.slave, TIOCSWINSZ, &size));
    setenv("TERM", "xterm", 1);
    unsetenv("NO_COLOR");
    return t;
}

static const char *terminal_read(struct terminal *t) {
    static char text[1 << 16];
    size_t n = 0;
    CHECK(!fcntl(t->master, F_SETFL, O_NONBLOCK));
    for (ssize_t got; n < sizeof text - 1 && (got = read(t->master, text + n, sizeof text - 1 - n)) > 0;) n += (size_t)got;
    text[n] = 0;
    return text;
}

TEST("on a terminal the last column of a table is broken between words, below its own beginning") {
    struct terminal t = terminal_open(40);
    const char *const cells[] = {"teacher", "stale", "input x changed and the output is not there"};
    setenv("NO_COLOR", "1", 1);
    ui_table(t.slave, cells, 1, 3, false);
    CHECK_STR(terminal_read(&t), "teacher  stale  input x changed and the\r\n                output is not there\r\n");
}

TEST("colours: --color decides, then NO_COLOR, then TERM, then whether it is a terminal") {
    struct terminal t = terminal_open(80);
    int null = open("/dev/null", O_WRONLY);
    CHECK(ui_colored(t.slave, UI_COLOR_AUTO));
    CHECK(!ui_colored(null, UI_COLOR_AUTO));
    CHECK(ui_colored(null, UI_COLOR_ALWAYS));
    CHECK(!ui_colored(t.slave, UI_COLOR_NEVER));
    setenv("NO_COLOR", "", 1);
    CHECK(ui_colored(t.slave, UI_COLOR_AUTO));
    setenv("NO_COLOR", "1", 1);
    CHECK(!ui_colored(t.slave, UI_COLOR_AUTO));
    CHECK(ui_colored(t.slave, UI_COLOR_ALWAYS));
    unsetenv("NO_COLOR");
    setenv("TERM", "dumb", 1);
    CHECK(!ui_colored(t.slave, UI_COLOR_AUTO));
    CHECK_EQ(ui_width(t.slave), 80);
    CHECK_EQ(ui_width(null), 80);
}

/* -- the faces */

static struct ui *open_ui(struct ui_options o) {
    struct ui *u;
    struct err e;
    if (ui_open(&o, &u, &e)) FAIL("%s", e.text);
    return u;
}

/* A short build, in which one step fails. */
static void some_build(struct ui *u) {
    ui_build_started(u, "mbuild release", 4, 10);
    ui_step_finished(u, &(struct ui_finish){.step = "digits", .what = "dataset", .status = UI_CURRENT, .estimate_s = 8});
    ui_step_started(u, "teacher", "train", NULL, NULL);
    ui_progress(u, "teacher", 1, 3, "epoch 1/3");
    ui_metric(u, "teacher", "loss", NAN);
    ui_metric(u, "teacher", "loss", 0.25);
    ui_log(u, "teacher", 1, "an info");
    ui_log(u, "teacher", 2, "a \033[31mwarning");
    ui_step_finished(u, &(struct ui_finish){.step = "teacher", .what = "train", .status = UI_BUILT, .seconds = 1.5, .estimate_s = 2,
                                            .metrics = "{\"accuracy\":0.97221,\"loss\":0.05}", .peak_bytes = 1 << 20});
    ui_step_started(u, "bad", "command", NULL, NULL);
    ui_step_finished(u, &(struct ui_finish){.step = "bad", .what = "command", .status = UI_FAILED, .seconds = 0.02, .estimate_s = -1,
                                            .message = "it ended with status 3", .tail = "one\ntwo \xff\n", .log = ".mbuild/log/1/bad.log",
                                            .again = "mbuild bad"});
    ui_step_finished(u, &(struct ui_finish){.step = "after", .what = "copy", .status = UI_SKIPPED, .reason = "needs bad, which failed", .estimate_s = -1});
    ui_build_finished(u, &(struct ui_summary){.built = 1, .current = 1, .failed = 1, .skipped = 1, .seconds = 1.53, .status = 2});
}

/* What a build prints, on two files. */
struct printed {
    char out[65536], err[65536];
};

static void read_whole(const char *path, char *text, size_t size) {
    FILE *f = fopen(path, "r");
    CHECK(f);
    size_t n = fread(text, 1, size - 1, f);
    text[n] = 0;
    fclose(f);
}

static struct printed *print_build(struct ui_options o, void (*build)(struct ui *u)) {
    static struct printed p;
    char out[4096], err[4096];
    snprintf(out, sizeof out, "%s/out", test_folder());
    snprintf(err, sizeof err, "%s/err", test_folder());
    o.out_fd = open(out, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    o.err_fd = open(err, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    struct ui *u = open_ui(o);
    CHECK(!ui_live(u));
    build(u);
    ui_close(u);
    close(o.out_fd);
    close(o.err_fd);
    read_whole(out, p.out, sizeof p.out);
    read_whole(err, p.err, sizeof p.err);
    return &p;
}

#define FAILURE                                                                                                     \
    "  failed bad (command) after 20 ms\n         it ended with status 3\n         │ one\n         │ two \xef\xbf\xbd\n" \
    "         log   .mbuild/log/1/bad.log\n         again mbuild bad\n"

TEST("plain lines: what ran on stdout, failures whole on stderr") {
    struct printed *p = print_build((struct ui_options){0}, some_build);
    CHECK_STR(p->out, "   built teacher (train) in 1.50 s: accuracy 0.9722, loss 0.05\n  failed bad: 1 built, 1 current, 1 failed, 1 skipped in 1.53 s\n");
    CHECK_STR(p->err, " warning teacher: a warning\n" FAILURE);
}

TEST("-s prints failures alone") {
    struct printed *p = print_build((struct ui_options){.silent = true}, some_build);
    CHECK_STR(p->out, "");
    CHECK_STR(p->err, FAILURE);
}

TEST("-v prints starts, logs, and steps that did not run") {
    struct printed *p = print_build((struct ui_options){.verbose = true}, some_build);
    CHECK_CONTAINS(p->out, "   start teacher (train)\n");
    CHECK_CONTAINS(p->out, "teacher: an info\n");
    CHECK_CONTAINS(p->out, " current digits (dataset)\n");
    CHECK_CONTAINS(p->out, " in 1.50 s, 1.0 MiB: accuracy");
    CHECK_CONTAINS(p->out, " skipped after (copy): needs bad, which failed\n");
}

static void idle_build(struct ui *u) {
    ui_build_started(u, "mbuild", 1, -1);
    ui_step_finished(u, &(struct ui_finish){.step = "a", .what = "copy", .status = UI_CURRENT, .estimate_s = -1});
    ui_build_finished(u, &(struct ui_summary){.current = 1, .nothing = "a is up to date: nothing to do"});
}

TEST("a build with nothing to do says so in one line, and with -s in none") {
    CHECK_STR(print_build((struct ui_options){0}, idle_build)->out, "a is up to date: nothing to do\n");
    CHECK_STR(print_build((struct ui_options){.silent = true}, idle_build)->out, "");
}

static void pointed_build(struct ui *u) {
    ui_build_started(u, "mbuild", 1, -1);
    ui_step_finished(u, &(struct ui_finish){.step = "a", .what = "copy", .status = UI_FAILED, .estimate_s = -1, .message = "mbuild.lua:3: no such thing"});
    ui_build_finished(u, &(struct ui_summary){.failed = 1, .status = 2});
}

TEST("a message about a rule file begins its line") {
    CHECK_CONTAINS(print_build((struct ui_options){0}, pointed_build)->err, "\nmbuild.lua:3: no such thing\n");
}

static void long_build(struct ui *u) {
    ui_build_started(u, "mbuild", 1, -1);
    ui_step_started(u, "teacher", "train", NULL, NULL);
    ui_progress(u, "teacher", 1, 10, "epoch 1/10");
    u->running[0]->started_ns -= 125000000000;
    u->running[0]->told_ns -= 125000000000;
    u->running[0]->first_ns -= 125000000000;
    ui_progress(u, "teacher", 6, 10, "epoch 6/10");
    ui_progress(u, "teacher", 7, 10, "epoch 7/10");
}

TEST("where there is no live area, a step that takes minutes says once a minute how far it is") {
    CHECK_STR(print_build((struct ui_options){0}, long_build)->out, " running teacher (train) for 2:05, 60 %, 1:40 left, epoch 6/10\n");
    CHECK_STR(print_build((struct ui_options){.silent = true}, long_build)->out, "");
}

/* Parses each line; returns how many there are. */
static uint32_t check_json(const char *text, struct arena *a) {
    uint32_t lines = 0;
    for (; *text; lines++) {
        size_t n = strcspn(text, "\n");
        struct value v;
        struct err e;
        if (value_parse(text, n, a, &v, &e)) FAIL("%.*s: %s", (int)n, text, e.text);
        CHECK(value_get_string(&v, "event"));
        CHECK(value_get(&v, "time"));
        text += n;
        CHECK_EQ(*text, '\n');
        text++;
    }
    return lines;
}

TEST("each event is one line of valid JSON, NaN is null and bad bytes are replaced") {
    struct arena a = {0};
    struct printed *p = print_build((struct ui_options){.json = true}, some_build);
    CHECK_EQ(check_json(p->out, &a), 12);
    CHECK_STR(p->err, "");
    CHECK_CONTAINS(p->out, "\"name\":\"loss\",\"value\":null}");
    CHECK_CONTAINS(p->out, "\"tail\":\"one\\ntwo \xef\xbf\xbd\\n\"");
    CHECK_CONTAINS(p->out, "\"metrics\":{\"accuracy\":0.97221,\"loss\":0.05}");
    CHECK_CONTAINS(p->out, "\"schema\":1");
    arena_free(&a);
}

static void hostile_build(struct ui *u) {
    char name[600];
    for (int i = 0; i < 255; i++) name[i] = (char)(i + 1);
    name[255] = 0;
    ui_build_started(u, name, 1, NAN);
    ui_step_started(u, name, name, name, "{not json");
    ui_progress(u, name, INFINITY, NAN, name);
    ui_progress(u, name, -1, -INFINITY, name);
    ui_metric(u, name, name, -INFINITY);
    ui_log(u, name, 99, name);
    ui_log(u, name, -7, name);
    ui_message(u, 2, "%s", name);
    ui_progress(u, "nobody", 1, 2, NULL);
    ui_metric(u, "nobody", "x", 1);
    ui_step_finished(u, &(struct ui_finish){.step = name, .what = name, .status = UI_FAILED, .seconds = NAN, .estimate_s = INFINITY, .reason = name,
                                            .metrics = "[1", .message = name, .tail = name, .log = name, .again = name});
    ui_step_finished(u, &(struct ui_finish){.step = name, .what = name, .status = UI_FAILED});
    ui_build_finished(u, &(struct ui_summary){.failed = 2, .status = 2, .seconds = NAN});
}

TEST("whatever bytes come, JSON stays JSON, and plain lines hold no control characters") {
    struct arena a = {0};
    CHECK_EQ(check_json(print_build((struct ui_options){.json = true, .verbose = true}, hostile_build)->out, &a), 10);
    arena_free(&a);
    struct printed *p = print_build((struct ui_options){.verbose = true, .explain = true}, hostile_build);
    for (const char *c = p->out; *c; c++) CHECK((unsigned char)*c >= 0x20 || *c == '\n' || *c == '\t');
    for (const char *c = p->err; *c; c++) CHECK((unsigned char)*c >= 0x20 || *c == '\n' || *c == '\t');
}

/* -- nobody reads */

static void closed_build(bool json) {
    int p[2];
    CHECK(!pipe(p));
    close(p[0]);
    struct ui *u = open_ui((struct ui_options){.json = json, .verbose = true, .out_fd = p[1], .err_fd = p[1]});
    some_build(u);
    ui_tick(u);
    ui_close(u);
    close(p[1]);
}

TEST("a closed pipe ends the output, not the program") {
    signal(SIGPIPE, SIG_DFL);
    closed_build(false);
    closed_build(true);
}

/* -- the trace */

static void trace_is_whole(const char *path, uint32_t events) {
    struct buf b = {0};
    struct err e;
    struct arena a = {0};
    struct value v;
    if (sys_read_file(path, &b, &e)) FAIL("%s", e.text);
    if (value_parse(b.data, b.len, &a, &v, &e)) FAIL("%s", e.text);
    CHECK_EQ(v.type, VALUE_LIST);
    if (events) CHECK_EQ(v.count, events);
    for (uint32_t i = 0; i < v.count; i++) {
        CHECK(value_get_string(&v.items[i], "ph"));
        CHECK(value_get(&v.items[i], "ts"));
        CHECK(value_get(&v.items[i], "pid"));
    }
    arena_free(&a);
    buf_free(&b);
}

TEST("the trace is a whole JSON array after each event, and steps that run side by side have lanes of their own") {
    char path[4096];
    snprintf(path, sizeof path, "%s/trace", test_folder());
    int null = open("/dev/null", O_WRONLY);
    struct ui *u = open_ui((struct ui_options){.trace = path, .out_fd = null, .err_fd = null});
    trace_is_whole(path, 1);
    ui_build_started(u, "mbuild", 2, -1);
    trace_is_whole(path, 3);
    ui_step_started(u, "a\xff\"", "x", NULL, NULL);
    trace_is_whole(path, 6);
    ui_step_started(u, "b", "x", NULL, NULL);
    trace_is_whole(path, 9);
    ui_step_finished(u, &(struct ui_finish){.step = "a\xff\"", .what = "x", .status = UI_BUILT});
    ui_step_started(u, "c", "x", NULL, NULL); /* in the lane that got free */
    ui_metric(u, "c", "loss", 0.5);
    ui_metric(u, "c", "loss", NAN);
    trace_is_whole(path, 14);
    ui_step_started(u, "c", "x", NULL, NULL); /* tried again */
    trace_is_whole(path, 17);
    ui_close(u);
    trace_is_whole(path, 17);
}

TEST("a trace that can not be written is a warning, and the build goes on") {
    if (access("/dev/full", W_OK)) SKIP("there is no /dev/full");
    char path[4096], text[4096];
    snprintf(path, sizeof path, "%s/err", test_folder());
    int err = open(path, O_CREAT | O_WRONLY, 0600), null = open("/dev/null", O_WRONLY);
    struct ui *u = open_ui((struct ui_options){.trace = "/dev/full", .out_fd = null, .err_fd = err});
    some_build(u);
    ui_close(u);
    read_whole(path, text, sizeof text);
    CHECK_CONTAINS(text, "cannot write the trace /dev/full: No space left");
    CHECK(!strstr(strstr(text, "cannot write") + 1, "cannot write"));
    struct err e;
    CHECK(ui_open(&(struct ui_options){.trace = "/nowhere/trace", .out_fd = null, .err_fd = err}, &u, &e));
    CHECK_CONTAINS(e.text, "/nowhere/trace");
    ui_close(u);
}

/* -- the live area */

static struct ui *open_live(struct terminal *t) {
    struct ui *u = open_ui((struct ui_options){.out_fd = t->slave, .err_fd = t->slave});
    CHECK(ui_live(u));
    return u;
}

/* Lets so much time go by that the next tick draws. */
static void wait_and_tick(struct ui *u) {
    usleep(60000);
    ui_tick(u);
}

static uint32_t count(const char *text, const char *part) {
    uint32_t n = 0;
    for (const char *at = text; (at = strstr(at, part)); at++) n++;
    return n;
}

/* The columns of the longest line, escape sequences left out. */
static uint32_t widest(const char *text) {
    uint32_t most = 0;
    while (*text) {
        size_t n = strcspn(text, "\r\n");
        char *line = strndup(text, n);
        uint32_t used = ui_columns(clean(line, true));
        if (used > most) most = used;
        free(line);
        text += n + (text[n] != 0);
    }
    return most;
}

/* The rows that a frame takes on a terminal of so many columns that breaks lines. */
static uint32_t rows_at(const char *frame, uint32_t columns) {
    uint32_t rows = 0;
    for (;; frame++) {
        size_t n = strcspn(frame, "\n");
        char *line = strndup(frame, n);
        line[strcspn(line, "\r")] = 0;
        uint32_t used = ui_columns(clean(line, true));
        rows += used > columns ? (used + columns - 1) / columns : 1;
        free(line);
        frame += n;
        if (!*frame) return rows;
    }
}

TEST("the live area keeps within the terminal at any width, also after it has changed") {
    for (unsigned short columns = 1; columns < 130; columns += columns < 24 ? 1 : 13) {
        struct terminal t = terminal_open(columns);
        struct ui *u = open_live(&t);
        ui_build_started(u, "mbuild", 12, 100);
        ui_step_started(u, "a-rather-long-name-of-a-step", "quantize", NULL, NULL);
        ui_step_started(u, "日本語の名前", "train", NULL, NULL);
        ui_progress(u, "日本語の名前", 13, 30, "epoch 13/30 of many more");
        ui_metric(u, "日本語の名前", "validation/accuracy", 0.97213);
        ui_metric(u, "日本語の名前", "loss", 0.0213);
        u->started_ns -= 1000000000;
        wait_and_tick(u);
        const char *text = terminal_read(&t);
        CHECKF(widest(text) < columns || columns == 1, "%u columns in %u", widest(text), columns);
        CHECK_CONTAINS(text, "\033[?25l");
        struct winsize size = {.ws_col = (unsigned short)(columns / 2 + 1), .ws_row = 24};
        CHECK(!ioctl(t.slave, TIOCSWINSZ, &size));
        char up[16]; /* the old lines take more rows now */
        snprintf(up, sizeof up, "\r\033[%uA", rows_at(text, size.ws_col) - 1);
        wait_and_tick(u);
        text = terminal_read(&t);
        CHECK(widest(text) <= size.ws_col);
        if (size.ws_col != columns) CHECK_CONTAINS(text, up);
        ui_close(u);
        CHECK_CONTAINS(terminal_read(&t), "\033[?25h");
        close(t.slave);
        close(t.master);
    }
}

TEST("it is redrawn at most 20 times a second, and not at all where nothing changed") {
    struct terminal t = terminal_open(80);
    struct ui *u = open_live(&t);
    ui_build_started(u, "mbuild", 12, -1);
    ui_step_started(u, "a", "train", NULL, NULL);
    u->started_ns -= 1000000000;
    int64_t began = sys_now_ns();
    for (int i = 0; sys_now_ns() - began < 500000000; i++) {
        ui_progress(u, "a", i % 1000, 1000, NULL);
        ui_tick(u);
    }
    uint32_t drawn = count(terminal_read(&t), "\033[J");
    CHECKF(drawn >= 3 && drawn <= 11, "it was drawn %u times in half a second", drawn);
    u->running[0]->started_ns = u->started_ns = sys_now_ns() - 1100000000; /* so no second ends meanwhile */
    wait_and_tick(u);
    terminal_read(&t);
    wait_and_tick(u);
    CHECK_STR(terminal_read(&t), "");
    ui_close(u);
}

TEST("finished steps scroll by above it, failures too, and nothing of it stays at the end") {
    struct terminal t = terminal_open(80);
    setenv("NO_COLOR", "1", 1);
    struct ui *u = open_live(&t);
    ui_build_started(u, "mbuild", 3, -1);
    ui_step_started(u, "a", "train", NULL, NULL);
    ui_step_started(u, "b", "train", NULL, NULL);
    u->started_ns -= 1000000000;
    wait_and_tick(u);
    CHECK_CONTAINS(terminal_read(&t), "0/3  2 running");
    ui_step_finished(u, &(struct ui_finish){.step = "a", .what = "train", .status = UI_BUILT, .seconds = 1, .estimate_s = -1});
    wait_and_tick(u);
    CHECK_CONTAINS(terminal_read(&t), "\r\033[2A   built a (train) in 1.00 s\033[K\r\n  b  train");
    ui_step_finished(u, &(struct ui_finish){.step = "b", .what = "train", .status = UI_FAILED, .estimate_s = -1, .message = "it\033[2Jdied"});
    ui_build_finished(u, &(struct ui_summary){.built = 1, .failed = 1, .status = 2, .seconds = 1});
    CHECK_STR(terminal_read(&t), "\r\033[1A\033[J  failed b (train)\r\n         itdied\r\n\033[?25h  failed b: 1 built, 1 failed in 1.00 s\r\n");
    ui_close(u);
    CHECK_STR(terminal_read(&t), "");
}

TEST("more steps than rows are counted instead of shown") {
    struct terminal t = terminal_open(80);
    struct ui *u = open_live(&t);
    ui_build_started(u, "mbuild", 100, -1);
    for (int i = 0; i < 100; i++) {
        char name[8];
        snprintf(name, sizeof name, "s%d", i);
        ui_step_started(u, name, "train", NULL, NULL);
    }
    u->started_ns -= 1000000000;
    wait_and_tick(u);
    const char *text = terminal_read(&t);
    CHECK_CONTAINS(text, "s10");
    CHECK_CONTAINS(text, "… and 89 more");
    CHECK_EQ(count(text, "\n"), 12);
    ui_close(u);
}

TEST("without a terminal that can move its cursor, and with -s, there is no live area") {
    struct terminal t = terminal_open(80);
    struct ui_options silent = {.silent = true, .out_fd = t.slave, .err_fd = t.slave};
    struct ui *u = open_ui(silent);
    CHECK(!ui_live(u));
    ui_close(u);
    setenv("TERM", "dumb", 1);
    u = open_ui((struct ui_options){.out_fd = t.slave, .err_fd = t.slave});
    CHECK(!ui_live(u));
    some_build(u);
    ui_close(u);
    CHECK(!strchr(terminal_read(&t), '\033'));
}

static void dies_by(int signal_number) {
    struct terminal t = terminal_open(80);
    pid_t child = fork();
    if (!child) {
        signal(SIGQUIT, SIG_DFL); /* a shell's background jobs ignore it */
        struct ui *u = open_live(&t);
        ui_build_started(u, "mbuild", 3, -1);
        ui_step_started(u, "a", "train", NULL, NULL);
        u->started_ns -= 1000000000;
        wait_and_tick(u);
        if (signal_number) raise(signal_number);
        exit(2);
    }
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(signal_number ? WIFSIGNALED(status) && WTERMSIG(status) == signal_number : WIFEXITED(status));
    const char *text = terminal_read(&t);
    CHECK_CONTAINS(text, "\033[?25l");
    CHECK_CONTAINS(strstr(text, "\033[?25l"), "\033[?25h");
}

TEST("the cursor comes back when the program exits in the middle, aborts, or is told to quit") {
    dies_by(0);
    dies_by(SIGQUIT);
#if !defined __SANITIZE_ADDRESS__
    dies_by(SIGABRT);
    dies_by(SIGSEGV);
#endif
}

TEST("a stopped mbuild has its cursor, and draws afresh when it goes on") {
    struct terminal t = terminal_open(80);
    pid_t child = fork();
    if (!child) {
        struct ui *u = open_live(&t);
        ui_build_started(u, "mbuild", 3, -1);
        ui_step_started(u, "a", "train", NULL, NULL);
        u->started_ns -= 1000000000;
        wait_and_tick(u);
        raise(SIGTSTP);
        wait_and_tick(u);
        ui_close(u);
        exit(0);
    }
    int status;
    CHECK_EQ(waitpid(child, &status, WUNTRACED), child);
    bool stopped = WIFSTOPPED(status);
    const char *text = strstr(terminal_read(&t), "\033[?25l");
    bool shown = text && strstr(text, "\033[?25h");
    kill(child, SIGCONT); /* before anything can fail: a stopped child would stay */
    CHECK(stopped);
    CHECK(shown);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_CONTAINS(terminal_read(&t), "1 running");
}
