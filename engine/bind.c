/* bind.c: rules against what plugins declare; see bind.h. */
#include "bind.h"
#include "files.h"

#include <stdlib.h>
#include <string.h>

int bind_plugin_names(struct session *s, struct err *e) {
    struct graph *g = &s->graph;
    struct intern seen = {0}; /* family names; most rule files name few */
    uint32_t *made_by = NULL, cap = 0; /* by family id: the step that makes it, or NO_ID */
    int status = 0;
    for (uint32_t i = 0; i < g->step_count && !status; i++) {
        struct step *step = &g->steps[i];
        if (step->plugin_file != NO_ID) continue;
        size_t n = strcspn(step->plugin, ".");
        uint32_t before = seen.count, id = intern_addn(&seen, step->plugin, n);
        if (id == before) {
            made_by = mem_grow(made_by, &cap, id + 1, sizeof *made_by);
            uint32_t maker = graph_find_step(g, seen.strings[id]);
            made_by[id] = maker != NO_ID && !plugins_installed(&s->plugins, seen.strings[id]) ? maker : NO_ID;
        }
        if (made_by[id] == NO_ID) continue;
        const struct step *maker = &g->steps[made_by[id]];
        if (maker->output_count != 1)
            status = err_set(e, "%s: step \"%s\": \"%s\" has %u outputs, so it can't be the plugin", step->where, step->name, maker->name, maker->output_count);
        else
            step->plugin_file = maker->outputs[0].file;
    }
    intern_free(&seen);
    free(made_by);
    return status;
}

static int bind_fail(const struct step *step, struct err *e) {
    return err_set(e, "%s: step \"%s\": %s", step->where, step->name, e->text);
}

static int find_plugin(struct session *s, struct step *step, const struct plugin **out, struct err *e) {
    char family[256];
    plugins_family(step->plugin, family);
    if (step->plugin_file == NO_ID) return plugins_find(&s->plugins, family, out, e);
    struct file *f = &s->graph.files[step->plugin_file];
    if (f->producer != NO_ID && (f->state != FILE_KNOWN || (!s->read_only && !step_done(&s->graph.steps[f->producer])))) return 0;
    if (file_learn(&s->graph, step->plugin_file, e)) return -1;
    f = &s->graph.files[step->plugin_file];
    if (f->artifact.type == ARTIFACT_NONE) return err_set(e, "the plugin %s doesn't exist", f->path);
    return plugins_load(&s->plugins, f->path, &f->artifact, out, e);
}

/* -- roles */

static int unknown_role(const struct step_type *t, const char *role, unsigned direction, struct err *e) {
    const char **names = mem_alloc((t->role_count + 1) * sizeof *names);
    struct buf all = {0};
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->role_count; i++) {
        if (!(t->roles[i].flags & direction)) continue;
        buf_addf(&all, "%s%s", n ? ", " : "", t->roles[i].name);
        names[n++] = t->roles[i].name;
    }
    const char *what = direction == MB_INPUT ? "input" : "output", *near = mem_nearest(role, names, n);
    if (near) err_set(e, "unknown %s \"%s\"; did you mean \"%s\"?", what, role, near);
    else err_set(e, "unknown %s \"%s\"; %s has %s%s", what, role, t->name, n ? "" : "none", buf_str(&all));
    free(names);
    buf_free(&all);
    return -1;
}

/* The role that slots without one go to: the first that takes many, else the first. */
static const struct role_type *default_role(const struct step_type *t, unsigned direction) {
    const struct role_type *first = NULL;
    for (uint32_t i = 0; i < t->role_count; i++) {
        const struct role_type *r = &t->roles[i];
        if (!(r->flags & direction)) continue;
        if (r->flags & MB_MANY) return r;
        if (!first) first = r;
    }
    return first;
}

static const struct role_type *slot_role(const struct step_type *t, const char *name, unsigned direction) {
    if (!*name) return default_role(t, direction);
    const struct role_type *r = schema_find_role(t, name);
    if (r && r->flags & direction) return r;
    return direction == MB_OUTPUT && t->flags & MB_ANY_OUTPUTS ? default_role(t, direction) : NULL;
}

static int bind_roles(struct session *s, const struct step_type *t, const struct slot *slots, uint32_t count, unsigned direction,
                      const struct role_type ***out, struct err *e) {
    *out = arena_alloc(&s->graph.arena, (count + 1) * sizeof **out);
    for (uint32_t i = 0; i < count; i++) {
        (*out)[i] = slot_role(t, slots[i].role, direction);
        if (!(*out)[i]) return unknown_role(t, slots[i].role, direction, e);
        bool adds = (*out)[i]->flags & MB_ADDS;
        if (direction == MB_OUTPUT && adds != slots[i].shared)
            return err_set(e, adds ? "the output %s is a folder that the step adds files to: write it with a slash at its end"
                                   : "the output %s has a slash at its end, but it is not a folder shared with others",
                           s->graph.files[slots[i].file].path);
    }
    const char *what = direction == MB_INPUT ? "input" : "output";
    for (uint32_t k = 0; k < t->role_count; k++) {
        const struct role_type *r = &t->roles[k];
        uint32_t n = 0;
        if (!(r->flags & direction)) continue;
        for (uint32_t i = 0; i < count; i++) n += (*out)[i] == r;
        if (!n && !(r->flags & (MB_OPTIONAL | MB_MANY)))
            return err_set(e, "the %s \"%s\" is missing%s%s", what, r->name, r->help ? ": " : "", r->help ? r->help : "");
        if (n > 1 && !(r->flags & MB_MANY))
            return err_set(e, "the %s \"%s\" is one, but %u were given (of an artifact with several outputs, name one: artifact.part)", what, r->name, n);
    }
    return 0;
}

