#!/usr/bin/env bash
# make as parent and as child: processors are shared by tokens, and every token comes back.
source "$(dirname "$0")/lib.sh"

# Four steps that each tell how many run at once.
four() {
    mkdir -p run
    write mbuild.lua <<LUA
for i = 1, 4 do
  command("s" .. i) { cmd = "touch $PWD/run/" .. i .. "; ls $PWD/run | wc -l > build/s" .. i .. "; sleep 0.2; rm $PWD/run/" .. i, outputs = { "build/s" .. i } }
end
LUA
}

most_at_once() { cat build/s[1-4] | sort -n | tail -n 1; }

needs_make() { command -v make >/dev/null || skip "no make"; }

test_under_make_only_as_many_steps_run_as_it_has_tokens_for() {
    needs_make
    four
    write Makefile <<<$'all:\n\t+@mbuild -s --sandbox=off'
    run make -j2
    expect_ok
    (($(most_at_once) <= 2)) || fail "$(most_at_once) steps ran at once"
    rm -rf build .mbuild
    run make -j1
    expect_ok
    expect_same "$(most_at_once)" 1
}

test_tokens_come_back_after_a_kill() {
    needs_make
    four
    change mbuild.lua 's/sleep 0.2/sleep 5/'
    # The second recipe must get all of its three processors' tokens after the first one's mbuild was killed with some of them.
    write Makefile <<'MAKE'
all: second
first:
	+@mbuild -s --sandbox=off & sleep 0.7; kill -9 $$!; sleep 0.5; exit 0
second: first
	+@python3 -c 'import os,re,select; r,w=map(int,re.search(r"--jobserver-auth=(\d+),(\d+)",os.environ["MAKEFLAGS"]).groups()); n=0; exec("while select.select([r],[],[],0)[0]: os.read(r,1); n+=1"); os.write(w,b"+"*n); print("tokens", n)'
MAKE
    command -v python3 >/dev/null || skip "no python3"
    run make -j3
    expect_ok
    expect_printed "tokens 2"
}

test_a_make_that_a_step_runs_shares_what_mbuild_has() {
    needs_make
    write sub.mk <<'MAKE'
all: a b c d
a b c d:
	@touch run/$@; ls run | wc -l >>most; sleep 0.2; rm run/$@
MAKE
    write mbuild.lua <<LUA
command "sub" { cmd = "make -C $PWD -f sub.mk >build/out 2>&1", outputs = { "build/out" } }
LUA
    mkdir run
    build -j2 --sandbox=off
    expect_same "$(sort -n most | tail -n 1)" 2
    rm -rf most build .mbuild
    build -j1 --sandbox=off
    expect_same "$(sort -n most | tail -n 1)" 1
}

test_a_jobserver_that_is_not_there_is_passed_over() {
    four
    MAKEFLAGS=" -j8 --jobserver-auth=97,98" build --sandbox=off
    expect_ran s1 s2 s3 s4
    rm -rf build .mbuild
    MAKEFLAGS=" -j8 --jobserver-auth=fifo:/nonexistent" build --sandbox=off
    expect_ran s1 s2 s3 s4
}

test_what_make_is_told_to_do_holds_for_the_build_below_it() {
    needs_make
    write mbuild.lua <<'LUA'
command "bad" { cmd = { "false" }, stdout = "build/bad" }
command "good" { cmd = { "echo", "good" }, stdout = "build/good" }
alias "all" { "build/bad", "build/good" }
default "all"
LUA
    write Makefile <<<$'all:\n\t+@mbuild -j1 --json'
    run make -n
    expect_ok
    expect_no_file build
    expect_printed "would run good"
    run make -q
    expect_status 1 # stale
    expect_no_file build
    run make -k
    expect_fail 2
    expect_content build/good good
    rm -rf build .mbuild
    run make k=n q=1
    expect_fail 2
    expect_same "$(ended skipped)" good
}

test_without_tokens_makes_number_of_jobs_holds() {
    four
    MAKEFLAGS=" -j1" build --sandbox=off
    expect_same "$(most_at_once)" 1
    rm -rf build .mbuild
    MAKEFLAGS=" -j4" build --sandbox=off
    expect_same "$(most_at_once)" 4
}

run_tests "$@"
