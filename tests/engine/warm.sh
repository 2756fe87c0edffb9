#!/usr/bin/env bash
# Warm processes: a step whose start is expensive and that may run again is served by the process of the step before it; nothing of that shows
# in what is made, in what a step may touch, or in what a failure takes with it.
source "$(dirname "$0")/lib.sh"

# warm_plugin BODY [FLAGS]: the plugin "p", whose step runs BODY, in which h is the host, r the run, turn the number of runs in this
# process so far and text the content of its input or ""; what is in `text` afterwards, the process and the turn go to its output.
warm_plugin() {
    command -v "$MB_CC" >/dev/null || skip "no C compiler"
    write p.c <<C
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mbuild/plugin.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
static char text[65536];
static int turn;
static void take(const char *path) {
    FILE *f = fopen(path, "r");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    text[n] = 0;
    text[strcspn(text, "\\n")] = 0;
    if (!f) snprintf(text, sizeof text, "%s: %s", path, strerror(errno));
    if (f) fclose(f);
}
static int run(const struct mb_host *h, struct mb_run *r) {
    turn++;
    *text = 0;
    const char *in = h->input_path(r, "in", 0);
    if (in) take(in);
    $1
    FILE *f = fopen(h->output_path(r, "out", 0), "w");
    fprintf(f, "%s\\n", text);
    h->log(r, MB_WARN, "process %d turn %d", (int)getpid(), turn);
    return f && !fclose(f) ? MB_OK : h->fail(r, "out: %s", strerror(errno));
}
static const struct mb_role roles[] = {{.name = "in", .flags = MB_INPUT | MB_MANY | MB_OPTIONAL}, {.name = "out", .flags = MB_OUTPUT}, {0}};
static const struct mb_param params[] = {{.name = "n", .type = MB_INT, .deflt = "0"}, {0}};
static const struct mb_step steps[] = {{.name = "p", .help = "starts slowly", .flags = ${2:-MB_REENTRANT | MB_SLOW_START | MB_DETERMINISTIC},
                                        .roles = roles, .params = params, .run = run}, {0}};
static const struct mb_plugin plugin = {MB_PLUGIN_HEAD, .name = "p", .version = "1", .help = "starts slowly", .steps = steps};
MB_PLUGIN(plugin);
C
    write mbuild.lua <<LUA
p = plugin "p" { "p.c", cc = "$MB_CC" }
LUA
}
# Steps s1 … sN, one after the other: each has an input of its own, i1 … iN. FIELDS go to each rule.
steps() {
    cat >>mbuild.lua <<LUA
for i = 1, $1 do
    step("s" .. i) { plugin = p, params = { n = i }, inputs = { ["in"] = { "i" .. i, i > 1 and "build/s" .. i - 1 or nil } }, outputs = { out = "build/s" .. i }, ${2:-} }
end
default("s$1")
LUA
    for ((n = 1; n <= $1; n++)); do echo "input $n" >"i$n"; done
}
# How many processes served steps, and what turns they had.
processes() { events message | sed -nE 's/.*process ([0-9]+) turn.*/\1/p' | sort -u | wc -l; }
turns() { events message | sed -nE 's/.*process [0-9]+ turn ([0-9]+).*/\1/p' | tr '\n' ' ' | sed 's/ $//'; }
pids() { events message | sed -nE 's/.*process ([0-9]+) turn.*/\1/p' | sort -u; }

test_steps_of_a_plugin_that_starts_slowly_share_one_process() {
    warm_plugin ""
    steps 5
    build
    expect_ran p s1 s2 s3 s4 s5
    expect_same "$(processes)" 1
    expect_same "$(turns)" "1 2 3 4 5"
    for n in 1 2 3 4 5; do expect_content "build/s$n" "input $n"; done
    expect_same "$(events step_finished | grep '"step":"s4"' | field warm)" 4
    build
    expect_nothing_ran
}

test_without_the_promise_each_step_has_a_process_of_its_own() {
    warm_plugin "" MB_DETERMINISTIC
    steps 3
    build
    expect_same "$(processes)" 3
    expect_same "$(turns)" "1 1 1"
    expect_not_printed '"warm"'
}

