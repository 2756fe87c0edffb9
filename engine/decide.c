/* decide.c: keys and what follows from them; see decide.h and DESIGN's "When a step runs" in docs/design.md. */
#include "decide.h"
#include "files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct artifact *decide_input(const struct session *s, const struct slot *slot) {
    return &s->graph.files[slot->file].artifact;
}

/* -- the declared environment */

static const char *env_json(struct session *s, const struct step *step) {
    struct value table = {.type = VALUE_TABLE};
    struct arena *a = &s->graph.arena;
    if (!step->env_count) return "{}";
    table.items = arena_alloc(a, step->env_count * sizeof *table.items);
    table.keys = arena_alloc(a, step->env_count * sizeof *table.keys);
    for (uint32_t i = 0; i < step->env_count; i++) {
        const char *v = getenv(step->env[i]);
        table.keys[table.count] = step->env[i];
        table.items[table.count++] = v ? (struct value){.type = VALUE_STRING, .string = v} : (struct value){.type = VALUE_NONE};
    }
    const char *twin;
    value_sort(&table, &twin); /* a name given twice is harmless */
    struct buf b = {0};
    value_write(&table, &b);
    const char *text = arena_strndup(a, buf_str(&b), b.len);
    buf_free(&b);
    return text;
}

/* -- the fingerprint: asked of the plugin, kept with the stat of the files that it watches */

struct asking {
    struct session *session;
    struct buf text;
    struct value watched; /* list of [path, size, mtime, ctime, ino] as a JSON text */
    struct buf watch_json;
    struct err error;
    bool failed;
};

static void watch_entry(const char *path, struct buf *out, struct err *e, bool *failed) {
    struct file_stat st;
    if (sys_stat(path, false, &st, e)) {
        *failed = true;
        return;
    }
    if (out->len) buf_addc(out, ',');
    buf_addc(out, '[');
    value_write_string(path, out);
    buf_addf(out, ",%llu,%lld,%lld,%llu]", (unsigned long long)st.size, (long long)st.mtime_ns, (long long)st.ctime_ns, (unsigned long long)st.ino);
}

static void fingerprint_event(void *ctx, const struct worker_event *ev) {
    struct asking *a = ctx;
    if (ev->type == WORKER_FINGERPRINT_TEXT) buf_addf(&a->text, "%s%s", a->text.len ? "\n" : "", ev->text);
    if (ev->type == WORKER_WATCH) {
        watch_entry(ev->text, &a->watch_json, &a->error, &a->failed);
        session_watch(a->session, ev->text);
    }
    if (ev->type == WORKER_LOG && ev->level >= MB_WARN) ui_log(a->session->ui, "", ev->level, ev->text);
    if (ev->type == WORKER_FINISHED && ev->result.outcome != WORKER_OK) {
        a->failed = true;
        err_set(&a->error, "%s", ev->result.message);
    }
}

/* Whether the watched files still have the stat that the note tells. */
static bool watch_holds(const struct value *watch) {
    bool holds = true;
    struct err e;
    for (uint32_t i = 0; watch && watch->type == VALUE_LIST && i < watch->count && holds; i++) {
        const struct value *entry = &watch->items[i];
        if (entry->type != VALUE_LIST || !entry->count || entry->items[0].type != VALUE_STRING) return false;
        struct buf now = {0}, then = {0};
        bool failed = false;
        watch_entry(entry->items[0].string, &now, &e, &failed);
        value_write(entry, &then);
        holds = !failed && !strcmp(buf_str(&now), buf_str(&then));
        buf_free(&now);
        buf_free(&then);
    }
    return holds;
}

