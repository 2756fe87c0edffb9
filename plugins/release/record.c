/* record.c: see record.h. */
#include "record.h"

#include "lib/lookup.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* -- seals */

static void seal_of(const struct mbl_json *record, struct mbl_arena *a, char hex[MBL_SHA256_HEX + 1]) {
    struct mbl_json *rest = mbl_json_table(a);
    struct mbl_buf text = {0};
    for (size_t i = 0; i < record->count; i++)
        if (strcmp(record->keys[i], "seal")) mbl_json_set(a, rest, record->keys[i], record->items[i]);
    mbl_json_write(rest, MBL_JSON_COMPACT, &text);
    mbl_sha256_hex(text.data, text.len, hex);
    mbl_buf_free(&text);
}

void record_seal(struct mbl_json *record, struct mbl_arena *a, struct mbl_buf *text) {
    char hex[MBL_SHA256_HEX + 1];
    seal_of(record, a, hex);
    mbl_json_set(a, record, "seal", mbl_json_string(a, hex));
    mbl_json_write(record, MBL_JSON_INDENTED, text);
}

const char *record_identity(const struct mbl_json *record, struct mbl_arena *a) {
    static const char *const parts[] = {"project", "version", "bundle.sha256", "signature.sha256", "signature.fingerprint"};
    const struct mbl_json *gates = mbl_json_get(record, "gates");
    struct mbl_buf text = {0};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const struct mbl_json *v = mbl_lookup(record, parts[i]);
        mbl_buf_addf(&text, "%s\n", v && v->type == MBL_JSON_STRING ? v->string : "");
    }
    for (size_t i = 0; gates && gates->type == MBL_JSON_LIST && i < gates->count; i++) {
        const char *digest = mbl_json_get_string(gates->items[i], "sha256");
        mbl_buf_addf(&text, "%s\n", digest ? digest : "");
    }
    const char *out = mbl_arena_strdup(a, mbl_buf_str(&text));
    mbl_buf_free(&text);
    return out;
}

/* -- reading */

/* rN.json with N ≥ 1 and no leading zero: its number, otherwise 0. */
static long number_of(const char *name) {
    char *end;
    if (*name != 'r' || name[1] < '1' || name[1] > '9') return 0;
    errno = 0;
    long n = strtol(name + 1, &end, 10);
    return errno || strcmp(end, ".json") ? 0 : n;
}

static void read_record(struct records *rs, struct record *r) {
    struct mbl_error e;
    struct mbl_buf text = {0};
    char seal[MBL_SHA256_HEX + 1];
    if (mbl_file_read(r->path, 256 << 20, &text, &e)) {
        r->damage = mbl_arena_strdup(&rs->arena, e.text);
        return;
    }
    mbl_sha256_hex(text.data, text.len, r->sha256);
    int broken = mbl_json_parse(mbl_buf_str(&text), text.len, r->path, &rs->arena, &r->json, &e);
    mbl_buf_free(&text);
    const char *kind = broken ? NULL : mbl_json_get_string(r->json, "kind"), *told = broken ? NULL : mbl_json_get_string(r->json, "seal");
    if (broken) {
        r->json = NULL;
        r->damage = mbl_arena_strdup(&rs->arena, e.text);
    } else if (!kind || strcmp(kind, "release") || mbl_json_get_int(r->json, "format", 0) != 1) {
        r->damage = "it is no release record, or one of a newer mbuild";
    } else if (seal_of(r->json, &rs->arena, seal), !told || strcmp(told, seal)) {
        r->damage = "it was altered: its seal doesn't fit its content";
    } else if (mbl_json_get_int(r->json, "number", 0) != r->number) {
        r->damage =
            mbl_arena_printf(&rs->arena, "it is the record of r%lld under another name", (long long)mbl_json_get_int(r->json, "number", 0));
    }
}

static void check_chain(struct records *rs, size_t i) {
    struct record *r = &rs->items[i];
    if (r->damage) return;
    const struct mbl_json *previous = mbl_json_get(r->json, "previous");
    const char *name = mbl_json_get_string(previous, "name"), *digest = mbl_json_get_string(previous, "sha256");
    if (!previous || previous->type == MBL_JSON_NULL) return;
    const struct record *before = name ? records_find(rs, name) : NULL;
    if (!before)
        r->damage = mbl_arena_printf(&rs->arena, "the release before it, %s, is missing", name ? name : "whose name it doesn't tell");
    else if (before->number >= r->number)
        r->damage = mbl_arena_printf(&rs->arena, "it follows %s, which is later", name);
    else if (!digest || strcmp(digest, before->sha256))
        r->damage = mbl_arena_printf(&rs->arena, "%s, which it follows, isn't the file that it was (SHA-256 %s now, %s then)", before->path,
                                     before->sha256, digest ? digest : "not told");
}

static int compare_records(const void *a, const void *b) {
    long x = ((const struct record *)a)->number, y = ((const struct record *)b)->number;
    return (x > y) - (x < y);
}

int records_read(const char *folder, struct records *out, struct mbl_error *e) {
    memset(out, 0, sizeof *out);
    DIR *dir = opendir(folder);
    if (!dir) return errno == ENOENT ? 0 : mbl_error_errno(e, "%s", folder);
    struct dirent *d;
    while ((errno = 0, d = readdir(dir))) {
        long number = number_of(d->d_name);
        if (!number) continue;
        out->items = mbl_grow(out->items, &out->cap, out->count + 1, sizeof *out->items);
        out->items[out->count++] = (struct record){.number = number, .name = mbl_arena_printf(&out->arena, "r%ld", number),
                                                   .path = mbl_path_join(&out->arena, folder, d->d_name)};
    }
    int status = errno ? mbl_error_errno(e, "%s", folder) : 0;
    closedir(dir);
    if (out->count) qsort(out->items, out->count, sizeof *out->items, compare_records);
    for (size_t i = 0; i < out->count; i++) read_record(out, &out->items[i]);
    for (size_t i = 0; i < out->count; i++) check_chain(out, i);
    return status;
}

void records_free(struct records *r) {
    free(r->items);
    mbl_arena_free(&r->arena);
}

const struct record *records_find(const struct records *r, const char *name) {
    for (size_t i = 0; i < r->count; i++)
        if (!strcmp(r->items[i].name, name)) return &r->items[i];
    return NULL;
}

const char *record_text(const struct record *r, const char *dotted) {
    const struct mbl_json *v = mbl_lookup(r->json, dotted);
    return v && v->type == MBL_JSON_STRING ? v->string : "";
}
