/* The steps train, distill, quantize and evaluate, run one after the other on small data by a host of the test's own. */
#include "fake_host.h"
#include "lib/files.h"
#include "lib/model.h"
#include "small_data.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct small blobs = {.rows = 200, .features = 6, .classes = 3, .seed = 1, .noise = 0.6};
static const struct small halves = {.rows = 120, .features = 5, .classes = 2, .seed = 2, .noise = 0.8};
static const struct small plane = {.rows = 160, .features = 4, .classes = 0, .seed = 3, .noise = 1};
static const struct small images = {.rows = 150, .features = 36, .classes = 3, .shape = {6, 6, 1}, .seed = 4, .noise = 0.8};

#define MLP "\"model\": {\"kind\": \"mlp\", \"hidden\": [16]}"
#define CNN "\"model\": {\"kind\": \"cnn\", \"channels\": [4, 8], \"hidden\": [16]}"
#define FAST "\"optimizer\": {\"kind\": \"adamw\", \"lr\": 0.01}, \"batch\": 16"

static char *in(const char *name) {
    return mbl_printf("%s/%s", test_folder(), name);
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
    if (fake_run(f) != MB_OK) FAIL("train: %s", f->message);
}

static void evaluate(struct fake *f, const char *model, const char *baseline) {
    fake_open(f, "evaluate", "{\"timed\": 3}");
    fake_path(f, "model", in(model));
    fake_path(f, "data", in("test"));
    if (baseline) fake_path(f, "baseline", in(baseline));
    fake_path(f, "metrics", in("metrics.json"));
    if (fake_run(f) != MB_OK) FAIL("evaluate: %s", f->message);
}

static void quantize(struct fake *f, const char *model, const char *out) {
    fake_open(f, "quantize", "{}");
    fake_path(f, "source", in(model));
    fake_path(f, "calibrate", in("val"));
    fake_path(f, "model", in(out));
    if (fake_run(f) != MB_OK) FAIL("quantize: %s", f->message);
}

static void expect_same_file(const char *a, const char *b) {
    struct mbl_buf x = {0}, y = {0};
    struct mbl_error e;
    if (mbl_file_read(in(a), 1 << 24, &x, &e) || mbl_file_read(in(b), 1 << 24, &y, &e)) FAIL("%s", e.text);
    CHECK_EQ(x.len, y.len);
    CHECKF(!memcmp(x.data, y.data, x.len), "%s and %s differ", a, b);
}

static int64_t size_of(const char *folder) {
    int64_t n;
    struct mbl_error e;
    if (mbl_model_size(in(folder), &n, &e)) FAIL("%s", e.text);
    return n;
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
