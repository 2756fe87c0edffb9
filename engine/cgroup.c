/* cgroup.c: finds where control groups can be made, makes, fills and removes them; see cgroup.h. */
#include "cgroup.h"
#include "sys.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PREFIX "mbuild-"
/* What a group holds besides a step's data, which has a limit of its own that gives a better message: page tables, stacks, pages of files. */
#define SLACK (8u << 20)

/* -- small files */

static int write_file(const char *folder, const char *group, const char *name, const char *text) {
    char path[2200];
    snprintf(path, sizeof path, "%s%s%s/%s", folder, group ? "/" : "", group ? group : "", name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    ssize_t n = write(fd, text, strlen(text));
    int number = errno;
    close(fd);
    errno = number;
    return n < 0 ? -1 : 0;
}

static bool read_file(const char *path, char *text, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);
    if (fd >= 0) close(fd);
    text[n > 0 ? n : 0] = 0;
    return n >= 0;
}

static bool has_word(const char *text, const char *word) {
    size_t n = strlen(word);
    for (const char *at = text; (at = strstr(at, word)); at += n) {
        bool starts = at == text || strchr(" ,:\n", at[-1]), ends = !at[n] || strchr(" ,:\n", at[n]);
        if (starts && ends) return true;
    }
    return false;
}

/* -- where */

/* The group that a line of /proc/self/cgroup names for a controller, or for version 2 with NULL: "3:memory:/path", "0::/path". */
static bool own_group(const char *self, const char *controller, char *out, size_t size) {
    for (const char *line = self; line && *line; line = strchr(line, '\n'), line += line != NULL) {
        const char *first = strchr(line, ':'), *second = first ? strchr(first + 1, ':') : NULL, *end = strchrnul(line, '\n');
        char names[256];
        if (!second || second > end || (size_t)(second - first) > sizeof names) continue;
        snprintf(names, sizeof names, "%.*s", (int)(second - first - 1), first + 1);
        if (controller ? !has_word(names, controller) : *names != 0) continue;
        return snprintf(out, size, "%.*s", (int)(end - second - 1), second + 1) < (int)size;
    }
    return false;
}

/* Where a hierarchy is mounted, by /proc/self/mountinfo (proc(5)): fields 4 and 5, and after " - " type, source and options. */
static bool mount_point(const char *mounts, const char *controller, char *top, char *at, size_t size) {
    for (const char *line = mounts; line && *line; line = strchr(line, '\n'), line += line != NULL) {
        char text[2048], root[1024], point[1024], type[64], options[512];
        snprintf(text, sizeof text, "%.*s", (int)(strchrnul(line, '\n') - line), line);
        const char *dash = strstr(text, " - ");
        if (!dash || sscanf(text, "%*s %*s %*s %1023s %1023s", root, point) != 2 || sscanf(dash, " - %63s %*s %511s", type, options) != 2) continue;
        if (strcmp(type, controller ? "cgroup" : "cgroup2") || (controller && !has_word(options, controller))) continue;
        return snprintf(top, size, "%s", root) < (int)size && snprintf(at, size, "%s", point) < (int)size;
    }
    return false;
}

/* The folder of the group that we are in. */
static bool own_folder(const char *root, const char *mounts, const char *self, const char *controller, char *out, size_t size) {
    char group[1024], top[1024], at[1024];
    if (!own_group(self, controller, group, sizeof group) || !mount_point(mounts, controller, top, at, sizeof at)) return false;
    const char *below = group;
    size_t n = strlen(top);
    if (n > 1 && !strncmp(group, top, n)) below += n; /* a container sees only its part of the hierarchy */
    if (!strcmp(below, "/")) below = "";
    return snprintf(out, size, "%s%s%s", root, at, below) < (int)size;
}

static bool writable(const char *folder) {
    char path[1100];
    snprintf(path, sizeof path, "%s/cgroup.procs", folder);
    return !access(folder, W_OK) && !access(path, W_OK);
}

/* Whether groups made in a folder get both controllers. Where nothing runs in it, or it is the root, they can be switched on. */
static bool gives_controllers(const char *folder) {
    char path[1100], text[1024];
    snprintf(path, sizeof path, "%s/cgroup.subtree_control", folder);
    if (read_file(path, text, sizeof text) && has_word(text, "memory") && has_word(text, "pids")) return true;
    if (write_file(folder, NULL, "cgroup.subtree_control", "+memory +pids")) return false;
    return read_file(path, text, sizeof text) && has_word(text, "memory") && has_word(text, "pids");
}

/* Version 2 wants no process in a group that has groups with controllers: so beside us if not below us. */
static bool find_unified(const char *root, const char *mounts, const char *self, struct cgroup_place *out) {
    char folder[sizeof out->memory], top[1024], at[1024], limit[2048];
    if (!own_folder(root, mounts, self, NULL, folder, sizeof folder) || !mount_point(mounts, NULL, top, at, sizeof at)) return false;
    snprintf(limit, sizeof limit, "%s%s", root, at);
    for (int up = 0; up < 2 && strlen(folder) >= strlen(limit); up++) {
        if (writable(folder) && gives_controllers(folder)) {
            memcpy(out->memory, folder, sizeof folder);
            memcpy(out->processes, folder, sizeof folder);
            return out->unified = true;
        }
        char *slash = strrchr(folder, '/');
        if (slash) *slash = 0;
    }
    return false;
}

