/* json.c: JSON trees: looking, building and canonical writing; see json.h. json_parse.c reads text. */
#include "json_private.h"
#include "files.h"
#include "utf8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Beyond this an integral float is not written as an integer: binary64 counts exactly only up to 2^53. */
#define JSON_EXACT 9007199254740992.0

/* -- looking */

struct mbl_json *mbl_json_get(const struct mbl_json *table, const char *key) {
    if (!table || table->type != MBL_JSON_TABLE) return NULL;
    for (size_t i = 0; i < table->count; i++)
        if (!strcmp(table->keys[i], key)) return table->items[i];
    return NULL;
}

const char *mbl_json_get_string(const struct mbl_json *table, const char *key) {
    const struct mbl_json *v = mbl_json_get(table, key);
    return v && v->type == MBL_JSON_STRING ? v->string : NULL;
}

int64_t mbl_json_get_int(const struct mbl_json *table, const char *key, int64_t otherwise) {
    const struct mbl_json *v = mbl_json_get(table, key);
    if (v && v->type == MBL_JSON_INT) return v->integer;
    if (v && v->type == MBL_JSON_FLOAT && v->number == floor(v->number) && fabs(v->number) <= JSON_EXACT) return (int64_t)v->number;
    return otherwise;
}

double mbl_json_get_float(const struct mbl_json *table, const char *key, double otherwise) {
    const struct mbl_json *v = mbl_json_get(table, key);
    return v && mbl_json_is_number(v) ? mbl_json_number(v) : otherwise;
}

bool mbl_json_get_bool(const struct mbl_json *table, const char *key, bool otherwise) {
    const struct mbl_json *v = mbl_json_get(table, key);
    return v && v->type == MBL_JSON_BOOL ? v->boolean : otherwise;
}

bool mbl_json_is_number(const struct mbl_json *v) {
    return v && (v->type == MBL_JSON_INT || v->type == MBL_JSON_FLOAT);
}

double mbl_json_number(const struct mbl_json *v) {
    if (!mbl_json_is_number(v)) return NAN;
    return v->type == MBL_JSON_INT ? (double)v->integer : v->number;
}

const char *mbl_json_type_name(enum mbl_json_type type) {
    static const char *const names[] = {"null", "true or false", "a number", "a number", "a string", "a list", "a table"};
    return names[type];
}

/* -- building */

static struct mbl_json *json_new(struct mbl_arena *a, enum mbl_json_type type) {
    struct mbl_json *v = mbl_arena_alloc(a, sizeof *v);
    v->type = type;
    return v;
}

struct mbl_json *mbl_json_null(struct mbl_arena *a) {
    return json_new(a, MBL_JSON_NULL);
}

struct mbl_json *mbl_json_bool(struct mbl_arena *a, bool b) {
    struct mbl_json *v = json_new(a, MBL_JSON_BOOL);
    v->boolean = b;
    return v;
}

struct mbl_json *mbl_json_int(struct mbl_arena *a, int64_t i) {
    struct mbl_json *v = json_new(a, MBL_JSON_INT);
    v->integer = i;
    return v;
}

struct mbl_json *mbl_json_float(struct mbl_arena *a, double d) {
    struct mbl_json *v = json_new(a, MBL_JSON_FLOAT);
    v->number = d;
    return v;
}

struct mbl_json *mbl_json_float32(struct mbl_arena *a, float f) {
    char text[32];
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)f);
        if (strtof(text, NULL) == f) break;
    }
    return mbl_json_float(a, isfinite(f) ? strtod(text, NULL) : (double)f);
}

struct mbl_json *mbl_json_string(struct mbl_arena *a, const char *s) {
    struct mbl_json *v = json_new(a, MBL_JSON_STRING);
    v->count = strlen(s);
    v->string = mbl_arena_strndup(a, s, v->count);
    return v;
}

struct mbl_json *mbl_json_list(struct mbl_arena *a) {
    return json_new(a, MBL_JSON_LIST);
}

struct mbl_json *mbl_json_table(struct mbl_arena *a) {
    return json_new(a, MBL_JSON_TABLE);
}

void mbl_json_add(struct mbl_arena *a, struct mbl_json *v, const char *key, struct mbl_json *item) {
    if (v->count == v->cap) {
        size_t cap = v->cap ? v->cap * 2 : 4;
        struct mbl_json **items = mbl_arena_alloc(a, cap * sizeof *items);
        if (v->count) memcpy(items, v->items, v->count * sizeof *items);
        v->items = items;
        if (v->type == MBL_JSON_TABLE) {
            const char **keys = mbl_arena_alloc(a, cap * sizeof *keys);
            if (v->count) memcpy(keys, v->keys, v->count * sizeof *keys);
            v->keys = keys;
        }
        v->cap = cap;
    }
    v->items[v->count] = item;
    if (v->type == MBL_JSON_TABLE) v->keys[v->count] = key;
    v->count++;
}

void mbl_json_push(struct mbl_arena *a, struct mbl_json *list, struct mbl_json *v) {
    mbl_json_add(a, list, NULL, v);
}

