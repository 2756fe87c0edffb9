#!/usr/bin/env bash
# Inputs that a step finds while it runs: they count from then on, whatever becomes of them.
source "$(dirname "$0")/lib.sh"

# A plugin whose step "reads" copies to its output each file whose name stands in list.txt, and reports it; at the name "wait" it waits until there
# is a file "go".
reader() {
    command -v "$MB_CC" >/dev/null || skip "no C compiler"
    write p.c <<'C'
#define _DEFAULT_SOURCE
#include <mbuild/plugin.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
static int run(const struct mb_host *h, struct mb_run *r) {
    char name[300], text[300];
    FILE *list = fopen(h->input_path(r, "list", 0), "r"), *out = fopen(h->output_path(r, "out", 0), "w");
    while (fgets(name, sizeof name, list)) {
        name[strcspn(name, "\n")] = 0;
        if (!strcmp(name, "wait")) {
            while (access("go", F_OK)) usleep(10000);
            continue;
        }
        h->discovered(r, name);
        FILE *f = fopen(name, "r");
        if (!f) fputs("absent\n", out);
        while (f && fgets(text, sizeof text, f)) fputs(text, out);
        if (f) fclose(f);
    }
    fclose(list);
    return fclose(out);
}
static const struct mb_role roles[] = {{.name = "list", .flags = MB_INPUT, .help = "names"}, {.name = "more", .flags = MB_INPUT | MB_OPTIONAL | MB_MANY, .help = "others"},
    {.name = "out", .flags = MB_OUTPUT, .help = "contents"}, {0}};
static const struct mb_step steps[] = {{.name = "p", .help = "reads", .flags = MB_DISCOVERS, .roles = roles, .run = run}, {0}};
static const struct mb_plugin plugin = {MB_PLUGIN_HEAD, .name = "p", .version = "1", .help = "reads", .steps = steps};
MB_PLUGIN(plugin);
C
    write list.txt <<<$'one.h\ntwo.h'
    write one.h <<<"one"
    write two.h <<<"two"
    write mbuild.lua <<LUA
local all = step "all" { plugin = plugin "p" { "p.c", cc = "$MB_CC" }, inputs = { list = "list.txt" }, outputs = { out = "build/all" } }
command "after" { cmd = { "cat", all }, stdout = "build/after" }
LUA
}

# Builds until what stands is trusted by its stat, so that the snapshot answers too.
settle() {
    build
    sleep 0.05
    build
    sleep 0.05
    build
    expect_nothing_ran
}

test_a_found_input_counts_when_it_changes() {
    reader
    build
    expect_content build/after $'one\ntwo'
    settle
    write two.h <<<"zwei"
    run mbuild why all
    expect_printed "two.h, which it read when it ran, changed"
    build
    expect_ran all after
    expect_content build/after $'one\nzwei'
    touch one.h
    build
    expect_nothing_ran
    write two.h <<<"two"
    build
    expect_nothing_ran
    expect_restored all after
}

test_a_found_input_that_disappears_counts_too() {
    reader
    settle
    rm one.h
    run mbuild why all
    expect_printed "one.h, which it read when it ran, is gone"
    build
    expect_ran all after
    expect_content build/after $'absent\ntwo'
    settle
    write one.h <<<"back"
    build
    expect_ran all after
    expect_content build/after $'back\ntwo'
}

test_what_is_no_longer_found_no_longer_counts() {
    reader
    settle
    write list.txt <<<"one.h"
    build
    expect_ran all after
    write two.h <<<"changed"
    build
    expect_nothing_ran
}

test_a_found_input_that_another_step_makes_is_an_error_that_says_what_to_do() {
    reader
    cat >>mbuild.lua <<'LUA'
command "made" { cmd = "echo made > build/made.h", outputs = { "build/made.h" } }
LUA
    write list.txt <<<"build/made.h"
    try -k -j1
    expect_fail 2 "build/made.h" 'step "made"' "name it as an input"
    expect_failed all
    change mbuild.lua 's/list = "list.txt" }/list = "list.txt", more = { "build\/made.h" } }/'
    build
    expect_content build/after made
    settle
    change mbuild.lua 's/echo made/echo anew/'
    build
    expect_ran made all after
    expect_content build/after anew
}

test_a_cycle_through_a_found_input_is_refused() {
    reader
    write list.txt <<<"build/after"
    try
    expect_fail 2 "it read build/after" 'step "after" makes'
    write build/after <<<"by hand"
    try
    expect_fail 2 "it read build/after" 'step "after" makes'
    expect_no_file build/all
}

test_a_found_folder_counts_as_deep_as_it_goes() {
    reader
    write inc/deep/a.h <<<"a"
    write list.txt <<<"inc"
    settle
    write inc/deep/b.h <<<"b"
    build
    expect_ran all
    settle
    write inc/deep/a.h <<<"A"
    build
    expect_ran all
}

test_equal_steps_with_found_inputs_share_only_what_fits() {
    reader
    settle
    write two.h <<<"other"
    build
    expect_content build/after $'one\nother'
    rm -r build
    write two.h <<<"two"
    build
    expect_nothing_ran
    expect_content build/after $'one\ntwo'
    write two.h <<<"third"
    build
    expect_ran all after
}

test_a_found_input_that_changes_while_the_step_runs_makes_it_run_again() {
    reader
    write list.txt <<<$'one.h\ntwo.h\nwait'
    start --sandbox=off
    await 'step_started.*"all"'
    sleep 0.2
    echo uno >one.h # when it has read it
    touch go
    finish
    expect_status 0
    grep -q "one.h, which it read, changed while it ran" "$out" || fail "nothing was said of it"
    build --sandbox=off
    expect_ran all after
    expect_content build/after $'uno\ntwo'
    # The same where the file was known before.
    rm go
    write list.txt <<<$'two.h\none.h\nwait'
    start --sandbox=off
    await 'step_started.*"all"'
    sleep 0.2
    echo eins >one.h
    touch go
    finish
    build --sandbox=off
    expect_ran all after
    expect_content build/after $'two\neins'
    build --sandbox=off
    expect_nothing_ran
}

run_tests "$@"
