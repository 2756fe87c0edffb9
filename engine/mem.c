/* mem.c: memory by lifetime; see mem.h. */
#include "mem.h"
#include "sys_call.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void (*mem_farewell)(void);

_Noreturn void mem_exhausted(size_t size) {
    char text[96];
    if (mem_farewell) mem_farewell();
    int n = snprintf(text, sizeof text, "mbuild: out of memory (asked for %zu bytes)\n", size);
    if (n > 0 && write(STDERR_FILENO, text, (size_t)n) < 0) _exit(2);
    _exit(2);
}

void *mem_alloc(size_t size) {
    void *p = sys_fault(SYS_ALLOC) ? NULL : calloc(1, size ? size : 1);
    if (!p) mem_exhausted(size);
    return p;
}

void *mem_realloc(void *p, size_t size) {
    p = sys_fault(SYS_ALLOC) ? NULL : realloc(p, size ? size : 1);
    if (!p) mem_exhausted(size);
    return p;
}

char *mem_strdup(const char *s) {
    size_t n = strlen(s) + 1;
    return memcpy(mem_alloc(n), s, n);
}

char *mem_printf(const char *format, ...) {
    struct buf b = {0};
    va_list args;
    va_start(args, format);
    buf_addv(&b, format, args);
    va_end(args);
    return b.data ? b.data : mem_strdup("");
}

void *mem_grow(void *array, uint32_t *cap, uint32_t need, size_t size) {
    if (need <= *cap) return array;
    uint64_t room = *cap ? *cap : 8;
    while (room < need) room *= 2;
    if (room > UINT32_MAX) mem_exhausted((size_t)need * size);
    *cap = (uint32_t)room;
    return mem_realloc(array, (size_t)room * size);
}

/* -- arena */

struct arena_block {
    struct arena_block *next;
    _Alignas(16) char bytes[];
};

void *arena_alloc(struct arena *a, size_t size) {
    size = (size + 15) & ~(size_t)15;
    if (!a->blocks || a->cap - a->used < size) {
        size_t cap = a->total < 65536 ? 4096 : 262144;
        if (cap < size) cap = size;
        struct arena_block *b = mem_alloc(sizeof *b + cap);
        a->total += sizeof *b + cap;
        b->next = a->blocks;
        a->blocks = b;
        a->used = 0;
        a->cap = cap;
    }
    void *p = a->blocks->bytes + a->used;
    a->used += size;
    return p;
}

char *arena_strndup(struct arena *a, const char *s, size_t n) {
    char *p = arena_alloc(a, n + 1);
    memcpy(p, s, n);
    return p;
}

char *arena_strdup(struct arena *a, const char *s) {
    return arena_strndup(a, s, strlen(s));
}

char *arena_printf(struct arena *a, const char *format, ...) {
    struct buf b = {0};
    va_list args;
    va_start(args, format);
    buf_addv(&b, format, args);
    va_end(args);
    char *p = arena_strndup(a, buf_str(&b), b.len);
    buf_free(&b);
    return p;
}

void arena_clear(struct arena *a) {
    struct arena_block *newest = a->blocks;
    if (!newest) return;
    memset(newest->bytes, 0, a->used);
    struct arena rest = {.blocks = newest->next};
    arena_free(&rest);
    newest->next = NULL;
    a->used = 0;
    a->total = sizeof *newest + a->cap;
}

void arena_free(struct arena *a) {
    while (a->blocks) {
        struct arena_block *next = a->blocks->next;
        free(a->blocks);
        a->blocks = next;
    }
    memset(a, 0, sizeof *a);
}

/* -- buffer */

static void buf_reserve(struct buf *b, size_t more) {
    if (more > SIZE_MAX - b->len - 1) mem_exhausted(more);
    size_t need = b->len + more + 1;
    if (need <= b->cap) return;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < need) cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    b->data = mem_realloc(b->data, cap);
    b->cap = cap;
}

void buf_add(struct buf *b, const void *bytes, size_t n) {
    buf_reserve(b, n);
    if (n) memcpy(b->data + b->len, bytes, n);
    b->len += n;
    b->data[b->len] = 0;
}

void buf_adds(struct buf *b, const char *s) {
    buf_add(b, s, strlen(s));
}

void buf_addc(struct buf *b, char c) {
    buf_add(b, &c, 1);
}

void buf_addv(struct buf *b, const char *format, va_list args) {
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (n < 0) return;
    buf_reserve(b, (size_t)n);
    vsnprintf(b->data + b->len, (size_t)n + 1, format, args);
    b->len += (size_t)n;
}

void buf_addf(struct buf *b, const char *format, ...) {
    va_list args;
    va_start(args, format);
    buf_addv(b, format, args);
    va_end(args);
}

