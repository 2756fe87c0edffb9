/* sign.c: a signature over a file or a folder, beside it, with the public key.
 *
 * The private key is neither input nor parameter of the step's key: its public half is the fingerprint, asked for again when the key file
 * changes. So the same key elsewhere gives the same signature from the store, and another key a new one. Signatures are deterministic (RFC
 * 6979, RFC 8032), so a build from scratch gives the same release.
 */
#include "lib/signing.h"

#include <mbuild/plugin.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct mb_role roles[] = {
    {.name = "subject", .flags = MB_INPUT | MB_NAMED, .help = "the file or folder to sign"},
    {.name = "key", .flags = MB_INPUT | MB_SECRET | MB_OPTIONAL, .help = "a private key in PEM that lies in the repo"},
    {.name = "signature", .flags = MB_OUTPUT, .kind = "signature", .help = "a Sigstore bundle in JSON, as OpenSSF model signing has it"},
    {.name = "public_key", .flags = MB_OUTPUT, .kind = "public-key", .help = "what verifies it, PEM"},
    {0}};

static const char *const algorithms[] = {"ecdsa-p256", "ed25519", NULL};

static const struct mb_param params[] = {
    {.name = "key", .type = MB_STRING, .flags = MB_UNKEYED, .deflt = "\"dev\"",
     .help = "\"dev\", a key of your own that is made on first use, or a private key in PEM outside of the repo: /… or ~/…"},
    {.name = "algorithm", .type = MB_ENUM, .choices = algorithms, .flags = MB_UNKEYED, .deflt = "\"ecdsa-p256\"",
     .help = "what the key \"dev\" is made for"},
    {0}};

/* -- where the key is */

static const char *home_folder(void) {
    const char *home = getenv("HOME");
    if (home && *home) return home;
    const struct passwd *who = getpwuid(getuid());
    return who ? who->pw_dir : NULL;
}

/* The path of the key; to be freed. NULL after telling why there is none. *dev: the user's own, which may be made. */
static char *key_path(const struct mb_host *host, struct mb_run *run, bool *dev) {
    const char *input = host->input_path(run, "key", 0), *name = host->param_string(run, "key"), *config = getenv("XDG_CONFIG_HOME"),
               *home = home_folder();
    *dev = !input && !strcmp(name, "dev");
    if (input) return mbl_printf("%s", input);
    if (*dev && config && *config == '/') return mbl_printf("%s/mbuild/dev-%s.pem", config, host->param_string(run, "algorithm"));
    if ((*dev || !strncmp(name, "~/", 2)) && !home) {
        host->fail(run, "key \"%s\": there is no home folder to look in: HOME is not set", name);
        return NULL;
    }
    if (*dev) return mbl_printf("%s/.config/mbuild/dev-%s.pem", home, host->param_string(run, "algorithm"));
    if (!strncmp(name, "~/", 2)) return mbl_printf("%s%s", home, name + 1);
    if (*name == '/') return mbl_printf("%s", name);
    host->fail(run, "key: \"dev\", or the path of a private key, expected; found \"%s\"", name);
    return NULL;
}

static int open_key(const struct mb_host *host, struct mb_run *run, const char *path, bool dev, struct mbl_key **key) {
    struct mbl_error e;
    struct stat st;
    bool made = dev && lstat(path, &st);
    if (dev ? mbl_key_make(path, host->param_string(run, "algorithm"), key, &e) : mbl_key_read(path, key, &e))
        return host->fail(run, "%s", e.text);
    if (made) host->log(run, MB_INFO, "made a signing key of your own: %s", path);
    if (!stat(path, &st) && st.st_mode & 077) host->log(run, MB_WARN, "the key %s can be read by others: chmod 600", path);
    return MB_OK;
}

static int fingerprint(const struct mb_host *host, struct mb_run *run) {
    bool dev;
    struct mbl_key *key;
    struct stat st;
    char *path = key_path(host, run, &dev);
    if (!path) return MB_FAILED;
    host->watch(run, path);
    int status = MB_OK;
    if (dev && host->dry_run(run) && lstat(path, &st)) {
        host->fingerprint(run, "a key that is made on first use");
    } else if (!(status = open_key(host, run, path, dev, &key))) {
        host->fingerprint(run, mbl_key_fingerprint(key));
        mbl_key_free(key);
    }
    free(path);
    return status;
}

/* -- signing */

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int sign(const struct mb_host *host, struct mb_run *run, const struct mbl_key *key, struct mbl_error *e) {
    const char *subject = host->input_path(run, "subject", 0), *out = host->output_path(run, "signature", 0);
    struct mbl_arena a = {0};
    struct mbl_json *statement, *signed_statement;
    struct mbl_buf text = {0};
    int status = mbl_statement_make(subject, base_name(host->input_name(run, "subject", 0)), &a, &statement, e);
    if (!status) status = mbl_signature_make(key, statement, &text, e);
    if (!status) status = mbl_file_write(out, text.data, text.len, e);
    if (!status) status = mbl_file_write(host->output_path(run, "public_key", 0), mbl_key_pem(key), strlen(mbl_key_pem(key)), e);
    if (!status) status = mbl_signature_open(out, key, &a, &signed_statement, e); /* what stands there verifies */
    mbl_buf_free(&text);
    mbl_arena_free(&a);
    return status;
}

static int run(const struct mb_host *host, struct mb_run *run) {
    bool dev;
    struct mbl_key *key;
    struct mbl_error e;
    char *path = key_path(host, run, &dev);
    if (!path) return MB_FAILED;
    int status = open_key(host, run, path, dev, &key);
    free(path);
    if (status) return status;
    if (sign(host, run, key, &e)) status = host->fail(run, "%s", e.text);
    mbl_key_free(key);
    return status;
}

static const struct mb_step steps[] = {
    {.name = "sign", .help = "sign a file or a folder", .flags = MB_DETERMINISTIC, .roles = roles, .params = params, .run = run,
     .fingerprint = fingerprint},
    {0}};

static const struct mb_plugin plugin = {MB_PLUGIN_HEAD, .name = "sign", .version = "1.0", .help = "signatures by OpenSSF model signing",
                                        .steps = steps};
MB_PLUGIN(plugin);
