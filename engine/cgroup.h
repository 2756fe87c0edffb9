/* cgroup.h: limits of memory and processes that the kernel keeps for a step as a whole, for root and on a GPU too, where control groups can be
 * written: version 2 (cgroups(7)), or what a machine still has of version 1.
 *
 * A step's group is made beside or below the one that mbuild is in, and removed when the step is gone. Must not know steps: it gets
 * names and numbers.
 */
#ifndef ENGINE_CGROUP_H
#define ENGINE_CGROUP_H

#include "mem.h"
#include <stdbool.h>
#include <sys/types.h>

#define CGROUP_PROCESSES 4096 /* that a group may have at a time */

/* Where groups can be made: a folder for each of the two limits; "" where there is none. The same one with version 2. */
struct cgroup_place {
    char memory[1024], processes[1024];
    bool unified; /* version 2 */
};

/* Finds it; false, and why not in `lack`, if no limit of memory can be set. */
bool cgroup_find(struct cgroup_place *out, struct buf *lack);
/* The same by the text of /proc/self/mountinfo and /proc/self/cgroup, with `root` before each path, for tests. */
bool cgroup_find_in(const char *root, const char *mounts, const char *self, struct cgroup_place *out, struct buf *lack);

/* Each returns 0, or -1 with errno. The group's limit of memory is in bytes, 0: none. */
int cgroup_make(const struct cgroup_place *p, const char *name, uint64_t memory);
int cgroup_limit(const struct cgroup_place *p, const char *name, uint64_t memory);
/* Bytes that its processes have now; 0 where that isn't told. */
uint64_t cgroup_usage(const struct cgroup_place *p, const char *name);
int cgroup_enter(const struct cgroup_place *p, const char *name, pid_t pid);
void cgroup_remove(const struct cgroup_place *p, const char *name); /* nothing runs in it any more */

/* How many processes of the group the kernel killed at the limit. */
uint64_t cgroup_kills(const struct cgroup_place *p, const char *name);

/* The name of the group `number` of a process, and removal of groups whose process is gone, because it was killed. */
void cgroup_name(char out[64], pid_t owner, uint32_t number);
void cgroup_remove_stale(const struct cgroup_place *p);

#endif
