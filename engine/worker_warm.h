/* worker_warm.h: processes that serve one step after another, for steps whose start is expensive and whose plugin promises that it may run
 * again (MB_REENTRANT): a CUDA context is paid for once a build.
 *
 *     worker_warm_class.c  the engine's side: which steps may share a process
 *     worker_warm.c        a template's side: the processes, busy and idle
 *     worker_warm_main.c   such a process
 *
 * A process serves only steps of one *class*: of the same plugin file, device, network, environment and paths outside of the repo. It
 * confines itself for good to what steps of that class can have in common: the repo is read, private folders and checkpoints are
 * written. Each step then runs on a new thread, which confines itself further to what a process of its own would be confined to; Landlock's
 * domains belong to threads. Only a step that ended well leaves its process to others.
 */
#ifndef ENGINE_WORKER_WARM_H
#define ENGINE_WORKER_WARM_H

#include "worker_private.h"

#include <poll.h>

/* -- worker_warm_class.c */

/* What steps that share a process must have in common, as a text. Free it. */
char *warm_class(const struct worker_request *r);

/* -- worker_warm.c */

#define WARM_MOST 16 /* processes of a template; a step beyond these gets one of its own */

/* What a process says when a step is done with and nothing is left of it. */
struct warm_note {
    double user_seconds, system_seconds; /* of this step */
    uint64_t peak_bytes;
};

struct warm_process {
    pid_t pid;
    int control; /* -1: it was told to end, or closed its end itself */
    uint32_t class, turns; /* steps that were given to it */
    bool busy;
    bool signalled; /* its step was told to end, which may have come too late for it: no other gets the process */
    uint32_t group; /* number of its control group; 0: it has none */
    double user_seconds, system_seconds; /* of the steps that it is done with */
};

struct warm_pool {
    struct warm_process list[WARM_MOST];
    uint32_t count;
};

struct warm_process *warm_idle(struct warm_pool *p, uint32_t class); /* NULL: none of that class */
/* Gives a run to an idle process of its class, or to a new one (`idle` NULL); NULL if there can't be one more. The descriptors remain the
 * caller's. */
struct warm_process *warm_start(struct warm_pool *p, struct warm_process *idle, const struct worker_order *o, const struct step_start *s);
struct warm_process *warm_find(struct warm_pool *p, pid_t pid); /* NULL: no process of the pool */
/* What to poll for: how many; fds has room for WARM_MOST. */
uint32_t warm_poll(const struct warm_pool *p, struct pollfd *fds);
/* Whether a busy process is done with its step; then it is idle. */
bool warm_done(struct warm_process *w, struct warm_note *note);
void warm_forget(struct warm_pool *p, pid_t pid); /* it ended */
void warm_cool(struct warm_pool *p);              /* idle ones are told to end */

/* -- worker_warm_main.c */

_Noreturn void warm_main(const struct step_start *s, int control);

#endif
