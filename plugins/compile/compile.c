/* compile.c: a plugin of the user's own, compiled as a part of the graph.
 *
 * The compiler is an ordinary process; what it says goes to the log, and its errors into the failure. The headers that it read become
 * discovered inputs (depfile.c), its version and place a part of the key. Nothing of this machine's paths enters the shared object.
 */
#include "depfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mbuild/plugin.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static const struct mb_role roles[] = {
    {.name = "sources", .flags = MB_INPUT | MB_MANY | MB_NAMED, .help = "C files; the headers that they include are found"},
    {.name = "plugin", .flags = MB_OUTPUT, .kind = "plugin", .help = "the shared object"},
    {0}};

static const struct mb_param params[] = {
    {.name = "cflags",
     .type = MB_LIST,
     .element = MB_STRING,
     .deflt = "[\"-O2\", \"-Wall\"]",
     .help = "what the compiler is given besides -shared -fPIC"},
    {.name = "libs", .type = MB_LIST, .element = MB_STRING, .deflt = "[]", .help = "libraries: \"z\" for -lz, or a flag such as -L…"},
    {.name = "cc", .type = MB_STRING, .deflt = "\"cc\"", .help = "the compiler"},
    {0}};

/* -- argument lists */

struct words {
    char **items;
    size_t count;
};

