/* rules_value.c: Lua values as parameter values; see value.h for their one form. */
#include "rules_private.h"

#include <math.h>
#include <string.h>

#define DEPTH_MOST 60

static void convert(lua_State *L, int index, const char *what, int depth, struct value *out);

static void convert_list(lua_State *L, int index, uint32_t n, const char *what, int depth, struct value *out) {
    out->type = VALUE_LIST;
    out->count = n;
    out->items = arena_alloc(&rules_of(L)->graph->arena, n * sizeof *out->items);
    for (uint32_t i = 0; i < n; i++) {
        lua_rawgeti(L, index, i + 1);
        convert(L, lua_gettop(L), what, depth + 1, &out->items[i]);
        lua_pop(L, 1);
    }
}

static void convert_table(lua_State *L, int index, uint32_t n, const char *what, int depth, struct value *out) {
    struct arena *a = &rules_of(L)->graph->arena;
    out->type = VALUE_TABLE;
    out->items = arena_alloc(a, n * sizeof *out->items);
    out->keys = arena_alloc(a, n * sizeof *out->keys);
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING)
            rules_fail(L, "%s: a table with both a list part and names, or with keys that are no strings", what);
        size_t length;
        const char *key = lua_tolstring(L, -2, &length);
        if (strlen(key) != length) rules_fail(L, "%s: a key holds a NUL byte", what);
        out->keys[out->count] = arena_strdup(a, key);
        convert(L, lua_gettop(L), what, depth + 1, &out->items[out->count]);
        out->count++;
    }
    const char *twin;
    value_sort(out, &twin); /* a Lua table has no twin keys */
}

static void convert(lua_State *L, int index, const char *what, int depth, struct value *out) {
    memset(out, 0, sizeof *out);
    if (depth > DEPTH_MOST) rules_fail(L, "%s: more than %d levels of tables (a table that holds itself?)", what, DEPTH_MOST);
    luaL_checkstack(L, 4, "nested tables");
    switch (lua_type(L, index)) {
    case LUA_TBOOLEAN:
        out->type = VALUE_BOOL;
        out->boolean = lua_toboolean(L, index);
        return;
    case LUA_TNUMBER:
        if (lua_isinteger(L, index)) {
            out->type = VALUE_INT;
            out->integer = lua_tointeger(L, index);
            return;
        }
        out->type = VALUE_FLOAT;
        out->number = lua_tonumber(L, index);
        if (!isfinite(out->number)) rules_fail(L, "%s: the number is %s", what, isnan(out->number) ? "not a number" : "infinite");
        return;
    case LUA_TSTRING: {
        size_t length;
        const char *s = lua_tolstring(L, index, &length);
        if (strlen(s) != length) rules_fail(L, "%s: a string holds a NUL byte", what);
        out->type = VALUE_STRING;
        out->count = (uint32_t)length;
        out->string = arena_strndup(&rules_of(L)->graph->arena, s, length);
        return;
    }
    case LUA_TTABLE: {
        uint32_t total = 0, listed = (uint32_t)lua_rawlen(L, index);
        for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) total++;
        if (total && total == listed)
            convert_list(L, index, total, what, depth, out);
        else
            convert_table(L, index, total, what, depth, out);
        return;
    }
    default:
        if (rules_test_artifact(L, index)) rules_fail(L, "%s: an artifact where a plain value is expected; artifacts go into inputs", what);
        rules_fail(L, "%s: a %s can't be a parameter", what, luaL_typename(L, index));
    }
}

void rules_to_value(lua_State *L, int index, const char *what, struct value *out) {
    convert(L, lua_absindex(L, index), what, 0, out);
}
