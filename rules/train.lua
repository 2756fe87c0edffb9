-- train.lua: train "teacher" { data = digits, model = cnn { … }, optimizer = adamw { … }, epochs = 30, … }
-- `data` is a dataset with parts train and val, or a table { train = …, val = … } of files. log = "path" keeps a line an epoch.

-- The inputs train and val out of a rule's `data`; also what `distill` takes.
function training_inputs(kind, name, data)
  if data == nil then fail("%s \"%s\": data is missing: which dataset?", kind, name) end
  if is_artifact(data) then
    local parts = {}
    for _, role in ipairs(outputs_of(data)) do parts[role] = true end
    if parts.train then return { train = data.train, val = parts.val and data.val or nil } end
    return { train = data }
  end
  if type(data) ~= "table" then return { train = data } end
  if data.train == nil then fail("%s \"%s\": data has no part train", kind, name) end
  for key in pairs(data) do
    if key ~= "train" and key ~= "val" then fail("%s \"%s\": data: unknown part %s; there are train and val", kind, name, key) end
  end
  return { train = data.train, val = data.val }
end

train = rule("train", function(name, t)
  local taken, params = split(t, { "data", "log" })
  local made = step(name)(with_common(taken, {
    plugin = "train",
    inputs = training_inputs("train", name, taken.data),
    outputs = { model = "build/" .. name, log = taken.log },
    params = params,
  }))
  return taken.log and made.model or made
end)
