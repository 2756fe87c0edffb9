/* schema.c: descriptors and parameters; see schema.h. */
#include "schema.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *schema_type_name(enum mb_type t) {
    static const char *const names[] = {"", "boolean", "integer", "number", "string", "choice", "list", "table", "any value"};
    return (unsigned)t <= MB_ANY ? names[t] : "?";
}

/* -- reading descriptors. The JSON comes from our own code in another process, but that process also ran the plugin's: so
 * nothing is taken for granted. */

static enum mb_type parse_type(const char *word) {
    static const char *const words[] = {"", "bool", "int", "float", "string", "enum", "list", "table", "any"};
    for (int i = 1; word && i <= MB_ANY; i++)
        if (!strcmp(word, words[i])) return (enum mb_type)i;
    return 0;
}

static int parse_params(const struct value *list, struct arena *a, struct param_type **out, uint32_t *count, int depth, struct err *e);

static int parse_param(const struct value *v, struct arena *a, struct param_type *p, int depth, struct err *e) {
    p->name = value_get_string(v, "name");
    p->type = parse_type(value_get_string(v, "type"));
    if (!p->name || !p->type) return err_set(e, "a parameter without name or type");
    p->element = parse_type(value_get_string(v, "element"));
    p->flags = (unsigned)value_get_int(v, "flags", 0);
    p->deflt = value_get(v, "default");
    p->least = value_get_float(v, "least", 0);
    p->most = value_get_float(v, "most", 0);
    p->unit = value_get_string(v, "unit");
    p->help = value_get_string(v, "help");
    const struct value *choices = value_get(v, "choices"), *fields = value_get(v, "fields");
    if (choices && choices->type == VALUE_LIST) {
        p->choices = arena_alloc(a, (choices->count + 1) * sizeof *p->choices);
        for (uint32_t i = 0; i < choices->count; i++) {
            if (choices->items[i].type != VALUE_STRING) return err_set(e, "parameter %s: a choice is no string", p->name);
            p->choices[i] = choices->items[i].string;
        }
    }
    bool tables = p->type == MB_TABLE || (p->type == MB_LIST && p->element == MB_TABLE);
    p->free_form = tables && !fields;
    if (tables && fields && parse_params(fields, a, &p->fields, &p->field_count, depth + 1, e)) return err_wrap(e, "%s", p->name);
    return 0;
}

static int parse_params(const struct value *list, struct arena *a, struct param_type **out, uint32_t *count, int depth, struct err *e) {
    *count = 0;
    if (!list) return 0;
    if (list->type != VALUE_LIST || depth > 8) return err_set(e, "the parameters are no list");
    *out = arena_alloc(a, list->count * sizeof **out);
    for (uint32_t i = 0; i < list->count; i++)
        if (parse_param(&list->items[i], a, &(*out)[i], depth, e)) return -1;
    *count = list->count;
    return 0;
}

static int parse_step(const struct value *v, struct arena *a, struct step_type *t, struct err *e) {
    t->name = value_get_string(v, "name");
    if (!t->name) return err_set(e, "a step without name");
    t->help = value_get_string(v, "help");
    t->flags = (unsigned)value_get_int(v, "flags", 0);
    const struct value *hooks = value_get(v, "hooks"), *roles = value_get(v, "roles");
    for (uint32_t i = 0; hooks && hooks->type == VALUE_LIST && i < hooks->count; i++) {
        const char *hook = hooks->items[i].type == VALUE_STRING ? hooks->items[i].string : "";
        t->has_check |= !strcmp(hook, "check");
        t->has_fingerprint |= !strcmp(hook, "fingerprint");
        t->has_explain |= !strcmp(hook, "explain");
    }
    if (roles && roles->type == VALUE_LIST) {
        t->roles = arena_alloc(a, roles->count * sizeof *t->roles);
        t->role_count = roles->count;
        for (uint32_t i = 0; i < roles->count; i++) {
            struct role_type *r = &t->roles[i];
            r->name = value_get_string(&roles->items[i], "name");
            r->kind = value_get_string(&roles->items[i], "kind");
            r->help = value_get_string(&roles->items[i], "help");
            r->flags = (unsigned)value_get_int(&roles->items[i], "flags", 0);
            if (!r->name) return err_set(e, "step %s: a role without name", t->name);
        }
    }
    if (parse_params(value_get(v, "params"), a, &t->params, &t->param_count, 0, e)) return err_wrap(e, "step %s", t->name);
    return 0;
}

