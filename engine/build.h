/* build.h: bringing targets up to date. */
#ifndef ENGINE_BUILD_H
#define ENGINE_BUILD_H

#include "decide.h"
#include "rules.h"

/* Checks and binds what `order` needs before anything runs: plugins, roles, parameters, sources that must exist, resources that must
 * suffice. Learns all files involved. */
int build_prepare(struct session *s, const uint32_t *order, uint32_t count, struct err *e);


/* Goes on with the function that defines a dynamic step; what it asked for stands in the step's `needs`. */
int dynamic_define(struct session *s, uint32_t step, enum rules_answer *answer, struct err *e);

/* The same for steps that a dynamic rule asked for in the midst of a build, on this thread alone. */
int build_prepare_more(struct session *s, const uint32_t *order, uint32_t count, struct err *e);

/* What build_run would do, without doing it: a decision for each step. Outputs that would come from the store count as known; after a
 * step that would run, what depends on it is VERDICT_OPEN, and so is a dynamic rule that asked for it. */
struct plan {
    uint32_t *order;            /* the caller's, from session_want; malloc'ed: grows by what dynamic rules ask for */
    uint32_t count, cap;
    struct decision *decisions; /* by place in `order`; free it */
};
int build_plan(struct session *s, struct plan *p, struct err *e);

/* Runs a build over the plan's order (from session_want, after build_prepare), which grows by what dynamic rules ask for; its decisions play no
 * part. *summary is filled in whatever happens. -1 is a failure of mbuild itself, such as a full disk under its database; failed
 * steps are in the summary. */
int build_run(struct session *s, struct plan *p, struct ui_summary *summary, struct err *e);

#endif
