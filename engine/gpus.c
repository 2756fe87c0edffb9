/* gpus.c: which GPUs there are, and who holds them; see gpus.h. */
#include "gpus.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* A number is an index into those found; anything else but a minus sign begins a UUID ("GPU-…", "MIG-…"), which CUDA looks up. */
static bool is_name(const char *s, size_t n, int found) {
    if (!n || *s == '-') return false;
    if (strspn(s, "0123456789") < n) return true;
    return n < 9 && atoi(s) < found;
}

void gpus_open(struct gpus *g, const char *visible, int found, struct arena *a) {
    *g = (struct gpus){.count = 0};
    if (!visible)
        for (; g->count < found && g->count < GPUS_MOST; g->count++) g->names[g->count] = arena_printf(a, "%d", g->count);
    while (visible && found && g->count < GPUS_MOST) {
        visible += strspn(visible, " ");
        size_t n = strcspn(visible, ", ");
        if (!is_name(visible, n, found)) break;
        g->names[g->count++] = arena_strndup(a, visible, n);
        visible += n + strspn(visible + n, " ");
        if (*visible != ',') break;
        visible++;
    }
}

uint64_t gpus_hold(struct gpus *g, int count) {
    uint64_t which = 0;
    for (int i = 0; i < g->count && count > 0; i++) {
        uint64_t bit = UINT64_C(1) << i;
        if (g->held & bit) continue;
        which |= bit;
        count--;
    }
    assert(count <= 0);
    g->held |= which;
    return which;
}

void gpus_release(struct gpus *g, uint64_t which) {
    assert((g->held & which) == which);
    g->held &= ~which;
}

const char *gpus_text(const struct gpus *g, uint64_t which, struct arena *a) {
    const char *text = "";
    for (int i = 0; i < g->count; i++)
        if (which >> i & 1) text = *text ? arena_printf(a, "%s,%s", text, g->names[i]) : g->names[i];
    return text;
}
