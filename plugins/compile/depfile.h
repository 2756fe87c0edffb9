/* depfile.h: the lists of headers that compilers write by -MMD: one make rule, `target: source header …`. */
#ifndef COMPILE_DEPFILE_H
#define COMPILE_DEPFILE_H

/* The next prerequisite, or NULL at the end. Begins with *rest at the text, which is changed: backslashes before spaces, "#" and line ends,
 * and
 * "$$", are undone as GCC and Clang write them. The target is passed over. */
char *depfile_next(char **rest);

#endif
