/* snapshot_save.c: leaving a snapshot for the next build; see snapshot.h.
 *
 * Of most files the graph knows a stat that was taken before the file was read, so it vouches for what was read. All
 * else (rule files, what lies inside folders) is stat'ed now, after it was read: that stat is trusted only if it tells that nothing changed since
 * the session began.
 */
#include "snapshot_private.h"
#include "bind.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEPT_MOST 16           /* snapshots of other questions */
#define TICK_NS 20000000       /* as in sys.h: two changes closer than this may leave the same times */
#define GONE_PART 4            /* beyond this part of dead entries it is made anew */

struct image {
    struct session *session;
    struct buf sections[SNAP_SECTIONS];
    uint32_t outside_count, gone_count, nothing;
    uint32_t *entry_of;        /* by file id; NO_ID: none */
    uint32_t file_count;
    const char *last_where;    /* most steps stand in one file; equal places share their text */
    uint32_t last_where_offset;
    bool useless;              /* something can't be told in a snapshot */
};

static uint32_t add_text(struct image *m, enum snap_section which, const char *s) {
    uint32_t at = (uint32_t)m->sections[which].len;
    if (!*s) return 0;
    if (m->sections[which].len > UINT32_MAX / 2) m->useless = true;
    buf_add(&m->sections[which], s, strlen(s) + 1);
    return at;
}

static uint32_t section_count(const struct image *m, enum snap_section which, size_t size) {
    return (uint32_t)(m->sections[which].len / size);
}

static struct snap_stat *stat_at(struct image *m, uint32_t entry) {
    return (struct snap_stat *)(void *)m->sections[SNAP_STATS].data + entry;
}

static struct snap_fact *fact_at(struct image *m, uint32_t entry) {
    return (struct snap_fact *)(void *)m->sections[SNAP_FACTS].data + entry;
}

/* -- entries */

static uint16_t device_index(struct image *m, uint64_t dev) {
    const uint64_t *devices = (const uint64_t *)(void *)m->sections[SNAP_DEVICES].data;
    uint32_t n = section_count(m, SNAP_DEVICES, sizeof dev);
    for (uint32_t i = 0; i < n; i++)
        if (devices[i] == dev) return (uint16_t)i;
    if (n >= UINT16_MAX) m->useless = true;
    buf_add(&m->sections[SNAP_DEVICES], &dev, sizeof dev);
    return (uint16_t)n;
}

static void fill_stat(struct image *m, struct snap_stat *out, const struct file_stat *st, unsigned flags) {
    out->size = st->size;
    out->ino = st->ino;
    out->mtime_ns = st->mtime_ns;
    out->ctime_ns = st->ctime_ns;
    out->device = device_index(m, st->dev);
    out->kind = (uint8_t)st->kind;
    out->flags = (uint8_t)(flags | (st->executable ? SNAP_EXECUTABLE : 0));
}

static void fill_fact(struct snap_fact *out, const struct artifact *a, uint32_t producer) {
    out->type = (uint32_t)a->type;
    out->producer = producer;
    out->size = a->size;
    memcpy(out->digest, a->digest.bytes, sizeof out->digest);
}

static uint32_t add_entry(struct image *m, const char *path, const struct file_stat *st, unsigned flags, const struct artifact *a,
                          uint32_t producer, uint32_t parent) {
    struct snap_stat s = {.path = add_text(m, SNAP_PATHS, path)};
    struct snap_fact f = {.parent = parent};
    uint32_t entry = section_count(m, SNAP_STATS, sizeof s);
    fill_stat(m, &s, st, flags);
    fill_fact(&f, a, producer);
    buf_add(&m->sections[SNAP_STATS], &s, sizeof s);
    buf_add(&m->sections[SNAP_FACTS], &f, sizeof f);
    return entry;
}

/* Whether a stat taken now vouches for what was read since the session began. */
static bool vouches(const struct session *s, const struct file_stat *st) {
    int64_t newest = st->mtime_ns > st->ctime_ns ? st->mtime_ns : st->ctime_ns;
    return st->kind == FILE_ABSENT || newest < s->started_ns - TICK_NS;
}

