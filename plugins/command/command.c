/* command.c: any program as a step.
 *
 * The program runs in the repo's root, beside its inputs, which may be large and are never copied. Its outputs are private until it
 * ended well: wherever `cmd` names one, the program gets the private path instead (names.c). So a failed run leaves the
 * earlier output whole, and a program that may write nowhere but there (Landlock) still works.
 *
 * A step is one process of the engine's plus the program's: no shell where `cmd` is a list. Must not need any library, since it is loaded
 * for every `command` there is.
 */
#include "names.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mbuild/plugin.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static const struct mb_role roles[] = {
    {.name = "inputs", .flags = MB_INPUT | MB_MANY | MB_OPTIONAL | MB_NAMED, .help = "what the program reads, by their paths in the repo"},
    {.name = "stdin", .flags = MB_INPUT | MB_OPTIONAL, .help = "a file that becomes the program's standard input; otherwise that is empty"},
    {.name = "outputs", .flags = MB_OUTPUT | MB_MANY | MB_OPTIONAL, .help = "files or folders that the program makes; cmd names them"},
    {.name = "stdout", .flags = MB_OUTPUT | MB_OPTIONAL, .help = "a file that gets the program's standard output"},
    {0}};

static const struct mb_param params[] = {
    {.name = "cmd", .type = MB_ANY, .flags = MB_REQUIRED, .help = "the program and its arguments as a list, or a string for the shell"},
    {.name = "dir", .type = MB_STRING,
     .help = "the folder that it runs in, otherwise the repo's root; cmd still names outputs from the root"},
    {0}};

struct command {
    const struct mb_host *host;
    struct mb_run *run;
    struct names names;
    const char *program; /* for messages */
    char **argv;
    int in, out;
};

static int out_of_memory(struct command *c) {
    return c->host->fail(c->run, "out of memory");
}

/* -- what it is called with */

static int add_outputs(struct command *c, const char *role, const char *up) {
    for (size_t i = 0; i < c->host->output_count(c->run, role); i++)
        if (names_add(&c->names, c->host->output_name(c->run, role, i), up, c->host->output_path(c->run, role, i))) return out_of_memory(c);
    return MB_OK;
}

/* From the folder that the program runs in back to the root, "../../" say. */
static int way_up(struct command *c, const char *dir, char **out) {
    size_t depth = 1;
    for (const char *p = dir; *p; p++) depth += *p == '/' && p[1] && p[1] != '/';
    char *real = realpath(dir, NULL), *root = realpath(".", NULL);
    int status = MB_OK;
    if (!real || !root) status = c->host->fail(c->run, "dir: %s: %s", dir, strerror(errno));
    /* A link on the way would make ".." lead elsewhere. */
    else if (*dir == '/' || strncmp(real, root, strlen(root)) || strcmp(real + strlen(root) + 1, dir))
        status = c->host->fail(c->run, "dir: a folder of the repo expected, without \"..\", \".\" or links on the way; found %s", dir);
    free(real);
    free(root);
    if (status) return status;
    *out = malloc(3 * depth + 1);
    if (!*out) return out_of_memory(c);
    for (size_t i = 0; i < depth; i++) memcpy(*out + 3 * i, "../", 3);
    (*out)[3 * depth] = 0;
    return MB_OK;
}

static int read_names(struct command *c) {
    char *up = NULL;
    int status = MB_OK;
    if (c->host->param_given(c->run, "dir")) status = way_up(c, c->host->param_string(c->run, "dir"), &up);
    if (!status) status = add_outputs(c, "outputs", up ? up : "");
    if (!status) status = add_outputs(c, "stdout", up ? up : "");
    free(up);
    for (size_t i = 0; !status && i < c->host->input_count(c->run, "inputs"); i++)
        if (names_keep(&c->names, c->host->input_name(c->run, "inputs", i))) status = out_of_memory(c);
    return status;
}

static int read_argv(struct command *c) {
    const struct mb_host *host = c->host;
    enum mb_type type = host->param_type(c->run, "cmd");
    size_t n = type == MB_LIST ? host->param_count(c->run, "cmd") : 3;
    if (type != MB_STRING && type != MB_LIST) return host->fail(c->run, "cmd: a list or a string expected");
    if (!n) return host->fail(c->run, "cmd: the list is empty: the program's name comes first");
    c->argv = calloc(n + 1, sizeof *c->argv);
    if (!c->argv) return out_of_memory(c);
    if (type == MB_STRING) {
        c->program = "the command";
        c->argv[0] = strdup("/bin/sh");
        c->argv[1] = strdup("-c");
        c->argv[2] = names_replace(&c->names, host->param_string(c->run, "cmd"));
    }
    for (size_t i = 0; type == MB_LIST && i < n; i++) {
        char path[32];
        snprintf(path, sizeof path, "cmd[%zu]", i);
        if (host->param_type(c->run, path) != MB_STRING) return host->fail(c->run, "cmd: entry %zu is no string", i + 1);
        const char *text = host->param_string(c->run, path);
        if (!i) c->program = text;
        c->argv[i] = names_replace(&c->names, text);
    }
    for (size_t i = 0; i < n; i++)
        if (!c->argv[i]) return out_of_memory(c);
    return *c->program ? MB_OK : host->fail(c->run, "cmd: the program's name is empty");
}

/* -- running it */

