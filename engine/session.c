/* session.c: opening and closing what a call of mbuild works with; see session.h. */
#include "session.h"
#include "bind.h"
#include "config.h"
#include "files.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

char *session_home(struct err *e) {
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n < 0) {
        err_errno(e, "cannot tell where mbuild itself is (/proc/self/exe)");
        return NULL;
    }
    path[n] = 0;
    for (int up = 0; up < 2; up++) { /* …/bin/mbuild */
        char *slash = strrchr(path, '/');
        if (slash) *slash = 0;
    }
    return mem_strdup(path);
}

char *session_worker(const char *home) {
    return mem_printf("%s/libexec/mbuild-worker", home);
}

/* NVIDIA's driver makes a device file for each GPU. */
static int count_gpus(void) {
    int count = 0;
    DIR *d = opendir("/dev");
    for (struct dirent *entry; d && (entry = readdir(d));)
        if (!strncmp(entry->d_name, "nvidia", 6) && entry->d_name[6] >= '0' && entry->d_name[6] <= '9') count++;
    if (d) closedir(d);
    return count;
}

static int find_device(struct session *s, struct err *e) {
    const char *wanted = s->options->device ? s->options->device : "auto";
    gpus_open(&s->gpu_list, getenv("CUDA_VISIBLE_DEVICES"), count_gpus(), &s->graph.arena);
    s->gpus = s->gpu_list.count;
    bool usable = HAVE_CUDA && s->gpus;
    if (strcmp(wanted, "auto") && strcmp(wanted, "cpu") && strcmp(wanted, "cuda"))
        return err_set(e, "--device: auto, cpu or cuda expected, found %s", wanted);
    if (!strcmp(wanted, "cuda") && !usable)
        return err_set(e, HAVE_CUDA ? "--device=cuda: there is no GPU here" : "--device=cuda: this mbuild was built without CUDA");
    s->device = strcmp(wanted, "cpu") && usable ? "cuda" : "cpu";
    return 0;
}

static int start_workers(struct session *s, struct err *e) {
    char *program = session_worker(s->home);
    int status = workers_start(program, &s->workers, e);
    free(program);
    return status;
}

static int enter_folder(struct session *s, struct err *e) {
    const struct options *o = s->options;
    if (o->directory && chdir(o->directory)) return err_errno(e, "-C %s", o->directory);
    char *root = getcwd(NULL, 0);
    if (!root) return err_errno(e, "cannot tell the current folder");
    graph_init(&s->graph, root);
    s->root = s->graph.root;
    free(root);
    return 0;
}

/* One mbuild at a time changes a repo. */
static int take_lock(struct session *s, struct err *e) {
    char *holder = NULL;
    char note[300];
    snprintf(note, sizeof note, "process %ld: %.200s", (long)getpid(), s->options->command_line);
    s->lock_fd = sys_lock(".mbuild/lock", note, false, &holder, e);
    if (s->lock_fd >= 0) return 0;
    if (!holder) return -1;
    ui_message(s->ui, 1, "another mbuild works in this repo (%s); waiting for it to end", holder);
    free(holder);
    holder = NULL;
    s->lock_fd = sys_lock(".mbuild/lock", note, true, &holder, e);
    free(holder);
    return s->lock_fd >= 0 ? 0 : -1;
}

/* Whether it is the file system, or who owns the repo, that lets nothing be written. */
static bool no_writing(void) {
    return access(access(".mbuild", F_OK) ? "." : ".mbuild", W_OK) && (errno == EROFS || errno == EACCES);
}

static int open_state(struct session *s, struct err *e) {
    char *note = NULL;
    struct file_stat st;
    if (!s->read_only) {
        if (sys_remove_tree(".mbuild/tmp", e) || sys_mkdirs(".mbuild/tmp", e) || store_open(".mbuild/store", &s->store, e)) return -1;
    } else if (!sys_stat(".mbuild/store", false, &st, e) && st.kind == FILE_FOLDER && store_open(".mbuild/store", &s->store, e)) {
        return -1;
    }
    int status = state_open(".mbuild/state.db", s->read_only, &s->state, &note, e);
    if (note) ui_message(s->ui, 2, "%s", note);
    free(note);
    return status;
}

static bool reserved(void *ctx, const char *name) {
    (void)ctx;
    return session_is_command(name);
}

static void print_line(void *ctx, const char *text) {
    ui_message(((struct session *)ctx)->ui, 1, "%s", text);
}

int session_evaluate(struct session *s, struct err *e) {
    const struct options *o = s->options;
    s->rules_options = (struct rules_options){.file = o->file ? o->file : "mbuild.lua",
                                  .library = arena_printf(&s->graph.arena, "%s/share/mbuild/rules", s->home),
                                  .settings = o->settings, .setting_count = o->setting_count, .reserved = reserved, .print = print_line, .ctx = s};
    return rules_evaluate(&s->graph, &s->rules_options, &s->seen, &s->rules, e) || bind_plugin_names(s, e) || graph_load_state(&s->graph, s->state, e) ? -1 : 0;
}

