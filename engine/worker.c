/* worker.c: the engine's side of steps in other processes: templates, runs, what they report, timeouts; see worker.h.
 *
 * Everything is one epoll set and no thread. Reading changes what is known of a run or template; what follows (a run is finished, a template is
 * given up) is done at one place after that, so that an event never sees half of it. worker_call waits for one run and leaves the others'
 * sockets alone: their events go to whoever calls workers_poll.
 */
#include "sys.h"
#include "worker_log.h"
#include "worker_private.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOAD_NS 10000000000    /* how long a plugin may take to load */
#define GRACE_NS 2000000000    /* from SIGTERM to SIGKILL when a timeout is over */
#define CHUNK 65536
#define TURN_MOST (4 * CHUNK)  /* bytes that one run may be read in a turn */
#define DRAIN_MOST (256u << 20) /* bytes read after a run's end: what a pipe and a socket can hold, and much more */
#define REPORTS_MOST 200000    /* files that one run may report */

enum source_kind { SOURCE_SPAWNER, SOURCE_TEMPLATE, SOURCE_MESSAGES, SOURCE_LOG };

/* A descriptor in the epoll set, and whose it is. */
struct source {
    enum source_kind kind;
    int fd; /* -1: closed */
    void *owner;
};

struct worker_template {
    struct worker_template *next;
    struct workers *workers;
    uint32_t id, runs;
    char *path;
    struct file_stat stat;
    struct source control;
    int output;             /* what it prints while it loads */
    struct buf in;
    int64_t load_until_ns;  /* 0: it answered */
    char *failed;           /* why the plugin can't be used */
    char *descriptor;
    bool too_slow;
    bool ended;             /* the spawner said so: the whole tree below it is gone */
    int wait_status;
    bool retired;           /* nothing new runs in it */
};

struct worker_run {
    struct worker_run *next, *previous;
    struct workers *workers;
    struct worker_template *template;
    uint32_t id;
    void *tag;
    struct source messages, output;
    struct buf in, out;
    struct worker_log log;
    struct worker_end end;
    char *said_text, *protocol;
    bool ended, said;
    double seconds, user_seconds, system_seconds;
    uint32_t reports;
    int64_t started_ns, timeout_at_ns, kill_at_ns; /* 0: never */
    bool asks, answered;    /* it waits for its lineage */
};

struct workers {
    pid_t spawner;
    int epoll;
    struct source control;
    struct buf in;
    struct worker_template *templates;
    struct worker_run *runs;
    uint32_t next_id;
    bool polling;
};

typedef void (*event_handler)(void *ctx, const struct worker_event *ev);

/* -- sources */

static int source_open(struct workers *w, struct source *s, enum source_kind kind, int fd, void *owner, struct err *e) {
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = s};
    *s = (struct source){.kind = kind, .fd = fd, .owner = owner};
    return epoll_ctl(w->epoll, EPOLL_CTL_ADD, fd, &ev) ? err_errno(e, "epoll") : 0;
}

static void source_want_write(struct workers *w, struct source *s, bool wanted) {
    struct epoll_event ev = {.events = EPOLLIN | (wanted ? EPOLLOUT : 0u), .data.ptr = s};
    if (s->fd >= 0) epoll_ctl(w->epoll, EPOLL_CTL_MOD, s->fd, &ev);
}

static void source_close(struct source *s) {
    if (s->fd >= 0) close(s->fd); /* leaves the epoll set: nobody else has this description */
    s->fd = -1;
}

/* Appends what can be read now, at most `most` bytes: 1 if the other end is gone. */
static int read_available(int fd, struct buf *in, size_t most) {
    char chunk[CHUNK];
    for (size_t total = 0; total < most;) {
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return 0;
        if (n <= 0) return 1;
        buf_add(in, chunk, (size_t)n);
        total += (size_t)n;
        if ((size_t)n < sizeof chunk) return 0;
    }
    return 0;
}

static void buf_drop(struct buf *b, size_t n) {
    if (!n) return;
    memmove(b->data, b->data + n, b->len - n + 1);
    b->len -= n;
}

/* -- the spawner */

