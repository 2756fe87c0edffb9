-- generate.lua: generate "sample" { model = m, prompts = { "Once" }, tokens = 100, temperature = 0.8, top_k = 40, seed = 1 }
-- A text with what a decoder writes behind each prompt: build/NAME.txt, or `to`. `from` names a file with a prompt a line.

generate = rule("generate", function(name, t)
  local taken, params = split(t, { "model", "from", "to" })
  if taken.model == nil then fail("generate \"%s\": model is missing: which one?", name) end
  if type(params.prompts) == "string" then params.prompts = { params.prompts } end
  return step(name)(with_common(taken, {
    plugin = "generate",
    inputs = { model = taken.model, prompts = taken.from },
    outputs = { text = taken.to or "build/" .. name .. ".txt" },
    params = params,
  }))
end)