void mbl_json_set(struct mbl_arena *a, struct mbl_json *table, const char *key, struct mbl_json *v) {
    for (size_t i = 0; i < table->count; i++) {
        if (strcmp(table->keys[i], key)) continue;
        table->items[i] = v;
        return;
    }
    mbl_json_add(a, table, mbl_arena_strdup(a, key), v);
}

/* -- writing */

void mbl_json_write_string(const char *s, size_t n, struct mbl_buf *out) {
    size_t plain = 0; /* start of the bytes that can go out as they are */
    mbl_buf_addc(out, '"');
    for (size_t i = 0; i < n;) {
        unsigned char c = (unsigned char)s[i];
        size_t length = mbl_utf8_length(s + i, n - i);
        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f && length) {
            i += length;
            continue;
        }
        mbl_buf_add(out, s + plain, i - plain);
        if (!length) mbl_buf_adds(out, "\xef\xbf\xbd");
        else if (c == '"' || c == '\\') mbl_buf_addf(out, "\\%c", c);
        else if (c == '\n') mbl_buf_adds(out, "\\n");
        else if (c == '\t') mbl_buf_adds(out, "\\t");
        else mbl_buf_addf(out, "\\u%04x", c);
        plain = ++i;
    }
    mbl_buf_add(out, s + plain, n - plain);
    mbl_buf_addc(out, '"');
}

static void json_write_float(double d, struct mbl_buf *out) {
    char text[32];
    if (!isfinite(d)) {
        mbl_buf_adds(out, "null");
        return;
    }
    if (d == floor(d) && fabs(d) <= JSON_EXACT) {
        mbl_buf_addf(out, "%lld", (long long)d);
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, d);
        if (strtod(text, NULL) == d) break;
    }
    mbl_buf_adds(out, text);
}

struct entry {
    const char *key;
    const struct mbl_json *value;
};

static int entry_compare(const void *a, const void *b) {
    return strcmp(((const struct entry *)a)->key, ((const struct entry *)b)->key);
}

static bool json_is_plain(const struct mbl_json *v) {
    return v->type < MBL_JSON_LIST || v->count == 0;
}

static void json_write_level(const struct mbl_json *v, int style, int level, struct mbl_buf *out);

static void json_break(int style, int level, struct mbl_buf *out) {
    if (style == MBL_JSON_COMPACT) return;
    mbl_buf_addf(out, "\n%*s", level * style, "");
}

static void json_write_list(const struct mbl_json *v, int style, int level, struct mbl_buf *out) {
    bool flat = true;
    for (size_t i = 0; i < v->count; i++) flat = flat && json_is_plain(v->items[i]);
    mbl_buf_addc(out, '[');
    for (size_t i = 0; i < v->count; i++) {
        if (i) mbl_buf_adds(out, flat && style != MBL_JSON_COMPACT ? ", " : ",");
        if (!flat) json_break(style, level + 1, out);
        json_write_level(v->items[i], style, level + 1, out);
    }
    if (!flat) json_break(style, level, out);
    mbl_buf_addc(out, ']');
}

static void json_write_table(const struct mbl_json *v, int style, int level, struct mbl_buf *out) {
    struct entry *entries = mbl_alloc(v->count * sizeof *entries);
    for (size_t i = 0; i < v->count; i++) entries[i] = (struct entry){v->keys[i], v->items[i]};
    if (v->count) qsort(entries, v->count, sizeof *entries, entry_compare);
    mbl_buf_addc(out, '{');
    for (size_t i = 0; i < v->count; i++) {
        if (i) mbl_buf_addc(out, ',');
        json_break(style, level + 1, out);
        mbl_json_write_string(entries[i].key, strlen(entries[i].key), out);
        mbl_buf_adds(out, style == MBL_JSON_COMPACT ? ":" : ": ");
        json_write_level(entries[i].value, style, level + 1, out);
    }
    if (v->count) json_break(style, level, out);
    mbl_buf_addc(out, '}');
    free(entries);
}

static void json_write_level(const struct mbl_json *v, int style, int level, struct mbl_buf *out) {
    switch (v->type) {
    case MBL_JSON_NULL: mbl_buf_adds(out, "null"); break;
    case MBL_JSON_BOOL: mbl_buf_adds(out, v->boolean ? "true" : "false"); break;
    case MBL_JSON_INT: mbl_buf_addf(out, "%lld", (long long)v->integer); break;
    case MBL_JSON_FLOAT: json_write_float(v->number, out); break;
    case MBL_JSON_STRING: mbl_json_write_string(v->string, v->count, out); break;
    case MBL_JSON_LIST: json_write_list(v, style, level, out); break;
    case MBL_JSON_TABLE: json_write_table(v, style, level, out); break;
    }
}

void mbl_json_write(const struct mbl_json *v, int style, struct mbl_buf *out) {
    json_write_level(v, style, 0, out);
    if (style != MBL_JSON_COMPACT) mbl_buf_addc(out, '\n');
}

int mbl_json_save(const char *path, const struct mbl_json *v, struct mbl_error *e) {
    struct mbl_buf text = {0};
    mbl_json_write(v, MBL_JSON_INDENTED, &text);
    int failed = mbl_file_write(path, text.data, text.len, e);
    mbl_buf_free(&text);
    return failed;
}
