/* worker_spawner.c: the spawner and the templates, processes that do nothing but fork others, see them end and say so.
 *
 *     engine ── spawner ── template of a plugin ── step ── what the step starts
 *
 * Both are *subreapers*: what loses its parent below them becomes their child, so nothing that a step started gets away. When a
 * step ends, what is left of its session is killed before the engine hears of it, since it could still write to the outputs. When
 * the engine ends, however it does, its sockets close; then templates kill everything below them and end, and the spawner sees to
 * that. They are sessions of their own, so Ctrl-C reaches the engine alone, which ends steps in good order.
 */
#include "sys.h"
#include "worker_lean.h"
#include "worker_warm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LINGER_NS 5000000000 /* how long killed processes are waited for: one that hangs in the kernel must not hang us */

/* -- orders */

int worker_order_send(int socket, const struct worker_order *o, const void *request) {
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof o->fds)];
    struct worker_order bytes = *o;
    struct iovec io[] = {{.iov_base = &bytes, .iov_len = sizeof bytes}, {.iov_base = (void *)request, .iov_len = o->bytes}};
    struct msghdr h = {.msg_iov = io, .msg_iovlen = o->bytes ? 2 : 1};
    size_t whole = sizeof bytes + o->bytes, size = (size_t)o->fd_count * sizeof(int);
    if (o->fd_count) {
        memset(control, 0, sizeof control);
        h.msg_control = control;
        h.msg_controllen = CMSG_SPACE(size);
        struct cmsghdr *c = CMSG_FIRSTHDR(&h);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(size);
        memcpy(CMSG_DATA(c), o->fds, size);
    }
    ssize_t n;
    do n = sendmsg(socket, &h, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n >= 0 && (size_t)n != whole) errno = EPROTO;
    return n == (ssize_t)whole ? 0 : -1;
}

int worker_order_receive(int socket, struct worker_order *o) {
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof o->fds)];
    struct iovec io = {.iov_base = o, .iov_len = sizeof *o};
    struct msghdr h = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t n;
    do n = recvmsg(socket, &h, MSG_CMSG_CLOEXEC | MSG_WAITALL);
    while (n < 0 && errno == EINTR);
    if (n != sizeof *o) return 0;
    for (int i = 0; i < ORDER_FDS; i++) o->fds[i] = -1;
    struct cmsghdr *c = CMSG_FIRSTHDR(&h);
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
        o->fd_count = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        if (o->fd_count > ORDER_FDS) o->fd_count = ORDER_FDS;
        memcpy(o->fds, CMSG_DATA(c), (size_t)o->fd_count * sizeof(int));
    }
    return 1;
}

static void close_fds(const struct worker_order *o) {
    for (int i = 0; i < ORDER_FDS; i++)
        if (o->fds[i] >= 0) close(o->fds[i]);
}

/* -- messages on sockets that wait */

bool worker_send_all(int socket, const void *bytes, size_t n) {
    for (const char *at = bytes; n;) {
        ssize_t done = send(socket, at, n, MSG_NOSIGNAL);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return false;
        at += done;
        n -= (size_t)done;
    }
    return true;
}

int worker_receive(int socket, struct buf *in, size_t *used, struct message *m, struct err *e) {
    char chunk[4096];
    for (;;) {
        if (message_read(in->data, in->len, UINT32_MAX, m, used, e)) return -1;
        if (*used) return 1;
        size_t want = sizeof chunk; /* never more than this one message: orders come on the same socket */
        if (in->len < MESSAGE_HEAD) {
            want = MESSAGE_HEAD - in->len;
        } else {
            uint32_t length;
            memcpy(&length, in->data, sizeof length);
            size_t left = MESSAGE_HEAD + (size_t)length - in->len;
            if (left < want) want = left;
        }
        ssize_t n = recv(socket, chunk, want, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return 0;
        buf_add(in, chunk, (size_t)n);
    }
}

/* -- children */

static int open_children(void) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    return open(path, O_RDONLY | O_CLOEXEC);
}

