/* state_record.c: what steps were last built from, which outputs a key gave, how long steps take; see state.h.
 *
 * A row that isn't what was written is passed over as if it weren't there: the step is then decided anew, which is always right.
 */
#include "state_private.h"

#include <string.h>

/* The record in the row that a query (step, key, row) is at, or NULL. */
static struct state_record *read_row(sqlite3_stmt *q, struct arena *a) {
    const char *step = state_text(q, 0);
    const void *row = sqlite3_column_blob(q, 2);
    struct state_record *r = arena_alloc(a, sizeof *r);
    r->step = step;
    if (!step || state_digest(q, 1, &r->key) || state_read_record(row, (size_t)sqlite3_column_bytes(q, 2), a, r)) return NULL;
    r->step = arena_strdup(a, step);
    return r;
}

/* -- records */

int state_get_record(struct state *s, const char *step, struct arena *a, struct state_record **out, struct err *e) {
    *out = NULL;
    sqlite3_stmt *q = state_query(s, STATE_GET_RECORD, e, "t", step);
    if (!q) return -1;
    int more;
    while ((more = state_next(s, q, e)) > 0) *out = read_row(q, a);
    return more;
}

int state_each_record(struct state *s, struct arena *a, void (*each)(void *ctx, struct state_record *r), void *ctx, struct err *e) {
    sqlite3_stmt *q = state_query(s, STATE_ALL_RECORDS, e, "");
    if (!q) return -1;
    int more;
    while ((more = state_next(s, q, e)) > 0) {
        struct state_record *r = read_row(q, a);
        if (r) each(ctx, r);
    }
    return more;
}

int state_put_record(struct state *s, const struct state_record *r, struct err *e) {
    state_write_record(&s->row, r);
    return state_exec(s, STATE_PUT_RECORD, e, "tbb", r->step, r->key.bytes, sizeof r->key.bytes, s->row.data, s->row.len);
}

int state_drop_record(struct state *s, const char *step, struct err *e) {
    double seconds = state_get_duration(s, step);
    if (seconds > 0 && state_exec(s, STATE_KEEP_DURATION, e, "td", step, seconds)) return -1;
    return state_exec(s, STATE_DROP_RECORD, e, "t", step);
}

/* -- durations: a record tells its step's; only what has none has a row of its own */

double state_get_duration(struct state *s, const char *step) {
    struct err ignored; /* not knowing it costs only a worse order */
    struct arena a = {0};
    struct state_record *r;
    double seconds = 0;
    if (!state_get_record(s, step, &a, &r, &ignored) && r) seconds = r->seconds;
    arena_free(&a);
    sqlite3_stmt *q = seconds > 0 ? NULL : state_query(s, STATE_GET_DURATION, &ignored, "t", step);
    while (q && state_next(s, q, &ignored) > 0) seconds = sqlite3_column_double(q, 0);
    return seconds >= 0 && seconds < 1e15 ? seconds : 0;
}

bool state_keeps_durations(struct state *s) {
    struct err ignored;
    sqlite3_stmt *q = state_query(s, STATE_ANY_DURATION, &ignored, "");
    bool any = q && state_next(s, q, &ignored) > 0;
    if (any) sqlite3_reset(q);
    return any;
}

/* -- actions */

int state_each_action(struct state *s, const struct digest *key, struct arena *a,
                      bool (*each)(void *ctx, struct state_record *r), void *ctx, struct err *e) {
    state_begin(s);
    sqlite3_stmt *q = state_query(s, STATE_GET_ACTIONS, e, "b", key->bytes, sizeof key->bytes);
    if (!q) return -1;
    int more;
    while ((more = state_next(s, q, e)) > 0) {
        struct state_record *r = read_row(q, a);
        if (!r || !each(ctx, r)) continue;
        sqlite3_reset(q);
        return 0;
    }
    return more;
}

/* What tells two actions of one key apart: the inputs that were found while running. Most have none, and nothing to tell. */
static struct digest found_inputs(const struct state_record *r, size_t *size) {
    struct digest_context *c = digest_begin();
    *size = 0;
    for (uint32_t i = 0; i < r->input_count; i++) {
        const struct state_input *in = &r->inputs[i];
        if (*in->role) continue;
        digest_add_string(c, in->path);
        digest_add_u64(c, (uint64_t)in->artifact.type);
        digest_add(c, in->artifact.digest.bytes, sizeof in->artifact.digest.bytes);
        *size = sizeof in->artifact.digest.bytes;
    }
    return digest_end(c);
}

int state_put_action(struct state *s, const struct state_record *r, struct err *e) {
    size_t size;
    struct digest found = found_inputs(r, &size);
    state_write_record(&s->row, r);
    return state_exec(s, STATE_PUT_ACTION, e, "bbitb", r->key.bytes, sizeof r->key.bytes, found.bytes, size, r->built_ms, r->step,
                      s->row.data, s->row.len);
}

int state_drop_action(struct state *s, const struct digest *key, struct err *e) {
    return state_exec(s, STATE_DROP_ACTION, e, "b", key->bytes, sizeof key->bytes);
}

int state_prune_actions(struct state *s, int64_t older_than_ms, uint32_t *dropped, struct err *e) {
    *dropped = 0;
    if (state_exec(s, STATE_PRUNE_ACTIONS, e, "i", older_than_ms)) return -1;
    *dropped = (uint32_t)sqlite3_changes(s->db);
    return 0;
}

/* -- the roots of the store */

static int each_artifact_of(struct state *s, enum state_statement which, void (*each)(void *ctx, const struct artifact *a), void *ctx,
                            struct err *e) {
    sqlite3_stmt *q = state_query(s, which, e, "");
    if (!q) return -1;
    int more;
    while ((more = state_next(s, q, e)) > 0) {
        struct arena a = {0};
        const struct state_record *r = read_row(q, &a);
        for (uint32_t i = 0; r && i < r->input_count; i++)
            if (r->inputs[i].artifact.type != ARTIFACT_NONE) each(ctx, &r->inputs[i].artifact);
        for (uint32_t i = 0; r && i < r->output_count; i++)
            if (r->outputs[i].artifact.type != ARTIFACT_NONE) each(ctx, &r->outputs[i].artifact);
        arena_free(&a);
    }
    return more;
}

int state_each_artifact(struct state *s, void (*each)(void *ctx, const struct artifact *a), void *ctx, struct err *e) {
    return each_artifact_of(s, STATE_ALL_RECORDS, each, ctx, e) || each_artifact_of(s, STATE_ALL_ACTIONS, each, ctx, e) ? -1 : 0;
}
