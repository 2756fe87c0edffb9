/* rules_dynamic.c: rules that are functions. `step "best" { define = function() … end }` says what the step is by what the function
 * returns; on its way it may ask for artifacts (`need`) and look at what came of them. It runs as a coroutine: the build makes what
 * was asked for and resumes it.
 */
#include "rules_private.h"

#include <stdlib.h>
#include <string.h>

/* -- need: asks, and gets what came of it */

/* Calls `each` for every artifact in the value at `index`: one, or a list of these. */
static void each_artifact(lua_State *L, int index, void (*each)(lua_State *L, struct artifact_ref *a)) {
    struct artifact_ref *a = rules_test_artifact(L, index);
    luaL_checkstack(L, 4, "need");
    if (a) {
        each(L, a);
        return;
    }
    if (lua_type(L, index) != LUA_TTABLE) rules_fail(L, "need: an artifact or a list of these expected, found a %s", luaL_typename(L, index));
    for (lua_Integer i = 1, n = (lua_Integer)lua_rawlen(L, index); i <= n; i++) {
        lua_rawgeti(L, index, i);
        each_artifact(L, lua_gettop(L), each);
        lua_pop(L, 1);
    }
}

static void ask(lua_State *L, struct artifact_ref *a) {
    struct rules *r = rules_of(L);
    if (a->step == NO_ID) return; /* a source is there */
    r->asked = mem_grow(r->asked, &r->asked_cap, r->asked_count + 1, sizeof *r->asked);
    r->asked[r->asked_count++] = a->step;
    graph_add_need(r->graph, r->defining, a->step);
}

static int api_need(lua_State *L) {
    struct rules *r = rules_of(L);
    if (r->coroutine != L) rules_fail(L, "need can be called in the function of a step's `define`, and not in a coroutine of its own making");
    r->asked_count = 0;
    r->asking = true;
    for (int i = 1, n = lua_gettop(L); i <= n; i++) each_artifact(L, i, ask);
    return lua_yield(L, lua_gettop(L)); /* resumed with what came of each */
}

static void push_value(lua_State *L, const struct value *v) {
    luaL_checkstack(L, 4, "metrics");
    switch (v->type) {
    case VALUE_NONE: lua_pushnil(L); break;
    case VALUE_BOOL: lua_pushboolean(L, v->boolean); break;
    case VALUE_INT: lua_pushinteger(L, v->integer); break;
    case VALUE_FLOAT: lua_pushnumber(L, v->number); break;
    case VALUE_STRING: lua_pushlstring(L, v->string, v->count); break;
    case VALUE_LIST:
    case VALUE_TABLE:
        lua_createtable(L, v->type == VALUE_LIST ? (int)v->count : 0, v->type == VALUE_TABLE ? (int)v->count : 0);
        for (uint32_t i = 0; i < v->count; i++) {
            push_value(L, &v->items[i]);
            if (v->type == VALUE_LIST) lua_rawseti(L, -2, (lua_Integer)i + 1);
            else lua_setfield(L, -2, v->keys[i]);
        }
        break;
    }
}

static void push_json(lua_State *L, const char *json) {
    struct rules *r = rules_of(L);
    struct value v = {.type = VALUE_NONE};
    struct err ignored;
    if (!json || value_parse(json, strlen(json), &r->graph->arena, &v, &ignored) || v.type != VALUE_TABLE) lua_newtable(L);
    else push_value(L, &v);
}

/* result.read([role]): the text of an output of what was asked for. */
static int result_read(lua_State *L) {
    const struct artifact_ref *a = rules_test_artifact(L, lua_upvalueindex(1));
    const struct graph *g = rules_of(L)->graph;
    uint32_t file = a->file;
    if (lua_type(L, 1) == LUA_TSTRING && a->step != NO_ID) {
        const struct step *s = &g->steps[a->step];
        for (uint32_t i = 0; i < s->output_count; i++)
            if (!strcmp(s->outputs[i].role, lua_tostring(L, 1))) file = s->outputs[i].file;
    }
    if (file == NO_ID) rules_fail(L, "read: \"%s\" has several outputs: say which", g->steps[a->step].name);
    struct buf text = {0};
    struct err e;
    if (sys_read_file(g->files[file].path, &text, &e)) {
        buf_free(&text);
        rules_fail(L, "read: %s", e.text);
    }
    lua_pushlstring(L, buf_str(&text), text.len);
    buf_free(&text);
    return 1;
}

