/* worker_engine.h: what the files of the engine's side share (worker.c, worker_template.c).
 *
 * Everything is one epoll set and no thread. Reading changes what is known of a run or template; what follows (a run is finished, a
 * template is given up) is done at one place after that, so that an event never sees half of it.
 */
#ifndef ENGINE_WORKER_ENGINE_H
#define ENGINE_WORKER_ENGINE_H

#include "sys.h"
#include "worker_log.h"
#include "worker_private.h"

#define WORKER_CHUNK 65536
#define WORKER_TURN_MOST (4 * WORKER_CHUNK) /* bytes that one descriptor may be read in a turn */
#define WORKER_LOAD_NS 10000000000          /* how long a plugin may take to load */

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
    unsigned kind;          /* enum template_kind */
    struct worker_way *ways; /* that no run has now */
    uint32_t way_count;     /* numbers given so far */
    int output;             /* what it prints while it loads */
    struct buf in;
    int64_t load_until_ns;  /* 0: it answered */
    char *failed;           /* why the plugin can't be used */
    char *descriptor;
    bool too_slow;
    bool ended;             /* the spawner said so: the whole tree below it is gone */
    int wait_status;
    bool retired;           /* nothing new runs in it */
    char **classes;         /* of its warm processes; a class's number is its place, from 1 */
    uint32_t class_count, class_cap;
};

/* The two ways to a step: a socket for messages, and a pipe for what it prints. One with a number is kept by its template too and serves one
 * run after another; see worker_lean.h. Others go with their run. */
struct worker_way {
    struct worker_way *next; /* in template.ways */
    struct worker_run *run;  /* NULL: none now */
    uint32_t number;         /* NO_ID: none */
    struct source messages, output;
};

struct worker_run {
    struct worker_run *next, *previous;
    struct workers *workers;
    struct worker_template *template;
    uint32_t id;
    void *tag;
    struct worker_way *way;
    struct buf in, out;
    struct worker_log log;
    struct worker_end end;
    char *said_text, *protocol;
    bool ended, said, drained; /* drained: nothing of it is left in its way */
    double seconds, user_seconds, system_seconds;
    uint32_t reports, warm, reported; /* reported: its status plus 1, if it left that in its report */
    int64_t started_ns, timeout_at_ns, kill_at_ns; /* 0: never */
    bool asks, answered;    /* it waits for its lineage */
};

struct workers {
    char *program;
    pid_t spawner; /* 0: not started yet */
    int epoll;
    struct source control;
    struct buf in;
    struct worker_template *templates;
    struct worker_run *runs;
    uint32_t next_id;
    bool polling;
};

/* -- descriptors in the set */

int source_open(struct workers *w, struct source *s, enum source_kind kind, int fd, void *owner, struct err *e);
void source_want_write(struct workers *w, struct source *s, bool wanted);
void source_close(struct source *s);
/* Appends what can be read now, at most `most` bytes and a chunk: 1 if the other end is gone. */
int worker_read_available(int fd, struct buf *in, size_t most);
void worker_drop(struct buf *b, size_t n); /* the first n bytes */

/* -- worker_way.c */

/* Takes a way of the template's for a run of it, or makes one; with `number` one that its template keeps. theirs[] are the ends of a
 * new one without a number: the caller's to send and close; -1 otherwise. */
int way_open(struct worker_run *r, bool numbered, int theirs[2], struct err *e);
/* The run is done with it: `reusable` if nothing is in it that a later run could take for its own. */
void way_close(struct worker_run *r, bool reusable);
void way_free(struct worker_way *w);

/* -- worker_template.c */

void spawner_read(struct workers *w);
/* The template for a plugin as it is on disk now, new or old. */
int template_for(struct workers *w, const char *plugin_path, unsigned kind, struct worker_template **out, struct err *e);
void template_read(struct worker_template *t);
/* The number of the class that a run belongs to, new or old. */
uint32_t template_class(struct worker_template *t, const struct worker_request *r);
/* A template that is gone is no error here: what it said before, or how it ended, will tell. */
int template_order(struct worker_template *t, const struct worker_order *o, const void *request, struct err *e);
void template_end(struct worker_template *t); /* kills it, with what runs in it */
bool template_gone(const struct worker_template *t);
void template_free(struct worker_template *t);
/* What follows from what was read: runs of a template that is gone are gone with it, and templates that nobody needs end. */
void templates_settle(struct workers *w);

#endif
