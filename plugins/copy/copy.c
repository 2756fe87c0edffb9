/* copy.c: a file or folder elsewhere, or under another name: the least step there is.
 *
 * The kernel copies (copy_file_range), and shares the blocks where the file system can. A link at the top is followed, links inside
 * of a folder stay links; of the mode only the executable bit counts, as in an artifact's digest. Must not need any library.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mbuild/plugin.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct mb_role roles[] = {
    {.name = "from", .flags = MB_INPUT, .help = "the file or folder to copy"},
    {.name = "to", .flags = MB_OUTPUT, .help = "the copy"},
    {0}};

/* Where it went wrong: the entry below `from`, "" at the top, and on which side. */
struct failure {
    const char *did; /* NULL: nothing went wrong, and `entry` isn't set */
    char entry[PATH_MAX];
};

static int failed(struct failure *f, const char *entry, const char *did) {
    if (f->did) return -1; /* the innermost tells most */
    f->did = did;
    f->entry[0] = 0;
    strncat(f->entry, entry, sizeof f->entry - 1);
    return -1;
}

/* For what the kernel can't copy by itself: another file system in old kernels, files of /proc, whose size is unknown. */
static int copy_bytes(int in, int out) {
    char buffer[65536];
    for (;;) {
        ssize_t n = read(in, buffer, sizeof buffer);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return (int)n;
        for (ssize_t at = 0; at < n;) {
            ssize_t m = write(out, buffer + at, (size_t)(n - at));
            if (m < 0 && errno != EINTR) return -1;
            if (m > 0) at += m;
        }
    }
}

static int copy_content(int in, int out, off_t size) {
    off_t done = 0;
    while (done < size) {
        ssize_t n = copy_file_range(in, NULL, out, NULL, (size_t)(size - done < (off_t)1 << 30 ? size - done : (off_t)1 << 30), 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        done += n;
    }
    return done == size && size ? 0 : copy_bytes(in, out); /* goes on from where the kernel stopped */
}

static int copy_file(int in, const struct stat *st, int folder, const char *name, const char *entry, struct failure *f) {
    int out = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, st->st_mode & 0100 ? 0777 : 0666);
    if (out < 0) return failed(f, entry, "cannot make the copy");
    int status = copy_content(in, out, st->st_size) ? failed(f, entry, "cannot copy") : 0;
    if (close(out) && !status) status = failed(f, entry, "cannot copy");
    return status;
}

static int copy_link(int from, const char *name, int to, const char *entry, struct failure *f) {
    char target[PATH_MAX];
    ssize_t n = readlinkat(from, name, target, sizeof target - 1);
    if (n < 0) return failed(f, entry, "cannot read the link");
    target[n] = 0;
    return symlinkat(target, to, name) ? failed(f, entry, "cannot make the copy") : 0;
}

static int copy_folder(int from, int to, const char *entry, struct failure *f);

/* Copies what `in` is open on into `name` in the folder `to`; closes `in`. */
static int copy_open(int in, int to, const char *name, const char *entry, struct failure *f) {
    struct stat st;
    int status = 0, made;
    if (fstat(in, &st)) {
        status = failed(f, entry, "cannot look at it");
    } else if (S_ISREG(st.st_mode)) {
        status = copy_file(in, &st, to, name, entry, f);
    } else if (!S_ISDIR(st.st_mode)) {
        errno = 0;
        status = failed(f, entry, "it is neither file, folder nor link");
    } else if ((mkdirat(to, name, 0777) && errno != EEXIST) || (made = openat(to, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
        status = failed(f, entry, "cannot make the copy");
    } else {
        status = copy_folder(in, made, entry, f);
        close(made);
    }
    close(in);
    return status;
}

static int copy_entry(int from, int to, const struct dirent *d, const char *entry, struct failure *f) {
    int in = openat(from, d->d_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC); /* a FIFO would wait for its writer */
    if (in >= 0) return copy_open(in, to, d->d_name, entry, f);
    return errno == ELOOP ? copy_link(from, d->d_name, to, entry, f) : failed(f, entry, "cannot open it");
}

static int copy_folder(int from, int to, const char *entry, struct failure *f) {
    int again = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *listing = again < 0 ? NULL : fdopendir(again);
    if (!listing) {
        if (again >= 0) close(again);
        return failed(f, entry, "cannot list it");
    }
    size_t n = strlen(entry);
    int status = 0;
    struct dirent *d;
    while (!status && (errno = 0, d = readdir(listing))) {
        if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, "..")) continue;
        char *below = malloc(n + strlen(d->d_name) + 2);
        if (!below) {
            status = failed(f, entry, "cannot copy");
            break;
        }
        memcpy(below, entry, n);
        below[n] = '/';
        strcpy(below + n + 1, d->d_name);
        status = copy_entry(from, to, d, below, f);
        free(below);
    }
    if (!status && errno) status = failed(f, entry, "cannot list it");
    closedir(listing);
    return status;
}

static int run(const struct mb_host *host, struct mb_run *run) {
    const char *from = host->input_path(run, "from", 0), *to = host->output_path(run, "to", 0);
    int in = open(from, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (in < 0) return host->fail(run, "%s: %s", from, strerror(errno));
    struct failure f; /* page by page, memory is what a small step's process costs: this much of it isn't touched without need */
    f.did = NULL;
    if (!copy_open(in, AT_FDCWD, to, "", &f)) return MB_OK;
    return host->fail(run, "%s%s: %s%s%s", from, f.entry, f.did, errno ? ": " : "", errno ? strerror(errno) : "");
}

static const struct mb_step steps[] = {
    {.name = "copy", .help = "copy a file or a folder", .flags = MB_DETERMINISTIC | MB_SELF_CONTAINED, .roles = roles, .run = run},
    {0}};

static const struct mb_plugin plugin = {MB_PLUGIN_HEAD, .name = "copy", .version = "1.0", .help = "copies", .steps = steps};
MB_PLUGIN(plugin);
