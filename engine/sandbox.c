/* sandbox.c: Landlock, seccomp and a limit on processes around a step; see sandbox.h.
 *
 * Files: landlock(7). Everything that Landlock can refuse is refused but what a rule allows. Rights can't be told from a path but only from
 * open folders, so those of the system are opened once, by the template.
 * Network: a seccomp filter refuses to make sockets of other families than AF_UNIX and AF_NETLINK (by which the C library asks for
 * interfaces). Landlock's own rules are about TCP alone.
 */
#include "sandbox.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int sandbox_parse_mode(const char *word, enum sandbox_mode *out, struct err *e) {
    static const char *const words[] = {[SANDBOX_AUTO] = "auto", [SANDBOX_REQUIRE] = "require", [SANDBOX_OFF] = "off"};
    for (int i = 0; i < 3; i++) {
        if (word && strcmp(word, words[i])) continue;
        *out = (enum sandbox_mode)i;
        return 0;
    }
    return err_set(e, "--sandbox: auto, require or off expected, found %s", word);
}

/* -- Landlock's interface, as of ABI 6: headers are often older than kernels */

#define SYSCALL_CREATE_RULESET 444 /* the same on every architecture */
#define SYSCALL_ADD_RULE 445
#define SYSCALL_RESTRICT_SELF 446
#define CREATE_RULESET_VERSION 1u
#define RULE_PATH_BENEATH 1

enum {
    FS_EXECUTE = 1 << 0, FS_WRITE_FILE = 1 << 1, FS_READ_FILE = 1 << 2, FS_READ_DIR = 1 << 3,
    FS_REMOVE_DIR = 1 << 4, FS_REMOVE_FILE = 1 << 5, FS_MAKE_CHAR = 1 << 6, FS_MAKE_DIR = 1 << 7, FS_MAKE_REG = 1 << 8,
    FS_MAKE_SOCK = 1 << 9, FS_MAKE_FIFO = 1 << 10, FS_MAKE_BLOCK = 1 << 11, FS_MAKE_SYM = 1 << 12,
    FS_REFER = 1 << 13, FS_TRUNCATE = 1 << 14, FS_IOCTL_DEV = 1 << 15
};
#define FS_OF_FILES (FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV) /* what may be said of what is no folder */
#define FS_READ (FS_EXECUTE | FS_READ_FILE | FS_READ_DIR)
#define FS_MAKE (FS_MAKE_DIR | FS_MAKE_REG | FS_MAKE_SOCK | FS_MAKE_FIFO | FS_MAKE_SYM) /* no devices */
#define FS_WRITE (FS_READ | FS_WRITE_FILE | FS_REMOVE_DIR | FS_REMOVE_FILE | FS_MAKE | FS_REFER | FS_TRUNCATE)
#define FS_DEVICE (FS_READ_FILE | FS_WRITE_FILE | FS_IOCTL_DEV)

#define SCOPE_ABSTRACT_SOCKETS 1u /* of processes outside */
#define SCOPE_SIGNALS 2u

struct ruleset {
    uint64_t files, network, scopes;
};
struct path_rule {
    uint64_t allowed;
    int32_t folder;
} __attribute__((packed));

int sandbox_files_abi(void) {
    static int abi = -1;
    if (abi < 0) {
        long n = syscall(SYSCALL_CREATE_RULESET, NULL, 0, CREATE_RULESET_VERSION);
        abi = n > 0 ? (int)n : 0;
    }
    return abi;
}

static uint64_t known_rights(int abi) {
    uint64_t all = (1u << 13) - 1;
    if (abi >= 2) all |= FS_REFER;
    if (abi >= 3) all |= FS_TRUNCATE;
    if (abi >= 5) all |= FS_IOCTL_DEV;
    return all;
}

static int add_rule(int ruleset, int fd, uint64_t rights) {
    struct path_rule rule = {.allowed = rights & known_rights(sandbox_files_abi()), .folder = fd};
    return rule.allowed ? (int)syscall(SYSCALL_ADD_RULE, ruleset, RULE_PATH_BENEATH, &rule, 0) : 0;
}

/* What isn't there needs no right. */
static int add_path(int ruleset, const char *path, uint64_t rights, struct err *e) {
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0) return errno == ENOENT || errno == ENOTDIR || errno == EACCES || errno == ELOOP ? 0 : err_errno(e, "sandbox: %s", path);
    int status = add_rule(ruleset, fd, rights);
    if (status && errno == EINVAL && rights & ~(uint64_t)FS_OF_FILES) status = add_rule(ruleset, fd, rights & FS_OF_FILES); /* no folder */
    if (status) err_errno(e, "sandbox: no right can be given on %s", path);
    close(fd);
    return status;
}