/* What came of an artifact: { name, path, metrics, read }. */
static void push_result(lua_State *L, int index) {
    const struct artifact_ref *a = rules_test_artifact(L, index);
    const struct graph *g = rules_of(L)->graph;
    lua_newtable(L);
    if (a->step != NO_ID) {
        const struct step *s = &g->steps[a->step];
        lua_pushstring(L, s->name);
        lua_setfield(L, -2, "name");
        push_json(L, s->record ? s->record->metrics : NULL);
        lua_setfield(L, -2, "metrics");
    }
    if (a->file != NO_ID) {
        lua_pushstring(L, g->files[a->file].path);
        lua_setfield(L, -2, "path");
    }
    lua_pushvalue(L, index);
    lua_setfield(L, -2, "artifact");
    lua_pushvalue(L, index);
    lua_pushcclosure(L, result_read, 1);
    lua_setfield(L, -2, "read");
}

/* Results in the shape of what was asked. */
static void push_results(lua_State *L, int index) {
    luaL_checkstack(L, 8, "need");
    if (rules_test_artifact(L, index)) {
        push_result(L, index);
        return;
    }
    lua_newtable(L);
    int table = lua_gettop(L);
    for (lua_Integer i = 1, n = (lua_Integer)lua_rawlen(L, index); i <= n; i++) {
        lua_rawgeti(L, index, i);
        push_results(L, lua_gettop(L));
        lua_rawseti(L, table, i);
        lua_pop(L, 1);
    }
}

/* -- running a definition */

/* The coroutine of a step, kept in the registry under its index; new ones have the function on their stack. */
static lua_State *coroutine_of(struct rules *r, uint32_t step, bool *fresh) {
    lua_State *L = r->L;
    lua_getfield(L, LUA_REGISTRYINDEX, "mbuild.define");
    lua_rawgeti(L, -1, (lua_Integer)step + 1);
    *fresh = lua_type(L, -1) == LUA_TFUNCTION;
    if (*fresh) {
        lua_State *co = lua_newthread(L);
        lua_pushvalue(L, -2);
        lua_xmove(L, co, 1);
        lua_rawseti(L, -3, (lua_Integer)step + 1);
        lua_pop(L, 2);
        return co;
    }
    lua_State *co = lua_tothread(L, -1);
    lua_pop(L, 2);
    return co;
}

void rules_keep_define(lua_State *L, uint32_t step, int index) {
    struct rules *r = rules_of(L);
    if (lua_type(L, index) != LUA_TFUNCTION)
        rules_fail(L, "step \"%s\": define: a function expected, found a %s", r->graph->steps[step].name, luaL_typename(L, index));
    lua_getfield(L, LUA_REGISTRYINDEX, "mbuild.define");
    lua_pushvalue(L, index);
    lua_rawseti(L, -2, (lua_Integer)step + 1);
    lua_pop(L, 1);
    r->graph->steps[step].dynamic = true;
    r->dynamic_count++;
}

static int resume_error(struct rules *r, lua_State *co, uint32_t step, struct err *e) {
    const char *text = lua_tostring(co, -1);
    if (!text) text = "(an error that is no text)";
    const struct step *s = &r->graph->steps[step];
    bool placed = strstr(text, ": ") && !strncmp(text, s->where, strcspn(s->where, ":"));
    return placed ? err_set(e, "%s (in the definition of \"%s\")", text, s->name) : err_set(e, "%s: the definition of \"%s\": %s", s->where, s->name, text);
}

