/* worker_host.c: what a plugin calls: the host table of plugin.h, in the process of its step or subcommand.
 *
 * Parameters and paths come with the request and need nobody; reports go to the engine as messages. Threads of a step may call
 * all of it, so one lock guards arena, socket and what is held back; another lets one thread at a time ask the engine something.
 * A call for a name that the plugin itself doesn't declare is an error in the plugin: the step ends there and says so.
 */
#include "sys.h"
#include "worker_host.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEXT_MOST 65536    /* bytes of one report's text */
#define SECOND_NS 1000000000

static volatile sig_atomic_t stopping;

static void on_stop(int signal) {
    (void)signal;
    stopping = 1;
}

static bool allow(struct allowance *a) {
    int64_t now = sys_now_ns();
    a->left += (double)(now - a->filled_ns) * a->per_second / SECOND_NS;
    if (a->left > a->most) a->left = a->most;
    a->filled_ns = now;
    if (a->left < 1) return false;
    a->left -= 1;
    return true;
}

static struct allowance new_allowance(double most, double per_second) {
    return (struct allowance){.left = most, .most = most, .per_second = per_second}; /* full at whatever time it is first asked */
}

/* -- sending; with the lock held */

static void send_out(struct mb_run *run) {
    if (!worker_send_all(run->socket, run->out.data, run->out.len)) _exit(1); /* the engine is gone, or the plugin closed our socket */
}

/* A message of strings and numbers: 's' string, 'n' number, 'f' real. */
static void send_message(struct mb_run *run, enum message_type type, const char *fields, ...) {
    va_list args;
    va_start(args, fields);
    buf_clear(&run->out);
    size_t begun = message_begin(&run->out, type);
    for (; *fields; fields++) {
        if (*fields == 's') message_add_string(&run->out, va_arg(args, const char *));
        else if (*fields == 'n') message_add_number(&run->out, va_arg(args, uint64_t));
        else message_add_real(&run->out, va_arg(args, double));
    }
    va_end(args);
    message_end(&run->out, begun);
    send_out(run);
}

static void send_progress(struct mb_run *run) {
    send_message(run, MESSAGE_PROGRESS, "ffs", run->done, run->total, run->progress_text);
    run->progress_pending = false;
}

/* What was held back and is due, or all of it. */
static void send_pending(struct mb_run *run, bool all) {
    for (size_t i = 0; i < run->metric_count; i++) {
        struct kept_metric *m = &run->metrics[i];
        if (!m->pending || !(all || allow(&m->allowance))) continue;
        send_message(run, MESSAGE_METRIC, "sf", m->name, m->value);
        m->pending = false;
    }
    if (run->progress_pending && (all || allow(&run->progress_allowance))) send_progress(run);
}

static void send_result(struct mb_run *run, int status, const char *text) {
    if (getpid() != run->process) _exit(1); /* a child that the plugin forked came back: it may not speak for the step */
    send_pending(run, true);
    if (run->report && !text) {
        run->report->status = (uint32_t)status;
        run->report->said = run->report->run;
        return;
    }
    send_message(run, MESSAGE_RESULT, "ns", (uint64_t)(unsigned)status, text);
}

/* -- ending where the plugin is wrong */

static char *format_text(const char *format, va_list args) {
    struct buf b = {0};
    buf_addv(&b, format, args);
    if (b.len > TEXT_MOST) {
        b.len = TEXT_MOST;
        b.data[b.len] = 0;
        buf_adds(&b, " …");
    }
    return b.data ? b.data : mem_strdup("");
}

_Noreturn void host_author_error(struct mb_run *run, const char *format, ...) {
    struct buf text = {0};
    va_list args;
    va_start(args, format);
    char *what = format_text(format, args);
    va_end(args);
    buf_addf(&text, "an error in the plugin \"%s\": its %s \"%s\" %s", run->plugin->name, run->what, run->name, what);
    pthread_mutex_lock(&run->lock); /* for good: nobody speaks after this */
    if (run->socket >= 0) {
        send_result(run, MB_FAILED, text.data);
        _exit(0);
    }
    fprintf(stderr, "mbuild: %s\n", text.data);
    _exit(2);
}

/* Only functions that a hook offers. */
static void only_in(struct mb_run *run, const char *function, unsigned hooks) {
    if (run->socket >= 0 && !(hooks & 1u << run->request->hook)) {
        static const char *const names[] = {"run", "check", "fingerprint", "explain"};
        host_author_error(run, "called %s, which isn't there in `%s`", function, names[run->request->hook]);
    }
}
#define IN_RUN (1u << WORKER_RUN)
#define IN_FINGERPRINT (1u << WORKER_FINGERPRINT)

