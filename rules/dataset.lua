-- dataset "d" { from = "x.csv.gz", label = "y", clean, expect, split = { train = 0.8, val = 0.1, test = 0.1 }, … }: a table, images or text
-- as tensors. `from` is a path, a pattern, an artifact or a list of these. Parts: d.schema, and d.train, d.val, d.test as the split has
-- them, or d.all without a split.

local parts = { "train", "val", "test" }

dataset = rule("dataset", function(name, t)
  local taken, params = split(t, { "from" })
  if taken.from == nil then fail("dataset \"%s\": from is missing: which files are the source?", name) end
  if taken[1] ~= nil then fail("dataset \"%s\": an entry without a name; the source goes into from = …", name) end
  local outputs = { schema = "build/" .. name .. "/schema.json" }
  if type(params.split) == "table" then
    for _, part in ipairs(parts) do
      local share = params.split[part]
      if share ~= nil and share ~= 0 then outputs[part] = "build/" .. name .. "/" .. part .. ".safetensors" end
    end
  else
    outputs.all = "build/" .. name .. "/all.safetensors"
  end
  return step(name)(with_common(taken, { plugin = "dataset", inputs = { from = taken.from }, outputs = outputs, params = params }))
end)