/* Takes over what the function returned: the table at 2, for the step at 1. */
static int take_definition(lua_State *L) {
    rules_read_definition(L, (uint32_t)lua_tointeger(L, 1), 2);
    return 0;
}

static int finish_definition(struct rules *r, lua_State *co, int results, uint32_t step, struct err *e) {
    lua_State *L = r->L;
    const struct step *s = &r->graph->steps[step];
    if (results < 1 || lua_type(co, -results) != LUA_TTABLE)
        return err_set(e, "%s: the definition of \"%s\" must return a table of what the step is (plugin, inputs, params …), found %s", s->where, s->name,
                       results < 1 ? "nothing" : luaL_typename(co, -results));
    lua_settop(L, 0);
    lua_pushcfunction(L, take_definition);
    lua_pushinteger(L, (lua_Integer)step);
    lua_pushvalue(co, -results);
    lua_xmove(co, L, 1);
    int status = lua_pcall(L, 2, 0, 0) ? err_set(e, "%s: the definition of \"%s\": %s", s->where, s->name, lua_tostring(L, -1)) : 0;
    lua_settop(L, 0);
    return status;
}

static int push_all_results(lua_State *L) {
    int n = lua_gettop(L);
    for (int i = 1; i <= n; i++) {
        push_results(L, i);
        lua_replace(L, i);
    }
    return n;
}

/* Replaces what a coroutine yielded (the artifacts asked for) by what came of them. */
static int answer(struct rules *r, lua_State *co, int asked, uint32_t step, struct err *e) {
    lua_State *L = r->L;
    lua_settop(L, 0);
    luaL_checkstack(L, asked + 4, "need");
    lua_pushcfunction(L, push_all_results);
    lua_xmove(co, L, asked);
    if (lua_pcall(L, asked, asked, 0)) {
        err_set(e, "%s: need in \"%s\": %s", r->graph->steps[step].where, r->graph->steps[step].name, lua_tostring(L, -1));
        lua_settop(L, 0);
        return -1;
    }
    lua_xmove(L, co, asked);
    return 0;
}

struct definition {
    uint32_t step;
    enum rules_answer *out;
    const uint32_t **needs;
    uint32_t *count;
};

static int go_on(struct rules *r, void *arg, struct err *e) {
    const struct definition *d = arg;
    uint32_t step = d->step;
    bool fresh;
    lua_State *co = coroutine_of(r, step, &fresh);
    int results = 0, given = 0;
    if (!fresh) {
        given = lua_gettop(co); /* a suspended coroutine's stack holds what it yielded */
        if (answer(r, co, given, step, e)) return -1;
    }
    uint32_t before = r->defining;
    r->defining = step;
    r->coroutine = co;
    r->asked_count = 0;
    r->asking = false;
    int status = lua_resume(co, r->L, given, &results);
    r->coroutine = NULL;
    r->defining = before;
    *d->needs = r->asked;
    *d->count = 0;
    if (status == LUA_YIELD && !r->asking) {
        const struct step *s = &r->graph->steps[step];
        return err_set(e, "%s: the definition of \"%s\" yields: need(…) is the way to wait there", s->where, s->name);
    }
    if (status == LUA_YIELD) {
        *d->out = RULES_NEEDS;
        *d->count = r->asked_count;
        return 0;
    }
    if (status != LUA_OK) return resume_error(r, co, step, e);
    *d->out = RULES_DEFINED;
    if (finish_definition(r, co, results, step, e)) return -1;
    r->graph->steps[step].defined = true;
    return 0;
}

int rules_define(struct rules *r, uint32_t step, enum rules_answer *out, const uint32_t **needs, uint32_t *count, struct err *e) {
    struct definition d = {.step = step, .out = out, .needs = needs, .count = count};
    *needs = NULL;
    *count = 0;
    return rules_run(r, go_on, &d, e);
}

void rules_open_dynamic(lua_State *L) {
    lua_newtable(L);
    lua_setfield(L, LUA_REGISTRYINDEX, "mbuild.define");
    lua_register(L, "need", api_need);
}
