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

run_tests "$@"