int workers_start(struct workers **out, struct err *e) {
    int ends[2];
    *out = NULL;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)) return err_errno(e, "cannot make a socket");
    fflush(NULL); /* what is buffered must not be written twice */
    pid_t pid = fork();
    if (!pid) spawner_main(ends[1]);
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return err_errno(e, "cannot fork the process that starts steps");
    }
    struct workers *w = mem_alloc(sizeof *w);
    w->spawner = pid;
    w->next_id = 1;
    w->epoll = epoll_create1(EPOLL_CLOEXEC);
    int status = w->epoll < 0 ? err_errno(e, "epoll") : 0;
    w->control.fd = ends[0];
    if (!status && fcntl(ends[0], F_SETFL, O_NONBLOCK)) status = err_errno(e, "fcntl");
    if (!status) status = source_open(w, &w->control, SOURCE_SPAWNER, ends[0], w, e);
    if (status) workers_stop(w);
    else *out = w;
    return status;
}

static void read_notes(struct workers *w) {
    struct worker_note note;
    if (w->control.fd < 0) return;
    bool gone = read_available(w->control.fd, &w->in, TURN_MOST);
    size_t used = 0;
    for (; w->in.len - used >= sizeof note; used += sizeof note) {
        memcpy(&note, w->in.data + used, sizeof note);
        for (struct worker_template *t = w->templates; t; t = t->next) {
            if (t->id != note.id) continue;
            t->ended = true;
            t->wait_status = note.wait_status;
        }
    }
    buf_drop(&w->in, used);
    if (gone) source_close(&w->control);
}

static int order_spawner(struct workers *w, const struct worker_order *o, struct err *e) {
    while (w->control.fd >= 0) {
        if (!worker_order_send(w->control.fd, o)) return 0;
        if (errno != EAGAIN) break;
        poll(&(struct pollfd){.fd = w->control.fd, .events = POLLIN | POLLOUT}, 1, 1000);
        read_notes(w);
    }
    return err_set(e, "the process that starts steps was killed: start mbuild again");
}

/* -- templates */

static void template_free(struct worker_template *t) {
    source_close(&t->control);
    if (t->output >= 0) close(t->output);
    buf_free(&t->in);
    free(t->path);
    free(t->failed);
    free(t->descriptor);
    free(t);
}

static int send_load(struct worker_template *t, struct err *e) {
    char *folder = getcwd(NULL, 0);
    if (!folder) return err_errno(e, "cannot tell the current folder");
    struct buf out = {0};
    size_t begun = message_begin(&out, MESSAGE_LOAD);
    message_add_string(&out, t->path);
    message_add_string(&out, folder);
    message_end(&out, begun);
    ssize_t n = send(t->control.fd, out.data, out.len, MSG_NOSIGNAL); /* the first bytes in an empty socket: it has room for them */
    int status = n == (ssize_t)out.len ? 0 : err_errno(e, "cannot tell the template of %s what to load", t->path);
    buf_free(&out);
    free(folder);
    return status;
}

static int template_open(struct workers *w, const char *path, const struct file_stat *st, struct worker_template **out, struct err *e) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)) return err_errno(e, "cannot make a socket");
    struct worker_template *t = mem_alloc(sizeof *t);
    t->workers = w;
    t->id = w->next_id++;
    t->path = mem_strdup(path);
    t->stat = *st;
    t->load_until_ns = sys_now_ns() + LOAD_NS;
    t->control.fd = ends[0];
    t->output = memfd_create("mbuild-template", MFD_CLOEXEC);
    struct worker_order o = {.kind = ORDER_TEMPLATE, .id = t->id, .fd_count = 2, .fds = {ends[1], t->output}};
    int status = t->output < 0 ? err_errno(e, "cannot make a file in memory") : 0;
    if (!status && fcntl(ends[0], F_SETFL, O_NONBLOCK)) status = err_errno(e, "fcntl");
    if (!status) status = source_open(w, &t->control, SOURCE_TEMPLATE, ends[0], t, e);
    if (!status) status = send_load(t, e);
    if (!status) status = order_spawner(w, &o, e);
    close(ends[1]);
    if (status) {
        template_free(t);
        return -1;
    }
    t->next = w->templates;
    w->templates = t;
    *out = t;
    return 0;
}

static bool usable(const struct worker_template *t) {
    return !t->retired && !t->failed && !t->ended && !t->too_slow && t->control.fd >= 0;
}

