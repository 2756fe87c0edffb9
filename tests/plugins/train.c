/* The steps train, distill, quantize and evaluate, run one after the other on small data by a host of the test's own. */
#include "fake_host.h"
#include "lib/files.h"
#include "lib/model.h"
#include "small_data.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct small blobs = {.rows = 200, .features = 6, .classes = 3, .seed = 1, .noise = 0.6};
static const struct small halves = {.rows = 120, .features = 5, .classes = 2, .seed = 2, .noise = 0.3};
static const struct small plane = {.rows = 160, .features = 4, .classes = 0, .seed = 3, .noise = 1};
static const struct small images = {.rows = 150, .features = 36, .classes = 3, .shape = {6, 6, 1}, .seed = 4, .noise = 0.8};
/* Hardly to be told apart: a model soon learns these by heart and gets worse on others. */
static const struct small noisy = {.rows = 60, .features = 6, .classes = 3, .seed = 1, .noise = 4};

#define MLP "\"model\": {\"kind\": \"mlp\", \"hidden\": [16]}"
#define CNN "\"model\": {\"kind\": \"cnn\", \"channels\": [4, 8], \"hidden\": [16]}"
#define FAST "\"optimizer\": {\"kind\": \"adamw\", \"lr\": 0.01}, \"batch\": 16"

static struct mbl_arena arena; /* of what lasts as long as the process */

static char *in(const char *name) {
    return mbl_arena_printf(&arena, "%s/%s", test_folder(), name);
}

static int run_fake(struct fake *f) {
    int status = fake_run(f);
    kept(f->arena.blocks);
    return status;
}

/* Parts of the same kind from other seeds. */
static void write_parts(const struct small *s) {
    struct small part = *s;
    small_write(in("train"), &part, NULL);
    part.seed += 100;
    part.rows = s->rows / 2;
    small_write(in("val"), &part, NULL);
    part.seed += 100;
    small_write(in("test"), &part, NULL);
}

static void prepare(struct fake *f, const char *plugin, const char *params, const char *model) {
    fake_open(f, plugin, params);
    fake_path(f, "train", in("train"));
    fake_path(f, "val", in("val"));
    fake_path(f, "model", in(model));
}

static void train(struct fake *f, const char *params, const char *model) {
    prepare(f, "train", params, model);
    if (run_fake(f) != MB_OK) FAIL("train: %s", f->message);
}

static void evaluate(struct fake *f, const char *model, const char *baseline) {
    fake_open(f, "evaluate", "{\"timed\": 3}");
    fake_path(f, "model", in(model));
    fake_path(f, "data", in("test"));
    if (baseline) fake_path(f, "baseline", in(baseline));
    fake_path(f, "metrics", in("metrics.json"));
    if (run_fake(f) != MB_OK) FAIL("evaluate: %s", f->message);
}

static void quantize(struct fake *f, const char *model, const char *out) {
    fake_open(f, "quantize", "{}");
    fake_path(f, "source", in(model));
    fake_path(f, "calibrate", in("val"));
    fake_path(f, "model", in(out));
    if (run_fake(f) != MB_OK) FAIL("quantize: %s", f->message);
}

/* A file's bytes. */
static struct mbl_buf content(const char *name) {
    struct mbl_buf b = {0};
    struct mbl_error e;
    if (mbl_file_read(in(name), 1 << 24, &b, &e)) FAIL("%s", e.text);
    kept(b.data);
    return b;
}

static bool same_file(const char *a, const char *b) {
    struct mbl_buf x = content(a), y = content(b);
    return x.len == y.len && !memcmp(x.data, y.data, x.len);
}

static void expect_same_file(const char *a, const char *b) {
    CHECKF(same_file(a, b), "%s and %s differ", a, b);
}


TEST("an mlp learns to tell three clouds of points apart, and its int8 copy still can")
{
    struct fake f;
    write_parts(&blobs);
    train(&f, "{" MLP ", " FAST "}", "m");
    CHECKF(fake_value(&f, "val_accuracy") > 0.95, "only %g", fake_value(&f, "val_accuracy"));
    quantize(&f, "m", "q");
    CHECKF(fake_value(&f, "agreement") > 0.97, "only %g", fake_value(&f, "agreement"));
    CHECKF(fake_value(&f, "weight_error") < 0.01, "%g", fake_value(&f, "weight_error"));
    evaluate(&f, "q", "m");
    CHECK(fake_value(&f, "accuracy") > 0.95);
    CHECK(fabs(fake_value(&f, "accuracy") - fake_value(&f, "baseline_accuracy")) < 0.03);
}

