/* Models: their gradients against finite differences, their folders read back, and what is refused in a folder. */
#include "lib/feed.h"
#include "lib/quantize.h"
#include "lib/train.h"
#include "small_data.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

static struct mbl_error error;
static struct mbl_arena arena;

static struct mbk *open_cpu(void) {
    struct mbk *k;
    char message[256];
    struct mbk_options one = {.threads = 1};
    if (mbk_open("cpu", &one, &k, message, sizeof message)) FAIL("%s", message);
    return kept(k);
}

static struct mbl_json *parse(const char *text) {
    struct mbl_json *v;
    if (mbl_json_parse(text, strlen(text), "test", &arena, &v, &error)) FAIL("%s", error.text);
    return v;
}

static char *in(const char *name) {
    return mbl_arena_printf(&arena, "%s/%s", test_folder(), name);
}

/* A model of that shape for such data, with starting weights. */
static struct mbl_model *make_model(struct mbk *k, const char *shape, const struct small *s) {
    struct mbl_schema schema;
    struct mbl_json *config;
    struct mbl_model *m;
    if (mbl_schema_parse(small_schema(s, &arena), &arena, &schema, &error) ||
        mbl_model_config(parse(shape), &schema, &arena, &config, &error) || mbl_model_create(k, config, &m, &error) ||
        mbl_model_allocate(m, &error) || mbl_model_initialize(m, 7, &error))
        FAIL("%s", error.text);
    return kept(m);
}

/* -- gradients */

/* The mean over rows of Σ c(row, output) · logit, by the model's forward in its own precision: linear in the logits, so its gradient is c.
 */
static double weighted_sum(struct mbl_model *m, const struct mbl_batch *b, const float *c) {
    struct mbk_tensor out;
    double sum = 0;
    if (m->architecture->forward(m, b, &out, &error)) FAIL("%s", error.text);
    for (int64_t i = 0; i < mbk_count(&out); i++) sum += (double)((float *)out.data)[i] * c[i];
    return sum;
}

/* Finite differences in float32 lose digits; a smooth activation and a step of 5e-4, small enough to cross few edges of max pools, leave
 * about three. */
static void check_gradients(const char *shape, const struct small *s) {
    struct mbk *k = open_cpu();
    struct mbl_model *m = make_model(k, shape, s);
    const int64_t rows = 5, n = rows * s->features;
    float *x = kept(calloc((size_t)n, sizeof *x)), *c = kept(calloc((size_t)(rows * m->outputs), sizeof *c)),
          *d = kept(calloc((size_t)(rows * m->outputs), sizeof *d));
    for (int64_t i = 0; i < n; i++) x[i] = (float)(small_random(5, (uint64_t)i) * 2 - 1);
    for (int64_t i = 0; i < rows * m->outputs; i++) d[i] = c[i] = (float)(small_random(6, (uint64_t)i) * 2 - 1);
    struct mbl_batch b = {.x = mbk_tensor2(x, MBK_F32, rows, s->features), .training = true, .seed = 3, .offset = 0};
    struct mbk_tensor out, dout = mbk_tensor2(d, MBK_F32, rows, m->outputs);
    if (mbl_model_allocate_gradients(m, &error) || m->architecture->reserve(m, rows, true, &error) ||
        m->architecture->forward(m, &b, &out, &error) || m->architecture->backward(m, &b, &dout, &error))
        FAIL("%s", error.text);
    int checked = 0;
    for (size_t p = 0; p < m->parameter_count; p++) {
        float *v = m->parameters[p].value.data, *g = m->parameters[p].gradient.data;
        int64_t count = mbk_count(&m->parameters[p].value);
        for (int64_t i = 0; i < count; i += count / 8 + 1, checked++) {
            const float kept = v[i], step = 5e-4f;
            v[i] = kept + step;
            double up = weighted_sum(m, &b, c);
            v[i] = kept - step;
            double down = weighted_sum(m, &b, c);
            v[i] = kept;
            double expected = (up - down) / (2 * (double)step);
            CHECKF(fabs(g[i] - expected) <= 2e-3 * (1 + fabs(expected)), "%s[%lld]: gradient %g, by differences %g", m->parameters[p].name,
                   (long long)i, (double)g[i], expected);
        }
    }
    CHECK(checked >= 8);
}

static const struct small six = {.rows = 40, .features = 6, .classes = 3, .seed = 1, .noise = 1};
static const struct small picture = {.rows = 40, .features = 72, .classes = 3, .shape = {6, 6, 2}, .seed = 1, .noise = 1};

