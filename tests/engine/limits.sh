#!/usr/bin/env bash
# Limits of a step as a whole: memory of all its processes together, and how many these are, where there are control groups to keep them.
source "$(dirname "$0")/lib.sh"

# step_with BODY [FIELDS]: a repo whose step "s" runs BODY, in which h is the host and r the run.
step_with() {
    command -v "$MB_CC" >/dev/null || skip "no C compiler"
    mbuild doctor | grep -q "^ok *control groups" || skip "no control groups that this user may write"
    write p.c <<C
#define _GNU_SOURCE
#include <errno.h>
#include <mbuild/plugin.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
static int take(size_t mib) {
    char *m = malloc(mib << 20);
    if (!m) return 1;
    memset(m, 1, mib << 20);
    usleep(300000);
    return m[1] - 1;
}
static int run(const struct mb_host *h, struct mb_run *r) {
    $1
    FILE *made = fopen(h->output_path(r, "out", 0), "w");
    return made && !fclose(made) ? MB_OK : h->fail(r, "out: %s", strerror(errno));
}
static const struct mb_role roles[] = {{.name = "out", .flags = MB_OUTPUT}, {0}};
static const struct mb_param params[] = {{.name = "n", .type = MB_INT, .deflt = "0"}, {0}};
static const struct mb_step steps[] = {{.name = "p", .help = "takes much", .flags = ${flags:-MB_DETERMINISTIC}, .roles = roles, .params = params, .run = run}, {0}};
static const struct mb_plugin plugin = {MB_PLUGIN_HEAD, .name = "p", .version = "1", .help = "takes much", .steps = steps};
MB_PLUGIN(plugin);
C
    write mbuild.lua <<LUA
p = plugin "p" { "p.c", cc = "$MB_CC" }
step "s" { plugin = p, outputs = { out = "build/s" }, ${2:-} }
LUA
}
without_sanitizers() { [[ -z $MB_SANITIZERS ]] || skip "a sanitizer's own memory counts"; }
# The groups of steps that there are.
groups() { find /sys/fs/cgroup -maxdepth 6 -type d -name 'mbuild-*' 2>/dev/null; }
no_groups_of() {
    local i
    for ((i = 0; i < 200; i++)); do
        [[ -n $(groups | grep -F -- "$1" || true) ]] || return 0
        sleep 0.02
    done
    fail "groups stayed: $(groups | grep -F -- "$1")"
}

FAMILY='pid_t c[4]; int failed = 0; for (int i = 0; i < 4; i++) if (!(c[i] = fork())) _exit(take(60));
    for (int i = 0; i < 4; i++) { int s; waitpid(c[i], &s, 0); if (s) failed++; }
    if (failed) return h->fail(r, "%d children of 4 didn'"'"'t end well", failed);'

test_processes_that_need_too_much_together_are_ended_though_none_does_alone() {
    without_sanitizers
    step_with "$FAMILY" 'resources = { mem = "100M" }'
    try
    expect_fail 2 "limit" "100 MiB"
    expect_failed s
    change mbuild.lua 's/100M/400M/'
    build
}

test_without_a_limit_nothing_is_ended_and_no_group_made() {
    without_sanitizers
    step_with "$FAMILY
    char g[9999]; FILE *f = fopen(\"/proc/self/cgroup\", \"r\"); while (fgets(g, sizeof g, f)) if (strstr(g, \"mbuild-\")) return h->fail(r, \"in a group\"); fclose(f);"
    build
}

test_the_process_that_goes_over_the_limit_is_told_with_it() {
    without_sanitizers
    step_with 'int s; pid_t c = fork(); if (!c) { for (int i = 0; i < 8; i++) if (!fork()) _exit(take(60)); while (wait(NULL) > 0) {} _exit(0); } waitpid(c, &s, 0); return h->fail(r, "its child ended with %d", s);' \
        'resources = { mem = "100M" }'
    try
    expect_fail 2 "limit of memory"
}

test_a_step_cannot_fork_without_end_not_even_as_root() {
    without_sanitizers
    step_with 'int n = 0; pid_t c; while (n < 6000 && (c = fork()) >= 0) { if (!c) { pause(); _exit(0); } n++; }
    if (n >= 6000) return h->fail(r, "%d processes", n); h->log(r, MB_WARN, "stopped at %d", n);' 'resources = { mem = "2G" }'
    mbuild doctor | grep -q "and to its number of processes" || skip "no control group that counts processes"
    build
    expect_printed "stopped at "
}

test_groups_go_with_their_steps_and_those_of_the_dead_are_removed() {
    step_with 'char g[9999], line[999]; *g = 0; FILE *f = fopen("/proc/self/cgroup", "r"); while (fgets(line, sizeof line, f)) if (strstr(line, "mbuild-")) strcat(g, strstr(line, "mbuild-")); fclose(f);
    g[strcspn(g, "\n")] = 0; h->log(r, MB_WARN, "group %s", g); while (h->param_int(r, "n") == 1) pause();' 'resources = { mem = "1G" }'
    build
    local name
    name=$(events message | sed -nE 's/.*group (mbuild-[0-9]+-[0-9]+).*/\1/p')
    [[ -n $name ]] || fail "it was in no group"
    no_groups_of "$name"
    sed -i 's/outputs/params = { n = 1 }, outputs/' mbuild.lua
    start
    await '"message".*group mbuild-'
    name=$(events message | sed -nE 's/.*group (mbuild-[0-9]+-[0-9]+).*/\1/p')
    [[ -n $(groups | grep -F "$name") ]] || fail "there is no group $name"
    kill -KILL "$pid"
    finish
    no_groups_of "$name"
    start
    await '"message".*group mbuild-'
    name=$(events message | sed -nE 's/.*group (mbuild-[0-9]+-[0-9]+).*/\1/p')
    kill -KILL "$(cut -d- -f2 <<<"$name")" # its template: nobody is left to remove the group
    finish
    sed -i 's/n = 1/n = 2/' mbuild.lua
    build
    no_groups_of "$name"
}

test_steps_of_one_warm_process_have_limits_of_their_own_as_wholes() {
    without_sanitizers
    flags='MB_REENTRANT | MB_SLOW_START' step_with "for (int k = 0; k < 2; k++) if (!fork()) _exit(take((size_t)h->param_int(r, \"n\"))); for (int s, k = 0; k < 2; k++) if (wait(&s) < 0 || s) return h->fail(r, \"a child ended with %d\", s);"
    cat >>mbuild.lua <<'LUA'
local function s(i, n, mem) return step("s" .. i) { plugin = p, params = { n = n }, outputs = { out = "build/s" .. i }, resources = { mem = mem } } end
s(1, 10, "100M") s(2, 60, "100M") s(3, 61, "400M") s(4, 62)
LUA
    try -k -j1 s1 s3 s4
    expect_status 0
    expect_same "$(events step_finished | field warm | tr '\n' ' ')" "1 2 3 "
    try -k -j1 s2
    expect_fail 2 "limit of memory"
}

run_tests "$@"
