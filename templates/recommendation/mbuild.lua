-- Who took what, and what to recommend next: learned from ids alone, judged by ranking everything a user hasn't seen, packed, signed. Put your
-- own interactions in place of data/ratings.csv, name its columns in `user` and `item`, and raise the gate's threshold to what you need. With
-- a column `time`, split = { by = "last", val = 1, test = 1 } holds back what each user took last; tables of users and items go into
-- `users` and `items`, for two_towers { … }.

project { name = "tastes", version = "1.0.0" }

local visits = dataset "visits" {
  from = "data/ratings.csv", user = "user", item = "restaurant",
  split = { train = 0.7, val = 0.1, test = 0.2, seed = 3 },
}

local model = train "model" {
  data = visits,
  model = matrix_factorization { factors = 16, loss = "bpr", negatives = 4 },
  optimizer = adamw { lr = option("lr", 1e-2), weight_decay = 0.5 }, -- `mbuild lr=3e-3` tries another
  epochs = 100, batch = 64, seed = 1,
  early_stop = { metric = "val_ndcg", patience = 15 },
}

local scores = evaluate "scores" { model = model, data = visits.test, k = { 5, 10 } }

-- Better than recommending to everybody what most take, by a tenth at least.
local good = gate "quality" { scores, drop = { ["recall@10"] = { max = -0.1 } } }

-- `mbuild lists`: five restaurants for each guest of the test.
predict "lists" { model = model, data = visits.test, k = 5, to = "build/lists.jsonl" }

local bundle = package "bundle" { model = model, card = "MODEL_CARD.md", scores = scores }

release { bundle, gates = { good }, sign = "dev" }

default "release"
