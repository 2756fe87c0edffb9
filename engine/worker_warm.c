/* worker_warm.c: a template's warm processes: hands runs to them, sees which are idle; see worker_warm.h.
 *
 * Each has a socket to its template: orders go one way, with the next step's descriptors, notes the other way. Its end is the process's
 * end. Must not know what a step is.
 */
#include "worker_warm.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

static void remove_at(struct warm_pool *p, uint32_t i) {
    if (p->list[i].control >= 0) close(p->list[i].control);
    p->list[i] = p->list[--p->count];
}

/* A process of another class that can go, so that one more may come: the one that has served least. */
static bool make_room(struct warm_pool *p) {
    uint32_t victim = WARM_MOST;
    if (p->count < WARM_MOST) return true;
    for (uint32_t i = 0; i < p->count; i++)
        if (!p->list[i].busy && (victim == WARM_MOST || p->list[i].turns < p->list[victim].turns)) victim = i;
    if (victim == WARM_MOST) return false;
    remove_at(p, victim);
    return true;
}

static struct warm_process *fork_process(struct warm_pool *p, const struct worker_order *o, const struct step_start *s) {
    int ends[2];
    if (!make_room(p)) {
        errno = EAGAIN;
        return NULL;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)) return NULL;
    pid_t pid = fork();
    if (!pid) warm_main(s, ends[1]);
    int number = errno;
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        errno = number;
        return NULL;
    }
    struct warm_process *w = &p->list[p->count++];
    *w = (struct warm_process){.pid = pid, .control = ends[0], .class = o->warm, .turns = 1, .busy = true};
    return w;
}

struct warm_process *warm_start(struct warm_pool *p, const struct worker_order *o, const struct step_start *s) {
    for (uint32_t i = 0; i < p->count; i++) {
        struct warm_process *w = &p->list[i];
        if (w->busy || w->control < 0 || w->class != o->warm || worker_order_send(w->control, o)) continue; /* dead ones are reaped soon */
        w->busy = true;
        w->turns++;
        return w;
    }
    return fork_process(p, o, s);
}

struct warm_process *warm_find(struct warm_pool *p, pid_t pid) {
    for (uint32_t i = 0; i < p->count; i++)
        if (p->list[i].pid == pid) return &p->list[i];
    return NULL;
}

uint32_t warm_poll(const struct warm_pool *p, struct pollfd *fds) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->count; i++)
        if (p->list[i].busy && p->list[i].control >= 0) fds[n++] = (struct pollfd){.fd = p->list[i].control, .events = POLLIN};
    return n;
}

bool warm_done(struct warm_process *w, struct warm_note *note) {
    if (!w->busy || w->control < 0) return false;
    ssize_t n = recv(w->control, note, sizeof *note, MSG_DONTWAIT); /* sent in one go, and small */
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    if (n != sizeof *note) { /* the plugin closed it, or the process is dying: its end will tell */
        close(w->control);
        w->control = -1;
        return false;
    }
    w->busy = false;
    w->user_seconds += note->user_seconds;
    w->system_seconds += note->system_seconds;
    return true;
}

void warm_forget(struct warm_pool *p, pid_t pid) {
    for (uint32_t i = 0; i < p->count; i++)
        if (p->list[i].pid == pid) {
            remove_at(p, i);
            return;
        }
}

void warm_cool(struct warm_pool *p) {
    for (uint32_t i = p->count; i--;)
        if (!p->list[i].busy) remove_at(p, i);
}
