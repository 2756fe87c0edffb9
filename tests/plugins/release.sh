#!/usr/bin/env bash
# From scores to a signed record: gate, package, sign, release, and what verify finds.
source "$(dirname "$0")/../engine/lib.sh"

# A model that commands make, so that nothing has to be trained.
world() {
    write weights.txt < <(seq 1 2000)
    write scores.in <<<'{"accuracy":0.9725,"rows":180,"per_class":{"3":{"recall":0.5}},"baseline":{"accuracy":0.98}}'
    write CARD.md <<<$'# {{project}} {{version}}\naccuracy {{accuracy}} on {{rows}} rows, {{per_class.3.recall}}, {{model.model_type}}'
    write mbuild.lua <<'LUA'
project { name = "demo", version = option("version", "1.0") }
local model = command "model" { inputs = { "weights.txt" }, outputs = { "build/model" },
  cmd = [[mkdir -p build/model/sub; cat weights.txt > build/model/sub/weights.bin; echo '{"model_type":"bert"}' > build/model/config.json]] }
local scores = command "scores" { cmd = { "cat", "scores.in" }, inputs = { "scores.in" }, stdout = "build/scores.json" }
local ok = gate "quality" { scores, accuracy = { min = option("min", 0.9) }, drop = { accuracy = { max = option("drop", 0.02) } } }
local bundle = package "bundle" { model = model, card = "CARD.md", scores = scores, format = option("format", "tar.zst") }
release { bundle, gates = { ok }, sign = option("key", "dev"), strict = option("strict", false) }
default "release"
LUA
}
# member NAME: a file of the bundle. Taken by bsdtar, or by tar and zstd.
member() {
    if command -v bsdtar >/dev/null; then bsdtar -xOf build/bundle.tar.zst "demo-1.0/$1"; else tar --zstd -xOf build/bundle.tar.zst "demo-1.0/$1"; fi
}
unpacks() { command -v bsdtar >/dev/null || command -v zstd >/dev/null || skip "there is neither bsdtar nor zstd"; }

test_a_release_is_made_once_and_verifies() {
    world
    build
    expect_ran model scores quality bundle release-signature release
    expect_file build/bundle.tar.zst build/bundle.tar.zst.sig build/bundle.tar.zst.pub releases/r1.json build/quality.json
    build
    expect_nothing_ran
    run mbuild verify r1
    expect_ok
    expect_printed "releases/r1.json" "each as the manifest says" "ecdsa-p256" "a developer's own" verified
    run mbuild releases
    expect_ok
    expect_printed r1 1.0 "1 passed" "accuracy 0.9725" dev
    cd build
    run mbuild verify bundle.tar.zst
    expect_ok
    expect_printed verified
}

test_the_bundle_holds_model_card_scores_manifest_provenance_and_bill_of_materials() {
    world
    unpacks
    build
    expect_same "$(member MODEL_CARD.md)" $'# demo 1.0\naccuracy 0.9725 on 180 rows, 0.5, bert'
    expect_same "$(member scores.json)" "$(cat scores.in)"
    expect_same "$(member model/sub/weights.bin | sha256sum | cut -d' ' -f1)" "$(sha weights.txt)"
    member manifest.json >manifest
    grep -q "$(sha weights.txt)" manifest
    member provenance.json >provenance
    grep -q '"predicateType": "https://slsa.dev/provenance/v1"' provenance
    grep -q '"name": "weights.txt"' provenance
    member bom.cdx.json >bom
    grep -q '"bomFormat": "CycloneDX"' bom
    grep -q '"type": "machine-learning-model"' bom
}

test_the_bill_of_materials_keeps_to_the_published_schema() {
    world
    unpacks
    python3 -c 'import cyclonedx.validation.json' 2>/dev/null || skip "python3 has no cyclonedx"
    build
    member bom.cdx.json >bom
    python3 - <<'PY'
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open("bom").read())
assert wrong is None, wrong
PY
}

