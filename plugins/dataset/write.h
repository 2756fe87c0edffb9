/* write.h: the schema and the parts, as lib/dataset.h says they are. */
#ifndef DATASET_WRITE_H
#define DATASET_WRITE_H

#include "rows.h"

struct finished {
    const struct table *table;
    const struct options *options;
    const struct rows *parts;    /* [PART_COUNT] */
    const char *const *digests;  /* of the sources */
    size_t digest_count;
};

/* Fits the scaling on the part that trains, or on all rows without a split, and returns the schema. */
struct mbl_json *write_schema(const struct finished *f, struct mbl_arena *a);
int write_part(const struct finished *f, int part, const struct mbl_json *schema, const char *path, struct mbl_error *e);

#endif
