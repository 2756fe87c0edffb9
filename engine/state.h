/* state.h: what must last, in SQLite (`.mbuild/state.db`, WAL): file digests by stat, what each step was last built
 * from, which outputs a key gave (the action cache), past runs, plugin descriptors.
 *
 * Writes are gathered in one transaction that state_commit ends; a killed build loses what came after its last commit, and
 * nothing else. A power cut may take the last commits with it, never the file. Structs handed out point into the caller's arena. Main
 * thread only; an `each` may write, but not call the function that calls it.
 *
 * Errors name the file, what SQLite says and what to do. A row that isn't as it was written (types, lengths, a checksum) is passed over as
 * if it weren't there. Damage that is met after opening is an error, and state_close then moves the file aside.
 */
#ifndef ENGINE_STATE_H
#define ENGINE_STATE_H

#include "digest.h"
#include "value.h"

struct state;

/* Opens or creates it. An older layout is migrated, a newer one refused with advice. A damaged database is moved
 * aside (state.db.damaged) with a warning in *note (free it): everything can be rebuilt. `read_only` opens what is there without
 * writing, also where the folder can't be written; an absent or damaged one counts as empty. What it shows is one moment, however long
 * it is open. */
int state_open(const char *path, bool read_only, struct state **out, char **note, struct err *e);
void state_abandon(struct state *s); /* takes back what was written since the last commit */
int state_commit(struct state *s, struct err *e); /* ends the transaction, begins the next; cheap when nothing was written */
void state_close(struct state *s);                /* commits */

/* -- Files: the digest that a file had when its stat was this. */
struct state_file {
    const char *path;
    struct file_stat stat;
    struct artifact artifact;
};
/* Calls `each` for every recorded file. Those whose stat was `fresh` (sys.h) are not recorded by state_put_file: a later write could
 * go unseen. */
int state_each_file(struct state *s, void (*each)(void *ctx, const struct state_file *f), void *ctx, struct err *e);
int state_put_file(struct state *s, const struct state_file *f, struct err *e);

/* -- Steps: what the outputs now in the workspace were built from; by step name. */
struct state_input {
    const char *role, *path;  /* role "" for a discovered input */
    struct artifact artifact;
};
struct state_output {
    const char *role, *path;
    struct artifact artifact;
};
struct state_record {
    const char *step;            /* name */
    struct digest key;
    struct digest plugin;        /* digest */
    const char *plugin_name;     /* "train" or "family.step" */
    const char *plugin_version;
    const char *params;          /* canonical JSON */
    const char *env;             /* canonical JSON object of the declared values, fingerprint under "" */
    struct state_input *inputs;  /* declared ones, then discovered */
    uint32_t input_count;
    struct state_output *outputs;
    uint32_t output_count;
    const char *metrics;         /* JSON object */
    double seconds;              /* that it took when it ran */
    uint64_t peak_bytes;
    int64_t built_ms;            /* wall clock */
    int64_t run_id;              /* the run that built it */
};
int state_get_record(struct state *s, const char *step, struct arena *a, struct state_record **out, struct err *e); /* NULL if none */
int state_each_record(struct state *s, struct arena *a, void (*each)(void *ctx, struct state_record *r), void *ctx, struct err *e);
int state_put_record(struct state *s, const struct state_record *r, struct err *e); /* replaces the step's */
int state_drop_record(struct state *s, const char *step, struct err *e);

/* -- Actions: outputs by key, for going back. One key may have several, which differ in discovered inputs; the newest is
 * first. `step` in the record is the step that made it. The key here is the one over declared inputs alone. */
int state_each_action(struct state *s, const struct digest *key, struct arena *a,
                      bool (*each)(void *ctx, struct state_record *r), void *ctx, struct err *e); /* until `each` says true */
int state_put_action(struct state *s, const struct state_record *r, struct err *e);
int state_drop_action(struct state *s, const struct digest *key, struct err *e);
/* Every artifact that a record or action names: the roots of the store. */
int state_each_artifact(struct state *s, void (*each)(void *ctx, const struct artifact *a), void *ctx, struct err *e);
/* Forgets actions not used by a record and older than this. */
int state_prune_actions(struct state *s, int64_t older_than_ms, uint32_t *dropped, struct err *e);

/* -- Durations by step name, for the critical path and the time left; kept when a record goes. 0 if never run. */
double state_get_duration(struct state *s, const char *step);
bool state_keeps_durations(struct state *s); /* whether it knows any of a step that has no record */

/* -- Runs. The rows of the last million steps are kept, those of runs all. */
struct state_run {
    int64_t id, started_ms;
    double seconds;            /* -1: never ended (killed) */
    const char *command;       /* as typed */
    int status;                /* exit status; -1: never ended */
    uint32_t built, restored, current, failed, skipped;
};
struct state_run_step {
    int64_t run_id;
    const char *step, *status; /* built, restored, failed, skipped */
    struct digest key;
    double seconds;
    const char *log, *message, *params, *metrics; /* log: path of the step's log or NULL */
};
/* Commits, so that a build which is killed at once is in the history and its id, which names a folder of logs, is not used again. */
int state_begin_run(struct state *s, const char *command, int64_t *id, struct err *e);
int state_end_run(struct state *s, const struct state_run *r, struct err *e);
int state_put_run_step(struct state *s, const struct state_run_step *r, struct err *e);
/* Newest first; step NULL: all. */
int state_each_run(struct state *s, uint32_t most, struct arena *a, void (*each)(void *ctx, const struct state_run *r), void *ctx,
                   struct err *e);
int state_each_run_step(struct state *s, int64_t run_id, const char *step, uint32_t most, struct arena *a,
                        void (*each)(void *ctx, const struct state_run_step *r), void *ctx, struct err *e); /* run_id 0: all runs */

/* -- Small things by name: plugin descriptors by digest ("plugin:HEX"), checked parameters ("check:HEX"). Value: text. */
int state_get_note(struct state *s, const char *name, struct arena *a, const char **value, struct err *e); /* NULL if none */
int state_put_note(struct state *s, const char *name, const char *value, struct err *e);

#endif
