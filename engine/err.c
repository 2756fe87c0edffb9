/* err.c: messages of failures; see err.h. */
#include "err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Marks a message that did not fit, so that nobody takes the cut for its end. */
static void err_mark_cut(struct err *e, int wanted) {
    if (wanted >= (int)sizeof e->text) memcpy(e->text + sizeof e->text - 4, "\xe2\x80\xa6", 4);
}

int err_set(struct err *e, const char *format, ...) {
    char text[sizeof e->text]; /* the arguments may point into e */
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    memcpy(e->text, text, sizeof text);
    err_mark_cut(e, n);
    return -1;
}

int err_errno(struct err *e, const char *format, ...) {
    int number = errno;
    char text[sizeof e->text];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    int n = snprintf(e->text, sizeof e->text, "%s: %s", text, strerror(number));
    err_mark_cut(e, n);
    errno = number;
    return -1;
}

int err_wrap(struct err *e, const char *format, ...) {
    char context[sizeof e->text], old[sizeof e->text];
    va_list args;
    va_start(args, format);
    vsnprintf(context, sizeof context, format, args);
    va_end(args);
    memcpy(old, e->text, sizeof old);
    int n = snprintf(e->text, sizeof e->text, "%s: %s", context, old);
    err_mark_cut(e, n);
    return -1;
}
