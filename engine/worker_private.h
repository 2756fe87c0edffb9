/* worker_private.h: what the files of the worker share.
 *
 *     worker.c           the engine's side: runs, events, timeouts
 *     worker_template.c  the engine's side: spawner and templates
 *     worker_way.c       the engine's side: sockets and pipes to steps
 *     worker_result.c    what became of a step, in words
 *     worker_spawner.c   the spawner and the templates: processes that fork others and see them end
 *     worker_step.c      a step's process: its surroundings, then its code
 *     worker_lean.c      the same for a self-contained step; see worker_lean.h
 *     worker_warm*.c     processes that serve one step after another; see worker_warm.h
 *     worker_host.c      the host table that a plugin calls, worker_params.c its parameters
 *     worker_describe.c  loading a plugin and checking what it says of itself
 *     worker_command.c   a plugin's subcommand in the foreground
 *     worker_protocol.c  messages, worker_log.c logs
 *     worker_main.c      the program that spawner, templates and steps are
 */
#ifndef ENGINE_WORKER_PRIVATE_H
#define ENGINE_WORKER_PRIVATE_H

#include "cgroup.h"
#include "value.h"
#include "worker_protocol.h"
#include <mbuild/plugin.h>
#include <sys/types.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SHADOW_MEMORY 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SHADOW_MEMORY 1
#endif
#endif
#ifndef SHADOW_MEMORY
#define SHADOW_MEMORY 0 /* 1: a sanitizer's own mappings count as data, so RLIMIT_DATA can't be used */
#endif

/* What a template is for, besides its plugin. Steps of one that is offline have no network; in one for self-contained steps, what lost its parent is
 * no step's. */
enum template_kind { TEMPLATE_OFFLINE = 1, TEMPLATE_SELF_CONTAINED = 2 };

/* -- orders: what the engine tells spawner and templates, with descriptors if need be; each sent and received whole */

enum order_kind {
    ORDER_TEMPLATE, /* to the spawner: fork template `id`; its end of the control socket, a file for what it prints */
    ORDER_END,      /* to the spawner: kill template `id` */
    ORDER_DESCRIBE, /* to a template */
    ORDER_RUN,      /* to a template: fork run `id`; its socket, its log, and two descriptors of a jobserver or none */
    ORDER_SIGNAL,   /* to a template: signal `argument` to the group of run `id` */
    ORDER_COOL,     /* to a template: end the warm processes that are idle */
    ORDER_WAY       /* to a template: way `way` is now these two, a socket and a log; see worker_lean.h */
};
#define ORDER_FDS 4
struct worker_order {
    uint32_t kind, id;
    int32_t argument;    /* ORDER_SIGNAL: the signal; ORDER_RUN: 1 if the step is to be in a sandbox */
    uint32_t way;        /* ORDER_WAY; ORDER_RUN with `bytes` */
    uint32_t bytes;      /* ORDER_RUN: of the request, which follows on the socket; 0: it comes by the run's own */
    uint32_t warm;       /* ORDER_RUN: its class if it may share a process with others, or 0 */
    uint64_t memory;     /* ORDER_RUN: the limit of the run as a whole, in bytes; 0: none */
    int32_t fd_count;
    int fds[ORDER_FDS]; /* after receiving: the receiver's, or -1 */
};
/* With o->bytes of `request` behind it. -1 and errno; EAGAIN where the socket doesn't wait. */
int worker_order_send(int socket, const struct worker_order *o, const void *request);
int worker_order_receive(int socket, struct worker_order *o);       /* 1: received; 0: the other end is gone */

/* What the spawner tells the engine: a template has ended, and so has all that it started. */
struct worker_note {
    uint32_t id;
    int32_t wait_status;
};

/* -- worker_spawner.c */

#define WORKER_CONTROL 3 /* the descriptor under which the program finds its socket to the engine */
_Noreturn void spawner_main(int control);
/* Sends bytes on a socket that waits; false if the other end is gone. */
bool worker_send_all(int socket, const void *bytes, size_t n);
/* Receives the next message on a socket that waits: 1, 0 at the end, or -1 with an error. *in keeps what came too early. */
int worker_receive(int socket, struct buf *in, size_t *used, struct message *m, struct err *e);

