/* mbk_comm.c: several streams as one; checks of what they do together. */
#include "mbk_check.h"

#include <stdio.h>
#include <stdlib.h>

enum { MOST_STREAMS = 1024 };

struct mbk_comm {
    int count;
    void *state;             /* the backend's own; NULL with one stream alone */
    struct mbk *streams[];
};

int mbk_comm_open(struct mbk *const *streams, int count, struct mbk_comm **out, char *message, size_t message_size)
{
    *out = NULL;
    if (count < 1 || count > MOST_STREAMS) {
        snprintf(message, message_size, "%d streams can't work together; 1 to %d can", count, MOST_STREAMS);
        return -1;
    }
    const struct mbk_backend *backend = streams[0]->backend;
    for (int i = 1; i < count; i++)
        if (streams[i]->backend != backend || !backend->comm_open) {
            snprintf(message, message_size, "streams on %s and %s can't work together", backend->name, streams[i]->backend->name);
            return -1;
        }
    struct mbk_comm *c = calloc(1, sizeof *c + (size_t)count * sizeof *c->streams);
    if (!c) {
        snprintf(message, message_size, "no memory for %d streams", count);
        return -1;
    }
    c->count = count;
    for (int i = 0; i < count; i++)
        c->streams[i] = streams[i];
    if (count > 1 && backend->comm_open(c->streams, count, &c->state)) {
        snprintf(message, message_size, "%s", mbk_error(streams[0]));
        free(c);
        return -1;
    }
    *out = c;
    return 0;
}

void mbk_comm_close(struct mbk_comm *c)
{
    if (c && c->count > 1)
        c->streams[0]->backend->comm_close(c->streams, c->count, c->state);
    free(c);
}

int mbk_all_reduce(struct mbk_comm *c, const struct mbk_tensor *parts)
{
    struct mbk *k = c->streams[0];
    for (int i = 0; i < c->count; i++)
        if (mbk_check(k, "all_reduce", "first:f[...] part:f[...]", &parts[0], &parts[i]))
            return -1;
    if (c->count == 1 || mbk_count(&parts[0]) == 0)
        return 0;
    return k->backend->all_reduce(c->streams, c->count, c->state, parts);
}
