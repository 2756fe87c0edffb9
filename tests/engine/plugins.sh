#!/usr/bin/env bash
# Plugins that misbehave: whatever a step's code does, its step alone fails, with a message that tells, and nothing stays behind.
source "$(dirname "$0")/lib.sh"

# plugin_with BODY [STEP FIELDS]: a repo whose step "s" runs BODY, in which h is the host and r the run; FIELDS go to the step's rule.
plugin_with() {
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
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
static int finish(const struct mb_host *h, struct mb_run *r) {
    FILE *f = fopen(h->output_path(r, "out", 0), "w");
    return f && fputs("made\\n", f) >= 0 && !fclose(f) ? MB_OK : h->fail(r, "out: %s", strerror(errno));
}
static int run(const struct mb_host *h, struct mb_run *r) {
    $1
    return finish(h, r);
}
static const struct mb_role roles[] = {{.name = "in", .flags = MB_INPUT | MB_OPTIONAL}, {.name = "out", .flags = MB_OUTPUT}, {0}};
static const struct mb_param params[] = {
    {.name = "rate", .type = MB_FLOAT, .deflt = "1"}, {.name = "sizes", .type = MB_LIST, .element = MB_INT, .deflt = "[3, 4]"},
    {.name = "t", .type = MB_TABLE, .fields = (const struct mb_param[]){{.name = "deep", .type = MB_STRING, .deflt = "\\"x\\""}, {0}}}, {0}};
static const struct mb_step steps[] = {{.name = "p", .help = "misbehaves", .roles = roles, .params = params, .run = run}, {0}};
static const struct mb_plugin plugin = {MB_PLUGIN_HEAD, .name = "p", .version = "1", .help = "misbehaves", .steps = steps};
MB_PLUGIN(plugin);
C
    write mbuild.lua <<LUA
local p = plugin "p" { "p.c", cc = "$MB_CC" }
step "s" { plugin = p, outputs = { out = "build/s" }, ${2:-} }
command "other" { cmd = { "echo", "fine" }, stdout = "build/other" }
LUA
}

# The step fails with each PART in its message, and the other step is made all the same.
expect_step_fails() {
    try -k
    expect_fail 2 "$@"
    expect_failed s
    expect_no_file build/s
    expect_content build/other fine
}

without_sanitizers() { [[ -z $MB_SANITIZERS ]] || skip "a sanitizer takes a hand in it"; }

# gone FILE: the processes whose numbers stand in it end within two seconds.
gone() {
    local i p alive
    for ((i = 0; i < 200; i++)); do
        alive=
        for p in $(<"$1"); do
            [[ ! -e /proc/$p || $(sed 's/.*) //' "/proc/$p/stat" 2>/dev/null) == Z* ]] || alive="$alive $p"
        done
        [[ -n $alive ]] || return 0
        sleep 0.01
    done
    fail "these processes are still there:$alive"
}
written() {
    local i
    for ((i = 0; i < 1000; i++)); do [[ -s $1 ]] && return 0; sleep 0.01; done
    fail "nobody wrote $1"
}

# ---- what it says of itself

test_another_abi_is_told_with_the_file() {
    plugin_with ""
    change p.c 's/MB_PLUGIN_HEAD,/MB_PLUGIN_HEAD, .abi_major = 7,/'
    try
    expect_fail 2 "build/p.so" "ABI 7.1" "ABI 1.1"
}

test_a_plugin_of_an_earlier_minor_abi_runs() {
    plugin_with ""
    change p.c 's/MB_PLUGIN_HEAD,/MB_PLUGIN_HEAD, .abi_minor = 0,/'
    build
    expect_content build/s made
}

test_a_missing_symbol_is_told_with_the_file() {
    plugin_with ""
    change p.c 's/^MB_PLUGIN(plugin);//'
    try
    expect_fail 2 "build/p.so" "no symbol \`mbuild_plugin\`"
}

test_a_library_that_is_not_there_is_told() {
    plugin_with ""
    change p.c 's/^static int finish/int nowhere(void);\nstatic int finish/; s/return f \&\& fputs/nowhere(); return f \&\& fputs/'
    try
    expect_fail 2 "nowhere"
}

# ---- how it ends

test_a_crash_fails_its_step_alone() {
    without_sanitizers
    plugin_with 'volatile int *p = (int *)8; *p = 1;'
    expect_step_fails "crashed: SIGSEGV (it read or wrote memory that isn't its own)"
}

