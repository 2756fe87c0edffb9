#!/usr/bin/env bash
# The example repos, as their users run them: what the README promises of a release and of what comes after.
source "$(dirname "$0")/../engine/lib.sh"

# example NAME: a copy of it, to work in.
example() {
    cp -r "$MB_SOURCE/examples/$1/." .
    rm -rf build .mbuild releases
}
at_least() { awk -v found="$1" -v least="$2" 'BEGIN { exit !(found >= least) }' || fail "$3 is $1, expected at least $2"; }
# json FILE EXPRESSION: a value out of a JSON file.
json() { python3 -c 'import json, sys; print(eval(sys.argv[2], {"j": json.load(open(sys.argv[1]))}))' "$1" "$2"; }
bytes() { find "$1" -type f -printf '%s\n' | awk '{ n += $1 } END { print n + 0 }'; }

test_digits_are_learned_compressed_judged_and_released() {
    command -v python3 >/dev/null || skip "no python3"
    example digits
    SECONDS=0
    build release
    [[ -n $MB_SANITIZERS ]] || ((SECONDS < 60)) || fail "the release took $SECONDS s"
    at_least "$(json build/scores.json 'j["baseline"]["accuracy"]')" 0.98 "the teacher's accuracy"
    at_least "$(json build/scores.json 'j["accuracy"]')" 0.96 "the student's accuracy"
    at_least "$(($(bytes build/teacher) / $(bytes build/student-int8)))" 10 "how many times smaller the student is"
    expect_file releases/r1.json
    run mbuild verify r1
    expect_ok
    build release
    expect_nothing_ran
    touch data/*.csv.gz
    build release
    expect_nothing_ran
    echo "-- a comment" >>mbuild.lua
    build release
    expect_nothing_ran
    rm build/student-int8/model.safetensors
    echo x >>build/scores.json
    build release
    expect_nothing_ran
    expect_restored student-int8 scores
}

test_a_changed_temperature_makes_the_student_anew_and_a_changed_back_one_nothing() {
    example digits
    build release
    build release temperature=3
    ran | grep -q student || fail "the student wasn't made anew"
    for kept in digits teacher; do ran | tr ' ' '\n' | grep -qx "$kept" && fail "$kept ran"; done
    build release
    expect_nothing_ran
}

test_two_clean_clones_make_the_same_bundle_to_the_byte() {
    mkdir one two
    (cd one && example digits && mbuild -s bundle) || fail "the first clone's build failed"
    (cd two && example digits && mbuild -s bundle) || fail "the second clone's build failed"
    expect_same "$(cd one && sha build/bundle*)" "$(cd two && sha build/bundle*)"
}

test_diagnosis_and_regression_release() {
    for name in diagnosis regression; do
        mkdir "$name"
        (cd "$name" && example "$name" && mbuild -s release && mbuild -s release && mbuild verify r1 >/dev/null) || fail "$name doesn't release"
    done
}

test_recommend_releases_beats_popularity_and_knows_what_to_say_to_newcomers() {
    command -v python3 >/dev/null || skip "no python3"
    example recommend
    SECONDS=0
    build release
    [[ -n $MB_SANITIZERS ]] || ((SECONDS < 30)) || fail "the release took $SECONDS s"
    at_least "$(json build/scores.json 'j["recall@10"] - j["popularity"]["recall@10"]')" 0.2 "what the model is better by"
    at_least "$(json build/scores.json 'j["baseline"]["recall@10"] - j["popularity"]["recall@10"]')" 0.2 "what ids alone are better by"
    run mbuild verify r1
    expect_ok
    build newcomers lists ratings
    [[ $(grep -c '"items":\["' build/newcomers.jsonl) == 3 ]] || fail "not every newcomer got a list"
    build release
    expect_nothing_ran
}

test_text_and_generate_release() {
    [[ -z $MB_SANITIZERS ]] || skip "the sanitizers make training take minutes"
    for name in text generate; do
        mkdir "$name"
        (cd "$name" && example "$name" && mbuild -s release && mbuild verify r1 >/dev/null) || fail "$name doesn't release"
    done
    [[ -s generate/build/sample.txt ]] || fail "nothing was written"
    at_least "$(($(bytes generate/build/model) * 10 / $(bytes generate/build/small)))" 45 "ten times what weights of 4 bits save"
    at_least "$(($(bytes text/build/model) * 10 / $(bytes text/build/small)))" 25 "ten times what weights of 8 bits save"
}

run_tests "$@"
