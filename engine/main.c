/* main.c: where the program begins and ends. Finds out whether a build or a subcommand is wanted. */
#include "command.h"
#include "config.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const struct command commands[] = {
    {"init", "[TEMPLATE]", "start a model repo in this folder", command_init},
    {"watch", "[TARGET …]", "build, and build again whenever an input changes", command_watch},
    {"targets", "", "what can be built", command_targets},
    {"status", "[TARGET …]", "what is stale, and why", command_status},
    {"why", "TARGET", "why a target is stale or not, to the root cause", command_why},
    {"graph", "[--dot|--json] [TARGET …]", "the graph", command_graph},
    {"show", "TARGET", "one artifact: digest, size, parameters, lineage, metrics", command_show},
    {"log", "[TARGET]", "past runs", command_log},
    {"clean", "[TARGET …]", "remove outputs; what the rules no longer make as well", command_clean},
    {"gc", "[--days=N]", "shrink the store", command_gc},
    {"plugin", "list|info NAME|new NAME", "plugins: what there is, what they take, a new one", command_plugin},
    {"doctor", "", "what this machine offers and lacks", command_doctor},
    {"completion", "bash|zsh|fish", "a script for the shell's completion", command_completion},
    {"help", "", "this help", command_help},
    {NULL, NULL, NULL, NULL},
};

const struct command *command_find(const char *name) {
    for (const struct command *c = commands; c->name; c++)
        if (!strcmp(c->name, name)) return c;
    return NULL;
}

/* Commands that the plugins which come with mbuild bring, now or later: names that no target may take. */
static const char *const plugin_commands[] = {"releases", "promote", "approve", "verify", "rollback", "deploy", "serve", "report", "diff"};

static bool is_plugin_command(const char *name) {
    for (size_t i = 0; i < sizeof plugin_commands / sizeof *plugin_commands; i++)
        if (!strcmp(plugin_commands[i], name)) return true;
    return false;
}

bool session_is_command(const char *name) {
    return command_find(name) || is_plugin_command(name);
}

int command_help(const struct options *o, int argc, char **argv, struct err *e) {
    (void)o;
    if (argc > 1) return err_set(e, "help takes no argument, found %s", argv[1]);
    options_help();
    return 0;
}

static char *join_words(int argc, char **argv) {
    struct buf b = {0};
    buf_adds(&b, "mbuild");
    for (int i = 1; i < argc; i++) {
        buf_addc(&b, ' ');
        options_add_word(&b, argv[i]);
    }
    return b.data;
}

/* A subcommand stands first, or after options such as -C; everything else is a target. */
static int run(struct options *o, int argc, char **argv, struct err *e) {
    int rest = 1;
    bool done = false, found = false;
    if (options_parse(o, argc, argv, false, &rest, &done, e)) return -1;
    if (done) return 0;
    const struct command *c = rest < argc ? command_find(argv[rest]) : NULL;
    if (c) return c->main(o, argc - rest, argv + rest, e);
    if (rest < argc && is_plugin_command(argv[rest])) {
        int status = command_of_plugin(o, argc - rest, argv + rest, &found, e);
        if (found || status < 0) return status;
        return err_set(e, "no installed plugin brings the command \"%s\"; `mbuild plugin list` shows those there are", argv[rest]);
    }
    struct options all = {.command_line = o->command_line};
    const int first = rest;
    int status = options_parse(&all, argc, argv, true, &rest, &done, e);
    const bool parsed = !status;
    bool unknown = !parsed && first < argc;
    options_take_make(&all);
    if (parsed && !done) status = command_build(&all, &unknown, e);
    options_free(&all);
    if (unknown) { /* no target, or no option, of mbuild's: perhaps of a plugin that was added to those that come with mbuild */
        struct err own;
        if (parsed) o->directory = NULL; /* the build went there */
        int other = command_of_plugin(o, argc - first, argv + first, &found, &own);
        if (found) {
            if (other < 0) *e = own;
            return other;
        }
    }
    return status;
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is an error of write */
    struct options o = {0};
    struct err e = {.text = ""};
    char *line = join_words(argc, argv);
    o.command_line = line;
    int status = run(&o, argc, argv, &e);
    options_free(&o);
    free(line);
    if (status < 0) {
        fflush(stdout);
        fprintf(stderr, "mbuild: %s\n", e.text);
        return 2;
    }
    if (fflush(stdout)) return 2;
    return status;
}
