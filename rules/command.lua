-- command "a" { cmd = { "sort", x }, stdout = "build/a", stdin, dir, inputs = { … }, outputs = { … } }: any program as a step. `cmd` is
-- a list (artifacts in it become their paths, and inputs) or a string for the shell. Where it names an output, the program gets the
-- private path that the output is made at.

local known = { "cmd", "stdout", "stdin", "dir", "inputs", "outputs" }

-- Adds what `x` holds, artifacts and paths at any depth, to the list; files that are in it already are passed over.
local function add_inputs(list, seen, x)
  if type(x) == "table" then
    for _, value in pairs(x) do add_inputs(list, seen, value) end
    return
  end
  local key = is_artifact(x) and tostring(x) or x
  if key ~= nil and not seen[key] then
    seen[key] = true
    list[#list + 1] = x
  end
end

-- The list's entries as words; artifacts go to the inputs as well.
local function add_words(name, words, inputs, seen, list, up)
  for _, x in ipairs(list) do
    if is_artifact(x) then
      words[#words + 1] = up .. path_of(x)
      add_inputs(inputs, seen, x)
    elseif type(x) == "table" then
      add_words(name, words, inputs, seen, x, up)
    elseif type(x) == "string" or type(x) == "number" or type(x) == "boolean" then
      words[#words + 1] = tostring(x)
    else
      fail("command \"%s\": cmd: a %s can't be an argument; strings, numbers and artifacts can", name, type(x))
    end
  end
end

command = rule("command", function(name, t)
  local taken, params = split(t, known)
  if taken[1] ~= nil then
    fail("command \"%s\": an entry without a name; inputs go into inputs = { … }, the program into cmd = { … }", name)
  end
  local inputs, seen, up = {}, {}, ""
  add_inputs(inputs, seen, taken.inputs)
  if type(taken.dir) == "string" then up = string.rep("../", select(2, taken.dir:gsub("[^/]+", ""))) end
  if type(taken.cmd) == "table" and not is_artifact(taken.cmd) then
    params.cmd = {}
    add_words(name, params.cmd, inputs, seen, taken.cmd, up)
    if #params.cmd == 0 then fail("command \"%s\": cmd is empty: the program's name comes first", name) end
  elseif type(taken.cmd) == "string" then
    params.cmd = taken.cmd
  else
    fail("command \"%s\": cmd: a list, or a string for the shell, expected; found a %s", name, type(taken.cmd))
  end
  params.dir = taken.dir
  local outputs = taken.outputs
  if taken.stdout ~= nil then
    outputs = {}
    if type(taken.outputs) == "table" then
      for key, value in pairs(taken.outputs) do outputs[key] = value end
    else
      outputs[1] = taken.outputs
    end
    outputs.stdout = taken.stdout
  end
  local roles = { inputs = inputs, stdin = taken.stdin }
  return step(name)(with_common(taken, { plugin = "command", inputs = roles, outputs = outputs, params = params }))
end)