static int fingerprint(struct session *s, const struct step *step, const char **out, struct err *e) {
    const struct binding *b = step->binding;
    struct arena *arena = &s->graph.arena;
    *out = "";
    if (!b->type->has_fingerprint) return 0;
    struct digest_context *c = digest_begin();
    digest_add(c, b->plugin->digest.bytes, sizeof b->plugin->digest.bytes);
    digest_add_string(c, b->type->name);
    digest_add_string(c, b->params);
    struct digest d = digest_end(c);
    char name[6 + DIGEST_HEX + 1] = "print:";
    digest_to_hex(&d, name + 6);
    const char *note;
    if (state_get_note(s->state, name, arena, &note, e)) return -1;
    struct value kept;
    struct err ignored;
    if (note && !value_parse(note, strlen(note), arena, &kept, &ignored) && watch_holds(value_get(&kept, "watch"))) {
        const char *text = value_get_string(&kept, "text");
        const struct value *watch = value_get(&kept, "watch");
        for (uint32_t i = 0; watch && i < watch->count; i++) session_watch(s, watch->items[i].items[0].string);
        *out = text ? text : "";
        return 0;
    }
    struct asking a = {.session = s};
    struct worker_path *inputs = mem_alloc((step->input_count + 1) * sizeof *inputs);
    uint32_t n = 0;
    for (uint32_t i = 0; i < step->input_count; i++)
        if (b->inputs[i]->flags & MB_SECRET) inputs[n++] = (struct worker_path){.role = b->inputs[i]->name, .path = s->graph.files[step->inputs[i].file].path};
    struct worker_request request = {.hook = WORKER_FINGERPRINT, .plugin_path = b->plugin->path, .step = b->type->name, .label = step->name,
                                     .params = b->params, .inputs = inputs, .input_count = n, .device = s->device, .cpus = 1,
                                     .timeout_ms = 60000, .dry_run = s->read_only};
    int status = worker_call(s->workers, &request, fingerprint_event, &a, e);
    free(inputs);
    if (!status && a.failed) status = err_set(e, "%s: step \"%s\": %s", step->where, step->name, a.error.text);
    if (!status) *out = arena_strndup(arena, buf_str(&a.text), a.text.len);
    if (!status && !s->read_only) {
        struct buf json = {0};
        buf_adds(&json, "{\"text\":");
        value_write_string(*out, &json);
        buf_addf(&json, ",\"watch\":[%s]}", buf_str(&a.watch_json));
        status = state_put_note(s->state, name, buf_str(&json), e);
        buf_free(&json);
    }
    buf_free(&a.text);
    buf_free(&a.watch_json);
    return status;
}

/* -- the key */

static void key_add_artifact(struct digest_context *c, const struct artifact *a) {
    digest_add_u64(c, (uint64_t)a->type);
    digest_add(c, a->digest.bytes, sizeof a->digest.bytes);
}

/* An input that a step made as a symbolic link: whoever reads it reads what lies behind. */
static int key_add_behind(struct digest_context *c, const struct file *f, struct err *e) {
    struct artifact behind;
    if (f->artifact.type != ARTIFACT_LINK) return 0;
    if (digest_path(f->path, true, &behind, NULL, e)) return -1;
    key_add_artifact(c, &behind);
    return 0;
}

/* On several GPUs sums are taken in another order than on one, so their number is part of it. */
static const char *device_in_key(const struct session *s, const struct step *step, char text[64]) {
    if (!(step->binding->type->flags & MB_DEVICE_MATTERS)) return "";
    if (step->resources.gpu < 2 || !strcmp(s->device, "cpu")) return s->device;
    snprintf(text, 64, "%s, %d of them", s->device, step->resources.gpu);
    return text;
}

/* Everything that a step's outputs depend on. The form is versioned by its first string: another form is another key. */
static int step_key(struct session *s, const struct step *step, struct decision *d, struct err *e) {
    const struct binding *b = step->binding;
    int status = 0;
    char device[64];
    struct digest_context *c = digest_begin();
    digest_add_string(c, "mbuild key 1");
    digest_add(c, b->plugin->digest.bytes, sizeof b->plugin->digest.bytes);
    digest_add_string(c, b->type->name);
    digest_add_string(c, b->keyed);
    digest_add_string(c, d->env);
    digest_add_string(c, d->fingerprint);
    digest_add_string(c, device_in_key(s, step, device));
    /* Slots are sorted by the rule's role names, and unnamed ones come first; the type's role is what counts. */
    for (uint32_t k = 0; k < b->type->role_count; k++) {
        const struct role_type *role = &b->type->roles[k];
        digest_add_string(c, role->name);
        for (uint32_t i = 0; i < step->input_count; i++) {
            if (b->inputs[i] != role || role->flags & MB_SECRET) continue;
            const struct file *f = &s->graph.files[step->inputs[i].file];
            if (role->flags & MB_NAMED) digest_add_string(c, f->path);
            key_add_artifact(c, &f->artifact);
            if (!status) status = key_add_behind(c, f, e);
        }
        for (uint32_t i = 0; i < step->output_count; i++) {
            if (b->outputs[i] != role) continue;
            digest_add_string(c, role->flags & (MB_NAMED | MB_ADDS) ? s->graph.files[step->outputs[i].file].path : "output");
        }
    }
    d->key = digest_end(c);
    return status;
}

