/* state_file.c: what files held when their stat was this; see state.h. */
#include "state_private.h"

int state_each_file(struct state *s, void (*each)(void *ctx, const struct state_file *f), void *ctx, struct err *e) {
    sqlite3_stmt *q = state_query(s, STATE_ALL_FILES, e, "");
    if (!q) return -1;
    int more;
    while ((more = state_next(s, q, e)) > 0) {
        struct state_file f;
        const char *path = state_text(q, 0);
        const void *row = sqlite3_column_blob(q, 1);
        if (!path || state_read_file(row, (size_t)sqlite3_column_bytes(q, 1), path, &f)) continue; /* the file is read once more */
        each(ctx, &f);
    }
    return more;
}

int state_put_file(struct state *s, const struct state_file *f, struct err *e) {
    if (f->stat.fresh) return 0;
    state_write_file(&s->row, f);
    return state_exec(s, STATE_PUT_FILE, e, "tb", f->path, s->row.data, s->row.len);
}
