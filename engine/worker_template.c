/* worker_template.c: the engine's side of the spawner and the templates: which there are, what they say, how they end. */
#include "worker_engine.h"
#include "worker_warm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* -- the spawner */

void spawner_read(struct workers *w) {
    struct worker_note note;
    if (w->control.fd < 0) return;
    bool gone = worker_read_available(w->control.fd, &w->in, WORKER_TURN_MOST);
    size_t used = 0;
    for (; w->in.len - used >= sizeof note; used += sizeof note) {
        memcpy(&note, w->in.data + used, sizeof note);
        for (struct worker_template *t = w->templates; t; t = t->next) {
            if (t->id != note.id) continue;
            t->ended = true;
            t->wait_status = note.wait_status;
        }
    }
    worker_drop(&w->in, used);
    if (gone) source_close(&w->control);
}

/* By posix_spawn, which copies nothing of this process, however large it is and whatever its threads do. */
static int start_program(struct workers *w, int theirs, struct err *e) {
    posix_spawn_file_actions_t actions;
    char *argv[] = {"mbuild-worker", NULL};
    int code = posix_spawn_file_actions_init(&actions);
    if (!code) {
        code = posix_spawn_file_actions_adddup2(&actions, theirs, WORKER_CONTROL);
        if (!code) code = posix_spawn(&w->spawner, w->program, &actions, NULL, argv, environ);
        posix_spawn_file_actions_destroy(&actions);
    }
    if (!code) return 0;
    w->spawner = 0;
    errno = code;
    return err_errno(e, "cannot start %s, the part of mbuild that runs steps", w->program);
}

/* With the first plugin. */
static int spawner_start(struct workers *w, struct err *e) {
    int ends[2];
    if (w->spawner) return 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)) return err_errno(e, "cannot make a socket");
    if (ends[1] == WORKER_CONTROL) { /* a descriptor that is moved onto itself would still be closed */
        int other = fcntl(ends[1], F_DUPFD_CLOEXEC, WORKER_CONTROL + 1);
        close(ends[1]);
        ends[1] = other;
    }
    int status = ends[1] < 0 ? err_errno(e, "cannot make a socket") : start_program(w, ends[1], e);
    if (ends[1] >= 0) close(ends[1]);
    if (status) {
        close(ends[0]);
        return -1;
    }
    if (fcntl(ends[0], F_SETFL, O_NONBLOCK)) status = err_errno(e, "fcntl");
    if (!status) return source_open(w, &w->control, SOURCE_SPAWNER, ends[0], w, e);
    close(ends[0]);
    return -1;
}

static int order_spawner(struct workers *w, const struct worker_order *o, struct err *e) {
    while (w->control.fd >= 0) {
        if (!worker_order_send(w->control.fd, o, NULL)) return 0;
        if (errno != EAGAIN) break;
        poll(&(struct pollfd){.fd = w->control.fd, .events = POLLIN | POLLOUT}, 1, 1000);
        spawner_read(w);
    }
    return err_set(e, "the process that starts steps was killed: start mbuild again");
}

/* -- templates */

void template_free(struct worker_template *t) {
    source_close(&t->control);
    for (struct worker_way *w = t->ways, *next; w; w = next) {
        next = w->next;
        way_free(w);
    }
    if (t->output >= 0) close(t->output);
    buf_free(&t->in);
    for (uint32_t i = 0; i < t->class_count; i++) free(t->classes[i]);
    free(t->classes);
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
    message_add_number(&out, t->kind);
    message_end(&out, begun);
    ssize_t n = send(t->control.fd, out.data, out.len, MSG_NOSIGNAL); /* the first bytes in an empty socket: it has room for them */
    int status = n == (ssize_t)out.len ? 0 : err_errno(e, "cannot tell the template of %s what to load", t->path);
    buf_free(&out);
    free(folder);
    return status;
}

static int template_open(struct workers *w, const char *path, unsigned kind, const struct file_stat *st, struct worker_template **out,
                         struct err *e) {
    int ends[2];
    if (spawner_start(w, e)) return -1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)) return err_errno(e, "cannot make a socket");
    struct worker_template *t = mem_alloc(sizeof *t);
    t->workers = w;
    t->id = w->next_id++;
    t->path = mem_strdup(path);
    t->kind = kind;
    t->stat = *st;
    t->load_until_ns = sys_now_ns() + WORKER_LOAD_NS;
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

int template_for(struct workers *w, const char *path, unsigned kind, struct worker_template **out, struct err *e) {
    struct file_stat st;
    if (sys_stat(path, false, &st, e)) return err_wrap(e, "plugin");
    for (struct worker_template *t = w->templates; t; t = t->next) {
        if (strcmp(t->path, path) || t->kind != kind || !usable(t)) continue;
        if (file_stat_same(&t->stat, &st)) {
            *out = t;
            return 0;
        }
        t->retired = true; /* it was built anew since */
    }
    if (st.kind == FILE_ABSENT) return err_set(e, "plugin %s doesn't exist", path);
    return template_open(w, path, kind, &st, out, e);
}

uint32_t template_class(struct worker_template *t, const struct worker_request *r) {
    char *class = warm_class(r);
    for (uint32_t i = 0; i < t->class_count; i++) {
        if (strcmp(t->classes[i], class)) continue;
        free(class);
        return i + 1;
    }
    t->classes = mem_grow(t->classes, &t->class_cap, t->class_count + 1, sizeof *t->classes);
    t->classes[t->class_count++] = class;
    return t->class_count;
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
        r->warm = (uint32_t)message_number(m);
        r->end.kills = message_number(m);
        r->reported = (uint32_t)message_number(m);
    } else {
        m->wrong = "has an unknown type";
    }
}

void template_end(struct worker_template *t) {
    struct err ignored; /* without a spawner it ends by itself */
    t->retired = true;
    order_spawner(t->workers, &(struct worker_order){.kind = ORDER_END, .id = t->id}, &ignored);
}

void workers_cool(struct workers *w) {
    struct err ignored; /* one that is gone has none */
    for (struct worker_template *t = w->templates; t; t = t->next)
        if (t->class_count) template_order(t, &(struct worker_order){.kind = ORDER_COOL}, NULL, &ignored);
}

void template_read(struct worker_template *t) {
    struct message m;
    struct err e;
    size_t at = 0, used;
    if (t->control.fd < 0) return;
    bool gone = worker_read_available(t->control.fd, &t->in, WORKER_TURN_MOST), mad = false;
    do {
        mad = message_read(t->in.data + at, t->in.len - at, MESSAGE_MOST, &m, &used, &e);
        if (!mad && used) template_message(t, &m);
        mad |= used && message_end_reached(&m, &e);
        at += used;
    } while (used && !mad);
    worker_drop(&t->in, at);
    if (mad) template_end(t); /* a plugin's threads wrote into it */
    if (gone || mad) source_close(&t->control);
}

int template_order(struct worker_template *t, const struct worker_order *o, const void *request, struct err *e) {
    while (t->control.fd >= 0) {
        if (!worker_order_send(t->control.fd, o, request)) return 0;
        if (errno != EAGAIN && errno != EPIPE && errno != ECONNRESET)
            return err_errno(e, "cannot reach the process that loads plugin %s", t->path);
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
    if (t->too_slow) buf_addf(&why, "it took more than %d s to load and was ended", (int)(WORKER_LOAD_NS / 1000000000));
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

bool template_gone(const struct worker_template *t) {
    return t->control.fd < 0 && (t->ended || t->workers->control.fd < 0);
}

void templates_settle(struct workers *w) {
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
