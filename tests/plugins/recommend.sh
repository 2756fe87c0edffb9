#!/usr/bin/env bash
# Recommenders as the whole program runs them: better than what everybody likes, killed and gone on with, asked, refused; and beside PyTorch
# itself, where python3 (or $MB_PYTHON) has it: recommend_steps.c tests the same on values that were recorded.
source "$(dirname "$0")/../engine/lib.sh"

python=${MB_PYTHON:-python3}

# world USERS ITEMS: pairs.csv, users.csv, items.csv of a world with tastes: clubs like the genre of their own number, and some items are liked
# by all. Chance is a generator of our own, so that every awk makes the same world.
world() {
    awk -v users="$1" -v items="$2" '
    function chance() { state = (state * 16807) % 2147483647; return state / 2147483647 }
    BEGIN {
        state = 20240501
        for (i = 0; i < items; i++) charm[i] = 2 * chance()
        print "user,item,stars,when" >"pairs.csv"
        print "user,club,age" >"users.csv"
        print "item,genre,size" >"items.csv"
        for (u = 0; u < users; u++) {
            split("", taken)
            for (n = 0; n < 12; n++) {
                best = -1
                for (i = 0; i < items; i++) {
                    liking = charm[i] + (u % 5 == i % 5 ? 3 : 0) - log(-log(chance()))
                    if (!(i in taken) && (best < 0 || liking > most)) { best = i; most = liking }
                }
                taken[best] = 1
                stars = 1 + charm[best] + (u % 5 == best % 5 ? 2 : 0)
                printf "u%d,i%d,%.2f,%d\n", u, best, stars, n * 1000 + u >"pairs.csv"
            }
            print "u" u ",c" u % 5 "," 20 + u % 40 >"users.csv"
        }
        for (i = 0; i < items; i++) print "i" i ",g" i % 5 "," i % 30 >"items.csv"
    }'
}
# The rules: a dataset `d` of the world, and what else is on the standard input.
repo() {
    world "${1:-200}" "${2:-100}"
    { cat <<'LUA'; cat; } | write mbuild.lua
project { name = "tastes", version = "1.0.0" }
local d = dataset "d" {
  from = "pairs.csv", user = "user", item = "item", rating = "stars", time = "when", users = "users.csv",
  items = { from = "items.csv", unknown = "keep" }, split = { by = "last", val = 1, test = 2 },
}
LUA
}
json() { "$python" -c 'import json, sys; print(eval(sys.argv[2], {"j": json.load(open(sys.argv[1]))}))' "$1" "$2"; }
at_least() { awk -v found="$1" -v least="$2" 'BEGIN { exit !(found >= least) }' || fail "$3 is $1, expected at least $2"; }
need_python() { command -v "$python" >/dev/null || skip "no $python"; }

models='local mf = train "mf" { data = d, model = matrix_factorization { factors = 16, loss = "bpr", negatives = 4 },
  optimizer = adamw { lr = 0.02, weight_decay = 0.1 }, epochs = 30, batch = 128, seed = 2 }
local towers = train "towers" { data = d, model = two_towers { embedding = 16, hidden = { 32 }, factors = 16 },
  optimizer = adamw { lr = 0.005 }, epochs = 15, batch = 128, seed = 2 }
'

test_both_models_find_twice_as_much_as_the_most_popular_items_in_a_world_with_tastes() {
    need_python
    repo <<<"$models"'
evaluate "mf-scores" { model = mf, data = d.test }
evaluate "towers-scores" { model = towers, data = d.test, baseline = mf }'
    build mf-scores towers-scores
    for m in mf towers; do
        at_least "$(json build/$m-scores.json 'j["recall@10"] / j["popularity"]["recall@10"]')" 2 "how many times more $m finds"
        at_least "$(json build/$m-scores.json 'j["ndcg@10"] / j["popularity"]["ndcg@10"]')" 2 "how many times better $m ranks"
    done
    [[ $(json build/mf-scores.json 'j["baseline"]["recall@10"] == j["popularity"]["recall@10"]') == True ]] || fail "popularity is no baseline"
    [[ $(json build/towers-scores.json 'j["baseline"]["recall@10"]') == $(json build/mf-scores.json 'j["recall@10"]') ]] || fail "the baseline's recall is another"
}

