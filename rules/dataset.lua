-- dataset "d" { from = "x.csv.gz", label = "y", clean, expect, split = { train = 0.8, val = 0.1, test = 0.1 }, … }: a table, images or text
-- as tensors. `from` is a path, a pattern, an artifact or a list of these. Parts: d.schema, and d.train, d.val, d.test as the split has
-- them, or d.all without a split.
-- dataset "d" { from = "ratings.csv", user = "user", item = "item", rating, time, users = "users.csv", items = { from = "items.csv",
-- id = "item" }, split = { by = "last", val = 1, test = 1 } or shares }: who took what,
-- for recommenders. `user` and `item` make it such a dataset.

local parts = { "train", "val", "test" }

-- What the split makes: names of parts, with their paths.
local function part_outputs(name, made)
  local outputs = { schema = "build/" .. name .. "/schema.json" }
  for _, part in ipairs(made) do outputs[part] = "build/" .. name .. "/" .. part .. ".safetensors" end
  return outputs
end

local function parts_of(division)
  local made = {}
  if type(division) ~= "table" then return { "all" } end
  for _, part in ipairs(parts) do
    local share = division[part]
    if share ~= nil and share ~= 0 or part == "train" and division.by == "last" then made[#made + 1] = part end
  end
  return made
end

-- A table of features: a path or an artifact, or { from = …, id, ignore, category, unknown, missing }.
local function features_table(params, side)
  local given = params[side]
  if given == nil then return nil end
  if type(given) ~= "table" or is_artifact(given) then
    params[side] = nil
    return given
  end
  local source, options = split(given, { "from" })
  if source.from == nil then fail("%s: from is missing: which file is the table?", side) end
  params[side] = options
  return source.from
end

local function interactions(name, taken, params)
  local inputs = { from = taken.from, users = features_table(params, "users"), items = features_table(params, "items") }
  return step(name)(with_common(taken, {
    plugin = "dataset.interactions",
    inputs = inputs,
    outputs = part_outputs(name, parts_of(params.split)),
    params = params,
  }))
end

dataset = rule("dataset", function(name, t)
  local taken, params = split(t, { "from" })
  if taken.from == nil then fail("dataset \"%s\": from is missing: which files are the source?", name) end
  if taken[1] ~= nil then fail("dataset \"%s\": an entry without a name; the source goes into from = …", name) end
  if params.user ~= nil or params.item ~= nil then return interactions(name, taken, params) end
  return step(name)(with_common(taken, {
    plugin = "dataset",
    inputs = { from = taken.from },
    outputs = part_outputs(name, parts_of(params.split)),
    params = params,
  }))
end)
