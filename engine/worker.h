/* worker.h: runs plugin code, always in another process.
 *
 * A *spawner*, a small program of its own (worker_main.c), is started with the first plugin. For each plugin it forks a
 * *template* that loads the shared object once; the template forks a process for each step. So a step costs one fork of a small
 * process, never an exec, and a plugin's code never runs in the engine. Templates and spawner end when the engine does,
 * however it dies; so do steps (PR_SET_PDEATHSIG), and each step has a process group of its own that ends with it.
 * What a step says travels as messages over a socket; its stdout and stderr go by a pipe into its log.
 */
#ifndef ENGINE_WORKER_H
#define ENGINE_WORKER_H

#include "err.h"
#include "mem.h"
#include "sandbox.h"
#include <stdbool.h>

struct workers;
struct worker_run; /* one step that runs */

/* `program`: libexec/mbuild-worker, which is started once a plugin is needed. */
int workers_start(const char *program, struct workers **out, struct err *e);
void workers_stop(struct workers *w); /* kills what still runs */

/* Loads a plugin in a process apart, checks its descriptor (magic, ABI version, sizes, malformed schemas, twin names, defaults that don't
 * fit their type) and appends it as JSON, the form in docs/design.md "Descriptors":
 * {"abi":[1,0],"name","version","help","libraries":[paths of the shared objects beside it or in our own lib folder that it loaded],
 *  "steps":[{"name","help","flags":N,"hooks":["check","fingerprint","explain"],
 *            "roles":[{"name","flags":N,"kind"?,"help"}],
 *            "params":[{"name","type":"int","flags":N,"default"?:VALUE,"least"?,"most"?,"choices"?:[…],"element"?,"fields"?:[…],"unit"?,"help"}]}],
 *  "commands":[{"name","usage","help","options":[params]}]}
 * Fails with one message that names the file: not found, not a shared object (dlerror's text), no symbol `mbuild_plugin`, another ABI, a
 * crash or hang (10 s) while loading. The plugin's path may have been rebuilt since an earlier call: a template belongs to (path, stat). */
int worker_describe(struct workers *w, const char *plugin_path, struct buf *json, struct err *e);

enum worker_hook { WORKER_RUN, WORKER_CHECK, WORKER_FINGERPRINT, WORKER_EXPLAIN };

struct worker_path {
    const char *role;
    const char *path;   /* where the step reads or writes */
    const char *name;   /* path in the repo; inputs: only where the role is MB_NAMED, otherwise NULL */
    const char *digest; /* inputs: hex, or NULL */
};

struct worker_request {
    enum worker_hook hook;
    const char *plugin_path, *step; /* the plugin's file, the step's name within it */
    const char *label;              /* the rule's name for it, for messages */
    const char *params;             /* canonical JSON with the defaults filled in, already checked against the schema */
    const struct worker_path *inputs, *outputs; /* an output of a role with MB_ADDS: path is a folder for new files */
    uint32_t input_count, output_count;
    const char *temp_folder;        /* in the private folder, which exists; made when the step asks for it */
    const char *checkpoint_folder;  /* exists; may be NULL */
    const char *device;             /* "cpu" or "cuda" */
    int cpus;
    uint64_t memory;                /* bytes, 0: no limit; enforced by RLIMIT_DATA unless on a GPU */
    const char *const *env;         /* pairs name, value (value NULL: unset), then NULL */
    uint32_t timeout_ms;            /* 0: none */
    bool dry_run;
    enum sandbox_mode sandbox;      /* around WORKER_RUN: inputs are read, outputs and the two folders written, no more; see sandbox.h */
    bool network;                   /* the rule allows it */
    const char *const *may_read;    /* paths besides the inputs, then NULL; or NULL */
    bool self_contained;            /* WORKER_RUN: its plugin says MB_SELF_CONTAINED */
    bool warm;                      /* WORKER_RUN: a process may serve it that served others like it, and stays for the next */
    const char *makeflags;          /* MAKEFLAGS, or NULL */
    int jobserver[2];               /* descriptors that it speaks of, which the step gets under the same numbers; equal: none */
    const char *log_path;           /* made, with its folder, when the first byte is written; NULL: discard. Cut at 64 MiB with a note */
    const char *explain_role, *before, *after; /* WORKER_EXPLAIN */
    void *tag;                      /* the caller's own */
};

