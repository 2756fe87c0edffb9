/* Encoders and decoders: logits, losses over 20 steps and greedy tokens as transformers and PyTorch gave them (tests/plugins/data),
 * gradients against finite differences, folders read back. */
#include "lib/generate.h"
#include "lib/hf.h"
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

static char *in(const char *name) {
    return mbl_arena_printf(&arena, "%s/%s", test_folder(), name);
}

static char *data(const char *name) {
    const char *source = getenv("MB_SOURCE");
    return mbl_arena_printf(&arena, "%s/tests/plugins/data/%s", source ? source : ".", name);
}

static struct mbl_model *load(struct mbk *k, const char *folder) {
    struct mbl_model *m;
    if (mbl_model_load(k, folder, &m, &error)) FAIL("%s", error.text);
    return kept(m);
}

/* -- a recorded model */

struct record {
    struct mbl_safetensors file;
    struct mbl_batch batch;
    const struct mbl_tensor *logits, *labels, *losses, *greedy;
};

static struct mbk_tensor on_device(const struct mbl_tensor *t) {
    enum mbk_type type = mbl_dtype_kernel(t->type);
    struct mbk_tensor x = mbk_tensor(kept(calloc(1, t->bytes + 1)), type, t->rank, t->shape);
    memcpy(x.data, t->data, t->bytes);
    return x;
}

static struct record *read_record(const char *name) {
    struct record *r = kept(calloc(1, sizeof *r));
    if (mbl_safetensors_open(data(mbl_arena_printf(&arena, "%s/expected.safetensors", name)), &r->file, &error)) FAIL("%s", error.text);
    const struct mbl_safetensors *f = &r->file;
    r->batch.ids = on_device(mbl_safetensors_find(f, "ids"));
    r->batch.lengths = on_device(mbl_safetensors_find(f, "lengths"));
    if (!strncmp(name, "bert", 4)) r->batch.types = on_device(mbl_safetensors_find(f, "types"));
    r->logits = mbl_safetensors_find(f, "logits");
    r->labels = mbl_safetensors_find(f, "labels");
    r->losses = mbl_safetensors_find(f, "losses");
    r->greedy = mbl_safetensors_find(f, "greedy");
    return r;
}

static bool is_padding(const struct record *r, int64_t row, int64_t rows) {
    int64_t time = r->batch.ids.shape[1];
    if (rows == r->batch.ids.shape[0]) return false;
    return row % time >= ((const int32_t *)r->batch.lengths.data)[row / time];
}

static void check_logits(struct mbl_model *m, const struct record *r, const char *name) {
    struct mbk_tensor y;
    if (m->architecture->forward(m, &r->batch, &y, &error)) FAIL("%s: %s", name, error.text);
    CHECK(y.shape[0] == r->logits->shape[0] && y.shape[1] == r->logits->shape[1]);
    const float *found = y.data, *expected = r->logits->data;
    for (int64_t i = 0; i < mbk_count(&y); i++) {
        if (is_padding(r, i / y.shape[1], y.shape[0])) continue;
        CHECKF(fabsf(found[i] - expected[i]) <= 1e-4f, "%s: logit %lld is %g, with transformers %g", name, (long long)i, (double)found[i],
               (double)expected[i]);
    }
}

static const char *const all[] = {"bert-classes", "bert-value", "bert-tokens", "bert-masked", "bert-embedding", "gpt2", "llama",
                                  "llama-tied"};
enum { ALL = sizeof all / sizeof *all };

TEST("logits are those that transformers gives, for each kind of model and head")
{
    struct mbk *k = open_cpu();
    for (int i = 0; i < ALL; i++) check_logits(load(k, data(all[i])), read_record(all[i]), all[i]);
}

/* -- training */

