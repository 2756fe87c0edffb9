#!/usr/bin/env bash
# When a step runs: content decides, nothing else.
source "$(dirname "$0")/lib.sh"

# Three steps in a row: upper-case x.txt, keep its first line, count that line's bytes.
chain() {
    write x.txt <<<$'one\ntwo'
    write mbuild.lua <<'LUA'
local upper = command "upper" { cmd = "tr a-z A-Z < x.txt > build/upper", inputs = { "x.txt" }, outputs = { "build/upper" } }
local first = command "first" { cmd = { "head", "-n", option("lines", 1), upper }, stdout = "build/first" }
command "bytes" { cmd = { "wc", "-c", first }, stdout = "build/bytes" }
LUA
}

test_nothing_changed_so_nothing_runs() {
    chain
    build
    expect_ran upper first bytes
    before=$(stat -c %Y.%i build/bytes)
    build
    expect_nothing_ran
    [[ $before == "$(stat -c %Y.%i build/bytes)" ]] || fail "the output was written again"
    run mbuild
    expect_printed "nothing to do"
}

test_changed_bytes_run_the_step_and_those_after_it() {
    chain
    build
    write x.txt <<<$'three\ntwo'
    build
    expect_ran upper first bytes
}

test_a_touched_input_runs_nothing() {
    chain
    build
    touch x.txt
    build
    expect_nothing_ran
    write x.txt <<<$'one\ntwo'
    build
    expect_nothing_ran
}

test_a_change_behind_restored_size_and_mtime_is_noticed() {
    chain
    build
    cp -p x.txt stamp
    write x.txt <<<$'ane\ntwo'
    touch -r stamp x.txt
    build
    expect_ran upper first bytes
}

test_an_output_that_comes_out_the_same_ends_the_rebuild() {
    chain
    build
    write x.txt <<<$'one\nother'
    build
    expect_ran upper first
}

test_a_changed_parameter_runs_what_uses_it() {
    chain
    build
    build lines=2
    expect_ran first bytes
}

test_a_parameter_that_goes_back_is_restored_from_the_store() {
    chain
    build
    old=$(sha build/first)
    build lines=2
    build lines=1
    expect_nothing_ran
    expect_restored first bytes
    [[ $old == "$(sha build/first)" ]] || fail "the restored output differs"
}

test_a_number_spelled_otherwise_is_the_same() {
    write mbuild.lua <<'LUA'
command "a" { cmd = { "head", "-n", option("n", 1), "x" }, inputs = { "x" }, stdout = "build/a" }
LUA
    write x <<<"one"
    build
    build n=1
    expect_nothing_ran
}

test_comments_and_order_in_the_rule_file_count_for_nothing() {
    chain
    build
    change mbuild.lua '1i -- a comment'
    build
    expect_nothing_ran
}

test_an_included_file_is_part_of_the_rules() {
    write sub/more.lua <<<'return "hello"'
    write mbuild.lua <<'LUA'
local word = include "sub/more.lua"
command "a" { cmd = { "echo", word }, stdout = "build/a" }
LUA
    build
    build
    expect_nothing_ran
    write sub/more.lua <<<'return "hello", 2 -- another value that nobody takes'
    build
    expect_nothing_ran
    write sub/more.lua <<<'return "world"'
    build
    expect_ran a
}

test_only_declared_environment_counts() {
    write mbuild.lua <<<'command "a" { cmd = "echo $WORD > build/a", outputs = { "build/a" }, env = { "WORD" } }'
    WORD=x build
    WORD=x OTHER=1 build
    expect_nothing_ran
    WORD=y build
    expect_ran a
    [[ $(cat build/a) == y ]] || fail "the step didn't see the variable"
    WORD=x build
    expect_restored a
}

test_a_deleted_output_is_restored() {
    chain
    build
    old=$(sha build/first)
    rm build/first
    build
    expect_nothing_ran
    expect_restored first
    [[ $old == "$(sha build/first)" ]] || fail "it differs"
}

test_an_altered_output_is_restored() {
    chain
    build
    old=$(sha build/first)
    echo more >>build/first
    build
    expect_nothing_ran
    expect_restored first
    [[ $old == "$(sha build/first)" ]] || fail "it differs"
    : >build/upper
    build
    expect_restored upper
    rm build/upper
    mkdir build/upper
    build
    expect_restored upper
    [[ -f build/upper ]] || fail "the folder is still there"
}

