-- package "bundle" { model = m, card = "MODEL_CARD.md", scores = s, files = { "LICENSE" }, format = "tar.zst" }: a reproducible archive
-- with model, card, scores, manifest, provenance and bill of materials; build/NAME.FORMAT unless `to` says otherwise.

package = rule("package", function(name, t)
  local taken, params = split(t, { "model", "card", "scores", "files", "to" })
  if taken[1] ~= nil then fail("package \"%s\": an entry without a name; write model = …", name) end
  if taken.model == nil then fail("package \"%s\": model is missing", name) end
  local project = project()
  params.project, params.version = params.project or project.name, params.version or project.version
  local inputs = { model = taken.model, card = taken.card, scores = taken.scores, files = taken.files }
  local to = taken.to or "build/" .. name .. "." .. (params.format or "tar.zst")
  return step(name)(with_common(taken, { plugin = "package", inputs = inputs, outputs = { bundle = to }, params = params }))
end)