test_ratings_are_told_better_than_by_their_mean() {
    need_python
    repo <<'LUA'
local m = train "m" { data = d, model = matrix_factorization { factors = 8 }, optimizer = adamw { lr = 0.02, weight_decay = 0.3 }, epochs = 30, batch = 128, early_stop = { metric = "val_r2" } }
evaluate "e" { model = m, data = d.test }
predict "p" { model = m, data = d.test, to = "build/p.json" }
LUA
    build e p
    at_least "$(json build/e.json 'j["r2"]')" 0.5 "r2"
    [[ $(json build/e.json 'j["rmse"] > j["mae"] > 0') == True ]] || fail "rmse and mae are missing"
    [[ $(json build/p.json 'len(j["outputs"]) == 400 and all(0 < x[0] < 7 for x in j["outputs"])') == True ]] || fail "the ratings aren't in their own unit"
}

test_a_gate_stops_what_is_no_better_than_what_everybody_likes() {
    repo <<<"$models"'
local e = evaluate "e" { model = mf, data = d.test }
gate "fine" { e, ["recall@10"] = { min = 0.1 }, drop = { ["recall@10"] = { max = -0.1 } } }
gate "closed" { e, drop = { ["recall@10"] = { max = -0.9 } } }'
    build fine
    run mbuild closed
    expect_fail 2 "recall@10 is"
}

