/* command.h: the command line: options and subcommands as tables, from which the help comes too. */
#ifndef ENGINE_COMMAND_H
#define ENGINE_COMMAND_H

#include "session.h"

/* A subcommand. `main` gets what follows its name; its value is the exit status, or -1 with an error. */
struct command {
    const char *name, *usage, *help;
    int (*main)(const struct options *o, int argc, char **argv, struct err *e);
};
extern const struct command commands[]; /* ends with a NULL name */

const struct command *command_find(const char *name);

/* Parses the options up to the first word that is none, or, with `all`, everything. Fails on unknown ones with the nearest.
 * *rest is the index of the first word not taken. --help and --version print and set *done. */
int options_parse(struct options *o, int argc, char **argv, bool all, int *rest, bool *done, struct err *e);

/* Under make: adds what its -k, -n, -q and -s mean for a build, as a make below it would. */
void options_take_make(struct options *o);
void options_free(struct options *o);
void options_help(void);

/* What the table says of each option, in its order. */
struct option_about {
    char letter;                  /* 0: none */
    const char *name, *argument;  /* argument NULL: a flag */
    const char *help;
};
void options_each(void (*each)(void *ctx, const struct option_about *o), void *ctx);

/* Subcommands by file. */
int command_targets(const struct options *o, int argc, char **argv, struct err *e);
int command_status(const struct options *o, int argc, char **argv, struct err *e);
int command_why(const struct options *o, int argc, char **argv, struct err *e);
int command_graph(const struct options *o, int argc, char **argv, struct err *e);
int command_show(const struct options *o, int argc, char **argv, struct err *e);
int command_log(const struct options *o, int argc, char **argv, struct err *e);
int command_clean(const struct options *o, int argc, char **argv, struct err *e);
int command_gc(const struct options *o, int argc, char **argv, struct err *e);
int command_init(const struct options *o, int argc, char **argv, struct err *e);
int command_plugin(const struct options *o, int argc, char **argv, struct err *e);
int command_doctor(const struct options *o, int argc, char **argv, struct err *e);
int command_watch(const struct options *o, int argc, char **argv, struct err *e);
int command_completion(const struct options *o, int argc, char **argv, struct err *e);
int command_help(const struct options *o, int argc, char **argv, struct err *e);

/* Brings targets up to date; the exit status. *unknown: a target isn't one, so the first word may be a plugin's command. */
int command_build(const struct options *o, bool *unknown, struct err *e);

/* A command that a plugin declares: *found tells whether one does. */
int command_of_plugin(const struct options *o, int argc, char **argv, bool *found, struct err *e);

/* The one step that a subcommand's argument names; a path stands for the step that makes it. */
int command_step(struct session *s, const char *name, uint32_t *step, struct err *e);

#endif
