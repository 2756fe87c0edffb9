/* memory.h: memory, by lifetime, for plugins.
 *
 * What belongs together lies in an arena and goes at once; what grows is a buffer, or an array that mbl_grow enlarges. A step
 * runs in a process of its own, so an allocation that fails ends that process with a message on stderr and status 1: the engine
 * reports it as the step's failure. Blocks whose size follows from data (a matrix, a mapped file) are taken with
 * mbl_try_alloc, so that the message can say what did not fit.
 */
#ifndef MBL_MEMORY_H
#define MBL_MEMORY_H

#include "error.h"
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

MBL_EXPORT void *mbl_alloc(size_t size); /* zeroed; free with free() */
MBL_EXPORT void *mbl_realloc(void *p, size_t size);
MBL_EXPORT char *mbl_printf(const char *format, ...) __attribute__((format(printf, 1, 2))); /* free with free() */

/* `count` elements of `size` bytes, zeroed, aligned to 64; free with free(). On failure (an overflow too) *out is NULL, and the error says
 * how many bytes `what` would have taken. */
MBL_EXPORT int mbl_try_alloc(void **out, uint64_t count, size_t size, const char *what, struct mbl_error *e);

/* Makes room for `need` elements of `size` bytes in an array with room for *cap; returns its new place. New room is not cleared. */
MBL_EXPORT void *mbl_grow(void *array, size_t *cap, size_t need, size_t size);

/* An arena: many pieces, freed at once. All zero is an empty one. Pieces are zeroed and aligned to 16. */
struct mbl_arena {
    struct mbl_arena_block *blocks;
    size_t used, cap; /* in the newest block */
};
MBL_EXPORT void *mbl_arena_alloc(struct mbl_arena *a, size_t size);
MBL_EXPORT char *mbl_arena_strdup(struct mbl_arena *a, const char *s);
MBL_EXPORT char *mbl_arena_strndup(struct mbl_arena *a, const char *s, size_t n); /* NUL-terminated */
MBL_EXPORT char *mbl_arena_printf(struct mbl_arena *a, const char *format, ...) __attribute__((format(printf, 2, 3)));
MBL_EXPORT void mbl_arena_free(struct mbl_arena *a);

/* A growing string of bytes; data is NUL-terminated once anything was added. All zero is an empty one. */
struct mbl_buf {
    char *data;
    size_t len, cap;
};
MBL_EXPORT void mbl_buf_add(struct mbl_buf *b, const void *bytes, size_t n);
MBL_EXPORT void mbl_buf_adds(struct mbl_buf *b, const char *s);
MBL_EXPORT void mbl_buf_addc(struct mbl_buf *b, char c);
MBL_EXPORT void mbl_buf_addf(struct mbl_buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
MBL_EXPORT const char *mbl_buf_str(const struct mbl_buf *b); /* "" when empty */
MBL_EXPORT void mbl_buf_free(struct mbl_buf *b);

#endif