/* The processes whose parent is this thread, which is all that have lost theirs below us; NULL where the kernel doesn't say. Free it. */
static pid_t *list_children(size_t *count) {
    char chunk[4096];
    struct buf text = {0};
    ssize_t n;
    *count = 0;
    int fd = open_children();
    if (fd < 0) return NULL;
    while ((n = read(fd, chunk, sizeof chunk)) > 0 || (n < 0 && errno == EINTR))
        if (n > 0) buf_add(&text, chunk, (size_t)n);
    close(fd);
    pid_t *list = mem_alloc((text.len / 2 + 1) * sizeof *list);
    for (char *at = text.data, *end; at && *at; at = end) {
        long pid = strtol(at, &end, 10);
        if (end == at) break;
        list[(*count)++] = (pid_t)pid;
    }
    buf_free(&text);
    return list;
}

/* Kills all children that `keep` doesn't name and waits for their end; what they leave behind becomes ours and goes the same way. */
static void kill_children(bool (*keep)(void *ctx, pid_t pid), void *ctx) {
    for (int64_t until = sys_now_ns() + LINGER_NS; sys_now_ns() < until;) {
        size_t count, others = 0;
        pid_t *list = list_children(&count);
        for (size_t i = 0; i < count; i++) {
            if (keep && keep(ctx, list[i])) continue;
            others++;
            kill(list[i], SIGKILL);
            waitpid(list[i], NULL, WNOHANG);
        }
        free(list);
        if (!others) return;
        nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
    }
}

