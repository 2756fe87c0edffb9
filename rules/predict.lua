-- predict.lua: predict "answers" { model = m, data = d.test }, or ids = "rows.json" in place of data
-- What the model says to each row: build/NAME.safetensors, or `to`; a name that ends in .json is written as JSON, .jsonl as lines of what it
-- means: the class, the value, the words' tags and the entities in them. A recommender gives each user of `data`,
-- or of `ids`, its k best items; with both, data says what the users have seen.

predict = rule("predict", function(name, t)
  local taken, params = split(t, { "model", "data", "ids", "to" })
  if taken.model == nil then fail("predict \"%s\": model is missing: which one?", name) end
  if taken.data == nil and taken.ids == nil then fail("predict \"%s\": either data or ids expected", name) end
  return step(name)(with_common(taken, {
    plugin = "predict",
    inputs = { model = taken.model, data = taken.data, ids = taken.ids },
    outputs = { outputs = taken.to or "build/" .. name .. ".safetensors" },
    params = params,
  }))
end)
