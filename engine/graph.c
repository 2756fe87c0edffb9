/* graph.c: building the graph and asking it; see graph.h. Walking it for a build is in graph_want.c. */
#include "graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_MOST 4095

void graph_init(struct graph *g, const char *root) {
    memset(g, 0, sizeof *g);
    g->root = arena_strdup(&g->arena, root);
}

void graph_free(struct graph *g) {
    arena_free(&g->arena);
    intern_free(&g->paths);
    intern_free(&g->names);
    intern_free(&g->inside);
    for (uint32_t i = 0; i < g->step_count; i++) {
        free(g->steps[i].consumers);
        free(g->steps[i].needs);
    }
    free(g->files);
    free(g->name_index);
    free(g->steps);
    free(g->aliases);
    free(g->pools);
    free(g->outside);
    free(g->records);
    memset(g, 0, sizeof *g);
}

/* -- paths */

/* Resolves "." and ".." by text. `absolute` paths keep their slash; what climbs above a relative path's start keeps its "..". */
static void path_clean(const char *path, struct buf *out) {
    bool absolute = *path == '/';
    size_t floor = absolute ? 1 : 0; /* nothing before this is ever taken away */
    buf_clear(out);
    if (absolute) buf_addc(out, '/');
    while (*path) {
        while (*path == '/') path++;
        size_t n = strcspn(path, "/");
        if (n == 2 && path[0] == '.' && path[1] == '.') {
            size_t end = out->len;
            if (end > floor) {
                while (end > floor && out->data[end - 1] != '/') end--;
                if (end > floor) end--; /* the slash itself */
                out->len = end;
                out->data[end] = 0;
            } else if (!absolute) {
                buf_adds(out, out->len ? "/.." : "..");
                floor = out->len;
            }
        } else if (n && !(n == 1 && path[0] == '.')) {
            if (out->len && out->data[out->len - 1] != '/') buf_addc(out, '/');
            buf_add(out, path, n);
        }
        path += n;
    }
}

bool graph_path_within(const char *path, const char *folder) {
    size_t n = strlen(folder);
    if (n == 1 && *folder == '/') return *path == '/';
    return !strncmp(path, folder, n) && (!path[n] || path[n] == '/');
}

static void path_absolute(const struct graph *g, const char *path, struct buf *out) {
    struct buf joined = {0};
    if (*path != '/') buf_addf(&joined, "%s/", g->root);
    buf_adds(&joined, path);
    path_clean(buf_str(&joined), out);
    buf_free(&joined);
}

void graph_allow_outside(struct graph *g, const char *folder) {
    struct buf b = {0};
    path_absolute(g, folder, &b);
    g->outside = mem_grow(g->outside, &g->outside_cap, g->outside_count + 1, sizeof *g->outside);
    g->outside[g->outside_count++] = arena_strdup(&g->arena, buf_str(&b));
    buf_free(&b);
}

/* Most paths in a rule file are clean as they stand. */
static bool path_is_clean(const char *p) {
    if (*p == '/' || !*p) return false;
    for (const char *part = p;; part++) {
        size_t n = strcspn(part, "/");
        if (n == 0 || (part[0] == '.' && (n == 1 || (n == 2 && part[1] == '.')))) return false;
        part += n;
        if (!*part) return (size_t)(part - p) <= PATH_MOST;
    }
}

int graph_normalize(struct graph *g, const char *path, const char **out, struct err *e) {
    if (path_is_clean(path)) {
        *out = path;
        return 0;
    }
    if (!*path) return err_set(e, "an empty path");
    if (strlen(path) > PATH_MOST) return err_set(e, "the path %.60s… has %zu bytes; at most %d are allowed", path, strlen(path), PATH_MOST);
    struct buf whole = {0};
    path_absolute(g, path, &whole);
    int status = 0;
    if (graph_path_within(buf_str(&whole), g->root)) {
        const char *rest = buf_str(&whole) + strlen(g->root);
        *out = arena_strdup(&g->arena, *rest ? rest + 1 : ".");
    } else {
        uint32_t i = 0;
        while (i < g->outside_count && !graph_path_within(buf_str(&whole), g->outside[i])) i++;
        if (i == g->outside_count)
            status = err_set(e, "the path %s leaves the repo; if that is meant, allow it by project { outside = { \"FOLDER\" } }", path);
        else
            *out = arena_strndup(&g->arena, whole.data, whole.len);
    }
    buf_free(&whole);
    return status;
}