static void add_now(struct image *m, const char *path, unsigned flags, uint32_t parent) {
    struct file_stat st;
    struct err ignored;
    if (sys_stat(path, flags & SNAP_NOFOLLOW, &st, &ignored)) {
        m->useless = true;
        return;
    }
    if (!vouches(m->session, &st)) flags |= SNAP_UNSURE;
    add_entry(m, path, &st, flags, &(struct artifact){0}, NO_ID, parent);
}

/* Whatever lies in a folder that is an artifact, the folders in it too: their times tell of names that come and go. */
static void add_inside(struct image *m, const char *folder, uint32_t parent) {
    char **names;
    uint32_t count;
    struct err ignored;
    if (sys_list(folder, &names, &count, &ignored)) {
        m->useless = true;
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        char *path = mem_printf("%s/%s", folder, names[i]);
        struct file_stat st;
        add_now(m, path, SNAP_NOFOLLOW, parent);
        if (!sys_stat(path, true, &st, &ignored) && st.kind == FILE_FOLDER) add_inside(m, path, parent);
        free(path);
    }
    free(names);
}

/* What lies behind an output that is a link: its readers depend on that. */
static void add_behind(struct image *m, const char *link, uint32_t parent) {
    struct file_stat st;
    struct err ignored;
    add_now(m, link, 0, parent);
    if (!sys_stat(link, false, &st, &ignored) && st.kind == FILE_FOLDER) add_inside(m, link, parent);
}

static unsigned trust(const struct session *s, const struct file *f) {
    if (f->stat.kind == FILE_LINK) return SNAP_NOFOLLOW | (vouches(s, &f->stat) ? 0 : SNAP_UNSURE);
    if (f->stat.kind == FILE_FOLDER) return vouches(s, &f->stat) ? 0 : SNAP_UNSURE;
    return f->stat.fresh || f->stat.ctime_ns < 0 ? SNAP_UNSURE : 0;
}

static uint32_t add_file(struct image *m, uint32_t file, uint32_t producer) {
    const struct file *f = &m->session->graph.files[file];
    if (m->entry_of[file] != NO_ID) return m->entry_of[file];
    uint32_t entry = section_count(m, SNAP_STATS, sizeof(struct snap_stat));
    m->entry_of[file] = entry;
    if (f->secret || f->state != FILE_KNOWN) {
        add_now(m, f->path, SNAP_GLOBAL, NO_ID);
    } else {
        add_entry(m, f->path, &f->stat, trust(m->session, f), &f->artifact, producer, NO_ID);
        if (f->stat.kind == FILE_FOLDER) add_inside(m, f->path, entry);
        if (f->stat.kind == FILE_LINK) add_behind(m, f->path, entry);
    }
    return entry;
}

static void add_edge(struct image *m, uint32_t entry, uint32_t step) {
    struct snap_edge edge = {.entry = entry, .step = step};
    buf_add(&m->sections[SNAP_EDGES], &edge, sizeof edge);
}

/* -- a whole one */

