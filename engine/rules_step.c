/* rules_step.c: the rule API's one primitive, step, and what names and configures things: alias, default, option, project, pool. */
#include "rules_private.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* -- artifacts */

static const char artifact_type[] = "mbuild.artifact";

void rules_push_artifact(lua_State *L, struct artifact_ref ref) {
    struct artifact_ref *p = lua_newuserdatauv(L, sizeof *p, 0);
    *p = ref;
    luaL_setmetatable(L, artifact_type);
}

struct artifact_ref *rules_test_artifact(lua_State *L, int index) {
    return luaL_testudata(L, index, artifact_type);
}

static struct artifact_ref *check_artifact(lua_State *L, int index) {
    struct artifact_ref *a = rules_test_artifact(L, index);
    if (!a) rules_fail(L, "an artifact expected, found a %s", luaL_typename(L, index));
    return a;
}

static void output_names(const struct step *s, struct buf *out) {
    for (uint32_t i = 0; i < s->output_count; i++) buf_addf(out, "%s%s", i ? ", " : "", *s->outputs[i].role ? s->outputs[i].role : "(unnamed)");
}

/* artifact.part: one of the outputs of the step that makes it, by role or by number. */
static int artifact_index(lua_State *L) {
    struct artifact_ref *a = check_artifact(L, 1);
    const struct graph *g = rules_of(L)->graph;
    if (a->step == NO_ID) rules_fail(L, "the source %s has no parts", g->files[a->file].path);
    const struct step *s = &g->steps[a->step];
    if (lua_isinteger(L, 2)) {
        lua_Integer i = lua_tointeger(L, 2);
        if (i < 1 || i > s->output_count) rules_fail(L, "\"%s\" has %u outputs; there is no number %lld", s->name, s->output_count, (long long)i);
        rules_push_artifact(L, (struct artifact_ref){a->step, (int32_t)(i - 1), s->outputs[i - 1].file});
        return 1;
    }
    const char *name = luaL_checkstring(L, 2);
    for (uint32_t i = 0; i < s->output_count; i++) {
        if (strcmp(s->outputs[i].role, name)) continue;
        rules_push_artifact(L, (struct artifact_ref){a->step, (int32_t)i, s->outputs[i].file});
        return 1;
    }
    struct buf names = {0};
    output_names(s, &names);
    lua_pushstring(L, buf_str(&names)); /* so that the error below leaks nothing */
    buf_free(&names);
    return rules_fail(L, "\"%s\" has no output \"%s\"; it has %s", s->name, name, lua_tostring(L, -1));
}

static const char *artifact_path(const struct graph *g, const struct artifact_ref *a) {
    if (a->file != NO_ID) return g->files[a->file].path;
    const struct step *s = &g->steps[a->step];
    return s->output_count == 1 ? g->files[s->outputs[0].file].path : NULL;
}

static int artifact_tostring(lua_State *L) {
    const struct artifact_ref *a = check_artifact(L, 1);
    const char *path = artifact_path(rules_of(L)->graph, a);
    lua_pushstring(L, path ? path : rules_of(L)->graph->steps[a->step].name);
    return 1;
}

static int api_is_artifact(lua_State *L) {
    lua_pushboolean(L, rules_test_artifact(L, 1) != NULL);
    return 1;
}

/* name_of(artifact): the name of its step, or a source's path. */
static int api_name_of(lua_State *L) {
    const struct artifact_ref *a = check_artifact(L, 1);
    const struct graph *g = rules_of(L)->graph;
    lua_pushstring(L, a->step == NO_ID ? g->files[a->file].path : g->steps[a->step].name);
    return 1;
}

/* path_of(artifact): where its one output stands. */
static int api_path_of(lua_State *L) {
    const struct artifact_ref *a = check_artifact(L, 1);
    const struct graph *g = rules_of(L)->graph;
    const char *path = artifact_path(g, a);
    if (!path) rules_fail(L, "\"%s\" has %u outputs: say which", g->steps[a->step].name, g->steps[a->step].output_count);
    lua_pushstring(L, path);
    return 1;
}

