/* command_watch.c: `mbuild watch`: builds, and builds again whenever something that the targets are made of changes.
 *
 * Each build is what `mbuild TARGET …` would be, in a session of its own, and the lock is only held while one runs. What is to be
 * watched is asked of a session that only reads, before the build, so a change while it runs isn't missed. Folders are watched
 * (inotify), not files: editors and git replace files by new ones.
 */
#include "build.h"
#include "command.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#define QUIET_MS 100            /* without a change, until a build begins: programs write several files one after the other */
#define IMPATIENT_NS 2000000000 /* … but no longer than that after the first change */
#define CHANGED 4400            /* room for a path that changed */
#define INTERRUPTED 130
#define NAMES (IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE)
#define SELF (IN_DELETE_SELF | IN_MOVE_SELF)
#define CHANGES (NAMES | SELF | IN_CLOSE_WRITE | IN_ATTRIB)

struct watcher {
    int inotify;
    struct intern files;   /* "FOLDER/NAME" of each file that counts */
    struct folder {
        char *path;        /* "" is the repo itself */
        bool names;        /* which names there are counts: a glob looked at it */
        bool whole;        /* all that happens in it counts: it is an input */
    } *folders;            /* by watch descriptor */
    uint32_t folder_cap;
    uint32_t file_count, folder_count;
    bool full;             /* the system allows no more watches */
};

/* -- what to watch */

enum attention { BY_NAME, ALL_NAMES, ALL };

static void watch_folder(struct watcher *w, const char *path, enum attention attention) {
    int wd = inotify_add_watch(w->inotify, *path ? path : ".", CHANGES | IN_ONLYDIR);
    if (wd < 0) { /* absent: its own folder is watched for its name */
        if (errno == ENOSPC) w->full = true;
        return;
    }
    uint32_t old = w->folder_cap;
    w->folders = mem_grow(w->folders, &w->folder_cap, (uint32_t)wd + 1, sizeof *w->folders);
    memset(w->folders + old, 0, (w->folder_cap - old) * sizeof *w->folders);
    struct folder *f = &w->folders[wd];
    if (!f->path) {
        f->path = mem_strdup(path);
        w->folder_count++;
    }
    f->names |= attention == ALL_NAMES;
    f->whole |= attention == ALL;
}

/* A name, whether there or not, by the folders above it up to the first that exists. */
static void watch_name(struct watcher *w, const char *path) {
    char *above = mem_strdup(path);
    struct file_stat st = {0};
    struct err ignored;
    for (char *slash; (slash = strrchr(above, '/')) && slash > above;) {
        intern_add(&w->files, above);
        *slash = 0;
        if (!sys_stat(above, false, &st, &ignored) && st.kind == FILE_FOLDER) break;
        st.kind = FILE_ABSENT;
    }
    if (!strchr(above, '/') && st.kind != FILE_FOLDER) {
        intern_add(&w->files, above);
        *above = 0;
    }
    watch_folder(w, above, BY_NAME);
    free(above);
}

static void watch_tree(struct watcher *w, const char *path) {
    char **names;
    uint32_t count;
    struct err ignored;
    watch_folder(w, path, ALL);
    if (sys_list(path, &names, &count, &ignored)) return;
    for (uint32_t i = 0; i < count; i++) {
        struct file_stat st;
        char *inner = mem_printf("%s/%s", path, names[i]);
        if (!sys_stat(inner, true, &st, &ignored) && st.kind == FILE_FOLDER) watch_tree(w, inner);
        free(inner);
    }
    free(names);
}

static void watch_source(struct watcher *w, const char *path) {
    struct file_stat st;
    struct err ignored;
    uint32_t known = w->files.count;
    watch_name(w, path);
    if (w->files.count > known) w->file_count++;
    if (!sys_stat(path, false, &st, &ignored) && st.kind == FILE_FOLDER) watch_tree(w, path);
}

static void watch_step(struct watcher *w, const struct graph *g, const struct step *s) {
    for (uint32_t i = 0; i < s->input_count; i++)
        if (graph_producer(g, s->inputs[i].file) == NO_ID) watch_source(w, g->files[s->inputs[i].file].path);
    for (uint32_t i = 0; s->record && i < s->record->input_count; i++) { /* found while it ran */
        const struct state_input *in = &s->record->inputs[i];
        uint32_t file = *in->role ? NO_ID : graph_find_file(g, in->path);
        if (!*in->role && (file == NO_ID || graph_producer(g, file) == NO_ID)) watch_source(w, in->path);
    }
}

static void forget(struct watcher *w) {
    if (w->inotify >= 0) close(w->inotify);
    w->inotify = -1;
    for (uint32_t i = 0; i < w->folder_cap; i++) free(w->folders[i].path);
    free(w->folders);
    intern_free(&w->files);
    w->folders = NULL;
    w->files = (struct intern){0};
    w->folder_cap = w->folder_count = w->file_count = 0;
}

/* Watches what the rules, as they are now, make the targets of. Where they can't be evaluated, the rule files are all there is to wait
 * for: the build that follows tells what is wrong with them. */
