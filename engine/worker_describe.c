/* worker_describe.c: loads a plugin and checks what it says of itself, field by field, before anything relies on it; writes it as JSON.
 *
 * Runs in a template, so what a wild pointer does here ends the template and not the engine. Sizes come first: every
 * array is walked by the sizes that the plugin was compiled with, so older plugins are read as what they are.
 */
#include "config.h"
#include "schema.h"
#include "worker_private.h"

#include <dlfcn.h>
#include <errno.h>
#include <float.h>
#include <limits.h>
#include <link.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ENTRIES_MOST 1000
#define DEPTH_MOST 8
#define TEXT_MOST 65536

static const char *const type_words[] = {"", "bool", "int", "float", "string", "enum", "list", "table", "any"};

/* -- arrays by stride */

static void entry_copy(const void *base, size_t stride, size_t i, void *out, size_t size) {
    memset(out, 0, size);
    memcpy(out, (const char *)base + i * stride, stride < size ? stride : size);
}

bool plugin_step_at(const struct mb_plugin *p, size_t i, struct mb_step *out) {
    if (!p->steps) return false;
    entry_copy(p->steps, p->step_size, i, out, sizeof *out);
    return out->name;
}

bool plugin_command_at(const struct mb_plugin *p, size_t i, struct mb_command *out) {
    if (!p->commands) return false;
    entry_copy(p->commands, p->command_size, i, out, sizeof *out);
    return out->name;
}

bool plugin_role_at(const struct mb_plugin *p, const struct mb_role *roles, size_t i, struct mb_role *out) {
    if (!roles) return false;
    entry_copy(roles, p->role_size, i, out, sizeof *out);
    return out->name;
}

bool plugin_param_at(const struct mb_plugin *p, const struct mb_param *params, size_t i, struct mb_param *out) {
    if (!params) return false;
    entry_copy(params, p->param_size, i, out, sizeof *out);
    return out->name;
}

/* -- strings */

static int check_text(const char *what, const char *text, struct err *e) {
    if (!text) return 0;
    if (strnlen(text, TEXT_MOST) == TEXT_MOST) return err_set(e, "%s is longer than %d bytes, or doesn't end", what, TEXT_MOST);
    return text_is_valid(text) ? 0 : err_set(e, "%s is no valid UTF-8", what);
}

/* A name by which rules and command lines call something: no character that means something there. */
static int check_name(const char *what, const char *name, struct err *e) {
    if (!name) return err_set(e, "%s has no name (NULL)", what);
    if (check_text("a name", name, e)) return err_wrap(e, "%s", what);
    if (!*name || strlen(name) > 200) return err_set(e, "the name of %s has %zu bytes: 1 to 200 expected", what, strlen(name));
    for (const char *c = name; *c; c++)
        if ((unsigned char)*c <= ' ' || *c == 0x7f || strchr(".[]/\"=,", *c))
            return err_set(e, "the name of %s is \"%s\": spaces and . [ ] / \" = , don't go into names", what, name);
    return 0;
}

/* Names seen so far in one array. */
struct names {
    const char *list[ENTRIES_MOST];
    size_t count;
};

static int names_add(struct names *n, const char *what, const char *name, struct err *e) {
    for (size_t i = 0; i < n->count; i++)
        if (!strcmp(n->list[i], name)) return err_set(e, "%s \"%s\" is declared twice", what, name);
    if (n->count == ENTRIES_MOST)
        return err_set(e, "there are more than %d %ss: does the array end with an entry whose name is NULL?", ENTRIES_MOST, what);
    n->list[n->count++] = name;
    return 0;
}

static int check_flags(const char *what, unsigned flags, unsigned known, struct err *e) {
    return flags & ~known ? err_set(e, "%s has flags that this mbuild doesn't know: 0x%x", what, flags & ~known) : 0;
}

/* -- parameters */

static int write_params(const struct mb_plugin *p, const struct mb_param *params, int depth, struct buf *out, struct err *e);

static void add_string(struct buf *out, const char *key, const char *text) {
    if (!text) return;
    buf_addf(out, ",\"%s\":", key);
    value_write_string(text, out);
}

/* JSON has no infinity; no finite bound is beyond these. */
static double bound(double d) {
    return isinf(d) ? (d > 0 ? DBL_MAX : -DBL_MAX) : d;
}

