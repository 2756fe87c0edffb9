/* sandbox.h: what a step may see and touch: the system's programs and libraries, its declared inputs, its own outputs and folders, and no
 * network unless its rule says so.
 *
 * Made of Landlock (files; Linux 5.13), a seccomp filter (network) and a limit on processes; all work without privileges and for
 * root too, and what a step starts inherits them. Must not know steps: it gets paths.
 */
#ifndef ENGINE_SANDBOX_H
#define ENGINE_SANDBOX_H

#include "err.h"
#include <stdbool.h>

enum sandbox_mode { SANDBOX_AUTO, SANDBOX_REQUIRE, SANDBOX_OFF }; /* auto: as far as the kernel can */

int sandbox_parse_mode(const char *word, enum sandbox_mode *out, struct err *e); /* NULL: auto */

int sandbox_files_abi(void);      /* Landlock's ABI version; 0 if the kernel has none, or it is switched off */
bool sandbox_can_refuse_network(void);

/* The folders of the system and of mbuild itself, open, so that entering costs few look-ups. NULL where there is no Landlock. Belongs to a
 * process that forks those who enter; lives as long as it does. */
struct sandbox;
struct sandbox *sandbox_prepare(void);

struct sandbox_rules {
    /* Files, and folders with all that is below. Each list ends with NULL; what is absent is passed over. */
    const char *const *read, *const *write;
    const char *const *list; /* folders whose names may be seen, as a shell does for its patterns, but not what is in the files */
    bool read_all;                          /* everything may be read: the step says what it read */
    bool network, gpu;
    bool offline;                           /* the process forked by one that is sandbox_offline: that needn't be seen to */
    bool self_contained;                    /* it needs nothing of the system: just the lists count */
};

/* Refuses the network to the calling process, which must have one thread, and to what it will fork, for good. */
int sandbox_offline(struct err *e);

/* Confines the calling process, which must have one thread, for good. Fails, in part confined, if something that was asked for is refused:
 * under SANDBOX_REQUIRE that ends the step. */
int sandbox_enter(struct sandbox *s, const struct sandbox_rules *r, struct err *e);

/* Confines the calling thread of a process that has entered already, and what it starts, further: to these files. Others of its threads stay
 * as they were. */
int sandbox_narrow(struct sandbox *s, const struct sandbox_rules *r, struct err *e);

#endif