/* -- verdicts */

/* Whether inputs found by the recorded run are what they were then. */
static int discovered_hold(struct session *s, const struct state_record *r, bool *hold, struct err *e) {
    *hold = true;
    for (uint32_t i = 0; i < r->input_count && *hold; i++) {
        if (*r->inputs[i].role) continue;
        uint32_t file = graph_file(&s->graph, r->inputs[i].path);
        if (file_learn(&s->graph, file, e)) return -1;
        *hold = artifact_same(&s->graph.files[file].artifact, &r->inputs[i].artifact);
    }
    return 0;
}

/* The output of a record that belongs to a slot: the k-th of its role, as slots are. */
static const struct state_output *record_output(const struct step *step, const struct state_record *r, uint32_t slot) {
    const char *role = step->binding->outputs[slot]->name;
    uint32_t nth = 0;
    for (uint32_t i = 0; i < slot; i++) nth += step->binding->outputs[i] == step->binding->outputs[slot];
    for (uint32_t i = 0; i < r->output_count; i++)
        if (!strcmp(r->outputs[i].role, role) && !nth--) return &r->outputs[i];
    return NULL;
}

/* Whether the files that the record's step added to shared folders stand as they were. They are never brought back from the store: which names a
 * step picks depends on what else is in the folder, and the folder may have changed hands since. */
static int added_stand(struct session *s, const struct step *step, const struct state_record *r, bool *stand, struct err *e) {
    *stand = true;
    for (uint32_t i = 0; i < r->output_count && *stand; i++) {
        const struct role_type *role = schema_find_role(step->binding->type, r->outputs[i].role);
        if (!role || !(role->flags & MB_ADDS)) continue;
        uint32_t file = graph_file(&s->graph, r->outputs[i].path);
        if (file_learn(&s->graph, file, e)) return -1;
        *stand = artifact_same(&s->graph.files[file].artifact, &r->outputs[i].artifact);
    }
    return 0;
}

/* Whether every output that the record tells stands where it belongs now. */
static int outputs_stand(struct session *s, const struct step *step, const struct state_record *r, bool *stand, struct err *e) {
    *stand = true;
    for (uint32_t i = 0; i < step->output_count && *stand; i++) {
        if (step->outputs[i].shared) continue;
        const struct state_output *o = record_output(step, r, i);
        if (file_learn(&s->graph, step->outputs[i].file, e)) return -1;
        *stand = o && artifact_same(&s->graph.files[step->outputs[i].file].artifact, &o->artifact);
    }
    return *stand ? added_stand(s, step, r, stand, e) : 0;
}

struct lookup {
    struct session *session;
    uint32_t step;
    const struct state_record *found;
    struct err *e;
    int status;
};

static bool try_action(void *ctx, struct state_record *r) {
    struct lookup *l = ctx;
    bool hold, stand = false;
    l->status = discovered_hold(l->session, r, &hold, l->e);
    if (!l->status && hold) l->status = added_stand(l->session, &l->session->graph.steps[l->step], r, &stand, l->e);
    if (l->status) return true;
    if (!stand) return false;
    for (uint32_t i = 0; i < r->output_count; i++)
        if (!store_has(l->session->store, &r->outputs[i].artifact)) return false;
    l->found = r;
    return true;
}

int decide_step(struct session *s, uint32_t index, struct decision *d, struct err *e) {
    struct step *step = &s->graph.steps[index];
    memset(d, 0, sizeof *d);
    d->env = env_json(s, step);
    if (fingerprint(s, step, &d->fingerprint, e)) return -1;
    step = &s->graph.steps[index];
    if (step_key(s, step, d, e)) return -1;
    d->verdict = VERDICT_RUN;
    if (s->options->always) return 0;
    const struct state_record *r = step->record;
    if (r && digest_same(&r->key, &d->key)) {
        bool hold, stand;
        if (discovered_hold(s, r, &hold, e)) return -1;
        if (hold && outputs_stand(s, step, r, &stand, e)) return -1;
        if (hold && stand) {
            d->verdict = VERDICT_CURRENT;
            d->from = r;
            return 0;
        }
    }
    if (step->binding->type->flags & MB_UNCACHED || !s->store) return 0;
    struct lookup l = {.session = s, .step = index, .e = e};
    if (state_each_action(s->state, &d->key, &s->graph.arena, try_action, &l, e) || l.status) return -1;
    if (l.found) {
        d->verdict = VERDICT_RESTORE;
        d->from = l.found;
    }
    return 0;
}
