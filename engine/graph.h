/* graph.h: the whole data model: files, steps, and how they hang together.
 *
 * Ids index dense arrays; paths and names are interned once; everything lives in the graph's arena. The Lua host fills it, the
 * planner marks what is wanted, the build changes the states. It knows no plugin: that a step's roles and parameters fit is
 * found out when it is bound (bind.h).
 */
#ifndef ENGINE_GRAPH_H
#define ENGINE_GRAPH_H

#include "digest.h"
#include "state.h"
#include "value.h"

/* What is known of a file in this build. */
enum file_state { FILE_UNKNOWN, FILE_KNOWN };

struct file {
    const char *path;       /* relative to the repo's root, normalized, or absolute */
    uint32_t producer;      /* step, or NO_ID: a source */
    uint32_t output;        /* which of the producer's outputs */
    enum file_state state;  /* whether `stat` and `artifact` are what stands on disk now */
    bool recorded;          /* `recorded_stat` and `recorded_artifact` come from the database */
    bool secret;            /* never read */
    struct file_stat stat, recorded_stat;
    struct artifact artifact, recorded_artifact; /* type ARTIFACT_NONE: absent */
    struct artifact standing; /* what was found on disk; `artifact` may be what a plan expects there instead */
    uint32_t former;        /* record (index in graph.records) that says a step no longer in the rules made it, or NO_ID */
};

struct slot {
    const char *role;  /* as the rule says; "" if it didn't */
    uint32_t file;
    bool shared;       /* an output written "folder/": the step adds files to a folder that isn't its own (MB_ADDS) */
};

struct resources {
    int cpu;           /* 0: as many as the build may use */
    int gpu;
    uint64_t mem;      /* bytes, 0: no limit */
    uint32_t pool;     /* id in graph.pools, or NO_ID */
};

/* A step's way through a build; step_set_state knows which changes are allowed. */
enum step_state {
    STEP_UNWANTED, /* nobody asked for it */
    STEP_WAITING,  /* for steps that make its inputs */
    STEP_READY,    /* its inputs are settled: to be decided */
    STEP_QUEUED,   /* must run; waits for resources */
    STEP_RUNNING,  /* in a process */
    STEP_SETTLING, /* its outputs are being stored, or restored, by a job */
    STEP_BUILT, STEP_RESTORED, STEP_CURRENT, STEP_FAILED, STEP_SKIPPED /* done */
};

struct step {
    const char *name;
    const char *where;          /* "mbuild.lua:12" */
    const char *plugin;         /* "train", "family.step"; with plugin_file set: the artifact's name; "dynamic" until it is defined */
    uint32_t plugin_file;       /* the shared object, where it is made by a step; else NO_ID */
    struct value params;        /* as the rule gives them */
    struct slot *inputs, *outputs;
    uint32_t input_count, output_count;
    const char **env;           /* names of declared variables */
    uint32_t env_count;
    struct resources resources;
    uint32_t timeout_ms, retries;
    bool network;

    struct binding *binding;    /* what plugin, types and defaults make of it (bind.h); NULL until bound */
    struct state_record *record; /* what the database says it was last built from, or NULL */

    enum step_state state;
    uint32_t waiting;           /* producers not yet done */
    uint32_t *consumers;        /* steps that wait for it; filled for wanted steps */
    uint32_t consumer_count;
    bool planned_open;          /* a plan can't tell what it will make */
    bool planned_restore;       /* a plan would bring its outputs back from the store */
    bool dynamic, defined;      /* its rule is a function (rules.h): what it is made of is known once that has ended */
    uint32_t *needs;            /* steps that the function asked for; malloc'ed */
    uint32_t need_count, need_cap;
    bool needed;                /* such a function asked for this step */
    double remaining_s;         /* length of the longest way to the end, by history: the critical path */
    struct build_step *build;   /* what the build keeps of it while it is worked on */
};

/* A name that isn't a step: `alias "all" { … }`. */
struct alias {
    const char *name, *where;
    const char **names;         /* step names, aliases or paths */
    uint32_t count;
};

struct pool {
    const char *name;
    int size, used;
};

