/* What plugins say of themselves: everything that a descriptor may have wrong is a message that names the file, and never harms the engine. */
#include "sys.h"
#include "test.h"
#include "value.h"
#include "worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct err e;
static struct workers *workers;

/* A step that all is well with; tests put their own words in the place of single ones. */
#define HEAD "#include <mbuild/plugin.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>\n" \
    "static int run(const struct mb_host *h, struct mb_run *r) { (void)h; (void)r; return MB_OK; }\n"
#define STEPS(params, roles) "static const struct mb_param params[] = {" params "{0}};\nstatic const struct mb_role roles[] = {" roles "{0}};\n" \
    "static const struct mb_step steps[] = {{.name = \"s\", .help = \"h\", .run = run, .roles = roles, .params = params}, {0}};\n"
#define PLUGIN "static const struct mb_plugin p = {MB_PLUGIN_HEAD, .name = \"p\", .version = \"1.2\", .help = \"help\", .steps = steps};\nMB_PLUGIN(p);\n"
#define IN_OUT "{.name = \"in\", .flags = MB_INPUT, .kind = \"data\", .help = \"x\"}, {.name = \"out\", .flags = MB_OUTPUT},"

static const char *in_folder(const char *name) {
    static char path[600];
    snprintf(path, sizeof path, "%s/%s", test_folder(), name);
    return path;
}

static void write_file(const char *name, const char *text) {
    FILE *f = fopen(in_folder(name), "w");
    CHECK(f && fputs(text, f) >= 0 && !fclose(f));
}

/* Compiles `code` to p.so in the test's folder. */
static const char *compile(const char *code) {
    char command[4096];
    const char *cc = getenv("MB_CC");
    write_file("p.c", code);
    char *include = realpath(test_source("include"), NULL);
    CHECK(include);
    CHECK(snprintf(command, sizeof command, "cd '%s' && %s -shared -fPIC -w -I'%s' -o new.so p.c && mv new.so p.so", test_folder(), cc && *cc ? cc : "cc", include) <
          (int)sizeof command);
    free(include);
    int status = system(command);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127) SKIP("no C compiler");
    CHECKF(!status, "the compiler ended with %d", status);
    return in_folder("p.so");
}

static struct workers *started(void) {
    if (!workers) CHECKF(!workers_start(test_built("libexec/mbuild-worker"), &workers, &e), "%s", e.text);
    return workers;
}

static const char *described(const char *path) {
    static struct buf json; /* lives on: a test may be done with it at any time */
    buf_clear(&json);
    CHECKF(!worker_describe(started(), path, &json, &e), "%s", e.text);
    return buf_str(&json);
}

static void refused(const char *path, const char *part) {
    struct buf json = {0};
    CHECKF(worker_describe(started(), path, &json, &e), "it was taken: %s", buf_str(&json));
    CHECK_CONTAINS(e.text, part);
    CHECK_CONTAINS(e.text, path);
}

TEST("a descriptor comes as JSON with everything in it") {
    const char *json = described(compile(HEAD STEPS(
        "{.name = \"lr\", .type = MB_FLOAT, .deflt = \"0.10\", .least = 0, .most = 1, .unit = \"a step\", .help = \"rate\"},"
        "{.name = \"opt\", .type = MB_ENUM, .choices = (const char *const[]){\"adam\", \"sgd\", NULL}, .deflt = \"\\\"adam\\\"\"},"
        "{.name = \"hidden\", .type = MB_LIST, .element = MB_INT, .deflt = \"[64, 64]\", .least = 1, .most = 9999},"
        "{.name = \"t\", .type = MB_TABLE, .fields = (const struct mb_param[]){{.name = \"x\", .type = MB_BOOL, .flags = MB_REQUIRED}, {0}}},", IN_OUT) PLUGIN));
    struct arena a = {0};
    struct value v;
    CHECKF(!value_parse(json, strlen(json), &a, &v, &e), "%s", e.text);
    CHECK_STR(value_get_string(&v, "version"), "1.2");
    CHECK_CONTAINS(json, "{\"name\":\"lr\",\"type\":\"float\",\"flags\":0,\"default\":0.1,\"least\":0,\"most\":1,\"unit\":\"a step\",\"help\":\"rate\"}");
    CHECK_CONTAINS(json, "\"choices\":[\"adam\",\"sgd\"]");
    CHECK_CONTAINS(json, "\"element\":\"int\"");
    CHECK_CONTAINS(json, "\"fields\":[{\"name\":\"x\",\"type\":\"bool\",\"flags\":1}]");
    CHECK_CONTAINS(json, "{\"name\":\"in\",\"flags\":1,\"kind\":\"data\",\"help\":\"x\"}");
    arena_free(&a);
}

