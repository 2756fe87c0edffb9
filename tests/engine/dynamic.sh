#!/usr/bin/env bash
# Rules that are functions: they ask for artifacts while they run, and the build grows by what they ask for.
source "$(dirname "$0")/lib.sh"

# Three trials print numbers; "best" is a copy of the one with the least.
trials() {
    write numbers <<<$'5\n3\n4'
    write mbuild.lua <<'LUA'
step "best" {
  define = function()
    local trials = {}
    for i = 1, 3 do
      trials[i] = command("trial" .. i) { cmd = { "sed", "-n", i .. "p", "numbers" }, inputs = { "numbers" }, stdout = "build/trial" .. i }
    end
    local least, winner
    for i, result in ipairs(need(trials)) do
      local n = tonumber(result.read())
      if not least or n < least then least, winner = n, trials[i] end
    end
    return { plugin = "copy", inputs = { from = winner } }
  end,
}
command "after" { cmd = { "cat", "build/best" }, inputs = { "build/best" }, stdout = "build/after" }
LUA
}

test_a_function_asks_for_steps_that_it_declares_and_becomes_a_step() {
    trials
    build after
    expect_ran trial1 trial2 trial3 best after
    expect_content build/after 3
    build after
    expect_nothing_ran
    run mbuild after
    expect_printed "nothing to do"
}

test_what_came_of_a_step_decides_anew_when_it_changes() {
    trials
    build after
    write numbers <<<$'5\n3\n1'
    build after
    expect_ran trial1 trial2 trial3 best after
    expect_content build/after 1
    write numbers <<<$'5\n3\n4'
    build after
    expect_nothing_ran
    expect_content build/after 3
}

test_a_plan_goes_as_far_as_it_can_see() {
    trials
    run mbuild -n after
    expect_ok
    expect_printed "would run trial1" "perhaps run best" "perhaps run after"
    expect_no_file build
    build after
    run mbuild -q after
    expect_status 0
    run mbuild why best
    expect_ok
    run mbuild status
    expect_ok
}

test_functions_ask_in_turn_and_in_a_loop() {
    write mbuild.lua <<'LUA'
step "sum" { define = function()
  local sum = 0
  for i = 1, 5 do
    local r = need(command("n" .. i) { cmd = { "echo", tostring(i + sum) }, stdout = "build/n" .. i })
    sum = sum + tonumber(r.read())
  end
  return { plugin = "command", outputs = nil, params = { cmd = { "true" } }, inputs = {} }
end, outputs = { stdout = "build/sum" } }
LUA
    build sum
    expect_ran n1 n2 n3 n4 n5 sum
    expect_content build/n5 31
}

test_three_functions_deep() {
    write x <<<"1"
    write mbuild.lua <<'LUA'
local inner = step "inner" { define = function()
  need(command "a" { cmd = { "cat", file "x" }, stdout = "build/a" })
  return { plugin = "copy", inputs = { from = "build/a" } }
end }
local middle = step "middle" { define = function()
  assert(need(inner).read() == "1\n")
  return { plugin = "copy", inputs = { from = inner } }
end }
step "outer" { define = function()
  local i, m = need(inner, middle)
  return { plugin = "copy", inputs = { from = i.read() == m.read() and middle or inner } }
end }
LUA
    build outer
    expect_ran a inner
    expect_restored middle outer # copies of the same: once is enough
    expect_content build/outer 1
}

test_a_cycle_through_what_a_function_asks_for_is_shown() {
    write mbuild.lua <<'LUA'
local a
local b = step "b" { define = function() need(a); return { plugin = "copy", inputs = { from = a } } end }
a = command "a" { cmd = { "cat", b }, stdout = "build/a" }
LUA
    try
    expect_fail 2 "a cycle: " "b → a → b"
    write mbuild.lua <<'LUA'
local p, q
p = step "p" { define = function() need(q); return { plugin = "copy", inputs = { from = q } } end }
q = step "q" { define = function() need(p); return { plugin = "copy", inputs = { from = p } } end }
LUA
    try
    expect_fail 2 "a cycle: "
}

test_a_function_that_fails_half_way_fails_its_step_alone() {
    write mbuild.lua <<'LUA'
local a = command "a" { cmd = { "echo", "a" }, stdout = "build/a" }
local bad = step "bad" { define = function()
  need(a)
  error("that will not do")
end }
command "after" { cmd = { "cat", bad }, stdout = "build/after" }
command "other" { cmd = { "echo", "o" }, stdout = "build/other" }
LUA
    try -k
    expect_fail 2 "mbuild.lua:4" "that will not do"
    expect_failed bad
    expect_same "$(ended skipped)" "after"
    expect_file build/a build/other
}

