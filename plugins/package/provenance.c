/* provenance.c: in-toto and SLSA; see package.h. */
#include "package.h"

static void set(struct package *p, struct mbl_json *table, const char *key, const char *value) {
    mbl_json_set(&p->arena, table, key, mbl_json_string(&p->arena, value));
}

/* { "name", "digest": { "sha256" } }; a folder's digest is mbuild's own, and called so. */
static struct mbl_json *descriptor(struct package *p, const char *name, const char *digest, bool folder) {
    struct mbl_json *out = mbl_json_table(&p->arena), *digests = mbl_json_table(&p->arena);
    set(p, digests, folder ? "mbuildTree" : "sha256", digest);
    set(p, out, "name", name);
    mbl_json_set(&p->arena, out, "digest", digests);
    return out;
}

struct mbl_json *provenance_make(struct package *p) {
    struct mbl_arena *a = &p->arena;
    struct mbl_json *subjects = mbl_json_list(a), *sources = mbl_json_list(a), *steps = mbl_json_list(a), *external = mbl_json_table(a),
                    *internal = mbl_json_table(a), *definition = mbl_json_table(a), *builder = mbl_json_table(a),
                    *details = mbl_json_table(a), *predicate = mbl_json_table(a), *statement = mbl_json_table(a);
    for (size_t i = 0; i < p->count; i++) mbl_json_push(a, subjects, descriptor(p, p->members[i].name, p->members[i].sha256, false));
    for (size_t i = 0; i < p->history.source_count; i++)
        mbl_json_push(a, sources, descriptor(p, p->history.sources[i].path, p->history.sources[i].digest, p->history.sources[i].folder));
    for (size_t i = 0; i < p->history.step_count; i++) mbl_json_push(a, steps, p->history.steps[i]);
    set(p, external, "project", p->name);
    set(p, external, "version", p->version);
    mbl_json_set(a, internal, "steps", steps);
    set(p, definition, "buildType", "urn:mbuild:steps:1");
    mbl_json_set(a, definition, "externalParameters", external);
    mbl_json_set(a, definition, "internalParameters", internal);
    mbl_json_set(a, definition, "resolvedDependencies", sources);
    set(p, builder, "id", "urn:mbuild:builder:1");
    mbl_json_set(a, details, "builder", builder);
    mbl_json_set(a, predicate, "buildDefinition", definition);
    mbl_json_set(a, predicate, "runDetails", details);
    set(p, statement, "_type", "https://in-toto.io/Statement/v1");
    mbl_json_set(a, statement, "subject", subjects);
    set(p, statement, "predicateType", "https://slsa.dev/provenance/v1");
    mbl_json_set(a, statement, "predicate", predicate);
    return statement;
}
