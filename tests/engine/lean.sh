#!/usr/bin/env bash
# Self-contained steps: a plugin that promises to need nothing of the system gets a process that starts in half the time. It is held to its
# promise, and all else is as with any step.
source "$(dirname "$0")/lib.sh"

# lean_plugin BODY: the plugin "p", whose self-contained step runs BODY, in which h is the host, r the run, n its parameter and out the path of its
# output.
lean_plugin() {
    command -v "$MB_CC" >/dev/null || skip "no C compiler"
    write p.c <<C
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mbuild/plugin.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
static int put(const char *path, const char *text) {
    FILE *f = fopen(path, "w");
    return f && fprintf(f, "%s\\n", text) > 0 && !fclose(f) ? MB_OK : MB_FAILED;
}
static int run(const struct mb_host *h, struct mb_run *r) {
    int n = (int)h->param_int(r, "n");
    const char *out = h->output_path(r, "out", 0);
    (void)n;
    $1
    return put(out, "made");
}
static const struct mb_role roles[] = {{.name = "in", .flags = MB_INPUT | MB_MANY | MB_OPTIONAL}, {.name = "out", .flags = MB_OUTPUT}, {0}};
static const struct mb_param params[] = {{.name = "n", .type = MB_INT, .deflt = "0"}, {.name = "long", .type = MB_STRING, .deflt = "\\"\\""}, {0}};
static const struct mb_step steps[] = {{.name = "p", .help = "is lean", .flags = MB_SELF_CONTAINED, .roles = roles, .params = params, .run = run}, {0}};
static const struct mb_plugin plugin = {MB_PLUGIN_HEAD, .name = "p", .version = "1", .help = "is lean", .steps = steps};
MB_PLUGIN(plugin);
C
    write mbuild.lua <<LUA
p = plugin "p" { "p.c", cc = "$MB_CC" }
for i = 1, ${2:-1} do
    step("s" .. i) { plugin = p, params = { n = i }, outputs = { out = "build/s" .. i } }
end
LUA
}
confined() { mbuild doctor | grep -q "^ok *landlock" || skip "no Landlock"; }

test_a_file_of_the_system_is_refused_to_it() {
    confined
    lean_plugin 'if (open("/etc/passwd", O_RDONLY) < 0) return h->fail(r, "/etc/passwd: %s", strerror(errno));'
    run mbuild
    expect_fail 2 "/etc/passwd: Permission denied"
}

test_a_file_that_is_no_input_is_refused_to_it_and_named() {
    confined
    echo secret >other
    lean_plugin 'if (open("other", O_RDONLY) < 0) return h->fail(r, "other: %s", strerror(errno));'
    run mbuild
    expect_fail 2 "other: Permission denied"
}

test_its_inputs_are_read_be_they_files_or_folders() {
    mkdir folder
    echo deep >folder/file
    echo flat >file
    lean_plugin 'char a[16] = "", b[8] = ""; int x = open("file", O_RDONLY), y = open("folder/file", O_RDONLY);
        if (read(x, a, 4) != 4 || read(y, b, 4) != 4) return h->fail(r, "%s", strerror(errno)); strcat(a, b); return put(out, a);'
    sed -i 's/outputs = /inputs = { ["in"] = { "file", "folder" } }, outputs = /' mbuild.lua
    build
    expect_content build/s1 flatdeep
}

test_it_cannot_write_beside_its_output() {
    confined
    lean_plugin 'if (open("stray", O_WRONLY | O_CREAT, 0666) < 0) return h->fail(r, "stray: %s", strerror(errno));'
    run mbuild
    expect_fail 2 "stray: Permission denied"
    [[ ! -e stray ]]
}

test_it_has_no_network_unless_the_rule_says_so() {
    mbuild doctor | grep -q "^ok *seccomp" || skip "no seccomp"
    lean_plugin 'return put(out, socket(AF_INET, SOCK_STREAM, 0) < 0 ? strerror(errno) : "online");' 2
    sed -i 's/for i = 1/step "online" { plugin = p, network = true, outputs = { out = "build\/online" } }\nfor i = 1/' mbuild.lua
    build
    expect_content build/s1 "Permission denied"
    expect_content build/online online
}

