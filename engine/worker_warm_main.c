/* worker_warm_main.c: a warm process: serves a step, sees to it that nothing is left of it, says so, and waits for the next; see
 * worker_warm.h.
 *
 * The first thread never runs a plugin's code. It is confined to what steps of its class have in common; for each step it starts a
 * thread, which confines itself to that step's files and then calls it. A step that doesn't end well ends the process with it.
 */
#include "sys.h"
#include "worker_warm.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LINGER_NS 5000000000 /* how long killed children are waited for */

struct warm {
    const struct step_start *start;
    int control;             /* orders come, notes go */
    int home;                /* the repo's root */
    int refs;                /* /proc/self/clear_refs, by which the peak of memory is set back; -1: there is none */
    struct sandbox *sandbox; /* NULL: not confined to files */
};

struct turn {
    const struct warm *warm;
    const struct worker_request *request;
    struct arena *arena;
    int socket;
    bool well;
};

static void *run_thread(void *arg) {
    struct turn *t = arg;
    const struct worker_request *r = t->request;
    struct err e;
    int status = step_limit_memory(r, &e);
    if (!status && t->warm->sandbox) {
        struct sandbox_rules rules = step_sandbox_rules(t->warm->start, r, false, t->arena);
        status = sandbox_narrow(t->warm->sandbox, &rules, &e) && r->sandbox == SANDBOX_REQUIRE ? -1 : 0;
    }
    if (status) _exit(step_report_failure(t->socket, e.text));
    t->well = host_run_step(t->warm->start->plugin, r, t->socket, NULL);
    return NULL;
}

/* -- what is left of a step */

/* Kills the children of one thread: each thread has its own. How many there were. */
static int kill_children_of(const char *thread) {
    char path[300], *line = NULL;
    size_t cap = 0;
    int n = 0;
    snprintf(path, sizeof path, "/proc/self/task/%s/children", thread);
    FILE *f = fopen(path, "re");
    if (f && getline(&line, &cap, f) > 0) {
        for (char *at = line, *end;; at = end, n++) {
            long pid = strtol(at, &end, 10);
            if (end == at) break;
            kill((pid_t)pid, SIGKILL);
        }
    }
    if (f) fclose(f);
    free(line);
    return n;
}

/* What a step started and left behind: its parent is this process, also where it had another before. False if some
 * is there still. */
static bool kill_children(void) {
    for (int64_t until = sys_now_ns() + LINGER_NS; sys_now_ns() < until;) {
        int n = 0;
        DIR *d = opendir("/proc/self/task");
        for (struct dirent *entry; d && (entry = readdir(d));)
            if (*entry->d_name != '.') n += kill_children_of(entry->d_name);
        if (d) closedir(d);
        while (waitpid(-1, NULL, WNOHANG) > 0) {
        }
        if (!n) return true;
        nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
    }
    return false;
}

/* Standard streams, folder, signals, environment: as they were before the step. */
static bool tidy(const struct warm *w) {
    struct sigaction ignored = {.sa_handler = SIG_IGN};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    bool fine = null >= 0 && dup2(null, 0) >= 0 && dup2(null, 1) >= 0 && dup2(null, 2) >= 0 && !fchdir(w->home);
    if (null > 2) close(null);
    sigemptyset(&ignored.sa_mask);
    sigaction(SIGTERM, &ignored, NULL); /* forgets one that came too late */
    step_reset_signals();
    environ = w->start->environment;
    return fine;
}

/* -- what it used */

static double seconds_of(struct timeval t) {
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static void add_usage(int who, double sign, struct warm_note *n) {
    struct rusage u;
    if (getrusage(who, &u)) return;
    n->user_seconds += sign * seconds_of(u.ru_utime);
    n->system_seconds += sign * seconds_of(u.ru_stime);
}

static uint64_t peak_bytes(void) {
    char line[256];
    unsigned long long kib = 0;
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %llu", &kib) == 1) break;
    if (f) fclose(f);
    return (uint64_t)kib * 1024;
}

/* Without it the peak would be that of all steps so far; proc(5). */
static void set_back_peak(int refs) {
    ssize_t ignored = write(refs, "5", 1);
    (void)ignored;
}

/* -- turns */

/* False if the process can't go on after it. */
static bool take_turn(const struct warm *w, struct worker_request *r, struct arena *a, int socket) {
    struct turn turn = {.warm = w, .request = r, .arena = a, .socket = socket};
    struct warm_note note = {0};
    struct err e;
    pthread_t thread;
    if (w->refs >= 0) set_back_peak(w->refs);
    add_usage(RUSAGE_SELF, -1, &note);
    add_usage(RUSAGE_CHILDREN, -1, &note);
    environ = step_environment(w->start, r, a);
    int number = pthread_create(&thread, NULL, run_thread, &turn);
    if (number) {
        err_set(&e, "cannot start a thread: %s", strerror(number));
        _exit(step_report_failure(socket, e.text));
    }
    pthread_join(thread, NULL);
    if (!turn.well) return false;
    if (!kill_children() || !tidy(w)) return false;
    close(socket);
    add_usage(RUSAGE_SELF, 1, &note);
    add_usage(RUSAGE_CHILDREN, 1, &note);
    note.peak_bytes = peak_bytes();
    return worker_send_all(w->control, &note, sizeof note);
}

/* The next run's descriptors: its socket; its log becomes standard output. */
static int wait_for_order(const struct warm *w) {
    struct worker_order o;
    if (!worker_order_receive(w->control, &o) || o.fds[0] < 0 || o.fds[1] < 0) _exit(0);
    if (dup2(o.fds[1], 1) < 0 || dup2(o.fds[1], 2) < 0) _exit(1);
    for (int i = 1; i < ORDER_FDS; i++) /* a jobserver's are there since the first */
        if (o.fds[i] >= 0) close(o.fds[i]);
    return o.fds[0];
}

/* For good: what steps of the class can have in common. */
static int confine(struct warm *w, const struct worker_request *r, struct arena *a, struct err *e) {
    if (r->sandbox == SANDBOX_OFF) return 0;
    if (w->start->sandbox) w->sandbox = sandbox_prepare(); /* the template's has lost its descriptors */
    struct sandbox_rules rules = step_sandbox_rules(w->start, r, true, a);
    return sandbox_enter(w->sandbox, &rules, e) && r->sandbox == SANDBOX_REQUIRE ? -1 : 0;
}

_Noreturn void warm_main(const struct step_start *s, int control) {
    struct warm w = {.start = s, .control = control};
    int socket = s->fds[0];
    struct worker_request r;
    struct arena a = {0};
    struct err e;
    step_begin(s);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    step_receive(socket, &r, &a);
    if (step_arrange_descriptors(s, &r, &socket, &w.control, &e)) _exit(step_report_failure(socket, e.text));
    w.home = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    w.refs = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    if (w.home < 0) {
        err_errno(&e, "cannot open the current folder");
        _exit(step_report_failure(socket, e.text));
    }
    if (confine(&w, &r, &a, &e)) _exit(step_report_failure(socket, e.text));
    for (;;) {
        r.warm = true;
        if (!take_turn(&w, &r, &a, socket)) _exit(0);
        arena_free(&a);
        a = (struct arena){0};
        socket = wait_for_order(&w);
        step_receive(socket, &r, &a);
    }
}