test_an_abort_is_told_with_what_it_printed() {
    plugin_with 'fprintf(stderr, "the heap is a mess"); abort();'
    expect_step_fails "SIGABRT" "the heap is a mess"
}

test_an_endless_loop_ends_at_its_timeout() {
    plugin_with 'for (volatile int i = 0;; i++) {}' 'timeout = "300ms"'
    SECONDS=0
    expect_step_fails "ran past its timeout of 300 ms and was ended"
    ((SECONDS < 10)) || fail "it took $SECONDS s"
}

test_a_step_that_will_not_be_told_to_stop_is_killed() {
    plugin_with 'signal(SIGTERM, SIG_IGN); for (;;) pause();' 'timeout = "100ms"'
    expect_step_fails "ran past its timeout"
}

test_an_exit_is_no_success() {
    plugin_with 'finish(h, r); exit(0);'
    expect_step_fails "before its function returned" # the status is 0, or that of a sanitizer which looks for leaks at an exit
}

test_a_failure_without_a_word_and_a_status_that_is_none_are_told() {
    plugin_with 'return MB_FAILED;'
    expect_step_fails "failed without saying why"
    change p.c 's/return MB_FAILED;/return 42;/'
    expect_step_fails "returned 42"
}

test_a_step_that_eats_memory_meets_its_limit() {
    without_sanitizers
    plugin_with 'for (size_t n = 0;; n++) { char *p = malloc(1 << 20); if (!p) return h->fail(r, "out of memory after %zu MiB", n); memset(p, 1, 1 << 20); }' 'resources = { mem = "64M" }'
    expect_step_fails "out of memory after" "its limit is 64.0 MiB"
    change p.c 's/if (!p) return .* n); memset/memset/'
    expect_step_fails "crashed: SIGSEGV" "probably out of memory"
}

test_threads_that_still_run_do_not_keep_a_step_from_ending() {
    plugin_with 'pthread_t t; pthread_create(&t, NULL, (void *(*)(void *))pause, NULL);'
    build
    expect_content build/s made
}

# ---- what it prints and says

test_output_without_end_is_cut_and_its_end_told() {
    plugin_with 'char line[1000]; memset(line, 120, 999); line[999] = 10; for (int i = 0; i < 100000; i++) if (write(1, line, 1000) != 1000) break; printf("the end"); fflush(stdout); return h->fail(r, "no");'
    expect_step_fails "the end"
    log=$(echo .mbuild/log/*/s-*.log)
    (($(stat -c %s "$log") < 67200000)) || fail "the log has $(stat -c %s "$log") bytes"
    tail -c 200 "$log" | grep -q "the log ends here, at 64 MiB" || fail "nothing tells that the log was cut"
}

test_bytes_that_are_no_text_are_made_text() {
    plugin_with 'printf("%c%c%c caf\xc3\xa9 \xff\xfe", 0, 27, 7); fflush(stdout); h->log(r, MB_WARN, "bad \xc0 log"); return h->fail(r, "no \xe9t\xe9 today");'
    expect_step_fails "today" "café"
    iconv -f UTF-8 -t UTF-8 "$out" >/dev/null || fail "the events are no UTF-8"
}

test_a_step_that_closes_its_output_goes_on() {
    plugin_with 'close(0); close(1); close(2);'
    build
    expect_content build/s made
}

test_a_step_that_closes_everything_fails_alone() {
    plugin_with 'for (int i = 0; i < 1000; i++) close(i);'
    expect_step_fails "before its function returned"
}

test_a_step_that_writes_rubbish_to_the_engine_fails_alone() {
    plugin_with 'for (int i = 3; i < 20; i++) send(i, "rubbish, and more of it than one head", 30, MSG_NOSIGNAL); pause();'
    expect_step_fails "makes no sense" "memory is probably damaged"
}

test_the_last_of_many_reports_is_kept() {
    plugin_with 'for (int i = 0; i <= 100000; i++) { h->metric(r, "count", i); h->progress(r, i, 100000, "counting"); }'
    build s
    expect_same "$(metric s count)" 100000
    (($(events metric | wc -l) < 2000)) || fail "$(events metric | wc -l) metric events"
}

test_threads_report_side_by_side() {
    plugin_with 'pthread_t t[8]; void *work(void *x) { (void)x; for (int i = 0; i < 200; i++) { h->log(r, MB_INFO, "a line of a thread"); h->progress(r, i, 200, NULL); h->metric(r, "m", i); if (h->param_float(r, "rate") != 1) abort(); } return NULL; } for (int i = 0; i < 8; i++) pthread_create(&t[i], NULL, work, NULL); for (int i = 0; i < 8; i++) pthread_join(t[i], NULL);'
    change p.c 's/^static int run/#pragma GCC diagnostic ignored "-Wpedantic"\nstatic int run/'
    case $("$MB_CC" --version) in *clang*) skip "functions within functions are GCC's" ;; esac
    build s
    expect_same "$(grep -c '^a line of a thread$' .mbuild/log/*/s-*.log)" 1600
}