test_a_recommender_killed_at_any_moment_goes_on_to_the_same_bits() {
    repo 400 200 <<'LUA'
local m = train "m" { data = d, model = two_towers { embedding = 32, hidden = { 64 }, factors = 32, loss = "bpr", negatives = 8, dropout = 0.1 },
  epochs = 30, batch = 64, seed = 5, checkpoint_every = 0.1, log = "build/m.log" }
LUA
    build m
    local whole log moment i
    whole=$(sha build/m/model.safetensors) log=$(sha build/m.log)
    rm -rf build .mbuild
    for moment in 0.1 0.05; do
        start m
        for ((i = 0; i < 2000; i++)); do
            [[ -e $(echo .mbuild/checkpoint/*/checkpoint.safetensors) ]] && break
            sleep 0.01
        done
        sleep $moment
        kill -9 "$pid"
        finish
        expect_status 137
    done
    build m
    grep -rq "going on from a checkpoint" .mbuild/log "$out" || fail "it began anew"
    expect_same "$(sha build/m/model.safetensors)" "$whole"
    expect_same "$(sha build/m.log)" "$log"
}

test_lists_have_nothing_that_a_user_has_seen_and_newcomers_get_theirs_by_features() {
    need_python
    repo <<<"$models"'
predict "lists" { model = towers, data = d.test, k = 5, to = "build/lists.jsonl" }
predict "all" { model = towers, data = d.test, k = 100, exclude_seen = false, to = "build/all.json" }
predict "tensors" { model = mf, data = d.train, k = 7 }
predict "new" { model = towers, ids = "new.json", k = 8, to = "build/new.jsonl" }
predict "strange" { model = mf, ids = "new.json", k = 8, to = "build/strange.jsonl" }
predict "refused" { model = mf, ids = "new.json", k = 8, unknown = "fail", to = "build/refused.jsonl" }
predict "wrong" { model = towers, ids = "wrong.json", to = "build/wrong.jsonl" }
predict "twice" { model = towers, ids = "twice.json", to = "build/twice.jsonl" }'
    write new.json <<<'{"users": ["u3", {"id": "new", "features": {"club": "c3", "age": 25}}]}'
    write wrong.json <<<'{"users": [{"id": "new", "features": {"clubs": "c3"}}]}'
    write twice.json <<<'{"users": ["u3", {"id": "new", "features": {"age": 25}}, {"id": "new", "features": {"age": 26}}]}'
    build lists all tensors new strange
    "$python" - <<'PY' || fail "the lists aren't what they should be"
import csv, json
taken = {}
for row in csv.DictReader(open("pairs.csv")): taken.setdefault(row["user"], set()).add(row["item"])
lists = [json.loads(line) for line in open("build/lists.jsonl")]
assert len(lists) == 200
for l in lists:
    assert len(l["items"]) == 5 == len(set(l["items"])), l
    assert not set(l["items"]) & taken[l["user"]], l
    assert l["scores"] == sorted(l["scores"], reverse=True), l
everything = json.load(open("build/all.json"))
assert all(len(set(x)) == len(x) == 100 for x in everything["items"])
new = [json.loads(line) for line in open("build/new.jsonl")]
assert [x["user"] for x in new] == ["u3", "new"]
assert sum(int(i[1:]) % 5 == 3 for i in new[1]["items"]) >= 6, new[1]
strange = [json.loads(line) for line in open("build/strange.jsonl")]
counts = {}
held = {}
for row in csv.DictReader(open("pairs.csv")):
    if int(row["when"]) < 9000: counts[row["item"]] = counts.get(row["item"], 0) + 1
assert strange[1]["scores"] == sorted(counts.values(), reverse=True)[:8], strange[1]
PY
    grep -rq "1 of 2 users are unknown to the model, \"new\" say" .mbuild/log "$out" || fail "nobody was warned of a stranger"
    run mbuild refused
    expect_fail 2 'user "new" is unknown to the model; unknown = "popular"'
    run mbuild wrong
    expect_fail 2 'wrong.json: "new": the model'"'"'s users have no feature "clubs"'
    run mbuild twice
    expect_fail 2 'users[3]: "new" is there already, in the data or above'
}

test_a_model_and_data_that_do_not_fit_are_told_apart() {
    repo <<<"$models"'
local rows = dataset "rows" { from = "users.csv", label = "club" }
local m = train "mlp" { data = d, model = mlp {} }
train "from-rows" { data = rows.all, model = two_towers {} }
train "bad-loss" { data = d, model = two_towers { loss = "mse" } }
train "bad-watch" { data = d, model = two_towers {}, early_stop = { metric = "val_accuracy" } }
train "pieces" { data = d, model = two_towers {}, accumulate = 2 }
evaluate "on-rows" { model = mf, data = rows.all }
quantize "int8" { model = mf, calibrate = d.val }
distill "distilled" { teacher = mf, data = d, model = matrix_factorization {} }
finetune "tuned" { model = mf, data = d }
train "narrow" { data = d, model = matrix_factorization {}, precision = "bfloat16" }'
    while IFS='|' read -r target message; do
        run mbuild "$target"
        expect_fail 2 "$message"
    done <<'LINES'
mlp|the data are interactions of users and items, which a mlp can't learn from
from-rows|a two_towers learns from interactions: give the dataset a user = "column" and an item = "column"
bad-loss|loss: one of softmax, bpr expected for two_towers
bad-watch|ranking has val_loss and val_ndcg
pieces|a batch whose items are compared with each other can't go in pieces
on-rows|a matrix_factorization takes interactions
int8|a matrix_factorization stays float32
distilled|a matrix_factorization can't be distilled
tuned|can't be fine-tuned
narrow|float32
LINES
}

test_data_with_other_users_and_items_are_judged_by_a_model_that_has_never_met_them() {
    need_python
    repo <<<"$models"'
local other = dataset "other" { from = "other.csv", user = "user", item = "item", split = { by = "last", test = 1 } }
evaluate "e" { model = mf, data = other.test }'
    write other.csv <<<$'user,item\nu0,i0\nu0,i5\nstranger,i1\nstranger,i2\nu1,thing\nu1,i3'
    build e
    [[ $(json build/e.json '(j["users"], j["strangers"], j["items"] <= 100)') == "(3, 1, True)" ]] || fail "$(cat build/e.json)"
}

test_steps_have_the_losses_that_pytorch_has_now() {
    [[ -z $MB_SANITIZERS ]] || skip "built with sanitizers"
    "$python" -c 'import torch, safetensors' 2>/dev/null || skip "$python has no torch and safetensors"
    MB_STEPS=$PWD "$MB_BUILD/tests/plugins/recommend_steps" >log 2>&1 || fail "$(grep -v '^ok' log | head -n 1)"
    "$python" "$MB_SOURCE/tests/plugins/recommend_torch.py" . check "$MB_SOURCE/tests/plugins/data/recommend.json" >log 2>&1 || fail "$(tail -n 1 log)"
}

run_tests "$@"
