#!/usr/bin/env bash
# `mbuild doctor`: what this machine offers and lacks, a line each.
source "$(dirname "$0")/lib.sh"

test_doctor_has_a_line_for_each_thing_and_a_word_on_what_is_lacking() {
    expect_ok mbuild doctor
    expect_same "$(head -n 1 "$out" | cut -d' ' -f1)" mbuild
    tail -n +2 "$out" >lines
    ! grep -vE '^(ok  |lack) [a-z ]{16} ?.+' lines || fail "these lines are of another form: $(grep -vE '^(ok  |lack) [a-z ]{16} ?.+' lines)"
    local what
    for what in processors memory system gpu cuda landlock seccomp "control groups" "free disk" compiler lua sqlite openssl; do
        grep -qE "^(ok  |lack) $what " lines || fail "no line tells of $what"
    done
}

test_doctor_works_outside_of_a_repo_and_changes_nothing() {
    mkdir empty
    expect_ok mbuild -C empty doctor
    expect_same "$(ls -A empty)" ""
    run mbuild doctor all
    expect_fail 2 "doctor takes no argument"
    run mbuild -C absent doctor
    expect_fail 2 "absent"
}

test_doctor_and_the_sandbox_agree() {
    write mbuild.lua <<<'command "a" { cmd = "echo > build/a", outputs = { "build/a" } }'
    expect_ok mbuild doctor
    if grep -q "^ok   landlock " "$out" && grep -q "^ok   seccomp " "$out"; then
        build --sandbox=require
    else
        try --sandbox=require
        expect_fail 2 "sandbox"
        build
    fi
}

test_doctor_names_a_compiler_that_is_not_there() {
    CC=no-such-compiler run mbuild doctor
    expect_ok
    grep -qE "^lack compiler +no-such-compiler" "$out" || fail "it said: $(grep compiler "$out")"
}

run_tests "$@"
