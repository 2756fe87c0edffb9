-- train.lua: train "teacher" { data = digits, model = cnn { … }, optimizer = adamw { … }, epochs = 30, … }
-- `data` is a dataset with parts train and val, or a table { train = …, val = … } of files. log = "path" keeps a line an epoch.
-- Models of tokens also take text = "column", max_length, and tokenizer = a path, bpe { … } or wordpiece { … }.

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

-- `tokenizer` is a path or an artifact, which becomes an input, or bpe { … } or wordpiece { … }, which stays among the parameters.
function tokenizer_input(taken, params)
  local given = taken.tokenizer
  if type(given) == "table" and not is_artifact(given) and given.kind then
    params.tokenizer = given
    return nil
  end
  return given
end

-- A column may stand alone: text = "review".
function text_columns(params)
  if type(params.text) == "string" then params.text = { params.text } end
  return params
end

train = rule("train", function(name, t)
  if t.model == nil then fail("train \"%s\": model is missing: mlp { … }, cnn { … }, encoder { … } or decoder { … }", name) end
  if is_artifact(t.model) then return finetune(name)(t) end
  local taken, params = split(t, { "data", "log", "tokenizer" })
  local inputs = training_inputs("train", name, taken.data)
  inputs.tokenizer = tokenizer_input(taken, params)
  local made = step(name)(with_common(taken, {
    plugin = "train",
    inputs = inputs,
    outputs = { model = "build/" .. name, log = taken.log },
    params = text_columns(params),
  }))
  return taken.log and made.model or made
end)
