/* plugins.h: which plugins there are, what they say of themselves and what identifies them.
 *
 * Installed plugins are found by name in `lib/mbuild/`; a repo's own are files that a step makes. A descriptor is read in another
 * process once and then kept in the database by the digest of the shared object. A plugin's digest covers the
 * shared object and our own libraries that it loads.
 */
#ifndef ENGINE_PLUGINS_H
#define ENGINE_PLUGINS_H

#include "digest.h"
#include "graph.h"
#include "schema.h"
#include "state.h"
#include "worker.h"

struct plugin {
    const char *path;
    struct digest file_digest;
    struct digest digest;      /* of the file and its libraries */
    struct plugin_type type;
};

struct plugins {
    const char *folder;        /* of the installed ones */
    struct graph *graph;
    struct state *state;       /* may be NULL: nothing is kept */
    struct workers *workers;
    bool read_only;
    struct plugin **known;
    uint32_t count, cap;
};

void plugins_init(struct plugins *p, const char *folder, struct graph *g, struct state *state, struct workers *w, bool read_only);
void plugins_free(struct plugins *p);

/* Whether `family` is an installed plugin; looks at the disk, once a name. */
bool plugins_installed(struct plugins *p, const char *family);

/* An installed plugin; fails with the nearest name if there is none. */
int plugins_find(struct plugins *p, const char *family, const struct plugin **out, struct err *e);

/* The plugin in a shared object whose content is known. */
int plugins_load(struct plugins *p, const char *path, const struct artifact *content, const struct plugin **out, struct err *e);

/* Names of all installed plugins, sorted; *names is one allocation. */
int plugins_list(struct plugins *p, char ***names, uint32_t *count, struct err *e);

/* "family.step" or "family" to the step; *family has at least 256 bytes. */
const struct step_type *plugins_step(const struct plugin *p, const char *reference, struct err *e);
void plugins_family(const char *reference, char family[256]);

#endif
