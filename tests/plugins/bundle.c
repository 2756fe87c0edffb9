/* Bundles: the same bytes, read back, and archives made by somebody who wishes harm. */
#include "lib/bundle.h"
#include "test.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utime.h>

static const char *in_folder(const char *name) {
    static struct mbl_arena paths;
    return mbl_path_join(&paths, test_folder(), name);
}

static void write_bundle(const char *path, const char *format) {
    struct mbl_arena a = {0};
    struct mbl_error e;
    static char weights[50000];
    for (size_t i = 0; i < sizeof weights; i++) weights[i] = (char)(i * 2654435761u >> 13);
    const char *file = in_folder("file");
    CHECKF(!mbl_file_write(file, "from a file", 11, &e), "%s", e.text);
    struct mbl_member members[] = {{.name = "model/weights", .data = weights, .size = sizeof weights},
                                   {.name = "a ü.txt", .path = file, .executable = true},
                                   {.name = "scores.json", .data = "{\"accuracy\":1}", .size = 14},
                                   {.name = "empty", .data = "", .size = 0}};
    size_t count = sizeof members / sizeof *members;
    CHECKF(!mbl_bundle_prepare(members, count, &e), "%s", e.text);
    struct mbl_json *manifest = mbl_bundle_manifest("p", "1", members, count, &a);
    CHECKF(!mbl_bundle_write(path, format, 5, "p-1", manifest, members, count, NULL, NULL, &e), "%s", e.text);
    mbl_arena_free(&a);
}

static const char *const formats[] = {MBL_BUNDLE_FORMATS};
#define FORMATS (sizeof formats / sizeof *formats)

TEST("the same members give the same bytes in each format, whenever and wherever they are packed") {
    for (size_t i = 0; i < FORMATS; i++) {
        struct mbl_error e;
        unsigned char one[MBL_SHA256], two[MBL_SHA256];
        write_bundle(in_folder("one"), formats[i]);
        struct utimbuf times = {1000000000, 1000000000};
        CHECK(!utime(in_folder("file"), &times));
        setenv("TZ", "Asia/Tokyo", 1);
        umask(077);
        write_bundle(in_folder("two"), formats[i]);
        CHECK(!mbl_sha256_file(in_folder("one"), one, NULL, &e) && !mbl_sha256_file(in_folder("two"), two, NULL, &e));
        CHECK_MEM(one, two, sizeof one);
    }
}

TEST("a bundle reads back whole in each format, with names beyond ASCII") {
    for (size_t i = 0; i < FORMATS; i++) {
        struct mbl_bundle b;
        struct mbl_error e;
        write_bundle(in_folder("it"), formats[i]);
        CHECKF(!mbl_bundle_check(in_folder("it"), &b, &e), "%s", e.text);
        CHECKF(!b.problem_count, "%s: %s", formats[i], b.problems[0]);
        CHECK_EQ(b.files, 4);
        CHECK_STR(b.top, "p-1");
        CHECK_STR(mbl_bundle_text(&b, "scores.json"), "{\"accuracy\":1}");
        mbl_bundle_free(&b);
    }
}

/* Whether the check finds something, or everything that the manifest tells is as it was. */
static void check_damaged(const char *path, const char *what, size_t at, size_t *unnoticed) {
    struct mbl_bundle b;
    struct mbl_error e;
    CHECKF(!mbl_bundle_check(path, &b, &e), "%s", e.text);
    if (!b.problem_count) {
        CHECKF(b.files == 4, "%s at %zu: %zu files and no problem", what, at, b.files);
        ++*unnoticed;
    }
    mbl_bundle_free(&b);
}

TEST("a flipped bit anywhere is found, unless it changes no file") {
    for (size_t i = 0; i < FORMATS; i++) {
        struct mbl_buf text = {0};
        struct mbl_error e;
        size_t unnoticed = 0, tried = 0;
        write_bundle(in_folder("it"), formats[i]);
        CHECK(!mbl_file_read(in_folder("it"), 1 << 20, &text, &e));
        for (size_t at = 0; at < text.len; at += 97, tried++) {
            text.data[at] ^= (char)(1 << at % 8);
            CHECK(!mbl_file_write(in_folder("flipped"), text.data, text.len, &e));
            text.data[at] ^= (char)(1 << at % 8);
            check_damaged(in_folder("flipped"), formats[i], at, &unnoticed);
        }
        /* Padding and header fields that nobody reads: the signature covers these as well. */
        CHECKF(unnoticed * 4 < tried, "%s: %zu of %zu flipped bits were not noticed", formats[i], unnoticed, tried);
        mbl_buf_free(&text);
    }
}

TEST("a truncated bundle is found, at whatever length") {
    for (size_t i = 0; i < FORMATS; i++) {
        struct mbl_buf text = {0};
        struct mbl_error e;
        size_t unnoticed = 0;
        write_bundle(in_folder("it"), formats[i]);
        CHECK(!mbl_file_read(in_folder("it"), 1 << 20, &text, &e));
        for (size_t length = 0; length < text.len; length += 211) {
            CHECK(!mbl_file_write(in_folder("short"), text.data, length, &e));
            check_damaged(in_folder("short"), formats[i], length, &unnoticed);
        }
        CHECKF(unnoticed < 45, "%s: %zu", formats[i], unnoticed); /* a tar's last, empty blocks */
        mbl_buf_free(&text);
    }
}

/* -- made by hand */

struct entry {
    const char *name, *text;
    unsigned type;
    const char *link;
};

