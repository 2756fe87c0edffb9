/* command_plugin.c: `plugin list|info|new`, and the commands that plugins bring. */
#include "bind.h"
#include "command.h"
#include "files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What it takes to read descriptors, in a repo or outside of one. */
struct shelf {
    struct graph graph;
    struct plugins plugins;
    struct workers *workers;
    char *home;
};

static int shelf_open(struct shelf *f, struct err *e) {
    memset(f, 0, sizeof *f);
    char *folder = getcwd(NULL, 0);
    graph_init(&f->graph, folder ? folder : "/");
    free(folder);
    digest_init();
    f->home = session_home(e);
    if (!f->home) return -1;
    char *program = session_worker(f->home);
    int status = workers_start(program, &f->workers, e);
    free(program);
    if (status) return -1;
    plugins_init(&f->plugins, arena_printf(&f->graph.arena, "%s/lib/mbuild", f->home), &f->graph, NULL, f->workers, true);
    return 0;
}

static void shelf_close(struct shelf *f) {
    if (f->workers) workers_stop(f->workers);
    plugins_free(&f->plugins);
    graph_free(&f->graph);
    free(f->home);
}

/* Calls `each` for every installed plugin; one that can't be read is told and passed over. */
static int shelf_each(struct shelf *f, bool (*each)(void *ctx, const struct plugin *p), void *ctx, struct err *e) {
    char **names;
    uint32_t count;
    if (plugins_list(&f->plugins, &names, &count, e)) return -1;
    for (uint32_t i = 0; i < count; i++) {
        const struct plugin *p;
        struct err own;
        if (plugins_find(&f->plugins, names[i], &p, &own)) fprintf(stderr, "mbuild: %s\n", own.text);
        else if (each(ctx, p)) break;
    }
    free(names);
    return 0;
}

/* -- list */

static bool print_plugin(void *ctx, const struct plugin *p) {
    (void)ctx;
    printf("%-12s %-8s %s\n", p->type.name, p->type.version, p->type.help ? p->type.help : "");
    for (uint32_t i = 0; i < p->type.step_count; i++)
        if (strcmp(p->type.steps[i].name, p->type.name)) printf("    step     %s.%s: %s\n", p->type.name, p->type.steps[i].name, p->type.steps[i].help ? p->type.steps[i].help : "");
    for (uint32_t i = 0; i < p->type.command_count; i++)
        printf("    command  mbuild %s %s: %s\n", p->type.commands[i].name, p->type.commands[i].usage ? p->type.commands[i].usage : "",
               p->type.commands[i].help ? p->type.commands[i].help : "");
    return false;
}

/* -- info */

static void print_params(const struct param_type *params, uint32_t count, int depth) {
    for (uint32_t i = 0; i < count; i++) {
        const struct param_type *p = &params[i];
        struct buf about = {0};
        buf_adds(&about, schema_type_name(p->type));
        if (p->type == MB_LIST && p->element) buf_addf(&about, " of %s", schema_type_name(p->element));
        for (uint32_t k = 0; p->choices && p->choices[k]; k++) buf_addf(&about, "%s%s", k ? " | " : " ", p->choices[k]);
        if (p->least != 0 || p->most != 0) buf_addf(&about, " from %.10g to %.10g", p->least, p->most);
        if (p->unit) buf_addf(&about, " %s", p->unit);
        if (p->deflt) {
            buf_adds(&about, ", default ");
            value_write(p->deflt, &about);
        }
        if (p->flags & MB_REQUIRED) buf_adds(&about, ", required");
        printf("%*s%-*s %s\n%*s%s\n", 2 * depth, "", 20 - 2 * depth, p->name, buf_str(&about), 21, "", p->help ? p->help : "");
        buf_free(&about);
        print_params(p->fields, p->field_count, depth + 1);
    }
}

static void print_step_type(const struct plugin *p, const struct step_type *t) {
    static const struct {
        unsigned flag;
        const char *word;
    } flags[] = {{MB_DETERMINISTIC, "deterministic"}, {MB_NETWORK, "needs the network"}, {MB_RESUMABLE, "goes on after a kill"}, {MB_GPU_MAY, "uses a GPU if there is one"},
                 {MB_GPU_MUST, "needs a GPU"}, {MB_DEVICE_MATTERS, "result depends on the device"}, {MB_UNCACHED, "never from the store"},
                 {MB_REENTRANT, "may run again in a process"}, {MB_SLOW_START, "starts slowly: shares a warm process"},
                 {MB_SELF_CONTAINED, "needs nothing of the system"}};
    printf("\nstep %s%s%s: %s\n", p->type.step_count > 1 ? p->type.name : "", p->type.step_count > 1 ? "." : "", t->name, t->help ? t->help : "");
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (t->flags & flags[i].flag) printf("  (%s)\n", flags[i].word);
    for (uint32_t i = 0; i < t->role_count; i++) {
        const struct role_type *r = &t->roles[i];
        printf("  %s %s%s%s%s%s%s: %s\n", r->flags & MB_INPUT ? "input " : "output", r->name, r->kind ? ", a " : "", r->kind ? r->kind : "", r->flags & MB_FOLDER ? ", folder" : "",
               r->flags & MB_MANY ? ", any number" : "", r->flags & MB_OPTIONAL ? ", optional" : "", r->help ? r->help : "");
    }
    if (t->param_count) printf("  parameters\n");
    print_params(t->params, t->param_count, 2);
}

