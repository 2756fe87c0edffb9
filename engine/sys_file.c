/* sys_file.c: single files: what they are, reading, writing whole, copying, syncing, locking; and the clock. See sys.h. */
#include "sys.h"
#include "sys_call.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#define CHUNK 65536
#define SECOND_NS 1000000000

static int64_t to_ns(struct statx_timestamp t) {
    return (int64_t)t.tv_sec * SECOND_NS + t.tv_nsec;
}

static enum file_kind to_kind(unsigned mode) {
    if (S_ISREG(mode)) return FILE_REGULAR;
    if (S_ISDIR(mode)) return FILE_FOLDER;
    return S_ISLNK(mode) ? FILE_LINK : FILE_OTHER;
}

/* Kernels stamp files by a clock that ticks up to every 10 ms, some file systems by the second or two. A write in the same
 * tick as the one before leaves the same stamp. */
static bool is_fresh(int64_t mtime_ns, int64_t ctime_ns) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    int64_t age = (int64_t)now.tv_sec * SECOND_NS + now.tv_nsec - mtime_ns;
    bool whole_seconds = mtime_ns % SECOND_NS == 0 && ctime_ns % SECOND_NS == 0;
    int64_t window = whole_seconds ? 2 * (int64_t)SECOND_NS : SECOND_NS / 50;
    return age > -window && age < window;
}

int sys_stat(const char *path, bool nofollow, struct file_stat *out, struct err *e) {
    struct statx st;
    unsigned mask = STATX_TYPE | STATX_MODE | STATX_INO | STATX_SIZE | STATX_MTIME | STATX_CTIME;
    memset(out, 0, sizeof *out);
    if (statx(AT_FDCWD, path, nofollow ? AT_SYMLINK_NOFOLLOW : 0, mask, &st)) {
        if (errno == ENOENT || errno == ENOTDIR) return 0;
        return err_errno(e, "cannot look at %s", path);
    }
    out->kind = to_kind(st.stx_mode);
    out->executable = st.stx_mode & S_IXUSR;
    out->size = st.stx_size;
    out->ino = st.stx_ino;
    out->dev = makedev(st.stx_dev_major, st.stx_dev_minor);
    out->mtime_ns = to_ns(st.stx_mtime);
    out->ctime_ns = to_ns(st.stx_ctime);
    out->fresh = is_fresh(out->mtime_ns, out->ctime_ns);
    return 0;
}

bool file_stat_same(const struct file_stat *a, const struct file_stat *b) {
    return a->kind == b->kind && a->executable == b->executable && a->size == b->size && a->ino == b->ino
        && a->dev == b->dev && a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns;
}

/* -- reading and writing whole files */

int sys_read_file(const char *path, struct buf *out, struct err *e) {
    char chunk[CHUNK];
    struct stat st;
    ssize_t n = -1;
    int fd = sys_call_open(AT_FDCWD, path, O_RDONLY | O_NONBLOCK, 0); /* a FIFO must not hang us */
    if (fd < 0) return err_errno(e, "cannot read %s", path);
    if (fstat(fd, &st)) {
        err_errno(e, "cannot read %s", path);
    } else if (S_ISDIR(st.st_mode)) {
        err_set(e, "cannot read %s: it is a folder", path);
    } else if (!S_ISREG(st.st_mode)) {
        err_set(e, "cannot read %s: it is no regular file", path);
    } else {
        while ((n = sys_call_read(fd, chunk, sizeof chunk)) > 0) buf_add(out, chunk, (size_t)n);
        if (n < 0) err_errno(e, "cannot read %s", path);
    }
    close(fd);
    return n < 0 ? -1 : 0;
}

int sys_write_all(int fd, const void *bytes, size_t n, struct err *e) {
    const char *p = bytes;
    while (n) {
        ssize_t done = sys_call_write(fd, p, n);
        if (done < 0) return err_errno(e, "write");
        p += done;
        n -= (size_t)done;
    }
    return 0;
}

char *sys_temp_beside(const char *path) {
    static atomic_uint counter;
    const char *slash = strrchr(path, '/');
    int folder = slash ? (int)(slash - path) + 1 : 0;
    return mem_printf("%.*s.mbuild-%ld-%u.tmp", folder, path, (long)getpid(), atomic_fetch_add(&counter, 1));
}

/* The folder that `path` lies in. */
static char *folder_of(const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash) return mem_strdup(".");
    return slash == path ? mem_strdup("/") : mem_printf("%.*s", (int)(slash - path), path);
}

int sys_write_file(const char *path, const void *bytes, size_t n, bool sync, struct err *e) {
    char *temp = sys_temp_beside(path);
    int fd = sys_call_open(AT_FDCWD, temp, O_WRONLY | O_CREAT | O_EXCL, 0666);
    if (fd < 0) {
        err_errno(e, "cannot write %s", path);
        free(temp);
        return -1;
    }
    int status = sys_write_all(fd, bytes, n, e);
    if (!status && sync && sys_call_fsync(fd)) status = err_errno(e, "fsync");
    if (close(fd) && !status) status = err_errno(e, "close"); /* where NFS tells of a full disk */
    if (!status && sys_call_rename(AT_FDCWD, temp, AT_FDCWD, path, 0)) status = err_errno(e, "rename");
    if (status) {
        unlink(temp);
        err_wrap(e, "cannot write %s", path);
    } else if (sync) {
        char *folder = folder_of(path);
        status = sys_sync_folder(folder, e);
        free(folder);
    }
    free(temp);
    return status;
}

