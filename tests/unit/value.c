/* Values and their canonical JSON: equal values have equal text, text that RFC 8259 doesn't allow is refused where it goes wrong. */
#include "test.h"
#include "value.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct err e;
static struct arena arena; /* freed by each test that ends well, so that leaks show */

static int parse(const char *text, struct value *v) {
    char *exact = mem_alloc(strlen(text)); /* without a NUL, so that a sanitizer sees a read past the end */
    memcpy(exact, text, strlen(text));
    int status = value_parse(exact, strlen(text), &arena, v, &e);
    free(exact);
    return status;
}

static const char *canonical(const struct value *v) {
    struct buf b = {0};
    value_write(v, &b);
    const char *text = arena_strdup(&arena, buf_str(&b));
    buf_free(&b);
    return text;
}

static const char *rewrite(const char *text) {
    struct value v;
    CHECKF(!parse(text, &v), "%s: %s", text, e.text);
    return canonical(&v);
}

TEST("any way to write a value has one canonical text") {
    static const char *const rows[][2] = {{" null ", "null"},
                                          {"true", "true"},
                                          {"[ ]", "[]"},
                                          {"{\n}", "{}"},
                                          {"-0", "0"},
                                          {"-0.0", "0"},
                                          {"1.0", "1"},
                                          {"1e3", "1000"},
                                          {"100e-2", "1"},
                                          {"0.1", "0.1"},
                                          {"1E-7", "1e-07"},
                                          {"0.30000000000000004", "0.30000000000000004"},
                                          {"3.0000000000000000", "3"},
                                          {"9007199254740992.0", "9007199254740992"},
                                          {"9007199254740993", "9007199254740993"},
                                          {"1e16", "1e+16"},
                                          {"9223372036854775807", "9223372036854775807"},
                                          {"-9223372036854775808", "-9223372036854775808"},
                                          {"9223372036854775808", "9.223372036854776e+18"},
                                          {"5e-324", "5e-324"},
                                          {"1.7976931348623157e308", "1.7976931348623157e+308"},
                                          {"1e-400", "0"},
                                          {"{\"b\":1,\"a\":[2 , {\"d\":0,\"c\":0}]}", "{\"a\":[2,{\"c\":0,\"d\":0}],\"b\":1}"},
                                          {"{\"\":1,\"a\":2,\"B\":3}", "{\"\":1,\"B\":3,\"a\":2}"},
                                          {"\"\\u0041\\u00e4\\ud83d\\ude00\\/\"", "\"A\xc3\xa4\xf0\x9f\x98\x80/\""},
                                          {"\"\\b\\f\\r\\n\\t\\u001f\x7f\"", "\"\\u0008\\u000c\\u000d\\n\\t\\u001f\\u007f\""},
                                          {"\"\\\"\\\\\"", "\"\\\"\\\\\""}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        CHECK_STR(rewrite(rows[i][0]), rows[i][1]);
        CHECK_STR(rewrite(rows[i][1]), rows[i][1]);
    }
    arena_free(&arena);
}

TEST("a float's text is the shortest that reads back the same") {
    uint64_t state = 1;
    for (int i = 0; i < 20000; i++) {
        double d;
        state = state * 6364136223846793005u + 1442695040888963407u;
        uint64_t bits = state ^ state >> 29;
        memcpy(&d, &bits, sizeof d);
        if (!isfinite(d)) continue;
        struct value v = {.type = VALUE_FLOAT, .number = d};
        const char *text = canonical(&v);
        double back = strtod(text, NULL);
        CHECKF(back == d, "%s", text);
        char shorter[40];
        int digits = 0;
        for (const char *p = text; *p && *p != 'e'; p++) digits += *p >= (digits ? '0' : '1') && *p <= '9';
        snprintf(shorter, sizeof shorter, "%.*e", digits > 1 ? digits - 2 : 0, d);
        CHECKF(digits == 1 || strtod(shorter, NULL) != d || d == floor(d), "%s is longer than %s", text, shorter);
        CHECK_STR(rewrite(text), text);
        if (i % 1000 == 0) arena_free(&arena);
    }
    arena_free(&arena);
}

