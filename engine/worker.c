/* worker.c: the engine's side of steps in other processes: runs, what they report, timeouts; see worker.h and worker_engine.h.
 *
 * worker_call waits for one run and leaves the others' sockets alone: their events go to whoever calls workers_poll.
 */
#include "worker_engine.h"
#include "worker_lean.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define GRACE_NS 2000000000     /* from SIGTERM to SIGKILL when a timeout is over */
#define DRAIN_MOST (256u << 20) /* bytes read after a run's end: what a pipe and a socket can hold, and much more */
#define REPORTS_MOST 200000     /* files that one run may report */

typedef void (*event_handler)(void *ctx, const struct worker_event *ev);

/* -- sources */

int source_open(struct workers *w, struct source *s, enum source_kind kind, int fd, void *owner, struct err *e) {
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = s};
    *s = (struct source){.kind = kind, .fd = fd, .owner = owner};
    return epoll_ctl(w->epoll, EPOLL_CTL_ADD, fd, &ev) ? err_errno(e, "epoll") : 0;
}

void source_want_write(struct workers *w, struct source *s, bool wanted) {
    struct epoll_event ev = {.events = EPOLLIN | (wanted ? EPOLLOUT : 0u), .data.ptr = s};
    if (s->fd >= 0) epoll_ctl(w->epoll, EPOLL_CTL_MOD, s->fd, &ev);
}

void source_close(struct source *s) {
    if (s->fd >= 0) close(s->fd); /* leaves the epoll set: nobody else has this description */
    s->fd = -1;
}