test_two_clean_clones_make_the_same_bundle_signature_and_record() {
    local format
    for format in tar.zst tar.gz tar zip; do
        rm -rf one "two and more"
        mkdir one "two and more"
        (cd one && world && build "format=$format")
        sleep 0.01
        (cd "two and more" && world && touch -d 2001-01-01 weights.txt && umask 077 && TZ=Asia/Tokyo build "format=$format" -j1)
        cmp "one/build/bundle.$format" "two and more/build/bundle.$format"
        cmp "one/build/bundle.$format.sig" "two and more/build/bundle.$format.sig"
        cmp one/releases/r1.json "two and more/releases/r1.json"
        (cd one && expect_ok mbuild verify r1)
    done
}

test_a_flipped_bit_anywhere_in_the_bundle_is_found() {
    world
    build
    cp build/bundle.tar.zst whole
    local size at byte
    size=$(stat -c %s whole)
    for ((at = 0; at < size; at += 100)); do
        cp whole build/bundle.tar.zst
        byte=$(od -An -tu1 -j$at -N1 whole)
        printf "\\x$(printf %x $((byte ^ (1 << at / 100 % 8))))" | dd of=build/bundle.tar.zst bs=1 seek=$at conv=notrunc status=none
        run mbuild verify r1
        expect_fail 1 "NOT verified" "isn't what r1 tells" "isn't what was signed"
        run mbuild verify build/bundle.tar.zst
        expect_fail 1 "NOT verified"
    done
}

test_the_file_in_the_bundle_that_was_altered_is_named() {
    world
    build format=tar
    LC_ALL=C sed -i 's/^1999$/1998/' build/bundle.tar
    run mbuild verify r1
    expect_fail 1 "model/sub/weights.bin: it was altered" "NOT verified"
    build format=tar
    expect_restored bundle
    head -c 9000 build/bundle.tar >short
    run mbuild verify short
    expect_fail 1 "NOT verified"
}

test_what_can_not_be_verified_is_told_apart_from_what_is_wrong() {
    world
    build
    run mbuild verify r7
    expect_fail 2 "there is no release r7"
    run mbuild verify absent
    expect_fail 2 absent "No such file"
    run mbuild verify
    expect_fail 2 "mbuild releases"
    rm build/bundle.tar.zst
    run mbuild verify r1
    expect_fail 1 build/bundle.tar.zst "NOT verified"
    run mbuild verify weights.txt
    expect_fail 1 "NOT verified"
}

# ---- signatures

# parts SIGNATURE: the signed bytes as `signed`, the signature as `sig`.
parts() {
    local payload
    sed -nE 's/.*"sig": "([^"]*)".*/\1/p' "$1" | base64 -d >sig
    payload=$(sed -nE 's/.*"payload": "([^"]*)".*/\1/p' "$1")
    base64 -d <<<"$payload" >payload
    { printf 'DSSEv1 28 application/vnd.in-toto+json %d ' "$(stat -c %s payload)" && cat payload; } >signed
}