uint32_t graph_file(struct graph *g, const char *path) {
    uint32_t before = g->paths.count, id = intern_add(&g->paths, path);
    if (id != before) return id;
    g->files = mem_grow(g->files, &g->file_cap, id + 1, sizeof *g->files);
    memset(&g->files[id], 0, sizeof g->files[id]);
    g->files[id].path = g->paths.strings[id];
    g->files[id].producer = g->files[id].former = NO_ID;
    return id;
}

uint32_t graph_find_file(const struct graph *g, const char *path) {
    return intern_find(&g->paths, path);
}

/* -- names */

static int graph_claim_name(struct graph *g, const char *name, const char *where, uint32_t value, const char **kept, struct err *e) {
    size_t n = strlen(name);
    if (!n || n > PATH_MOST) return err_set(e, "a name of 1 to %d bytes expected, found %zu", PATH_MOST, n);
    if (name[0] == '-' || strchr(name, '=')) return err_set(e, "\"%s\" can't be a name: on the command line it would be an option or a setting", name);
    uint32_t before = g->names.count, id = intern_add(&g->names, name);
    *kept = g->names.strings[id];
    if (id != before) {
        uint32_t old = g->name_index[id];
        const char *first = old & NAME_ALIAS ? g->aliases[old & ~NAME_ALIAS].where : g->steps[old].where;
        return err_set(e, "\"%s\" is already the name of what %s declares", name, first);
    }
    (void)where;
    g->name_index = mem_grow(g->name_index, &g->name_cap, id + 1, sizeof *g->name_index);
    g->name_index[id] = value;
    return 0;
}

int graph_add_step(struct graph *g, const char *name, const char *where, uint32_t *index, struct err *e) {
    const char *kept;
    if (graph_claim_name(g, name, where, g->step_count, &kept, e)) return -1;
    g->steps = mem_grow(g->steps, &g->step_cap, g->step_count + 1, sizeof *g->steps);
    struct step *s = &g->steps[g->step_count];
    memset(s, 0, sizeof *s);
    s->name = kept;
    s->where = where;
    s->plugin_file = NO_ID;
    s->resources = (struct resources){.cpu = 1, .pool = NO_ID};
    *index = g->step_count++;
    return 0;
}

int graph_add_alias(struct graph *g, const char *name, const char *where, uint32_t *index, struct err *e) {
    const char *kept;
    if (graph_claim_name(g, name, where, g->alias_count | NAME_ALIAS, &kept, e)) return -1;
    g->aliases = mem_grow(g->aliases, &g->alias_cap, g->alias_count + 1, sizeof *g->aliases);
    g->aliases[g->alias_count] = (struct alias){.name = kept, .where = where};
    *index = g->alias_count++;
    return 0;
}

uint32_t graph_pool(struct graph *g, const char *name) {
    for (uint32_t i = 0; i < g->pool_count; i++)
        if (!strcmp(g->pools[i].name, name)) return i;
    g->pools = mem_grow(g->pools, &g->pool_cap, g->pool_count + 1, sizeof *g->pools);
    g->pools[g->pool_count] = (struct pool){.name = arena_strdup(&g->arena, name), .size = 1};
    return g->pool_count++;
}

uint32_t graph_find_step(const struct graph *g, const char *name) {
    uint32_t id = intern_find(&g->names, name);
    return id == NO_ID || g->name_index[id] & NAME_ALIAS ? NO_ID : g->name_index[id];
}

/* -- outputs */

int graph_set_output(struct graph *g, uint32_t s, uint32_t slot, struct err *e) {
    struct step *step = &g->steps[s];
    struct file *f = &g->files[step->outputs[slot].file];
    if (step->outputs[slot].shared) return 0;
    if (*f->path == '/') return err_set(e, "the output %s lies outside the repo", f->path);
    if (!strcmp(f->path, ".")) return err_set(e, "the repo itself can't be an output");
    if (!strncmp(f->path, ".mbuild", 7) && (!f->path[7] || f->path[7] == '/'))
        return err_set(e, "the output %s lies in .mbuild, which is mbuild's own", f->path);
    if (f->producer != NO_ID) {
        const struct step *other = &g->steps[f->producer];
        return err_set(e, "two steps make %s: \"%s\" (%s) and \"%s\"", f->path, other->name, other->where, step->name);
    }
    f->producer = s;
    f->output = slot;
    return 0;
}

