/* signing.c: statements and signature files; see signing.h. */
#include "signing.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MEDIA_TYPE "application/vnd.dev.sigstore.bundle.v0.3+json"
#define PAYLOAD_TYPE "application/vnd.in-toto+json"
#define STATEMENT_TYPE "https://in-toto.io/Statement/v1"
#define PREDICATE_TYPE "https://model_signing/signature/v1.0"

static const char *const ignored[] = {".git", ".gitattributes", ".github", ".gitignore"};
#define IGNORED (sizeof ignored / sizeof *ignored)

static bool is_ignored(const char *name) {
    size_t n = strcspn(name, "/");
    for (size_t i = 0; i < IGNORED; i++)
        if (strlen(ignored[i]) == n && !memcmp(ignored[i], name, n)) return true;
    return false;
}

static void set_string(struct mbl_arena *a, struct mbl_json *table, const char *key, const char *value) {
    mbl_json_set(a, table, key, mbl_json_string(a, value));
}

/* -- statements */

struct resources {
    struct mbl_arena *arena;
    struct mbl_json *list;
    struct mbl_sha256 *all; /* over the digests in order: the subject's digest */
};

static int add_resource(struct resources *r, const char *name, const char *path, struct mbl_error *e) {
    unsigned char digest[MBL_SHA256];
    char hex[MBL_SHA256_HEX + 1];
    if (mbl_sha256_file(path, digest, NULL, e)) return -1;
    mbl_sha256_text(digest, hex);
    mbl_sha256_add(r->all, digest, sizeof digest);
    struct mbl_json *one = mbl_json_table(r->arena);
    set_string(r->arena, one, "name", name);
    set_string(r->arena, one, "algorithm", "sha256");
    set_string(r->arena, one, "digest", hex);
    mbl_json_push(r->arena, r->list, one);
    return 0;
}

static int add_resources(struct resources *r, const char *path, struct mbl_error *e) {
    struct stat st;
    struct mbl_tree_file *files;
    size_t count;
    if (stat(path, &st)) return mbl_error_errno(e, "%s", path);
    if (!S_ISDIR(st.st_mode)) return add_resource(r, ".", path, e);
    if (mbl_tree_list(path, r->arena, &files, &count, e)) return -1;
    for (size_t i = 0; i < count; i++)
        if (!is_ignored(files[i].name) && add_resource(r, files[i].name, files[i].path, e)) return -1;
    return r->list->count ? 0 : mbl_error_set(e, "%s is empty: there is nothing to sign", path);
}

int mbl_statement_make(const char *path, const char *name, struct mbl_arena *a, struct mbl_json **out, struct mbl_error *e) {
    struct resources r = {.arena = a, .list = mbl_json_list(a), .all = mbl_sha256_begin()};
    unsigned char all[MBL_SHA256];
    char hex[MBL_SHA256_HEX + 1];
    int status = add_resources(&r, path, e);
    mbl_sha256_end(r.all, all);
    if (status) return -1;
    mbl_sha256_text(all, hex);
    struct mbl_json *digest = mbl_json_table(a), *subject = mbl_json_table(a), *subjects = mbl_json_list(a), *predicate = mbl_json_table(a),
                    *serialization = mbl_json_table(a), *paths = mbl_json_list(a), *statement = mbl_json_table(a);
    set_string(a, digest, "sha256", hex);
    set_string(a, subject, "name", name);
    mbl_json_set(a, subject, "digest", digest);
    mbl_json_push(a, subjects, subject);
    for (size_t i = 0; i < IGNORED; i++) mbl_json_push(a, paths, mbl_json_string(a, ignored[i]));
    set_string(a, serialization, "method", "files");
    set_string(a, serialization, "hash_type", "sha256");
    mbl_json_set(a, serialization, "allow_symlinks", mbl_json_bool(a, false));
    mbl_json_set(a, serialization, "ignore_paths", paths);
    mbl_json_set(a, predicate, "serialization", serialization);
    mbl_json_set(a, predicate, "resources", r.list);
    set_string(a, statement, "_type", STATEMENT_TYPE);
    mbl_json_set(a, statement, "subject", subjects);
    set_string(a, statement, "predicateType", PREDICATE_TYPE);
    mbl_json_set(a, statement, "predicate", predicate);
    *out = statement;
    return 0;
}

/* The resource of that name, or NULL. */
static const struct mbl_json *find_resource(const struct mbl_json *list, const char *name) {
    for (size_t i = 0; i < list->count; i++) {
        const char *found = mbl_json_get_string(list->items[i], "name");
        if (found && !strcmp(found, name)) return list->items[i];
    }
    return NULL;
}