test_a_name_that_the_plugin_does_not_declare_is_its_error() {
    plugin_with 'h->param_float(r, "rat");'
    expect_step_fails 'an error in the plugin "p": its step "p" called param_float("rat")' 'did it mean "rate"?'
    change p.c 's/h->param_float(r, "rat")/h->param_int(r, "rate")/'
    expect_step_fails 'param_int("rate"), which is a float'
    change p.c 's/h->param_int(r, "rate")/h->input_path(r, "inn", 0)/'
    expect_step_fails 'input_path("inn")' 'did it mean "in"?'
    change p.c 's/h->input_path(r, "inn", 0)/h->fingerprint(r, "x")/'
    expect_step_fails "isn't there in \`run\`"
}

test_parameters_are_found_by_their_paths() {
    plugin_with 'if (h->param_int(r, "sizes[1]") != 4 || h->param_count(r, "sizes") != 2 || h->param_given(r, "sizes[2]") || strcmp(h->param_string(r, "t.deep"), "y")
        || strcmp(h->param_json(r, "sizes"), "[3,4]") || strcmp(h->param_key(r, "", 0), "rate") || h->param_type(r, "rate") != MB_FLOAT || h->input_path(r, "in", 0)) abort();' 'params = { t = { deep = "y" } }'
    build s
}

# ---- what it leaves behind

test_what_a_step_started_ends_with_it() {
    plugin_with 'for (int i = 0; i < 3; i++) { pid_t p = fork(); if (!p) { if (i == 1) setpgid(0, 0); if (i == 2) { setsid(); if (fork()) _exit(0); } FILE *f = fopen("pids", "a"); fprintf(f, "%d\n", (int)getpid()); fclose(f); for (;;) pause(); } } usleep(300000);'
    # While the build still goes on.
    cat >>mbuild.lua <<'LUA'
command "after" {
  cmd = [[for i in $(seq 200); do alive=; while read p; do ! kill -0 $p 2>/dev/null || alive="$alive $p"; done <pids
    [ -n "$alive" ] || break; sleep 0.01; done; echo "still there:$alive" >build/after]],
  inputs = { "build/s" }, outputs = { "build/after" } }
LUA
    build after --sandbox=off
    expect_same "$(wc -l <pids)" 3
    expect_content build/after "still there:"
}

test_a_child_that_comes_back_does_not_speak_for_the_step() {
    plugin_with 'if (!fork()) return h->fail(r, "the child"); wait(NULL);'
    build s
    expect_content build/s made
}

waiting() {
    plugin_with 'FILE *f = fopen("pids", "a"); if (!fork()) { fprintf(f, "%d\n", (int)getpid()); fclose(f); for (;;) pause(); } usleep(100000); fprintf(f, "%d\n%d\n", (int)getpid(), (int)getppid()); fclose(f); f = fopen("ready", "w"); fputs("x", f); fclose(f); for (;;) pause();'
}
# The process that a process was forked by.
parent_of() { sed 's/.*) . \([0-9]*\) .*/\1/' "/proc/$1/stat"; }

test_a_killed_mbuild_leaves_no_process() {
    waiting
    start s --sandbox=off
    written ready
    parent_of "$(tail -n 1 pids)" >>pids
    kill -KILL $pid
    finish
    gone pids
}

test_a_killed_template_fails_its_steps_and_leaves_no_process() {
    waiting
    start s --sandbox=off
    written ready
    kill -KILL "$(tail -n 1 pids)"
    finish
    expect_fail 2 "was ended with the process that started it"
    gone pids
}

test_a_killed_spawner_fails_the_build_and_leaves_no_process() {
    waiting
    start s --sandbox=off
    written ready
    kill -KILL "$(parent_of "$(tail -n 1 pids)")"
    finish
    expect_status 2
    gone pids
}