TEST("a plugin that was built anew is described anew") {
    const char *path = compile(HEAD STEPS("", "") PLUGIN);
    CHECK_CONTAINS(described(path), "\"params\":[]");
    compile(HEAD STEPS("{.name = \"more\", .type = MB_INT},", "") PLUGIN);
    CHECK_CONTAINS(described(path), "\"more\"");
}

/* Rows: what is wrong, the whole source, what the message says. */
static const struct wrong {
    const char *what, *code, *part;
} wrongs[] = {
    {"no symbol", "int x;\n", "no symbol `mbuild_plugin`"},
    {"a NULL for a descriptor", HEAD "MB_EXPORT const struct mb_plugin *const mbuild_plugin = 0;\n", "is NULL"},
    {"another magic", HEAD STEPS("", "") "static const struct mb_plugin p = {.magic = 1, .name = \"p\"};\nMB_PLUGIN(p);\n", "doesn't point to a descriptor"},
    {"a later ABI", HEAD "static const struct mb_plugin p = {.magic = MB_PLUGIN_MAGIC, .abi_major = 2};\nMB_PLUGIN(p);\n", "compiled for ABI 2.0, and this mbuild has ABI 1.1"},
    {"a later minor ABI", HEAD "static const struct mb_plugin p = {.magic = MB_PLUGIN_MAGIC, .abi_major = 1, .abi_minor = 9};\nMB_PLUGIN(p);\n", "ABI 1.9"},
    {"a struct of another size", HEAD "static const struct mb_plugin p = {.magic = MB_PLUGIN_MAGIC, .abi_major = 1, .abi_minor = MB_ABI_MINOR, .size = sizeof p, .step_size = 8};\nMB_PLUGIN(p);\n",
     "struct mb_step has 8 bytes"},
    {"no name", HEAD "static const struct mb_plugin p = {MB_PLUGIN_HEAD, .version = \"1\"};\nMB_PLUGIN(p);\n", "has no name"},
    {"no version", HEAD "static const struct mb_plugin p = {MB_PLUGIN_HEAD, .name = \"p\"};\nMB_PLUGIN(p);\n", "no version"},
    {"a help that is no UTF-8", HEAD "static const struct mb_plugin p = {MB_PLUGIN_HEAD, .name = \"p\", .version = \"1\", .help = \"\\xff\"};\nMB_PLUGIN(p);\n", "no valid UTF-8"},
    {"a step without run", HEAD "static const struct mb_step steps[] = {{.name = \"s\"}, {0}};\n" PLUGIN, "`run` is NULL"},
    {"twin steps", HEAD "static const struct mb_step steps[] = {{.name = \"s\", .run = run}, {.name = \"s\", .run = run}, {0}};\n" PLUGIN, "\"s\" is declared twice"},
    {"unknown flags", HEAD "static const struct mb_step steps[] = {{.name = \"s\", .run = run, .flags = 1u << 30}, {0}};\n" PLUGIN, "flags that this mbuild doesn't know: 0x40000000"},
    {"a self-contained step with a network", HEAD "static const struct mb_step steps[] = {{.name = \"s\", .run = run, .flags = MB_SELF_CONTAINED | MB_NETWORK}, {0}};\n" PLUGIN, "MB_SELF_CONTAINED doesn't go with MB_NETWORK"},
    {"a role that is neither input nor output", HEAD STEPS("", "{.name = \"a\"},") PLUGIN, "just one of MB_INPUT and MB_OUTPUT"},
    {"a role that is both", HEAD STEPS("", "{.name = \"a\", .flags = MB_INPUT | MB_OUTPUT},") PLUGIN, "just one of MB_INPUT and MB_OUTPUT"},
    {"twin roles", HEAD STEPS("", IN_OUT IN_OUT) PLUGIN, "role \"in\" is declared twice"},
    {"a parameter without type", HEAD STEPS("{.name = \"a\"},", "") PLUGIN, "its type is 0"},
    {"a parameter name with a dot", HEAD STEPS("{.name = \"a.b\", .type = MB_INT},", "") PLUGIN, "\"a.b\""},
    {"twin parameters", HEAD STEPS("{.name = \"a\", .type = MB_INT}, {.name = \"a\", .type = MB_INT},", "") PLUGIN, "parameter \"a\" is declared twice"},
    {"a default that is no JSON", HEAD STEPS("{.name = \"a\", .type = MB_STRING, .deflt = \"adam\"},", "") PLUGIN, "its default is no JSON text (adam)"},
    {"a default of another type", HEAD STEPS("{.name = \"a\", .type = MB_INT, .deflt = \"1.5\"},", "") PLUGIN, "its default doesn't fit: parameter a: a whole number expected"},
    {"a default out of range", HEAD STEPS("{.name = \"a\", .type = MB_INT, .deflt = \"7\", .least = 1, .most = 5},", "") PLUGIN, "7 is out of range"},
    {"a default that is no choice", HEAD STEPS("{.name = \"a\", .type = MB_ENUM, .deflt = \"\\\"z\\\"\", .choices = (const char *const[]){\"x\", NULL}},", "") PLUGIN, "\"z\""},
    {"a default deep in a table", HEAD STEPS("{.name = \"t\", .type = MB_TABLE, .fields = (const struct mb_param[]){{.name = \"x\", .type = MB_BOOL, .deflt = \"3\"}, {0}}},", "") PLUGIN,
     "its default doesn't fit"},
    {"a choice without choices", HEAD STEPS("{.name = \"a\", .type = MB_ENUM},", "") PLUGIN, "has no choices"},
    {"an empty range", HEAD STEPS("{.name = \"a\", .type = MB_INT, .least = 2, .most = 1},", "") PLUGIN, "range is empty"},
    {"a required parameter with a default", HEAD STEPS("{.name = \"a\", .type = MB_INT, .flags = MB_REQUIRED, .deflt = \"1\"},", "") PLUGIN, "required and has a default"},
    {"a table that holds itself",
     HEAD "static const struct mb_param loop[] = {{.name = \"a\", .type = MB_TABLE, .fields = loop}, {0}};\n"
          "static const struct mb_step steps[] = {{.name = \"s\", .run = run, .params = loop}, {0}};\n" PLUGIN, "nested deeper than 8"},
    {"an array without end",
     HEAD "static struct mb_param many[2000];\nstatic char names[2000][8];\n"
          "__attribute__((constructor)) static void fill(void) { for (int i = 0; i < 2000; i++) { sprintf(names[i], \"p%d\", i); many[i].name = names[i]; many[i].type = MB_INT; } }\n"
          "static const struct mb_step steps[] = {{.name = \"s\", .run = run, .params = many}, {0}};\n" PLUGIN, "more than 1000 parameters"},
    {"a wild pointer", HEAD "static const struct mb_step steps[] = {{.name = (const char *)16, .run = run}, {0}};\n" PLUGIN, "crashed while it was loaded: SIGSEGV"},
    {"an abort while it is loaded", HEAD STEPS("", "") "__attribute__((constructor)) static void no(void) { fputs(\"no luck today\\n\", stderr); abort(); }\n" PLUGIN,
     "SIGABRT (it ended itself, as after a failed assertion or a damaged heap); it printed: no luck today"},
    {"an exit while it is loaded", HEAD STEPS("", "") "__attribute__((constructor)) static void no(void) { _exit(3); }\n" PLUGIN, "ended its process with status 3"},
};

