/* catalogue.h: who and what a recommender knows: users and items by their ids, with their features and how often each was met in training.
 *
 * A catalogue stands in every part of a dataset of interactions and in the folder of every model that was trained on one
 * (catalogue.safetensors). Its schema is the tables "users" and "items" of the dataset's schema:
 *     { "column": "user", "count": 943, "trained": 940, "features": [{ "name", "kind": "category", "categories" },
 *                                                                    { "name", "kind": "numeric", "offset", "factor" }] }
 * and its tensors are, for `user` and `item` alike:
 *     user:ids U8 [bytes], user:ids:offsets I64 [count + 1]   UTF-8, no two alike, none empty
 *     user:counts I64 [count]                                 interactions of the training part
 *     user:numbers F32 [count, numeric features]              raw, NaN missing
 *     user:category:NAME I32 [count]                          -1 missing
 * Entities that were met in training come first, so that an index below `trained` is a row of what was learned.
 */
#ifndef MBL_CATALOGUE_H
#define MBL_CATALOGUE_H

#include "safetensors.h"

enum mbl_side { MBL_USERS, MBL_ITEMS, MBL_SIDES };
MBL_EXPORT const char *mbl_side_name(enum mbl_side s); /* "user", "item" */

struct mbl_trait {               /* a feature of users or items */
    const char *name;
    bool category;
    const char *const *categories;
    size_t category_count;
    float offset, factor;        /* of numbers: scaled = (raw − offset) · factor, fitted on those met in training */
};

struct mbl_entities {
    const char *column;
    int64_t count, trained;
    int64_t own, cap;            /* own: without those that were added later, which are never saved; cap: room of the arrays */
    struct mbl_trait *traits;
    size_t trait_count, number_count; /* of the traits so many are numbers */
    const char **ids;            /* [count] */
    int64_t *counts;             /* [count] */
    float *numbers;              /* [count, number_count] */
    int32_t **codes;             /* by trait, [count]; NULL for numbers */
    size_t *slots, slot_count;   /* index + 1 by hash */
};

struct mbl_catalogue {
    struct mbl_arena arena;
    struct mbl_entities side[MBL_SIDES];
};

/* What a schema says of a side, without any entity; strings lie in the JSON or the arena. */
MBL_EXPORT int mbl_entities_parse(const struct mbl_json *schema, enum mbl_side side, struct mbl_arena *a, struct mbl_entities *out,
                                  struct mbl_error *e);

/* Reads and checks all of it; nothing points into the file afterwards, but strings may lie in `schema`. */
MBL_EXPORT int mbl_catalogue_read(const struct mbl_json *schema, const struct mbl_safetensors *file, struct mbl_catalogue **out,
                                  struct mbl_error *e);
MBL_EXPORT int mbl_catalogue_open(const struct mbl_json *schema, const char *folder, struct mbl_catalogue **out,
                                  struct mbl_error *e); /* FOLDER/catalogue.safetensors */
MBL_EXPORT int mbl_catalogue_save(const struct mbl_catalogue *c, const char *folder, struct mbl_error *e);
MBL_EXPORT void mbl_catalogue_free(struct mbl_catalogue *c); /* NULL is fine */

MBL_EXPORT int64_t mbl_catalogue_find(const struct mbl_catalogue *c, enum mbl_side side, const char *id); /* -1: not there */
/* One more, with no features known; returns its index. The id must not be there yet. */
MBL_EXPORT int64_t mbl_catalogue_add(struct mbl_catalogue *c, enum mbl_side side, const char *id);
/* Sets a feature of one that was added: `text` of a category (NULL: it was no text), `number` of a number (NaN: it was none). An unknown
 * category is taken for missing. */
MBL_EXPORT int mbl_catalogue_set(struct mbl_catalogue *c, enum mbl_side side, int64_t index, const char *feature, const char *text,
                                 double number, struct mbl_error *e);
/* Where those of another catalogue are in this one: map [from's count]. Those that aren't are added, with what their features are by name
 * here: a category that this one doesn't know is missing. */
MBL_EXPORT void mbl_catalogue_adopt(struct mbl_catalogue *c, enum mbl_side side, const struct mbl_catalogue *from, int32_t *map);

/* The tensors of one side, for whoever writes them; names and packed ids lie in the arena. Returns how many of at most 4 + traits. */
MBL_EXPORT size_t mbl_entities_tensors(const struct mbl_entities *s, enum mbl_side side, struct mbl_arena *a, struct mbl_tensor *out);

#endif
