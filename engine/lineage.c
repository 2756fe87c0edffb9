/* lineage.c: where a file comes from, as JSON for steps that ask (mb_host.input_lineage): the step that made it with everything that
 * went in, and all steps before it. From the records, so for what is built. */
#include "build_private.h"

#include <stdlib.h>
#include <string.h>

static void add_digest(struct buf *out, const char *key, const struct digest *d) {
    char hex[DIGEST_HEX + 1];
    digest_to_hex(d, hex);
    buf_addf(out, "\"%s\":\"%s\"", key, hex);
}

static void add_string(struct buf *out, const char *key, const char *text) {
    buf_addf(out, "\"%s\":", key);
    value_write_string(text, out);
}

static void write_record(const struct graph *g, const struct state_record *r, struct buf *out) {
    add_string(out, "step", r->step);
    buf_addc(out, ',');
    add_string(out, "plugin", r->plugin_name);
    buf_addc(out, ',');
    add_string(out, "plugin_version", r->plugin_version);
    buf_addc(out, ',');
    add_digest(out, "plugin_digest", &r->plugin);
    buf_addc(out, ',');
    add_digest(out, "key", &r->key);
    buf_addf(out, ",\"params\":%s,\"inputs\":[", r->params);
    for (uint32_t i = 0; i < r->input_count; i++) {
        const struct state_input *in = &r->inputs[i];
        if (*in->path == '/') continue; /* where a machine keeps its headers tells nothing of the artifact */
        buf_adds(out, out->data[out->len - 1] == '[' ? "{" : ",{");
        add_string(out, "role", in->role);
        buf_addc(out, ',');
        add_string(out, "path", in->path);
        if (in->artifact.type != ARTIFACT_NONE) {
            buf_addc(out, ',');
            add_digest(out, "digest", &in->artifact.digest);
        }
        uint32_t file = graph_find_file(g, in->path), producer = file == NO_ID ? NO_ID : graph_producer(g, file);
        if (producer != NO_ID) {
            buf_addc(out, ',');
            add_string(out, "step", g->steps[producer].name);
        }
        buf_addc(out, '}');
    }
    buf_adds(out, "],\"outputs\":[");
    for (uint32_t i = 0; i < r->output_count; i++) {
        buf_adds(out, i ? ",{" : "{");
        add_string(out, "path", r->outputs[i].path);
        buf_addc(out, ',');
        add_digest(out, "digest", &r->outputs[i].artifact.digest);
        buf_addc(out, '}');
    }
    buf_addc(out, ']');
}

static int compare_steps(const void *a, const void *b) {
    return strcmp((*(const struct step *const *)a)->name, (*(const struct step *const *)b)->name);
}

/* All steps that `step` depends on, itself left out, sorted by name. */
static const struct step **ancestors(const struct graph *g, uint32_t step, uint32_t *count) {
    const struct step **found = mem_alloc((g->step_count + 1) * sizeof *found);
    bool *seen = mem_alloc(g->step_count);
    uint32_t n = 1;
    found[0] = &g->steps[step];
    seen[step] = true;
    for (uint32_t at = 0; at < n; at++) {
        for (uint32_t i = 0; i < found[at]->input_count; i++) {
            uint32_t p = graph_producer(g, found[at]->inputs[i].file);
            if (p == NO_ID || seen[p]) continue;
            seen[p] = true;
            found[n++] = &g->steps[p];
        }
    }
    free(seen);
    *count = n - 1;
    memmove(found, found + 1, (n - 1) * sizeof *found);
    qsort(found, n - 1, sizeof *found, compare_steps);
    return found;
}

const char *lineage_of(struct session *s, uint32_t file, struct arena *arena) {
    const struct graph *g = &s->graph;
    uint32_t producer = graph_producer(g, file);
    struct buf out = {0};
    buf_addc(&out, '{');
    if (producer == NO_ID) {
        add_string(&out, "source", g->files[file].path);
        buf_addc(&out, ',');
        add_digest(&out, "digest", &g->files[file].artifact.digest);
    } else if (g->steps[producer].record) {
        uint32_t count;
        const struct step **list = ancestors(g, producer, &count);
        write_record(g, g->steps[producer].record, &out);
        buf_adds(&out, ",\"closure\":[");
        for (uint32_t i = 0; i < count; i++) {
            if (!list[i]->record) continue;
            buf_adds(&out, out.data[out.len - 1] == '[' ? "{" : ",{");
            write_record(g, list[i]->record, &out);
            buf_addc(&out, '}');
        }
        buf_addc(&out, ']');
        free(list);
    }
    buf_addc(&out, '}');
    const char *text = arena_strndup(arena, buf_str(&out), out.len);
    buf_free(&out);
    return text;
}