/* -- inputs and outputs */

static _Noreturn void no_such_role(struct mb_run *run, const char *function, const char *role, unsigned direction) {
    const char *names[1000];
    struct mb_role r;
    size_t n = 0;
    for (size_t i = 0; n < 1000 && plugin_role_at(run->plugin, run->roles, i, &r); i++)
        if (r.flags & direction) names[n++] = r.name;
    const char *near = mem_nearest(role, names, n);
    host_author_error(run, "called %s(\"%s\"), an %s that it doesn't declare%s%s%s", function, role,
                      direction == MB_INPUT ? "input" : "output", near ? "; did it mean \"" : "", near ? near : "", near ? "\"?" : "");
}

static void find_role(struct mb_run *run, const char *function, const char *role, unsigned direction, struct mb_role *out) {
    if (!role) host_author_error(run, "called %s with NULL for the role", function);
    for (size_t i = 0; plugin_role_at(run->plugin, run->roles, i, out); i++)
        if (out->flags & direction && !strcmp(out->name, role)) return;
    no_such_role(run, function, role, direction);
}

static const struct worker_path *find_path(const struct worker_path *paths, uint32_t count, const char *role, size_t i) {
    for (uint32_t k = 0; k < count; k++)
        if (!strcmp(paths[k].role, role) && !i--) return &paths[k];
    return NULL;
}

static size_t count_paths(const struct worker_path *paths, uint32_t count, const char *role) {
    size_t n = 0;
    for (uint32_t k = 0; k < count; k++) n += !strcmp(paths[k].role, role);
    return n;
}

static const struct worker_path *input_at(struct mb_run *run, const char *function, const char *role, size_t i, struct mb_role *r) {
    only_in(run, function, IN_RUN | IN_FINGERPRINT);
    find_role(run, function, role, MB_INPUT, r);
    return find_path(run->request->inputs, run->request->input_count, role, i);
}

static const struct worker_path *output_at(struct mb_run *run, const char *function, const char *role, size_t i, struct mb_role *r) {
    only_in(run, function, IN_RUN);
    find_role(run, function, role, MB_OUTPUT, r);
    return find_path(run->request->outputs, run->request->output_count, role, i);
}

static size_t input_count(struct mb_run *run, const char *role) {
    struct mb_role r;
    input_at(run, "input_count", role, 0, &r);
    return count_paths(run->request->inputs, run->request->input_count, role);
}

static const char *input_path(struct mb_run *run, const char *role, size_t i) {
    struct mb_role r;
    const struct worker_path *p = input_at(run, "input_path", role, i, &r);
    return p ? p->path : NULL;
}

static const char *input_name(struct mb_run *run, const char *role, size_t i) {
    struct mb_role r;
    const struct worker_path *p = input_at(run, "input_name", role, i, &r);
    if (!(r.flags & MB_NAMED))
        host_author_error(run, "called input_name(\"%s\"), but only a role with MB_NAMED has names: they are part of the key there", role);
    return p ? p->name : NULL;
}

static const char *input_digest(struct mb_run *run, const char *role, size_t i) {
    struct mb_role r;
    const struct worker_path *p = input_at(run, "input_digest", role, i, &r);
    return p ? p->digest : NULL;
}

static const char *ask_lineage(struct mb_run *run, const char *role, size_t i) {
    struct message m;
    struct err e;
    size_t used;
    pthread_mutex_lock(&run->lock);
    send_pending(run, false);
    send_message(run, MESSAGE_LINEAGE, "sn", role, (uint64_t)i);
    pthread_mutex_unlock(&run->lock);
    if (worker_receive(run->socket, &run->in, &used, &m, &e) != 1 || m.type != MESSAGE_ANSWER) _exit(1); /* the engine is gone */
    pthread_mutex_lock(&run->lock);
    const char *json = arena_strdup(&run->arena, message_string(&m));
    struct answer *a = arena_alloc(&run->arena, sizeof *a);
    *a = (struct answer){.next = run->answers, .role = arena_strdup(&run->arena, role), .index = i, .json = json};
    run->answers = a;
    pthread_mutex_unlock(&run->lock);
    return json;
}

