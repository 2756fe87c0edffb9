#!/usr/bin/env bash
# The sandbox that rule files run in, and where their errors point.
source "$(dirname "$0")/lib.sh"

test_a_syntax_error_names_file_and_line() {
    write mbuild.lua <<<$'local x = 1\nlocal y = = 2'
    try
    expect_fail 2 "mbuild.lua:2:"
}

test_a_missing_rule_file_says_what_to_do() {
    try
    expect_fail 2 "there is no mbuild.lua" "mbuild init"
    expect_no_file .mbuild
    run mbuild -C nowhere
    expect_fail 2 "nowhere"
}

test_an_error_in_a_rule_points_at_the_users_line() {
    write x <<<"x"
    write mbuild.lua <<<$'\n\ncopy "a" { from = "x", too = "build/a" }'
    try
    expect_fail 2 "mbuild.lua:3"
    write sub/inc.lua <<<$'\ncopy "a" { from = 12 }'
    write mbuild.lua <<<$'include "sub/inc.lua"'
    try
    expect_fail 2 "sub/inc.lua:2"
}

test_an_unknown_parameter_gets_the_nearest_name() {
    write mbuild.lua <<<'step "a" { plugin = "command", outputs = { "build/a" }, params = { cmdd = "true" } }'
    try
    expect_fail 2 'mbuild.lua:1' '"a"' 'unknown parameter cmdd' 'did you mean "cmd"?'
    write mbuild.lua <<<'step "a" { plugin = "comand", outputs = { "build/a" } }'
    try
    expect_fail 2 'mbuild.lua:1' 'no plugin "comand"' 'did you mean "command"?'
    write mbuild.lua <<<'step "a" { plugin = "command", output = { "build/a" } }'
    try
    expect_fail 2 'mbuild.lua:1' 'unknown field output' 'did you mean "outputs"?'
}

test_a_name_used_twice_names_both_places() {
    write x <<<"x"
    write mbuild.lua <<<$'copy "a" { from = "x" }\ncopy "a" { from = "x", to = "build/b" }'
    try
    expect_fail 2 'mbuild.lua:2' '"a" is already the name of what mbuild.lua:1 declares'
}

test_the_sandbox_has_no_way_out() {
    local word
    for word in os io debug package.loadlib require dofile loadfile collectgarbage string.dump math.random; do
        write mbuild.lua <<<"assert($word == nil, 'reachable')"
        run mbuild
        expect_not_printed reachable
        ! grep -q reachable "$err" || fail "$word can be reached"
    done
    write mbuild.lua <<<'assert(not load("\27Lua"), "bytecode was loaded")'
    run mbuild
    ! grep -q "bytecode was" "$err" || fail "bytecode can be loaded"
}

test_a_rule_file_that_never_ends_is_stopped() {
    write mbuild.lua <<<$'local i = 0\nwhile true do i = i + 1 end'
    try
    expect_fail 2 "mbuild.lua:2" "a loop that never ends?"
    write mbuild.lua <<<$'while true do pcall(function() while true do end end) end'
    try
    expect_fail 2 "mbuild.lua:1" "a loop that never ends?"
}

test_a_rule_file_that_eats_memory_is_stopped() {
    write mbuild.lua <<<$'local t = {}\nfor i = 1, 1e9 do t[i] = ("x"):rep(1000000) .. i end'
    try
    expect_fail 2 "mbuild.lua:2" "the rules need more than" "of memory"
}

test_pairs_goes_in_sorted_order() {
    write mbuild.lua <<'LUA'
local words = {}
for key in pairs { zebra = 1, apple = 2, [3] = 3, mango = 4, [1] = 5 } do words[#words + 1] = tostring(key) end
print(table.concat(words, " "))
LUA
    run mbuild
    expect_printed "1 3 apple mango zebra"
}

test_options_come_from_the_command_line() {
    write mbuild.lua <<'LUA'
print(option("lr", 1e-3) * 2, option("name", "x") .. "!", option("fast", false))
LUA
    run mbuild lr=3 name=y fast=true
    expect_printed $'6\ty!\ttrue'
    run mbuild lr=abc
    expect_fail 2 "option lr" "a number expected"
    run mbuild rl=3
    expect_fail 2 'no option "rl"' 'did you mean "lr"?'
}

test_a_parameter_must_be_plain() {
    write mbuild.lua <<<'step "a" { plugin = "command", params = { cmd = function() end } }'
    try
    expect_fail 2 "mbuild.lua:1" "a function can't be a parameter"
    write mbuild.lua <<<'local t = {} t.t = t step "a" { plugin = "command", params = t }'
    try
    expect_fail 2 "mbuild.lua:1" "a table that holds itself?"
    write mbuild.lua <<<'step "a" { plugin = "command", params = { cmd = 0/0 } }'
    try
    expect_fail 2 "mbuild.lua:1" "not a number"
}

test_read_makes_a_file_part_of_the_rules() {
    write word.txt <<<"one"
    write mbuild.lua <<<'command "a" { cmd = { "printf", read "word.txt" }, stdout = "build/a" }'
    build
    expect_content build/a one
    write word.txt <<<"two"
    build
    expect_ran a
}

run_tests "$@"