test_a_process_that_it_leaves_behind_is_killed_before_its_output_is_taken() {
    # It waits for the step's end, so it may write before it is killed; but what is taken and recorded is what stays.
    lean_plugin 'pid_t step = getpid(); put(out, "made"); int f = open(out, O_WRONLY);
        if (!fork()) { setsid(); if (fork()) _exit(0); while (!kill(step, 0)) {} for (unsigned i = 0;; i++) if (pwrite(f, &i, sizeof i, 0) < 0) _exit(1); }
        usleep(50000); return MB_OK;' 3
    build -j3
    local taken
    taken=$(cat build/s? | sha)
    sleep 0.1
    expect_same "$(cat build/s? | sha)" "$taken"
    build
    expect_nothing_ran
    rm -r build
    build
    expect_same "$(cat build/s? | sha)" "$taken"
}

test_what_steps_print_and_say_is_each_their_own() {
    lean_plugin 'printf("printed by %d\n", n); h->log(r, MB_WARN, "said by %d", n); h->metric(r, "n", n);' 40
    build -j4
    local i
    for ((i = 1; i <= 40; i++)); do
        [[ $(sort .mbuild/log/*/s$i-*.log) == "printed by $i"$'\n'"warning: said by $i" ]] || fail "s$i's log: $(cat .mbuild/log/*/s$i-*.log)"
    done
    expect_same "$(events metric | wc -l)" 40
}

test_failures_crashes_and_sudden_ends_are_their_own_too() {
    lean_plugin 'if (n % 4 == 1) return h->fail(r, "number %d fails", n); if (n % 4 == 2) raise(SIGSEGV); if (n % 4 == 3) { put(out, "made"); exit(0); }' 12
    run mbuild -k -j3
    expect_fail 2 "number 5 fails"
    grep -q SIGSEGV "$err" || fail "the crash isn't told"
    local i
    for ((i = 4; i <= 12; i += 4)); do expect_content build/s$i made; done
    for i in 1 2 3 5 6 7; do [[ ! -e build/s$i ]] || fail "s$i was taken"; done
}

test_one_that_hangs_is_ended_at_its_timeout() {
    lean_plugin 'signal(SIGTERM, SIG_IGN); for (;;) pause();'
    sed -i 's/outputs = /timeout = "1s", outputs = /' mbuild.lua
    run mbuild
    expect_fail 2 "timeout of 1 s"
}

test_it_dies_with_mbuild() {
    lean_plugin 'char text[32]; snprintf(text, sizeof text, "%d", (int)getpid()); h->log(r, MB_WARN, "process %s", text); for (;;) pause();'
    mbuild --json >events.json 2>/dev/null &
    local engine=$! pid=
    while [[ -z $pid ]]; do
        sleep 0.02
        pid=$(sed -nE 's/.*process ([0-9]+).*/\1/p' events.json)
    done
    kill -KILL $engine
    await_end "$pid"
}

test_a_request_larger_than_a_message_is_served_as_well() {
    lean_plugin 'return put(out, h->param_string(r, "long") + 99990);'
    sed -i 's/params = { n = i }/params = { long = string.rep("x", 100000) }/' mbuild.lua
    build
    expect_content build/s1 xxxxxxxxxx
}

test_a_limit_of_memory_holds_for_it() {
    [[ -z $MB_SANITIZERS ]] || skip "sanitizers keep memory of their own"
    lean_plugin 'char *all = malloc(256 << 20); if (!all) return h->fail(r, "no memory"); memset(all, 1, 256 << 20);'
    sed -i 's/outputs = /resources = { mem = "64M" }, outputs = /' mbuild.lua
    run mbuild
    expect_fail 2 "memory"
}

test_its_variables_and_streams_are_those_of_any_step() {
    lean_plugin 'char text[200]; int in = read(0, text, 1);
        snprintf(text, sizeof text, "%s %s %s %d", getenv("LC_ALL"), getenv("MINE"), strstr(getenv("TMPDIR"), ".mbuild/tmp/") ? "own" : "none", in); return put(out, text);'
    sed -i 's/outputs = /env = { "MINE" }, outputs = /' mbuild.lua
    MINE=mine build
    expect_content build/s1 "C.UTF-8 mine own 0"
}

run_tests "$@"
