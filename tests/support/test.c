/* test.c: runs the tests that a program registered with test.h and prints what came of them.
 *
 * The tests run in a child. What both must know, which test is running and which folder it made,
 * stands in memory that the two share, so that the parent can tell a crashed test by name, and start
 * another child for the rest. */
#define _GNU_SOURCE 1
#include "test.h"

#include <ftw.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

struct test {
    void (*body)(const void *argument);
    const void *argument;
    char *name;
};

/* Exit statuses of a child that ended at a test, which it has reported itself. */
enum { ENDED_FAILED = 101, ENDED_SKIPPED = 102 };

static struct {
    int current;           /* the test that is running */
    int failed;            /* how many did */
    char folder[PATH_MAX]; /* what test_folder made; "" for none */
} * shared;

static struct test *tests;
static int test_count, test_room;
static int forks = 1;

/* There in programs built with AddressSanitizer or LeakSanitizer alone. */
extern int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

static _Noreturn void die(const char *what)
{
    perror(what);
    exit(2);
}

void test_add(void (*body)(const void *argument), const void *argument, const char *format, ...)
{
    if (test_count == test_room) {
        test_room = test_room ? 2 * test_room : 64;
        tests = realloc(tests, (size_t)test_room * sizeof *tests);
        if (!tests)
            die("test_add");
    }
    struct test *t = &tests[test_count++];
    *t = (struct test){.body = body, .argument = argument};
    va_list args;
    va_start(args, format);
    if (vasprintf(&t->name, format, args) < 0)
        die("test_add");
    va_end(args);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static int make_writable(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)ftw;
    return flag == FTW_D || flag == FTW_DNR ? chmod(path, (st->st_mode & 07777) | 0700) : 0;
}

static void remove_folder(void)
{
    if (!shared->folder[0])
        return;
    nftw(shared->folder, make_writable, 16, FTW_PHYS);
    if (nftw(shared->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS))
        perror(shared->folder);
    shared->folder[0] = 0;
}

/* One line, flushed at once; newlines in `why` would break the line, so they become spaces. */
static void report(const char *verdict, const char *why)
{
    printf("%s %s", verdict, tests[shared->current].name);
    if (why) {
        fputs(": ", stdout);
        for (const char *p = why; *p; p++)
            putchar(*p == '\n' ? ' ' : *p);
    }
    putchar('\n');
    fflush(stdout);
}

static _Noreturn void end_at(int status)
{
    fflush(NULL);
    if (!forks && status == ENDED_FAILED)
        abort();
    _exit(status);
}

_Noreturn void test_fail(const char *file, int line, const char *format, ...)
{
    char why[4096];
    const char *slash = strrchr(file, '/');
    int n = *file ? snprintf(why, sizeof why, "%s:%d: ", slash ? slash + 1 : file, line) : 0;
    va_list args;
    va_start(args, format);
    vsnprintf(why + n, sizeof why - (size_t)n, format, args);
    va_end(args);
    shared->failed++;
    report("not ok", why);
    end_at(ENDED_FAILED);
}

