-- models.lua: what a model is made of, for `train` and `distill`: mlp { hidden = { 32 } }. Each checks its fields' names; the
-- plugin checks their values.

mlp = constructor("mlp", { "hidden", "activation", "dropout" })
cnn = constructor("cnn", { "channels", "kernel", "pool", "hidden", "activation", "dropout" })

-- Linear regression, and logistic regression: an mlp with no hidden layer.
function linear(t)
  constructor("linear", {})(t)
  return { kind = "mlp", hidden = {} }
end
logistic = linear

-- Recommenders, of datasets with user = and item =. matrix_factorization { factors = 64, loss = "bpr" }: a vector and a bias for each user
-- and item.
matrix_factorization = constructor("matrix_factorization",
  { "factors", "bias", "loss", "negatives", "temperature", "log_q", "deviation" })

-- two_towers { embedding = 64, hidden = { 128 }, factors = 64 }: users and items by ids and features, through layers, to a vector each.
two_towers = constructor("two_towers", { "embedding", "hidden", "factors", "activation", "dropout", "normalize", "loss", "negatives",
  "temperature", "log_q", "id_dropout" })

-- Models of tokens. The plugin knows their fields by the names that the folder's config.json has; here they have one name each, whatever
-- the family. `hidden` is a token's width, `intermediate` the width between a layer's two products, `positions` the longest row.
local names = {
  bert = {
    layers = "num_hidden_layers", heads = "num_attention_heads", hidden = "hidden_size", intermediate = "intermediate_size",
    positions = "max_position_embeddings", vocabulary = "vocab_size", activation = "hidden_act", problem = "problem",
    dropout = { "hidden_dropout_prob", "attention_probs_dropout_prob" },
  },
  distilbert = {
    layers = "n_layers", heads = "n_heads", hidden = "dim", intermediate = "hidden_dim", positions = "max_position_embeddings",
    vocabulary = "vocab_size", activation = "activation", problem = "problem", dropout = { "dropout", "attention_dropout" },
  },
  gpt2 = {
    layers = "n_layer", heads = "n_head", hidden = "n_embd", intermediate = "n_inner", positions = "n_positions", vocabulary = "vocab_size",
    activation = "activation_function", problem = "problem", dropout = { "resid_pdrop", "embd_pdrop", "attn_pdrop" },
  },
  llama = {
    layers = "num_hidden_layers", heads = "num_attention_heads", groups = "num_key_value_heads", hidden = "hidden_size",
    intermediate = "intermediate_size", positions = "max_position_embeddings", vocabulary = "vocab_size", activation = "hidden_act",
    problem = "problem", dropout = { "attention_dropout" },
  },
}

names.roberta = names.bert
names.mistral = names.llama
names.qwen2 = names.llama

local function keys(t, ...)
  local list = { ... }
  for key in pairs(t) do list[#list + 1] = key end
  return list
end

local function tokens_model(what, family, t)
  local made = { kind = family }
  for key, value in pairs(t) do
    if key ~= "kind" then
      local theirs = names[family][key]
      for _, name in ipairs(type(theirs) == "table" and theirs or { theirs }) do made[name] = value end
    end
  end
  local hidden, heads = t.hidden, t.heads
  if math.type(hidden) == "integer" and math.type(heads) == "integer" and heads > 0 and hidden % heads ~= 0 then
    fail("%s: hidden = %d can't be shared by %d heads", what, hidden, heads)
  end
  return made
end

-- encoder { layers = 2, heads = 4, hidden = 128, intermediate = 512, positions = 128, dropout = 0.1 }: BERT, unless kind = "distilbert" or
-- "roberta".
function encoder(t)
  t = t or {}
  local family = type(t) == "table" and t.kind or "bert"
  if family ~= "bert" and family ~= "distilbert" and family ~= "roberta" then
    fail('encoder: kind is %s; "bert", "distilbert" or "roberta" expected',
      type(family) == "string" and '"' .. family .. '"' or type(family))
  end
  local given = constructor("encoder", keys(names[family], "kind"))(t)
  return tokens_model("encoder", family, given)
end

-- decoder { kind = "gpt2", … } or decoder { kind = "llama", groups = 2, … }; gpt2 if not said.
function decoder(t)
  t = t or {}
  local family = type(t) == "table" and t.kind or "gpt2"
  if family ~= "gpt2" and family ~= "llama" and family ~= "mistral" and family ~= "qwen2" then
    fail('decoder: kind is %s; "gpt2", "llama", "mistral" or "qwen2" expected',
      type(family) == "string" and '"' .. family .. '"' or type(family))
  end
  local given = constructor("decoder", keys(names[family], "kind"))(t)
  return tokens_model("decoder", family, given)
end

-- hf "models/bert-tiny": a folder in Hugging Face's layout, wherever a trained model can be given: finetune { model = hf "…" }.
function hf(folder)
  if type(folder) ~= "string" then fail("hf: a folder expected, found a %s", type(folder)) end
  return file(folder)
end

-- How to learn a tokenizer from the training part: train { tokenizer = bpe { vocabulary = 2000 } }.
bpe = constructor("bpe", { "vocabulary", "least_count" })
wordpiece = constructor("wordpiece", { "vocabulary", "least_count", "lowercase" })