static void write_archive(const char *path, const struct entry *entries, size_t count) {
    struct archive *a = archive_write_new();
    archive_write_set_format_pax_restricted(a);
    CHECK(archive_write_open_filename(a, path) == ARCHIVE_OK);
    for (size_t i = 0; i < count; i++) {
        struct archive_entry *e = archive_entry_new();
        archive_entry_set_pathname(e, entries[i].name);
        archive_entry_set_filetype(e, entries[i].type ? entries[i].type : AE_IFREG);
        archive_entry_set_perm(e, 0644);
        if (entries[i].link) archive_entry_set_symlink(e, entries[i].link);
        archive_entry_set_size(e, entries[i].text ? (la_int64_t)strlen(entries[i].text) : 0);
        CHECK(archive_write_header(a, e) == ARCHIVE_OK);
        if (entries[i].text) archive_write_data(a, entries[i].text, strlen(entries[i].text));
        archive_entry_free(e);
    }
    archive_write_free(a);
}

static void expect_problem(const struct entry *entries, size_t count, const char *part) {
    struct mbl_bundle b;
    struct mbl_error e;
    struct mbl_buf all = {0};
    write_archive(in_folder("bad.tar"), entries, count);
    CHECKF(!mbl_bundle_check(in_folder("bad.tar"), &b, &e), "%s", e.text);
    for (size_t i = 0; i < b.problem_count; i++) mbl_buf_addf(&all, "%s\n", b.problems[i]);
    CHECK_CONTAINS(mbl_buf_str(&all), part);
    mbl_buf_free(&all);
    mbl_bundle_free(&b);
}
#define PROBLEM(part, ...) expect_problem((struct entry[]){__VA_ARGS__}, sizeof(struct entry[]){__VA_ARGS__} / sizeof(struct entry), part)

#define EMPTY_MANIFEST {"p/manifest.json", "{\"kind\":\"bundle\",\"format\":1,\"files\":[]}", 0, NULL}

TEST("names that lead out of the bundle's folder, links, devices and strangers are told") {
    PROBLEM("../../etc/passwd: the name leads out", EMPTY_MANIFEST, {"../../etc/passwd", "x", 0, NULL});
    PROBLEM("p/../x: the name leads out", EMPTY_MANIFEST, {"p/../x", "x", 0, NULL});
    PROBLEM("/etc/passwd: the name leads out", EMPTY_MANIFEST, {"/etc/passwd", "x", 0, NULL});
    PROBLEM("x: it lies beside", EMPTY_MANIFEST, {"x", "x", 0, NULL});
    PROBLEM("q/x: it lies outside", EMPTY_MANIFEST, {"q/x", "x", 0, NULL});
    PROBLEM("x: it is no regular file", EMPTY_MANIFEST, {"p/x", NULL, AE_IFLNK, "/etc/passwd"});
    PROBLEM("x: the manifest doesn't list it", EMPTY_MANIFEST, {"p/x", "x", 0, NULL});
    PROBLEM("x: it is in the archive twice", EMPTY_MANIFEST, {"p/x", "x", 0, NULL}, {"p/x", "y", 0, NULL});
    PROBLEM("manifest.json: it is in the archive twice", EMPTY_MANIFEST, EMPTY_MANIFEST, EMPTY_MANIFEST);
    PROBLEM("there is no manifest.json", {"p/x", "x", 0, NULL});
}

TEST("a manifest that lies or makes no sense is told") {
    PROBLEM("it isn't the manifest of a bundle", {"p/manifest.json", "[]", 0, NULL});
    PROBLEM("manifest.json", {"p/manifest.json", "{", 0, NULL});
    PROBLEM("an entry without path", {"p/manifest.json", "{\"kind\":\"bundle\",\"format\":1,\"files\":[1,{\"path\":\"x\"}]}", 0, NULL});
    PROBLEM("gone: the manifest lists it, but it is missing",
            {"p/manifest.json", "{\"kind\":\"bundle\",\"format\":1,\"files\":[{\"path\":\"gone\",\"size\":1,\"sha256\":"
                                "\"0000000000000000000000000000000000000000000000000000000000000000\"}]}", 0, NULL});
    PROBLEM("x: it was altered",
            {"p/manifest.json", "{\"kind\":\"bundle\",\"format\":1,\"files\":[{\"path\":\"x\",\"size\":1,\"sha256\":"
                                "\"0000000000000000000000000000000000000000000000000000000000000000\"}]}", 0, NULL},
            {"p/x", "x", 0, NULL});
    PROBLEM("x: it has 1 bytes, and 2 by the manifest",
            {"p/manifest.json", "{\"kind\":\"bundle\",\"format\":1,\"files\":[{\"path\":\"x\",\"size\":2,\"sha256\":"
                                "\"0000000000000000000000000000000000000000000000000000000000000000\"}]}", 0, NULL},
            {"p/x", "x", 0, NULL});
}

TEST("a terminal's commands in a name come out as question marks") {
    PROBLEM("p?[31mx: it lies beside", EMPTY_MANIFEST, {"p\033[31mx", "x", 0, NULL});
}

TEST("two members of one name, or one that would leave the folder, can't be packed") {
    struct mbl_error e;
    struct mbl_member twins[] = {{.name = "a", .data = "", .size = 0}, {.name = "a", .data = "", .size = 0}};
    CHECK_EQ(mbl_bundle_prepare(twins, 2, &e), -1);
    CHECK_CONTAINS(e.text, "two files of the bundle would be called a");
    static const char *const names[] = {"", "/a", "a/", "a//b", "../a", "a/..", "./a", "manifest.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct mbl_member one = {.name = names[i], .data = "", .size = 0};
        CHECKF(mbl_bundle_prepare(&one, 1, &e) == -1, "\"%s\" was taken", names[i]);
    }
}
