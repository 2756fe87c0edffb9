/* release.c: the step `release`, which adds one record to a folder of records, and the plugin's descriptor.
 *
 * Everything that the record tells is checked here once more: the gates' reports, the bundle against its manifest, the signature against
 * the bundle. The same content is the same release, so its record comes out as it stands there. A record is never changed.
 */
#include "release.h"

#include "lib/bundle.h"
#include "lib/signing.h"
#include "record.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const struct mb_role roles[] = {
    {.name = "bundle", .flags = MB_INPUT | MB_NAMED, .kind = "archive", .help = "what is released"},
    {.name = "gates", .flags = MB_INPUT | MB_MANY | MB_OPTIONAL | MB_NAMED, .kind = "gate", .help = "what had to be good enough"},
    {.name = "signature", .flags = MB_INPUT | MB_OPTIONAL | MB_NAMED, .kind = "signature", .help = "over the bundle"},
    {.name = "public_key", .flags = MB_INPUT | MB_OPTIONAL | MB_NAMED, .kind = "public-key", .help = "what verifies the signature"},
    {.name = "records", .flags = MB_OUTPUT | MB_ADDS, .kind = "record", .help = "the folder of records, to be committed"},
    {0}};

static const struct mb_param params[] = {
    {.name = "project", .type = MB_STRING, .deflt = "\"model\"", .help = "the project's name"},
    {.name = "version", .type = MB_STRING, .deflt = "\"0\"", .help = "the release's label; its number is its own"},
    {.name = "key", .type = MB_STRING, .deflt = "\"\"",
     .help = "what the signing key is called in the record; \"dev\" is a developer's own"},
    {.name = "strict", .type = MB_BOOL, .deflt = "false", .help = "refuse other content under a version that was released already"},
    {0}};

struct releasing {
    const struct mb_host *host;
    struct mb_run *run;
    struct mbl_arena arena;
    struct records records;
    struct mbl_json *record;
};

static void set(struct releasing *r, struct mbl_json *table, const char *key, const char *value) {
    mbl_json_set(&r->arena, table, key, mbl_json_string(&r->arena, value));
}

/* { "path", "sha256" } of an input file. */
static int add_file(struct releasing *r, const char *role, size_t i, struct mbl_json *table, uint64_t *size, struct mbl_error *e) {
    unsigned char digest[MBL_SHA256];
    char hex[MBL_SHA256_HEX + 1];
    if (mbl_sha256_file(r->host->input_path(r->run, role, i), digest, size, e)) return -1;
    mbl_sha256_text(digest, hex);
    set(r, table, "path", r->host->input_name(r->run, role, i));
    set(r, table, "sha256", hex);
    return 0;
}

/* The bundle, and the scores that lie in it. An archive that `package` didn't make has no manifest, and so no scores. */
static int add_bundle(struct releasing *r, struct mbl_error *e) {
    struct mbl_json *table = mbl_json_table(&r->arena), *scores = mbl_json_null(&r->arena);
    const char *path = r->host->input_path(r->run, "bundle", 0);
    struct mbl_bundle b;
    struct stat st;
    uint64_t size;
    if (stat(path, &st)) return mbl_error_errno(e, "%s", path);
    if (!S_ISREG(st.st_mode)) return mbl_error_set(e, "%s is no file; `package` makes one of a folder", path);
    if (add_file(r, "bundle", 0, table, &size, e) || mbl_bundle_check(path, &b, e)) return -1;
    const char *text = mbl_bundle_text(&b, "scores.json");
    int status = 0;
    if (b.manifest && b.problem_count) status = mbl_error_set(e, "%s is damaged: %s", path, b.problems[0]);
    if (!status && text) status = mbl_json_parse(text, strlen(text), "scores.json", &r->arena, &scores, e);
    mbl_bundle_free(&b);
    if (status) return -1;
    mbl_json_set(&r->arena, table, "size", mbl_json_int(&r->arena, (int64_t)size));
    mbl_json_set(&r->arena, r->record, "bundle", table);
    mbl_json_set(&r->arena, r->record, "scores", scores);
    return 0;
}

