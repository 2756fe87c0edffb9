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

/* The files to look at before anything runs: sources, and outputs as they stand. One that several steps take is listed once. */
static uint32_t *list_files(const struct graph *g, const uint32_t *order, uint32_t count, uint32_t *n) {
    uint32_t *files = NULL, cap = 0;
    bool *listed = mem_alloc(g->paths.count + 1);
    *n = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct step *step = &g->steps[order[i]];
        files = mem_grow(files, &cap, *n + step->input_count + step->output_count, sizeof *files);
        for (uint32_t k = 0; k < step->input_count; k++) {
            uint32_t f = step->inputs[k].file;
            if (!listed[f] && graph_producer(g, f) == NO_ID) files[(*n)++] = f;
            listed[f] = true;
        }
        for (uint32_t k = 0; k < step->output_count; k++)
            if (!step->outputs[k].shared) files[(*n)++] = step->outputs[k].file;
    }
    free(listed);
    return files;
}

static int check_sources(const struct graph *g, const struct step *step, struct err *e) {
    for (uint32_t k = 0; k < step->input_count; k++) {
        const struct file *f = &g->files[step->inputs[k].file];
        if (!f->secret && graph_producer(g, step->inputs[k].file) == NO_ID && check_source(g, step, f, e)) return -1;
    }
    return 0;
}

/* No source and no output may lie outside by a link. Secret files may: they are the user's own, not the repo's. */
static int check_places(struct graph *g, const struct step *step, bool *looked, struct err *e) {
    int status = 0;
    for (uint32_t k = 0; k < step->input_count && !status; k++) {
        uint32_t f = step->inputs[k].file;
        if (looked[f] || g->files[f].secret || graph_producer(g, f) != NO_ID) continue;
        looked[f] = true;
        status = graph_check_links(g, g->files[f].path, true, e);
    }
    for (uint32_t k = 0; k < step->output_count && !status; k++) status = graph_check_links(g, g->files[step->outputs[k].file].path, false, e);
    return status ? err_wrap(e, "%s: step \"%s\"", step->where, step->name) : 0;
}

/* A dynamic rule that isn't defined yet has nothing to check. */
static bool is_open(const struct step *step) {
    return step->dynamic && !step->defined;
}

static int prepare(struct session *s, const uint32_t *order, uint32_t count, bool parallel, struct err *e) {
    struct graph *g = &s->graph;
    for (uint32_t i = 0; i < count; i++)
        if (!is_open(&g->steps[order[i]]) && (bind_step(s, order[i], e) || check_resources(s, &g->steps[order[i]], e))) return -1;
    bool *looked = mem_alloc(g->paths.count + 1);
    int status = 0;
    for (uint32_t i = 0; i < count && !status; i++) status = check_places(g, &g->steps[order[i]], looked, e);
    free(looked);
    if (status) return -1;
    uint32_t n, *files = list_files(g, order, count, &n);
    status = parallel ? files_learn(g, s->jobs, files, n, e) : 0;
    for (uint32_t i = 0; i < n && !parallel && !status; i++) status = file_learn(g, files[i], e);
    free(files);
    for (uint32_t i = 0; i < count && !status; i++) status = check_sources(g, &g->steps[order[i]], e);
    for (uint32_t i = 0; i < count && !status; i++)
        if (!is_open(&g->steps[order[i]])) status = bind_check(s, order[i], e);
    return status;
}

int build_prepare(struct session *s, const uint32_t *order, uint32_t count, struct err *e) {
    return prepare(s, order, count, true, e);
}

int build_prepare_more(struct session *s, const uint32_t *order, uint32_t count, struct err *e) {
    return prepare(s, order, count, false, e);
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

static int plan_steps(struct session *s, struct plan *p, uint32_t first, uint32_t end, struct err *e);

/* Whether something that the step depends on isn't known, or not there to be looked at. */
static bool waits_in_plan(const struct graph *g, uint32_t index) {
    const struct step *step = &g->steps[index];
    uint32_t need;
    for (uint32_t i = 0; graph_dependency(g, index, i, &need); i++)
        if (need != NO_ID && g->steps[need].planned_open) return true;
    for (uint32_t i = 0; i < step->need_count; i++) /* a function looks at files, which a restored step has yet to bring back */
        if (g->steps[step->needs[i]].planned_restore) return true;
    return false;
}

/* Goes on with a dynamic rule for as long as all that it asks for is there. */
static int plan_dynamic(struct session *s, struct plan *p, uint32_t index, struct err *e) {
    struct graph *g = &s->graph;
    while (!g->steps[index].defined && !waits_in_plan(g, index)) {
        enum rules_answer answer;
        uint32_t before = p->count;
        if (dynamic_define(s, index, &answer, e) || graph_want_more(g, index, &p->order, &p->count, &p->cap, e)) return -1;
        if (build_prepare_more(s, p->order + before, p->count - before, e) || plan_steps(s, p, before, p->count, e)) return -1;
    }
    if (!g->steps[index].defined) return 0;
    return bind_step(s, index, e) || check_resources(s, &g->steps[index], e) || build_prepare_more(s, &index, 1, e) ? -1 : 0;
}

static int plan_step(struct session *s, struct plan *p, uint32_t at, struct err *e) {
    struct graph *g = &s->graph;
    uint32_t index = p->order[at];
    struct decision d = {.verdict = VERDICT_OPEN};
    if (is_open(&g->steps[index]) && plan_dynamic(s, p, index, e)) return -1;
    if (!is_open(&g->steps[index]) && !waits_in_plan(g, index)) {
        if (bind_step(s, index, e) || learn_inner_inputs(s, &g->steps[index], e) || decide_step(s, index, &d, e)) return -1;
        if (d.verdict == VERDICT_RESTORE) assume_outputs(g, &g->steps[index], d.from);
    }
    g->steps[index].planned_open = d.verdict == VERDICT_RUN || d.verdict == VERDICT_OPEN;
    g->steps[index].planned_restore = d.verdict == VERDICT_RESTORE;
    p->decisions = mem_realloc(p->decisions, (p->count + 1) * sizeof *p->decisions);
    p->decisions[at] = d;
    return 0;
}

/* Those that a dynamic rule adds at the order's end are planned when it asks for them, before itself. */
static int plan_steps(struct session *s, struct plan *p, uint32_t first, uint32_t end, struct err *e) {
    for (uint32_t i = first; i < end; i++)
        if (plan_step(s, p, i, e)) return -1;
    return 0;
}

int build_plan(struct session *s, struct plan *p, struct err *e) {
    p->cap = p->count;
    p->decisions = mem_alloc((p->count + 1) * sizeof *p->decisions);
    return plan_steps(s, p, 0, p->count, e);
}
