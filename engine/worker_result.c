/* worker_result.c: what became of a step, judged from how its process ended and what it said, in words for its author. */
#include "ui.h"
#include "worker_private.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>

static const struct {
    int number;
    const char *name, *meaning;
} signals[] = {{SIGSEGV, "SIGSEGV", "it read or wrote memory that isn't its own"},
               {SIGBUS, "SIGBUS", "it touched a part of a mapped file that isn't there"},
               {SIGABRT, "SIGABRT", "it ended itself, as after a failed assertion or a damaged heap"},
               {SIGFPE, "SIGFPE", "a division by zero or another impossible whole-number operation"},
               {SIGILL, "SIGILL", "an instruction that this processor doesn't know, or a check that the compiler built in"},
               {SIGTRAP, "SIGTRAP", "a check that the compiler built in, or a breakpoint"},
               {SIGSYS, "SIGSYS", "a system call that isn't allowed"},
               {SIGPIPE, "SIGPIPE", "it wrote to a pipe or connection that nobody reads"},
               {SIGXCPU, "SIGXCPU", "it used more processor time than the system allows"},
               {SIGXFSZ, "SIGXFSZ", "it wrote a larger file than the system allows"},
               {SIGKILL, "SIGKILL", "somebody killed it"}};

void worker_add_signal(struct buf *out, int number) {
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        if (signals[i].number != number) continue;
        buf_addf(out, "%s (%s)", signals[i].name, signals[i].meaning);
        return;
    }
    const char *name = sigabbrev_np(number);
    if (name) buf_addf(out, "SIG%s (%s)", name, strsignal(number));
    else buf_addf(out, "signal %d", number);
}

static void add_memory(struct buf *out, const struct worker_end *end) {
    char peak[24], limit[24];
    buf_addf(out, "(peak %s", ui_bytes(end->peak_bytes, peak));
    if (end->memory) buf_addf(out, "; its limit is %s", ui_bytes(end->memory, limit));
    buf_addc(out, ')');
}

/* A step that met its limit gets no memory: it says so, or crashes on what it didn't check. The peak tells pages that were touched, so
 * one large request that was refused doesn't show in it. */
static bool near_limit(const struct worker_end *end) {
    return end->memory && !end->cuda && end->peak_bytes >= end->memory / 2;
}

static bool speaks_of_memory(const char *text) {
    return text && (strcasestr(text, "memory") || strcasestr(text, "bad_alloc") || strcasestr(text, "malloc"));
}

static enum worker_outcome judge_signal(const struct worker_end *end, struct buf *message) {
    int number = WTERMSIG(end->wait_status);
    if (number == SIGKILL && end->kills) {
        buf_adds(message, "was killed by the kernel at its limit of memory ");
        add_memory(message, end);
        return WORKER_NO_MEMORY;
    }
    if (number == SIGKILL) {
        buf_adds(message, "was killed by SIGKILL: probably out of memory ");
        add_memory(message, end);
        return WORKER_NO_MEMORY;
    }
    buf_adds(message, "crashed: ");
    worker_add_signal(message, number);
    if (!near_limit(end)) return WORKER_CRASHED;
    buf_adds(message, "; probably out of memory ");
    add_memory(message, end);
    return WORKER_NO_MEMORY;
}

static enum worker_outcome judge_words(const struct worker_end *end, struct buf *message) {
    if (end->said_status == MB_OK) return WORKER_OK;
    if (end->said_status == MB_CANCELLED) {
        buf_adds(message, "stopped as if it had been cancelled, but nobody did");
        return WORKER_FAILED;
    }
    buf_adds(message, end->said_text && *end->said_text ? end->said_text : "it failed without saying why");
    if (end->kills) buf_adds(message, "; the kernel killed a process of it at its limit of memory");
    else if (!end->memory || end->cuda || !speaks_of_memory(end->said_text)) return WORKER_FAILED;
    buf_addc(message, ' ');
    add_memory(message, end);
    return WORKER_NO_MEMORY;
}

static void add_seconds(struct buf *out, uint32_t ms) {
    if (ms < 1000) buf_addf(out, "%u ms", ms);
    else buf_addf(out, "%.10g s", ms / 1000.0);
}

static bool speaks_of(const struct worker_end *end, const char *const *words) {
    for (; *words; words++)
        if ((end->said_text && strcasestr(end->said_text, *words)) || (end->tail && strcasestr(end->tail, *words))) return true;
    return false;
}

/* The kernel tells a step only that it was refused something, as it would for any file that isn't its own. */
static void add_hint(const struct worker_end *end, struct buf *message) {
    static const char *const refused[] = {"permission denied", "not permitted", "permissionerror", "eacces", NULL};
    static const char *const network[] = {"resolve", "name resolution", "connect", "socket", "network", "unknown host", NULL};
    if (end->offline && speaks_of(end, network)) buf_adds(message, " (a step has no network unless its rule says network = true)");
    else if (end->confined && speaks_of(end, refused))
        buf_adds(message, " (a step sees only what its rule names as inputs: name what it reads, or try --sandbox=off)");
}

static enum worker_outcome judge(const struct worker_end *end, struct buf *message) {
    if (end->timed_out) {
        buf_adds(message, "ran past its timeout of ");
        add_seconds(message, end->timeout_ms);
        buf_adds(message, " and was ended");
        return WORKER_TIMED_OUT;
    }
    if (end->cancelled && !(end->said && end->said_status == MB_OK)) {
        buf_adds(message, "was cancelled");
        return WORKER_CANCELLED;
    }
    if (!end->started) {
        buf_adds(message, end->said_text);
        return WORKER_FAILED;
    }
    if (end->protocol) {
        buf_addf(message, "sent what makes no sense (%s): its memory is probably damaged", end->protocol);
        return WORKER_CRASHED;
    }
    if (end->said) return judge_words(end, message);
    if (end->lost) {
        buf_adds(message, "was ended with the process that started it, which was killed: the template of its plugin");
        return WORKER_FAILED;
    }
    if (WIFSIGNALED(end->wait_status)) return judge_signal(end, message);
    buf_addf(message, "exited with status %d before its function returned: a plugin returns a status, it doesn't call exit()",
             WEXITSTATUS(end->wait_status));
    return WORKER_FAILED;
}

enum worker_outcome worker_judge(const struct worker_end *end, struct buf *message) {
    enum worker_outcome outcome = judge(end, message);
    if (end->started && (outcome == WORKER_FAILED || outcome == WORKER_CRASHED)) add_hint(end, message);
    return outcome;
}
