/* table.c: rows in memory; see table.h. */
#include "table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* -- dictionaries: open addressing; slots hold code + 1 */

static uint64_t hash_bytes(const char *s, size_t n) { /* FNV-1a */
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 0x100000001b3u;
    return h ^ h >> 29;
}

static size_t *dictionary_slot(const struct dictionary *d, const char *s, size_t n) {
    size_t mask = d->slot_count - 1, i = (size_t)hash_bytes(s, n) & mask;
    while (d->slots[i]) {
        const char *name = d->names[d->slots[i] - 1];
        if (!strncmp(name, s, n) && !name[n]) break;
        i = (i + 1) & mask;
    }
    return &d->slots[i];
}

size_t dictionary_add(struct dictionary *d, const char *s, size_t n) {
    if (d->count * 2 >= d->slot_count) {
        free(d->slots);
        d->slot_count = d->slot_count ? d->slot_count * 2 : 64;
        d->slots = mbl_alloc(d->slot_count * sizeof *d->slots);
        for (size_t i = 0; i < d->count; i++) *dictionary_slot(d, d->names[i], strlen(d->names[i])) = i + 1;
    }
    size_t *slot = dictionary_slot(d, s, n);
    if (*slot) return *slot - 1;
    d->names = mbl_grow(d->names, &d->cap, d->count + 1, sizeof *d->names);
    d->names[d->count++] = mbl_arena_strndup(&d->arena, s, n);
    *slot = d->count;
    return d->count - 1;
}

size_t dictionary_find(const struct dictionary *d, const char *s, size_t n) {
    return d->slot_count ? *dictionary_slot(d, s, n) - 1 : SIZE_MAX; /* a free slot holds 0 */
}

void dictionary_free(struct dictionary *d) {
    free(d->names);
    free(d->slots);
    mbl_arena_free(&d->arena);
    *d = (struct dictionary){0};
}

/* -- the table */

void table_free(struct table *t) {
    for (size_t i = 0; i < t->column_count; i++) {
        struct column *c = &t->columns[i];
        free(c->numbers);
        free(c->codes);
        free(c->offsets);
        free(c->starts);
        free(c->missing);
        mbl_buf_free(&c->text);
        dictionary_free(&c->dictionary);
    }
    free(t->lines);
    mbl_buf_free(&t->data[0]);
    mbl_buf_free(&t->data[1]);
    mbl_arena_free(&t->arena);
    *t = (struct table){0};
}

struct column *table_find(const struct table *t, const char *name) {
    for (size_t i = 0; i < t->column_count; i++)
        if (!strcmp(t->columns[i].name, name)) return &t->columns[i];
    return NULL;
}

struct column *table_label(const struct table *t) {
    for (size_t i = 0; i < t->column_count; i++)
        if (t->columns[i].is_label) return &t->columns[i];
    return NULL;
}

struct column *table_words(const struct table *t) {
    for (size_t i = 0; i < t->column_count; i++)
        if (t->columns[i].kind == MBL_WORDS && !t->columns[i].is_label) return &t->columns[i];
    return NULL;
}

const char *table_file(const struct table *t, size_t row) {
    size_t i = t->file_count;
    while (i > 1 && t->file_starts[i - 1] > row) i--;
    return t->files[i - 1];
}

float table_number(const struct column *c, size_t row, size_t k) {
    return c->bytes ? (float)c->bytes[row * c->width + k] : c->numbers[row * c->width + k];
}

bool table_is_missing(const struct column *c, size_t row) {
    if (c->kind == MBL_CATEGORY) return c->codes[row] < 0;
    if (column_is_text(c)) return c->missing && c->missing[row];
    if (c->bytes) return false;
    for (size_t k = 0; k < c->width; k++)
        if (isnan(c->numbers[row * c->width + k])) return true;
    return false;
}

void table_value(const struct column *c, size_t row, char *out, size_t size) {
    if (table_is_missing(c, row)) {
        snprintf(out, size, "missing");
    } else if (c->kind == MBL_NUMERIC) {
        snprintf(out, size, c->width > 1 ? "%.9g, \xe2\x80\xa6" : "%.9g", (double)table_number(c, row, 0));
    } else {
        const char *s = c->kind == MBL_CATEGORY ? c->dictionary.names[c->codes[row]] : mbl_buf_str(&c->text) + c->offsets[row];
        size_t n = c->kind == MBL_CATEGORY ? strlen(s) : (size_t)(c->offsets[row + 1] - c->offsets[row]);
        if (c->kind == MBL_WORDS && n) n--; /* the last word's end */
        size_t most = size - 6 < 60 ? size - 6 : 60, shown = n;
        if (n > most)
            for (shown = most; shown > 0 && ((unsigned char)s[shown] & 0xc0) == 0x80;) shown--;
        char text[61];
        for (size_t i = 0; i < shown; i++) text[i] = s[i] ? s[i] : ' ';
        snprintf(out, size, "\"%.*s%s\"", (int)shown, text, n > shown ? "\xe2\x80\xa6" : "");
    }
}

struct category {
    const char *name;
    double number;
    size_t code;
};

