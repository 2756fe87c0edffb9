/* clean.c: rows with missing values and rows that are there twice; see rows.h. */
#include "rows.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BREACH_SHOWN 10

/* -- lists of rows for messages */

void breach_add(struct breach *b, const struct table *t, size_t row, const char *format, ...) {
    if (b->count++ >= BREACH_SHOWN) return;
    char text[300];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    mbl_buf_addf(&b->lines, "\n  %s:%lld: %s", table_file(t, row), (long long)t->lines[row], text);
}

void breach_end(struct breach *b, const char *what, struct mbl_buf *out) {
    if (b->count) {
        mbl_buf_addf(out, "%s%s: broken by %zu row%s%s", out->len ? "\n" : "", what, b->count, b->count == 1 ? "" : "s",
                     b->count > BREACH_SHOWN ? ", the first ten are" : "");
        mbl_buf_add(out, b->lines.data, b->lines.len);
    }
    mbl_buf_free(&b->lines);
    b->count = 0;
}

/* -- missing values */

static const struct column *missing_in(const struct table *t, size_t row) {
    for (size_t i = 0; i < t->column_count; i++)
        if (table_is_missing(&t->columns[i], row)) return &t->columns[i];
    return NULL;
}

static int clean_missing(const struct table *t, const struct options *o, struct cleaned *out, struct mbl_error *e) {
    const struct column *label = table_label(t), *words = table_words(t);
    struct breach broken = {0}, unlabelled = {0};
    struct mbl_buf text = {0};
    size_t kept = 0;
    for (size_t row = 0; row < t->rows; row++) {
        const struct column *c = missing_in(t, row);
        if (c) out->missing++;
        if (c && o->missing == POLICY_DROP) continue;
        if (c && o->missing == POLICY_FAIL) breach_add(&broken, t, row, "%s is missing", c->name);
        else if (label && table_is_missing(label, row)) breach_add(&unlabelled, t, row, "%s, the label, is missing", label->name);
        else if (words && table_is_missing(words, row)) breach_add(&unlabelled, t, row, "%s, the words, are missing", words->name);
        for (size_t i = 0; i < t->column_count; i++)
            if (t->columns[i].is_group && table_is_missing(&t->columns[i], row) && o->missing != POLICY_FAIL)
                breach_add(&unlabelled, t, row, "%s, by which rows are grouped, is missing", t->columns[i].name);
        out->rows.at[kept++] = row;
    }
    out->rows.count = kept;
    breach_end(&broken, "clean.missing = \"fail\"", &text);
    breach_end(&unlabelled, "rows without a label, words or group can only be dropped (clean.missing = \"drop\")", &text);
    int failed = text.len ? mbl_error_set(e, "%s", text.data) : 0;
    mbl_buf_free(&text);
    return failed;
}

/* -- copies */

static uint64_t mix(uint64_t h, const void *bytes, size_t n) {
    const unsigned char *p = bytes;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 0x100000001b3u;
    return h ^ h >> 32;
}

static uint64_t hash_row(const struct table *t, size_t row) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < t->column_count; i++) {
        const struct column *c = &t->columns[i];
        if (c->kind == MBL_CATEGORY) {
            h = mix(h, &c->codes[row], sizeof c->codes[row]);
        } else if (column_is_text(c)) {
            h = mix(h, mbl_buf_str(&c->text) + c->offsets[row], (size_t)(c->offsets[row + 1] - c->offsets[row]));
        } else if (c->bytes) {
            h = mix(h, c->bytes + row * c->width, c->width);
        } else {
            for (size_t k = 0; k < c->width; k++) {
                float v = c->numbers[row * c->width + k];
                if (v == 0) v = 0; /* -0 equals 0 */
                if (isnan(v)) v = (float)NAN;
                h = mix(h, &v, sizeof v);
            }
        }
    }
    return h;
}

static bool same_number(float a, float b) {
    return a == b || (isnan(a) && isnan(b));
}

static bool same_row(const struct table *t, size_t a, size_t b) {
    for (size_t i = 0; i < t->column_count; i++) {
        const struct column *c = &t->columns[i];
        if (c->kind == MBL_CATEGORY) {
            if (c->codes[a] != c->codes[b]) return false;
        } else if (column_is_text(c)) {
            int64_t m = c->offsets[a + 1] - c->offsets[a], n = c->offsets[b + 1] - c->offsets[b];
            const char *text = mbl_buf_str(&c->text);
            if (m != n || memcmp(text + c->offsets[a], text + c->offsets[b], (size_t)n)) return false;
            if (table_is_missing(c, a) != table_is_missing(c, b)) return false;
        } else {
            for (size_t k = 0; k < c->width; k++)
                if (!same_number(table_number(c, a, k), table_number(c, b, k))) return false;
        }
    }
    return true;
}