/* outputs_of(artifact): the names of its step's outputs, in order. */
static int api_outputs_of(lua_State *L) {
    const struct artifact_ref *a = check_artifact(L, 1);
    lua_newtable(L);
    if (a->step == NO_ID) return 1;
    const struct step *s = &rules_of(L)->graph->steps[a->step];
    for (uint32_t i = 0; i < s->output_count; i++) {
        lua_pushstring(L, s->outputs[i].role);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/* -- inputs and outputs of a step */

static void add_slot(struct rules *r, const char *role, uint32_t file) {
    r->slots = mem_grow(r->slots, &r->slot_cap, r->slot_count + 1, sizeof *r->slots);
    r->slots[r->slot_count++] = (struct slot){.role = role, .file = file};
}

static void add_input(lua_State *L, struct rules *r, const char *step, const char *role, int index);

static void add_input_string(lua_State *L, struct rules *r, const char *step, const char *role, const char *text) {
    if (!glob_is_pattern(text)) {
        add_slot(r, role, rules_source(L, text));
        return;
    }
    lua_getglobal(L, "glob");
    lua_pushstring(L, text);
    lua_call(L, 1, 1);
    if (!lua_rawlen(L, -1)) rules_fail(L, "step \"%s\": no file matches the input %s", step, text);
    add_input(L, r, step, role, lua_gettop(L));
    lua_pop(L, 1);
}

/* An artifact, a path, a pattern, or a list of these. */
static void add_input(lua_State *L, struct rules *r, const char *step, const char *role, int index) {
    luaL_checkstack(L, 6, "inputs");
    const struct artifact_ref *a = rules_test_artifact(L, index);
    if (a && a->file != NO_ID) {
        add_slot(r, role, a->file);
    } else if (a) {
        const struct step *s = &r->graph->steps[a->step];
        for (uint32_t i = 0; i < s->output_count; i++) add_slot(r, role, s->outputs[i].file);
    } else if (lua_type(L, index) == LUA_TSTRING) {
        add_input_string(L, r, step, role, rules_text(L, index, "an input"));
    } else if (lua_type(L, index) == LUA_TTABLE) {
        lua_Integer n = (lua_Integer)lua_rawlen(L, index);
        for (lua_Integer i = 1; i <= n; i++) {
            lua_rawgeti(L, index, i);
            add_input(L, r, step, role, lua_gettop(L));
            lua_pop(L, 1);
        }
    } else {
        rules_fail(L, "step \"%s\": an input %s is a %s: an artifact, a path or a list of these expected", step, role, luaL_typename(L, index));
    }
}

/* Roles in sorted order, within a role the rule's own order: insertion sort is stable, and nearly always there is nothing to do. */
static void keep_slots(struct rules *r, struct slot **out, uint32_t *count) {
    for (uint32_t i = 1; i < r->slot_count; i++) {
        struct slot slot = r->slots[i];
        uint32_t k = i;
        for (; k > 0 && strcmp(r->slots[k - 1].role, slot.role) > 0; k--) r->slots[k] = r->slots[k - 1];
        r->slots[k] = slot;
    }
    *out = arena_alloc(&r->graph->arena, r->slot_count * sizeof **out);
    if (r->slot_count) memcpy(*out, r->slots, r->slot_count * sizeof **out);
    *count = r->slot_count;
}

/* Calls `add` for the unnamed entries of the table at `index`, then for each named one. */
static void each_entry(lua_State *L, int index, struct rules *r, const char *step, void (*add)(lua_State *, struct rules *, const char *, const char *, int)) {
    lua_Integer n = (lua_Integer)lua_rawlen(L, index);
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, index, i);
        add(L, r, step, "", lua_gettop(L));
        lua_pop(L, 1);
    }
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
        if (lua_isinteger(L, -2)) continue;
        if (lua_type(L, -2) != LUA_TSTRING) rules_fail(L, "step \"%s\": a role's name must be a string", step);
        add(L, r, step, arena_strdup(&r->graph->arena, rules_text(L, -2, "a role")), lua_gettop(L));
    }
}

