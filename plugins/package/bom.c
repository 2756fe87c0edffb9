/* bom.c: a CycloneDX bill of materials (cyclonedx.org/docs/1.6/json); see package.h. */
#include "package.h"

#include <stdio.h>
#include <string.h>

static void set(struct package *p, struct mbl_json *table, const char *key, const char *value) {
    if (value) mbl_json_set(&p->arena, table, key, mbl_json_string(&p->arena, value));
}

static struct mbl_json *component(struct package *p, const char *type, const char *prefix, const char *name, const char *digest) {
    struct mbl_arena *a = &p->arena;
    struct mbl_json *c = mbl_json_table(a);
    set(p, c, "type", type);
    set(p, c, "bom-ref", mbl_arena_printf(a, "%s:%s", prefix, name));
    set(p, c, "name", name);
    if (digest) {
        struct mbl_json *hash = mbl_json_table(a), *hashes = mbl_json_list(a);
        set(p, hash, "alg", "SHA-256");
        set(p, hash, "content", digest);
        mbl_json_push(a, hashes, hash);
        mbl_json_set(a, c, "hashes", hashes);
    }
    return c;
}

/* -- the model */

static struct mbl_json *model_parameters(struct package *p, struct mbl_json *datasets) {
    struct mbl_arena *a = &p->arena;
    struct mbl_json *out = mbl_json_table(a);
    const struct mbl_json *architectures = mbl_json_get(p->config, "architectures");
    set(p, out, "task", mbl_json_get_string(p->config, "problem_type"));
    set(p, out, "architectureFamily", mbl_json_get_string(p->config, "model_type"));
    if (architectures && architectures->type == MBL_JSON_LIST && architectures->count && architectures->items[0]->type == MBL_JSON_STRING)
        set(p, out, "modelArchitecture", architectures->items[0]->string);
    if (datasets->count) mbl_json_set(a, out, "datasets", datasets);
    return out;
}

/* The scores' figures; what lies deeper, by class say, stands in the scores themselves. */
static struct mbl_json *performance(struct package *p) {
    struct mbl_arena *a = &p->arena;
    struct mbl_json *metrics = mbl_json_list(a), *out = mbl_json_table(a);
    for (size_t i = 0; p->scores && i < p->scores->count; i++) {
        if (!mbl_json_is_number(p->scores->items[i])) continue;
        struct mbl_json *m = mbl_json_table(a);
        struct mbl_buf text = {0};
        mbl_json_write(p->scores->items[i], MBL_JSON_COMPACT, &text);
        set(p, m, "type", p->scores->keys[i]);
        set(p, m, "value", mbl_buf_str(&text));
        mbl_json_push(a, metrics, m);
        mbl_buf_free(&text);
    }
    mbl_json_set(a, out, "performanceMetrics", metrics);
    return out;
}

static struct mbl_json *model_component(struct package *p, struct mbl_json *datasets) {
    struct mbl_arena *a = &p->arena;
    struct mbl_json *c = component(p, "machine-learning-model", "model", p->name, NULL), *card = mbl_json_table(a);
    set(p, c, "version", p->version);
    mbl_json_set(a, card, "modelParameters", model_parameters(p, datasets));
    mbl_json_set(a, card, "quantitativeAnalysis", performance(p));
    mbl_json_set(a, c, "modelCard", card);
    return c;
}

/* -- the whole */

/* A UUID of version 8 (RFC 9562), made of a digest over the parts instead of chance. */
static const char *serial_number(struct package *p, const struct mbl_json *components) {
    struct mbl_buf text = {0};
    unsigned char d[MBL_SHA256];
    mbl_json_write(components, MBL_JSON_COMPACT, &text);
    mbl_buf_addf(&text, "%s\n%s", p->name, p->version);
    mbl_sha256_of(text.data, text.len, d);
    mbl_buf_free(&text);
    d[6] = (unsigned char)((d[6] & 0x0f) | 0x80);
    d[8] = (unsigned char)((d[8] & 0x3f) | 0x80);
    return mbl_arena_printf(&p->arena, "urn:uuid:%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", d[0], d[1], d[2],
                            d[3], d[4], d[5], d[6], d[7], d[8], d[9], d[10], d[11], d[12], d[13], d[14], d[15]);
}

struct mbl_json *bom_make(struct package *p) {
    struct mbl_arena *a = &p->arena;
    struct mbl_json *bom = mbl_json_table(a), *metadata = mbl_json_table(a), *tools = mbl_json_table(a), *tool_list = mbl_json_list(a),
                    *components = mbl_json_list(a), *datasets = mbl_json_list(a), *depends = mbl_json_list(a),
                    *dependency = mbl_json_table(a), *dependencies = mbl_json_list(a);
    for (size_t i = 0; i < p->count; i++)
        mbl_json_push(a, components, component(p, "file", "file", p->members[i].name, p->members[i].sha256));
    for (size_t i = 0; i < p->history.source_count; i++) {
        const struct source *s = &p->history.sources[i];
        struct mbl_json *c = component(p, s->data ? "data" : "file", "source", s->path, s->folder ? NULL : s->digest);
        mbl_json_push(a, components, c);
        mbl_json_push(a, depends, mbl_json_get(c, "bom-ref"));
        if (!s->data) continue;
        struct mbl_json *ref = mbl_json_table(a);
        mbl_json_set(a, ref, "ref", mbl_json_get(c, "bom-ref"));
        mbl_json_push(a, datasets, ref);
    }
    struct mbl_json *model = model_component(p, datasets);
    mbl_json_set(a, dependency, "ref", mbl_json_get(model, "bom-ref"));
    mbl_json_set(a, dependency, "dependsOn", depends);
    mbl_json_push(a, dependencies, dependency);
    struct mbl_json *tool = mbl_json_table(a);
    set(p, tool, "type", "application");
    set(p, tool, "name", "mbuild");
    mbl_json_push(a, tool_list, tool);
    mbl_json_set(a, tools, "components", tool_list);
    mbl_json_set(a, metadata, "tools", tools);
    mbl_json_set(a, metadata, "component", model);
    set(p, bom, "bomFormat", "CycloneDX");
    set(p, bom, "specVersion", "1.6");
    set(p, bom, "serialNumber", serial_number(p, components));
    mbl_json_set(a, bom, "version", mbl_json_int(a, 1));
    mbl_json_set(a, bom, "metadata", metadata);
    mbl_json_set(a, bom, "components", components);
    mbl_json_set(a, bom, "dependencies", dependencies);
    return bom;
}
