/* error.h: the one way to fail in plugins/lib and in the plugins.
 *
 * A function that can fail returns 0, or -1 with an error filled in. Only a step's `run` hands it on, by
 * `return host->fail(run, "%s", error.text)`. Context goes in front as the error goes up.
 */
#ifndef MBL_ERROR_H
#define MBL_ERROR_H

#include "export.h"

struct mbl_error {
    char text[4096]; /* one message, cut with "…" if longer; may have several lines */
};

/* Fills in the message and returns -1, for `return mbl_error_set(e, …)`. */
MBL_EXPORT int mbl_error_set(struct mbl_error *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* As mbl_error_set, with ": " and errno's text behind it. */
MBL_EXPORT int mbl_error_errno(struct mbl_error *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts "CONTEXT: " in front of the message and returns -1. */
MBL_EXPORT int mbl_error_wrap(struct mbl_error *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
