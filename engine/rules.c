/* rules.c: the sandbox that rule files run in: what they can reach, how much they may use, where errors point. */
#include "rules_private.h"
#include "sys_call.h"

#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MEMORY_LIMIT ((size_t)2 << 30)
#define INSTRUCTION_LIMIT 1000000000u /* about five seconds */
#define INSTRUCTION_STEP 100000

static const char rules_key; /* its address is the registry key */

struct rules *rules_of(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &rules_key);
    struct rules *r = lua_touserdata(L, -1);
    lua_pop(L, 1);
    r->clock.call = NULL; /* it is ours now, and not Lua's library's */
    r->clock.calls++;
    return r;
}

/* -- limits */

static bool in_library(const char *source) {
    return !strncmp(source, "@" LIBRARY_MARK, strlen("@" LIBRARY_MARK));
}

int rules_line(lua_State *L, char *file, size_t size) {
    lua_Debug ar;
    for (int level = 0; L && lua_getstack(L, level, &ar); level++) {
        if (!lua_getinfo(L, "Sl", &ar) || ar.currentline <= 0 || *ar.source != '@' || in_library(ar.source)) continue;
        snprintf(file, size, "%s", ar.source + 1);
        return ar.currentline;
    }
    return 0;
}

static void *change_size(struct rules *r, void *p, size_t old, size_t size) {
    if (!p) old = 0;
    if (!size) {
        free(p);
        r->memory -= old;
        return NULL;
    }
    if (size > old && r->memory + (size - old) > r->memory_most) {
        r->memory_refused = true; /* Lua gives errors of memory no place of their own */
        r->hungry_line = rules_line(r->L, r->hungry_file, sizeof r->hungry_file);
        return NULL;
    }
    void *q = size > old && sys_fault(SYS_ALLOC) ? NULL : realloc(p, size); /* Lua counts on it that shrinking succeeds */
    if (q) r->memory += size - old;
    return q;
}

static void *limited_alloc(void *ud, void *p, size_t old, size_t size) {
    struct rules *r = ud;
    r->allocating = true;
    void *q = change_size(r, p, old, size);
    r->allocating = false;
    return q;
}

void rules_count_hook(lua_State *L, lua_Debug *ar) {
    (void)ar;
    struct rules *r = rules_of(L);
    if (!r->clock.over) r->instructions += INSTRUCTION_STEP;
    if (r->instructions < r->instructions_most && !r->clock.over) return;
    lua_sethook(L, rules_count_hook, LUA_MASKCOUNT, 1); /* a pcall around it must not go on */
    if (r->clock.over) rules_fail_time(L);
    rules_fail(L, "the rules ran for more than %u million instructions: a loop that never ends?", (unsigned)(r->instructions_most / 1000000));
}

/* -- places and errors */

const char *rules_where(lua_State *L) {
    lua_Debug ar;
    struct rules *r = rules_of(L);
    for (int level = 0; lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "Sl", &ar);
        if (ar.currentline < 0 || *ar.source != '@' || in_library(ar.source)) continue;
        return arena_printf(&r->graph->arena, "%s:%d", ar.source + 1, ar.currentline);
    }
    return r->options->file;
}

int rules_fail(lua_State *L, const char *format, ...) {
    char text[3072];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    lua_pushfstring(L, "%s: %s", rules_where(L), text);
    return lua_error(L);
}

/* Errors that Lua itself raises inside the standard library get the user's place in front. */
static int message_handler(lua_State *L) {
    const char *text = lua_tostring(L, 1);
    if (!text) text = lua_pushfstring(L, "(an error that is a %s)", luaL_typename(L, 1));
    if (!strncmp(text, LIBRARY_MARK, strlen(LIBRARY_MARK)))
        lua_pushfstring(L, "%s: %s", rules_where(L), text);
    else
        lua_pushstring(L, text);
    return 1;
}

const char *rules_text(lua_State *L, int index, const char *what) {
    size_t n;
    if (lua_type(L, index) != LUA_TSTRING) rules_fail(L, "%s: a string expected, found a %s", what, luaL_typename(L, index));
    const char *text = lua_tolstring(L, index, &n);
    if (strlen(text) != n) rules_fail(L, "%s: the name holds a NUL byte", what);
    return text;
}

/* -- the sandbox */

