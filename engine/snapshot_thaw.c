/* snapshot_thaw.c: from a snapshot back to a graph, as far as what changed can reach; see snapshot.h.
 *
 * Files that did not change are known without another look: snapshot_check has just seen that their stat is the recorded one.
 */
#include "snapshot_private.h"

#include <stdlib.h>
#include <string.h>

/* Beyond this part of all steps, evaluating the rules is hardly dearer, and it leaves a tidy snapshot. */
#define PART_MOST 2
#define FEW_STEPS 1000

struct thaw {
    struct snapshot *snap;
    struct graph *g;
    const struct snap_fact *facts;
    const struct snap_edge *edges;
    const struct snap_step *steps;
    const struct snap_slot *slots;
    const uint32_t *words;
    uint32_t edge_count, word_count;
    const char *text, *paths;
    bool *dirty;            /* by entry */
    bool *needed;           /* by step */
    uint32_t needed_count, reached_count;
    struct err *e;
};

/* -- which steps */

/* For each step those that depend on what it makes: `list[start[p] … start[p + 1])`. */
static void consumers(const struct thaw *t, uint32_t **start, uint32_t **list) {
    uint32_t n = t->snap->step_count;
    *start = mem_alloc((n + 2) * sizeof **start);
    *list = mem_alloc((t->edge_count + 1) * sizeof **list);
    for (uint32_t i = 0; i < t->edge_count; i++) {
        uint32_t p = t->facts[t->edges[i].entry].producer;
        if (p != NO_ID) (*start)[p + 2]++;
    }
    for (uint32_t i = 1; i <= n; i++) (*start)[i + 1] += (*start)[i];
    for (uint32_t i = 0; i < t->edge_count; i++) { /* start[p + 1] runs from p's start to its end */
        uint32_t p = t->facts[t->edges[i].entry].producer;
        if (p != NO_ID) (*list)[(*start)[p + 1]++] = t->edges[i].step;
    }
}

static void reach(struct thaw *t, uint32_t step, uint32_t *stack, uint32_t *depth) {
    if (t->snap->reached[step]) return;
    t->snap->reached[step] = true;
    t->reached_count++;
    stack[(*depth)++] = step;
}

/* Marks the steps that what changed can reach. */
static void mark_reached(struct thaw *t) {
    uint32_t *stack = mem_alloc((t->snap->step_count + 1) * sizeof *stack), depth = 0, *start, *list;
    for (uint32_t i = 0; i < t->snap->dirty_count; i++) {
        uint32_t entry = t->snap->dirty[i];
        if (t->facts[entry].parent != NO_ID) entry = t->facts[entry].parent;
        t->dirty[entry] = true;
        if (t->facts[entry].producer != NO_ID) reach(t, t->facts[entry].producer, stack, &depth);
    }
    for (uint32_t i = 0; i < t->edge_count; i++)
        if (t->dirty[t->edges[i].entry]) reach(t, t->edges[i].step, stack, &depth);
    consumers(t, &start, &list);
    while (depth) {
        uint32_t p = stack[--depth];
        for (uint32_t i = start[p]; i < start[p + 1]; i++) reach(t, list[i], stack, &depth);
    }
    free(start);
    free(list);
    free(stack);
}

static void need(struct thaw *t, uint32_t step, uint32_t *stack, uint32_t *depth) {
    if (step == NO_ID || t->needed[step]) return;
    t->needed[step] = true;
    t->needed_count++;
    stack[(*depth)++] = step;
}

/* Marks these and all that they need: lineage wants the whole way back. */
static void mark_needed(struct thaw *t) {
    uint32_t *stack = mem_alloc((t->snap->step_count + 1) * sizeof *stack), depth = 0;
    for (uint32_t i = 0; i < t->snap->step_count; i++)
        if (t->snap->reached[i]) need(t, i, stack, &depth);
    while (depth) {
        const struct snap_step *s = &t->steps[stack[--depth]];
        for (uint32_t i = 0; i < s->input_count; i++) need(t, t->facts[t->slots[s->inputs + i].entry].producer, stack, &depth);
        if (s->plugin_entry != NO_ID) need(t, t->facts[s->plugin_entry].producer, stack, &depth);
    }
    free(stack);
}

/* -- files and steps */

static uint32_t thaw_file(struct thaw *t, uint32_t entry) {
    struct snapshot *snap = t->snap;
    if (snap->file_of[entry] != NO_ID) return snap->file_of[entry];
    const struct snap_stat *st = &snap->stats[entry];
    const struct snap_fact *fact = &t->facts[entry];
    uint32_t count, id = graph_file(t->g, t->paths + st->path);
    const uint64_t *devices = snapshot_section(snap, SNAP_DEVICES, sizeof *devices, &count);
    struct file *f = &t->g->files[id];
    snap->file_of[entry] = id;
    if (st->flags & (SNAP_UNSURE | SNAP_GLOBAL | SNAP_GONE)) return id; /* a secret one among them is marked when its step is bound */
    f->recorded = true;
    f->recorded_stat = (struct file_stat){.kind = st->kind, .executable = st->flags & SNAP_EXECUTABLE, .size = st->size, .ino = st->ino,
                                          .dev = devices[st->device], .mtime_ns = st->mtime_ns, .ctime_ns = st->ctime_ns};
    f->recorded_artifact.type = (enum artifact_type)fact->type;
    f->recorded_artifact.size = fact->size;
    memcpy(f->recorded_artifact.digest.bytes, fact->digest, sizeof fact->digest);
    if (t->dirty[entry]) return id;
    f->stat = f->recorded_stat;
    f->artifact = f->standing = f->recorded_artifact;
    f->state = FILE_KNOWN;
    return id;
}