test_one_of_two_outputs_missing_is_restored() {
    write mbuild.lua <<<'command "two" { cmd = "echo 1 > build/one; echo 2 > build/two", outputs = { "build/one", "build/two" } }'
    build
    rm build/two
    build
    expect_nothing_ran
    [[ $(cat build/one build/two) == $'1\n2' ]] || fail "wrong contents"
}

test_a_renamed_step_or_output_is_no_new_work() {
    write x <<<"x"
    write mbuild.lua <<<'copy "a" { from = "x", to = "build/a" }'
    build
    change mbuild.lua 's/"a"/"b"/'
    build
    expect_nothing_ran
    change mbuild.lua 's,build/a,build/c,'
    build
    expect_nothing_ran
    [[ $(cat build/c) == x ]] || fail "the output isn't where the rule says"
}

test_equal_steps_run_once() {
    write x <<<"x"
    write mbuild.lua <<'LUA'
local a = copy "a" { from = "x" }
copy "b" { from = a }
LUA
    build
    expect_ran a
    expect_restored b
}

test_a_removed_step_leaves_no_source_behind() {
    write x <<<"x"
    write mbuild.lua <<'LUA'
copy "a" { from = "x", to = "build/a" }
copy "b" { from = "build/a", to = "build/b" }
LUA
    build
    change mbuild.lua 1d
    try
    expect_fail 2 'mbuild.lua:1' 'build/a is no source' '"a"'
    write mbuild.lua <<<'copy "c" { from = "x", to = "build/c" }'
    run mbuild clean
    expect_ok
    [[ ! -e build/a && ! -e build/b ]] || fail "leftovers of removed steps are still there"
}

test_a_glob_notices_files() {
    write in/a.txt <<<"a"
    write in/b.txt <<<"b"
    write mbuild.lua <<<'command "all" { cmd = "cat in/*.txt > build/all", inputs = glob("in/*.txt"), outputs = { "build/all" } }'
    build
    build
    expect_nothing_ran
    write in/c.txt <<<"c"
    build
    expect_ran all
    [[ $(cat build/all) == $'a\nb\nc' ]] || fail "the new file is missing"
    rm in/c.txt
    build
    expect_restored all
    mv in/a.txt in/d.txt
    build
    expect_ran all
}

test_a_folder_as_input_is_looked_at_deeply() {
    write in/deep/er/a.txt <<<"a"
    write mbuild.lua <<<'command "list" { cmd = "find in -type f | sort | xargs cat > build/list", inputs = { "in" }, outputs = { "build/list" } }'
    build
    build
    expect_nothing_ran
    write in/deep/er/a.txt <<<"b"
    build
    expect_ran list
    write in/deep/new.txt <<<"c"
    build
    expect_ran list
}

test_a_folder_as_output_is_one_artifact() {
    write x <<<"x"
    write mbuild.lua <<'LUA'
local tree = command "tree" { cmd = "mkdir -p build/tree/sub; cp x build/tree/sub/x; ln -s sub/x build/tree/link; touch build/tree/empty; chmod +x build/tree/empty",
  inputs = { "x" }, outputs = { "build/tree" } }
command "use" { cmd = { "cat", "build/tree/sub/x" }, inputs = { tree }, stdout = "build/use" }
LUA
    build
    expect_ran tree use
    build
    expect_nothing_ran
    echo y >build/tree/sub/x
    build
    expect_nothing_ran
    [[ $(cat build/tree/link) == x && -L build/tree/link && -x build/tree/empty ]] || fail "the folder isn't what it was"
    rm -r build/tree
    build
    expect_restored tree
}

test_deleting_the_state_runs_everything_again() {
    chain
    build
    rm -rf .mbuild
    build
    expect_ran upper first bytes
}

test_a_damaged_object_is_named_dropped_and_made_again() {
    chain
    build
    find .mbuild/store -type f -exec chmod u+w {} + -exec sh -c 'for f; do printf x | dd of="$f" bs=1 count=1 conv=notrunc status=none; done' _ {} +
    rm build/first
    build
    expect_ran first
    [[ $(cat build/first) == ONE ]] || fail "wrong output"
}

run_tests "$@"
