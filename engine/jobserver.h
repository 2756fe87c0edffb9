/* jobserver.h: sharing processors with GNU make: tokens in a pipe, one for each processor beyond the first (GNU make manual, "POSIX Jobserver
 * Interaction"). Under a make that serves, mbuild takes its tokens; otherwise it serves, so that steps which run make share
 * what mbuild was given.
 *
 * Every process has one token that it never takes nor gives: its own. Tokens go back also when mbuild is killed: as a client it leaves a
 * small process behind that outlives it just to return them; as a server the pipe goes with it.
 */
#ifndef ENGINE_JOBSERVER_H
#define ENGINE_JOBSERVER_H

#include "err.h"
#include <stdbool.h>

struct jobserver;

/* `jobs`: what -j says, 0 if it doesn't; `processors`: what to use then. Becomes a client where MAKEFLAGS names a jobserver that works
 * and there is no -j. Call before threads are started; keeps no lock. */
int jobserver_open(int jobs, int processors, struct jobserver **out, struct err *e);
void jobserver_close(struct jobserver *j); /* returns all tokens; NULL is fine */

int jobserver_jobs(const struct jobserver *j);   /* how many processors there may be, one's own included */
bool jobserver_is_client(const struct jobserver *j);

/* Holds `wanted` tokens if it can be had without waiting, or as many as there are; gives back what is more than that. Returns how many it
 * holds. */
int jobserver_hold(struct jobserver *j, int wanted);

/* Readable (poll) when a token may be had. */
int jobserver_fd(const struct jobserver *j);

/* The server, while no step runs: puts tokens back that killed steps took with them. */
void jobserver_refill(struct jobserver *j);

/* What a step gets as MAKEFLAGS, and the two descriptors that it speaks of; NULL and -1 where there is none. */
const char *jobserver_makeflags(const struct jobserver *j);
void jobserver_descriptors(const struct jobserver *j, int fds[2]);

#endif
