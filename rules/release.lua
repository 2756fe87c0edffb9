-- release { bundle, gates = { g }, sign = "dev" }: an immutable, numbered record in releases/, made to be committed. `sign` is a key as
-- the rule `sign` takes it, which makes the step "NAME-signature", or an artifact that `sign` made; without it the release is
-- unsigned. strict = true refuses other content under a version that was released already.

release = rule("release", function(name, t)
  local taken, params = split(t, { "gates", "sign", "to" })
  local bundle = taken[1]
  if bundle == nil then fail("release \"%s\": what is to be released? release { bundle, gates = { … }, sign = \"dev\" }", name) end
  if taken[2] ~= nil then fail("release \"%s\": one bundle expected; gates go into gates = { … }", name) end
  local project = project()
  params.project, params.version = params.project or project.name, params.version or project.version
  local inputs = { bundle = bundle, gates = taken.gates }
  local signature = taken.sign
  if type(signature) == "string" then
    params.key = signature:match("[^/]*$") -- where a key lies is nobody else's business
    signature = sign(name .. "-signature") { bundle, key = signature }
  elseif signature ~= nil and not is_artifact(signature) then
    fail("release \"%s\": sign: \"dev\", a key's path, or an artifact that `sign` made expected", name)
  end
  if signature then inputs.signature, inputs.public_key = signature.signature, signature.public_key end
  local folder = (taken.to or "releases"):gsub("/+$", "")
  local outputs = { records = folder .. "/" }
  return step(name)(with_common(taken, { plugin = "release", inputs = inputs, outputs = outputs, params = params }))
end)
