#!/usr/bin/env bash
# Several mbuilds at a time: in one repo, in clones that share a store, gc and clean beside a build, questions while it works.
source "$(dirname "$0")/lib.sh"

# Twelve chains of three steps; what comes of them depends on x.
world() {
    write x <<<"${1:-one}"
    write mbuild.lua <<'LUA'
for i = 1, 12 do
  local a = command("a" .. i) { cmd = "(cat x; echo " .. i .. ") > build/a" .. i, inputs = { "x" }, outputs = { "build/a" .. i } }
  local t = command("t" .. i) { cmd = "mkdir build/t" .. i .. "; cp build/a" .. i .. " build/t" .. i .. "/f; sed s/^/in/ build/a" .. i .. " > build/t" .. i .. "/g", inputs = { a }, outputs = { "build/t" .. i } }
  command("c" .. i) { cmd = "cat build/t" .. i .. "/f > build/c" .. i, inputs = { t }, outputs = { "build/c" .. i } }
end
LUA
}

# All that stands is made of x as it is.
expect_made_of() {
    local i
    for i in {1..12}; do
        expect_content build/c$i "$1"$'\n'"$i"
        expect_content build/t$i/f "$1"$'\n'"$i"
        expect_content build/t$i/g "in$1"$'\n'"in$i" # which nothing else holds
    done
}

test_many_mbuilds_in_one_repo_take_turns_and_each_step_runs_once() {
    world
    local i pids=()
    for i in 1 2 3 4 5; do
        mbuild --json >"out$i" 2>&1 &
        pids+=($!)
    done
    for i in "${pids[@]}"; do wait "$i" || fail "one failed: $(tail -n 3 out*)"; done
    expect_same "$(cat out? | grep -c '"event":"step_started"')" 36
    expect_made_of one
    build
    expect_nothing_ran
}

test_clones_that_share_a_store_build_at_a_time() {
    mkdir -p shared/store a/.mbuild b/.mbuild
    local d i pids=()
    for d in a b; do
        (cd $d && world one)
        ln -s ../../shared/store $d/.mbuild/store
    done
    for i in 1 2 3 4; do
        for d in a b; do
            echo "word$i" >$d/x
            mbuild -C $d --json >"out.$d" 2>&1 &
            pids+=($!)
        done
        for d in "${pids[@]}"; do wait "$d" || fail "one failed: $(tail -n 3 out.*)"; done
        pids=()
        for d in a b; do (cd $d && expect_made_of "word$i"); done
    done
    rm -r a/build
    build -C a
    expect_nothing_ran
    (cd a && expect_made_of word4)
}

test_a_store_emptied_by_another_clones_gc_costs_work_and_nothing_else() {
    mkdir -p shared/store a/.mbuild b/.mbuild
    (cd a && world one)
    ln -s ../../shared/store a/.mbuild/store
    ln -s ../../shared/store b/.mbuild/store
    write b/mbuild.lua <<<'command "other" { cmd = "echo > build/other", outputs = { "build/other" } }'
    build -C a
    build -C b
    run mbuild -C b gc --days=0
    expect_ok
    rm -r a/build
    build -C a
    (cd a && expect_made_of one)
    build -C a
    expect_nothing_ran
}

test_a_gc_of_another_clone_while_builds_and_restores_go_on_costs_work_and_nothing_else() {
    mkdir -p shared/store a/.mbuild b/.mbuild
    (cd a && world w0)
    ln -s ../../shared/store a/.mbuild/store
    ln -s ../../shared/store b/.mbuild/store
    write b/mbuild.lua <<<'command "other" { cmd = "echo > build/other", outputs = { "build/other" } }'
    (while [[ ! -e stop ]]; do mbuild -C b gc --days=0 >gc.out 2>&1 || echo failed >>gc.failed; done) &
    local gc=$! i
    for i in {1..8}; do
        ((i == 1 || i % 2 == 0)) || rm -r a/build # every other time what was just made is to come back
        echo "w$((i / 2))" >a/x
        build -C a
        (cd a && expect_made_of "w$((i / 2))")
    done
    touch stop
    wait $gc
    expect_no_file gc.failed
    build -C a
    expect_nothing_ran
}

