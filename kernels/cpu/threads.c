/* threads.c: a few threads that wait for work, one pool a stream.
 *
 * A piece of work is cut into more parts than there are threads, and whoever is free takes the next one, the calling thread among them. So a
 * thread that other programs keep off its processor delays at most the part that it has, and one that wakes up too late none at all.
 * Parts are fixed by their number alone: nothing of what they make depends on who is faster. A worker first watches for work for some
 * microseconds, since in a training step the next piece comes at once, and then sleeps.
 */
#include "cpu.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { SPINS = 4000, PARTS_EACH = 4 };

struct worker {
    struct cpu_pool *pool;
    pthread_t thread;
    int index;
};

struct cpu_pool {
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    /* The generation, which goes up with each piece of work, from bit 32 on; from bit 16 on how many parts it has, and below the next
     * one to take. One word, so that a part that was taken is of the work that stands below. */
    _Atomic uint64_t ticket;
    _Atomic int left;            /* parts that are not finished */
    int stop, count;             /* count: workers, the caller not among them */
    /* The work: stands as long as one of its parts is not finished. */
    cpu_body *body;
    void *context;
    int64_t elements, grain, tasks;
    struct worker workers[];
};

static inline void pause_a_little(void)
{
#ifdef __x86_64__
    __builtin_ia32_pause();
#endif
}

static uint32_t generation_of(uint64_t ticket)
{
    return (uint32_t)(ticket >> 32);
}

static int parts_of(uint64_t ticket)
{
    return (int)(ticket >> 16 & 0xffff);
}

static void run_part(const struct cpu_pool *pool, int part, int parts, int worker)
{
    int64_t first = pool->tasks * part / parts * pool->grain, end = pool->tasks * (part + 1) / parts * pool->grain;
    if (end > pool->elements)
        end = pool->elements;
    if (first < end)
        pool->body(pool->context, first, end, worker);
}

/* Does parts until none is left to take. Whether it finished the last one. */
static int run_parts(struct cpu_pool *pool, int worker)
{
    int last = 0;
    uint64_t ticket = atomic_load(&pool->ticket);
    while ((int)(ticket & 0xffff) < parts_of(ticket)) {
        if (!atomic_compare_exchange_weak(&pool->ticket, &ticket, ticket + 1))
            continue;
        run_part(pool, (int)(ticket & 0xffff), parts_of(ticket), worker);
        last = atomic_fetch_sub(&pool->left, 1) == 1;
        ticket = atomic_load(&pool->ticket);
    }
    return last;
}

static void *worker_main(void *argument)
{
    struct worker *w = argument;
    struct cpu_pool *pool = w->pool;
    uint32_t seen = 0;
    for (;;) {
        for (int i = 0; i < SPINS && generation_of(atomic_load(&pool->ticket)) == seen; i++)
            pause_a_little();
        pthread_mutex_lock(&pool->lock);
        while (generation_of(atomic_load(&pool->ticket)) == seen)
            pthread_cond_wait(&pool->work, &pool->lock);
        seen = generation_of(atomic_load(&pool->ticket));
        int stop = pool->stop;
        pthread_mutex_unlock(&pool->lock);
        if (stop)
            return NULL;
        if (run_parts(pool, w->index)) {
            pthread_mutex_lock(&pool->lock);
            pthread_cond_signal(&pool->done);
            pthread_mutex_unlock(&pool->lock);
        }
    }
}

static void wake(struct cpu_pool *pool, int parts, int stop)
{
    pthread_mutex_lock(&pool->lock);
    pool->stop = stop;
    atomic_store(&pool->left, parts);
    atomic_store(&pool->ticket, (uint64_t)(generation_of(atomic_load(&pool->ticket)) + 1) << 32 | (uint64_t)parts << 16);
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
}

struct cpu_pool *cpu_pool_open(int threads)
{
    struct cpu_pool *pool = calloc(1, sizeof *pool + (size_t)(threads - 1) * sizeof pool->workers[0]);
    if (!pool)
        return NULL;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->done, NULL);
    /* Signals are for the program's own threads. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = 0;
    while (pool->count < threads - 1 && !failed) {
        struct worker *w = &pool->workers[pool->count];
        *w = (struct worker){ .pool = pool, .index = pool->count + 1 };
        failed = pthread_create(&w->thread, NULL, worker_main, w);
        pool->count += !failed;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) {
        cpu_pool_close(pool);
        return NULL;
    }
    return pool;
}

void cpu_pool_close(struct cpu_pool *pool)
{
    wake(pool, 0, 1);
    for (int i = 0; i < pool->count; i++)
        pthread_join(pool->workers[i].thread, NULL);
    pthread_cond_destroy(&pool->work);
    pthread_cond_destroy(&pool->done);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

void cpu_parallel(struct mbk *k, int64_t count, int64_t grain, cpu_body *body, void *context)
{
    struct cpu_pool *pool = cpu_of(k)->pool;
    int64_t tasks = (count + grain - 1) / grain;
    if (pool->count == 0 || tasks <= 1) {
        if (count > 0)
            body(context, 0, count, 0);
        return;
    }
    pool->body = body;
    pool->context = context;
    pool->elements = count;
    pool->grain = grain;
    pool->tasks = tasks;
    int most = PARTS_EACH * (pool->count + 1);
    wake(pool, tasks < most ? (int)tasks : most, 0);
    run_parts(pool, 0);
    for (int i = 0; i < SPINS && atomic_load(&pool->left) > 0; i++)
        pause_a_little();
    pthread_mutex_lock(&pool->lock);
    while (atomic_load(&pool->left) > 0)
        pthread_cond_wait(&pool->done, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}
