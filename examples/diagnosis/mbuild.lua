-- Wisconsin breast cancer: is a tumour malignant? One logit, binary cross-entropy. What a screening aid must not do is
-- to miss a malignant case, so the gate looks at that class's recall as well.

project { name = "diagnosis", version = "1.0.0" }

local cells = dataset "cells" {
  from = "data/breast_cancer.csv.gz",
  label = "diagnosis",
  clean = { duplicates = "drop", missing = "fail" },
  expect = { rows = { min = 500 }, classes = 2 },
  split = { train = 0.7, val = 0.15, test = 0.15, stratify = true, seed = 3 },
}

local model = train "classifier" {
  data = cells,
  model = mlp { hidden = { 32 }, dropout = 0.2 },
  optimizer = adamw { lr = 2e-3, weight_decay = 0.05 },
  epochs = 80, batch = 32, seed = 1,
  early_stop = { patience = 15 },
}

local scores = evaluate "scores" { model = model, data = cells.test }

local ok = gate "quality" { scores, accuracy = { min = 0.93 }, recall_macro = { min = 0.92 } }

local bundle = package "bundle" { model = model, card = "MODEL_CARD.md", scores = scores, format = "tar.zst" }

release { bundle, gates = { ok }, sign = "dev" }

default "release"