static int watch_all(struct watcher *w, const struct options *o, struct err *e) {
    struct options quiet = *o;
    struct session s;
    struct err ignored;
    uint32_t *order = NULL, count = 0;
    forget(w);
    w->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (w->inotify < 0) return err_errno(e, "watch: inotify");
    quiet.json = false; /* the build itself will tell what there is to tell */
    quiet.silent = true;
    quiet.trace = NULL;
    if (!session_open(&s, &quiet, true, &ignored) && !session_want(&s, &order, &count, &ignored))
        for (uint32_t i = 0; i < count; i++) watch_step(w, &s.graph, &s.graph.steps[order[i]]);
    watch_source(w, o->file ? o->file : "mbuild.lua");
    for (uint32_t i = 0; i < s.seen.file_count; i++) watch_source(w, s.seen.files[i]);
    for (uint32_t i = 0; i < s.seen.folder_count; i++) {
        watch_name(w, s.seen.folders[i]);
        watch_folder(w, strcmp(s.seen.folders[i], ".") ? s.seen.folders[i] : "", ALL_NAMES);
    }
    free(order);
    session_close(&s);
    return 0;
}

/* -- waiting */

static bool counts(const struct watcher *w, const struct inotify_event *ev, char *changed, size_t size) {
    if (ev->mask & IN_Q_OVERFLOW) {
        snprintf(changed, size, "much");
        return true;
    }
    if (ev->wd < 0 || (uint32_t)ev->wd >= w->folder_cap || !w->folders[ev->wd].path) return false;
    const struct folder *f = &w->folders[ev->wd];
    if (!ev->len) {
        snprintf(changed, size, "%s", *f->path ? f->path : ".");
        return ev->mask & SELF;
    }
    snprintf(changed, size, "%s%s%s", f->path, *f->path ? "/" : "", ev->name);
    if (!strcmp(changed, ".mbuild")) return false; /* our own */
    return f->whole || (f->names && ev->mask & NAMES) || intern_find(&w->files, changed) != NO_ID;
}

/* Reads what happened; whether any of it counts. *changed is the first that did. */
static bool read_events(const struct watcher *w, char *changed, size_t size) {
    _Alignas(struct inotify_event) char bytes[16384];
    bool any = false;
    char one[CHANGED];
    for (ssize_t n; (n = read(w->inotify, bytes, sizeof bytes)) > 0;) {
        for (ssize_t at = 0; at < n;) {
            const struct inotify_event *ev = (const struct inotify_event *)(bytes + at);
            if (counts(w, ev, one, sizeof one)) {
                if (!any) snprintf(changed, size, "%s", one);
                any = true;
            }
            at += (ssize_t)(sizeof *ev + ev->len);
        }
    }
    return any;
}

/* Waits for a change, and then for quiet. Ctrl-C ends the program here as it would any other: nothing is under way. */
static int await_change(const struct watcher *w, char *changed, size_t size, struct err *e) {
    char later[CHANGED];
    for (int64_t first = 0;;) {
        struct pollfd p = {.fd = w->inotify, .events = POLLIN};
        int n = poll(&p, 1, first ? QUIET_MS : -1);
        if (n < 0 && errno != EINTR) return err_errno(e, "watch: poll");
        bool any = n > 0 && read_events(w, first ? later : changed, first ? sizeof later : size);
        if (first && (!any || sys_now_ns() - first > IMPATIENT_NS)) return 0;
        if (any && !first) first = sys_now_ns();
    }
}

/* -- the command */

static const char *plural(uint32_t n) {
    return n == 1 ? "" : "s";
}

static int watch(struct watcher *w, const struct options *o, struct ui *ui, struct err *e) {
    char changed[CHANGED] = "";
    for (bool first = true;; first = false) {
        struct err own;
        bool unknown;
        if (watch_all(w, o, e)) return -1;
        int status = command_build(o, &unknown, &own);
        if (status == INTERRUPTED) return status;
        if (status < 0 && first && unknown) { /* what isn't there now may be misspelt; what the rules have lost later may come back */
            *e = own;
            return -1;
        }
        if (status < 0) ui_message(ui, MB_ERROR, "%s", own.text);
        if (w->full) ui_message(ui, MB_WARN, "not all folders can be watched: fs.inotify.max_user_watches is too small");
        ui_message(ui, MB_INFO, "watching %u file%s in %u folder%s; Ctrl-C ends", w->file_count, plural(w->file_count), w->folder_count,
                   plural(w->folder_count));
        if (await_change(w, changed, sizeof changed, e)) return -1;
        ui_message(ui, MB_INFO, "%s changed", changed);
    }
}

int command_watch(const struct options *o, int argc, char **argv, struct err *e) {
    struct options own = *o;
    struct watcher w = {.inotify = -1};
    struct ui *ui = NULL;
    int rest, status;
    bool done = false;
    status = options_parse(&own, argc, argv, true, &rest, &done, e);
    struct ui_options lines = {.json = own.json, .silent = own.silent, .color = own.color, .out_fd = STDOUT_FILENO, .err_fd = STDERR_FILENO};
    if (!status && (own.dry_run || own.question)) status = err_set(e, "watch builds: -n and -q make no sense with it");
    if (!status && own.directory && chdir(own.directory)) status = err_errno(e, "-C %s", own.directory);
    own.directory = NULL; /* each session would go further down */
    if (!status) status = ui_open(&lines, &ui, e);
    if (!status && !done) status = watch(&w, &own, ui, e);
    ui_close(ui);
    forget(&w);
    options_free(&own);
    return status;
}
