/* Where a command names its outputs, and where it doesn't. */
#include "command/names.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>

/* The text after replacing; good until the next call. */
static const char *replaced(const char *text) {
    static char kept[256];
    struct names n = {0};
    CHECK_EQ(names_add(&n, "build/a", "", "T/0/a"), 0);
    CHECK_EQ(names_add(&n, "build/a b\nü", "", "T/1/a b\nü"), 0);
    CHECK_EQ(names_add(&n, "build/a.csv", "", "T/2/a.csv"), 0);
    CHECK_EQ(names_keep(&n, "build/a.in"), 0);
    CHECK_EQ(names_keep(&n, "data/x"), 0);
    char *out = names_replace(&n, text);
    CHECK(out && strlen(out) < sizeof kept);
    strcpy(kept, out);
    free(out);
    names_free(&n);
    return kept;
}

TEST("an output's name gives way to its private path wherever a path can begin") {
    CHECK_STR(replaced("build/a"), "T/0/a");
    CHECK_STR(replaced("sort x>build/a;cat ./build/a 'build/a'"), "sort x>T/0/a;cat ./T/0/a 'T/0/a'");
    CHECK_STR(replaced("--out=build/a:build/a"), "--out=T/0/a:T/0/a");
    CHECK_STR(replaced("-obuild/a"), "-oT/0/a");
    CHECK_STR(replaced("x -obuild/a"), "x -oT/0/a");
    CHECK_STR(replaced(""), "");
}

TEST("a path that only ends like an output stays as it is") {
    CHECK_STR(replaced("src/build/a"), "src/build/a");
    CHECK_STR(replaced("../build/a"), "../build/a");
    CHECK_STR(replaced("/build/a"), "/build/a");
    CHECK_STR(replaced("rebuild/a x-obuild/a"), "rebuild/a x-obuild/a");
    CHECK_STR(replaced("übuild/a"), "übuild/a");
    CHECK_STR(replaced("build"), "build");
}

TEST("what lies below or beside an output is private as well") {
    CHECK_STR(replaced("mkdir build/a/sub; > build/a.tmp"), "mkdir T/0/a/sub; > T/0/a.tmp");
}

TEST("of two outputs the longer name counts, and an input that begins like one keeps its name") {
    CHECK_STR(replaced("cat build/a.in > build/a.csv"), "cat build/a.in > T/2/a.csv");
    CHECK_STR(replaced("'build/a b\nü'"), "'T/1/a b\nü'");
}

TEST("a command in another folder finds its outputs from there") {
    struct names n = {0};
    CHECK_EQ(names_add(&n, "build/a", "../../", ".mbuild/tmp/1/0/a"), 0);
    CHECK_EQ(names_add(&n, "build/b", "../../", "/elsewhere/b"), 0);
    char *out = names_replace(&n, "build/a build/b");
    CHECK_STR(out, "../../.mbuild/tmp/1/0/a /elsewhere/b");
    free(out);
    CHECK_STR(n.items[0].from_root[0] == '/' ? n.items[1].from_root : n.items[0].from_root, ".mbuild/tmp/1/0/a");
    names_free(&n);
}