test_openssl_verifies_the_signature() {
    command -v openssl >/dev/null || skip "there is no openssl"
    world
    build
    parts build/bundle.tar.zst.sig
    expect_ok openssl dgst -sha256 -verify build/bundle.tar.zst.pub -signature sig signed
    grep -q "$(sha build/bundle.tar.zst)" payload
    expect_same "$(sed -nE 's/.*"hint": "([^"]*)".*/\1/p' build/bundle.tar.zst.sig)" "$(sha build/bundle.tar.zst.pub)"
}

test_ed25519_signs_as_well() {
    command -v openssl >/dev/null || skip "there is no openssl"
    world
    write mbuild.lua <<<'sign "s" { "weights.txt", key = "dev", algorithm = "ed25519", to = "build/w" }'
    build
    parts build/w.sig
    expect_ok openssl pkeyutl -verify -rawin -pubin -inkey build/w.pub -sigfile sig -in signed
    run mbuild verify --signature=build/w.sig --key=build/w.pub weights.txt
    expect_printed ed25519
}

test_the_openssf_client_verifies_a_folder_and_a_bundle() {
    local client=${MB_MODEL_SIGNING:-model_signing}
    command -v "$client" >/dev/null || skip "model_signing is not installed"
    world
    write more.lua </dev/null
    cat >>mbuild.lua <<<'sign "model-signature" { "build/model" }'
    build release model-signature
    expect_ok "$client" verify key build/model --signature build/model.sig --public_key build/model.pub
    expect_ok "$client" verify key build/bundle.tar.zst --signature build/bundle.tar.zst.sig --public_key build/bundle.tar.zst.pub
    run mbuild verify build/model
    expect_ok
    echo x >>build/model/config.json
    run "$client" verify key build/model --signature build/model.sig --public_key build/model.pub
    expect_different "$status" 0
    run mbuild verify build/model
    expect_fail 1 "config.json isn't what was signed"
}

test_the_key_is_made_outside_of_the_repo_for_its_owner_and_leaks_nowhere() {
    world
    run mbuild -n
    expect_ok
    expect_no_file "$XDG_CONFIG_HOME/mbuild"
    build
    local key=$XDG_CONFIG_HOME/mbuild/dev-ecdsa-p256.pem
    expect_same "$(stat -c %a "$key")" 600
    grep -v -- ----- "$key" | while read -r line; do
        ! grep -rqF -- "$line" . || fail "the key is in $(grep -rlF -- "$line" .)"
    done
    ! grep -rqF "$HOME" releases build || fail "the record tells where the key is"
}

test_another_key_signs_anew_and_the_bundle_stays() {
    command -v openssl >/dev/null || skip "there is no openssl"
    world
    build
    before=$(sha build/bundle.tar.zst)
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out own.pem 2>/dev/null
    chmod 600 own.pem
    build key=own.pem
    expect_ran release-signature release
    expect_same "$(sha build/bundle.tar.zst)" "$before"
    expect_file releases/r2.json
    run mbuild verify r2
    expect_ok
    expect_printed ecdsa-p384
    build key=own.pem
    expect_nothing_ran
    openssl genpkey -algorithm ED25519 -out own.pem
    build key=own.pem
    expect_ran release-signature release
    run mbuild verify r2
    expect_fail 1 "isn't the key that the record tells"
    write own.pem <<<"no key"
    try key=own.pem
    expect_fail 2 "own.pem is no private key"
    try key=/absent.pem
    expect_fail 2 "/absent.pem"
}

# ---- gates

test_a_closed_gate_stops_the_release_and_says_by_how_much() {
    world
    try min=0.99 drop=0.001
    expect_fail 2 "accuracy is 0.9725, at least 0.99 is demanded: 0.0175 too low" \
        "lies below the baseline's 0.98 by 0.0075, at most 0.001 is allowed: 0.0065 too much"
    expect_failed quality
    expect_no_file releases build/quality.json
    build
    expect_file releases/r1.json
}

test_an_unknown_figure_gets_the_nearest_name() {
    world
    write mbuild.lua <<<'gate "g" { "scores.in", acuracy = { min = 0.5 }, ["per_class.3.recal"] = { min = 0.5 } }'
    try
    expect_fail 2 'no figure acuracy; did you mean "accuracy"?' 'did you mean "per_class.3.recall"?'
    write mbuild.lua <<<'gate "g" { "scores.in", ["per_class.3.recall"] = { min = 0.5, max = 0.5 }, rise = { accuracy = { max = 0 } } }'
    build
    write mbuild.lua <<<'gate "g" { "scores.in", accuracy = { mim = 0.5 } }'
    try
    expect_fail 2 mbuild.lua:1 "unknown bound mim"
    write mbuild.lua <<<'gate "g" { "scores.in" }'
    try
    expect_fail 2 mbuild.lua:1 "no threshold"
}

test_each_of_several_scores_must_be_good() {
    write a.json <<<'{"accuracy":0.9}'
    write b.json <<<'{"accuracy":0.5}'
    write mbuild.lua <<<'gate "g" { "a.json", "b.json", accuracy = { min = 0.8 } }'
    try
    expect_fail 2 "accuracy is 0.5" "(b.json)"
    write b.json <<<'{"accuracy":null}'
    try
    expect_fail 2 "accuracy is null"
    write b.json <<<'{"accuracy":'
    try
    expect_fail 2 b.json
}

test_a_card_that_names_what_nobody_has_is_told() {
    world
    write CARD.md <<<$'# x\n{{acuracy}}'
    try
    expect_fail 2 "CARD.md:2: nothing is called {{acuracy}}; did you mean {{accuracy}}?"
}

# ---- records

test_other_content_under_the_same_version_is_a_new_number_and_says_so() {
    world
    build
    write weights.txt <<<other
    build
    expect_file releases/r2.json
    cat "$out" "$err" | grep -q "r2 has other content than r1 under the same version 1.0" || fail "it doesn't say so"
    run mbuild verify r2
    expect_ok
    expect_printed "after r1"
    run mbuild verify r1
    expect_fail 1 "is now the bundle of r2"
    write weights.txt < <(seq 1 2000)
    build
    expect_nothing_ran
    expect_no_file releases/r3.json
    expect_ok mbuild verify r1
    build version=1.1
    expect_file releases/r3.json
    expect_ok mbuild verify r3
}

test_a_record_that_is_gone_is_made_again_after_those_that_stand() {
    world
    build
    cp releases/r1.json kept
    rm releases/r1.json
    build
    expect_ran release
    cmp kept releases/r1.json
    write weights.txt <<<other
    build
    rm releases/r2.json
    write weights.txt < <(seq 1 2000)
    build
    expect_nothing_ran
    write weights.txt <<<third
    build
    write weights.txt <<<other
    build
    expect_ran release
    expect_file releases/r3.json
    expect_ok mbuild verify r3
}

test_strict_refuses_other_content_under_a_version() {
    world
    build strict=true
    write weights.txt <<<other
    try strict=true
    expect_fail 2 "version 1.0 was released as r1" "raise the version"
    expect_no_file releases/r2.json
    build strict=true version=1.1
    expect_file releases/r2.json
}

test_an_edited_record_is_found_and_nothing_is_added_to_it() {
    world
    build
    cp releases/r1.json kept
    change releases/r1.json 's/"version": "1.0"/"version": "2.0"/'
    run mbuild releases
    expect_fail 1 "it was altered"
    run mbuild verify r1
    expect_fail 1 "it was altered"
    write weights.txt <<<other
    try
    expect_fail 2 "releases/r1.json" "it was altered" "version control"
    expect_no_file releases/r2.json
    cp kept releases/r1.json
    build
    expect_file releases/r2.json
    rm releases/r1.json
    run mbuild verify r2
    expect_fail 1 "r1, is missing"
}

test_a_release_without_gate_or_key_is_possible_and_shows_it() {
    world
    change mbuild.lua 's/^release.*/release { bundle }/'
    build
    run mbuild releases
    expect_printed unsigned "0 passed"
    run mbuild verify r1
    expect_ok
    run mbuild verify --key=build/none.pub r1
    expect_fail 1 "build/none.pub"
}

test_wrong_rules_of_a_release_point_at_their_line() {
    world
    local rule
    for rule in 'release { }' 'release { "a", "b" }' 'release { "CARD.md", sign = 1 }' 'sign "s" { }' 'sign "s" { "CARD.md", key = 3 }' 'package "p" { }' \
        'package "p" { model = "weights.txt", format = "rar" }' 'package "p" { model = "weights.txt", version = "a/b" }' 'gate "g" { accuracy = { min = 1 } }' \
        'gate "g" { "scores.in", accuracy = 1 }'; do
        write mbuild.lua <<<$'\n'"$rule"
        try
        expect_fail 2 "mbuild.lua:2"
    done
}

run_tests "$@"
