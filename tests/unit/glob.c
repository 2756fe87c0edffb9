/* Patterns over folders: what matches, in what order, and what never does. */
#include "rules.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct err e;

#define OK(call) CHECKF(!(call), "%s", e.text)

static const char *in(const char *name) {
    static char paths[8][512];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", test_folder(), name);
    return path;
}

static void touch(const char *name) {
    OK(sys_mkdir_parents(in(name), &e));
    OK(sys_write_file(in(name), "", 0, false, &e));
}

static void add(void *ctx, const char *path) {
    struct buf *b = ctx;
    buf_addf(b, "%s%s", b->len ? " " : "", path);
}

static const char *expand(const char *pattern) {
    static struct buf b;
    buf_clear(&b);
    CHECKF(!glob_expand(test_folder(), pattern, add, &b, &e), "%s: %s", pattern, e.text);
    return buf_str(&b);
}

static void make_world(void) {
    static const char *const files[] = {"a.csv",
                                        "b.csv",
                                        "B.csv",
                                        "c.txt",
                                        ".hidden.csv",
                                        "data/1.csv",
                                        "data/2.csv",
                                        "data/10.csv",
                                        "data/deep/3.csv",
                                        "data/deep/er/4.csv",
                                        "data/.secret/5.csv",
                                        ".mbuild/store/x.csv",
                                        "sub/.mbuild/y.csv",
                                        "x[1].csv",
                                        "data.csv/inner.csv"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) touch(files[i]);
    CHECK(!symlink("nowhere", in("dangling.csv")) && !symlink("data", in("linked")) && !mkfifo(in("pipe.csv"), 0644));
}

TEST("a pattern matches the files that it says, sorted by bytes within each folder") {
    static const char *const rows[][2] = {
        {"*.csv", "B.csv a.csv b.csv x[1].csv"},
        {"?.csv", "B.csv a.csv b.csv"},
        {"[ab].csv", "a.csv b.csv"},
        {"[!a-z].csv", "B.csv"},
        {"data/*.csv", "data/1.csv data/10.csv data/2.csv"},
        {"data/?.csv", "data/1.csv data/2.csv"},
        {"*/1.csv", "data/1.csv linked/1.csv"},
        {"a.csv", "a.csv"},
        {"data/deep/3.csv", "data/deep/3.csv"},
        {"absent.csv", ""},
        {"absent/*.csv", ""},
        {"*.absent", ""},
        {"a.csv/*", ""},
        {"data", ""},
        {".*.csv", ".hidden.csv"},
        {"data/.secret/*", "data/.secret/5.csv"},
        {"x\\[1\\].csv", "x[1].csv"},
        {"d*/deep/*", "data/deep/3.csv"},
    };
    make_world();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        CHECKF(!strcmp(expand(rows[i][0]), rows[i][1]), "%s gives \"%s\"", rows[i][0], expand(rows[i][0]));
}

TEST("** goes through folders, itself no folder too; never into hidden ones or mbuild's own") {
    make_world();
    CHECK_STR(expand("data/**/*.csv"), "data/1.csv data/10.csv data/2.csv data/deep/3.csv data/deep/er/4.csv");
    CHECK_STR(expand("data/**"), expand("data/**/*"));
    CHECK_STR(expand("**/er/*"), "data/deep/er/4.csv linked/deep/er/4.csv");
    CHECK(!strstr(expand("**/*.csv"), ".mbuild") && !strstr(expand("**/*.csv"), ".secret") && !strstr(expand("**/*.csv"), ".hidden"));
    CHECK(!strstr(expand("*/*/*.csv"), ".mbuild"));
    CHECK(strstr(expand("**/*.csv"), "data.csv/inner.csv") != NULL);
}

TEST("a folder that links to one above it ends in an error that says so, not in a loop") {
    struct buf b = {0};
    touch("d/f");
    CHECK(!symlink("..", in("d/up")));
    CHECK(glob_expand(test_folder(), "**/f", add, &b, &e));
    CHECK_CONTAINS(e.text, "a loop of links?");
    buf_free(&b);
}

TEST("the same pattern gives the same list, in whatever order the files were made") {
    for (int i = 20; i-- > 0;) {
        char name[32];
        snprintf(name, sizeof name, "d/%02d", i * 7 % 20);
        touch(name);
    }
    CHECK_STR(expand("d/*"), "d/00 d/01 d/02 d/03 d/04 d/05 d/06 d/07 d/08 d/09 d/10 d/11 d/12 d/13 d/14 d/15 d/16 d/17 d/18 d/19");
}

TEST("only *, ? and [ make a pattern of a text") {
    CHECK(glob_is_pattern("a*") && glob_is_pattern("?") && glob_is_pattern("[a]"));
    CHECK(!glob_is_pattern("a.b/c-d{e}") && !glob_is_pattern(""));
}
