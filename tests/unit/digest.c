/* SHA-256 of bytes, files and folders, and manifests that cannot lead out of their folder. */
#include "digest_manifest.h"
#include "test.h"

#include <fcntl.h>
#include <pthread.h>
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

static void write_text(const char *path, const char *text) {
    OK(sys_mkdir_parents(path, &e));
    OK(sys_write_file(path, text, strlen(text), false, &e));
}

static const char *hex(const struct digest *d) {
    static char text[DIGEST_HEX + 1];
    digest_to_hex(d, text);
    return text;
}

static struct artifact look(const char *path) {
    struct artifact a;
    OK(digest_path(path, true, &a, NULL, &e));
    return a;
}

TEST("digests are those of FIPS 180-4") {
    struct digest d = digest_bytes("", 0);
    CHECK_STR(hex(&d), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    d = digest_bytes("abc", 3);
    CHECK_STR(hex(&d), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    struct digest_context *c = digest_begin(), *beside = digest_begin();
    for (int i = 0; i < 1000000; i++) digest_add(c, "a", 1);
    digest_add(beside, "abc", 3);
    d = digest_end(c);
    CHECK_STR(hex(&d), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    d = digest_end(beside);
    CHECK(!strncmp(hex(&d), "ba7816bf", 8));
}

TEST("hex goes there and back; anything but 64 lower-case digits is refused") {
    struct digest d = digest_bytes("x", 1), back;
    char text[80];
    digest_to_hex(&d, text);
    CHECK(!digest_from_hex(text, &back) && digest_same(&d, &back));
    static const char *const bad[] = {"", "ab", "zz"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) CHECK(digest_from_hex(bad[i], &back));
    strcat(text, "0");
    CHECK(digest_from_hex(text, &back));
    text[63] = 0;
    CHECK(digest_from_hex(text, &back));
    digest_to_hex(&d, text);
    text[10] = 'A';
    CHECK(digest_from_hex(text, &back));
}

TEST("two sequences of strings never have one digest") {
    static const char *const rows[][3] = {{"ab", "c", ""}, {"a", "bc", ""}, {"abc", "", ""}, {"", "abc", ""}, {"", "", "abc"}};
    struct digest all[5];
    for (int i = 0; i < 5; i++) {
        struct digest_context *c = digest_begin();
        for (int k = 0; k < 3; k++) digest_add_string(c, rows[i][k]);
        all[i] = digest_end(c);
        for (int k = 0; k < i; k++) CHECK(!digest_same(&all[i], &all[k]));
    }
}

static void *digest_many(void *arg) {
    char text[32];
    struct digest *out = arg;
    for (int i = 0; i < 2000; i++) {
        snprintf(text, sizeof text, "%d", i);
        struct digest d = digest_bytes(text, strlen(text));
        for (int k = 0; k < 32; k++) out->bytes[k] ^= d.bytes[k];
    }
    return NULL;
}

TEST("threads digest beside one another") {
    pthread_t threads[4];
    struct digest sums[4] = {{{0}}};
    for (int i = 0; i < 4; i++) CHECK(!pthread_create(&threads[i], NULL, digest_many, &sums[i]));
    for (int i = 0; i < 4; i++) CHECK(!pthread_join(threads[i], NULL));
    for (int i = 1; i < 4; i++) CHECK(digest_same(&sums[0], &sums[i]));
}

TEST("a path is a file, an executable, a link, a folder or absent") {
    struct artifact a;
    write_text(in("f"), "abc");
    struct digest abc = digest_bytes("abc", 3);
    a = look(in("f"));
    CHECK(a.type == ARTIFACT_FILE && a.size == 3 && digest_same(&a.digest, &abc));
    CHECK(!chmod(in("f"), 0755));
    a = look(in("f"));
    CHECK(a.type == ARTIFACT_EXECUTABLE && digest_same(&a.digest, &abc));
    CHECK(!symlink("f", in("l")) && !symlink("nowhere", in("dangling")));
    OK(digest_path(in("l"), false, &a, NULL, &e));
    struct digest target = digest_bytes("f", 1);
    CHECK(a.type == ARTIFACT_LINK && a.size == 1 && digest_same(&a.digest, &target));
    a = look(in("l"));
    CHECK(a.type == ARTIFACT_EXECUTABLE);
    CHECK_EQ(look(in("dangling")).type, ARTIFACT_NONE);
    CHECK_EQ(look(in("absent/below")).type, ARTIFACT_NONE);
    CHECK_EQ(look(test_folder()).type, ARTIFACT_FOLDER);
}

TEST("what is neither file, folder nor link is an error that names it, also within a folder") {
    struct artifact a;
    CHECK(!mkdir(in("d"), 0755) && !mkfifo(in("d/pipe"), 0644));
    CHECK(digest_path(in("d/pipe"), true, &a, NULL, &e));
    CHECK_CONTAINS(e.text, "d/pipe");
    CHECK(digest_path(in("d"), true, &a, NULL, &e));
    CHECK_CONTAINS(e.text, "d/pipe");
}

TEST("a folder's digest depends on names, contents, modes, links and empty folders, and on nothing else") {
    write_text(in("a/x"), "1");
    write_text(in("a/sub/y"), "22");
    write_text(in("b/sub/y"), "22"); /* in another order, at another time */
    write_text(in("b/x"), "1");
    struct artifact a = look(in("a")), b = look(in("b"));
    CHECK(artifact_same(&a, &b) && a.size == 3 && b.size == 3);
    write_text(in("b/x"), "2");
    b = look(in("b"));
    CHECK(!artifact_same(&a, &b));
    write_text(in("b/x"), "1");
    CHECK(!chmod(in("b/x"), 0755));
    b = look(in("b"));
    CHECK(!artifact_same(&a, &b));
    CHECK(!chmod(in("b/x"), 0644) && !rename(in("b/x"), in("b/z")));
    b = look(in("b"));
    CHECK(!artifact_same(&a, &b));
    CHECK(!rename(in("b/z"), in("b/x")) && !mkdir(in("b/empty"), 0755));
    b = look(in("b"));
    CHECK(!artifact_same(&a, &b));
    CHECK(!rmdir(in("b/empty")) && !symlink("x", in("b/l")));
    b = look(in("b"));
    CHECK(!artifact_same(&a, &b) && b.size == 3);
    CHECK(!unlink(in("b/l")));
    b = look(in("b"));
    CHECK(artifact_same(&a, &b));
}

TEST("a link in a folder is not followed, so a loop of links ends") {
    CHECK(!mkdir(in("d"), 0755) && !symlink("..", in("d/up")) && !symlink("/", in("d/root")));
    struct buf text = {0};
    struct artifact a;
    OK(digest_path(in("d"), true, &a, &text, &e));
    struct manifest m;
    OK(manifest_parse(text.data, text.len, &m, &e));
    CHECK_EQ(m.count, 2);
    CHECK_EQ(m.entries[0].artifact.type, ARTIFACT_LINK);
    manifest_free(&m);
    buf_free(&text);
}

TEST("a manifest's digest is the folder's, and reading it gives what was there, sorted by bytes") {
    write_text(in("d/a.b"), "1");
    write_text(in("d/a/c"), "22");
    write_text(in("d/\xff"), "");
    CHECK(!mkdir(in("d/a/empty"), 0755));
    struct buf text = {0};
    struct artifact a;
    OK(digest_path(in("d"), true, &a, &text, &e));
    struct digest d = digest_bytes(text.data, text.len);
    CHECK(digest_same(&d, &a.digest));
    struct manifest m;
    OK(manifest_parse(text.data, text.len, &m, &e));
    static const char *const paths[] = {"a.b", "a/c", "a/empty", "\xff"};
    CHECK_EQ(m.count, 4);
    for (int i = 0; i < 4; i++) CHECK_STR(m.entries[i].path, paths[i]);
    CHECK_EQ(m.entries[1].artifact.size, 2);
    CHECK_EQ(m.entries[2].artifact.type, ARTIFACT_FOLDER);
    manifest_free(&m);
    OK(manifest_parse("", 0, &m, &e));
    CHECK_EQ(m.count, 0);
    manifest_free(&m);
    buf_free(&text);
}

/* -- hostile manifests */

#define HEX "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

struct hostile {
    const char *text;
    size_t size;
};
#define TEXT(t) {t, sizeof t - 1}

TEST("a manifest that would lead out of its folder, or that nobody here writes, is refused") {
    static const struct hostile rows[] = {TEXT("f " HEX " 3 /etc/passwd\0"),
                                          TEXT("f " HEX " 3 ../x\0"),
                                          TEXT("f " HEX " 3 a/../../x\0"),
                                          TEXT("f " HEX " 3 ..\0"),
                                          TEXT("f " HEX " 3 .\0"),
                                          TEXT("f " HEX " 3 a/./b\0"),
                                          TEXT("f " HEX " 3 a//b\0"),
                                          TEXT("f " HEX " 3 a/\0"),
                                          TEXT("f " HEX " 3 \0"),
                                          TEXT("l " HEX " 1 a\0f " HEX " 3 a/b\0"), /* through a link */
                                          TEXT("f " HEX " 3 a\0f " HEX " 3 a/b/c\0"),
                                          TEXT("d " EMPTY " 0 a\0f " HEX " 3 a/b\0"),
                                          TEXT("f " HEX " 3 a\0f " HEX " 3 a.b\0f " HEX " 3 a/b\0"), /* not next to it */
                                          TEXT("f " HEX " 3 b\0f " HEX " 3 a\0"),
                                          TEXT("f " HEX " 3 a\0f " HEX " 3 a\0"), /* out of order, twice */
                                          TEXT("f " HEX " 3 a"),
                                          TEXT("f " HEX " 3\0"),
                                          TEXT("f " HEX " a\0"),
                                          TEXT("f " HEX "  a\0"),
                                          TEXT("f " HEX " 03 a\0"),
                                          TEXT("f " HEX " -3 a\0"),
                                          TEXT("f " HEX " 99999999999999999999 a\0"),
                                          TEXT("q " HEX " 3 a\0"),
                                          TEXT("\0"),
                                          TEXT("f\0"),
                                          TEXT("f BA7816BF8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad 3 a\0"),
                                          TEXT("f ba 3 a\0"),
                                          TEXT("d " HEX " 0 a\0"),
                                          TEXT("d " EMPTY " 1 a\0"),
                                          TEXT("f\t" HEX " 3 a\0"),
                                          TEXT("f " HEX " 3 a\0garbage")};
    struct manifest m;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *exact = mem_alloc(rows[i].size);
        memcpy(exact, rows[i].text, rows[i].size);
        e.text[0] = 0;
        CHECKF(manifest_parse(exact, rows[i].size, &m, &e), "row %zu was taken: %s", i, rows[i].text);
        CHECK_CONTAINS(e.text, "manifest");
        CHECK(!m.entries && !m.count);
        free(exact);
    }
    static const struct hostile fine[] = {TEXT("f " HEX " 3 ...\0"), TEXT("f " HEX " 3 .hidden\0f " HEX " 0 a b/\n\0"),
                                          TEXT("f " HEX " 18446744073709551600 a\0"),
                                          TEXT("f " HEX " 3 a\0f " HEX " 3 a.b\0f " HEX " 3 ab/c\0"), TEXT("f " HEX " 3 ..a/b..\0")};
    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++) {
        CHECKF(!manifest_parse(fine[i].text, fine[i].size, &m, &e), "row %zu: %s", i, e.text);
        manifest_free(&m);
    }
}

TEST("a manifest cut anywhere is refused or shorter by whole entries") {
    static const char text[] = "f " HEX " 3 a\0l " HEX " 10 b\0x " HEX " 3 c/d\0";
    struct manifest m;
    for (size_t n = 0; n < sizeof text; n++) {
        char *exact = mem_alloc(n);
        memcpy(exact, text, n);
        if (!manifest_parse(exact, n, &m, &e)) {
            CHECK(n == 0 || text[n - 1] == 0);
            manifest_free(&m);
        }
        free(exact);
    }
}