static int write_range(const struct mb_param *q, struct buf *out, struct err *e) {
    if (isnan(q->least) || isnan(q->most)) return err_set(e, "its range has a NaN");
    if (q->least > q->most) return err_set(e, "its range is empty: from %.10g to %.10g", q->least, q->most);
    if (q->least != 0 || q->most != 0) buf_addf(out, ",\"least\":%.17g,\"most\":%.17g", bound(q->least), bound(q->most));
    return 0;
}

static int write_choices(const struct mb_param *q, struct buf *out, struct err *e) {
    bool wanted = q->type == MB_ENUM || (q->type == MB_LIST && q->element == MB_ENUM);
    size_t n = 0;
    if (!wanted) return 0;
    if (!q->choices || !q->choices[0]) return err_set(e, "it is a choice, but has no choices");
    buf_adds(out, ",\"choices\":[");
    for (; q->choices[n]; n++) {
        if (n == ENTRIES_MOST) return err_set(e, "there are more than %d choices: does the array end with NULL?", ENTRIES_MOST);
        if (check_text("a choice", q->choices[n], e)) return -1;
        for (size_t i = 0; i < n; i++)
            if (!strcmp(q->choices[i], q->choices[n])) return err_set(e, "the choice \"%s\" is declared twice", q->choices[n]);
        if (n) buf_addc(out, ',');
        value_write_string(q->choices[n], out);
    }
    buf_addc(out, ']');
    return 0;
}

static int write_default(const struct mb_param *q, struct buf *out, struct err *e) {
    struct arena a = {0};
    struct value v;
    if (!q->deflt) return 0;
    if (check_text("its default", q->deflt, e)) return -1;
    if (q->flags & MB_REQUIRED) return err_set(e, "it is required and has a default: one of the two can't be meant");
    int status = value_parse(q->deflt, strlen(q->deflt), &a, &v, e);
    if (status) err_wrap(e, "its default is no JSON text (%.200s)", q->deflt);
    else {
        buf_adds(out, ",\"default\":");
        value_write(&v, out);
    }
    arena_free(&a);
    return status;
}

static int write_param(const struct mb_plugin *p, const struct mb_param *q, int depth, struct buf *out, struct err *e) {
    if ((unsigned)q->type < MB_BOOL || (unsigned)q->type > MB_ANY)
        return err_set(e, "its type is %u: one of enum mb_type expected", (unsigned)q->type);
    if ((unsigned)q->element > MB_ANY)
        return err_set(e, "the type of its elements is %u: one of enum mb_type expected", (unsigned)q->element);
    if (q->type == MB_LIST && q->element == MB_LIST)
        return err_set(e, "it is a list of lists, which a schema can't tell: take MB_ANY and check it in the step");
    if (check_flags("it", q->flags, MB_REQUIRED | MB_UNKEYED, e) || check_text("its unit", q->unit, e) ||
        check_text("its help", q->help, e)) return -1;
    buf_adds(out, "{\"name\":");
    value_write_string(q->name, out);
    buf_addf(out, ",\"type\":\"%s\",\"flags\":%u", type_words[q->type], q->flags);
    if (write_default(q, out, e) || write_range(q, out, e) || write_choices(q, out, e)) return -1;
    if (q->type == MB_LIST && q->element) buf_addf(out, ",\"element\":\"%s\"", type_words[q->element]);
    if (q->fields && (q->type == MB_TABLE || (q->type == MB_LIST && q->element == MB_TABLE))) {
        buf_adds(out, ",\"fields\":");
        if (write_params(p, q->fields, depth + 1, out, e)) return -1;
    }
    add_string(out, "unit", q->unit);
    add_string(out, "help", q->help);
    buf_addc(out, '}');
    return 0;
}

static int write_params(const struct mb_plugin *p, const struct mb_param *params, int depth, struct buf *out, struct err *e) {
    struct names *names = mem_alloc(sizeof *names);
    struct mb_param q;
    int status = depth > DEPTH_MOST ? err_set(e, "parameters are nested deeper than %d levels: does a table hold itself?", DEPTH_MOST) : 0;
    buf_addc(out, '[');
    for (size_t i = 0; !status && plugin_param_at(p, params, i, &q); i++) {
        if (i) buf_addc(out, ',');
        status = check_name("a parameter", q.name, e) || names_add(names, "parameter", q.name, e) ? -1 : 0;
        if (!status && write_param(p, &q, depth, out, e)) status = err_wrap(e, "parameter \"%s\"", q.name);
    }
    buf_addc(out, ']');
    free(names);
    return status;
}

/* -- steps and commands */

