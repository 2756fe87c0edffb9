/* sys_call.h: the system calls that change or read the disk, each behind fault injection.
 *
 * As in libc they return -1 and set errno, except that none ever fails with EINTR. For sys_*.c, digest and store;
 * everybody else uses sys.h. `dir` is a folder's descriptor or AT_FDCWD.
 */
#ifndef ENGINE_SYS_CALL_H
#define ENGINE_SYS_CALL_H

#include "err.h"
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum sys_kind {
    SYS_OPEN, SYS_READ, SYS_WRITE, SYS_FSYNC, SYS_RENAME, SYS_LINK, SYS_MKDIR, SYS_UNLINK, SYS_MMAP, SYS_COPY, SYS_ALLOC,
    SYS_KINDS
};

/* Arms a fault, "CALL:N[+][:ERRNO|:KILL]" as sys.h describes it; NULL disarms. At the program's start MBUILD_FAULT
 * does it. Not while other threads run. */
int sys_fault_arm(const char *spec, struct err *e);

/* How many calls of the armed kind there were: tells a test when it has tried them all. */
unsigned long sys_fault_seen(void);

extern bool sys_fault_armed;
bool sys_fault_hit(enum sys_kind kind);

/* Whether this call must fail; errno is then set. */
static inline bool sys_fault(enum sys_kind kind) {
    return __builtin_expect(sys_fault_armed, 0) && sys_fault_hit(kind);
}

int sys_call_open(int dir, const char *path, int flags, mode_t mode); /* close-on-exec */
ssize_t sys_call_read(int fd, void *bytes, size_t n);
ssize_t sys_call_write(int fd, const void *bytes, size_t n);
int sys_call_fsync(int fd);
int sys_call_fdatasync(int fd);
int sys_call_syncfs(int fd);
int sys_call_rename(int from_dir, const char *from, int to_dir, const char *to, unsigned flags); /* as renameat2 */
int sys_call_symlink(const char *target, int dir, const char *path);
int sys_call_mkdir(int dir, const char *path, mode_t mode);
int sys_call_unlink(int dir, const char *path, int flags);
int sys_call_clone(int to, int from); /* a reflink of the whole file */
ssize_t sys_call_copy(int from, int to, size_t n); /* copy_file_range at both descriptors' offsets */

#endif