/* SIGCHLD and SIGTERM as something to poll for. */
static int open_signals(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_SETMASK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Whether one of them was SIGTERM: the parent is gone. */
static bool read_signals(int fd) {
    struct signalfd_siginfo info[2]; /* a signal that waits twice is told once */
    bool end = false;
    ssize_t n = read(fd, info, sizeof info);
    for (size_t i = 0; n > 0 && i < (size_t)n / sizeof *info; i++) end |= info[i].ssi_signo == SIGTERM;
    return end;
}

/* -- a template */

struct template_run {
    uint32_t id;
    pid_t pid;
    bool ended;           /* its main process; what it left behind may still be dying */
    bool lean;            /* see worker_lean.h */
    uint32_t way;         /* of a lean one */
    uint32_t turn;        /* of a warm process, from 1; 0: a process of its own */
    uint32_t group;       /* number of its control group; 0: none */
    uint64_t kills;       /* of processes in the group, before this run */
    int wait_status;
    double user_seconds, system_seconds;
    uint64_t peak_bytes;
    int64_t started_ns, ended_ns;
    uint64_t started_ticks; /* since the machine started, as in /proc/PID/stat */
};

struct template {
    int control, signals;
    pid_t pid;
    const struct mb_plugin *plugin;
    char *path;
    struct sandbox *sandbox; /* prepared when the first step wants it */
    bool prepared;
    struct template_run *runs;
    uint32_t count, cap;
    unsigned kind;        /* enum template_kind */
    bool offline;         /* it is */
    char *folder, **environment;
    int children;         /* the list of them, in a template for self-contained steps; -1: this kernel has none */
    char *list;           /* read from it */
    uint32_t list_cap;
    struct lean lean;
    struct warm_pool warm;
    struct cgroup_place groups; /* sought when the first step wants a limit of memory */
    bool groups_sought, has_groups;
    struct buf out;
};

static uint64_t now_ticks(void) {
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    uint64_t rate = (uint64_t)sysconf(_SC_CLK_TCK);
    return (uint64_t)t.tv_sec * rate + (uint64_t)t.tv_nsec * rate / 1000000000;
}

/* When a process started: field 22 of /proc/PID/stat, proc(5); UINT64_MAX if it is gone. */
static uint64_t start_ticks(pid_t pid) {
    char path[32], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return UINT64_MAX;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return UINT64_MAX;
    text[n] = 0;
    const char *at = strrchr(text, ')'); /* the name may hold anything */
    for (int field = 2; at && field < 22; field++) at = strchr(at + 1, ' ');
    return at ? strtoull(at, NULL, 10) : UINT64_MAX;
}

static double seconds_of(struct timeval t) {
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static void say(struct template *t) {
    if (!worker_send_all(t->control, t->out.data, t->out.len)) buf_clear(&t->out); /* the end of the engine shows in the loop */
    buf_clear(&t->out);
}

/* -- control groups, for runs with a limit of memory */

static bool has_groups(struct template *t) {
    struct buf lack = {0};
    if (!t->groups_sought && (t->has_groups = cgroup_find(&t->groups, &lack))) cgroup_remove_stale(&t->groups);
    t->groups_sought = true;
    buf_free(&lack);
    return t->has_groups;
}

/* Makes a group for a run, or sets that of a warm process to what the run wants. Without one, the limits of each process are all there is. */
static void limit_run(struct template *t, const struct worker_order *o, struct template_run *r, const struct warm_process *idle, char name[64]) {
    if (idle && idle->group) {
        r->group = idle->group;
        cgroup_name(name, getpid(), r->group);
        r->kills = cgroup_kills(&t->groups, name);
        cgroup_limit(&t->groups, name, o->memory ? o->memory + cgroup_usage(&t->groups, name) : 0); /* beside what steps before left */
        return;
    }
    if (!o->memory || !has_groups(t)) return;
    cgroup_name(name, getpid(), o->id);
    if (!cgroup_make(&t->groups, name, o->memory)) r->group = o->id;
    if (idle && r->group) cgroup_enter(&t->groups, name, idle->pid);
}

/* How many processes of the run were killed at the limit; the group goes with its process. */
static uint64_t leave_group(struct template *t, const struct template_run *r) {
    char name[64];
    const struct warm_process *w = warm_find(&t->warm, r->pid);
    if (!r->group) return 0;
    cgroup_name(name, getpid(), r->group);
    uint64_t kills = cgroup_kills(&t->groups, name) - r->kills;
    if (!w) cgroup_remove(&t->groups, name);
    return kills;
}

static void forget_group(struct template *t, const struct warm_process *w) {
    char name[64];
    if (!w || !w->group) return;
    cgroup_name(name, getpid(), w->group);
    cgroup_remove(&t->groups, name);
}

static void say_ended(struct template *t, const struct template_run *r) {
    uint64_t kills = leave_group(t, r);
    size_t begun = message_begin(&t->out, MESSAGE_ENDED);
    message_add_number(&t->out, r->id);
    message_add_number(&t->out, (uint64_t)(unsigned)r->wait_status);
    message_add_real(&t->out, (double)(r->ended_ns - r->started_ns) / 1e9);
    message_add_real(&t->out, r->user_seconds);
    message_add_real(&t->out, r->system_seconds);
    message_add_number(&t->out, r->peak_bytes);
    message_add_number(&t->out, r->turn);
    message_add_number(&t->out, kills);
    message_add_number(&t->out, r->lean && !r->wait_status ? lean_said(&t->lean, r->way, r->id) : 0);
    message_end(&t->out, begun);
    say(t);
}

static struct template_run *run_of(struct template *t, pid_t pid) {
    for (uint32_t i = 0; i < t->count; i++)
        if (t->runs[i].pid == pid) return &t->runs[i];
    return NULL;
}

/* Whether a child that left its session may belong to a step that still runs: then it must not be touched. */
static bool may_be_wanted(const struct template *t, pid_t pid) {
    bool any = false;
    for (uint32_t i = 0; i < t->count; i++) any |= !t->runs[i].ended;
    uint64_t ticks = any ? start_ticks(pid) : 0;
    for (uint32_t i = 0; i < t->count; i++)
        if (!t->runs[i].ended && t->runs[i].started_ticks <= ticks) return true;
    return false;
}

/* Kills what is left of steps that ended. A run is *clean* once nothing of its session is there any more. */
static void sweep(struct template *t) {
    size_t count;
    pid_t *list = list_children(&count);
    bool *unclean = mem_alloc(t->count + 1);
    for (uint32_t i = 0; i < t->count; i++) unclean[i] = t->runs[i].ended && !kill(-t->runs[i].pid, SIGKILL);
    for (size_t i = 0; i < count; i++) {
        struct template_run *own = run_of(t, list[i]);
        if ((own && !own->ended) || warm_find(&t->warm, list[i])) continue;
        struct template_run *owner = run_of(t, getsid(list[i]));
        if (owner ? !owner->ended : may_be_wanted(t, list[i])) continue;
        kill(list[i], SIGKILL);
        if (owner) unclean[owner - t->runs] = true;
    }
    free(list);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < t->count; i++) {
        bool done = t->runs[i].ended && (!unclean[i] || sys_now_ns() - t->runs[i].ended_ns > LINGER_NS);
        if (done) say_ended(t, &t->runs[i]);
        else t->runs[kept++] = t->runs[i];
    }
    t->count = kept;
    free(unclean);
}

static bool any_ended(const struct template *t) {
    for (uint32_t i = 0; i < t->count; i++)
        if (t->runs[i].ended) return true;
    return false;
}

/* Runs of warm processes that say that they are done with them: nothing is left of these. */
static void take_notes(struct template *t) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < t->count; i++) {
        struct template_run r = t->runs[i];
        struct warm_process *w = r.turn && !r.ended ? warm_find(&t->warm, r.pid) : NULL;
        struct warm_note note;
        if (!w || !warm_done(w, &note)) {
            t->runs[kept++] = r;
            continue;
        }
        r.user_seconds = note.user_seconds;
        r.system_seconds = note.system_seconds;
        r.peak_bytes = note.peak_bytes;
        r.ended_ns = sys_now_ns();
        say_ended(t, &r);
    }
    t->count = kept;
}