static const char *input_lineage(struct mb_run *run, const char *role, size_t i) {
    struct mb_role r;
    only_in(run, "input_lineage", IN_RUN);
    if (!input_at(run, "input_lineage", role, i, &r) || run->socket < 0) return NULL;
    const char *json = NULL;
    pthread_mutex_lock(&run->asking);
    for (const struct answer *a = run->answers; a && !json; a = a->next)
        if (a->index == i && !strcmp(a->role, role)) json = a->json;
    if (!json) json = ask_lineage(run, role, i);
    pthread_mutex_unlock(&run->asking);
    return json;
}

static size_t output_count(struct mb_run *run, const char *role) {
    struct mb_role r;
    output_at(run, "output_count", role, 0, &r);
    return count_paths(run->request->outputs, run->request->output_count, role);
}

static const char *output_path(struct mb_run *run, const char *role, size_t i) {
    struct mb_role r;
    const struct worker_path *p = output_at(run, "output_path", role, i, &r);
    return p ? p->path : NULL;
}

static const char *output_name(struct mb_run *run, const char *role, size_t i) {
    struct mb_role r;
    const struct worker_path *p = output_at(run, "output_name", role, i, &r);
    return p ? p->name : NULL;
}

static const char *output_add(struct mb_run *run, const char *role, const char *name) {
    struct mb_role r;
    const struct worker_path *p = output_at(run, "output_add", role, 0, &r);
    if (!(r.flags & MB_ADDS)) host_author_error(run, "called output_add(\"%s\"), but the role lacks MB_ADDS", role);
    if (!name || !*name || strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, "..") || strlen(name) > 255)
        host_author_error(run, "called output_add(\"%s\", \"%s\"): a plain file name expected", role, name ? name : "NULL");
    if (!p) return NULL;
    pthread_mutex_lock(&run->lock);
    send_message(run, MESSAGE_ADDED, "ss", role, name);
    const char *path = arena_printf(&run->arena, "%s/%s", p->path, name);
    pthread_mutex_unlock(&run->lock);
    return path;
}

/* -- the run's surroundings */

static const char *temp_folder(struct mb_run *run) {
    const char *folder = run->request->temp_folder;
    only_in(run, "temp_folder", IN_RUN);
    if (folder) mkdir(folder, 0777); /* if it can't be made, the step's first file in it says why */
    return folder;
}

static const char *checkpoint_folder(struct mb_run *run) {
    only_in(run, "checkpoint_folder", IN_RUN);
    return run->request->checkpoint_folder;
}

static const char *device(struct mb_run *run) {
    return run->request->device ? run->request->device : "cpu";
}

static int cpus(struct mb_run *run) {
    return run->request->cpus > 0 ? run->request->cpus : 1;
}

static uint64_t memory(struct mb_run *run) {
    return run->request->memory;
}

static const char *env(struct mb_run *run, const char *name) {
    if (!name) host_author_error(run, "called env with NULL for the variable's name");
    for (const char *const *pair = run->request->env; pair && *pair; pair += 2)
        if (!strcmp(pair[0], name)) return pair[1];
    return run->socket < 0 ? getenv(name) : NULL; /* a subcommand is the user's own doing, with the user's environment */
}

static int cancelled(struct mb_run *run) {
    (void)run;
    return stopping;
}

static int dry_run(struct mb_run *run) {
    return run->request->dry_run;
}

/* -- reports */

static void log_line(struct mb_run *run, enum mb_level level, const char *format, ...) {
    static const char *const words[] = {"debug: ", "", "warning: ", "error: "};
    if ((int)level < MB_DEBUG || level > MB_ERROR) level = MB_INFO;
    va_list args;
    va_start(args, format);
    char *text = format_text(format, args);
    va_end(args);
    pthread_mutex_lock(&run->lock);
    if (run->socket >= 0) {
        send_pending(run, false);
        send_message(run, MESSAGE_LOG, "ns", (uint64_t)level, text);
    } else if (level > MB_DEBUG) {
        fprintf(stderr, "%s: %s%s\n", run->name, words[level], text);
    }
    pthread_mutex_unlock(&run->lock);
    free(text);
}

static void progress(struct mb_run *run, double done, double total, const char *text) {
    only_in(run, "progress", IN_RUN);
    pthread_mutex_lock(&run->lock);
    if (run->socket >= 0) {
        run->done = done;
        run->total = total;
        free(run->progress_text);
        run->progress_text = text ? mem_printf("%.1000s", text) : NULL;
        run->progress_pending = true;
        send_pending(run, false);
    }
    pthread_mutex_unlock(&run->lock);
}

