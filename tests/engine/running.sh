#!/usr/bin/env bash
# Steps that run: side by side, failing, interrupted, killed.
source "$(dirname "$0")/lib.sh"

test_after_a_failure_nothing_more_starts_and_the_next_run_tries_again() {
    write mbuild.lua <<'LUA'
local bad = command "bad" { cmd = "echo something went wrong; test -e ok", inputs = { }, outputs = { "build/bad" }, env = { "FLAG" } }
command "after" { cmd = { "cat", bad }, stdout = "build/after" }
LUA
    try
    expect_fail 2
    expect_failed bad
    run mbuild
    expect_fail 2 bad "something went wrong" ".mbuild/log/" "mbuild bad"
    expect_no_file build/bad build/after
    change mbuild.lua 's/test -e ok/echo x > build\/bad/'
    build
    expect_ran bad after
}

test_keep_going_makes_what_can_be_made() {
    write mbuild.lua <<'LUA'
local bad = command "bad" { cmd = "exit 3", outputs = { "build/bad" } }
command "after" { cmd = { "cat", bad }, stdout = "build/after" }
for i = 1, 5 do command("good" .. i) { cmd = { "echo", tostring(i) }, stdout = "build/good" .. i } end
LUA
    try -k -j1
    expect_fail 2
    expect_file build/good1 build/good5
    expect_failed bad
    expect_same "$(ended skipped)" "after"
}

test_a_failed_step_leaves_the_earlier_output_whole() {
    write mbuild.lua <<<'command "a" { cmd = "echo good > build/a", outputs = { "build/a" } }'
    build
    change mbuild.lua 's/echo good > build.a/echo half > build\/a; exit 1/'
    try
    expect_fail 2
    expect_content build/a good
}

test_a_step_that_makes_nothing_is_told() {
    write mbuild.lua <<<'command "a" { cmd = "true", outputs = { "build/a" } }'
    try
    expect_fail 2 build/a
}

test_a_step_past_its_timeout_is_ended() {
    write mbuild.lua <<<'command "slow" { cmd = "sleep 100; echo > build/slow", outputs = { "build/slow" }, timeout = "200ms" }'
    SECONDS=0
    try
    ((SECONDS < 10)) || fail "it took $SECONDS s"
    expect_fail 2 "timeout"
}

test_retries_try_again() {
    write mbuild.lua <<LUA
command "flaky" { cmd = "echo x >> $PWD/tries; test \$(wc -l < $PWD/tries) -ge 3 && echo > build/flaky", outputs = { "build/flaky" }, retries = 2 }
LUA
    build --sandbox=off # it counts its tries in a file that isn't its own
    expect_same "$(wc -l <tries)" 3
}

test_dash_j_is_respected() {
    write mbuild.lua <<LUA
for i = 1, 6 do
  command("s" .. i) { cmd = "echo + >> $PWD/log; sleep 0.1; echo - >> $PWD/log; echo " .. i .. " > build/s" .. i, outputs = { "build/s" .. i } }
end
LUA
    build -j1 --sandbox=off
    expect_same "$(tr -d '\n' <log)" "+-+-+-+-+-+-"
    rm -rf log build .mbuild
    build -j3 --sandbox=off
    awk '/\+/ { n++; if (n > most) most = n } /-/ { n-- } END { exit !(most > 1 && most <= 3) }' log || fail "$(tr -d '\n' <log)"
}

test_a_pool_limits_its_steps() {
    write mbuild.lua <<LUA
pool("one", 1)
for i = 1, 4 do
  command("s" .. i) { cmd = "echo + >> $PWD/log; sleep 0.05; echo - >> $PWD/log; echo " .. i .. " > build/s" .. i, outputs = { "build/s" .. i }, resources = { pool = "one" } }
end
LUA
    build -j4 --sandbox=off
    expect_same "$(tr -d '\n' <log)" "+-+-+-+-"
}

