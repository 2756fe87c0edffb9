/* The store: what goes in comes out the same, or not at all; each system call may fail or be the last, and nothing false is left. */
#include "store_private.h"
#include "sys_call.h"
#include "test.h"

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

static struct store *open_store(void) {
    struct store *s;
    OK(store_open(in("store"), &s, &e));
    return s;
}

static struct artifact put(struct store *s, const char *path) {
    struct artifact a;
    OK(store_put(s, path, &a, &e));
    return a;
}

static struct artifact look(const char *path) {
    struct artifact a;
    OK(digest_path(path, false, &a, NULL, &e));
    return a;
}

static void get(struct store *s, const struct artifact *a, const char *path) {
    bool corrupt;
    OK(store_get(s, a, path, &corrupt, &e));
    CHECK(!corrupt);
    struct artifact found = look(path);
    CHECK(artifact_same(&found, a));
}

static char *object_path(const struct digest *d) {
    char name[OBJECT_NAME];
    object_name(d, name);
    return mem_printf("%s/%s", in("store"), name);
}

static void spoil(const struct digest *d, const char *text) {
    char *path = object_path(d);
    CHECK(!unlink(path));
    write_text(path, text);
    free(path);
}

static bool there(const char *path) {
    struct file_stat st;
    OK(sys_stat(path, true, &st, &e));
    return st.kind != FILE_ABSENT;
}

/* A folder with everything that a folder may hold, and a file too large to be put in one piece. */
static void make_folder(const char *path) {
    char *p = mem_printf("%s/plain", path), *q = mem_printf("%s/sub/run", path), *link = mem_printf("%s/sub/link", path),
         *empty = mem_printf("%s/empty/deep", path), *large = mem_printf("%s/large", path);
    struct buf b = {0};
    for (int i = 0; i < 40000; i++) buf_addf(&b, "%d\n", i);
    write_text(p, "plain text\n");
    write_text(q, "#!/bin/sh\n");
    write_text(large, buf_str(&b));
    CHECK(!chmod(q, 0755) && !symlink("../plain", link));
    OK(sys_mkdirs(empty, &e));
    buf_free(&b);
    free(p), free(q), free(link), free(empty), free(large);
}

TEST("files, executables, links and folders come out as they went in, in place of whatever stands there") {
    struct store *s = open_store();
    write_text(in("file"), "abc");
    write_text(in("run"), "abc");
    write_text(in("nothing"), "");
    CHECK(!chmod(in("run"), 0755) && !symlink("some/where", in("link")));
    make_folder(in("folder"));
    OK(sys_mkdirs(in("bare"), &e));
    static const char *const names[] = {"file", "run", "nothing", "link", "folder", "bare"};
    enum { COUNT = sizeof names / sizeof *names };
    struct artifact all[COUNT];
    for (int i = 0; i < COUNT; i++) {
        struct artifact direct = look(in(names[i]));
        all[i] = put(s, in(names[i]));
        CHECK(artifact_same(&all[i], &direct));
        CHECK_EQ(all[i].size, direct.size);
        CHECK(store_has(s, &all[i]));
    }
    for (int i = 0; i < COUNT; i++)
        for (int k = 0; k < COUNT; k++) { /* each over each */
            get(s, &all[i], in("out"));
            get(s, &all[k], in("out"));
        }
    OK(store_sync(s, &e));
    OK(store_sync(s, &e));
    store_close(s);
}

TEST("an object is a copy: an output edited in place leaves it as it was") {
    struct store *s = open_store();
    write_text(in("a"), "before");
    struct artifact a = put(s, in("a"));
    FILE *f = fopen(in("a"), "r+");
    CHECK(f && fputs("AFTER!", f) >= 0 && !fclose(f));
    get(s, &a, in("b"));
    CHECK_STR(read_text(in("b")), "before");
    f = fopen(in("b"), "r+");
    CHECK(f && fputs("AFTER!", f) >= 0 && !fclose(f));
    get(s, &a, in("c"));
    CHECK_STR(read_text(in("c")), "before");
    store_close(s);
}

