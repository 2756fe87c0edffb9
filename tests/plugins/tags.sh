#!/usr/bin/env bash
# Tags of words in the whole program: learned, judged, told; and against transformers and seqeval where they are.
source "$(dirname "$0")/../engine/lib.sh"

python=${MB_PYTHON:-python3}

# Sentences with people and places in them.
notes() {
    awk -v rows="$1" 'BEGIN {
        srand(3)
        split("anna peter maria ivan", first); split("smith jones brown", last); split("paris london berlin oslo", city); split("york orleans", second)
        split("the man saw a cat near old house and then went to sleep , !", plain)
        for (i = 0; i < rows; i++) {
            n = 4 + int(rand() * 6)
            for (k = 0; k < n; k++) {
                r = rand()
                if (r < 0.15) print first[1 + int(rand() * 4)] "\tB-PER\n" last[1 + int(rand() * 3)] "\tI-PER"
                else if (r < 0.25) print "new\tB-LOC\n" second[1 + int(rand() * 2)] "\tI-LOC"
                else if (r < 0.35) print city[1 + int(rand() * 4)] "\tB-LOC"
                else print plain[1 + int(rand() * 15)] "\tO"
            }
            print ""
        }
    }'
}
repo() {
    notes "${1:-400}" | write notes.conll
    { cat <<'LUA'; cat; } | write mbuild.lua
local notes = dataset "notes" { from = "notes.conll", format = "conll", label = "tag", split = { train = 0.7, val = 0.15, test = 0.15, seed = 1 } }
local small = encoder { layers = 1, heads = 2, hidden = 32, intermediate = 64, positions = 32 }
local m = train "m" { data = notes, model = small, tokenizer = wordpiece { vocabulary = 90 }, optimizer = adamw { lr = 0.005 }, epochs = 15, batch = 16 }
LUA
}
above() { awk -v found="$1" -v least="$2" 'BEGIN { exit !(found > least) }' || fail "$3 is $1, expected more than $2"; }

test_an_encoder_learns_entities_is_judged_by_them_and_finds_them_in_plain_text() {
    repo <<'LUA'
evaluate "scores" { model = m, data = notes.test }
local plain = dataset "plain" { from = "plain.txt", format = "text" }
predict "said" { model = m, data = plain.all, to = "build/said.jsonl" }
local odd = dataset "odd" { from = "odd.conll", format = "conll", label = "tag" }
predict "told" { model = m, data = odd.all, to = "build/told.jsonl" }
quantize "small" { model = m, calibrate = notes.val, scheme = "int8" }
LUA
    printf 'maria\tB-QUEEN\nsaw\tO\npeter\tB-PER\n' | write odd.conll
    echo 'then maria smith, near old berlin, went to new york' | write plain.txt
    build
    above "$(metric scores f1)" 0.9 "f1"
    above "$(metric scores f1_strict)" 0.9 "f1_strict"
    grep -q '"BertForTokenClassification"' build/m/config.json
    grep -q '"scheme": "iob2"' build/scores.json
    grep -q '"words":\["maria","saw","peter"\]' build/told.jsonl || fail "of a tag that it doesn't know it said: $(cat build/told.jsonl)"
    above "$(metric small accuracy)" 0.9 "accuracy as int8"
    above "$(metric small accuracy_float)" 0.9 "accuracy as float32"
    grep -q '"label":"PER","score":0.[0-9]*,"start":5,"text":"maria smith"' build/said.jsonl || fail "it said: $(cat build/said.jsonl)"
    grep -q '"end":51,"label":"LOC","score":0.[0-9]*,"start":43,"text":"new york"' build/said.jsonl || fail "it said: $(cat build/said.jsonl)"
}

test_the_same_training_on_tags_gives_the_same_bits_with_all_subwords_others() {
    repo 150 <<'LUA'
train "again" { data = notes, model = small, tokenizer = wordpiece { vocabulary = 90 }, optimizer = adamw { lr = 0.005 }, epochs = 15, batch = 16, log = "build/again.log" }
train "all" { data = notes, model = small, subwords = "all", tokenizer = wordpiece { vocabulary = 40 }, optimizer = adamw { lr = 0.003 }, epochs = 2, batch = 16 }
train "first" { data = notes, model = small, tokenizer = wordpiece { vocabulary = 40 }, optimizer = adamw { lr = 0.003 }, epochs = 2, batch = 16 }
LUA
    build
    expect_same "$(sha build/m/model.safetensors)" "$(sha build/again/model.safetensors)"
    expect_different "$(sha build/all/model.safetensors)" "$(sha build/first/model.safetensors)"
    grep -q '"subwords": "all"' build/all/texts.json
}

