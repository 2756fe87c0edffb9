#!/usr/bin/env bash
# Quantized models of tokens as the whole program makes, judges, asks, packs and releases them.
source "$(dirname "$0")/../engine/lib.sh"

# Reviews of two kinds that differ in a few words; tales whose next word is often certain.
repo() {
    awk 'BEGIN {
        srand(11)
        split("good fine lovely bright warm", up); split("bad poor dull broken cold", down)
        split("the film was so and its story had a very long scene with many people in town", plain)
        print "review,mood"
        for (i = 0; i < 300; i++) {
            glad = rand() < 0.5; n = 3 + int(rand() * 12); at = int(rand() * n); text = ""
            for (k = 0; k < n; k++) {
                word = k != at ? plain[1 + int(rand() * 17)] : glad ? up[1 + int(rand() * 5)] : down[1 + int(rand() * 5)]
                text = text (k ? " " : "") word
            }
            print text "," (glad ? "glad" : "sad")
        }
    }' | write reviews.csv
    awk 'BEGIN {
        srand(5)
        split("fox owl bear cat", who); split("sleeps runs sings waits", what); split("hill lake house tree", where)
        for (i = 0; i < 300; i++) print "the " who[1 + int(rand() * 4)] " " what[1 + int(rand() * 4)] " by the old " where[1 + int(rand() * 4)]
    }' | write tales.txt
    { cat <<'LUA'; cat; } | write mbuild.lua
project { name = "small", version = "1.0.0" }
local shares = { train = 0.7, val = 0.15, test = 0.15, seed = 1 }
local reviews = dataset "reviews" { from = "reviews.csv", label = "mood", text = { "review" }, split = shares }
local tales = dataset "tales" { from = "tales.txt", format = "text", split = shares }
local judge = train "judge" { data = reviews, model = encoder { layers = 1, heads = 2, hidden = 64, intermediate = 128, positions = 32, dropout = 0.1 },
  tokenizer = wordpiece { vocabulary = 80 }, optimizer = adamw { lr = 0.003 }, epochs = 12, batch = 16 }
local writer = train "writer" { data = tales, model = decoder { layers = 1, heads = 2, hidden = 64, positions = 32 },
  tokenizer = bpe { vocabulary = 300 }, join = "\n", optimizer = adamw { lr = 0.01 }, epochs = 8, batch = 8, clip = 1 }
LUA
}
above() { awk -v found="$1" -v least="$2" 'BEGIN { exit !(found > least) }' || fail "$3 is $1, expected more than $2"; }
near() { awk -v a="$1" -v b="$2" -v off="$3" 'BEGIN { exit !((a - b) ^ 2 <= off ^ 2) }' || fail "$4 is $1, expected within $3 of $2"; }
weights() { stat -c %s "build/$1/model.safetensors"; }
all_schemes='for _, s in ipairs { "int8", "int4", "q8_0", "q4_0", "q4_k" } do'

test_an_encoder_in_each_scheme_judges_as_its_floats_do() {
    repo <<LUA
$all_schemes evaluate("scores-" .. s) { model = quantize("q-" .. s) { model = judge, scheme = s }, baseline = judge, data = reviews.test } end
LUA
    build
    for s in int8 int4 q8_0 q4_0 q4_k; do
        near "$(metric "scores-$s" accuracy)" "$(metric "scores-$s" baseline_accuracy)" 0.05 "the accuracy in $s"
        near "$(metric "scores-$s" log_loss)" "$(metric "scores-$s" baseline_log_loss)" 0.05 "the log loss in $s"
        above "$(metric "scores-$s" accuracy)" 0.85 "the accuracy in $s"
        expect_file build/q-$s/{config.json,tokenizer.json,vocab.txt,texts.json}
    done
    grep -q '"quant_method": "mbuild"' build/q-int4/config.json
}

test_a_decoder_in_each_scheme_is_a_fraction_of_the_size_and_hardly_more_surprised() {
    repo <<LUA
$all_schemes
  local q = quantize("q-" .. s) { model = writer, scheme = s, report = "build/" .. s .. ".json" }
  evaluate("scores-" .. s) { model = q, baseline = writer, data = tales.test }
  generate("said-" .. s) { model = q, prompts = "the fox", tokens = 12 }
end
LUA
    build
    for s in int8 int4 q8_0 q4_0 q4_k; do
        near "$(metric "scores-$s" loss)" "$(metric "scores-$s" baseline_loss)" 0.05 "the loss in $s"
        grep -q '^the fox .* by the old ' "build/said-$s.txt" || fail "in $s it wrote: $(cat "build/said-$s.txt")"
        above "$(metric "q-$s" weight_error)" 0 "the error of $s"
        grep -q '"why": "a head, or a table of positions or types"' "build/$s.json" || fail "the report of $s doesn't say what stays float"
    done
    above "$(($(weights writer) * 10 / $(weights q-int8)))" 30 "ten times what int8 saves"
    above "$(($(weights writer) * 10 / $(weights q-int4)))" 45 "ten times what int4 saves"
    above "$(($(weights writer) * 10 / $(weights q-q4_0)))" 45 "ten times what q4_0 saves"
}

