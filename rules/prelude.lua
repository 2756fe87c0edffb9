-- prelude.lua: what the other files of the library are written with. Nothing here is out of a user's reach: a rule
-- file of your own may use all of it.

-- Fields that every step takes, whatever it makes.
local common = { "resources", "timeout", "retries", "env", "network" }

local function contains(list, word)
  for _, w in ipairs(list) do
    if w == word then return true end
  end
  return false
end

-- A function that is called as `kind "name" { … }`, or as `kind { … }`, where the name is `default`.
function rule(default, make)
  return function(first)
    if type(first) == "string" then
      return function(t)
        if type(t) ~= "table" then fail("%s \"%s\": a table expected after the name, found a %s", default, first, type(t)) end
        return make(first, t)
      end
    end
    if type(first) ~= "table" then fail("%s: a name or a table expected, found a %s", default, type(first)) end
    return make(default, first)
  end
end

-- Parts the fields of `t`: those named in `names` and the common ones go to the first table, all others to
-- the second, from where they become parameters that the plugin's schema checks. The list part of `t` goes to the first.
function split(t, names)
  local taken, rest = {}, {}
  for key, value in pairs(t) do
    if type(key) == "number" or contains(names, key) or contains(common, key) then
      taken[key] = value
    else
      rest[key] = value
    end
  end
  return taken, rest
end

-- The step's fields that `split` took along.
function with_common(taken, fields)
  for _, name in ipairs(common) do
    if fields[name] == nil then fields[name] = taken[name] end
  end
  return fields
end

-- A function that checks a table's field names and marks it with its kind: mlp { hidden = { 32 } }
-- becomes { kind = "mlp", hidden = { 32 } }.
function constructor(kind, known)
  return function(t)
    t = t or {}
    if type(t) ~= "table" or is_artifact(t) then fail("%s: a table expected", kind) end
    local made = { kind = kind }
    for key, value in pairs(t) do
      if type(key) ~= "string" then fail("%s: a field without a name", kind) end
      if not contains(known, key) then
        local near = nearest(key, known)
        if near then fail("%s: unknown field %s; did you mean \"%s\"?", kind, key, near) end
        fail("%s: unknown field %s; there are %s", kind, key, table.concat(known, ", "))
      end
      made[key] = value
    end
    return made
  end
end