static int template_for(struct workers *w, const char *path, struct worker_template **out, struct err *e) {
    struct file_stat st;
    if (sys_stat(path, false, &st, e)) return err_wrap(e, "plugin");
    for (struct worker_template *t = w->templates; t; t = t->next) {
        if (strcmp(t->path, path) || !usable(t)) continue;
        if (file_stat_same(&t->stat, &st)) {
            *out = t;
            return 0;
        }
        t->retired = true; /* it was built anew since */
    }
    if (st.kind == FILE_ABSENT) return err_set(e, "plugin %s doesn't exist", path);
    return template_open(w, path, &st, out, e);
}

static struct worker_run *run_by_id(struct workers *w, uint64_t id) {
    for (struct worker_run *r = w->runs; r; r = r->next)
        if (r->id == id) return r;
    return NULL;
}

static void template_message(struct worker_template *t, struct message *m) {
    if (m->type == MESSAGE_LOADED) {
        const char *error = message_string_or_null(m);
        t->load_until_ns = 0;
        if (error && !t->failed) t->failed = mem_printf("plugin %s: %s", t->path, error);
    } else if (m->type == MESSAGE_DESCRIPTOR) {
        free(t->descriptor);
        t->descriptor = mem_strdup(message_string(m));
    } else if (m->type == MESSAGE_STARTED || m->type == MESSAGE_ENDED) {
        struct worker_run *r = run_by_id(t->workers, message_number(m));
        int code = (int)message_number(m);
        if (!r || r->template != t || r->ended) return;
        r->ended = true;
        if (m->type == MESSAGE_STARTED) {
            r->said_text = mem_printf("cannot fork: %s", strerror(code));
            return;
        }
        r->end.started = true;
        r->end.wait_status = code;
        r->seconds = message_real(m);
        r->user_seconds = message_real(m);
        r->system_seconds = message_real(m);
        r->end.peak_bytes = message_number(m);
    } else {
        m->wrong = "has an unknown type";
    }
}

static void template_end(struct worker_template *t) {
    struct err ignored; /* without a spawner it ends by itself */
    t->retired = true;
    order_spawner(t->workers, &(struct worker_order){.kind = ORDER_END, .id = t->id}, &ignored);
}

static void template_read(struct worker_template *t) {
    struct message m;
    struct err e;
    size_t at = 0, used;
    if (t->control.fd < 0) return;
    bool gone = read_available(t->control.fd, &t->in, TURN_MOST), mad = false;
    do {
        mad = message_read(t->in.data + at, t->in.len - at, MESSAGE_MOST, &m, &used, &e);
        if (!mad && used) template_message(t, &m);
        mad |= used && message_end_reached(&m, &e);
        at += used;
    } while (used && !mad);
    buf_drop(&t->in, at);
    if (mad) template_end(t); /* a plugin's threads wrote into it */
    if (gone || mad) source_close(&t->control);
}

/* A template that is gone is no error here: what it said before, or how it ended, will tell. */
static int order_template(struct worker_template *t, const struct worker_order *o, struct err *e) {
    while (t->control.fd >= 0) {
        if (!worker_order_send(t->control.fd, o)) return 0;
        if (errno != EAGAIN && errno != EPIPE && errno != ECONNRESET) return err_errno(e, "cannot reach the process that loads plugin %s", t->path);
        if (errno == EAGAIN) poll(&(struct pollfd){.fd = t->control.fd, .events = POLLIN | POLLOUT}, 1, 1000);
        template_read(t); /* it may wait for us to take what it says */
    }
    return 0;
}

/* The end of what it printed, for a message. */
static void add_output(const struct worker_template *t, struct buf *out) {
    char bytes[1024];
    off_t size = lseek(t->output, 0, SEEK_END), from = size > (off_t)sizeof bytes ? size - (off_t)sizeof bytes : 0;
    ssize_t n = size > 0 ? pread(t->output, bytes, sizeof bytes, from) : 0;
    while (n > 0 && (bytes[n - 1] == '\n' || bytes[n - 1] == '\r')) n--;
    if (n <= 0) return;
    buf_adds(out, "; it printed: ");
    text_add_valid(out, bytes, (size_t)n);
}