static void add_output(lua_State *L, struct rules *r, const char *step, const char *role, int index) {
    if (lua_type(L, index) == LUA_TTABLE) { /* a role with several */
        lua_Integer n = (lua_Integer)lua_rawlen(L, index);
        for (lua_Integer i = 1; i <= n; i++) {
            lua_rawgeti(L, index, i);
            add_output(L, r, step, role, lua_gettop(L));
            lua_pop(L, 1);
        }
        return;
    }
    if (lua_type(L, index) != LUA_TSTRING) rules_fail(L, "step \"%s\": an output %s is a %s: a path expected", step, role, luaL_typename(L, index));
    const char *path = rules_text(L, index, "an output");
    size_t n = strlen(path);
    add_slot(r, role, rules_source(L, path));
    r->slots[r->slot_count - 1].shared = n && path[n - 1] == '/';
}

static void read_inputs(lua_State *L, uint32_t s, int index) {
    struct rules *r = rules_of(L);
    const char *name = r->graph->steps[s].name;
    r->slot_count = 0;
    if (lua_type(L, index) == LUA_TTABLE) each_entry(L, index, r, name, add_input);
    else add_input(L, r, name, "", index);
    keep_slots(r, &r->graph->steps[s].inputs, &r->graph->steps[s].input_count);
}

static void read_outputs(lua_State *L, uint32_t s, int index) {
    struct rules *r = rules_of(L);
    struct graph *g = r->graph;
    const char *name = g->steps[s].name;
    r->slot_count = 0;
    if (lua_isnil(L, index)) add_slot(r, "", rules_source(L, arena_printf(&g->arena, "build/%s", name)));
    else if (lua_type(L, index) == LUA_TTABLE) each_entry(L, index, r, name, add_output);
    else add_output(L, r, name, "", index);
    keep_slots(r, &g->steps[s].outputs, &g->steps[s].output_count);
    struct err e;
    for (uint32_t i = 0; i < g->steps[s].output_count; i++)
        if (graph_set_output(g, s, i, &e)) rules_fail(L, "%s", e.text);
}

/* -- the other fields of a step */

static bool parse_quantity(const char *text, const char *const *units, const double *factors, double *out) {
    char *end;
    *out = strtod(text, &end);
    if (end == text || *out < 0) return false;
    while (*end == ' ') end++;
    for (size_t i = 0; units[i]; i++) {
        if (strcmp(end, units[i])) continue;
        *out *= factors[i];
        return true;
    }
    return false;
}

/* "2h", "90 s", or seconds as a number. */
static uint32_t read_timeout(lua_State *L, int index, const char *step) {
    static const char *const units[] = {"", "s", "ms", "m", "min", "h", "d", NULL};
    static const double factors[] = {1, 1, 1e-3, 60, 60, 3600, 86400};
    double seconds = lua_tonumber(L, index);
    bool fine = lua_type(L, index) == LUA_TNUMBER;
    if (lua_type(L, index) == LUA_TSTRING) fine = parse_quantity(lua_tostring(L, index), units, factors, &seconds);
    if (!fine || !(seconds > 0) || seconds > 4e6) rules_fail(L, "step \"%s\": timeout: a time such as \"30s\", \"10m\" or \"2h\" expected", step);
    return (uint32_t)(seconds * 1000);
}

static uint64_t read_memory(lua_State *L, int index, const char *step) {
    static const char *const units[] = {"", "B", "K", "KiB", "M", "MiB", "G", "GiB", "T", "TiB", NULL};
    static const double factors[] = {1, 1, 1024, 1024, 1048576, 1048576, 1073741824, 1073741824, 1099511627776.0, 1099511627776.0};
    double bytes = lua_tonumber(L, index);
    bool fine = lua_type(L, index) == LUA_TNUMBER;
    if (lua_type(L, index) == LUA_TSTRING) fine = parse_quantity(lua_tostring(L, index), units, factors, &bytes);
    if (!fine || !(bytes >= 1) || bytes > 1e18) rules_fail(L, "step \"%s\": mem: a size such as \"512M\" or \"4G\" expected", step);
    return (uint64_t)bytes;
}

