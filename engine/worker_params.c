/* worker_params.c: parameters, as a plugin asks for them by path: "optimizer.lr", "hidden[0]".
 *
 * What the schema declares is looked up in the plugin's own tables, so that a name that they don't have, or a getter of another type, is
 * told as the plugin's error and not as the user's.
 */
#include "worker_host.h"

#include <stdlib.h>
#include <string.h>

/* What the schema says of the place that a path leads to. */
struct place {
    enum mb_type type;             /* MB_ANY: the schema doesn't say */
    const struct mb_param *fields; /* of a table, or of a list's tables */
    enum mb_type element;
};

static void no_such_param(struct mb_run *run, const char *function, const char *path, const struct mb_param *params, const char *name) {
    const char *names[1000];
    size_t n = 0;
    struct mb_param p;
    while (n < 1000 && plugin_param_at(run->plugin, params, n, &p)) names[n++] = p.name;
    const char *near = mem_nearest(name, names, n);
    host_author_error(run, "called %s(\"%s\"), a parameter that it doesn't declare%s%s%s", function, path, near ? "; did it mean \"" : "",
                      near ? near : "", near ? "\"?" : "");
}

static struct place step_into(struct mb_run *run, const char *function, const char *path, struct place at, const char *name) {
    struct mb_param p;
    if (at.type == MB_ANY || (at.type == MB_TABLE && !at.fields)) return (struct place){.type = MB_ANY};
    if (at.type != MB_TABLE) host_author_error(run, "called %s(\"%s\"), but what \"%s\" is asked of is no table", function, path, name);
    for (size_t i = 0; plugin_param_at(run->plugin, at.fields, i, &p); i++)
        if (!strcmp(p.name, name)) return (struct place){.type = p.type, .fields = p.fields, .element = p.element ? p.element : MB_ANY};
    no_such_param(run, function, path, at.fields, name);
    return at;
}

static struct place find_place(struct mb_run *run, const char *function, const char *path) {
    struct place at = {.type = MB_TABLE, .fields = run->params};
    static const struct mb_param none = {.name = NULL};
    if (!path) host_author_error(run, "called %s with NULL for the parameter's name", function);
    if (!at.fields) at.fields = &none;
    for (const char *p = path; *p;) {
        if (*p == '[') {
            char *end;
            strtoul(p + 1, &end, 10);
            if (end == p + 1 || *end != ']') host_author_error(run, "called %s(\"%s\"): a number in brackets expected", function, path);
            if (at.type != MB_LIST && at.type != MB_ANY) host_author_error(run, "called %s(\"%s\"), but that is no list", function, path);
            at.type = at.type == MB_LIST ? at.element : MB_ANY;
            p = end + 1;
            continue;
        }
        if (*p == '.' && p > path) p++;
        size_t n = strcspn(p, ".[");
        char name[256];
        if (!n || n >= sizeof name) host_author_error(run, "called %s(\"%s\"): a path such as a.b[0] expected", function, path);
        memcpy(name, p, n);
        name[n] = 0;
        at = step_into(run, function, path, at, name);
        p += n;
    }
    return at;
}

static enum mb_type value_kind(const struct value *v) {
    static const enum mb_type kinds[] = {[VALUE_NONE] = 0, [VALUE_BOOL] = MB_BOOL, [VALUE_INT] = MB_INT, [VALUE_FLOAT] = MB_FLOAT,
                                         [VALUE_STRING] = MB_STRING, [VALUE_LIST] = MB_LIST, [VALUE_TABLE] = MB_TABLE};
    return kinds[v->type];
}

static const struct value *find_value(struct mb_run *run, const char *path) {
    const struct value *v = value_at(&run->root, path);
    return v && v->type != VALUE_NONE ? v : NULL;
}

static const struct value *given_value(struct mb_run *run, const char *function, const char *path) {
    const struct value *v = find_value(run, path);
    if (!v)
        host_author_error(run, "called %s(\"%s\"), which the rule doesn't give and which has no default: ask param_given first", function,
                          path);
    return v;
}

/* The value of a parameter that must be of one of the types in `wanted` (bits). */
static const struct value *typed_value(struct mb_run *run, const char *function, const char *path, unsigned wanted) {
    static const char *const words[] = {"", "a boolean", "an integer", "a float", "a string", "a choice", "a list", "a table", "any value"};
    struct place at = find_place(run, function, path);
    const struct value *v = given_value(run, function, path);
    enum mb_type type = at.type == MB_ANY ? value_kind(v) : at.type;
    bool any_number = at.type == MB_ANY && type == MB_INT && wanted & 1u << MB_FLOAT; /* 1.0 is written 1 */
    if (!(wanted & 1u << type) && !any_number) host_author_error(run, "called %s(\"%s\"), which is %s", function, path, words[type]);
    return v;
}

int host_param_given(struct mb_run *run, const char *path) {
    find_place(run, "param_given", path);
    return find_value(run, path) != NULL;
}

enum mb_type host_param_type(struct mb_run *run, const char *path) {
    struct place at = find_place(run, "param_type", path);
    const struct value *v = find_value(run, path);
    if (!v) return 0;
    return at.type == MB_ANY ? value_kind(v) : at.type;
}

int host_param_bool(struct mb_run *run, const char *path) {
    return typed_value(run, "param_bool", path, 1u << MB_BOOL)->boolean;
}

int64_t host_param_int(struct mb_run *run, const char *path) {
    return typed_value(run, "param_int", path, 1u << MB_INT)->integer;
}

double host_param_float(struct mb_run *run, const char *path) {
    return value_number(typed_value(run, "param_float", path, 1u << MB_FLOAT));
}

const char *host_param_string(struct mb_run *run, const char *path) {
    return typed_value(run, "param_string", path, 1u << MB_STRING | 1u << MB_ENUM)->string;
}

size_t host_param_count(struct mb_run *run, const char *path) {
    struct place at = find_place(run, "param_count", path);
    if (at.type != MB_ANY && at.type != MB_LIST && at.type != MB_TABLE)
        host_author_error(run, "called param_count(\"%s\"), which is no list and no table", path);
    const struct value *v = find_value(run, path);
    if (!v) return 0;
    if (v->type != VALUE_LIST && v->type != VALUE_TABLE)
        host_author_error(run, "called param_count(\"%s\"), which is no list and no table", path);
    return v->count;
}

const char *host_param_key(struct mb_run *run, const char *path, size_t i) {
    struct place at = find_place(run, "param_key", path);
    const struct value *v = find_value(run, path);
    if ((at.type != MB_ANY && at.type != MB_TABLE) || (v && v->type != VALUE_TABLE))
        host_author_error(run, "called param_key(\"%s\"), which is no table", path);
    return v && i < v->count ? v->keys[i] : NULL;
}

const char *host_param_json(struct mb_run *run, const char *path) {
    struct buf b = {0};
    find_place(run, "param_json", path);
    value_write(*path ? given_value(run, "param_json", path) : &run->root, &b);
    pthread_mutex_lock(&run->lock);
    const char *text = arena_strndup(&run->arena, buf_str(&b), b.len);
    pthread_mutex_unlock(&run->lock);
    buf_free(&b);
    return text;
}
