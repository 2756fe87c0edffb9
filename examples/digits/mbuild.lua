-- Handwritten digits, end to end: a teacher is trained, a student learns from it and is made small, both are judged on
-- images that neither has seen, and what passes is packed, signed and recorded as a release.

project { name = "digits", version = "1.0.0" }

local digits = dataset "digits" {
  from = "data/optdigits.csv.gz",
  label = "label",
  shape = { 8, 8, 1 },
  clean = { duplicates = "drop", missing = "drop" },
  expect = { rows = { min = 1500 }, classes = 10, range = { 0, 16 } },
  split = { train = 0.8, val = 0.1, test = 0.1, stratify = true, seed = 7 },
}

local teacher = train "teacher" {
  data = digits,
  model = cnn { channels = { 32, 64 }, hidden = { 128 } },
  optimizer = adamw { lr = 1e-3, weight_decay = 0.01 },
  epochs = 30, batch = 64, seed = 1,
}

local student = distill "student" {
  teacher = teacher, data = digits,
  model = mlp { hidden = { 32 } },
  temperature = option("temperature", 4), alpha = 0.7,
  optimizer = adamw { lr = 3e-3 }, epochs = 100,
}

local small = quantize "student-int8" { model = student, scheme = "int8", calibrate = digits.val }

local scores = evaluate "scores" { model = small, baseline = teacher, data = digits.test }

local ok = gate "quality" { scores, accuracy = { min = 0.95 }, drop = { accuracy = { max = 0.02 } } }

local bundle = package "bundle" { model = small, card = "MODEL_CARD.md", scores = scores, format = "tar.zst" }

release { bundle, gates = { ok }, sign = "dev" }

default "release"
