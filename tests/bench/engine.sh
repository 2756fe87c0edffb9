#!/usr/bin/env bash
# What the engine costs, beside its peers in the same run. `make bench` prints a line a measure: name, ours, peer, ratio
# (ours / peer), parted by tabs, and writes the same as bench.json in the build folder.
#
#     tests/bench/engine.sh [PART OF A MEASURE'S NAME …]
#
# MB_BENCH_TARGETS: targets of the large graphs (100000). MB_BENCH_STEPS: copy steps that really run (10000). Times are medians of
# MB_BENCH_RUNS (7) whole processes. A peer that isn't installed is named and its lines are left out.

set -eu
export LC_ALL=C.UTF-8
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
build=$PWD/build
mbuild=$build/bin/mbuild
targets=${MB_BENCH_TARGETS:-100000} steps=${MB_BENCH_STEPS:-10000} runs=${MB_BENCH_RUNS:-7}
wanted=("$@")
[[ -x $mbuild ]] || { echo "tests/bench/engine.sh: no build/bin/mbuild here; run it by \`make bench\`" >&2 && exit 2; }
work=$(mktemp -d "${TMPDIR:-/tmp}/mbuild-bench-XXXXXX")
trap 'rm -rf "$work"' EXIT
export HOME=$work
${MB_CC:-cc} -O2 -D_GNU_SOURCE -o "$work/measure" "$here/../support/measure.c"
measure() { "$work/measure" "$@"; }
for peer in ninja make; do command -v $peer >/dev/null || echo "$peer is not installed: its lines are left out" >&2; done
have() { command -v "$1" >/dev/null; }

rows=()
# row NAME OURS PEER: ratio is ours / peer.
row() {
    rows+=("$(printf '%s\t%s\t%s\t%s' "$1" "$2" "$3" "$(awk -v a="$2" -v b="$3" 'BEGIN { printf "%.3f", a / b }')")")
    printf '%s\n' "${rows[-1]}"
}
wants() {
    local part
    ((${#wanted[@]})) || return 0
    for part in "${wanted[@]}"; do [[ $1 != *"$part"* ]] || return 0; done
    return 1
}

# Files in/1 … in/N, a hundred to a folder's line of digits, each with its own bytes.
inputs() {
    mkdir -p "$1/in"
    (cd "$1/in" && seq "$2" | awk '{ f = $1; print "file " $1 > f; close(f) }')
}

# world KIND N FOLDER: the same graph for all: independent copies, or layers of ten.
world() {
    mkdir -p "$3"
    local width=$2
    [[ $1 == independent ]] || width=$(($2 / 10))
    inputs "$3" "$width"
    if [[ $1 == independent ]]; then
        echo "for i = 1, $2 do copy(\"c\" .. i) { from = \"in/\" .. i, to = \"out/\" .. i } end" >"$3/mbuild.lua"
        awk -v n="$2" 'BEGIN { for (i = 1; i <= n; i++) print "build out/" i ": cp in/" i }' >"$3/edges"
    else
        cat >"$3/mbuild.lua" <<LUA
for layer = 1, 10 do
  for i = 1, $width do
    local from = layer == 1 and "in/" .. i or "out/" .. layer - 1 .. "/" .. i
    copy("c" .. layer .. "-" .. i) { from = from, to = "out/" .. layer .. "/" .. i }
  end
end
LUA
        awk -v n="$width" 'BEGIN { for (l = 1; l <= 10; l++) for (i = 1; i <= n; i++)
            print "build out/" l "/" i ": cp " (l == 1 ? "in/" i : "out/" (l - 1) "/" i) }' >"$3/edges"
    fi
    { printf 'rule cp\n  command = %s\n' "${4:-cp \$in \$out}" && cat "$3/edges"; } >"$3/build.ninja"
    { echo "all:" && awk '{ sub(":", "", $2); outs = outs " " $2; print $2 ": " $4 "\n\t@cp $< $@" } END { print "all:" outs }' "$3/edges"; } >"$3/Makefile"
    rm "$3/edges"
}

# The peers judge by times alone, so outputs that are newer than all inputs are as good as built ones; ninja wants its log, which a rule
# that does nothing writes. What is measured is a build with nothing to do.
settle_peers() {
    (cd "$1" && if have ninja; then ninja -j2 >/dev/null; fi)
}

nothing_to_do() { # KIND
    local f=$work/$1 ours
    wants "nothing to do, $1" || wants "one changed, $1" || wants "memory, $1" || return 0
    world "$1" "$targets" "$f" ":"
    "$mbuild" -C "$f" -s
    "$mbuild" -C "$f" -s
    "$mbuild" -C "$f" -s
    settle_peers "$f"
    ours=$(measure "$runs" "$mbuild" -C "$f")
    if wants "nothing to do, $1"; then
        if have ninja; then row "nothing to do, $targets $1: ms, ninja" "${ours% *}" "$(measure "$runs" ninja -C "$f" | cut -d' ' -f1)"; fi
        if have make; then row "nothing to do, $targets $1: ms, make" "${ours% *}" "$(measure "$runs" make -C "$f" | cut -d' ' -f1)"; fi
        (cd "$f" && find in out -type f) >"$work/files"
        row "nothing to do, $targets $1: ms, statx of all files on one thread" "${ours% *}" "$(cd "$f" && measure "$runs" "$work/measure" --stat "$work/files" | cut -d' ' -f1)"
    fi
    if wants "memory, $1" && have ninja; then
        row "memory, nothing to do, $targets $1: KiB, ninja" "${ours#* }" "$(measure 3 ninja -C "$f" | cut -d' ' -f2)"
    fi
    if wants "one changed, $1" && have ninja; then
        row "one input changed, $targets $1: ms, ninja" \
            "$(measure "$runs" --before "echo \$RANDOM\$RANDOM >>'$f/in/7'; sleep 0.1" "$mbuild" -C "$f" -s | cut -d' ' -f1)" \
            "$(measure "$runs" --before "echo \$RANDOM >>'$f/in/7'; sleep 0.1" ninja -C "$f" | cut -d' ' -f1)"
    fi
    rm -rf "$f"
}

copy_steps() {
    local f=$work/copies
    wants "copy steps" && have ninja || return 0
    world independent "$steps" "$f"
    row "$steps copy steps at -j2: ms, ninja" \
        "$(measure 3 --before "rm -rf '$f/.mbuild' '$f/out'" "$mbuild" -C "$f" -s -j2 | cut -d' ' -f1)" \
        "$(measure 3 --before "rm -rf '$f/.ninja_log' '$f/out'" ninja -C "$f" -j2 | cut -d' ' -f1)"
    rm -rf "$f"
}

# No peer evaluates rules in a language: the bar is two seconds.
planning() {
    local f=$work/plan
    wants "planned" || return 0
    world independent "$targets" "$f"
    row "rule file to a planned graph, $targets steps, cold: ms, the bar of 2000" "$(measure 3 --before "rm -rf '$f/.mbuild'" "$mbuild" -C "$f" -q | cut -d' ' -f1)" 2000
    rm -rf "$f"
}

printf 'measure\tours\tpeer\tratio\n'
nothing_to_do independent
nothing_to_do layered
copy_steps
planning
{
    echo "["
    for i in "${!rows[@]}"; do
        IFS=$'\t' read -r name ours peer ratio <<<"${rows[i]}"
        printf '  {"name": "%s", "ours": %s, "peer": %s, "ratio": %s}%s\n' "$name" "$ours" "$peer" "$ratio" "$([[ $i == $((${#rows[@]} - 1)) ]] || echo ,)"
    done
    echo "]"
} >"$build/bench.json"
