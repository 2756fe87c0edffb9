/* schema.h: what a plugin says of itself, as read from the JSON of worker_describe, and rule parameters against it. */
#ifndef ENGINE_SCHEMA_H
#define ENGINE_SCHEMA_H

#include "value.h"
#include <mbuild/plugin.h>

struct param_type {
    const char *name;
    enum mb_type type, element;
    unsigned flags;
    const struct value *deflt; /* or NULL */
    double least, most;
    const char **choices;      /* NULL-terminated or NULL */
    struct param_type *fields; /* of a table, or of the tables in a list */
    uint32_t field_count;
    bool free_form;            /* a table without declared fields */
    const char *unit, *help;
};

struct role_type {
    const char *name, *kind, *help;
    unsigned flags;
};

struct step_type {
    const char *name, *help;
    unsigned flags;
    bool has_check, has_fingerprint, has_explain;
    struct role_type *roles;
    uint32_t role_count;
    struct param_type *params;
    uint32_t param_count;
};

struct command_type {
    const char *name, *usage, *help;
    struct param_type *options;
    uint32_t option_count;
};

struct plugin_type {
    const char *name, *version, *help;
    int abi_major, abi_minor;
    const char **libraries; /* paths of our shared objects that it loads */
    uint32_t library_count;
    struct step_type *steps;
    uint32_t step_count;
    struct command_type *commands;
    uint32_t command_count;
};

/* Reads a descriptor; everything in it lives in `arena`. */
int schema_parse(const char *json, size_t length, struct arena *arena, struct plugin_type *out, struct err *e);

const struct step_type *schema_find_step(const struct plugin_type *p, const char *name);
const struct role_type *schema_find_role(const struct step_type *t, const char *name);

/* Checks `given` (a table) against the parameters and fills in defaults: *out has every parameter that has a value, brought to its
 * declared type. An unknown name is an error with the nearest known one. Pieces may be shared with `given`. */
int schema_apply(const struct param_type *params, uint32_t count, const struct value *given, struct arena *arena, struct value *out,
                 struct err *e);

/* The parameters that are part of a key: without those marked MB_UNKEYED. */
void schema_keyed(const struct param_type *params, uint32_t count, const struct value *applied, struct arena *arena, struct value *out);

const char *schema_type_name(enum mb_type t); /* "integer" … */

#endif
