/* build.h: bringing targets up to date. */
#ifndef ENGINE_BUILD_H
#define ENGINE_BUILD_H

#include "decide.h"

/* Checks and binds what `order` needs before anything runs: plugins, roles, parameters, sources that must exist, resources that must
 * suffice. Learns all files involved. */
int build_prepare(struct session *s, const uint32_t *order, uint32_t count, struct err *e);

/* Runs a build over `order` (from session_want, after build_prepare). *summary is filled in whatever happens. -1 is a failure of
 * mbuild itself, such as a full disk under its database; failed steps are in the summary. */
int build_run(struct session *s, const uint32_t *order, uint32_t count, struct ui_summary *summary, struct err *e);

/* What build_run would do, without doing it: a decision for each step of `order`. Outputs that would come from the
 * store count as known; after a step that would run, what depends on it is VERDICT_OPEN. */
int build_plan(struct session *s, const uint32_t *order, uint32_t count, struct decision *decisions, struct err *e);

#endif