TEST("text that is no JSON is refused with the place where it goes wrong") {
    static const struct { const char *text, *says;
    } rows[] = {{"", "byte 0: a value expected"},
                {"  ", "byte 2"},
                {"nul", "byte 0"},
                {"truefalse", "byte 4: nothing more expected"},
                {"1 2", "byte 2"},
                {"[1,]", "byte 3: a value expected"},
                {"[,1]", "byte 1"},
                {"[1 2]", "byte 3: ',' or ']' expected"},
                {"[1", "',' or ']' expected"},
                {"[", "byte 1"},
                {"{\"a\" 1}", "byte 5: ':' expected"},
                {"{\"a\":1,}", "byte 7: a key in double quotes"},
                {"{a:1}", "byte 1: a key"},
                {"{\"a\":}", "byte 5"},
                {"{\"a\":1 \"b\":2}", "',' or '}' expected"},
                {"{\"a\":1,\"b\":2,\"a\":3}", "the key \"a\" stands twice"},
                {"{\"a\":1,\"\\u0061\":3}", "stands twice"},
                {"01", "byte 1: nothing more"},
                {"-", "byte 1"},
                {"+1", "byte 0"},
                {".5", "byte 0"},
                {"1.", "byte 2: a digit expected after the point"},
                {"1e", "a digit expected in the exponent"},
                {"1e+", "a digit expected in the exponent"},
                {"0x10", "byte 1"},
                {"1e999", "a number too large"},
                {"-1e999", "a number too large"},
                {"NaN", "byte 0"},
                {"Infinity", "byte 0"},
                {"\"abc", "the string has no end"},
                {"\"a\nb\"", "byte 2: a control character"},
                {"\"\\x\"", "unknown escape"},
                {"\"\\", "unknown escape"},
                {"\"\\u12\"", "four hex digits"},
                {"\"\\u0000\"", "may not hold NUL"},
                {"\"\\ud800\"", "a low surrogate is missing"},
                {"\"\\ud800\\u0041\"", "a low surrogate is missing"},
                {"\"\\udc00\"", "without a high one"},
                {"'a'", "byte 0"},
                {"/**/1", "byte 0"},
                {"\"\xff\"", "byte 1: bytes in a string that are not UTF-8"},
                {"\"a\xc3\"", "byte 2"},
                {"\"\xc0\xaf\"", "not UTF-8"},
                {"\"\xed\xa0\x80\"", "not UTF-8"},
                {"\"\xf4\x90\x80\x80\"", "not UTF-8"},
                {"\"\xe2\x82", "not UTF-8"},
                {"\xef\xbb\xbf"
                 "1",
                 "byte 0"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct value v;
        e.text[0] = 0;
        CHECKF(parse(rows[i].text, &v), "%s was taken", rows[i].text);
        CHECKF(strstr(e.text, rows[i].says), "%s: \"%s\" instead of \"%s\"", rows[i].text, e.text, rows[i].says);
    }
    struct value v;
    CHECK(value_parse("1\0", 2, &arena, &v, &e));
    CHECK(value_parse("\"a\0b\"", 5, &arena, &v, &e));
    arena_free(&arena);
}

TEST("64 levels are taken and one more is refused, however many follow") {
    struct value v;
    struct buf b = {0};
    for (int i = 0; i < 64; i++) buf_addc(&b, '[');
    buf_adds(&b, "1");
    for (int i = 0; i < 64; i++) buf_addc(&b, ']');
    CHECKF(!parse(buf_str(&b), &v), "%s", e.text);
    buf_clear(&b);
    for (int i = 0; i < 65; i++) buf_addc(&b, '[');
    buf_adds(&b, "1");
    for (int i = 0; i < 65; i++) buf_addc(&b, ']');
    CHECK(parse(buf_str(&b), &v));
    CHECK_CONTAINS(e.text, "more than 64 levels");
    for (int i = 0; i < 100000; i++) buf_adds(&b, "{\"\":");
    CHECK(parse(buf_str(&b), &v));
    buf_free(&b);
    arena_free(&arena);
}

TEST("a number as long as a line is taken, a longer one refused") {
    struct value v;
    char text[1200];
    memset(text, '9', sizeof text);
    text[300] = 0;
    CHECK(!parse(text, &v));
    CHECK_EQ(v.type, VALUE_FLOAT);
    text[300] = '9';
    text[512] = 0;
    CHECK(parse(text, &v));
    CHECK_CONTAINS(e.text, "511 characters");
    arena_free(&arena);
}

TEST("bytes that are not UTF-8 are written as U+FFFD, so that the text is JSON whatever comes") {
    struct value v = {.type = VALUE_STRING, .string = "a\xff\xc3(\xf0\x9f\x98\x80\xf0\x9f"};
    CHECK_STR(canonical(&v), "\"a\xef\xbf\xbd\xef\xbf\xbd(\xf0\x9f\x98\x80\xef\xbf\xbd\xef\xbf\xbd\"");
    CHECK_STR(rewrite(canonical(&v)), canonical(&v));
    arena_free(&arena);
}

TEST("an entry is found by key and by path, and absent ones are told as such") {
    struct value v;
    CHECK(!parse("{\"optimizer\":{\"lr\":0.5,\"name\":\"adam\"},\"layers\":[{\"width\":8},{\"width\":16}],\"n\":3,\"m\":[[1,2],[3]]}", &v));
    CHECK(value_number(value_at(&v, "optimizer.lr")) == 0.5);
    CHECK_EQ(value_at(&v, "layers[1].width")->integer, 16);
    CHECK_EQ(value_at(&v, "m[1][0]")->integer, 3);
    CHECK(value_at(&v, "") == &v);
    static const char *const absent[] = {"x",   "optimizer.x", "layers[2]",     "layers[-1]", "layers[1", "layers.width",
                                         "n.x", "n[0]",        "optimizer..lr", "optimizer.", "m[1][1]",  "m[]x"};
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) CHECKF(!value_at(&v, absent[i]), "%s", absent[i]);
    CHECK_STR(value_get_string(value_get(&v, "optimizer"), "name"), "adam");
    CHECK(!value_get_string(&v, "n") && !value_get_string(&v, "x") && !value_get(NULL, "x"));
    CHECK_EQ(value_get_int(&v, "n", 9), 3);
    CHECK_EQ(value_get_int(&v, "layers", 9), 9);
    CHECK(value_get_float(&v, "n", 9) == 3 && value_get_float(&v, "x", 9) == 9);
    arena_free(&arena);
}