test_slow_start_without_the_promise_is_refused() {
    warm_plugin "" MB_SLOW_START
    steps 1
    try
    expect_fail 2 "MB_SLOW_START needs MB_REENTRANT"
}

test_a_promise_alone_is_no_reason_to_share_on_the_processor() {
    warm_plugin "" "MB_REENTRANT | MB_GPU_MAY"
    steps 2
    build --device=cpu
    expect_same "$(processes)" 2
}

test_steps_at_the_same_time_have_processes_of_their_own() {
    warm_plugin 'usleep(300000);'
    cat >>mbuild.lua <<'LUA'
for i = 1, 3 do step("s" .. i) { plugin = p, params = { n = i }, outputs = { out = "build/s" .. i }, resources = { cpu = 1 } } end
LUA
    build -j3 s1 s2 s3
    expect_same "$(processes)" 3
}

test_the_process_ends_with_the_build() {
    warm_plugin ""
    steps 2
    build
    await_end "$(pids)"
}

test_no_idle_process_waits_with_watch_for_a_change() {
    warm_plugin ""
    steps 1
    start watch
    await '"message".*turn 1'
    await_end "$(pids)"
    kill -0 "$pid" || fail "watch has ended too"
    kill -TERM "$pid"
    finish
}

test_a_crash_fails_its_step_and_the_next_gets_a_new_process() {
    [[ -z $MB_SANITIZERS ]] || skip "a sanitizer takes a hand in it"
    warm_plugin 'if (h->param_int(r, "n") == 3) *(volatile int *)8 = 1;'
    cat >>mbuild.lua <<'LUA'
for i = 1, 5 do step("s" .. i) { plugin = p, params = { n = i }, outputs = { out = "build/s" .. i } } end
LUA
    try -k -j1 s1 s2 s3 s4 s5
    expect_fail 2 "crashed: SIGSEGV"
    expect_failed s3
    expect_same "$(processes)" 2
    expect_same "$(turns | tr ' ' '\n' | sort | tr '\n' ' ')" "1 1 2 2 "
    expect_file build/s1 build/s2 build/s4 build/s5
}

test_a_step_whose_process_is_killed_is_tried_again_in_a_new_one() {
    warm_plugin 'if (turn == 2 && h->param_int(r, "n") == 2) kill(getpid(), SIGKILL);'
    steps 3 'retries = 1'
    build
    expect_same "$(processes)" 2
    expect_content build/s3 "input 3"
    expect_same "$(events step_started | grep -c '"step":"s2"')" 2
}

test_a_step_that_fails_takes_its_process_with_it() {
    warm_plugin 'if (h->param_int(r, "n") == 1) return h->fail(r, "on purpose, in %d", (int)getpid());'
    cat >>mbuild.lua <<'LUA'
for i = 1, 2 do step("s" .. i) { plugin = p, params = { n = i }, outputs = { out = "build/s" .. i } } end
LUA
    try -k -j1 s1 s2
    expect_failed s1
    expect_same "$(turns)" 1
}

test_a_step_past_its_timeout_is_ended_and_the_next_gets_a_new_process() {
    warm_plugin 'while (h->param_int(r, "n") == 2) usleep(1000);'
    cat >>mbuild.lua <<'LUA'
for i = 1, 3 do step("s" .. i) { plugin = p, params = { n = i }, outputs = { out = "build/s" .. i }, timeout = i == 2 and "200ms" or "1h" } end
LUA
    try -k -j1 s1 s2 s3
    expect_fail 2 "ran past its timeout of 200 ms"
    expect_failed s2
    expect_same "$(processes)" 2
}

test_a_stop_that_came_too_late_does_not_stop_the_next_step() {
    warm_plugin 'if (h->cancelled(r)) return h->fail(r, "cancelled from the start"); raise(SIGTERM); usleep(1000);'
    steps 3
    build
    expect_same "$(processes)" 1
}

