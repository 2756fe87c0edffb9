/* worker_lean.h: processes of steps that are self-contained (MB_SELF_CONTAINED): a fork that finds everything made and has little to do.
 *
 * What a fork writes and looks up is what it costs, so a step's request, environment and the rules of its sandbox are worked out by its
 * template, in memory that the fork inherits. Its socket and log are *ways*, pairs of descriptors that the template keeps and that serve one run
 * after another: nothing but the run can write to them, since nothing of a run is left when the next begins. A step that ends well and has
 * no more to say leaves that in its *report*, memory shared with its template.
 *
 * Such a step starts no processes, so it needs no session of its own to be found by: whatever lost its parent is killed.
 */
#ifndef ENGINE_WORKER_LEAN_H
#define ENGINE_WORKER_LEAN_H

#include "worker_private.h"

#define LEAN_WAYS 256          /* runs at the same time; more get processes as other steps do */
#define LEAN_REQUEST_MOST 8192 /* bytes of a request: what a socket takes whole or not at all */

struct lean {
    int (*ways)[2];             /* by number: socket, log; -1: none. NULL until the first comes */
    struct step_report *reports; /* by number, shared with the steps */
    bool sessions;              /* each is a session of its own all the same: its template can't list its children */
    struct arena arena;         /* the request that is being started */
    char *request;
};

/* Takes the two descriptors as a way, in the place of what had its number. False if it can't be kept. */
bool lean_set_way(struct lean *l, uint32_t number, int socket, int output);
/* Takes the request that follows an order, of o->bytes, from `control`; false if that ended. */
bool lean_receive(struct lean *l, int control, const struct worker_order *o);
/* Forks it; -1 and errno as fork. */
pid_t lean_fork(struct lean *l, const struct worker_order *o, const struct step_start *s);
/* What a run that has ended said: its status plus 1, or 0 if it didn't leave it there. */
uint32_t lean_said(const struct lean *l, uint32_t way, uint32_t run);

#endif