struct graph {
    struct arena arena;
    const char *root;           /* the repo's absolute path */
    struct intern paths;        /* id = index in files */
    struct file *files;
    uint32_t file_cap;
    struct intern names;        /* step and alias names; name_kind tells */
    uint32_t *name_index;       /* by name id: step index, or alias index with the highest bit set */
    uint32_t name_cap;
    struct step *steps;
    uint32_t step_count, step_cap;
    struct alias *aliases;
    uint32_t alias_count, alias_cap;
    struct pool *pools;
    uint32_t pool_count, pool_cap;
    const char *default_target; /* or NULL */
    const char *default_where;
    bool unknown_target;        /* graph_resolve met a name that is none */
    const char *project_name, *project_version; /* or NULL */
    const char **outside;       /* folders outside the repo that rules may name */
    uint32_t outside_count, outside_cap;
    struct intern inside;       /* folders that no link leads out of, as far as graph_check_links looked */
    struct state_record **records; /* all of the database's */
    uint32_t record_count, record_cap;
};

#define NAME_ALIAS 0x80000000u

/* `root` is the repo's absolute path, without a slash at its end. */
void graph_init(struct graph *g, const char *root);
void graph_free(struct graph *g);

/* Lets rules name what lies in a folder outside the repo. */
void graph_allow_outside(struct graph *g, const char *folder);

/* Whether `path` is `folder` or lies in it; both cleaned. */
bool graph_path_within(const char *path, const char *folder);

/* Refuses a path that leaves the repo by a symbolic link, in one of its folders or, with `itself`, at its end, unless it leads to
 * where rules may name files. */
int graph_check_links(struct graph *g, const char *path, bool itself, struct err *e);

/* Brings a path to its one form: no "./", "//", "x/..". Fails on an empty path, one that leaves the repo without being allowed, one of
 * more than 4095 bytes. The result is in g's arena. */
int graph_normalize(struct graph *g, const char *path, const char **out, struct err *e);

uint32_t graph_file(struct graph *g, const char *normalized_path);   /* its id, new or old */
uint32_t graph_find_file(const struct graph *g, const char *path);   /* NO_ID if nobody named it */

/* Adds an empty step; fails if the name is taken (both places named) or not a name. The pointer is valid until the next one is added. */
int graph_add_step(struct graph *g, const char *name, const char *where, uint32_t *index, struct err *e);
int graph_add_alias(struct graph *g, const char *name, const char *where, uint32_t *index, struct err *e);
/* Makes step `s` the producer of a file; fails if another is, or if outputs nest. */
int graph_set_output(struct graph *g, uint32_t s, uint32_t slot, struct err *e);
uint32_t graph_pool(struct graph *g, const char *name); /* new pools have size 1 */

uint32_t graph_find_step(const struct graph *g, const char *name); /* NO_ID if no step has the name */
/* The step that makes a file: its producer, or that of a folder above it which is an output. NO_ID: a source. */
uint32_t graph_producer(const struct graph *g, uint32_t file);

/* After all rules are in: an output inside another output, or inside a folder that some step takes as a source, is an error. */
int graph_check(struct graph *g, struct err *e);

/* Loads what the database knows: file digests, records; marks files that a removed step made. */
int graph_load_state(struct graph *g, struct state *s, struct err *e);

/* Resolves what a user typed (step, alias, output path, source path) to steps, appended to *out (free it). A plain source
 * file adds nothing. Unknown: an error with the nearest name. */
int graph_resolve(struct graph *g, const char *target, uint32_t **out, uint32_t *count, uint32_t *cap, struct err *e);

/* Marks the steps and all that they need as STEP_WAITING, fills consumers and waiting counts, and *order (producers before
 * consumers; free it). A cycle is an error that shows its path. */
int graph_want(struct graph *g, const uint32_t *steps, uint32_t count, uint32_t **order, uint32_t *order_count, struct err *e);

/* The same while a build is under way, for what `step` was found to need since: appends steps that nobody wanted before to *order (with room
 * for *cap) and sets the step's waiting count. */
int graph_want_more(struct graph *g, uint32_t step, uint32_t **order, uint32_t *count, uint32_t *cap, struct err *e);

/* The i-th step that a step depends on: NO_ID where that is a source; false past the last. */
bool graph_dependency(const struct graph *g, uint32_t step, uint32_t i, uint32_t *out);

/* Notes that a dynamic rule asked for a step. */
void graph_add_need(struct graph *g, uint32_t step, uint32_t need);

/* Changes a step's state; an impossible change is a bug and ends the program. */
void step_set_state(struct step *s, enum step_state state);
bool step_done(const struct step *s);
bool step_succeeded(const struct step *s);

#endif