test_an_interrupted_build_leaves_no_process() {
    warm_plugin 'if (turn == 2) { h->log(r, MB_WARN, "process %d turn 2", (int)getpid()); for (;;) pause(); }'
    steps 3
    start
    await "turn 2"
    kill -INT "$pid"
    finish
    expect_status 130
    await_end "$(pids)"
}

test_no_process_outlives_a_killed_mbuild() {
    warm_plugin 'if (turn == 2) { h->log(r, MB_WARN, "process %d turn 2", (int)getpid()); for (;;) pause(); }'
    steps 3
    start
    await "turn 2"
    kill -KILL "$pid"
    finish
    await_end "$(pids)"
}

test_an_idle_process_ends_when_mbuild_is_killed() {
    warm_plugin ""
    steps 1
    cat >>mbuild.lua <<'LUA'
command "slow" { cmd = { "sleep", "60" }, inputs = { "build/s1" }, outputs = { "build/never" } }
LUA
    start slow
    await '"step_started".*slow'
    [[ -e /proc/$(pids) ]] || fail "the process isn't there any more"
    kill -KILL "$pid"
    finish
    await_end "$(pids)"
}

test_a_plugin_that_changes_in_the_midst_of_a_build_starts_a_new_process() {
    warm_plugin ""
    cat >>mbuild.lua <<'LUA'
step "s1" { plugin = p, params = { n = 1 }, outputs = { out = "build/s1" } }
command "wait" { cmd = { "sleep", "3" }, inputs = { "build/s1" }, stdout = "build/wait" }
step "s2" { plugin = p, params = { n = 2 }, inputs = { ["in"] = "build/wait" }, outputs = { out = "build/s2" } }
LUA
    start s2
    await '"step_started".*"wait"'
    sed 's/static int turn;/static int turn = 40;/' p.c >q.c
    "$MB_CC" -I"$MB_BUILD/include" -shared -fPIC -o q.so q.c
    mv q.so build/p.so
    finish
    expect_same "$(turns)" "1 41"
}

test_each_step_sees_its_own_inputs_only() {
    mbuild doctor | grep -q "^ok *landlock" || skip "no Landlock"
    warm_plugin 'if (h->param_int(r, "n") == 2) take("i1");'
    cat >>mbuild.lua <<'LUA'
for i = 1, 3 do step("s" .. i) { plugin = p, params = { n = i }, inputs = { ["in"] = "i" .. i }, outputs = { out = "build/s" .. i } } end
LUA
    for n in 1 2 3; do echo "input $n" >"i$n"; done
    build -j1 s1 s2 s3
    expect_same "$(processes)" 1
    expect_content build/s2 "i1: Permission denied"
    expect_content build/s1 "input 1"
    expect_content build/s3 "input 3"
}

test_a_step_cannot_write_where_others_of_its_process_may() {
    mbuild doctor | grep -q "^ok *landlock" || skip "no Landlock"
    warm_plugin 'int fd = open(".mbuild/tmp/stray", O_CREAT | O_WRONLY, 0666); snprintf(text, sizeof text, "%s", fd < 0 ? strerror(errno) : "written");'
    steps 2
    build
    expect_same "$(processes)" 1
    expect_content build/s1 "Permission denied"
    expect_content build/s2 "Permission denied"
}

test_a_child_that_a_step_left_behind_does_not_live_into_the_next() {
    warm_plugin 'static int child; if (turn == 1) { child = fork(); if (!child) { setsid(); if (fork()) _exit(0); for (;;) pause(); } usleep(50000); }
    else { char cmd[99]; FILE *f; snprintf(cmd, sizeof cmd, "/proc/self/task/%d/children", (int)getpid()); f = fopen(cmd, "r"); text[0] = 0; if (f) { if (!fgets(text, 99, f)) strcpy(text, "none"); fclose(f); } }'
    steps 2
    build
    expect_same "$(processes)" 1
    expect_content build/s2 none
}

