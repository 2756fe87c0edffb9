/* snapshot.h: the one file from which a build with nothing to do is answered, and one with little to do is begun.
 *
 * `.mbuild/snapshot/HEX`, named by the question (targets, settings, rule file, device), tells the stat of every file that the last
 * whole answer depended on, and the graph in a form that is mapped and not read. It is only a cache: absent, for another version,
 * truncated or corrupted, it is passed over, and the rules are evaluated. What is mapped is believed only after its checksum and its bounds
 * were looked at. It knows the graph, the stats and the records; it knows nothing of Lua or of processes.
 */
#ifndef ENGINE_SNAPSHOT_H
#define ENGINE_SNAPSHOT_H

#include "session.h"

struct snapshot;

/* Maps what an earlier build left for the same question; NULL if there is none that can be used. */
struct snapshot *snapshot_open(const struct session *s);
void snapshot_close(struct snapshot *snap); /* NULL is fine */

enum snapshot_answer {
    SNAPSHOT_CURRENT,  /* nothing changed: there is nothing to do */
    SNAPSHOT_STALE,    /* inputs or outputs changed: thaw what depends on them */
    SNAPSHOT_USELESS   /* rules, plugins, folders that a glob looked at or the environment changed: evaluate */
};
enum snapshot_answer snapshot_check(struct snapshot *snap);

/* After SNAPSHOT_STALE: fills the session's graph with the steps that what changed can reach, and all that these need; *steps (free it) are those to
 * bring up to date. Returns 1 if that is so much that evaluating the rules is no dearer; the graph is then untouched. */
int snapshot_thaw(struct snapshot *snap, struct session *s, uint32_t **steps, uint32_t *count, struct err *e);

uint32_t snapshot_step_count(const struct snapshot *snap); /* of the whole answer */
const char *snapshot_nothing(const struct snapshot *snap); /* what to say after SNAPSHOT_CURRENT */

/* Leaves a snapshot after a build of `order` in which every step ended well: a new one, or with `thawed`, from which the graph came, that
 * one brought up to date. A snapshot that can't be written is no failure. */
void snapshot_save(struct session *s, const uint32_t *order, uint32_t count, const char *nothing, struct snapshot *thawed);

/* Removes the one for this session's question: after a failure the next build evaluates. */
void snapshot_drop(const struct session *s);

#endif
