/* plugin.h: the step ABI of mbuild, all that a plugin needs.
 *
 * A plugin is a shared object that exports one symbol, a pointer to a static descriptor (see
 * MB_PLUGIN). The descriptor lists steps, what a rule file may ask for, and commands, what a user
 * may type after `mbuild`. The engine reads the descriptor in a process apart, checks its version
 * before it calls anything, and runs every step in a process of its own: a plugin may crash, leak or
 * loop without harm to anything but its own step.
 *
 * A plugin links against nothing of the engine. What it needs it gets by the host table, `struct
 * mb_host`, whose functions take the run that they speak of.
 *
 * Growth: every struct here only grows at its end, and the sizes that a plugin was compiled with stand
 * in its descriptor (MB_PLUGIN_HEAD). An engine accepts a plugin of the same major version whose
 * minor version is not newer than its own. Before calling a host function that came with a later
 * minor version than the plugin asks for, compare `host->size`.
 *
 * Memory belongs to whoever allocated it. Strings that the host returns live until `run` returns;
 * nothing crosses this interface that the other side must free.
 *
 * Threads: [main] functions may only be called on the thread that `run` was called on; [any] from
 * any thread of the step.
 */
#ifndef MBUILD_PLUGIN_H
#define MBUILD_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MB_PLUGIN_MAGIC 0x4c42504du /* "MPBL" in memory */
#define MB_ABI_MAJOR 1
#define MB_ABI_MINOR 1 /* 1: MB_REENTRANT, MB_SLOW_START, MB_SELF_CONTAINED */

/* What a step's functions return. */
enum mb_status {
    MB_OK = 0,
    MB_FAILED = 1,   /* after mb_host.fail, whose value this is */
    MB_CANCELLED = 2 /* the step saw mb_host.cancelled and stopped early */
};

enum mb_type {
    MB_BOOL = 1,
    MB_INT,    /* 64 bits, signed */
    MB_FLOAT,  /* binary64; a rule file may write an integer */
    MB_STRING, /* UTF-8 */
    MB_ENUM,   /* a string out of `choices` */
    MB_LIST,   /* of `element` */
    MB_TABLE,  /* with the keys in `fields`; with fields NULL, any string keys to any values */
    MB_ANY     /* any of these; for what the step checks by itself */
};

/* Flags of a parameter. */
enum {
    MB_REQUIRED = 1 << 0, /* the rule must give it; otherwise `deflt` or, without one, absent */
    MB_UNKEYED = 1 << 1   /* does not change what the step makes, so it is not part of the step's key */
};

/* One parameter of a step, one option of a command. Arrays of these end with an entry whose name is
 * NULL. `least` and `most` bound numbers, the elements of a list of numbers, and are not looked at
 * when both are 0. */
struct mb_param {
    const char *name;
    enum mb_type type;
    unsigned flags;
    const char *deflt;               /* as JSON text: "0.001", "\"adam\"", "[64, 64]"; NULL: none */
    double least, most;              /* inclusive */
    const char *const *choices;      /* MB_ENUM, or MB_LIST of MB_ENUM: NULL-terminated */
    enum mb_type element;            /* MB_LIST: the type of each element; 0 means MB_ANY */
    const struct mb_param *fields;   /* MB_TABLE, or MB_LIST of MB_TABLE: what a table may hold */
    const char *unit;                /* "epochs", "bytes"; may be NULL */
    const char *help;                /* one line */
};

/* Flags of a role. Just one of MB_INPUT and MB_OUTPUT must be set. */
enum {
    MB_INPUT = 1 << 0,
    MB_OUTPUT = 1 << 1,
    MB_FOLDER = 1 << 2,   /* output: a folder that the step fills. Input: a folder is expected */
    MB_OPTIONAL = 1 << 3, /* the rule may leave it out */
    MB_MANY = 1 << 4,     /* any number, 0 too where optional; each may be a file or a folder */
    MB_NAMED = 1 << 5,    /* the paths in the repo matter to what is made, so they are part of the key */
    MB_SECRET = 1 << 6,   /* input: never hashed, stored or logged; see mb_step.fingerprint */
    MB_ADDS = 1 << 7      /* output: a folder shared with other steps and other builds; this step adds
                             files whose names it picks (mb_host.output_add), and never alters others */
};

/* An input or output of a step. Arrays of these end with an entry whose name is NULL. `kind` is a word
 * for what is in it ("model", "dataset", "metrics"): where an output of one kind is given to an
 * input of another, the rule file is refused; NULL fits everything. */
struct mb_role {
    const char *name;
    unsigned flags;
    const char *kind;
    const char *help; /* one line */
};

