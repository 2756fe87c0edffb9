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
