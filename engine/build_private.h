/* build_private.h: what the files of the build share. */
#ifndef ENGINE_BUILD_PRIVATE_H
#define ENGINE_BUILD_PRIVATE_H

#include "build.h"

/* One output on its way from the step's private folder to its place. */
struct placed {
    const char *role;
    const char *private_path; /* NULL when it comes from the store */
    const char *path;         /* in the repo */
    uint32_t file;
    bool added;               /* to a shared folder: replaces nothing */
    bool folder;              /* the role says that it is one */
    bool stands;              /* restoring: it already is there */
    struct file_stat made;    /* of the private path, when the step had ended */
    struct artifact artifact;
};

/* What the build keeps of a step that is worked on; freed when the step is done. */
struct build_step {
    struct build *build;
    uint32_t step;
    struct arena arena;
    struct decision decision;
    const char *folder;       /* .mbuild/tmp/N, or NULL */
    const char *checkpoint, *log;
    struct worker_run *run;
    uint32_t attempt;
    struct placed *outputs;
    uint32_t output_count, output_cap;
    const char **discovered;
    uint32_t discovered_count, discovered_cap;
    const char **metric_names;
    double *metric_values;
    uint32_t metric_count, metric_name_cap, metric_value_cap;
    const char *lineage;      /* the last answer, kept until the step is done */
    int cpu;                  /* held while it runs, as are … */
    uint64_t gpus;            /* … these */
    uint64_t mem;
    struct placed *first;     /* --check-repro: what the first of two runs made, in first_folder */
    uint32_t first_count;
    const char *first_folder;
    bool logged;
    double seconds;
    int64_t started_ns;          /* wall clock: what it found while running must be older */
    uint64_t peak_bytes;
    uint32_t warm;               /* as in struct worker_result */
    /* of the settling job */
    int status;
    bool corrupt;
    struct err error;
};

struct build {
    struct session *session;
    uint32_t *order;          /* grows when a dynamic rule asks for more */
    uint32_t count, order_cap;
    uint32_t *ready;          /* steps in STEP_READY: a ring as large as the order */
    uint32_t ready_head, ready_count, ready_size;
    uint32_t *queue;          /* steps in STEP_QUEUED: a heap, the longest way to the end first */
    uint32_t queue_count;
    uint32_t running, settling, done;
    int cpu_free, gpu_free, cpu_used;
    int tokens;               /* held of the jobserver's */
    bool starved;             /* a step would fit if there were a token for it */
    uint64_t mem_free;
    bool stopping;            /* nothing new starts */
    bool interrupted;
    uint32_t sequence;        /* for folder names */
    struct ui_summary summary;
    double estimate_s;        /* seconds of work left, by history */
    int64_t committed_ns;
    struct err *fatal;        /* mbuild itself failed */
    bool failed;
};

/* build_step.c: one step's way */
struct build_step *build_step_new(struct build *b, uint32_t step);
void build_step_free(struct build_step *bs);
int build_step_start(struct build_step *bs, struct err *e);      /* makes its folders, sends the request */
void build_step_event(struct build_step *bs, const struct worker_event *ev);
int build_step_check_found(struct build_step *bs, struct err *e); /* before that: no other step may make what it found */
int build_step_record(struct build_step *bs, bool ran, struct err *e); /* after its outputs are in place */

/* settle.c: jobs */
void settle_built(void *build_step);    /* work: checks, stores and places what the step made */
void settle_restored(void *build_step); /* work: brings outputs from the store */
int settle_inputs_unchanged(struct build_step *bs, struct err *e);

/* build_repro.c: --check-repro */
bool repro_run_again(struct build_step *bs);                    /* after a run that ended well: whether a second is due; keeps what the first made */
int repro_compare(const struct build_step *bs, struct err *e);  /* on a job's thread: the two runs' outputs */

/* build.c */
void build_finish_step(struct build *b, uint32_t step, enum step_state state, const struct ui_finish *finish);
void build_make_ready(struct build *b, uint32_t step);
void build_skip_consumers(struct build *b, uint32_t failed);

/* build_dynamic.c: goes on with the function that defines a step in STEP_READY. Afterwards it waits for what the function asked for, or is
 * ready to be decided, or has failed. */
void build_define(struct build *b, uint32_t step);

/* lineage.c: JSON of where a file comes from; in `arena` */
const char *lineage_of(struct session *s, uint32_t file, struct arena *arena);

#endif