TEST("an mlp's gradients are those that finite differences give")
{
    check_gradients("{\"kind\": \"mlp\", \"hidden\": [8, 5], \"activation\": \"tanh\"}", &six);
}

TEST("a linear model's gradients are those that finite differences give")
{
    check_gradients("{\"kind\": \"mlp\", \"hidden\": []}", &six);
}

TEST("gradients go through the same dropout as the values did")
{
    check_gradients("{\"kind\": \"mlp\", \"hidden\": [12, 6], \"activation\": \"silu\", \"dropout\": 0.4}", &six);
}

TEST("a cnn's gradients are those that finite differences give, pools and all")
{
    check_gradients("{\"kind\": \"cnn\", \"channels\": [3, 4], \"hidden\": [6], \"activation\": \"gelu\"}", &picture);
}

TEST("a cnn without pools or hidden layers has right gradients too")
{
    check_gradients("{\"kind\": \"cnn\", \"channels\": [2], \"hidden\": [], \"kernel\": 5, \"pool\": 1, \"activation\": \"tanh\"}",
                    &picture);
}

/* -- folders */

static void answers(struct mbl_model *m, const float *x, int64_t rows, float *out) {
    struct mbl_batch b = {.x = mbk_tensor2((void *)x, MBK_F32, rows, (int64_t)m->schema.features)};
    struct mbk_tensor y;
    if (m->architecture->reserve(m, rows, false, &error) || m->architecture->forward(m, &b, &y, &error)) FAIL("%s", error.text);
    memcpy(out, y.data, mbk_bytes(&y));
}

TEST("a model that was saved and loaded answers with the same bits")
{
    struct mbk *k = open_cpu();
    static const char *const shapes[] = {"{\"kind\": \"mlp\", \"hidden\": [8]}",
                                         "{\"kind\": \"cnn\", \"channels\": [3, 4], \"hidden\": [6]}"};
    for (int i = 0; i < 2; i++) {
        struct mbl_model *m = make_model(k, shapes[i], &picture), *again;
        float x[72 * 4], a[12], b[12];
        for (int n = 0; n < 72 * 4; n++) x[n] = (float)small_random(8, (uint64_t)n);
        if (mbl_model_save(m, in("m"), &error) || mbl_model_load(k, in("m"), &again, &error)) FAIL("%s", error.text);
        answers(m, x, 4, a);
        answers(kept(again), x, 4, b);
        CHECK_MEM(a, b, sizeof a);
    }
}

TEST("on disk, weights have PyTorch's shapes and order")
{
    struct mbk *k = open_cpu();
    struct mbl_model *m = make_model(k, "{\"kind\": \"cnn\", \"channels\": [3], \"hidden\": [5], \"kernel\": 3}", &picture);
    static struct mbl_safetensors file;
    if (mbl_model_save(m, in("m"), &error) || mbl_safetensors_open(in("m/model.safetensors"), &file, &error)) FAIL("%s", error.text);
    const struct mbl_tensor *conv = mbl_safetensors_find(&file, "convs.0.weight"), *linear = mbl_safetensors_find(&file, "layers.0.weight");
    CHECK(conv && linear);
    CHECK_EQ(conv->rank, 4);
    CHECK_EQ(conv->shape[0], 3);
    CHECK_EQ(conv->shape[1], 2);
    CHECK_EQ(conv->shape[2], 3);
    CHECK_EQ(conv->shape[3], 3);
    CHECK_EQ(linear->shape[1], 27);
    const float *c = mbl_model_find(m, "convs.0.weight")->value.data, *l = mbl_model_find(m, "layers.0.weight")->value.data;
    /* out 1, in 1, row 2, column 0: [O, I, H, W] there, [O, H, W, I] here */
    CHECK_EQ(((const float *)conv->data)[((1 * 2 + 1) * 3 + 2) * 3 + 0] == c[((1 * 3 + 2) * 3 + 0) * 2 + 1], 1);
    /* unit 4, channel 2, row 1, column 2 of the 3 × 3 × 3 image that is flattened */
    CHECK_EQ(((const float *)linear->data)[4 * 27 + (2 * 3 + 1) * 3 + 2] == l[4 * 27 + (1 * 3 + 2) * 3 + 2], 1);
}

