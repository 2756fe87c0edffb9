/* mem.h: memory, by lifetime.
 *
 * What lives as long as the graph lies in the graph's arena; what grows is a buffer or an array that mem_grow
 * enlarges. An allocation that fails ends the program at once with a message and status 2: everything on disk is
 * consistent at every instruction, so there is nothing to save (engine/sys.h says why).
 */
#ifndef ENGINE_MEM_H
#define ENGINE_MEM_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/* Called before that end, if set: gives back what a process must not keep, such as a terminal's cursor. */
extern void (*mem_farewell)(void);

/* That end, for who asks for memory by other ways. */
_Noreturn void mem_exhausted(size_t size);

void *mem_alloc(size_t size);                       /* zeroed; free with free() */
void *mem_realloc(void *p, size_t size);
char *mem_strdup(const char *s);
char *mem_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Makes room for `need` elements of `size` bytes in an array with room for *cap; returns its new place. New room
 * is not cleared. */
void *mem_grow(void *array, uint32_t *cap, uint32_t need, size_t size);

/* An arena: many small pieces, freed at once. All zero is an empty one. Pieces are aligned to 16. */
struct arena {
    struct arena_block *blocks;
    size_t used, cap; /* in the newest block */
    size_t total;     /* bytes taken from the system */
};
void *arena_alloc(struct arena *a, size_t size); /* zeroed */
char *arena_strdup(struct arena *a, const char *s);
char *arena_strndup(struct arena *a, const char *s, size_t n);
char *arena_printf(struct arena *a, const char *format, ...) __attribute__((format(printf, 2, 3)));
void arena_free(struct arena *a);
void arena_clear(struct arena *a); /* empties it and keeps its newest block */

/* A growing string of bytes; data is NUL-terminated once anything was added. All zero is an empty one. */
struct buf {
    char *data;
    size_t len, cap;
};
void buf_add(struct buf *b, const void *bytes, size_t n);
void buf_adds(struct buf *b, const char *s);
void buf_addc(struct buf *b, char c);
void buf_addf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_addv(struct buf *b, const char *format, va_list args);
const char *buf_str(const struct buf *b); /* "" when empty */
void buf_clear(struct buf *b);            /* keeps the room */
void buf_free(struct buf *b);

/* Strings to dense ids 0, 1, 2 …; strings live in the table's own arena. All zero is an empty one. */
#define NO_ID UINT32_MAX
struct intern {
    struct arena arena;
    const char **strings; /* by id */
    uint32_t *slots, count, cap, slot_count;
    uint64_t *hashes; /* by id */
    uint32_t hash_cap;
};
uint32_t intern_add(struct intern *t, const char *s);                   /* its id, new or old */
uint32_t intern_addn(struct intern *t, const char *s, size_t n);
uint32_t intern_find(const struct intern *t, const char *s);            /* NO_ID if absent */
void intern_free(struct intern *t);

/* The name among `count` names that is nearest to `word` by edit distance, or NULL if none is near enough to be
 * worth suggesting. */
const char *mem_nearest(const char *word, const char *const *names, size_t count);

#endif
