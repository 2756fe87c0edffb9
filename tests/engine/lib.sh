# lib.sh: what tests of the whole program are written with. A test is a small world: a few lines that set up a
# model repo, one change, and what must have happened.
#
#     source "$(dirname "$0")/lib.sh"
#
#     test_a_touched_input_rebuilds_nothing() {
#         write mbuild.lua <<'LUA'
#     command "b" { cmd = { "cp", "a", "build/b" }, inputs = { "a" }, outputs = { "build/b" } }
#     LUA
#         write a <<<"one"
#         build b
#         expect_ran b
#         touch a
#         build b
#         expect_nothing_ran
#     }
#
#     run_tests "$@"
#
# Each function whose name begins with test_ is a test and its name the sentence that it proves. It runs
# in a shell of its own, in an empty folder, with `set -e`: a command that fails ends it, as a failed expectation does. (But
# not one to the left of && or ||: so write these on lines of their own.)
# Must not know anything of the steps that mbuild has.

set -u
export LC_ALL=C.UTF-8
MB_SOURCE=${MB_SOURCE:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)}
MB_BUILD=${MB_BUILD:-$MB_SOURCE/build}
MB_SHARED=${MB_SHARED:-$MB_SOURCE/../shared}
MB_CC=${MB_CC:-cc}
MB_SANITIZERS=${MB_SANITIZERS:-}
PATH=$MB_BUILD/bin:$PATH

# ---- running -----------------------------------------------------------------------------------------

# run COMMAND…: runs it, whatever comes of it. Afterwards $status is its exit status, and $out and $err are files
# with what it printed.
run() {
    status=0
    "$@" >"$out" 2>"$err" </dev/null || status=$?
}

# try [ARGUMENT…]: runs mbuild for its events. build [ARGUMENT…]: the same, and it must succeed.
try() { run mbuild --json "$@"; }
build() {
    try "$@"
    [[ $status == 0 ]] || fail "mbuild $* ended with status $status"
}

# start [ARGUMENT…]: runs mbuild in the background; its process is $pid. await PATTERN: waits (20 s) until a line of
# its events matches. finish: waits for its end and sets $status.
start() {
    mbuild --json "$@" >"$out" 2>"$err" </dev/null &
    pid=$!
}
await() {
    local i
    for ((i = 0; i < 2000; i++)); do
        if grep -qE -- "$1" "$out"; then return 0; fi
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.01
    done
    grep -qE -- "$1" "$out" || fail "no event matched $1"
}
finish() {
    status=0
    wait "$pid" 2>/dev/null || status=$?
}

# ---- setting up ----------------------------------------------------------------------------------------

# write FILE: writes its standard input there, making folders as needed.
write() {
    case $1 in */*) mkdir -p -- "${1%/*}" ;; esac
    cat >"$1"
}
# change FILE SED-SCRIPT: edits a file, and sees to it that the edit did something.
change() {
    local before
    before=$(sha "$1")
    sed -i -e "$2" -- "$1"
    [[ $before != "$(sha "$1")" ]] || fail "change $1 '$2' changed nothing"
}
sha() { sha256sum -- "$@" | cut -d' ' -f1; }
# One line a file below a folder, with its digest: what two trees are compared by.
tree() { (cd -- "$1" && find . -type f ! -path './.mbuild/*' -exec sha256sum {} + | sort -k2); }

# await_end PID: waits (5 s) until that process is gone, or nobody has asked how it ended.
await_end() {
    local i
    for ((i = 0; i < 500; i++)); do
        [[ -e /proc/$1 && $(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) != Z* ]] || return 0
        sleep 0.01
    done
    fail "process $1 is still there"
}

# await_checkpoint [SECONDS]: waits (20 s) until the training in the background has taken a checkpoint; the next one is never far.
await_checkpoint() {
    local i
    for ((i = 0; i < ${1:-20} * 100; i++)); do
        if [[ -e $(echo .mbuild/checkpoint/*/checkpoint.safetensors) ]]; then return 0; fi
        sleep 0.01
    done
    fail "no checkpoint was taken"
}

# ---- what events say -------------------------------------------------------------------------------------

# events NAME: the events of that name, a line each.
events() { grep -E "\"event\": *\"$1\"" "$out" || true; }
# field KEY: of each event read, the string or number under that key.
field() { sed -nE "s/.*[{,] *\"$1\": *(\"(([^\"\\\\]|\\\\.)*)\"|([-+0-9.eE]+|true|false|null)).*/\2\4/p"; }
# Which steps really ran, sorted.
ran() { events step_started | field step | sort | tr '\n' ' ' | sed 's/ $//'; }
# Which steps ended so: ended restored.
ended() { events step_finished | grep -E "\"status\": *\"$1\"" | field step | sort | tr '\n' ' ' | sed 's/ $//'; }
# The last value of a metric of a step: metric scores accuracy.
metric() { events metric | grep -F "\"$1\"" | grep -F "\"$2\"" | tail -n 1 | field value; }

