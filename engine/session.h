/* session.h: one call of mbuild in one repo: the graph and everything that works on it, tied together. */
#ifndef ENGINE_SESSION_H
#define ENGINE_SESSION_H

#include "gpus.h"
#include "graph.h"
#include "jobs.h"
#include "jobserver.h"
#include "plugins.h"
#include "rules.h"
#include "state.h"
#include "store.h"
#include "ui.h"
#include "worker.h"

/* What the command line says about a build; one row each in options.c. */
struct options {
    const char *directory, *file;
    int jobs;                 /* 0: as many as processors */
    bool keep_going, dry_run, always, question, verbose, silent;
    bool explain, json, check_repro;
    const char *trace, *device, *sandbox;
    enum ui_color color;
    const char **settings;    /* name=value */
    uint32_t setting_count;
    const char **targets;
    uint32_t target_count;
    const char *command_line; /* as typed, for the history */
};

/* A word as a shell reads it, quoted if need be; and the command that asks for one target with the same folder, rules and settings. */
void options_add_word(struct buf *out, const char *word);
void options_add_again(struct buf *out, const struct options *o, const char *target);

struct session {
    const struct options *options;
    const char *home;         /* the folder above bin/ that this program runs from */
    const char *root;         /* the repo, absolute; also the current folder */
    struct graph graph;
    struct rules_options rules_options;
    struct rules *rules;      /* the Lua host, where dynamic rules may go on; or NULL */
    struct rules_seen seen;
    struct state *state;
    struct store *store;
    struct workers *workers;
    struct plugins plugins;
    struct jobs *jobs;
    struct jobserver *jobserver;
    struct ui *ui;
    const char *device;       /* "cpu" or "cuda" */
    int cpus, gpus;           /* what the scheduler may hand out */
    struct gpus gpu_list;     /* which these are */
    uint64_t memory;          /* likewise, in bytes */
    int lock_fd;              /* -1: none */
    bool read_only;           /* nothing is written: -n, -q, status, why … */
    bool unwritable;          /* nothing can be written, so it is read_only, although it was to be otherwise; why: */
    struct err unwritable_why;
    int64_t run_id;
    int64_t started_ns;       /* wall clock, since 1970 */
    const char **watched;     /* files whose stat decides whether fingerprints are asked for again */
    uint32_t watched_count, watched_cap;
};

/* In three parts, for those who may not need them all. Begin: finds the repo, forks the spawner, and takes the lock unless `read_only`
 * (waiting for another mbuild, and saying for whom). Load: opens state and store. Evaluate: runs the rules and loads what
 * the database knows. session_close is due after any of them, failed or not. In a repo where nothing may be written, session_begin succeeds
 * with `unwritable`: a build with nothing to do needs no more. */
int session_begin(struct session *s, const struct options *o, bool read_only, struct err *e);
int session_load(struct session *s, struct err *e);
int session_evaluate(struct session *s, struct err *e);

/* All three. */
int session_open(struct session *s, const struct options *o, bool read_only, struct err *e);
void session_close(struct session *s);

/* The folder that `bin/` lies in, from /proc/self/exe; malloc'ed. */
char *session_home(struct err *e);
/* The program that runs steps, in that folder; malloc'ed. */
char *session_worker(const char *home);

/* Whether a name is that of a subcommand, so that no target may have it. */
bool session_is_command(const char *name);

/* The steps that the user asked for: targets, the default, or all steps that nothing else needs. *order is freed by the caller. */
int session_want(struct session *s, uint32_t **order, uint32_t *count, struct err *e);

/* Adds a file whose change asks for fingerprints again. */
void session_watch(struct session *s, const char *path);

#endif