static int add_gates(struct releasing *r, struct mbl_error *e) {
    struct mbl_json *gates = mbl_json_list(&r->arena);
    for (size_t i = 0; i < r->host->input_count(r->run, "gates"); i++) {
        struct mbl_json *table = mbl_json_table(&r->arena), *report;
        const char *path = r->host->input_path(r->run, "gates", i);
        if (mbl_json_read(path, &r->arena, &report, e) || add_file(r, "gates", i, table, NULL, e)) return -1;
        if (!mbl_json_get_bool(report, "passed", false)) return mbl_error_set(e, "%s isn't the report of a gate that was passed", path);
        mbl_json_set(&r->arena, table, "report", report);
        mbl_json_push(&r->arena, gates, table);
    }
    mbl_json_set(&r->arena, r->record, "gates", gates);
    return 0;
}

static int add_signature(struct releasing *r, struct mbl_error *e) {
    struct mbl_json *table = mbl_json_table(&r->arena), *statement;
    const char *path = r->host->input_path(r->run, "signature", 0), *key_path = r->host->input_path(r->run, "public_key", 0);
    struct mbl_key *key;
    if (!path) {
        mbl_json_set(&r->arena, r->record, "signature", mbl_json_null(&r->arena));
        return 0;
    }
    if (!key_path) return mbl_error_set(e, "there is a signature, but no public key");
    if (mbl_key_read_public(key_path, &key, e)) return -1;
    int status = mbl_signature_open(path, key, &r->arena, &statement, e);
    if (!status) status = mbl_statement_compare(statement, r->host->input_path(r->run, "bundle", 0), e);
    if (!status) status = add_file(r, "signature", 0, table, NULL, e);
    if (!status) {
        set(r, table, "algorithm", mbl_key_algorithm(key));
        set(r, table, "key", r->host->param_string(r->run, "key"));
        set(r, table, "public_key", r->host->input_name(r->run, "public_key", 0));
        set(r, table, "fingerprint", mbl_key_fingerprint(key));
        mbl_json_set(&r->arena, r->record, "signature", table);
    }
    mbl_key_free(key);
    return status;
}

static int add_lineage(struct releasing *r, struct mbl_error *e) {
    const char *text = r->host->input_lineage(r->run, "bundle", 0);
    struct mbl_json *lineage = mbl_json_null(&r->arena);
    if (text && mbl_json_parse(text, strlen(text), "lineage", &r->arena, &lineage, e)) return -1;
    mbl_json_set(&r->arena, r->record, "lineage", lineage);
    return 0;
}

static int make_record(struct releasing *r, struct mbl_error *e) {
    r->record = mbl_json_table(&r->arena);
    set(r, r->record, "kind", "release");
    mbl_json_set(&r->arena, r->record, "format", mbl_json_int(&r->arena, 1));
    set(r, r->record, "project", r->host->param_string(r->run, "project"));
    set(r, r->record, "version", r->host->param_string(r->run, "version"));
    return add_bundle(r, e) || add_gates(r, e) || add_signature(r, e) || add_lineage(r, e) ? -1 : 0;
}

/* -- its number */

/* The record that tells the same, or NULL. *version: the last one with the same version. */
static const struct record *find_same(struct releasing *r, const struct record **version) {
    const char *identity = record_identity(r->record, &r->arena);
    const struct record *same = NULL;
    *version = NULL;
    for (size_t i = 0; i < r->records.count; i++) {
        const struct record *one = &r->records.items[i];
        if (!strcmp(record_identity(one->json, &r->arena), identity)) same = one;
        if (!strcmp(record_text(one, "version"), mbl_json_get_string(r->record, "version"))) *version = one;
    }
    return same;
}