static void add_word(struct words *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Without memory there is nothing to be done but to end this process, which fails its step. */
static void add_word(struct words *w, const char *format, ...) {
    va_list args;
    char *text;
    va_start(args, format);
    int n = vasprintf(&text, format, args);
    va_end(args);
    w->items = realloc(w->items, (w->count + 2) * sizeof *w->items);
    if (n < 0 || !w->items) {
        fputs("out of memory\n", stderr);
        exit(1);
    }
    w->items[w->count++] = text;
    w->items[w->count] = NULL;
}

static void free_words(struct words *w) {
    for (size_t i = 0; i < w->count; i++) free(w->items[i]);
    free(w->items);
}

/* -- places */

/* plugin.h lies beside the program: PREFIX/bin/mbuild, PREFIX/include/mbuild/plugin.h. A step is a fork of the program. */
static int find_include(const struct mb_host *host, struct mb_run *run, char out[PATH_MAX]) {
    char header[PATH_MAX + 32];
    ssize_t n = readlink("/proc/self/exe", out, PATH_MAX - 1);
    if (n < 0) return host->fail(run, "cannot tell where mbuild is installed: /proc/self/exe: %s", strerror(errno));
    out[n] = 0;
    for (int i = 0; i < 2; i++) {
        char *slash = strrchr(out, '/');
        if (slash) *slash = 0;
    }
    if (strlen(out) + strlen("/include") >= PATH_MAX) return host->fail(run, "mbuild's own path is too long");
    strcat(out, "/include");
    snprintf(header, sizeof header, "%s/mbuild/plugin.h", out);
    return access(header, R_OK) ? host->fail(run, "mbuild's header isn't where it was installed: %s: %s", header, strerror(errno)) : MB_OK;
}

/* The compiler's file, as the shell would find it. */
static int find_compiler(const struct mb_host *host, struct mb_run *run, const char *cc, char out[PATH_MAX]) {
    const char *path = getenv("PATH");
    if (strchr(cc, '/')) {
        snprintf(out, PATH_MAX, "%s", cc);
        return access(out, X_OK) ? host->fail(run, "cc: %s: %s", cc, strerror(errno)) : MB_OK;
    }
    for (const char *p = path ? path : "/usr/local/bin:/usr/bin:/bin"; *p; p += *p == ':') {
        size_t n = strcspn(p, ":");
        struct stat st;
        int length = snprintf(out, PATH_MAX, "%.*s/%s", (int)n, p, cc);
        if (length > 0 && length < PATH_MAX && !access(out, X_OK) && !stat(out, &st) && S_ISREG(st.st_mode)) return MB_OK;
        p += n;
    }
    return host->fail(
        run, "no C compiler \"%s\" is installed (looked in the PATH); plugins of your own need one: package gcc, or another by cc = \"…\"",
        cc);
}

/* -- running the compiler */

/* Runs it with stdout and stderr into the file `output`; *status gets what waitpid tells. */
static int run_compiler(const struct mb_host *host, struct mb_run *run, char **argv, const char *output, int *status) {
    posix_spawn_file_actions_t files;
    pid_t pid;
    int code = posix_spawn_file_actions_init(&files);
    if (code) return host->fail(run, "cannot start %s: %s", argv[0], strerror(code));
    code = posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    if (!code) code = posix_spawn_file_actions_addopen(&files, 1, output, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (!code) code = posix_spawn_file_actions_adddup2(&files, 1, 2);
    if (!code) code = posix_spawnp(&pid, argv[0], &files, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&files);
    if (code) return host->fail(run, "cannot start %s: %s", argv[0], strerror(code));
    while (waitpid(pid, status, 0) < 0)
        if (errno != EINTR) return host->fail(run, "waiting for %s: %s", argv[0], strerror(errno));
    return MB_OK;
}

/* The beginning of a file, NUL-terminated; to be freed. */
static char *read_text(const char *path, size_t most) {
    FILE *f = fopen(path, "r");
    char *text = f ? malloc(most + 1) : NULL;
    if (text) text[fread(text, 1, most, f)] = 0;
    if (f) fclose(f);
    return text;
}

/* -- the key: another compiler may make another shared object */

static int fingerprint(const struct mb_host *host, struct mb_run *run) {
    char compiler[PATH_MAX], line[512] = "";
    const char *cc = host->param_string(run, "cc");
    if (find_compiler(host, run, cc, compiler)) return MB_FAILED;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC)) return host->fail(run, "pipe: %s", strerror(errno));
    posix_spawn_file_actions_t files;
    char *argv[] = {(char *)cc, "--version", NULL};
    pid_t pid;
    int status = 0, code = posix_spawn_file_actions_init(&files);
    if (!code) {
        code = posix_spawn_file_actions_adddup2(&files, ends[1], 1);
        if (!code) code = posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0);
        if (!code) code = posix_spawnp(&pid, compiler, &files, NULL, argv, environ);
        posix_spawn_file_actions_destroy(&files);
    }
    close(ends[1]);
    if (!code) {
        FILE *f = fdopen(ends[0], "r");
        if (f && fgets(line, sizeof line, f)) line[strcspn(line, "\n")] = 0;
        char rest[512];
        while (f && fgets(rest, sizeof rest, f)) continue;
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
        if (f) fclose(f);
        else close(ends[0]);
    } else {
        close(ends[0]);
        return host->fail(run, "cannot start %s: %s", compiler, strerror(code));
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) || !*line) return host->fail(run, "`%s --version` failed: is it a C compiler?", cc);
    host->fingerprint(run, line);
    host->watch(run, compiler);
    return MB_OK;
}

/* -- the step */

static int compile(const struct mb_host *host, struct mb_run *run, const struct words *argv, const char *output) {
    const size_t longest = 3000; /* bytes of a message */
    int status;
    if (run_compiler(host, run, argv->items, output, &status)) return MB_FAILED;
    char *said = read_text(output, 1 << 20);
    int result = MB_OK;
    /* Warnings are for the log; what stopped the compiler is the step's message, and only in the log as well if it is long. */
    if (said && (!status || strlen(said) > longest)) fprintf(stderr, "%s", said);
    fflush(stderr);
    if (host->cancelled(run)) result = MB_CANCELLED;
    else if (WIFSIGNALED(status)) result = host->fail(run, "%s was ended by SIG%s", argv->items[0], sigabbrev_np(WTERMSIG(status)));
    else if (WEXITSTATUS(status)) {
        size_t n = said ? strlen(said) : 0;
        while (n && said[n - 1] == '\n') said[--n] = 0;
        if (n > longest) strcpy(said + longest, "…");
        result = host->fail(run, "%s exited with status %d%s%s", argv->items[0], WEXITSTATUS(status), n ? ":\n" : "", n ? said : "");
    }
    free(said);
    return result;
}