static void run_ended(struct template *t, struct template_run *r, int wait_status, const struct rusage *usage) {
    const struct warm_process *w = warm_find(&t->warm, r->pid);
    r->ended = true;
    r->wait_status = wait_status;
    r->user_seconds = seconds_of(usage->ru_utime) - (w ? w->user_seconds : 0); /* what steps before it used isn't its own */
    r->system_seconds = seconds_of(usage->ru_stime) - (w ? w->system_seconds : 0);
    r->peak_bytes = (uint64_t)usage->ru_maxrss * 1024;
    r->ended_ns = sys_now_ns();
}

/* The same where no child but the runs themselves may live: true unless something is left that had to be killed. */
static bool nothing_left(struct template *t) {
    bool left = false;
    ssize_t n;
    if (!t->list) t->list = mem_grow(NULL, &t->list_cap, 512, 1);
    while ((n = pread(t->children, t->list, t->list_cap - 1, 0)) == (ssize_t)t->list_cap - 1) /* it may be longer */
        t->list = mem_grow(t->list, &t->list_cap, t->list_cap + 1, 1);
    t->list[n > 0 ? n : 0] = 0;
    for (char *at = t->list, *end;; at = end) {
        pid_t pid = (pid_t)strtol(at, &end, 10);
        if (end == at) return !left;
        struct template_run *own = run_of(t, pid);
        if (own && !own->ended) continue;
        kill(pid, SIGKILL);
        left = true;
    }
}

static void reap_self_contained(struct template *t) {
    struct rusage usage;
    int status;
    pid_t pid;
    while ((pid = wait4(-1, &status, WNOHANG, &usage)) > 0) {
        struct template_run *r = run_of(t, pid);
        if (r) run_ended(t, r, status, &usage);
    }
    bool clean = nothing_left(t);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < t->count; i++) {
        bool done = t->runs[i].ended && (clean || sys_now_ns() - t->runs[i].ended_ns > LINGER_NS);
        if (done) say_ended(t, &t->runs[i]);
        else t->runs[kept++] = t->runs[i];
    }
    t->count = kept;
}

