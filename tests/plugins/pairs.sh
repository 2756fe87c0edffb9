#!/usr/bin/env bash
# Two texts at once, and masked words, in the whole program; answers to pairs against transformers where it is.
source "$(dirname "$0")/../engine/lib.sh"

python=${MB_PYTHON:-python3}

# Pairs that say the same or not, and how alike they are: the second text is the first with some words replaced.
pairs() {
    awk -v rows="$1" 'BEGIN {
        srand(5)
        split("fox owl bear cat dog hen cow pig", w)
        print "premise,claim,same,alike"
        for (i = 0; i < rows; i++) {
            n = 2 + int(rand() * 3); far = rand() < 0.5; a = ""; b = ""; hits = 0
            for (k = 0; k < n; k++) {
                x = 1 + int(rand() * 8); y = far ? 1 + (x + int(rand() * 7)) % 8 : x
                a = a (k ? " " : "") w[x]; b = b (k ? " " : "") w[y]; hits += x == y
            }
            print a "," b "," (far ? "no" : "yes") "," hits / n
        }
    }'
}
repo() {
    pairs "${1:-600}" | write pairs.csv
    { cat <<'LUA'; cat; } | write mbuild.lua
local shares = { train = 0.8, val = 0.1, test = 0.1, seed = 1 }
local same = dataset "same" { from = "pairs.csv", label = "same", ignore = { "alike" }, text = { "premise", "claim" }, split = shares }
local alike = dataset "alike" { from = "pairs.csv", label = "alike", task = "regression", ignore = { "same" }, text = { "premise", "claim" }, split = shares }
local small = encoder { layers = 2, heads = 4, hidden = 32, intermediate = 64, positions = 32, dropout = 0 }
LUA
}
above() { awk -v found="$1" -v least="$2" 'BEGIN { exit !(found > least) }' || fail "$3 is $1, expected more than $2"; }

test_an_encoder_learns_what_two_texts_are_to_each_other() {
    [[ -z $MB_SANITIZERS ]] || skip "it would take minutes under sanitizers"
    repo 2000 <<'LUA'
local m = train "m" { data = same, model = encoder { layers = 2, heads = 2, hidden = 64, intermediate = 128, positions = 32, dropout = 0 },
    tokenizer = wordpiece { vocabulary = 60 }, schedule = cosine { warmup = 2 }, epochs = 12, batch = 32 }
evaluate "scores" { model = m, data = same.test }
LUA
    build
    above "$(metric scores accuracy)" 0.75 "the accuracy"
    grep -q '"columns": \["premise", "claim"\]' build/m/texts.json
}

test_transformers_gives_the_same_answers_to_pairs_cut_or_not() {
    "$python" -c 'import torch, transformers' 2>/dev/null || skip "$python has no transformers"
    export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
    repo 120 <<'LUA'
local c = train "c" { data = same, model = small, tokenizer = wordpiece { vocabulary = 60 }, max_length = 8, epochs = 2, batch = 16 }
local v = train "v" { data = alike, model = small, tokenizer = wordpiece { vocabulary = 60 }, text = { "claim", "premise" }, epochs = 2, batch = 16 }
predict "pc" { model = c, data = same.train, to = "build/c.json" }
predict "pv" { model = v, data = alike.train, to = "build/v.json" }
LUA
    build
    "$python" - <<'PY' >log 2>&1 || fail "$(tail -n 1 log)"
import csv, json, torch
from safetensors.numpy import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer
rows = list(csv.DictReader(open("pairs.csv")))
def check(name, data, first, second, length):
    model, t = AutoModelForSequenceClassification.from_pretrained("build/" + name).eval(), AutoTokenizer.from_pretrained("build/" + name)
    lines = load_file(f"build/{data}/train.safetensors")["line"]
    mine, cut = torch.tensor(json.load(open(f"build/{name}.json"))["outputs"]), 0
    for line, found in zip(lines, mine):
        row = rows[line - 2]
        x = t(row[first], row[second], truncation="longest_first", max_length=length, return_tensors="pt")
        cut += len(t(row[first], row[second])["input_ids"]) > length
        with torch.no_grad(): y = model(**x).logits[0]
        if name == "v":
            target = json.load(open("build/v/config.json"))["dataset"]["target"]
            y = y * target["deviation"] + target["mean"]
        assert (y - found).abs().max() < 1e-4, (row, y, found)
    return cut
assert check("c", "same", "premise", "claim", 8) > 10
check("v", "alike", "claim", "premise", 32)
PY
}

test_masked_words_are_learned_also_where_there_are_labels_and_the_same_seed_gives_the_same_bits() {
    repo 400 <<'LUA'
local masked = encoder { layers = 1, heads = 2, hidden = 32, intermediate = 64, positions = 32, problem = "masked_token" }
local function one(name, seed)
  return train(name) { data = same, text = "premise", model = masked, tokenizer = wordpiece { vocabulary = 60 }, optimizer = adamw { lr = 0.005 }, epochs = 4, batch = 16, seed = seed }
end
one("again", 1) one("other", 2)
evaluate "scores" { model = one("m", 1), data = same.test }
LUA
    build
    expect_same "$(sha build/m/model.safetensors)" "$(sha build/again/model.safetensors)"
    expect_different "$(sha build/m/model.safetensors)" "$(sha build/other/model.safetensors)"
    grep -q '"BertForMaskedLM"' build/m/config.json
    above 20 "$(metric scores perplexity)" "20, the bound on the perplexity,"
}

run_tests "$@"