static struct kept_metric *find_metric(struct mb_run *run, const char *name) {
    for (size_t i = 0; i < run->metric_count; i++)
        if (!strcmp(run->metrics[i].name, name)) return &run->metrics[i];
    if (run->metric_count == KEPT_MOST) return NULL;
    run->metrics = mem_grow(run->metrics, &run->metric_cap, run->metric_count + 1, sizeof *run->metrics);
    struct kept_metric *m = &run->metrics[run->metric_count++];
    *m = (struct kept_metric){.name = mem_strdup(name), .allowance = new_allowance(256, 20)};
    return m;
}

static void metric(struct mb_run *run, const char *name, double value) {
    only_in(run, "metric", IN_RUN);
    if (!name || !*name || strlen(name) > 255)
        host_author_error(run, "called metric with a name of %zu bytes: 1 to 255 expected", name ? strlen(name) : 0);
    pthread_mutex_lock(&run->lock);
    if (run->socket >= 0) {
        struct kept_metric *m = find_metric(run, name);
        if (m) {
            m->value = value;
            m->pending = true;
            send_pending(run, false);
        } else {
            send_message(run, MESSAGE_METRIC, "sf", name, value);
        }
    } else {
        fprintf(stderr, "%s: %s %.10g\n", run->name, name, value);
    }
    pthread_mutex_unlock(&run->lock);
}

static void send_text(struct mb_run *run, const char *function, unsigned hooks, enum message_type type, const char *text) {
    only_in(run, function, hooks);
    if (!text || strlen(text) > (1u << 20))
        host_author_error(run, "called %s with %s", function, text ? "a text of more than 1 MiB" : "NULL");
    pthread_mutex_lock(&run->lock);
    if (run->socket >= 0) send_message(run, type, "s", text);
    pthread_mutex_unlock(&run->lock);
}

static void discovered(struct mb_run *run, const char *path) {
    send_text(run, "discovered", IN_RUN, MESSAGE_DISCOVERED, path);
}

static void fingerprint(struct mb_run *run, const char *text) {
    send_text(run, "fingerprint", IN_FINGERPRINT, MESSAGE_FINGERPRINT, text);
}

static void watch(struct mb_run *run, const char *path) {
    send_text(run, "watch", IN_FINGERPRINT, MESSAGE_WATCH, path);
}

static int fail(struct mb_run *run, const char *format, ...) {
    va_list args;
    va_start(args, format);
    char *text = format_text(format, args);
    va_end(args);
    pthread_mutex_lock(&run->lock);
    if (run->socket < 0) fprintf(stderr, "mbuild: %s\n", text);
    free(run->failure);
    run->failure = text;
    pthread_mutex_unlock(&run->lock);
    return MB_FAILED;
}

static const void *extension(const char *name) {
    (void)name;
    return NULL;
}

static const struct mb_host host = {
    .size = sizeof(struct mb_host), .abi_major = MB_ABI_MAJOR, .abi_minor = MB_ABI_MINOR,
    .param_given = host_param_given, .param_type = host_param_type, .param_bool = host_param_bool, .param_int = host_param_int,
        .param_float = host_param_float,
    .param_string = host_param_string, .param_count = host_param_count, .param_key = host_param_key, .param_json = host_param_json,
    .input_count = input_count, .input_path = input_path, .input_name = input_name, .input_digest = input_digest,
        .input_lineage = input_lineage,
    .output_count = output_count, .output_path = output_path, .output_name = output_name, .output_add = output_add,
    .temp_folder = temp_folder, .checkpoint_folder = checkpoint_folder, .device = device, .cpus = cpus, .memory = memory, .env = env,
    .cancelled = cancelled, .dry_run = dry_run, .log = log_line, .progress = progress, .metric = metric, .discovered = discovered,
    .fingerprint = fingerprint, .watch = watch, .fail = fail, .extension = extension};

/* -- running */

/* A step is told to stop by SIGTERM, a subcommand by that or Ctrl-C. A step's system calls go on all the same; a subcommand that
 * waits for something must wake up, and one that doesn't ask whether it is cancelled ends at the second signal. */
