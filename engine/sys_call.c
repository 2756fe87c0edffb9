/* sys_call.c: the system calls behind fault injection; see sys_call.h. */
#include "sys_call.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

int sys_call_open(int dir, const char *path, int flags, mode_t mode) {
    if (sys_fault(SYS_OPEN)) return -1;
    int fd;
    do fd = openat(dir, path, flags | O_CLOEXEC, mode);
    while (fd < 0 && errno == EINTR);
    return fd;
}

ssize_t sys_call_read(int fd, void *bytes, size_t n) {
    if (sys_fault(SYS_READ)) return -1;
    ssize_t got;
    do got = read(fd, bytes, n);
    while (got < 0 && errno == EINTR);
    return got;
}

ssize_t sys_call_write(int fd, const void *bytes, size_t n) {
    if (sys_fault(SYS_WRITE)) return -1;
    ssize_t done;
    do done = write(fd, bytes, n);
    while (done < 0 && errno == EINTR);
    return done;
}

int sys_call_fsync(int fd) {
    if (sys_fault(SYS_FSYNC)) return -1;
    int status;
    do status = fsync(fd);
    while (status && errno == EINTR);
    return status;
}

int sys_call_fdatasync(int fd) {
    if (sys_fault(SYS_FSYNC)) return -1;
    int status;
    do status = fdatasync(fd);
    while (status && errno == EINTR);
    return status;
}

int sys_call_syncfs(int fd) {
    return sys_fault(SYS_FSYNC) ? -1 : syncfs(fd);
}

int sys_call_rename(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    if (sys_fault(SYS_RENAME)) return -1;
    /* Without flags the older call, which every file system and sandbox knows. */
    return flags ? renameat2(from_dir, from, to_dir, to, flags) : renameat(from_dir, from, to_dir, to);
}

int sys_call_symlink(const char *target, int dir, const char *path) {
    return sys_fault(SYS_LINK) ? -1 : symlinkat(target, dir, path);
}

int sys_call_mkdir(int dir, const char *path, mode_t mode) {
    return sys_fault(SYS_MKDIR) ? -1 : mkdirat(dir, path, mode);
}

int sys_call_unlink(int dir, const char *path, int flags) {
    return sys_fault(SYS_UNLINK) ? -1 : unlinkat(dir, path, flags);
}

int sys_call_clone(int to, int from) {
    return sys_fault(SYS_COPY) ? -1 : ioctl(to, FICLONE, from);
}

ssize_t sys_call_copy(int from, int to, size_t n) {
    if (sys_fault(SYS_COPY)) return -1;
    ssize_t done;
    do done = copy_file_range(from, NULL, to, NULL, n, 0);
    while (done < 0 && errno == EINTR);
    return done;
}