/* The nearest folder above `path` that the graph knows, or NO_ID; `length` is where to begin looking. */
static uint32_t graph_parent(const struct graph *g, const char *path, size_t *length) {
    char parent[PATH_MOST + 1];
    size_t n = *length;
    if (n > PATH_MOST) return NO_ID;
    memcpy(parent, path, n);
    while (n) {
        while (n && parent[n - 1] != '/') n--;
        if (n <= 1) break;
        parent[--n] = 0;
        uint32_t id = graph_find_file(g, parent);
        if (id != NO_ID) {
            *length = n;
            return id;
        }
    }
    return NO_ID;
}

uint32_t graph_producer(const struct graph *g, uint32_t file) {
    const struct file *f = &g->files[file];
    size_t n = strlen(f->path);
    while (f->producer == NO_ID) {
        uint32_t id = graph_parent(g, f->path, &n);
        if (id == NO_ID) return NO_ID;
        if (g->files[id].producer != NO_ID) return g->files[id].producer;
    }
    return f->producer;
}

int graph_check(struct graph *g, struct err *e) {
    for (uint32_t i = 0; i < g->paths.count; i++) {
        const struct file *f = &g->files[i];
        if (f->producer == NO_ID) continue;
        const struct step *s = &g->steps[f->producer];
        size_t n = strlen(f->path);
        uint32_t id;
        while ((id = graph_parent(g, f->path, &n)) != NO_ID) {
            const struct file *above = &g->files[id];
            if (above->producer != NO_ID)
                return err_set(e, "%s: step \"%s\" makes %s inside %s, which step \"%s\" (%s) makes as a whole", s->where, s->name, f->path,
                               above->path, g->steps[above->producer].name, g->steps[above->producer].where);
            return err_set(e, "%s: step \"%s\" makes %s inside %s, which is taken as a source: name the files in it, or put the output elsewhere",
                           s->where, s->name, f->path, above->path);
        }
    }
    return 0;
}

/* -- what the database knows */

static void load_file(void *ctx, const struct state_file *row) {
    struct graph *g = ctx;
    uint32_t id = graph_find_file(g, row->path);
    if (id == NO_ID) return;
    g->files[id].recorded = true;
    g->files[id].recorded_stat = row->stat;
    g->files[id].recorded_artifact = row->artifact;
}

static void load_record(void *ctx, struct state_record *r) {
    struct graph *g = ctx;
    g->records = mem_grow(g->records, &g->record_cap, g->record_count + 1, sizeof *g->records);
    g->records[g->record_count++] = r;
    uint32_t s = graph_find_step(g, r->step);
    if (s != NO_ID) g->steps[s].record = r;
    /* Inputs found while running are files of the graph as well, so that their digests are looked up and kept like any other's. */
    for (uint32_t i = 0; s != NO_ID && i < r->input_count; i++)
        if (!*r->inputs[i].role) graph_file(g, r->inputs[i].path);
}

/* Whether a step of that name adds files to the folder that `path` is in. */
static bool adds_to(const struct graph *g, const char *name, const char *path) {
    uint32_t id = graph_find_step(g, name);
    for (uint32_t i = 0; id != NO_ID && i < g->steps[id].output_count; i++) {
        const struct slot *slot = &g->steps[id].outputs[i];
        if (slot->shared && graph_path_within(path, g->files[slot->file].path)) return true;
    }
    return false;
}

int graph_load_state(struct graph *g, struct state *s, struct err *e) {
    if (state_each_record(s, &g->arena, load_record, g, e)) return -1;
    for (uint32_t i = 0; i < g->record_count; i++) {
        const struct state_record *r = g->records[i];
        for (uint32_t k = 0; k < r->output_count; k++) {
            if (adds_to(g, r->step, r->outputs[k].path)) continue;
            uint32_t id = graph_find_file(g, r->outputs[k].path);
            if (id != NO_ID && graph_producer(g, id) == NO_ID) g->files[id].former = i;
        }
    }
    return state_each_file(s, load_file, g, e);
}
