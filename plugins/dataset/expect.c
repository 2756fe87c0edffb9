/* expect.c: what the rule says must hold of the data; see rows.h. Each expectation is a row of a table. All that are broken are told at
 * once, with the rows that broke them.
 */
#include "rows.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct checking {
    const struct table *t;
    const struct rows *kept;
    struct mbl_buf out; /* what is broken, a line each, rows indented */
};

static void broken(struct checking *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void broken(struct checking *c, const char *format, ...) {
    char text[600];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    mbl_buf_addf(&c->out, "%s%s", c->out.len ? "\n" : "", text);
}

static const struct column *column_of(struct checking *c, const char *expectation, const char *name) {
    const struct column *column = table_find(c->t, name);
    if (!column) broken(c, "expect.%s: there is no column \"%s\" among label and features", expectation, name);
    return column;
}

static void check_rows(struct checking *c, const struct mbl_json *v) {
    double n = (double)c->kept->count, least = mbl_json_get_float(v, "min", 0), most = mbl_json_get_float(v, "max", INFINITY);
    if (n < least) broken(c, "expect.rows: %zu rows are left after cleaning; at least %g are expected", c->kept->count, least);
    if (n > most) broken(c, "expect.rows: %zu rows are left after cleaning; at most %g are expected", c->kept->count, most);
}

static void check_columns(struct checking *c, const struct mbl_json *v) {
    bool same = v->count == c->t->column_count;
    for (size_t i = 0; same && i < v->count; i++) same = !strcmp(v->items[i]->string, c->t->columns[i].name);
    if (same) return;
    struct mbl_buf list = {0};
    for (size_t i = 0; i < c->t->column_count && i < 20; i++) mbl_buf_addf(&list, "%s%.40s", i ? ", " : "", c->t->columns[i].name);
    broken(c, "expect.columns: found %zu: %.400s%s", c->t->column_count, mbl_buf_str(&list),
           c->t->column_count > 20 ? ", \xe2\x80\xa6" : "");
    mbl_buf_free(&list);
}

static void check_features(struct checking *c, const struct mbl_json *v) {
    size_t n = 0;
    for (size_t i = 0; i < c->t->column_count; i++) {
        const struct column *column = &c->t->columns[i];
        if (!column->is_label && !column->is_group) n += column->kind == MBL_CATEGORY ? column->dictionary.count : column->width;
    }
    if (v->integer != (int64_t)n) broken(c, "expect.features: there are %zu; %lld are expected", n, (long long)v->integer);
}

static void names_of(const struct column *column, struct mbl_buf *out) {
    for (size_t i = 0; i < column->dictionary.count && i < 12; i++)
        mbl_buf_addf(out, "%s%.30s", i ? ", " : "", column->dictionary.names[i]);
    if (column->dictionary.count > 12) mbl_buf_adds(out, ", \xe2\x80\xa6");
}

/* A value of a rule as the data writes it. */
static const char *value_text(const struct mbl_json *v, struct mbl_buf *scratch) {
    if (v->type == MBL_JSON_STRING) return v->string;
    scratch->len = 0;
    mbl_json_write(v, MBL_JSON_COMPACT, scratch);
    return scratch->data;
}

static bool is_among(const struct mbl_json *list, const char *name, struct mbl_buf *scratch) {
    for (size_t i = 0; i < list->count; i++)
        if (!strcmp(value_text(list->items[i], scratch), name)) return true;
    return false;
}

/* Where a row's classes lie among the codes: one, or one a word. */
static void codes_of(const struct column *label, size_t row, size_t *first, size_t *end) {
    bool tags = label->kind == MBL_WORDS;
    *first = tags ? (size_t)label->starts[row] : row;
    *end = tags ? (size_t)label->starts[row + 1] : row + 1;
}

static void check_classes(struct checking *c, const struct mbl_json *v) {
    const struct column *label = table_label(c->t);
    struct mbl_buf names = {0}, scratch = {0};
    if (!label || label->kind == MBL_NUMERIC) {
        broken(c, "expect.classes: the dataset has none");
        return;
    }
    names_of(label, &names);
    size_t n = label->dictionary.count;
    bool counted = v->type == MBL_JSON_INT;
    if (counted && v->integer != (int64_t)n)
        broken(c, "expect.classes: found %zu (%s); %lld are expected", n, mbl_buf_str(&names), (long long)v->integer);
    for (size_t i = 0; !counted && i < v->count; i++) {
        const char *name = value_text(v->items[i], &scratch);
        size_t k = 0;
        while (k < n && strcmp(label->dictionary.names[k], name)) k++;
        if (k == n) broken(c, "expect.classes: no row has class \"%s\"; found %s", name, mbl_buf_str(&names));
    }
    struct breach rows = {0};
    for (size_t i = 0; !counted && i < c->kept->count; i++) {
        size_t row = c->kept->at[i], first, end;
        codes_of(label, row, &first, &end);
        for (size_t k = first; k < end; k++) {
            const char *name = label->dictionary.names[label->codes[k]];
            if (is_among(v, name, &scratch)) continue;
            breach_add(&rows, c->t, row, "class \"%s\" is not among the expected", name);
            break;
        }
    }
    breach_end(&rows, "expect.classes", &c->out);
    mbl_buf_free(&names);
    mbl_buf_free(&scratch);
}

/* Bounds are compared as float32, as the values are stored: 0.1 is within [0.1, 1]. */
static void check_bounds(struct checking *c, const struct column *column, const struct mbl_json *pair, const char *what) {
    float least = (float)mbl_json_number(pair->items[0]), most = (float)mbl_json_number(pair->items[1]);
    struct breach rows = {0};
    for (size_t i = 0; i < c->kept->count; i++) {
        size_t row = c->kept->at[i];
        for (size_t k = 0; k < column->width; k++) {
            float v = table_number(column, row, k);
            if (!(v < least || v > most)) continue;
            breach_add(&rows, c->t, row, "%s is %.9g, not from %.9g to %.9g", column->name, (double)v, (double)least, (double)most);
            break;
        }
    }
    breach_end(&rows, what, &c->out);
}

static void check_range(struct checking *c, const struct mbl_json *v) {
    for (size_t i = 0; i < c->t->column_count; i++) {
        const struct column *column = &c->t->columns[i];
        if (column->kind == MBL_NUMERIC && !column->is_label) check_bounds(c, column, v, "expect.range");
    }
}

static void check_ranges(struct checking *c, const struct mbl_json *v) {
    for (size_t i = 0; v->type == MBL_JSON_TABLE && i < v->count; i++) {
        const struct column *column = column_of(c, "ranges", v->keys[i]);
        if (!column) continue;
        if (column->kind == MBL_NUMERIC) check_bounds(c, column, v->items[i], "expect.ranges");
        else broken(c, "expect.ranges: column %s holds no numbers", column->name);
    }
}

static bool has_value(const struct mbl_json *list, const struct column *column, size_t row, struct mbl_buf *scratch) {
    if (column->kind == MBL_CATEGORY) return is_among(list, column->dictionary.names[column->codes[row]], scratch);
    for (size_t i = 0; i < list->count; i++)
        if ((float)mbl_json_number(list->items[i]) == table_number(column, row, 0)) return true;
    return false;
}

static void check_values(struct checking *c, const struct mbl_json *v) {
    struct mbl_buf scratch = {0};
    for (size_t i = 0; v->type == MBL_JSON_TABLE && i < v->count; i++) {
        const struct column *column = column_of(c, "values", v->keys[i]);
        struct breach rows = {0};
        if (!column) continue;
        if (column_is_text(column) || column->width > 1) {
            broken(c, "expect.values: column %s holds neither categories nor single numbers", column->name);
            continue;
        }
        for (size_t k = 0; k < c->kept->count; k++) {
            size_t row = c->kept->at[k];
            char value[120];
            if (table_is_missing(column, row) || has_value(v->items[i], column, row, &scratch)) continue;
            table_value(column, row, value, sizeof value);
            breach_add(&rows, c->t, row, "%s is %s", column->name, value);
        }
        breach_end(&rows, "expect.values", &c->out);
    }
    mbl_buf_free(&scratch);
}

static void check_missing(struct checking *c, const struct mbl_json *v) {
    double most = mbl_json_get_float(v, "max", 1);
    for (size_t i = 0; i < c->t->column_count; i++) {
        const struct column *column = &c->t->columns[i];
        struct breach rows = {0};
        for (size_t row = 0; row < c->t->rows; row++)
            if (table_is_missing(column, row)) breach_add(&rows, c->t, row, "%s is missing", column->name);
        if ((double)rows.count <= most * (double)c->t->rows) {
            mbl_buf_free(&rows.lines);
            continue;
        }
        char what[200];
        snprintf(what, sizeof what, "expect.missing: %.2f %% of column %.60s, at most %.2f %% expected",
                 100 * (double)rows.count / (double)c->t->rows, column->name, 100 * most);
        breach_end(&rows, what, &c->out);
    }
}

struct keyed {
    const struct column *column;
    size_t row;
};

static int compare_values(const struct keyed *x, const struct keyed *y) {
    const struct column *c = x->column;
    int order = 0;
    if (c->kind == MBL_CATEGORY) {
        order = (c->codes[x->row] > c->codes[y->row]) - (c->codes[x->row] < c->codes[y->row]);
    } else if (column_is_text(c)) {
        size_t m = (size_t)(c->offsets[x->row + 1] - c->offsets[x->row]), n = (size_t)(c->offsets[y->row + 1] - c->offsets[y->row]);
        const char *text = mbl_buf_str(&c->text);
        order = memcmp(text + c->offsets[x->row], text + c->offsets[y->row], m < n ? m : n);
        if (!order) order = (m > n) - (m < n);
    } else {
        for (size_t k = 0; k < c->width && !order; k++) {
            float v = table_number(c, x->row, k), w = table_number(c, y->row, k);
            order = isnan(v) || isnan(w) ? (isnan(w) != 0) - (isnan(v) != 0) : (v > w) - (v < w);
        }
    }
    return order;
}

static int by_value(const void *a, const void *b) {
    const struct keyed *x = a, *y = b;
    int order = compare_values(x, y);
    return order ? order : (x->row > y->row) - (x->row < y->row);
}

static void check_unique(struct checking *c, const struct mbl_json *v) {
    struct keyed *order = mbl_alloc(c->kept->count * sizeof *order);
    for (size_t i = 0; i < v->count; i++) {
        const struct column *column = column_of(c, "unique", v->items[i]->string);
        struct breach rows = {0};
        if (!column) continue;
        for (size_t k = 0; k < c->kept->count; k++) order[k] = (struct keyed){column, c->kept->at[k]};
        qsort(order, c->kept->count, sizeof *order, by_value);
        for (size_t k = 1; k < c->kept->count; k++) {
            char value[120];
            if (compare_values(&order[k - 1], &order[k]) || table_is_missing(column, order[k].row)) continue;
            table_value(column, order[k].row, value, sizeof value);
            breach_add(&rows, c->t, order[k].row, "%s is %s, as in line %lld", column->name, value,
                       (long long)c->t->lines[order[k - 1].row]);
        }
        breach_end(&rows, "expect.unique", &c->out);
    }
    free(order);
}

static void check_balance(struct checking *c, const struct mbl_json *v) {
    const struct column *label = table_label(c->t);
    if (!label || label->kind == MBL_NUMERIC) {
        broken(c, "expect.balance: the dataset has no classes");
        return;
    }
    size_t n = label->dictionary.count, least = 0, most = 0, *counts = mbl_alloc(n * sizeof *counts);
    for (size_t i = 0; i < c->kept->count; i++) {
        size_t first, end;
        codes_of(label, c->kept->at[i], &first, &end);
        for (size_t k = first; k < end; k++) counts[label->codes[k]]++;
    }
    for (size_t i = 1; i < n; i++) {
        if (counts[i] < counts[least]) least = i;
        if (counts[i] > counts[most]) most = i;
    }
    if ((double)counts[least] < mbl_json_number(v) * (double)counts[most])
        broken(c, "expect.balance: class \"%s\" has %zu %s, \"%s\" has %zu; at least %g of that are expected",
               label->dictionary.names[least], counts[least], label->kind == MBL_WORDS ? "words" : "rows", label->dictionary.names[most],
               counts[most], mbl_json_number(v));
    free(counts);
}

static const struct {
    const char *name;
    void (*check)(struct checking *, const struct mbl_json *);
} expectations[] = {{"rows", check_rows},     {"columns", check_columns}, {"features", check_features}, {"classes", check_classes},
                    {"range", check_range},   {"ranges", check_ranges},   {"values", check_values},     {"missing", check_missing},
                    {"unique", check_unique}, {"balance", check_balance}};

int expect_hold(const struct table *t, const struct mbl_json *expect, const struct rows *kept, struct mbl_error *e) {
    struct checking c = {.t = t, .kept = kept};
    for (size_t i = 0; i < sizeof expectations / sizeof *expectations; i++) {
        const struct mbl_json *v = mbl_json_get(expect, expectations[i].name);
        if (v) expectations[i].check(&c, v);
    }
    int failed = c.out.len ? mbl_error_set(e, "%s", c.out.data) : 0;
    mbl_buf_free(&c.out);
    return failed;
}