int schema_parse(const char *json, size_t length, struct arena *a, struct plugin_type *p, struct err *e) {
    struct value *root = arena_alloc(a, sizeof *root);
    memset(p, 0, sizeof *p);
    if (value_parse(json, length, a, root, e)) return -1;
    p->name = value_get_string(root, "name");
    p->version = value_get_string(root, "version");
    p->help = value_get_string(root, "help");
    if (!p->name || !p->version) return err_set(e, "a descriptor without name or version");
    const struct value *abi = value_get(root, "abi"), *list = value_get(root, "libraries");
    if (abi && abi->type == VALUE_LIST && abi->count == 2 && abi->items[0].type == VALUE_INT && abi->items[1].type == VALUE_INT) {
        p->abi_major = (int)abi->items[0].integer;
        p->abi_minor = (int)abi->items[1].integer;
    }
    if (list && list->type == VALUE_LIST) {
        p->libraries = arena_alloc(a, list->count * sizeof *p->libraries);
        for (uint32_t i = 0; i < list->count; i++)
            if (list->items[i].type == VALUE_STRING) p->libraries[p->library_count++] = list->items[i].string;
    }
    list = value_get(root, "steps");
    if (list && list->type == VALUE_LIST) {
        p->steps = arena_alloc(a, list->count * sizeof *p->steps);
        p->step_count = list->count;
        for (uint32_t i = 0; i < list->count; i++)
            if (parse_step(&list->items[i], a, &p->steps[i], e)) return -1;
    }
    list = value_get(root, "commands");
    if (list && list->type == VALUE_LIST) {
        p->commands = arena_alloc(a, list->count * sizeof *p->commands);
        p->command_count = list->count;
        for (uint32_t i = 0; i < list->count; i++) {
            struct command_type *c = &p->commands[i];
            c->name = value_get_string(&list->items[i], "name");
            c->usage = value_get_string(&list->items[i], "usage");
            c->help = value_get_string(&list->items[i], "help");
            if (!c->name) return err_set(e, "a command without name");
            if (parse_params(value_get(&list->items[i], "options"), a, &c->options, &c->option_count, 0, e)) return -1;
        }
    }
    return 0;
}

const struct step_type *schema_find_step(const struct plugin_type *p, const char *name) {
    for (uint32_t i = 0; i < p->step_count; i++)
        if (!strcmp(p->steps[i].name, name)) return &p->steps[i];
    return NULL;
}

const struct role_type *schema_find_role(const struct step_type *t, const char *name) {
    for (uint32_t i = 0; i < t->role_count; i++)
        if (!strcmp(t->roles[i].name, name)) return &t->roles[i];
    return NULL;
}

/* -- parameters */

static void describe_value(const struct value *v, char *out, size_t size) {
    struct buf b = {0};
    value_write(v, &b);
    snprintf(out, size, b.len < 60 ? "%s" : "%.56s …", buf_str(&b));
    buf_free(&b);
}

static int wrong_type(const char *name, const char *wanted, const struct value *v, struct err *e) {
    char text[80];
    describe_value(v, text, sizeof text);
    return err_set(e, "parameter %s: %s expected, found %s", name, wanted, text);
}

static int check_range(const struct param_type *p, const char *name, double d, struct err *e) {
    if ((p->least == 0 && p->most == 0) || (d >= p->least && d <= p->most)) return 0;
    return err_set(e, "parameter %s: %.10g is out of range: from %.10g to %.10g%s%s expected", name, d, p->least, p->most,
                   p->unit ? " " : "", p->unit ? p->unit : "");
}

static int apply_table(const struct param_type *params, uint32_t count, const char *prefix, const struct value *given, struct arena *a,
                       struct value *out, struct err *e);

static int apply_choice(const struct param_type *p, const char *name, const struct value *v, struct err *e) {
    size_t n = 0;
    if (v->type != VALUE_STRING) return wrong_type(name, "a string", v, e);
    for (; p->choices && p->choices[n]; n++)
        if (!strcmp(p->choices[n], v->string)) return 0;
    struct buf all = {0};
    for (size_t i = 0; i < n; i++) buf_addf(&all, "%s\"%s\"", i ? ", " : "", p->choices[i]);
    const char *near = mem_nearest(v->string, p->choices, n);
    err_set(e, "parameter %s: \"%s\" is none of %s%s%s%s", name, v->string, buf_str(&all), near ? "; did you mean \"" : "",
            near ? near : "", near ? "\"?" : "");
    buf_free(&all);
    return -1;
}

