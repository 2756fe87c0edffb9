#!/usr/bin/env bash
# Training as the whole program runs it: killed and gone on with, by seed, by parameters that don't exist, and the steps behind it.
source "$(dirname "$0")/../engine/lib.sh"

# A table of two numbers and a label that depends on them; columns x, y, label.
table() {
    awk -v rows="$1" 'BEGIN {
        srand(7)
        print "x,y,label"
        for (i = 0; i < rows; i++) { x = rand() * 2 - 1; y = rand() * 2 - 1; print x "," y "," (x * y > 0 ? "same" : "other") }
    }'
}
# The rules: a dataset and what else is on the standard input.
repo() {
    table "${1:-300}" | write points.csv
    { cat <<'LUA'; cat; } | write mbuild.lua
local points = dataset "points" { from = "points.csv", label = "label", split = { train = 0.7, val = 0.15, test = 0.15, stratify = true, seed = 1 } }
LUA
}
weights() { sha "build/$1/model.safetensors"; }

long='local m = train "m" { data = points, model = mlp { hidden = { 256, 256 }, dropout = 0.1 }, optimizer = adamw { lr = 3e-4 },
    epochs = 500, batch = 16, seed = 5, checkpoint_every = 0.1, log = "build/m.log" }'

# The process of the step that mbuild ($pid) runs: below its spawner and its plugin's template, of which the step before has left another.
# By /proc alone, in one pass: small systems have no pgrep. Numbers of processes begin anew at some time, so they tell no age.
step_process() {
    local stat line child p step=
    local -A parent=()
    for stat in /proc/[0-9]*/stat; do
        { read -r line <"$stat"; } 2>/dev/null || continue
        line=${line##*) } # past the name, which may hold anything: state, parent, …
        line=${line#* }
        stat=${stat#/proc/}
        parent[${stat%/stat}]=${line%% *}
    done
    for child in "${!parent[@]}"; do # three steps up is mbuild
        p=${parent[${parent[$child]}]-}
        [[ ${parent[${p:-0}]-} == "$pid" ]] && step=$child
    done
    [[ -n $step ]] || fail "no step is running"
    echo "$step"
}

test_a_training_killed_at_any_moment_goes_on_to_the_same_bits() {
    repo <<<"$long"
    build m
    local whole log moment step
    whole=$(weights m) log=$(sha build/m.log)
    rm -rf build .mbuild
    for moment in 0.1 0.15 0.05; do
        start m
        await_checkpoint
        sleep $moment
        kill -9 "$pid"
        finish
        expect_status 137
    done
    start m
    await_checkpoint
    sleep 0.1
    step=$(step_process)
    kill -9 "$step"
    finish
    expect_fail 2
    expect_file .mbuild/checkpoint/*/checkpoint.safetensors
    expect_no_file build/m build/m.log
    build m
    grep -rq "going on from a checkpoint" .mbuild/log "$out" || fail "it began anew"
    expect_same "$(weights m)" "$whole"
    expect_same "$(sha build/m.log)" "$log"
    [[ -z $(find .mbuild/checkpoint -name '*.safetensors') ]] || fail "the checkpoint is still there"
}

test_an_interrupted_training_ends_soon_and_goes_on_to_the_same_bits() {
    repo <<<"$long"
    build m
    local whole
    whole=$(weights m)
    rm -rf build .mbuild
    start m
    await_checkpoint
    kill -INT "$pid"
    finish
    expect_status 130
    expect_file .mbuild/checkpoint/*/checkpoint.safetensors
    build m
    expect_same "$(weights m)" "$whole"
}

test_a_damaged_checkpoint_is_passed_over_with_a_warning() {
    repo <<<"$long"
    build m
    local whole
    whole=$(weights m)
    rm -rf build .mbuild
    start m
    await_checkpoint
    kill -INT "$pid"
    finish
    echo "no checkpoint" >"$(echo .mbuild/checkpoint/*/checkpoint.safetensors)"
    build m
    expect_printed "starting anew"
    expect_same "$(weights m)" "$whole"
}

test_the_same_seed_gives_the_same_bits_wherever_and_another_seed_others() {
    repo <<'LUA'
local function one(name, seed, cpu) return train(name) { data = points, model = mlp { hidden = { 16 } }, epochs = 3, seed = seed, resources = { cpu = cpu } } end
one("a", 1, 1) one("c", 2, 1)
LUA
    build
    local first
    first=$(weights a)
    expect_different "$(weights c)" "$first"
    mkdir elsewhere
    cp points.csv mbuild.lua elsewhere
    change elsewhere/mbuild.lua 's/one("a", 1, 1)/one("a", 1, "all")/'
    cd elsewhere
    build a
    expect_same "$(weights a)" "$first"
}

test_how_often_checkpoints_are_taken_is_no_reason_to_train_again() {
    repo <<<'train "m" { data = points, model = mlp { hidden = { 8 } }, epochs = 2, checkpoint_every = 5 }'
    build
    change mbuild.lua 's/checkpoint_every = 5/checkpoint_every = 0/'
    build
    expect_nothing_ran
}

test_an_unknown_parameter_names_the_nearest() {
    repo <<<'train "m" { data = points, model = mlp { hidden = { 8 } }, epoch = 2 }'
    try
    expect_fail 2 'mbuild.lua:2' 'did you mean "epochs"'
    repo <<<'train "m" { data = points, model = mlp { hiden = { 8 } } }'
    try
    expect_fail 2 'mbuild.lua:2' 'mlp: unknown field hiden; did you mean "hidden"'
    repo <<<'train "m" { data = points, model = mlp { hidden = { 8 } }, optimizer = adam { momentum = 0.9 } }'
    try
    expect_fail 2 'mbuild.lua:2' 'adam: unknown field momentum'
    repo <<<'train "m" { data = points, model = mlp { hidden = { 8 }, activation = "rellu" } }'
    try
    expect_fail 2 'mbuild.lua:2' 'did you mean "relu"'
    repo <<<'train "m" { data = points, model = mlp { hidden = { 8 } }, optimizer = { kind = "sgd", nesterov = true } }'
    try
    expect_fail 2 'nesterov needs a momentum'
}

test_a_value_out_of_range_is_refused_before_anything_runs() {
    repo <<<'train "m" { data = points, model = mlp { hidden = { 0 } } }'
    try
    expect_fail 2 'out of range'
    expect_nothing_ran
    repo <<<'train "m" { data = points, model = mlp { hidden = { 8 } }, epochs = 0 }'
    try
    expect_fail 2 'epochs' 'out of range'
    expect_nothing_ran
}

test_data_with_missing_values_fail_the_step_and_name_line_and_column() {
    repo <<<'train "m" { data = dataset "holes" { from = "holes.csv", label = "label", clean = { missing = "keep" }, split = { train = 0.8, val = 0.2 } }, model = mlp {} }'
    { table 50 | sed '5s/^[^,]*/NA/;9s/^[^,]*//'; } | write holes.csv
    try m
    expect_fail 2 'x is missing (NaN)' 'clean the data'
}

test_one_class_only_fails_the_step_and_says_so() {
    repo <<<'train "m" { data = dataset "one" { from = "one.csv", label = "label", split = { train = 0.8, val = 0.2 } }, model = mlp {} }'
    { table 50 | sed '2,$s/other/same/'; } | write one.csv
    try m
    expect_status 2
    cat "$out" "$err" | grep -qE 'class' || fail "nothing speaks of classes"
}

test_a_batch_larger_than_the_data_is_all_of_it() {
    repo <<<'train "m" { data = points, model = mlp { hidden = { 8 } }, epochs = 2, batch = 1000000 }'
    build
    expect_file build/m/model.safetensors
}

test_early_stopping_tells_how_many_epochs_it_took() {
    repo 60 <<<'train "m" { data = points, model = mlp { hidden = { 64 } }, optimizer = adam { lr = 0.05 }, epochs = 2000, batch = 8, early_stop = { patience = 3 } }'
    build
    (($(metric m epochs) < 2000)) || fail "it went on to the end"
    expect_same "$(metric m epochs)" "$(($(metric m best_epoch) + 3))"
}

test_train_distill_quantize_and_evaluate_work_together_and_only_what_is_stale_runs_again() {
    repo <<'LUA'
local teacher = train "teacher" { data = points, model = mlp { hidden = { 64, 32 } }, optimizer = adam { lr = 0.01 }, schedule = cosine { warmup = 1 }, epochs = 60, batch = 16 }
local student = distill "student" { teacher = teacher, data = points, model = mlp { hidden = { 16 } }, optimizer = adam { lr = 0.02 },
    temperature = option("temperature", 2), alpha = 0.5, epochs = 60, batch = 16 }
local small = quantize "small" { model = student, calibrate = points.val }
evaluate "scores" { model = small, baseline = teacher, data = points.test, performance = "build/speed.json" }
LUA
    build scores
    expect_ran points teacher student small scores
    awk -v a="$(metric scores accuracy)" -v b="$(metric scores baseline_accuracy)" 'BEGIN { exit !(a > 0.85 && b > 0.85) }' ||
        fail "accuracies $(metric scores accuracy) and $(metric scores baseline_accuracy)"
    expect_file build/scores.json build/speed.json
    grep -q latency_ms build/speed.json
    ! grep -q latency_ms build/scores.json || fail "a measured figure is among the scores"
    build scores temperature=3
    expect_ran student small scores
    build scores
    expect_nothing_ran
    expect_restored student small scores
}

test_each_optimizer_schedule_and_kind_of_model_trains_by_its_constructor() {
    repo <<'LUA'
local function one(name, t)
  t.data, t.model, t.epochs = points, t.model or mlp { hidden = { 4 } }, 3
  train(name)(t)
end
one("sgd", { optimizer = sgd { lr = 0.1, momentum = 0.9, nesterov = true } })
one("adam", { optimizer = adam { lr = 0.01, beta1 = 0.8, weight_decay = 0.1 }, clip = 1 })
one("adamw", { optimizer = adamw { lr = 0.01, beta2 = 0.99, eps = 1e-6 }, class_weights = "balanced" })
one("constant", { schedule = constant { warmup = 1 } })
one("cosine", { schedule = cosine { warmup = 0.5, final = 0.1 } })
one("linear_decay", { schedule = linear_decay { final = 0.1 } })
one("step_decay", { schedule = step_decay { every = 1, factor = 0.5 } })
one("logistic", { model = logistic {} })
one("gelu", { model = mlp { hidden = { 4, 4 }, activation = "gelu", dropout = 0.1 } })
LUA
    build
    expect_file build/{sgd,adam,adamw,constant,cosine,linear_decay,step_decay,logistic,gelu}/model.safetensors
    expect_same "$(for m in build/*/; do [[ ! -e $m/model.safetensors ]] || sha "$m/model.safetensors"; done | sort | uniq -d)" ""
}

test_the_log_has_a_line_of_json_for_each_epoch() {
    repo <<<'train "m" { data = points, model = mlp { hidden = { 8 } }, epochs = 4, log = "build/m.jsonl" }'
    build
    expect_same "$(wc -l <build/m.jsonl)" 4
    grep -q '^{"accuracy":.*"epoch":4,"loss":.*"val_accuracy":.*}$' build/m.jsonl
}

run_tests "$@"
