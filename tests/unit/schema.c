/* Descriptors as JSON and rule parameters against them: defaults, types, ranges, near names; and descriptors that a plugin gone mad could
 * send. */
#include "schema.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct err e;
static struct arena arena;

#define OK(call) CHECKF(!(call), "%s", e.text)

static const char descriptor[] =
    "{\"abi\":[1,2],\"name\":\"family\",\"version\":\"1.0\",\"help\":\"h\",\"libraries\":[\"/lib/a.so\",3,\"/lib/b.so\"],"
    "\"steps\":[{\"name\":\"train\",\"help\":\"trains\",\"flags\":5,\"hooks\":[\"check\",\"explain\",\"other\",7],"
    "\"roles\":[{\"name\":\"data\",\"kind\":\"dataset\",\"flags\":1,\"help\":\"rows\"},{\"name\":\"model\",\"flags\":2}],"
    "\"params\":[{\"name\":\"epochs\",\"type\":\"int\",\"default\":10,\"least\":1,\"most\":1000,\"unit\":\"epochs\"},"
    "{\"name\":\"lr\",\"type\":\"float\",\"flags\":1,\"help\":\"learning rate\"},"
    "{\"name\":\"loss\",\"type\":\"enum\",\"choices\":[\"mse\",\"ce\"],\"default\":\"mse\"},"
    "{\"name\":\"verbose\",\"type\":\"bool\",\"flags\":2,\"default\":false},"
    "{\"name\":\"tag\",\"type\":\"string\"},"
    "{\"name\":\"widths\",\"type\":\"list\",\"element\":\"int\",\"least\":1,\"most\":64},"
    "{\"name\":\"anything\",\"type\":\"any\"},"
    "{\"name\":\"extra\",\"type\":\"table\"},"
    "{\"name\":\"optimizer\",\"type\":\"table\",\"default\":{},\"fields\":[{\"name\":\"name\",\"type\":\"string\",\"default\":\"adam\"},{"
    "\"name\":\"beta\",\"type\":\"float\",\"least\":0,\"most\":1}]},"
    "{\"name\":\"layers\",\"type\":\"list\",\"element\":\"table\",\"fields\":[{\"name\":\"width\",\"type\":\"int\",\"flags\":1}]}]}],"
    "\"commands\":[{\"name\":\"serve\",\"usage\":\"serve\",\"help\":\"serves\",\"options\":[{\"name\":\"port\",\"type\":\"int\"}]}]}";

static const struct step_type *train(void) {
    static struct plugin_type p;
    OK(schema_parse(descriptor, strlen(descriptor), &arena, &p, &e));
    return schema_find_step(&p, "train");
}

TEST("a descriptor is read as it is written") {
    struct plugin_type p;
    OK(schema_parse(descriptor, strlen(descriptor), &arena, &p, &e));
    CHECK_STR(p.name, "family");
    CHECK_EQ(p.abi_major * 10 + p.abi_minor, 12);
    CHECK_EQ(p.library_count, 2);
    CHECK_STR(p.libraries[1], "/lib/b.so");
    const struct step_type *t = schema_find_step(&p, "train");
    CHECK(t && t->flags == 5 && t->has_check && t->has_explain && !t->has_fingerprint);
    CHECK(!schema_find_step(&p, "tran"));
    CHECK_STR(schema_find_role(t, "data")->kind, "dataset");
    CHECK(schema_find_role(t, "model")->kind == NULL && !schema_find_role(t, ""));
    CHECK_EQ(t->param_count, 10);
    CHECK(t->params[7].free_form && !t->params[8].free_form && t->params[8].field_count == 2);
    CHECK_EQ(p.command_count, 1);
    CHECK_EQ(p.commands[0].options[0].type, MB_INT);
    arena_free(&arena);
}

/* Applies rule parameters given as JSON; the result as canonical JSON, or NULL and an error. */
static const char *apply(const char *json, bool keyed) {
    const struct step_type *t = train();
    struct value given, out, key;
    OK(value_parse(json, strlen(json), &arena, &given, &e));
    if (schema_apply(t->params, t->param_count, &given, &arena, &out, &e)) return NULL;
    schema_keyed(t->params, t->param_count, &out, &arena, &key);
    struct buf b = {0};
    value_write(keyed ? &key : &out, &b);
    const char *text = arena_strdup(&arena, buf_str(&b));
    buf_free(&b);
    return text;
}

#define DEFAULTS "\"loss\":\"mse\",\"lr\":0.1,\"optimizer\":{\"name\":\"adam\"},\"verbose\":false}"

