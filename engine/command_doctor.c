/* command_doctor.c: `doctor`: what this machine offers to mbuild and what it lacks. */
#include "cgroup.h"
#include "command.h"
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <lua.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

static void line(const char *what, bool fine, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void line(const char *what, bool fine, const char *format, ...) {
    va_list args;
    printf("%-4s %-16s ", fine ? "ok" : "lack", what);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

static void machine(void) {
    struct utsname u;
    struct sysinfo info;
    char memory[24] = "?";
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    if (!sysinfo(&info)) ui_bytes((uint64_t)info.totalram * info.mem_unit, memory);
    line("processors", n > 0, "%ld", n);
    line("memory", true, "%s", memory);
    if (!uname(&u)) line("system", true, "%s %s %s", u.sysname, u.release, u.machine);
}

static void processor(void) {
#if defined(__x86_64__)
    static const char *const names[] = {"avx2", "avx512f", "avx512vnni"};
    struct buf have = {0};
    if (__builtin_cpu_supports("avx2")) buf_addf(&have, " %s", names[0]);
    if (__builtin_cpu_supports("avx512f")) buf_addf(&have, " %s", names[1]);
    if (__builtin_cpu_supports("avx512vnni")) buf_addf(&have, " %s", names[2]);
    line("instructions", have.len > 0, "%s", have.len ? have.data + 1 : "no AVX2: kernels use plain code");
    buf_free(&have);
#endif
}

static void gpus(void) {
    int count = 0;
    DIR *d = opendir("/dev");
    for (struct dirent *entry; d && (entry = readdir(d));)
        count += !strncmp(entry->d_name, "nvidia", 6) && entry->d_name[6] >= '0' && entry->d_name[6] <= '9';
    if (d) closedir(d);
    line("gpu", count > 0, count ? "%d" : "none: steps compute on the processor", count);
    line("cuda", HAVE_CUDA, HAVE_CUDA ? "built in" : "this mbuild was built without it (./configure --with-cuda=DIR)");
    if (HAVE_CUDA && count) line("warm processes", true, "steps on a GPU that may run again share one, so its context is made once a build");
}

/* What --sandbox can rely on. */
static void isolation(void) {
    int abi = sandbox_files_abi();
    struct utsname u;
    line("landlock", abi >= 3, abi >= 3 ? "ABI %d: a step sees its own files only" : abi ? "ABI %d, older than 3 (Linux 6.2): a step could still truncate files that aren't its own"
                                              : "the kernel has none, or it is switched off (lsm= at boot): steps may read and write all that you may", abi);
    line("seccomp", sandbox_can_refuse_network(), sandbox_can_refuse_network() ? "a step has no network unless its rule says so" : "missing: steps have the network always");
    if (abi && abi < 6 && !uname(&u)) line("landlock scopes", false, "Linux %s is older than 6.12: a step could signal your other processes", u.release);
}

/* What holds a step to its limits. */
static void limits(void) {
    struct cgroup_place place;
    struct buf lack = {0};
    bool found = cgroup_find(&place, &lack);
    if (found) line("control groups", true, "version %d: a step with a limit of memory is held to it as a whole%s", place.unified ? 2 : 1,
                    *place.processes ? ", and to its number of processes" : "");
    else line("control groups", false, "%s: each process of a step is held to its limit of memory, not all together", lack.data);
    buf_free(&lack);
}

static void disk(void) {
    struct statvfs v;
    char left[24];
    if (!statvfs(".", &v)) line("free disk", (uint64_t)v.f_bavail * v.f_frsize > (1u << 30), "%s here", ui_bytes((uint64_t)v.f_bavail * v.f_frsize, left));
}

int command_doctor(const struct options *o, int argc, char **argv, struct err *e) {
    (void)argv;
    if (argc > 1) return err_set(e, "doctor takes no argument");
    if (o->directory && chdir(o->directory)) return err_errno(e, "-C %s", o->directory);
    char *home = session_home(e);
    if (!home) return -1;
    printf("mbuild %s, ABI %d.%d, in %s\n", MBUILD_VERSION, MB_ABI_MAJOR, MB_ABI_MINOR, home);
    machine();
    processor();
    gpus();
    isolation();
    limits();
    disk();
    line("compiler", !system("command -v ${CC:-cc} >/dev/null 2>&1"), "%s, for plugins in C", getenv("CC") ? getenv("CC") : "cc");
    line("lua", true, "%s", LUA_RELEASE);
    line("sqlite", true, "%s", sqlite3_libversion());
    line("openssl", true, "%s", OpenSSL_version(OPENSSL_VERSION));
    free(home);
    return 0;
}
