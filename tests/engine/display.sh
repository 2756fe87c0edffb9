#!/usr/bin/env bash
# What a build shows: plain lines, a terminal's live area, events, a trace.
source "$(dirname "$0")/lib.sh"

# Two steps in a row; with FAIL in the file `how` the second fails.
chain() {
    write x <<<"x"
    write how <<<"${1:-well}"
    write mbuild.lua <<'LUA'
local a = copy "a" { from = "x" }
command "b" { cmd = "echo said; grep -q FAIL how && exit 3; cat build/a > build/b", inputs = { a, "how" }, outputs = { "build/b" } }
LUA
}

# json_lines FILE: each line is a JSON object; json_file FILE: the whole is a JSON array.
json_lines() {
    if command -v python3 >/dev/null; then
        python3 -c 'import json,sys
for line in open(sys.argv[1], encoding="utf-8", errors="strict", newline="\n"): assert type(json.loads(line)) is dict and line.endswith("\n")' "$1"
    elif command -v jq >/dev/null; then
        [[ $(jq -c 'select(type == "object")' "$1" | wc -l) == "$(wc -l <"$1")" ]]
    else
        skip "neither python3 nor jq to read JSON with"
    fi || fail "$1 is not an object a line"
}
json_file() {
    if command -v python3 >/dev/null; then
        python3 -c 'import json,sys; assert type(json.load(open(sys.argv[1], encoding="utf-8"))) is list' "$1"
    elif command -v jq >/dev/null; then
        jq -e 'type == "array"' "$1" >/dev/null
    else
        skip "neither python3 nor jq to read JSON with"
    fi || fail "$1 is not a JSON array"
}

# on_terminal COLUMNS COMMAND…: runs it on a terminal so wide; what it wrote is in $out.
on_terminal() {
    command -v script >/dev/null || skip "there is no script(1) to make a terminal with"
    script -qec true /dev/null >/dev/null 2>&1 </dev/null || skip "no terminal can be made here"
    local columns=$1
    shift
    status=0
    TERM=xterm script -qec "stty cols $columns rows 24; $*" /dev/null >"$out" 2>"$err" </dev/null || status=$?
}
# The longest line of a terminal's output, in characters, escape sequences left out.
widest() { sed -e 's/\x1b\[[0-9;?]*[A-Za-z]//g' "$out" | tr '\r' '\n' | awk '{ if (length($0) > most) most = length($0) } END { print most + 0 }'; }

test_each_step_that_ran_is_a_line_and_the_last_line_counts() {
    chain
    run mbuild
    expect_ok
    grep -qE '^   built a \(.+\) in [0-9.]+ m?s' "$out" || fail "no line for a"
    grep -qE '^   built b \(.+\) in [0-9.]+ m?s' "$out" || fail "no line for b"
    tail -n 1 "$out" | grep -qE '^    done 2 built in [0-9.]+ m?s$' || fail "the last line does not count"
    [[ ! -s $err ]] || fail "something went to stderr"
    run mbuild
    expect_content "$out" "everything is up to date: nothing to do"
    run mbuild b
    expect_content "$out" "b is up to date: nothing to do"
}

test_a_failure_ends_with_output_log_and_the_command_that_runs_it_again() {
    chain FAIL
    run mbuild
    expect_status 2
    grep -qE '^  failed b ' "$err" || fail "the failed step is not named"
    grep -qF '│ said' "$err" || fail "its output is missing"
    log=$(sed -n 's/^ *log *//p' "$err")
    expect_content "$log" said
    again=$(sed -n 's/^ *again *//p' "$err")
    tail -n 1 "$out" | grep -qE '^  failed b: .*1 built, 1 failed in' || fail "the last line does not name it"
    write how <<<"well"
    expect_ok $again
}

test_the_command_that_runs_a_step_again_has_its_settings_and_quotes() {
    mkdir sub
    write sub/mbuild.lua <<'LUA'
command "it's" { cmd = "test " .. option("n", 1) .. " = 3", outputs = { "build/none" } }
LUA
    run mbuild -C sub n=2
    expect_fail 2 "again mbuild -C sub 'it'\\''s' n=2"
}

test_dash_s_shows_failures_alone() {
    chain
    run mbuild -s
    expect_ok
    [[ ! -s $out && ! -s $err ]] || fail "something was printed"
    run mbuild -s
    [[ ! -s $out && ! -s $err ]] || fail "something was printed with nothing to do"
    write how <<<"FAIL"
    run mbuild -s
    expect_status 2
    grep -q 'failed b' "$err" || fail "the failure is missing"
    [[ ! -s $out ]] || fail "stdout is not empty"
}

test_dash_v_shows_parameters_and_what_did_not_run() {
    chain
    run mbuild -v
    expect_printed "start a" "start b" "cmd = "
    run mbuild -v
    expect_printed " current a" " current b"
    rm build/a
    run mbuild -v
    expect_printed "restored a"
}

