-- evaluate.lua: evaluate "scores" { model = small, baseline = teacher, data = digits.test }
-- performance = "path" also writes what was measured: latency and memory, which differ from run to run.

evaluate = rule("evaluate", function(name, t)
  local taken, params = split(t, { "model", "baseline", "data", "performance" })
  if taken.model == nil then fail("evaluate \"%s\": model is missing: which one?", name) end
  if taken.data == nil then fail("evaluate \"%s\": data is missing: a part that the model hasn't seen, such as digits.test", name) end
  if math.type(params.k) == "integer" then params.k = { params.k } end
  local made = step(name)(with_common(taken, {
    plugin = "evaluate",
    inputs = { model = taken.model, baseline = taken.baseline, data = taken.data },
    outputs = { metrics = "build/" .. name .. ".json", performance = taken.performance },
    params = params,
  }))
  return taken.performance and made.metrics or made
end)