test_a_pool_of_two_and_one_of_one_limit_their_own_steps() {
    write mbuild.lua <<LUA
pool("two", 2)
pool("one", 1)
for i = 1, 6 do
  local name = i % 2 == 0 and "two" or "one"
  command("s" .. i) { cmd = "echo +" .. name .. " >> $PWD/log; sleep 0.1; echo -" .. name .. " >> $PWD/log; echo " .. i .. " > build/s" .. i, outputs = { "build/s" .. i }, resources = { pool = name } }
end
LUA
    build -j6 --sandbox=off
    local pool
    for pool in one two; do
        awk -v pool=$pool '$0 == "+" pool { n++; if (n > most) most = n } $0 == "-" pool { n-- } END { print most }' log >most
        if [[ $pool == one ]]; then expect_content most 1; else (($(<most) <= 2)) || fail "$(<most) of pool two ran at a time"; fi
    done
    [[ $(grep -c + log) == 6 ]] || fail "not all ran"
}

test_processors_that_steps_ask_for_are_never_handed_out_twice() {
    write mbuild.lua <<LUA
for i = 1, 8 do
  local cpu = i % 3 + 1
  command("s" .. i) { cmd = "echo +" .. cpu .. " >> $PWD/log; sleep 0.05; echo -" .. cpu .. " >> $PWD/log; echo " .. i .. " > build/s" .. i, outputs = { "build/s" .. i }, resources = { cpu = cpu } }
end
LUA
    build -j4 --sandbox=off
    awk '{ n += $0; if (n > most) most = n } END { exit !(most <= 4) }' log || fail "more than 4 were used: $(tr '\n' ' ' <log)"
}

test_a_step_that_needs_a_gpu_where_there_is_none_is_refused() {
    ! ls /dev/nvidia[0-9]* >/dev/null 2>&1 || skip "there is a GPU here"
    write mbuild.lua <<<'command "a" { cmd = "true", outputs = { "build/a" }, resources = { gpu = 1 } }'
    try
    expect_fail 2 "mbuild.lua:1" "gpu = 1" "there are 0 here"
    run mbuild --device=cuda
    expect_fail 2 "--device=cuda"
}

test_a_step_that_needs_more_than_there_is_is_refused() {
    write mbuild.lua <<<'command "a" { cmd = "true", outputs = { "build/a" }, resources = { cpu = 3 } }'
    try -j2
    expect_fail 2 "mbuild.lua:1" "cpu = 3" "has 2"
    write mbuild.lua <<<'command "a" { cmd = "true", outputs = { "build/a" }, resources = { mem = "4000T" } }'
    try
    expect_fail 2 "mbuild.lua:1" "mem ="
}

test_a_dry_run_says_what_a_run_does_and_changes_nothing() {
    write x <<<"x"
    write mbuild.lua <<'LUA'
local a = copy "a" { from = "x" }
command "b" { cmd = { "cat", a }, stdout = "build/b" }
LUA
    run mbuild -n
    expect_ok
    expect_printed "a" "never built"
    expect_no_file build .mbuild
    build
    run mbuild -q
    expect_status 0
    write x <<<"y"
    run mbuild -q
    expect_status 1
    run mbuild -n
    expect_printed "input x changed" "b"
    build
    expect_ran a b
}

test_always_make_runs_everything() {
    write x <<<"x"
    write mbuild.lua <<<'copy "a" { from = "x" }'
    build
    build -B
    expect_ran a
}

test_an_interrupt_ends_all_once_and_the_next_run_goes_on() {
    write mbuild.lua <<LUA
command "quick" { cmd = "echo > build/quick", outputs = { "build/quick" } }
command "slow" { cmd = "echo \$\$ > $PWD/pid; sleep \$(cat $PWD/time); echo done > build/slow", outputs = { "build/slow" } }
LUA
    echo 100 >time
    start --sandbox=off
    await 'step_finished.*quick'
    for ((i = 0; i < 200; i++)); do [[ -s pid ]] && break; sleep 0.02; done
    kill -INT $pid
    finish
    expect_status 130
    sleep 0.1
    ! kill -0 "$(cat pid)" 2>/dev/null || fail "the step outlived the build"
    expect_no_file build/slow
    echo 0 >time
    build --sandbox=off
    expect_ran slow
}

