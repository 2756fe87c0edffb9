/* The lists of headers that compilers write. */
#include "compile/depfile.h"
#include "test.h"

#include <string.h>

/* The prerequisites, each in brackets. */
static const char *listed(const char *depfile) {
    static char text[1000], out[1000];
    strcpy(text, depfile);
    *out = 0;
    char *rest = text;
    for (char *w; (w = depfile_next(&rest));) {
        strcat(out, "[");
        strcat(out, w);
        strcat(out, "]");
    }
    return out;
}

TEST("the target is passed over, and lines go on after a backslash") {
    CHECK_STR(listed("p.o: p.c a.h \\\n  sub/b.h\n"), "[p.c][a.h][sub/b.h]");
    CHECK_STR(listed("p.o: \\\r\n p.c\r\n"), "[p.c]");
    CHECK_STR(listed("p.o: p.c \\\n  sub/b.h"), "[p.c][sub/b.h]");
}

TEST("escaped blanks, dollars and number signs are part of a name") {
    CHECK_STR(listed("p.o: a\\ b.c c$$d.h e\\#f.h\n"), "[a b.c][c$d.h][e#f.h]");
    CHECK_STR(listed("p.o: a\\b.h a\\\\b.h a\\\\\\ b.h\n"), "[a\\b.h][a\\\\b.h][a\\ b.h]");
    CHECK_STR(listed("my\\ dir/p.o: x.c\n"), "[x.c]");
}

TEST("an empty or broken list ends") {
    CHECK_STR(listed(""), "");
    CHECK_STR(listed("p.o:"), "");
    CHECK_STR(listed("p.o: x\\"), "[x\\]");
    CHECK_STR(listed("p.o: \\"), "[\\]");
}