static const struct mbl_json *resources_of(const struct mbl_json *statement) {
    const struct mbl_json *list = mbl_json_get(mbl_json_get(statement, "predicate"), "resources");
    return list && list->type == MBL_JSON_LIST ? list : NULL;
}

int mbl_statement_compare(const struct mbl_json *statement, const char *path, struct mbl_error *e) {
    struct mbl_arena a = {0};
    struct mbl_json *now;
    int status = mbl_statement_make(path, "", &a, &now, e);
    const struct mbl_json *signed_list = resources_of(statement), *list = status ? NULL : resources_of(now);
    for (size_t i = 0; !status && i < signed_list->count; i++) {
        const char *name = mbl_json_get_string(signed_list->items[i], "name"),
                   *digest = mbl_json_get_string(signed_list->items[i], "digest");
        const struct mbl_json *found = find_resource(list, name);
        const char *what = strcmp(name, ".") ? name : path;
        if (!found) status = mbl_error_set(e, "%s was signed, but is missing", what);
        else if (strcmp(mbl_json_get_string(found, "digest"), digest))
            status = mbl_error_set(e, "%s isn't what was signed: SHA-256 is %s, and %s was signed", what,
                                   mbl_json_get_string(found, "digest"), digest);
    }
    for (size_t i = 0; !status && i < list->count; i++) {
        const char *name = mbl_json_get_string(list->items[i], "name");
        if (!find_resource(signed_list, name)) status = mbl_error_set(e, "%s was not signed", strcmp(name, ".") ? name : path);
    }
    mbl_arena_free(&a);
    return status;
}

/* -- DSSE: github.com/secure-systems-lab/dsse, protocol.md */

static void authentication_encoding(const char *payload, size_t size, struct mbl_buf *out) {
    mbl_buf_addf(out, "DSSEv1 %zu %s %zu ", strlen(PAYLOAD_TYPE), PAYLOAD_TYPE, size);
    mbl_buf_add(out, payload, size);
}

static struct mbl_json *base64(struct mbl_arena *a, const void *data, size_t size) {
    char *text = mbl_arena_alloc(a, 4 * ((size + 2) / 3) + 1);
    EVP_EncodeBlock((unsigned char *)text, data, (int)size);
    return mbl_json_string(a, text);
}

