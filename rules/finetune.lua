-- finetune.lua: finetune "m" { model = pretrained, data = reviews, epochs = 3, … }
-- `model` is a model of tokens that was trained before, or hf "folder". It keeps its tokenizer; if the data have a label, the model gets a
-- head for it.

finetune = rule("finetune", function(name, t)
  local taken, params = split(t, { "data", "log", "model" })
  if taken.model == nil then fail("finetune \"%s\": model is missing: which one to start from?", name) end
  if type(taken.model) == "table" and not is_artifact(taken.model) and taken.model.kind then
    fail("finetune \"%s\": model: a trained model or hf \"folder\" expected; a new %s is what `train` starts from", name, taken.model.kind)
  end
  local inputs = training_inputs("finetune", name, taken.data)
  inputs.base = taken.model
  local made = step(name)(with_common(taken, {
    plugin = "finetune",
    inputs = inputs,
    outputs = { model = "build/" .. name, log = taken.log },
    params = text_columns(params),
  }))
  return taken.log and made.model or made
end)
