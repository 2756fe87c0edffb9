/* value.c: parameter values and canonical JSON; see value.h. */
#include "value.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VALUE_DEPTH 64
/* Beyond this an integral float is not written as an integer: binary64 counts exactly only up to 2^53. */
#define VALUE_EXACT 9007199254740992.0

/* -- writing */

/* Length of the valid UTF-8 sequence at s (RFC 3629), or 0. */
static size_t utf8_length(const unsigned char *s) {
    if (s[0] < 0x80) return 1;
    if (s[0] >= 0xc2 && s[0] <= 0xdf) return (s[1] & 0xc0) == 0x80 ? 2 : 0;
    if ((s[0] & 0xf0) == 0xe0) {
        if ((s[1] & 0xc0) != 0x80 || (s[2] & 0xc0) != 0x80) return 0;
        if (s[0] == 0xe0 && s[1] < 0xa0) return 0;
        if (s[0] == 0xed && s[1] > 0x9f) return 0;
        return 3;
    }
    if (s[0] >= 0xf0 && s[0] <= 0xf4) {
        if ((s[1] & 0xc0) != 0x80 || (s[2] & 0xc0) != 0x80 || (s[3] & 0xc0) != 0x80) return 0;
        if (s[0] == 0xf0 && s[1] < 0x90) return 0;
        if (s[0] == 0xf4 && s[1] > 0x8f) return 0;
        return 4;
    }
    return 0;
}

void value_write_string(const char *s, struct buf *out) {
    buf_addc(out, '"');
    const char *plain = s; /* start of the bytes that can go out as they are */
    for (; *s;) {
        unsigned char c = (unsigned char)*s;
        size_t n = utf8_length((const unsigned char *)s);
        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f && n) {
            s += n;
            continue;
        }
        buf_add(out, plain, (size_t)(s - plain));
        if (!n)
            buf_adds(out, "\xef\xbf\xbd");
        else if (c == '"' || c == '\\')
            buf_addf(out, "\\%c", c);
        else if (c == '\n')
            buf_adds(out, "\\n");
        else if (c == '\t')
            buf_adds(out, "\\t");
        else
            buf_addf(out, "\\u%04x", c);
        plain = ++s;
    }
    buf_add(out, plain, (size_t)(s - plain));
    buf_addc(out, '"');
}

static void write_number(double d, struct buf *out) {
    if (d == floor(d) && fabs(d) <= VALUE_EXACT) {
        buf_addf(out, "%lld", (long long)d);
        return;
    }
    char text[32];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, d);
        if (strtod(text, NULL) == d) break;
    }
    buf_adds(out, text);
}

void value_write(const struct value *v, struct buf *out) {
    switch (v->type) {
    case VALUE_NONE: buf_adds(out, "null"); break;
    case VALUE_BOOL: buf_adds(out, v->boolean ? "true" : "false"); break;
    case VALUE_INT: buf_addf(out, "%lld", (long long)v->integer); break;
    case VALUE_FLOAT: write_number(v->number, out); break;
    case VALUE_STRING: value_write_string(v->string, out); break;
    case VALUE_LIST:
        buf_addc(out, '[');
        for (uint32_t i = 0; i < v->count; i++) {
            if (i) buf_addc(out, ',');
            value_write(&v->items[i], out);
        }
        buf_addc(out, ']');
        break;
    case VALUE_TABLE:
        buf_addc(out, '{');
        for (uint32_t i = 0; i < v->count; i++) {
            if (i) buf_addc(out, ',');
            value_write_string(v->keys[i], out);
            buf_addc(out, ':');
            value_write(&v->items[i], out);
        }
        buf_addc(out, '}');
        break;
    }
}

/* -- reading */

struct parser {
    const char *text;
    size_t at, length;
    struct arena *arena;
    struct err *e;
};

static int parse_fail(struct parser *p, const char *what) {
    return err_set(p->e, "JSON at byte %zu: %s", p->at, what);
}

static void skip_space(struct parser *p) {
    while (p->at < p->length && strchr(" \t\r\n", p->text[p->at]) && p->text[p->at]) p->at++;
}

static int peek(struct parser *p) {
    return p->at < p->length ? (unsigned char)p->text[p->at] : -1;
}

