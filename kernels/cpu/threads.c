/* threads.c: a few threads that wait for work, one pool a stream.
 *
 * The calling thread takes the first range itself. A worker first watches the generation counter for some microseconds, since in a training
 * step the next piece of work comes at once, and then sleeps. Ranges are fixed by their number alone: nothing depends on who is faster.
 */
#include "cpu.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { SPINS = 4000 };

struct worker {
    struct cpu_pool *pool;
    pthread_t thread;
    int index;
};

struct cpu_pool {
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    _Atomic unsigned generation; /* goes up with each piece of work */
    _Atomic int left;            /* workers that have not finished it */
    int stop, count;             /* count: workers, the caller not among them */
    /* The work. */
    cpu_body *body;
    void *context;
    int64_t elements, grain, tasks;
    int parts;
    struct worker workers[];
};

static inline void pause_a_little(void)
{
#ifdef __x86_64__
    __builtin_ia32_pause();
#endif
}

static void run_part(const struct cpu_pool *pool, int part)
{
    int64_t first = pool->tasks * part / pool->parts * pool->grain, end = pool->tasks * (part + 1) / pool->parts * pool->grain;
    if (end > pool->elements)
        end = pool->elements;
    if (first < end)
        pool->body(pool->context, first, end, part);
}

static void *worker_main(void *argument)
{
    struct worker *w = argument;
    struct cpu_pool *pool = w->pool;
    unsigned seen = 0;
    for (;;) {
        for (int i = 0; i < SPINS && atomic_load(&pool->generation) == seen; i++)
            pause_a_little();
        pthread_mutex_lock(&pool->lock);
        while (atomic_load(&pool->generation) == seen)
            pthread_cond_wait(&pool->work, &pool->lock);
        seen = atomic_load(&pool->generation);
        int stop = pool->stop;
        pthread_mutex_unlock(&pool->lock);
        if (stop)
            return NULL;
        if (w->index < pool->parts)
            run_part(pool, w->index);
        if (atomic_fetch_sub(&pool->left, 1) == 1) {
            pthread_mutex_lock(&pool->lock);
            pthread_cond_signal(&pool->done);
            pthread_mutex_unlock(&pool->lock);
        }
    }
}

static void wake(struct cpu_pool *pool, int stop)
{
    pthread_mutex_lock(&pool->lock);
    pool->stop = stop;
    atomic_store(&pool->left, pool->count);
    atomic_fetch_add(&pool->generation, 1);
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
    wake(pool, 1);
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
    pool->parts = tasks < pool->count + 1 ? (int)tasks : pool->count + 1;
    wake(pool, 0);
    run_part(pool, 0);
    for (int i = 0; i < SPINS && atomic_load(&pool->left) > 0; i++)
        pause_a_little();
    pthread_mutex_lock(&pool->lock);
    while (atomic_load(&pool->left) > 0)
        pthread_cond_wait(&pool->done, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}
