/* ui_format.c: sizes, times and numbers for people, and what a descriptor can show; see ui.h. */
#include "sys.h"
#include "ui_private.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define METRICS_SHOWN 4
#define METRICS_COLUMNS 56 /* so that a line with them fits a terminal */

char *ui_bytes(uint64_t n, char out[24]) {
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (n < 1024) {
        snprintf(out, 24, "%u B", (unsigned)n);
        return out;
    }
    size_t unit = 0;
    double size = (double)n / 1024;
    for (; size >= 1023.95 && unit + 1 < sizeof units / sizeof *units; unit++) size /= 1024;
    snprintf(out, 24, size < 99.95 ? "%.1f %s" : "%.0f %s", size, units[unit]);
    return out;
}

char *ui_seconds(double s, char out[24]) {
    if (!isfinite(s) || s < 0) s = 0;
    if (s < 0.00995) snprintf(out, 24, "%.1f ms", s * 1e3);
    else if (s < 0.9995) snprintf(out, 24, "%.0f ms", s * 1e3);
    else if (s < 9.995) snprintf(out, 24, "%.2f s", s);
    else if (s < 59.95) snprintf(out, 24, "%.1f s", s);
    else if (s < 3599.5) snprintf(out, 24, "%d min %02d s", (int)(s + 0.5) / 60, (int)(s + 0.5) % 60);
    else if (s < 86370) snprintf(out, 24, "%d h %02d min", (int)(s / 60 + 0.5) / 60, (int)(s / 60 + 0.5) % 60);
    else if (s < 1e11) snprintf(out, 24, "%u d %02u h", (unsigned)(s / 3600 + 0.5) / 24, (unsigned)(s / 3600 + 0.5) % 24);
    else snprintf(out, 24, "ages");
    return out;
}

char *ui_ago(int64_t wall_ms, char out[32]) {
    static const struct {
        int64_t seconds;
        const char *name;
    } units[] = {{31557600, "year"}, {2629800, "month"}, {86400, "day"}, {3600, "hour"}, {60, "minute"}, {1, "second"}};
    int64_t seconds = (sys_wall_ms() - wall_ms) / 1000;
    snprintf(out, 32, "just now"); /* also of a clock that was set back since */
    for (size_t i = 0; i < sizeof units / sizeof *units && seconds >= 5; i++) {
        long long n = (long long)(seconds / units[i].seconds);
        if (!n) continue;
        snprintf(out, 32, "%lld %s%s ago", n, units[i].name, n == 1 ? "" : "s");
        break;
    }
    return out;
}

void ui_add_number(struct buf *b, double v) {
    if (isnan(v)) buf_adds(b, "NaN");
    else if (isinf(v)) buf_adds(b, v < 0 ? "-inf" : "inf");
    else if (v == floor(v) && fabs(v) < 1e9) buf_addf(b, "%.0f", v);
    else buf_addf(b, "%.4g", v);
}

void ui_add_clock(struct buf *b, double seconds) {
    long long s = isfinite(seconds) && seconds > 0 && seconds < 1e12 ? (long long)seconds : 0;
    if (s < 3600) buf_addf(b, "%lld:%02lld", s / 60, s % 60);
    else buf_addf(b, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
}

void ui_add_metrics(struct buf *b, const char *json) {
    struct arena a = {0};
    struct value v;
    struct err ignored;
    uint32_t shown = 0, columns = METRICS_COLUMNS;
    if (json && !value_parse(json, strlen(json), &a, &v, &ignored) && v.type == VALUE_TABLE) {
        for (uint32_t i = 0; i < v.count && shown < METRICS_SHOWN; i++) {
            if (v.items[i].type != VALUE_INT && v.items[i].type != VALUE_FLOAT) continue;
            struct buf one = {0};
            if (shown) buf_adds(&one, ", ");
            ui_clean(&one, v.keys[i], true);
            buf_addc(&one, ' ');
            ui_add_number(&one, value_number(&v.items[i]));
            uint32_t used = ui_columns(one.data);
            if (used <= columns) {
                buf_adds(b, one.data);
                columns -= used;
                shown++;
            }
            buf_free(&one);
        }
    }
    arena_free(&a);
}

int ui_width(int fd) {
    uint32_t columns, rows;
    ui_term_size(fd, &columns, &rows);
    return columns ? (int)columns : 80;
}

bool ui_colored(int fd, enum ui_color c) {
    if (c != UI_COLOR_AUTO) return c == UI_COLOR_ALWAYS;
    const char *none = getenv("NO_COLOR"), *term = getenv("TERM");
    return !(none && *none) && term && *term && strcmp(term, "dumb") && isatty(fd);
}

const char *ui_status_name(enum ui_status s) {
    static const char *const names[] = {"built", "restored", "current", "failed", "skipped"};
    return names[s];
}