static void reap(struct template *t) {
    siginfo_t info;
    if (t->children >= 0) {
        reap_self_contained(t);
        return;
    }
    for (;;) {
        info.si_pid = 0;
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) || !info.si_pid) break;
        take_notes(t); /* it may have ended after its step */
        struct template_run *r = run_of(t, info.si_pid);
        if (r) kill(-r->pid, SIGKILL); /* while its number is still its own */
        struct rusage usage;
        int status;
        if (wait4(info.si_pid, &status, WNOHANG, &usage) != info.si_pid) continue;
        if (r) run_ended(t, r, status, &usage);
        else forget_group(t, warm_find(&t->warm, info.si_pid));
        warm_forget(&t->warm, info.si_pid);
    }
    if (any_ended(t)) sweep(t);
}

static void say_not_started(struct template *t, uint32_t id, int error) {
    size_t begun = message_begin(&t->out, MESSAGE_STARTED);
    message_add_number(&t->out, id);
    message_add_number(&t->out, (uint64_t)(unsigned)error);
    message_end(&t->out, begun);
    say(t);
}

static void start_run(struct template *t, const struct worker_order *o) {
    struct step_start s = {.plugin = t->plugin, .plugin_path = t->path, .parent = t->pid, .offline = t->offline, .folder = t->folder,
                           .environment = t->environment};
    if (o->argument && !t->prepared) {
        t->sandbox = sandbox_prepare();
        t->prepared = true;
    }
    s.sandbox = o->argument ? t->sandbox : NULL;
    memcpy(s.fds, o->fds, sizeof s.fds);
    struct template_run r = {.id = o->id, .started_ns = sys_now_ns(), .lean = o->bytes, .way = o->way};
    if (t->children < 0) r.started_ticks = now_ticks();
    struct warm_process *idle = o->warm ? warm_idle(&t->warm, o->warm) : NULL;
    char group[64];
    limit_run(t, o, &r, idle, group);
    s.groups = r.group && !idle ? &t->groups : NULL;
    s.group = group;
    struct warm_process *w = o->warm ? warm_start(&t->warm, idle, o, &s) : NULL;
    if (idle && w != idle) { /* it had died, and its group goes with it; this once, the limits of each process are all there is */
        idle->group = r.group;
        r.group = 0;
        r.kills = 0;
    }
    r.turn = w ? w->turns : 0;
    if (w) w->group = r.group;
    r.pid = r.lean ? lean_fork(&t->lean, o, &s) : w ? w->pid : fork();
    if (!r.pid) step_main(&s);
    int error = errno;
    close_fds(o);
    if (r.pid < 0) {
        leave_group(t, &r);
        say_not_started(t, o->id, error);
        return;
    }
    t->runs = mem_grow(t->runs, &t->cap, t->count + 1, sizeof *t->runs);
    t->runs[t->count++] = r;
}

static void signal_run(struct template *t, uint32_t id, int number) {
    for (uint32_t i = 0; i < t->count; i++) {
        if (t->runs[i].id != id || t->runs[i].ended) continue;
        if (kill(-t->runs[i].pid, number)) kill(t->runs[i].pid, number); /* it has no group yet */
        struct warm_process *w = warm_find(&t->warm, t->runs[i].pid);
        if (w) w->signalled = true;
    }
}

static void describe(struct template *t) {
    struct buf json = {0};
    plugin_describe(t->plugin, t->path, &json);
    size_t begun = message_begin(&t->out, MESSAGE_DESCRIPTOR);
    message_add_string(&t->out, buf_str(&json));
    message_end(&t->out, begun);
    say(t);
    buf_free(&json);
}

