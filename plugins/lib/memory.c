/* memory.c: memory by lifetime; see memory.h. */
#include "memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_BLOCK 32768

struct mbl_arena_block {
    struct mbl_arena_block *next;
    size_t size; /* keeps what follows aligned to 16 */
};

static _Noreturn void memory_exhausted(size_t size) {
    fprintf(stderr, "out of memory: %zu bytes could not be had\n", size);
    exit(1);
}

void *mbl_alloc(size_t size) {
    void *p = calloc(1, size ? size : 1);
    if (!p) memory_exhausted(size);
    return p;
}

void *mbl_realloc(void *p, size_t size) {
    void *q = realloc(p, size ? size : 1);
    if (!q) memory_exhausted(size);
    return q;
}

char *mbl_printf(const char *format, ...) {
    char *text;
    va_list args;
    va_start(args, format);
    int n = vasprintf(&text, format, args);
    va_end(args);
    if (n < 0) memory_exhausted(0);
    return text;
}

int mbl_try_alloc(void **out, uint64_t count, size_t size, const char *what, struct mbl_error *e) {
    uint64_t bytes;
    *out = NULL;
    if (__builtin_mul_overflow(count, (uint64_t)size, &bytes) || bytes > SIZE_MAX / 2)
        return mbl_error_set(e, "%s: %llu elements of %zu bytes are more than memory can hold", what, (unsigned long long)count, size);
    size_t whole = bytes ? ((size_t)bytes + 63) & ~(size_t)63 : 64;
    void *p = aligned_alloc(64, whole);
    if (!p) return mbl_error_set(e, "%s: out of memory: it takes %llu bytes", what, (unsigned long long)bytes);
    *out = memset(p, 0, whole);
    return 0;
}

void *mbl_grow(void *array, size_t *cap, size_t need, size_t size) {
    if (need <= *cap) return array;
    size_t more = *cap ? *cap : 16, bytes;
    while (more < need) more = more > SIZE_MAX / 2 ? need : more * 2;
    if (__builtin_mul_overflow(more, size, &bytes)) memory_exhausted(SIZE_MAX);
    *cap = more;
    return mbl_realloc(array, bytes);
}

/* -- arenas */

void *mbl_arena_alloc(struct mbl_arena *a, size_t size) {
    if (size > SIZE_MAX / 2) memory_exhausted(size);
    size = (size + 15) & ~(size_t)15;
    if (!a->blocks || size > a->cap - a->used) {
        size_t cap = size > ARENA_BLOCK / 4 ? size : ARENA_BLOCK;
        struct mbl_arena_block *block = mbl_alloc(sizeof *block + cap);
        block->size = cap;
        /* A large piece gets a block of its own behind the newest, whose room stays in use. */
        if (cap == size && a->blocks) {
            block->next = a->blocks->next;
            a->blocks->next = block;
            return block + 1;
        }
        block->next = a->blocks;
        a->blocks = block;
        a->used = 0;
        a->cap = cap;
    }
    void *p = (char *)(a->blocks + 1) + a->used;
    a->used += size;
    return p;
}

char *mbl_arena_strndup(struct mbl_arena *a, const char *s, size_t n) {
    char *copy = mbl_arena_alloc(a, n + 1);
    if (n) memcpy(copy, s, n);
    return copy;
}

char *mbl_arena_strdup(struct mbl_arena *a, const char *s) {
    return mbl_arena_strndup(a, s, strlen(s));
}

char *mbl_arena_printf(struct mbl_arena *a, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0) memory_exhausted(0);
    char *text = mbl_arena_alloc(a, (size_t)n + 1);
    vsnprintf(text, (size_t)n + 1, format, again);
    va_end(again);
    return text;
}

void mbl_arena_free(struct mbl_arena *a) {
    for (struct mbl_arena_block *block = a->blocks, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    *a = (struct mbl_arena){0};
}

/* -- buffers */

void mbl_buf_add(struct mbl_buf *b, const void *bytes, size_t n) {
    if (n > SIZE_MAX / 2 - b->len) memory_exhausted(n);
    b->data = mbl_grow(b->data, &b->cap, b->len + n + 1, 1);
    if (n) memcpy(b->data + b->len, bytes, n);
    b->len += n;
    b->data[b->len] = 0;
}

void mbl_buf_adds(struct mbl_buf *b, const char *s) {
    mbl_buf_add(b, s, strlen(s));
}

void mbl_buf_addc(struct mbl_buf *b, char c) {
    mbl_buf_add(b, &c, 1);
}

void mbl_buf_addf(struct mbl_buf *b, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0) memory_exhausted(0);
    b->data = mbl_grow(b->data, &b->cap, b->len + (size_t)n + 1, 1);
    vsnprintf(b->data + b->len, (size_t)n + 1, format, again);
    va_end(again);
    b->len += (size_t)n;
}

const char *mbl_buf_str(const struct mbl_buf *b) {
    return b->data ? b->data : "";
}

void mbl_buf_free(struct mbl_buf *b) {
    free(b->data);
    *b = (struct mbl_buf){0};
}