const char *buf_str(const struct buf *b) {
    return b->data ? b->data : "";
}

void buf_clear(struct buf *b) {
    b->len = 0;
    if (b->data) b->data[0] = 0;
}

void buf_free(struct buf *b) {
    free(b->data);
    memset(b, 0, sizeof *b);
}

/* -- interning: open addressing, the hash kept so that growing needs no second look at the strings */

static uint64_t intern_hash(const char *s, size_t n) {
    uint64_t h = 0x9e3779b97f4a7c15u ^ n;
    while (n >= 8) {
        uint64_t word;
        memcpy(&word, s, 8);
        h = (h ^ word) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
        s += 8;
        n -= 8;
    }
    uint64_t rest = 0;
    memcpy(&rest, s, n);
    h = (h ^ rest) * 0xc4ceb9fe1a85ec53u;
    return h ^ (h >> 29);
}

static uint32_t *intern_slot(const struct intern *t, const char *s, size_t n, uint64_t hash) {
    uint32_t mask = t->slot_count - 1;
    for (uint32_t i = (uint32_t)hash & mask;; i = (i + 1) & mask) {
        uint32_t id = t->slots[i];
        if (id == NO_ID) return &t->slots[i];
        if (t->hashes[id] == hash && !strncmp(t->strings[id], s, n) && !t->strings[id][n]) return &t->slots[i];
    }
}

static void intern_enlarge(struct intern *t) {
    uint32_t slots = t->slot_count ? t->slot_count * 2 : 64;
    free(t->slots);
    t->slots = mem_realloc(NULL, (size_t)slots * sizeof *t->slots);
    t->slot_count = slots;
    memset(t->slots, 0xff, (size_t)slots * sizeof *t->slots);
    for (uint32_t id = 0; id < t->count; id++) {
        uint32_t i = (uint32_t)t->hashes[id] & (slots - 1);
        while (t->slots[i] != NO_ID) i = (i + 1) & (slots - 1);
        t->slots[i] = id;
    }
}

uint32_t intern_addn(struct intern *t, const char *s, size_t n) {
    if ((uint64_t)(t->count + 1) * 3 > (uint64_t)t->slot_count * 2) intern_enlarge(t);
    uint64_t hash = intern_hash(s, n);
    uint32_t *slot = intern_slot(t, s, n, hash);
    if (*slot != NO_ID) return *slot;
    t->strings = mem_grow(t->strings, &t->cap, t->count + 1, sizeof *t->strings);
    t->hashes = mem_grow(t->hashes, &t->hash_cap, t->count + 1, sizeof *t->hashes);
    t->strings[t->count] = arena_strndup(&t->arena, s, n);
    t->hashes[t->count] = hash;
    *slot = t->count;
    return t->count++;
}

uint32_t intern_add(struct intern *t, const char *s) {
    return intern_addn(t, s, strlen(s));
}

uint32_t intern_find(const struct intern *t, const char *s) {
    if (!t->slot_count) return NO_ID;
    size_t n = strlen(s);
    return *intern_slot(t, s, n, intern_hash(s, n));
}

void intern_free(struct intern *t) {
    arena_free(&t->arena);
    free(t->strings);
    free(t->hashes);
    free(t->slots);
    memset(t, 0, sizeof *t);
}

/* -- suggestions */

/* Optimal string alignment distance (insert, delete, replace, swap neighbours) over at most 64 bytes. */
static unsigned edit_distance(const char *a, const char *b) {
    size_t n = strnlen(a, 64), m = strnlen(b, 64);
    unsigned char row[3][65];
    for (size_t j = 0; j <= m; j++) row[1][j] = (unsigned char)j;
    for (size_t i = 1; i <= n; i++) {
        unsigned char *now = row[2];
        now[0] = (unsigned char)i;
        for (size_t j = 1; j <= m; j++) {
            unsigned best = row[1][j - 1] + (a[i - 1] != b[j - 1]);
            if (row[1][j] + 1u < best) best = row[1][j] + 1u;
            if (now[j - 1] + 1u < best) best = now[j - 1] + 1u;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && row[0][j - 2] + 1u < best)
                best = row[0][j - 2] + 1u;
            now[j] = (unsigned char)best;
        }
        memcpy(row[0], row[1], sizeof row[0]);
        memcpy(row[1], row[2], sizeof row[1]);
    }
    return row[1][m];
}

const char *mem_nearest(const char *word, const char *const *names, size_t count) {
    const char *best = NULL;
    unsigned most = (unsigned)((strnlen(word, 64) + 1) / 3), least = (most ? most : 1) + 1; /* more than a third wrong is another word */
    for (size_t i = 0; i < count; i++) {
        unsigned d = edit_distance(word, names[i]);
        if (d < least) {
            least = d;
            best = names[i];
        }
    }
    return best;
}