static void add_globals(struct image *m) {
    struct session *s = m->session;
    char program[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    if (n < 0) m->useless = true;
    program[n < 0 ? 0 : n] = 0;
    add_now(m, program, SNAP_GLOBAL, NO_ID);
    add_now(m, arena_printf(&s->graph.arena, "%s/share/mbuild/rules", s->home), SNAP_GLOBAL, NO_ID);
    for (uint32_t i = 0; i < s->seen.file_count; i++) add_now(m, s->seen.files[i], SNAP_GLOBAL, NO_ID);
    for (uint32_t i = 0; i < s->seen.folder_count; i++) add_now(m, s->seen.folders[i], SNAP_GLOBAL, NO_ID);
    for (uint32_t i = 0; i < s->watched_count; i++) add_now(m, s->watched[i], SNAP_GLOBAL, NO_ID);
    for (uint32_t i = 0; i < s->plugins.count; i++) {
        const struct plugin *p = s->plugins.known[i];
        if (*p->path != '/') continue; /* one that a step made is a file like any other */
        add_now(m, p->path, SNAP_GLOBAL, NO_ID);
        for (uint32_t k = 0; k < p->type.library_count; k++) add_now(m, p->type.libraries[k], SNAP_GLOBAL, NO_ID);
    }
}

static void add_slots(struct image *m, const struct slot *slots, uint32_t count, const uint32_t *index_of, uint32_t step, bool inputs) {
    const struct graph *g = &m->session->graph;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t producer = graph_producer(g, slots[i].file);
        struct snap_slot slot = {.role = add_text(m, SNAP_TEXT, slots[i].role), .shared = slots[i].shared};
        if (slots[i].shared) { /* the folder isn't the step's; what it added there is, and comes with its record */
            if (m->entry_of[slots[i].file] == NO_ID) {
                m->entry_of[slots[i].file] = add_entry(m, g->files[slots[i].file].path, &(struct file_stat){0}, SNAP_GONE, &(struct artifact){0}, NO_ID, NO_ID);
                m->gone_count++;
            }
            slot.entry = m->entry_of[slots[i].file];
        } else {
            slot.entry = add_file(m, slots[i].file, producer == NO_ID ? NO_ID : index_of[producer]);
        }
        buf_add(&m->sections[SNAP_SLOTS], &slot, sizeof slot);
        if (inputs) add_edge(m, slot.entry, step);
    }
}

/* An input that changed while its step read it is recorded as no content that a file can have: so it must be looked at. */
static uint32_t add_found_file(struct image *m, const struct state_input *in, uint32_t file) {
    uint32_t entry = add_file(m, file, NO_ID);
    if (!artifact_same(&in->artifact, &m->session->graph.files[file].artifact)) stat_at(m, entry)->flags |= SNAP_UNSURE;
    return entry;
}

/* What only the record knows of: inputs that the step found, files that it added to shared folders. */
static void add_recorded(struct image *m, const struct step *s, uint32_t step) {
    const struct state_record *r = s->record;
    struct graph *g = &m->session->graph;
    for (uint32_t i = 0; r && i < r->input_count; i++) {
        uint32_t file = *r->inputs[i].role ? NO_ID : graph_find_file(g, r->inputs[i].path);
        if (*r->inputs[i].role) continue;
        if (file == NO_ID || file >= m->file_count) m->useless = true;
        else add_edge(m, add_found_file(m, &r->inputs[i], file), step);
    }
    for (uint32_t i = 0; r && i < r->output_count; i++) {
        const struct role_type *role = schema_find_role(s->binding->type, r->outputs[i].role);
        if (!role || !(role->flags & MB_ADDS)) continue;
        uint32_t file = graph_find_file(g, r->outputs[i].path);
        if (file == NO_ID || file >= m->file_count) m->useless = true;
        else add_file(m, file, step);
    }
}

static void add_env(struct image *m, const char *name) {
    const struct snap_env *known = (const struct snap_env *)(void *)m->sections[SNAP_ENV].data;
    for (uint32_t i = 0; i < section_count(m, SNAP_ENV, sizeof *known); i++)
        if (!strcmp(m->sections[SNAP_PATHS].data + known[i].name, name)) return;
    const char *value = getenv(name);
    struct snap_env env = {.name = add_text(m, SNAP_PATHS, name), .value = value ? add_text(m, SNAP_PATHS, value) : NO_ID};
    buf_add(&m->sections[SNAP_ENV], &env, sizeof env);
}