static int compare_lua_keys(lua_State *L, int a, int b) {
    int ta = lua_type(L, a), tb = lua_type(L, b);
    if (ta != tb) return ta == LUA_TNUMBER ? -1 : tb == LUA_TNUMBER ? 1 : ta - tb;
    if (ta == LUA_TNUMBER || ta == LUA_TSTRING) return lua_compare(L, a, b, LUA_OPLT) ? -1 : lua_compare(L, b, a, LUA_OPLT) ? 1 : 0;
    return 0;
}

static int sorted_next(lua_State *L) {
    lua_Integer i = lua_tointeger(L, lua_upvalueindex(2));
    for (;;) {
        i++;
        if (lua_rawgeti(L, lua_upvalueindex(1), i) == LUA_TNIL) return 1;
        lua_pushvalue(L, -1);
        if (lua_rawget(L, 1) != LUA_TNIL) break; /* an entry removed meanwhile is passed over */
        lua_pop(L, 2);
    }
    lua_pushinteger(L, i);
    lua_replace(L, lua_upvalueindex(2));
    return 2;
}

static int key_less(lua_State *L) {
    lua_pushboolean(L, compare_lua_keys(L, 1, 2) < 0);
    return 1;
}

/* pairs() in sorted order of keys: numbers, then strings, then the rest. Lua's own order changes from run to run. */
static int sorted_pairs(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_newtable(L);
    lua_Integer n = 0;
    for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1)) {
        lua_pushvalue(L, -2);
        lua_rawseti(L, -4, ++n);
    }
    lua_getfield(L, LUA_REGISTRYINDEX, "mbuild.sort");
    lua_pushvalue(L, -2);
    lua_pushcfunction(L, key_less);
    lua_call(L, 2, 0);
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, sorted_next, 2);
    lua_pushvalue(L, 1);
    lua_pushnil(L);
    return 3;
}

static int print(lua_State *L) {
    struct rules *r = rules_of(L);
    luaL_Buffer b;
    int n = lua_gettop(L);
    luaL_buffinit(L, &b);
    for (int i = 1; i <= n; i++) {
        if (i > 1) luaL_addchar(&b, '\t');
        luaL_tolstring(L, i, NULL);
        luaL_addvalue(&b);
    }
    luaL_pushresult(&b);
    if (r->options->print) r->options->print(r->options->ctx, lua_tostring(L, -1));
    return 0;
}

/* load() of text alone: bytecode can break the interpreter. */
static int load_text(lua_State *L) {
    size_t n;
    const char *text = luaL_checklstring(L, 1, &n);
    const char *name = luaL_optstring(L, 2, text);
    if (luaL_loadbufferx(L, text, n, name, "t") == LUA_OK) {
        if (lua_gettop(L) >= 4) {
            lua_pushvalue(L, 4);
            if (!lua_setupvalue(L, -2, 1)) lua_pop(L, 1);
        }
        return 1;
    }
    lua_pushnil(L);
    lua_insert(L, -2);
    return 2;
}

static void remove_names(lua_State *L, const char *table, const char *const *names) {
    lua_getglobal(L, table);
    for (; *names; names++) {
        lua_pushnil(L);
        lua_setfield(L, -2, *names);
    }
    lua_pop(L, 1);
}

static void open_libraries(lua_State *L) {
    static const luaL_Reg libraries[] = {{LUA_GNAME, luaopen_base}, {LUA_STRLIBNAME, luaopen_string}, {LUA_TABLIBNAME, luaopen_table},
                                         {LUA_MATHLIBNAME, luaopen_math}, {LUA_UTF8LIBNAME, luaopen_utf8}, {LUA_COLIBNAME, luaopen_coroutine}};
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
        luaL_requiref(L, libraries[i].name, libraries[i].func, 1);
        lua_pop(L, 1);
    }
    remove_names(L, "_G", (const char *const[]){"dofile", "loadfile", "collectgarbage", NULL});
    remove_names(L, "string", (const char *const[]){"dump", NULL});
    remove_names(L, "math", (const char *const[]){"random", "randomseed", NULL});
    lua_getglobal(L, "table");
    lua_getfield(L, -1, "sort");
    lua_setfield(L, LUA_REGISTRYINDEX, "mbuild.sort");
    lua_pop(L, 1);
    lua_register(L, "pairs", sorted_pairs);
    lua_register(L, "print", print);
    lua_register(L, "load", load_text);
}

