/* rules_private.h: what the files of the Lua host share. */
#ifndef ENGINE_RULES_PRIVATE_H
#define ENGINE_RULES_PRIVATE_H

#include "rules.h"

#include <lua.h>
#include <lauxlib.h>

/* Chunk names of the standard library begin so; a message never points there. */
#define LIBRARY_MARK "<mbuild>/"

struct setting {
    const char *name, *value;
    bool used;
};

/* Of rules_time.c; what its signal handler looks at is volatile. */
struct rules_clock {
    const char *volatile call;  /* the library function that runs, or NULL */
    lua_State *volatile state;  /* the one that called it last */
    volatile uint32_t calls;    /* grows whenever something is known to go on */
    volatile bool over;         /* all the time is used up */
    uint32_t seen_calls, stuck, ticks, ticks_most;
    uint32_t time_most_ms, call_most_ms;
};

struct rules {
    lua_State *L;
    struct graph *graph;
    const struct rules_options *options;
    struct rules_seen *seen;
    struct intern seen_files, seen_globs, seen_folders;
    size_t memory, memory_most; /* bytes that Lua holds and may hold */
    volatile bool allocating;
    bool memory_refused;        /* it wanted more than the limit, there: */
    char hungry_file[200];
    int hungry_line;
    struct rules_clock clock;
    bool broken;                /* left in the midst of something: Lua's state must not be touched again */
    uint64_t instructions, instructions_most;
    struct setting *settings;
    uint32_t include_depth;
    const char **option_names;  /* declared by option(), for suggestions */
    uint32_t option_count, option_cap;
    /* Room that functions of the API use while they run: an error leaves them by a jump, so they can own none. */
    struct slot *slots;
    uint32_t slot_count, slot_cap;
    const char **names;
    uint32_t name_count, name_cap;
    /* Of dynamic rules. */
    uint32_t dynamic_count;
    lua_State *coroutine;       /* the one that runs, or NULL */
    uint32_t defining;          /* the step that it defines */
    uint32_t *asked;            /* steps that it asked for */
    uint32_t asked_count, asked_cap;
    bool asking;                /* it yielded by need(), not by itself */
};

struct rules *rules_of(lua_State *L);

/* "mbuild.lua:12" of the innermost frame that is the user's own; in the graph's arena. "mbuild.lua" if there is none. */
const char *rules_where(lua_State *L);

/* Raises a Lua error whose message begins with that place. */
int rules_fail(lua_State *L, const char *format, ...) __attribute__((format(printf, 2, 3)));

void rules_saw_file(struct rules *r, const char *path);
void rules_saw_glob(struct rules *r, const char *pattern);
void rules_saw_folder(struct rules *r, const char *path);

/* Turns the Lua value at `index` into a parameter value in the graph's arena; `what` names it in errors. Raises. */
void rules_to_value(lua_State *L, int index, const char *what, struct value *out);

/* An artifact as a rule file holds it: a step's output, a step as a whole, or a source. */
struct artifact_ref {
    uint32_t step;   /* NO_ID for a source */
    int32_t output;  /* which output; -1: the step as a whole */
    uint32_t file;   /* of a source or an output; NO_ID for a whole step */
};
void rules_push_artifact(lua_State *L, struct artifact_ref ref);
struct artifact_ref *rules_test_artifact(lua_State *L, int index); /* NULL if it is something else */

/* Line and file of the innermost frame that is the user's own, without taking memory; 0 if there is none. */
int rules_line(lua_State *L, char *file, size_t size);

/* The hook by which limits end a loop. */
void rules_count_hook(lua_State *L, lua_Debug *ar);
void rules_fail_time(lua_State *L);

/* Calls `body`, which runs rules, and returns its value; -1 if a library function didn't end and was left. */
int rules_run(struct rules *r, int (*body)(struct rules *r, void *arg, struct err *e), void *arg, struct err *e);

/* Wraps the functions of Lua's libraries so that one that doesn't end is known. */
void rules_open_time(lua_State *L);

/* Adds the functions of the rule API to the globals. */
void rules_open_step(lua_State *L);
void rules_open_files(lua_State *L);
void rules_open_dynamic(lua_State *L);

/* Keeps the function at `index` as what defines a step. */
void rules_keep_define(lua_State *L, uint32_t step, int index);

/* Reads the table at `index` as the rest of a step that a function defines. Raises. */
void rules_read_definition(lua_State *L, uint32_t step, int index);

/* file("…") and friends: the id of a source path; raises if it is no allowed path. */
uint32_t rules_source(lua_State *L, const char *path);

/* The string at an index, which must be one, without a NUL byte. `what` names it in the error. */
const char *rules_text(lua_State *L, int index, const char *what);

#endif