/* Flags of a step. */
enum {
    MB_DETERMINISTIC = 1 << 0,   /* the same key gives the same bytes (--check-repro relies on it) */
    MB_NETWORK = 1 << 1,         /* needs the network */
    MB_RESUMABLE = 1 << 2,       /* keeps checkpoints: mb_host.checkpoint_folder */
    MB_GPU_MAY = 1 << 3,         /* uses a GPU if there is one */
    MB_GPU_MUST = 1 << 4,        /* cannot run without */
    MB_DEVICE_MATTERS = 1 << 5,  /* the device ("cpu", "cuda") is part of the key */
    MB_ANY_OUTPUTS = 1 << 6,     /* output names are the rule's own (one role with MB_MANY) */
    MB_UNCACHED = 1 << 7,        /* never restored from the store: run whenever it is stale */
    MB_DISCOVERS = 1 << 8,       /* reads files that the rule doesn't name, anywhere, and reports each by mb_host.discovered */
    /* A promise (since 1.1): `run` may be called again in the same process, for another step of this plugin, and makes what it would in a
     * fresh one. So nothing of a run outlives it: no thread that calls the host or touches its files, no child, no changed folder or
     * signal. What may stay is what doesn't depend on the run: a device's context, loaded kernels, tables. Such a step is served
     * by a warm process if it uses a GPU (MB_GPU_MAY, MB_GPU_MUST; device "cuda") or says MB_SLOW_START. */
    MB_REENTRANT = 1 << 9,
    MB_SLOW_START = 1 << 10,     /* its first run in a process is expensive, whatever the device (since 1.1; needs MB_REENTRANT) */
    /* A promise (since 1.1): `run` needs nothing of the system but system calls. It opens its inputs, outputs and own folders, and no other
     * file, whether of the system (users, hosts, languages, time zones) or of its own; it starts no process and no program; and the shared
     * object has no handlers of pthread_atfork, starts no threads when loaded, and `run` doesn't use GNU make's jobserver. It is held to
     * that: other files are refused, and processes are killed. Such a step starts in half the time. */
    MB_SELF_CONTAINED = 1 << 11
};

enum mb_level { MB_DEBUG = 0, MB_INFO, MB_WARN, MB_ERROR };

struct mb_run; /* one run of one step; opaque */

#if defined(__GNUC__)
#define MB_PRINTF(at) __attribute__((format(printf, at, (at) + 1)))
#define MB_EXPORT __attribute__((visibility("default")))
#else
#define MB_PRINTF(at)
#define MB_EXPORT
#endif

/* What the engine offers to a step. A parameter is named by a path: "epochs", "optimizer.lr",
 * "hidden[0]", "layers[2].width". The getters do not fail for a parameter that the schema declares and
 * that is given or has a default. Any other name or type is an error in the plugin: the step
 * ends there, with a message that says which. */
struct mb_host {
    uint32_t size; /* of this struct in the engine */
    uint16_t abi_major, abi_minor;

    /* Parameters [any]. */
    int (*param_given)(struct mb_run *, const char *path); /* 1 if it has a value, by rule or default */
    enum mb_type (*param_type)(struct mb_run *, const char *path); /* of the value; 0 if absent */
    int (*param_bool)(struct mb_run *, const char *path);
    int64_t (*param_int)(struct mb_run *, const char *path);
    double (*param_float)(struct mb_run *, const char *path);
    const char *(*param_string)(struct mb_run *, const char *path); /* MB_STRING, MB_ENUM */
    size_t (*param_count)(struct mb_run *, const char *path); /* list elements or table keys; 0 if absent */
    const char *(*param_key)(struct mb_run *, const char *path, size_t i); /* i-th key, sorted by bytes */
    const char *(*param_json)(struct mb_run *, const char *path); /* canonical JSON; "" for all of them */

    /* Inputs and outputs [any]. All paths are relative to the repo's root, where the step runs, or
     * absolute if the rule named something outside. `i` counts from 0. */
    size_t (*input_count)(struct mb_run *, const char *role);
    const char *(*input_path)(struct mb_run *, const char *role, size_t i); /* NULL if i ≥ count */
    const char *(*input_name)(struct mb_run *, const char *role, size_t i); /* path in the repo, role MB_NAMED only */
    const char *(*input_digest)(struct mb_run *, const char *role, size_t i); /* SHA-256, hex; NULL if secret */
    const char *(*input_lineage)(struct mb_run *, const char *role, size_t i); /* JSON, see docs/plugins.md */
    size_t (*output_count)(struct mb_run *, const char *role);
    const char *(*output_path)(struct mb_run *, const char *role, size_t i); /* where to write it; NULL if not asked for */
    const char *(*output_name)(struct mb_run *, const char *role, size_t i); /* where it will stand in the repo */
    const char *(*output_add)(struct mb_run *, const char *role, const char *name); /* MB_ADDS: where to write */

    /* Folders [any]. The temporary one is empty at first and goes when the step ends. The checkpoint
     * folder (MB_RESUMABLE only, otherwise NULL) outlives a failed or killed run and comes back to the
     * next run with the same key; it goes when the step succeeds. */
    const char *(*temp_folder)(struct mb_run *);
    const char *(*checkpoint_folder)(struct mb_run *);

