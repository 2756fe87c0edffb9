/* The layer over files: whole or not at all, links not followed where that matters, locks that die with their holder, faults on order. */
#include "sys.h"
#include "sys_call.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct err e;

#define OK(call) CHECKF(!(call), "%s", e.text)

static const char *in(const char *name) {
    static char paths[16][512];
    static unsigned next;
    char *path = paths[next++ % 16];
    snprintf(path, sizeof paths[0], "%s/%s", test_folder(), name);
    return path;
}

static void write_text(const char *path, const char *text) {
    OK(sys_mkdir_parents(path, &e));
    OK(sys_write_file(path, text, strlen(text), false, &e));
}

static const char *read_text(const char *path) {
    static struct buf b;
    buf_clear(&b);
    OK(sys_read_file(path, &b, &e));
    return buf_str(&b);
}

static struct file_stat look(const char *path) {
    struct file_stat st;
    OK(sys_stat(path, true, &st, &e));
    return st;
}

static uint32_t count_in(const char *folder) {
    char **names;
    uint32_t count;
    OK(sys_list(folder, &names, &count, &e));
    free(names);
    return count;
}

/* -- stat */

TEST("a stat tells file, folder, link, other and absent, and follows links unless told not to") {
    struct file_stat st;
    write_text(in("f"), "abc");
    CHECK(!symlink("f", in("l")) && !symlink("nowhere", in("dangling")) && !mkfifo(in("p"), 0644));
    st = look(in("f"));
    CHECK(st.kind == FILE_REGULAR && st.size == 3 && !st.executable && st.fresh);
    CHECK(!chmod(in("f"), 0744));
    CHECK(look(in("f")).executable);
    CHECK_EQ(look(in("l")).kind, FILE_LINK);
    OK(sys_stat(in("l"), false, &st, &e));
    CHECK(st.kind == FILE_REGULAR && st.size == 3);
    OK(sys_stat(in("dangling"), false, &st, &e));
    CHECK_EQ(st.kind, FILE_ABSENT);
    CHECK_EQ(look(test_folder()).kind, FILE_FOLDER);
    CHECK_EQ(look(in("p")).kind, FILE_OTHER);
    CHECK_EQ(look(in("absent")).kind, FILE_ABSENT);
    CHECK_EQ(look(in("f/below")).kind, FILE_ABSENT);
}