static int plugin_info(struct shelf *f, const char *name, struct err *e) {
    const struct plugin *p;
    if (strchr(name, '/')) {
        struct artifact a;
        if (digest_path(name, true, &a, NULL, e)) return -1;
        if (a.type == ARTIFACT_NONE) return err_set(e, "%s doesn't exist", name);
        if (plugins_load(&f->plugins, name, &a, &p, e)) return -1;
    } else if (plugins_find(&f->plugins, name, &p, e)) {
        return -1;
    }
    printf("%s %s: %s\nfile %s, ABI %d.%d\n", p->type.name, p->type.version, p->type.help ? p->type.help : "", p->path, p->type.abi_major, p->type.abi_minor);
    for (uint32_t i = 0; i < p->type.step_count; i++) print_step_type(p, &p->type.steps[i]);
    for (uint32_t i = 0; i < p->type.command_count; i++) {
        const struct command_type *c = &p->type.commands[i];
        printf("\ncommand mbuild %s %s: %s\n", c->name, c->usage ? c->usage : "", c->help ? c->help : "");
        print_params(c->options, c->option_count, 1);
    }
    return 0;
}

/* -- new */

/* NAME stands for the plugin's name. */
static const char skeleton[] =
    "/* NAME.c: a step of our own. In mbuild.lua:\n"
    " *\n"
    " *   local NAME = plugin \"NAME-plugin\" { \"NAME.c\" }\n"
    " *   step \"counted\" { plugin = NAME, inputs = { text = \"data.txt\" }, params = { word = \"mbuild\" } }\n"
    " */\n"
    "#include <mbuild/plugin.h>\n"
    "#include <errno.h>\n"
    "#include <stdio.h>\n"
    "#include <string.h>\n"
    "\n"
    "static const struct mb_role roles[] = {\n"
    "    {.name = \"text\", .flags = MB_INPUT, .help = \"the text to look at\"},\n"
    "    {.name = \"count\", .flags = MB_OUTPUT, .help = \"how many lines hold the word\"},\n"
    "    {0}};\n"
    "\n"
    "static const struct mb_param params[] = {\n"
    "    {.name = \"word\", .type = MB_STRING, .flags = MB_REQUIRED, .help = \"the word to count\"},\n"
    "    {0}};\n"
    "\n"
    "static int run(const struct mb_host *host, struct mb_run *run) {\n"
    "    const char *in = host->input_path(run, \"text\", 0), *out = host->output_path(run, \"count\", 0);\n"
    "    const char *word = host->param_string(run, \"word\");\n"
    "    FILE *f = fopen(in, \"r\");\n"
    "    if (!f) return host->fail(run, \"%s: %s\", in, strerror(errno));\n"
    "    char line[4096];\n"
    "    long count = 0;\n"
    "    while (fgets(line, sizeof line, f)) count += strstr(line, word) != NULL;\n"
    "    int broken = ferror(f);\n"
    "    fclose(f);\n"
    "    if (broken) return host->fail(run, \"%s: cannot read it\", in);\n"
    "    f = fopen(out, \"w\");\n"
    "    if (!f) return host->fail(run, \"%s: %s\", out, strerror(errno));\n"
    "    fprintf(f, \"%ld\\n\", count);\n"
    "    if (fclose(f)) return host->fail(run, \"%s: %s\", out, strerror(errno));\n"
    "    host->metric(run, \"lines\", (double)count);\n"
    "    return MB_OK;\n"
    "}\n"
    "\n"
    "static const struct mb_step steps[] = {\n"
    "    {.name = \"NAME\", .help = \"count the lines that hold a word\", .flags = MB_DETERMINISTIC, .roles = roles, .params = params, .run = run},\n"
    "    {0}};\n"
    "\n"
    "static const struct mb_plugin plugin = {MB_PLUGIN_HEAD, .name = \"NAME\", .version = \"1.0\", .help = \"an example\", .steps = steps};\n"
    "MB_PLUGIN(plugin);\n";

static void write_skeleton(const char *name, struct buf *out) {
    for (const char *at = skeleton; *at;) {
        const char *mark = strstr(at, "NAME");
        if (!mark) mark = at + strlen(at);
        buf_add(out, at, (size_t)(mark - at));
        if (*mark) {
            buf_adds(out, name);
            mark += strlen("NAME");
        }
        at = mark;
    }
}