/* -- loading */

/* Keeps a string that wasn't seen before. */
static void saw(struct rules *r, struct intern *seen, const char *text, const char ***list, uint32_t *count, uint32_t *cap) {
    uint32_t before = seen->count;
    if (intern_add(seen, text) < before) return;
    *list = mem_grow(*list, cap, *count + 1, sizeof **list);
    (*list)[(*count)++] = arena_strdup(&r->graph->arena, text);
}

void rules_saw_file(struct rules *r, const char *path) {
    saw(r, &r->seen_files, path, &r->seen->files, &r->seen->file_count, &r->seen->file_cap);
}

void rules_saw_glob(struct rules *r, const char *pattern) {
    saw(r, &r->seen_globs, pattern, &r->seen->globs, &r->seen->glob_count, &r->seen->glob_cap);
}

void rules_saw_folder(struct rules *r, const char *path) {
    saw(r, &r->seen_folders, path, &r->seen->folders, &r->seen->folder_count, &r->seen->folder_cap);
}

/* Errors outside of protected calls, while the host itself is set up or looked at: nothing but memory can be the cause. */
static int panic(lua_State *L) {
    (void)L;
    mem_exhausted(0);
}

static int load_library(struct rules *r, const char *name, struct err *e) {
    char *path = mem_printf("%s/%s", r->options->library, name), *chunk = mem_printf("@%s%s", LIBRARY_MARK, name);
    struct buf text = {0};
    int status = sys_read_file(path, &text, e);
    if (!status) {
        rules_saw_file(r, path);
        lua_pushcfunction(r->L, message_handler);
        if (luaL_loadbufferx(r->L, buf_str(&text), text.len, chunk, "t") || lua_pcall(r->L, 0, 0, -2))
            status = err_set(e, "the standard rule library: %s", lua_tostring(r->L, -1));
        lua_settop(r->L, 0);
    }
    buf_free(&text);
    free(path);
    free(chunk);
    return status;
}

static int load_libraries(struct rules *r, struct err *e) {
    char **names;
    uint32_t count;
    if (sys_list(r->options->library, &names, &count, e))
        return err_wrap(e, "cannot read the standard rule library");
    int status = 0;
    for (uint32_t i = 0; i < count && !status; i++) /* prelude.lua comes first: the others use it */
        if (!strcmp(names[i], "prelude.lua")) status = load_library(r, names[i], e);
    for (uint32_t i = 0; i < count && !status; i++) {
        size_t n = strlen(names[i]);
        if (n > 4 && !strcmp(names[i] + n - 4, ".lua") && strcmp(names[i], "prelude.lua")) status = load_library(r, names[i], e);
    }
    free(names);
    return status;
}

static int run_chunk(struct rules *r, void *text, struct err *e) {
    const struct buf *b = text;
    char chunk[4096];
    snprintf(chunk, sizeof chunk, "@%s", r->options->file);
    lua_pushcfunction(r->L, message_handler);
    int status = 0;
    if (luaL_loadbufferx(r->L, buf_str(b), b->len, chunk, "t") || lua_pcall(r->L, 0, 0, -2)) {
        if (r->memory_refused && !strcmp(lua_tostring(r->L, -1), "not enough memory"))
            status = err_set(e, "%s:%d: the rules need more than %zu MiB of memory", r->hungry_line ? r->hungry_file : r->options->file,
                             r->hungry_line, r->memory_most >> 20);
        else
            status = err_set(e, "%s", lua_tostring(r->L, -1));
    }
    lua_settop(r->L, 0);
    return status;
}

static int run_rule_file(struct rules *r, struct err *e) {
    struct buf text = {0};
    struct file_stat st;
    if (sys_stat(r->options->file, false, &st, e)) return -1;
    if (st.kind == FILE_ABSENT)
        return err_set(e, "there is no %s here; `mbuild init` starts a model repo, -C DIR and -f FILE name another", r->options->file);
    if (sys_read_file(r->options->file, &text, e)) return -1;
    rules_saw_file(r, r->options->file);
    int status = rules_run(r, run_chunk, &text, e);
    buf_free(&text);
    return status;
}

