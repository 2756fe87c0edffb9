/* lookup.h: figures in JSON by dotted names: "accuracy", "per_class.3.recall". For gates, model cards and tables. */
#ifndef MBL_LOOKUP_H
#define MBL_LOOKUP_H

#include "json.h"

/* The value under a dotted name, or NULL. A part is a table's key (which may hold dots itself), or an index into a list, from 0. */
MBL_EXPORT const struct mbl_json *mbl_lookup(const struct mbl_json *root, const char *name);

/* Calls `each` with the dotted name of every number and string below `root`, in the order of the text; lists are passed over. */
MBL_EXPORT void mbl_lookup_each(const struct mbl_json *root, void (*each)(void *ctx, const char *name, const struct mbl_json *value),
                                void *ctx);

/* The name of a number (or of a number or string, with `strings`) most like `name`, or NULL; lies in the arena. */
MBL_EXPORT const char *mbl_lookup_nearest(const struct mbl_json *root, const char *name, bool strings, struct mbl_arena *a);

#endif
