-- optimizers.lua: how training goes downhill, and how fast over time.

sgd = constructor("sgd", { "lr", "weight_decay", "momentum", "nesterov" })
adam = constructor("adam", { "lr", "weight_decay", "beta1", "beta2", "eps" })
adamw = constructor("adamw", { "lr", "weight_decay", "beta1", "beta2", "eps" })

-- Schedules of the learning rate: train "m" { schedule = cosine { warmup = 2 } }.
constant = constructor("constant", { "warmup" })
cosine = constructor("cosine", { "warmup", "final" })
linear_decay = constructor("linear", { "warmup", "final" })
step_decay = constructor("step", { "warmup", "every", "factor" })