static int read_settings(struct rules *r, struct err *e) {
    r->settings = mem_alloc(r->options->setting_count * sizeof *r->settings);
    for (uint32_t i = 0; i < r->options->setting_count; i++) {
        const char *text = r->options->settings[i], *equals = strchr(text, '=');
        if (!equals || equals == text) return err_set(e, "name=value expected, found %s", text);
        r->settings[i].name = arena_strndup(&r->graph->arena, text, (size_t)(equals - text));
        r->settings[i].value = equals + 1;
    }
    return 0;
}

static int check_settings(struct rules *r, struct err *e) {
    for (uint32_t i = 0; i < r->options->setting_count; i++) {
        if (r->settings[i].used) continue;
        const char *near = mem_nearest(r->settings[i].name, r->option_names, r->option_count);
        return err_set(e, "%s declares no option \"%s\"%s%s%s", r->options->file, r->settings[i].name, near ? "; did you mean \"" : "",
                       near ? near : "", near ? "\"?" : "");
    }
    return 0;
}

/* The rule file is the user's own work, and nothing brings it back. */
static int check_rule_file(struct rules *r, struct err *e) {
    const struct graph *g = r->graph;
    const char *path;
    struct err outside;
    if (graph_normalize(r->graph, r->options->file, &path, &outside)) return 0;
    uint32_t file = graph_find_file(g, path);
    if (file == NO_ID || g->files[file].producer == NO_ID) return 0;
    const struct step *s = &g->steps[g->files[file].producer];
    return err_set(e, "%s: step \"%s\": the output %s is the rule file itself", s->where, s->name, path);
}

/* The default target, and names in plugin = "…" that are artifacts, are only known when all rules are in. */
static int finish(struct graph *g, struct err *e) {
    if (g->default_target) {
        uint32_t *steps = NULL, count = 0, cap = 0;
        int status = graph_resolve(g, g->default_target, &steps, &count, &cap, e);
        free(steps);
        if (status) return err_wrap(e, "%s: default", g->default_where);
    }
    return graph_check(g, e);
}

/* A state that was left in the midst of something can't even be closed. It stays, where checkers of leaks find it. */
static void give_up(lua_State *L) {
    static struct given_up {
        struct given_up *next;
        lua_State *L;
    } *all;
    struct given_up *one = mem_alloc(sizeof *one);
    *one = (struct given_up){.next = all, .L = L};
    all = one;
}

void rules_free(struct rules *r) {
    if (!r) return;
    if (r->L && r->broken) give_up(r->L);
    else if (r->L) lua_close(r->L);
    intern_free(&r->seen_files);
    intern_free(&r->seen_globs);
    intern_free(&r->seen_folders);
    free(r->settings);
    free(r->option_names);
    free(r->slots);
    free(r->names);
    free(r->asked);
    free(r);
}

int rules_evaluate(struct graph *g, const struct rules_options *o, struct rules_seen *seen, struct rules **out, struct err *e) {
    struct rules *r = mem_alloc(sizeof *r);
    *out = NULL;
    *r = (struct rules){.graph = g, .options = o, .seen = seen, .defining = NO_ID,
                        .memory_most = o->memory_most ? o->memory_most : MEMORY_LIMIT,
                        .instructions_most = o->instructions_most ? o->instructions_most : INSTRUCTION_LIMIT};
    int status = read_settings(r, e);
    if (!status) {
        r->L = lua_newstate(limited_alloc, r);
        if (!r->L) status = err_set(e, "cannot start Lua: out of memory");
    }
    if (!status) {
        lua_atpanic(r->L, panic);
        lua_pushlightuserdata(r->L, r);
        lua_rawsetp(r->L, LUA_REGISTRYINDEX, &rules_key);
        open_libraries(r->L);
        rules_open_step(r->L);
        rules_open_files(r->L);
        rules_open_dynamic(r->L);
        rules_open_time(r->L);
        lua_gc(r->L, LUA_GCGEN, 0, 0);
        status = load_libraries(r, e);
        lua_sethook(r->L, rules_count_hook, LUA_MASKCOUNT, INSTRUCTION_STEP);
    }
    if (!status) status = run_rule_file(r, e);
    if (!status) status = check_settings(r, e);
    if (!status) status = check_rule_file(r, e);
    if (!status) status = finish(g, e);
    if (!status && r->dynamic_count) *out = r;
    else rules_free(r);
    return status;
}
