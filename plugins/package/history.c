/* history.c: lineages of several inputs as one list of steps and one of sources; see package.h. */
#include "package.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* What a step tells of itself, without "closure". */
static struct mbl_json *without_closure(const struct mbl_json *step, struct mbl_arena *a) {
    struct mbl_json *out = mbl_json_table(a);
    for (size_t i = 0; i < step->count; i++)
        if (strcmp(step->keys[i], "closure")) mbl_json_set(a, out, step->keys[i], step->items[i]);
    return out;
}

static bool has_source(const struct history *h, const char *path) {
    for (size_t i = 0; i < h->source_count; i++)
        if (!strcmp(h->sources[i].path, path)) return true;
    return false;
}

static void add_source(struct history *h, const char *path, const char *digest, bool data) {
    struct stat st;
    if (!path || !digest || has_source(h, path)) return;
    h->sources = mbl_grow(h->sources, &h->source_cap, h->source_count + 1, sizeof *h->sources);
    h->sources[h->source_count++] = (struct source){path, digest, data, !stat(path, &st) && S_ISDIR(st.st_mode)};
}

static void add_step(struct history *h, const struct mbl_json *step, struct mbl_arena *a) {
    const char *name = mbl_json_get_string(step, "step"), *plugin = mbl_json_get_string(step, "plugin");
    const struct mbl_json *inputs = mbl_json_get(step, "inputs");
    if (!name) return;
    for (size_t i = 0; i < h->step_count; i++)
        if (!strcmp(mbl_json_get_string(h->steps[i], "step"), name)) return;
    h->steps = mbl_grow(h->steps, &h->step_cap, h->step_count + 1, sizeof *h->steps);
    h->steps[h->step_count++] = without_closure(step, a);
    bool data = plugin && (!strncmp(plugin, "dataset", 7) || !strncmp(plugin, "fetch", 5));
    for (size_t i = 0; inputs && inputs->type == MBL_JSON_LIST && i < inputs->count; i++)
        if (!mbl_json_get(inputs->items[i], "step"))
            add_source(h, mbl_json_get_string(inputs->items[i], "path"), mbl_json_get_string(inputs->items[i], "digest"), data);
}

int history_add(struct history *h, const char *lineage, struct mbl_arena *a, struct mbl_error *e) {
    struct mbl_json *v;
    if (mbl_json_parse(lineage, strlen(lineage), "lineage", a, &v, e)) return -1;
    const struct mbl_json *closure = mbl_json_get(v, "closure");
    add_source(h, mbl_json_get_string(v, "source"), mbl_json_get_string(v, "digest"), false);
    if (mbl_json_get(v, "step")) add_step(h, v, a);
    for (size_t i = 0; closure && closure->type == MBL_JSON_LIST && i < closure->count; i++) add_step(h, closure->items[i], a);
    return 0;
}

static int compare_steps(const void *a, const void *b) {
    return strcmp(mbl_json_get_string(*(struct mbl_json *const *)a, "step"), mbl_json_get_string(*(struct mbl_json *const *)b, "step"));
}

static int compare_sources(const void *a, const void *b) {
    return strcmp(((const struct source *)a)->path, ((const struct source *)b)->path);
}

void history_sort(struct history *h) {
    if (h->step_count) qsort(h->steps, h->step_count, sizeof *h->steps, compare_steps);
    if (h->source_count) qsort(h->sources, h->source_count, sizeof *h->sources, compare_sources);
}

void history_free(struct history *h) {
    free(h->steps);
    free(h->sources);
}
