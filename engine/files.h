/* files.h: what stands on disk, as far as this build knows: digests by stat, from the database where the stat still fits, by
 * reading where it doesn't. */
#ifndef ENGINE_FILES_H
#define ENGINE_FILES_H

#include "graph.h"
#include "jobs.h"
#include "state.h"

/* Makes a file known, reading it only if its stat changed; an absent one is known to be absent. Folders are always walked: their own stat
 * says nothing of what is inside. A source may be a symbolic link to what counts; of an output that is one, the link itself counts. */
int file_learn(struct graph *g, uint32_t file, struct err *e);

/* The same for many at once, in parallel. Stops at the first error. */
int files_learn(struct graph *g, struct jobs *jobs, const uint32_t *files, uint32_t count, struct err *e);

/* Says that a file now has this content, just put there by us. */
int file_set(struct graph *g, uint32_t file, const struct artifact *a, struct err *e);

/* Writes what was learned to the database. */
int files_save(struct graph *g, struct state *state, struct err *e);

#endif
