#!/usr/bin/env bash
# How steps hang together, and what is refused before anything runs.
source "$(dirname "$0")/lib.sh"

test_a_cycle_is_shown_as_a_path() {
    write mbuild.lua <<'LUA'
command "a" { cmd = "cp build/c build/a", inputs = { "build/c" }, outputs = { "build/a" } }
command "b" { cmd = "cp build/a build/b", inputs = { "build/a" }, outputs = { "build/b" } }
command "c" { cmd = "cp build/b build/c", inputs = { "build/b" }, outputs = { "build/c" } }
LUA
    try
    expect_fail 2 "mbuild.lua:" "a cycle: " "a → c → b → a"
    write mbuild.lua <<<'command "self" { cmd = "true", inputs = { "build/x" }, outputs = { "build/x" } }'
    try
    expect_fail 2 "mbuild.lua:1" "a cycle: self → self"
    expect_no_file build
}

test_two_steps_with_one_output_are_refused() {
    write x <<<"x"
    write mbuild.lua <<'LUA'
copy "a" { from = "x", to = "build/same" }
copy "b" { from = "x", to = "build/./same" }
LUA
    try
    expect_fail 2 "mbuild.lua:2" "two steps make build/same" '"a" (mbuild.lua:1)' '"b"'
}

test_an_output_inside_another_is_refused() {
    write x <<<"x"
    write mbuild.lua <<'LUA'
command "tree" { cmd = "mkdir build/tree", outputs = { "build/tree" } }
copy "leaf" { from = "x", to = "build/tree/leaf" }
LUA
    try
    expect_fail 2 "leaf" "build/tree" "as a whole"
}

test_a_missing_source_is_named() {
    write mbuild.lua <<<'copy "a" { from = "data/absent.csv" }'
    try
    expect_fail 2 'mbuild.lua:1' '"a"' "data/absent.csv doesn't exist"
    expect_no_file build
}

test_an_unknown_target_gets_the_nearest_name() {
    write x <<<"x"
    write mbuild.lua <<<'copy "student" { from = "x" }'
    try studnet
    expect_fail 2 'no target "studnet"' 'did you mean "student"?'
}

test_a_plain_file_is_a_target_that_is_there() {
    write x <<<"x"
    write mbuild.lua <<<'copy "a" { from = "x" }'
    build x
    expect_nothing_ran
}

test_one_target_builds_just_what_it_needs() {
    write x <<<"x"
    write mbuild.lua <<'LUA'
local a = copy "a" { from = "x" }
copy "b" { from = a }
copy "other" { from = "x", to = "build/elsewhere" }
LUA
    build b
    expect_ran a
    expect_restored b
    expect_no_file build/elsewhere
    build build/elsewhere
    expect_file build/elsewhere
}

test_aliases_of_aliases_and_a_default() {
    write x <<<"x"
    write y <<<"y"
    write mbuild.lua <<'LUA'
local a = copy "a" { from = "x" }
copy "b" { from = "y" }
copy "c" { from = "x", to = "build/third" }
alias "inner" { a }
alias "outer" { "inner", "b" }
default "outer"
LUA
    build
    expect_ran a b
    expect_no_file build/third
    run mbuild targets
    expect_printed "outer (default)" "inner" "mbuild.lua:1"
}

test_the_parts_of_a_step_are_named() {
    write mbuild.lua <<'LUA'
local two = command "two" { cmd = "echo l > build/l; echo r > build/r", outputs = { left = "build/l", right = "build/r" } }
copy "only" { from = two.right }
LUA
    build
    expect_content build/only r
    change mbuild.lua 's/two.right/two.middle/'
    try
    expect_fail 2 'mbuild.lua:2' '"two" has no output "middle"' 'left, right'
}

test_a_reserved_word_is_no_name() {
    write x <<<"x"
    write mbuild.lua <<<'copy "status" { from = "x" }'
    try
    expect_fail 2 'mbuild.lua:1' '`mbuild status` is a command'
    write mbuild.lua <<<'copy "verify" { from = "x" }'
    try
    expect_fail 2 '`mbuild verify` is a command'
}

test_a_chain_ten_thousand_deep_works() {
    write x <<<"x"
    write mbuild.lua <<'LUA'
local last = file "x"
for i = 1, 10000 do last = copy("c" .. i) { from = last } end
default "c10000"
LUA
    build c2
    run mbuild -n c10000
    expect_ok
    write mbuild.lua <<'LUA'
local last = "build/c10000"
for i = 1, 10000 do last = copy("c" .. i) { from = last } end
LUA
    try
    expect_fail 2 "a cycle: " "more"
}

test_fifty_thousand_inputs_work() {
    mkdir in
    seq 1 50000 | split -l 1 -a 4 - in/f
    write mbuild.lua <<<'step "sum" { plugin = "command", inputs = glob("in/*"), outputs = { "build/sum" }, params = { cmd = "ls in | wc -l > build/sum" } }'
    run mbuild -n
    expect_ok
    expect_printed sum
}

test_an_output_outside_the_repo_is_refused() {
    write x <<<"x"
    write mbuild.lua <<<'copy "a" { from = "x", to = "../escaped" }'
    try
    expect_fail 2 "mbuild.lua:1" "../escaped leaves the repo"
    write mbuild.lua <<<'copy "a" { from = "x", to = ".mbuild/state.db" }'
    try
    expect_fail 2 "mbuild.lua:1" "mbuild's own"
    write mbuild.lua <<<'copy "a" { from = "/etc/passwd" }'
    try
    expect_fail 2 "mbuild.lua:1" "leaves the repo" "outside"
    write mbuild.lua <<'LUA'
project { name = "p", outside = { "/etc" } }
copy "a" { from = "/etc/passwd" }
LUA
    build
    expect_ran a
}

run_tests "$@"