/* Strict: no blanks, the padding whole. NUL-terminated in the arena. */
static int from_base64(struct mbl_arena *a, const char *text, char **out, size_t *size) {
    size_t n = text ? strlen(text) : 0, padding = 0;
    if (!n || n % 4 || n > 1u << 30) return -1;
    while (padding < 2 && text[n - 1 - padding] == '=') padding++;
    if (strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") != n - padding) return -1;
    *out = mbl_arena_alloc(a, n / 4 * 3 + 1);
    if (EVP_DecodeBlock((unsigned char *)*out, (const unsigned char *)text, (int)n) < 0) return -1;
    *size = n / 4 * 3 - padding;
    (*out)[*size] = 0;
    return 0;
}

int mbl_signature_make(const struct mbl_key *k, const struct mbl_json *statement, struct mbl_buf *out, struct mbl_error *e) {
    struct mbl_arena a = {0};
    struct mbl_buf payload = {0}, encoded = {0}, signature = {0};
    mbl_json_write(statement, MBL_JSON_COMPACT, &payload);
    authentication_encoding(payload.data, payload.len, &encoded);
    int status = mbl_key_sign(k, encoded.data, encoded.len, &signature, e);
    if (!status) {
        struct mbl_json *one = mbl_json_table(&a), *all = mbl_json_list(&a), *envelope = mbl_json_table(&a), *key = mbl_json_table(&a),
                        *material = mbl_json_table(&a), *bundle = mbl_json_table(&a);
        mbl_json_set(&a, one, "sig", base64(&a, signature.data, signature.len));
        set_string(&a, one, "keyid", "");
        mbl_json_push(&a, all, one);
        mbl_json_set(&a, envelope, "payload", base64(&a, payload.data, payload.len));
        set_string(&a, envelope, "payloadType", PAYLOAD_TYPE);
        mbl_json_set(&a, envelope, "signatures", all);
        set_string(&a, key, "hint", mbl_key_fingerprint(k));
        mbl_json_set(&a, material, "publicKey", key);
        mbl_json_set(&a, material, "tlogEntries", mbl_json_list(&a));
        set_string(&a, bundle, "mediaType", MEDIA_TYPE);
        mbl_json_set(&a, bundle, "verificationMaterial", material);
        mbl_json_set(&a, bundle, "dsseEnvelope", envelope);
        mbl_json_write(bundle, MBL_JSON_INDENTED, out);
    }
    mbl_buf_free(&payload);
    mbl_buf_free(&encoded);
    mbl_buf_free(&signature);
    mbl_arena_free(&a);
    return status;
}

static int check_statement(const struct mbl_json *s, const char *path, struct mbl_error *e) {
    const char *type = mbl_json_get_string(s, "_type"), *predicate = mbl_json_get_string(s, "predicateType");
    const struct mbl_json *list = resources_of(s), *subjects = mbl_json_get(s, "subject");
    if (!type || strcmp(type, STATEMENT_TYPE) || !predicate || strcmp(predicate, PREDICATE_TYPE) || !list || !list->count)
        return mbl_error_set(e, "%s: what was signed isn't a model signing statement (predicateType %s)", path,
                             predicate ? predicate : "missing");
    struct mbl_sha256 *all = mbl_sha256_begin();
    unsigned char digest[MBL_SHA256];
    char hex[MBL_SHA256_HEX + 1];
    int status = 0;
    for (size_t i = 0; i < list->count && !status; i++) {
        const char *name = mbl_json_get_string(list->items[i], "name"), *text = mbl_json_get_string(list->items[i], "digest");
        if (!name || !text || strlen(text) != MBL_SHA256_HEX || strspn(text, "0123456789abcdef") != MBL_SHA256_HEX)
            status = mbl_error_set(e, "%s: a resource without name or SHA-256", path);
        for (size_t k = 0; k < MBL_SHA256 && !status; k++) {
            unsigned byte = 0;
            for (int h = 0; h < 2; h++)
                byte = 16 * byte + (unsigned)(strchr("0123456789abcdef", text[2 * k + (size_t)h]) - "0123456789abcdef");
            digest[k] = (unsigned char)byte;
        }
        if (!status) mbl_sha256_add(all, digest, sizeof digest);
    }
    mbl_sha256_end(all, digest);
    mbl_sha256_text(digest, hex);
    if (status) return -1;
    const struct mbl_json *subject = subjects && subjects->type == MBL_JSON_LIST && subjects->count == 1 ? subjects->items[0] : NULL;
    const char *told = mbl_json_get_string(mbl_json_get(subject, "digest"), "sha256");
    return told && !strcmp(told, hex) ? 0 : mbl_error_set(e, "%s: the subject's digest isn't that of the resources", path);
}

int mbl_signature_open(const char *path, const struct mbl_key *k, struct mbl_arena *a, struct mbl_json **statement, struct mbl_error *e) {
    struct mbl_json *bundle;
    if (mbl_json_read(path, a, &bundle, e)) return -1;
    const struct mbl_json *envelope = mbl_json_get(bundle, "dsseEnvelope"), *signatures = mbl_json_get(envelope, "signatures");
    const char *type = mbl_json_get_string(envelope, "payloadType");
    const char *hint = mbl_json_get_string(mbl_json_get(mbl_json_get(bundle, "verificationMaterial"), "publicKey"), "hint");
    char *payload, *signature;
    size_t payload_size, signature_size;
    if (bundle->type != MBL_JSON_TABLE || !type || strcmp(type, PAYLOAD_TYPE) || !signatures || signatures->type != MBL_JSON_LIST ||
        signatures->count != 1)
        return mbl_error_set(e, "%s is no signature: a Sigstore bundle with a DSSE envelope and one signature expected", path);
    if (hint && strcmp(hint, mbl_key_fingerprint(k)))
        return mbl_error_set(e, "%s was made with another key: its hint is %s, the key's fingerprint %s", path, hint,
                             mbl_key_fingerprint(k));
    if (from_base64(a, mbl_json_get_string(envelope, "payload"), &payload, &payload_size) ||
        from_base64(a, mbl_json_get_string(signatures->items[0], "sig"), &signature, &signature_size))
        return mbl_error_set(e, "%s: payload or signature is not base64", path);
    struct mbl_buf encoded = {0};
    authentication_encoding(payload, payload_size, &encoded);
    bool fine = mbl_key_verify(k, encoded.data, encoded.len, signature, signature_size);
    mbl_buf_free(&encoded);
    if (!fine) return mbl_error_set(e, "%s: the signature doesn't fit what it signs, or was made with another key", path);
    if (mbl_json_parse(payload, payload_size, path, a, statement, e)) return -1;
    return check_statement(*statement, path, e);
}
