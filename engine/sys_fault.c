/* sys_fault.c: makes a chosen system call fail, or the process die there; see sys.h and sys_call.h.
 *
 * It knows kinds of calls and counts them, nothing of files.
 */
#include "sys_call.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const kind_names[SYS_KINDS] = {
    [SYS_OPEN] = "open",   [SYS_READ] = "read",   [SYS_WRITE] = "write",   [SYS_FSYNC] = "fsync", [SYS_RENAME] = "rename",
    [SYS_LINK] = "link",   [SYS_MKDIR] = "mkdir", [SYS_UNLINK] = "unlink", [SYS_MMAP] = "mmap",   [SYS_COPY] = "copy",
    [SYS_ALLOC] = "alloc",
};

bool sys_fault_armed;

static struct {
    int kind;             /* enum sys_kind, or SYS_KINDS for any but alloc */
    unsigned long at;     /* which call, from 1 */
    bool onward, deadly;  /* all after it as well; kill instead of failing */
    int number;           /* errno */
    atomic_ulong seen;
} fault;

bool sys_fault_hit(enum sys_kind kind) {
    if (fault.kind == SYS_KINDS ? kind == SYS_ALLOC : fault.kind != (int)kind) return false;
    unsigned long n = atomic_fetch_add(&fault.seen, 1) + 1;
    if (fault.onward ? n < fault.at : n != fault.at) return false;
    if (fault.deadly) {
        kill(getpid(), SIGKILL);
        pause();
    }
    errno = fault.number;
    return true;
}

unsigned long sys_fault_seen(void) {
    return atomic_load(&fault.seen);
}

static int find_kind(const char *name, size_t length) {
    for (int i = 0; i < SYS_KINDS; i++)
        if (strlen(kind_names[i]) == length && !memcmp(kind_names[i], name, length)) return i;
    return length == 3 && !memcmp(name, "any", 3) ? SYS_KINDS : -1;
}

static int find_errno(const char *name) {
    for (int number = 1; number < 256; number++) {
        const char *known = strerrorname_np(number);
        if (known && !strcmp(known, name)) return number;
    }
    return 0;
}

int sys_fault_arm(const char *spec, struct err *e) {
    sys_fault_armed = false;
    atomic_store(&fault.seen, 0);
    if (!spec) return 0;
    size_t length = strcspn(spec, ":");
    fault.kind = find_kind(spec, length);
    if (fault.kind < 0 || spec[length] != ':')
        return err_set(e, "MBUILD_FAULT: CALL:N[+][:ERRNO|:KILL] with a known CALL expected, found \"%s\"", spec);
    char *end;
    fault.at = strtoul(spec + length + 1, &end, 10);
    fault.onward = *end == '+';
    end += fault.onward;
    if (!fault.at || (*end && *end != ':'))
        return err_set(e, "MBUILD_FAULT: the number of a call, from 1, expected, found \"%s\"", spec + length + 1);
    fault.deadly = !strcmp(end, ":KILL");
    fault.number = *end ? find_errno(end + 1) : EIO;
    if (!fault.deadly && !fault.number)
        return err_set(e, "MBUILD_FAULT: KILL or an errno's name expected, found \"%s\"", end + 1);
    sys_fault_armed = true;
    return 0;
}

/* A fault that is spelt wrong must not go for a test passed. */
__attribute__((constructor)) static void arm_from_environment(void) {
    const char *spec = getenv("MBUILD_FAULT");
    struct err e;
    if (!spec || !*spec || !sys_fault_arm(spec, &e)) return;
    dprintf(STDERR_FILENO, "mbuild: %s\n", e.text);
    _exit(2);
}