TEST("a stat is fresh for 20 ms after a change, and differs after any change that comes later") {
    write_text(in("f"), "abc");
    usleep(50000);
    struct file_stat before = look(in("f")), again = look(in("f"));
    CHECK(!before.fresh && file_stat_same(&before, &again));
    int fd = open(in("f"), O_WRONLY);
    CHECK(fd >= 0 && write(fd, "xyz", 3) == 3 && !close(fd)); /* the same size, in place */
    struct file_stat after = look(in("f"));
    CHECK(after.fresh && !file_stat_same(&before, &after));
    struct timespec old[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
    CHECK(!utimensat(AT_FDCWD, in("f"), old, 0));
    CHECK(!look(in("f")).fresh);
}

/* -- reading and writing */

TEST("files of any size are read and written whole") {
    static const size_t sizes[] = {0, 1, 65535, 65536, 65537, 1000000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct buf b = {0};
        char *bytes = mem_alloc(sizes[i]);
        for (size_t k = 0; k < sizes[i]; k++) bytes[k] = (char)(k * 31);
        OK(sys_write_file(in("f"), bytes, sizes[i], i % 2, &e));
        buf_adds(&b, "before");
        OK(sys_read_file(in("f"), &b, &e));
        CHECK_EQ(b.len, 6 + sizes[i]);
        CHECK_MEM(b.data + 6, bytes, sizes[i]);
        buf_free(&b);
        free(bytes);
    }
    CHECK_EQ(count_in(test_folder()), 1);
}

TEST("what can't be read is an error that names it, and a pipe without a writer is one at once") {
    struct buf b = {0};
    CHECK(!mkfifo(in("p"), 0644));
    static const char *const rows[][2] = {{"absent", "No such file"}, {".", "it is a folder"}, {"p", "no regular file"}};
    for (int i = 0; i < 3; i++) {
        CHECK(sys_read_file(in(rows[i][0]), &b, &e));
        CHECK_CONTAINS(e.text, in(rows[i][0]));
        CHECK_CONTAINS(e.text, rows[i][1]);
    }
    CHECK_EQ(b.len, 0);
    buf_free(&b);
}

TEST("whichever call of a write fails, the old or the new file stands there and nothing beside it") {
    unsigned long n = 0;
    int failures = 0;
    for (bool reached = true; reached;) {
        char spec[64];
        write_text(in("d/f"), "old");
        snprintf(spec, sizeof spec, "any:%lu", ++n);
        OK(sys_fault_arm(spec, &e));
        int status = sys_write_file(in("d/f"), "new", 3, true, &e);
        reached = sys_fault_seen() >= n;
        sys_fault_arm(NULL, &e);
        failures += status != 0;
        const char *text = read_text(in("d/f"));
        CHECKF(!strcmp(text, "new") || (status && !strcmp(text, "old")), "call %lu: %s", n, text);
        CHECK_EQ(count_in(in("d")), 1);
    }
    CHECK(failures >= 5); /* open, write, fsync, rename, and the folder's sync */
}

TEST("a copy has the bytes and the mode, and never replaces what is there") {
    write_text(in("a"), "abc");
    OK(sys_copy_file(in("a"), in("b"), false, &e));
    OK(sys_copy_file(in("a"), in("c"), true, &e));
    CHECK_STR(read_text(in("b")), "abc");
    CHECK(!look(in("b")).executable && look(in("c")).executable);
    write_text(in("a"), "xyz");
    CHECK(sys_copy_file(in("a"), in("b"), false, &e));
    CHECK_CONTAINS(e.text, "File exists");
    CHECK_STR(read_text(in("b")), "abc");
    write_text(in("empty"), "");
    OK(sys_copy_file(in("empty"), in("d"), false, &e));
    CHECK_EQ(look(in("d")).size, 0);
}

TEST("where neither reflink nor copy_file_range works, a copy goes by read and write") {
    struct buf b = {0};
    for (int i = 0; i < 50000; i++) buf_addf(&b, "%d\n", i);
    write_text(in("a"), buf_str(&b));
    OK(sys_fault_arm("copy:1+:EOPNOTSUPP", &e));
    OK(sys_copy_file(in("a"), in("b"), false, &e));
    CHECK(sys_fault_seen() >= 2);
    sys_fault_arm(NULL, &e);
    CHECK_STR(read_text(in("b")), buf_str(&b));
    OK(sys_fault_arm("copy:1+:EIO", &e));
    CHECK(sys_copy_file(in("a"), in("c"), false, &e));
    sys_fault_arm(NULL, &e);
    CHECK_EQ(look(in("c")).kind, FILE_ABSENT);
    buf_free(&b);
}

/* -- trees */

TEST("a listing is sorted by bytes, without . and ..") {
    static const char *const names[] = {"B", "a", "a b", "a.c", "\xc3\xa4", ".hidden"}, *const sorted[] = {".hidden", "B",   "a",
                                                                                                           "a b",     "a.c", "\xc3\xa4"};
    char **found;
    uint32_t count;
    for (int i = 0; i < 6; i++) {
        char name[32];
        snprintf(name, sizeof name, "d/%s", names[i]);
        write_text(in(name), "");
    }
    OK(sys_list(in("d"), &found, &count, &e));
    CHECK_EQ(count, 6);
    for (int i = 0; i < 6; i++) CHECK_STR(found[i], sorted[i]);
    free(found);
    CHECK(sys_list(in("absent"), &found, &count, &e));
    CHECK_CONTAINS(e.text, "absent");
    CHECK(sys_list(in("d/a"), &found, &count, &e));
}

TEST("folders are made with their parents; those that are there are fine, a file in the way is named") {
    OK(sys_mkdirs(in("a/b/c"), &e));
    OK(sys_mkdirs(in("a/b/c"), &e));
    OK(sys_mkdirs(in("a//b/./d/"), &e));
    CHECK_EQ(look(in("a/b/d")).kind, FILE_FOLDER);
    OK(sys_mkdir_parents(in("x/y/file"), &e));
    CHECK_EQ(look(in("x/y")).kind, FILE_FOLDER);
    CHECK_EQ(look(in("x/y/file")).kind, FILE_ABSENT);
    OK(sys_mkdir_parents("file", &e));
    OK(sys_mkdirs("", &e));
    write_text(in("f"), "");
    CHECK(sys_mkdirs(in("f/g"), &e));
    CHECK_CONTAINS(e.text, "f");
    CHECK(!symlink("a", in("l")));
    OK(sys_mkdirs(in("l/new"), &e));
    CHECK_EQ(look(in("a/new")).kind, FILE_FOLDER);
}

/* What may stand at a place, and what then is seen there. */
static void make(const char *path, int what) {
    char *inside = mem_printf("%s/inside", path);
    switch (what) {
    case 0: break;
    case 1: write_text(path, "text"); break;
    case 2: OK(sys_mkdirs(path, &e)); break;
    case 3: write_text(inside, "text"); break;
    default: CHECK(!symlink("elsewhere", path)); break;
    }
    free(inside);
}

TEST("a rename puts anything in place of anything, in one step") {
    for (int from = 1; from < 5; from++)
        for (int to = 0; to < 5; to++) {
            OK(sys_remove_tree(in("to"), &e));
            make(in("from"), from);
            make(in("to"), to);
            struct file_stat before = look(in("from"));
            OK(sys_rename(in("from"), in("to"), &e));
            CHECK_EQ(look(in("from")).kind, FILE_ABSENT);
            CHECKF(look(in("to")).ino == before.ino, "%d onto %d", from, to);
            CHECK_EQ(count_in(test_folder()), 1);
        }
    CHECK(sys_rename(in("absent"), in("to"), &e));
    CHECK_CONTAINS(e.text, "absent");
    make(in("f"), 1);
    make(in("d"), 2);
    CHECK(sys_rename(in("d"), in("f/below"), &e));
    CHECK_EQ(look(in("f")).kind, FILE_REGULAR);
}

TEST("removing a tree never follows a link out of it") {
    write_text(in("keep/file"), "text");
    OK(sys_mkdirs(in("tree/sub"), &e));
    CHECK(!symlink("../../keep", in("tree/sub/link")) && !symlink("../keep", in("tree/link")) && !symlink("keep", in("link")));
    OK(sys_remove_tree(in("tree"), &e));
    OK(sys_remove_tree(in("link"), &e));
    CHECK_EQ(look(in("tree")).kind, FILE_ABSENT);
    CHECK_EQ(look(in("link")).kind, FILE_ABSENT);
    CHECK_STR(read_text(in("keep/file")), "text");
    OK(sys_remove_tree(in("absent"), &e));
    OK(sys_unlink(in("absent"), &e));
    OK(sys_unlink(in("keep/file"), &e));
    CHECK(sys_unlink(in("keep"), &e));
}

TEST("a tree deeper than there are descriptors, with folders closed to their owner, is removed") {
    struct buf path = {0};
    buf_adds(&path, in("deep"));
    for (int i = 0; i < 600; i++) buf_adds(&path, "/d");
    OK(sys_mkdirs(buf_str(&path), &e));
    buf_free(&path);
    write_text(in("deep/d/closed/file"), "");
    CHECK(!chmod(in("deep/d/closed"), 0));
    OK(sys_remove_tree(in("deep"), &e));
    CHECK_EQ(count_in(test_folder()), 0);
}

TEST("links and names for temporary files are made as asked") {
    OK(sys_symlink("some where", in("l"), &e));
    char target[64];
    ssize_t n = readlink(in("l"), target, sizeof target);
    CHECK(n == 10 && !memcmp(target, "some where", 10));
    CHECK(sys_symlink("x", in("l"), &e));
    char *a = sys_temp_beside("folder/file"), *b = sys_temp_beside("folder/file"), *c = sys_temp_beside("file");
    CHECK(strcmp(a, b) && !strncmp(a, "folder/", 7) && !strchr(a + 7, '/') && !strchr(c, '/'));
    free(a), free(b), free(c);
    write_text(in("f"), "x");
    OK(sys_sync_file(in("f"), &e));
    OK(sys_sync_folder(test_folder(), &e));
    CHECK(sys_sync_file(in("absent"), &e));
    CHECK_CONTAINS(e.text, "absent");
}

/* -- clocks and locks */

TEST("one clock never goes back, the other is the wall's") {
    int64_t last = sys_now_ns();
    for (int i = 0; i < 1000; i++) {
        int64_t now = sys_now_ns();
        CHECK(now >= last);
        last = now;
    }
    CHECK(llabs(sys_wall_ms() - (int64_t)time(NULL) * 1000) < 5000);
}

TEST("a lock is held by one process, tells by whom, and dies with it") {
    int ready[2];
    char byte, *holder;
    CHECK(!pipe(ready));
    pid_t child = fork();
    if (!child) {
        int fd = sys_lock(in("lock"), "the child", false, &holder, &e);
        if (fd < 0 || write(ready[1], "x", 1) != 1) _exit(1);
        for (;;) pause();
    }
    close(ready[1]);
    CHECK(read(ready[0], &byte, 1) == 1);
    CHECK(sys_lock(in("lock"), "me", false, &holder, &e) < 0);
    CHECK_STR(holder, "the child");
    CHECK_CONTAINS(e.text, "is locked by the child");
    free(holder);
    kill(child, SIGKILL);
    CHECK(waitpid(child, NULL, 0) == child);
    int fd = sys_lock(in("lock"), "me", false, &holder, &e);
    CHECKF(fd >= 0 && !holder, "%s", e.text);
    CHECK_STR(read_text(in("lock")), "me");
    sys_unlock(fd);
    fd = sys_lock(in("lock"), "me again", true, &holder, &e);
    CHECK(fd >= 0);
    sys_unlock(fd);
    CHECK(sys_lock(in("no/folder"), "me", false, &holder, &e) < 0 && !holder);
    close(ready[0]);
}

TEST("who waits for a lock gets it when its holder lets go, even if the file was removed meanwhile") {
    char *holder;
    int fd = sys_lock(in("lock"), "parent", false, &holder, &e);
    CHECK(fd >= 0);
    pid_t child = fork();
    if (!child) {
        close(fd);
        int got = sys_lock(in("lock"), "child", true, &holder, &e);
        _exit(got >= 0 && !strcmp(read_text(in("lock")), "child") ? 0 : 1);
    }
    usleep(50000);
    OK(sys_unlink(in("lock"), &e));
    sys_unlock(fd);
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* -- faults */

TEST("a fault that is spelt wrong is refused, so that it can't go for a test passed") {
    static const char *const wrong[] = {"",         "write",          "write:",   "write:0",        "write:x", "rite:1",
                                        "write:1:", "write:1:EWRONG", "write:1x", "write:1:KILLED", "any:-",   ":1"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        CHECKF(sys_fault_arm(wrong[i], &e), "%s was taken", wrong[i]);
        CHECK_CONTAINS(e.text, "MBUILD_FAULT");
        CHECK(!sys_fault_armed);
    }
    OK(sys_fault_arm(NULL, &e));
}

TEST("the n-th call fails with the errno, those beside it don't; with + all from there on") {
    struct file_stat st;
    for (int onward = 0; onward < 2; onward++) {
        OK(sys_fault_arm(onward ? "mkdir:2+:EROFS" : "mkdir:2:EROFS", &e));
        OK(sys_call_mkdir(AT_FDCWD, in(onward ? "a1" : "b1"), 0755));
        errno = 0;
        CHECK(sys_call_mkdir(AT_FDCWD, in("2"), 0755) && errno == EROFS);
        CHECK(!sys_call_mkdir(AT_FDCWD, in("3"), 0755) == !onward);
        CHECK_EQ(sys_fault_seen(), 3);
        OK(sys_stat(in("2"), false, &st, &e)); /* other kinds go on */
        sys_fault_arm(NULL, &e);
        CHECK_EQ(st.kind, FILE_ABSENT);
        rmdir(in("3"));
    }
}