static void add_step(struct image *m, const struct step *s, uint32_t index, const uint32_t *index_of) {
    const struct graph *g = &m->session->graph;
    struct buf params = {0};
    value_write(&s->params, &params);
    if (!m->last_where || strcmp(m->last_where, s->where)) {
        m->last_where = s->where;
        m->last_where_offset = add_text(m, SNAP_TEXT, s->where);
    }
    struct snap_step out = {.name = add_text(m, SNAP_TEXT, s->name), .where = m->last_where_offset, .plugin = add_text(m, SNAP_TEXT, s->plugin),
                            .plugin_entry = NO_ID, .params = add_text(m, SNAP_TEXT, buf_str(&params)), .pool = NO_ID,
                            .input_count = s->input_count, .output_count = s->output_count, .env_count = s->env_count,
                            .cpu = s->resources.cpu, .gpu = s->resources.gpu, .mem = s->resources.mem, .timeout_ms = s->timeout_ms,
                            .retries = s->retries, .network = s->network, .needed = s->needed};
    buf_free(&params);
    if (s->resources.pool != NO_ID) {
        out.pool = add_text(m, SNAP_TEXT, g->pools[s->resources.pool].name);
        out.pool_size = g->pools[s->resources.pool].size;
    }
    out.inputs = section_count(m, SNAP_SLOTS, sizeof(struct snap_slot));
    add_slots(m, s->inputs, s->input_count, index_of, index, true);
    out.outputs = section_count(m, SNAP_SLOTS, sizeof(struct snap_slot));
    add_slots(m, s->outputs, s->output_count, index_of, index, false);
    if (s->plugin_file != NO_ID) {
        uint32_t p = graph_producer(g, s->plugin_file);
        out.plugin_entry = add_file(m, s->plugin_file, p == NO_ID ? NO_ID : index_of[p]);
        add_edge(m, out.plugin_entry, index);
    }
    out.env = section_count(m, SNAP_WORDS, sizeof(uint32_t));
    for (uint32_t i = 0; i < s->env_count; i++) {
        uint32_t word = add_text(m, SNAP_TEXT, s->env[i]);
        buf_add(&m->sections[SNAP_WORDS], &word, sizeof word);
        add_env(m, s->env[i]);
    }
    add_recorded(m, s, index);
    buf_add(&m->sections[SNAP_STEPS], &out, sizeof out);
}

static void build_image(struct image *m, const uint32_t *order, uint32_t count, const char *nothing) {
    const struct graph *g = &m->session->graph;
    uint32_t *index_of = mem_alloc((g->step_count + 1) * sizeof *index_of); /* the snapshot's step by the graph's */
    memset(index_of, 0xff, g->step_count * sizeof *index_of);
    for (uint32_t i = 0; i < count; i++) index_of[order[i]] = i;
    m->file_count = g->paths.count;
    m->entry_of = mem_alloc((m->file_count + 1) * sizeof *m->entry_of);
    memset(m->entry_of, 0xff, m->file_count * sizeof *m->entry_of);
    buf_addc(&m->sections[SNAP_PATHS], 0);
    buf_addc(&m->sections[SNAP_TEXT], 0);
    m->nothing = add_text(m, SNAP_PATHS, nothing);
    add_globals(m);
    for (uint32_t i = 0; i < count && !m->useless; i++) add_step(m, &g->steps[order[i]], i, index_of);
    for (uint32_t i = 0; i < g->outside_count; i++) {
        uint32_t word = add_text(m, SNAP_TEXT, g->outside[i]);
        buf_add(&m->sections[SNAP_WORDS], &word, sizeof word);
    }
    m->outside_count = g->outside_count;
    free(index_of);
}

/* -- one brought up to date */

/* A kind of file with entries below it. */
static bool has_parts(unsigned kind) {
    return kind == FILE_FOLDER || kind == FILE_LINK;
}

/* Files inside these folders, and what lies behind these links, are listed anew. */
static void renew_parts(struct image *m, const bool *renewed, uint32_t entries) {
    for (uint32_t i = 0; i < entries; i++) {
        if (fact_at(m, i)->parent == NO_ID || !renewed[fact_at(m, i)->parent] || stat_at(m, i)->flags & SNAP_GONE) continue;
        stat_at(m, i)->flags |= SNAP_GONE;
        m->gone_count++;
    }
    for (uint32_t i = 0; i < entries; i++)
        if (renewed[i] && has_parts(stat_at(m, i)->kind)) {
            char *path = mem_strdup(m->sections[SNAP_PATHS].data + stat_at(m, i)->path);
            if (stat_at(m, i)->kind == FILE_FOLDER) add_inside(m, path, i);
            else add_behind(m, path, i);
            free(path);
        }
}