TEST("what is not there or is no artifact is told, and the place stays as it was") {
    struct store *s = open_store();
    struct artifact a;
    bool corrupt;
    CHECK(store_put(s, in("absent"), &a, &e));
    CHECK_CONTAINS(e.text, "absent doesn't exist");
    CHECK(!mkfifo(in("pipe"), 0644));
    CHECK(store_put(s, in("pipe"), &a, &e));
    CHECK_CONTAINS(e.text, "neither file, folder nor link");
    a = (struct artifact){.type = ARTIFACT_NONE};
    CHECK(!store_has(s, &a));
    write_text(in("out"), "old");
    CHECK(store_get(s, &a, in("out"), &corrupt, &e) && !corrupt);
    a = (struct artifact){.type = ARTIFACT_FILE, .digest = digest_bytes("abc", 3), .size = 3};
    CHECK(!store_has(s, &a));
    CHECK(store_get(s, &a, in("out"), &corrupt, &e) && corrupt);
    CHECK_CONTAINS(e.text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad is not in the store");
    CHECK_STR(read_text(in("out")), "old");
    store_close(s);
}

/* -- damage */

TEST("a damaged object is found, named, dropped and never handed on; put again, it is whole") {
    struct store *s = open_store();
    write_text(in("a"), "abc");
    struct artifact a = put(s, in("a"));
    bool corrupt;
    write_text(in("out"), "old");
    spoil(&a.digest, "abd");
    CHECK(store_get(s, &a, in("out"), &corrupt, &e) && corrupt);
    CHECK_CONTAINS(e.text,
                   "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad in the store was damaged and has been dropped");
    CHECK_STR(read_text(in("out")), "old");
    CHECK(!store_has(s, &a));
    put(s, in("a"));
    get(s, &a, in("out"));
    spoil(&a.digest, ""); /* cut short, as after a power cut: the next put mends it */
    CHECK(!store_has(s, &a));
    put(s, in("a"));
    get(s, &a, in("out"));
    store_close(s);
}

TEST("damage to a folder's manifest, a file in it or a link in it stops the whole folder") {
    struct store *s = open_store();
    make_folder(in("folder"));
    struct artifact folder = put(s, in("folder")), file = look(in("folder/sub/run")), link = look(in("folder/sub/link"));
    const struct digest *each[] = {&folder.digest, &file.digest, &link.digest};
    for (int i = 0; i < 3; i++) {
        bool corrupt;
        spoil(each[i], "other");
        CHECK(store_get(s, &folder, in("out"), &corrupt, &e) && corrupt);
        CHECK(!there(in("out")) && !store_has(s, &folder));
        put(s, in("folder"));
        CHECK(store_has(s, &folder));
    }
    get(s, &folder, in("out"));
    store_close(s);
}

static void count_reported(void *ctx, const char *hex) {
    CHECK_EQ(strlen(hex), DIGEST_HEX);
    ++*(int *)ctx;
}

TEST("a check of the store drops what is damaged and nothing else") {
    struct store *s = open_store();
    write_text(in("a"), "abc");
    write_text(in("b"), "abd");
    struct artifact a = put(s, in("a")), b = put(s, in("b"));
    int reported = 0;
    OK(store_check(s, count_reported, &reported, &e));
    CHECK_EQ(reported, 0);
    spoil(&a.digest, "xyz");
    OK(store_check(s, count_reported, &reported, &e));
    CHECK_EQ(reported, 1);
    CHECK(!store_has(s, &a) && store_has(s, &b));
    store_close(s);
}

#define HEX "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" /* "abc" */

TEST("a manifest in the store that would lead out of its folder makes no file anywhere") {
    static const struct { const char *text; size_t size;
    } rows[] = {
#define TEXT(t) {t, sizeof t - 1}
        TEXT("f " HEX " 3 ../stolen\0"), TEXT("f " HEX " 3 /tmp/mbuild-stolen\0"), TEXT("l " HEX " 3 a\0f " HEX " 3 a/stolen\0"),
        TEXT("f " HEX " 3 a/../../stolen\0"), TEXT("this is no manifest\n")};
    struct store *s = open_store();
    write_text(in("abc"), "abc");
    put(s, in("abc"));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool corrupt;
        OK(sys_write_file(in("manifest"), rows[i].text, rows[i].size, false, &e));
        struct artifact a = put(s, in("manifest"));
        a.type = ARTIFACT_FOLDER;
        CHECKF(store_get(s, &a, in("out/folder"), &corrupt, &e), "row %zu", i);
        CHECK_CONTAINS(e.text, "manifest");
        CHECK(!store_has(s, &a));
    }
    CHECK(!there(in("stolen")) && !there(in("out")) && !there("/tmp/mbuild-stolen") && !there(in("store/stolen"))
          && !there(in("store/tmp/stolen")));
    store_close(s);
}