static void expect_refused(const char *folder, const char *part) {
    struct mbk *k = open_cpu();
    struct mbl_model *m;
    CHECK_EQ(mbl_model_load(k, folder, &m, &error), -1);
    CHECK(m == NULL);
    CHECK_CONTAINS(error.text, part);
}

/* A saved model whose config was edited: `from` becomes `to`. */
static void edit_config(const char *from, const char *to) {
    struct mbk *k = open_cpu();
    struct mbl_model *m = make_model(k, "{\"kind\": \"mlp\", \"hidden\": [8]}", &six);
    struct mbl_buf text = {0}, edited = {0};
    if (mbl_model_save(m, in("m"), &error) || mbl_file_read(in("m/config.json"), 1 << 20, &text, &error)) FAIL("%s", error.text);
    char *at = strstr(text.data, from);
    if (!at) FAIL("config.json has no %s:\n%s", from, text.data);
    mbl_buf_add(&edited, text.data, (size_t)(at - text.data));
    mbl_buf_adds(&edited, to);
    mbl_buf_adds(&edited, at + strlen(from));
    if (mbl_file_write(in("m/config.json"), edited.data, edited.len, &error)) FAIL("%s", error.text);
    mbl_buf_free(&text);
    mbl_buf_free(&edited);
}

static const struct {
    const char *from, *to, *message;
} edits[] = {
    {"\"mbuild-mlp\"", "\"resnet\"", "model_type \"resnet\" is none that this version knows (mlp, cnn, bert, distilbert, roberta, gpt2, llama"},
    {"\"model_type\"", "\"model_kind\"", "model_type is missing"},
    {"\"hidden\": [8]", "\"hidden\": [9]", "tensor layers.0.weight is F32 [8, 6], but config.json makes it F32 [9, 6]"},
    {"\"hidden\": [8]", "\"hidden\": [8, 8]", "tensor layers.1.weight is missing"},
    {"\"hidden\": [8]", "\"hidden\": []", "tensor head.weight is F32 [3, 8], but config.json makes it F32 [3, 6]"},
    {"\"hidden\": [8]", "\"hidden\": [1e300]", "hidden[1]: a whole number from 1 to 65536 expected"},
    {"\"hidden\": [8]", "\"hidden\": [-1]", "hidden[1]: a whole number"},
    {"\"hidden\": [8]", "\"hidden\": \"wide\"", "hidden: a list of whole numbers expected"},
    {"\"hidden\": [8]", "\"hidden\": [65536, 65536, 65536, 65536]", "parameters; at most"},
    {"\"dropout\": 0", "\"dropout\": 7", "dropout: a number from 0 to 0.95 expected"},
    {"\"relu\"", "\"swish\"", "activation: one of relu"},
    {"\"id2label\": {", "\"id2label\": {\"3\": \"more\", ", "id2label: a table of 3 labels expected"},
    {"\"single_label_classification\"", "\"regression\"", "problem_type is \"regression\""},
    {"\"dataset\"", "\"data\"", "dataset is missing"},
    {"{", "{\"quantization\": {\"scheme\": \"int2\"}, ", "quantization.scheme: \"int8\" expected, found int2"},
    {"{", "{\"quantization\": {\"scheme\": \"int8\"}, ", "tensor layers.0.weight is F32 [8, 6], but config.json makes it I8 [8, 6]"},
    {"{", "[", "config.json"},
};

static void check_edit(const void *which) {
    size_t i = *(const size_t *)which;
    edit_config(edits[i].from, edits[i].to);
    expect_refused(in("m"), edits[i].message);
}

TEST_TABLE
{
    static size_t numbers[sizeof edits / sizeof *edits];
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        numbers[i] = i;
        test_add(check_edit, &numbers[i], "a config with %s for %s is refused", edits[i].to, edits[i].from);
    }
}

/* A saved mlp with one tensor changed in the file. */
static void save_tensors(void (*change)(struct mbl_tensor *t, size_t *count)) {
    struct mbk *k = open_cpu();
    struct mbl_model *m = make_model(k, "{\"kind\": \"mlp\", \"hidden\": [8]}", &six);
    static struct mbl_safetensors file;
    struct mbl_tensor t[8];
    if (mbl_model_save(m, in("m"), &error) || mbl_safetensors_open(in("m/model.safetensors"), &file, &error)) FAIL("%s", error.text);
    size_t count = file.count;
    kept(file.tensors);
    kept(file.arena.blocks);
    memcpy(t, file.tensors, count * sizeof *t);
    change(t, &count);
    if (mbl_safetensors_save(in("m/model.safetensors"), t, count, NULL, &error)) FAIL("%s", error.text);
}