static double loss_of(struct mbl_model *m, const struct record *r, const struct mbk_tensor *logits, const struct mbk_tensor *d) {
    int64_t rows = logits->shape[0], counted = 0;
    struct mbk_tensor losses = mbk_tensor1(calloc((size_t)rows, 4), MBK_F32, rows);
    int status;
    double sum = 0;
    if (m->problem == MBL_VALUES) {
        struct mbk_tensor targets = mbk_tensor2((void *)r->labels->data, MBK_F32, rows, 1);
        counted = rows;
        status = mbk_mse(m->k, logits, &targets, 1 / (float)rows, &losses, d);
    } else {
        struct mbk_tensor labels = mbk_tensor1((void *)r->labels->data, MBK_I32, rows);
        for (int64_t i = 0; i < rows; i++) counted += ((const int32_t *)labels.data)[i] != -100;
        status = mbk_cross_entropy(m->k, logits, &labels, 0, 1 / (float)counted, &losses, d);
    }
    if (status) FAIL("%s", mbk_error(m->k));
    for (int64_t i = 0; i < rows; i++) sum += ((float *)losses.data)[i];
    free(losses.data);
    return sum / (double)counted;
}

static struct mbk_parameter *optimized(struct mbl_model *m) {
    if (mbl_model_allocate_gradients(m, &error)) FAIL("%s", error.text);
    struct mbk_parameter *p = kept(calloc(m->parameter_count, sizeof *p));
    for (size_t i = 0; i < m->parameter_count; i++) {
        p[i] = (struct mbk_parameter){.value = m->parameters[i].value, .gradient = m->parameters[i].gradient,
                                      .first = m->parameters[i].value, .second = m->parameters[i].value};
        p[i].first.data = kept(calloc(1, mbk_bytes(&p[i].value)));
        p[i].second.data = kept(calloc(1, mbk_bytes(&p[i].value)));
    }
    return p;
}

static void check_training(const char *name, double most) {
    struct mbk *k = open_cpu();
    struct mbl_model *m = load(k, data(name));
    struct record *r = read_record(name);
    struct mbk_parameter *p = optimized(m);
    int count = (int)m->parameter_count;
    const float *expected = r->losses->data;
    r->batch.training = true;
    for (int step = 0; step <= 20; step++) {
        struct mbk_tensor y;
        if (m->architecture->forward(m, &r->batch, &y, &error)) FAIL("%s", error.text);
        struct mbk_tensor d = y;
        d.data = calloc(1, mbk_bytes(&y));
        double loss = loss_of(m, r, &y, &d);
        CHECKF(fabs(loss - (double)expected[step]) <= most, "%s: loss after %d steps is %g, with PyTorch %g", name, step, loss,
               (double)expected[step]);
        struct mbk_adam adam = {.lr = 3e-3f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .step = step + 1, .gradient_scale = 1};
        if (mbk_zero_gradients(k, p, count) || m->architecture->backward(m, &r->batch, &d, &error) || mbk_adam(k, &adam, p, count))
            FAIL("%s: %s %s", name, error.text, mbk_error(k));
        free(d.data);
    }
}

TEST("20 steps of AdamW on the same batch lose what they do in PyTorch")
{
    for (int i = 0; i < ALL; i++)
        if (strcmp(all[i], "bert-embedding")) check_training(all[i], 1e-3);
}

/* -- gradients */

static double weighted_sum(struct mbl_model *m, const struct mbl_batch *b, const float *c) {
    struct mbk_tensor out;
    double sum = 0;
    if (m->architecture->forward(m, b, &out, &error)) FAIL("%s", error.text);
    for (int64_t i = 0; i < mbk_count(&out); i++) sum += (double)((float *)out.data)[i] * c[i];
    return sum;
}

