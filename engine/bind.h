/* bind.h: a step of the rules meets its plugin: roles, kinds, parameters and defaults. */
#ifndef ENGINE_BIND_H
#define ENGINE_BIND_H

#include "session.h"

struct binding {
    const struct plugin *plugin;
    const struct step_type *type;
    const struct role_type **inputs;  /* by input slot */
    const struct role_type **outputs; /* by output slot */
    const char *params;               /* canonical JSON with the defaults filled in */
    const char *keyed;                /* the same without what is no part of the key */
};

/* Binds a step if its plugin is at hand: installed, or already made. A plugin that a step of this build has yet to make leaves
 * binding NULL, and that's no failure. Errors begin with the rule's place. */
int bind_step(struct session *s, uint32_t step, struct err *e);

/* Finds which steps' plugins are made by other steps (plugin = "name" of an artifact). Before graph_want. */
int bind_plugin_names(struct session *s, struct err *e);

/* Runs the `check` hooks of steps that are bound and weren't checked with the same parameters before. */
int bind_check(struct session *s, uint32_t step, struct err *e);

#endif
