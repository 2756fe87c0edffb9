/* json_private.h: what json.c and json_parse.c share. */
#ifndef MBL_JSON_PRIVATE_H
#define MBL_JSON_PRIVATE_H

#include "json.h"

/* Appends to a list, or to a table under a key that lives as long as the arena and is not in it yet. */
void mbl_json_add(struct mbl_arena *a, struct mbl_json *v, const char *key, struct mbl_json *item);

#endif
