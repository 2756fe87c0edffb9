-- A small decoder that writes like a licence: a tokenizer, a language model, the same with weights of 4 bits, how surprised both are by text
-- that they haven't seen, and a sample.

project { name = "legalese", version = "1.0.0" }

local texts = dataset "texts" {
  from = "data/licences.jsonl.gz",
  text = { "text" },
  clean = { duplicates = "drop" },
  expect = { rows = { min = 500 } },
  split = { train = 0.9, val = 0.05, test = 0.05, seed = 5 },
}

local model = train "model" {
  data = texts,
  model = decoder { kind = "llama", layers = 2, heads = 4, groups = 2, hidden = 96, intermediate = 256, positions = 128 },
  tokenizer = bpe { vocabulary = 512 },
  optimizer = adamw { lr = option("lr", 3e-3) }, schedule = cosine { warmup = 0.5, final = 0.1 }, clip = 1,
  epochs = 10, batch = 16, seed = 1,
}

-- Rounded by what the training texts show of each layer's inputs (GPTQ).
local small = quantize "small" { model = model, scheme = "int4", group = 32, calibrate = texts.train, report = "build/small.json" }

local scores = evaluate "scores" { model = small, baseline = model, data = texts.test }

local ok = gate "quality" { scores, perplexity = { max = 25 }, rise = { perplexity = { max = 0.8 } } }

local sample = generate "sample" {
  model = small, prompts = { "You may", "This License", "The program" },
  tokens = 60, temperature = option("temperature", 0.7), top_k = 40, seed = 1,
}

local bundle = package "bundle" { model = small, card = "MODEL_CARD.md", scores = scores, files = { sample }, format = "tar.zst" }

release { bundle, gates = { ok }, sign = "dev" }

default "release"