_Noreturn void test_skip(const char *format, ...)
{
    char why[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    report("skip", why);
    end_at(ENDED_SKIPPED);
}

void test_check_int(const char *file, int line, const char *what, long long found, long long expected)
{
    if (found != expected)
        test_fail(file, line, "%s is %lld, expected %lld", what, found, expected);
}

void test_check_string(const char *file, int line, const char *what, const char *found, const char *expected)
{
    if (!found || !expected) {
        if (found != expected)
            test_fail(file, line, "%s is %s, expected %s", what, found ? found : "NULL",
                      expected ? expected : "NULL");
    } else if (strcmp(found, expected))
        test_fail(file, line, "%s is \"%s\", expected \"%s\"", what, found, expected);
}

void test_check_contains(const char *file, int line, const char *what, const char *found, const char *part)
{
    if (!found || !strstr(found, part))
        test_fail(file, line, "%s is \"%s\", which does not contain \"%s\"", what, found ? found : "NULL",
                  part);
}

void test_check_memory(const char *file, int line, const char *what, const void *found, const void *expected,
                       size_t bytes)
{
    const unsigned char *a = found, *b = expected;
    for (size_t i = 0; i < bytes; i++)
        if (a[i] != b[i])
            test_fail(file, line, "%s differs at byte %zu of %zu: 0x%02x, expected 0x%02x", what, i, bytes,
                      a[i], b[i]);
}

void test_check_near(const char *file, int line, const char *what, double found, double expected,
                     double tolerance)
{
    if (isnan(found) && isnan(expected))
        return;
    if (!(found == expected || fabs(found - expected) <= tolerance))
        test_fail(file, line, "%s is %.9g, expected %.9g within %.3g (off by %.3g)", what, found, expected,
                  tolerance, fabs(found - expected));
}

const char *test_folder(void)
{
    if (!shared->folder[0]) {
        const char *base = getenv("TMPDIR");
        int n = snprintf(shared->folder, sizeof shared->folder, "%s/mbtest-XXXXXX",
                         base && *base ? base : "/tmp");
        if (n >= (int)sizeof shared->folder || !mkdtemp(shared->folder)) {
            perror(shared->folder);
            shared->folder[0] = 0;
            FAIL("cannot make a temporary folder");
        }
    }
    return shared->folder;
}

static const char *path_below(const char *variable, const char *otherwise, const char *path)
{
    const char *base = getenv(variable);
    char *joined;
    if (asprintf(&joined, "%s/%s", base && *base ? base : otherwise, path) < 0)
        die("path_below");
    /* Held from here, so that it is not a leak and lasts until the child ends. */
    static char **kept;
    static size_t count;
    kept = realloc(kept, (count + 1) * sizeof *kept);
    if (!kept)
        die("path_below");
    return kept[count++] = joined;
}

const char *test_source(const char *path)
{
    return path_below("MB_SOURCE", ".", path);
}

const char *test_built(const char *path)
{
    return path_below("MB_BUILD", "build", path);
}

const char *test_shared(const char *path)
{
    const char *found = path_below("MB_SHARED", "../shared", path);
    if (access(found, R_OK))
        test_skip("%s is not on this machine", path);
    return found;
}

static int is_wanted(const struct test *t, char **parts)
{
    if (!*parts)
        return 1;
    for (; *parts; parts++)
        if (strstr(t->name, *parts))
            return 1;
    return 0;
}

static void run_one(struct test *t, unsigned seconds)
{
    if (forks)
        alarm(seconds);
    t->body(t->argument);
    alarm(0);
    if (forks && __lsan_do_recoverable_leak_check && __lsan_do_recoverable_leak_check())
        test_fail("", 0, "it leaks memory, see above");
    report("ok", NULL);
    remove_folder();
}

static void report_death(int status, unsigned seconds)
{
    char why[128];
    if (WIFEXITED(status))
        snprintf(why, sizeof why, "the test called exit(%d)", WEXITSTATUS(status));
    else if (WTERMSIG(status) == SIGALRM)
        snprintf(why, sizeof why, "took longer than %u s", seconds);
    else
        snprintf(why, sizeof why, "killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    shared->failed++;
    report("not ok", why);
}

/* Runs the wanted tests from shared->current on in one child; afterwards shared->current is the next one. */
static void run_in_child(char **parts, unsigned seconds)
{
    fflush(NULL);
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (!child) {
        for (; shared->current < test_count; shared->current++)
            if (is_wanted(&tests[shared->current], parts))
                run_one(&tests[shared->current], seconds);
        fflush(NULL);
        _exit(0);
    }
    int status;
    while (waitpid(child, &status, 0) < 0)
        ;
    if (shared->current >= test_count)
        return;
    if (!WIFEXITED(status) || (WEXITSTATUS(status) != ENDED_FAILED && WEXITSTATUS(status) != ENDED_SKIPPED))
        report_death(status, seconds);
    remove_folder();
    shared->current++;
}

int main(int argc, char **argv)
{
    char **parts = argv + (argc > 0);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        die("mmap");
    if (*parts && !strcmp(*parts, "--list")) {
        for (int i = 0; i < test_count; i++)
            puts(tests[i].name);
        return 0;
    }
    const char *limit = getenv("MB_TEST_TIMEOUT"), *fork_wanted = getenv("MB_TEST_FORK");
    unsigned seconds = limit && atoi(limit) > 0 ? (unsigned)atoi(limit) : 120;
    forks = !(fork_wanted && !strcmp(fork_wanted, "0"));
    if (forks)
        while (shared->current < test_count)
            run_in_child(parts, seconds);
    else
        for (; shared->current < test_count; shared->current++)
            if (is_wanted(&tests[shared->current], parts))
                run_one(&tests[shared->current], seconds);
    return shared->failed ? 1 : 0;
}
