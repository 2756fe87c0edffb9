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

/* -- environment */

/* What a step sees without declaring it: where programs and libraries are, whose home it is, and what decides where something is found
 * or sent rather than what is made. */
static const char *const passed[] = {
    "PATH", "HOME", "LD_LIBRARY_PATH", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "CUDA_VISIBLE_DEVICES",
    "CUDA_CACHE_PATH", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "SSL_CERT_FILE",
    "SSL_CERT_DIR", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS"};

static bool is_passed(const char *variable) {
    size_t n = strcspn(variable, "=");
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

static char *join(struct arena *a, const char *before, char between, const char *behind) {
    size_t n = strlen(before), m = strlen(behind);
    char *text = arena_alloc(a, n + m + 2);
    memcpy(text, before, n);
    text[n] = between;
    memcpy(text + n + 1, behind, m);
    return text;
}

/* The private folder itself: it is there already. */
static const char *temp_variable(const struct step_start *s, const struct worker_request *r, struct arena *a) {
    char *path = *r->temp_folder == '/' ? arena_strdup(a, r->temp_folder) : join(a, s->folder, '/', r->temp_folder);
    char *slash = strrchr(path, '/');
    if (slash) *slash = 0;
    return path;
}

static bool names_it(const char *variable, const char *name) {
    size_t n = strlen(name);
    return !strncmp(variable, name, n) && variable[n] == '=';
}

char **step_environment(const struct step_start *s, const struct worker_request *r, struct arena *a) {
    size_t inherited = 0, pairs = 0, n = 0, made = 0;
    const char *threads = r->cpus > 1 ? arena_printf(a, "%d", r->cpus) : "1";
    while (s->environment[inherited]) inherited++;
    while (r->env && r->env[2 * pairs]) pairs++;
    /* Name and value; the user's language is no part of the key, and `sort` goes by it. */
    const char **own = arena_alloc(a, 2 * (pairs + 5) * sizeof *own);
    const char *const fixed[] = {"OMP_NUM_THREADS", threads, "OPENBLAS_NUM_THREADS", threads, "LC_ALL", "C.UTF-8",
                                 "TMPDIR", r->temp_folder ? temp_variable(s, r, a) : NULL, "MAKEFLAGS", r->makeflags};
    for (; n < sizeof fixed / sizeof *fixed; n++) own[n] = fixed[n];
    for (size_t i = 0; i < 2 * pairs; i++) own[n++] = r->env[i];
    char **all = arena_alloc(a, (inherited + n / 2 + 1) * sizeof *all);
    for (size_t i = 0; i < inherited; i++) {
        bool replaced = false;
        for (size_t k = 0; k < n && !replaced; k += 2) replaced = names_it(s->environment[i], own[k]);
        if (!replaced) all[made++] = s->environment[i];
    }
    for (size_t k = 0; k < n; k += 2) {
        bool replaced = !own[k + 1];
        for (size_t later = k + 2; later < n && !replaced; later += 2) replaced = !strcmp(own[k], own[later]);
        if (!replaced) all[made++] = join(a, own[k], '=', own[k + 1]);
    }
    return all;
}

/* -- descriptors */

int step_arrange_descriptors(const struct step_start *s, const struct worker_request *r, int *socket, int *other, struct err *e) {
    bool jobserver = r->jobserver[0] != r->jobserver[1] && s->fds[3] >= 0;
    int base = 3, moved[ORDER_FDS], last;
    for (int i = 0; jobserver && i < 2; i++)
        if (r->jobserver[i] >= base) base = r->jobserver[i] + 1;
    for (int i = 0; i < (jobserver ? 4 : 2); i++) {
        moved[i] = fcntl(s->fds[i], F_DUPFD_CLOEXEC, base);
        if (moved[i] < 0) return err_errno(e, "cannot move a descriptor");
    }
    if (other && (*other = fcntl(*other, F_DUPFD_CLOEXEC, base)) < 0) return err_errno(e, "cannot move a descriptor");
    close_range(0, (unsigned)base - 1, 0);
    if (open("/dev/null", O_RDONLY)) return err_errno(e, "cannot open /dev/null");
    bool failed = dup2(moved[1], 1) < 0 || dup2(moved[1], 2) < 0;
    for (int i = 0; jobserver && i < 2; i++) failed |= dup2(moved[2 + i], r->jobserver[i]) < 0;
    if (!failed && moved[0] != base) failed = dup3(moved[0], base, O_CLOEXEC) < 0;
    *socket = failed ? moved[0] : base;
    last = *socket;
    if (other && !failed && *other != base + 1) failed = dup3(*other, base + 1, O_CLOEXEC) < 0;
    if (other && !failed) last = *other = base + 1;
    if (failed || close_range((unsigned)last + 1, ~0u, 0)) return err_errno(e, "cannot set the descriptors");
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
int step_limit_memory(const struct worker_request *r, struct err *e) {
    struct rlimit limit;
    if (SHADOW_MEMORY || (!r->memory && !r->warm) || (r->device && !strcmp(r->device, "cuda"))) return 0;
    if (getrlimit(RLIMIT_DATA, &limit)) return err_errno(e, "cannot read the memory limit");
    uint64_t most = r->memory ? r->memory + data_bytes() : limit.rlim_max;
    if (limit.rlim_max != RLIM_INFINITY && most > limit.rlim_max) most = limit.rlim_max;
    limit.rlim_cur = most;
    if (!r->warm) limit.rlim_max = most; /* the next step of a warm process has another */
    return setrlimit(RLIMIT_DATA, &limit) ? err_errno(e, "cannot limit the memory") : 0;
}

/* -- sandbox */

static unsigned step_flags(const struct mb_plugin *p, const char *name) {
    struct mb_step s;
    for (size_t i = 0; plugin_step_at(p, i, &s); i++)
        if (!strcmp(s.name, name)) return s.flags;
    return 0;
}

static bool role_adds(const struct mb_plugin *p, const char *step, const char *role) {
    struct mb_step s;
    struct mb_role r;
    for (size_t i = 0; plugin_step_at(p, i, &s); i++)
        for (size_t k = 0; !strcmp(s.name, step) && plugin_role_at(p, s.roles, k, &r); k++)
            if (!strcmp(r.name, role)) return r.flags & MB_ADDS;
    return false;
}

static const char *folder_of(const char *path, struct arena *a) {
    const char *slash = strrchr(path, '/');
    return slash ? arena_strndup(a, path, slash > path ? (size_t)(slash - path) : 1) : ".";
}

/* The folders that hold inputs, each once if they stand together. */
static const char **list_folders(const struct worker_request *r, struct arena *a) {
    const char **folders = arena_alloc(a, (r->input_count + 1) * sizeof *folders);
    size_t n = 0;
    for (uint32_t i = 0; i < r->input_count; i++) {
        const char *folder = folder_of(r->inputs[i].path, a);
        if (!n || strcmp(folders[n - 1], folder)) folders[n++] = folder;
    }
    return folders;
}

/* Reads: the inputs, and what stands already in a folder that the step adds to. Writes: the private folder, which outputs and temporary
 * files lie in, and the checkpoint. `wide`: what a process needs that serves others like it. */
struct sandbox_rules step_sandbox_rules(const struct step_start *s, const struct worker_request *r, bool wide, struct arena *a) {
    size_t more = 0, reads = 0, writes = 0;
    while (r->may_read && r->may_read[more]) more++;
    const char **read = arena_alloc(a, (r->input_count + r->output_count + more + 3) * sizeof *read);
    const char **write = arena_alloc(a, 4 * sizeof *write);
    if (!r->self_contained) read[reads++] = s->plugin_path;
    if (wide) read[reads++] = ".";
    for (uint32_t i = 0; i < r->input_count; i++) read[reads++] = r->inputs[i].path;
    for (size_t i = 0; i < more; i++) read[reads++] = r->may_read[i];
    for (uint32_t i = 0; i < r->output_count; i++) {
        if (r->outputs[i].name && role_adds(s->plugin, r->step, r->outputs[i].role)) read[reads++] = r->outputs[i].name;
    }
    const char *folders[] = {r->temp_folder ? folder_of(r->temp_folder, a) : NULL, r->checkpoint_folder};
    for (size_t i = 0; i < 2; i++)
        if (folders[i]) write[writes++] = wide ? folder_of(folders[i], a) : folders[i];
    const char *fifo = r->makeflags ? strstr(r->makeflags, "--jobserver-auth=fifo:") : NULL;
    if (fifo) {
        fifo += strlen("--jobserver-auth=fifo:");
        write[writes++] = arena_strndup(a, fifo, strcspn(fifo, " "));
    }
    return (struct sandbox_rules){.read = read, .write = write, .list = r->self_contained ? NULL : list_folders(r, a), .network = r->network,
                                  .read_all = step_flags(s->plugin, r->step) & MB_DISCOVERS,
                                  .gpu = r->device && !strcmp(r->device, "cuda"),
                                  .offline = s->offline, .self_contained = r->self_contained};
}

static int enter_sandbox(const struct step_start *s, const struct worker_request *r, struct arena *a, struct err *e) {
    if (r->hook != WORKER_RUN || r->sandbox == SANDBOX_OFF) return 0;
    struct sandbox_rules rules = step_sandbox_rules(s, r, false, a);
    return sandbox_enter(s->sandbox, &rules, e) && r->sandbox == SANDBOX_REQUIRE ? -1 : 0;
}

/* -- from fork to end */

void step_reset_signals(void) {
    struct sigaction standard = {.sa_handler = SIG_DFL};
    sigemptyset(&standard.sa_mask);
    for (int n = 1; n < NSIG; n++) sigaction(n, &standard, NULL); /* some can't be set: those can't have been changed either */
}

int step_report_failure(int socket, const char *text) {
    struct buf out = {0};
    size_t begun = message_begin(&out, MESSAGE_RESULT);
    message_add_number(&out, MB_FAILED);
    message_add_string(&out, text);
    message_end(&out, begun);
    return worker_send_all(socket, out.data, out.len) ? 0 : 1;
}

void step_begin(const struct step_start *s) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != s->parent) _exit(1); /* the template ended before the line above */
    if (s->groups) cgroup_enter(s->groups, s->group, getpid()); /* if it may not, the limits of each process remain */
    setsid();
}

void step_receive(int socket, struct worker_request *r, struct arena *a) {
    size_t used;
    struct buf in = {0};
    struct message m;
    struct err e;
    int got = worker_receive(socket, &in, &used, &m, &e);
    if (!got) _exit(1); /* the engine is gone */
    if (got < 0 || worker_request_read(&m, a, r, &e)) _exit(step_report_failure(socket, e.text));
    char name[16];
    snprintf(name, sizeof name, "%s", r->label ? r->label : r->step);
    prctl(PR_SET_NAME, name);
    buf_free(&in);
}

_Noreturn void step_main(const struct step_start *s) {
    int socket = s->fds[0];
    struct arena a = {0};
    struct worker_request r;
    struct err e;
    step_begin(s);
    step_receive(socket, &r, &a);
    environ = step_environment(s, &r, &a);
    int status = step_limit_memory(&r, &e);
    /* The template's descriptors of the system's folders are needed until it is confined, /dev/null can't be opened afterwards where there are none. */
    if (!status && r.self_contained) status = step_arrange_descriptors(s, &r, &socket, NULL, &e);
    if (!status) status = enter_sandbox(s, &r, &a, &e);
    if (!status && !r.self_contained) status = step_arrange_descriptors(s, &r, &socket, NULL, &e);
    if (status) _exit(step_report_failure(socket, e.text));
    host_run_step(s->plugin, &r, socket, NULL); /* unblocks signals once the handler is set */
    _exit(0); /* no destructors, no leak checks: what a plugin leaves behind goes with its process */
}
