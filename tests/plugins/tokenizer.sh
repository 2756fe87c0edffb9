#!/usr/bin/env bash
# Tokenizers against Hugging Face's package on text of many scripts: the same ids, offsets, texts and merges, and files that
# transformers loads. They are skipped where python3 (MB_PYTHON) has no package `tokenizers` of the version whose Unicode tables ours are.
source "$(dirname "$0")/../engine/lib.sh"

python=${MB_PYTHON:-python3}
support=$MB_SOURCE/tests/support/tokenizer
compare() { "$python" "$support/compare.py" "$@" || fail "compare.py $1 ${2##*/}: see its output"; }

# Builds the program that the tests call, and the package's tokenizers of the shared vocabularies.
prepare() {
    local version
    version=$("$python" -c 'import tokenizers; print(tokenizers.__version__)' 2>/dev/null) || skip "$python has no tokenizers 0.23.3"
    [[ $version == 0.23.* ]] || skip "$python has tokenizers $version; 0.23.3 is what the tables are of"
    [[ -d $MB_SHARED/data ]] || skip "there is no $MB_SHARED/data with vocabularies"
    local flags=()
    [[ -z $MB_SANITIZERS || $MB_SANITIZERS == no ]] || flags=(-fsanitize=address,undefined)
    $MB_CC -std=c11 -D_GNU_SOURCE -O2 "${flags[@]}" -I"$MB_SOURCE/plugins" -o lines "$support/lines.c" -L"$MB_BUILD/lib" \
        -Wl,-rpath,"$MB_BUILD/lib" -Wl,-rpath-link,"$MB_BUILD/lib" -lmbplugin
    mkdir -p bert gpt2
    cp "$MB_SHARED/data/bert-uncased-vocab.txt" bert/vocab.txt
    cp "$MB_SHARED/data/gpt2-vocab.json" gpt2/vocab.json
    cp "$MB_SHARED/data/gpt2-merges.txt" gpt2/merges.txt
    compare make bert theirs/bert bert/vocab.txt
    compare make gpt2 theirs/gpt2 gpt2/vocab.json gpt2/merges.txt
}

test_ids_and_offsets_of_a_hundred_thousand_lines_are_those_of_the_package() {
    prepare
    compare corpus corpus "$MB_SHARED/data"
    for kind in bert gpt2; do
        ./lines encode $kind corpus ours
        compare encode theirs/$kind corpus ours
    done
}

test_each_kind_of_step_gives_the_ids_and_offsets_of_the_package() {
    prepare
    compare corpus all
    head -n 5000 all >corpus
    compare pipelines kinds theirs/bert theirs/gpt2 corpus >names
    local name
    for name in $(<names); do
        ./lines encode "kinds/$name" corpus ours
        compare encode "kinds/$name" corpus ours
        compare ids "kinds/$name" ids
        ./lines decode "kinds/$name" ids ours
        compare decode "kinds/$name" ids ours
    done
}

# Under many steps, since what a prefix space or a normalizer does at a text's beginning it does at each word's.
test_words_that_were_split_before_have_the_ids_of_the_package_and_know_their_word() {
    prepare
    compare corpus all
    head -n 800 all >corpus
    compare pipelines kinds theirs/bert theirs/gpt2 corpus >names
    local name limit
    for name in ../theirs/bert ../theirs/gpt2 $(<names); do
        for limit in 0 12; do
            ./lines words "kinds/$name" corpus ours $limit
            compare words "kinds/$name" corpus ours $limit
        done
    done
}

test_pairs_have_the_ids_and_types_of_the_package_the_longest_cut_first() {
    prepare
    compare corpus all
    head -n 3000 all >corpus
    compare pipelines kinds theirs/bert theirs/gpt2 corpus >names
    local name limit
    for name in ../theirs/bert roberta llama2; do
        for limit in 0 4 7 12 64; do
            ./lines pairs "kinds/$name" corpus ours $limit
            compare pairs "kinds/$name" corpus ours $limit
        done
    done
}

test_a_saved_tokenizer_is_read_by_the_package_and_gives_the_same_ids() {
    prepare
    head -n 2000 "$MB_SHARED/data/tinyshakespeare.txt" >text
    for kind in bert gpt2; do
        ./lines save $kind saved/$kind
        ./lines encode $kind text ours
        compare encode saved/$kind text ours
        ./lines save saved/$kind again/$kind
        expect_same "$(tree saved/$kind)" "$(tree again/$kind)"
    done
}

test_byte_level_training_learns_the_merges_of_the_package() {
    prepare
    ./lines train bpe 2000 "$MB_SHARED/data/tinyshakespeare.txt" learned
    compare train "$MB_SHARED/data/tinyshakespeare.txt" 2000 learned/tokenizer.json
}

test_transformers_loads_what_is_saved_and_what_is_learned() {
    prepare
    "$python" -c 'import transformers' 2>/dev/null || skip "$python has no transformers"
    ./lines save bert saved
    ./lines train bpe 1000 "$MB_SHARED/data/tinyshakespeare.txt" bpe
    ./lines train wordpiece 1000 "$MB_SHARED/data/tinyshakespeare.txt" wordpiece
    echo 'Unbelievable, my lord!' >line
    for kind in saved bpe wordpiece; do
        ./lines encode $kind line ours
        "$python" - $kind ours <<'PY'
import struct, sys
from transformers import AutoTokenizer
t, data = AutoTokenizer.from_pretrained(sys.argv[1]), open(sys.argv[2], "rb").read()
n, = struct.unpack_from("<i", data)
assert t("Unbelievable, my lord!")["input_ids"] == list(struct.unpack_from("<%di" % n, data, 4))
PY
    done
}

run_tests "$@"
