/* explain.h: mb_step.explain of the step `dataset`. */
#ifndef DATASET_EXPLAIN_H
#define DATASET_EXPLAIN_H

#include <mbuild/plugin.h>

/* Logs one line on how two versions of a source differ, "3 rows of 1,797 differ"; none where it can't tell. */
int dataset_explain(const struct mb_host *host, struct mb_run *run, const char *role, const char *before, const char *after);

#endif