enum worker_outcome { WORKER_OK, WORKER_FAILED, WORKER_CRASHED, WORKER_TIMED_OUT, WORKER_NO_MEMORY, WORKER_CANCELLED };

struct worker_result {
    enum worker_outcome outcome;
    const char *message;    /* one clear sentence unless OK: what the step said by fail(), or "crashed: SIGSEGV …", "ran past its timeout of 2 s
                               and was ended", "was killed by SIGKILL: probably out of memory (peak 3.9 GiB; its limit is 4 GiB)" … */
    const char *tail;       /* the last lines of its output, at most 20 lines and 4 KiB; "" if none */
    bool logged;            /* log_path was made */
    double seconds, user_seconds, system_seconds;
    uint64_t peak_bytes;
    uint32_t warm;          /* which step of a warm process it was, from 1; 0: it had a process of its own */
};

/* What workers_poll reports. Strings live until the handler returns. */
enum worker_event_type { WORKER_LOG, WORKER_PROGRESS, WORKER_METRIC, WORKER_DISCOVERED, WORKER_FINGERPRINT_TEXT, WORKER_WATCH,
                         WORKER_ADDED, WORKER_LINEAGE, WORKER_FINISHED };
struct worker_event {
    enum worker_event_type type;
    struct worker_run *run;
    void *tag;
    int level;               /* LOG: enum mb_level */
    const char *text;        /* LOG line, PROGRESS text or NULL, METRIC name, DISCOVERED, WATCH path, FINGERPRINT text, ADDED: the new file's name */
    const char *role;        /* ADDED, LINEAGE */
    uint32_t index;          /* LINEAGE: which input; answer with worker_answer before the handler returns */
    double done, total;      /* PROGRESS; METRIC: done is the value */
    struct worker_result result; /* FINISHED: the run is gone after the handler returns */
};

/* Starts a step (or another hook). The request is copied as far as needed. */
int worker_start(struct workers *w, const struct worker_request *r, struct worker_run **out, struct err *e);

/* Readable (poll, epoll) when workers_poll has something to do. */
int workers_fd(struct workers *w);
/* Ends the warm processes that are idle: they hold memory, on a GPU too. */
void workers_cool(struct workers *w);
/* Milliseconds until a timeout or grace period ends, or -1: the longest that a caller may sleep. */
int workers_wait_ms(struct workers *w);
/* Handles what is there, without waiting. */
int workers_poll(struct workers *w, void (*handle)(void *ctx, const struct worker_event *ev), void *ctx, struct err *e);

void worker_answer(struct worker_run *r, const char *json);
/* Tells the step to stop (mb_host.cancelled, SIGTERM to its group); after `grace_ms` its whole group is killed. It still
 * reports FINISHED. */
void worker_cancel(struct worker_run *r, uint32_t grace_ms);

/* Runs a hook and waits for it, for check, fingerprint and explain; `handle` gets its events. */
int worker_call(struct workers *w, const struct worker_request *r, void (*handle)(void *ctx, const struct worker_event *ev), void *ctx,
                struct err *e);

/* Runs a plugin's subcommand in the foreground, in a process of its own with this one's terminal, and returns its exit
 * status (2 for a crash, with a message); argv[0] is the command's name; `options` JSON, checked. */
int worker_command(struct workers *w, const char *plugin_path, const char *command, const char *options, int argc, char **argv,
                   const char *const *env, struct err *e);

#endif
