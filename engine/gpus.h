/* gpus.h: the machine's GPUs, by the names that CUDA_VISIBLE_DEVICES knows them by, and which of them are held. A step that asks for some gets
 * them to itself and sees no others. Must not know what runs on them. Not thread-safe.
 */
#ifndef ENGINE_GPUS_H
#define ENGINE_GPUS_H

#include "mem.h"

enum { GPUS_MOST = 64 };

struct gpus {
    const char *names[GPUS_MOST]; /* "0", or a UUID */
    int count;
    uint64_t held;                /* a bit a GPU */
};

/* `visible`: mbuild's own CUDA_VISIBLE_DEVICES, whose list ends, as for CUDA, at the first name that is none; NULL: all of the machine's
 * `found`. Names live in `a`. */
void gpus_open(struct gpus *g, const char *visible, int found, struct arena *a);
/* The first `count` that are free: there must be so many. */
uint64_t gpus_hold(struct gpus *g, int count);
void gpus_release(struct gpus *g, uint64_t which);
/* "0,2" */
const char *gpus_text(const struct gpus *g, uint64_t which, struct arena *a);

#endif
