/* package.h: what goes into a bundle beside the model itself: a card, provenance, a bill of materials. */
#ifndef PACKAGE_PACKAGE_H
#define PACKAGE_PACKAGE_H

#include "lib/bundle.h"
#include "lib/lookup.h"

/* A source of the build: what nobody made. */
struct source {
    const char *path, *digest;
    bool data;   /* a dataset came from it */
    bool folder; /* its digest is one of mbuild's trees, not of bytes */
};

/* How the bundle's inputs came to be, gathered from their lineages. */
struct history {
    struct mbl_json **steps; /* by name, each once; without what is upstream of it */
    size_t step_count, step_cap;
    struct source *sources;  /* by path, each once */
    size_t source_count, source_cap;
};
/* Adds one lineage, JSON as in docs/plugins.md. */
int history_add(struct history *h, const char *lineage, struct mbl_arena *a, struct mbl_error *e);
void history_sort(struct history *h);
void history_free(struct history *h);

struct package {
    struct mbl_arena arena;
    const char *name, *version;
    struct mbl_json *scores;       /* of the first scores file; NULL without */
    struct mbl_json *config;       /* the model's config.json; NULL without */
    struct mbl_member *members;
    size_t count, cap;
    struct history history;
};

/* Renders a card: {{name}} becomes the value of that name in `figures`. The error tells the line and the nearest name. */
int card_render(const char *text, const char *path, const struct mbl_json *figures, struct mbl_buf *out, struct mbl_error *e);

/* An in-toto statement with SLSA provenance (slsa.dev/spec/v1.0/provenance) about the members, which are prepared. It tells no times. */
struct mbl_json *provenance_make(struct package *p);

/* A CycloneDX 1.6 bill of materials. Its serial number follows from what it lists. */
struct mbl_json *bom_make(struct package *p);

#endif
