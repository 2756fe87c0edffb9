#!/usr/bin/env bash
# Programs, copies and plugins of one's own as steps.
source "$(dirname "$0")/../engine/lib.sh"

# ---- command

test_a_list_runs_without_a_shell_and_artifacts_in_it_are_inputs() {
    write x <<<$'b\na'
    write mbuild.lua <<'LUA'
local upper = command "upper" { cmd = { "tr", "a-z", "A-Z" }, stdin = "x", stdout = "build/upper" }
command "words" { cmd = { "printf", "%s|", "$HOME", "a b", 1, 0.001, true, { upper, file "x" } }, stdout = "build/words" }
LUA
    build
    expect_content build/upper $'B\nA'
    expect_content build/words '$HOME|a b|1|0.001|true|build/upper|x|'
    write x <<<c
    build
    expect_ran upper words
}

test_outputs_are_named_as_they_will_stand() {
    write mbuild.lua <<'LUA'
command "all" { cmd = [[mkdir -p build/tree/sub && echo 1 > "build/tree/sub/a b" && echo 2 >build/two && ln -s sub build/tree/link && echo 3 > ./build/t.tmp && mv build/t.tmp build/t]],
  outputs = { tree = "build/tree", two = "build/two", "build/t" } }
LUA
    build
    expect_content "build/tree/link/a b" 1
    expect_content build/two 2
    expect_content build/t 3
    expect_same "$(ls build | tr '\n' ' ')" "t tree two "
}

test_an_input_whose_name_begins_like_an_output_keeps_its_name() {
    write build.in/a.txt <<<x
    write mbuild.lua <<'LUA'
local a = command "a.txt" { cmd = { "echo", "in" }, stdout = "build/a.txt" }
command "a" { cmd = "cat build/a.txt > build/a", inputs = { a }, outputs = { "build/a" } }
LUA
    build
    expect_content build/a in
}

test_a_command_may_run_in_another_folder() {
    write sub/x <<<x
    write mbuild.lua <<'LUA'
local y = command "y" { cmd = { "echo", "y" }, stdout = "build/y" }
command "a" { cmd = { "sh", "-c", "cat x $0 > $1", y, "build/a" }, dir = "sub", inputs = { "sub/x" }, outputs = { "build/a" } }
LUA
    build
    expect_content build/a $'x\ny'
    change mbuild.lua 's,dir = "sub",dir = "..",'
    try
    expect_fail 2 "dir: a folder of the repo expected"
}

test_what_went_wrong_is_told_by_the_programs_name() {
    write x <<<x
    write mbuild.lua <<<'command "a" { cmd = { "sort", "absent" }, stdout = "build/a" }'
    run mbuild
    expect_fail 2 "sort exited with status 2" "absent"
    write mbuild.lua <<<'command "a" { cmd = { "no-such-program" }, stdout = "build/a" }'
    try
    expect_fail 2 'no program "no-such-program" is installed'
    write mbuild.lua <<<'command "a" { cmd = { "./x" }, inputs = { "x" }, stdout = "build/a" }'
    try
    expect_fail 2 "./x can't run: Permission denied"
    write mbuild.lua <<<'command "a" { cmd = "kill -SEGV $$", stdout = "build/a" }'
    try
    expect_fail 2 "the command was ended by SIGSEGV"
}

test_an_output_that_cmd_never_named_gets_advice() {
    write make.sh <<<'echo 1 > build/a'
    write mbuild.lua <<<'command "a" { cmd = "true", outputs = { "build/a" } }'
    try
    expect_fail 2 "didn't make build/a" "cmd must name"
}

test_wrong_rules_point_at_their_line() {
    local rule
    for rule in 'command "a" { stdout = "build/a" }' 'command "a" { cmd = { }, stdout = "build/a" }' 'command "a" { cmd = { print } }' \
        'command "a" { "x", cmd = "true" }' 'command "a" { cmd = "true", ouputs = { "build/a" } }' 'copy "a" { to = "build/a" }' 'plugin "a" { }'; do
        write mbuild.lua <<<$'\n'"$rule"
        try
        expect_fail 2 "mbuild.lua:2"
    done
}

test_a_programs_language_does_not_depend_on_the_users() {
    write mbuild.lua <<<'command "a" { cmd = "echo $LC_ALL; printf \"b\\na\\nB\\n\" | sort", stdout = "build/a" }'
    expect_ok env LC_ALL=de_DE.UTF-8 LANG=de_DE.UTF-8 mbuild
    expect_content build/a $'C.UTF-8\nB\na\nb'
}

# ---- copy

