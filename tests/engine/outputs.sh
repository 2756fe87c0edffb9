#!/usr/bin/env bash
# Outputs of every kind: what was altered, lost or damaged comes back as it was, and what stands as it should is left alone.
source "$(dirname "$0")/lib.sh"

# expect_settled: nothing runs, nothing is restored, neither on the next call nor, when stats are trusted, on the one after.
expect_settled() {
    build
    expect_nothing_ran
    expect_restored
    sleep 0.05
    build
    build
    expect_nothing_ran
    expect_restored
}

test_an_output_that_became_a_folder_or_a_link_or_lost_its_mode_is_restored() {
    write mbuild.lua <<<'command "a" { cmd = "echo one > build/a; chmod +x build/a", outputs = { "build/a" } }'
    build
    rm build/a && mkdir -p build/a/deep && write build/a/deep/x <<<"mine"
    build
    expect_restored a
    expect_content build/a one
    rm build/a && ln -s nowhere build/a
    build
    expect_restored a
    [[ -f build/a && ! -L build/a ]] || fail "the link is still there"
    chmod a-x build/a
    build
    expect_restored a
    [[ -x build/a ]] || fail "it can't be executed"
    expect_settled
}

test_a_folder_that_became_a_file_is_restored() {
    write mbuild.lua <<<'command "t" { cmd = "mkdir -p build/t/deep; echo 1 > build/t/deep/x", outputs = { "build/t" } }'
    build
    rm -r build/t && echo file >build/t
    build
    expect_restored t
    expect_content build/t/deep/x 1
    write build/t/more <<<"a file that nobody made"
    build
    expect_restored t
    expect_no_file build/t/more
    rm -r build/t/deep/x && mkdir build/t/deep/x
    build
    expect_restored t
    expect_content build/t/deep/x 1
    expect_settled
}

test_an_output_that_only_its_owner_may_read_is_no_new_work() {
    write mbuild.lua <<<'command "a" { cmd = "echo one > build/a", outputs = { "build/a" } }'
    build
    chmod 600 build/a
    expect_settled
    chmod 444 build/a
    rm -rf .mbuild/snapshot
    write mbuild.lua <<<'command "a" { cmd = "echo two > build/a", outputs = { "build/a" } }'
    build
    expect_content build/a two
}

test_an_output_may_be_a_symbolic_link() {
    write mbuild.lua <<'LUA'
local target = command "target" { cmd = "echo one > build/target", outputs = { "build/target" } }
local link = command "link" { cmd = { "ln", "-s", "target", "build/link" }, inputs = { target }, outputs = { "build/link" } }
command "reads" { cmd = { "cat", link }, inputs = { target }, stdout = "build/reads" }
command "dangles" { cmd = { "ln", "-s", "no/where", "build/dangles" }, outputs = { "build/dangles" } }
LUA
    build
    [[ -L build/link && -L build/dangles ]] || fail "the links aren't there"
    expect_content build/reads one
    expect_settled
    ln -sfn elsewhere build/link
    build
    expect_restored link
    expect_same "$(readlink build/link)" target
    rm build/dangles && echo file >build/dangles
    build
    expect_restored dangles
    expect_same "$(readlink build/dangles)" no/where
    expect_settled
    change mbuild.lua 's/echo one/echo two/'
    build
    expect_content build/reads two
    expect_settled
}

test_whoever_reads_by_a_link_depends_on_what_lies_behind_it() {
    write data/x <<<"x"
    write mbuild.lua <<'LUA'
local link = command "link" { cmd = { "ln", "-s", "../data", "build/link" }, outputs = { "build/link" } }
command "after" { cmd = "cat build/link/* > build/after", inputs = { link }, outputs = { "build/after" } }
LUA
    build
    expect_settled
    write data/y <<<"y"
    build
    expect_ran after
    expect_content build/after $'x\ny'
    expect_settled
    write data/x <<<"z"
    build
    expect_ran after
    expect_settled
    ln -sfn ../other build/link
    build
    expect_restored link
    expect_same "$(readlink build/link)" ../data
    expect_settled
    expect_same "$(events step_finished)" "" # all is said by stats, behind the link too
    rm data/y
    build
    expect_ran after
}

test_a_call_with_nothing_to_do_looks_behind_links_to_files_and_to_nothing() {
    write one <<<"1"
    write mbuild.lua <<'LUA'
local link = command "link" { cmd = { "ln", "-s", "../one", "build/link" }, outputs = { "build/link" } }
local dangles = command "dangles" { cmd = { "ln", "-s", "../two", "build/dangles" }, outputs = { "build/dangles" } }
command "reads" { cmd = "cat build/link build/dangles > build/reads || true", inputs = { link, dangles }, outputs = { "build/reads" } }
LUA
    build --sandbox=off
    expect_settled
    expect_same "$(events step_finished)" ""
    write one <<<"uno"
    build --sandbox=off
    expect_ran reads
    expect_content build/reads uno
    expect_settled
    expect_same "$(events step_finished)" ""
    write two <<<"zwei"
    build --sandbox=off
    expect_ran reads
    expect_content build/reads $'uno\nzwei'
    expect_settled
    rm one
    build --sandbox=off
    expect_ran reads
    expect_content build/reads zwei
}

