#!/usr/bin/env bash
# --trace: the file is what the Trace Event Format says, event by event, however the build went, so that viewers show it.
source "$(dirname "$0")/lib.sh"

command -v python3 >/dev/null || skip_all=1

# strict FILE [killed]: checks the file by the format ("Trace Event Format": JSON Array Format): keys and their types by phase, names that pair,
# nesting and order in each thread; all that began has ended, unless the build was killed.
strict() {
    [[ -z ${skip_all:-} ]] || skip "no python3"
    python3 - "$@" <<'PY' >strict.out 2>&1 || fail "the trace $1: $(tail -n 1 strict.out)"
import json, sys

def unique(pairs):
    keys = [k for k, _ in pairs]
    assert len(keys) == len(set(keys)), f"a key twice in {pairs}"
    return dict(pairs)

events = json.load(open(sys.argv[1]), object_pairs_hook=unique, parse_constant=lambda c: sys.exit(f"{c} is no JSON"))
assert isinstance(events, list) and events, "an array of events"
required = {"ph": str, "name": str, "pid": int, "tid": int}
known = {"B": {"cat", "args"}, "E": {"args"}, "i": {"s", "args"}, "C": {"args"}, "M": {"args"}}
stacks, last, named = {}, {}, {}
for n, e in enumerate(events):
    where = f"event {n} {json.dumps(e)[:200]}: "
    for key, kind in required.items():
        assert type(e.get(key)) is kind, where + f"{key} is missing or no {kind.__name__}"
    phase, thread = e["ph"], (e["pid"], e["tid"])
    assert phase in known, where + "an unknown phase"
    more = set(e) - set(required) - {"ts"}
    assert more <= known[phase], where + f"keys that the phase doesn't have: {more - known[phase]}"
    assert isinstance(e.get("args", {}), dict), where + "args is no object"
    if phase == "M":
        assert e["name"] in ("process_name", "thread_name", "thread_sort_index"), where + "unknown metadata"
        if e["name"].endswith("_name"):
            assert isinstance(e["args"].get("name"), str), where + "args.name"
            named[thread] = e["args"]["name"]
        continue
    assert type(e.get("ts")) in (int, float) and e["ts"] >= 0, where + "ts"
    if phase != "C":
        assert thread in named, where + "a thread without a name"
    assert e["ts"] >= last.get(thread, 0), where + "time runs backwards in its thread"
    last[thread] = e["ts"]
    if phase == "B":
        stacks.setdefault(thread, []).append(e["name"])
    elif phase == "E":
        assert stacks.get(thread), where + "ends what never began"
        assert stacks[thread].pop() == e["name"], where + "ends another than the innermost"
    elif phase == "i":
        assert e.get("s", "t") in ("g", "p", "t"), where + "the scope of an instant"
    elif phase == "C":
        assert e["args"] and all(type(v) in (int, float) for v in e["args"].values()), where + "a counter's values are numbers"
open_ones = [s for s in stacks.values() if s]
assert bool(open_ones) == (len(sys.argv) > 2), f"never ended: {open_ones}"
print("strict", len(events))
PY
}

world() {
    write x <<<"x"
    write mbuild.lua <<'LUA'
local a = copy "a" { from = "x" }
for i = 1, 5 do command("p" .. i) { cmd = "cat build/a > build/p" .. i, inputs = { a }, outputs = { "build/p" .. i } } end
command "odd \"name\" \\ ünï" { cmd = { "echo", "x" }, stdout = "build/odd" }
command "bad" { cmd = { "sh", "-c", "echo 'said \"so\"' >&2; exit 3" }, stdout = "build/bad" }
command "after" { cmd = { "cat", "build/bad" }, inputs = { "build/bad" }, stdout = "build/after" }
command "again" { cmd = "test -e $TMPDIR/../../../again || exit 1", outputs = { "build/again" }, retries = 2 }
LUA
}

test_a_trace_of_all_that_can_happen_to_steps_is_strictly_the_format() {
    world
    try -k -j3 --trace=t.json
    expect_fail 2
    strict t.json
    grep -q '"status":"failed"' t.json || fail "no failure in it"
    grep -q '"tried again"' t.json || fail "no second try in it"
    rm -rf build
    try -k --trace=t.json
    strict t.json
    grep -q '"status":"restored"' t.json || fail "nothing restored in it"
    try -k --trace=t.json p1
    strict t.json
}

test_a_trace_of_metrics_and_warm_processes_is_strictly_the_format() {
    command -v "$MB_CC" >/dev/null || skip "no C compiler"
    write p.c <<'C'
#include <mbuild/plugin.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>
static int run(const struct mb_host *h, struct mb_run *r) {
    for (int i = 0; i < 8; i++) {
        h->metric(r, "loss \"a\"", 1.0 / (i + 1));
        h->metric(r, "nan", i % 2 ? NAN : INFINITY);
        h->progress(r, i, 8, "on the \"way\"");
        usleep(20000);
    }
    FILE *f = fopen(h->output_path(r, "out", 0), "w");
    return f && !fclose(f) ? MB_OK : h->fail(r, "out");
}
static const struct mb_role roles[] = {{.name = "in", .flags = MB_INPUT | MB_OPTIONAL}, {.name = "out", .flags = MB_OUTPUT}, {0}};
static const struct mb_step steps[] = {{.name = "p", .help = "p", .flags = MB_REENTRANT | MB_SLOW_START, .roles = roles, .run = run}, {0}};
static const struct mb_plugin plugin = {MB_PLUGIN_HEAD, .name = "p", .version = "1", .help = "p", .steps = steps};
MB_PLUGIN(plugin);
C
    write mbuild.lua <<LUA
local p = plugin "p" { "p.c", cc = "$MB_CC" }
local one = step "one" { plugin = p, outputs = { out = "build/one" } }
step "two" { plugin = p, inputs = { ["in"] = one }, outputs = { out = "build/two" } }
LUA
    build --trace=t.json
    strict t.json
    grep -q '"warm":2' t.json || fail "it doesn't tell that a process was warm"
}

test_a_trace_of_a_killed_build_is_whole_and_its_events_are_in_order() {
    write mbuild.lua <<<'command "slow" { cmd = { "sleep", "60" }, stdout = "build/slow" }'
    start --trace=t.json
    await '"step_started".*slow'
    sleep 0.2
    kill -KILL "$pid"
    finish
    strict t.json killed
    expect_same "$(grep -o '"ph":"B","name":"[a-z]*"' t.json | tr '\n' ' ')" '"ph":"B","name":"build" "ph":"B","name":"slow" '
}

test_an_interrupted_builds_trace_is_strictly_the_format() {
    write mbuild.lua <<<'command "slow" { cmd = { "sleep", "60" }, stdout = "build/slow" } command "never" { cmd = { "cat", "build/slow" }, inputs = { "build/slow" }, stdout = "build/never" }'
    start --trace=t.json
    await '"step_started".*slow'
    kill -INT "$pid"
    finish
    expect_status 130
    strict t.json
}

run_tests "$@"
