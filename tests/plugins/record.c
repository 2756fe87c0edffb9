/* Release records: seals and chains, and what edits of them look like. */
#include "lib/lookup.h"
#include "release/record.h"
#include "test.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct mbl_arena arena;

static const char *path_of(const char *name) {
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", test_folder(), name);
    return path;
}

static void add_record(int number, const char *previous, const char *previous_digest) {
    struct mbl_json *r = mbl_json_table(&arena), *bundle = mbl_json_table(&arena), *before = mbl_json_null(&arena);
    struct mbl_buf text = {0};
    struct mbl_error e;
    char name[32];
    mbl_json_set(&arena, r, "kind", mbl_json_string(&arena, "release"));
    mbl_json_set(&arena, r, "format", mbl_json_int(&arena, 1));
    mbl_json_set(&arena, r, "number", mbl_json_int(&arena, number));
    mbl_json_set(&arena, bundle, "sha256", mbl_json_string(&arena, "abc"));
    mbl_json_set(&arena, r, "bundle", bundle);
    if (previous) {
        before = mbl_json_table(&arena);
        mbl_json_set(&arena, before, "name", mbl_json_string(&arena, previous));
        mbl_json_set(&arena, before, "sha256", mbl_json_string(&arena, previous_digest));
    }
    mbl_json_set(&arena, r, "previous", before);
    record_seal(r, &arena, &text);
    snprintf(name, sizeof name, "r%d.json", number);
    CHECK(!mbl_file_write(path_of(name), text.data, text.len, &e));
    mbl_buf_free(&text);
}

static struct records read_all(void) {
    static struct records all[64]; /* what they hold lasts as long as the test */
    static int next;
    struct mbl_error e;
    CHECK(next < 64);
    CHECKF(!records_read(test_folder(), &all[next], &e), "%s", e.text);
    return all[next++];
}

static void make_three(void) {
    add_record(1, NULL, NULL);
    struct records r = read_all();
    add_record(2, "r1", r.items[0].sha256);
    r = read_all();
    add_record(10, "r2", r.items[1].sha256);
}

TEST("a chain of records is whole, in the order of their numbers; other files are passed over") {
    struct mbl_error e;
    make_three();
    CHECK(!mbl_file_write(path_of("r01.json"), "x", 1, &e) && !mbl_file_write(path_of("r3.json.orig"), "x", 1, &e) &&
          !mbl_file_write(path_of("README.md"), "x", 1, &e));
    struct records r = read_all();
    CHECK_EQ(r.count, 3);
    for (size_t i = 0; i < 3; i++) CHECKF(!r.items[i].damage, "%s: %s", r.items[i].name, r.items[i].damage);
    CHECK_STR(r.items[2].name, "r10");
    CHECK(records_find(&r, "r2") == &r.items[1]);
    CHECK(!records_find(&r, "r3"));
    CHECK_STR(record_text(&r.items[0], "bundle.sha256"), "abc");
    CHECK_STR(record_text(&r.items[0], "bundle.none"), "");
}

TEST("an absent folder has no records") {
    struct records r;
    struct mbl_error e;
    CHECK(!records_read(path_of("none"), &r, &e));
    CHECK_EQ(r.count, 0);
}

static void edit(const char *name, const char *from, const char *to) {
    struct mbl_buf text = {0};
    struct mbl_error e;
    CHECK(!mbl_file_read(path_of(name), 1 << 20, &text, &e));
    char *at = strstr(text.data, from);
    CHECKF(at && strlen(from) == strlen(to), "nothing to edit");
    memcpy(at, to, strlen(to));
    CHECK(!mbl_file_write(path_of(name), text.data, text.len, &e));
    mbl_buf_free(&text);
}

TEST("an edited record is told by its seal, and the next one misses what it follows") {
    make_three();
    edit("r2.json", "abc", "abd");
    struct records r = read_all();
    CHECK(!r.items[0].damage);
    CHECK_CONTAINS(r.items[1].damage, "it was altered");
    CHECK_CONTAINS(r.items[2].damage, "isn't the file that it was");
}

TEST("a record that was edited and sealed anew is told by the next one") {
    make_three();
    add_record(1, NULL, NULL);
    CHECK(!read_all().items[1].damage); /* the same bytes */
    add_record(2, NULL, NULL);
    struct records r = read_all();
    CHECK(!r.items[1].damage);
    CHECK_CONTAINS(r.items[2].damage, "isn't the file that it was");
}

TEST("a removed, renamed or broken record is told") {
    struct mbl_error e;
    make_three();
    unlink(path_of("r2.json"));
    CHECK_CONTAINS(read_all().items[1].damage, "r2, is missing");
    char old[4096];
    strcpy(old, path_of("r1.json"));
    CHECK(!rename(old, path_of("r2.json")));
    CHECK_CONTAINS(read_all().items[0].damage, "it is the record of r1 under another name");
    static const char *const broken[] = {"", "{", "[]", "null", "{\"kind\":\"release\"}", "{\"kind\":\"release\",\"format\":2}"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        CHECK(!mbl_file_write(path_of("r2.json"), broken[i], strlen(broken[i]), &e));
        CHECKF(read_all().items[0].damage, "\"%s\" was taken", broken[i]);
    }
}