/* -- worker_step.c: what a template's child does; never returns */

struct step_start {
    const struct mb_plugin *plugin;
    const char *plugin_path;
    int fds[ORDER_FDS]; /* as ORDER_RUN brings them: socket, log, a jobserver's two or -1 */
    pid_t parent;
    struct sandbox *sandbox; /* NULL: the kernel has none, or this step wants none */
    const struct cgroup_place *groups; /* where `group` is, which the process enters first; NULL: none */
    const char *group;
    bool offline;            /* the template has no network, and so no step of its */
    const char *folder;      /* the current one */
    char **environment;      /* the template's */
};
_Noreturn void step_main(const struct step_start *s);
/* Its parts, of which warm processes are made too. */
void step_begin(const struct step_start *s); /* sees to its end */
void step_receive(int socket, struct worker_request *r, struct arena *a);
char **step_environment(const struct step_start *s, const struct worker_request *r, struct arena *a); /* lies in the arena */
int step_limit_memory(const struct worker_request *r, struct err *e);
struct sandbox_rules step_sandbox_rules(const struct step_start *s, const struct worker_request *r, bool wide, struct arena *a);
/* Gives the step 0 from nowhere, 1 and 2 into its log, a jobserver's two under the numbers that MAKEFLAGS names, and behind all of these
 * its socket and *other (unless NULL), and closes everything else. Programs that it executes inherit all but these two. */
int step_arrange_descriptors(const struct step_start *s, const struct worker_request *r, int *socket, int *other, struct err *e);
int step_report_failure(int socket, const char *text); /* an exit status */
/* What signals do by themselves; in the template, so that its steps, which inherit it, needn't. */
void step_reset_signals(void);
/* Leaves of the environment what every step may see. */
void step_clean_environment(void);

/* -- worker_describe.c */

/* Loads a plugin and checks all that it declares. */
int plugin_open(const char *path, const struct mb_plugin **out, struct err *e);
void plugin_describe(const struct mb_plugin *p, const char *path, struct buf *json); /* of a checked one */
/* Entries by the sizes that the plugin was compiled with: what it doesn't know is zero. False at the end of the array. */
bool plugin_step_at(const struct mb_plugin *p, size_t i, struct mb_step *out);
bool plugin_command_at(const struct mb_plugin *p, size_t i, struct mb_command *out);
bool plugin_role_at(const struct mb_plugin *p, const struct mb_role *roles, size_t i, struct mb_role *out);
bool plugin_param_at(const struct mb_plugin *p, const struct mb_param *params, size_t i, struct mb_param *out);

/* -- worker_host.c */

/* Where a step leaves what came of it, if it has no message. */
struct step_report {
    uint32_t run;    /* whose it is */
    uint32_t said;   /* the same, once it is */
    uint32_t status; /* enum mb_status */
};
/* Runs a hook and says what came of it on `socket`, or in `report` (may be NULL); true if all is well. */
bool host_run_step(const struct mb_plugin *p, const struct worker_request *r, int socket, struct step_report *report);
/* Runs a subcommand; returns its exit status. */
int host_run_command(const struct mb_plugin *p, const struct mb_command *c, const struct worker_request *r, int argc, char **argv);

/* -- worker_result.c */

struct worker_end {
    bool started;            /* otherwise only `message` tells */
    int wait_status;
    bool said;               /* a result message came */
    int said_status;
    const char *said_text;   /* or NULL */
    const char *protocol;    /* what was wrong with its messages, or NULL */
    bool timed_out, cancelled, killed; /* killed: by us */
    bool lost;               /* its template ended before it */
    uint32_t timeout_ms;
    uint64_t memory, peak_bytes;
    uint64_t kills;          /* processes that the kernel killed at the limit of memory of the step as a whole */
    bool cuda;
    bool confined, offline;  /* by the sandbox: to its files; without network */
    const char *tail;        /* the end of what it printed */
};
/* The outcome, and the message that tells of it unless all is well. */
enum worker_outcome worker_judge(const struct worker_end *end, struct buf *message);
void worker_add_signal(struct buf *out, int signal); /* "SIGSEGV (it read or wrote memory that isn't its own)" */

#endif
