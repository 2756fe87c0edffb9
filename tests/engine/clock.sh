#!/usr/bin/env bash
# Times tell nothing by themselves: whatever the clock does, and whatever a stat hides, content decides.
source "$(dirname "$0")/lib.sh"

pair() {
    write x <<<"one"
    write mbuild.lua <<'LUA'
local a = copy "a" { from = "x" }
command "b" { cmd = { "cat", a }, stdout = "build/b" }
LUA
}

# Until what stands is old enough for its stat to be trusted, and the snapshot is too.
settle() {
    build
    sleep 0.05
    build
    sleep 0.05
    build
}

test_an_input_with_restored_size_and_times_is_noticed_by_its_change_time() {
    pair
    settle
    touch -r x stamp
    printf 'two\n' >x
    touch -r stamp x
    expect_same "$(stat -c '%s %Y' x)" "$(stat -c '4 %Y' stamp)"
    build
    expect_ran a b
    expect_content build/b two
}

test_an_input_replaced_by_another_file_of_the_same_size_and_time_is_noticed() {
    pair
    printf 'two\n' >y
    touch -r x y
    settle
    mv y x
    build
    expect_ran a b
    expect_content build/b two
}

test_writes_within_one_tick_of_the_clock_are_noticed() {
    pair
    local i word
    for i in {1..12}; do
        word=$(printf 'w%02d' "$i")
        echo "$word" >x
        build
        expect_content build/b "$word"
    done
}

test_a_time_in_the_future_is_no_reason_to_run() {
    pair
    touch -d '+10 days' x
    settle
    expect_nothing_ran
    expect_restored
    printf 'two\n' >x
    touch -d '+10 days' x
    build
    expect_ran a b
    settle
    expect_nothing_ran
}

test_an_input_that_gets_older_is_noticed_if_its_bytes_differ() {
    pair
    settle
    printf 'old\n' >y
    touch -d '2001-01-01' y
    mv y x
    build
    expect_ran a b
    expect_content build/b old
    touch -d '1999-01-01' x
    build
    expect_nothing_ran
}

test_outputs_older_than_their_inputs_are_current() {
    pair
    settle
    touch -d '1980-01-01' build/a build/b
    build
    expect_nothing_ran
    expect_restored
    run mbuild
    expect_printed "nothing to do"
}

test_whole_second_times_hide_no_change() {
    pair
    local i
    for i in 1 2 3 4; do
        printf 'w%d\n' "$i" >x
        touch -d '2020-02-02 02:02:02' x
        build
        expect_content build/b "w$i"
    done
}

# A file system that stamps by whole seconds: all that mbuild hears of times is cut to these.
whole_seconds() {
    command -v "$MB_CC" >/dev/null || skip "no C compiler"
    [[ -z $MB_SANITIZERS ]] || skip "a sanitizer wants to be loaded first"
    write whole.c <<'C'
#define _GNU_SOURCE
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
int statx(int at, const char *restrict path, int flags, unsigned mask, struct statx *restrict out) {
    int status = (int)syscall(SYS_statx, at, path, flags, mask, out);
    out->stx_mtime.tv_nsec = out->stx_ctime.tv_nsec = 0;
    return status;
}
C
    "$MB_CC" -shared -fPIC -o whole.so whole.c
    export LD_PRELOAD=$PWD/whole.so
}

test_on_a_file_system_of_whole_seconds_no_change_hides() {
    whole_seconds
    pair
    local i
    for i in 1 2 3 4 5 6 7 8; do # several within each second, of the same size and the same file
        printf 'w%d\n' "$i" >x
        build
        expect_content build/b "w$i"
    done
    sleep 2.1
    build
    sleep 2.1
    build
    build
    expect_nothing_ran
    expect_same "$(events step_finished)" "" # and in the end stats are trusted all the same
}

# A clock that the program is made to believe in, by faketime or by a name space of time (which moves only the other clocks).
test_a_clock_set_back_a_day_hides_no_change() {
    command -v faketime >/dev/null || skip "faketime is not installed"
    [[ -z $MB_SANITIZERS ]] || skip "faketime and sanitizers both want to be loaded first"
    pair
    settle
    printf 'two\n' >x
    run faketime -f -1d mbuild --json
    expect_ok
    expect_ran a b
    run faketime -f -1d mbuild --json
    expect_nothing_ran
    build
    expect_nothing_ran
    expect_content build/b two
}

test_a_database_and_snapshot_from_the_future_hide_no_change() {
    pair
    settle
    find . -exec touch -h -d '+1 day' {} +
    build
    expect_nothing_ran
    expect_restored
    printf 'two\n' >x
    build
    expect_ran a b
    settle
    expect_nothing_ran
}

run_tests "$@"
