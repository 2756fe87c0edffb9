/* sys_tree.c: folders and what lies in them: listing, making, moving, removing. See sys.h. */
#include "sys.h"
#include "sys_call.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* -- listing */

static int compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Lists an open folder and closes it. Names are one allocation: the array, then the text. */
static int list_open(int fd, char ***names, uint32_t *count) {
    struct buf text = {0};
    uint32_t n = 0;
    DIR *d = fdopendir(fd);
    if (!d) {
        close(fd);
        return -1;
    }
    struct dirent *entry;
    for (errno = 0; (entry = readdir(d)); errno = 0) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        buf_add(&text, entry->d_name, strlen(entry->d_name) + 1);
        n++;
    }
    int number = errno;
    closedir(d);
    char **block = mem_alloc((n + 1) * sizeof *block + text.len);
    char *p = (char *)(block + n + 1);
    if (text.len) memcpy(p, text.data, text.len);
    for (uint32_t i = 0; i < n; i++, p += strlen(p) + 1) block[i] = p;
    buf_free(&text);
    qsort(block, n, sizeof *block, compare_names);
    *names = block;
    *count = n;
    if (!number) return 0;
    free(block);
    errno = number;
    return -1;
}

int sys_list(const char *path, char ***names, uint32_t *count, struct err *e) {
    int fd = sys_call_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0 || list_open(fd, names, count)) return err_errno(e, "cannot list %s", path);
    return 0;
}

/* -- making */

static bool is_folder(const char *path) {
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

/* `path` may be changed meanwhile, but is left as it was. */
static int make_folders(char *path, struct err *e) {
    if (is_folder(path)) return 0;
    if (!sys_call_mkdir(AT_FDCWD, path, 0777)) return 0;
    if (errno == EEXIST) {
        if (is_folder(path)) return 0; /* another thread or process made it */
        return err_set(e, "cannot make the folder %s: there is a file of that name", path);
    }
    size_t end = strlen(path);
    while (end && path[end - 1] == '/') end--;
    while (end && path[end - 1] != '/') end--;
    while (end > 1 && path[end - 1] == '/') end--;
    if (errno != ENOENT || !end) return err_errno(e, "cannot make the folder %s", path);
    char cut = path[end];
    path[end] = 0;
    int status = make_folders(path, e);
    path[end] = cut;
    if (status) return -1;
    if (!sys_call_mkdir(AT_FDCWD, path, 0777) || (errno == EEXIST && is_folder(path))) return 0;
    return err_errno(e, "cannot make the folder %s", path);
}

int sys_mkdirs(const char *path, struct err *e) {
    if (!*path) return 0;
    char *copy = mem_strdup(path);
    int status = make_folders(copy, e);
    free(copy);
    return status;
}

int sys_mkdir_parents(const char *file_path, struct err *e) {
    const char *slash = strrchr(file_path, '/');
    if (!slash || slash == file_path) return 0;
    char *folder = mem_printf("%.*s", (int)(slash - file_path), file_path);
    int status = sys_mkdirs(folder, e);
    free(folder);
    return status;
}

int sys_symlink(const char *target, const char *path, struct err *e) {
    return sys_call_symlink(target, AT_FDCWD, path) ? err_errno(e, "cannot make the link %s", path) : 0;
}

/* -- removing */

int sys_unlink(const char *path, struct err *e) {
    if (!sys_call_unlink(AT_FDCWD, path, 0) || errno == ENOENT || errno == ENOTDIR) return 0;
    return err_errno(e, "cannot remove %s", path);
}

/* A tree may be deeper than there are descriptors: what lies deeper than this is first moved up to its top. */
#define REMOVE_DEPTH 64

struct removal {
    int top;           /* the folder being emptied */
    unsigned moved;    /* names given to what was moved up */
    bool again;        /* something was: the top isn't empty yet */
};

static int empty_folder(struct removal *r, int fd, unsigned depth);

/* Opens a folder for emptying; one that its maker closed even to us is opened up first. */
static int open_folder(int dir, const char *name) {
    int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
    int fd = sys_call_open(dir, name, flags, 0);
    if (fd >= 0 || errno != EACCES || fchmodat(dir, name, 0700, 0)) return fd;
    return sys_call_open(dir, name, flags, 0);
}

static int remove_entry(struct removal *r, int dir, const char *name, unsigned depth) {
    if (!sys_call_unlink(dir, name, 0) || errno == ENOENT) return 0;
    if (errno == EACCES && !fchmod(dir, 0700) && !sys_call_unlink(dir, name, 0)) return 0;
    if (errno != EISDIR && errno != EPERM) return -1;
    int number = errno, fd = open_folder(dir, name);
    if (fd < 0) {
        if (errno == ENOTDIR || errno == ELOOP) errno = number; /* no folder: say why it couldn't be unlinked */
        return -1;
    }
    if (depth >= REMOVE_DEPTH) {
        char up[64];
        snprintf(up, sizeof up, ".mbuild-%ld-%u.up", (long)getpid(), r->moved++);
        int status = fchmod(fd, 0700) || sys_call_rename(dir, name, r->top, up, 0) ? -1 : 0;
        number = errno;
        close(fd);
        errno = number;
        r->again = true;
        return status;
    }
    int status = empty_folder(r, fd, depth + 1);
    number = errno;
    close(fd);
    errno = number;
    if (status) return -1;
    return !sys_call_unlink(dir, name, AT_REMOVEDIR) || errno == ENOENT ? 0 : -1;
}

static int empty_folder(struct removal *r, int fd, unsigned depth) {
    char **names;
    uint32_t count;
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0), status = 0;
    if (copy < 0 || lseek(copy, 0, SEEK_SET) || list_open(copy, &names, &count)) return -1;
    for (uint32_t i = 0; i < count && !status; i++) status = remove_entry(r, fd, names[i], depth);
    int number = errno;
    free(names);
    errno = number;
    return status;
}