static float spoiled[64];
static void put_nan(struct mbl_tensor *t, size_t *count) {
    (void)count;
    memcpy(spoiled, t[3].data, t[3].bytes);
    spoiled[5] = NAN;
    t[3].data = spoiled;
}
static void add_one(struct mbl_tensor *t, size_t *count) {
    t[(*count)++] = (struct mbl_tensor){.name = "stowaway", .type = MBL_F32, .rank = 1, .shape = {4}, .data = spoiled};
}

TEST("weights that are no numbers are refused")
{
    save_tensors(put_nan);
    expect_refused(in("m"), "element 5 is no finite number");
}

TEST("a tensor that the config doesn't speak of is refused")
{
    save_tensors(add_one);
    expect_refused(in("m"), "tensor stowaway is none of the model's");
}

TEST("a folder without weights, or with half of them, is refused")
{
    edit_config("{", "{");
    struct mbl_buf b = {0};
    if (mbl_file_read(in("m/model.safetensors"), 1 << 20, &b, &error)) FAIL("%s", error.text);
    CHECK_EQ(truncate(in("m/model.safetensors"), (off_t)b.len - 4), 0);
    mbl_buf_free(&b);
    expect_refused(in("m"), "model.safetensors");
    unlink(in("m/model.safetensors"));
    expect_refused(in("m"), "model.safetensors");
}

TEST("one class only can't be learned, nor data without label or features")
{
    struct mbk *k = open_cpu();
    struct mbl_model *m;
    CHECK_EQ(mbl_model_create(
                 k,
                 parse("{\"model_type\": \"mbuild-mlp\", \"dataset\": {\"version\": 1, \"task\": \"classification\", \"classes\": [\"a\"], "
                       "\"columns\": [{\"name\": \"x\", \"kind\": \"numeric\"}, {\"name\": \"y\", \"kind\": \"label\"}]}}"),
                 &m, &error),
             -1);
    CHECK_CONTAINS(error.text, "just one class (a)");
    CHECK_EQ(mbl_model_create(k, parse("{\"model_type\": \"mbuild-mlp\", \"dataset\": {\"version\": 1, \"task\": \"none\", "
                                       "\"columns\": [{\"name\": \"x\", \"kind\": \"numeric\"}]}}"), &m, &error), -1);
    CHECK_CONTAINS(error.text, "no label");
    CHECK_EQ(
        mbl_model_create(
            k,
            parse(
                "{\"model_type\": \"mbuild-mlp\", \"dataset\": {\"version\": 1, \"task\": \"classification\", \"classes\": [\"a\", \"b\"], "
                "\"columns\": [{\"name\": \"y\", \"kind\": \"label\"}]}}"),
            &m, &error),
        -1);
    CHECK_CONTAINS(error.text, "no numeric or categorical column");
}

/* -- int8 */

TEST("int8 weights are within half a step of the float ones, channel by channel")
{
    struct mbk *k = open_cpu();
    struct small part = picture;
    struct mbl_model *m = make_model(k, "{\"kind\": \"cnn\", \"channels\": [3], \"hidden\": [6]}", &picture), *q;
    static struct mbl_feed feed;
    struct mbl_quantize_options o = {.percentile = 100, .batch = 16};
    struct mbl_quantize_report report;
    small_write(in("part"), &part, NULL);
    if (mbl_feed_open(&feed, m, in("part"), &error) || mbl_quantize(m, &feed, &o, &q, &report, &error)) FAIL("%s", error.text);
    kept(q);
    CHECK_EQ(report.layers, 3);
    CHECK(report.weight_error > 0 && report.weight_error < 0.01);
    static const char *const names[] = {"convs.0", "layers.0", "head"};
    for (int l = 0; l < 3; l++) {
        const struct mbl_parameter *w = mbl_model_find(m, mbl_arena_printf(&arena, "%s.weight", names[l])),
                                   *i8 = mbl_model_find(q, w->name);
        const float *scales = mbl_model_find(q, mbl_arena_printf(&arena, "%s.weight_scale", names[l]))->value.data;
        int64_t per_channel = mbk_count(&w->value) / w->value.shape[0];
        for (int64_t i = 0; i < mbk_count(&w->value); i++) {
            double exact = ((float *)w->value.data)[i], back = ((int8_t *)i8->value.data)[i] * (double)scales[i / per_channel];
            CHECKF(fabs(exact - back) <= scales[i / per_channel] * 0.5000001, "%s[%lld]: %g became %g", w->name, (long long)i, exact, back);
        }
    }
    /* And the answers stay near: the error of a layer is at most a hundredth of its range or so. */
    float a[40 * 3], b[40 * 3];
    if (mbl_predict(m, &feed, 0, 40, 16, a, &error) || mbl_predict(q, &feed, 0, 40, 16, b, &error)) FAIL("%s", error.text);
    double off = 0, size = 0;
    for (int i = 0; i < 120; i++) {
        off += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        size += (double)a[i] * a[i];
    }
    CHECKF(off > 0 && sqrt(off / size) < 0.05, "relative error %g", sqrt(off / size));
}

