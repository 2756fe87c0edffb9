/* options.c: what stands on the command line before, between and after targets; see command.h. */
#include "command.h"
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum option_kind { OPTION_FLAG, OPTION_TEXT, OPTION_COUNT, OPTION_COLOR, OPTION_SANDBOX, OPTION_HELP, OPTION_VERSION };

static const struct option_row {
    char letter;
    const char *name;
    enum option_kind kind;
    size_t offset;         /* in struct options */
    const char *argument, *help;
} rows[] = {
    {'C', "directory", OPTION_TEXT, offsetof(struct options, directory), "DIR", "work in DIR"},
    {'f', "file", OPTION_TEXT, offsetof(struct options, file), "FILE", "read the rules from FILE instead of mbuild.lua"},
    {'j', "jobs", OPTION_COUNT, offsetof(struct options, jobs), "N", "keep at most N processors busy (default: all)"},
    {'k', "keep-going", OPTION_FLAG, offsetof(struct options, keep_going), NULL, "after a failure, make what doesn't depend on it"},
    {'n', "dry-run", OPTION_FLAG, offsetof(struct options, dry_run), NULL, "say what would run, and why; change nothing"},
    {'B', "always-make", OPTION_FLAG, offsetof(struct options, always), NULL, "run every step, stale or not"},
    {'q', "question", OPTION_FLAG, offsetof(struct options, question), NULL, "run nothing; status 1 if something is stale"},
    {'v', "verbose", OPTION_FLAG, offsetof(struct options, verbose), NULL, "show parameters and what steps log"},
    {'s', "silent", OPTION_FLAG, offsetof(struct options, silent), NULL, "show failures only"},
    {0, "explain", OPTION_FLAG, offsetof(struct options, explain), NULL, "say why each step runs"},
    {0, "device", OPTION_TEXT, offsetof(struct options, device), "NAME", "auto, cpu or cuda: where steps compute (default: auto)"},
    {0, "sandbox", OPTION_SANDBOX, offsetof(struct options, sandbox), "MODE", "auto, require or off: what steps may see (default: auto)"},
    {0, "check-repro", OPTION_FLAG, offsetof(struct options, check_repro), NULL, "run each deterministic step twice and compare the bytes"},
    {0, "json", OPTION_FLAG, offsetof(struct options, json), NULL, "events as JSON lines on stdout (docs/events.md)"},
    {0, "trace", OPTION_TEXT, offsetof(struct options, trace), "FILE", "write a Chrome trace of the build"},
    {0, "color", OPTION_COLOR, offsetof(struct options, color), "WHEN", "auto, always or never"},
    {'h', "help", OPTION_HELP, 0, NULL, "this help"},
    {0, "version", OPTION_VERSION, 0, NULL, "the version"},
};
#define ROWS (sizeof rows / sizeof *rows)

void options_help(void) {
    struct arena a = {0};
    const char **cells = NULL;
    uint32_t cap = 0, n = 0;
    printf("usage: mbuild [options] [target …] [name=value …]\n       mbuild COMMAND …\n\n"
           "Brings targets of the model repo in this folder up to date; without one, the rules' default.\n\noptions:\n");
    for (size_t i = 0; i < ROWS; i++) {
        char letter[4] = "";
        if (rows[i].letter) snprintf(letter, sizeof letter, "-%c,", rows[i].letter);
        cells = mem_grow(cells, &cap, n + 2, sizeof *cells);
        cells[n++] = arena_printf(&a, "  %3s --%s%s%s", letter, rows[i].name, rows[i].argument ? "=" : "", rows[i].argument ? rows[i].argument : "");
        cells[n++] = rows[i].help;
    }
    ui_table(STDOUT_FILENO, cells, n / 2, 2, false);
    printf("\ncommands:\n");
    n = 0;
    for (const struct command *c = commands; c->name; c++) {
        cells = mem_grow(cells, &cap, n + 2, sizeof *cells);
        cells[n++] = arena_printf(&a, "  %s %s", c->name, c->usage);
        cells[n++] = c->help;
    }
    ui_table(STDOUT_FILENO, cells, n / 2, 2, false);
    printf("\nPlugins bring commands of their own: `mbuild plugin list` names them.\n"
           "Exit status: 0 up to date, 1 -q and stale, 2 failure, 130 interrupted.\n");
    free(cells);
    arena_free(&a);
}

void options_each(void (*each)(void *ctx, const struct option_about *o), void *ctx) {
    for (size_t i = 0; i < ROWS; i++) {
        struct option_about about = {.letter = rows[i].letter, .name = rows[i].name, .argument = rows[i].argument, .help = rows[i].help};
        each(ctx, &about);
    }
}

static int set_option(struct options *o, const struct option_row *row, const char *value, bool *done, struct err *e) {
    void *field = (char *)o + row->offset;
    char *end;
    long n;
    switch (row->kind) {
    case OPTION_FLAG: *(bool *)field = true; return 0;
    case OPTION_TEXT: *(const char **)field = value; return 0;
    case OPTION_COUNT:
        errno = 0;
        n = strtol(value, &end, 10);
        if (errno || *end || end == value || n < 1 || n > 10000) return err_set(e, "-%c: a number from 1 to 10000 expected, found %s", row->letter, value);
        *(int *)field = (int)n;
        return 0;
    case OPTION_COLOR:
        if (!strcmp(value, "auto")) o->color = UI_COLOR_AUTO;
        else if (!strcmp(value, "always")) o->color = UI_COLOR_ALWAYS;
        else if (!strcmp(value, "never")) o->color = UI_COLOR_NEVER;
        else return err_set(e, "--color: auto, always or never expected, found %s", value);
        return 0;
    case OPTION_SANDBOX:
        *(const char **)field = value;
        return sandbox_parse_mode(value, &(enum sandbox_mode){SANDBOX_AUTO}, e);
    case OPTION_HELP:
        options_help();
        *done = true;
        return 0;
    case OPTION_VERSION:
        printf("mbuild %s\n", MBUILD_VERSION);
        *done = true;
        return 0;
    }
    return 0;
}