static int open_files(struct command *c) {
    const char *in = c->host->input_path(c->run, "stdin", 0), *out = c->host->output_path(c->run, "stdout", 0);
    c->in = open(in ? in : "/dev/null", O_RDONLY | O_CLOEXEC);
    if (c->in < 0) return c->host->fail(c->run, "stdin: %s: %s", in ? in : "/dev/null", strerror(errno));
    if (!out) return MB_OK;
    c->out = open(out, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    return c->out < 0 ? c->host->fail(c->run, "stdout: %s: %s", out, strerror(errno)) : MB_OK;
}

/* Whether a folder of the PATH has the program. execvp says EACCES also where it just could not look into one of these folders. */
static bool is_in_path(const char *program) {
    const char *path = getenv("PATH");
    for (size_t n; path && *path; path += n + (path[n] == ':')) {
        char file[PATH_MAX];
        n = strcspn(path, ":");
        int length = snprintf(file, sizeof file, "%.*s/%s", (int)n, path, program);
        if (length > 0 && (size_t)length < sizeof file && !access(file, F_OK)) return true;
    }
    return false;
}

static int spawn_error(struct command *c, int code) {
    const char *program = c->argv[0];
    if (!strchr(program, '/') && (code == ENOENT || (code == EACCES && !is_in_path(program))))
        return c->host->fail(c->run, "no program \"%s\" is installed (looked in the PATH)", program);
    if (code == ENOENT && !access(program, F_OK))
        return c->host->fail(c->run, "%s can't run: the interpreter that its first line names doesn't exist", program);
    if (code == E2BIG)
        return c->host->fail(c->run, "the arguments are longer than the system allows; write them to a file that the program reads");
    return c->host->fail(c->run, "%s can't run: %s", program, strerror(code));
}

static int start(struct command *c, pid_t *pid) {
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    /* The step's environment is clean but for the language, in which programs sort and write numbers. */
    if (!c->host->env(c->run, "LC_ALL")) setenv("LC_ALL", "C.UTF-8", 1);
    int code = posix_spawn_file_actions_init(&files);
    if (code) return spawn_error(c, code);
    if ((code = posix_spawnattr_init(&attributes))) {
        posix_spawn_file_actions_destroy(&files);
        return spawn_error(c, code);
    }
    sigemptyset(&none);
    sigfillset(&all);
    code = posix_spawn_file_actions_adddup2(&files, c->in, 0);
    if (!code && c->out >= 0) code = posix_spawn_file_actions_adddup2(&files, c->out, 1);
    if (!code && c->host->param_given(c->run, "dir"))
        code = posix_spawn_file_actions_addchdir_np(&files, c->host->param_string(c->run, "dir"));
    if (!code) code = posix_spawnattr_setsigmask(&attributes, &none);
    if (!code) code = posix_spawnattr_setsigdefault(&attributes, &all);
    if (!code) code = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    if (!code) code = posix_spawnp(pid, c->argv[0], &files, &attributes, c->argv, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    return code ? spawn_error(c, code) : MB_OK;
}

static int wait_for(struct command *c, pid_t pid) {
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return c->host->fail(c->run, "waiting for %s: %s", c->program, strerror(errno));
    if (c->host->cancelled(c->run)) return MB_CANCELLED;
    if (WIFSIGNALED(status))
        return c->host->fail(c->run, "%s was ended by SIG%s (%s)%s", c->program, sigabbrev_np(WTERMSIG(status)),
                             strsignal(WTERMSIG(status)), WTERMSIG(status) == SIGKILL ? "; perhaps it ran out of memory" : "");
    if (WEXITSTATUS(status)) return c->host->fail(c->run, "%s exited with status %d", c->program, WEXITSTATUS(status));
    return MB_OK;
}

/* An output that isn't there though cmd never named it: the program can't have known where to write. */
static int check_outputs(struct command *c) {
    for (size_t i = 0; i < c->names.count; i++) {
        const struct name *name = &c->names.items[i];
        if (name->used || !faccessat(AT_FDCWD, name->from_root, F_OK, AT_SYMLINK_NOFOLLOW)) continue;
        return c->host->fail(
            c->run,
            "%s ended well, but didn't make %s. A command writes into a private folder until it ended well, so cmd must name "
            "each output, as an argument of the program, say",
            c->program, name->name);
    }
    return MB_OK;
}

static void release(struct command *c) {
    for (char **p = c->argv; p && *p; p++) free(*p);
    free(c->argv);
    names_free(&c->names);
    if (c->in >= 0) close(c->in);
    if (c->out >= 0) close(c->out);
}

static int run(const struct mb_host *host, struct mb_run *run) {
    struct command c = {.host = host, .run = run, .program = "", .in = -1, .out = -1};
    pid_t pid;
    int status = read_names(&c);
    if (!status) status = read_argv(&c);
    if (!status) status = open_files(&c);
    if (!status) status = start(&c, &pid);
    if (!status) status = wait_for(&c, pid);
    if (!status) status = check_outputs(&c);
    release(&c);
    return status;
}

static const struct mb_step steps[] = {
    {.name = "command", .help = "run a program", .flags = MB_DETERMINISTIC | MB_ANY_OUTPUTS, .roles = roles, .params = params, .run = run},
    {0}};

static const struct mb_plugin plugin = {MB_PLUGIN_HEAD, .name = "command", .version = "1.0", .help = "any program as a step",
                                        .steps = steps};
MB_PLUGIN(plugin);