static int read_count(lua_State *L, int index, const char *step, const char *what, int least, int most) {
    int fine;
    lua_Integer n = lua_tointegerx(L, index, &fine);
    if (!fine || n < least || n > most) rules_fail(L, "step \"%s\": %s: a whole number from %d to %d expected", step, what, least, most);
    return (int)n;
}

static int unknown_field(lua_State *L, const char *step, const char *field, const char *const *known, size_t count) {
    const char *near = mem_nearest(field, known, count);
    if (near) return rules_fail(L, "step \"%s\": unknown field %s; did you mean \"%s\"?", step, field, near);
    return rules_fail(L, "step \"%s\": unknown field %s", step, field);
}

static void read_resources(lua_State *L, struct graph *g, struct step *s, int index) {
    static const char *const known[] = {"cpu", "gpu", "mem", "pool"};
    if (lua_type(L, index) != LUA_TTABLE) rules_fail(L, "step \"%s\": resources: a table expected", s->name);
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
        const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "(a number)";
        int value = lua_gettop(L);
        bool all = lua_type(L, value) == LUA_TSTRING && !strcmp(lua_tostring(L, value), "all");
        if (!strcmp(key, "cpu")) s->resources.cpu = all ? 0 : read_count(L, value, s->name, "cpu", 1, 4096);
        else if (!strcmp(key, "gpu")) s->resources.gpu = read_count(L, value, s->name, "gpu", 0, 1024);
        else if (!strcmp(key, "mem")) s->resources.mem = read_memory(L, value, s->name);
        else if (!strcmp(key, "pool")) s->resources.pool = graph_pool(g, rules_text(L, value, "pool"));
        else unknown_field(L, s->name, key, known, sizeof known / sizeof *known);
    }
}

static void read_env(lua_State *L, struct graph *g, struct step *s, int index) {
    if (lua_type(L, index) != LUA_TTABLE) rules_fail(L, "step \"%s\": env: a list of variable names expected", s->name);
    uint32_t n = (uint32_t)lua_rawlen(L, index);
    s->env = arena_alloc(&g->arena, n * sizeof *s->env);
    for (uint32_t i = 0; i < n; i++) {
        lua_rawgeti(L, index, i + 1);
        const char *name = lua_type(L, -1) == LUA_TSTRING ? rules_text(L, -1, "env") : "";
        if (!*name || strchr(name, '=')) rules_fail(L, "step \"%s\": env: entry %u is no variable name", s->name, i + 1);
        s->env[s->env_count++] = arena_strdup(&g->arena, name);
        lua_pop(L, 1);
    }
}

static void read_plugin(lua_State *L, struct graph *g, struct step *s, int index) {
    const struct artifact_ref *a = rules_test_artifact(L, index);
    if (a) {
        const char *path = artifact_path(g, a);
        if (!path) rules_fail(L, "step \"%s\": plugin: \"%s\" has several outputs: say which", s->name, g->steps[a->step].name);
        s->plugin_file = graph_find_file(g, path);
        s->plugin = a->step == NO_ID ? path : g->steps[a->step].name;
    } else if (lua_type(L, index) == LUA_TSTRING && *lua_tostring(L, index)) {
        s->plugin = arena_strdup(&g->arena, rules_text(L, index, "plugin"));
    } else {
        rules_fail(L, "step \"%s\": plugin: the name of a plugin or an artifact expected", s->name);
    }
}

