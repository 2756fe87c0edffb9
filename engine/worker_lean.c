/* worker_lean.c: see worker_lean.h. The first half is the template's, the second a step's process. */
#include "worker_lean.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Without the handlers of pthread_atfork, which a self-contained step has none of, and without what the C library prepares for threads that
 * aren't there. Sanitizers count on fork itself. */
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 34) && !SHADOW_MEMORY
#define plain_fork _Fork
#else
#define plain_fork fork
#endif

bool lean_set_way(struct lean *l, uint32_t number, int socket, int output) {
    if (!l->ways) {
        void *shared = mmap(NULL, LEAN_WAYS * sizeof *l->reports, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (shared == MAP_FAILED) return false;
        l->reports = shared;
        l->ways = mem_alloc(LEAN_WAYS * sizeof *l->ways);
        for (uint32_t i = 0; i < LEAN_WAYS; i++) l->ways[i][0] = l->ways[i][1] = -1;
    }
    if (number >= LEAN_WAYS) return false;
    int *way = l->ways[number];
    for (int i = 0; i < 2; i++)
        if (way[i] >= 0) close(way[i]);
    way[0] = socket;
    way[1] = output;
    return true;
}

bool lean_receive(struct lean *l, int control, const struct worker_order *o) {
    ssize_t n;
    if (o->bytes > LEAN_REQUEST_MOST) return false;
    if (!l->request) l->request = mem_alloc(LEAN_REQUEST_MOST);
    do n = recv(control, l->request, o->bytes, MSG_WAITALL);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)o->bytes;
}

uint32_t lean_said(const struct lean *l, uint32_t way, uint32_t run) {
    struct step_report r = l->reports[way];
    return r.said == run && r.status <= MB_CANCELLED ? r.status + 1 : 0;
}

/* -- the step's process */

struct lean_step {
    const struct step_start *start;
    const struct worker_request *request;
    const struct sandbox_rules *rules; /* NULL: none */
    char **environment;
    const int *way;
    struct step_report *report;
    bool session;
};

static int arrange_descriptors(const struct lean_step *l, struct err *e) {
    bool failed = dup2(l->way[1], 1) < 0 || dup2(l->way[1], 2) < 0 || dup3(l->way[0], WORKER_CONTROL, O_CLOEXEC) < 0;
    return failed || close_range(WORKER_CONTROL + 1, ~0u, 0) ? err_errno(e, "cannot set the descriptors") : 0;
}

static _Noreturn void lean_main(const struct lean_step *l) {
    const struct worker_request *r = l->request;
    struct err e;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != l->start->parent) _exit(1);
    if (l->session) setsid();
    prctl(PR_SET_NAME, r->label ? r->label : r->step);
    environ = l->environment;
    int socket = l->way[0], status = step_limit_memory(r, &e);
    if (!status && l->rules && sandbox_enter(l->start->sandbox, l->rules, &e) && r->sandbox == SANDBOX_REQUIRE) status = -1;
    if (!status) status = arrange_descriptors(l, &e);
    if (status) _exit(step_report_failure(socket, e.text));
    host_run_step(l->start->plugin, r, WORKER_CONTROL, l->report);
    _exit(0);
}

pid_t lean_fork(struct lean *l, const struct worker_order *o, const struct step_start *s) {
    struct message m;
    struct worker_request r;
    struct err e;
    size_t used;
    arena_clear(&l->arena);
    if (!l->ways || o->way >= LEAN_WAYS || message_read(l->request, o->bytes, LEAN_REQUEST_MOST, &m, &used, &e) || !used || worker_request_read(&m, &l->arena, &r, &e)) {
        errno = EPROTO;
        return -1;
    }
    struct sandbox_rules rules;
    bool confined = r.hook == WORKER_RUN && r.sandbox != SANDBOX_OFF;
    if (confined) rules = step_sandbox_rules(s, &r, false, &l->arena);
    struct lean_step step = {.start = s, .request = &r, .rules = confined ? &rules : NULL, .way = l->ways[o->way], .session = l->sessions,
                             .environment = step_environment(s, &r, &l->arena), .report = &l->reports[o->way]};
    *step.report = (struct step_report){.run = o->id};
    pid_t pid = plain_fork();
    if (!pid) lean_main(&step);
    return pid;
}
