/* err.h: the one way to fail.
 *
 * A function that can fail returns 0, or -1 with an error filled in. Nobody but the user interface prints it and
 * nobody but main exits. Context is put in front as the error goes up: "cannot store build/a: write: No space left".
 */
#ifndef ENGINE_ERR_H
#define ENGINE_ERR_H

struct err {
    char text[4096]; /* one message, cut with "…" if longer; may have several lines */
};

/* Fills in the message and returns -1, for `return err_set(e, …)`. */
int err_set(struct err *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* As err_set, with ": " and errno's text behind it. */
int err_errno(struct err *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts "CONTEXT: " in front of the message and returns -1. */
int err_wrap(struct err *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