TEST("a link whose text in the store is none is refused") {
    static const struct { const char *text; size_t size; } rows[] = {TEXT(""), TEXT("a\0b")};
    struct store *s = open_store();
    bool corrupt;
    for (size_t i = 0; i < 2; i++) {
        OK(sys_write_file(in("text"), rows[i].text, rows[i].size, false, &e));
        struct artifact a = put(s, in("text"));
        a.type = ARTIFACT_LINK;
        CHECK(store_get(s, &a, in("out"), &corrupt, &e) && !corrupt);
        CHECK_CONTAINS(e.text, "no link's text");
        CHECK(!there(in("out")));
    }
    store_close(s);
}

/* -- faults: every call fails once, then all from there on */

/* How many temporary files there are that no open store may be writing. */
static uint32_t count_temps(void) {
    char **names;
    uint32_t count = 0;
    if (!there(in("store/tmp"))) return 0;
    OK(sys_list(in("store/tmp"), &names, &count, &e));
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (strchr(names[i], '.')) continue;
        char **inside, *path = mem_printf("%s/%s", in("store/tmp"), names[i]);
        uint32_t n;
        OK(sys_list(path, &inside, &n, &e));
        kept += n;
        free(inside);
        free(path);
    }
    free(names);
    return kept;
}

/* N counts up until there is no such call. */
static const char *const faults[] = {"any:N",       "any:N+",        "any:N:ENOSPC",    "write:N+:ENOSPC",
                                     "fsync:N:EIO", "open:N:EMFILE", "rename:N:EACCES", "read:N:EIO"};

static const char *arm(const char *form, unsigned long n) {
    static char spec[64];
    const char *at = strchr(form, 'N');
    snprintf(spec, sizeof spec, "%.*s%lu%s", (int)(at - form), form, n, at + 1);
    OK(sys_fault_arm(spec, &e));
    return spec;
}

static void put_under_faults(const void *arg) {
    const char *form = arg;
    unsigned long n = 0;
    int failures = 0;
    make_folder(in("folder"));
    struct artifact whole = look(in("folder"));
    for (bool reached = true; reached;) {
        struct store *s = NULL;
        struct artifact a;
        OK(sys_remove_tree(in("store"), &e));
        const char *spec = arm(form, ++n);
        int status = store_open(in("store"), &s, &e) || store_put(s, in("folder"), &a, &e) || store_sync(s, &e) ? -1 : 0;
        reached = sys_fault_seen() >= n;
        sys_fault_arm(NULL, &e);
        if (status) {
            CHECKF(*e.text, "%s: an error without a message", spec);
            failures++;
        } else {
            CHECKF(artifact_same(&a, &whole) && store_has(s, &whole), "%s: it said that all went well", spec);
        }
        if (s) CHECKF(count_temps() == 0, "%s: a temporary file stays while the store is open", spec);
        store_close(s);
        s = open_store(); /* whatever happened, all that bears a name is right, and it can be done again */
        int reported = 0;
        OK(store_check(s, count_reported, &reported, &e));
        CHECKF(!reported, "%s: a wrong object", spec);
        put(s, in("folder"));
        get(s, &whole, in("out"));
        CHECKF(count_temps() == 0, "%s: temporary files stay", spec);
        store_close(s);
    }
    CHECK(failures > 0);
}

static void get_under_faults(const void *arg) {
    const char *form = arg;
    unsigned long n = 0;
    int failures = 0;
    make_folder(in("folder"));
    struct store *s = open_store();
    struct artifact whole = put(s, in("folder"));
    for (bool reached = true; reached;) {
        bool corrupt;
        OK(sys_remove_tree(in("out"), &e));
        write_text(in("out"), "old");
        const char *spec = arm(form, ++n);
        int status = store_get(s, &whole, in("out"), &corrupt, &e);
        reached = sys_fault_seen() >= n;
        sys_fault_arm(NULL, &e);
        struct artifact now = look(in("out"));
        bool moved = artifact_same(&now, &whole);
        if (status) {
            failures++;
            CHECKF(!corrupt, "%s: a fault went for damage: %s", spec, e.text);
            CHECK_CONTAINS(e.text, "cannot restore");
            CHECKF(moved || (now.type == ARTIFACT_FILE && !strcmp(read_text(in("out")), "old")), "%s: half of it", spec);
        } else {
            CHECKF(moved, "%s: it said that all went well", spec);
        }
        CHECKF(store_has(s, &whole), "%s: an object is gone", spec);
    }
    CHECK(failures > 0 || strstr(form, "fsync")); /* what comes out of the store can come out again: no need to sync it */
    get(s, &whole, in("out"));
    store_close(s);
}

