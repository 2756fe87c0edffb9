/* worker_step.c: a step's process, from the template's fork to its end: its descriptors, signals, environment and limits, then its code.
 *
 * The order matters: first what makes sure that the process ends when it must, then what keeps it from what isn't its own, the plugin's
 * code last.
 */
#include "sys.h"
#include "worker_private.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SHADOW_MEMORY 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SHADOW_MEMORY 1
#endif
#endif
#ifndef SHADOW_MEMORY
#define SHADOW_MEMORY 0 /* 1: a sanitizer's own mappings count as data, so RLIMIT_DATA can't be used */
#endif

extern char **environ;

/* -- environment */

/* What a step sees without declaring it: where programs and libraries are, whose home it is, and what decides where something is found
 * or sent rather than what is made. */
static const char *const passed[] = {"PATH", "HOME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "OPENBLAS_CORETYPE",
                                     "OPENBLAS_L2_SIZE", "CUDA_VISIBLE_DEVICES", "CUDA_CACHE_PATH", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY",
                                     "NO_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS"};

static bool is_passed(const char *variable) {
    size_t n = strcspn(variable, "=");
    if (!strncmp(variable, "LC_", 3)) return true;
    for (size_t i = 0; i < sizeof passed / sizeof *passed; i++)
        if (!strncmp(passed[i], variable, n) && !passed[i][n]) return true;
    return false;
}

void step_clean_environment(void) {
    size_t n = 0, kept = 0;
    while (environ && environ[n]) n++;
    char **clean = mem_alloc((n + 1) * sizeof *clean); /* for as long as the process lives */
    for (size_t i = 0; i < n; i++)
        if (is_passed(environ[i])) clean[kept++] = environ[i];
    environ = clean;
}

static int set_variable(const char *name, const char *value) {
    return value ? setenv(name, value, 1) : unsetenv(name);
}

static int set_environment(const struct worker_request *r, struct err *e) {
    char threads[16], temp[4096];
    snprintf(threads, sizeof threads, "%d", r->cpus > 0 ? r->cpus : 1);
    bool failed = set_variable("OMP_NUM_THREADS", threads) || set_variable("OPENBLAS_NUM_THREADS", threads);
    if (r->temp_folder) {
        const char *here = *r->temp_folder == '/' ? "" : getcwd(temp, sizeof temp - strlen(r->temp_folder) - 2);
        if (!here) return err_errno(e, "cannot tell the current folder");
        char *path = *here ? mem_printf("%s/%s", here, r->temp_folder) : mem_strdup(r->temp_folder);
        failed |= set_variable("TMPDIR", path);
        free(path);
    }
    for (const char *const *pair = r->env; !failed && pair && *pair; pair += 2) failed = set_variable(pair[0], pair[1]);
    return failed ? err_errno(e, "cannot set the environment") : 0;
}

/* -- descriptors */

/* Moves descriptors that must stay out of the way of 0, 1 and 2 and of the numbers that a jobserver's clients look at, and closes
 * everything else. Everything that is kept but the jobserver's closes when a program is executed. */
static int arrange_descriptors(const struct step_start *s, int *socket, struct err *e) {
    int null = open("/dev/null", O_RDONLY);
    *socket = fcntl(s->fds[0], F_DUPFD_CLOEXEC, 3);
    if (null < 0 || *socket < 0) return err_errno(e, "cannot open /dev/null");
    if (dup2(null, 0) < 0 || dup2(s->fds[1], 1) < 0 || dup2(s->fds[1], 2) < 0) return err_errno(e, "cannot set the standard descriptors");
    if (*socket != 3 && dup3(*socket, 3, O_CLOEXEC) < 0) return err_errno(e, "cannot set the descriptor of messages");
    *socket = 3;
    if (close_range(4, ~0u, 0)) return err_errno(e, "cannot close what was inherited");
    return 0;
}

/* -- limits */

/* Bytes of data that the process has already: what the libraries brought. */
static uint64_t data_bytes(void) {
    unsigned long long pages[6] = {0};
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f) return 0;
    int n = fscanf(f, "%llu %llu %llu %llu %llu %llu", &pages[0], &pages[1], &pages[2], &pages[3], &pages[4], &pages[5]);
    fclose(f);
    return n == 6 ? pages[5] * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

/* RLIMIT_DATA counts private memory that can be written, and neither files that are mapped nor address space that is only reserved. A CUDA
 * context reserves more than there is, so a step on a GPU has no limit. */
static int limit_memory(const struct worker_request *r, struct err *e) {
    struct rlimit limit;
    if (SHADOW_MEMORY || !r->memory || (r->device && !strcmp(r->device, "cuda"))) return 0;
    if (getrlimit(RLIMIT_DATA, &limit)) return err_errno(e, "cannot read the memory limit");
    uint64_t most = r->memory + data_bytes();
    if (limit.rlim_max != RLIM_INFINITY && most > limit.rlim_max) most = limit.rlim_max;
    limit.rlim_cur = limit.rlim_max = most;
    return setrlimit(RLIMIT_DATA, &limit) ? err_errno(e, "cannot limit the memory") : 0;
}

/* -- from fork to end */

static void reset_signals(void) {
    struct sigaction standard = {.sa_handler = SIG_DFL};
    sigemptyset(&standard.sa_mask);
    for (int n = 1; n < NSIG; n++) sigaction(n, &standard, NULL); /* some can't be set: those can't have been changed either */
}

static int report_failure(int socket, const char *text) {
    struct buf out = {0};
    size_t begun = message_begin(&out, MESSAGE_RESULT);
    message_add_number(&out, MB_FAILED);
    message_add_string(&out, text);
    message_end(&out, begun);
    return worker_send_all(socket, out.data, out.len) ? 0 : 1;
}

_Noreturn void step_main(const struct step_start *s) {
    int socket = s->fds[0];
    size_t used;
    struct buf in = {0};
    struct message m;
    struct arena a = {0};
    struct worker_request r;
    struct err e;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != s->parent) _exit(1); /* the template ended before the line above */
    setsid();
    reset_signals();
    if (arrange_descriptors(s, &socket, &e)) _exit(report_failure(socket, e.text));
    int got = worker_receive(socket, &in, &used, &m, &e);
    if (!got) _exit(1); /* the engine is gone */
    if (got < 0 || worker_request_read(&m, &a, &r, &e)) _exit(report_failure(socket, e.text));
    char name[16];
    snprintf(name, sizeof name, "%s", r.label ? r.label : r.step);
    prctl(PR_SET_NAME, name);
    buf_free(&in);
    if (set_environment(&r, &e) || limit_memory(&r, &e)) _exit(report_failure(socket, e.text));
    host_run_step(s->plugin, &r, socket); /* unblocks signals once the handler is set */
    _exit(0); /* no destructors, no leak checks: what a plugin leaves behind goes with its process */
}