test_a_copy_keeps_links_inside_of_folders_and_executability() {
    mkdir -p in/deep in/empty
    write in/deep/x <<<x
    write in/run <<<y
    chmod 755 in/run
    chmod 600 in/deep/x
    ln -s deep/x in/link
    ln -s in/run toplink
    write mbuild.lua <<'LUA'
copy "tree" { from = "in" }
copy "file" { from = "toplink", to = "build/a b/file" }
LUA
    build
    expect_content build/tree/deep/x x
    [[ -L build/tree/link && $(readlink build/tree/link) == deep/x ]] || fail "the link is no link"
    [[ -x build/tree/run && ! -x build/tree/deep/x ]] || fail "wrong modes: $(ls -lR build)"
    [[ -d build/tree/empty ]] || fail "the empty folder is missing"
    [[ -f "build/a b/file" && ! -L "build/a b/file" && -x "build/a b/file" ]] || fail "the link at the top was not followed"
    diff -r in build/tree
}

test_a_large_and_a_sparse_file_are_copied_whole() {
    head -c 3000001 /dev/urandom >x
    truncate -s 20M y
    printf z >>y
    write mbuild.lua <<<'copy "a" { from = "x" } copy "b" { from = "y" }'
    build
    cmp x build/a
    cmp y build/b
}

# ---- plugin

# The plugin of the README, with a header.
counter() {
    sed -n '/^#include <mbuild/,/^MB_PLUGIN/p' "$MB_SOURCE/README.md" >count.c
    change count.c 's,#include <mbuild/plugin.h>,#include <mbuild/plugin.h>\n#include "extra.h",'
    change count.c 's/count += strstr/count += EXTRA * !!strstr/; s/, host->param_string(run, "word")) != NULL/, host->param_string(run, "word"))/'
    write extra.h <<<'#define EXTRA 1'
    write words.txt <<<$'a model\nnone\nmodels'
    write mbuild.lua <<'LUA'
local count = plugin "count-plugin" { "count.c" }
step "counted" { plugin = count, inputs = { text = "words.txt" }, params = { word = "model" } }
copy "other" { from = "words.txt" }
LUA
    command -v "${CC:-cc}" >/dev/null || skip "there is no C compiler"
}

test_a_plugin_of_ones_own_is_compiled_and_used() {
    counter
    build
    expect_ran count-plugin counted other
    expect_content build/counted 2
    build
    expect_nothing_ran
    [[ -x build/count-plugin.so ]] || fail "the shared object isn't there"
}

test_an_edited_plugin_or_header_makes_stale_just_what_uses_it() {
    counter
    build
    sleep 0.1 # until what stands on disk is trusted by its stat: a step must not stay bound to the plugin that stood there
    build
    expect_nothing_ran
    change count.c 's/%ld\\n/%ld!\\n/'
    build
    expect_ran count-plugin counted
    expect_content build/counted '2!'
    write extra.h <<<'#define EXTRA 10'
    build
    expect_ran count-plugin counted
    expect_content build/counted '20!'
    change count.c '1i /* a comment */'
    build
    expect_ran count-plugin
}

test_a_plugin_is_the_same_bytes_wherever_it_is_compiled() {
    mkdir one "two and more"
    (cd one && counter && change mbuild.lua 's/{ "count.c" }/{ "count.c", cflags = { "-O2", "-g" } }/' && build)
    (cd "two and more" && counter && change mbuild.lua 's/{ "count.c" }/{ "count.c", cflags = { "-O2", "-g" } }/' && build)
    cmp one/build/count-plugin.so "two and more/build/count-plugin.so"
    ! grep -qaF "$PWD" one/build/count-plugin.so || fail "the shared object tells where it was made"
}

test_a_compilers_error_is_the_steps() {
    counter
    change count.c 's/long count = 0;/long count = ;/'
    try
    expect_fail 2 "count.c:" "error: expected expression"
    expect_failed count-plugin
    write mbuild.lua <<<'plugin "p" { "count.c", cc = "no-such-cc" }'
    try
    expect_fail 2 'no C compiler "no-such-cc" is installed'
    write mbuild.lua <<<'plugin "p" { "count.c", libs = { "no-such-library" } }'
    change count.c 's/long count = ;/long count = 0;/'
    try
    expect_fail 2 "no-such-library"
}

test_a_plugin_may_be_named_by_its_step_and_have_several_sources() {
    counter
    write more.c <<<'int more(void) { return 3; }'
    change count.c 's/^static int run/int more(void);\nstatic int run/; s/EXTRA \*/more() */'
    write mbuild.lua <<'LUA'
plugin "count" { "count.c", "more.c", cflags = { "-O1" }, libs = { "m" } }
step "counted" { plugin = "count", inputs = { text = "words.txt" }, params = { word = "model" } }
LUA
    build
    expect_content build/counted 6
}

run_tests "$@"
