/* Limits of rule files: whatever they do, evaluation ends, names the line and leaves the program able to go on. */
#include "rules.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static double processor_seconds(void) {
    struct rusage u;
    CHECK(!getrusage(RUSAGE_SELF, &u));
    return (double)u.ru_utime.tv_sec + (double)u.ru_utime.tv_usec / 1e6;
}

static char library[4096];

/* Before a test changes the folder. */
__attribute__((constructor)) static void find_library(void) {
    if (!realpath(test_built("share/mbuild/rules"), library)) *library = 0;
}

/* Evaluates a rule file that must fail; what it said. */
static const char *refused(const char *text, uint32_t time_ms, uint32_t call_ms) {
    static struct err e;
    struct rules *rules;
    const char *folder = test_folder();
    CHECK(!chdir(folder));
    FILE *f = fopen("mbuild.lua", "w");
    CHECK(f && fputs(text, f) >= 0 && !fclose(f));
    struct graph g;
    struct rules_seen seen = {.file_count = 0};
    graph_init(&g, folder);
    struct rules_options o = {.file = "mbuild.lua", .library = library, .time_most_ms = time_ms, .call_most_ms = call_ms,
                              .memory_most = 256 << 20, .instructions_most = 100000000};
    double before = processor_seconds();
    CHECK(rules_evaluate(&g, &o, &seen, &rules, &e));
    CHECKF(processor_seconds() - before < 20, "it took %.1f s", processor_seconds() - before);
    graph_free(&g);
    free(seen.files);
    free(seen.globs);
    free(seen.folders);
    return e.text;
}

/* ThreadSanitizer holds signals back until a call into it that waits: a loop in Lua's library never comes to one. */
#if defined(__SANITIZE_THREAD__)
#define NEEDS_SIGNALS SKIP("ThreadSanitizer holds signals back")
#else
#define NEEDS_SIGNALS (void)0
#endif

#define LOOP "local hay = string.rep('a', 50)\n"

TEST("a pattern that backtracks for ever is ended and its line named") {
    NEEDS_SIGNALS;
    const char *said = refused(LOOP "print(1)\nlocal x = hay:find(('a?'):rep(50) .. ('a'):rep(51))\n", 0, 300);
    CHECK_CONTAINS(said, "mbuild.lua:3: one call of string.find took more than 0 s of processor time");
    CHECK_CONTAINS(said, "a pattern that can match in too many ways?");
}

TEST("so are one of match, gsub and gmatch, also inside of pcall and coroutines") {
    NEEDS_SIGNALS;
    CHECK_CONTAINS(refused(LOOP "pcall(string.match, hay, ('a?'):rep(50) .. ('a'):rep(51))\n", 0, 300), "mbuild.lua:2: one call of string.match");
    CHECK_CONTAINS(refused(LOOP "hay:gsub(('a?'):rep(50) .. ('a'):rep(51), '')\n", 0, 300), "mbuild.lua:2: one call of string.gsub");
    CHECK_CONTAINS(refused(LOOP "for w in hay:gmatch(('a?'):rep(50) .. ('a'):rep(51)) do end\n", 0, 300), "mbuild.lua:2: one call of string.gmatch");
    CHECK_CONTAINS(refused(LOOP "coroutine.wrap(function()\n hay:find(('a?'):rep(50) .. ('a'):rep(51)) end)()\n", 0, 300),
                   "mbuild.lua:3: one call of string.find");
}

TEST("a table moved by more places than there are is ended") {
    NEEDS_SIGNALS;
    CHECK_CONTAINS(refused("table.move({}, 1, math.maxinteger - 1, 2)\n", 0, 300), "mbuild.lua:1: one call of table.move took more than");
}

TEST("many calls of which each ends are ended when the time is used up, in a pcall too") {
    NEEDS_SIGNALS;
    CHECK_CONTAINS(refused("while true do\n local s = string.rep('x', 100000000)\nend\n", 500, 10000),
                   "mbuild.lua:2: the rules ran for more than 0 s of processor time");
    CHECK_CONTAINS(refused("local t = { string.rep('x', 50000000), 'y' }\nwhile true do pcall(table.concat, t) end\n", 500, 10000),
                   "mbuild.lua:2: the rules ran for more than 0 s of processor time");
    CHECK_CONTAINS(refused("local a = string.rep('x', 50000000)\nwhile true do local b = a .. 'y' end\n", 500, 10000),
                   "mbuild.lua:2: the rules ran for more than 0 s of processor time");
}

TEST("strings without end meet the limit of memory, with their line") {
    CHECK_CONTAINS(refused("print(1)\nlocal s = ('x'):rep(1 << 30)\n", 0, 0), "mbuild.lua:2: the rules need more than 256 MiB of memory");
    CHECK_CONTAINS(refused("local s = 'x'\nwhile true do s = s .. s end\n", 0, 0), "mbuild.lua:2: the rules need more than 256 MiB of memory");
    CHECK_CONTAINS(refused("local t = {}\nfor i = 1, 100 do t[i] = ('x'):rep(10000000) end\n", 0, 0), "mbuild.lua:2: the rules need more than");
    CHECK_CONTAINS(refused("local t = {}\nfor i = 1, 10 do t[i] = ('x'):rep(20000000) end\nlocal s = table.concat(t)\n", 0, 0), "mbuild.lua:3: the rules need");
    CHECK_CONTAINS(refused("local s = ('x'):rep(1 << 40)\n", 0, 0), "mbuild.lua:1: resulting string too large");
    CHECK_CONTAINS(refused("string.format(('%99d'):rep(4000000), 1)\n", 0, 0), "mbuild.lua:1: ");
}

TEST("a loop in Lua meets the limit of instructions first") {
    CHECK_CONTAINS(refused("while true do end\n", 0, 0), "mbuild.lua:1: the rules ran for more than 100 million instructions");
}

TEST("errors of library functions name what the user called") {
    CHECK_CONTAINS(refused("string.rep({}, 2)\n", 0, 0), "mbuild.lua:1: bad argument #1 to 'rep' (string expected, got table)");
    CHECK_CONTAINS(refused("('x'):bad()\n", 0, 0), "mbuild.lua:1: attempt to call a nil value (method 'bad')");
    CHECK_CONTAINS(refused("for w in ('x'):gmatch('(') do end\n", 0, 0), "unfinished capture");
}