static int clean_duplicates(const struct table *t, const struct options *o, struct cleaned *out, struct mbl_error *e) {
    size_t slots = 64, kept = 0;
    struct breach broken = {0};
    void *block;
    while (slots < out->rows.count * 2) slots *= 2;
    if (mbl_try_alloc(&block, slots, sizeof(size_t), "looking for copies of rows", e)) return -1;
    size_t *table = block; /* row + 1; 0 is free */
    for (size_t i = 0; i < out->rows.count; i++) {
        size_t row = out->rows.at[i], at = (size_t)hash_row(t, row) & (slots - 1);
        while (table[at] && !same_row(t, table[at] - 1, row)) at = (at + 1) & (slots - 1);
        if (table[at]) {
            out->duplicates++;
            if (o->duplicates == POLICY_DROP) continue;
            breach_add(&broken, t, row, "a copy of line %lld", (long long)t->lines[table[at] - 1]);
        } else {
            table[at] = row + 1;
        }
        out->rows.at[kept++] = row;
    }
    free(block);
    out->rows.count = kept;
    struct mbl_buf text = {0};
    breach_end(&broken, "clean.duplicates = \"fail\"", &text);
    int failed = text.len && o->duplicates == POLICY_FAIL ? mbl_error_set(e, "%s", text.data) : 0;
    mbl_buf_free(&text);
    return failed;
}

int clean_rows(const struct table *t, const struct options *o, struct cleaned *out, struct mbl_error *e) {
    void *block;
    *out = (struct cleaned){0};
    if (mbl_try_alloc(&block, t->rows, sizeof(size_t), "row numbers", e)) return -1;
    out->rows.at = block;
    if (clean_missing(t, o, out, e) || clean_duplicates(t, o, out, e)) return -1;
    return out->rows.count ? 0 : mbl_error_set(e, "%s: cleaning left no rows: %zu had missing values", t->files[0], out->missing);
}

/* -- filling in */

static int fill_number(struct column *c, size_t rows, const struct rows *train, struct mbl_error *e) {
    double sum = 0;
    size_t count = 0;
    for (size_t i = 0; i < train->count; i++) {
        float v = c->numbers[train->at[i]];
        if (!isnan(v)) sum += (double)v, count++;
    }
    if (!count) return mbl_error_set(e, "clean.missing = \"mean\": column %s has no values in the training part", c->name);
    c->fill = (float)(sum / (double)count);
    for (size_t row = 0; row < rows; row++)
        if (isnan(c->numbers[row])) c->numbers[row] = c->fill;
    return 0;
}

static int fill_category(struct column *c, size_t rows, const struct rows *train, struct mbl_error *e) {
    size_t *counts = mbl_alloc(c->dictionary.count * sizeof *counts), best = 0;
    for (size_t i = 0; i < train->count; i++)
        if (c->codes[train->at[i]] >= 0) counts[c->codes[train->at[i]]]++;
    for (size_t i = 1; i < c->dictionary.count; i++)
        if (counts[i] > counts[best]) best = i;
    bool none = !c->dictionary.count || !counts[best];
    free(counts);
    if (none) return mbl_error_set(e, "clean.missing = \"mean\": column %s has no values in the training part", c->name);
    c->fill = (float)best;
    for (size_t row = 0; row < rows; row++)
        if (c->codes[row] < 0) c->codes[row] = (int32_t)best;
    return 0;
}

int fill_missing(struct table *t, const struct rows *train, struct mbl_error *e) {
    for (size_t i = 0; i < t->column_count; i++) {
        struct column *c = &t->columns[i];
        bool any = false;
        if (c->is_label || c->is_group || column_is_text(c) || c->bytes) continue;
        for (size_t row = 0; row < t->rows && !any; row++) any = table_is_missing(c, row);
        if (!any) continue;
        if (c->width > 1)
            return mbl_error_set(e, "clean.missing = \"mean\" is for tables; %s holds arrays: drop such rows or keep them", c->name);
        if (c->kind == MBL_NUMERIC ? fill_number(c, t->rows, train, e) : fill_category(c, t->rows, train, e)) return -1;
        c->filled = true;
    }
    return 0;
}