static int plugin_new(const char *name, struct err *e) {
    for (const char *c = name; *c; c++)
        if (!((*c >= 'a' && *c <= 'z') || *c == '_' || (c > name && *c >= '0' && *c <= '9')))
            return err_set(e, "plugin new: a name of small letters, digits and _ expected, found %s", name);
    char *path = mem_printf("%s.c", name);
    struct buf text = {0};
    struct file_stat st;
    write_skeleton(name, &text);
    int status = sys_stat(path, true, &st, e);
    if (!status && st.kind != FILE_ABSENT) status = err_set(e, "%s already exists", path);
    if (!status) status = sys_write_file(path, text.data, text.len, false, e);
    if (!status) printf("wrote %s; its head says how a rule file uses it\n", path);
    buf_free(&text);
    free(path);
    return status;
}

int command_plugin(const struct options *o, int argc, char **argv, struct err *e) {
    struct shelf f;
    if (o->directory && chdir(o->directory)) return err_errno(e, "-C %s", o->directory);
    if (argc == 3 && !strcmp(argv[1], "new")) return plugin_new(argv[2], e);
    bool list = argc == 2 && !strcmp(argv[1], "list"), info = argc == 3 && !strcmp(argv[1], "info");
    if (!list && !info) return err_set(e, "usage: mbuild plugin list | info NAME | new NAME");
    int status = shelf_open(&f, e);
    if (!status && list) status = shelf_each(&f, print_plugin, NULL, e);
    if (!status && info) status = plugin_info(&f, argv[2], e);
    shelf_close(&f);
    return status;
}

/* -- commands of plugins */

struct seeking {
    const char *name;
    const struct plugin *plugin;
    const struct command_type *command;
};

static bool seek_command(void *ctx, const struct plugin *p) {
    struct seeking *s = ctx;
    for (uint32_t i = 0; i < p->type.command_count; i++) {
        if (strcmp(p->type.commands[i].name, s->name)) continue;
        s->plugin = p;
        s->command = &p->type.commands[i];
        return true;
    }
    return false;
}

/* --name=value and --name (a flag) to a table for the schema; the rest stays in argv. */
static int read_options(const struct command_type *c, int *argc, char **argv, struct arena *a, struct value *given, struct err *e) {
    int kept = 1;
    memset(given, 0, sizeof *given);
    given->type = VALUE_TABLE;
    given->items = arena_alloc(a, (size_t)*argc * sizeof *given->items);
    given->keys = arena_alloc(a, (size_t)*argc * sizeof *given->keys);
    for (int i = 1; i < *argc; i++) {
        if (strncmp(argv[i], "--", 2) || !argv[i][2]) {
            argv[kept++] = argv[i];
            continue;
        }
        size_t n = strcspn(argv[i] + 2, "=");
        const char *text = argv[i][2 + n] ? argv[i] + 3 + n : NULL;
        const char *name = arena_strndup(a, argv[i] + 2, n);
        const struct param_type *p = NULL;
        for (uint32_t k = 0; k < c->option_count; k++)
            if (!strcmp(c->options[k].name, name)) p = &c->options[k];
        struct value *v = &given->items[given->count];
        given->keys[given->count++] = name;
        struct err ignored;
        if (!text) *v = (struct value){.type = VALUE_BOOL, .boolean = true};
        else if ((p && (p->type == MB_STRING || p->type == MB_ENUM)) || value_parse(text, strlen(text), a, v, &ignored))
            *v = (struct value){.type = VALUE_STRING, .string = text, .count = (uint32_t)strlen(text)};
    }
    *argc = kept;
    const char *twin;
    return value_sort(given, &twin) ? err_set(e, "--%s is given twice", twin) : 0;
}

int command_of_plugin(const struct options *o, int argc, char **argv, bool *found, struct err *e) {
    struct shelf f;
    struct seeking s = {.name = argv[0]};
    struct value given, applied;
    *found = false;
    if (shelf_open(&f, e) || shelf_each(&f, seek_command, &s, e)) {
        shelf_close(&f);
        return -1;
    }
    int status = 0;
    if (s.command) {
        *found = true;
        char *where = getcwd(NULL, 0);
        const char *env[] = {"PWD", where, NULL};
        struct buf json = {0};
        status = o->directory && chdir(o->directory) ? err_errno(e, "-C %s", o->directory) : 0;
        if (!status) status = read_options(s.command, &argc, argv, &f.graph.arena, &given, e);
        if (!status) status = schema_apply(s.command->options, s.command->option_count, &given, &f.graph.arena, &applied, e);
        if (status) err_wrap(e, "%s", s.name);
        if (!status) {
            value_write(&applied, &json);
            status = worker_command(f.workers, s.plugin->path, s.command->name, buf_str(&json), argc, argv, env, e);
        }
        buf_free(&json);
        free(where);
    }
    shelf_close(&f);
    return status;
}
