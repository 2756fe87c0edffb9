/* files.c: files in steps; see files.h. What is written appears whole under its name or not at all. */
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const unsigned char nothing[1];

static int file_open(const char *path, int *fd, size_t *size, struct mbl_error *e) {
    struct stat st;
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0) return mbl_error_errno(e, "cannot read %s", path);
    if (fstat(*fd, &st)) mbl_error_errno(e, "cannot read %s", path);
    else if (S_ISDIR(st.st_mode)) mbl_error_set(e, "%s is a folder; a file is expected", path);
    else if (!S_ISREG(st.st_mode)) mbl_error_set(e, "%s is no regular file", path);
    else {
        *size = (size_t)st.st_size;
        return 0;
    }
    close(*fd);
    return -1;
}

int mbl_map_open(const char *path, struct mbl_map *out, struct mbl_error *e) {
    int fd;
    *out = (struct mbl_map){nothing, 0};
    if (file_open(path, &fd, &out->size, e)) return -1;
    if (out->size) {
        void *p = mmap(NULL, out->size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) {
            mbl_error_errno(e, "cannot map %s (%zu bytes)", path, out->size);
            close(fd);
            *out = (struct mbl_map){nothing, 0};
            return -1;
        }
        out->data = p;
    }
    close(fd);
    return 0;
}

void mbl_map_close(struct mbl_map *m) {
    if (m->size && m->data != nothing) munmap((void *)(uintptr_t)m->data, m->size);
    *m = (struct mbl_map){0};
}

int mbl_file_read(const char *path, size_t most, struct mbl_buf *out, struct mbl_error *e) {
    int fd;
    size_t size;
    out->len = 0;
    if (file_open(path, &fd, &size, e)) return -1;
    if (size > most) {
        close(fd);
        return mbl_error_set(e, "%s is %zu bytes; at most %zu are expected", path, size, most);
    }
    out->data = mbl_grow(out->data, &out->cap, size + 1, 1);
    while (out->len < size) {
        ssize_t n = read(fd, out->data + out->len, size - out->len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            mbl_error_errno(e, "cannot read %s", path);
            close(fd);
            return -1;
        }
        if (n == 0) break;
        out->len += (size_t)n;
    }
    close(fd);
    out->data[out->len] = 0;
    return 0;
}

int mbl_output_create(struct mbl_output *o, const char *path, struct mbl_error *e) {
    *o = (struct mbl_output){.fd = -1};
    o->path = mbl_printf("%s", path);
    o->temporary = mbl_printf("%s.part-XXXXXX", path);
    o->fd = mkostemp(o->temporary, O_CLOEXEC);
    mode_t mask = umask(0);
    umask(mask);
    if (o->fd >= 0 && !fchmod(o->fd, 0666 & ~mask)) return 0;
    mbl_error_errno(e, "cannot create %s", path);
    mbl_output_abandon(o);
    return -1;
}

static int output_wrote(const struct mbl_output *o, ssize_t n, const char **p, size_t *left, struct mbl_error *e) {
    if (n < 0 && errno == EINTR) return 0;
    if (n <= 0) {
        if (n == 0) errno = EIO;
        return mbl_error_errno(e, "cannot write %s", o->path);
    }
    *p += n;
    *left -= (size_t)n;
    return 0;
}

int mbl_output_append(struct mbl_output *o, const void *data, size_t size, struct mbl_error *e) {
    const char *p = data;
    while (size)
        if (output_wrote(o, write(o->fd, p, size), &p, &size, e)) return -1;
    return 0;
}

int mbl_output_pwrite(struct mbl_output *o, const void *data, size_t size, uint64_t offset, struct mbl_error *e) {
    const char *p = data, *begin = data;
    while (size)
        if (output_wrote(o, pwrite(o->fd, p, size, (off_t)(offset + (uint64_t)(p - begin))), &p, &size, e)) return -1;
    return 0;
}

int mbl_output_commit(struct mbl_output *o, struct mbl_error *e) {
    int failed = fsync(o->fd);
    if (close(o->fd)) failed = -1;
    o->fd = -1;
    if (!failed) failed = rename(o->temporary, o->path);
    if (failed) {
        mbl_error_errno(e, "cannot write %s", o->path);
        mbl_output_abandon(o);
        return -1;
    }
    free(o->temporary);
    free(o->path);
    *o = (struct mbl_output){.fd = -1};
    return 0;
}

void mbl_output_abandon(struct mbl_output *o) {
    if (o->fd >= 0) close(o->fd);
    if (o->temporary) unlink(o->temporary);
    free(o->temporary);
    free(o->path);
    *o = (struct mbl_output){.fd = -1};
}

int mbl_file_write(const char *path, const void *data, size_t size, struct mbl_error *e) {
    struct mbl_output o;
    if (mbl_output_create(&o, path, e)) return -1;
    if (mbl_output_append(&o, data, size, e)) {
        mbl_output_abandon(&o);
        return -1;
    }
    return mbl_output_commit(&o, e);
}

int mbl_folder_make(const char *path, struct mbl_error *e) {
    char *part = mbl_printf("%s", path);
    int failed = 0;
    for (char *p = part + 1; !failed && *part; p++) {
        if (*p != '/' && *p) continue;
        char was = *p;
        *p = 0;
        struct stat st;
        if (mkdir(part, 0777) && (errno != EEXIST || stat(part, &st) || (!S_ISDIR(st.st_mode) && (errno = ENOTDIR))))
            failed = mbl_error_errno(e, "cannot make the folder %s", part);
        *p = was;
        if (!was) break;
    }
    free(part);
    return failed;
}

char *mbl_path_join(struct mbl_arena *a, const char *folder, const char *name) {
    size_t n = strlen(folder);
    return mbl_arena_printf(a, "%s%s%s", folder, n && folder[n - 1] != '/' ? "/" : "", name);
}
