#!/usr/bin/env bash
# `why` by cause, where a plugin can tell how an input differs.
source "$(dirname "$0")/../engine/lib.sh"

table() {
    {
        echo "x,y,label"
        for ((i = 0; i < 1797; i++)); do echo "$i.5,$((i % 7)),$((i % 3))"; done
    } >data.csv
    write mbuild.lua <<<'dataset "d" { from = "data.csv", label = "label", split = { train = 0.8, test = 0.2 } }'
    build
}

why() {
    run mbuild why d
    expect_ok
    expect_printed "$1"
    run mbuild -n
    expect_printed "would run d (dataset): $1"
}

test_rows_that_differ_are_counted() {
    table
    sed -i '5s/.*/9.5,1,1/; 700s/.*/9.25,2,2/; 1700s/.*/0.125,3,0/' data.csv
    why "input data.csv: 3 rows of 1,797 differ"
    run mbuild --explain
    expect_printed "input data.csv: 3 rows of 1,797 differ"
    sed -i '9s/.*/9.75,1,1/' data.csv
    why "input data.csv: 1 row of 1,797 differs"
}

test_rows_that_came_or_went_are_counted() {
    table
    echo "1e3,1,1" >>data.csv
    why "input data.csv: 1 row was added to 1,797"
    sed -i '2,11d' data.csv
    why "input data.csv: of 1,797 rows 10 are gone and 1 were added"
    sed -i '$d' data.csv
    why "input data.csv: 10 rows of 1,797 are gone"
}

test_order_spelling_and_columns_are_told() {
    table
    (head -n 1 data.csv && tail -n +2 data.csv | tac) >turned && mv turned data.csv
    why "input data.csv: the same rows in another order"
    tail -n +2 data.csv | tac >rows && (echo "x,y,label" && sed 's/,/ , /g' rows) >data.csv
    why "input data.csv: the same rows, written otherwise"
    sed -i '1s/y/z/' data.csv
    why "input data.csv: column z is new"
    (echo "x,label" && cut -d, -f1,3 rows) >data.csv
    why "input data.csv: column y is gone"
}

test_what_can_not_be_read_or_is_not_kept_is_changed_all_the_same() {
    table
    : >data.csv
    why "input data.csv changed"
    echo "1" >data.csv
    rm -rf .mbuild/store
    why "input data.csv changed"
}

test_a_gc_keeps_what_explains() {
    table
    run mbuild gc --days=0
    expect_ok
    sed -i '5s/.*/9.5,1,1/' data.csv
    why "input data.csv: 1 row of 1,797 differs"
}

test_a_table_that_a_step_makes_is_explained_to_the_cause() {
    for ((i = 0; i < 20; i++)); do echo "$i,$((i % 2))"; done >rows
    write mbuild.lua <<'LUA'
local table = command "table" { cmd = { "sh", "-c", "echo x,label; cat rows" }, inputs = { "rows" }, stdout = "build/t.csv" }
dataset "d" { from = table, label = "label", split = { train = 0.5, test = 0.5 } }
LUA
    build
    sed -i '3s/.*/7.5,1/' rows
    build table
    run mbuild why d
    expect_printed "input build/t.csv: 1 row of 20 differs"
}

run_tests "$@"
