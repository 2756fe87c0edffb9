/* explain.c: how two versions of an input differ, as far as a plugin can tell; see decide.h.
 *
 * What steps made lies in the store. Sources don't, so those of a step whose plugin explains are put there when it has run. They are
 * only ever read to explain: a store that lost them answers a little less.
 */
#include "decide.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SOURCE_MOST ((uint64_t)64 << 20) /* larger ones would cost more room than the answer is worth */
#define ANSWER_MS 10000

void explain_keep(struct session *s, const struct step *step) {
    const struct graph *g = &s->graph;
    struct err ignored;
    if (!step->binding->type->has_explain) return;
    for (uint32_t i = 0; i < step->input_count; i++) {
        const struct file *f = &g->files[step->inputs[i].file];
        struct artifact a;
        if (f->secret || graph_producer(g, step->inputs[i].file) != NO_ID) continue;
        if (f->artifact.type != ARTIFACT_FILE || f->artifact.size > SOURCE_MOST || store_has(s->store, &f->artifact)) continue;
        store_put(s->store, f->path, &a, &ignored);
    }
}

static void keep_first_line(void *ctx, const struct worker_event *ev) {
    struct buf *b = ctx;
    if (ev->type == WORKER_LOG && !b->len) buf_adds(b, ev->text);
}

/* Where the former version is brought to: by its own name, which may tell its format. */
static char *place_former(const char *path, char **folder) {
    const char *temp = getenv("TMPDIR"), *slash = strrchr(path, '/');
    *folder = mem_printf("%s/mbuild-why-XXXXXX", temp && *temp == '/' ? temp : "/tmp");
    if (!mkdtemp(*folder)) return NULL;
    return mem_printf("%s/%s", *folder, slash ? slash + 1 : path);
}

char *explain_input(struct session *s, const struct step *step, uint32_t input, const struct artifact *former) {
    const struct binding *b = step->binding;
    const struct file *f = &s->graph.files[step->inputs[input].file];
    struct err ignored;
    struct buf answer = {0};
    bool corrupt;
    if (!b->type->has_explain || !s->store || f->secret || !artifact_same(&f->artifact, &f->standing)) return NULL;
    if (former->type != ARTIFACT_FILE || f->artifact.type != ARTIFACT_FILE || !store_has(s->store, former)) return NULL;
    char *folder, *before = place_former(f->path, &folder);
    if (before && !store_get(s->store, former, before, &corrupt, &ignored)) {
        struct worker_request request = {.hook = WORKER_EXPLAIN, .plugin_path = b->plugin->path, .step = b->type->name, .label = step->name,
                                         .params = b->params, .device = s->device, .cpus = 1, .timeout_ms = ANSWER_MS, .dry_run = true,
                                         .explain_role = b->inputs[input]->name, .before = before, .after = f->path};
        if (worker_call(s->workers, &request, keep_first_line, &answer, &ignored)) buf_clear(&answer);
    }
    if (before) sys_remove_tree(folder, &ignored);
    free(before);
    free(folder);
    if (answer.len) return answer.data;
    buf_free(&answer);
    return NULL;
}
