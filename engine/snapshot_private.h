/* snapshot_private.h: the layout of a snapshot. All numbers are the machine's own; a file from another machine fails its checksum.
 *
 * head, then sections one after the other, each aligned to 8. The first four, the hot part, are all that a check looks at. Text is
 * NUL-terminated strings that others name by their offset; offset 0 is the empty one.
 */
#ifndef ENGINE_SNAPSHOT_PRIVATE_H
#define ENGINE_SNAPSHOT_PRIVATE_H

#include "snapshot.h"

#define SNAPSHOT_MAGIC "mbuildSN"
#define SNAPSHOT_VERSION 1

enum snap_section {
    SNAP_STATS,   /* struct snap_stat, an entry each */
    SNAP_PATHS,   /* text: the entries' paths, variables and their values, what to say if nothing is to be done */
    SNAP_DEVICES, /* uint64_t: device numbers that entries index */
    SNAP_ENV,     /* struct snap_env */
    SNAP_FACTS,   /* struct snap_fact, an entry each; the cold part begins here */
    SNAP_EDGES,   /* struct snap_edge */
    SNAP_STEPS,   /* struct snap_step */
    SNAP_SLOTS,   /* struct snap_slot: inputs and outputs of steps */
    SNAP_WORDS,   /* uint32_t: names of steps' variables, then folders outside that the rules allow */
    SNAP_TEXT,    /* text: all other strings */
    SNAP_SECTIONS
};

struct snap_head {
    char magic[8];
    uint32_t version, outside_count; /* the last words of SNAP_WORDS */
    unsigned char question[32];
    uint32_t nothing, gone_count; /* in SNAP_PATHS; entries with SNAP_GONE */
    uint64_t hot_sum, cold_sum;
    struct {
        uint64_t offset, bytes;
    } sections[SNAP_SECTIONS];
};

enum { /* flags of an entry */
    SNAP_EXECUTABLE = 1 << 0,
    SNAP_NOFOLLOW = 1 << 1, /* lies inside a folder that is an artifact (`parent`), or is a link that a step made */
    SNAP_GLOBAL = 1 << 2,   /* the whole answer depends on it */
    SNAP_UNSURE = 1 << 3,   /* its stat can't be trusted: looked at anew */
    SNAP_GONE = 1 << 4      /* no longer an entry */
};

struct snap_stat {
    uint64_t size, ino;
    int64_t mtime_ns, ctime_ns;
    uint32_t path;          /* in SNAP_PATHS */
    uint16_t device;        /* in SNAP_DEVICES */
    uint8_t kind, flags;
};

struct snap_fact {
    uint32_t type, producer; /* enum artifact_type; step or NO_ID */
    unsigned char digest[32];
    uint64_t size;
    uint32_t parent, unused; /* entry of the folder that this one lies in, or of the link that it lies behind; or NO_ID */
};

struct snap_edge { /* a step depends on an entry */
    uint32_t entry, step;
};

struct snap_slot {
    uint32_t role, entry, shared;
};

struct snap_step {
    uint32_t name, where, plugin, plugin_entry, params, pool; /* text; pool NO_ID: none */
    uint32_t inputs, input_count, outputs, output_count;      /* in SNAP_SLOTS */
    uint32_t env, env_count;                                  /* in SNAP_WORDS */
    int32_t cpu, gpu, pool_size;
    uint32_t timeout_ms, retries, network, needed; /* needed: a dynamic rule looked at what it makes */
    uint64_t mem;
};

struct snap_env {
    uint32_t name, value; /* in SNAP_PATHS; value NO_ID: unset */
};

struct snapshot {
    char *path;
    const unsigned char *map;
    size_t size;
    const struct snap_head *head;
    const struct snap_stat *stats;
    uint32_t entry_count, step_count;
    bool cold_checked, cold_good;
    uint32_t *dirty;       /* entries whose stat changed, from snapshot_check */
    uint32_t dirty_count, dirty_cap;
    /* After a thaw: */
    uint32_t *file_of;     /* the graph's file by entry, or NO_ID */
    uint32_t *step_of;     /* the snapshot's step by the graph's */
    bool *reached;         /* by the snapshot's step: what changed reaches it */
};

/* The path of the snapshot for this session's question, and the question's digest. */
char *snapshot_path(const struct session *s, struct digest *question);

uint64_t snapshot_sum(const void *bytes, size_t n, uint64_t seed);
uint64_t snapshot_hot_sum(const unsigned char *map, const struct snap_head *head);

/* The section's bytes; and a string in a text section, whose offset must be good. */
const void *snapshot_section(const struct snapshot *snap, enum snap_section which, size_t size, uint32_t *count);

/* Whether the cold part is whole: checksum, and every index within its section. Looks once. */
bool snapshot_cold_good(struct snapshot *snap);

#endif
