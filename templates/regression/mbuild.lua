-- A table of rows with a number each: cleaned, split, learned, judged, packed, signed. Put your own table in place of
-- data/diabetes.csv, say in `label` which column is the number, and raise the gate's threshold to what you need.

project { name = "progression", version = "1.0.0" }

local patients = dataset "patients" {
  from = "data/diabetes.csv", label = "target", task = "regression",
  clean = { duplicates = "drop", missing = "drop" },
  expect = { rows = { min = 400 } },
  split = { train = 0.7, val = 0.15, test = 0.15, seed = 1 },
}

local model = train "model" {
  data = patients,
  model = linear {},                                    -- or mlp { hidden = { 16 } }
  optimizer = adamw { lr = option("lr", 1e-2) },        -- `mbuild lr=3e-3` tries another
  epochs = 200, batch = 32, seed = 1,
  early_stop = { patience = 30 },
}

local scores = evaluate "scores" { model = model, data = patients.test }

local good = gate "quality" { scores, r2 = { min = 0.25 } }

local bundle = package "bundle" { model = model, card = "MODEL_CARD.md", scores = scores }

release { bundle, gates = { good }, sign = "dev" }

default "release"