TEST("values are equal if their canonical text is") {
    static const char *const texts[] = {"null", "true", "false", "0",     "1",         "1.5",       "\"1\"",     "\"\"",
                                        "[]",   "{}",   "[1]",   "[1,2]", "{\"a\":1}", "{\"a\":2}", "{\"b\":1}", "[null]"};
    enum { COUNT = sizeof texts / sizeof *texts };
    struct value v[COUNT];
    for (size_t i = 0; i < COUNT; i++) CHECK(!parse(texts[i], &v[i]));
    for (size_t i = 0; i < COUNT; i++)
        for (size_t k = 0; k < COUNT; k++) CHECKF(value_equal(&v[i], &v[k]) == (i == k), "%s and %s", texts[i], texts[k]);
    struct value one = {.type = VALUE_FLOAT, .number = 1};
    CHECK(value_equal(&one, &v[4]) && value_equal(&v[4], &one));
    arena_free(&arena);
}

TEST("sorting a table tells a key that stands twice") {
    struct value items[3] = {{.type = VALUE_INT, .integer = 3}, {.type = VALUE_INT, .integer = 1}, {.type = VALUE_INT, .integer = 2}};
    const char *keys[3] = {"c", "a", "b"}, *twin = NULL;
    struct value v = {.type = VALUE_TABLE, .count = 3, .items = items, .keys = keys};
    CHECK(!value_sort(&v, &twin));
    CHECK_STR(canonical(&v), "{\"a\":1,\"b\":2,\"c\":3}");
    keys[1] = "c";
    CHECK(value_sort(&v, &twin));
    CHECK_STR(twin, "c");
    v.count = 0;
    CHECK(!value_sort(&v, &twin));
    arena_free(&arena);
}