TEST("a cnn learns small images, and its int8 copy is less than half as large and agrees")
{
    struct fake f;
    write_parts(&images);
    train(&f, "{\"model\": {\"kind\": \"cnn\", \"channels\": [16, 32], \"hidden\": [64]}, " FAST "}", "m");
    CHECKF(fake_value(&f, "val_accuracy") > 0.95, "only %g", fake_value(&f, "val_accuracy"));
    quantize(&f, "m", "q");
    CHECK(fake_value(&f, "agreement") > 0.97);
    struct stat before, after;
    CHECK(!stat(in("m/model.safetensors"), &before) && !stat(in("q/model.safetensors"), &after));
    CHECK(after.st_size * 2 < before.st_size);
}

TEST("two classes are learned by one logit, and its area under the curve is told")
{
    struct fake f;
    write_parts(&halves);
    train(&f, "{" MLP ", " FAST ", \"epochs\": 40}", "m");
    CHECKF(fake_value(&f, "val_accuracy") > 0.9, "only %g", fake_value(&f, "val_accuracy"));
    evaluate(&f, "m", NULL);
    CHECK(fake_value(&f, "auc") > 0.95);
    CHECK(fake_value(&f, "accuracy") > 0.9);
}

TEST("linear regression finds a plane, in the target's own unit")
{
    struct fake f;
    write_parts(&plane);
    train(&f, "{\"model\": {\"kind\": \"mlp\", \"hidden\": []}, " FAST ", \"epochs\": 150}", "m");
    evaluate(&f, "m", NULL);
    CHECKF(fake_value(&f, "rmse") < 0.05, "%g", fake_value(&f, "rmse"));
    CHECK(fake_value(&f, "r2") > 0.999);
    quantize(&f, "m", "q");
    CHECK(fake_value(&f, "difference") < 0.05);
}

TEST("the metrics file is canonical, has the figures of model and baseline, and is the same each time")
{
    struct fake f;
    struct mbl_json *t;
    struct mbl_error e;
    write_parts(&blobs);
    train(&f, "{" MLP ", " FAST ", \"epochs\": 5}", "m");
    train(&f, "{" MLP ", " FAST ", \"epochs\": 1}", "early");
    evaluate(&f, "m", "early");
    struct mbl_buf first = content("metrics.json");
    if (mbl_json_read(in("metrics.json"), &arena, &t, &e)) FAIL("%s", e.text);
    CHECK_EQ(mbl_json_get_int(t, "rows", 0), 100);
    CHECK_NEAR(mbl_json_get_float(t, "accuracy", -1), fake_value(&f, "accuracy"), 0);
    CHECK_NEAR(mbl_json_get_float(mbl_json_get(t, "baseline"), "log_loss", -1), fake_value(&f, "baseline_log_loss"), 0);
    CHECK(mbl_json_get_int(t, "size_bytes", 0) > 1000);
    CHECK(mbl_json_get(t, "latency_ms") == NULL);
    CHECK(fake_value(&f, "latency_ms") > 0);
    CHECK(fake_value(&f, "peak_memory_bytes") > 1e5);
    evaluate(&f, "m", "early");
    CHECK_STR(content("metrics.json").data, first.data);
}

static void distill(struct fake *f, const char *params, const char *teacher, const char *model) {
    prepare(f, "distill", params, model);
    fake_path(f, "teacher", in(teacher));
}

TEST("with alpha 1 a student becomes its teacher: of three classes, of two, and of numbers")
{
    static const struct small *const kinds[] = {&blobs, &halves, &plane};
    for (int i = 0; i < 3; i++) {
        struct fake f;
        struct mbl_json *t;
        struct mbl_error e;
        write_parts(kinds[i]);
        train(&f, "{" MLP ", " FAST ", \"epochs\": 20}", "m");
        distill(&f, "{" MLP ", " FAST ", \"epochs\": 150, \"seed\": 9, \"alpha\": 1, \"temperature\": 3}", "m", "s");
        if (run_fake(&f) != MB_OK) FAIL("distill: %s", f.message);
        evaluate(&f, "s", "m");
        if (mbl_json_read(in("metrics.json"), &arena, &t, &e)) FAIL("%s", e.text);
        const char *figure = kinds[i]->classes ? "log_loss" : "rmse";
        double mine = mbl_json_get_float(t, figure, -1), its = mbl_json_get_float(mbl_json_get(t, "baseline"), figure, -2);
        CHECKF(fabs(mine - its) < 0.05 * (kinds[i]->classes ? 1 : its + 1), "kind %d: %s %g, the teacher's %g", i, figure, mine, its);
    }
}