int session_begin(struct session *s, const struct options *o, bool read_only, struct err *e) {
    memset(s, 0, sizeof *s);
    s->started_ns = sys_wall_ms() * 1000000;
    s->options = o;
    s->lock_fd = -1;
    s->read_only = read_only;
    struct ui_options ui = {.json = o->json, .silent = o->silent, .verbose = o->verbose, .explain = o->explain, .color = o->color,
                            .trace = o->trace, .out_fd = STDOUT_FILENO, .err_fd = STDERR_FILENO};
    if (ui_open(&ui, &s->ui, e) || enter_folder(s, e)) return -1;
    digest_init();
    char *home = session_home(e);
    if (!home) return -1;
    s->home = arena_strdup(&s->graph.arena, home);
    free(home);
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    if (jobserver_open(o->jobs, processors > 0 ? (int)processors : 1, &s->jobserver, e)) return -1;
    s->cpus = jobserver_jobs(s->jobserver);
    struct sysinfo info;
    s->memory = sysinfo(&info) ? UINT64_MAX : (uint64_t)info.totalram * info.mem_unit;
    struct file_stat st;
    const char *file = o->file ? o->file : "mbuild.lua";
    if (sys_stat(file, false, &st, e)) return -1;
    if (st.kind == FILE_ABSENT) /* before .mbuild is made in a folder that is no repo */
        return err_set(e, "there is no %s in %s; `mbuild init` starts a model repo, -C DIR and -f FILE name another", file, s->root);
    if (find_device(s, e) || start_workers(s, e)) return -1;
    if (read_only || (!sys_mkdirs(".mbuild", e) && !take_lock(s, e))) return 0;
    if (!no_writing()) return -1;
    s->read_only = s->unwritable = true;
    s->unwritable_why = *e;
    return 0;
}

int session_load(struct session *s, struct err *e) {
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    if (open_state(s, e) || jobs_start(processors > 1 ? (int)processors : 1, &s->jobs, e)) return -1;
    plugins_init(&s->plugins, arena_printf(&s->graph.arena, "%s/lib/mbuild", s->home), &s->graph, s->state, s->workers, s->read_only);
    return 0;
}

int session_open(struct session *s, const struct options *o, bool read_only, struct err *e) {
    if (session_begin(s, o, read_only, e)) return -1;
    if (s->unwritable) {
        *e = s->unwritable_why;
        return -1;
    }
    return session_load(s, e) || session_evaluate(s, e) ? -1 : 0;
}

void session_watch(struct session *s, const char *path) {
    s->watched = mem_grow(s->watched, &s->watched_cap, s->watched_count + 1, sizeof *s->watched);
    s->watched[s->watched_count++] = arena_strdup(&s->graph.arena, path);
}

void session_close(struct session *s) {
    jobs_stop(s->jobs);
    if (s->workers) workers_stop(s->workers);
    jobserver_close(s->jobserver);
    if (s->store) store_close(s->store);
    if (s->state) state_close(s->state);
    if (s->lock_fd >= 0) sys_unlock(s->lock_fd);
    plugins_free(&s->plugins);
    rules_free(s->rules);
    free(s->seen.files);
    free(s->seen.globs);
    free(s->seen.folders);
    free(s->watched);
    graph_free(&s->graph);
    if (s->ui) ui_close(s->ui);
}

/* Without targets and default: every step that no other needs, and with them all. */
static void want_all(const struct graph *g, uint32_t **steps, uint32_t *count, uint32_t *cap) {
    bool *needed = mem_alloc(g->step_count + 1);
    for (uint32_t i = 0; i < g->step_count; i++) {
        for (uint32_t k = 0; k < g->steps[i].input_count; k++) {
            uint32_t p = graph_producer(g, g->steps[i].inputs[k].file);
            if (p != NO_ID && p != i) needed[p] = true;
        }
        if (g->steps[i].plugin_file != NO_ID && graph_producer(g, g->steps[i].plugin_file) != NO_ID) needed[graph_producer(g, g->steps[i].plugin_file)] = true;
    }
    for (uint32_t i = 0; i < g->step_count; i++) {
        if (needed[i]) continue;
        *steps = mem_grow(*steps, cap, *count + 1, sizeof **steps);
        (*steps)[(*count)++] = i;
    }
    if (!*count) /* all in cycles: let the walk find one */
        for (uint32_t i = 0; i < g->step_count; i++) {
            *steps = mem_grow(*steps, cap, *count + 1, sizeof **steps);
            (*steps)[(*count)++] = i;
        }
    free(needed);
}

int session_want(struct session *s, uint32_t **order, uint32_t *count, struct err *e) {
    const struct options *o = s->options;
    uint32_t *steps = NULL, n = 0, cap = 0;
    int status = 0;
    for (uint32_t i = 0; i < o->target_count && !status; i++) status = graph_resolve(&s->graph, o->targets[i], &steps, &n, &cap, e);
    if (!status && !o->target_count && s->graph.default_target) status = graph_resolve(&s->graph, s->graph.default_target, &steps, &n, &cap, e);
    if (!status && !o->target_count && !s->graph.default_target) want_all(&s->graph, &steps, &n, &cap);
    if (!status) status = graph_want(&s->graph, steps, n, order, count, e);
    free(steps);
    return status;
}
