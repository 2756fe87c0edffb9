/* comm.c: several GPUs of one process together, by NCCL, where it was found.
 *
 * One thread gives each stream its part of the work and then all of them one sum: the calls are a group, so that none waits for another. NCCL
 * adds in an order that follows from the devices and how they are joined, the same each time, and gives all the same bits.
 */
#include "gpu.h"

#if HAVE_NCCL
#include <nccl.h>
#include <stdlib.h>

struct comm {
    int count;
    ncclComm_t of[];
};

static int check(struct mbk *k, const char *what, ncclResult_t status)
{
    if (status == ncclSuccess)
        return 0;
    const char *more = ncclGetLastError(NULL);
    return mbk_fail(k, "%s: NCCL: %s%s%s", what, ncclGetErrorString(status), more && *more ? ": " : "", more ? more : "");
}

int gpu_comm_open(struct mbk *const *streams, int count, void **comm)
{
    struct mbk *k = streams[0];
    struct comm *c = calloc(1, sizeof *c + (size_t)count * sizeof *c->of);
    int *devices = calloc((size_t)count, sizeof *devices), status = -1;
    *comm = NULL;
    if (!c || !devices) {
        mbk_fail(k, "comm: no memory for %d streams", count);
        goto done;
    }
    c->count = count;
    for (int i = 0; i < count; i++) {
        devices[i] = gpu_of(streams[i])->index;
        for (int j = 0; j < i; j++)
            if (devices[j] == devices[i]) {
                mbk_fail(k, "comm: cuda:%d is asked for twice; each stream needs a GPU of its own", devices[i]);
                goto done;
            }
    }
    if (check(k, "comm", ncclCommInitAll(c->of, count, devices)))
        goto done;
    *comm = c;
    c = NULL;
    status = 0;
done:
    free(c);
    free(devices);
    return status;
}

void gpu_comm_close(struct mbk *const *streams, int count, void *comm)
{
    struct comm *c = comm;
    for (int i = 0; i < count; i++)
        if (gpu_enter(streams[i]) == 0)
            (void)cudaStreamSynchronize(gpu_of(streams[i])->stream);
    for (int i = 0; i < count; i++)
        (void)ncclCommDestroy(c->of[i]);
    free(c);
}

int gpu_all_reduce(struct mbk *const *streams, int count, void *comm, const struct mbk_tensor *parts)
{
    struct mbk *k = streams[0];
    const struct comm *c = comm;
    ncclDataType_t type = parts[0].type == MBK_BF16 ? ncclBfloat16 : ncclFloat32;
    for (int i = 0; i < count; i++)
        if (gpu_of(streams[i])->capturing)
            return mbk_fail(k, "all_reduce: it can't be recorded");
    if (check(k, "all_reduce", ncclGroupStart()))
        return -1;
    int failed = 0;
    for (int i = 0; i < count && !failed; i++)
        failed = check(k, "all_reduce", ncclAllReduce(parts[i].data, parts[i].data, (size_t)mbk_count(&parts[i]), type, ncclSum, c->of[i],
                                                      gpu_of(streams[i])->stream));
    ncclResult_t ended = ncclGroupEnd(); /* also after a failure, or the next group would be part of this one */
    return failed ? failed : check(k, "all_reduce", ended);
}

#else

int gpu_comm_open(struct mbk *const *streams, int count, void **comm)
{
    *comm = NULL;
    return mbk_fail(streams[0], "comm: %d GPUs together need NCCL, which this build was configured without", count);
}

void gpu_comm_close(struct mbk *const *streams, int count, void *comm)
{
    (void)streams;
    (void)count;
    (void)comm;
}

int gpu_all_reduce(struct mbk *const *streams, int count, void *comm, const struct mbk_tensor *parts)
{
    (void)count;
    (void)comm;
    (void)parts;
    return mbk_fail(streams[0], "all_reduce: this build was configured without NCCL");
}

#endif