/* -- the system's folders */

/* What programs need to run at all. Not /tmp, /home, /root, /var, /run, /mnt, /srv. */
static const char *const folders[] = {
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/proc", "/sys", "/nix/store", "/gnu/store",
    "/snap", "/run/current-system", "/var/lib/ca-certificates"};
static const char *const devices[] = {
    "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx", "/dev/pts"};
/* What lies beside an installed program's bin/ and serves it. The rest of a folder in someone's home is not the step's business. */
static const char *const beside_bin[] = {
    "bin", "sbin", "shims", "lib", "lib64", "libexec", "include", "share", "etc", "versions", "version", "plugins", "envs", "pkgs",
    "conda-meta", "condabin", "ssl", "pyvenv.cfg", "toolchains"};

struct sandbox {
    int *fds;
    uint64_t *rights;
    char **paths; /* real ones, of folders */
    uint32_t count, fd_cap, right_cap, path_cap;
    struct rlimit processes; /* 0: no limit */
};

static bool lies_within(const char *path, const char *folder) {
    size_t n = strlen(folder);
    return !strncmp(path, folder, n) && (path[n] == '/' || !path[n] || (n == 1 && *folder == '/'));
}

static void keep_folder(struct sandbox *s, const char *path, uint64_t rights) {
    char real[PATH_MAX];
    struct stat st;
    if (!realpath(path, real) || stat(real, &st)) return;
    if (!S_ISDIR(st.st_mode)) rights &= FS_OF_FILES;
    for (uint32_t i = 0; i < s->count; i++)
        if (lies_within(real, s->paths[i]) && !(rights & ~s->rights[i])) return; /* /bin is /usr/bin on most systems */
    int fd = open(real, O_PATH | O_CLOEXEC);
    if (fd < 0) return;
    s->fds = mem_grow(s->fds, &s->fd_cap, s->count + 1, sizeof *s->fds);
    s->rights = mem_grow(s->rights, &s->right_cap, s->count + 1, sizeof *s->rights);
    s->paths = mem_grow(s->paths, &s->path_cap, s->count + 1, sizeof *s->paths);
    s->fds[s->count] = fd;
    s->rights[s->count] = rights;
    s->paths[s->count++] = mem_strdup(real);
}

static void cut_name(char *path) {
    char *slash = strrchr(path, '/');
    if (slash) *slash = 0;
}

/* A program's folder, and what serves programs there: of /home/me/venv/bin also /home/me/venv/lib. A folder that holds a home or the repo,
 * or the root, is no program's prefix. */
static void keep_program_folder(struct sandbox *s, const char *folder) {
    char real[PATH_MAX], prefix[PATH_MAX], here[PATH_MAX], home[PATH_MAX], part[PATH_MAX + 32];
    const char *variable = getenv("HOME");
    if (*folder != '/' || !realpath(folder, real)) return;
    memcpy(prefix, real, sizeof prefix);
    cut_name(prefix);
    if (!variable || !realpath(variable, home)) *home = 0;
    bool holds_home = !*prefix || (*home && lies_within(home, prefix)), holds_repo = getcwd(here, sizeof here) && lies_within(here, prefix);
    bool in_home = *home && lies_within(prefix, home);
    keep_folder(s, real, FS_READ);
    if (holds_home || holds_repo) return;
    if (!in_home) keep_folder(s, prefix, FS_READ);
    for (size_t i = 0; in_home && i < sizeof beside_bin / sizeof *beside_bin; i++) {
        snprintf(part, sizeof part, "%s/%s", prefix, beside_bin[i]);
        keep_folder(s, part, FS_READ);
    }
}

/* Where an interpreter that PATH finds really lies: a virtual environment's is a link to another's. */
static void keep_interpreter(struct sandbox *s, const char *folder, const char *name) {
    char path[PATH_MAX], real[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path || !realpath(path, real)) return;
    cut_name(real);
    keep_program_folder(s, real);
}

