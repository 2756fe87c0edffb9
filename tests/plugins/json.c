/* json.c: plugins/lib's JSON: what is refused, and that writing is canonical. */
#include "lib/json.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct mbl_arena arena;

static struct mbl_json *parse(const char *text) {
    struct mbl_json *v;
    struct mbl_error e;
    if (mbl_json_parse(text, strlen(text), "x.json", &arena, &v, &e)) FAIL("%s", e.text);
    return v;
}

static void refused(const char *text, size_t n, const char *message) {
    struct mbl_json *v;
    struct mbl_error e;
    CHECKF(mbl_json_parse(text, n, "x.json", &arena, &v, &e), "%s was taken", text);
    CHECK_CONTAINS(e.text, message);
}

static void canonical(const char *text, const char *expected) {
    struct mbl_buf out = {0};
    mbl_json_write(parse(text), MBL_JSON_COMPACT, &out);
    CHECK_STR(out.data, expected);
    mbl_buf_free(&out);
}

TEST("what RFC 8259 does not allow is refused with line and column") {
    static const struct {
        const char *text, *message;
    } cases[] = {{"", "x.json:1:1: JSON: the text ends where a value is expected"},
                 {"{\n  \"a\": 1,\n}", "x.json:3:1: JSON: a key in quotes expected"},
                 {"[1 2]", "x.json:1:4: JSON: a comma or ] expected"},
                 {"[1,]", "a value expected"},
                 {"{\"a\" 1}", "a colon expected"},
                 {"01", "may not begin with a zero"},
                 {"-", "a digit expected"},
                 {"1.", "after the point"},
                 {"1e", "in the exponent"},
                 {"1e999", "too large"},
                 {"nul", "a value expected"},
                 {"NaN", "a value expected"},
                 {"\"a", "has no end"},
                 {"\"\t\"", "control character"},
                 {"\"\\x\"", "unknown escape"},
                 {"\"\\u12\"", "four hex digits"},
                 {"\"\\u0000\"", "may not hold NUL"},
                 {"\"\\ud800\"", "a low surrogate is missing"},
                 {"\"\\udc00\"", "without a high one"},
                 {"\"\xff\"", "not UTF-8"},
                 {"\"\xed\xa0\x80\"", "not UTF-8"},
                 {"\"\xc0\xaf\"", "not UTF-8"},
                 {"1 1", "nothing more expected"},
                 {"{\"a\":1,\"b\":2,\"a\":3}", "has the key \"a\" twice"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) refused(cases[i].text, strlen(cases[i].text), cases[i].message);
    refused("[1]\0", 4, "nothing more expected");
}

TEST("nesting deeper than 64 levels is refused, not crashed on") {
    char *text = malloc(200001);
    memset(text, '[', 200000);
    text[200000] = 0;
    refused(text, 200000, "more than 64 levels");
    free(text);
}

TEST("equal values have equal text: sorted keys, shortest numbers") {
    canonical(" { \"b\" : [ 1.0 , 0.1, 1e2, -0.0, 1e300 ] , \"a\":\"\\u0041\\n\\/\" }", "{\"a\":\"A\\n/\",\"b\":[1,0.1,100,0,1e+300]}");
    canonical("9007199254740993", "9007199254740993");
    canonical("18446744073709551616", "1.8446744073709552e+19");
    canonical("\"\\ud83d\\ude00\"", "\"\xf0\x9f\x98\x80\"");
    canonical("[true,false,null,{},[]]", "[true,false,null,{},[]]");
}

TEST("a number that is written reads back the same") {
    static const double numbers[] = {0.1, 1.0 / 3, 5e-324, 1.7976931348623157e308, 123456789.125, -2.5e-7};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        struct mbl_buf out = {0};
        mbl_json_write(mbl_json_float(&arena, numbers[i]), MBL_JSON_COMPACT, &out);
        CHECK(mbl_json_number(parse(out.data)) == numbers[i]);
        out.len = 0;
        mbl_json_write(mbl_json_float32(&arena, (float)numbers[i]), MBL_JSON_COMPACT, &out);
        CHECK((float)mbl_json_number(parse(out.data)) == (float)numbers[i] || isinf((float)numbers[i]));
        mbl_buf_free(&out);
    }
    struct mbl_buf out = {0};
    mbl_json_write(mbl_json_float32(&arena, 0.1f), MBL_JSON_COMPACT, &out);
    CHECK_STR(out.data, "0.1");
    mbl_buf_free(&out);
}

TEST("what is built can be looked up, replaced and written") {
    struct mbl_json *t = mbl_json_table(&arena), *list = mbl_json_list(&arena);
    for (int i = 0; i < 100; i++) mbl_json_push(&arena, list, mbl_json_int(&arena, i));
    mbl_json_set(&arena, t, "list", list);
    mbl_json_set(&arena, t, "x", mbl_json_int(&arena, 1));
    mbl_json_set(&arena, t, "x", mbl_json_string(&arena, "a\"b\x01\xff"));
    CHECK_EQ(t->count, 2);
    CHECK_EQ(mbl_json_get(t, "list")->items[99]->integer, 99);
    CHECK(mbl_json_get(NULL, "x") == NULL);
    CHECK_EQ(mbl_json_get_int(parse("{\"n\": 3.0}"), "n", 0), 3);
    CHECK_EQ(mbl_json_get_int(parse("{\"n\": 3.5}"), "n", -1), -1);
    struct mbl_buf out = {0};
    mbl_json_write(mbl_json_get(t, "x"), MBL_JSON_COMPACT, &out);
    CHECK_STR(out.data, "\"a\\\"b\\u0001\xef\xbf\xbd\"");
    mbl_buf_free(&out);
}