TEST("a quantized model that was saved and loaded answers with the same bits; quantized again it is refused")
{
    struct mbk *k = open_cpu();
    struct small part = picture;
    struct mbl_model *m = make_model(k, "{\"kind\": \"cnn\", \"channels\": [3], \"hidden\": [6]}", &picture), *q, *again, *twice;
    static struct mbl_feed feed;
    struct mbl_quantize_options o = {.percentile = 99.9, .batch = 16};
    struct mbl_quantize_report report;
    small_write(in("part"), &part, NULL);
    if (mbl_feed_open(&feed, m, in("part"), &error) || mbl_quantize(m, &feed, &o, &q, &report, &error) ||
        mbl_model_save(q, in("q"), &error) || mbl_model_load(k, in("q"), &again, &error))
        FAIL("%s", error.text);
    kept(q);
    kept(again);
    float a[40 * 3], b[40 * 3];
    if (mbl_predict(q, &feed, 0, 40, 7, a, &error) || mbl_predict(again, &feed, 0, 40, 16, b, &error)) FAIL("%s", error.text);
    CHECK_MEM(a, b, sizeof a);
    CHECK_EQ(mbl_quantize(again, &feed, &o, &twice, &report, &error), -1);
    CHECK_CONTAINS(error.text, "quantized already");
}

/* -- what decides the order of things */

TEST("a shuffle is a permutation, another in each epoch and for each seed, and the same each time")
{
    static int32_t a[1000], b[1000], c[1000], seen[1000];
    mbl_shuffle(1, 0, 1000, a);
    mbl_shuffle(1, 0, 1000, b);
    CHECK_MEM(a, b, sizeof a);
    for (int i = 0; i < 1000; i++) seen[a[i]]++;
    for (int i = 0; i < 1000; i++) CHECK_EQ(seen[i], 1);
    mbl_shuffle(1, 1, 1000, b);
    mbl_shuffle(2, 0, 1000, c);
    int same_epoch = 0, same_seed = 0;
    for (int i = 0; i < 1000; i++) {
        same_epoch += a[i] == b[i];
        same_seed += a[i] == c[i];
    }
    CHECK(same_epoch < 10 && same_seed < 10);
}

TEST("learning rates warm up, and then go as their schedule says")
{
    struct mbl_train_options o = {.lr = 1, .epochs = 10, .warmup = 2, .schedule = MBL_COSINE, .final = 0.1, .every = 3, .factor = 0.5};
    CHECK_NEAR(mbl_learning_rate(&o, 0, 10), 0.05, 1e-15);
    CHECK_NEAR(mbl_learning_rate(&o, 19, 10), 1, 1e-15);
    CHECK_NEAR(mbl_learning_rate(&o, 20, 10), 1, 1e-15);
    CHECK_NEAR(mbl_learning_rate(&o, 60, 10), 0.55, 1e-12);
    CHECK_NEAR(mbl_learning_rate(&o, 100, 10), 0.1, 1e-12);
    o.schedule = MBL_LINEAR_DOWN;
    CHECK_NEAR(mbl_learning_rate(&o, 60, 10), 0.55, 1e-12);
    o.schedule = MBL_STEPWISE;
    CHECK_NEAR(mbl_learning_rate(&o, 29, 10), 1, 0);
    CHECK_NEAR(mbl_learning_rate(&o, 30, 10), 0.5, 0);
    CHECK_NEAR(mbl_learning_rate(&o, 90, 10), 0.125, 0);
    o.schedule = MBL_CONSTANT;
    CHECK_NEAR(mbl_learning_rate(&o, 90, 10), 1, 0);
}
