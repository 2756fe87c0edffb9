-- gate "quality" { scores, accuracy = { min = 0.95 }, ["per_class.3.recall"] = { min = 0.9 }, drop = { accuracy = { max = 0.02 } },
-- rise = { mse = { max = 1 } } }: a report if all figures are good enough; otherwise its step fails, and so what depends on it isn't made.

gate = rule("gate", function(name, t)
  local taken, thresholds = split(t, { "drop", "rise", "to" })
  local scores = {}
  for i, x in ipairs(taken) do scores[i] = x end
  if #scores == 0 then fail("gate \"%s\": which scores? gate \"%s\" { scores, accuracy = { min = … } }", name, name) end
  for figure, limits in pairs(thresholds) do
    if type(limits) ~= "table" then fail("gate \"%s\": %s: { min = …, max = … } expected, or one of these", name, figure) end
  end
  local params = { thresholds = thresholds, drop = taken.drop, rise = taken.rise }
  local outputs = { report = taken.to or "build/" .. name .. ".json" }
  return step(name)(with_common(taken, { plugin = "gate", inputs = { scores = scores }, outputs = outputs, params = params }))
end)
