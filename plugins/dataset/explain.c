/* explain.c: what differs between two versions of a source, for `mbuild why`: columns, or how many rows. Order counts for nothing until
 * rows are the same. Arrays it leaves alone: bytes that differ say nothing there.
 */
#include "explain.h"
#include "read.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct version {
    struct records *records;
    uint64_t *rows;      /* a hash each, in the file's order, then sorted */
    size_t count, cap;
    uint64_t in_order;   /* hash of the rows in their order */
};

static uint64_t mix(uint64_t h, const void *bytes, size_t n) {
    const unsigned char *p = bytes;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 0x100000001b3u; /* FNV-1a */
    h ^= n;
    return h * 0x9e3779b97f4a7c15u ^ h >> 29;
}

static uint64_t row_hash(const struct records *r) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < r->cell_count; i++) h = r->cells[i].missing ? mix(h, "\0", 1) : mix(h, r->cells[i].text, r->cells[i].length);
    return h;
}

static int compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static int read_version(struct version *v, const struct mb_host *host, struct mb_run *run, struct mbl_error *e) {
    int more;
    while ((more = v->records->next(v->records, e)) > 0) {
        if (v->count % 65536 == 0 && host->cancelled(run)) return mbl_error_set(e, "cancelled");
        v->rows = mbl_grow(v->rows, &v->cap, v->count + 1, sizeof *v->rows);
        v->rows[v->count] = row_hash(v->records);
        v->in_order = mix(v->in_order, &v->rows[v->count++], sizeof *v->rows);
    }
    if (v->count) qsort(v->rows, v->count, sizeof *v->rows, compare);
    return more;
}

/* 1797 as "1,797". */
static const char *grouped(size_t n, char out[32]) {
    char plain[24];
    int length = snprintf(plain, sizeof plain, "%zu", n);
    char *p = out;
    for (int i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0) *p++ = ',';
        *p++ = plain[i];
    }
    *p = 0;
    return out;
}

static bool has_column(const struct records *r, const char *name) {
    for (size_t i = 0; i < r->name_count; i++)
        if (!strcmp(r->names[i], name)) return true;
    return false;
}

/* Whether columns differ; says how. */
static bool tell_columns(const struct mb_host *host, struct mb_run *run, const struct records *before, const struct records *after) {
    const struct records *sides[2] = {before, after};
    for (int s = 1; s >= 0; s--)
        for (size_t i = 0; i < sides[s]->name_count; i++) {
            if (has_column(sides[!s], sides[s]->names[i])) continue;
            host->log(run, MB_INFO, s ? "column %.200s is new" : "column %.200s is gone", sides[s]->names[i]);
            return true;
        }
    for (size_t i = 0; i < before->name_count; i++) {
        if (!strcmp(before->names[i], after->names[i])) continue;
        host->log(run, MB_INFO, "its columns have another order");
        return true;
    }
    return false;
}

static void tell_rows(const struct mb_host *host, struct mb_run *run, const struct version *before, const struct version *after) {
    size_t i = 0, k = 0, gone = 0, added = 0;
    char a[32], b[32], c[32];
    while (i < before->count || k < after->count) {
        int order = i == before->count ? 1 : k == after->count ? -1 : compare(&before->rows[i], &after->rows[k]);
        gone += order < 0;
        added += order > 0;
        i += order <= 0;
        k += order >= 0;
    }
    grouped(gone, a);
    grouped(added, b);
    grouped(before->count, c);
    if (!gone && !added && before->in_order == after->in_order) host->log(run, MB_INFO, "the same rows, written otherwise");
    else if (!gone && !added) host->log(run, MB_INFO, "the same rows in another order");
    else if (gone == added) host->log(run, MB_INFO, gone == 1 ? "%s row of %s differs" : "%s rows of %s differ", a, c);
    else if (!gone) host->log(run, MB_INFO, added == 1 ? "%s row was added to %s" : "%s rows were added to %s", b, c);
    else if (!added) host->log(run, MB_INFO, gone == 1 ? "%s row of %s is gone" : "%s rows of %s are gone", a, c);
    else host->log(run, MB_INFO, "of %s rows %s are gone and %s were added", c, a, b);
}

int dataset_explain(const struct mb_host *host, struct mb_run *run, const char *role, const char *before, const char *after) {
    struct options options;
    struct version old = {.count = 0}, new = {.count = 0};
    struct mbl_error e;
    if (strcmp(role, "from")) return MB_OK;
    options_read(host, run, &options);
    bool tables = !read_open(before, &options, &old.records, &e) && !read_open(after, &options, &new.records, &e);
    if (tables && !tell_columns(host, run, old.records, new.records)) {
        if (!read_version(&old, host, run, &e) && !read_version(&new, host, run, &e)) tell_rows(host, run, &old, &new);
    }
    if (old.records) old.records->close(old.records);
    if (new.records) new.records->close(new.records);
    free(old.rows);
    free(new.rows);
    options_free(&options);
    return MB_OK; /* what can't be read is the step's business, which says it better */
}