/* Once a template is gone: why its plugin can't be used, if it never answered. */
static void explain_loss(struct worker_template *t) {
    if (t->failed || !t->load_until_ns) return;
    struct buf why = {0};
    buf_addf(&why, "plugin %s: ", t->path);
    if (t->too_slow) buf_addf(&why, "it took more than %d s to load and was ended", (int)(LOAD_NS / 1000000000));
    else if (!t->ended || t->wait_status == -1) buf_adds(&why, "the process to load it in couldn't be started or was killed");
    else if (WIFSIGNALED(t->wait_status)) {
        buf_adds(&why, "it crashed while it was loaded: ");
        worker_add_signal(&why, WTERMSIG(t->wait_status));
    } else {
        buf_addf(&why, "it ended its process with status %d while it was loaded", WEXITSTATUS(t->wait_status));
    }
    add_output(t, &why);
    t->failed = mem_strdup(buf_str(&why));
    buf_free(&why);
}

static bool template_gone(const struct worker_template *t) {
    return t->control.fd < 0 && (t->ended || t->workers->control.fd < 0);
}

/* What follows from what was read: runs of a template that is gone are gone with it, and templates that nobody needs end. */
static void settle_templates(struct workers *w) {
    for (struct worker_template *t = w->templates; t; t = t->next) {
        if (template_gone(t)) explain_loss(t);
        if (!template_gone(t) && !t->failed) continue;
        for (struct worker_run *r = w->runs; r; r = r->next) {
            if (r->template != t || r->ended) continue;
            r->ended = true;
            r->end.lost = r->end.started = !t->failed;
            if (t->failed) r->said_text = mem_strdup(t->failed);
        }
    }
    for (struct worker_template **at = &w->templates; *at && !w->polling;) {
        struct worker_template *t = *at;
        bool idle = !t->runs && (t->retired || t->failed);
        if (idle) source_close(&t->control); /* which ends it */
        if (!t->runs && template_gone(t)) {
            *at = t->next;
            template_free(t);
        } else {
            at = &t->next;
        }
    }
}

/* -- runs */

static void signal_run(struct worker_run *r, int number) {
    struct err ignored; /* a template that is gone took its steps with it */
    if (!r->ended) order_template(r->template, &(struct worker_order){.kind = ORDER_SIGNAL, .id = r->id, .argument = number}, &ignored);
}

static void kill_run(struct worker_run *r) {
    r->kill_at_ns = 0;
    r->end.killed = true;
    signal_run(r, SIGKILL);
}

static void flush_out(struct worker_run *r) {
    size_t done = 0;
    while (r->messages.fd >= 0 && done < r->out.len) {
        ssize_t n = send(r->messages.fd, r->out.data + done, r->out.len - done, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        done += (size_t)n;
    }
    buf_drop(&r->out, done);
    source_want_write(r->workers, &r->messages, r->out.len);
}

static void run_free(struct worker_run *r) {
    source_close(&r->messages);
    source_close(&r->output);
    worker_log_close(&r->log);
    buf_free(&r->in);
    buf_free(&r->out);
    free(r->said_text);
    free(r->protocol);
    free(r);
}

/* The two ways to a step: a socket for messages and a pipe for what it prints; theirs[] are the ends that it gets. */
static int open_ways(struct worker_run *r, int theirs[2], struct err *e) {
    int socket_ends[2], pipe_ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socket_ends)) return err_errno(e, "cannot make a socket");
    r->messages.fd = socket_ends[0];
    theirs[0] = socket_ends[1];
    if (pipe2(pipe_ends, O_CLOEXEC)) return err_errno(e, "cannot make a pipe");
    r->output.fd = pipe_ends[0];
    theirs[1] = pipe_ends[1];
    if (fcntl(socket_ends[0], F_SETFL, O_NONBLOCK) || fcntl(pipe_ends[0], F_SETFL, O_NONBLOCK)) return err_errno(e, "fcntl");
    struct workers *w = r->workers;
    return source_open(w, &r->messages, SOURCE_MESSAGES, socket_ends[0], r, e) || source_open(w, &r->output, SOURCE_LOG, pipe_ends[0], r, e) ? -1 : 0;
}

