/* rules.h: the Lua host. Evaluates the rule files in a sandbox and fills the graph.
 *
 * Rule files see no clock, no environment, no process and no file but through the functions given here, and `pairs` goes in
 * sorted order, so the same files always give the same graph. Memory, instructions and time are bounded.
 */
#ifndef ENGINE_RULES_H
#define ENGINE_RULES_H

#include "graph.h"

struct rules_options {
    const char *file;           /* the rule file, relative to the repo's root */
    const char *library;        /* folder of the standard rule library */
    const char *const *settings; /* "name=value" from the command line */
    uint32_t setting_count;
    bool (*reserved)(void *ctx, const char *name); /* whether a name is a subcommand's */
    void *ctx;
    void (*print)(void *ctx, const char *text);    /* where Lua's print goes */
    size_t memory_most;         /* bytes that the rules may hold; 0: the usual, 2 GiB */
    uint64_t instructions_most; /* that they may run, of all coroutines together; 0: the usual, a billion */
    uint32_t time_most_ms, call_most_ms; /* processor time of all, and of one call of a Lua library's function; 0: the usual, 60 s and 10 s */
};

/* What an evaluation looked at, beside the graph itself: the graph is good as long as none of it changes. */
struct rules_seen {
    const char **files;         /* rule files, included and read ones; in the graph's arena */
    uint32_t file_count, file_cap;
    const char **globs;         /* patterns that were expanded */
    uint32_t glob_count, glob_cap;
    const char **folders;       /* what the expansion looked at, there or not: when it changes, a pattern may match other files */
    uint32_t folder_count, folder_cap;
};

/* Evaluates. *out is the host itself, kept where some step's rule is a function (graph.h: dynamic), else NULL; `o` must last as long. */
struct rules;
int rules_evaluate(struct graph *g, const struct rules_options *o, struct rules_seen *seen, struct rules **out, struct err *e);
void rules_free(struct rules *r); /* NULL is fine */

/* Starts or goes on with the function that defines a dynamic step. RULES_NEEDS: it asked for the steps in *needs (good until the
 * next call) and goes on when these are made; they stand in the step's `needs` too. RULES_DEFINED: the step's plugin, inputs, parameters
 * are filled in. The function may have added steps to the graph. */
enum rules_answer { RULES_DEFINED, RULES_NEEDS };
int rules_define(struct rules *r, uint32_t step, enum rules_answer *answer, const uint32_t **needs, uint32_t *count, struct err *e);

/* The files that match a pattern: "*" and "?" within a name, "[…]", "**" across folders; names that begin with a dot only
 * where the pattern has the dot; sorted. `root` is the folder that it is relative to. Calls `each` with paths relative to it. */
int glob_expand(const char *root, const char *pattern, void (*each)(void *ctx, const char *path), void *ctx, struct err *e);

/* The same; `looked` is called for each folder that was listed and each plain name that was looked for, whether there or not. */
int glob_expand_looking(const char *root, const char *pattern, void (*each)(void *ctx, const char *path),
                        void (*looked)(void *ctx, const char *path), void *ctx, struct err *e);
bool glob_is_pattern(const char *text);

#endif