static void read_field(lua_State *L, struct graph *g, uint32_t index, const char *key, int value) {
    static const char *const known[] = {"plugin", "inputs", "outputs", "params", "resources", "timeout", "retries", "env", "network", "define"};
    struct step *s = &g->steps[index];
    if (!strcmp(key, "plugin")) read_plugin(L, g, s, value);
    else if (!strcmp(key, "inputs")) read_inputs(L, index, value);
    else if (!strcmp(key, "outputs")) return; /* read last: an error there names the whole step */
    else if (!strcmp(key, "params")) rules_to_value(L, value, "params", &s->params);
    else if (!strcmp(key, "resources")) read_resources(L, g, s, value);
    else if (!strcmp(key, "timeout")) s->timeout_ms = read_timeout(L, value, s->name);
    else if (!strcmp(key, "retries")) s->retries = (uint32_t)read_count(L, value, s->name, "retries", 0, 1000);
    else if (!strcmp(key, "env")) read_env(L, g, s, value);
    else if (!strcmp(key, "network")) s->network = lua_toboolean(L, value);
    else if (!strcmp(key, "define")) rules_keep_define(L, index, value);
    else unknown_field(L, s->name, key, known, sizeof known / sizeof *known);
}

static void check_whole(lua_State *L, struct step *s) {
    if (!s->plugin) rules_fail(L, "step \"%s\": plugin is missing: which plugin makes it?", s->name);
    if (s->params.type == VALUE_LIST && !s->params.count) s->params.type = VALUE_TABLE;
    if (s->params.type != VALUE_TABLE) rules_fail(L, "step \"%s\": params: a table with names expected", s->name);
}

void rules_read_definition(lua_State *L, uint32_t index, int table) {
    struct graph *g = rules_of(L)->graph;
    if (!strcmp(g->steps[index].plugin, "dynamic")) g->steps[index].plugin = NULL;
    for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) {
        const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "(a number)";
        if (!strcmp(key, "outputs") || !strcmp(key, "define"))
            rules_fail(L, "%s can't come from the definition: say it beside `define`, where others can see it before anything runs", key);
        read_field(L, g, index, key, lua_gettop(L));
    }
    check_whole(L, &g->steps[index]);
}

/* The second half of step "name" { … }. */
static int declare_step(lua_State *L) {
    struct rules *r = rules_of(L);
    struct graph *g = r->graph;
    const char *name = lua_tostring(L, lua_upvalueindex(1));
    if (lua_type(L, 1) != LUA_TTABLE) rules_fail(L, "step \"%s\": a table expected after the name", name);
    if (r->options->reserved && r->options->reserved(r->options->ctx, name))
        rules_fail(L, "\"%s\" can't be a target's name: `mbuild %s` is a command", name, name);
    struct err e;
    uint32_t index;
    if (graph_add_step(g, name, rules_where(L), &index, &e)) rules_fail(L, "%s", e.text);
    g->steps[index].params = (struct value){.type = VALUE_TABLE};
    for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING) rules_fail(L, "step \"%s\": an entry without a name", name);
        read_field(L, g, index, lua_tostring(L, -2), lua_gettop(L));
    }
    lua_getfield(L, 1, "outputs");
    read_outputs(L, index, lua_gettop(L));
    if (g->steps[index].dynamic && !g->steps[index].plugin) g->steps[index].plugin = "dynamic";
    else check_whole(L, &g->steps[index]);
    const struct step *s = &g->steps[index];
    bool single = s->output_count == 1;
    rules_push_artifact(L, (struct artifact_ref){index, single ? 0 : -1, single ? s->outputs[0].file : NO_ID});
    return 1;
}

static const char *check_name(lua_State *L, const char *what) {
    if (lua_type(L, 1) != LUA_TSTRING) rules_fail(L, "%s: a name in quotes expected, found a %s", what, luaL_typename(L, 1));
    return rules_text(L, 1, what);
}

static int api_step(lua_State *L) {
    check_name(L, "step");
    lua_settop(L, 1);
    lua_pushcclosure(L, declare_step, 1);
    return 1;
}

/* -- names: alias, default */

