/* plugins.c: finding plugins and their descriptors; see plugins.h. */
#include "plugins.h"
#include "files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void plugins_init(struct plugins *p, const char *folder, struct graph *g, struct state *state, struct workers *w, bool read_only) {
    *p = (struct plugins){.folder = folder, .graph = g, .state = state, .workers = w, .read_only = read_only};
}

void plugins_free(struct plugins *p) {
    free(p->known);
    memset(p, 0, sizeof *p);
}

void plugins_family(const char *reference, char family[256]) {
    snprintf(family, 256, "%.*s", (int)strcspn(reference, "."), reference);
}

static const char *installed_path(struct plugins *p, const char *family) {
    return strchr(family, '/') || !*family ? NULL : arena_printf(&p->graph->arena, "%s/%s.so", p->folder, family);
}

static struct plugin *find_known(const struct plugins *p, const char *path) {
    for (uint32_t i = p->count; i--;) /* one that the build made anew comes after what it was */
        if (!strcmp(p->known[i]->path, path)) return p->known[i];
    return NULL;
}

bool plugins_installed(struct plugins *p, const char *family) {
    const char *path = installed_path(p, family);
    return path && (find_known(p, path) || !access(path, F_OK));
}

/* The descriptor's text: from the database by the file's digest, or from the plugin itself. */
static int read_descriptor(struct plugins *p, const char *path, const struct artifact *content, bool fresh, const char **text, struct err *e) {
    struct arena *a = &p->graph->arena;
    char name[7 + DIGEST_HEX + 1] = "plugin:";
    digest_to_hex(&content->digest, name + 7);
    *text = NULL;
    if (p->state && !fresh && state_get_note(p->state, name, a, text, e)) return -1;
    if (*text) return 0;
    struct buf json = {0};
    int status = worker_describe(p->workers, path, &json, e);
    if (!status) {
        *text = arena_strndup(a, buf_str(&json), json.len);
        if (p->state && !p->read_only) status = state_put_note(p->state, name, *text, e);
    }
    buf_free(&json);
    return status;
}

/* The digest over the shared object and its libraries; 1 if a library that the descriptor names isn't there any more. */
static int combine_digests(struct plugins *p, struct plugin *plugin, struct err *e) {
    struct digest_context *c = digest_begin();
    digest_add(c, plugin->file_digest.bytes, sizeof plugin->file_digest.bytes);
    int status = 0;
    for (uint32_t i = 0; i < plugin->type.library_count && !status; i++) {
        uint32_t file = graph_file(p->graph, plugin->type.libraries[i]);
        status = file_learn(p->graph, file, e);
        const struct artifact *a = &p->graph->files[file].artifact;
        if (!status && a->type == ARTIFACT_NONE) status = 1;
        if (!status) digest_add(c, a->digest.bytes, sizeof a->digest.bytes);
    }
    plugin->digest = digest_end(c);
    return status;
}

int plugins_load(struct plugins *p, const char *path, const struct artifact *content, const struct plugin **out, struct err *e) {
    struct arena *a = &p->graph->arena;
    struct plugin *plugin = find_known(p, path);
    if (plugin && digest_same(&plugin->file_digest, &content->digest)) {
        *out = plugin;
        return 0;
    }
    plugin = arena_alloc(a, sizeof *plugin);
    plugin->path = arena_strdup(a, path);
    plugin->file_digest = content->digest;
    const char *text;
    int status = 1; /* 1: a library has moved, so the kept descriptor is of another installation */
    for (int fresh = 0; fresh < 2 && status == 1; fresh++) {
        if (read_descriptor(p, path, content, fresh, &text, e)) return -1;
        if (schema_parse(text, strlen(text), a, &plugin->type, e)) return err_wrap(e, "plugin %s", path);
        status = combine_digests(p, plugin, e);
    }
    if (status) return status < 0 ? -1 : err_set(e, "plugin %s: a library that it loads can't be read", path);
    p->known = mem_grow(p->known, &p->cap, p->count + 1, sizeof *p->known);
    p->known[p->count++] = plugin;
    *out = plugin;
    return 0;
}

int plugins_list(struct plugins *p, char ***names, uint32_t *count, struct err *e) {
    if (sys_list(p->folder, names, count, e)) return err_wrap(e, "cannot list the installed plugins");
    uint32_t kept = 0;
    for (uint32_t i = 0; i < *count; i++) {
        size_t n = strlen((*names)[i]);
        if (n <= 3 || strcmp((*names)[i] + n - 3, ".so")) continue;
        (*names)[i][n - 3] = 0;
        (*names)[kept++] = (*names)[i];
    }
    *count = kept;
    return 0;
}

static int no_such_plugin(struct plugins *p, const char *family, struct err *e) {
    char **names;
    uint32_t count;
    struct err ignored;
    if (plugins_list(p, &names, &count, &ignored)) return err_set(e, "there is no plugin \"%s\" (looked in %s)", family, p->folder);
    const char *near = mem_nearest(family, (const char *const *)names, count);
    if (near) err_set(e, "there is no plugin \"%s\"; did you mean \"%s\"?", family, near);
    else err_set(e, "there is no plugin \"%s\"; `mbuild plugin list` shows those there are", family);
    free(names);
    return -1;
}

int plugins_find(struct plugins *p, const char *family, const struct plugin **out, struct err *e) {
    const char *path = installed_path(p, family);
    struct plugin *known = path ? find_known(p, path) : NULL;
    if (known) {
        *out = known;
        return 0;
    }
    if (!path || access(path, F_OK)) return no_such_plugin(p, family, e);
    uint32_t file = graph_file(p->graph, path);
    if (file_learn(p->graph, file, e)) return -1;
    return plugins_load(p, path, &p->graph->files[file].artifact, out, e);
}

const struct step_type *plugins_step(const struct plugin *p, const char *reference, struct err *e) {
    const char *dot = strchr(reference, '.');
    const struct step_type *t = NULL;
    if (dot) {
        t = schema_find_step(&p->type, dot + 1);
    } else {
        t = schema_find_step(&p->type, p->type.name);
        if (!t && p->type.step_count == 1) t = &p->type.steps[0];
    }
    if (t) return t;
    struct buf names = {0};
    const char **list = mem_alloc((p->type.step_count + 1) * sizeof *list);
    for (uint32_t i = 0; i < p->type.step_count; i++) {
        list[i] = p->type.steps[i].name;
        buf_addf(&names, "%s\"%s.%s\"", i ? ", " : "", p->type.name, list[i]);
    }
    const char *near = dot ? mem_nearest(dot + 1, list, p->type.step_count) : NULL;
    if (near) err_set(e, "plugin %s has no step \"%s\"; did you mean \"%s.%s\"?", p->type.name, dot + 1, p->type.name, near);
    else err_set(e, "plugin %s: say which of its steps: %s", p->type.name, p->type.step_count ? buf_str(&names) : "(it has none)");
    free(list);
    buf_free(&names);
    return NULL;
}
