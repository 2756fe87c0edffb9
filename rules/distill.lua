-- distill.lua: distill "student" { teacher = teacher, data = digits, model = mlp { … }, temperature = 4, alpha = 0.7, … }

distill = rule("distill", function(name, t)
  local taken, params = split(t, { "teacher", "data", "log", "tokenizer" })
  if taken.teacher == nil then fail("distill \"%s\": teacher is missing: which model to learn from?", name) end
  local inputs = training_inputs("distill", name, taken.data)
  inputs.teacher = taken.teacher
  inputs.tokenizer = tokenizer_input(taken, params)
  local made = step(name)(with_common(taken, {
    plugin = "distill",
    inputs = inputs,
    outputs = { model = "build/" .. name, log = taken.log },
    params = text_columns(params),
  }))
  return taken.log and made.model or made
end)