TEST("with alpha 0 a student learns as if it had no teacher, to the bit")
{
    static const struct small *const kinds[] = {&halves, &plane};
    for (int i = 0; i < 2; i++) {
        struct fake f;
        write_parts(kinds[i]);
        train(&f, "{" MLP ", " FAST ", \"epochs\": 4}", "m");
        distill(&f, "{" MLP ", " FAST ", \"epochs\": 4, \"alpha\": 0}", "m", "s");
        if (run_fake(&f) != MB_OK) FAIL("distill: %s", f.message);
        expect_same_file("m/model.safetensors", "s/model.safetensors");
    }
}

TEST("an int8 model can teach, too")
{
    struct fake f;
    write_parts(&images);
    train(&f, "{" CNN ", " FAST "}", "m");
    quantize(&f, "m", "q");
    distill(&f, "{" MLP ", " FAST ", \"alpha\": 1}", "q", "s");
    if (run_fake(&f) != MB_OK) FAIL("distill: %s", f.message);
    CHECKF(fake_value(&f, "val_accuracy") > 0.9, "only %g", fake_value(&f, "val_accuracy"));
}

TEST("data that a model wasn't made for can't be evaluated or calibrated on, and the message says what differs")
{
    struct fake f;
    write_parts(&blobs);
    train(&f, "{" MLP ", \"epochs\": 1}", "m");
    write_parts(&halves);
    fake_open(&f, "evaluate", "{}");
    fake_path(&f, "model", in("m"));
    fake_path(&f, "data", in("test"));
    fake_path(&f, "metrics", in("metrics.json"));
    CHECK_EQ(run_fake(&f), MB_FAILED);
    CHECK_CONTAINS(f.message, "these data aren't what the model takes: 6 features here, 5 there");
    fake_open(&f, "quantize", "{}");
    fake_path(&f, "source", in("m"));
    fake_path(&f, "calibrate", in("val"));
    fake_path(&f, "model", in("q"));
    CHECK_EQ(run_fake(&f), MB_FAILED);
    CHECK_CONTAINS(f.message, "these data aren't what the model takes");
}

TEST("a teacher of other data is refused")
{
    struct fake f;
    write_parts(&halves);
    train(&f, "{" MLP ", " FAST ", \"epochs\": 1}", "m");
    write_parts(&blobs);
    distill(&f, "{" MLP "}", "m", "s");
    CHECK_EQ(run_fake(&f), MB_FAILED);
    CHECK_CONTAINS(f.message, "was not made for these data");
}

TEST("the same seed gives the same bits, another seed others")
{
    struct fake f;
    write_parts(&images);
    train(&f, "{\"model\": {\"kind\": \"cnn\", \"channels\": [4], \"hidden\": [16], \"dropout\": 0.3}, \"epochs\": 3}", "a");
    train(&f, "{\"model\": {\"kind\": \"cnn\", \"channels\": [4], \"hidden\": [16], \"dropout\": 0.3}, \"epochs\": 3}", "b");
    expect_same_file("a/model.safetensors", "b/model.safetensors");
    expect_same_file("a/config.json", "b/config.json");
    train(&f, "{\"model\": {\"kind\": \"cnn\", \"channels\": [4], \"hidden\": [16], \"dropout\": 0.3}, \"epochs\": 3, \"seed\": 2}", "c");
    CHECK(!same_file("a/model.safetensors", "c/model.safetensors"));
}

/* -- stopping and going on */

static const char *const resumable[] = {
    "{\"model\": {\"kind\": \"mlp\", \"hidden\": [16], \"dropout\": 0.2}, \"batch\": 32, \"epochs\": 6, \"checkpoint_every\": 0, \"class_weights\": \"balanced\", "
    "\"clip\": 0.5, \"schedule\": {\"kind\": \"cosine\", \"warmup\": 1}, \"early_stop\": {\"patience\": 3}}",
    "{\"model\": {\"kind\": \"cnn\", \"channels\": [4], \"dropout\": 0.2, \"hidden\": [8]}, \"batch\": 50, \"epochs\": 5, \"checkpoint_every\": 0, "
    "\"optimizer\": {\"kind\": \"sgd\", \"lr\": 0.05, \"momentum\": 0.9, \"nesterov\": true}, \"augment\": {\"shift\": 1, \"mirror\": true}}",
    "{\"model\": {\"kind\": \"mlp\", \"hidden\": [8]}, \"batch\": 40, \"epochs\": 5, \"checkpoint_every\": 1e9, \"optimizer\": {\"kind\": \"adam\", \"weight_decay\": 0.1}, "
    "\"label_smoothing\": 0.1}",
    "{\"model\": {\"kind\": \"mlp\", \"hidden\": [32]}, \"batch\": 16, \"epochs\": 60, \"checkpoint_every\": 0, \"optimizer\": {\"lr\": 0.02}, "
    "\"early_stop\": {\"patience\": 4}}"};

