/* command_verify.c: `mbuild verify`: a release, a bundle or a signed folder, against everything that tells of it.
 *
 * Each finding is a line; what is wrong is named as closely as can be: the bundle, and which file in it. 0: all is well, 1: not, 2: it
 * could not be looked at.
 */
#include "release.h"

#include "lib/bundle.h"
#include "lib/signing.h"
#include "record.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const struct mb_param command_verify_options[] = {
    {.name = "key", .type = MB_STRING, .help = "the public key that you trust, PEM; otherwise the one beside the bundle"},
    {.name = "signature", .type = MB_STRING, .help = "the signature; otherwise FILE.sig"},
    {.name = "folder", .type = MB_STRING, .deflt = "\"releases\"", .help = "where the records are"},
    {0}};

struct verifying {
    const struct mb_host *host;
    struct mb_run *run;
    struct mbl_arena arena;
    struct records records;
    size_t wrong; /* findings that are bad */
};

static void good(const char *what, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void bad(struct verifying *v, const char *what, const char *format, ...) __attribute__((format(printf, 3, 4)));

static void good(const char *what, const char *format, ...) {
    va_list args;
    va_start(args, format);
    printf("  ok     %-10s ", what);
    vprintf(format, args);
    putchar('\n');
    va_end(args);
}

static void bad(struct verifying *v, const char *what, const char *format, ...) {
    va_list args;
    va_start(args, format);
    printf("  WRONG  %-10s ", what);
    vprintf(format, args);
    putchar('\n');
    va_end(args);
    v->wrong++;
}

/* A path that the user typed is relative to where they are, not to the repo's root. */
static const char *typed_path(struct verifying *v, const char *path) {
    const char *folder = v->host->env(v->run, "PWD");
    return *path == '/' || !folder ? path : mbl_path_join(&v->arena, folder, path);
}

/* The option's path, or otherwise `beside` + extension. */
static const char *option_path(struct verifying *v, const char *option, const char *beside, const char *extension) {
    if (v->host->param_given(v->run, option)) return typed_path(v, v->host->param_string(v->run, option));
    return mbl_arena_printf(&v->arena, "%s%s", beside, extension);
}

static bool exists(const char *path) {
    struct stat st;
    return !stat(path, &st);
}

/* -- the parts */

static int digest_of(struct verifying *v, const char *path, const char **hex, struct mbl_error *e) {
    unsigned char digest[MBL_SHA256];
    char *text = mbl_arena_alloc(&v->arena, MBL_SHA256_HEX + 1);
    if (mbl_sha256_file(path, digest, NULL, e)) return -1;
    mbl_sha256_text(digest, text);
    *hex = text;
    return 0;
}

static void verify_signature(struct verifying *v, const char *subject, const char *signature, const char *key_path,
                             const struct record *record) {
    bool wanted = (record && *record_text(record, "signature.sha256")) || v->host->param_given(v->run, "key") ||
                  v->host->param_given(v->run, "signature");
    struct mbl_error e;
    struct mbl_key *key;
    struct mbl_json *statement;
    if (!wanted && !exists(signature)) {
        printf("  -      %-10s none\n", "signature");
        return;
    }
    if (mbl_key_read_public(key_path, &key, &e)) {
        bad(v, "signature", "%s", e.text);
        return;
    }
    const char *told = record ? record_text(record, "signature.fingerprint") : "";
    if (*told && strcmp(told, mbl_key_fingerprint(key)))
        bad(v, "key", "%s isn't the key that the record tells: fingerprint %s, recorded %s", key_path, mbl_key_fingerprint(key), told);
    if (mbl_signature_open(signature, key, &v->arena, &statement, &e) || mbl_statement_compare(statement, subject, &e)) {
        bad(v, "signature", "%s", e.text);
    } else {
        bool trusted = v->host->param_given(v->run, "key");
        good("signature", "%s by the key %.16s…%s%s", mbl_key_algorithm(key), mbl_key_fingerprint(key),
             record && !strcmp(record_text(record, "signature.key"), "dev") ? ", a developer's own" : "",
             trusted || *told ? "" : ", which lies beside it: --key names one that you trust");
    }
    mbl_key_free(key);
}

static int verify_bundle(struct verifying *v, const char *path) {
    struct mbl_bundle b;
    struct mbl_error e;
    if (mbl_bundle_check(path, &b, &e)) {
        fprintf(stderr, "mbuild verify: %s\n", e.text);
        return -1;
    }
    for (size_t i = 0; i < b.problem_count; i++) bad(v, "file", "%s", b.problems[i]);
    if (!b.problem_count) good("files", "%zu, %llu bytes, each as the manifest says", b.files, (unsigned long long)b.bytes);
    mbl_bundle_free(&b);
    return 0;
}

/* -- a release */

/* The release whose bundle has that digest, or NULL. */
static const struct record *release_of(const struct verifying *v, const char *digest) {
    for (size_t i = v->records.count; i--;)
        if (!strcmp(record_text(&v->records.items[i], "bundle.sha256"), digest)) return &v->records.items[i];
    return NULL;
}

static void verify_record_file(struct verifying *v, const struct record *r, const char *what, const char *path, const char *recorded) {
    struct mbl_error e;
    const char *hex;
    if (digest_of(v, path, &hex, &e)) {
        bad(v, what, "%s", e.text);
        return;
    }
    if (!strcmp(hex, recorded)) {
        good(what, "%s is what %s tells", path, r->name);
        return;
    }
    const struct record *other = strcmp(what, "bundle") ? NULL : release_of(v, hex);
    if (other) bad(v, what, "%s is now the bundle of %s; build %s again, or name a file that is its bundle", path, other->name, r->name);
    else bad(v, what, "%s isn't what %s tells: SHA-256 is %s, recorded %s", path, r->name, hex, recorded);
}

/* `bundle` NULL: where the record says. */
static int verify_release(struct verifying *v, const struct record *r, const char *bundle) {
    printf("%s  %s %s\n", r->name, record_text(r, "project"), record_text(r, "version"));
    if (r->damage) {
        bad(v, "record", "%s: %s", r->path, r->damage);
        if (!r->json) return 0;
    } else {
        const char *previous = record_text(r, "previous.name");
        good("record", "%s%s%s", r->path, *previous ? ", after " : "", previous);
    }
    const char *recorded = record_text(r, "bundle.path"), *path = bundle ? bundle : recorded;
    if (!*recorded) {
        bad(v, "bundle", "the record tells of no bundle");
        return 0;
    }
    verify_record_file(v, r, "bundle", path, record_text(r, "bundle.sha256"));
    if (!exists(path)) return 0;
    const char *beside = bundle ? bundle : record_text(r, "signature.path");
    const char *signature = option_path(v, "signature", beside, bundle ? ".sig" : ""),
               *key = option_path(v, "key", bundle ? bundle : record_text(r, "signature.public_key"), bundle ? ".pub" : "");
    verify_signature(v, path, signature, key, r);
    return verify_bundle(v, path);
}

static int verify_path(struct verifying *v, const char *typed) {
    const char *path = typed_path(v, typed), *hex;
    struct mbl_error e;
    struct stat st;
    if (stat(path, &st)) {
        mbl_error_errno(&e, "%s", path);
        fprintf(stderr, "mbuild verify: %s\n", e.text);
        return -1;
    }
    if (S_ISREG(st.st_mode)) {
        if (digest_of(v, path, &hex, &e)) {
            fprintf(stderr, "mbuild verify: %s\n", e.text);
            return -1;
        }
        const struct record *r = release_of(v, hex);
        if (r) return verify_release(v, r, path);
    }
    printf("%s\n", typed);
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    const char *beside = mbl_arena_strndup(&v->arena, path, n);
    verify_signature(v, path, option_path(v, "signature", beside, ".sig"), option_path(v, "key", beside, ".pub"), NULL);
    return S_ISREG(st.st_mode) ? verify_bundle(v, path) : 0;
}

int command_verify(const struct mb_host *host, struct mb_run *run, int argc, char **argv) {
    struct verifying v = {.host = host, .run = run};
    struct mbl_error e;
    if (argc != 2) {
        fprintf(stderr, "mbuild verify: what? `mbuild releases` lists the releases; a bundle or a signed folder may be named too\n");
        return 2;
    }
    if (records_read(host->param_string(run, "folder"), &v.records, &e)) {
        fprintf(stderr, "mbuild verify: %s\n", e.text);
        return 2;
    }
    const struct record *r = records_find(&v.records, argv[1]);
    bool numbered = argv[1][0] == 'r' && argv[1][1] && !argv[1][1 + strspn(argv[1] + 1, "0123456789")];
    int status;
    if (!r && numbered && !exists(typed_path(&v, argv[1]))) {
        fprintf(stderr, "mbuild verify: there is no release %s\n", argv[1]);
        status = -1;
    } else {
        status = r ? verify_release(&v, r, NULL) : verify_path(&v, argv[1]);
    }
    if (!status) puts(v.wrong ? "NOT verified" : "verified");
    records_free(&v.records);
    mbl_arena_free(&v.arena);
    return status ? 2 : v.wrong ? 1 : 0;
}
