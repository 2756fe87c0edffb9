-- Restaurants: where would a guest like to eat next? Who rated what, and what is known of guests and restaurants. Two towers learn tastes from
-- both, so that a guest who is new gets more than what everybody likes.

project { name = "recommend", version = "1.0.0" }

local visits = dataset "visits" {
  from = "data/ratings.csv", user = "user", item = "restaurant", rating = "rating",
  users = "data/users.csv",
  items = "data/restaurants.csv",
  clean = { na = { "?" } },
  split = { train = 0.7, val = 0.1, test = 0.2, seed = 3 },
  licence = "CC-BY-4.0",
}

-- Ids alone, for comparison.
local plain = train "plain" {
  data = visits,
  model = matrix_factorization { factors = 16, loss = "bpr", negatives = 4 },
  optimizer = adamw { lr = 0.01, weight_decay = 0.5 },
  epochs = 100, batch = 64, seed = 1,
  early_stop = { metric = "val_ndcg", patience = 15 },
}

local model = train "model" {
  data = visits,
  model = two_towers {
    embedding = 32, hidden = { 64 }, factors = 32, dropout = 0.2, normalize = false, temperature = 1, loss = "bpr", negatives = 4,
  },
  optimizer = adamw { lr = 0.003, weight_decay = 0.1 },
  epochs = 60, batch = 128, seed = 1,
  early_stop = { metric = "val_ndcg", patience = 15 },
}

-- Of all restaurants that a guest hasn't rated yet, ten are recommended: how many of those are there that were held back?
local scores = evaluate "scores" { model = model, baseline = plain, data = visits.test, k = { 5, 10 } }

-- The most popular ten have a fifth of them. Guests whom the model knows must get twice as many, and hardly fewer than from ids alone.
local ok = gate "quality" { scores, ["recall@10"] = { min = 0.4 }, drop = { ["recall@10"] = { max = 0.1 } } }

-- Five restaurants for each guest of the test, and for three of whom two are new.
predict "lists" { model = model, data = visits.test, k = 5, to = "build/lists.jsonl" }
predict "newcomers" { model = model, ids = "data/newcomers.json", k = 5, to = "build/newcomers.jsonl" }

-- What they would rate: from 0 to 2.
local rater = train "rater" {
  data = visits,
  model = matrix_factorization { factors = 8, loss = "mse" },
  optimizer = adamw { lr = 0.01, weight_decay = 0.5 },
  epochs = 60, batch = 64, seed = 1,
  early_stop = { patience = 10 },
}
evaluate "ratings" { model = rater, data = visits.test }

local bundle = package "bundle" { model = model, card = "MODEL_CARD.md", scores = scores, format = "tar.zst" }

release { bundle, gates = { ok }, sign = "dev" }

default "release"
