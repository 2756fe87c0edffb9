/* card.c: model cards with figures filled in; see package.h. */
#include "package.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* A figure as people write it: four significant digits, all digits before the point. */
static void add_number(double v, struct mbl_buf *out) {
    mbl_buf_addf(out, fabs(v) >= 1000 ? "%.0f" : "%.4g", v);
}

static int add_value(const struct mbl_json *v, struct mbl_buf *out) {
    switch (v->type) {
    case MBL_JSON_STRING: mbl_buf_add(out, v->string, v->count); return 0;
    case MBL_JSON_INT: mbl_buf_addf(out, "%lld", (long long)v->integer); return 0;
    case MBL_JSON_FLOAT: add_number(v->number, out); return 0;
    case MBL_JSON_BOOL: mbl_buf_adds(out, v->boolean ? "yes" : "no"); return 0;
    default: return -1;
    }
}

int card_render(const char *text, const char *path, const struct mbl_json *figures, struct mbl_buf *out, struct mbl_error *e) {
    struct mbl_arena a = {0};
    int status = 0;
    unsigned line = 1;
    for (const char *p = text; *p && !status;) {
        if (strncmp(p, "{{", 2)) {
            line += *p == '\n';
            mbl_buf_addc(out, *p++);
            continue;
        }
        const char *end = strstr(p, "}}"), *newline = strchr(p, '\n');
        if (!end || (newline && newline < end)) {
            status = mbl_error_set(e, "%s:%u: \"{{\" without \"}}\" in the same line", path, line);
            break;
        }
        const char *from = p + 2, *to = end;
        while (from < to && *from == ' ') from++;
        while (to > from && to[-1] == ' ') to--;
        const char *name = mbl_arena_strndup(&a, from, (size_t)(to - from));
        const struct mbl_json *v = mbl_lookup(figures, name);
        p = end + 2;
        if (v && !add_value(v, out)) continue;
        const char *near = v ? NULL : mbl_lookup_nearest(figures, name, true, &a);
        if (v) status = mbl_error_set(e, "%s:%u: {{%s}} is %s, which a card can't show", path, line, name, mbl_json_type_name(v->type));
        else
            status = mbl_error_set(e, "%s:%u: nothing is called {{%s}}%s%s%s", path, line, name, near ? "; did you mean {{" : "",
                                   near ? near : "", near ? "}}?" : "");
    }
    mbl_arena_free(&a);
    return status;
}