static void thaw_slots(struct thaw *t, uint32_t first, uint32_t count, struct slot **out) {
    *out = arena_alloc(&t->g->arena, (count + 1) * sizeof **out);
    for (uint32_t i = 0; i < count; i++) {
        const struct snap_slot *s = &t->slots[first + i];
        (*out)[i] = (struct slot){.role = t->text + s->role, .file = thaw_file(t, s->entry), .shared = s->shared};
    }
}

static int thaw_step(struct thaw *t, uint32_t index) {
    const struct snap_step *from = &t->steps[index];
    uint32_t made;
    if (graph_add_step(t->g, t->text + from->name, t->text + from->where, &made, t->e)) return -1;
    t->snap->step_of[made] = index;
    struct step *s = &t->g->steps[made];
    s->plugin = t->text + from->plugin;
    s->timeout_ms = from->timeout_ms;
    s->retries = from->retries;
    s->network = from->network;
    s->resources = (struct resources){.cpu = from->cpu, .gpu = from->gpu, .mem = from->mem, .pool = NO_ID};
    if (from->pool != NO_ID) {
        s->resources.pool = graph_pool(t->g, t->text + from->pool);
        t->g->pools[s->resources.pool].size = from->pool_size;
    }
    s->env_count = from->env_count;
    s->env = arena_alloc(&t->g->arena, (from->env_count + 1) * sizeof *s->env);
    for (uint32_t i = 0; i < from->env_count; i++) s->env[i] = t->text + t->words[from->env + i];
    s->input_count = from->input_count;
    s->output_count = from->output_count;
    thaw_slots(t, from->inputs, from->input_count, &s->inputs);
    thaw_slots(t, from->outputs, from->output_count, &s->outputs);
    if (from->plugin_entry != NO_ID) s->plugin_file = thaw_file(t, from->plugin_entry);
    const char *params = t->text + from->params;
    if (value_parse(params, strlen(params), &t->g->arena, &s->params, t->e)) return -1;
    for (uint32_t i = 0; i < s->output_count; i++)
        if (graph_set_output(t->g, made, i, t->e)) return -1;
    return 0;
}

/* Everything but the slots: inputs that steps found, plugins' files. */
static void thaw_edges(struct thaw *t) {
    for (uint32_t i = 0; i < t->edge_count; i++)
        if (t->needed[t->edges[i].step]) thaw_file(t, t->edges[i].entry);
}

static int thaw_records(struct thaw *t, struct state *state) {
    for (uint32_t i = 0; i < t->g->step_count; i++) {
        struct state_record *r;
        if (state_get_record(state, t->g->steps[i].name, &t->g->arena, &r, t->e)) return -1;
        t->g->steps[i].record = r;
        for (uint32_t k = 0; r && k < r->input_count; k++)
            if (!*r->inputs[k].role) graph_file(t->g, r->inputs[k].path);
    }
    return 0;
}

static int thaw(struct thaw *t, struct state *state) {
    struct snapshot *snap = t->snap;
    snap->file_of = mem_alloc((snap->entry_count + 1) * sizeof *snap->file_of);
    memset(snap->file_of, 0xff, snap->entry_count * sizeof *snap->file_of);
    snap->step_of = mem_alloc((t->needed_count + 1) * sizeof *snap->step_of);
    for (uint32_t i = 0; i < snap->head->outside_count; i++) graph_allow_outside(t->g, t->text + t->words[t->word_count - snap->head->outside_count + i]);
    for (uint32_t i = 0; i < snap->step_count; i++)
        if (t->needed[i] && thaw_step(t, i)) return -1;
    thaw_edges(t);
    return thaw_records(t, state);
}

/* A dynamic rule that looked at what such a step made may come to another end. */
static bool looked_at_by_rules(const struct thaw *t) {
    for (uint32_t i = 0; i < t->snap->step_count; i++)
        if (t->snap->reached[i] && t->steps[i].needed) return true;
    return false;
}

static uint32_t most(const struct snapshot *snap) {
    return snap->step_count / PART_MOST > FEW_STEPS ? snap->step_count / PART_MOST : FEW_STEPS;
}

int snapshot_thaw(struct snapshot *snap, struct session *s, uint32_t **steps, uint32_t *count, struct err *e) {
    if (!snapshot_cold_good(snap)) return 1;
    struct thaw t = {.snap = snap, .g = &s->graph, .e = e};
    uint32_t n;
    t.facts = snapshot_section(snap, SNAP_FACTS, sizeof *t.facts, &n);
    t.edges = snapshot_section(snap, SNAP_EDGES, sizeof *t.edges, &t.edge_count);
    t.steps = snapshot_section(snap, SNAP_STEPS, sizeof *t.steps, &n);
    t.slots = snapshot_section(snap, SNAP_SLOTS, sizeof *t.slots, &n);
    t.words = snapshot_section(snap, SNAP_WORDS, sizeof *t.words, &t.word_count);
    t.text = snapshot_section(snap, SNAP_TEXT, 1, &n);
    t.paths = snapshot_section(snap, SNAP_PATHS, 1, &n);
    t.dirty = mem_alloc(snap->entry_count + 1);
    t.needed = mem_alloc(snap->step_count + 1);
    snap->reached = mem_alloc(snap->step_count + 1);
    mark_reached(&t);
    int status = looked_at_by_rules(&t) || t.reached_count > most(snap);
    if (!status) mark_needed(&t);
    if (!status) status = t.needed_count > most(snap);
    if (!status) status = thaw(&t, s->state);
    *steps = mem_alloc((s->graph.step_count + 1) * sizeof **steps);
    *count = 0;
    for (uint32_t i = 0; !status && i < s->graph.step_count; i++)
        if (snap->reached[snap->step_of[i]]) (*steps)[(*count)++] = i;
    free(t.dirty);
    free(t.needed);
    return status;
}