static int put(struct releasing *r, const char *name, const char *text, size_t size, struct mbl_error *e) {
    const char *file = mbl_arena_printf(&r->arena, "%s.json", name);
    return mbl_file_write(r->host->output_add(r->run, "records", file), text, size, e);
}

/* It is there: the same bytes again. */
static int put_again(struct releasing *r, const struct record *same, struct mbl_error *e) {
    struct mbl_buf text = {0};
    int status = mbl_file_read(same->path, 256 << 20, &text, e);
    if (!status) status = put(r, same->name, mbl_buf_str(&text), text.len, e);
    mbl_buf_free(&text);
    if (!status) r->host->log(r->run, MB_INFO, "this is %s already (%s)", same->name, same->path);
    return status;
}

static int put_new(struct releasing *r, const struct record *version, struct mbl_error *e) {
    const struct record *last = r->records.count ? &r->records.items[r->records.count - 1] : NULL;
    long number = last ? last->number + 1 : 1;
    struct mbl_json *previous = last ? mbl_json_table(&r->arena) : mbl_json_null(&r->arena);
    if (last) {
        set(r, previous, "name", last->name);
        set(r, previous, "sha256", last->sha256);
    }
    mbl_json_set(&r->arena, r->record, "number", mbl_json_int(&r->arena, number));
    mbl_json_set(&r->arena, r->record, "previous", previous);
    struct mbl_buf text = {0};
    record_seal(r->record, &r->arena, &text);
    int status = put(r, mbl_arena_printf(&r->arena, "r%ld", number), text.data, text.len, e);
    mbl_buf_free(&text);
    if (status) return -1;
    r->host->log(r->run, MB_INFO, "r%ld: %s %s, %s", number, mbl_json_get_string(r->record, "project"),
                 mbl_json_get_string(r->record, "version"), r->host->input_name(r->run, "bundle", 0));
    if (version)
        r->host->log(r->run, MB_WARN, "r%ld has other content than %s under the same version %s", number, version->name,
                     record_text(version, "version"));
    return 0;
}

static int release(struct releasing *r, struct mbl_error *e) {
    const struct record *same, *version;
    if (records_read(r->host->output_name(r->run, "records", 0), &r->records, e) || make_record(r, e)) return -1;
    for (size_t i = 0; i < r->records.count; i++)
        if (r->records.items[i].damage)
            return mbl_error_set(e, "%s: %s. Nothing is added to a damaged history: bring the file back from version control",
                                 r->records.items[i].path, r->records.items[i].damage);
    same = find_same(r, &version);
    if (same) return put_again(r, same, e);
    if (version && r->host->param_bool(r->run, "strict"))
        return mbl_error_set(
            e, "version %s was released as %s with other content, and strict = true refuses a second: raise the version in project { … }",
            record_text(version, "version"), version->name);
    return put_new(r, version, e);
}

static int run(const struct mb_host *host, struct mb_run *run) {
    struct releasing r = {.host = host, .run = run};
    struct mbl_error e;
    int status = release(&r, &e) ? host->fail(run, "%s", e.text) : MB_OK;
    records_free(&r.records);
    mbl_arena_free(&r.arena);
    return status;
}

static const struct mb_step steps[] = {
    {.name = "release", .help = "add a numbered record of a release", .roles = roles, .params = params, .run = run},
    {0}};

static const struct mb_command commands[] = {
    {.name = "releases", .usage = "[--folder=releases]", .help = "list the releases", .options = command_releases_options,
     .main = command_releases},
    {.name = "verify", .usage = "[--key=FILE] [--signature=FILE] rN|FILE|FOLDER",
     .help = "check a release or a bundle: signature, manifest, every file", .options = command_verify_options,
     .main = command_verify},
    {0}};

static const struct mb_plugin plugin = {MB_PLUGIN_HEAD, .name = "release", .version = "1.0", .help = "numbered records of releases",
                                        .steps = steps, .commands = commands};
MB_PLUGIN(plugin);
