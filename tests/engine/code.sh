#!/usr/bin/env bash
# The code that runs is an input like any other: a plugin, the libraries of ours that it loads, the state of another version.
source "$(dirname "$0")/lib.sh"

compiler() { command -v "$MB_CC" >/dev/null || skip "no C compiler"; }

# plugin NAME EXPRESSION: writes NAME.c, whose step writes the string that EXPRESSION is.
plugin() {
    write "$1.c" <<C
#include <mbuild/plugin.h>
#include <stdio.h>
extern const char *word(void);
static int run(const struct mb_host *h, struct mb_run *r) {
    FILE *f = fopen(h->output_path(r, "out", 0), "w");
    fputs($2, f);
    return fclose(f);
}
static const struct mb_role roles[] = {{.name = "out", .flags = MB_OUTPUT, .help = "a word"}, {0}};
static const struct mb_step steps[] = {{.name = "$1", .help = "writes a word", .roles = roles, .run = run}, {0}};
static const struct mb_plugin plugin = {MB_PLUGIN_HEAD, .name = "$1", .version = "1", .help = "a word", .steps = steps};
MB_PLUGIN(plugin);
C
}

# An mbuild of our own, whose plugins we may change.
install() {
    compiler
    mkdir -p inst
    cp -r "$MB_BUILD"/bin "$MB_BUILD"/libexec "$MB_BUILD"/lib "$MB_BUILD"/share inst/
    PATH=$PWD/inst/bin:$PATH
    plugins=inst/lib/mbuild
}

# Two steps by two plugins, compiled by hand; and until their stats are trusted.
two_plugins() {
    install
    plugin p '"one"'
    plugin q '"other"'
    compile p
    compile q
    write mbuild.lua <<'LUA'
step "a" { plugin = "p", outputs = { out = "build/a" } }
step "b" { plugin = "q", outputs = { out = "build/b" } }
LUA
    build
    expect_ran a b
    sleep 0.05
    build
    expect_nothing_ran
}
compile() {
    "$MB_CC" -shared -fPIC -I"$MB_SOURCE/include" -o "$plugins/$1.so.new" "$1.c" "${@:2}"
    mv "$plugins/$1.so.new" "$plugins/$1.so"
}

test_a_changed_plugin_runs_its_steps_and_no_others() {
    two_plugins
    plugin p '"two"'
    compile p
    run mbuild why a
    expect_printed "plugin" "changed"
    build
    expect_ran a
    expect_content build/a two
    build
    expect_nothing_ran
}

test_a_plugin_rebuilt_to_the_same_bytes_runs_nothing() {
    two_plugins
    compile p
    build
    expect_nothing_ran
    touch $plugins/q.so
    build
    expect_nothing_ran
}

test_a_plugin_that_goes_back_is_no_new_work() {
    two_plugins
    cp $plugins/p.so kept.so
    plugin p '"two"'
    compile p
    build
    cp kept.so $plugins/p.so.new && mv $plugins/p.so.new $plugins/p.so
    build
    expect_nothing_ran
    expect_restored a
    expect_content build/a one
}

test_a_changed_library_of_ours_that_a_plugin_loads_runs_its_steps() {
    install
    write word.c <<<'const char *word(void) { return "one"; }'
    library() {
        "$MB_CC" -shared -fPIC -o inst/lib/libmbword.so.new word.c -Wl,-soname,libmbword.so
        mv inst/lib/libmbword.so.new inst/lib/libmbword.so
    }
    library
    plugin p 'word()'
    plugin q '"other"'
    compile p -Linst/lib -lmbword -Wl,-rpath,'$ORIGIN/..'
    compile q
    write mbuild.lua <<'LUA'
step "a" { plugin = "p", outputs = { out = "build/a" } }
step "b" { plugin = "q", outputs = { out = "build/b" } }
LUA
    build
    sleep 0.05
    build
    expect_nothing_ran
    write word.c <<<'const char *word(void) { return "two"; }'
    library
    build
    expect_ran a
    expect_content build/a two
    build
    expect_nothing_ran
}

test_a_plugin_that_is_gone_is_told_and_comes_back_as_it_was() {
    two_plugins
    mv $plugins/p.so kept.so
    try
    expect_fail 2 'there is no plugin "p"'
    expect_content build/a one
    mv kept.so $plugins/p.so
    build
    expect_nothing_ran
}

test_only_real_changes_of_parameters_count() {
    install
    plugin p '"one"'
    sed -i 's/^static const struct mb_step.*/static const struct mb_param params[] = {{.name = "rate", .type = MB_FLOAT, .deflt = "1"}, {.name = "t", .type = MB_TABLE, .deflt = "{}", .fields = (const struct mb_param[]){{.name = "a", .type = MB_INT, .deflt = "2"}, {.name = "b", .type = MB_STRING, .deflt = "\\"x\\""}, {0}}}, {0}};\n&/; s/.roles = roles,/.roles = roles, .params = params,/' p.c
    compile p
    rule() { write mbuild.lua <<<"step \"a\" { plugin = \"p\", outputs = { out = \"build/a\" }, params = { $1 } }"; }
    rule ''
    build
    local same
    for same in 'rate = 1' 'rate = 1.0' 'rate = 1e0' 't = {}' 't = { a = 2 }' 't = { b = "x", a = 2.0 }, rate = 1' 't = { a = 2, b = "x" }' 'rate = nil'; do
        rule "$same"
        build
        [[ -z $(ran) ]] || fail "it ran for: $same"
        expect_restored
    done
    rule 'rate = 1.5'
    run mbuild why a
    expect_printed "parameter rate: 1 → 1.5"
    build
    expect_ran a
    rule 't = { a = 3 }'
    run mbuild why a
    expect_printed "parameter t.a: 2 → 3"
    build
    expect_ran a
    rule ''
    build
    expect_nothing_ran
    expect_restored a
    rule 'rat = 2'
    try
    expect_fail 2 "mbuild.lua:1" 'did you mean "rate"?'
}

test_deleting_the_snapshot_costs_nothing() {
    two_plugins
    rm -rf .mbuild/snapshot
    build
    expect_nothing_ran
    expect_restored
}

test_the_state_of_a_newer_mbuild_is_refused_with_advice_and_left_alone() {
    write x <<<"x"
    write mbuild.lua <<<'copy "a" { from = "x" }'
    build
    command -v python3 >/dev/null || skip "python3 is needed to edit the database"
    local database
    database=$(find .mbuild -maxdepth 1 -name '*.db' | head -n 1)
    python3 -c 'import sqlite3, sys
c = sqlite3.connect(sys.argv[1]); c.execute("PRAGMA user_version = 999"); c.commit()' "$database" || skip "python3 has no sqlite3"
    rm -rf .mbuild/snapshot
    before=$(sha "$database")
    try
    expect_fail 2 "999" "newer"
    expect_same "$(sha "$database")" "$before"
    rm -rf .mbuild
    build
    expect_ran a
}

test_a_database_that_is_rubbish_is_put_aside_and_all_is_found_again() {
    write x <<<"x"
    write mbuild.lua <<<'copy "a" { from = "x" }'
    build
    local database
    database=$(find .mbuild -maxdepth 1 -name '*.db' | head -n 1)
    rm -f "$database"-wal "$database"-shm
    head -c 9000 /dev/urandom >"$database"
    rm -rf .mbuild/snapshot
    build
    expect_content build/a x
    build
    expect_nothing_ran
}

run_tests "$@"
