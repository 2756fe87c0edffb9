/* sha256.c: see sha256.h. */
#include "sha256.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct mbl_sha256 {
    EVP_MD_CTX *context;
};

/* OpenSSL's digests fail only without memory, or where a policy forbids SHA-256; neither leaves anything to go on with. */
static void must(int fine) {
    if (fine) return;
    fputs("OpenSSL cannot compute SHA-256\n", stderr);
    exit(1);
}

struct mbl_sha256 *mbl_sha256_begin(void) {
    struct mbl_sha256 *h = mbl_alloc(sizeof *h);
    h->context = EVP_MD_CTX_new();
    must(h->context && EVP_DigestInit_ex(h->context, EVP_sha256(), NULL));
    return h;
}

void mbl_sha256_add(struct mbl_sha256 *h, const void *data, size_t size) {
    must(EVP_DigestUpdate(h->context, data, size));
}

void mbl_sha256_end(struct mbl_sha256 *h, unsigned char out[MBL_SHA256]) {
    must(EVP_DigestFinal_ex(h->context, out, NULL));
    EVP_MD_CTX_free(h->context);
    free(h);
}

void mbl_sha256_of(const void *data, size_t size, unsigned char out[MBL_SHA256]) {
    must(EVP_Digest(data, size, out, NULL, EVP_sha256(), NULL));
}

void mbl_sha256_text(const unsigned char digest[MBL_SHA256], char hex[MBL_SHA256_HEX + 1]) {
    for (int i = 0; i < MBL_SHA256; i++) snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

void mbl_sha256_hex(const void *data, size_t size, char hex[MBL_SHA256_HEX + 1]) {
    unsigned char digest[MBL_SHA256];
    mbl_sha256_of(data, size, digest);
    mbl_sha256_text(digest, hex);
}

int mbl_sha256_file(const char *path, unsigned char out[MBL_SHA256], uint64_t *size, struct mbl_error *e) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return mbl_error_errno(e, "%s", path);
    struct mbl_sha256 *h = mbl_sha256_begin();
    enum { CHUNK = 1 << 18 };
    char *chunk = mbl_alloc(CHUNK);
    uint64_t total = 0;
    ssize_t n;
    while ((n = read(fd, chunk, CHUNK)) > 0 || (n < 0 && errno == EINTR)) {
        if (n < 0) continue;
        mbl_sha256_add(h, chunk, (size_t)n);
        total += (uint64_t)n;
    }
    int status = n < 0 ? mbl_error_errno(e, "%s", path) : 0;
    mbl_sha256_end(h, out);
    free(chunk);
    close(fd);
    if (size) *size = total;
    return status;
}

/* -- folders */

struct listing {
    struct mbl_arena *arena;
    struct mbl_tree_file *files;
    size_t count, cap;
};

static int list_folder(struct listing *l, const char *folder, const char *below, struct mbl_error *e) {
    DIR *dir = opendir(folder);
    if (!dir) return mbl_error_errno(e, "%s", folder);
    int status = 0;
    struct dirent *d;
    while (!status && (errno = 0, d = readdir(dir))) {
        if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, "..")) continue;
        const char *path = mbl_path_join(l->arena, folder, d->d_name);
        const char *name = *below ? mbl_path_join(l->arena, below, d->d_name) : mbl_arena_strdup(l->arena, d->d_name);
        struct stat st;
        if (lstat(path, &st)) {
            status = mbl_error_errno(e, "%s", path);
        } else if (S_ISDIR(st.st_mode)) {
            status = list_folder(l, path, name, e);
        } else if (S_ISREG(st.st_mode)) {
            l->files = mbl_grow(l->files, &l->cap, l->count + 1, sizeof *l->files);
            l->files[l->count++] = (struct mbl_tree_file){name, path, (uint64_t)st.st_size, st.st_mode & 0100};
        } else {
            status = mbl_error_set(e, "%s is a %s; only files and folders are taken", path,
                                   S_ISLNK(st.st_mode) ? "link" : "device, socket or pipe");
        }
    }
    if (!status && errno) status = mbl_error_errno(e, "%s", folder);
    closedir(dir);
    return status;
}

static int compare_files(const void *a, const void *b) {
    return strcmp(((const struct mbl_tree_file *)a)->name, ((const struct mbl_tree_file *)b)->name);
}

int mbl_tree_list(const char *folder, struct mbl_arena *a, struct mbl_tree_file **files, size_t *count, struct mbl_error *e) {
    struct listing l = {.arena = a};
    int status = list_folder(&l, folder, "", e);
    *files = mbl_arena_alloc(a, (l.count + 1) * sizeof **files);
    *count = status ? 0 : l.count;
    if (*count) {
        memcpy(*files, l.files, l.count * sizeof **files);
        qsort(*files, l.count, sizeof **files, compare_files);
    }
    free(l.files);
    return status;
}
