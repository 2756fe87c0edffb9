/* build_step.c: one step's way through a build: its folders, its request, what it reports, its record. */
#include "build_private.h"
#include "files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct build_step *build_step_new(struct build *b, uint32_t step) {
    struct build_step *bs = mem_alloc(sizeof *bs);
    bs->build = b;
    bs->step = step;
    b->session->graph.steps[step].build = bs;
    return bs;
}

void build_step_free(struct build_step *bs) {
    if (!bs) return;
    bs->build->session->graph.steps[bs->step].build = NULL;
    free(bs->outputs);
    free(bs->discovered);
    free(bs->metric_names);
    free(bs->metric_values);
    arena_free(&bs->arena);
    free(bs);
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* -- starting */

/* A log's name: the step's, with only harmless bytes, and a number that keeps two apart. */
static const char *log_path(struct build_step *bs, const char *name) {
    char safe[101];
    size_t n = 0;
    for (; name[n] && n < sizeof safe - 1; n++) {
        unsigned char c = (unsigned char)name[n];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
        safe[n] = (char)(plain ? c : '_');
    }
    safe[n] = 0;
    return arena_printf(&bs->arena, ".mbuild/log/%lld/%s-%u.log", (long long)bs->build->session->run_id, safe, bs->step);
}

static struct placed *add_output(struct build_step *bs) {
    bs->outputs = mem_grow(bs->outputs, &bs->output_cap, bs->output_count + 1, sizeof *bs->outputs);
    struct placed *o = &bs->outputs[bs->output_count++];
    memset(o, 0, sizeof *o);
    return o;
}

/* Whether a step's private folder can hold its output itself: the least work for the most frequent kind of step. */
static bool output_stands_alone(const struct graph *g, const struct step *step) {
    if (step->output_count != 1 || step->binding->outputs[0]->flags & (MB_ADDS | MB_FOLDER)) return false;
    return strcmp(base_name(g->files[step->outputs[0].file].path), "tmp") != 0;
}

/* The private folder: in it a folder for each output, where the output has its own name, or the only output itself. "tmp", for temporary
 * files, is made when it is asked for. */
static int make_folders(struct build_step *bs, struct worker_path *paths, struct err *e) {
    struct session *s = bs->build->session;
    const struct step *step = &s->graph.steps[bs->step];
    bs->output_count = 0;
    bs->folder = arena_printf(&bs->arena, ".mbuild/tmp/%u", ++bs->build->sequence);
    if (sys_mkdirs(bs->folder, e)) return -1;
    bool alone = output_stands_alone(&s->graph, step);
    for (uint32_t i = 0; i < step->output_count; i++) {
        const struct role_type *role = step->binding->outputs[i];
        const struct file *f = &s->graph.files[step->outputs[i].file];
        const char *folder = alone ? bs->folder : arena_printf(&bs->arena, "%s/%u", bs->folder, i);
        const char *path = arena_printf(&bs->arena, "%s/%s", folder, base_name(f->path));
        bool adds = role->flags & MB_ADDS;
        if (!alone && sys_mkdirs(!adds && role->flags & MB_FOLDER ? path : folder, e)) return -1;
        paths[i] = (struct worker_path){.role = role->name, .path = adds ? folder : path, .name = f->path};
        if (adds) continue; /* its files come by their own names, as the step adds them */
        struct placed *o = add_output(bs);
        *o = (struct placed){.role = role->name, .private_path = path, .path = f->path, .file = step->outputs[i].file,
                             .folder = role->flags & MB_FOLDER};
    }
    return 0;
}

static const char *hex_of(struct arena *a, const struct digest *d) {
    char hex[DIGEST_HEX + 1];
    digest_to_hex(d, hex);
    return arena_strdup(a, hex);
}

static void input_paths(struct build_step *bs, struct worker_path *paths) {
    struct session *s = bs->build->session;
    const struct step *step = &s->graph.steps[bs->step];
    for (uint32_t i = 0; i < step->input_count; i++) {
        const struct role_type *role = step->binding->inputs[i];
        const struct file *f = &s->graph.files[step->inputs[i].file];
        paths[i] = (struct worker_path){.role = role->name, .path = f->path, .name = role->flags & MB_NAMED ? f->path : NULL};
        if (!(role->flags & MB_SECRET)) paths[i].digest = hex_of(&bs->arena, &f->artifact.digest);
    }
}

/* What the rule declares; and, unless that is among it, which GPUs the step has asked for and holds. */
static const char **env_pairs(struct build_step *bs) {
    const struct session *s = bs->build->session;
    const struct step *step = &s->graph.steps[bs->step];
    const char **pairs = arena_alloc(&bs->arena, (2 * step->env_count + 3) * sizeof *pairs);
    bool declared = false;
    for (uint32_t i = 0; i < step->env_count; i++) {
        pairs[2 * i] = step->env[i];
        pairs[2 * i + 1] = getenv(step->env[i]);
        declared |= !strcmp(step->env[i], "CUDA_VISIBLE_DEVICES");
    }
    if (bs->gpus && !declared) {
        pairs[2 * step->env_count] = "CUDA_VISIBLE_DEVICES";
        pairs[2 * step->env_count + 1] = gpus_text(&s->gpu_list, bs->gpus, &bs->arena);
    }
    return pairs;
}

static int make_checkpoint(struct build_step *bs, struct err *e) {
    const struct step *step = &bs->build->session->graph.steps[bs->step];
    if (!(step->binding->type->flags & MB_RESUMABLE)) return 0;
    bs->checkpoint = arena_printf(&bs->arena, ".mbuild/checkpoint/%s", hex_of(&bs->arena, &bs->decision.key));
    return sys_mkdirs(bs->checkpoint, e);
}

/* What it may read besides its inputs: the files that fingerprints watch, a key in the user's home say. */
static const char **readable_paths(struct build_step *bs) {
    struct session *s = bs->build->session;
    uint32_t count = s->graph.steps[bs->step].binding->type->has_fingerprint ? s->watched_count : 0;
    const char **paths = arena_alloc(&bs->arena, (count + 1) * sizeof *paths);
    for (uint32_t i = 0; i < count; i++) paths[i] = s->watched[i];
    return paths;
}

/* Whether its process may have served other steps. --check-repro asks whether the step makes the same in a fresh one. What reads anywhere and
 * what needs no start gains nothing. */
static bool served_warm(const struct session *s, const struct step *step) {
    unsigned flags = step->binding->type->flags;
    if (!(flags & MB_REENTRANT) || flags & MB_DISCOVERS || s->options->check_repro) return false;
    return flags & MB_SLOW_START || (flags & (MB_GPU_MAY | MB_GPU_MUST) && !strcmp(s->device, "cuda"));
}

int build_step_start(struct build_step *bs, struct err *e) {
    struct session *s = bs->build->session;
    const struct step *step = &s->graph.steps[bs->step];
    struct worker_path *inputs = arena_alloc(&bs->arena, (step->input_count + 1) * sizeof *inputs);
    struct worker_path *outputs = arena_alloc(&bs->arena, (step->output_count + 1) * sizeof *outputs);
    if (make_folders(bs, outputs, e) || make_checkpoint(bs, e)) return -1;
    input_paths(bs, inputs);
    bs->discovered_count = bs->metric_count = 0;
    bs->started_ns = sys_wall_ms() * 1000000;
    bs->log = log_path(bs, step->name);
    struct worker_request request = {
        .hook = WORKER_RUN, .plugin_path = step->binding->plugin->path, .step = step->binding->type->name, .label = step->name,
        .params = step->binding->params, .inputs = inputs, .input_count = step->input_count, .outputs = outputs,
        .output_count = step->output_count, .temp_folder = arena_printf(&bs->arena, "%s/tmp", bs->folder),
        .checkpoint_folder = bs->checkpoint, .device = s->device, .cpus = bs->cpu, .memory = step->resources.mem,
        .env = env_pairs(bs), .timeout_ms = step->timeout_ms, .log_path = bs->log, .tag = bs,
        .network = step->network, .may_read = readable_paths(bs), .warm = served_warm(s, step), .self_contained = step->binding->type->flags & MB_SELF_CONTAINED};
    if (!request.self_contained) {
        request.makeflags = jobserver_makeflags(s->jobserver);
        jobserver_descriptors(s->jobserver, request.jobserver);
    }
    if (sandbox_parse_mode(s->options->sandbox, &request.sandbox, e)) return -1;
    return worker_start(s->workers, &request, &bs->run, e);
}

/* -- what it reports */

static void keep_metric(struct build_step *bs, const char *name, double value) {
    uint32_t i = 0;
    while (i < bs->metric_count && strcmp(bs->metric_names[i], name)) i++;
    if (i == bs->metric_count) {
        bs->metric_names = mem_grow(bs->metric_names, &bs->metric_name_cap, i + 1, sizeof *bs->metric_names);
        bs->metric_values = mem_grow(bs->metric_values, &bs->metric_value_cap, i + 1, sizeof *bs->metric_values);
        bs->metric_names[i] = arena_strdup(&bs->arena, name);
        bs->metric_count++;
    }
    bs->metric_values[i] = value;
}

static void keep_added(struct build_step *bs, const char *role_name, const char *name) {
    struct graph *g = &bs->build->session->graph;
    const struct step *step = &g->steps[bs->step];
    for (uint32_t i = 0; i < step->output_count; i++) {
        if (strcmp(step->binding->outputs[i]->name, role_name) || !step->outputs[i].shared) continue;
        const char *folder = g->files[step->outputs[i].file].path;
        struct placed *o = add_output(bs);
        *o = (struct placed){.role = step->binding->outputs[i]->name, .private_path = arena_printf(&bs->arena, "%s/%u/%s", bs->folder, i, name),
                             .path = arena_printf(&bs->arena, "%s/%s", folder, name), .added = true};
        o->file = graph_file(g, o->path);
        return;
    }
}

static void keep_discovered(struct build_step *bs, const char *path) {
    for (uint32_t i = 0; i < bs->discovered_count; i++)
        if (!strcmp(bs->discovered[i], path)) return;
    bs->discovered = mem_grow(bs->discovered, &bs->discovered_cap, bs->discovered_count + 1, sizeof *bs->discovered);
    bs->discovered[bs->discovered_count++] = arena_strdup(&bs->arena, path);
}

static void answer_lineage(struct build_step *bs, const struct worker_event *ev) {
    struct session *s = bs->build->session;
    const struct step *step = &s->graph.steps[bs->step];
    uint32_t nth = ev->index;
    for (uint32_t i = 0; i < step->input_count; i++) {
        if (strcmp(step->binding->inputs[i]->name, ev->role) || nth--) continue;
        worker_answer(ev->run, lineage_of(s, step->inputs[i].file, &bs->arena));
        return;
    }
    worker_answer(ev->run, "null");
}

void build_step_event(struct build_step *bs, const struct worker_event *ev) {
    struct session *s = bs->build->session;
    const char *name = s->graph.steps[bs->step].name;
    switch (ev->type) {
    case WORKER_LOG: ui_log(s->ui, name, ev->level, ev->text); break;
    case WORKER_PROGRESS: ui_progress(s->ui, name, ev->done, ev->total, ev->text); break;
    case WORKER_METRIC:
        keep_metric(bs, ev->text, ev->done);
        ui_metric(s->ui, name, ev->text, ev->done);
        break;
    case WORKER_DISCOVERED: keep_discovered(bs, ev->text); break;
    case WORKER_ADDED: keep_added(bs, ev->role, ev->text); break;
    case WORKER_LINEAGE: answer_lineage(bs, ev); break;
    case WORKER_FINGERPRINT_TEXT:
    case WORKER_WATCH:
    case WORKER_FINISHED: break;
    }
}

/* -- the record */

static const char *metrics_json(struct build_step *bs) {
    struct value table = {.type = VALUE_TABLE, .count = bs->metric_count};
    table.items = arena_alloc(&bs->arena, (bs->metric_count + 1) * sizeof *table.items);
    table.keys = arena_alloc(&bs->arena, (bs->metric_count + 1) * sizeof *table.keys);
    for (uint32_t i = 0; i < bs->metric_count; i++) {
        table.keys[i] = bs->metric_names[i];
        table.items[i] = (struct value){.type = VALUE_FLOAT, .number = bs->metric_values[i]};
        if (bs->metric_values[i] - bs->metric_values[i] != 0) table.items[i].type = VALUE_NONE; /* NaN, infinity */
    }
    const char *twin;
    value_sort(&table, &twin);
    struct buf b = {0};
    value_write(&table, &b);
    const char *text = arena_strndup(&bs->arena, buf_str(&b), b.len);
    buf_free(&b);
    return text;
}

/* A path that the step reported, as a file of the graph. */
static uint32_t found_file(struct build_step *bs, uint32_t i) {
    struct graph *g = &bs->build->session->graph;
    const char *path;
    struct err outside;
    if (graph_normalize(g, bs->discovered[i], &path, &outside)) path = bs->discovered[i]; /* system headers lie outside */
    return graph_file(g, path);
}

int build_step_check_found(struct build_step *bs, struct err *e) {
    struct graph *g = &bs->build->session->graph;
    for (uint32_t i = 0; i < bs->discovered_count; i++) {
        uint32_t file = found_file(bs, i), producer = graph_producer(g, file);
        const struct step *step = &g->steps[bs->step];
        bool given = producer == NO_ID || producer == bs->step;
        for (uint32_t k = 0; k < step->input_count && !given; k++) given = graph_producer(g, step->inputs[k].file) == producer;
        if (given) continue;
        return err_set(e, "it read %s, which step \"%s\" makes: name it as an input, so that it is made first", g->files[file].path, g->steps[producer].name);
    }
    return 0;
}

/* Turns paths that the step reported into inputs with digests. What the step was given anyway is passed over. What changed after the step began
 * may not be what it read: it is recorded as no content that a file can have, and so the step runs again. */
static int discovered_inputs(struct build_step *bs, struct state_input *out, uint32_t *count, struct err *e) {
    struct session *s = bs->build->session;
    struct graph *g = &s->graph;
    for (uint32_t i = 0; i < bs->discovered_count; i++) {
        const struct step *step = &g->steps[bs->step];
        uint32_t file = found_file(bs, i);
        bool given = false;
        for (uint32_t k = 0; k < step->input_count; k++) given |= step->inputs[k].file == file;
        if (given || !strncmp(g->files[file].path, ".mbuild/", 8)) continue;
        if (file_learn(g, file, e)) return -1;
        const struct file *f = &g->files[file];
        struct state_input *in = &out[(*count)++];
        *in = (struct state_input){.role = "", .path = f->path, .artifact = f->artifact};
        if (f->stat.kind != FILE_REGULAR || f->producer != NO_ID || f->stat.ctime_ns <= bs->started_ns) continue;
        ui_log(s->ui, step->name, MB_WARN, arena_printf(&bs->arena, "%s, which it read, changed while it ran: it will run again", f->path));
        memset(&in->artifact.digest, 0, sizeof in->artifact.digest);
    }
    return 0;
}

/* The environment as the record keeps it: the fingerprint under the empty name, then the variables. */
static const char *env_with_fingerprint(struct build_step *bs) {
    struct buf b = {0};
    buf_adds(&b, "{\"\":");
    value_write_string(bs->decision.fingerprint, &b);
    if (strlen(bs->decision.env) > 2) buf_addf(&b, ",%s", bs->decision.env + 1);
    else buf_addc(&b, '}');
    const char *text = arena_strndup(&bs->arena, buf_str(&b), b.len);
    buf_free(&b);
    return text;
}

int build_step_record(struct build_step *bs, bool ran, struct err *e) {
    struct session *s = bs->build->session;
    struct graph *g = &s->graph;
    struct arena *a = &g->arena; /* the record stays: lineage and consumers look at it */
    struct step *step = &g->steps[bs->step];
    const struct state_record *from = ran ? NULL : bs->decision.from;
    struct state_record *r = arena_alloc(a, sizeof *r);
    uint32_t most = step->input_count + bs->discovered_count + (from ? from->input_count : 0);
    r->step = step->name;
    r->key = bs->decision.key;
    r->plugin = step->binding->plugin->digest;
    r->plugin_name = step->plugin;
    r->plugin_version = step->binding->plugin->type.version;
    r->params = step->binding->keyed;
    r->env = arena_strdup(a, env_with_fingerprint(bs));
    r->inputs = arena_alloc(a, (most + 1) * sizeof *r->inputs);
    for (uint32_t i = 0; i < step->input_count; i++) {
        const struct file *f = &g->files[step->inputs[i].file];
        r->inputs[r->input_count++] = (struct state_input){.role = step->binding->inputs[i]->name, .path = f->path,
                                                           .artifact = f->secret ? (struct artifact){0} : f->artifact};
    }
    if (ran && discovered_inputs(bs, r->inputs, &r->input_count, e)) return -1;
    for (uint32_t i = 0; from && i < from->input_count; i++)
        if (!*from->inputs[i].role) r->inputs[r->input_count++] = from->inputs[i];
    r->outputs = arena_alloc(a, (bs->output_count + 1) * sizeof *r->outputs);
    for (uint32_t i = 0; i < bs->output_count; i++) {
        const struct placed *o = &bs->outputs[i];
        if (file_set(g, o->file, &o->artifact, e)) return -1;
        r->outputs[r->output_count++] = (struct state_output){.role = o->role, .path = g->files[o->file].path, .artifact = o->artifact};
    }
    r->metrics = from ? from->metrics : arena_strdup(a, metrics_json(bs));
    r->seconds = from ? from->seconds : bs->seconds;
    r->peak_bytes = from ? from->peak_bytes : bs->peak_bytes;
    r->built_ms = from ? from->built_ms : sys_wall_ms();
    r->run_id = from ? from->run_id : s->run_id;
    g->steps[bs->step].record = r;
    if (state_put_record(s->state, r, e)) return -1;
    bool keep = ran && !(step->binding->type->flags & MB_UNCACHED);
    return keep ? state_put_action(s->state, r, e) : 0;
}
