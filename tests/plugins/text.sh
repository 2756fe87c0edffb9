#!/usr/bin/env bash
# Models of tokens as the whole program trains them: on text, killed and gone on with, fine-tuned, distilled, judged, written with.
source "$(dirname "$0")/../engine/lib.sh"

# Reviews of two kinds that differ in a few words, so that a small encoder can tell them apart.
reviews() {
    awk -v rows="$1" 'BEGIN {
        srand(11)
        split("good fine lovely bright warm", up); split("bad poor dull broken cold", down)
        split("the film was so and its story had a very long scene with many people in town", plain)
        print "review,mood,stars"
        for (i = 0; i < rows; i++) {
            glad = rand() < 0.5; n = 3 + int(rand() * 12); at = int(rand() * n); text = ""
            for (k = 0; k < n; k++) {
                word = k != at ? plain[1 + int(rand() * 17)] : glad ? up[1 + int(rand() * 5)] : down[1 + int(rand() * 5)]
                text = text (k ? " " : "") word
            }
            print text "," (glad ? "glad" : "sad") "," (glad ? 4 : 2) + rand() / 2
        }
    }'
}
# Sentences whose next word is often certain.
tales() {
    awk -v rows="$1" 'BEGIN {
        srand(5)
        split("fox owl bear cat", who); split("sleeps runs sings waits", what); split("hill lake house tree", where)
        for (i = 0; i < rows; i++) print "the " who[1 + int(rand() * 4)] " " what[1 + int(rand() * 4)] " by the old " where[1 + int(rand() * 4)]
    }'
}
# The rules: two datasets and what else is on the standard input.
repo() {
    reviews "${1:-300}" | write reviews.csv
    tales "${2:-200}" | write tales.txt
    { cat <<'LUA'; cat; } | write mbuild.lua
local shares = { train = 0.7, val = 0.15, test = 0.15, seed = 1 }
local reviews = dataset "reviews" { from = "reviews.csv", label = "mood", ignore = { "stars" }, text = { "review" }, split = shares }
local stars = dataset "stars" { from = "reviews.csv", label = "stars", task = "regression", ignore = { "mood" }, text = { "review" }, split = shares }
local tales = dataset "tales" { from = "tales.txt", format = "text", split = shares }
local small = encoder { layers = 1, heads = 2, hidden = 32, intermediate = 64, positions = 32, dropout = 0.1 }
local writer = decoder { layers = 1, heads = 2, hidden = 32, positions = 32 }
LUA
}
weights() { sha "build/$1/model.safetensors"; }
above() { awk -v found="$1" -v least="$2" 'BEGIN { exit !(found > least) }' || fail "$3 is $1, expected more than $2"; }

# These train again and again: what sanitizers could find in them they find in the other tests.
not_with_sanitizers() { [[ -z $MB_SANITIZERS ]] || skip "it would take minutes under sanitizers"; }

test_an_encoder_learns_classes_of_texts_and_keeps_its_tokenizer() {
    repo <<'LUA'
local m = train "m" { data = reviews, model = small, tokenizer = wordpiece { vocabulary = 80 }, optimizer = adamw { lr = 0.003 }, epochs = 12, batch = 16 }
evaluate "scores" { model = m, data = reviews.test }
LUA
    build
    above "$(metric scores accuracy)" 0.9 "the accuracy"
    expect_file build/m/{config.json,model.safetensors,tokenizer.json,vocab.txt,texts.json}
    grep -q '"BertForSequenceClassification"' build/m/config.json
}

test_an_encoder_learns_numbers_from_texts() {
    repo <<'LUA'
local m = train "m" { data = stars, model = small, tokenizer = wordpiece { vocabulary = 80 }, optimizer = adamw { lr = 0.003 }, epochs = 15, batch = 16 }
evaluate "scores" { model = m, data = stars.test }
LUA
    build
    above "$(metric scores r2)" 0.5 "r2"
}

test_a_decoder_learns_the_next_token_and_is_judged_by_perplexity() {
    repo <<'LUA'
local m = train "m" { data = tales, model = writer, tokenizer = bpe { vocabulary = 300 }, join = "\n", optimizer = adamw { lr = 0.01 }, epochs = 12, batch = 8, clip = 1 }
local l = train "l" { data = tales, model = decoder { kind = "llama", layers = 1, heads = 4, groups = 2, hidden = 32, intermediate = 64, positions = 32 },
    tokenizer = bpe { vocabulary = 300 }, optimizer = adamw { lr = 0.01 }, epochs = 8, batch = 8 }
evaluate "scores" { model = m, baseline = l, data = tales.test }
LUA
    build
    above 8 "$(metric scores perplexity)" "8, the bound on the perplexity,"
    above "$(metric scores accuracy)" 0.4 "the accuracy"
    awk -v loss="$(metric scores loss)" -v p="$(metric scores perplexity)" 'BEGIN { exit !((exp(loss) - p) ^ 2 < 1e-6 * p * p) }' || fail "the perplexity is not e to the loss"
}

