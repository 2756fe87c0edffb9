#!/usr/bin/env bash
# How fast tokenizers are, beside Hugging Face's package on one thread, on the lines of tinyshakespeare.txt and sst2-train.tsv,
# offsets included. A line a measure: name, ours, peer (seconds), ratio (ours / peer), parted by tabs; the same goes to bench-tokenizer.json in the build folder.
#
#     tests/bench/tokenizer.sh      in the build folder. MB_PYTHON: a python3 that has tokenizers; MB_SHARED: the folder with data/.

set -eu
export LC_ALL=C.UTF-8
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
build=$PWD/build
support=$here/../support/tokenizer
python=${MB_PYTHON:-python3}
data=${MB_SHARED:-$here/../../../shared}/data
if ! "$python" -c 'import tokenizers' 2>/dev/null; then
    echo "$python has no tokenizers: its lines are left out" >&2
    exit 0
fi
if [[ ! -d $data ]]; then
    echo "there is no $data: the lines of tokenizers are left out" >&2
    exit 0
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/mbuild-bench-XXXXXX")
trap 'rm -rf "$work"' EXIT
${MB_CC:-cc} -std=c11 -D_GNU_SOURCE -O2 -I"$here/../../plugins" -o "$work/lines" "$support/lines.c" -L"$build/lib" -Wl,-rpath,"$build/lib" \
    -Wl,-rpath-link,"$build/lib" -lmbplugin
mkdir "$work/bert" "$work/gpt2"
cp "$data/bert-uncased-vocab.txt" "$work/bert/vocab.txt"
cp "$data/gpt2-vocab.json" "$work/gpt2/vocab.json"
cp "$data/gpt2-merges.txt" "$work/gpt2/merges.txt"
"$python" "$support/compare.py" make bert "$work/theirs/bert" "$work/bert/vocab.txt"
"$python" "$support/compare.py" make gpt2 "$work/theirs/gpt2" "$work/gpt2/vocab.json" "$work/gpt2/merges.txt"
rows=()
for kind in bert gpt2; do
    for text in tinyshakespeare.txt sst2-train.tsv; do
        ours=$("$work/lines" time "$work/$kind" "$data/$text")
        peer=$("$python" "$support/compare.py" time "$work/theirs/$kind" "$data/$text")
        rows+=("$(awk -v n="tokenize-$kind-${text%.*}" -v a="$ours" -v b="$peer" 'BEGIN { printf "%s\t%s\t%s\t%.3f", n, a, b, a / b }')")
        printf '%s\n' "${rows[-1]}"
    done
done
printf '%s\n' "${rows[@]}" | awk -F'\t' 'BEGIN { print "[" } { printf "%s  {\"name\": \"%s\", \"ours\": %s, \"peer\": %s, \"ratio\": %s}", \
    (NR > 1 ? ",\n" : ""), $1, $2, $3, $4 } END { print "\n]" }' >bench-tokenizer.json
