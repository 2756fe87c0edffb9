/* lookup.c: see lookup.h. */
#include "lookup.h"

#include <stdlib.h>
#include <string.h>

static const struct mbl_json *in_list(const struct mbl_json *list, const char *name) {
    char *end;
    if (*name < '0' || *name > '9') return NULL;
    unsigned long i = strtoul(name, &end, 10);
    if ((*end && *end != '.') || i >= list->count) return NULL;
    return *end ? mbl_lookup(list->items[i], end + 1) : list->items[i];
}

const struct mbl_json *mbl_lookup(const struct mbl_json *root, const char *name) {
    if (!root) return NULL;
    if (root->type == MBL_JSON_LIST) return in_list(root, name);
    for (size_t i = 0; root->type == MBL_JSON_TABLE && i < root->count; i++) {
        size_t n = strlen(root->keys[i]);
        if (strncmp(root->keys[i], name, n) || (name[n] && name[n] != '.')) continue;
        const struct mbl_json *found = name[n] ? mbl_lookup(root->items[i], name + n + 1) : root->items[i];
        if (found) return found;
    }
    return NULL;
}

static void each_below(const struct mbl_json *v, struct mbl_buf *name, void (*each)(void *, const char *, const struct mbl_json *),
                       void *ctx) {
    if (v->type != MBL_JSON_TABLE) {
        if (v->type == MBL_JSON_STRING || mbl_json_is_number(v)) each(ctx, mbl_buf_str(name), v);
        return;
    }
    size_t n = name->len;
    for (size_t i = 0; i < v->count; i++) {
        if (n) mbl_buf_addc(name, '.');
        mbl_buf_adds(name, v->keys[i]);
        each_below(v->items[i], name, each, ctx);
        name->len = n;
        if (name->data) name->data[n] = 0;
    }
}

void mbl_lookup_each(const struct mbl_json *root, void (*each)(void *, const char *, const struct mbl_json *), void *ctx) {
    struct mbl_buf name = {0};
    if (root) each_below(root, &name, each, ctx);
    mbl_buf_free(&name);
}

/* -- the nearest name */

/* Edits from one to the other: an insertion, a removal, a change or a swap of neighbours each (optimal string alignment). */
static size_t distance(const char *a, const char *b) {
    enum { MOST = 64 };
    size_t n = strlen(a), m = strlen(b), rows[3][MOST + 1];
    if (n > MOST || m > MOST) return (size_t)-1;
    for (size_t j = 0; j <= m; j++) rows[0][j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t *now = rows[i % 3], *before = rows[(i - 1) % 3], *two = rows[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = before[j - 1] + (a[i - 1] != b[j - 1]);
            if (before[j] + 1 < best) best = before[j] + 1;
            if (now[j - 1] + 1 < best) best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && two[j - 2] + 1 < best) best = two[j - 2] + 1;
            now[j] = best;
        }
    }
    return rows[n % 3][m];
}

struct nearest {
    const char *name;
    bool strings;
    struct mbl_arena *arena;
    size_t distance;
    const char *best;
};

static void try_name(void *ctx, const char *name, const struct mbl_json *value) {
    struct nearest *n = ctx;
    if (value->type == MBL_JSON_STRING && !n->strings) return;
    size_t d = distance(n->name, name);
    if (d >= n->distance) return;
    n->distance = d;
    n->best = mbl_arena_strdup(n->arena, name);
}

const char *mbl_lookup_nearest(const struct mbl_json *root, const char *name, bool strings, struct mbl_arena *a) {
    struct nearest n = {.name = name, .strings = strings, .arena = a, .distance = strlen(name) / 2 + 1};
    mbl_lookup_each(root, try_name, &n);
    return n.best;
}
