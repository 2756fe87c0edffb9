/* names.c: see names.h. */
#include "names.h"

#include <stdlib.h>
#include <string.h>

static char *join(const char *a, const char *b) {
    size_t n = strlen(a), m = strlen(b);
    char *s = malloc(n + m + 1);
    if (!s) return NULL;
    memcpy(s, a, n);
    memcpy(s + n, b, m + 1);
    return s;
}

int names_add(struct names *n, const char *name, const char *up, const char *path) {
    if (n->count == n->cap) {
        size_t cap = n->cap ? 2 * n->cap : 8;
        struct name *items = realloc(n->items, cap * sizeof *items);
        if (!items) return -1;
        n->items = items;
        n->cap = cap;
    }
    struct name new = {.name = join("", name), .path = join(*path == '/' ? "" : up, path), .from_root = join("", path)};
    size_t i = n->count++;
    for (; i && strlen(n->items[i - 1].name) < strlen(name); i--) n->items[i] = n->items[i - 1];
    n->items[i] = new;
    return new.name && new.path && new.from_root ? 0 : -1;
}

int names_keep(struct names *n, const char *input) {
    for (size_t i = 0; i < n->count; i++) {
        size_t length = strlen(n->items[i].name);
        if (!strncmp(input, n->items[i].name, length) && input[length] && input[length] != '/') return names_add(n, input, "", input);
    }
    return 0;
}

/* Bytes that are part of a path wherever they stand. Blanks, quotes, "=", ":" and the shell's signs may be, but rather part paths. */
static bool in_path(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.' || c == '/' ||
           (unsigned char)c >= 0x80;
}

/* Whether a path can begin at `at`. */
static bool begins(const char *text, const char *at) {
    if (at - text >= 2 && at[-1] == '/' && at[-2] == '.') at -= 2;
    if (at == text || !in_path(at[-1])) return true;
    bool letter = (at[-1] >= 'a' && at[-1] <= 'z') || (at[-1] >= 'A' && at[-1] <= 'Z');
    return letter && at - text >= 2 && at[-2] == '-' && (at - text == 2 || !in_path(at[-3]));
}

static struct name *name_at(struct names *n, const char *text, const char *at) {
    for (size_t i = 0; i < n->count; i++)
        if (!strncmp(at, n->items[i].name, strlen(n->items[i].name))) return begins(text, at) ? &n->items[i] : NULL;
    return NULL;
}

char *names_replace(struct names *n, const char *text) {
    size_t length = 0;
    char *out = NULL;
    for (int pass = 0; pass < 2; pass++) { /* the first measures */
        size_t at = 0;
        for (const char *p = text; *p;) {
            struct name *found = name_at(n, text, p);
            const char *from = found ? found->path : p;
            size_t bytes = found ? strlen(from) : 1;
            if (out) memcpy(out + at, from, bytes);
            at += bytes;
            p += found ? strlen(found->name) : 1;
            if (found) found->used = true;
        }
        length = at;
        if (!out && !(out = malloc(length + 1))) return NULL;
    }
    out[length] = 0;
    return out;
}

void names_free(struct names *n) {
    for (size_t i = 0; i < n->count; i++) {
        free(n->items[i].name);
        free(n->items[i].path);
        free(n->items[i].from_root);
    }
    free(n->items);
    *n = (struct names){0};
}
