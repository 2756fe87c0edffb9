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

test_a_path_that_leaves_the_repo_by_a_link_is_refused_unless_allowed() {
    rm -rf ../outside
    mkdir ../outside
    echo secret >../outside/x
    ln -s ../outside away
    ln -s ../outside/x link
    ln -s "$PWD" here
    write x <<<"mine"
    write mbuild.lua <<<'copy "a" { from = "away/x" }'
    try
    expect_fail 2 "mbuild.lua:1" '"a"' "the path away/x leaves the repo: away is a link to" 'outside = {'
    write mbuild.lua <<<'copy "a" { from = "link" }'
    try
    expect_fail 2 "mbuild.lua:1" "the path link leaves the repo"
    write mbuild.lua <<<'copy "a" { from = "x", to = "away/made" }'
    try
    expect_fail 2 "mbuild.lua:1" "the path away/made leaves the repo"
    expect_no_file ../outside/made
    write mbuild.lua <<<'copy "a" { from = glob "away/*" }'
    try
    expect_fail 2 "mbuild.lua:1"
    write mbuild.lua <<<'read "link"'
    try
    expect_fail 2 "mbuild.lua:1" "the path link leaves the repo"
    write mbuild.lua <<<'include "away/x"'
    try
    expect_fail 2 "mbuild.lua:1" "the path away/x leaves the repo"
    write mbuild.lua <<<'glob "in/../../outside/*"'
    try
    expect_fail 2 "mbuild.lua:1" "leaves the repo"
    write mbuild.lua <<<'copy "a" { from = "here/x" } copy "b" { from = "here/here/x", to = "here/build/b" }'
    build
    expect_content build/b mine
    write mbuild.lua <<<'project { name = "p", outside = { "../outside" } } copy "a" { from = "away/x" } copy "b" { from = "link" }'
    build
    expect_content build/a secret
    expect_content build/b secret
    echo other >../outside/x
    build
    expect_content build/a other
    expect_content build/b other
    rm -r ../outside
}

test_a_link_put_in_a_folders_place_is_noticed() {
    rm -rf ../outside
    mkdir in ../outside
    echo mine >in/x
    echo secret >../outside/x
    write mbuild.lua <<<'copy "a" { from = "in/x" }'
    build
    sleep 0.05
    build
    mv in was
    ln -s ../outside in
    try
    expect_fail 2 "the path in/x leaves the repo"
    expect_content build/a mine
    rm in
    mv was in
    build
    expect_nothing_ran
    rm -r ../outside
}

test_a_folder_and_a_removed_rules_name_are_no_targets() {
    write in/x <<<"x"
    write mbuild.lua <<<'copy "a" { from = "in" } copy "b" { from = "in/x" }'
    build in
    expect_nothing_ran
    try build
    expect_fail 2 'no target "build"'
    build
    change mbuild.lua 's/ copy "b".*//'
    try b
    expect_fail 2 'no target "b"'
    try in/y
    expect_fail 2 'no target "in/y"'
}

test_an_output_that_a_rule_takes_as_a_source_folder_is_refused() {
    write src/x <<<"x"
    write mbuild.lua <<'LUA'
command "a" { cmd = "ls src > src/list", inputs = { "src" }, outputs = { "src/list" } }
LUA
    try
    expect_fail 2 "src/list"
    write mbuild.lua <<<'copy "a" { from = "src/x", to = "src/x" }'
    try
    expect_fail 2 "a cycle: a → a"
    expect_content src/x x
}

test_an_output_that_stood_there_as_a_source_is_not_lost_unseen() {
    write x <<<"x"
    write build/a <<<"by hand"
    write mbuild.lua <<<'copy "a" { from = "x" }'
    build
    expect_ran a
    expect_content build/a x
}

test_a_cycle_through_an_alias_is_shown() {
    write mbuild.lua <<'LUA'
command "a" { cmd = "true", inputs = { "build/b" }, outputs = { "build/a" } }
command "b" { cmd = "true", inputs = { "build/a" }, outputs = { "build/b" } }
alias "all" { "a", "more" }
alias "more" { "b" }
LUA
    try all
    expect_fail 2 "a cycle: a → b → a"
    write x <<<"x"
    write mbuild.lua <<<'copy "x1" { from = "x" } alias "one" { "two" } alias "two" { "one" }'
    try one
    expect_fail 2 "mbuild.lua:1" "leads back to itself"
}

test_the_graph_is_shown_as_text_dot_and_json() {
    write x <<<"x"
    write mbuild.lua <<'LUA'
local a = copy "a" { from = "x" }
command "say \"b\"" { cmd = { "cat", a }, stdout = "build/b" }
command "unwanted" { cmd = { "echo" }, stdout = "build/unwanted" }
LUA
    expect_ok mbuild graph 'say "b"'
    expect_printed 'a (copy) ← x' 'say "b" (command) ← a'
    expect_not_printed unwanted
    expect_ok mbuild graph --dot 'say "b"'
    expect_printed "digraph mbuild {" '"x" -> "a" [label="from"];' '"a" -> "say \"b\""'
    if command -v dot >/dev/null; then dot -Tsvg <"$out" >svg || fail "dot refuses it"; fi
    expect_ok mbuild graph --json 'say "b"'
    expect_printed '"version":1' '"name":"a"' '"plugin":"copy"' '"rule":"mbuild.lua:1"' '"path":"build/a","step":"a"'
    command -v python3 >/dev/null || return 0
    python3 - "$out" <<'PY' || fail "the graph's JSON isn't what docs/mbuild.1 says"
import json, sys
g = json.load(open(sys.argv[1]))
assert set(g) == {"version", "steps"}
assert [s["name"] for s in g["steps"]] == ["a", 'say "b"'], "producers come first"
for s in g["steps"]:
    assert set(s) == {"name", "plugin", "rule", "params", "inputs", "outputs"}, s
    assert all(set(i) <= {"role", "path", "step"} for i in s["inputs"] + s["outputs"])
PY
}

test_a_hundred_thousand_targets_are_planned() {
    write x <<<"x"
    local n=$([[ -n $MB_SANITIZERS ]] && echo 10000 || echo 100000)
    write mbuild.lua <<<'for i = 1, '$n' do copy("c" .. i) { from = "x", to = "build/" .. i % 100 .. "/c" .. i } end'
    run mbuild -n
    expect_ok
    expect_same "$(grep -c '^would run c' "$out")" $n
    run mbuild targets
    expect_same "$(grep -c '^c' "$out")" $n
    build c7
    expect_ran c7
}

run_tests "$@"