    /* The run's surroundings [any]. */
    const char *(*device)(struct mb_run *);  /* "cpu" or "cuda" */
    int (*cpus)(struct mb_run *);            /* how many threads the step may keep busy, ≥ 1 */
    uint64_t (*memory)(struct mb_run *);     /* its limit in bytes; 0: none */
    const char *(*env)(struct mb_run *, const char *name); /* a declared variable; NULL if unset */
    int (*cancelled)(struct mb_run *);       /* 1 once the build is being stopped */
    int (*dry_run)(struct mb_run *);         /* 1 in `fingerprint` when nothing may be made */

    /* Reports [any]. */
    void (*log)(struct mb_run *, enum mb_level, const char *format, ...) MB_PRINTF(3);
    void (*progress)(struct mb_run *, double done, double total, const char *text); /* text may be NULL */
    void (*metric)(struct mb_run *, const char *name, double value); /* the last value is recorded */
    void (*discovered)(struct mb_run *, const char *path); /* an input found while running: counts from now on */
    void (*fingerprint)(struct mb_run *, const char *text); /* in mb_step.fingerprint: part of the key */
    void (*watch)(struct mb_run *, const char *path); /* in mb_step.fingerprint: ask again when this file's stat changes */
    int (*fail)(struct mb_run *, const char *format, ...) MB_PRINTF(2); /* returns MB_FAILED, for `return` */

    /* Extensions, asked for by name; NULL if this engine has none of it [any]. */
    const void *(*extension)(const char *name);
};

struct mb_step {
    const char *name; /* a plugin whose only step has its own name needs no dot in the rule file */
    const char *help; /* one line */
    unsigned flags;
    const struct mb_role *roles;
    const struct mb_param *params; /* may be NULL */

    /* Makes the outputs. Called once in a process, with MB_REENTRANT once after another; the current folder is the repo's root. */
    int (*run)(const struct mb_host *, struct mb_run *);

    /* Optional: parameters against each other, before anything runs. Only param_*, log and fail are
     * there. */
    int (*check)(const struct mb_host *, struct mb_run *);

    /* Optional: what the outputs depend on that is neither input nor parameter, such as the public half
     * of a key; told by mb_host.fingerprint. Called before the step's key is computed, and again
     * when a watched file changed. May make what it names, a key say, unless mb_host.dry_run. */
    int (*fingerprint)(const struct mb_host *, struct mb_run *);

    /* Optional: says by mb_host.log in one line how two versions of an input differ, for `why`. */
    int (*explain)(const struct mb_host *, struct mb_run *, const char *role, const char *before,
                   const char *after);
};

/* A subcommand, `mbuild NAME [options] [arguments]`. `options` are given as --name=value and read with
 * mb_host.param_*; argv holds the other arguments, argv[0] the command's name. main prints to stdout by
 * itself. Its value is the exit status: 0, 1 for a negative answer, 2 for a failure. The current folder
 * is the repo's root when inside one; paths that the user typed are relative to mb_host.env(run, "PWD"). */
struct mb_command {
    const char *name;
    const char *usage; /* what follows the name: "[--key=FILE] FILE" */
    const char *help;  /* one line */
    const struct mb_param *options; /* may be NULL */
    int (*main)(const struct mb_host *, struct mb_run *, int argc, char **argv);
};

struct mb_plugin {
    uint32_t magic;
    uint16_t abi_major, abi_minor;
    uint32_t size, step_size, role_size, param_size, command_size; /* what the plugin was compiled with */
    const char *name;    /* the file's name without .so */
    const char *version;
    const char *help;    /* one line */
    const struct mb_step *steps;       /* ends with an entry whose name is NULL; may be NULL */
    const struct mb_command *commands; /* the same */
};

/* The first fields of a descriptor: `static const struct mb_plugin p = { MB_PLUGIN_HEAD, .name = … };` */
#define MB_PLUGIN_HEAD                                                                             \
    .magic = MB_PLUGIN_MAGIC, .abi_major = MB_ABI_MAJOR, .abi_minor = MB_ABI_MINOR,                \
    .size = sizeof(struct mb_plugin), .step_size = sizeof(struct mb_step),                         \
    .role_size = sizeof(struct mb_role), .param_size = sizeof(struct mb_param),                    \
    .command_size = sizeof(struct mb_command)

/* Exports `descriptor`, a struct mb_plugin with static lifetime: `MB_PLUGIN(p);` at the end of the file. */
#define MB_PLUGIN(descriptor)                                                                      \
    extern MB_EXPORT const struct mb_plugin *const mbuild_plugin;                                  \
    const struct mb_plugin *const mbuild_plugin = &(descriptor)

#ifdef __cplusplus
}
#endif
#endif