static bool obey(struct template *t) {
    struct worker_order o;
    if (!worker_order_receive(t->control, &o) || (o.bytes && !lean_receive(&t->lean, t->control, &o))) return false;
    if (o.kind == ORDER_RUN) start_run(t, &o);
    else if (o.kind == ORDER_WAY) return lean_set_way(&t->lean, o.way, o.fds[0], o.fds[1]);
    else if (o.kind == ORDER_SIGNAL) signal_run(t, o.id, o.argument);
    else if (o.kind == ORDER_DESCRIBE) describe(t);
    else if (o.kind == ORDER_COOL) warm_cool(&t->warm);
    return true;
}

/* One that the C library doesn't know as its own: it would be enlarged, and lost, when a step sets a variable. */
static char **copy_environment(void) {
    size_t n = 0;
    while (environ[n]) n++;
    char **copy = mem_alloc((n + 1) * sizeof *copy);
    memcpy(copy, environ, n * sizeof *copy);
    return copy;
}

/* Loads the plugin. What goes wrong here is all that a plugin can do to a template. */
static bool load(struct template *t) {
    struct buf in = {0};
    struct message m;
    struct err e;
    size_t used;
    if (worker_receive(t->control, &in, &used, &m, &e) != 1 || m.type != MESSAGE_LOAD) return false;
    t->path = mem_strdup(message_string(&m));
    t->folder = mem_strdup(message_string(&m));
    t->kind = (unsigned)message_number(&m);
    step_clean_environment();
    /* A library that starts threads when it is loaded would start them here, where they are of no use. */
    setenv("OPENBLAS_NUM_THREADS", "1", 1);
    setenv("OMP_NUM_THREADS", "1", 1);
    t->environment = copy_environment();
    const char *base = strrchr(t->path, '/');
    prctl(PR_SET_NAME, base ? base + 1 : t->path);
    int status = chdir(t->folder) ? err_errno(&e, "cannot go to %s", t->folder) : plugin_open(t->path, &t->plugin, &e);
    size_t begun = message_begin(&t->out, MESSAGE_LOADED);
    message_add_string(&t->out, status ? e.text : NULL);
    message_end(&t->out, begun);
    say(t);
    buf_free(&in);
    return !status;
}

static _Noreturn void template_main(int control, int output, pid_t parent) {
    struct template t = {.control = 3, .pid = getpid(), .children = -1};
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* while it loads it can't listen */
    if (getppid() != parent) _exit(1);
    if (dup2(output, 1) < 0 || dup2(output, 2) < 0 || (control != 3 && dup3(control, 3, O_CLOEXEC) < 0)) _exit(1);
    close_range(4, ~0u, 0);
    t.signals = open_signals();
    if (t.signals < 0 || !load(&t)) _exit(1);
    step_reset_signals(); /* whatever the plugin did to them while it was loaded */
    if (t.kind & TEMPLATE_SELF_CONTAINED) t.children = open_children();
    t.lean.sessions = t.children < 0;
    struct err ignored; /* then each step sees to it, and says why it can't */
    if (t.kind & TEMPLATE_OFFLINE) t.offline = !sandbox_offline(&ignored);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    bool goes_on = getppid() == parent;
    while (goes_on) {
        struct pollfd fds[2 + WARM_MOST] = {{.fd = t.control, .events = POLLIN}, {.fd = t.signals, .events = POLLIN}};
        if (poll(fds, 2 + warm_poll(&t.warm, fds + 2), any_ended(&t) ? 5 : -1) < 0 && errno != EINTR) break;
        if (t.warm.count) take_notes(&t);
        if (fds[1].revents) goes_on = !read_signals(t.signals);
        if (fds[1].revents || any_ended(&t)) reap(&t);
        if (goes_on && fds[0].revents) goes_on = obey(&t);
    }
    for (uint32_t i = 0; i < t.count; i++) kill(-t.runs[i].pid, SIGKILL);
    kill_children(NULL, NULL);
    for (uint32_t i = 0; i < t.warm.count; i++) forget_group(&t, &t.warm.list[i]);
    t.warm.count = 0;
    for (uint32_t i = 0; i < t.count; i++) leave_group(&t, &t.runs[i]);
    _exit(0);
}

