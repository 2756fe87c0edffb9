-- copy "b" { from = "x", to = "build/b" }: a file or a folder elsewhere, or under another name; build/NAME unless said.

copy = rule("copy", function(name, t)
  local taken, params = split(t, { "from", "to" })
  if taken.from == nil then fail("copy \"%s\": from is missing: what is to be copied?", name) end
  local outputs = taken.to and { to = taken.to } or nil
  return step(name)(with_common(taken, { plugin = "copy", inputs = { from = taken.from }, outputs = outputs, params = params }))
end)