int worker_start(struct workers *w, const struct worker_request *q, struct worker_run **out, struct err *e) {
    struct worker_template *t;
    if (template_for(w, q->plugin_path, &t, e)) return -1;
    struct worker_run *r = mem_alloc(sizeof *r);
    int theirs[2] = {-1, -1};
    r->workers = w;
    r->template = t;
    r->id = w->next_id++;
    r->tag = q->tag;
    r->messages.fd = r->output.fd = -1;
    r->started_ns = sys_now_ns();
    if (q->timeout_ms) r->timeout_at_ns = r->started_ns + (int64_t)q->timeout_ms * 1000000;
    r->end.timeout_ms = q->timeout_ms;
    r->end.memory = q->memory;
    r->end.cuda = q->device && !strcmp(q->device, "cuda");
    bool sandboxed = q->hook == WORKER_RUN && q->sandbox != SANDBOX_OFF;
    r->end.confined = sandboxed && sandbox_files_abi();
    r->end.offline = sandboxed && !q->network && sandbox_can_refuse_network();
    worker_log_init(&r->log, q->log_path);
    worker_request_write(q, &r->out);
    int status = open_ways(r, theirs, e);
    if (!status) flush_out(r);
    struct worker_order o = {.kind = ORDER_RUN, .id = r->id, .argument = r->end.confined, .fd_count = 2, .fds = {theirs[0], theirs[1], q->jobserver[0], q->jobserver[1]}};
    if (q->jobserver[0] != q->jobserver[1]) o.fd_count = 4;
    if (!status) status = order_template(t, &o, e);
    for (int i = 0; i < 2; i++)
        if (theirs[i] >= 0) close(theirs[i]);
    if (status) {
        run_free(r);
        return -1;
    }
    t->runs++;
    r->next = w->runs;
    if (w->runs) w->runs->previous = r;
    w->runs = r;
    *out = r;
    return 0;
}

void worker_cancel(struct worker_run *r, uint32_t grace_ms) {
    int64_t at = sys_now_ns() + (int64_t)grace_ms * 1000000;
    r->end.cancelled = true;
    if (!grace_ms) {
        kill_run(r);
        return;
    }
    signal_run(r, SIGTERM);
    if (!r->kill_at_ns || at < r->kill_at_ns) r->kill_at_ns = at;
}

void worker_answer(struct worker_run *r, const char *json) {
    if (!r->asks) return;
    r->asks = false;
    size_t begun = message_begin(&r->out, MESSAGE_ANSWER);
    message_add_string(&r->out, json);
    message_end(&r->out, begun);
    flush_out(r);
}

static void log_bytes(struct worker_run *r, const char *bytes, size_t n, event_handler handle, void *ctx) {
    struct err e;
    if (!worker_log_add(&r->log, bytes, n, &e)) return;
    struct worker_event ev = {.type = WORKER_LOG, .run = r, .tag = r->tag, .level = MB_WARN, .text = e.text};
    handle(ctx, &ev);
}

/* What a step says by host->log goes into its log too, among what it prints. */
static void log_event(struct worker_run *r, const struct worker_event *ev, event_handler handle, void *ctx) {
    static const char *const words[] = {"debug: ", "", "warning: ", "error: "};
    struct buf line = {0};
    buf_addf(&line, "%s%s\n", words[ev->level], ev->text);
    log_bytes(r, line.data, line.len, handle, ctx);
    buf_free(&line);
}

static void went_mad(struct worker_run *r, const char *why) {
    if (!r->protocol) r->protocol = mem_strdup(why);
    source_close(&r->messages);
    kill_run(r);
}

static void run_message(struct worker_run *r, struct message *m, event_handler handle, void *ctx) {
    struct worker_event ev;
    struct buf scratch = {0};
    struct err e;
    bool result;
    int status;
    if (worker_event_read(m, &ev, &result, &status, &scratch, &e)) {
        went_mad(r, e.text);
    } else if (r->said) {
        went_mad(r, "a message after its result");
    } else if (result) {
        r->said = true;
        r->end.said_status = status;
        r->said_text = ev.text ? mem_strdup(ev.text) : NULL;
    } else if ((ev.type == WORKER_DISCOVERED || ev.type == WORKER_ADDED || ev.type == WORKER_WATCH) && ++r->reports > REPORTS_MOST) {
        went_mad(r, "reports of more than 200000 files");
    } else {
        ev.run = r;
        ev.tag = r->tag;
        r->asks = ev.type == WORKER_LINEAGE;
        if (ev.type == WORKER_LOG) log_event(r, &ev, handle, ctx);
        handle(ctx, &ev);
        worker_answer(r, "null"); /* unless the handler did */
    }
    buf_free(&scratch);
}