/* -- the spawner */

struct spawned {
    uint32_t id;
    pid_t pid;
};

struct spawner {
    int control, signals;
    struct spawned *list;
    uint32_t count, cap;
};

static bool is_template(void *ctx, pid_t pid) {
    struct spawner *s = ctx;
    for (uint32_t i = 0; i < s->count; i++)
        if (s->list[i].pid == pid) return true;
    return false;
}

static void say_template_ended(struct spawner *s, uint32_t id, int wait_status) {
    struct worker_note note = {.id = id, .wait_status = wait_status};
    worker_send_all(s->control, &note, sizeof note); /* if the engine is gone, the loop will see it */
}

static void spawn(struct spawner *s, const struct worker_order *o) {
    pid_t parent = getpid(), pid = fork();
    if (!pid) template_main(o->fds[0], o->fds[1], parent);
    close_fds(o);
    if (pid < 0) {
        say_template_ended(s, o->id, -1);
        return;
    }
    s->list = mem_grow(s->list, &s->cap, s->count + 1, sizeof *s->list);
    s->list[s->count++] = (struct spawned){.id = o->id, .pid = pid};
}

/* A template that ended leaves its steps to us, and what they started: all that goes before the engine hears of it. */
static void reap_templates(struct spawner *s) {
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        uint32_t i = 0;
        while (i < s->count && s->list[i].pid != pid) i++;
        if (i == s->count) continue;
        uint32_t id = s->list[i].id;
        s->list[i] = s->list[--s->count];
        kill_children(is_template, s);
        say_template_ended(s, id, status);
    }
}

static bool spawner_obey(struct spawner *s) {
    struct worker_order o;
    if (!worker_order_receive(s->control, &o)) return false;
    if (o.kind == ORDER_TEMPLATE) spawn(s, &o);
    for (uint32_t i = 0; o.kind == ORDER_END && i < s->count; i++)
        if (s->list[i].id == o.id) kill(s->list[i].pid, SIGKILL);
    return true;
}

/* Templates end by themselves when the engine does, unless they hang while they load a plugin. */
static void end_templates(struct spawner *s) {
    for (int64_t until = sys_now_ns() + 500000000; s->count && sys_now_ns() < until;) {
        reap_templates(s);
        if (s->count) poll(&(struct pollfd){.fd = s->signals, .events = POLLIN}, 1, 20);
        read_signals(s->signals);
    }
    kill_children(NULL, NULL);
}

_Noreturn void spawner_main(int control) {
    struct spawner s = {.control = 3};
    int null = open("/dev/null", O_RDWR);
    setsid();
    prctl(PR_SET_NAME, "mbuild-spawner");
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    /* 2 stays: a sanitizer's report, or that memory ran out, must not be lost. */
    if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0) _exit(1);
    if (control != 3 ? dup3(control, 3, O_CLOEXEC) < 0 : fcntl(3, F_SETFD, FD_CLOEXEC)) _exit(1);
    close_range(4, ~0u, 0);
    s.signals = open_signals();
    bool goes_on = s.signals >= 0;
    while (goes_on) {
        struct pollfd fds[] = {{.fd = s.control, .events = POLLIN}, {.fd = s.signals, .events = POLLIN}};
        if (poll(fds, 2, -1) < 0 && errno != EINTR) break;
        if (fds[1].revents) {
            goes_on = !read_signals(s.signals);
            reap_templates(&s);
        }
        if (goes_on && fds[0].revents) goes_on = spawner_obey(&s);
    }
    end_templates(&s);
    _exit(0);
}
