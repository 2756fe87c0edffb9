/* worker_warm_class.c: which steps may share a warm process: those for which all is the same that a process can't change any more once it
 * is confined and its libraries have looked around; see worker_warm.h.
 *
 * What lies in the repo is left out, since each step confines itself to its own part of it. What lies outside of it, also behind
 * a symbolic link, isn't, because the process itself is kept from the rest of the machine.
 */
#include "worker_warm.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct outside {
    char root[PATH_MAX];
    char **paths;
    uint32_t count, cap;
};

static void add_path(struct outside *o, const char *path) {
    char real[PATH_MAX];
    size_t n = strlen(o->root);
    if (!path || !realpath(path, real)) return; /* what isn't there gives no right */
    if (!strncmp(real, o->root, n) && (real[n] == '/' || !real[n])) return;
    o->paths = mem_grow(o->paths, &o->cap, o->count + 1, sizeof *o->paths);
    o->paths[o->count++] = mem_strdup(real);
}

static int compare(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void add_outside(const struct worker_request *r, struct buf *out) {
    struct outside o = {.count = 0};
    if (!getcwd(o.root, sizeof o.root)) *o.root = 0;
    for (uint32_t i = 0; i < r->input_count; i++) add_path(&o, r->inputs[i].path);
    for (uint32_t i = 0; i < r->output_count; i++) add_path(&o, r->outputs[i].name);
    for (const char *const *p = r->may_read; p && *p; p++) add_path(&o, *p);
    if (o.count) qsort(o.paths, o.count, sizeof *o.paths, compare);
    for (uint32_t i = 0; i < o.count; i++) {
        if (!i || strcmp(o.paths[i], o.paths[i - 1])) buf_addf(out, "outside %s\n", o.paths[i]);
    }
    for (uint32_t i = 0; i < o.count; i++) free(o.paths[i]);
    free(o.paths);
}

char *warm_class(const struct worker_request *r) {
    struct buf text = {0};
    buf_addf(&text, "device %s\nsandbox %d network %d\n", r->device ? r->device : "cpu", (int)r->sandbox, r->network);
    buf_addf(&text, "checkpoint %d\n", r->checkpoint_folder != NULL);
    if (r->makeflags) buf_addf(&text, "makeflags %s\n", r->makeflags);
    for (const char *const *pair = r->env; pair && *pair; pair += 2) {
        buf_addf(&text, "env %zu %s", strlen(pair[0]), pair[0]);
        if (pair[1]) buf_addf(&text, "=%zu %s", strlen(pair[1]), pair[1]);
        buf_addc(&text, '\n');
    }
    if (r->sandbox != SANDBOX_OFF) add_outside(r, &text);
    return text.data;
}
