-- quantize.lua: quantize "student-int8" { model = student, scheme = "int8", calibrate = digits.val }

quantize = rule("quantize", function(name, t)
  local taken, params = split(t, { "model", "calibrate" })
  if taken.model == nil then fail("quantize \"%s\": model is missing: which one?", name) end
  if taken.calibrate == nil then fail("quantize \"%s\": calibrate is missing: a part of the data, such as digits.val", name) end
  return step(name)(with_common(taken, {
    plugin = "quantize",
    inputs = { source = taken.model, calibrate = taken.calibrate },
    outputs = { model = "build/" .. name },
    params = params,
  }))
end)
