-- quantize.lua: quantize "student-int8" { model = student, scheme = "int8", calibrate = digits.val }
-- quantize "small" { model = writer, scheme = "int4", group = 64 }: models of tokens need no data. report = "path" keeps what became of each layer.

quantize = rule("quantize", function(name, t)
  local taken, params = split(t, { "model", "calibrate", "report" })
  if taken.model == nil then fail("quantize \"%s\": model is missing: which one?", name) end
  if type(params.keep) == "string" then params.keep = { params.keep } end
  local made = step(name)(with_common(taken, {
    plugin = "quantize",
    inputs = { source = taken.model, calibrate = taken.calibrate },
    outputs = { model = "build/" .. name, report = taken.report },
    params = params,
  }))
  return taken.report and made.model or made
end)