static int sync_path(const char *path, int flags, struct err *e) {
    int fd = sys_call_open(AT_FDCWD, path, O_RDONLY | flags, 0);
    if (fd < 0) return err_errno(e, "cannot sync %s", path);
    int status = sys_call_fsync(fd) ? err_errno(e, "cannot sync %s", path) : 0;
    close(fd);
    return status;
}

int sys_sync_file(const char *path, struct err *e) {
    return sync_path(path, 0, e);
}

int sys_sync_folder(const char *path, struct err *e) {
    return sync_path(path, O_DIRECTORY, e);
}

/* -- copying */

/* Errors that mean "not here", not "it failed". */
static bool unsupported(int number) {
    return number == EOPNOTSUPP || number == ENOTTY || number == EXDEV || number == EINVAL || number == ENOSYS
        || number == EPERM || number == ETXTBSY;
}

static int copy_plain(int from, int to, struct err *e) {
    char chunk[CHUNK];
    ssize_t n;
    while ((n = sys_call_read(from, chunk, sizeof chunk)) > 0)
        if (sys_write_all(to, chunk, (size_t)n, e)) return -1;
    return n ? err_errno(e, "read") : 0;
}

static int copy_bytes(int from, int to, struct err *e) {
    if (!sys_call_clone(to, from)) return 0;
    if (!unsupported(errno)) return err_errno(e, "clone");
    ssize_t n, total = 0;
    while ((n = sys_call_copy(from, to, (size_t)1 << 30)) > 0) total += n;
    if (n < 0 && !unsupported(errno)) return err_errno(e, "copy");
    /* Some file systems (those of /proc) claim success and copy nothing; at the true end this reads nothing. */
    return n < 0 || !total ? copy_plain(from, to, e) : 0;
}

int sys_copy_file(const char *from, const char *to, bool executable, struct err *e) {
    int status = -1, in, out = -1;
    in = sys_call_open(AT_FDCWD, from, O_RDONLY | O_NONBLOCK, 0);
    if (in < 0) {
        err_errno(e, "open");
    } else {
        out = sys_call_open(AT_FDCWD, to, O_WRONLY | O_CREAT | O_EXCL, executable ? 0755 : 0644);
        status = out < 0 ? err_errno(e, "open") : copy_bytes(in, out, e);
    }
    if (out >= 0 && close(out) && !status) status = err_errno(e, "close");
    if (out >= 0 && status) unlink(to);
    if (in >= 0) close(in);
    return status ? err_wrap(e, "cannot copy %s to %s", from, to) : 0;
}

/* -- clock */

static int64_t clock_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * SECOND_NS + t.tv_nsec;
}

int64_t sys_now_ns(void) {
    return clock_ns(CLOCK_MONOTONIC);
}

int64_t sys_wall_ms(void) {
    return clock_ns(CLOCK_REALTIME) / 1000000;
}

/* -- locks */

/* Whether `path` still names the file that is open: who waits for a lock may get that of a deleted file. */
static bool still_named(int fd, const char *path) {
    struct stat a, b;
    return !fstat(fd, &a) && !stat(path, &b) && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

static char *read_note(int fd) {
    char note[1024];
    ssize_t n = pread(fd, note, sizeof note - 1, 0);
    note[n > 0 ? n : 0] = 0;
    return mem_strdup(note);
}

static int write_note(int fd, const char *note) {
    if (ftruncate(fd, 0)) return -1;
    size_t n = strlen(note);
    return sys_call_write(fd, note, n) == (ssize_t)n ? 0 : -1;
}

int sys_lock(const char *path, const char *note, bool wait, char **holder, struct err *e) {
    *holder = NULL;
    for (;;) {
        int fd = sys_call_open(AT_FDCWD, path, O_RDWR | O_CREAT, 0666);
        if (fd < 0) return err_errno(e, "cannot lock %s", path);
        if (flock(fd, LOCK_EX | (wait ? 0 : LOCK_NB))) {
            if (errno == EWOULDBLOCK) {
                *holder = read_note(fd);
                err_set(e, "%s is locked by %s", path, *holder);
            } else {
                err_errno(e, "cannot lock %s", path);
            }
            close(fd);
            return -1;
        }
        if (!still_named(fd, path)) {
            close(fd);
            continue;
        }
        if (!write_note(fd, note)) return fd;
        err_errno(e, "cannot write %s", path);
        close(fd);
        return -1;
    }
}

void sys_unlock(int fd) {
    close(fd); /* the lock goes with the last descriptor; its text tells nothing without it */
}