/* One value of type `type`; `p` gives range, choices and fields. */
static int apply_value(const struct param_type *p, enum mb_type type, const char *name, const struct value *v, struct arena *a,
                       struct value *out, struct err *e) {
    *out = *v;
    switch (type) {
    case MB_BOOL: return v->type == VALUE_BOOL ? 0 : wrong_type(name, "true or false", v, e);
    case MB_INT:
        if (v->type == VALUE_FLOAT && v->number >= -9e15 && v->number <= 9e15 && v->number == (double)(int64_t)v->number) {
            out->type = VALUE_INT; /* 1.0 is 1 */
            out->integer = (int64_t)v->number;
        } else if (v->type != VALUE_INT) {
            return wrong_type(name, "a whole number", v, e);
        }
        return check_range(p, name, (double)out->integer, e);
    case MB_FLOAT:
        if (v->type != VALUE_INT && v->type != VALUE_FLOAT) return wrong_type(name, "a number", v, e);
        out->type = VALUE_FLOAT;
        out->number = value_number(v);
        return check_range(p, name, out->number, e);
    case MB_STRING: return v->type == VALUE_STRING ? 0 : wrong_type(name, "a string", v, e);
    case MB_ENUM: return apply_choice(p, name, v, e);
    case MB_LIST: {
        bool empty_table = v->type == VALUE_TABLE && !v->count; /* Lua's {} is both */
        if (v->type != VALUE_LIST && !empty_table) return wrong_type(name, "a list", v, e);
        out->type = VALUE_LIST;
        out->items = arena_alloc(a, v->count * sizeof *out->items);
        for (uint32_t i = 0; i < v->count; i++) {
            char element[300];
            snprintf(element, sizeof element, "%s[%u]", name, i + 1);
            if (apply_value(p, p->element ? p->element : MB_ANY, element, &v->items[i], a, &out->items[i], e)) return -1;
        }
        return 0;
    }
    case MB_TABLE: {
        bool empty_list = v->type == VALUE_LIST && !v->count;
        if (v->type != VALUE_TABLE && !empty_list) return wrong_type(name, "a table", v, e);
        out->type = VALUE_TABLE;
        if (p->free_form) return 0;
        struct value table = *v;
        table.type = VALUE_TABLE;
        return apply_table(p->fields, p->field_count, name, &table, a, out, e);
    }
    case MB_ANY: return 0;
    }
    return err_set(e, "parameter %s has an unknown type", name);
}

static int unknown_param(const struct param_type *params, uint32_t count, const char *prefix, const char *key, struct err *e) {
    const char **names = mem_alloc((count + 1) * sizeof *names);
    struct buf all = {0};
    for (uint32_t i = 0; i < count; i++) {
        names[i] = params[i].name;
        buf_addf(&all, "%s%s", i ? ", " : "", names[i]);
    }
    const char *near = mem_nearest(key, names, count);
    const char *dot = *prefix ? "." : "";
    if (near)
        err_set(e, "unknown parameter %s%s%s; did you mean \"%s\"?", prefix, dot, key, near);
    else
        err_set(e, "unknown parameter %s%s%s; there %s %s", prefix, dot, key, count ? "are" : "is", count ? buf_str(&all) : "none");
    buf_free(&all);
    free(names);
    return -1;
}

static int apply_table(const struct param_type *params, uint32_t count, const char *prefix, const struct value *given, struct arena *a,
                       struct value *out, struct err *e) {
    struct value table = {.type = VALUE_TABLE};
    table.items = arena_alloc(a, count * sizeof *table.items);
    table.keys = arena_alloc(a, count * sizeof *table.keys);
    for (uint32_t i = 0; i < given->count; i++) {
        uint32_t k = 0;
        while (k < count && strcmp(params[k].name, given->keys[i])) k++;
        if (k == count) return unknown_param(params, count, prefix, given->keys[i], e);
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct param_type *p = &params[i];
        char name[256];
        snprintf(name, sizeof name, "%s%s%s", prefix, *prefix ? "." : "", p->name);
        const struct value *v = value_get(given, p->name);
        if (!v) v = p->deflt;
        if (!v) {
            if (p->flags & MB_REQUIRED)
                return err_set(e, "parameter %s is missing: %s", name, p->help ? p->help : schema_type_name(p->type));
            continue;
        }
        table.keys[table.count] = p->name;
        if (apply_value(p, p->type, name, v, a, &table.items[table.count], e)) return -1;
        table.count++;
    }
    const char *twin;
    if (value_sort(&table, &twin)) return err_set(e, "the schema declares %s twice", twin);
    *out = table;
    return 0;
}

int schema_apply(const struct param_type *params, uint32_t count, const struct value *given, struct arena *a, struct value *out,
                 struct err *e) {
    return apply_table(params, count, "", given, a, out, e);
}

void schema_keyed(const struct param_type *params, uint32_t count, const struct value *applied, struct arena *a, struct value *out) {
    *out = *applied;
    out->items = arena_alloc(a, applied->count * sizeof *out->items);
    out->keys = arena_alloc(a, applied->count * sizeof *out->keys);
    out->count = 0;
    for (uint32_t i = 0; i < applied->count; i++) {
        uint32_t k = 0;
        while (k < count && strcmp(params[k].name, applied->keys[i])) k++;
        if (k < count && (params[k].flags & MB_UNKEYED)) continue;
        out->keys[out->count] = applied->keys[i];
        out->items[out->count++] = applied->items[i];
    }
}