TEST_TABLE {
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        test_add(put_under_faults, faults[i], "a put that fails at call n of %s leaves no wrong object, and can be done again", faults[i]);
        test_add(get_under_faults, faults[i], "a get that fails at call n of %s leaves the old or the new, and loses no object", faults[i]);
    }
}

TEST("a put or get that is killed at any call leaves no wrong object and half of nothing, and the next one clears up") {
    make_folder(in("folder"));
    struct artifact whole = look(in("folder"));
    bool killed = true;
    for (unsigned long n = 1; killed; n++) {
        OK(sys_remove_tree(in("store"), &e));
        OK(sys_remove_tree(in("out"), &e));
        write_text(in("out"), "old");
        pid_t child = fork();
        if (!child) {
            struct store *s;
            struct artifact a;
            bool corrupt;
            arm("any:N:KILL", n);
            if (store_open(in("store"), &s, &e) || store_put(s, in("folder"), &a, &e) || store_sync(s, &e)) _exit(1);
            _exit(store_get(s, &a, in("out"), &corrupt, &e) ? 1 : 0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child);
        killed = WIFSIGNALED(status);
        CHECKF(killed ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0, "call %lu: status %x", n, status);
        struct artifact now = look(in("out"));
        CHECKF(artifact_same(&now, &whole) || (now.type == ARTIFACT_FILE && !strcmp(read_text(in("out")), "old")), "call %lu: half of it",
               n);
        struct store *s = open_store();
        int reported = 0;
        OK(store_check(s, count_reported, &reported, &e));
        CHECKF(!reported, "call %lu: a wrong object", n);
        put(s, in("folder"));
        CHECKF(count_temps() == 0, "call %lu: temporary files stay", n);
        get(s, &whole, in("out"));
        store_close(s);
    }
}

/* -- collecting */

static bool keep_one(void *ctx, const struct digest *d) {
    return digest_same(ctx, d);
}

static bool keep_none(void *ctx, const struct digest *d) {
    (void)ctx, (void)d;
    return false;
}

/* Another mbuild that shares the store takes up an object while gc still looks at what to keep. */
static bool touch_one(void *ctx, const struct digest *d) {
    char hex[DIGEST_HEX + 1], name[DIGEST_HEX + 16];
    if (!digest_same(ctx, d)) return false;
    digest_to_hex(d, hex);
    snprintf(name, sizeof name, "store/%.2s/%s", hex, hex + 2);
    struct timespec later[2] = {{.tv_sec = time(NULL) + 5}, {.tv_sec = time(NULL) + 5}};
    CHECK(!utimensat(AT_FDCWD, in(name), later, 0));
    return false;
}

TEST("gc leaves what somebody took up after it looked") {
    struct store *s = open_store();
    struct store_gc_result result;
    write_text(in("taken"), "taken up");
    write_text(in("other"), "other");
    struct artifact taken = put(s, in("taken")), other = put(s, in("other"));
    OK(store_gc(s, touch_one, &taken.digest, 0, false, &result, &e));
    CHECK_EQ(result.removed, 1);
    CHECK_EQ(result.kept, 1);
    CHECK(store_has(s, &taken) && !store_has(s, &other));
    store_close(s);
}

TEST("gc removes what nobody keeps; a kept folder keeps what it names") {
    struct store *s = open_store();
    struct store_gc_result result, dry;
    make_folder(in("folder"));
    write_text(in("other"), "other");
    struct artifact folder = put(s, in("folder")), other = put(s, in("other"));
    OK(store_gc(s, keep_one, &folder.digest, 0, true, &dry, &e));
    CHECK(store_has(s, &other));
    OK(store_gc(s, keep_one, &folder.digest, 0, false, &result, &e));
    CHECK_EQ(result.removed, 1);
    CHECK_EQ(result.removed_bytes, 5);
    CHECK_EQ(result.kept, 5); /* the manifest, plain, run, large, the link's text */
    CHECK(!memcmp(&dry, &result, sizeof dry));
    CHECK(!store_has(s, &other) && store_has(s, &folder));
    get(s, &folder, in("out"));
    OK(store_gc(s, keep_none, NULL, 3600, false, &result, &e));
    CHECK_EQ(result.removed, 0); /* all too young */
    OK(store_gc(s, keep_none, NULL, 0, false, &result, &e));
    CHECK_EQ(result.kept, 0);
    CHECK(!store_has(s, &folder));
    store_close(s);
}