static int write_role(const struct mb_role *r, struct buf *out, struct err *e) {
    unsigned direction = r->flags & (MB_INPUT | MB_OUTPUT);
    if (direction != MB_INPUT && direction != MB_OUTPUT) return err_set(e, "just one of MB_INPUT and MB_OUTPUT expected");
    if (check_flags("it", r->flags, MB_INPUT | MB_OUTPUT | MB_FOLDER | MB_OPTIONAL | MB_MANY | MB_NAMED | MB_SECRET | MB_ADDS, e))
        return -1;
    if (direction == MB_INPUT && r->flags & MB_ADDS) return err_set(e, "MB_ADDS is for outputs");
    if (direction == MB_OUTPUT && r->flags & MB_SECRET) return err_set(e, "MB_SECRET is for inputs");
    if (check_text("its kind", r->kind, e) || check_text("its help", r->help, e)) return -1;
    buf_adds(out, "{\"name\":");
    value_write_string(r->name, out);
    buf_addf(out, ",\"flags\":%u", r->flags);
    add_string(out, "kind", r->kind);
    add_string(out, "help", r->help);
    buf_addc(out, '}');
    return 0;
}

static int write_roles(const struct mb_plugin *p, const struct mb_step *s, struct buf *out, struct err *e) {
    struct names *names = mem_alloc(sizeof *names);
    struct mb_role r;
    int status = 0;
    bool any_output = false;
    buf_addc(out, '[');
    for (size_t i = 0; !status && plugin_role_at(p, s->roles, i, &r); i++) {
        if (i) buf_addc(out, ',');
        status = check_name("a role", r.name, e) || names_add(names, "role", r.name, e) ? -1 : 0;
        if (!status && write_role(&r, out, e)) status = err_wrap(e, "role \"%s\"", r.name);
        any_output |= (r.flags & (MB_OUTPUT | MB_MANY)) == (MB_OUTPUT | MB_MANY);
    }
    if (!status && s->flags & MB_ANY_OUTPUTS && !any_output) status = err_set(e, "MB_ANY_OUTPUTS needs an output role with MB_MANY");
    buf_addc(out, ']');
    free(names);
    return status;
}

static int write_step(const struct mb_plugin *p, const struct mb_step *s, struct buf *out, struct err *e) {
    unsigned known = MB_DETERMINISTIC | MB_NETWORK | MB_RESUMABLE | MB_GPU_MAY | MB_GPU_MUST | MB_DEVICE_MATTERS | MB_ANY_OUTPUTS |
                     MB_UNCACHED | MB_DISCOVERS | MB_REENTRANT | MB_SLOW_START | MB_SELF_CONTAINED;
    if (check_flags("it", s->flags, known, e) || check_text("its help", s->help, e)) return -1;
    if (s->flags & MB_SELF_CONTAINED && s->flags & (MB_NETWORK | MB_GPU_MAY | MB_GPU_MUST | MB_DISCOVERS | MB_REENTRANT))
        return err_set(e, "MB_SELF_CONTAINED doesn't go with MB_NETWORK, MB_GPU_MAY, MB_GPU_MUST, MB_DISCOVERS or MB_REENTRANT");
    if (s->flags & MB_SLOW_START && !(s->flags & MB_REENTRANT))
        return err_set(e, "MB_SLOW_START needs MB_REENTRANT: only a step that may run again in a process can use what its start left there");
    if (!s->run) return err_set(e, "its function `run` is NULL");
    buf_adds(out, "{\"name\":");
    value_write_string(s->name, out);
    add_string(out, "help", s->help);
    buf_addf(out, ",\"flags\":%u,\"hooks\":[", s->flags);
    const char *comma = "";
    const struct {
        bool there;
        const char *name;
    } hooks[] = {{s->check, "check"}, {s->fingerprint, "fingerprint"}, {s->explain, "explain"}};
    for (size_t i = 0; i < sizeof hooks / sizeof *hooks; i++) {
        if (!hooks[i].there) continue;
        buf_addf(out, "%s\"%s\"", comma, hooks[i].name);
        comma = ",";
    }
    buf_adds(out, "],\"roles\":");
    if (write_roles(p, s, out, e)) return -1;
    buf_adds(out, ",\"params\":");
    if (write_params(p, s->params, 1, out, e)) return -1;
    buf_addc(out, '}');
    return 0;
}

static int write_steps(const struct mb_plugin *p, struct buf *out, struct err *e) {
    struct names *names = mem_alloc(sizeof *names);
    struct mb_step s;
    int status = 0;
    for (size_t i = 0; !status && plugin_step_at(p, i, &s); i++) {
        if (i) buf_addc(out, ',');
        status = check_name("a step", s.name, e) || names_add(names, "step", s.name, e) ? -1 : 0;
        if (!status && write_step(p, &s, out, e)) status = err_wrap(e, "step \"%s\"", s.name);
    }
    free(names);
    return status;
}

