/* store_put.c: from the workspace into the store; see store.h. */
#include "store_private.h"
#include "sys_call.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int open_temp(struct store *s, char temp[64], struct err *e) {
    if (store_temp(s, temp, e)) return -1;
    int fd = sys_call_open(s->fd, temp, O_RDWR | O_CREAT | O_EXCL, 0444);
    return fd < 0 ? err_errno(e, "cannot make a file in the store %s", s->folder) : fd;
}

/* Ends a temporary file: as the object, if all went well. */
static int close_temp(struct store *s, int fd, const char *temp, const struct digest *d, int status, struct err *e) {
    if (close(fd) && !status) status = err_errno(e, "cannot write to the store %s", s->folder);
    if (!status) status = store_adopt(s, temp, d, e);
    if (status) unlinkat(s->fd, temp, 0);
    return status;
}

/* An object that is there already was perhaps not synced yet by who put it. */
static bool already_there(struct store *s, const struct digest *d, uint64_t size) {
    if (!store_refresh(s, d, size)) return false;
    store_note_pending(s, d);
    return true;
}

static int put_bytes(struct store *s, const void *bytes, size_t n, struct digest *d, struct err *e) {
    char temp[64];
    *d = digest_bytes(bytes, n);
    if (already_there(s, d, n)) return 0;
    int fd = open_temp(s, temp, e);
    if (fd < 0) return -1;
    int status = sys_write_all(fd, bytes, n, e);
    if (status) err_wrap(e, "cannot write to the store %s", s->folder);
    return close_temp(s, fd, temp, d, status, e);
}

/* Copies and digests in one pass; a reflink is digested from the copy, which nobody else can change. */
static int copy_digesting(struct store *s, int in, int out, struct artifact *a, struct err *e) {
    char chunk[STORE_CHUNK];
    ssize_t n;
    bool cloned = !sys_call_clone(out, in);
    struct digest_context *c = digest_begin();
    int status = 0;
    a->size = 0;
    while (!status && (n = sys_call_read(cloned ? out : in, chunk, sizeof chunk)) != 0) {
        if (n < 0) {
            status = err_errno(e, "read");
            break;
        }
        digest_add(c, chunk, (size_t)n);
        a->size += (size_t)n;
        if (!cloned && sys_write_all(out, chunk, (size_t)n, e))
            status = err_wrap(e, "cannot write to the store %s", s->folder);
    }
    a->digest = digest_end(c);
    return status;
}

static int put_large(struct store *s, int in, struct artifact *a, struct err *e) {
    char temp[64];
    int fd = open_temp(s, temp, e);
    if (fd < 0) return -1;
    int status = copy_digesting(s, in, fd, a, e);
    if (!status && already_there(s, &a->digest, a->size)) {
        close(fd);
        unlinkat(s->fd, temp, 0);
        return 0;
    }
    return close_temp(s, fd, temp, &a->digest, status, e);
}

static int put_open(struct store *s, int fd, struct artifact *a, struct err *e) {
    char chunk[STORE_CHUNK];
    struct stat st;
    if (fstat(fd, &st)) return err_errno(e, "stat");
    if (!S_ISREG(st.st_mode)) return err_set(e, "it is neither file, folder nor link");
    a->type = st.st_mode & S_IXUSR ? ARTIFACT_EXECUTABLE : ARTIFACT_FILE;
    if (st.st_size >= (off_t)sizeof chunk) return put_large(s, fd, a, e);
    size_t have = 0;
    ssize_t n;
    while ((n = sys_call_read(fd, chunk + have, sizeof chunk - have)) > 0) {
        have += (size_t)n;
        if (have == (size_t)st.st_size) break; /* all that there was at the stat */
        if (have < sizeof chunk) continue;
        if (lseek(fd, 0, SEEK_SET)) return err_errno(e, "seek"); /* it has grown meanwhile */
        return put_large(s, fd, a, e);
    }
    if (n < 0) return err_errno(e, "read");
    a->size = have;
    return put_bytes(s, chunk, have, &a->digest, e);
}

static int put_link(struct store *s, const char *path, struct artifact *a, struct err *e) {
    char target[PATH_MAX];
    ssize_t n = readlink(path, target, sizeof target);
    if (n < 0) return err_errno(e, "readlink");
    a->type = ARTIFACT_LINK;
    a->size = (size_t)n;
    return put_bytes(s, target, (size_t)n, &a->digest, e);
}

static int put_leaf(void *ctx, const char *path, const struct file_stat *st, struct artifact *out, struct err *e) {
    struct store *s = ctx;
    int status;
    memset(out, 0, sizeof *out);
    if (st->kind == FILE_LINK) {
        status = put_link(s, path, out, e);
    } else {
        int fd = sys_call_open(AT_FDCWD, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
        status = fd < 0 ? err_errno(e, "open") : put_open(s, fd, out, e);
        if (fd >= 0) close(fd);
    }
    return status ? err_wrap(e, "%s", path) : 0;
}

int store_put(struct store *s, const char *path, struct artifact *out, struct err *e) {
    struct file_stat st;
    memset(out, 0, sizeof *out);
    return sys_stat(path, true, &st, e) ? -1 : store_put_known(s, path, &st, out, e);
}

int store_put_known(struct store *s, const char *path, const struct file_stat *st, struct artifact *out, struct err *e) {
    struct buf manifest = {0};
    memset(out, 0, sizeof *out);
    switch (st->kind) {
    case FILE_ABSENT: return err_set(e, "%s doesn't exist", path);
    case FILE_OTHER: return err_set(e, "%s is neither file, folder nor link", path);
    case FILE_REGULAR: case FILE_LINK: return put_leaf(s, path, st, out, e);
    case FILE_FOLDER: break;
    }
    struct digest d;
    int status = manifest_walk(path, put_leaf, s, out, &manifest, e)
              || put_bytes(s, buf_str(&manifest), manifest.len, &d, e) ? -1 : 0;
    buf_free(&manifest);
    return status;
}
