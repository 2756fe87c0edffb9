#!/usr/bin/env bash
# init.sh: what `mbuild init` leaves is a model repo that builds.
source "$(dirname "$0")/lib.sh"

template_builds() {
    expect_ok mbuild init "$1"
    [[ -f .gitignore ]] || fail "no .gitignore: what is built would be committed"
    export XDG_CONFIG_HOME=$PWD/config # where the developer's key goes
    build
    build
    expect_nothing_ran
}

test_the_classification_template_ends_in_a_verified_release() {
    template_builds classification
    expect_ok mbuild verify r1
}

test_the_regression_template_ends_in_a_verified_release() {
    template_builds regression
    expect_ok mbuild verify r1
}

test_the_recommendation_template_ends_in_a_verified_release() {
    template_builds recommendation
    expect_ok mbuild verify r1
}

test_the_plugin_template_builds_and_an_edit_of_the_plugin_runs_what_uses_it() {
    template_builds plugin
    [[ $(cat build/counted) == 2 ]] || fail "$(cat build/counted) lines were counted"
    sed -i 's/"%ld\\n", count/"%ld\\n", -count/' count.c
    build
    expect_ran count-plugin counted
}

test_without_a_name_the_template_is_classification() {
    expect_ok mbuild init
    [[ -f data/iris.csv ]] || fail "no data/iris.csv"
}

test_init_overwrites_nothing_and_names_the_file_in_its_way() {
    echo mine >mbuild.lua
    run mbuild init plugin
    expect_fail 2 "mbuild.lua already exists" "nothing was changed"
    [[ $(cat mbuild.lua) == mine && ! -e words.txt ]] || fail "init changed the folder"
}

test_init_tells_which_templates_there_are() {
    run mbuild init nonsense
    expect_fail 2 'no template "nonsense"' "classification, plugin, recommendation, regression"
    run mbuild init clasification
    expect_fail 2 'did you mean "classification"?'
}

run_tests "$@"
