/* jobs.c: a fixed set of threads and two queues; see jobs.h. */
#include "jobs.h"
#include "mem.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct job {
    struct job *next;
    void (*work)(void *arg);
    void (*done)(void *ctx, void *arg);
    void *arg;
};

struct queue {
    struct job *first, **last;
};

struct jobs {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct queue waiting, finished; /* under lock */
    uint32_t open;                  /* submitted, `done` not yet called; main thread only */
    bool stopping;
    int fd;
    int count;
    pthread_t threads[];
};

static void queue_push(struct queue *q, struct job *job) {
    job->next = NULL;
    *q->last = job;
    q->last = &job->next;
}

static struct job *queue_pop(struct queue *q) {
    struct job *job = q->first;
    if (job) {
        q->first = job->next;
        if (!q->first) q->last = &q->first;
    }
    return job;
}

static void *jobs_thread(void *arg) {
    struct jobs *j = arg;
    pthread_mutex_lock(&j->lock);
    for (;;) {
        struct job *job = queue_pop(&j->waiting);
        if (!job) {
            if (j->stopping) break;
            pthread_cond_wait(&j->wake, &j->lock);
            continue;
        }
        pthread_mutex_unlock(&j->lock);
        job->work(job->arg);
        pthread_mutex_lock(&j->lock);
        bool first = !j->finished.first;
        queue_push(&j->finished, job);
        uint64_t one = 1;
        if (first && write(j->fd, &one, sizeof one) < 0) { /* a full counter wakes as well */
        }
    }
    pthread_mutex_unlock(&j->lock);
    return NULL;
}

int jobs_start(int threads, struct jobs **out, struct err *e) {
    struct jobs *j = mem_alloc(sizeof *j + (size_t)threads * sizeof *j->threads);
    pthread_mutex_init(&j->lock, NULL);
    pthread_cond_init(&j->wake, NULL);
    j->waiting.last = &j->waiting.first;
    j->finished.last = &j->finished.first;
    j->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (j->fd < 0) {
        free(j);
        return err_errno(e, "cannot make an eventfd");
    }
    sigset_t all, old; /* signals are the main thread's business */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    while (j->count < threads) {
        int failed = pthread_create(&j->threads[j->count], NULL, jobs_thread, j);
        if (failed) {
            pthread_sigmask(SIG_SETMASK, &old, NULL);
            if (j->count) break; /* fewer will do */
            errno = failed;
            err_errno(e, "cannot start a thread");
            jobs_stop(j);
            return -1;
        }
        j->count++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    *out = j;
    return 0;
}

void jobs_stop(struct jobs *j) {
    if (!j) return;
    pthread_mutex_lock(&j->lock);
    j->stopping = true;
    pthread_cond_broadcast(&j->wake);
    pthread_mutex_unlock(&j->lock);
    for (int i = 0; i < j->count; i++) pthread_join(j->threads[i], NULL);
    for (struct job *job; (job = queue_pop(&j->finished));) free(job);
    close(j->fd);
    pthread_mutex_destroy(&j->lock);
    pthread_cond_destroy(&j->wake);
    free(j);
}

void jobs_submit(struct jobs *j, void (*work)(void *arg), void (*done)(void *ctx, void *arg), void *arg) {
    struct job *job = mem_alloc(sizeof *job);
    *job = (struct job){.work = work, .done = done, .arg = arg};
    j->open++;
    pthread_mutex_lock(&j->lock);
    queue_push(&j->waiting, job);
    pthread_cond_signal(&j->wake);
    pthread_mutex_unlock(&j->lock);
}

int jobs_fd(struct jobs *j) {
    return j->fd;
}

uint32_t jobs_drain(struct jobs *j, void *ctx) {
    uint64_t counter;
    if (read(j->fd, &counter, sizeof counter) < 0 && errno != EAGAIN) return 0;
    pthread_mutex_lock(&j->lock);
    struct job *job = j->finished.first;
    j->finished.first = NULL;
    j->finished.last = &j->finished.first;
    pthread_mutex_unlock(&j->lock);
    uint32_t count = 0;
    while (job) {
        struct job *next = job->next;
        j->open--;
        if (job->done) job->done(ctx, job->arg);
        free(job);
        job = next;
        count++;
    }
    return count;
}

void jobs_wait_all(struct jobs *j, void *ctx) {
    while (j->open) {
        struct pollfd p = {.fd = j->fd, .events = POLLIN};
        poll(&p, 1, -1);
        jobs_drain(j, ctx);
    }
}
