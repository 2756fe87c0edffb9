#!/usr/bin/env bash
# The rule and step `dataset` in the whole program.
source "$(dirname "$0")/../engine/lib.sh"

flowers() {
    write mbuild.lua <<'LUA'
local flowers = dataset "flowers" {
  from = "flowers.csv", label = "kind",
  split = { train = 0.5, val = 0.25, test = 0.25, stratify = true, seed = 1 },
}
copy "tested" { from = flowers.test }
LUA
    { echo width,length,kind; for i in $(seq 40); do echo "$i,$((i * i)),$((i % 2))"; done; } >flowers.csv
}

test_a_split_has_a_part_for_each_share_and_each_is_an_artifact() {
    flowers
    build
    expect_file build/flowers/schema.json build/flowers/train.safetensors build/flowers/val.safetensors build/flowers/test.safetensors
    expect_same "$(sha build/tested)" "$(sha build/flowers/test.safetensors)"
    expect_same "$(metric flowers rows)" 40
    expect_same "$(metric flowers classes)" 2
}

test_without_a_split_all_rows_are_one_part() {
    write x.csv <<<$'a,b\n1,2\n3,4'
    write mbuild.lua <<<'copy "c" { from = dataset "x" { from = "x.csv" }.all }'
    build
    expect_file build/x/all.safetensors build/c
    expect_no_file build/x/train.safetensors
}

test_a_share_of_nothing_makes_no_part() {
    flowers
    change mbuild.lua 's/val = 0.25/val = 0/; s/train = 0.5/train = 0.75/'
    build
    expect_no_file build/flowers/val.safetensors
    expect_file build/flowers/test.safetensors
}

test_the_same_data_gives_the_same_bytes_under_any_name_and_packing() {
    flowers
    build
    local before
    before=$(tree build)
    gzip -c flowers.csv >renamed.data
    rm -r build .mbuild flowers.csv
    change mbuild.lua 's/flowers.csv/renamed.data/'
    build
    # The schema tells the source's digest, so its parts differ; the tensors do not.
    expect_different "$before" "$(tree build)"
    expect_ran flowers tested
    gunzip -c renamed.data >again.csv
    change mbuild.lua 's/renamed.data/again.csv/'
    build
    expect_same "$before" "$(tree build)"
}

test_a_renamed_source_is_no_reason_to_run() {
    flowers
    build
    mv flowers.csv garden.csv
    change mbuild.lua 's/flowers.csv/garden.csv/'
    build
    expect_nothing_ran
}

test_a_ragged_row_fails_with_its_line_and_leaves_earlier_outputs_whole() {
    flowers
    build
    local before
    before=$(tree build)
    echo 1,2 >>flowers.csv
    try
    expect_fail 2 "flowers.csv:42: ragged row: found 2 fields, expected 3"
    expect_failed flowers
    expect_same "$before" "$(tree build)"
}

test_an_expectation_that_fails_lists_the_rows() {
    flowers
    change mbuild.lua 's/label = "kind",/label = "kind", expect = { ranges = { length = { 0, 1521 } } },/'
    try
    expect_fail 2 "expect.ranges: broken by 1 row" "flowers.csv:41: length is 1600, not from 0 to 1521"
}

test_a_misspelled_parameter_is_refused_with_the_nearest_name() {
    flowers
    change mbuild.lua 's/stratify/stratfy/'
    try
    expect_fail 2 "mbuild.lua:" 'did you mean "stratify"?'
}

test_shares_that_do_not_sum_to_one_are_refused_before_anything_runs() {
    flowers
    change mbuild.lua 's/test = 0.25/test = 0.3/'
    try
    expect_fail 2 "split: train, val and test must sum to 1"
    expect_nothing_ran
}

test_a_missing_source_is_named() {
    flowers
    rm flowers.csv
    try
    expect_fail 2 flowers.csv
}

test_a_pattern_takes_all_its_files() {
    mkdir data
    write data/a.csv <<<$'v,k\n1,x\n2,y'
    write data/b.csv <<<$'v,k\n3,x\n4,y'
    write mbuild.lua <<<'dataset "all" { from = "data/*.csv", label = "k" }'
    build
    expect_same "$(metric all rows)" 4
    write data/c.csv <<<$'v,k\n5,x\n6,y'
    build
    expect_ran all
    expect_same "$(metric all rows)" 6
}

test_a_source_can_be_made_by_another_step() {
    write mbuild.lua <<'LUA'
local made = command "made" { cmd = "printf 'v,k\\n1,x\\n2,y\\n' >build/made.csv", outputs = { "build/made.csv" } }
dataset "d" { from = made, label = "k" }
LUA
    build
    expect_same "$(metric d rows)" 2
}

test_the_reference_reader_of_safetensors_agrees() {
    python3 -c 'import safetensors.numpy' 2>/dev/null || skip "python3 has no safetensors"
    flowers
    build
    python3 - <<'PY'
import json
from safetensors import safe_open
for part in ("train", "val", "test"):
    with safe_open(f"build/flowers/{part}.safetensors", framework="np") as f:
        x, line, label = f.get_tensor("features"), f.get_tensor("line"), f.get_tensor("label")
        assert json.loads(f.metadata()["schema"])["classes"] == ["0", "1"] and f.metadata()["part"] == part
        for i in range(len(x)):
            assert list(x[i]) == [line[i] - 1, (line[i] - 1) ** 2] and label[i] == (line[i] - 1) % 2
PY
}

run_tests "$@"