TEST("defaults are filled in, also in tables, and values brought to their declared type") {
    static const char *const rows[][2] = {
        {"{\"lr\":0.1}", "{\"epochs\":10," DEFAULTS},
        {"{\"lr\":0.1,\"epochs\":3.0}", "{\"epochs\":3," DEFAULTS},
        {"{\"lr\":0.1,\"epochs\":1000}", "{\"epochs\":1000," DEFAULTS},
        {"{\"lr\":1,\"loss\":\"ce\",\"optimizer\":{\"beta\":1,\"name\":\"sgd\"},\"verbose\":true}",
         "{\"epochs\":10,\"loss\":\"ce\",\"lr\":1,\"optimizer\":{\"beta\":1,\"name\":\"sgd\"},\"verbose\":true}"},
        {"{\"lr\":0.1,\"widths\":[1,2.0,64]}",
         "{\"epochs\":10,\"loss\":\"mse\",\"lr\":0.1,\"optimizer\":{\"name\":\"adam\"},\"verbose\":false,\"widths\":[1,2,64]}"},
        {"{\"lr\":0.1,\"widths\":{}}",
         "{\"epochs\":10,\"loss\":\"mse\",\"lr\":0.1,\"optimizer\":{\"name\":\"adam\"},\"verbose\":false,\"widths\":[]}"},
        {"{\"lr\":0.1,\"optimizer\":[]}", "{\"epochs\":10," DEFAULTS},
        {"{\"lr\":0.1,\"extra\":{\"x\":[1,{}]},\"anything\":[null]}",
         "{\"anything\":[null],\"epochs\":10,\"extra\":{\"x\":[1,{}]},\"loss\":\"mse\",\"lr\":0.1,\"optimizer\":{\"name\":\"adam\"},"
         "\"verbose\":false}"},
        {"{\"lr\":0.1,\"layers\":[{\"width\":2}],\"tag\":\"\"}", "{\"epochs\":10,\"layers\":[{\"width\":2}],\"loss\":\"mse\",\"lr\":0.1,"
                                                                 "\"optimizer\":{\"name\":\"adam\"},\"tag\":\"\",\"verbose\":false}"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *found = apply(rows[i][0], false);
        CHECKF(found, "%s: %s", rows[i][0], e.text);
        CHECK_STR(found, rows[i][1]);
    }
    arena_free(&arena);
}

TEST("what doesn't fit is an error that names the parameter, what was found and what was expected") {
    static const char *const rows[][2] = {
        {"{}", "parameter lr is missing: learning rate"},
        {"{\"lr\":\"x\"}", "parameter lr: a number expected, found \"x\""},
        {"{\"lr\":1,\"epochs\":0}", "parameter epochs: 0 is out of range: from 1 to 1000 epochs expected"},
        {"{\"lr\":1,\"epochs\":1001}", "out of range"},
        {"{\"lr\":1,\"epochs\":2.5}", "parameter epochs: a whole number expected, found 2.5"},
        {"{\"lr\":1,\"epochs\":1e300}", "a whole number expected"},
        {"{\"lr\":1,\"epochs\":null}", "a whole number expected, found null"},
        {"{\"lr\":1,\"loss\":\"mze\"}", "\"mze\" is none of \"mse\", \"ce\"; did you mean \"mse\"?"},
        {"{\"lr\":1,\"loss\":3}", "a string expected, found 3"},
        {"{\"lr\":1,\"verbose\":1}", "parameter verbose: true or false expected, found 1"},
        {"{\"lr\":1,\"tag\":[]}", "a string expected, found []"},
        {"{\"lr\":1,\"widths\":3}", "parameter widths: a list expected, found 3"},
        {"{\"lr\":1,\"widths\":{\"a\":1}}", "a list expected"},
        {"{\"lr\":1,\"widths\":[1,0]}", "parameter widths[2]: 0 is out of range"},
        {"{\"lr\":1,\"widths\":[1,\"x\"]}", "parameter widths[2]: a whole number expected"},
        {"{\"lr\":1,\"optimizer\":{\"beta\":2}}", "parameter optimizer.beta: 2 is out of range"},
        {"{\"lr\":1,\"optimizer\":{\"naem\":\"x\"}}", "unknown parameter optimizer.naem; did you mean \"name\"?"},
        {"{\"lr\":1,\"optimizer\":3}", "a table expected"},
        {"{\"lr\":1,\"layers\":[{}]}", "parameter layers[1].width is missing"},
        {"{\"lr\":1,\"layers\":[3]}", "parameter layers[1]: a table expected"},
        {"{\"lr\":1,\"epoch\":3}", "unknown parameter epoch; did you mean \"epochs\"?"},
        {"{\"lr\":1,\"quantization\":3}", "unknown parameter quantization; there are epochs, lr, loss"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        CHECKF(!apply(rows[i][0], false), "%s was taken", rows[i][0]);
        CHECK_CONTAINS(e.text, rows[i][1]);
    }
    arena_free(&arena);
}

TEST("parameters marked unkeyed are no part of the key") {
    const char *keyed = apply("{\"lr\":0.1,\"verbose\":true}", true);
    CHECK_STR(keyed, "{\"epochs\":10,\"loss\":\"mse\",\"lr\":0.1,\"optimizer\":{\"name\":\"adam\"}}");
    arena_free(&arena);
}

TEST("a long value in a message is cut, and the message stays one line") {
    struct buf b = {0};
    buf_adds(&b, "{\"lr\":\"");
    for (int i = 0; i < 1000; i++) buf_addc(&b, 'x');
    buf_adds(&b, "\"}");
    CHECK(!apply(buf_str(&b), false));
    CHECK_CONTAINS(e.text, "x …");
    CHECK(strlen(e.text) < 150 && !strchr(e.text, '\n'));
    buf_free(&b);
    arena_free(&arena);
}

TEST("a descriptor that is no descriptor is refused with what is wrong, and none is a crash") {
    static const char *const rows[][2] = {
        {"", "JSON at byte 0"},
        {"[]", "without name or version"},
        {"{\"name\":\"a\"}", "without name or version"},
        {"{\"name\":1,\"version\":\"1\"}", "without name or version"},
        {"{\"name\":\"a\",\"version\":\"1\",\"steps\":[{}]}", "a step without name"},
        {"{\"name\":\"a\",\"version\":\"1\",\"steps\":[3]}", "a step without name"},
        {"{\"name\":\"a\",\"version\":\"1\",\"steps\":[{\"name\":\"s\",\"roles\":[{}]}]}", "step s: a role without name"},
        {"{\"name\":\"a\",\"version\":\"1\",\"steps\":[{\"name\":\"s\",\"params\":3}]}", "step s: the parameters are no list"},
        {"{\"name\":\"a\",\"version\":\"1\",\"steps\":[{\"name\":\"s\",\"params\":[{\"name\":\"p\"}]}]}",
         "step s: a parameter without name or type"},
        {"{\"name\":\"a\",\"version\":\"1\",\"steps\":[{\"name\":\"s\",\"params\":[{\"name\":\"p\",\"type\":\"word\"}]}]}",
         "without name or type"},
        {"{\"name\":\"a\",\"version\":\"1\",\"steps\":[{\"name\":\"s\",\"params\":[{\"name\":\"p\",\"type\":\"enum\",\"choices\":[1]}]}]}",
         "parameter p: a choice is no string"},
        {"{\"name\":\"a\",\"version\":\"1\",\"steps\":[{\"name\":\"s\",\"params\":[{\"name\":\"p\",\"type\":\"table\",\"fields\":[{}]}]}]}",
         "step s: p: a parameter without name"},
        {"{\"name\":\"a\",\"version\":\"1\",\"commands\":[{}]}", "a command without name"},
    };
    struct plugin_type p;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        CHECKF(schema_parse(rows[i][0], strlen(rows[i][0]), &arena, &p, &e), "%s was taken", rows[i][0]);
        CHECK_CONTAINS(e.text, rows[i][1]);
    }
    static const char *const odd[] = {"{\"name\":\"a\",\"version\":\"1\",\"abi\":[\"x\",null]}",
                                      "{\"name\":\"a\",\"version\":\"1\",\"abi\":[1e300,-1e300]}",
                                      "{\"name\":\"a\",\"version\":\"1\",\"abi\":3,\"steps\":{},\"commands\":\"x\",\"libraries\":[[]]}"};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        OK(schema_parse(odd[i], strlen(odd[i]), &arena, &p, &e));
        CHECK(!p.abi_major && !p.abi_minor && !p.step_count && !p.command_count && !p.library_count);
    }
    arena_free(&arena);
}

TEST("every type has a name for messages") {
    for (int t = MB_BOOL; t <= MB_ANY; t++) CHECK(*schema_type_name((enum mb_type)t));
    CHECK_STR(schema_type_name((enum mb_type)999), "?");
}