test_a_model_of_other_words_goes_on_with_tags_and_what_does_not_fit_is_refused() {
    repo 150 <<'LUA'
local words = dataset "words" { from = "lines.txt", format = "text" }
local base = train "base" { data = words.all, model = small, tokenizer = wordpiece { vocabulary = 90 }, epochs = 1, batch = 16 }
finetune "f" { model = base, data = notes, epochs = 1 }
train "rows" { data = notes, model = encoder { layers = 1, heads = 2, hidden = 16, positions = 32, problem = "single_label_classification" }, epochs = 1 }
train "table" { data = notes, model = mlp {}, epochs = 1 }
predict "p" { model = m, data = notes.test }
LUA
    awk '{ printf "%s", $1 == "" ? "\n" : $1 " " }' notes.conll | write lines.txt
    try -k
    grep -q '"BertForTokenClassification"' build/f/config.json
    expect_same "$(sha build/f/tokenizer.json)" "$(sha build/base/tokenizer.json)"
    expect_fail 2 'the data have a tag for each word: problem = "token_classification" is for such'
    expect_fail 2 'the data have a tag for each word, which models of tokens learn'
    expect_fail 2 'a model of token_classification answers to each word: to = "build/….jsonl"'
    repo 150 <<'LUA'
train "d" { data = notes, model = decoder { layers = 1, heads = 2, hidden = 16, positions = 32, problem = "token_classification" }, epochs = 1 }
LUA
    try
    expect_fail 2 'a gpt2 cannot learn the problem token_classification'
}

test_answers_a_line_a_row_say_classes_and_numbers_also_without_labels() {
    write x.csv <<<$'a,b,y,z\n1,2,no,3\n2,1,yes,4\n3,5,no,5.5\n4,4,yes,6\n1,1,no,7\n2,6,yes,8.5'
    write new.csv <<<$'a,b\n1,2\n3,4'
    write mbuild.lua <<'LUA'
local two = dataset "two" { from = "x.csv", label = "y", ignore = { "z" } }
local num = dataset "num" { from = "x.csv", label = "z", ignore = { "y" }, task = "regression" }
local new = dataset "new" { from = "new.csv" }
predict "c" { model = train "mc" { data = two.all, model = mlp {}, epochs = 2 }, data = new.all, to = "build/c.jsonl" }
predict "v" { model = train "mv" { data = num.all, model = mlp {}, epochs = 2 }, data = new.all, to = "build/v.jsonl" }
LUA
    build
    expect_same "$(grep -c '"label":"\(yes\|no\)","line":[23],"score":0\.' build/c.jsonl)" 2
    expect_same "$(grep -c '"line":[23],"value":' build/v.jsonl)" 2
}

test_transformers_gives_the_same_tags_to_the_same_words() {
    "$python" -c 'import torch, transformers' 2>/dev/null || skip "$python has no transformers"
    export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
    repo 200 <<'LUA'
predict "said" { model = m, data = notes.test, to = "build/said.jsonl" }
LUA
    build
    "$python" - <<'PY' >log 2>&1 || fail "$(tail -n 1 log)"
import json, torch
from transformers import AutoModelForTokenClassification, AutoTokenizer
model, t = AutoModelForTokenClassification.from_pretrained("build/m").eval(), AutoTokenizer.from_pretrained("build/m")
rows = [json.loads(r) for r in open("build/said.jsonl")]
assert len(rows) == 30, len(rows)
for row in rows:
    x = t(row["words"], is_split_into_words=True, truncation=True, max_length=32, return_tensors="pt")
    words = x.word_ids()
    with torch.no_grad():
        p = model(**x).logits[0].softmax(-1)
    for w, (tag, score) in enumerate(zip(row["tags"], row["scores"])):
        if tag is None:
            assert w not in words
            continue
        at = words.index(w)
        assert model.config.id2label[p[at].argmax().item()] == tag and abs(p[at].max().item() - score) < 1e-5, (row, w)
PY
}

test_what_was_recorded_of_seqeval_is_what_it_says() {
    "$python" -c 'import seqeval' 2>/dev/null || skip "$python has no seqeval"
    "$python" "$MB_SOURCE/tests/plugins/tags_seqeval.py" now.json
    cmp now.json "$MB_SOURCE/tests/plugins/data/tags.json" || fail "seqeval says something else now"
}

run_tests "$@"
