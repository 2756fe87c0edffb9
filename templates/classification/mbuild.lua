-- A table of rows with a class each: cleaned, split, learned, judged, packed, signed. Put your own table in place of
-- data/iris.csv, say in `label` which column is the class, and raise the gate's threshold to what you need.

project { name = "flowers", version = "1.0.0" }

local flowers = dataset "flowers" {
  from = "data/iris.csv", label = "species",
  clean = { duplicates = "drop", missing = "drop" },
  expect = { rows = { min = 100 }, classes = 3 },
  split = { train = 0.6, val = 0.2, test = 0.2, stratify = true, seed = 1 },
}

local model = train "model" {
  data = flowers,
  model = mlp { hidden = { 16 } },
  optimizer = adamw { lr = option("lr", 1e-2) },       -- `mbuild lr=3e-3` tries another
  epochs = 100, batch = 16, seed = 1,
  early_stop = { patience = 20 },
}

local scores = evaluate "scores" { model = model, data = flowers.test }

local good = gate "quality" { scores, accuracy = { min = 0.9 } }

local bundle = package "bundle" { model = model, card = "MODEL_CARD.md", scores = scores }

release { bundle, gates = { good }, sign = "dev" }

default "release"