static int parse_hex4(struct parser *p, unsigned *out) {
    *out = 0;
    for (int i = 0; i < 4; i++, p->at++) {
        int c = peek(p);
        unsigned digit;
        if (c >= '0' && c <= '9') digit = (unsigned)(c - '0');
        else if (c >= 'a' && c <= 'f') digit = (unsigned)(c - 'a' + 10);
        else if (c >= 'A' && c <= 'F') digit = (unsigned)(c - 'A' + 10);
        else return parse_fail(p, "four hex digits expected after \\u");
        *out = *out * 16 + digit;
    }
    return 0;
}

static void add_code_point(struct buf *b, unsigned c) {
    if (c < 0x80) {
        buf_addc(b, (char)c);
    } else if (c < 0x800) {
        buf_addc(b, (char)(0xc0 | c >> 6));
        buf_addc(b, (char)(0x80 | (c & 0x3f)));
    } else if (c < 0x10000) {
        buf_addc(b, (char)(0xe0 | c >> 12));
        buf_addc(b, (char)(0x80 | (c >> 6 & 0x3f)));
        buf_addc(b, (char)(0x80 | (c & 0x3f)));
    } else {
        buf_addc(b, (char)(0xf0 | c >> 18));
        buf_addc(b, (char)(0x80 | (c >> 12 & 0x3f)));
        buf_addc(b, (char)(0x80 | (c >> 6 & 0x3f)));
        buf_addc(b, (char)(0x80 | (c & 0x3f)));
    }
}

static int parse_unicode_escape(struct parser *p, struct buf *b) {
    unsigned c, low;
    if (parse_hex4(p, &c)) return -1;
    if (c == 0) return parse_fail(p, "a string may not hold NUL");
    if (c >= 0xd800 && c < 0xdc00) { /* RFC 8259 section 7: a surrogate pair */
        if (peek(p) != '\\' || p->at + 1 >= p->length || p->text[p->at + 1] != 'u')
            return parse_fail(p, "a low surrogate is missing");
        p->at += 2;
        if (parse_hex4(p, &low)) return -1;
        if (low < 0xdc00 || low > 0xdfff) return parse_fail(p, "a low surrogate is missing");
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    } else if (c >= 0xdc00 && c < 0xe000) {
        return parse_fail(p, "a low surrogate without a high one");
    }
    add_code_point(b, c);
    return 0;
}

static int parse_escape(struct parser *p, struct buf *b) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    int c = peek(p);
    p->at++;
    if (c == 'u') return parse_unicode_escape(p, b);
    const char *hit = c > 0 ? strchr(from, c) : NULL;
    if (!hit) return parse_fail(p, "unknown escape in a string");
    buf_addc(b, to[hit - from]);
    return 0;
}

static int parse_character(struct parser *p, struct buf *b) {
    unsigned char ahead[4] = {0}; /* the text may end in the middle of a character */
    size_t left = p->length - p->at;
    memcpy(ahead, p->text + p->at, left < sizeof ahead ? left : sizeof ahead);
    size_t n = utf8_length(ahead);
    if (!n) return parse_fail(p, "bytes in a string that are not UTF-8");
    buf_add(b, ahead, n);
    p->at += n;
    return 0;
}

static int parse_string(struct parser *p, const char **out, uint32_t *length) {
    struct buf b = {0};
    p->at++;
    for (;;) {
        int c = peek(p);
        if (c < 0) {
            parse_fail(p, "the string has no end");
            goto fail;
        }
        if (c == '"') break;
        if (c < 0x20) {
            parse_fail(p, "a control character in a string");
            goto fail;
        }
        if (c == '\\') {
            p->at++;
            if (parse_escape(p, &b)) goto fail;
        } else if (parse_character(p, &b)) {
            goto fail;
        }
    }
    p->at++;
    *out = arena_strndup(p->arena, buf_str(&b), b.len);
    *length = (uint32_t)b.len;
    buf_free(&b);
    return 0;
fail:
    buf_free(&b);
    return -1;
}