static bool takes_value(const struct option_row *row) {
    return row->kind == OPTION_TEXT || row->kind == OPTION_COUNT || row->kind == OPTION_COLOR || row->kind == OPTION_SANDBOX;
}

static int parse_long(struct options *o, const char *word, char **argv, int argc, int *i, bool *done, struct err *e) {
    size_t n = strcspn(word, "=");
    for (size_t k = 0; k < ROWS; k++) {
        if (strncmp(rows[k].name, word, n) || rows[k].name[n]) continue;
        const char *value = word[n] ? word + n + 1 : NULL;
        if (!takes_value(&rows[k])) {
            if (value) return err_set(e, "--%s takes no value", rows[k].name);
        } else if (!value) {
            if (*i + 1 >= argc) return err_set(e, "--%s needs a value: %s", rows[k].name, rows[k].argument);
            value = argv[++*i];
        }
        return set_option(o, &rows[k], value, done, e);
    }
    const char *names[ROWS];
    for (size_t k = 0; k < ROWS; k++) names[k] = rows[k].name;
    char plain[64];
    snprintf(plain, sizeof plain, "%.*s", (int)n, word);
    const char *near = mem_nearest(plain, names, ROWS);
    return err_set(e, "unknown option --%s%s%s%s; see mbuild --help", plain, near ? "; did you mean --" : "", near ? near : "", near ? "?" : "");
}

/* "-kj4" as make takes it. */
static int parse_letters(struct options *o, const char *word, char **argv, int argc, int *i, bool *done, struct err *e) {
    for (; *word; word++) {
        size_t k = 0;
        while (k < ROWS && rows[k].letter != *word) k++;
        if (k == ROWS) return err_set(e, "unknown option -%c; see mbuild --help", *word);
        if (!takes_value(&rows[k])) {
            if (set_option(o, &rows[k], NULL, done, e)) return -1;
            continue;
        }
        const char *value = word[1] ? word + 1 : *i + 1 < argc ? argv[++*i] : NULL;
        if (!value) return err_set(e, "-%c needs a value: %s", *word, rows[k].argument);
        return set_option(o, &rows[k], value, done, e);
    }
    return 0;
}

void options_take_make(struct options *o) {
    const char *flags = getenv("MAKEFLAGS");
    size_t n = flags ? strcspn(flags, " ") : 0;
    if (!n || *flags == '-' || memchr(flags, '=', n)) return; /* the first word are letters, if there are any */
    for (size_t i = 0; i < n; i++) {
        if (flags[i] == 'k') o->keep_going = true;
        else if (flags[i] == 'n') o->dry_run = true;
        else if (flags[i] == 'q') o->question = true;
        else if (flags[i] == 's') o->silent = true;
    }
}

static void add_word(const char ***list, uint32_t *count, const char *word) {
    *list = mem_realloc(*list, (*count + 1) * sizeof **list);
    (*list)[(*count)++] = word;
}

int options_parse(struct options *o, int argc, char **argv, bool all, int *rest, bool *done, struct err *e) {
    int i = 1;
    bool words = false; /* after "--" nothing is an option */
    for (; i < argc && !*done; i++) {
        const char *word = argv[i];
        if (!words && !strcmp(word, "--")) words = true;
        else if (!words && word[0] == '-' && word[1] == '-') {
            if (parse_long(o, word + 2, argv, argc, &i, done, e)) return -1;
        } else if (!words && word[0] == '-' && word[1]) {
            if (parse_letters(o, word + 1, argv, argc, &i, done, e)) return -1;
        } else if (!all) {
            break;
        } else if (strchr(word, '=') && strchr(word, '=') < word + strcspn(word, "/")) {
            add_word(&o->settings, &o->setting_count, word);
        } else {
            add_word(&o->targets, &o->target_count, word);
        }
    }
    *rest = i;
    return 0;
}

void options_add_word(struct buf *out, const char *word) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=@%+,";
    if (*word && !word[strspn(word, plain)]) {
        buf_adds(out, word);
        return;
    }
    buf_addc(out, '\'');
    for (; *word; word++) {
        if (*word == '\'') buf_adds(out, "'\\''");
        else buf_addc(out, *word);
    }
    buf_addc(out, '\'');
}

void options_add_again(struct buf *out, const struct options *o, const char *target) {
    const struct {
        const char *option, *value;
    } parts[] = {{" -C ", o->directory}, {" -f ", o->file}, {" --device=", o->device}, {" --sandbox=", o->sandbox}, {" ", target}};
    buf_adds(out, "mbuild");
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (!parts[i].value) continue;
        buf_adds(out, parts[i].option);
        options_add_word(out, parts[i].value);
    }
    for (uint32_t i = 0; i < o->setting_count; i++) {
        buf_addc(out, ' ');
        options_add_word(out, o->settings[i]);
    }
}

void options_free(struct options *o) {
    free(o->settings);
    free(o->targets);
}
