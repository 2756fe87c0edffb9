/* plan.c: what is done before a build, and the build that is only thought through (-n, -q, status, why); see build.h. */
#include "build.h"
#include "files.h"

#include <stdlib.h>
#include <string.h>

static int check_resources(const struct session *s, const struct step *step, struct err *e) {
    const struct resources *r = &step->resources;
    char need[24], have[24];
    if (r->cpu > s->cpus) return err_set(e, "%s: step \"%s\" needs cpu = %d, but this build has %d (see -j)", step->where, step->name, r->cpu, s->cpus);
    if (r->gpu > s->gpus) return err_set(e, "%s: step \"%s\" needs gpu = %d, but there are %d here", step->where, step->name, r->gpu, s->gpus);
    if (r->mem > s->memory)
        return err_set(e, "%s: step \"%s\" needs mem = %s, but this machine has %s", step->where, step->name, ui_bytes(r->mem, need), ui_bytes(s->memory, have));
    return 0;
}

/* A source that no step makes must be there. */
static int check_source(const struct graph *g, const struct step *step, const struct file *f, struct err *e) {
    if (f->former != NO_ID && f->artifact.type != ARTIFACT_NONE)
        return err_set(e, "%s: step \"%s\": the input %s is no source: step \"%s\", which the rules no longer have, made it; `mbuild clean` removes such leftovers",
                       step->where, step->name, f->path, g->records[f->former]->step);
    if (f->artifact.type != ARTIFACT_NONE) return 0;
    uint32_t same_name = graph_find_step(g, f->path);
    if (same_name != NO_ID)
        return err_set(e, "%s: step \"%s\": the input %s doesn't exist; to name the artifact \"%s\", give what its rule returned, not its name in quotes",
                       step->where, step->name, f->path, f->path);
    return err_set(e, "%s: step \"%s\": the input %s doesn't exist, and no step makes it", step->where, step->name, f->path);
}

int build_prepare(struct session *s, const uint32_t *order, uint32_t count, struct err *e) {
    struct graph *g = &s->graph;
    uint32_t *files = NULL, n = 0, cap = 0;
    for (uint32_t i = 0; i < count; i++)
        if (bind_step(s, order[i], e) || check_resources(s, &g->steps[order[i]], e)) return -1;
    for (uint32_t i = 0; i < count; i++) {
        const struct step *step = &g->steps[order[i]];
        files = mem_grow(files, &cap, n + step->input_count + step->output_count, sizeof *files);
        for (uint32_t k = 0; k < step->input_count; k++)
            if (graph_producer(g, step->inputs[k].file) == NO_ID) files[n++] = step->inputs[k].file;
        for (uint32_t k = 0; k < step->output_count; k++)
            if (!step->outputs[k].shared) files[n++] = step->outputs[k].file;
    }
    /* A source that several steps take stands in the list more than once; two threads must not meet at it. */
    bool *listed = mem_alloc(g->paths.count);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (listed[files[i]]) continue;
        listed[files[i]] = true;
        files[kept++] = files[i];
    }
    free(listed);
    int status = files_learn(g, s->jobs, files, kept, e);
    free(files);
    for (uint32_t i = 0; i < count && !status; i++) {
        const struct step *step = &g->steps[order[i]];
        for (uint32_t k = 0; k < step->input_count && !status; k++) {
            const struct file *f = &g->files[step->inputs[k].file];
            if (!f->secret && graph_producer(g, step->inputs[k].file) == NO_ID) status = check_source(g, step, f, e);
        }
    }
    for (uint32_t i = 0; i < count && !status; i++) status = bind_check(s, order[i], e);
    return status;
}

/* Pretends that a step's outputs are those that the record tells. */
static void assume_outputs(struct graph *g, const struct step *step, const struct state_record *r) {
    for (uint32_t i = 0; i < step->output_count; i++) {
        for (uint32_t k = 0; k < r->output_count; k++) {
            struct file *f = &g->files[step->outputs[i].file];
            if (strcmp(r->outputs[k].role, step->binding->outputs[i]->name)) continue;
            if (r->output_count > 1 && strcmp(r->outputs[k].path, f->path)) continue;
            f->artifact = r->outputs[k].artifact;
            f->state = FILE_KNOWN;
        }
    }
}

/* An input inside a folder that a step makes is a file of its own: learned once the folder is there. */
static int learn_inner_inputs(struct session *s, const struct step *step, struct err *e) {
    for (uint32_t i = 0; i < step->input_count; i++)
        if (s->graph.files[step->inputs[i].file].producer == NO_ID && file_learn(&s->graph, step->inputs[i].file, e)) return -1;
    return 0;
}

int build_plan(struct session *s, const uint32_t *order, uint32_t count, struct decision *decisions, struct err *e) {
    struct graph *g = &s->graph;
    int status = 0;
    for (uint32_t i = 0; i < count && !status; i++) {
        struct step *step = &g->steps[order[i]];
        struct decision *d = &decisions[i];
        memset(d, 0, sizeof *d);
        d->verdict = VERDICT_OPEN;
        bool waits = step->plugin_file != NO_ID && graph_producer(g, step->plugin_file) != NO_ID && g->steps[graph_producer(g, step->plugin_file)].planned_open;
        for (uint32_t k = 0; k < step->input_count && !waits; k++) {
            uint32_t p = graph_producer(g, step->inputs[k].file);
            waits = p != NO_ID && g->steps[p].planned_open;
        }
        if (!waits) {
            status = bind_step(s, order[i], e) || learn_inner_inputs(s, step, e) || decide_step(s, order[i], d, e) ? -1 : 0;
            step = &g->steps[order[i]];
            if (!status && d->verdict == VERDICT_RESTORE) assume_outputs(g, step, d->from);
        }
        step->planned_open = d->verdict == VERDICT_RUN || d->verdict == VERDICT_OPEN;
    }
    return status;
}
