/* digest.c: SHA-256 by OpenSSL, which uses the processor's instructions for it. See digest.h.
 *
 * The algorithm is fetched once and a context is kept for each thread, so that the digest of a small file costs little
 * more than its system calls.
 */
#include "digest.h"
#include "digest_manifest.h"
#include "sys_call.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK 131072 /* on the stack: a thread needs at least 512 KiB of it */

static EVP_MD *sha256;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t spare_key; /* a context that this thread may use next */

static void free_context(void *c) {
    EVP_MD_CTX_free(c);
}

/* OpenSSL fails here only for want of memory or of its provider. */
static _Noreturn void die(const char *what) {
    dprintf(STDERR_FILENO, "mbuild: OpenSSL: %s failed\n", what);
    _exit(2);
}

static void fetch(void) {
    sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    if (!sha256) die("EVP_MD_fetch SHA256");
    if (pthread_key_create(&spare_key, free_context)) die("pthread_key_create");
}

void digest_init(void) {
    pthread_once(&once, fetch);
}

struct digest_context *digest_begin(void) {
    digest_init();
    EVP_MD_CTX *c = pthread_getspecific(spare_key);
    if (c) pthread_setspecific(spare_key, NULL);
    else if (!(c = EVP_MD_CTX_new())) die("EVP_MD_CTX_new");
    if (!EVP_DigestInit_ex2(c, sha256, NULL)) die("EVP_DigestInit_ex2");
    return (struct digest_context *)c;
}

void digest_add(struct digest_context *c, const void *bytes, size_t n) {
    if (!EVP_DigestUpdate((EVP_MD_CTX *)c, bytes, n)) die("EVP_DigestUpdate");
}

void digest_add_u64(struct digest_context *c, uint64_t n) {
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)(n >> 8 * i);
    digest_add(c, bytes, sizeof bytes);
}

void digest_add_string(struct digest_context *c, const char *s) {
    size_t n = strlen(s);
    digest_add_u64(c, n);
    digest_add(c, s, n);
}

struct digest digest_end(struct digest_context *context) {
    EVP_MD_CTX *c = (EVP_MD_CTX *)context;
    struct digest d;
    if (!EVP_DigestFinal_ex(c, d.bytes, NULL)) die("EVP_DigestFinal_ex");
    if (pthread_getspecific(spare_key) || pthread_setspecific(spare_key, c)) EVP_MD_CTX_free(c);
    return d;
}

struct digest digest_bytes(const void *bytes, size_t n) {
    struct digest_context *c = digest_begin();
    digest_add(c, bytes, n);
    return digest_end(c);
}

/* -- hex */

void digest_to_hex(const struct digest *d, char hex[DIGEST_HEX + 1]) {
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < 32; i++) {
        hex[2 * i] = digits[d->bytes[i] >> 4];
        hex[2 * i + 1] = digits[d->bytes[i] & 15];
    }
    hex[DIGEST_HEX] = 0;
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int digest_from_hex(const char *hex, struct digest *d) {
    for (int i = 0; i < 32; i++) {
        int high = hex_value(hex[2 * i]);
        int low = high < 0 ? -1 : hex_value(hex[2 * i + 1]);
        if (low < 0) return -1;
        d->bytes[i] = (unsigned char)(high << 4 | low);
    }
    return hex[DIGEST_HEX] ? -1 : 0;
}

bool digest_same(const struct digest *a, const struct digest *b) {
    return !memcmp(a->bytes, b->bytes, sizeof a->bytes);
}

bool artifact_same(const struct artifact *a, const struct artifact *b) {
    return a->type == b->type && digest_same(&a->digest, &b->digest);
}

/* -- files */

static int digest_open(int fd, const char *path, struct artifact *out, struct err *e) {
    char chunk[CHUNK];
    ssize_t n;
    struct digest_context *c = digest_begin();
    out->size = 0;
    while ((n = sys_call_read(fd, chunk, sizeof chunk)) > 0) {
        digest_add(c, chunk, (size_t)n);
        out->size += (size_t)n;
    }
    int number = errno;
    out->digest = digest_end(c);
    errno = number;
    return n ? err_errno(e, "cannot read %s", path) : 0;
}

static int digest_file(const char *path, struct artifact *out, struct err *e) {
    struct stat st;
    int status, fd = sys_call_open(AT_FDCWD, path, O_RDONLY | O_NONBLOCK, 0);
    if (fd < 0) return err_errno(e, "cannot read %s", path);
    if (fstat(fd, &st)) {
        status = err_errno(e, "cannot read %s", path);
    } else if (!S_ISREG(st.st_mode)) {
        status = err_set(e, "cannot read %s: it is no regular file any more", path);
    } else {
        out->type = st.st_mode & S_IXUSR ? ARTIFACT_EXECUTABLE : ARTIFACT_FILE;
        status = digest_open(fd, path, out, e);
    }
    close(fd);
    return status;
}

static int digest_link(const char *path, struct artifact *out, struct err *e) {
    char target[PATH_MAX];
    ssize_t n = readlink(path, target, sizeof target);
    if (n < 0) return err_errno(e, "cannot read the link %s", path);
    *out = (struct artifact){.type = ARTIFACT_LINK, .digest = digest_bytes(target, (size_t)n), .size = (size_t)n};
    return 0;
}

static int digest_leaf(void *ctx, const char *path, const struct file_stat *st, struct artifact *out,
                       struct err *e) {
    (void)ctx;
    return st->kind == FILE_LINK ? digest_link(path, out, e) : digest_file(path, out, e);
}

int digest_path(const char *path, bool follow, struct artifact *out, struct buf *manifest, struct err *e) {
    struct file_stat st;
    memset(out, 0, sizeof *out);
    if (sys_stat(path, !follow, &st, e)) return -1;
    switch (st.kind) {
    case FILE_ABSENT: return 0;
    case FILE_REGULAR: return digest_file(path, out, e);
    case FILE_LINK: return digest_link(path, out, e);
    case FILE_OTHER: return err_set(e, "%s is neither file, folder nor link", path);
    case FILE_FOLDER: break;
    }
    struct buf text = {0};
    int status = manifest_walk(path, digest_leaf, NULL, out, &text, e);
    if (!status && manifest) buf_add(manifest, text.data, text.len);
    buf_free(&text);
    return status;
}
