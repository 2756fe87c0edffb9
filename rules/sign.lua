-- sign "x" { p, key = "dev" }: a signature and the public key, beside what is signed (PATH.sig, PATH.pub). key: "dev", a key of your own
-- that is made on first use outside of the repo, or the path of a private key in PEM, in the repo or elsewhere (/…, ~/…).

sign = rule("sign", function(name, t)
  local taken, params = split(t, { "key", "to" })
  local subject = taken[1]
  if subject == nil then fail("sign \"%s\": what is to be signed? sign \"%s\" { artifact }", name, name) end
  if taken[2] ~= nil then fail("sign \"%s\": one artifact expected; two have two signatures", name) end
  local key = taken.key or "dev"
  if type(key) ~= "string" or key == "" then fail("sign \"%s\": key: \"dev\" or a path expected, found a %s", name, type(key)) end
  local inputs = { subject = subject }
  if key == "dev" or key:match("^[/~]") then params.key = key else inputs.key = key end
  local to = taken.to or (is_artifact(subject) and path_of(subject) or subject)
  local outputs = { signature = to .. ".sig", public_key = to .. ".pub" }
  return step(name)(with_common(taken, { plugin = "sign", inputs = inputs, outputs = outputs, params = params }))
end)