/* Where mbuild itself lies: …/bin/mbuild. Headers for those who compile plugins, libraries for those who load them. */
static void keep_ours(struct sandbox *s) {
    static const char *const ours[] = {"bin", "libexec", "lib", "lib64", "include", "share/mbuild"};
    char home[PATH_MAX], part[PATH_MAX + 32];
    ssize_t n = readlink("/proc/self/exe", home, sizeof home - 1);
    if (n < 0) return;
    home[n] = 0;
    cut_name(home);
    cut_name(home);
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        snprintf(part, sizeof part, "%s/%s", home, ours[i]);
        keep_folder(s, part, FS_READ);
    }
}

#define PROCESSES_MORE 4096 /* that a step may start, and other programs of the user's besides those on the machine now */

static unsigned long count_processes(void) {
    unsigned long n = 0;
    FILE *f = fopen("/proc/loadavg", "re");
    int got = f ? fscanf(f, "%*s %*s %*s %*u/%lu", &n) : 0;
    if (f) fclose(f);
    return got == 1 ? n : 0;
}

static struct rlimit limit_processes(void) {
    struct rlimit limit;
    rlim_t most = count_processes();
    if (!most || getrlimit(RLIMIT_NPROC, &limit)) return (struct rlimit){0};
    most += PROCESSES_MORE;
    if (limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur > most) limit.rlim_cur = most;
    return limit;
}

struct sandbox *sandbox_prepare(void) {
    if (!sandbox_files_abi()) return NULL;
    struct sandbox *s = mem_alloc(sizeof *s);
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) keep_folder(s, folders[i], FS_READ);
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++) keep_folder(s, devices[i], FS_DEVICE | FS_READ_DIR);
    keep_ours(s);
    s->processes = limit_processes();
    const char *variable = getenv("PATH");
    char *paths = mem_strdup(variable ? variable : ""), *rest = paths;
    for (char *folder; (folder = strsep(&rest, ":"));) {
        keep_program_folder(s, folder);
        keep_interpreter(s, folder, "python3");
        keep_interpreter(s, folder, "python");
    }
    free(paths);
    variable = getenv("LD_LIBRARY_PATH");
    paths = rest = mem_strdup(variable ? variable : "");
    for (char *folder; (folder = strsep(&rest, ":"));)
        if (*folder == '/') keep_folder(s, folder, FS_READ);
    free(paths);
    return s;
}

/* -- rules of one step */

static int add_matches(int ruleset, const char *pattern, uint64_t rights, struct err *e) {
    glob_t found;
    int status = 0;
    if (glob(pattern, GLOB_NOSORT, NULL, &found)) return 0;
    for (size_t i = 0; !status && i < found.gl_pathc; i++) status = add_path(ruleset, found.gl_pathv[i], rights, e);
    globfree(&found);
    return status;
}

/* NVIDIA's devices; shared memory, by which NCCL's processes talk; and the driver's cache of compiled kernels. */
static int add_gpu(int ruleset, struct err *e) {
    const char *cache = getenv("CUDA_CACHE_PATH"), *home = getenv("HOME");
    char *path = cache ? mem_strdup(cache) : mem_printf("%s/.nv", home ? home : "/nonexistent");
    int status = add_matches(ruleset, "/dev/nvidia*", FS_DEVICE | FS_READ_DIR, e) || add_path(ruleset, "/dev/shm", FS_WRITE, e) ||
                         add_matches(ruleset, "/dev/infiniband", FS_DEVICE | FS_READ_DIR, e) || add_path(ruleset, path, FS_WRITE, e)
                     ? -1
                     : 0;
    free(path);
    return status;
}

/* /etc/resolv.conf is often a link to where a local resolver writes it. */
static int add_resolver(int ruleset, struct err *e) {
    char real[PATH_MAX];
    return realpath("/etc/resolv.conf", real) ? add_path(ruleset, real, FS_READ, e) : 0;
}

static int add_all(struct sandbox *s, int ruleset, const struct sandbox_rules *r, struct err *e) {
    for (uint32_t i = 0; i < s->count && !r->self_contained; i++)
        if (add_rule(ruleset, s->fds[i], s->rights[i])) return err_errno(e, "sandbox: no right can be given on %s", s->paths[i]);
    if (r->read_all && add_path(ruleset, "/", FS_READ, e)) return -1;
    for (const char *const *p = r->read; p && *p; p++)
        if (add_path(ruleset, *p, FS_READ, e)) return -1;
    for (const char *const *p = r->list; p && *p; p++)
        if (add_path(ruleset, *p, FS_READ_DIR, e)) return -1;
    for (const char *const *p = r->write; p && *p; p++)
        if (add_path(ruleset, *p, FS_WRITE, e)) return -1;
    if (r->gpu && add_gpu(ruleset, e)) return -1;
    return r->network ? add_resolver(ruleset, e) : 0;
}