static void run_read_messages(struct worker_run *r, size_t most, event_handler handle, void *ctx) {
    struct message m;
    struct err e;
    size_t at = 0, used = 0;
    if (r->messages.fd < 0) return;
    bool gone = read_available(r->messages.fd, &r->in, most);
    do {
        if (message_read(r->in.data + at, r->in.len - at, MESSAGE_MOST, &m, &used, &e)) went_mad(r, e.text);
        else if (used) run_message(r, &m, handle, ctx);
        at += used;
    } while (used && r->messages.fd >= 0);
    buf_drop(&r->in, at);
    if (gone) source_close(&r->messages);
}

static void run_read_output(struct worker_run *r, size_t most, event_handler handle, void *ctx) {
    char chunk[CHUNK];
    for (size_t total = 0; r->output.fd >= 0 && total < most;) {
        ssize_t n = read(r->output.fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) {
            source_close(&r->output);
            return;
        }
        log_bytes(r, chunk, (size_t)n, handle, ctx);
        total += (size_t)n;
    }
}

/* Takes what its end left in socket and pipe, tells how it went, and forgets it. */
static void run_finish(struct worker_run *r, event_handler handle, void *ctx) {
    struct workers *w = r->workers;
    struct buf message = {0}, tail = {0};
    for (size_t before = SIZE_MAX; r->messages.fd >= 0 && before;) {
        run_read_messages(r, TURN_MOST, handle, ctx);
        struct pollfd p = {.fd = r->messages.fd, .events = POLLIN};
        before = r->messages.fd >= 0 && poll(&p, 1, 0) > 0;
    }
    run_read_output(r, DRAIN_MOST, handle, ctx);
    r->end.said = r->said;
    r->end.said_text = r->said_text;
    r->end.protocol = r->protocol;
    struct worker_event ev = {.type = WORKER_FINISHED, .run = r, .tag = r->tag};
    worker_log_tail(&r->log, &tail);
    r->end.tail = ev.result.tail = buf_str(&tail);
    ev.result.outcome = worker_judge(&r->end, &message);
    ev.result.message = buf_str(&message);
    ev.result.logged = r->log.made;
    ev.result.seconds = r->seconds > 0 ? r->seconds : (double)(sys_now_ns() - r->started_ns) / 1e9;
    ev.result.user_seconds = r->user_seconds;
    ev.result.system_seconds = r->system_seconds;
    ev.result.peak_bytes = r->end.peak_bytes;
    if (r->previous) r->previous->next = r->next;
    else w->runs = r->next;
    if (r->next) r->next->previous = r->previous;
    r->template->runs--;
    handle(ctx, &ev);
    run_free(r);
    buf_free(&message);
    buf_free(&tail);
}

/* -- time */

static void check_timers(struct workers *w) {
    int64_t now = sys_now_ns();
    for (struct worker_run *r = w->runs; r; r = r->next) {
        if (r->ended) continue;
        if (r->timeout_at_ns && now >= r->timeout_at_ns) {
            r->timeout_at_ns = 0;
            r->end.timed_out = true;
            signal_run(r, SIGTERM);
            if (!r->kill_at_ns) r->kill_at_ns = now + GRACE_NS;
        }
        if (r->kill_at_ns && now >= r->kill_at_ns) kill_run(r);
    }
    for (struct worker_template *t = w->templates; t; t = t->next) {
        if (!t->load_until_ns || t->too_slow || now < t->load_until_ns) continue;
        t->too_slow = true;
        template_end(t);
    }
}

int workers_wait_ms(struct workers *w) {
    int64_t next = INT64_MAX, now = sys_now_ns();
    for (const struct worker_run *r = w->runs; r; r = r->next) {
        if (r->ended) return 0;
        if (r->timeout_at_ns && r->timeout_at_ns < next) next = r->timeout_at_ns;
        if (r->kill_at_ns && r->kill_at_ns < next) next = r->kill_at_ns;
    }
    for (const struct worker_template *t = w->templates; t; t = t->next)
        if (t->load_until_ns && !t->too_slow && t->load_until_ns < next) next = t->load_until_ns;
    if (next == INT64_MAX) return -1;
    int64_t ms = next <= now ? 0 : (next - now + 999999) / 1000000;
    return ms > 1000000 ? 1000000 : (int)ms;
}

/* -- polling */

int workers_fd(struct workers *w) {
    return w->epoll;
}

