/* command_completion.c: `mbuild completion SHELL`: a script for the shell's completion, written from the tables of options and commands.
 *
 *     source <(mbuild completion bash)        mbuild completion fish >~/.config/fish/completions/mbuild.fish
 *
 * Targets are asked for when the user presses the key: the script calls `mbuild targets`.
 */
#include "command.h"

#include <stdio.h>
#include <string.h>

/* The targets, one a line, in any of the shells, within single or double quotes; nothing outside of a repo. Names that a shell could take
 * for more than a word are left out: a rule file must not run commands by way of a key pressed. */
#define TARGETS "mbuild targets 2>/dev/null | sed 1d | cut -d\" \" -f1 | grep -xE \"[[:alnum:]_./+:@-]+\""

/* Text within single quotes. */
static void put_quoted(const char *text) {
    for (; *text; text++) {
        if (*text == '\'') fputs("'\\''", stdout);
        else putchar(*text);
    }
}

/* -- bash */

static void bash_option(void *ctx, const struct option_about *o) {
    (void)ctx;
    printf(" --%s%s", o->name, o->argument ? "=" : "");
}

static void write_bash(void) {
    printf("_mbuild() {\n    local cur=${COMP_WORDS[COMP_CWORD]} word\n    COMPREPLY=()\n    while read -r word; do\n"
           "        [[ $word != \"$cur\"* ]] || COMPREPLY+=(\"$word\")\n    done < <(\n        case $cur in\n        -*) printf '%%s\\n'");
    options_each(bash_option, NULL);
    printf(" ;;\n        *)\n            ((COMP_CWORD > 1)) || printf '%%s\\n'");
    for (const struct command *c = commands; c->name; c++) printf(" %s", c->name);
    printf("\n            " TARGETS "\n            ;;\n        esac\n    )\n"
           "    [[ ${COMPREPLY[0]-} != *= ]] || compopt -o nospace\n}\ncomplete -o default -F _mbuild mbuild\n");
}

/* -- zsh */

static void put_zsh(const char *text) {
    for (; *text; text++) {
        if (strchr("[]:\\", *text)) putchar('\\');
        if (*text == '\'') fputs("'\\''", stdout);
        else putchar(*text);
    }
}

static void zsh_option(void *ctx, const struct option_about *o) {
    (void)ctx;
    printf("        '");
    if (o->letter) printf("(-%c --%s)'{-%c%s,--%s%s}'", o->letter, o->name, o->letter, o->argument ? "+" : "", o->name, o->argument ? "=" : "");
    else printf("--%s%s", o->name, o->argument ? "=" : "");
    printf("[");
    put_zsh(o->help);
    printf("]");
    if (o->argument) printf(":%s:%s", o->argument, !strcmp(o->argument, "DIR") ? "_files -/" : !strcmp(o->argument, "FILE") ? "_files" : "");
    printf("' \\\n");
}

static void write_zsh(void) {
    printf("#compdef mbuild\n_mbuild_words() {\n    local -a targets commands\n    targets=(${(f)\"$(" TARGETS ")\"})\n    commands=(\n");
    for (const struct command *c = commands; c->name; c++) {
        printf("        '%s:", c->name);
        put_zsh(c->help);
        printf("'\n");
    }
    printf("    )\n    ((CURRENT > 2)) || _describe command commands\n    compadd -a targets\n    _files\n}\n_mbuild() {\n    _arguments -s \\\n");
    options_each(zsh_option, NULL);
    printf("        '*:target:_mbuild_words'\n}\nif [[ $zsh_eval_context[-1] == loadautofunc ]]; then _mbuild \"$@\"; else compdef _mbuild mbuild; fi\n");
}

/* -- fish */

static void fish_option(void *ctx, const struct option_about *o) {
    (void)ctx;
    printf("complete -c mbuild");
    if (o->letter) printf(" -s %c", o->letter);
    printf(" -l %s%s -d '", o->name, o->argument ? " -r" : "");
    put_quoted(o->help);
    printf("'\n");
}

static void write_fish(void) {
    options_each(fish_option, NULL);
    for (const struct command *c = commands; c->name; c++) {
        printf("complete -c mbuild -n __fish_use_subcommand -a %s -d '", c->name);
        put_quoted(c->help);
        printf("'\n");
    }
    printf("complete -c mbuild -a '(" TARGETS ")' -d target\n");
}

int command_completion(const struct options *o, int argc, char **argv, struct err *e) {
    static const struct {
        const char *name;
        void (*write)(void);
    } shells[] = {{"bash", write_bash}, {"zsh", write_zsh}, {"fish", write_fish}};
    (void)o;
    for (size_t i = 0; argc == 2 && i < sizeof shells / sizeof *shells; i++) {
        if (strcmp(shells[i].name, argv[1])) continue;
        shells[i].write();
        return 0;
    }
    return err_set(e, "usage: mbuild completion bash|zsh|fish");
}