test_an_encoder_learns_masked_tokens_and_is_then_fine_tuned_for_classes() {
    repo <<'LUA'
local words = dataset "words" { from = "reviews.csv", features = { "review" }, text = { "review" }, split = shares }
local base = train "base" { data = words, model = small, tokenizer = wordpiece { vocabulary = 80 }, epochs = 3, batch = 16 }
local m = finetune "m" { model = base, data = reviews, optimizer = adamw { lr = 0.003 }, epochs = 12, batch = 16 }
local again = train "again" { model = hf "given", data = reviews, optimizer = adamw { lr = 0.003 }, epochs = 1 }
evaluate "scores" { model = m, data = reviews.test }
LUA
    build scores
    grep -q '"BertForMaskedLM"' build/base/config.json
    grep -q '"BertForSequenceClassification"' build/m/config.json
    expect_same "$(sha build/m/tokenizer.json)" "$(sha build/base/tokenizer.json)"
    above "$(metric scores accuracy)" 0.9 "the accuracy"
    cp -r build/base given
    build again
    expect_file build/again/model.safetensors
}

test_a_training_on_texts_killed_at_any_moment_goes_on_to_the_same_bits() {
    not_with_sanitizers
    repo 600 <<'LUA'
train "m" { data = reviews, model = encoder { layers = 2, heads = 4, hidden = 64, positions = 32, dropout = 0.1 }, tokenizer = wordpiece { vocabulary = 80 },
    epochs = 25, batch = 16, accumulate = 2, checkpoint_every = 0.1, log = "build/m.log" }
LUA
    build m
    local whole log moment
    whole=$(weights m) log=$(sha build/m.log)
    rm -rf build .mbuild
    for moment in 0.3 0.1; do
        start m
        await_checkpoint 30
        sleep $moment
        kill -9 "$pid"
        finish
    done
    build m
    grep -rq "going on from a checkpoint" .mbuild/log "$out" || fail "it began anew"
    expect_same "$(weights m)" "$whole"
    expect_same "$(sha build/m.log)" "$log"
}

test_a_language_model_goes_on_from_its_checkpoint_to_the_same_bits() {
    not_with_sanitizers
    repo 100 2000 <<'LUA'
train "m" { data = tales, model = decoder { layers = 1, heads = 2, hidden = 32, positions = 32, dropout = 0.1 }, tokenizer = bpe { vocabulary = 300 },
    epochs = 10, batch = 8, checkpoint_every = 0.1 }
LUA
    build m
    local whole
    whole=$(weights m)
    rm -rf build .mbuild
    start m
    await_checkpoint 30
    kill -9 "$pid"
    finish
    build m
    expect_same "$(weights m)" "$whole"
}

# In bfloat16, with all that a step does: pieces, clipping, the best weights, a checkpoint after each epoch's steps.
test_a_training_in_bfloat16_goes_on_to_the_same_bits_and_another_precision_trains_anew() {
    not_with_sanitizers
    repo 300 2000 <<'LUA'
local precision = option("precision", "bfloat16")
train "m" { data = tales, model = decoder { layers = 1, heads = 2, hidden = 32, positions = 32, dropout = 0.1 }, tokenizer = bpe { vocabulary = 300 },
    epochs = 10, batch = 8, accumulate = 2, clip = 1, early_stop = { patience = 5 }, checkpoint_every = 0.1, precision = precision }
LUA
    build m
    local narrow
    narrow=$(weights m)
    rm -rf build .mbuild
    start m
    await_checkpoint 30
    kill -9 "$pid"
    finish
    build m
    grep -rq "going on from a checkpoint" .mbuild/log "$out" || fail "it began anew"
    expect_same "$(weights m)" "$narrow"
    local loss
    loss=$(metric m val_loss)
    build precision=float32 m
    expect_ran m
    expect_different "$(weights m)" "$narrow"
    awk -v a="$loss" -v b="$(metric m val_loss)" 'BEGIN { exit !((a - b) ^ 2 < 0.02 ^ 2) }' || fail "the loss is $loss, in float32 $(metric m val_loss)"
    build m
    expect_same "$(weights m)" "$narrow"
}