static int parse_number(struct parser *p, struct value *v) {
    size_t start = p->at;
    bool integral = true;
    if (peek(p) == '-') p->at++;
    if (peek(p) == '0') {
        p->at++;
    } else if (peek(p) >= '1' && peek(p) <= '9') {
        while (peek(p) >= '0' && peek(p) <= '9') p->at++;
    } else {
        return parse_fail(p, "a value expected");
    }
    if (peek(p) == '.') {
        integral = false;
        p->at++;
        if (peek(p) < '0' || peek(p) > '9') return parse_fail(p, "a digit expected after the point");
        while (peek(p) >= '0' && peek(p) <= '9') p->at++;
    }
    if (peek(p) == 'e' || peek(p) == 'E') {
        integral = false;
        p->at++;
        if (peek(p) == '+' || peek(p) == '-') p->at++;
        if (peek(p) < '0' || peek(p) > '9') return parse_fail(p, "a digit expected in the exponent");
        while (peek(p) >= '0' && peek(p) <= '9') p->at++;
    }
    char text[512];
    size_t n = p->at - start;
    if (n >= sizeof text) return parse_fail(p, "a number of more than 511 characters");
    memcpy(text, p->text + start, n);
    text[n] = 0;
    errno = 0;
    if (integral) {
        v->type = VALUE_INT;
        v->integer = strtoll(text, NULL, 10);
        if (!errno) return 0;
    }
    v->type = VALUE_FLOAT;
    v->number = strtod(text, NULL);
    if (!isfinite(v->number)) return parse_fail(p, "a number too large");
    return 0;
}

static int parse_value(struct parser *p, struct value *v, int depth);

static int compare_keys(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int value_sort(struct value *table, const char **twin) {
    struct entry {
        const char *key;
        struct value item;
    } *entries = mem_alloc(table->count * sizeof *entries);
    for (uint32_t i = 0; i < table->count; i++) entries[i] = (struct entry){table->keys[i], table->items[i]};
    qsort(entries, table->count, sizeof *entries, compare_keys); /* the key is the first field */
    int status = 0;
    for (uint32_t i = 0; i < table->count; i++) {
        table->keys[i] = entries[i].key;
        table->items[i] = entries[i].item;
        if (i && !strcmp(entries[i - 1].key, entries[i].key)) {
            *twin = entries[i].key;
            status = -1;
        }
    }
    free(entries);
    return status;
}

/* The members of a list or table, gathered in growing arrays and then moved to the arena. */
static int parse_members(struct parser *p, struct value *v, int depth) {
    bool table = v->type == VALUE_TABLE;
    char close = table ? '}' : ']';
    struct value *items = NULL;
    const char **keys = NULL;
    uint32_t cap = 0, key_cap = 0, count = 0;
    int status = -1;
    p->at++;
    skip_space(p);
    while (peek(p) != close) {
        if (count) {
            if (peek(p) != ',') {
                parse_fail(p, table ? "',' or '}' expected" : "',' or ']' expected");
                goto out;
            }
            p->at++;
            skip_space(p);
        }
        items = mem_grow(items, &cap, count + 1, sizeof *items);
        if (table) {
            uint32_t length;
            keys = mem_grow(keys, &key_cap, count + 1, sizeof *keys);
            if (peek(p) != '"') {
                parse_fail(p, "a key in double quotes expected");
                goto out;
            }
            if (parse_string(p, &keys[count], &length)) goto out;
            skip_space(p);
            if (peek(p) != ':') {
                parse_fail(p, "':' expected");
                goto out;
            }
            p->at++;
        }
        if (parse_value(p, &items[count], depth + 1)) goto out;
        count++;
        skip_space(p);
    }
    p->at++;
    v->count = count;
    v->items = arena_alloc(p->arena, count * sizeof *items);
    if (count) memcpy(v->items, items, count * sizeof *items);
    if (table) {
        const char *twin;
        v->keys = arena_alloc(p->arena, count * sizeof *keys);
        if (count) memcpy(v->keys, keys, count * sizeof *keys);
        if (value_sort(v, &twin)) {
            err_set(p->e, "JSON at byte %zu: the key \"%s\" stands twice in one table", p->at, twin);
            goto out;
        }
    }
    status = 0;
out:
    free(items);
    free(keys);
    return status;
}

static int parse_word(struct parser *p, const char *word) {
    size_t n = strlen(word);
    if (p->length - p->at < n || memcmp(p->text + p->at, word, n)) return parse_fail(p, "a value expected");
    p->at += n;
    return 0;
}

static int parse_value(struct parser *p, struct value *v, int depth) {
    memset(v, 0, sizeof *v);
    if (depth > VALUE_DEPTH) return parse_fail(p, "more than 64 levels");
    skip_space(p);
    switch (peek(p)) {
    case '{': v->type = VALUE_TABLE; return parse_members(p, v, depth);
    case '[': v->type = VALUE_LIST; return parse_members(p, v, depth);
    case '"': v->type = VALUE_STRING; return parse_string(p, &v->string, &v->count);
    case 't': v->type = VALUE_BOOL; v->boolean = true; return parse_word(p, "true");
    case 'f': v->type = VALUE_BOOL; return parse_word(p, "false");
    case 'n': return parse_word(p, "null");
    default: return parse_number(p, v);
    }
}

int value_parse(const char *text, size_t length, struct arena *arena, struct value *out, struct err *e) {
    struct parser p = {.text = text, .length = length, .arena = arena, .e = e};
    if (parse_value(&p, out, 0)) return -1;
    skip_space(&p);
    return p.at == length ? 0 : parse_fail(&p, "nothing more expected after the value");
}

/* -- access */

const struct value *value_get(const struct value *table, const char *key) {
    if (!table || table->type != VALUE_TABLE) return NULL;
    uint32_t low = 0, high = table->count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        int order = strcmp(key, table->keys[middle]);
        if (!order) return &table->items[middle];
        if (order < 0) high = middle;
        else low = middle + 1;
    }
    return NULL;
}