TEST("a training that is stopped after any number of steps goes on from its checkpoint to the same bits, its log too")
{
    static const struct small *const kinds[] = {&blobs, &images, &blobs, &noisy};
    for (int i = 0; i < 4; i++)
        for (int steps = 1; steps < 40; steps += 6) {
            struct fake f;
            struct mbl_error e;
            write_parts(kinds[i]);
            prepare(&f, "train", resumable[i], "whole");
            fake_path(&f, "log", in("whole.log"));
            if (run_fake(&f) != MB_OK) FAIL("%s", f.message);
            if (mbl_folder_make(in("checkpoints"), &e)) FAIL("%s", e.text);
            unlink(in("checkpoints/checkpoint.safetensors"));
            int status = MB_CANCELLED;
            for (int runs = 0; status == MB_CANCELLED; runs++) {
                prepare(&f, "train", resumable[i], "parts");
                fake_path(&f, "log", in("parts.log"));
                f.checkpoints = in("checkpoints");
                f.cancel_after = steps + 1;
                status = run_fake(&f);
                CHECK(runs < 100);
                CHECK_STR(f.warnings, "");
            }
            if (status != MB_OK) FAIL("%s", f.message);
            if (kinds[i] == &noisy) CHECK(fake_value(&f, "epochs") < 60);
            expect_same_file("whole/model.safetensors", "parts/model.safetensors");
            expect_same_file("whole.log", "parts.log");
        }
}

TEST("a damaged checkpoint is passed over with a warning, and training starts anew to the same bits")
{
    struct fake f;
    struct mbl_error e;
    write_parts(&blobs);
    train(&f, resumable[0], "whole");
    if (mbl_folder_make(in("checkpoints"), &e)) FAIL("%s", e.text);
    prepare(&f, "train", resumable[0], "cut");
    f.checkpoints = in("checkpoints");
    f.cancel_after = 9;
    CHECK_EQ(run_fake(&f), MB_CANCELLED);
    struct mbl_buf b = content("checkpoints/checkpoint.safetensors");
    for (size_t at = 3; at < b.len; at += b.len / 7) {
        b.data[at] ^= 4;
        if (mbl_file_write(in("checkpoints/checkpoint.safetensors"), b.data, at % 2 ? b.len : at, &e)) FAIL("%s", e.text);
        b.data[at] ^= 4;
        prepare(&f, "train", resumable[0], "parts");
        f.checkpoints = in("checkpoints");
        if (run_fake(&f) != MB_OK) FAIL("%s", f.message);
        CHECK_CONTAINS(f.warnings, "the checkpoint can't be used");
        expect_same_file("whole/model.safetensors", "parts/model.safetensors");
    }
}

/* The validation loss of an epoch, out of a log. */
static double logged_loss(const char *log, int epoch) {
    struct mbl_buf text = content(log);
    struct mbl_error e;
    struct mbl_json *line;
    const char *at = text.data;
    for (int i = 1; i < epoch; i++) at = strchr(at, '\n') + 1;
    if (mbl_json_parse(at, strcspn(at, "\n"), log, &arena, &line, &e)) FAIL("%s", e.text);
    CHECK_EQ(mbl_json_get_int(line, "epoch", 0), epoch);
    return mbl_json_get_float(line, "val_loss", -1);
}

TEST("early stopping ends before the epochs do and keeps the best epoch's weights")
{
    struct fake f;
    write_parts(&noisy);
    prepare(&f, "train",
            "{\"model\": {\"kind\": \"mlp\", \"hidden\": [64]}, \"optimizer\": {\"lr\": 0.02}, \"epochs\": 300, \"batch\": 16, "
            "\"early_stop\": {\"patience\": 5}}",
            "m");
    fake_path(&f, "log", in("log"));
    if (run_fake(&f) != MB_OK) FAIL("train: %s", f.message);
    double epochs = fake_value(&f, "epochs"), best = fake_value(&f, "best_epoch"), loss = fake_value(&f, "val_loss");
    CHECKF(epochs < 300 && epochs == best + 5, "%g epochs, the best was %g", epochs, best);
    CHECK_NEAR(logged_loss("log", (int)best), loss, 0);
    for (int i = 1; i <= (int)epochs; i++) CHECK(logged_loss("log", i) >= loss);
    char params[200];
    snprintf(params, sizeof params,
             "{\"model\": {\"kind\": \"mlp\", \"hidden\": [64]}, \"optimizer\": {\"lr\": 0.02}, \"epochs\": %d, \"batch\": 16}", (int)best);
    train(&f, params, "short");
    CHECK_NEAR(fake_value(&f, "val_loss"), loss, 0);
    expect_same_file("m/model.safetensors", "short/model.safetensors");
}