static void alias_names(lua_State *L, struct rules *r, int index) {
    struct graph *g = r->graph;
    const struct artifact_ref *a = rules_test_artifact(L, index);
    const char *name = NULL;
    if (a) name = a->step == NO_ID ? g->files[a->file].path : g->steps[a->step].name;
    else if (lua_type(L, index) == LUA_TSTRING) name = arena_strdup(&g->arena, rules_text(L, index, "alias"));
    if (name) {
        r->names = mem_grow(r->names, &r->name_cap, r->name_count + 1, sizeof *r->names);
        r->names[r->name_count++] = name;
        return;
    }
    if (lua_type(L, index) != LUA_TTABLE) rules_fail(L, "alias: an artifact, a name or a list of these expected, found a %s", luaL_typename(L, index));
    luaL_checkstack(L, 4, "alias");
    lua_Integer n = (lua_Integer)lua_rawlen(L, index);
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, index, i);
        alias_names(L, r, lua_gettop(L));
        lua_pop(L, 1);
    }
}

static int declare_alias(lua_State *L) {
    struct rules *r = rules_of(L);
    struct graph *g = r->graph;
    const char *name = lua_tostring(L, lua_upvalueindex(1));
    struct err e;
    uint32_t index;
    if (r->options->reserved && r->options->reserved(r->options->ctx, name))
        rules_fail(L, "\"%s\" can't be a target's name: `mbuild %s` is a command", name, name);
    r->name_count = 0;
    alias_names(L, r, 1);
    if (graph_add_alias(g, name, rules_where(L), &index, &e)) rules_fail(L, "%s", e.text);
    g->aliases[index].names = arena_alloc(&g->arena, r->name_count * sizeof *r->names);
    if (r->name_count) memcpy(g->aliases[index].names, r->names, r->name_count * sizeof *r->names);
    g->aliases[index].count = r->name_count;
    lua_pushstring(L, name);
    return 1;
}

static int api_alias(lua_State *L) {
    check_name(L, "alias");
    lua_settop(L, 1);
    lua_pushcclosure(L, declare_alias, 1);
    return 1;
}

static int api_default(lua_State *L) {
    struct graph *g = rules_of(L)->graph;
    const struct artifact_ref *a = rules_test_artifact(L, 1);
    if (g->default_target) rules_fail(L, "default is already \"%s\" (%s)", g->default_target, g->default_where);
    if (a) g->default_target = a->step == NO_ID ? g->files[a->file].path : g->steps[a->step].name;
    else g->default_target = arena_strdup(&g->arena, check_name(L, "default"));
    g->default_where = rules_where(L);
    return 0;
}

/* -- settings: option, project, pool */

static void push_setting(lua_State *L, const char *name, const char *text) {
    switch (lua_type(L, 2)) {
    case LUA_TNUMBER:
        if (!lua_stringtonumber(L, text)) rules_fail(L, "option %s: a number expected on the command line, found %s", name, text);
        return;
    case LUA_TBOOLEAN:
        if (strcmp(text, "true") && strcmp(text, "false")) rules_fail(L, "option %s: true or false expected on the command line, found %s", name, text);
        lua_pushboolean(L, !strcmp(text, "true"));
        return;
    default:
        lua_pushstring(L, text);
    }
}

/* option("lr", 1e-3): the value from the command line, or this one. */
static int api_option(lua_State *L) {
    struct rules *r = rules_of(L);
    const char *name = check_name(L, "option");
    int type = lua_type(L, 2);
    if (type != LUA_TNUMBER && type != LUA_TSTRING && type != LUA_TBOOLEAN)
        rules_fail(L, "option %s: its default must be a string, a number or a boolean", name);
    r->option_names = mem_grow(r->option_names, &r->option_cap, r->option_count + 1, sizeof *r->option_names);
    r->option_names[r->option_count++] = arena_strdup(&r->graph->arena, name);
    lua_pushvalue(L, 2);
    for (uint32_t i = 0; i < r->options->setting_count; i++) {
        if (strcmp(r->settings[i].name, name)) continue;
        r->settings[i].used = true;
        lua_pop(L, 1); /* the last setting of a name counts */
        push_setting(L, name, r->settings[i].value);
    }
    return 1;
}

