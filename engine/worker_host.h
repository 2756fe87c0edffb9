/* worker_host.h: what the files of the host table share (worker_host.c, worker_params.c). */
#ifndef ENGINE_WORKER_HOST_H
#define ENGINE_WORKER_HOST_H

#include "worker_private.h"

#include <pthread.h>

#define KEPT_MOST 256 /* metrics of which the last value is held back */

/* So many reports at once, and then so many a second: a step that reports in its innermost loop must not be slowed down by it. */
struct allowance {
    double left, most, per_second;
    int64_t filled_ns;
};

struct kept_metric {
    char *name;
    struct allowance allowance;
    double value;
    bool pending;
};

struct mb_run {
    const struct mb_plugin *plugin;
    const struct worker_request *request;
    const char *what, *name;         /* "step" and its name, or "command" */
    const struct mb_role *roles;     /* NULL: none */
    const struct mb_param *params;
    struct value root;               /* the parameters' values */
    int socket;                      /* -1: a subcommand, which has the terminal */
    struct step_report *report;      /* NULL: a result goes by the socket */
    pid_t process;
    pthread_mutex_t lock, asking;
    struct arena arena;
    struct buf out, in;
    char *failure;                   /* the last message of fail() */
    struct kept_metric *metrics;     /* made with the first: memory that isn't touched costs nothing */
    uint32_t metric_count, metric_cap;
    struct allowance progress_allowance;
    bool progress_pending;
    double done, total;
    char *progress_text;
    struct answer {
        struct answer *next;
        const char *role, *json;
        size_t index;
    } *answers;
};

/* Ends the step: the plugin asked for what it doesn't declare. The text goes on "its step "x" …". */
_Noreturn void host_author_error(struct mb_run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* -- worker_params.c: the functions of mb_host of the same names */

int host_param_given(struct mb_run *run, const char *path);
enum mb_type host_param_type(struct mb_run *run, const char *path);
int host_param_bool(struct mb_run *run, const char *path);
int64_t host_param_int(struct mb_run *run, const char *path);
double host_param_float(struct mb_run *run, const char *path);
const char *host_param_string(struct mb_run *run, const char *path);
size_t host_param_count(struct mb_run *run, const char *path);
const char *host_param_key(struct mb_run *run, const char *path, size_t i);
const char *host_param_json(struct mb_run *run, const char *path);

#endif