static int discover(const struct mb_host *host, struct mb_run *run, const char *depfile) {
    char *text = read_text(depfile, 16 << 20);
    if (!text) return host->fail(run, "the compiler wrote no list of headers: %s: %s", depfile, strerror(errno));
    char *rest = text;
    for (char *path; (path = depfile_next(&rest));) host->discovered(run, path);
    free(text);
    return MB_OK;
}

/* One run of the compiler a source, then one that links, so that a list of headers belongs to each and messages come in order. */
static int build(const struct mb_host *host, struct mb_run *run, const char *include) {
    const char *temp = host->temp_folder(run), *out = host->output_path(run, "plugin", 0), *cc = host->param_string(run, "cc");
    char *root = realpath(".", NULL), path[64];
    size_t sources = host->input_count(run, "sources");
    int status = root ? MB_OK : host->fail(run, "cannot tell the repo's path: %s", strerror(errno));
    char *output, *depfile;
    struct words link = {0};
    if (status) return status;
    if (asprintf(&output, "%s/messages", temp) < 0 || asprintf(&depfile, "%s/depfile", temp) < 0) return host->fail(run, "out of memory");
    add_word(&link, "%s", cc);
    add_word(&link, "-shared");
    add_word(&link, "-o");
    add_word(&link, "%s", out);
    for (size_t i = 0; i < sources && !status; i++) {
        struct words argv = {0};
        add_word(&argv, "%s", cc);
        add_word(&argv, "-fPIC");
        for (size_t k = 0; k < host->param_count(run, "cflags"); k++) {
            snprintf(path, sizeof path, "cflags[%zu]", k);
            add_word(&argv, "%s", host->param_string(run, path));
        }
        add_word(&argv, "-I%s", include);
        add_word(&argv, "-ffile-prefix-map=%s=.", root);
        add_word(&argv, "-ffile-prefix-map=%s=include", include);
        add_word(&argv, "-MMD");
        add_word(&argv, "-MF");
        add_word(&argv, "%s", depfile);
        add_word(&argv, "-c");
        add_word(&argv, "-o");
        add_word(&argv, "%s/%zu.o", temp, i);
        add_word(&argv, "%s", host->input_path(run, "sources", i));
        add_word(&link, "%s/%zu.o", temp, i);
        host->progress(run, (double)i, (double)sources, host->input_path(run, "sources", i));
        status = compile(host, run, &argv, output);
        if (!status) status = discover(host, run, depfile);
        free_words(&argv);
    }
    for (size_t k = 0; k < host->param_count(run, "libs"); k++) {
        snprintf(path, sizeof path, "libs[%zu]", k);
        const char *lib = host->param_string(run, path);
        add_word(&link, "%s%s", *lib == '-' || strchr(lib, '/') ? "" : "-l", lib);
    }
    if (!status) status = compile(host, run, &link, output);
    free_words(&link);
    free(output);
    free(depfile);
    free(root);
    return status;
}

static int run(const struct mb_host *host, struct mb_run *run) {
    char include[PATH_MAX], compiler[PATH_MAX];
    setenv("LC_ALL", "C.UTF-8", 1); /* the compiler's messages are a part of ours */
    if (find_compiler(host, run, host->param_string(run, "cc"), compiler) || find_include(host, run, include)) return MB_FAILED;
    return build(host, run, include);
}

static const struct mb_step steps[] = {
    {.name = "compile", .help = "compile a plugin of your own", .flags = MB_DETERMINISTIC | MB_DISCOVERS, .roles = roles, .params = params,
     .run = run, .fingerprint = fingerprint},
    {0}};

static const struct mb_plugin plugin = {MB_PLUGIN_HEAD, .name = "compile", .version = "1.0",
                                        .help = "compiles plugins of the user's own", .steps = steps};
MB_PLUGIN(plugin);