/* An output of one kind given to an input of another. */
static int check_kinds(struct session *s, const struct step *step, const struct binding *b, struct err *e) {
    for (uint32_t i = 0; i < step->input_count; i++) {
        const struct file *f = &s->graph.files[step->inputs[i].file];
        const struct binding *maker = f->producer == NO_ID ? NULL : s->graph.steps[f->producer].binding;
        const char *wanted = b->inputs[i]->kind, *kind = maker ? maker->outputs[f->output]->kind : NULL;
        if (wanted && kind && strcmp(wanted, kind))
            return err_set(e, "the input \"%s\" wants a %s, but %s, which \"%s\" makes, is a %s", b->inputs[i]->name, wanted, f->path,
                           s->graph.steps[f->producer].name, kind);
    }
    return 0;
}

static const char *json_of(struct graph *g, const struct value *v) {
    struct buf text = {0};
    value_write(v, &text);
    const char *kept = arena_strndup(&g->arena, buf_str(&text), text.len);
    buf_free(&text);
    return kept;
}

/* The rule library passes on what it doesn't know, so a field of the rule that is misspelt arrives here as a parameter. Returns the
 * field that was meant, and sets *key; NULL if there is none. */
static const char *misspelt_field(const struct step_type *t, const struct value *params, const char **key) {
    static const char *const fields[] = {"inputs", "outputs", "resources", "timeout", "retries", "env", "network"};
    const char **names = mem_alloc((t->param_count + 1) * sizeof *names), *meant = NULL;
    for (uint32_t i = 0; i < t->param_count; i++) names[i] = t->params[i].name;
    for (uint32_t i = 0; i < params->count && !meant; i++) {
        *key = params->keys[i];
        if (!mem_nearest(*key, names, t->param_count)) meant = mem_nearest(*key, fields, sizeof fields / sizeof *fields);
    }
    free(names);
    return meant;
}

static int bind_params(struct session *s, const struct step *step, struct binding *b, struct err *e) {
    struct value applied, keyed;
    const struct step_type *t = b->type;
    const char *key, *meant = misspelt_field(t, &step->params, &key);
    if (meant) return err_set(e, "unknown parameter %s; did you mean \"%s\"?", key, meant);
    if (schema_apply(t->params, t->param_count, &step->params, &s->graph.arena, &applied, e)) return -1;
    b->params = json_of(&s->graph, &applied);
    schema_keyed(t->params, t->param_count, &applied, &s->graph.arena, &keyed);
    b->keyed = keyed.count == applied.count ? b->params : json_of(&s->graph, &keyed);
    return 0;
}

int bind_step(struct session *s, uint32_t index, struct err *e) {
    struct step *step = &s->graph.steps[index];
    const struct plugin *plugin = NULL;
    if (step->binding) return 0; /* a plugin that a step makes isn't found before that step is done, so it stays what it is */
    if (find_plugin(s, step, &plugin, e)) return bind_fail(step, e);
    if (!plugin) return 0;
    struct binding *b = arena_alloc(&s->graph.arena, sizeof *b);
    b->plugin = plugin;
    b->type = plugins_step(plugin, step->plugin_file == NO_ID ? step->plugin : plugin->type.name, e);
    if (!b->type) return bind_fail(step, e);
    if (bind_params(s, step, b, e) ||
        bind_roles(s, b->type, step->inputs, step->input_count, MB_INPUT, &b->inputs, e) ||
        bind_roles(s, b->type, step->outputs, step->output_count, MB_OUTPUT, &b->outputs, e) || check_kinds(s, step, b, e))
        return bind_fail(step, e);
    for (uint32_t i = 0; i < step->input_count; i++)
        if (b->inputs[i]->flags & MB_SECRET) s->graph.files[step->inputs[i].file].secret = true;
    if (b->type->flags & MB_GPU_MUST && strcmp(s->device, "cuda")) {
        err_set(e, "%s needs a GPU, and there is none here", b->type->name);
        return bind_fail(step, e);
    }
    if (b->type->flags & MB_NETWORK && !step->network) {
        err_set(e, "%s uses the network: say network = true", b->type->name);
        return bind_fail(step, e);
    }
    step->binding = b;
    return 0;
}

/* -- the plugin's own check of its parameters */

static void check_event(void *ctx, const struct worker_event *ev) {
    struct err *e = ctx;
    if (ev->type == WORKER_FINISHED && ev->result.outcome != WORKER_OK) err_set(e, "%s", ev->result.message);
}

int bind_check(struct session *s, uint32_t index, struct err *e) {
    struct step *step = &s->graph.steps[index];
    const struct binding *b = step->binding;
    if (!b || !b->type->has_check) return 0;
    struct digest_context *c = digest_begin();
    digest_add(c, b->plugin->digest.bytes, sizeof b->plugin->digest.bytes);
    digest_add_string(c, b->type->name);
    digest_add_string(c, b->params);
    struct digest d = digest_end(c);
    char name[6 + DIGEST_HEX + 1] = "check:";
    digest_to_hex(&d, name + 6);
    const char *known;
    if (state_get_note(s->state, name, &s->graph.arena, &known, e)) return -1;
    if (known) return 0;
    struct worker_request request = {.hook = WORKER_CHECK, .plugin_path = b->plugin->path, .step = b->type->name, .label = step->name,
                                     .params = b->params, .device = s->device, .cpus = 1, .timeout_ms = 10000};
    struct err said = {.text = ""};
    if (worker_call(s->workers, &request, check_event, &said, e)) return bind_fail(step, e);
    if (*said.text) {
        *e = said;
        return bind_fail(step, e);
    }
    return s->read_only ? 0 : state_put_note(s->state, name, "ok", e);
}