test_what_learned_in_bfloat16_answers_in_it_and_is_saved_as_its_rule_says() {
    repo <<'LUA'
local m = train "m" { data = tales, model = writer, tokenizer = bpe { vocabulary = 300 }, optimizer = adamw { lr = 0.01 }, epochs = 8, batch = 8,
    precision = "bfloat16", save_as = "bfloat16" }
local c = finetune "c" { model = m, data = tales, epochs = 1, precision = "bfloat16" }
local s = distill "s" { teacher = m, data = tales, model = writer, epochs = 1, precision = "bfloat16" }
evaluate "scores" { model = m, baseline = s, data = tales.test, precision = "bfloat16" }
evaluate "wide" { model = m, data = tales.test }
generate "said" { model = m, prompts = "the fox", tokens = 12, precision = "bfloat16" }
train "features" { data = stars, model = mlp {}, precision = "bfloat16" }
LUA
    build c scores wide said
    grep -q '"torch_dtype": *"bfloat16"' build/m/config.json || fail "its config doesn't say what the weights are"
    grep -q '"torch_dtype": *"float32"' build/c/config.json || fail "the config of what learned from it doesn't say float32"
    (($(stat -c %s build/m/model.safetensors) * 19 < $(stat -c %s build/c/model.safetensors) * 10)) || fail "it takes more than half"
    awk -v a="$(metric scores loss)" -v b="$(metric wide loss)" 'BEGIN { exit !((a - b) ^ 2 < 0.02 ^ 2) }' ||
        fail "the loss is $(metric scores loss), in float32 $(metric wide loss)"
    grep -q '^the fox .* by the old ' build/said.txt || fail "it wrote: $(cat build/said.txt)"
    try features
    expect_fail 2 'precision: bfloat16 is for models of tokens' 'mlp takes float32'
}

test_pieces_of_a_batch_add_up_to_the_batch() {
    not_with_sanitizers
    repo <<'LUA'
local function one(name, pieces)
  train(name) { data = tales, model = decoder { layers = 1, heads = 2, hidden = 32, positions = 32, dropout = 0 },
    tokenizer = bpe { vocabulary = 300 }, epochs = 2, batch = 12, accumulate = pieces }
end
one("whole", 1) one("parts", 5)
LUA
    build
    awk -v a="$(metric whole val_loss)" -v b="$(metric parts val_loss)" 'BEGIN { exit !((a - b) ^ 2 < 1e-8) }' || fail "$(metric whole val_loss) and $(metric parts val_loss)"
}

test_a_student_learns_from_a_teacher_of_the_same_vocabulary() {
    not_with_sanitizers
    repo <<'LUA'
local teacher = train "teacher" { data = tales, model = writer, tokenizer = bpe { vocabulary = 300 }, optimizer = adamw { lr = 0.01 }, epochs = 8, batch = 8 }
local judge = train "judge" { data = reviews, model = small, tokenizer = wordpiece { vocabulary = 80 }, optimizer = adamw { lr = 0.003 }, epochs = 8, batch = 16 }
distill "student" { teacher = teacher, data = tales, model = decoder { layers = 1, heads = 1, hidden = 16, positions = 32 }, optimizer = adamw { lr = 0.01 }, epochs = 8, batch = 8 }
distill "pupil" { teacher = judge, data = reviews, model = encoder { layers = 1, heads = 1, hidden = 16, intermediate = 32, positions = 32 }, optimizer = adamw { lr = 0.003 }, epochs = 12, batch = 16 }
distill "other" { teacher = teacher, data = tales, model = writer, tokenizer = bpe { vocabulary = 262 }, epochs = 1 }
LUA
    try -k
    expect_failed other
    expect_fail 2 'the teacher build/teacher: it has a vocabulary of'
    expect_same "$(sha build/student/tokenizer.json)" "$(sha build/teacher/tokenizer.json)"
    above "$(metric student val_accuracy)" 0.4 "the student's accuracy"
    above "$(metric pupil val_accuracy)" 0.7 "the pupil's accuracy"
}

test_what_is_written_follows_from_the_seed() {
    repo <<'LUA'
local m = train "m" { data = tales, model = writer, tokenizer = bpe { vocabulary = 300 }, optimizer = adamw { lr = 0.01 }, epochs = 8, batch = 8 }
generate "greedy" { model = m, prompts = "the fox", tokens = 12 }
generate "a" { model = m, from = "prompts.txt", tokens = 12, temperature = 1, seed = 1 }
generate "b" { model = m, prompts = { "the owl", "the cat" }, tokens = 12, temperature = 1, top_k = 50, top_p = 0.9, seed = 2, to = "build/said/b.txt" }
LUA
    printf 'the owl\nthe cat\n' | write prompts.txt
    build
    grep -q '^the fox .* by the old ' build/greedy.txt || fail "it wrote: $(cat build/greedy.txt)"
    local first
    first=$(cat build/greedy.txt build/a.txt build/said/b.txt)
    expect_different "$(cat build/a.txt)" "$(cat build/said/b.txt)"
    rm -rf build/greedy.txt build/a.txt build/said
    build -B
    expect_same "$(cat build/greedy.txt build/a.txt build/said/b.txt)" "$first"
}

