/* session.h: one call of mbuild in one repo: the graph and everything that works on it, tied together. */
#ifndef ENGINE_SESSION_H
#define ENGINE_SESSION_H

#include "graph.h"
#include "jobs.h"
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

struct session {
    const struct options *options;
    const char *home;         /* the folder above bin/ that this program runs from */
    const char *root;         /* the repo, absolute; also the current folder */
    struct graph graph;
    struct rules_seen seen;
    struct state *state;
    struct store *store;
    struct workers *workers;
    struct plugins plugins;
    struct jobs *jobs;
    struct ui *ui;
    const char *device;       /* "cpu" or "cuda" */
    int cpus, gpus;           /* what the scheduler may hand out */
    uint64_t memory;          /* likewise, in bytes */
    int lock_fd;              /* -1: none */
    bool read_only;           /* nothing is written: -n, -q, status, why … */
    int64_t run_id;
};

/* Finds the repo, forks the spawner, takes the lock unless `read_only` (waiting for another mbuild, and saying for whom), opens
 * state and store, evaluates the rules and loads what the database knows. */
int session_open(struct session *s, const struct options *o, bool read_only, struct err *e);
void session_close(struct session *s);

/* The folder that `bin/` lies in, from /proc/self/exe; malloc'ed. */
char *session_home(struct err *e);

/* Whether a name is that of a subcommand, so that no target may have it. */
bool session_is_command(const char *name);

/* The steps that the user asked for: targets, the default, or all steps that nothing else needs. *order is freed by the caller. */
int session_want(struct session *s, uint32_t **order, uint32_t *count, struct err *e);

#endif