int sys_remove_tree(const char *path, struct err *e) {
    if (!sys_call_unlink(AT_FDCWD, path, 0) || errno == ENOENT || errno == ENOTDIR) return 0;
    if (errno != EISDIR && errno != EPERM) return err_errno(e, "cannot remove %s", path);
    struct removal r = {.top = open_folder(AT_FDCWD, path)};
    if (r.top < 0) return err_errno(e, "cannot remove %s", path);
    int status;
    do {
        r.again = false;
        status = empty_folder(&r, r.top, 0);
    } while (!status && r.again);
    if (!status && sys_call_unlink(AT_FDCWD, path, AT_REMOVEDIR) && errno != ENOENT) status = -1;
    if (status) err_errno(e, "cannot remove %s", path);
    close(r.top);
    return status;
}

int sys_remove_private(const char *folder, struct err *e) {
    return sys_call_unlink(AT_FDCWD, folder, AT_REMOVEDIR) ? sys_remove_tree(folder, e) : 0;
}

/* -- moving */

static int copy_link(const char *from, const char *to, struct err *e) {
    char target[PATH_MAX];
    ssize_t n = readlink(from, target, sizeof target - 1);
    if (n < 0) return err_errno(e, "cannot read the link %s", from);
    target[n] = 0;
    return sys_symlink(target, to, e);
}

static int copy_tree(const char *from, const char *to, struct err *e);

static int copy_folder(const char *from, const char *to, struct err *e) {
    char **names;
    uint32_t count;
    if (sys_call_mkdir(AT_FDCWD, to, 0777)) return err_errno(e, "cannot make the folder %s", to);
    if (sys_list(from, &names, &count, e)) return -1;
    int status = 0;
    for (uint32_t i = 0; i < count && !status; i++) {
        char *a = mem_printf("%s/%s", from, names[i]), *b = mem_printf("%s/%s", to, names[i]);
        status = copy_tree(a, b, e);
        free(a);
        free(b);
    }
    free(names);
    return status;
}

static int copy_tree(const char *from, const char *to, struct err *e) {
    struct file_stat st;
    if (sys_stat(from, true, &st, e)) return -1;
    switch (st.kind) {
    case FILE_REGULAR: return sys_copy_file(from, to, st.executable, e);
    case FILE_LINK: return copy_link(from, to, e);
    case FILE_FOLDER: return copy_folder(from, to, e);
    default: return err_set(e, "cannot copy %s: it is neither file, folder nor link", from);
    }
}

/* To another file system: a copy beside the target first, so that it too appears whole. */
static int move_across(const char *from, const char *to, struct err *e) {
    struct err ignored;
    char *temp = sys_temp_beside(to);
    int status = copy_tree(from, temp, e);
    if (!status) status = sys_rename(temp, to, e);
    if (status) sys_remove_tree(temp, &ignored);
    free(temp);
    return status ? status : sys_remove_tree(from, e);
}

/* Something of another kind, or a folder that isn't empty, stands there: swaps the two and removes the old one, which
 * then has the temporary name, so that at every instant there is either. */
static int replace(const char *from, const char *to, struct err *e) {
    if (!sys_call_rename(AT_FDCWD, from, AT_FDCWD, to, RENAME_EXCHANGE)) return sys_remove_tree(from, e);
    if (errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP) return err_errno(e, "cannot rename %s to %s", from, to);
    if (sys_remove_tree(to, e)) return -1;
    return sys_call_rename(AT_FDCWD, from, AT_FDCWD, to, 0) ? err_errno(e, "cannot rename %s to %s", from, to) : 0;
}

int sys_rename(const char *from, const char *to, struct err *e) {
    if (!sys_call_rename(AT_FDCWD, from, AT_FDCWD, to, 0)) return 0;
    struct stat a, b;
    switch (errno) {
    case EXDEV: return move_across(from, to, e);
    case EISDIR: case ENOTEMPTY: case EEXIST: return replace(from, to, e);
    case ENOTDIR: /* a folder onto a file; or a file lies where a folder above `to` should */
        if (!lstat(from, &a) && !lstat(to, &b)) return replace(from, to, e);
        errno = ENOTDIR;
        return err_errno(e, "cannot rename %s to %s", from, to);
    default: return err_errno(e, "cannot rename %s to %s", from, to);
    }
}