static int confine_files(struct sandbox *s, const struct sandbox_rules *r, struct err *e) {
    int abi = sandbox_files_abi();
    if (!s || !abi) return err_set(e, "sandbox: this kernel has no Landlock, so a step can't be kept from files that aren't its own");
    struct ruleset attributes = {.files = known_rights(abi)};
    if (abi >= 6) attributes.scopes = SCOPE_SIGNALS | (r->network || r->gpu ? 0 : SCOPE_ABSTRACT_SOCKETS);
    int ruleset = (int)syscall(SYSCALL_CREATE_RULESET, &attributes, sizeof attributes, 0);
    if (ruleset < 0) return err_errno(e, "sandbox: landlock_create_ruleset");
    int status = add_all(s, ruleset, r, e);
    if (!status && syscall(SYSCALL_RESTRICT_SELF, ruleset, 0)) status = err_errno(e, "sandbox: landlock_restrict_self");
    close(ruleset);
    return status;
}

/* -- network */

#if defined(__x86_64__)
#define NATIVE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE AUDIT_ARCH_AARCH64
#endif

bool sandbox_can_refuse_network(void) {
#ifdef NATIVE
    static int can = -1;
    if (can < 0) can = prctl(PR_GET_SECCOMP) >= 0 && !syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &(uint32_t){SECCOMP_RET_ERRNO});
    return can;
#else
    return false;
#endif
}

static int confine_network(struct err *e) {
#ifdef NATIVE
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define IF(value, yes) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1), yes
#define ANSWER(what) BPF_STMT(BPF_RET | BPF_K, what)
#define REFUSE(code) ANSWER(SECCOMP_RET_ERRNO | (code))
    static const struct sock_filter code[] = {
        LOAD(arch),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NATIVE, 8, 0),
        /* Programs of the other word size: their ways to sockets and io_uring. */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_I386, 1, 0), REFUSE(ENOSYS),
        LOAD(nr), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 102, 3, 0) /* socketcall */,
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 359, 2, 0) /* socket */,
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 425, 1, 0) /* io_uring_setup */, ANSWER(SECCOMP_RET_ALLOW), REFUSE(EACCES),
        /* Ours. io_uring makes sockets too, where no filter sees them. */
        LOAD(nr), BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1) /* x32 */, REFUSE(ENOSYS),
        IF(SYS_io_uring_setup, REFUSE(ENOSYS)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 1, 0), ANSWER(SECCOMP_RET_ALLOW),
        LOAD(args[0]), IF(AF_UNIX, ANSWER(SECCOMP_RET_ALLOW)), IF(AF_NETLINK, ANSWER(SECCOMP_RET_ALLOW)), REFUSE(EACCES)};
    struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = (struct sock_filter *)code};
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)) return err_errno(e, "sandbox: seccomp");
    return 0;
#else
    return err_set(e, "sandbox: the network can't be refused on this processor");
#endif
}

/* -- processes */

/* RLIMIT_NPROC counts all processes of the user, so the limit is what the machine has now and some more: a step that forks without end
 * stops there. (The kernel does not hold root to it.) */
static int confine_processes(const struct sandbox *s, struct err *e) {
    if (!s || !s->processes.rlim_cur) return 0;
    return setrlimit(RLIMIT_NPROC, &s->processes) ? err_errno(e, "sandbox: the number of processes can't be limited") : 0;
}

/* Without this only root could do the rest. It also keeps setuid programs from having more rights than the step. */
static int renounce_privileges(struct err *e) {
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ? err_errno(e, "sandbox: no_new_privs") : 0;
}

int sandbox_offline(struct err *e) {
    return renounce_privileges(e) || confine_network(e) ? -1 : 0;
}

int sandbox_enter(struct sandbox *s, const struct sandbox_rules *r, struct err *e) {
    struct err other;
    int status = confine_processes(s, e);
    if (!status && !r->offline) status = renounce_privileges(e);
    int files = status ? -1 : confine_files(s, r, e);
    int network = r->network || r->offline ? 0 : confine_network(files ? &other : e); /* the one as far as it goes without the other */
    return status || files || network ? -1 : 0;
}

int sandbox_narrow(struct sandbox *s, const struct sandbox_rules *r, struct err *e) {
    return confine_files(s, r, e);
}
