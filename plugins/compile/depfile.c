/* depfile.c: see depfile.h. */
#include "depfile.h"

#include <stdbool.h>
#include <string.h>

static bool blank(const char *p) {
    return *p == ' ' || *p == '\t' || *p == '\n' || *p == '\r' || (*p == '\\' && (p[1] == '\n' || (p[1] == '\r' && p[2] == '\n')));
}

/* One word, unescaped in place. */
static char *word(char **rest) {
    char *p = *rest;
    while (*p && blank(p)) p++;
    if (!*p) {
        *rest = p;
        return NULL;
    }
    char *start = p, *to = p;
    while (*p && !blank(p)) {
        if (*p == '\\' && (p[1] == ' ' || p[1] == '#' || p[1] == ':' || p[1] == '\\')) {
            /* Only backslashes right before a blank are doubled. */
            if (p[1] == '\\') {
                char *end = p;
                while (*end == '\\') end++;
                if (*end != ' ' && *end != '#') {
                    while (p < end) *to++ = *p++;
                    continue;
                }
            }
            p++;
        } else if (*p == '$' && p[1] == '$') {
            p++;
        }
        *to++ = *p++;
    }
    *rest = *p ? p + 1 : p;
    *to = 0;
    return start;
}

char *depfile_next(char **rest) {
    char *w;
    while ((w = word(rest))) {
        size_t n = strlen(w);
        if (n && w[n - 1] != ':') return w;
    }
    return NULL;
}