test_a_failed_trial_skips_who_asked_for_it() {
    write mbuild.lua <<'LUA'
step "best" { define = function()
  need { command "good" { cmd = { "echo", "1" }, stdout = "build/good" }, command "bad" { cmd = { "false" }, stdout = "build/bad" } }
  return { plugin = "copy", inputs = { from = "build/good" } }
end }
LUA
    try -k best
    expect_fail 2
    expect_failed bad
    expect_same "$(ended skipped)" "best"
    expect_file build/good
}

test_a_function_must_return_what_the_step_is() {
    write mbuild.lua <<<'step "x" { define = function() return 3 end }'
    try
    expect_fail 2 'mbuild.lua:1' 'the definition of "x" must return a table' 'found number'
    write mbuild.lua <<<'step "x" { define = function() return { plugin = "copy", inputs = { from = "absent" } } end }'
    try
    expect_fail 2 'absent'
    write mbuild.lua <<<'step "x" { define = 3 }'
    try
    expect_fail 2 'mbuild.lua:1' 'a function expected, found a number'
    write mbuild.lua <<<'need("x")'
    try
    expect_fail 2 'mbuild.lua:1' 'define'
}

test_a_function_that_yields_by_itself_fails_its_step() {
    write mbuild.lua <<<'step "a" { define = function() coroutine.yield(1) return { plugin = "copy" } end }'
    try
    expect_fail 2 "mbuild.lua:1" '"a" yields' "need("
    write x <<<"x"
    write mbuild.lua <<<'step "a" { define = function() need {} need(file "x") return { plugin = "copy", inputs = { from = "x" } } end }'
    build
    expect_content build/a x
}

test_the_sources_of_a_defined_step_count() {
    write x <<<"one"
    write mbuild.lua <<'LUA'
step "a" { define = function() return { plugin = "copy", inputs = { from = "x" } } end }
command "b" { cmd = { "cat", "build/a" }, inputs = { "build/a" }, stdout = "build/b" }
LUA
    build
    expect_content build/b one
    build
    expect_nothing_ran
    write x <<<"two"
    build
    expect_ran a b
    expect_content build/b two
    write x <<<"one"
    build
    expect_nothing_ran
    expect_content build/b one
    rm x
    try
    expect_fail 2 "x doesn't exist"
    write x <<<"one"
    change mbuild.lua 's/plugin = "copy"/plugin = "copy", resources = { cpu = 3 }/'
    try -j2
    expect_fail 2 "cpu = 3"
}

test_a_function_that_asks_for_what_is_not_there_fails_its_step_alone() {
    write x <<<"x"
    write mbuild.lua <<'LUA'
step "a" { define = function() local c = copy "c" { from = "absent" } need(c) return { plugin = "copy", inputs = { from = c } } end }
copy "b" { from = "x" }
LUA
    try -k
    expect_fail 2 "absent doesn't exist"
    expect_failed a
    expect_content build/b x
    write mbuild.lua <<<'step "a" { define = function() need("no artifact") end }'
    try
    expect_fail 2 "mbuild.lua:1" "need: an artifact or a list of these expected"
}

test_a_pattern_that_never_ends_fails_its_step_alone() {
    [[ -z $MB_SANITIZERS ]] || skip "it takes ten seconds, and several times that under a sanitizer"
    write mbuild.lua <<'LUA'
step "a" { define = function()
    local hay = ("a"):rep(50)
    hay:find(("a?"):rep(50) .. ("a"):rep(51))
end, outputs = { to = "build/a" } }
step "b" { define = function() return { plugin = "copy", inputs = { from = "mbuild.lua" } } end, outputs = { to = "build/b" } }
command "c" { cmd = { "echo", "fine" }, stdout = "build/c" }
LUA
    try -k a b c
    expect_fail 2 "mbuild.lua:3: one call of string.find took more than 10 s of processor time and was ended"
    expect_content build/c fine
    grep -q '"step":"a".*"status":"failed"' "$out" || fail "step a didn't fail"
    change mbuild.lua 's/a?/b?/; s/("a"):rep(51))/"a")\n    return { plugin = "copy", inputs = { from = "mbuild.lua" } }/'
    build a b c
    expect_file build/a build/b
}

run_tests "$@"