# ---- what must have happened -----------------------------------------------------------------------------

# fail WHY…: ends the test.
fail() {
    local i=1
    while [[ ${BASH_SOURCE[i]:-} == "${BASH_SOURCE[0]}" ]]; do i=$((i + 1)); done
    echo "$(basename "${BASH_SOURCE[i]:-test}"):${BASH_LINENO[i - 1]}: $*" >"$verdict"
    exit 1
}
# skip WHY…: ends the test unjudged.
skip() {
    echo "$*" >"$verdict"
    exit 77
}
# What the last run printed, under the verdict on a failed test.
show_output() {
    [[ ! -s $out ]] || { echo "  its output:" && tail -n 40 "$out" | sed 's/^/    /'; }
    [[ ! -s $err ]] || { echo "  its errors:" && tail -n 40 "$err" | sed 's/^/    /'; }
}

same_words() { [[ $(tr ' ' '\n' <<<"$1" | sort) == $(tr ' ' '\n' <<<"$2" | sort) ]]; }

expect_ran() { same_words "$(ran)" "$*" || fail "these ran: $(ran); expected: $*"; }
expect_nothing_ran() { [[ -z $(ran) ]] || fail "these ran: $(ran); expected: none"; }
expect_restored() { same_words "$(ended restored)" "$*" || fail "these were restored: $(ended restored); expected: $*"; }
expect_failed() { same_words "$(ended failed)" "$*" || fail "these failed: $(ended failed); expected: $*"; }
# expect_status STATUS: of the last run.
expect_status() { [[ $status == "$1" ]] || fail "the exit status is $status, expected $1"; }
# expect_ok [COMMAND…]: the command, or else the last run, ended well.
expect_ok() {
    if (($#)); then run "$@"; fi
    [[ $status == 0 ]] || fail "the exit status is $status, expected 0"
}
# expect_fail STATUS [PART OF THE MESSAGE…]: the last run ended so, and each part stands in what it printed.
expect_fail() {
    expect_status "$1"
    shift
    local part
    for part; do
        cat "$out" "$err" | sed -e 's/\\"/"/g' -e 's/\\n/ /g' | grep -qF -- "$part" || fail "no message contains: $part"
    done
}
# expect_printed PART…: the last run printed each.
expect_printed() {
    local part
    for part; do
        grep -qF -- "$part" "$out" || fail "it did not print: $part"
    done
}
expect_not_printed() {
    local part
    for part; do
        ! grep -qF -- "$part" "$out" || fail "it printed: $part"
    done
}
expect_same() { [[ $1 == "$2" ]] || fail "found '$1', expected '$2'"; }
expect_different() { [[ $1 != "$2" ]] || fail "both are '$1'"; }
expect_file() {
    local f
    for f; do [[ -e $f ]] || fail "there is no $f"; done
}
expect_no_file() {
    local f
    for f; do [[ ! -e $f && ! -L $f ]] || fail "there is a $f"; done
}
# expect_content FILE TEXT
expect_content() { [[ $(cat -- "$1") == "$2" ]] || fail "$1 holds '$(cat -- "$1")', expected '$2'"; }

# ---- the tests of a script ---------------------------------------------------------------------------------

# Prints each test function in the order of the file.
test_functions() {
    shopt -s extdebug
    local f
    for f in $(compgen -A function test_); do
        [[ $f == test_functions ]] || declare -F "$f"
    done | sort -k2n | cut -d' ' -f1
    shopt -u extdebug
}

# run_tests [PART OF A NAME…]: runs them one after the other; exits 1 if any failed.
run_tests() {
    local base any_failed=0 f name part wanted
    base=$(mktemp -d "${TMPDIR:-/tmp}/mbuild-test-XXXXXX") || exit 2
    # Home and configuration are the test's own too: a signing key of the user's must not be found, or made.
    export HOME=$base/home XDG_CONFIG_HOME=$base/home/.config XDG_CACHE_HOME=$base/home/.cache
    out=$base/out err=$base/err verdict=$base/verdict
    for f in $(test_functions); do
        name=${f#test_} name=${name//_/ }
        wanted=$((!$#))
        for part; do [[ $name == *"$part"* ]] && wanted=1; done
        ((wanted)) || continue
        rm -rf "${base:?}/home" "$verdict"
        mkdir -p "$base/home" "$base/repo"
        true | tee "$out" "$err"
        (
            set -eE
            trap '[[ -s $verdict ]] || echo "line $LINENO: status $? of: $BASH_COMMAND" >"$verdict"' ERR
            cd "$base/repo"
            "$f"
        )
        case $? in
        0) echo "ok $name" ;;
        77) echo "skip $name: $(<"$verdict")" ;;
        *)
            any_failed=1
            echo "not ok $name: $(<"$verdict")"
            show_output
            ;;
        esac
        chmod -R u+rwX "$base/repo" 2>/dev/null
        rm -rf "${base:?}/repo"
    done
    rm -rf "$base"
    exit $any_failed
}