bool cgroup_find_in(const char *root, const char *mounts, const char *self, struct cgroup_place *out, struct buf *lack) {
    memset(out, 0, sizeof *out);
    if (find_unified(root, mounts, self, out)) return true;
    if (!own_folder(root, mounts, self, "memory", out->memory, sizeof out->memory)) {
        buf_adds(lack, "no control group here has a limit of memory to give");
        return false;
    }
    if (!writable(out->memory)) {
        buf_adds(lack, "the control group isn't ours to write");
        *out->memory = 0;
        return false;
    }
    if (!own_folder(root, mounts, self, "pids", out->processes, sizeof out->processes) || !writable(out->processes)) *out->processes = 0;
    return true;
}

bool cgroup_find(struct cgroup_place *out, struct buf *lack) {
    struct buf mounts = {0}, self = {0};
    struct err e;
    bool found = !sys_read_file("/proc/self/mountinfo", &mounts, &e) && !sys_read_file("/proc/self/cgroup", &self, &e);
    if (!found) buf_adds(lack, e.text);
    else found = cgroup_find_in("", buf_str(&mounts), buf_str(&self), out, lack);
    buf_free(&mounts);
    buf_free(&self);
    return found;
}

/* -- groups */

static bool two_folders(const struct cgroup_place *p) {
    return !p->unified && *p->processes && strcmp(p->memory, p->processes) != 0;
}

static int make_folder(const char *folder, const char *name) {
    char path[1200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return mkdir(path, 0755);
}

int cgroup_limit(const struct cgroup_place *p, const char *name, uint64_t memory) {
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)memory + SLACK);
    if (p->unified) return write_file(p->memory, name, "memory.max", memory ? text : "max");
    return write_file(p->memory, name, "memory.limit_in_bytes", memory ? text : "-1");
}

int cgroup_make(const struct cgroup_place *p, const char *name, uint64_t memory) {
    char processes[16];
    snprintf(processes, sizeof processes, "%d", CGROUP_PROCESSES);
    if (make_folder(p->memory, name) || cgroup_limit(p, name, memory)) goto failed;
    if (two_folders(p) && make_folder(p->processes, name)) goto failed;
    if (*p->processes && write_file(p->processes, name, "pids.max", processes)) goto failed;
    /* Where there is swap, what is over the limit must not go there; and a step whose part was killed can't go on. Neither is everywhere. */
    if (p->unified) {
        write_file(p->memory, name, "memory.swap.max", "0");
        write_file(p->memory, name, "memory.oom.group", "1");
    }
    return 0;
failed:
    cgroup_remove(p, name);
    return -1;
}

int cgroup_enter(const struct cgroup_place *p, const char *name, pid_t pid) {
    char text[16];
    snprintf(text, sizeof text, "%d", (int)pid);
    if (write_file(p->memory, name, "cgroup.procs", text)) return -1;
    return two_folders(p) ? write_file(p->processes, name, "cgroup.procs", text) : 0;
}

/* A process that was reaped may still be on its way out of its group. */
static void remove_folder(const char *folder, const char *name) {
    char path[1200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    for (int i = 0; rmdir(path) && errno == EBUSY && i < 50; i++) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

void cgroup_remove(const struct cgroup_place *p, const char *name) {
    int number = errno;
    remove_folder(p->memory, name);
    if (two_folders(p)) remove_folder(p->processes, name);
    errno = number;
}

uint64_t cgroup_usage(const struct cgroup_place *p, const char *name) {
    char path[1300], text[64];
    snprintf(path, sizeof path, "%s/%s/%s", p->memory, name, p->unified ? "memory.current" : "memory.usage_in_bytes");
    return read_file(path, text, sizeof text) ? strtoull(text, NULL, 10) : 0;
}

uint64_t cgroup_kills(const struct cgroup_place *p, const char *name) {
    char path[1300], text[1024];
    snprintf(path, sizeof path, "%s/%s/%s", p->memory, name, p->unified ? "memory.events" : "memory.oom_control");
    const char *at = read_file(path, text, sizeof text) ? strstr(text, "oom_kill ") : NULL;
    return at ? strtoull(at + strlen("oom_kill "), NULL, 10) : 0;
}

void cgroup_name(char out[64], pid_t owner, uint32_t number) {
    snprintf(out, 64, PREFIX "%d-%u", (int)owner, number);
}

static void remove_stale(const char *folder) {
    DIR *d = opendir(folder);
    for (struct dirent *entry; d && (entry = readdir(d));) {
        int pid;
        if (sscanf(entry->d_name, PREFIX "%d-", &pid) != 1 || !kill(pid, 0) || errno != ESRCH) continue;
        unlinkat(dirfd(d), entry->d_name, AT_REMOVEDIR); /* the kernel keeps one in which something runs */
    }
    if (d) closedir(d);
}

void cgroup_remove_stale(const struct cgroup_place *p) {
    remove_stale(p->memory);
    if (two_folders(p)) remove_stale(p->processes);
}
