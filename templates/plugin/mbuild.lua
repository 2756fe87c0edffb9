-- Steps of your own: a program as a step, and a plugin in C. Edit count.c and only what uses it is made anew.

project { name = "words", version = "1.0.0" }

local sorted = command "sorted" { cmd = { "sort", file("words.txt") }, stdout = "build/sorted.txt" }

local count = plugin "count-plugin" { "count.c" }

local counted = step "counted" {
  plugin = count,
  inputs = { text = sorted },
  params = { word = option("word", "model") },          -- `mbuild word=step` counts another
}

alias "all" { sorted, counted }
default "all"