static int write_command(const struct mb_plugin *p, const struct mb_command *c, struct buf *out, struct err *e) {
    if (!c->main) return err_set(e, "its function `main` is NULL");
    if (check_text("its usage", c->usage, e) || check_text("its help", c->help, e)) return -1;
    buf_adds(out, "{\"name\":");
    value_write_string(c->name, out);
    add_string(out, "usage", c->usage);
    add_string(out, "help", c->help);
    buf_adds(out, ",\"options\":");
    if (write_params(p, c->options, 1, out, e)) return -1;
    buf_addc(out, '}');
    return 0;
}

static int write_commands(const struct mb_plugin *p, struct buf *out, struct err *e) {
    struct names *names = mem_alloc(sizeof *names);
    struct mb_command c;
    int status = 0;
    for (size_t i = 0; !status && plugin_command_at(p, i, &c); i++) {
        if (i) buf_addc(out, ',');
        status = check_name("a command", c.name, e) || names_add(names, "command", c.name, e) ? -1 : 0;
        if (!status && write_command(p, &c, out, e)) status = err_wrap(e, "command \"%s\"", c.name);
    }
    free(names);
    return status;
}

/* -- libraries: shared objects of ours, whose change makes a step stale */

struct library_list {
    char plugin[PATH_MAX], folder[PATH_MAX], ours[PATH_MAX]; /* real paths: the plugin, its folder, our lib folder */
    char **names;
    uint32_t count, cap;
};

static bool lies_in(const char *path, const char *folder) {
    size_t n = strlen(folder);
    return n && !strncmp(path, folder, n) && path[n] == '/' && !strchr(path + n + 1, '/');
}

static int add_library(struct dl_phdr_info *info, size_t size, void *ctx) {
    struct library_list *l = ctx;
    char path[PATH_MAX];
    (void)size;
    if (!info->dlpi_name || !strchr(info->dlpi_name, '/') || !realpath(info->dlpi_name, path) || !strcmp(path, l->plugin)) return 0;
    /* Where our libraries lie the system's may lie too; ours are called libmb…. */
    bool beside = lies_in(path, l->folder) && strcmp(l->folder, l->ours);
    bool installed = lies_in(path, l->ours) && !strncmp(strrchr(path, '/'), "/libmb", 6);
    if (!beside && !installed) return 0;
    l->names = mem_grow(l->names, &l->cap, l->count + 1, sizeof *l->names);
    l->names[l->count++] = mem_strdup(path);
    return 0;
}