static void dispatch(struct workers *w, struct source *s, unsigned events, event_handler handle, void *ctx) {
    if (s->fd < 0) return; /* closed by an event before it */
    switch (s->kind) {
    case SOURCE_SPAWNER: read_notes(w); break;
    case SOURCE_TEMPLATE: template_read(s->owner); break;
    case SOURCE_MESSAGES:
        if (events & EPOLLOUT) flush_out(s->owner);
        if (events & ~(unsigned)EPOLLOUT) run_read_messages(s->owner, TURN_MOST, handle, ctx);
        break;
    case SOURCE_LOG: run_read_output(s->owner, TURN_MOST, handle, ctx); break;
    }
}

int workers_poll(struct workers *w, event_handler handle, void *ctx, struct err *e) {
    struct epoll_event events[64];
    int n = epoll_wait(w->epoll, events, 64, 0);
    if (n < 0 && errno != EINTR) return err_errno(e, "epoll");
    w->polling = true; /* nothing that an event speaks of is freed until all are done with */
    for (int i = 0; i < n; i++) dispatch(w, events[i].data.ptr, events[i].events, handle, ctx);
    w->polling = false;
    check_timers(w);
    settle_templates(w);
    for (struct worker_run *r = w->runs, *next; r; r = next) {
        next = r->next;
        if (r->ended) run_finish(r, handle, ctx);
    }
    return 0;
}

/* -- waiting for one */

int worker_call(struct workers *w, const struct worker_request *q, event_handler handle, void *ctx, struct err *e) {
    struct worker_run *r;
    if (worker_start(w, q, &r, e)) return -1;
    while (!r->ended) {
        struct pollfd fds[] = {{.fd = r->messages.fd, .events = (short)(POLLIN | (r->out.len ? POLLOUT : 0))}, {.fd = r->output.fd, .events = POLLIN},
                               {.fd = r->template->control.fd, .events = POLLIN}, {.fd = w->control.fd, .events = POLLIN}};
        int wait = workers_wait_ms(w);
        if (poll(fds, 4, wait >= 0 && wait < 50 ? 50 : wait) < 0 && errno != EINTR) return err_errno(e, "poll");
        if (fds[0].revents & POLLOUT) flush_out(r);
        if (fds[0].revents & ~POLLOUT) run_read_messages(r, TURN_MOST, handle, ctx);
        if (fds[1].revents) run_read_output(r, TURN_MOST, handle, ctx);
        if (fds[2].revents) template_read(r->template);
        if (fds[3].revents) read_notes(w);
        check_timers(w);
        settle_templates(w);
    }
    run_finish(r, handle, ctx);
    return 0;
}

int worker_describe(struct workers *w, const char *path, struct buf *json, struct err *e) {
    struct worker_template *t;
    if (template_for(w, path, &t, e) || order_template(t, &(struct worker_order){.kind = ORDER_DESCRIBE}, e)) return -1;
    t->runs++; /* it is needed */
    while (!t->descriptor && !t->failed && !template_gone(t)) {
        struct pollfd fds[] = {{.fd = t->control.fd, .events = POLLIN}, {.fd = w->control.fd, .events = POLLIN}};
        int64_t left = t->load_until_ns ? (t->load_until_ns - sys_now_ns()) / 1000000 + 1 : LOAD_NS / 1000000;
        if (poll(fds, 2, t->too_slow || left > 1000 ? 1000 : left > 0 ? (int)left : 0) < 0 && errno != EINTR) break;
        if (fds[0].revents) template_read(t);
        if (fds[1].revents) read_notes(w);
        check_timers(w);
        settle_templates(w);
    }
    int status = t->descriptor ? 0 : err_set(e, "%s", t->failed ? t->failed : "the process that loads plugins was killed");
    if (!status) buf_adds(json, t->descriptor);
    free(t->descriptor);
    t->descriptor = NULL;
    t->runs--;
    settle_templates(w);
    return status;
}

/* -- the end */

void workers_stop(struct workers *w) {
    for (struct worker_run *r = w->runs, *next; r; r = next) {
        next = r->next;
        run_free(r);
    }
    for (struct worker_template *t = w->templates, *next; t; t = next) {
        next = t->next;
        template_free(t);
    }
    source_close(&w->control);
    while (waitpid(w->spawner, NULL, 0) < 0 && errno == EINTR) {
    }
    if (w->epoll >= 0) close(w->epoll);
    buf_free(&w->in);
    free(w);
}
