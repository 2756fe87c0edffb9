/* worker_way.c: the engine's ends of the ways to steps; see worker_engine.h. */
#include "worker_engine.h"
#include "worker_lean.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

void way_free(struct worker_way *w) {
    source_close(&w->messages);
    source_close(&w->output);
    free(w);
}

static int way_make(struct worker_way *w, struct workers *workers, int theirs[2], struct err *e) {
    int ends[2], pipe_ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)) return err_errno(e, "cannot make a socket");
    w->messages.fd = ends[0];
    theirs[0] = ends[1];
    if (pipe2(pipe_ends, O_CLOEXEC)) return err_errno(e, "cannot make a pipe");
    w->output.fd = pipe_ends[0];
    theirs[1] = pipe_ends[1];
    if (fcntl(ends[0], F_SETFL, O_NONBLOCK) || fcntl(pipe_ends[0], F_SETFL, O_NONBLOCK)) return err_errno(e, "fcntl");
    if (source_open(workers, &w->messages, SOURCE_MESSAGES, ends[0], w, e)) return -1;
    return source_open(workers, &w->output, SOURCE_LOG, pipe_ends[0], w, e);
}

static void close_both(int fds[2]) {
    for (int i = 0; i < 2; i++)
        if (fds[i] >= 0) close(fds[i]);
    fds[0] = fds[1] = -1;
}

int way_open(struct worker_run *r, bool numbered, int theirs[2], struct err *e) {
    struct worker_template *t = r->template;
    theirs[0] = theirs[1] = -1;
    struct worker_way *w = numbered ? t->ways : NULL;
    if (w) t->ways = w->next;
    else {
        w = mem_alloc(sizeof *w);
        w->messages.fd = w->output.fd = -1;
        w->number = numbered ? t->way_count++ : NO_ID;
    }
    w->next = NULL;
    w->run = r;
    r->way = w;
    if (w->messages.fd >= 0 && w->output.fd >= 0) return 0;
    source_close(&w->messages);
    source_close(&w->output);
    int status = way_make(w, r->workers, theirs, e);
    if (!numbered) return status;
    struct worker_order o = {.kind = ORDER_WAY, .way = w->number, .fd_count = 2, .fds = {theirs[0], theirs[1]}};
    if (!status) status = template_order(t, &o, NULL, e);
    close_both(theirs);
    return status;
}

void way_close(struct worker_run *r, bool reusable) {
    struct worker_way *w = r->way;
    r->way = NULL;
    if (!w) return;
    w->run = NULL;
    if (w->number == NO_ID) {
        way_free(w);
        return;
    }
    if (!reusable) { /* the next run that gets the number gets new ends with it */
        source_close(&w->messages);
        source_close(&w->output);
    }
    w->next = r->template->ways;
    r->template->ways = w;
}
