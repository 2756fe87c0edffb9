/* json_parse.c: JSON text to a tree (RFC 8259); see json.h. Nothing in the text is believed: depth, numbers, escapes and UTF-8 are checked.
 */
#include "files.h"
#include "json_private.h"
#include "utf8.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define JSON_DEPTH 64
#define JSON_MOST_BYTES ((size_t)256 << 20)

struct parser {
    const char *text, *name;
    size_t at, length;
    struct mbl_arena *arena;
    struct mbl_buf string; /* of the string that is being read */
    struct mbl_error *e;
};

static int parse_fail(struct parser *p, size_t at, const char *what) {
    size_t line = 1, column = 1;
    for (size_t i = 0; i < at && i < p->length; i++) {
        column++;
        if (p->text[i] == '\n') line++, column = 1;
    }
    return mbl_error_set(p->e, "%s:%zu:%zu: JSON: %s", p->name, line, column, what);
}

static int peek(const struct parser *p) {
    return p->at < p->length ? (unsigned char)p->text[p->at] : -1;
}

static void skip_space(struct parser *p) {
    for (int c; (c = peek(p)) == ' ' || c == '\t' || c == '\r' || c == '\n';) p->at++;
}

static int parse_hex4(struct parser *p, unsigned *out) {
    *out = 0;
    for (int i = 0; i < 4; i++, p->at++) {
        int c = peek(p);
        unsigned digit;
        if (c >= '0' && c <= '9') digit = (unsigned)(c - '0');
        else if (c >= 'a' && c <= 'f') digit = (unsigned)(c - 'a' + 10);
        else if (c >= 'A' && c <= 'F') digit = (unsigned)(c - 'A' + 10);
        else return parse_fail(p, p->at, "four hex digits expected after \\u");
        *out = *out * 16 + digit;
    }
    return 0;
}

static void add_code_point(struct mbl_buf *b, unsigned c) {
    if (c < 0x80) {
        mbl_buf_addc(b, (char)c);
    } else if (c < 0x800) {
        mbl_buf_addc(b, (char)(0xc0 | c >> 6));
        mbl_buf_addc(b, (char)(0x80 | (c & 0x3f)));
    } else if (c < 0x10000) {
        mbl_buf_addc(b, (char)(0xe0 | c >> 12));
        mbl_buf_addc(b, (char)(0x80 | (c >> 6 & 0x3f)));
        mbl_buf_addc(b, (char)(0x80 | (c & 0x3f)));
    } else {
        mbl_buf_addc(b, (char)(0xf0 | c >> 18));
        mbl_buf_addc(b, (char)(0x80 | (c >> 12 & 0x3f)));
        mbl_buf_addc(b, (char)(0x80 | (c >> 6 & 0x3f)));
        mbl_buf_addc(b, (char)(0x80 | (c & 0x3f)));
    }
}

/* RFC 8259 section 7: beyond U+FFFF an escape is a surrogate pair. */
static int parse_unicode_escape(struct parser *p) {
    unsigned c, low;
    if (parse_hex4(p, &c)) return -1;
    if (c == 0) return parse_fail(p, p->at, "a string may not hold NUL");
    if (c >= 0xdc00 && c < 0xe000) return parse_fail(p, p->at, "a low surrogate without a high one");
    if (c >= 0xd800 && c < 0xdc00) {
        if (peek(p) != '\\' || p->at + 1 >= p->length || p->text[p->at + 1] != 'u')
            return parse_fail(p, p->at, "a low surrogate is missing");
        p->at += 2;
        if (parse_hex4(p, &low)) return -1;
        if (low < 0xdc00 || low > 0xdfff) return parse_fail(p, p->at, "a low surrogate is missing");
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    add_code_point(&p->string, c);
    return 0;
}

static int parse_escape(struct parser *p) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    int c = peek(p);
    if (c == 'u') return p->at++, parse_unicode_escape(p);
    const char *hit = c > 0 ? strchr(from, c) : NULL;
    if (!hit) return parse_fail(p, p->at, "unknown escape in a string");
    mbl_buf_addc(&p->string, to[hit - from]);
    p->at++;
    return 0;
}

static int parse_string(struct parser *p, const char **out, size_t *length) {
    size_t begin = p->at++, plain = p->at; /* start of the bytes that are what they say */
    p->string.len = 0;
    for (;;) {
        int c = peek(p);
        if (c < 0) return parse_fail(p, begin, "the string that begins here has no end");
        if (c < 0x20) return parse_fail(p, p->at, "a control character in a string; it must be escaped");
        size_t n = mbl_utf8_length(p->text + p->at, p->length - p->at);
        if (!n) return parse_fail(p, p->at, "bytes that are not UTF-8");
        if (c != '"' && c != '\\') {
            p->at += n;
            continue;
        }
        mbl_buf_add(&p->string, p->text + plain, p->at++ - plain);
        if (c == '"') break;
        if (parse_escape(p)) return -1;
        plain = p->at;
    }
    *length = p->string.len;
    *out = mbl_arena_strndup(p->arena, mbl_buf_str(&p->string), p->string.len);
    return 0;
}

static void skip_digits(struct parser *p) {
    while (peek(p) >= '0' && peek(p) <= '9') p->at++;
}