test_explain_says_why_each_step_runs() {
    chain
    run mbuild --explain
    expect_printed "start a" "never built"
    write x <<<"y"
    run mbuild --explain
    expect_printed "input x changed"
}

test_every_event_is_a_line_of_json_with_the_documented_keys() {
    chain
    build
    json_lines "$out"
    head -n 1 "$out" | grep -q '"event":"build_started".*"schema":1' || fail "the first event is not build_started"
    tail -n 1 "$out" | grep -q '"event":"build_finished".*"status":0' || fail "the last event is not build_finished"
    expect_same "$(events step_finished | field status | tr '\n' ' ')" "built built "
    write how <<<"FAIL"
    try
    json_lines "$out"
    events step_finished | grep '"failed"' | grep '"message":' | grep '"tail":"said' | grep '"log":' | grep -q '"again":"mbuild b' || fail "the failure lacks something"
    grep -o '"[a-z_]*":' "$out" | tr -d '":' | sort -u >keys
    while read -r key; do
        grep -q "\`$key\`" "$MB_SOURCE/docs/events.md" || fail "docs/events.md does not tell of $key"
    done <keys
}

test_whatever_a_step_prints_the_events_stay_json() {
    write mbuild.lua <<'LUA'
command "odd\"\\ü" { cmd = "head -c 4000 /dev/urandom; printf '\\033[2J\\377\\r\\b'; exit 1", outputs = { "build/odd" } }
LUA
    try
    expect_status 2
    json_lines "$out"
    run mbuild
    ! grep -q $'\033\|\r\|\b' "$err" || fail "control characters got through"
}

test_a_trace_is_a_json_array_also_of_a_killed_build() {
    chain
    run mbuild --trace=trace.json
    expect_ok
    json_file trace.json
    grep -q '"ph":"B","name":"a"' trace.json || fail "step a is not in it"
    write mbuild.lua <<<'command "slow" { cmd = "sleep 100; echo > build/slow", outputs = { "build/slow" } }'
    start --trace=trace.json
    await step_started
    kill -KILL $pid
    finish
    json_file trace.json
    grep -q '"ph":"B","name":"slow"' trace.json || fail "what ran is not in it"
    run mbuild --trace=nowhere/trace.json
    expect_fail 2 "nowhere/trace.json"
}

slow_world() {
    write mbuild.lua <<'LUA'
local long = "a-step-whose-name-is-longer-than-a-narrow-terminal"
for i, name in ipairs { "one", "zwei-ü", long } do
  command(name) { cmd = "sleep 0.6; echo > build/" .. i, outputs = { "build/" .. i } }
end
LUA
}

test_a_terminal_shows_what_runs_within_its_width() {
    slow_world
    on_terminal 80 mbuild -j3
    expect_ok
    expect_printed $'\033[?25l' $'\033[?25h' "0/3" "3 running" "built"
    (($(widest) <= 80)) || fail "a line takes $(widest) columns"
    rm -rf build .mbuild
    on_terminal 20 mbuild -j3
    expect_ok
    expect_printed $'\033[?25h' "0/3"
    on_terminal 20 mbuild
    expect_not_printed $'\033[?25l'
    expect_printed "nothing to do"
}

test_no_color_and_dumb_terminals_are_respected() {
    slow_world
    on_terminal 80 NO_COLOR=1 mbuild -j3
    expect_ok
    expect_printed $'\033[?25l'
    ! grep -qE $'\033\\[[0-9;]*m' "$out" || fail "there are colours"
    rm -rf build .mbuild
    on_terminal 80 TERM=dumb mbuild -j3
    expect_ok
    expect_not_printed $'\033'
    rm -rf build .mbuild
    run mbuild --color=always -j3
    expect_printed $'\033[32mbuilt\033[0m one'
}

test_an_interrupted_build_gives_the_terminal_back() {
    write mbuild.lua <<<'command "slow" { cmd = "sleep 100; echo > build/slow", outputs = { "build/slow" } }'
    on_terminal 80 "timeout --foreground -s INT 1 mbuild"
    expect_printed $'\033[?25l' $'\033[?25h' "by an interrupt"
    [[ $(grep -oE $'\033\\[\\?25[lh]' "$out" | tail -n 1) == $'\033[?25h' ]] || fail "the cursor stays hidden"
}

test_a_reader_that_goes_away_does_not_hurt_the_build() {
    write x <<<"x"
    write mbuild.lua <<<'for i = 1, 50 do copy("c" .. i) { from = "x", to = "build/c" .. i } end'
    { mbuild -v --trace=t 2>&1; echo $? >status; } | true
    expect_content status 0
    build
    expect_nothing_ran
    rm -rf build .mbuild
    { mbuild --json; echo $? >status; } | head -n 1 >/dev/null
    expect_content status 0
    mbuild >/dev/full || fail "a full disk under stdout failed the build"
}

run_tests "$@"