/* Dropout on: its masks are the same for the same seed. */
static void check_gradients(const char *name, const char *const keys[3]) {
    struct mbk *k = open_cpu();
    struct mbl_json *config;
    struct mbl_model *m, *from = load(k, data(name));
    if (mbl_json_read(data(mbl_arena_printf(&arena, "%s/config.json", name)), &arena, &config, &error)) FAIL("%s", error.text);
    for (int i = 0; i < 3 && keys[i]; i++) mbl_json_set(&arena, config, keys[i], mbl_json_float(&arena, 0.25));
    if (mbl_model_create(k, config, &m, &error) || mbl_model_allocate(m, &error) || mbl_model_allocate_gradients(kept(m), &error))
        FAIL("%s", error.text);
    memcpy(m->values, from->values, m->block_bytes);
    struct record *r = read_record(name);
    r->batch.training = true;
    r->batch.seed = 9;
    struct mbk_tensor y;
    if (m->architecture->forward(m, &r->batch, &y, &error)) FAIL("%s", error.text);
    float *c = kept(calloc((size_t)mbk_count(&y), sizeof *c)), *d = kept(calloc((size_t)mbk_count(&y), sizeof *d));
    for (int64_t i = 0; i < mbk_count(&y); i++)
        if (!is_padding(r, i / y.shape[1], y.shape[0])) d[i] = c[i] = (float)(small_random(6, (uint64_t)i) * 2 - 1);
    struct mbk_tensor dy = y;
    dy.data = d;
    if (m->architecture->backward(m, &r->batch, &dy, &error)) FAIL("%s", error.text);
    for (size_t p = 0; p < m->parameter_count; p++) {
        float *v = m->parameters[p].value.data, *g = m->parameters[p].gradient.data;
        int64_t count = mbk_count(&m->parameters[p].value);
        for (int64_t i = 0; i < count; i += count / 5 + 1) {
            const float was = v[i], step = 2e-3f;
            v[i] = was + step;
            double up = weighted_sum(m, &r->batch, c);
            v[i] = was - step;
            double down = weighted_sum(m, &r->batch, c);
            v[i] = was;
            double expected = (up - down) / (2 * (double)step);
            CHECKF(fabs(g[i] - expected) <= 6e-3 * (1 + fabs(expected)), "%s: %s[%lld]: gradient %g, by differences %g", name,
                   m->parameters[p].name, (long long)i, (double)g[i], expected);
        }
    }
}

TEST("an encoder's gradients are those that finite differences give, dropout and all")
{
    const char *const keys[] = {"hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"};
    for (int i = 0; i < 4; i++) check_gradients(all[i], keys);
}

TEST("a GPT-2's gradients are those that finite differences give, dropout and all")
{
    const char *const keys[] = {"resid_pdrop", "attn_pdrop", "embd_pdrop"};
    check_gradients("gpt2", keys);
}

TEST("a Llama's gradients are those that finite differences give, dropout and all")
{
    const char *const keys[] = {"attention_dropout", NULL, NULL};
    check_gradients("llama", keys);
    check_gradients("llama-tied", keys);
}

/* -- generation */

TEST("the likeliest tokens are those that transformers generates, with a cache here and there")
{
    static const char *const decoders[] = {"gpt2", "llama", "llama-tied"};
    struct mbk *k = open_cpu();
    for (int i = 0; i < 3; i++) {
        struct mbl_model *m = load(k, data(decoders[i]));
        struct record *r = read_record(decoders[i]);
        struct mbl_generation o = {.most = 8, .top_p = 1};
        int32_t out[8];
        int64_t made;
        if (mbl_generate(m, &o, r->batch.ids.data, 4, NULL, NULL, out, &made, &error)) FAIL("%s", error.text);
        CHECK(made == 8);
        CHECK_MEM(out, r->greedy->data, sizeof out);
    }
}

TEST("what is drawn follows from the seed, and ends where the positions do")
{
    struct mbk *k = open_cpu();
    struct mbl_model *m = load(k, data("gpt2"));
    struct mbl_generation o = {.most = 100, .temperature = 1.5, .top_k = 20, .top_p = 0.95, .seed = 4};
    int32_t prompt[3] = {1, 2, 3}, a[100], b[100], c[100];
    int64_t n, again, other;
    if (mbl_generate(m, &o, prompt, 3, NULL, NULL, a, &n, &error) || mbl_generate(m, &o, prompt, 3, NULL, NULL, b, &again, &error))
        FAIL("%s", error.text);
    CHECK(n == 14 && again == 14); /* 16 positions: the last token that is drawn needs none */
    CHECK_MEM(a, b, (size_t)n * sizeof *a);
    o.seed = 5;
    if (mbl_generate(m, &o, prompt, 3, NULL, NULL, c, &other, &error)) FAIL("%s", error.text);
    CHECK(memcmp(a, c, (size_t)n * sizeof *a) != 0);
    o.stops = &a[2];
    o.stop_count = 1;
    o.seed = 4;
    if (mbl_generate(m, &o, prompt, 3, NULL, NULL, c, &other, &error)) FAIL("%s", error.text);
    CHECK(other <= 2);
}

