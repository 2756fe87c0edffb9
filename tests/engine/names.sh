#!/usr/bin/env bash
# Paths of every kind, and places where nothing may be written.
source "$(dirname "$0")/lib.sh"

# A path of N bytes below FOLDER, with parts of at most 200.
long_path() {
    local p=$1 part
    part=$(printf 'x%.0s' {1..200})
    while ((${#p} + 202 <= $2)); do p=$p/$part; done
    while ((${#p} < $2)); do
        if ((${#p} + 2 > $2)); then p=${p}y; else p=$p/$(head -c $(($2 - ${#p} - 1)) <<<"$part"); fi
    done
    echo "$p"
}

test_a_path_of_four_thousand_bytes_works() {
    local root from to
    root=$PWD
    ((${#root} < 60)) || skip "the folder of this test has too long a name"
    from=$(long_path in 3900) to=$(long_path build 3900)
    mkdir -p "${from%/*}"
    echo deep >"$from"
    write mbuild.lua <<LUA
copy "deep" { from = "$from", to = "$to" }
command "count" { cmd = { "wc", "-c", "$to" }, inputs = { "$to" }, stdout = "build/count" }
LUA
    build
    expect_content "$to" deep
    build
    expect_nothing_ran
    rm "$to"
    build
    expect_restored deep
    expect_content "$to" deep
}

test_a_path_beyond_four_thousand_bytes_is_refused_with_its_line() {
    write mbuild.lua <<LUA
copy "deep" {
  from = "$(long_path in 4100)" }
LUA
    try
    expect_fail 2 "mbuild.lua:" "has 4100 bytes"
    write mbuild.lua <<<'copy(string.rep("n", 5000)) { from = "x" }'
    try
    expect_fail 2 "mbuild.lua:1" "a name of 1 to"
}

test_a_part_of_a_name_that_no_file_system_takes_is_told() {
    write x <<<"x"
    write mbuild.lua <<<'copy "a" { from = "x", to = "build/" .. string.rep("n", 300) }'
    try
    expect_fail 2 "File name too long"
    write mbuild.lua <<<'copy "a" { from = string.rep("n", 300) }'
    try
    expect_fail 2 "mbuild.lua:1" "cannot look at nnnn" "File name too long"
}

# Names that shells, makefiles, JSON and terminals trip over, as file, folder, output, step and target.
test_odd_names_work_everywhere() {
    local names=("two words" $'new\nline' 'quo"te' "apo'strophe" 'back\slash' '$dollar' 'star*' '-dash' '#hash' 'ünïcödé 漢字' $'tab\t' 'semi;colon' '%percent' '~tilde')
    local i
    {
        for i in "${!names[@]}"; do
            write "in/$i/${names[i]}" <<<"content $i"
            printf 'local copied = copy(%s) { from = "in/%d", to = %s }\n' "$(lua_string "step ${names[i]}")" "$i" "$(lua_string "build/d ${names[i]}")"
            printf 'command(%s) { cmd = { "cat", %s }, inputs = { copied }, stdout = %s }\n' "$(lua_string "cat ${names[i]}")" \
                "$(lua_string "build/d ${names[i]}/${names[i]}")" "$(lua_string "build/f ${names[i]}")"
        done
    } >rules
    mv rules mbuild.lua
    build
    for i in "${!names[@]}"; do expect_content "build/f ${names[i]}" "content $i"; done
    build
    expect_nothing_ran
    for i in "${!names[@]}"; do
        rm "build/f ${names[i]}"
        build "cat ${names[i]}"
        expect_content "build/f ${names[i]}" "content $i"
        echo changed >"in/$i/${names[i]}"
        build "build/f ${names[i]}"
        expect_content "build/f ${names[i]}" changed
        run mbuild why "cat ${names[i]}"
        expect_ok
    done
    run mbuild graph --json
    expect_ok
    if command -v python3 >/dev/null; then python3 -m json.tool <"$out" >parsed || fail "the graph is no JSON"; fi
    run mbuild graph --dot
    expect_ok
    run mbuild clean
    expect_ok
    expect_no_file build
}
lua_string() {
    local s=$1
    s=${s//\\/\\\\} s=${s//\"/\\\"} s=${s//$'\n'/\\n}
    printf '"%s"' "$s"
}

test_names_that_could_not_be_told_from_options_are_refused() {
    write x <<<"x"
    write mbuild.lua <<<'copy "-k" { from = "x" }'
    try
    expect_fail 2 "mbuild.lua:1" "can't be a name"
    write mbuild.lua <<<'copy "a=b" { from = "x" }'
    try
    expect_fail 2 "mbuild.lua:1" "can't be a name"
    write mbuild.lua <<<'copy "" { from = "x" }'
    try
    expect_fail 2 "mbuild.lua:1"
    write mbuild.lua <<<'copy "a\0b" { from = "x" }'
    try
    expect_fail 2 "mbuild.lua:1"
    write mbuild.lua <<<'copy "a" { from = "x\0y" }'
    try
    expect_fail 2 "mbuild.lua:1"
}

test_bytes_that_are_no_utf8_are_a_name_like_any_other() {
    local name
    name=$'odd\xff\xfe'
    write "in/$name" <<<"odd" || skip "the file system takes no such name"
    write mbuild.lua <<<'copy "c" { from = "in/odd\xff\xfe", to = "build/odd\xff" } copy "g" { from = glob("in/*")[1] }'
    build
    expect_content $'build/odd\xff' odd
    expect_content build/g odd
    build
    expect_nothing_ran
}

# A repo that may only be read: questions are answered, a build with nothing to do says so, one with work fails and says where.
read_only_repo() {
    write x <<<"x"
    write mbuild.lua <<<'copy "a" { from = "x" }'
    build
    sleep 0.05
    build
    build
}
questions_are_answered() {
    run mbuild -n
    expect_ok
    run mbuild -q
    expect_status 0
    local q
    for q in targets status "why a" "graph --dot" "show a" log; do expect_ok mbuild $q; done
    run mbuild
    [[ $status == 0 ]] || fail "a build with nothing to do failed"
    expect_printed "nothing to do"
}

test_in_a_repo_that_may_only_be_read_questions_are_answered() {
    [[ $(id -u) != 0 ]] || skip "root may write everywhere"
    read_only_repo
    chmod -R a-w .
    questions_are_answered
    run mbuild -B
    expect_fail 2 "Permission denied"
    chmod -R u+w .
    build
    expect_nothing_ran
}

test_on_a_file_system_that_is_mounted_read_only_questions_are_answered() {
    mkdir ro
    mount -t tmpfs -o size=4m tmpfs ro 2>/dev/null || skip "mounting a file system takes more rights"
    trap 'umount -l "$PWD"/ro 2>/dev/null || umount -l ../ro' EXIT
    cd ro
    read_only_repo
    mount -o remount,ro . 2>/dev/null || skip "remounting is refused"
    questions_are_answered
    run mbuild -B
    expect_fail 2 "Read-only file system"
    mount -o remount,rw .
    build
    expect_nothing_ran
    cd ..
}

test_a_repo_below_a_folder_with_odd_names_works() {
    mkdir -p $'a b\n"c"/ü'
    cd $'a b\n"c"/ü'
    write x <<<"x"
    write mbuild.lua <<<'copy "a" { from = "x" } command "b" { cmd = "cat build/a > build/b", inputs = { "build/a" }, outputs = { "build/b" } }'
    build
    expect_content build/b x
    build
    expect_nothing_ran
    cd ../..
    build -C $'a b\n"c"/ü'
    expect_nothing_ran
}

run_tests "$@"