static void check_wrong(const void *argument) {
    const struct wrong *w = argument;
    if (strstr(w->part, "SIGSEGV") && getenv("MB_SANITIZERS") && *getenv("MB_SANITIZERS")) SKIP("a sanitizer catches the crash");
    refused(compile(w->code), w->part);
}

TEST_TABLE {
    for (size_t i = 0; i < sizeof wrongs / sizeof *wrongs; i++) test_add(check_wrong, &wrongs[i], "%s is told", wrongs[i].what);
}

TEST("a plugin that isn't there, and a file that is none, are told") {
    refused(in_folder("absent.so"), "doesn't exist");
    write_file("text.so", "I am no shared object\n");
    refused(in_folder("text.so"), "it can't be loaded");
}

TEST("after a plugin that crashes others are described as before") {
    refused(compile(HEAD STEPS("", "") "__attribute__((constructor)) static void no(void) { _exit(1); }\n" PLUGIN), "status 1");
    CHECK_CONTAINS(described(compile(HEAD STEPS("", "") PLUGIN)), "\"name\":\"p\"");
}

TEST("a plugin that hangs while it is loaded is ended after ten seconds") {
    int64_t began = sys_now_ns();
    refused(compile(HEAD STEPS("", "") "__attribute__((constructor)) static void no(void) { for (;;) pause(); }\n" PLUGIN), "more than 10 s");
    CHECK(sys_now_ns() - began < 20000000000);
}
