/* store_private.h: what the store's files share: its folder, names of objects, temporary names. */
#ifndef ENGINE_STORE_PRIVATE_H
#define ENGINE_STORE_PRIVATE_H

#include "digest_manifest.h"
#include "store.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#define STORE_CHUNK 131072 /* bytes read at once, on the stack */
#define OBJECT_NAME (DIGEST_HEX + 2) /* "ab/cdef…" and NUL */

struct store {
    char *folder;
    int fd;                    /* of the folder */
    pthread_mutex_t mutex;     /* guards what follows, but for the counter */
    char *temp;                /* "tmp/PID-RANDOM", or NULL until something is written */
    int temp_lock;             /* held as long as this process may use `temp` */
    atomic_uint temp_counter;
    struct digest *pending;    /* objects put since the last sync */
    uint32_t pending_count, pending_cap;
};

void object_name(const struct digest *d, char name[OBJECT_NAME]);

/* A name in the store's folder that is free for a temporary file or folder; whatever is left there when the process dies is
 * removed by the next one that writes. */
int store_temp(struct store *s, char name[64], struct err *e);

/* Gives a finished temporary file its object's name, which the next sync will make last. */
int store_adopt(struct store *s, const char *temp, const struct digest *d, struct err *e);
void store_note_pending(struct store *s, const struct digest *d);

/* Whether an object of that size is there; if so gc beside us leaves it alone for now. */
bool store_refresh(struct store *s, const struct digest *d, uint64_t size);

/* Reads an object into `out` (appended) and checks its digest. -1 as store_get says. */
int store_read_object(struct store *s, const struct digest *d, struct buf *out, bool *corrupt, struct err *e);

/* Tells that an object is absent or damaged and drops it; returns -1. */
int store_drop_absent(const struct digest *d, bool *corrupt, struct err *e);
int store_drop_damaged(struct store *s, const struct digest *d, bool *corrupt, struct err *e);

#endif
