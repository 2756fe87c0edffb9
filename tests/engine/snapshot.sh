#!/usr/bin/env bash
# The snapshot from which a build with nothing to do is answered: it is only a cache, and it never answers wrong.
source "$(dirname "$0")/lib.sh"

# Inputs in/1 … in/20, a copy of each, a folder made of two, and what comes of a glob.
many() {
    mkdir in
    for i in {1..20}; do echo "$i" >in/"$i"; done
    write mbuild.lua <<'LUA'
for i = 1, 20 do copy("c" .. i) { from = "in/" .. i, to = "build/c" .. i } end
local tree = command "tree" { cmd = "mkdir -p build/tree/deep; cp build/c1 build/tree/deep/one; cp build/c2 build/tree/two", inputs = { "build/c1", "build/c2" }, outputs = { "build/tree" } }
command "list" { cmd = "cat in/*.x > build/list 2>&1 || true", inputs = { glob "in/*.x" }, outputs = { "build/list" } }
LUA
    touch in/a.x
    settle
}

# Builds until nothing changed so lately that it must be looked at once more.
settle() {
    build "$@"
    sleep 0.05
    build "$@"
    sleep 0.05
    build "$@"
}

# The rules' own print tells whether they were evaluated.
expect_not_evaluated() {
    run mbuild "$@"
    expect_ok
    expect_not_printed "evaluated"
    expect_printed "nothing to do"
}

test_with_nothing_to_do_the_rules_are_not_evaluated() {
    write x <<<"x"
    write mbuild.lua <<<'print "evaluated" copy "a" { from = "x" }'
    settle
    expect_not_evaluated
    touch mbuild.lua
    run mbuild
    expect_printed "evaluated" "nothing to do"
}

test_one_changed_input_makes_what_depends_on_it() {
    many
    write in/7 <<<"seven"
    build
    expect_ran c7
    expect_content build/c7 seven
    build
    expect_nothing_ran
    write in/1 <<<"one"
    build
    expect_ran c1 tree
    expect_content build/tree/deep/one one
    settle
    expect_nothing_ran
}

test_an_altered_output_is_restored() {
    many
    echo other >build/c3
    build
    expect_restored c3
    expect_nothing_ran
    rm build/c4
    build
    expect_restored c4
    echo deep >build/tree/deep/one
    build
    expect_restored tree
    expect_content build/tree/deep/one 1
    touch build/tree/more
    build
    expect_restored tree
    expect_no_file build/tree/more
    settle
    rm -r build/tree
    build
    expect_restored tree
}

test_a_file_that_a_glob_would_find_is_noticed() {
    many
    echo new >in/b.x
    build
    expect_ran list
    rm in/b.x
    build
    expect_nothing_ran
    expect_restored list
}

test_a_changed_variable_is_noticed() {
    write mbuild.lua <<<'command "a" { cmd = "echo $NAME > build/a", outputs = { "build/a" }, env = { "NAME" } }'
    export NAME=one
    settle
    NAME=two
    build
    expect_ran a
    expect_content build/a two
    unset NAME
    build
    expect_ran a
}

test_a_damaged_snapshot_is_passed_over() {
    many
    local file bytes at
    file=$(echo .mbuild/snapshot/*)
    bytes=$(stat -c %s "$file")
    cp "$file" good
    for at in 0 9 40 100 200 $((bytes / 3)) $((bytes / 2)) $((bytes - 1)); do
        cp good "$file"
        printf '\xff' | dd of="$file" bs=1 seek="$at" conv=notrunc 2>/dev/null
        build
        expect_nothing_ran
        cp good "$file"
        truncate -s "$at" "$file"
        build
        expect_nothing_ran
    done
    rm -r .mbuild/snapshot
    build
    expect_nothing_ran
}

test_a_damaged_snapshot_never_hides_a_change() {
    many
    local file bytes at
    file=$(echo .mbuild/snapshot/*)
    bytes=$(stat -c %s "$file")
    cp "$file" good
    for ((at = 16; at < bytes; at += bytes / 37 + 1)); do
        cp good "$file"
        printf '\x5a' | dd of="$file" bs=1 seek="$at" conv=notrunc 2>/dev/null
        echo "$at" >in/5
        build
        expect_content build/c5 "$at"
    done
}

test_other_targets_and_settings_have_their_own() {
    write x <<<"x"
    write mbuild.lua <<<'copy "a" { from = "x" } command "b" { cmd = { "echo", option("word", "one") }, stdout = "build/b" }'
    settle a
    settle b
    build b word=two
    expect_ran b
    build b
    expect_restored b
    expect_content build/b one
    build a
    expect_nothing_ran
}

test_a_found_input_is_noticed_when_it_changes() {
    if ! command -v "$MB_CC" >/dev/null; then skip "no C compiler"; fi
    write part.h <<<'#define WORD "one"'
    write p.c <<'C'
#include "part.h"
#include <mbuild/plugin.h>
#include <stdio.h>
static int run(const struct mb_host *h, struct mb_run *r) {
    FILE *f = fopen(h->output_path(r, "out", 0), "w");
    fputs(WORD, f);
    return fclose(f);
}
static const struct mb_role roles[] = {{.name = "out", .flags = MB_OUTPUT, .help = "a word"}, {0}};
static const struct mb_step steps[] = {{.name = "p", .help = "writes a word", .roles = roles, .run = run}, {0}};
static const struct mb_plugin plugin = {MB_PLUGIN_HEAD, .name = "p", .version = "1", .help = "a word", .steps = steps};
MB_PLUGIN(plugin);
C
    write mbuild.lua <<<'step "word" { plugin = plugin "p" { "p.c", cc = "'"$MB_CC"'" } }'
    settle
    expect_content build/word one
    write part.h <<<'#define WORD "two"'
    build
    expect_ran p word
    expect_content build/word two
    settle
    expect_nothing_ran
    touch part.h
    build
    expect_nothing_ran
}

run_tests "$@"