test_folder_streams_and_environment_are_those_of_the_step() {
    warm_plugin 'if (turn == 1) { chdir("/"); putenv("STRAY=1"); printf("printed by the first\n"); fflush(stdout); close(1); chdir("/usr"); }
    else { printf("printed by the second\n"); snprintf(text, sizeof text, "%s %s %s", getenv("STRAY") ? "stray" : "clean", getenv("TMPDIR") && strstr(getenv("TMPDIR"), ".mbuild/tmp/") ? "own" : "none", access("i2", F_OK) ? "elsewhere" : "here"); }'
    sed -i 's/if (turn == 1) { chdir("\/");/if (turn == 1) { chdir("\/usr");/; s/chdir("\/usr"); }/}/; s/    FILE \*f = fopen(h->output_path(r, "out", 0), "w");/    char p[4096]; snprintf(p, sizeof p, "%s\/%s", root, h->output_path(r, "out", 0)); FILE *f = fopen(p, "w");/; s/    turn++;/    turn++; char root[2048]; if (!getcwd(root, sizeof root)) return MB_FAILED;/' p.c
    steps 2
    build
    expect_same "$(processes)" 1
    expect_content build/s2 "clean own here"
    grep -q "printed by the second" .mbuild/log/*/s2-*.log || fail "the second step's output isn't in its log"
    ! grep -q "printed by the second" .mbuild/log/*/s1-*.log
}

test_steps_with_other_variables_or_paths_outside_do_not_share() {
    warm_plugin ""
    mkdir "$HOME/far"
    echo far >"$HOME/far/one"
    cat >>mbuild.lua <<LUA
project { name = "far", outside = { "$HOME/far" } }
step "a" { plugin = p, params = { n = 1 }, outputs = { out = "build/a" } }
step "b" { plugin = p, params = { n = 2 }, outputs = { out = "build/b" }, env = { "OTHER" } }
step "c" { plugin = p, params = { n = 3 }, outputs = { out = "build/c" }, inputs = { ["in"] = "$HOME/far/one" } }
step "d" { plugin = p, params = { n = 4 }, outputs = { out = "build/d" }, network = true }
step "e" { plugin = p, params = { n = 5 }, outputs = { out = "build/e" } }
LUA
    OTHER=1 build -j1 a b c d e
    expect_same "$(processes)" 4
    expect_content build/c far
}

test_each_step_has_its_own_limit_of_memory() {
    [[ -z $MB_SANITIZERS ]] || skip "a sanitizer takes a hand in it"
    warm_plugin 'size_t n = (size_t)h->param_int(r, "n") << 20; char *m = malloc(n); if (!m) return h->fail(r, "no memory for %zu", n); memset(m, 1, n); free(m);'
    cat >>mbuild.lua <<'LUA'
local function s(i, n, mem) step("s" .. i) { plugin = p, params = { n = n }, outputs = { out = "build/s" .. i }, resources = { mem = mem } } end
s(1, 20, "100M") s(2, 201, "100M") s(3, 200, "400M") s(4, 300) s(5, 10)
LUA
    try -k -j1 s1 s3 s4 s5
    expect_status 0
    expect_same "$(processes)" 1
    local peak
    for n in 1 5; do
        peak=$(events step_finished | grep "\"step\":\"s$n\"" | field peak_bytes)
        ((peak < 100 << 20)) || fail "the peak of step $n is $peak"
    done
    try -k s2
    expect_fail 2 "no memory for 210763776"
}

test_check_repro_runs_each_time_in_a_fresh_process() {
    warm_plugin 'snprintf(text, sizeof text, "turn %d", turn);'
    steps 2
    build --check-repro
    expect_same "$(processes)" 4
    expect_not_printed '"warm"'
}

test_what_a_warm_process_makes_is_what_a_fresh_one_makes() {
    warm_plugin 'size_t n = strlen(text); for (size_t i = 0; i < 1000; i++) text[n + i] = (char)(97 + (text[i % (n + 1)] * 7 + (int)i) % 26); text[n + 1000] = 0;'
    steps 4
    build
    before=$(tree build)
    rm -rf build .mbuild
    build --check-repro
    expect_same "$(tree build)" "$before"
}

run_tests "$@"
