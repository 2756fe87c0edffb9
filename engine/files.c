/* files.c: learning what files hold; see files.h. */
#include "files.h"

#include <stdlib.h>
#include <string.h>

static bool stat_fits(const struct file *f, const struct file_stat *now) {
    return f->recorded && now->kind == FILE_REGULAR && file_stat_same(&f->recorded_stat, now);
}

/* The part that may run on any thread: reads `f`, which nobody else touches meanwhile. A source may be reached by a link; a link that a
 * step makes is itself what was made (files.h). */
static int learn(struct file *f, struct err *e) {
    bool source = f->producer == NO_ID;
    if (f->state == FILE_KNOWN || f->secret) return 0;
    if (sys_stat(f->path, !source, &f->stat, e)) return -1;
    if (f->stat.kind == FILE_ABSENT) {
        memset(&f->artifact, 0, sizeof f->artifact);
    } else if (stat_fits(f, &f->stat)) {
        f->artifact = f->recorded_artifact;
    } else {
        if (digest_path(f->path, source, &f->artifact, NULL, e)) return -1;
        struct file_stat after; /* changed while it was read: what was read is no state it ever had */
        if (sys_stat(f->path, !source, &after, e)) return -1;
        if (!file_stat_same(&f->stat, &after) && f->stat.kind == FILE_REGULAR) f->stat.ctime_ns = -1;
    }
    f->standing = f->artifact;
    f->state = FILE_KNOWN;
    return 0;
}

int file_learn(struct graph *g, uint32_t file, struct err *e) {
    return learn(&g->files[file], e);
}

/* -- in parallel: each job takes a run of the list */

#define RUN_LENGTH 256

struct learning {
    struct graph *graph;
    const uint32_t *files;
    uint32_t count;
    int status;
    struct err error;
};

static void learn_run(void *arg) {
    struct learning *l = arg;
    for (uint32_t i = 0; i < l->count && !l->status; i++) l->status = learn(&l->graph->files[l->files[i]], &l->error);
}

int files_learn(struct graph *g, struct jobs *jobs, const uint32_t *files, uint32_t count, struct err *e) {
    /* Small lists with big files want a job a file, long lists of small files want few jobs. */
    uint32_t length = count / 64 + 1 < RUN_LENGTH ? count / 64 + 1 : RUN_LENGTH;
    uint32_t runs = (count + length - 1) / length;
    struct learning *all = mem_alloc(runs * sizeof *all);
    for (uint32_t i = 0; i < runs; i++) {
        uint32_t start = i * length;
        all[i] = (struct learning){.graph = g, .files = files + start, .count = count - start < length ? count - start : length};
        jobs_submit(jobs, learn_run, NULL, &all[i]);
    }
    jobs_wait_all(jobs, NULL);
    int status = 0;
    for (uint32_t i = 0; i < runs && !status; i++)
        if (all[i].status) status = err_set(e, "%s", all[i].error.text);
    free(all);
    return status;
}

int file_set(struct graph *g, uint32_t file, const struct artifact *a, struct err *e) {
    struct file *f = &g->files[file];
    if (sys_stat(f->path, f->producer != NO_ID, &f->stat, e)) return -1;
    f->artifact = f->standing = *a;
    f->state = FILE_KNOWN;
    return 0;
}

int files_save(struct graph *g, struct state *state, struct err *e) {
    for (uint32_t i = 0; i < g->paths.count; i++) {
        struct file *f = &g->files[i];
        if (f->state != FILE_KNOWN || f->secret || f->stat.kind != FILE_REGULAR || f->stat.ctime_ns < 0) continue;
        if (f->recorded && file_stat_same(&f->stat, &f->recorded_stat) && artifact_same(&f->artifact, &f->recorded_artifact)) continue;
        struct state_file row = {.path = f->path, .stat = f->stat, .artifact = f->artifact};
        if (state_put_file(state, &row, e)) return -1;
        f->recorded = true;
        f->recorded_stat = f->stat;
        f->recorded_artifact = f->artifact;
    }
    return 0;
}