static void patch_entries(struct image *m, const struct snapshot *snap) {
    const struct graph *g = &m->session->graph;
    bool *renewed = mem_alloc(snap->entry_count + 1), *dirty = mem_alloc(snap->entry_count + 1), any = false;
    for (uint32_t i = 0; i < snap->dirty_count; i++) {
        uint32_t parent = fact_at(m, snap->dirty[i])->parent;
        dirty[parent == NO_ID ? snap->dirty[i] : parent] = true;
    }
    for (uint32_t i = 0; i < snap->entry_count; i++) {
        uint32_t id = snap->file_of[i];
        if (id == NO_ID || stat_at(m, i)->flags & (SNAP_GONE | SNAP_GLOBAL)) continue;
        const struct file *f = &g->files[id];
        if (f->state != FILE_KNOWN) {
            m->useless = true;
            break;
        }
        uint32_t producer = fact_at(m, i)->producer;
        bool parts = has_parts(f->stat.kind) || has_parts(stat_at(m, i)->kind);
        if (parts && (dirty[i] || (producer != NO_ID && snap->reached[producer]))) any = renewed[i] = true;
        if (parts && !renewed[i]) continue;
        fill_stat(m, stat_at(m, i), &f->stat, trust(m->session, f));
        fill_fact(fact_at(m, i), &f->artifact, producer);
    }
    if (any && !m->useless) renew_parts(m, renewed, snap->entry_count);
    free(renewed);
    free(dirty);
}

static bool is_output(const struct image *m, const char *path, uint32_t entries) {
    const struct snap_stat *stats = (const struct snap_stat *)(void *)m->sections[SNAP_STATS].data;
    const struct snap_fact *facts = (const struct snap_fact *)(void *)m->sections[SNAP_FACTS].data;
    for (uint32_t i = 0; i < entries; i++)
        if (facts[i].producer != NO_ID && !strcmp(m->sections[SNAP_PATHS].data + stats[i].path, path)) return true;
    return false;
}

static bool has_edge(const struct image *m, uint32_t entry, uint32_t step) {
    const struct snap_edge *edges = (const struct snap_edge *)(void *)m->sections[SNAP_EDGES].data;
    for (uint32_t i = 0; i < section_count(m, SNAP_EDGES, sizeof *edges); i++)
        if (edges[i].entry == entry && edges[i].step == step) return true;
    return false;
}

/* Files that steps of this build found or added and that the old snapshot didn't have, or not for this step. */
static void add_found(struct image *m, const struct snapshot *snap, const uint32_t *order, uint32_t count) {
    struct graph *g = &m->session->graph;
    for (uint32_t i = 0; i < count && !m->useless; i++) {
        const struct step *s = &g->steps[order[i]];
        if (s->state != STEP_BUILT && s->state != STEP_RESTORED) continue;
        uint32_t step = snap->step_of[order[i]];
        for (uint32_t k = 0; k < s->record->input_count && !m->useless; k++) {
            if (*s->record->inputs[k].role) continue;
            uint32_t file = graph_find_file(g, s->record->inputs[k].path);
            if (file == NO_ID) m->useless = true;
            else if (m->entry_of[file] == NO_ID && is_output(m, g->files[file].path, snap->entry_count)) m->useless = true; /* the next build must say so */
            else if (m->entry_of[file] == NO_ID || !has_edge(m, m->entry_of[file], step)) add_edge(m, add_found_file(m, &s->record->inputs[k], file), step);
            else add_found_file(m, &s->record->inputs[k], file);
        }
        for (uint32_t k = 0; k < s->record->output_count && !m->useless; k++) {
            const struct role_type *role = schema_find_role(s->binding->type, s->record->outputs[k].role);
            if (!role || !(role->flags & MB_ADDS)) continue;
            uint32_t file = graph_find_file(g, s->record->outputs[k].path);
            if (file == NO_ID) m->useless = true;
            else add_file(m, file, step);
        }
    }
}

