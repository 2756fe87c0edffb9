/* worker_command.c: a plugin's subcommand: in a process of its own, but in the foreground, with the user's terminal and environment. */
#include "worker_private.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static _Noreturn void command_main(const char *plugin_path, const char *name, const struct worker_request *r, int argc, char **argv,
                                   pid_t parent) {
    const struct mb_plugin *p;
    struct mb_command c;
    struct err e;
    struct sigaction standard = {.sa_handler = SIG_DFL};
    sigset_t none;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(2);
    close_range(3, ~0u, 0); /* the engine's sockets above all: who waits for their end must not wait for us */
    sigemptyset(&standard.sa_mask);
    sigemptyset(&none);
    for (int n = 1; n < NSIG; n++) sigaction(n, &standard, NULL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (plugin_open(plugin_path, &p, &e)) {
        fprintf(stderr, "mbuild: plugin %s: %s\n", plugin_path, e.text);
        _exit(2);
    }
    for (size_t i = 0; plugin_command_at(p, i, &c); i++) {
        if (strcmp(c.name, name)) continue;
        int status = host_run_command(p, &c, r, argc, argv);
        _exit(status < 0 || status > 255 ? 2 : status);
    }
    fprintf(stderr, "mbuild: plugin %s has no command \"%s\"\n", plugin_path, name);
    _exit(2);
}

/* While the command runs, the terminal's signals are its own business: we end when it does. */
static void ignore_terminal(struct sigaction old[2], bool restore) {
    static const int numbers[2] = {SIGINT, SIGQUIT};
    struct sigaction ignored = {.sa_handler = SIG_IGN};
    sigemptyset(&ignored.sa_mask);
    for (int i = 0; i < 2; i++) sigaction(numbers[i], restore ? &old[i] : &ignored, restore ? NULL : &old[i]);
}

int worker_command(struct workers *w, const char *plugin_path, const char *command, const char *options, int argc, char **argv,
                   const char *const *env, struct err *e) {
    struct worker_request r = {.hook = WORKER_RUN, .plugin_path = plugin_path, .step = command, .label = command, .params = options,
                               .env = env,
                               .device = "cpu", .cpus = (int)sysconf(_SC_NPROCESSORS_ONLN)};
    struct sigaction old[2];
    int status;
    (void)w;
    fflush(NULL); /* what is buffered must not be written twice */
    pid_t parent = getpid();
    ignore_terminal(old, false);
    pid_t pid = fork();
    if (!pid) command_main(plugin_path, command, &r, argc, argv, parent);
    int error = errno;
    pid_t got = pid;
    while (pid > 0 && (got = waitpid(pid, &status, 0)) < 0 && errno == EINTR) {
    }
    ignore_terminal(old, true);
    errno = error;
    if (got < 0) return err_errno(e, "%s: cannot fork", command);
    if (WIFEXITED(status)) return WEXITSTATUS(status);
    if (WTERMSIG(status) == SIGINT) return 130;
    struct buf text = {0};
    worker_add_signal(&text, WTERMSIG(status));
    fprintf(stderr, "mbuild: %s: the command crashed: %s\n", command, text.data);
    buf_free(&text);
    return 2;
}
