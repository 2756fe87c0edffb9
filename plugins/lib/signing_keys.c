/* signing_keys.c: private and public keys; see signing.h. A private key's bytes never leave OpenSSL and this process. */
#include "ecdsa.h"
#include "signing.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct mbl_key {
    EVP_PKEY *pkey;
    const EVP_MD *hash;    /* NULL: Ed25519 */
    const char *algorithm;
    char *pem;
    char fingerprint[MBL_SHA256_HEX + 1];
};

static const char *openssl_text(void) {
    static char text[256];
    unsigned long code = ERR_peek_last_error();
    ERR_error_string_n(code, text, sizeof text);
    ERR_clear_error();
    const char *reason = ERR_reason_error_string(code);
    return reason ? reason : text;
}

static int finish(EVP_PKEY *pkey, const char *name, struct mbl_key **out, struct mbl_error *e) {
    struct mbl_key *k = mbl_alloc(sizeof *k);
    k->pkey = pkey;
    if (EVP_PKEY_is_a(pkey, "ED25519")) k->algorithm = "ed25519";
    else if ((k->hash = mbl_ecdsa_hash(pkey)))
        k->algorithm = k->hash == EVP_sha256() ? "ecdsa-p256" : k->hash == EVP_sha384() ? "ecdsa-p384" : "ecdsa-p521";
    if (!k->algorithm) {
        mbl_error_set(e, "%s: a key for %s; ECDSA on P-256, P-384 or P-521, or Ed25519 expected", name, EVP_PKEY_get0_type_name(pkey));
        mbl_key_free(k);
        return -1;
    }
    BIO *bio = BIO_new(BIO_s_mem());
    char *text;
    long n = bio && PEM_write_bio_PUBKEY(bio, pkey) ? BIO_get_mem_data(bio, &text) : 0;
    if (n > 0) {
        k->pem = mbl_printf("%.*s", (int)n, text);
        mbl_sha256_hex(k->pem, (size_t)n, k->fingerprint);
    }
    BIO_free(bio);
    if (n <= 0) {
        mbl_key_free(k);
        return mbl_error_set(e, "%s: its public half can't be told: %s", name, openssl_text());
    }
    *out = k;
    return 0;
}

/* A passphrase can't be asked for in a step. */
static int no_passphrase(char *buffer, int size, int writing, void *asked) {
    (void)buffer;
    (void)size;
    (void)writing;
    *(int *)asked = 1;
    return -1;
}

int mbl_key_read(const char *path, struct mbl_key **out, struct mbl_error *e) {
    int asked = 0;
    FILE *f = fopen(path, "re");
    if (!f) return mbl_error_errno(e, "the key %s", path);
    EVP_PKEY *pkey = PEM_read_PrivateKey(f, NULL, no_passphrase, &asked);
    fclose(f);
    if (pkey) return finish(pkey, path, out, e);
    if (asked) {
        ERR_clear_error();
        return mbl_error_set(e, "the key %s is protected by a passphrase, which a step can't ask for: `openssl pkey` takes it off", path);
    }
    return mbl_error_set(e, "%s is no private key in PEM: %s", path, openssl_text());
}

int mbl_key_parse_public(const char *pem, size_t size, const char *name, struct mbl_key **out, struct mbl_error *e) {
    BIO *bio = BIO_new_mem_buf(pem, (int)size);
    EVP_PKEY *pkey = bio ? PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    return pkey ? finish(pkey, name, out, e) : mbl_error_set(e, "%s is no public key in PEM: %s", name, openssl_text());
}

int mbl_key_read_public(const char *path, struct mbl_key **out, struct mbl_error *e) {
    struct mbl_buf text = {0};
    int status = mbl_file_read(path, 1 << 16, &text, e);
    if (!status) status = mbl_key_parse_public(mbl_buf_str(&text), text.len, path, out, e);
    mbl_buf_free(&text);
    return status;
}

/* -- making one */

static int write_private(EVP_PKEY *pkey, const char *path, struct mbl_error *e) {
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    if (!f) {
        mbl_error_errno(e, "cannot make the key %s", path);
        if (fd >= 0) close(fd);
        return -1;
    }
    int fine = PEM_write_PrivateKey(f, pkey, NULL, NULL, 0, NULL, NULL) && !fflush(f) && !fsync(fd);
    if (!fine) mbl_error_errno(e, "cannot write the key %s", path);
    if (fclose(f) && fine) return mbl_error_errno(e, "cannot write the key %s", path);
    return fine ? 0 : -1;
}

/* Written under another name and linked into place, which fails where another process was faster. */
static int make_at(const char *path, const char *algorithm, struct mbl_error *e) {
    char *folder = mbl_printf("%s", path), *temporary = mbl_printf("%s.%ld", path, (long)getpid()), *slash = strrchr(folder, '/');
    EVP_PKEY *pkey = strcmp(algorithm, "ed25519") ? EVP_EC_gen("P-256") : EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    int status = pkey ? 0 : mbl_error_set(e, "cannot make a key: %s", openssl_text());
    if (slash) *slash = 0;
    mode_t mask = umask(077);
    if (!status && slash) status = mbl_folder_make(folder, e);
    umask(mask);
    if (!status) status = write_private(pkey, temporary, e);
    if (!status && link(temporary, path) && errno != EEXIST) status = mbl_error_errno(e, "cannot make the key %s", path);
    unlink(temporary);
    EVP_PKEY_free(pkey);
    free(folder);
    free(temporary);
    return status;
}

int mbl_key_make(const char *path, const char *algorithm, struct mbl_key **out, struct mbl_error *e) {
    struct stat st;
    if (lstat(path, &st) && make_at(path, algorithm, e)) return -1;
    return mbl_key_read(path, out, e);
}

void mbl_key_free(struct mbl_key *k) {
    if (!k) return;
    EVP_PKEY_free(k->pkey);
    free(k->pem);
    free(k);
}

const char *mbl_key_algorithm(const struct mbl_key *k) {
    return k->algorithm;
}
const char *mbl_key_pem(const struct mbl_key *k) {
    return k->pem;
}
const char *mbl_key_fingerprint(const struct mbl_key *k) {
    return k->fingerprint;
}

/* -- signing */

int mbl_key_sign(const struct mbl_key *k, const void *data, size_t size, struct mbl_buf *signature, struct mbl_error *e) {
    if (k->hash) {
        if (mbl_ecdsa_sign(k->pkey, k->hash, data, size, signature, e)) return -1;
    } else {
        unsigned char bytes[64];
        size_t n = sizeof bytes;
        EVP_MD_CTX *c = EVP_MD_CTX_new();
        int fine = c && EVP_DigestSignInit(c, NULL, NULL, NULL, k->pkey) && EVP_DigestSign(c, bytes, &n, data, size);
        EVP_MD_CTX_free(c);
        if (!fine) return mbl_error_set(e, "OpenSSL cannot sign with this key: %s", openssl_text());
        mbl_buf_add(signature, bytes, n);
    }
    /* A fault of the machine that spoilt the signature could also tell the key. */
    return mbl_key_verify(k, data, size, signature->data, signature->len) ? 0 : mbl_error_set(e, "the signature just made doesn't verify");
}

bool mbl_key_verify(const struct mbl_key *k, const void *data, size_t size, const void *signature, size_t signature_size) {
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    bool fine =
        c && EVP_DigestVerifyInit(c, NULL, k->hash, NULL, k->pkey) == 1 && EVP_DigestVerify(c, signature, signature_size, data, size) == 1;
    EVP_MD_CTX_free(c);
    ERR_clear_error();
    return fine;
}