static int by_number(const void *a, const void *b) {
    const struct category *x = a, *y = b;
    if (x->number != y->number) return x->number < y->number ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct category *)a)->name, ((const struct category *)b)->name);
}

/* Leaves the names that are used, in order; moved[old code] becomes the new one. */
static void settle(struct dictionary *d, const bool *used, int32_t *moved) {
    struct category *order = mbl_alloc(d->count * sizeof *order);
    bool numbers = true;
    size_t count = 0;
    for (size_t i = 0; i < d->count; i++) {
        if (!used[i]) continue;
        order[count] = (struct category){.name = d->names[i], .code = i};
        numbers = table_parse_number(d->names[i], strlen(d->names[i]), &order[count++].number) && numbers;
    }
    if (count) qsort(order, count, sizeof *order, numbers ? by_number : by_name);
    for (size_t i = 0; i < count; i++) {
        d->names[i] = order[i].name;
        moved[order[i].code] = (int32_t)i;
    }
    d->count = count;
    free(d->slots); /* they hold the old codes; nothing is added any more */
    d->slots = NULL;
    d->slot_count = 0;
    free(order);
}

void table_settle_categories(struct column *c, size_t rows, const size_t *kept, size_t kept_count) {
    int32_t *moved = mbl_alloc(c->dictionary.count * sizeof *moved);
    bool *used = mbl_alloc(c->dictionary.count * sizeof *used);
    for (size_t i = 0; i < kept_count; i++)
        if (c->codes[kept[i]] >= 0) used[c->codes[kept[i]]] = true;
    settle(&c->dictionary, used, moved);
    for (size_t i = 0; i < rows; i++) /* what only dropped rows have goes anywhere, since nobody looks at it again */
        if (c->codes[i] >= 0) c->codes[i] = moved[c->codes[i]];
    free(moved);
    free(used);
}

void table_settle_tags(struct column *c, size_t rows, const size_t *kept, size_t kept_count, const char *const *fixed, size_t fixed_count) {
    const char *tag = mbl_buf_str(&c->text);
    size_t words = (size_t)c->starts[rows];
    for (size_t i = 0; i < fixed_count; i++) dictionary_add(&c->dictionary, fixed[i], strlen(fixed[i]));
    c->codes = mbl_alloc((words + 1) * sizeof *c->codes);
    for (size_t w = 0; w < words; w++, tag += strlen(tag) + 1)
        c->codes[w] = (int32_t)dictionary_add(&c->dictionary, tag, strlen(tag));
    if (fixed_count) return;
    int32_t *moved = mbl_alloc(c->dictionary.count * sizeof *moved);
    bool *used = mbl_alloc(c->dictionary.count * sizeof *used);
    for (size_t i = 0; i < kept_count; i++)
        for (int64_t w = c->starts[kept[i]]; w < c->starts[kept[i] + 1]; w++) used[c->codes[w]] = true;
    for (size_t i = 0; i < c->dictionary.count; i++) moved[i] = -1;
    settle(&c->dictionary, used, moved);
    for (size_t w = 0; w < words; w++) c->codes[w] = moved[c->codes[w]];
    free(moved);
    free(used);
}

/* Decimal text of at most 15 digits whose power of ten is exact in binary64 needs one correctly rounded operation (Clinger, PLDI 1990); the
 * rest goes to strtod. */
bool table_parse_number(const char *s, size_t n, double *out) {
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    const char *p = s, *end = s + n;
    while (p < end && (*p == ' ' || *p == '\t')) p++;
    while (end > p && (end[-1] == ' ' || end[-1] == '\t')) end--;
    const char *begin = p;
    bool negative = p < end && *p == '-';
    if (p < end && (*p == '-' || *p == '+')) p++;
    uint64_t digits = 0;
    int count = 0, seen = 0, scale = 0, exponent = 0;
    for (bool point = false; p < end; p++) {
        if (*p == '.' && !point) {
            point = true;
        } else if (*p >= '0' && *p <= '9') {
            seen = 1;
            if (digits || *p != '0') count++;
            if (count <= 15) digits = digits * 10 + (uint64_t)(*p - '0');
            if (point && scale < 1000) scale++;
        } else {
            break;
        }
    }
    if (!seen) return false;
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        bool down = p < end && *p == '-';
        if (p < end && (*p == '-' || *p == '+')) p++;
        if (p == end) return false;
        for (; p < end && *p >= '0' && *p <= '9'; p++)
            if (exponent < 100000) exponent = exponent * 10 + (*p - '0');
        if (down) exponent = -exponent;
    }
    if (p != end) return false;
    exponent -= scale;
    if (count <= 15 && exponent >= -22 && exponent <= 22) {
        double v = exponent < 0 ? (double)digits / powers[-exponent] : (double)digits * powers[exponent];
        *out = negative ? -v : v;
        return true;
    }
    char small[64], *copy = small;
    size_t length = (size_t)(end - begin);
    if (length >= sizeof small) copy = mbl_alloc(length + 1);
    memcpy(copy, begin, length);
    copy[length] = 0;
    *out = strtod(copy, NULL);
    if (copy != small) free(copy);
    return true;
}