test_empty_large_and_executable_outputs_come_back_as_they_were() {
    write mbuild.lua <<'LUA'
command "empty" { cmd = ": > build/empty", outputs = { "build/empty" } }
command "hollow" { cmd = "mkdir -p build/hollow/in", outputs = { "build/hollow" } }
command "large" { cmd = "head -c 70000001 /dev/zero | tr '\\0' x > build/large", outputs = { "build/large" } }
command "tool" { cmd = "printf '#!/bin/sh\\necho works\\n' > build/tool; chmod +x build/tool", outputs = { "build/tool" } }
LUA
    build
    before=$(sha build/large)
    rm -r build
    build
    expect_nothing_ran
    expect_restored empty hollow large tool
    expect_same "$(stat -c %s build/empty)" 0
    [[ -d build/hollow/in ]] || fail "the empty folder is gone"
    expect_same "$(sha build/large)" "$before"
    expect_same "$(build/tool)" works
    expect_settled
}

test_a_sparse_output_of_five_gigabytes_works() {
    [[ -n ${MB_LARGE:-} ]] || skip "MB_LARGE is not set: it takes 10 GB of disk and a minute"
    write mbuild.lua <<<'command "huge" { cmd = "truncate -s 5G build/huge; echo end >> build/huge", outputs = { "build/huge" } }'
    build
    rm build/huge
    build
    expect_restored huge
    expect_same "$(tail -c 4 build/huge)" end
}

test_one_of_two_outputs_altered_brings_back_both_names() {
    write mbuild.lua <<'LUA'
local two = command "two" { cmd = "echo 1 > build/one; echo 2 > build/two", outputs = { a = "build/one", b = "build/two" } }
command "after" { cmd = { "cat", two.a, two.b }, stdout = "build/after" }
LUA
    build
    expect_content build/after $'1\n2'
    rm build/one
    echo other >build/two
    build
    expect_nothing_ran
    expect_restored two
    expect_content build/one 1
    expect_content build/two 2
    expect_settled
}

test_an_object_with_a_flipped_bit_is_named_dropped_and_made_again() {
    write mbuild.lua <<<'command "a" { cmd = "echo one > build/a", outputs = { "build/a" } } command "b" { cmd = "echo two > build/b", outputs = { "build/b" } }'
    build
    digest=$(sha build/a)
    object=.mbuild/store/${digest:0:2}/${digest:2}
    expect_file "$object"
    chmod u+w "$object"
    printf 'X' | dd of="$object" bs=1 count=1 conv=notrunc status=none
    rm build/a build/b
    run mbuild -v
    expect_ok
    cat "$out" "$err" | grep -q "${digest:0:12}" || fail "the damaged object wasn't named"
    expect_content build/a one
    expect_content build/b two
    expect_same "$(sha "$object")" "$digest"
    rm build/a
    build
    expect_restored a
    expect_settled
}

test_a_damaged_file_of_a_folder_in_the_store_makes_the_folder_again() {
    write mbuild.lua <<<'command "t" { cmd = "mkdir -p build/t; echo 1 > build/t/one; echo 2 > build/t/two", outputs = { "build/t" } }'
    build
    digest=$(sha build/t/two)
    object=.mbuild/store/${digest:0:2}/${digest:2}
    chmod u+w "$object"
    printf 'X' | dd of="$object" bs=1 count=1 conv=notrunc status=none # of the same size: only its bytes tell
    rm -r build/t
    build
    expect_ran t
    expect_content build/t/two 2
    expect_same "$(sha "$object")" "$digest"
    chmod u+w "$object"
    : >"$object"
    rm -r build/t
    build
    expect_ran t
    expect_content build/t/two 2
    expect_same "$(sha "$object")" "$digest"
}

test_an_edited_output_never_reaches_the_store() {
    write mbuild.lua <<<'command "a" { cmd = "echo good > build/a", outputs = { "build/a" } } command "b" { cmd = { "cat", "build/a" }, inputs = { "build/a" }, stdout = "build/b" }'
    build
    printf 'evil\n' | dd of=build/a conv=notrunc status=none
    build
    expect_content build/a good
    expect_content build/b good
    expect_nothing_ran
    rm build/a
    build
    expect_content build/a good
}

test_a_file_in_an_outputs_way_is_no_part_of_it() {
    write mbuild.lua <<<'command "a" { cmd = "echo one > build/a/b", outputs = { "build/a/b" } }'
    write build/a <<<"mine"
    try
    expect_fail 2 "build/a"
    expect_content build/a mine
    rm build/a
    build
    expect_content build/a/b one
}

test_clean_removes_outputs_those_of_removed_rules_and_nothing_else() {
    write mbuild.lua <<'LUA'
command "a" { cmd = "echo one > build/deep/a", outputs = { "build/deep/a" } }
command "t" { cmd = "mkdir build/t; echo 1 > build/t/x", outputs = { "build/t" } }
command "kept" { cmd = "echo kept > build/kept", outputs = { "build/kept" } }
LUA
    write build/own <<<"nobody's output"
    build
    change mbuild.lua 1,2d
    write build/t/own <<<"added by hand: no longer what was made"
    run mbuild clean -n
    expect_ok
    expect_printed "would remove build/deep/a" "would remove build/kept"
    expect_file build/deep/a build/kept
    run mbuild clean
    expect_ok
    expect_no_file build/deep build/kept
    expect_content build/own "nobody's output"
    expect_content build/t/own "added by hand: no longer what was made"
    build
    expect_nothing_ran
    expect_restored kept
    run mbuild clean kept
    expect_ok
    expect_no_file build/kept
}

run_tests "$@"