static int listen_for_stops(bool command, struct err *e) {
    struct sigaction stop = {.sa_handler = on_stop, .sa_flags = command ? (int)SA_RESETHAND : SA_RESTART};
    static const sigset_t none; /* all zero is empty on Linux */
    if (sigaction(SIGTERM, &stop, NULL) || (command && sigaction(SIGINT, &stop, NULL))) return err_errno(e, "cannot listen for signals");
    return sigprocmask(SIG_SETMASK, &none, NULL) ? err_errno(e, "cannot listen for signals") : 0;
}

static int prepare(struct mb_run *run, const struct mb_plugin *p, const struct worker_request *r, int socket, struct err *e) {
    stopping = 0;
    run->plugin = p;
    run->request = r;
    run->socket = socket;
    run->process = getpid();
    run->progress_allowance = new_allowance(2, 20);
    run->lock = run->asking = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    run->root = (struct value){.type = VALUE_TABLE};
    if (r->params && strcmp(r->params, "{}") && value_parse(r->params, strlen(r->params), &run->arena, &run->root, e))
        return err_wrap(e, "the parameters can't be read");
    return listen_for_stops(socket < 0, e);
}

static int call_hook(struct mb_run *run, const struct mb_step *s, const char **missing) {
    const struct worker_request *r = run->request;
    switch (r->hook) {
    case WORKER_RUN: return s->run(&host, run);
    case WORKER_CHECK: return s->check ? s->check(&host, run) : (*missing = "check", MB_FAILED);
    case WORKER_FINGERPRINT: return s->fingerprint ? s->fingerprint(&host, run) : (*missing = "fingerprint", MB_FAILED);
    case WORKER_EXPLAIN: return s->explain ? s->explain(&host, run, r->explain_role, r->before, r->after)
        : (*missing = "explain", MB_FAILED);
    }
    return MB_FAILED;
}

static void release(struct mb_run *run) {
    pthread_mutex_unlock(&run->lock);
    pthread_mutex_destroy(&run->lock);
    pthread_mutex_destroy(&run->asking);
    for (size_t i = 0; i < run->metric_count; i++) free(run->metrics[i].name);
    free(run->metrics);
    free(run->progress_text);
    free(run->failure);
    buf_free(&run->out);
    buf_free(&run->in);
    arena_free(&run->arena);
    free(run);
}

bool host_run_step(const struct mb_plugin *p, const struct worker_request *r, int socket, struct step_report *report) {
    static struct mb_run only; /* of a lean process, which has but one */
    struct mb_run *run = report ? &only : mem_alloc(sizeof *run);
    struct mb_step s;
    struct err e;
    bool found = false;
    run->report = report;
    int status = prepare(run, p, r, socket, &e);
    for (size_t i = 0; !found && plugin_step_at(p, i, &s); i++) found = !strcmp(s.name, r->step);
    if (!status && !found) status = err_set(&e, "the plugin has no step \"%s\"", r->step);
    if (status) {
        send_result(run, MB_FAILED, e.text);
        return false;
    }
    const char *missing = NULL;
    run->what = "step";
    run->name = s.name;
    run->roles = s.roles;
    run->params = s.params;
    status = call_hook(run, &s, &missing);
    fflush(NULL);
    pthread_mutex_lock(&run->lock); /* for good: threads that still run have nothing more to say */
    if (missing) err_set(&e, "the step has no function `%s`", missing);
    else if (status == MB_FAILED && !run->failure) err_set(&e, "it failed without saying why");
    else if (status != MB_OK && status != MB_FAILED && status != MB_CANCELLED)
        err_set(&e, "an error in the plugin \"%s\": its step \"%s\" returned %d, which is no enum mb_status", p->name, s.name, status);
    else e.text[0] = 0;
    bool known = status == MB_OK || status == MB_FAILED || status == MB_CANCELLED;
    send_result(run, known ? status : MB_FAILED, *e.text ? e.text : status == MB_FAILED ? run->failure : NULL);
    if (status == MB_OK && r->warm) release(run); /* elsewhere threads that still run wait for its lock until the process ends */
    return status == MB_OK;
}

int host_run_command(const struct mb_plugin *p, const struct mb_command *c, const struct worker_request *r, int argc, char **argv) {
    struct mb_run *run = mem_alloc(sizeof *run);
    struct err e;
    if (prepare(run, p, r, -1, &e)) {
        fprintf(stderr, "mbuild: %s\n", e.text);
        return 2;
    }
    run->what = "command";
    run->name = c->name;
    run->params = c->options;
    int status = c->main(&host, run, argc, argv);
    return fflush(NULL) && !status ? 2 : status;
}