static void folder_of(const char *path, char out[PATH_MAX]) {
    snprintf(out, PATH_MAX, "%s", path);
    char *slash = strrchr(out, '/');
    if (slash) *slash = 0;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void write_libraries(const char *path, struct buf *out) {
    struct library_list l = {.count = 0};
    char program[PATH_MAX] = "", lib[PATH_MAX];
    if (readlink("/proc/self/exe", program, sizeof program - 1) < 0) *program = 0;
    char *slash = strrchr(program, '/');
    if (slash) *slash = 0;
    if (snprintf(lib, sizeof lib, "%s/" MBUILD_LIB_FROM_BIN, program) >= (int)sizeof lib || !realpath(lib, l.ours)) *l.ours = 0;
    if (realpath(path, l.plugin)) folder_of(l.plugin, l.folder);
    dl_iterate_phdr(add_library, &l);
    if (l.count) qsort(l.names, l.count, sizeof *l.names, compare_names);
    for (uint32_t i = 0; i < l.count; i++) {
        if (i) buf_addc(out, ',');
        value_write_string(l.names[i], out);
        free(l.names[i]);
    }
    free(l.names);
}

/* -- the whole */

static int write_descriptor(const struct mb_plugin *p, const char *path, struct buf *out, struct err *e) {
    if (check_name("the plugin", p->name, e)) return -1;
    if (!p->version) return err_set(e, "it has no version (NULL)");
    if (check_text("its version", p->version, e) || check_text("its help", p->help, e)) return -1;
    buf_addf(out, "{\"abi\":[%u,%u],\"name\":", p->abi_major, p->abi_minor);
    value_write_string(p->name, out);
    add_string(out, "version", p->version);
    add_string(out, "help", p->help);
    buf_adds(out, ",\"libraries\":[");
    write_libraries(path, out);
    buf_adds(out, "],\"steps\":[");
    if (write_steps(p, out, e)) return -1;
    buf_adds(out, "],\"commands\":[");
    if (write_commands(p, out, e)) return -1;
    buf_adds(out, "]}");
    return 0;
}

/* Defaults against their own types, ranges and choices: the schema's own code judges them. */
static int check_defaults(struct param_type *params, uint32_t count, struct arena *a, struct err *e) {
    const struct value none = {.type = VALUE_TABLE};
    struct value ignored;
    for (uint32_t i = 0; i < count; i++) {
        if (params[i].deflt && schema_apply(&params[i], 1, &none, a, &ignored, e)) return err_wrap(e, "its default doesn't fit");
        if (check_defaults(params[i].fields, params[i].field_count, a, e)) return err_wrap(e, "parameter %s", params[i].name);
    }
    return 0;
}

static int check_all_defaults(const struct buf *json, struct err *e) {
    struct arena a = {0};
    struct plugin_type t;
    int status = schema_parse(buf_str(json), json->len, &a, &t, e);
    for (uint32_t i = 0; !status && i < t.step_count; i++)
        if (check_defaults(t.steps[i].params, t.steps[i].param_count, &a, e)) status = err_wrap(e, "step \"%s\"", t.steps[i].name);
    for (uint32_t i = 0; !status && i < t.command_count; i++)
        if (check_defaults(t.commands[i].options, t.commands[i].option_count, &a, e))
            status = err_wrap(e, "command \"%s\"", t.commands[i].name);
    arena_free(&a);
    return status;
}

static int check_head(const struct mb_plugin *p, struct err *e) {
    if (!p) return err_set(e, "mbuild_plugin is NULL");
    if (p->magic != MB_PLUGIN_MAGIC)
        return err_set(e, "mbuild_plugin doesn't point to a descriptor: it begins with 0x%x, 0x%x expected (is MB_PLUGIN_HEAD missing?)",
                       p->magic, MB_PLUGIN_MAGIC);
    if (p->abi_major != MB_ABI_MAJOR || p->abi_minor > MB_ABI_MINOR)
        return err_set(e, "it was compiled for ABI %u.%u, and this mbuild has ABI %d.%d: compile it again with this mbuild's plugin.h",
                       p->abi_major, p->abi_minor,
                       MB_ABI_MAJOR, MB_ABI_MINOR);
    const struct {
        const char *name;
        uint32_t found, ours;
    } sizes[] = {{"mb_plugin", p->size, sizeof(struct mb_plugin)}, {"mb_step", p->step_size, sizeof(struct mb_step)},
                 {"mb_role", p->role_size, sizeof(struct mb_role)},
                 {"mb_param", p->param_size, sizeof(struct mb_param)}, {"mb_command", p->command_size, sizeof(struct mb_command)}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        bool fits = p->abi_minor == MB_ABI_MINOR ? sizes[i].found == sizes[i].ours : sizes[i].found && sizes[i].found <= sizes[i].ours;
        if (!fits || sizes[i].found % _Alignof(void *))
            return err_set(e, "it says that a struct %s has %u bytes; %u expected (are its structs packed?)", sizes[i].name,
                           sizes[i].found, sizes[i].ours);
    }
    return 0;
}

void plugin_describe(const struct mb_plugin *p, const char *path, struct buf *json) {
    struct err ignored; /* it was checked when it was loaded */
    write_descriptor(p, path, json, &ignored);
}

int plugin_open(const char *path, const struct mb_plugin **out, struct err *e) {
    char with_slash[PATH_MAX];
    struct buf json = {0};
    if (snprintf(with_slash, sizeof with_slash, "%s%s", strchr(path, '/') ? "" : "./", path) >= (int)sizeof with_slash)
        return err_set(e, "its path is too long");
    if (access(with_slash, F_OK)) return err_set(e, "%s", strerror(errno));
    void *object = dlopen(with_slash, RTLD_NOW | RTLD_LOCAL);
    if (!object) return err_set(e, "it can't be loaded: %s", dlerror());
    const struct mb_plugin *const *symbol = dlsym(object, "mbuild_plugin");
    if (!symbol) return err_set(e, "it has no symbol `mbuild_plugin`: is it a plugin (MB_PLUGIN(…) at the end of its file)?");
    int status = check_head(*symbol, e);
    if (!status) status = write_descriptor(*symbol, path, &json, e);
    if (!status) status = check_all_defaults(&json, e);
    buf_free(&json);
    *out = *symbol;
    return status;
}