test_weights_of_4_bits_are_rounded_by_data_where_there_are_some() {
    repo <<'LUA'
for _, way in ipairs { "nearest", "search", "gptq" } do
  quantize(way) { model = writer, scheme = "int4", group = 32, rounding = way, calibrate = tales.train, samples = 40 }
end
quantize "table" { model = judge, scheme = "int4", embeddings = "q4_0", calibrate = reviews.val }
quantize "best" { model = writer, scheme = "int4", group = 32, calibrate = tales.train, samples = 40 }
LUA
    build
    above "$(metric nearest weight_error)" "$(metric search weight_error)" "nearest's error of the weights"
    above "$(metric nearest perplexity)" "$(metric gptq perplexity_float)" "nearest's perplexity"
    near "$(metric gptq perplexity)" "$(metric gptq perplexity_float)" 0.02 "the perplexity by gptq"
    above "$(metric table agreement)" 0.9 "how often 4 bits and floats agree"
    grep -q '"bert.embeddings.word_embeddings": "q4_0"' build/table/config.json
    expect_same "$(sha build/best/model.safetensors)" "$(sha build/gptq/model.safetensors)"
    local first
    first=$(sha build/gptq/model.safetensors)
    build -B -j1 gptq
    expect_same "$(sha build/gptq/model.safetensors)" "$first"
}

test_a_quantized_model_predicts_teaches_and_is_released_and_does_not_learn() {
    repo <<'LUA'
local q = quantize "q" { model = judge, scheme = "int8", calibrate = reviews.val }
local w = quantize "w" { model = writer, scheme = "q4_0" }
predict "said" { model = q, data = reviews.test, to = "build/said.json" }
local student = distill "student" { teacher = q, data = reviews, model = encoder { layers = 1, heads = 1, hidden = 32, intermediate = 32, positions = 32 },
  optimizer = adamw { lr = 0.003 }, epochs = 8, batch = 16 }
distill "pupil" { teacher = w, data = tales, model = decoder { layers = 1, heads = 1, hidden = 32, positions = 32 }, optimizer = adamw { lr = 0.01 }, epochs = 4, batch = 8 }
local scores = evaluate "scores" { model = q, baseline = judge, data = reviews.test }
local ok = gate "good" { scores, accuracy = { min = 0.85 }, drop = { accuracy = { max = 0.05 } } }
release { package "bundle" { model = q, card = "CARD.md", scores = scores }, gates = { ok }, sign = "dev" }
finetune "more" { model = q, data = reviews, epochs = 1 }
quantize "twice" { model = q }
LUA
    echo 'Accuracy {{accuracy}}.' | write CARD.md
    build said student pupil release
    expect_file build/said.json releases/r1.json
    above "$(metric q agreement)" 0.95 "how often int8 and floats agree"
    above "$(metric student val_accuracy)" 0.7 "the student's accuracy"
    above "$(metric pupil val_accuracy)" 0.4 "the pupil's accuracy"
    try more
    expect_fail 2 "build/q/config.json: the model is quantized: such weights don't learn; train on from the model that it was made of"
    try twice
    expect_fail 2 'the model is quantized already'
}

test_mistakes_are_told_with_what_to_do() {
    repo <<'LUA'
local points = dataset "points" { from = "points.csv", label = "y", split = shares }
local m = train "m" { data = points, model = mlp {}, epochs = 1 }
quantize "bare" { model = m }
quantize "four" { model = m, scheme = "int4", calibrate = points.val }
quantize "blind" { model = writer, scheme = "int4", rounding = "gptq" }
quantize "odd" { model = writer, scheme = "int4", group = 33 }
quantize "all" { model = writer, scheme = "int4", keep = "transformer" }
LUA
    { echo x,y; for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo "$i,$((i % 2 ? 0 : 1))"; done; } | sed 's/,0/,no/;s/,1$/,yes/' | write points.csv
    try bare
    expect_fail 2 'a mlp is calibrated on data: calibrate is missing'
    try four
    expect_fail 2 'a mlp is quantized to int8 alone'
    try blind
    expect_fail 2 'rounding by gptq looks at data: calibrate is missing'
    try odd
    expect_fail 2 'group: an even number expected, found 33'
    try all
    expect_fail 2 'no layer of the model can be quantized so: keep'
    echo 'quantize "small" { model = writer, scheme = "int5" }' >>mbuild.lua
    try small
    expect_fail 2 'int5'
}

run_tests "$@"
