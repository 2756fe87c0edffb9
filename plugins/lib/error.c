/* error.c: messages of what failed; see error.h. */
#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Ends a message that did not fit with "…", without cutting a UTF-8 sequence in two. */
static void error_cut(struct mbl_error *e, int wanted) {
    if (wanted >= 0 && (size_t)wanted < sizeof e->text) return;
    size_t n = sizeof e->text - 4;
    while (n > 0 && ((unsigned char)e->text[n] & 0xc0) == 0x80) n--;
    memcpy(e->text + n, "\xe2\x80\xa6", 4);
}

int mbl_error_set(struct mbl_error *e, const char *format, ...) {
    va_list args;
    va_start(args, format);
    error_cut(e, vsnprintf(e->text, sizeof e->text, format, args));
    va_end(args);
    return -1;
}

int mbl_error_errno(struct mbl_error *e, const char *format, ...) {
    int number = errno;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(e->text, sizeof e->text, format, args);
    va_end(args);
    error_cut(e, n);
    size_t length = strlen(e->text);
    error_cut(e, (int)length + snprintf(e->text + length, sizeof e->text - length, ": %s", strerror(number)));
    return -1;
}

int mbl_error_wrap(struct mbl_error *e, const char *format, ...) {
    char inner[sizeof e->text];
    memcpy(inner, e->text, sizeof inner);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(e->text, sizeof e->text, format, args);
    va_end(args);
    error_cut(e, n);
    size_t length = strlen(e->text);
    error_cut(e, (int)length + snprintf(e->text + length, sizeof e->text - length, ": %s", inner));
    return -1;
}