static void patch_image(struct image *m, const uint32_t *order, uint32_t count, const struct snapshot *snap) {
    const struct graph *g = &m->session->graph;
    for (int i = 0; i < SNAP_SECTIONS; i++) buf_add(&m->sections[i], snap->map + snap->head->sections[i].offset, snap->head->sections[i].bytes);
    m->outside_count = snap->head->outside_count;
    m->gone_count = snap->head->gone_count;
    m->nothing = snap->head->nothing;
    m->file_count = g->paths.count;
    m->entry_of = mem_alloc((m->file_count + 1) * sizeof *m->entry_of);
    memset(m->entry_of, 0xff, m->file_count * sizeof *m->entry_of);
    for (uint32_t i = 0; i < snap->entry_count; i++)
        if (snap->file_of[i] != NO_ID && !(snap->stats[i].flags & SNAP_GONE)) m->entry_of[snap->file_of[i]] = i;
    patch_entries(m, snap);
    add_found(m, snap, order, count);
    if (m->gone_count > section_count(m, SNAP_STATS, sizeof(struct snap_stat)) / GONE_PART + 64) m->useless = true;
}

/* -- writing */

static void pad(struct buf *b) {
    while (b->len % 8) buf_addc(b, 0);
}

static void write_image(struct image *m, const char *path, const struct digest *question) {
    struct buf out = {0};
    struct snap_head head = {.version = SNAPSHOT_VERSION, .outside_count = m->outside_count, .nothing = m->nothing, .gone_count = m->gone_count};
    memcpy(head.magic, SNAPSHOT_MAGIC, sizeof head.magic);
    memcpy(head.question, question->bytes, sizeof head.question);
    buf_add(&out, &head, sizeof head);
    for (int i = 0; i < SNAP_SECTIONS; i++) {
        head.sections[i].offset = out.len;
        head.sections[i].bytes = m->sections[i].len;
        buf_add(&out, m->sections[i].data ? m->sections[i].data : "", m->sections[i].len);
        pad(&out);
    }
    uint64_t cold = head.sections[SNAP_FACTS].offset;
    head.cold_sum = snapshot_sum(out.data + cold, out.len - cold, 2);
    head.hot_sum = snapshot_hot_sum((const unsigned char *)out.data, &head);
    memcpy(out.data, &head, sizeof head);
    struct err ignored;
    sys_write_file(path, out.data, out.len, false, &ignored);
    buf_free(&out);
}

/* A repo has few questions; the oldest go. */
static void keep_few(void) {
    char **names;
    uint32_t count;
    struct err ignored;
    if (sys_list(".mbuild/snapshot", &names, &count, &ignored)) return;
    for (; count > KEPT_MOST; count--) {
        uint32_t oldest = NO_ID;
        int64_t oldest_ns = INT64_MAX;
        for (uint32_t i = 0; i < count; i++) {
            char *path = mem_printf(".mbuild/snapshot/%s", names[i]);
            struct file_stat st;
            if (!sys_stat(path, false, &st, &ignored) && st.mtime_ns < oldest_ns) {
                oldest = i;
                oldest_ns = st.mtime_ns;
            }
            free(path);
        }
        if (oldest == NO_ID) break;
        char *path = mem_printf(".mbuild/snapshot/%s", names[oldest]);
        sys_unlink(path, &ignored);
        free(path);
        names[oldest] = names[count - 1];
    }
    free(names);
}

void snapshot_save(struct session *s, const uint32_t *order, uint32_t count, const char *nothing, struct snapshot *thawed) {
    struct image m = {.session = s};
    struct err ignored;
    struct digest question;
    char *path = snapshot_path(s, &question);
    if (thawed) patch_image(&m, order, count, thawed);
    else build_image(&m, order, count, nothing);
    if (m.useless) sys_unlink(path, &ignored);
    else if (!sys_mkdirs(".mbuild/snapshot", &ignored)) write_image(&m, path, &question);
    if (!thawed) keep_few();
    for (int i = 0; i < SNAP_SECTIONS; i++) buf_free(&m.sections[i]);
    free(m.entry_of);
    free(path);
}