test_a_killed_mbuild_leaves_nothing_behind_that_hurts() {
    write mbuild.lua <<LUA
command "quick" { cmd = "echo > build/quick", outputs = { "build/quick" } }
command "slow" { cmd = "echo \$\$ > $PWD/pid; sleep \$(cat $PWD/time); echo done > build/slow", outputs = { "build/slow" } }
LUA
    echo 100 >time
    start --sandbox=off
    for ((i = 0; i < 500; i++)); do [[ -s pid ]] && break; sleep 0.02; done
    kill -KILL $pid
    finish
    for ((i = 0; i < 100; i++)); do kill -0 "$(cat pid)" 2>/dev/null || break; sleep 0.02; done
    ! kill -0 "$(cat pid)" 2>/dev/null || fail "the step outlived mbuild"
    echo 0 >time
    build --sandbox=off
    expect_content build/slow "done"
}

test_a_second_mbuild_waits_and_says_for_whom() {
    write mbuild.lua <<LUA
command "slow" { cmd = "while ! test -e $PWD/go; do sleep 0.02; done; echo done > build/slow", outputs = { "build/slow" } }
LUA
    start
    await 'step_started.*slow'
    mbuild >second 2>&1 &
    other=$!
    for ((i = 0; i < 500; i++)); do grep -q "another mbuild works" second && break; sleep 0.02; done
    grep -q "another mbuild works in this repo (process $pid" second || fail "the second said: $(cat second)"
    touch go
    finish
    expect_status 0
    wait $other || fail "the second failed: $(cat second)"
    grep -q "nothing to do" second || fail "the second said: $(cat second)"
}

test_an_input_that_changes_while_its_step_runs_is_not_taken_for_current() {
    write x <<<"one"
    write mbuild.lua <<LUA
command "a" { cmd = "cat x > build/a; echo two > $PWD/x", inputs = { "x" }, outputs = { "build/a" } }
LUA
    try --sandbox=off
    expect_fail 2 "x changed while the step ran"
    change mbuild.lua 's/; echo two[^"]*//'
    build
    expect_content build/a two
}

test_a_folder_that_can_not_be_written_is_told() {
    [[ $(id -u) != 0 ]] || skip "root may write everywhere"
    write x <<<"x"
    write mbuild.lua <<<'copy "a" { from = "x" }'
    build
    write x <<<"y"
    chmod a-w build
    try
    chmod u+w build
    expect_fail 2 "build/a" "Permission denied"
    expect_content build/a x
}

test_a_full_disk_is_told_and_leaves_the_earlier_output() {
    mkdir small
    mount -t tmpfs -o size=1m tmpfs small 2>/dev/null || skip "mounting a small file system takes more rights"
    trap 'umount -l "$PWD"/small 2>/dev/null || umount -l ../small' EXIT
    cd small
    write mbuild.lua <<<'command "a" { cmd = "head -c " .. option("n", 10) .. " /dev/zero > build/a", outputs = { "build/a" } }'
    build
    try n=3000000
    expect_fail 2
    expect_same "$(stat -c %s build/a)" 10
    build
    expect_nothing_ran
    cd ..
}

test_odd_names_work() {
    name=$'a b\'"$(x)\nü'
    write "in/$name" <<<"odd"
    write mbuild.lua <<'LUA'
for i, f in ipairs(glob("in/*")) do copy("odd " .. i) { from = f, to = "build/" .. path_of(f) } end
LUA
    build
    expect_content "build/in/$name" odd
    build
    expect_nothing_ran
}

test_output_to_a_closed_pipe_does_not_hurt() {
    write x <<<"x"
    write mbuild.lua <<<'for i = 1, 50 do copy("c" .. i) { from = "x", to = "build/c" .. i } end'
    mbuild -v | head -n 1 >/dev/null
    build
    expect_nothing_ran
}

run_tests "$@"