test_a_given_tokenizer_is_an_input_and_is_kept() {
    repo <<'LUA'
local a = train "a" { data = tales, model = writer, tokenizer = bpe { vocabulary = 290 }, epochs = 1 }
train "b" { data = tales, model = writer, tokenizer = "words/tokenizer.json", epochs = 1 }
LUA
    build a
    mkdir words
    cp build/a/tokenizer.json words
    build b
    expect_same "$(sha build/b/tokenizer.json)" "$(sha build/a/tokenizer.json)"
    build a b
    expect_nothing_ran
}

test_mistakes_are_told_with_what_to_do() {
    repo <<'LUA'
local points = dataset "points" { from = "points.csv", label = "y", split = shares }
train "numbers" { data = points, model = small }
train "column" { data = reviews, model = small, text = "comment" }
train "long" { data = reviews, model = small, tokenizer = wordpiece { vocabulary = 80 }, max_length = 64 }
local m = train "m" { data = tales, model = writer, tokenizer = bpe { vocabulary = 290 }, epochs = 1 }
local c = train "c" { data = reviews, model = small, tokenizer = wordpiece { vocabulary = 80 }, epochs = 1 }
generate "longer" { model = m, prompts = "the fox", tokens = 32 }
generate "wrong" { model = c, prompts = "the fox" }
evaluate "labels" { model = c, data = stars.test }
train "given" { data = tales, model = writer, tokenizer = "nowhere" }
finetune "bare" { model = "bare-model", data = reviews, epochs = 1 }
LUA
    { echo x,y; for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo "$i,$((i % 2 ? 0 : 1))"; done; } | sed 's/,0/,no/;s/,1$/,yes/' | write points.csv
    try numbers
    expect_fail 2 'has no column of text' 'text = {'
    try column
    expect_fail 2 'no column of text named "comment"; it has review'
    try long
    expect_fail 2 'max_length is 64, but the model takes rows of at most 32 tokens'
    try longer
    expect_fail 2 'tokens = 32' 'at most 32 tokens'
    try wrong
    expect_fail 2 'only a decoder that learned the next token can write'
    try labels
    expect_fail 2 'these data have no classes as labels'
    try given
    expect_fail 2 'nowhere'
    mkdir bare-model
    cp build/c/config.json build/c/model.safetensors bare-model
    try bare
    expect_fail 2 'has no tokenizer'
    echo 'train "h" { data = reviews, model = encoder { layers = 1, head = 3 } }' >>mbuild.lua
    try h
    expect_fail 2 'encoder: unknown field head; did you mean "heads"'
    change mbuild.lua 's/head = 3/heads = 3, hidden = 32/'
    try h
    expect_fail 2 "hidden = 32 can't be shared by 3 heads"
}

# Seen once with PyTorch 2 and transformers' GPT2LMHeadModel: the same tokens, rows, size, optimizer, schedule and number of steps, weights and order by
# its own chance: 3.7302. Ours, in the same build of the data: 3.7282. The bound leaves room for what chance does to either.
test_shakespeare_is_learned_as_well_as_pytorch_learns_it() {
    local plays=$MB_SHARED/data/tinyshakespeare.txt
    [[ -e $plays ]] || skip "no tinyshakespeare.txt in ../shared/data"
    [[ -z $MB_SANITIZERS ]] || skip "too slow under sanitizers"
    grep -v '^[[:space:]]*$' "$plays" >lines
    head -n 29499 lines | write train.txt
    tail -n +29500 lines | write val.txt
    write mbuild.lua <<'LUA'
local a = dataset "a" { from = "train.txt", format = "text" }
local b = dataset "b" { from = "val.txt", format = "text" }
train "m" { data = { train = a.all, val = b.all }, model = decoder { layers = 2, heads = 4, hidden = 128, positions = 128, dropout = 0 },
  join = "\n", tokenizer = bpe { vocabulary = 512 }, optimizer = adamw { lr = 2e-3, weight_decay = 0.01 },
  schedule = cosine { warmup = 0.1 }, clip = 1, epochs = 1, batch = 16 }
LUA
    build m
    above 3.75 "$(metric m val_loss)" "3.75, the bound on the validation loss,"
}

run_tests "$@"
