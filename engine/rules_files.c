/* rules_files.c: what rule files can see of the disk: file, glob, include, read. Whatever they look at becomes something that
 * the graph depends on. */
#include "rules_private.h"

#include <stdlib.h>
#include <string.h>

uint32_t rules_source(lua_State *L, const char *path) {
    struct rules *r = rules_of(L);
    struct err e;
    const char *clean;
    if (graph_normalize(r->graph, path, &clean, &e)) rules_fail(L, "%s", e.text);
    return graph_file(r->graph, clean);
}

/* file(path): a source as an artifact. */
static int api_file(lua_State *L) {
    const char *path = rules_text(L, 1, "file");
    rules_push_artifact(L, (struct artifact_ref){.step = NO_ID, .output = -1, .file = rules_source(L, path)});
    return 1;
}

struct paths {
    struct rules *rules;
    char **items;
    uint32_t count, cap;
};

static void collect(void *ctx, const char *path) {
    struct paths *p = ctx;
    p->items = mem_grow(p->items, &p->cap, p->count + 1, sizeof *p->items);
    p->items[p->count++] = mem_strdup(path);
}

static void looked(void *ctx, const char *path) {
    rules_saw_folder(((struct paths *)ctx)->rules, path);
}

static int compare_paths(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Whether a part of the pattern is "..". */
static bool climbs(const char *pattern) {
    for (const char *p = pattern; (p = strstr(p, "..")); p++)
        if ((p == pattern || p[-1] == '/') && (!p[2] || p[2] == '/')) return true;
    return false;
}

/* glob(pattern): the matching files as a list of artifacts, sorted. */
static int api_glob(lua_State *L) {
    struct rules *r = rules_of(L);
    const char *pattern = rules_text(L, 1, "glob");
    if (*pattern == '/' || climbs(pattern)) rules_fail(L, "glob: the pattern %s leaves the repo", pattern);
    rules_saw_glob(r, pattern);
    struct paths paths = {.rules = r};
    struct err e;
    int status = glob_expand_looking(r->graph->root, pattern, collect, looked, &paths, &e);
    if (paths.count) qsort(paths.items, paths.count, sizeof *paths.items, compare_paths);
    lua_newtable(L);
    lua_Integer n = 0;
    for (uint32_t i = 0; i < paths.count; i++) {
        bool twin = i && !strcmp(paths.items[i], paths.items[i - 1]); /* "**" can meet a file twice */
        if (!status && !twin) {
            uint32_t file = graph_file(r->graph, paths.items[i]);
            rules_push_artifact(L, (struct artifact_ref){.step = NO_ID, .output = -1, .file = file});
            lua_rawseti(L, -2, ++n);
        }
    }
    for (uint32_t i = 0; i < paths.count; i++) free(paths.items[i]);
    free(paths.items);
    if (status) rules_fail(L, "glob %s: %s", pattern, e.text);
    return 1;
}

/* Reads a file of the repo that the rules depend on; the text is pushed. */
static const char *push_text(lua_State *L, const char *path, const char *what) {
    struct rules *r = rules_of(L);
    struct err e;
    const char *clean;
    struct buf text = {0};
    if (graph_normalize(r->graph, path, &clean, &e) || graph_check_links(r->graph, clean, true, &e) || sys_read_file(clean, &text, &e)) {
        buf_free(&text);
        rules_fail(L, "%s: %s", what, e.text);
    }
    rules_saw_file(r, clean);
    lua_pushlstring(L, buf_str(&text), text.len);
    buf_free(&text);
    return clean;
}

/* read(path): a file's text. */
static int api_read(lua_State *L) {
    push_text(L, rules_text(L, 1, "read"), "read");
    return 1;
}

/* include(path): runs another rule file; relative to the repo's root. Returns what it returns. */
static int api_include(lua_State *L) {
    struct rules *r = rules_of(L);
    const char *path = push_text(L, rules_text(L, 1, "include"), "include");
    if (r->include_depth >= 50) rules_fail(L, "include \"%s\": more than 50 files deep (does it include itself?)", path);
    size_t n;
    const char *text = lua_tolstring(L, -1, &n);
    lua_pushfstring(L, "@%s", path);
    if (luaL_loadbufferx(L, text, n, lua_tostring(L, -1), "t")) return lua_error(L);
    int base = lua_gettop(L) - 1;
    r->include_depth++;
    lua_call(L, 0, LUA_MULTRET);
    r->include_depth--;
    return lua_gettop(L) - base;
}

void rules_open_files(lua_State *L) {
    lua_register(L, "file", api_file);
    lua_register(L, "glob", api_glob);
    lua_register(L, "read", api_read);
    lua_register(L, "include", api_include);
}
