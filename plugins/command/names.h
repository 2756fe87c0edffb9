/* names.h: from outputs as a command names them to the private paths that they are written to. */
#ifndef COMMAND_NAMES_H
#define COMMAND_NAMES_H

#include <stdbool.h>
#include <stddef.h>

struct name {
    char *name;      /* in the repo: "build/upper" */
    char *path;      /* what the program gets in its place, seen from the folder that it runs in */
    char *from_root; /* the same file, seen from the repo's root */
    bool used;       /* a text named it */
};

struct names {
    struct name *items; /* longest name first, so that of two that fit the more exact one counts */
    size_t count, cap;
};

/* `up` leads from the program's folder to the root: "" or "../../". -1: out of memory. */
int names_add(struct names *n, const char *name, const char *up, const char *path);

/* Keeps an input's name as it is where an output's name is the beginning of it: build/a.txt beside the output build/a. */
int names_keep(struct names *n, const char *input);

/* The text with each name replaced by its path; NULL: out of memory. To be freed. A name is found where a path can begin: at the start,
 * after anything that can't be part of a path, after "./" there, or after an option's letter ("-obuild/x"). What follows it goes along
 * ("build/x.tmp", "build/tree/leaf"), so that what lies beside or below an output is private as well. */
char *names_replace(struct names *n, const char *text);

void names_free(struct names *n);

#endif
