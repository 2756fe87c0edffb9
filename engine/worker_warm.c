/* worker_warm.c: a template's warm processes: hands runs to them, sees which are idle; see worker_warm.h.
 *
 * Each has a socket to its template: orders go one way, with the next step's descriptors, notes the other way. Its end is the process's
 * end. Must not know what a step is.
 */
#include "worker_warm.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

/* Tells an idle process to end. It stays in the list until it has. */
static void dismiss(struct warm_process *w) {
    if (w->control >= 0) close(w->control);
    w->control = -1;
}

/* Whether one more may come. If not, one of another class goes, for the next time: the one that has served least. */
static bool has_room(struct warm_pool *p) {
    struct warm_process *victim = NULL;
    if (p->count < WARM_MOST) return true;
    for (uint32_t i = 0; i < p->count; i++) {
        struct warm_process *w = &p->list[i];
        if (!w->busy && w->control >= 0 && (!victim || w->turns < victim->turns)) victim = w;
    }
    if (victim) dismiss(victim);
    return false;
}

static struct warm_process *fork_process(struct warm_pool *p, const struct worker_order *o, const struct step_start *s) {
    int ends[2];
    if (!has_room(p) || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)) return NULL;
    pid_t pid = fork();
    if (!pid) warm_main(s, ends[1]);
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return NULL;
    }
    struct warm_process *w = &p->list[p->count++];
    *w = (struct warm_process){.pid = pid, .control = ends[0], .class = o->warm, .turns = 1, .busy = true};
    return w;
}

struct warm_process *warm_idle(struct warm_pool *p, uint32_t class) {
    for (uint32_t i = 0; i < p->count; i++)
        if (!p->list[i].busy && p->list[i].control >= 0 && p->list[i].class == class) return &p->list[i];
    return NULL;
}

struct warm_process *warm_start(struct warm_pool *p, struct warm_process *idle, const struct worker_order *o, const struct step_start *s) {
    if (!idle || worker_order_send(idle->control, o, NULL)) return fork_process(p, o, s); /* a dead one is reaped soon */
    idle->busy = true;
    idle->turns++;
    return idle;
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
    if (w->signalled) dismiss(w);
    w->user_seconds += note->user_seconds;
    w->system_seconds += note->system_seconds;
    return true;
}

void warm_forget(struct warm_pool *p, pid_t pid) {
    struct warm_process *w = warm_find(p, pid);
    if (!w) return;
    dismiss(w);
    *w = p->list[--p->count];
}

void warm_cool(struct warm_pool *p) {
    for (uint32_t i = 0; i < p->count; i++)
        if (!p->list[i].busy) dismiss(&p->list[i]);
}
