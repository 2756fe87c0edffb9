/* ui_term.c: the terminal that a live area stands on; see ui_private.h.
 *
 * The cursor is hidden while there is one, and must come back however the program ends: at exit, without memory, by a signal that ends
 * it, and while it is stopped by ^Z. The signals that a build waits for itself (build.c) are none of these. There is one terminal, so this is the one
 * place with state of the process: signal handlers know no other.
 */
#include "ui_private.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const char hide[] = "\033[?25l", show[] = "\033[?25h";

static const int deadly[] = {SIGQUIT, SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
#define DEADLY (sizeof deadly / sizeof *deadly)

static volatile sig_atomic_t terminal = -1; /* where the cursor is hidden */
static volatile sig_atomic_t resumed;
static struct sigaction before[DEADLY], before_stop;

static void put(int fd, const char *text) {
    size_t n = strlen(text);
    while (n) {
        ssize_t wrote = write(fd, text, n);
        if (wrote <= 0) return; /* a terminal that is gone has no cursor */
        text += wrote;
        n -= (size_t)wrote;
    }
}

static void on_deadly(int signal_number) {
    if (terminal >= 0) put(terminal, show);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static void on_stop(int signal_number) {
    (void)signal_number;
    int fd = terminal;
    if (fd >= 0) put(fd, show);
    raise(SIGSTOP);
    if (fd >= 0) put(fd, hide);
    resumed = 1;
}

static void give_back(void) {
    if (terminal >= 0) put(terminal, show);
}

void ui_term_hide(int fd) {
    static bool registered;
    if (terminal >= 0) return;
    if (!registered) registered = !atexit(give_back);
    mem_farewell = give_back;
    terminal = fd;
    struct sigaction action = {.sa_handler = on_deadly, .sa_flags = SA_RESTART};
    for (size_t i = 0; i < DEADLY; i++) {
        sigaction(deadly[i], NULL, &before[i]);
        if (before[i].sa_handler == SIG_DFL) sigaction(deadly[i], &action, NULL); /* a sanitizer has its own */
    }
    action.sa_handler = on_stop;
    sigaction(SIGTSTP, NULL, &before_stop);
    if (before_stop.sa_handler == SIG_DFL) sigaction(SIGTSTP, &action, NULL);
    put(fd, hide);
}

void ui_term_show(void) {
    if (terminal < 0) return;
    put(terminal, show);
    terminal = -1;
    for (size_t i = 0; i < DEADLY; i++) sigaction(deadly[i], &before[i], NULL);
    sigaction(SIGTSTP, &before_stop, NULL);
}

bool ui_term_resumed(void) {
    bool was = resumed;
    resumed = 0;
    return was;
}

bool ui_term_foreground(int fd) {
    pid_t group = tcgetpgrp(fd);
    return group < 0 || group == getpgrp();
}

void ui_term_size(int fd, uint32_t *columns, uint32_t *rows) {
    struct winsize size = {0};
    if (ioctl(fd, TIOCGWINSZ, &size)) size = (struct winsize){0};
    *columns = size.ws_col;
    *rows = size.ws_row;
}
