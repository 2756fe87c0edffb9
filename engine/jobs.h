/* jobs.h: work for threads (hashing, storing, restoring) beside the main thread's loop.
 *
 * A job's `work` runs on any thread and touches nothing but what its argument owns and what is thread-safe (sys, digest, store);
 * its `done` runs on the main thread, in jobs_drain.
 */
#ifndef ENGINE_JOBS_H
#define ENGINE_JOBS_H

#include "err.h"
#include <stdint.h>

struct jobs;
int jobs_start(int threads, struct jobs **out, struct err *e);
void jobs_stop(struct jobs *j); /* finishes what was submitted, without calling `done` */
void jobs_submit(struct jobs *j, void (*work)(void *arg), void (*done)(void *ctx, void *arg), void *arg);
int jobs_fd(struct jobs *j);    /* readable when jobs_drain has something to do */
uint32_t jobs_drain(struct jobs *j, void *ctx); /* calls `done` for each finished job; how many */
void jobs_wait_all(struct jobs *j, void *ctx);  /* until none is left */

#endif
