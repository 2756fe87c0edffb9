-- plugin "p" { "p.c", cflags = { "-O3" }, libs = { "z" }, cc = "clang", to = "build/p.so" }: compiles a plugin of your own, to be
-- given to a step: plugin = p, or plugin = "p". Headers that the sources include are found and count as inputs.

plugin = rule("plugin", function(name, t)
  local taken, params = split(t, { "to" })
  local sources = {}
  for i, source in ipairs(taken) do sources[i] = source end
  if #sources == 0 then fail("plugin \"%s\": the C file is missing: plugin \"%s\" { \"%s.c\" }", name, name, name) end
  local outputs = { plugin = taken.to or "build/" .. name .. ".so" }
  return step(name)(with_common(taken, { plugin = "compile", inputs = { sources = sources }, outputs = outputs, params = params }))
end)
