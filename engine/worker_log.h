/* worker_log.h: what a step prints: into its log, with the end of it kept for messages. */
#ifndef ENGINE_WORKER_LOG_H
#define ENGINE_WORKER_LOG_H

#include "err.h"
#include "mem.h"
#include <stdbool.h>

#define WORKER_LOG_MOST (64u << 20)
#define WORKER_TAIL_LINES 20
#define WORKER_TAIL_BYTES 4096

struct worker_log {
    char *path; /* NULL: nothing is kept but the end */
    int fd;     /* -1: not made yet */
    bool made, broken, cut;
    uint32_t bytes; /* in the file, the note left out */
    char end[2 * WORKER_TAIL_BYTES]; /* the last bytes, a ring */
    uint64_t seen;                   /* bytes that went into it */
};

void worker_log_init(struct worker_log *l, const char *path);
/* Appends; the file is made now if it wasn't. Fails once if it can't be written; the end is kept all the same. */
int worker_log_add(struct worker_log *l, const char *bytes, size_t n, struct err *e);
/* Appends the last lines, at most WORKER_TAIL_LINES and WORKER_TAIL_BYTES, as valid UTF-8 without a newline at its end. */
void worker_log_tail(const struct worker_log *l, struct buf *out);
void worker_log_close(struct worker_log *l);

#endif
