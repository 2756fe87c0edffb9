/* jobserver.c: tokens in a pipe; see jobserver.h. */
#include "jobserver.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define TOKENS_MOST 4096

/* What the guardian must know when we are gone: shared between it and us. */
struct held {
    int count;
    char tokens[TOKENS_MOST]; /* each goes back as the byte that it was */
};

struct jobserver {
    bool client;
    int jobs;
    int read_fd, write_fd;   /* as steps inherit them */
    int take_fd;             /* the same pipe, opened anew so that it alone doesn't wait; close-on-exec */
    struct held *held;
    pid_t guardian;
    int guardian_fd;         /* closed when we end, however we do */
    char *makeflags;
};

/* -- the client's side of MAKEFLAGS */

/* The last word that begins so: the last --jobserver-auth counts. */
static const char *last_word(const char *flags, const char *start) {
    const char *found = NULL;
    for (const char *p = flags; (p = strstr(p, start)); p += strlen(start))
        if (p == flags || p[-1] == ' ') found = p + strlen(start);
    return found;
}

static bool is_pipe(int fd, int mode) {
    struct stat st;
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && ((flags & O_ACCMODE) == mode || (flags & O_ACCMODE) == O_RDWR) && !fstat(fd, &st) && S_ISFIFO(st.st_mode);
}

/* "fifo:PATH" or "R,W". A rule without "+" in make leaves the words but closes the descriptors. */
static bool open_named(struct jobserver *j, const char *auth) {
    char path[4096];
    if (!strncmp(auth, "fifo:", 5)) {
        snprintf(path, sizeof path, "%.*s", (int)strcspn(auth + 5, " "), auth + 5);
        j->read_fd = j->write_fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
        j->take_fd = j->read_fd < 0 ? -1 : dup(j->read_fd);
        return j->take_fd >= 0 && is_pipe(j->take_fd, O_RDWR);
    }
    if (sscanf(auth, "%d,%d", &j->read_fd, &j->write_fd) != 2 || j->read_fd < 0 || j->write_fd < 0) return false;
    if (!is_pipe(j->read_fd, O_RDONLY) || !is_pipe(j->write_fd, O_WRONLY)) return false;
    snprintf(path, sizeof path, "/proc/self/fd/%d", j->read_fd);
    j->take_fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    return j->take_fd >= 0;
}

static bool open_client(struct jobserver *j) {
    const char *flags = getenv("MAKEFLAGS");
    const char *auth = flags ? last_word(flags, "--jobserver-auth=") : NULL;
    if (!auth && flags) auth = last_word(flags, "--jobserver-fds="); /* before make 4.2 */
    if (!auth || !open_named(j, auth)) return false;
    j->client = true;
    /* The rest of make's flags, variables set on its command line above all, are nothing that a step may depend on unseen. */
    if (strncmp(auth, "fifo:", 5)) j->makeflags = mem_printf(" -j%d --jobserver-auth=%d,%d", j->jobs, j->read_fd, j->write_fd);
    else j->makeflags = mem_printf(" -j%d --jobserver-auth=%.*s", j->jobs, (int)strcspn(auth, " "), auth);
    return true;
}

/* How many jobs make was given, which it means also where it shares no tokens: with -j1, or with a recipe that isn't marked by "+". 0 if it
 * wasn't. */
static int make_jobs(void) {
    const char *flags = getenv("MAKEFLAGS"), *count = flags ? last_word(flags, "-j") : NULL;
    int n = count ? atoi(count) : 0;
    return n > 0 && n < TOKENS_MOST ? n : 0;
}

/* Waits until we are gone, then returns what we held. It must survive what kills us: a signal to our group, the terminal's end. */
static void guard(struct jobserver *j, int watched) {
    char byte;
    int ends[2] = {fcntl(watched, F_DUPFD, 1000), fcntl(j->write_fd, F_DUPFD, 1000)}; /* all else, locks above all, is not its business */
    sigset_t all;
    prctl(PR_SET_NAME, "mbuild-tokens");
    close_range(0, 999, 0);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    setpgid(0, 0);
    while (read(ends[0], &byte, 1) < 0 && errno == EINTR) {
    }
    for (int i = 0; i < j->held->count && i < TOKENS_MOST; i++)
        while (write(ends[1], &j->held->tokens[i], 1) < 0 && errno == EINTR) {
        }
    _exit(0);
}