test_gc_beside_a_build_waits_for_it() {
    write mbuild.lua <<LUA
command "slow" { cmd = "while ! test -e $PWD/go; do sleep 0.02; done; echo done > build/slow", outputs = { "build/slow" } }
LUA
    start --sandbox=off
    await 'step_started.*slow'
    mbuild gc --days=0 >second 2>&1 &
    local other=$! i
    for ((i = 0; i < 500; i++)); do grep -q "another mbuild works" second && break; sleep 0.02; done
    grep -q "another mbuild works in this repo (process $pid" second || fail "gc said: $(cat second)"
    touch go
    finish
    expect_status 0
    wait $other || fail "gc failed: $(cat second)"
    rm build/slow
    build --sandbox=off
    expect_nothing_ran
    expect_restored slow
}

test_builds_and_gcs_in_turn_never_lose_what_stands() {
    world
    build
    local i pids=()
    for i in 1 2 3 4 5 6; do
        echo "w$i" >x
        mbuild gc --days=0 >gc.out 2>&1 &
        pids=($!)
        mbuild >build.out 2>&1 &
        pids+=($!)
        mbuild gc --days=0 >gc2.out 2>&1 &
        pids+=($!)
        for p in "${pids[@]}"; do wait "$p" || fail "one failed: $(tail -n 3 ./*.out)"; done
        build
        expect_nothing_ran
        expect_made_of "w$i"
        rm -r build
        build
        expect_nothing_ran # gc keeps what the last build of each step made
        expect_made_of "w$i"
    done
}

test_gc_forgets_what_is_old_and_says_how_much() {
    write x <<<"one"
    write mbuild.lua <<<'copy "a" { from = "x" }'
    build
    write x <<<"two"
    build
    run mbuild gc
    expect_ok
    expect_printed "removed 0 objects"
    write x <<<"one"
    build
    expect_nothing_ran
    expect_restored a
    run mbuild gc -n --days=0
    expect_ok
    expect_printed "would remove"
    run mbuild gc --days=0
    expect_ok
    expect_printed "removed 1 objects"
    write x <<<"two"
    build
    expect_ran a
    run mbuild gc --days=soon
    expect_fail 2 "--days" "soon"
}

test_questions_are_answered_while_a_build_works() {
    write mbuild.lua <<LUA
command "quick" { cmd = "echo > build/quick", outputs = { "build/quick" } }
command "slow" { cmd = "while ! test -e $PWD/go; do sleep 0.02; done; echo done > build/slow", outputs = { "build/slow" } }
LUA
    start --sandbox=off
    await 'step_started.*slow'
    local q
    for q in targets status "why slow" "graph --json" "show quick" log doctor "-n" "-q"; do
        status=0
        timeout 20 mbuild $q >answer 2>&1 || status=$?
        ((status <= 1)) || fail "mbuild $q: status $status: $(cat answer)"
        [[ $q == -q || -s answer ]] || fail "mbuild $q said nothing"
    done
    touch go
    finish
    expect_status 0
}

test_clean_beside_a_build_waits_and_then_cleans() {
    write mbuild.lua <<LUA
command "slow" { cmd = "while ! test -e $PWD/go; do sleep 0.02; done; echo done > build/slow", outputs = { "build/slow" } }
LUA
    start --sandbox=off
    await 'step_started.*slow'
    mbuild clean >second 2>&1 &
    local other=$! i
    for ((i = 0; i < 500; i++)); do grep -q "another mbuild works" second && break; sleep 0.02; done
    touch go
    finish
    expect_status 0
    wait $other || fail "clean failed: $(cat second)"
    expect_no_file build
}

run_tests "$@"