TEST("a prompt that a model cannot go on from is refused")
{
    struct mbk *k = open_cpu();
    struct mbl_model *m = load(k, data("gpt2"));
    struct mbl_generation o = {.most = 3, .top_p = 1};
    int32_t prompt[17] = {1, 99}, out[3];
    int64_t n;
    CHECK(mbl_generate(m, &o, prompt, 2, NULL, NULL, out, &n, &error));
    CHECK_STR(error.text, "token 2 of the prompt is 99; an id below 37 expected");
    CHECK(mbl_generate(m, &o, prompt, 17, NULL, NULL, out, &n, &error));
    CHECK_STR(error.text, "the prompt has 17 tokens, but the model has positions for 16");
    CHECK(mbl_generate(load(k, data("bert-masked")), &o, prompt, 1, NULL, NULL, out, &n, &error));
    CHECK_STR(error.text, "a bert cannot generate; a decoder (gpt2, llama) can");
}

/* -- folders */

TEST("a model that was saved and loaded answers as transformers did")
{
    struct mbk *k = open_cpu();
    for (int i = 0; i < ALL; i++) {
        if (mbl_model_save(load(k, data(all[i])), in(all[i]), &error)) FAIL("%s", error.text);
        check_logits(load(k, in(all[i])), read_record(all[i]), all[i]);
    }
}

TEST("an encoder learns something else on the same body: its head starts anew, by the seed")
{
    struct mbk *k = open_cpu();
    struct mbl_model *old = load(k, data("bert-masked")), *m, *again;
    if (mbl_model_load_for(k, data("bert-masked"), MBL_CLASSES, NULL, 3, &m, &error) ||
        mbl_model_load_for(k, data("bert-masked"), MBL_CLASSES, NULL, 3, &again, &error))
        FAIL("%s", error.text);
    kept(m);
    kept(again);
    CHECK(m->outputs == 2 && m->problem == MBL_CLASSES);
    const struct mbl_parameter *head = mbl_model_find(m, "classifier.weight"), *body = mbl_model_find(m, "bert.embeddings.LayerNorm.bias");
    CHECK(head && head->missing && fabsf(*(float *)head->value.data) > 0);
    CHECK(body && !body->missing);
    CHECK_MEM(body->value.data, mbl_model_find(old, body->name)->value.data, mbk_bytes(&body->value));
    CHECK_MEM(head->value.data, mbl_model_find(again, head->name)->value.data, mbk_bytes(&head->value));
}

TEST("weights are found under old names, without the body's prefix; one that is missing or of no use is named")
{
    struct mbk *k = open_cpu();
    static struct mbl_safetensors file;
    struct mbl_model *m;
    if (mbl_safetensors_open(data("bert-masked/model.safetensors"), &file, &error)) FAIL("%s", error.text);
    struct mbl_tensor *t = kept(calloc(file.count + 1, sizeof *t));
    for (size_t i = 0; i < file.count; i++) {
        t[i] = file.tensors[i];
        const char *name = strncmp(t[i].name, "bert.", 5) ? t[i].name : t[i].name + 5, *norm = strstr(name, "LayerNorm.");
        if (norm) name = mbl_arena_printf(&arena, "%.*s%s", (int)(norm - name) + 10, name, norm[10] == 'w' ? "gamma" : "beta");
        t[i].name = name;
    }
    if (mbl_folder_make(in("old"), &error) || mbl_safetensors_save(in("old/model.safetensors"), t, file.count, NULL, &error))
        FAIL("%s", error.text);
    CHECK(!symlink(kept(realpath(data("bert-masked/config.json"), NULL)), in("old/config.json")));
    check_logits(load(k, in("old")), read_record("bert-masked"), "old");
    if (mbl_safetensors_save(in("old/model.safetensors"), t, file.count - 1, NULL, &error)) FAIL("%s", error.text);
    CHECK(mbl_model_load(k, in("old"), &m, &error));
    CHECKF(strstr(error.text, "tensor ") && strstr(error.text, " is missing"), "%s", error.text);
    t[file.count] = t[0];
    t[file.count].name = "encoder.layer.7.output.dense.bias";
    if (mbl_safetensors_save(in("old/model.safetensors"), t, file.count + 1, NULL, &error)) FAIL("%s", error.text);
    CHECK(mbl_model_load(k, in("old"), &m, &error));
    CHECKF(strstr(error.text, "encoder.layer.7.output.dense.bias is none of the model's"), "%s", error.text);
}