static int start_guardian(struct jobserver *j, struct err *e) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC)) return err_errno(e, "cannot make a pipe");
    j->guardian = fork();
    if (j->guardian < 0) {
        close(ends[0]);
        close(ends[1]);
        return err_errno(e, "cannot fork");
    }
    if (!j->guardian) {
        close(ends[1]);
        guard(j, ends[0]);
    }
    close(ends[0]);
    j->guardian_fd = ends[1];
    return 0;
}

/* -- the server */

static int open_server(struct jobserver *j, struct err *e) {
    int ends[2];
    char path[64];
    if (pipe(ends)) return err_errno(e, "cannot make the jobserver's pipe");
    j->read_fd = ends[0];
    j->write_fd = ends[1];
    snprintf(path, sizeof path, "/proc/self/fd/%d", j->read_fd);
    j->take_fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (j->take_fd < 0) return err_errno(e, "cannot open the jobserver's pipe");
    j->makeflags = mem_printf(" -j%d --jobserver-auth=%d,%d", j->jobs, j->read_fd, j->write_fd);
    jobserver_refill(j);
    return 0;
}

void jobserver_refill(struct jobserver *j) {
    int there = 0;
    if (j->client || ioctl(j->read_fd, FIONREAD, &there)) return;
    for (int missing = j->jobs - 1 - j->held->count - there; missing > 0; missing--)
        if (write(j->write_fd, "+", 1) < 0) return;
}

/* -- both */

int jobserver_open(int jobs, int processors, struct jobserver **out, struct err *e) {
    struct jobserver *j = mem_alloc(sizeof *j);
    *j = (struct jobserver){.jobs = jobs ? jobs : processors, .read_fd = -1, .write_fd = -1, .take_fd = -1, .guardian_fd = -1};
    if (j->jobs > TOKENS_MOST) j->jobs = TOKENS_MOST;
    j->held = mmap(NULL, sizeof *j->held, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (j->held == MAP_FAILED) {
        free(j);
        return err_errno(e, "cannot share memory");
    }
    *out = j;
    if (!jobs && make_jobs()) j->jobs = make_jobs();
    return !jobs && open_client(j) ? start_guardian(j, e) : open_server(j, e);
}

void jobserver_close(struct jobserver *j) {
    if (!j) return;
    jobserver_hold(j, 0);
    if (j->guardian_fd >= 0) close(j->guardian_fd);
    if (j->guardian > 0) waitpid(j->guardian, NULL, 0);
    if (!j->client && j->read_fd >= 0) { /* a client's are its parent's */
        close(j->read_fd);
        close(j->write_fd);
    }
    if (j->client && j->read_fd == j->write_fd && j->read_fd >= 0) close(j->read_fd); /* a FIFO that we opened */
    if (j->take_fd >= 0) close(j->take_fd);
    munmap(j->held, sizeof *j->held);
    free(j->makeflags);
    free(j);
}

int jobserver_jobs(const struct jobserver *j) {
    return j->jobs;
}

bool jobserver_is_client(const struct jobserver *j) {
    return j->client;
}

int jobserver_hold(struct jobserver *j, int wanted) {
    struct held *h = j->held;
    if (wanted > TOKENS_MOST) wanted = TOKENS_MOST;
    while (h->count < wanted && read(j->take_fd, &h->tokens[h->count], 1) == 1) h->count++;
    while (h->count > wanted && h->count > 0) {
        if (write(j->write_fd, &h->tokens[h->count - 1], 1) != 1 && errno != EINTR) break;
        h->count--;
    }
    return h->count;
}

int jobserver_fd(const struct jobserver *j) {
    return j->take_fd;
}

const char *jobserver_makeflags(const struct jobserver *j) {
    return j->makeflags;
}

void jobserver_descriptors(const struct jobserver *j, int fds[2]) {
    fds[0] = j->read_fd;
    fds[1] = j->write_fd;
}
