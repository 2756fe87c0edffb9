/* command_clean.c: `clean` and `gc`: removing outputs, shrinking the store. */
#include "command.h"
#include "files.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int open_session(struct session *s, struct options *own, const struct options *o, int argc, char **argv, struct err *e) {
    int rest;
    bool done = false;
    memset(s, 0, sizeof *s);
    s->lock_fd = -1;
    memset(own, 0, sizeof *own);
    own->command_line = o->command_line;
    own->directory = o->directory;
    own->file = o->file;
    return options_parse(own, argc, argv, true, &rest, &done, e) || session_open(s, own, own->dry_run, e) ? -1 : 0;
}

/* Folders that became empty go too, up to the repo's root. */
static void remove_empty_parents(const char *path) {
    char *parent = mem_strdup(path);
    for (char *slash; (slash = strrchr(parent, '/'));) {
        *slash = 0;
        if (rmdir(parent)) break;
    }
    free(parent);
}

static int clean_path(struct session *s, const char *path, uint32_t *removed, struct err *e) {
    struct file_stat st;
    if (sys_stat(path, true, &st, e)) return -1;
    if (st.kind == FILE_ABSENT) return 0;
    ++*removed;
    if (s->read_only || s->options->verbose) ui_message(s->ui, 1, "%s %s", s->read_only ? "would remove" : "removed", path);
    if (s->read_only) return 0;
    if (sys_remove_tree(path, e)) return -1;
    remove_empty_parents(path);
    return 0;
}

/* Outputs of a step by its rule and by its record, which may differ. Files that were added to shared folders stay: they are history. */
static int clean_step(struct session *s, const struct step *step, uint32_t *removed, struct err *e) {
    for (uint32_t i = 0; i < step->output_count; i++)
        if (!step->outputs[i].shared && clean_path(s, s->graph.files[step->outputs[i].file].path, removed, e)) return -1;
    return 0;
}

/* What a step made that the rules no longer have, or have elsewhere. */
static int clean_record(struct session *s, const struct state_record *r, uint32_t *removed, struct err *e) {
    uint32_t index = graph_find_step(&s->graph, r->step);
    for (uint32_t i = 0; i < r->output_count; i++) {
        uint32_t file = graph_find_file(&s->graph, r->outputs[i].path);
        if (file != NO_ID && graph_producer(&s->graph, file) != NO_ID) continue; /* another step's now */
        bool history = false;
        for (uint32_t k = 0; index != NO_ID && k < s->graph.steps[index].output_count; k++) {
            const struct slot *slot = &s->graph.steps[index].outputs[k];
            const char *folder = s->graph.files[slot->file].path;
            history |= slot->shared && !strncmp(r->outputs[i].path, folder, strlen(folder));
        }
        if (history || !strncmp(r->outputs[i].role, "record", 7)) continue;
        struct artifact now;
        if (digest_path(r->outputs[i].path, false, &now, NULL, e)) return -1;
        if (!artifact_same(&now, &r->outputs[i].artifact)) continue; /* changed since: perhaps somebody's own by now */
        if (clean_path(s, r->outputs[i].path, removed, e)) return -1;
    }
    return index == NO_ID && !s->read_only ? state_drop_record(s->state, r->step, e) : 0;
}

int command_clean(const struct options *o, int argc, char **argv, struct err *e) {
    struct session s;
    struct options own;
    uint32_t *steps = NULL, count = 0, cap = 0, removed = 0;
    int status = open_session(&s, &own, o, argc, argv, e);
    for (uint32_t i = 0; !status && i < own.target_count; i++) status = graph_resolve(&s.graph, own.targets[i], &steps, &count, &cap, e);
    for (uint32_t i = 0; !status && i < count; i++) status = clean_step(&s, &s.graph.steps[steps[i]], &removed, e);
    if (!status && !own.target_count) {
        for (uint32_t i = 0; !status && i < s.graph.step_count; i++) status = clean_step(&s, &s.graph.steps[i], &removed, e);
        for (uint32_t i = 0; !status && i < s.graph.record_count; i++) status = clean_record(&s, s.graph.records[i], &removed, e);
    }
    if (!status) ui_message(s.ui, 1, "%s %u output%s; the store still has what was built (`mbuild gc` shrinks it)", s.read_only ? "would remove" : "removed", removed, removed == 1 ? "" : "s");
    free(steps);
    session_close(&s);
    options_free(&own);
    return status;
}

/* -- gc */

struct marks {
    struct digest *items;
    uint32_t count, cap;
};

static void mark(void *ctx, const struct artifact *a) {
    struct marks *m = ctx;
    if (a->type == ARTIFACT_NONE) return;
    m->items = mem_grow(m->items, &m->cap, m->count + 1, sizeof *m->items);
    m->items[m->count++] = a->digest;
}

static int compare_digests(const void *a, const void *b) {
    return memcmp(a, b, sizeof(struct digest));
}

static bool marked(void *ctx, const struct digest *d) {
    const struct marks *m = ctx;
    return m->count && bsearch(d, m->items, m->count, sizeof *m->items, compare_digests);
}

/* Checkpoints of steps that were never taken up again are as old as their last write. */
int command_gc(const struct options *o, int argc, char **argv, struct err *e) {
    struct session s;
    struct options own;
    struct marks marks = {0};
    struct store_gc_result result;
    long days = 30;
    int kept = 1;
    for (int i = 1; i < argc; i++) {
        char *end;
        if (strncmp(argv[i], "--days=", 7)) {
            argv[kept++] = argv[i];
            continue;
        }
        errno = 0;
        days = strtol(argv[i] + 7, &end, 10);
        if (errno || *end || end == argv[i] + 7 || days < 0 || days > 100000) return err_set(e, "gc --days: a number of days expected, found %s", argv[i] + 7);
    }
    int status = open_session(&s, &own, o, kept, argv, e);
    uint32_t dropped = 0;
    int64_t limit = sys_wall_ms() - (int64_t)days * 86400000;
    if (!status && !s.read_only) status = state_prune_actions(s.state, limit, &dropped, e) || state_commit(s.state, e) ? -1 : 0;
    if (!status) status = state_each_artifact(s.state, mark, &marks, e);
    if (!status && marks.count) qsort(marks.items, marks.count, sizeof *marks.items, compare_digests);
    if (!status && s.store) status = store_gc(s.store, marked, &marks, 0, s.read_only, &result, e);
    if (!status && s.store) {
        char gone[24], left[24];
        ui_message(s.ui, 1, "%s %llu objects (%s); %llu stay (%s). Forgot %u results older than %ld days", s.read_only ? "would remove" : "removed",
                   (unsigned long long)result.removed, ui_bytes(result.removed_bytes, gone), (unsigned long long)result.kept,
                   ui_bytes(result.kept_bytes, left), dropped, days);
    }
    free(marks.items);
    session_close(&s);
    options_free(&own);
    return status;
}
