/* comm.c: streams of the CPU together. Their memory is the same, so that a sum is a loop; it adds in the order of the streams, so that what
 * trains on several GPUs can be tested without one.
 */
#include "cpu.h"

#include <string.h>

int cpu_comm_open(struct mbk *const *streams, int count, void **comm)
{
    (void)streams;
    (void)count;
    *comm = NULL;
    return 0;
}

void cpu_comm_close(struct mbk *const *streams, int count, void *comm)
{
    (void)streams;
    (void)count;
    (void)comm;
}

struct work {
    const struct mbk_tensor *parts;
    int count;
};

CPU_CLONES static void add_to(float *sum, const float *x, int64_t n)
{
    CPU_LOOP(i, n)
        sum[i] += x[i];
}

static void work_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct work *w = context;
    float sum[CPU_PIECE], buffer[CPU_PIECE];
    (void)worker;
    for (int64_t i = first, n; i < end; i += n) {
        n = end - i < CPU_PIECE ? end - i : CPU_PIECE;
        memcpy(sum, cpu_in(&w->parts[0], i, n, buffer), (size_t)n * sizeof *sum);
        for (int p = 1; p < w->count; p++)
            add_to(sum, cpu_in(&w->parts[p], i, n, buffer), n);
        for (int p = 0; p < w->count; p++) {
            float *to = cpu_out(&w->parts[p], i, buffer);
            memcpy(to, sum, (size_t)n * sizeof *sum);
            cpu_put(&w->parts[p], i, n, to);
        }
    }
}

int cpu_all_reduce(struct mbk *const *streams, int count, void *comm, const struct mbk_tensor *parts)
{
    struct work w = { parts, count };
    (void)comm;
    cpu_parallel(streams[0], mbk_count(&parts[0]), cpu_grain(count), work_body, &w);
    return 0;
}
