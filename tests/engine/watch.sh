#!/usr/bin/env bash
# mbuild watch: builds again when something changes; and the shell's completion.
source "$(dirname "$0")/lib.sh"

# await_times N PATTERN: waits until so many lines of the output match.
await_times() {
    local i
    for ((i = 0; i < 2000; i++)); do
        if (($(grep -cE -- "$2" "$out") >= $1)); then return 0; fi
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.01
    done
    fail "only $(grep -cE -- "$2" "$out") lines match $2"
}
# The watcher is at rest for the N-th time.
at_rest() { await_times "$1" '"text":"watching '; }
stop() {
    kill -TERM $pid
    finish
}
world() {
    write x <<<"one"
    write in/a <<<"a"
    write mbuild.lua <<'LUA'
command "upper" { cmd = "tr a-z A-Z < x > build/upper", inputs = { "x" }, outputs = { "build/upper" } }
command "all" { cmd = "cat in/* > build/all", inputs = glob("in/*"), outputs = { "build/all" } }
LUA
}

test_watch_builds_again_when_an_input_changes_however_it_is_written() {
    world
    start watch
    at_rest 1
    expect_content build/upper ONE
    write x <<<"two"
    at_rest 2
    expect_content build/upper TWO
    write new <<<"three"
    mv new x
    at_rest 3
    expect_content build/upper THREE
    rm x
    at_rest 4
    write x <<<"four"
    at_rest 5
    expect_content build/upper FOUR
    stop
}

test_watch_notices_files_that_a_glob_finds() {
    world
    start watch
    at_rest 1
    write in/b <<<"b"
    at_rest 2
    expect_content build/all $'a\nb'
    rm in/a
    at_rest 3
    expect_content build/all b
    stop
}

test_watch_goes_on_after_a_mistake_in_the_rules() {
    world
    start watch
    at_rest 1
    write mbuild.lua <<<'nonsense('
    at_rest 2
    grep -q '"level":"error".*mbuild.lua:' "$out" || fail "the mistake was not told"
    write mbuild.lua <<<'command "other" { cmd = "echo other > build/other", outputs = { "build/other" } }'
    at_rest 3
    expect_content build/other other
    stop
}

test_watch_goes_on_after_a_failed_step() {
    world
    write x <<<"bad"
    write mbuild.lua <<<'command "a" { cmd = "grep -q good x && cp x build/a", inputs = { "x" }, outputs = { "build/a" } }'
    start watch
    at_rest 1
    expect_failed a
    write x <<<"good"
    at_rest 2
    expect_content build/a good
    stop
}

test_watch_looks_only_at_what_the_targets_need_and_never_at_its_own_work() {
    world
    write unrelated <<<"1"
    start watch upper
    at_rest 1
    write unrelated <<<"2"
    write in/a <<<"changed"
    echo more >>build/upper
    sleep 0.5
    (($(events build_started | wc -l) == 1)) || fail "it built $(events build_started | wc -l) times"
    expect_no_file build/all
    stop
}

test_other_calls_work_while_a_watch_rests() {
    world
    start watch
    at_rest 1
    timeout 20 mbuild >other 2>&1 || fail "another mbuild could not: $(cat other)"
    grep -q "nothing to do" other || fail "it said: $(cat other)"
    stop
}

test_changes_that_follow_each_other_share_a_build() {
    world
    start watch
    at_rest 1
    for i in 1 2 3 4 5 6 7 8 9; do write "in/f$i" <<<"$i"; sleep 0.02; done
    at_rest 2
    sleep 0.3
    (($(events build_started | wc -l) < 9)) || fail "it built $(events build_started | wc -l) times"
    expect_content build/all $'a\n1\n2\n3\n4\n5\n6\n7\n8\n9'
    stop
}

test_watch_takes_a_folder_and_no_dry_run() {
    mkdir sub
    cd sub
    world
    cd ..
    start -C sub watch upper
    at_rest 1
    write sub/x <<<"two"
    at_rest 2
    expect_content sub/build/upper TWO
    stop
    run mbuild watch -n
    expect_fail 2 "watch builds"
}

test_completion_knows_options_commands_and_targets_and_runs_nothing() {
    world
    echo 'command "$(touch pwned)" { cmd = "true", outputs = { "build/none" } }' >>mbuild.lua
    for shell in bash zsh fish; do
        run mbuild completion $shell
        expect_ok
        expect_printed keep-going doctor
        [[ ! -s $err ]] || fail "something went to stderr"
        ! command -v $shell >/dev/null || $shell -n "$out" || fail "$shell does not read it"
    done
    run mbuild completion tcsh
    expect_fail 2 "bash|zsh|fish"
    mbuild completion bash >script
    bash -c 'source ./script; COMP_WORDS=(mbuild "$1") COMP_CWORD=1; _mbuild; echo "${COMPREPLY[*]}"' _ up >words
    expect_content words upper
    bash -c 'source ./script; COMP_WORDS=(mbuild "$1") COMP_CWORD=1; _mbuild; echo "${COMPREPLY[*]}"' _ sta >words
    expect_content words status
    expect_no_file pwned
}

test_a_target_that_is_none_is_refused_at_once() {
    write x <<<"x"
    write mbuild.lua <<<'copy "hope" { from = "x" }'
    run timeout 20 mbuild watch nope
    expect_fail 2 "nope" 'did you mean "hope"?'
}

run_tests "$@"
