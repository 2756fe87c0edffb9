#!/usr/bin/env bash
# hints.sh: a word that is wrong gets the message that helps, not one that misleads.
source "$(dirname "$0")/lib.sh"

test_a_misspelt_field_of_a_rule_gets_the_field_that_was_meant() {
    write mbuild.lua <<<'command "a" { cmd = { "true" }, timout = "1m" }'
    run mbuild
    expect_fail 2 'mbuild.lua:1' 'unknown parameter timout; did you mean "timeout"?'
}

test_a_program_that_is_not_installed_is_told_so_also_when_a_folder_of_the_PATH_is_closed() {
    [[ $(id -u) != 0 ]] || skip "root may look into every folder"
    mkdir closed
    chmod 0 closed
    write mbuild.lua <<<'command "a" { cmd = { "no-such-program" } }'
    PATH=$PATH:$PWD/closed run mbuild
    chmod 755 closed
    expect_fail 2 'no program "no-such-program" is installed'
}

test_what_a_compiler_says_is_shown_once() {
    write p.c <<<'int broken('
    write mbuild.lua <<<'plugin "p" { "p.c" }'
    run mbuild
    expect_fail 2 "exited with status 1"
    expect_same "$(cat "$out" "$err" | grep -c "error:")" 1
}

test_commands_without_arguments_refuse_them() {
    write mbuild.lua <<<'command "a" { cmd = { "true" } }'
    for command in targets doctor help; do
        run mbuild $command a
        expect_fail 2 "$command takes no argument"
    done
}

test_the_graph_names_a_producer_once() {
    write mbuild.lua <<'LUA'
local two = command "two" { cmd = "touch build/x build/y", outputs = { "build/x", "build/y" } }
command "user" { cmd = "cat build/x build/y", inputs = { two }, stdout = "build/z" }
LUA
    expect_ok mbuild graph
    expect_printed 'user (command) ← two'
    expect_not_printed 'two, two'
}

test_no_step_may_overwrite_the_rule_file() {
    echo x >x
    write mbuild.lua <<<'copy "a" { from = "x", to = "mbuild.lua" }'
    run mbuild
    expect_fail 2 'mbuild.lua:1: step "a": the output mbuild.lua is the rule file itself'
    write sub/r.lua <<<'copy "a" { from = "x", to = "sub/r.lua" }'
    run mbuild -f ./sub/r.lua
    expect_fail 2 'the output sub/r.lua is the rule file itself'
    expect_content sub/r.lua 'copy "a" { from = "x", to = "sub/r.lua" }'
}

# A copy of the built program, with a plugin that brings the command `hello`.
program_with_hello() {
    cp -r "$MB_BUILD/bin" "$MB_BUILD/libexec" "$MB_BUILD/lib" "$MB_BUILD/share" .
    write hi.c <<'C'
#include <mbuild/plugin.h>
#include <stdio.h>
static int hello(const struct mb_host *host, struct mb_run *run, int argc, char **argv) {
    printf("hello %s, %s\n", host->param_string(run, "who"), argc > 1 ? argv[1] : "alone");
    return 0;
}
static const struct mb_param options[] = {{.name = "who", .type = MB_STRING, .deflt = "\"you\"", .help = "whom to greet"}, {0}};
static const struct mb_command commands[] = {{.name = "hello", .help = "greets", .options = options, .main = hello}, {0}};
static const struct mb_plugin plugin = {MB_PLUGIN_HEAD, .name = "hi", .version = "1", .help = "greets", .commands = commands};
MB_PLUGIN(plugin);
C
    $MB_CC -I"$MB_SOURCE/include" -shared -fPIC -o lib/mbuild/hi.so hi.c
}

test_a_command_of_an_added_plugin_takes_its_options() {
    [[ -z $MB_SANITIZERS ]] || skip "the plugin has no sanitizers"
    program_with_hello
    mkdir repo
    write repo/mbuild.lua <<<'command "a" { cmd = { "true" } }'
    expect_ok bin/mbuild -C repo hello --who=me there
    expect_printed "hello me, there"
    expect_ok bin/mbuild -C repo hello
    expect_printed "hello you, alone"
    run bin/mbuild -C repo hello --whom=me
    expect_fail 2 'unknown parameter whom; did you mean "who"?'
    run bin/mbuild -C repo helo --who=me
    expect_fail 2 "unknown option --who"
}

test_only_what_is_similar_is_suggested() {
    run mbuild plugin info nope
    expect_fail 2 'there is no plugin "nope"; `mbuild plugin list` shows those there are'
    run mbuild plugin info comand
    expect_fail 2 'did you mean "command"?'
}

run_tests "$@"
