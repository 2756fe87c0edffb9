#!/usr/bin/env bash
# What mbuild says beforehand, by -n, -q, status, why and --explain, is what a build then does: over many random changes.
source "$(dirname "$0")/lib.sh"

# Sources in/1 … in/4, a chain over each, what joins them, a folder, a glob, a parameter, a variable, two equal steps.
world() {
    mkdir in
    for i in 1 2 3 4; do echo "$i" >in/$i; done
    write mbuild.lua <<'LUA'
local words = {}
for i = 1, 4 do
  local half = command("half" .. i) { cmd = "head -c 1 in/" .. i .. " > build/half" .. i, inputs = { "in/" .. i }, outputs = { "build/half" .. i } }
  words[i] = command("word" .. i) { cmd = { "sed", "s/^/" .. option("prefix" .. i, "p") .. "/", half }, stdout = "build/word" .. i }
end
local join = command "join" { cmd = "cat build/word* > build/join", inputs = words, outputs = { "build/join" } }
local tree = command "tree" { cmd = "mkdir build/tree; cp build/half1 build/tree/one; cp build/half2 build/tree/two", inputs = { "build/half1", "build/half2" }, outputs = { "build/tree" } }
command "list" { cmd = "ls in > build/list", inputs = glob "in/*", outputs = { "build/list" } }
command "env" { cmd = { "printenv", "WORD" }, stdout = "build/env", env = { "WORD" } }
copy "same" { from = "in/1", to = "build/same1" }
copy "again" { from = "in/1", to = "build/same2" }
copy "all" { from = tree, to = "build/all" }
command "last" { cmd = { "cat", join, "build/all/one" }, inputs = { "build/all" }, stdout = "build/last" }
LUA
}

# One change, at random: to a source, a name, an output, a parameter, a variable, the rules' text; or one that counts for nothing.
settings=() word=w
disturb() {
    local i=$((RANDOM % 4 + 1)) outputs
    case $((RANDOM % 13)) in
    0) echo "$((RANDOM % 3))$RANDOM" >in/$i ;;
    1) echo "$i" >in/$i ;;
    2) touch in/$i ;;
    3) [[ -e in/extra$i ]] && rm in/extra$i || echo x >in/extra$i ;;
    4) outputs=(build/*) && [[ -e ${outputs[0]} ]] && rm -r "${outputs[RANDOM % ${#outputs[@]}]}" ;;
    5) echo altered >build/word$i ;;
    6) rm -f build/tree/one ;;
    7) settings=("prefix$i=$((RANDOM % 3))") ;;
    8) settings=() ;;
    9) word=w$((RANDOM % 2)) ;;
    10) echo "-- a comment $RANDOM" >>mbuild.lua ;;
    11) rm -rf .mbuild/snapshot ;;
    12) echo "$((RANDOM % 2))" >in/$i ;;
    esac
    true
}

# The steps that a plan names, of a kind: planned run. With -n's words "perhaps run" a step may also turn out to be current, or restored.
planned() { sed -nE "s/^would $1 ([^ ]+) .*/\1/p" plan | sort | tr '\n' ' '; }
perhaps() { sed -nE 's/^would perhaps run ([^ ]+) .*/\1/p; s/^perhaps run ([^ ]+) .*/\1/p' plan | sort | tr '\n' ' '; }

test_a_plan_names_what_a_build_then_does() {
    world
    export WORD
    local round step
    for ((round = 0; round < 40; round++)); do
        WORD=$word mbuild -n "${settings[@]}" >plan 2>plan.err || fail "round $round: -n failed: $(cat plan.err)"
        before=$(find build .mbuild -type f ! -name 'state.db*' 2>/dev/null -exec stat -c '%n %Y %i %s' {} + | sort | sha256sum)
        status=0
        WORD=$word mbuild -q "${settings[@]}" || status=$?
        stale=$status
        WORD=$word mbuild status "${settings[@]}" >state || fail "round $round: status failed"
        expect_same "$before" "$(find build .mbuild -type f ! -name 'state.db*' 2>/dev/null -exec stat -c '%n %Y %i %s' {} + | sort | sha256sum)"
        WORD=$word try --explain "${settings[@]}"
        expect_status 0
        local did would maybe
        did=" $(ran) " restored=" $(ended restored) " would=" $(planned run) " again=" $(planned restore) " maybe=" $(perhaps) "
        for step in $would; do [[ $did == *" $step "* || $restored == *" $step "* ]] || fail "round $round: -n would run $step, the build did not: ran$did restored$restored"; done
        for step in $again; do [[ $restored == *" $step "* ]] || fail "round $round: -n would restore $step, the build did not"; done
        for step in $did $restored; do
            [[ $would$again$maybe == *" $step "* ]] || fail "round $round: $step was made, but -n did not say so: $(cat plan)"
            grep -q "^$step " state || fail "round $round: $step was made, but status did not name it"
        done
        # A step of which the plan is sure runs, unless an equal one ran before it in the same build.
        for step in $would; do [[ $did == *" $step "* || $step == same || $step == again ]] || fail "round $round: -n would run $step, it was restored"; done
        if [[ -z ${did// /}${restored// /} ]]; then
            [[ -n ${maybe// /} ]] || expect_same "$stale" 0
        else
            expect_same "$stale" 1
        fi
        # Each step that ran says why.
        for step in $did; do
            events step_started | grep -F "\"step\":\"$step\"" | grep -q '"why"\|"reason"' || fail "round $round: --explain gave no reason for $step"
        done
        WORD=$word try "${settings[@]}"
        expect_nothing_ran
        expect_restored
        for ((k = RANDOM % 3; k >= 0; k--)); do disturb; done
    done
}

test_why_names_the_cause_down_to_the_source() {
    world
    WORD=w build
    echo 9 >in/2
    WORD=w run mbuild why last
    expect_ok
    expect_printed "last depends on what is stale:" "input in/2 changed" "half2 is stale:"
    WORD=w build
    WORD=w run mbuild why last prefix3=q
    expect_printed 'word3 is stale:' 'parameter cmd'
    WORD=other run mbuild why env
    expect_printed 'environment WORD: "w" → "other"'
}

run_tests "$@"