int worker_read_available(int fd, struct buf *in, size_t most) {
    char chunk[WORKER_CHUNK];
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

void worker_drop(struct buf *b, size_t n) {
    if (!n) return;
    memmove(b->data, b->data + n, b->len - n + 1);
    b->len -= n;
}

/* -- the start */

int workers_start(const char *program, struct workers **out, struct err *e) {
    struct workers *w = mem_alloc(sizeof *w);
    w->program = mem_strdup(program);
    w->next_id = 1;
    w->control.fd = -1;
    w->epoll = epoll_create1(EPOLL_CLOEXEC);
    *out = w->epoll < 0 ? NULL : w;
    if (*out) return 0;
    workers_stop(w);
    return err_errno(e, "epoll");
}

/* -- runs */

static void signal_run(struct worker_run *r, int number) {
    struct err ignored; /* a template that is gone took its steps with it */
    if (!r->ended) template_order(r->template, &(struct worker_order){.kind = ORDER_SIGNAL, .id = r->id, .argument = number}, NULL,
                                 &ignored);
}

static void kill_run(struct worker_run *r) {
    r->kill_at_ns = 0;
    r->end.killed = true;
    signal_run(r, SIGKILL);
}

static void flush_out(struct worker_run *r) {
    size_t done = 0;
    while (r->way->messages.fd >= 0 && done < r->out.len) {
        ssize_t n = send(r->way->messages.fd, r->out.data + done, r->out.len - done, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        done += (size_t)n;
    }
    worker_drop(&r->out, done);
    source_want_write(r->workers, &r->way->messages, r->out.len);
}

static void run_free(struct worker_run *r) {
    way_close(r, r->drained);
    worker_log_close(&r->log);
    buf_free(&r->in);
    buf_free(&r->out);
    free(r->said_text);
    free(r->protocol);
    free(r);
}

/* One with a limit of memory may get a control group, which is the business of the other templates. */
static unsigned kind_of_template(const struct worker_request *q) {
    if (q->hook != WORKER_RUN) return 0;
    return (q->sandbox != SANDBOX_OFF && !q->network ? TEMPLATE_OFFLINE : 0) | (q->self_contained && !q->memory ? TEMPLATE_SELF_CONTAINED : 0);
}

int worker_start(struct workers *w, const struct worker_request *q, struct worker_run **out, struct err *e) {
    struct worker_template *t;
    if (template_for(w, q->plugin_path, kind_of_template(q), &t, e)) return -1;
    struct worker_run *r = mem_alloc(sizeof *r);
    int theirs[2];
    r->workers = w;
    r->template = t;
    r->id = w->next_id++;
    r->tag = q->tag;
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
    bool lean = t->kind & TEMPLATE_SELF_CONTAINED && r->out.len <= LEAN_REQUEST_MOST && (t->ways || t->way_count < LEAN_WAYS);
    int status = way_open(r, lean, theirs, e);
    struct worker_order o = {.kind = ORDER_RUN, .id = r->id, .argument = r->end.confined, .memory = q->memory};
    if (lean) {
        o.way = r->way->number;
        o.bytes = (uint32_t)r->out.len;
    } else {
        if (!status) flush_out(r);
        o.fd_count = q->jobserver[0] != q->jobserver[1] ? 4 : 2;
        memcpy(o.fds, (int[]){theirs[0], theirs[1], q->jobserver[0], q->jobserver[1]}, sizeof o.fds);
        o.warm = q->warm ? template_class(t, q) : 0;
    }
    if (!status) status = template_order(t, &o, r->out.data, e);
    if (lean) buf_clear(&r->out);
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
    r->answered = true;
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
    source_close(&r->way->messages);
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
    if (r->way->messages.fd < 0) return;
    bool gone = worker_read_available(r->way->messages.fd, &r->in, most);
    do {
        if (message_read(r->in.data + at, r->in.len - at, MESSAGE_MOST, &m, &used, &e)) went_mad(r, e.text);
        else if (used) run_message(r, &m, handle, ctx);
        at += used;
    } while (used && r->way->messages.fd >= 0);
    worker_drop(&r->in, at);
    if (gone) source_close(&r->way->messages);
}

static void run_read_output(struct worker_run *r, size_t most, event_handler handle, void *ctx) {
    char chunk[WORKER_CHUNK];
    for (size_t total = 0; r->way->output.fd >= 0 && total < most;) {
        ssize_t n = read(r->way->output.fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) {
            source_close(&r->way->output);
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
    struct pollfd left[2];
    do {
        left[0] = (struct pollfd){.fd = r->way->messages.fd, .events = POLLIN};
        left[1] = (struct pollfd){.fd = r->way->output.fd, .events = POLLIN};
        if (poll(left, 2, 0) <= 0) break;
        if (left[0].revents) run_read_messages(r, WORKER_TURN_MOST, handle, ctx);
        if (left[1].revents) run_read_output(r, DRAIN_MOST, handle, ctx);
    } while (left[0].revents);
    if (!r->said && r->reported) {
        r->said = true;
        r->end.said_status = (int)r->reported - 1;
    }
    r->drained = r->said && !r->protocol && !r->end.killed && !r->in.len && !r->out.len && !r->answered;
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
    ev.result.warm = r->warm;
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
    struct worker_way *way = s->owner;
    bool of_way = s->kind == SOURCE_MESSAGES || s->kind == SOURCE_LOG;
    if (of_way && !way->run) { /* who speaks there is no run of ours */
        source_close(&way->messages);
        source_close(&way->output);
        return;
    }
    switch (s->kind) {
    case SOURCE_SPAWNER: spawner_read(w); break;
    case SOURCE_TEMPLATE: template_read(s->owner); break;
    case SOURCE_MESSAGES:
        if (events & EPOLLOUT) flush_out(way->run);
        if (events & ~(unsigned)EPOLLOUT) run_read_messages(way->run, WORKER_TURN_MOST, handle, ctx);
        break;
    case SOURCE_LOG: run_read_output(way->run, WORKER_TURN_MOST, handle, ctx); break;
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
    templates_settle(w);
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
        struct pollfd fds[] = {{.fd = r->way->messages.fd, .events = (short)(POLLIN | (r->out.len ? POLLOUT : 0))},
                               {.fd = r->way->output.fd, .events = POLLIN},
                               {.fd = r->template->control.fd, .events = POLLIN}, {.fd = w->control.fd, .events = POLLIN}};
        int wait = workers_wait_ms(w);
        if (poll(fds, 4, wait >= 0 && wait < 50 ? 50 : wait) < 0 && errno != EINTR) return err_errno(e, "poll");
        if (fds[0].revents & POLLOUT) flush_out(r);
        if (fds[0].revents & ~POLLOUT) run_read_messages(r, WORKER_TURN_MOST, handle, ctx);
        if (fds[1].revents) run_read_output(r, WORKER_TURN_MOST, handle, ctx);
        if (fds[2].revents) template_read(r->template);
        if (fds[3].revents) spawner_read(w);
        check_timers(w);
        templates_settle(w);
    }
    run_finish(r, handle, ctx);
    return 0;
}

int worker_describe(struct workers *w, const char *path, struct buf *json, struct err *e) {
    struct worker_template *t;
    if (template_for(w, path, 0, &t, e) || template_order(t, &(struct worker_order){.kind = ORDER_DESCRIBE}, NULL, e)) return -1;
    t->runs++; /* it is needed */
    while (!t->descriptor && !t->failed && !template_gone(t)) {
        struct pollfd fds[] = {{.fd = t->control.fd, .events = POLLIN}, {.fd = w->control.fd, .events = POLLIN}};
        int64_t left = t->load_until_ns ? (t->load_until_ns - sys_now_ns()) / 1000000 + 1 : WORKER_LOAD_NS / 1000000;
        if (poll(fds, 2, t->too_slow || left > 1000 ? 1000 : left > 0 ? (int)left : 0) < 0 && errno != EINTR) break;
        if (fds[0].revents) template_read(t);
        if (fds[1].revents) spawner_read(w);
        check_timers(w);
        templates_settle(w);
    }
    int status = t->descriptor ? 0 : err_set(e, "%s", t->failed ? t->failed : "the process that loads plugins was killed");
    if (!status) buf_adds(json, t->descriptor);
    free(t->descriptor);
    t->descriptor = NULL;
    t->runs--;
    templates_settle(w);
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
    while (w->spawner > 0 && waitpid(w->spawner, NULL, 0) < 0 && errno == EINTR) {
    }
    if (w->epoll >= 0) close(w->epoll);
    buf_free(&w->in);
    free(w->program);
    free(w);
}