static const char *string_field(lua_State *L, int index, const char *key) {
    if (lua_getfield(L, index, key) == LUA_TNIL) return NULL;
    if (lua_type(L, -1) != LUA_TSTRING) rules_fail(L, "project: %s: a string expected", key);
    return arena_strdup(&rules_of(L)->graph->arena, lua_tostring(L, -1));
}

/* project { name = …, version = …, outside = { folders } }; project() gives the name and version back. */
static int api_project(lua_State *L) {
    static const char *const known[] = {"name", "version", "outside"};
    struct graph *g = rules_of(L)->graph;
    if (lua_type(L, 1) == LUA_TTABLE) {
        if (g->project_name) rules_fail(L, "project is declared twice");
        for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1)) {
            const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "(a number)";
            size_t i = 0;
            while (i < 3 && strcmp(known[i], key)) i++;
            if (i == 3) {
                const char *near = mem_nearest(key, known, 3);
                rules_fail(L, "project: unknown field %s%s%s%s", key, near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
            }
        }
        g->project_name = string_field(L, 1, "name");
        g->project_version = string_field(L, 1, "version");
        if (!g->project_name) rules_fail(L, "project: name is missing");
        if (lua_getfield(L, 1, "outside") == LUA_TTABLE) {
            for (lua_Integer i = 1, n = (lua_Integer)lua_rawlen(L, -1); i <= n; i++) {
                lua_rawgeti(L, -1, i);
                graph_allow_outside(g, rules_text(L, -1, "outside"));
                lua_pop(L, 1);
            }
        }
    }
    lua_newtable(L);
    lua_pushstring(L, g->project_name);
    lua_setfield(L, -2, "name");
    lua_pushstring(L, g->project_version);
    lua_setfield(L, -2, "version");
    return 1;
}

/* pool("train", 2): how many steps of that pool may run at once. */
static int api_pool(lua_State *L) {
    struct graph *g = rules_of(L)->graph;
    const char *name = check_name(L, "pool");
    int fine;
    lua_Integer n = lua_tointegerx(L, 2, &fine);
    if (!fine || n < 1 || n > 1000000) rules_fail(L, "pool \"%s\": how many steps may run at once? A whole number expected", name);
    uint32_t pool = graph_pool(g, name); /* may move g->pools */
    g->pools[pool].size = (int)n;
    return 0;
}

/* fail(format, …): an error at the place in the user's rule file that is being evaluated. */
static int api_fail(lua_State *L) {
    lua_getglobal(L, "string");
    lua_getfield(L, -1, "format");
    lua_insert(L, 1);
    lua_pop(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    return rules_fail(L, "%s", lua_tostring(L, -1));
}

/* nearest(word, list): the entry most like the word, or nil; for messages. */
static int api_nearest(lua_State *L) {
    const char *word = luaL_checkstring(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    uint32_t n = (uint32_t)lua_rawlen(L, 2);
    struct rules *r = rules_of(L);
    r->name_count = 0;
    for (uint32_t i = 1; i <= n; i++) {
        lua_rawgeti(L, 2, i); /* the table keeps the string alive */
        r->names = mem_grow(r->names, &r->name_cap, r->name_count + 1, sizeof *r->names);
        if (lua_type(L, -1) == LUA_TSTRING) r->names[r->name_count++] = lua_tostring(L, -1);
        lua_pop(L, 1);
    }
    lua_pushstring(L, mem_nearest(word, r->names, r->name_count));
    return 1;
}

void rules_open_step(lua_State *L) {
    luaL_newmetatable(L, artifact_type);
    lua_pushcfunction(L, artifact_index);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, artifact_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushliteral(L, "artifact");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    static const luaL_Reg functions[] = {
        {"step", api_step}, {"alias", api_alias}, {"default", api_default}, {"option", api_option}, {"project", api_project},
        {"pool", api_pool}, {"fail", api_fail}, {"nearest", api_nearest}, {"is_artifact", api_is_artifact},
        {"name_of", api_name_of}, {"path_of", api_path_of}, {"outputs_of", api_outputs_of}, {NULL, NULL}};
    for (const luaL_Reg *f = functions; f->name; f++) lua_register(L, f->name, f->func);
}