test_an_interrupt_leaves_no_process() {
    waiting
    start s --sandbox=off
    written ready
    kill -INT $pid
    finish
    expect_status 130
    gone pids
}

# ---- what it sees

test_only_declared_variables_are_seen() {
    plugin_with 'if (getenv("SECRET") || !getenv("PATH") || !getenv("TMPDIR") || access(getenv("TMPDIR"), W_OK)) return h->fail(r, "no");
        if (strcmp(h->env(r, "TOLD"), "yes") || strcmp(getenv("TOLD"), "yes") || h->env(r, "SECRET")) return h->fail(r, "not even that");' 'env = { "TOLD" }'
    SECRET=x TOLD=yes build s
}

test_no_descriptor_is_inherited() {
    plugin_with 'int n = 0; for (int i = 0; i < 1024; i++) n += fcntl(i, F_GETFD) >= 0; if (n > 6) return h->fail(r, "%d are open", n);'
    build s 7<p.c 8<p.c 99<p.c
}

sandboxed() {
    mbuild doctor >doctor
    grep -q "^ok   $1" doctor || skip "$(grep " $1" doctor)"
}

test_an_undeclared_read_is_refused_and_named() {
    sandboxed landlock
    write secret.txt <<<"x"
    plugin_with 'FILE *f = fopen("secret.txt", "r"); if (!f) return h->fail(r, "secret.txt: %s", strerror(errno)); fclose(f);'
    expect_step_fails "secret.txt: Permission denied" "names as inputs"
    change mbuild.lua 's/plugin = p,/plugin = p, inputs = { ["in"] = "secret.txt" },/'
    build
    build -B --sandbox=off
    build -B --sandbox=require
}

test_an_undeclared_write_is_refused() {
    sandboxed landlock
    plugin_with 'FILE *f = fopen("elsewhere", "w"); if (!f) return h->fail(r, "elsewhere: %s", strerror(errno)); fclose(f);'
    expect_step_fails "elsewhere: Permission denied"
    expect_no_file elsewhere
    change p.c 's/fopen("elsewhere", "w"); if (!f)/fopen("p.c", "r+"); if (!f)/'
    expect_step_fails "elsewhere: Permission denied"
}

test_the_folders_of_a_step_can_be_used() {
    plugin_with 'char a[4096], b[4096]; snprintf(a, sizeof a, "%s/x", h->temp_folder(r)); snprintf(b, sizeof b, "%s", h->output_path(r, "out", 0)); FILE *f = fopen(a, "w"); if (!f || fclose(f) || rename(a, b) || truncate(b, 0)) return h->fail(r, "%s: %s", b, strerror(errno));'
    build s
}

test_the_network_is_refused_unless_declared() {
    sandboxed seccomp
    plugin_with 'int s = socket(AF_INET, SOCK_STREAM, 0); if (s < 0) return h->fail(r, "socket: %s", strerror(errno)); close(s); if (socket(AF_UNIX, SOCK_STREAM, 0) < 0) return h->fail(r, "even that");'
    expect_step_fails "socket: Permission denied" "network = true"
    change mbuild.lua 's/plugin = p,/plugin = p, network = true,/'
    build
}

test_a_step_can_not_kill_what_is_outside() {
    sandboxed landlock
    ! grep -q "^lack landlock scopes" doctor || skip "the kernel has no scopes"
    sleep 100 &
    victim=$!
    plugin_with "if (!kill($victim, SIGKILL)) return h->fail(r, \"it could\");"
    build s
    kill $victim
}

test_programs_run_in_the_sandbox() {
    sandboxed landlock
    write in.txt <<<"x"
    write mbuild.lua <<'LUA'
command "sh" { cmd = "t=$(mktemp); ls / >/dev/null; cat in.txt >$t; sort <$t >build/sh", inputs = { "in.txt" }, outputs = { "build/sh" } }
command "glob" { cmd = "cat in.* >build/glob", inputs = { "in.txt" }, outputs = { "build/glob" } }
LUA
    if command -v python3 >/dev/null; then
        cat >>mbuild.lua <<'LUA'
command "py" { cmd = { "python3", "-c", "import sys, json, subprocess, tempfile; tempfile.mkdtemp(); open(sys.argv[1], 'w').write('x')", "build/py" }, outputs = { "build/py" } }
LUA
    fi
    build --sandbox=require
}

test_an_unknown_sandbox_is_told() {
    run mbuild --sandbox=maybe
    expect_fail 2 "auto, require or off"
}

run_tests "$@"