/* -- what can't be learned from */

static void refuse(const char *params, const char *part) {
    struct fake f;
    prepare(&f, "train", params, "m");
    CHECK_EQ(run_fake(&f), MB_FAILED);
    CHECK_CONTAINS(f.message, part);
}

static void put_nan(float *features, void *labels) {
    (void)labels;
    features[3 * 6 + 2] = NAN;
}

TEST("a missing value is an error that names its line and column")
{
    write_parts(&blobs);
    small_write(in("train"), &blobs, put_nan);
    refuse("{" MLP "}", "line 5: f2 is missing (NaN)");
}

TEST("one class only is an error that says so")
{
    struct small one = blobs;
    one.classes = 1;
    write_parts(&one);
    refuse("{" MLP "}", "just one class (c0)");
}

TEST("no rows are an error, and a batch larger than the data is the whole of it")
{
    struct fake f;
    struct small none = blobs;
    write_parts(&blobs);
    train(&f, "{" MLP ", \"batch\": 100000, \"epochs\": 2}", "a");
    train(&f, "{" MLP ", \"batch\": 200, \"epochs\": 2}", "b");
    expect_same_file("a/model.safetensors", "b/model.safetensors");
    none.rows = 0;
    small_write(in("train"), &none, NULL);
    refuse("{" MLP "}", "no rows");
}

TEST("a loss that runs away is an error that says what to do")
{
    write_parts(&plane);
    refuse("{" MLP ", \"optimizer\": {\"kind\": \"sgd\", \"lr\": 1000}, \"epochs\": 50}", "training diverged");
}

TEST("parameters that don't go together are refused, each with a reason")
{
    write_parts(&blobs);
    refuse("{\"model\": {\"kind\": \"mlp\", \"channels\": [3]}}", "mlp has no field \"channels\"; it has hidden, activation, dropout");
    refuse("{" CNN "}", "a cnn takes images");
    refuse("{" MLP ", \"optimizer\": {\"kind\": \"adam\", \"momentum\": 0.9}}",
           "optimizer: adam has no field \"momentum\"; it belongs to sgd");
    refuse("{" MLP ", \"optimizer\": {\"kind\": \"sgd\", \"nesterov\": true}}", "nesterov needs a momentum");
    refuse("{" MLP ", \"early_stop\": {\"metric\": \"val_r2\"}}", "classification has no val_r2");
    refuse("{" MLP ", \"augment\": {\"shift\": 1}}", "augment is for images");
    write_parts(&plane);
    refuse("{" MLP ", \"class_weights\": \"balanced\"}", "regression has no classes");
    refuse("{" MLP ", \"early_stop\": {\"metric\": \"val_accuracy\"}}", "regression has no val_accuracy");
    write_parts(&images);
    refuse("{\"model\": {\"kind\": \"cnn\", \"channels\": [2, 2, 2]}}", "too small to be pooled");
    refuse("{\"model\": {\"kind\": \"cnn\", \"channels\": [2], \"kernel\": 4}}", "kernel: 4 is even");
}

/* Of the second class, nine in ten are called the first. */
static void call_most_first(float *features, void *labels) {
    (void)features;
    for (int64_t r = 0; r < halves.rows; r++)
        if (r % 20 != 1) ((int32_t *)labels)[r] = 0;
}

TEST("balanced class weights make a rare class count as much as a frequent one")
{
    struct fake f;
    struct small rare = halves;
    write_parts(&rare);
    train(&f, "{" MLP ", \"class_weights\": \"balanced\", \"epochs\": 3}", "balanced");
    train(&f, "{" MLP ", \"epochs\": 3}", "plain");
    expect_same_file("plain/model.safetensors", "balanced/model.safetensors"); /* as many of each: all weights are 1 */
    small_write(in("train"), &halves, call_most_first);
    train(&f, "{" MLP ", " FAST ", \"class_weights\": \"balanced\"}", "balanced");
    train(&f, "{" MLP ", " FAST "}", "plain");
    evaluate(&f, "balanced", "plain");
    CHECKF(fake_value(&f, "recall_macro") > fake_value(&f, "baseline_recall_macro") + 0.2, "%g, plain %g", fake_value(&f, "recall_macro"),
           fake_value(&f, "baseline_recall_macro"));
}