const char *value_get_string(const struct value *table, const char *key) {
    const struct value *v = value_get(table, key);
    return v && v->type == VALUE_STRING ? v->string : NULL;
}

int64_t value_get_int(const struct value *table, const char *key, int64_t otherwise) {
    const struct value *v = value_get(table, key);
    return v && v->type == VALUE_INT ? v->integer : otherwise;
}

double value_number(const struct value *v) {
    return v->type == VALUE_INT ? (double)v->integer : v->number;
}

double value_get_float(const struct value *table, const char *key, double otherwise) {
    const struct value *v = value_get(table, key);
    return v && (v->type == VALUE_INT || v->type == VALUE_FLOAT) ? value_number(v) : otherwise;
}

const struct value *value_at(const struct value *root, const char *path) {
    const struct value *v = root;
    while (v && *path) {
        if (*path == '[') {
            char *end;
            unsigned long i = strtoul(path + 1, &end, 10);
            if (*end != ']' || v->type != VALUE_LIST || i >= v->count) return NULL;
            v = &v->items[i];
            path = end + 1;
        } else {
            if (*path == '.') path++;
            size_t n = strcspn(path, ".[");
            char key[256];
            if (!n || n >= sizeof key) return NULL;
            memcpy(key, path, n);
            key[n] = 0;
            v = value_get(v, key);
            path += n;
        }
    }
    return v;
}

bool value_equal(const struct value *a, const struct value *b) {
    bool numbers = (a->type == VALUE_INT || a->type == VALUE_FLOAT) && (b->type == VALUE_INT || b->type == VALUE_FLOAT);
    if (numbers && a->type != b->type) return value_number(a) == value_number(b);
    if (a->type != b->type) return false;
    switch (a->type) {
    case VALUE_NONE: return true;
    case VALUE_BOOL: return a->boolean == b->boolean;
    case VALUE_INT: return a->integer == b->integer;
    case VALUE_FLOAT: return a->number == b->number;
    case VALUE_STRING: return !strcmp(a->string, b->string);
    case VALUE_LIST:
    case VALUE_TABLE:
        if (a->count != b->count) return false;
        for (uint32_t i = 0; i < a->count; i++) {
            if (a->type == VALUE_TABLE && strcmp(a->keys[i], b->keys[i])) return false;
            if (!value_equal(&a->items[i], &b->items[i])) return false;
        }
        return true;
    }
    return false;
}