static int parse_number(struct parser *p, struct mbl_json *out) {
    size_t begin = p->at;
    bool integral = true;
    if (peek(p) == '-') p->at++;
    if (peek(p) < '0' || peek(p) > '9') return parse_fail(p, p->at, "a digit expected");
    if (peek(p) == '0') p->at++;
    else skip_digits(p);
    if (peek(p) >= '0' && peek(p) <= '9') return parse_fail(p, begin, "a number may not begin with a zero");
    if (peek(p) == '.') {
        integral = false;
        p->at++;
        if (peek(p) < '0' || peek(p) > '9') return parse_fail(p, p->at, "a digit expected after the point");
        skip_digits(p);
    }
    if (peek(p) == 'e' || peek(p) == 'E') {
        integral = false;
        p->at++;
        if (peek(p) == '+' || peek(p) == '-') p->at++;
        if (peek(p) < '0' || peek(p) > '9') return parse_fail(p, p->at, "a digit expected in the exponent");
        skip_digits(p);
    }
    char small[64], *digits = small;
    size_t n = p->at - begin;
    if (n >= sizeof small) digits = mbl_alloc(n + 1);
    memcpy(digits, p->text + begin, n);
    digits[n] = 0;
    errno = 0;
    out->type = MBL_JSON_INT;
    if (integral) out->integer = strtoll(digits, NULL, 10);
    if (!integral || errno == ERANGE) {
        out->type = MBL_JSON_FLOAT;
        out->number = strtod(digits, NULL);
    }
    if (digits != small) free(digits);
    if (out->type == MBL_JSON_FLOAT && !isfinite(out->number)) return parse_fail(p, begin, "a number too large for binary64");
    return 0;
}

static int parse_word(struct parser *p, struct mbl_json *out) {
    static const struct {
        const char *word;
        enum mbl_json_type type;
        bool boolean;
    } words[] = {{"true", MBL_JSON_BOOL, true}, {"false", MBL_JSON_BOOL, false}, {"null", MBL_JSON_NULL, false}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t n = strlen(words[i].word);
        if (p->length - p->at < n || memcmp(p->text + p->at, words[i].word, n)) continue;
        p->at += n;
        out->type = words[i].type;
        out->boolean = words[i].boolean;
        return 0;
    }
    return parse_fail(p, p->at, peek(p) < 0 ? "the text ends where a value is expected" : "a value expected");
}

static int parse_value(struct parser *p, int depth, struct mbl_json **out);

static int key_compare(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int check_twins(struct parser *p, const struct mbl_json *table) {
    const char **keys = mbl_alloc(table->count * sizeof *keys);
    const char *twin = NULL;
    memcpy(keys, table->keys, table->count * sizeof *keys);
    qsort(keys, table->count, sizeof *keys, key_compare);
    for (size_t i = 1; i < table->count && !twin; i++)
        if (!strcmp(keys[i - 1], keys[i])) twin = keys[i];
    free(keys);
    if (!twin) return 0;
    char *what = mbl_printf("the table that begins here has the key \"%.200s\" twice", twin);
    parse_fail(p, table->offset, what);
    free(what);
    return -1;
}

/* A list's or a table's entries, after the opening bracket. */
static int parse_entries(struct parser *p, int depth, struct mbl_json *v) {
    bool table = v->type == MBL_JSON_TABLE;
    char end = table ? '}' : ']';
    p->at++;
    skip_space(p);
    if (peek(p) == end) return p->at++, 0;
    for (;;) {
        const char *key = NULL;
        struct mbl_json *item;
        skip_space(p);
        if (table) {
            size_t length;
            if (peek(p) != '"') return parse_fail(p, p->at, "a key in quotes expected");
            if (parse_string(p, &key, &length)) return -1;
            skip_space(p);
            if (peek(p) != ':') return parse_fail(p, p->at, "a colon expected after the key");
            p->at++;
        }
        if (parse_value(p, depth + 1, &item)) return -1;
        mbl_json_add(p->arena, v, key, item);
        skip_space(p);
        int c = peek(p);
        if (c != ',' && c != end) return parse_fail(p, p->at, table ? "a comma or } expected" : "a comma or ] expected");
        p->at++;
        if (c == end) return table ? check_twins(p, v) : 0;
    }
}

static int parse_value(struct parser *p, int depth, struct mbl_json **out) {
    skip_space(p);
    struct mbl_json *v = *out = mbl_arena_alloc(p->arena, sizeof *v);
    v->offset = p->at;
    if (depth > JSON_DEPTH) return parse_fail(p, p->at, "more than 64 levels deep");
    int c = peek(p);
    if (c == '{' || c == '[') {
        v->type = c == '{' ? MBL_JSON_TABLE : MBL_JSON_LIST;
        return parse_entries(p, depth, v);
    }
    if (c == '"') {
        v->type = MBL_JSON_STRING;
        return parse_string(p, &v->string, &v->count);
    }
    if (c == '-' || (c >= '0' && c <= '9')) return parse_number(p, v);
    return parse_word(p, v);
}

int mbl_json_parse(const char *text, size_t length, const char *name, struct mbl_arena *arena, struct mbl_json **out, struct mbl_error *e) {
    struct parser p = {.text = text, .name = name, .length = length, .arena = arena, .e = e};
    if (length >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) p.at = 3;
    int failed = parse_value(&p, 0, out);
    if (!failed) {
        skip_space(&p);
        if (p.at < p.length) failed = parse_fail(&p, p.at, "nothing more expected after the value");
    }
    mbl_buf_free(&p.string);
    return failed;
}

int mbl_json_read(const char *path, struct mbl_arena *arena, struct mbl_json **out, struct mbl_error *e) {
    struct mbl_buf text = {0};
    int failed = mbl_file_read(path, JSON_MOST_BYTES, &text, e);
    if (!failed) failed = mbl_json_parse(mbl_buf_str(&text), text.len, path, arena, out, e);
    mbl_buf_free(&text);
    return failed;
}
