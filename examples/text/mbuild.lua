-- Which licence is this passage from? An encoder learns it from the licences' own words, and from nothing else: its tokenizer too.

project { name = "licences", version = "1.0.0" }

local licences = dataset "licences" {
  from = "data/licences.csv.gz",
  label = "licence", text = { "passage" },
  clean = { duplicates = "drop", missing = "drop" },
  expect = { rows = { min = 700 }, classes = 7 },
  split = { train = 0.8, val = 0.1, test = 0.1, stratify = true, seed = 11 },
}

local model = train "model" {
  data = licences,
  model = encoder { layers = 2, heads = 4, hidden = 64, intermediate = 128, positions = 192, dropout = 0.2 },
  tokenizer = wordpiece { vocabulary = 4000 },
  optimizer = adamw { lr = option("lr", 1e-3) }, schedule = linear_decay { warmup = 1 }, clip = 1, label_smoothing = 0.1,
  epochs = 20, batch = 16, seed = 1,
}

local small = quantize "small" { model = model, scheme = "int8", calibrate = licences.val }

local scores = evaluate "scores" { model = small, baseline = model, data = licences.test }

local ok = gate "quality" { scores, accuracy = { min = 0.55 }, drop = { accuracy = { max = 0.03 } } }

local bundle = package "bundle" { model = small, card = "MODEL_CARD.md", scores = scores, format = "tar.zst" }

release { bundle, gates = { ok }, sign = "dev" }

default "release"
