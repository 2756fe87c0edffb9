#!/usr/bin/env bash
# Pulled plugs: mbuild is killed, or one of its calls to the system fails, at every point in turn. Whatever happened, what stands is
# whole, and the next build ends with the same bytes as one that nothing disturbed.
source "$(dirname "$0")/lib.sh"

# A build with a file, a folder, a failed lookup to the store and a discovered early cutoff; `expected` is the tree that it leaves.
world() {
    write x <<<$'one\ntwo\nthree'
    write mbuild.lua <<'LUA'
local upper = command "upper" { cmd = "tr a-z A-Z < x > build/upper", inputs = { "x" }, outputs = { "build/upper" } }
local tree = command "tree" { cmd = "mkdir -p build/tree/deep; cp build/upper build/tree/deep/a; ln -s deep/a build/tree/link", inputs = { upper }, outputs = { "build/tree" } }
command "count" { cmd = { "wc", "-c", upper }, stdout = "build/count" }
copy "copy" { from = tree, to = "build/copied" }
LUA
    build
    tree build >../expected
    tree build | grep -q . || fail "the build made nothing"
}

# again: what a user does next; it must end well and whole.
again() {
    try
    [[ $status == 0 ]] || fail "$1: the next build ended with status $status"
    tree build | cmp -s - ../expected || fail "$1: the next build left other bytes: $(tree build | diff ../expected - | head -n 4 | tr '\n' ' ')"
    try
    [[ $status == 0 && -z $(ran) ]] || fail "$1: the build after it still runs: $(ran)"
}

# No output may ever stand half made.
whole() {
    local line
    [[ -d build ]] || return 0
    tree build | while read -r line; do grep -qxF -- "$line" ../expected || { echo "$line" && break; }; done >../odd
    [[ ! -s ../odd ]] || fail "$1: a half made output stands: $(cat ../odd)"
}

# disturb SPEC CHANGE…: for N = 1, 2, … a fresh build with that fault, until it no longer meets it.
disturb() {
    local n spec=$1 most=${2:-100000} step=${3:-1} quiet=0
    for ((n = 1; n <= most && quiet < 1; n += step)); do
        rm -rf build .mbuild
        MBUILD_FAULT=${spec/N/$n} run mbuild
        case $status in
        0) quiet=$((quiet + 1)) ;;
        2 | 130 | 137) [[ $status == 137 || -s $err ]] || grep -q . "$out" || fail "${spec/N/$n}: status $status and no message" ;;
        *) fail "${spec/N/$n}: status $status" ;;
        esac
        whole "${spec/N/$n}"
        again "${spec/N/$n}"
    done
    ((n > 2)) || fail "$spec was never met"
}

test_killed_at_every_call_the_next_build_ends_the_same() {
    world
    disturb any:N:KILL 100000 $([[ -n $MB_SANITIZERS ]] && echo 17 || echo 3)
}

test_killed_at_random_moments_the_next_build_ends_the_same() {
    world
    for ((i = 0; i < 40; i++)); do
        rm -rf build
        ((i % 3)) || rm -rf .mbuild
        mbuild >"$out" 2>"$err" &
        pid=$!
        sleep "0.0$((RANDOM % 60 + 10))"
        kill -9 "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
        whole "killed"
        again "killed"
    done
}

# One kind of call at a time, so that each test says which.
for kind in write fsync rename mkdir open read unlink; do
    eval "test_each_${kind}_that_fails_is_told_and_harms_nothing() { world && disturb $kind:N:EIO 100000 $([[ -n $MB_SANITIZERS ]] && echo 5 || echo 1); }"
done

test_a_disk_that_fills_up_is_told_and_harms_nothing() {
    world
    disturb write:N+:ENOSPC 100000 2
}

# Thousands of allocations: the first ones each, then with growing gaps, never the same ones.
test_memory_that_runs_out_is_told_and_harms_nothing() {
    world
    local n quiet=0
    for ((n = 1; n < 100000000 && !quiet; n += n / 8 + 1 + RANDOM % (n / 16 + 1))); do
        rm -rf build .mbuild
        MBUILD_FAULT=alloc:$n+:ENOMEM run mbuild # and all after it: Lua collects its garbage and asks again
        case $status in
        0) quiet=1 ;;
        2) [[ -s $err ]] || fail "alloc:$n: status 2 and no message" ;; # of memory, or of the process that is gone
        *) fail "alloc:$n: status $status" ;;
        esac
        whole "alloc:$n"
        again "alloc:$n"
    done
    ((n > 500)) || fail "only $n allocations were met"
}

test_memory_that_runs_out_with_nothing_to_do_harms_nothing() {
    world
    local n
    for ((n = 1; n < 4000; n += n / 4 + 1)); do
        MBUILD_FAULT=alloc:$n:ENOMEM run mbuild
        [[ $status != 0 ]] || break
        expect_status 2
        again "alloc:$n"
    done
    ((n > 8)) || fail "only $n allocations were met"
}

test_a_snapshot_that_can_not_be_mapped_is_passed_over() {
    world
    MBUILD_FAULT=mmap:1:ENOMEM run mbuild
    expect_ok
    expect_printed "nothing to do"
}

test_a_restore_that_is_killed_or_fails_is_done_again() {
    world
    local n
    for ((n = 1; n < 400; n += 4)); do
        rm -rf build
        MBUILD_FAULT=any:$n:KILL run mbuild
        [[ $status != 0 ]] || break
        whole "any:$n:KILL"
        again "any:$n:KILL"
        expect_nothing_ran
    done
    ((n < 400)) || fail "a restore takes more than 400 calls"
}

test_each_call_of_a_restore_that_fails_is_told_and_harms_nothing() {
    world
    local n kind
    for kind in link write rename open; do
        for ((n = 1; n < 200; n++)); do
            rm -rf build
            MBUILD_FAULT=$kind:$n:EIO run mbuild
            [[ $status != 0 ]] || break
            expect_status 2
            whole "$kind:$n"
            again "$kind:$n"
        done
        ((n > 1)) || fail "$kind was never met"
    done
}

run_tests "$@"
