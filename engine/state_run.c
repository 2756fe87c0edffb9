/* state_run.c: past runs and what came of each step in them; see state.h. History is told, never relied on. */
#include "state_private.h"

#define STEPS_KEPT 1000000

/* -- runs */

int state_begin_run(struct state *s, const char *command, int64_t *id, struct err *e) {
    if (state_exec(s, STATE_PUT_RUN, e, "it", sys_wall_ms(), command)) return -1;
    *id = sqlite3_last_insert_rowid(s->db);
    if (state_exec(s, STATE_PRUNE_RUN_STEPS, e, "i", (int64_t)STEPS_KEPT)) return -1;
    return state_commit(s, e);
}

int state_end_run(struct state *s, const struct state_run *r, struct err *e) {
    /* The start is that of the row which state_begin_run made; this one counts only if that was lost. */
    int64_t started_ms = r->started_ms ? r->started_ms : sys_wall_ms() - (int64_t)(r->seconds * 1000);
    return state_exec(s, STATE_END_RUN, e, "iitdiiiiii", r->id, started_ms, r->command, r->seconds, (int64_t)r->status, (int64_t)r->built,
                      (int64_t)r->restored, (int64_t)r->current, (int64_t)r->failed, (int64_t)r->skipped);
}

static const char *text_of(sqlite3_stmt *q, int column, struct arena *a) {
    const char *text = state_text(q, column);
    return text ? arena_strdup(a, text) : NULL;
}

static int64_t number_of(sqlite3_stmt *q, int column, int64_t least, int64_t most) {
    int64_t n = sqlite3_column_int64(q, column);
    return n < least ? least : n > most ? most : n;
}

static uint32_t count_of(sqlite3_stmt *q, int column) {
    return (uint32_t)number_of(q, column, 0, UINT32_MAX);
}

int state_each_run(struct state *s, uint32_t most, struct arena *a, void (*each)(void *ctx, const struct state_run *r), void *ctx,
                   struct err *e) {
    sqlite3_stmt *q = state_query(s, STATE_ALL_RUNS, e, "i", (int64_t)most);
    if (!q) return -1;
    int more;
    while ((more = state_next(s, q, e)) > 0) {
        struct state_run r = {.id = sqlite3_column_int64(q, 0), .started_ms = sqlite3_column_int64(q, 1), .command = text_of(q, 2, a),
                              .seconds = sqlite3_column_double(q, 3), .status = (int)number_of(q, 4, -1, 255), .built = count_of(q, 5),
                              .restored = count_of(q, 6), .current = count_of(q, 7), .failed = count_of(q, 8), .skipped = count_of(q, 9)};
        if (r.command) each(ctx, &r);
    }
    return more;
}

/* -- their steps */

int state_put_run_step(struct state *s, const struct state_run_step *r, struct err *e) {
    return state_exec(s, STATE_PUT_RUN_STEP, e, "ittbdtttt", r->run_id, r->step, r->status, r->key.bytes, sizeof r->key.bytes, r->seconds,
                      r->log, r->message, r->params, r->metrics);
}

int state_each_run_step(struct state *s, int64_t run_id, const char *step, uint32_t most, struct arena *a,
                        void (*each)(void *ctx, const struct state_run_step *r), void *ctx, struct err *e) {
    enum state_statement which = run_id && step ? STATE_RUN_STEPS_OF_BOTH
                                 : run_id       ? STATE_RUN_STEPS_OF_RUN
                                 : step         ? STATE_RUN_STEPS_OF_STEP
                                                : STATE_RUN_STEPS;
    sqlite3_stmt *q = state_query(s, which, e, "iti", run_id, step, (int64_t)most);
    if (!q) return -1;
    int more;
    while ((more = state_next(s, q, e)) > 0) {
        struct state_run_step r = {.run_id = sqlite3_column_int64(q, 0), .step = text_of(q, 1, a), .status = text_of(q, 2, a),
                                   .seconds = sqlite3_column_double(q, 4), .log = text_of(q, 5, a), .message = text_of(q, 6, a),
                                   .params = text_of(q, 7, a), .metrics = text_of(q, 8, a)};
        if (r.step && r.status && !state_digest(q, 3, &r.key)) each(ctx, &r);
    }
    return more;
}
