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

/* MB_MODELS: other models than the recorded ones, which hf.sh has PyTorch make. */
static char *data(const char *name) {
    const char *source = getenv("MB_SOURCE"), *models = getenv("MB_MODELS");
    if (models) return mbl_arena_printf(&arena, "%s/%s", models, name);
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
    const struct mbl_tensor *logits, *labels, *losses, *losses_bf16, *greedy;
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
    if (!strncmp(name, "bert", 4) || !strcmp(name, "roberta-masked")) r->batch.types = on_device(mbl_safetensors_find(f, "types"));
    r->logits = mbl_safetensors_find(f, "logits");
    r->labels = mbl_safetensors_find(f, "labels");
    r->losses = mbl_safetensors_find(f, "losses");
    r->losses_bf16 = mbl_safetensors_find(f, "losses_bf16");
    r->greedy = mbl_safetensors_find(f, "greedy");
    return r;
}

static bool is_padding(const struct record *r, int64_t row, int64_t rows) {
    int64_t time = r->batch.ids.shape[1];
    if (rows == r->batch.ids.shape[0]) return false;
    return row % time >= ((const int32_t *)r->batch.lengths.data)[row / time];
}

/* The pad token inside of a row matters to positions that are counted. */
static void count_positions(const struct mbl_model *m, struct record *r) {
    struct mbk_tensor *ids = &r->batch.ids;
    bool differ = false;
    if (!m->counts_positions) return;
    int32_t *positions = kept(calloc((size_t)mbk_count(ids), sizeof *positions));
    for (int64_t i = 0; i < ids->shape[0]; i++)
        differ |= mbl_count_positions(m, (int32_t *)ids->data + i * ids->shape[1], ids->shape[1], positions + i * ids->shape[1]);
    if (differ) r->batch.positions = mbk_tensor2(positions, MBK_I32, ids->shape[0], ids->shape[1]);
}

static void check_logits(struct mbl_model *m, struct record *r, const char *name) {
    struct mbk_tensor y;
    count_positions(m, r);
    if (m->architecture->forward(m, &r->batch, &y, &error)) FAIL("%s: %s", name, error.text);
    CHECK(y.shape[0] == r->logits->shape[0] && y.shape[1] == r->logits->shape[1]);
    const float *found = y.data, *expected = r->logits->data;
    for (int64_t i = 0; i < mbk_count(&y); i++) {
        if (is_padding(r, i / y.shape[1], y.shape[0])) continue;
        CHECKF(fabsf(found[i] - expected[i]) <= 1e-4f, "%s: logit %lld is %g, with transformers %g", name, (long long)i, (double)found[i],
               (double)expected[i]);
    }
}

static const char *const all[] = {"bert-classes", "bert-value", "bert-tokens", "bert-masked", "bert-embedding", "distilbert-classes",
                                  "distilbert-tokens", "distilbert-masked", "distilbert-embedding", "roberta-value", "roberta-tokens",
                                  "roberta-masked", "roberta-embedding", "gpt2", "llama", "llama-tied", "llama-linear",
                                  "llama-llama3", "mistral", "qwen2"};
enum { ALL = sizeof all / sizeof *all };

TEST("logits are those that transformers gives, for each kind of model and head")
{
    struct mbk *k = open_cpu();
    for (int i = 0; i < ALL; i++) check_logits(load(k, data(all[i])), read_record(all[i]), all[i]);
}

/* -- configs */

/* A recorded model's config with `changes` (JSON) in place of what it says. */
static struct mbl_model *changed(const char *name, const char *changes) {
    struct mbl_json *config, *more;
    struct mbl_model *m;
    if (mbl_json_read(data(mbl_arena_printf(&arena, "%s/config.json", name)), &arena, &config, &error) ||
        mbl_json_parse(changes, strlen(changes), "changes", &arena, &more, &error))
        FAIL("%s", error.text);
    for (size_t i = 0; i < more->count; i++) mbl_json_set(&arena, config, more->keys[i], more->items[i]);
    return mbl_model_create(open_cpu(), config, &m, &error) ? NULL : kept(m);
}

TEST("rotary positions that are scaled in ways that are not known, or by halves, are refused by name")
{
    static const char *const rows[][2] = {
        {"{\"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 4}}",
         "rope_parameters: the type \"yarn\" is none that this version knows (default, linear, dynamic, llama3)"},
        {"{\"rope_parameters\": null, \"rope_scaling\": {\"type\": \"longrope\"}}", "rope_scaling: the type \"longrope\" is none"},
        {"{\"rope_parameters\": {\"rope_type\": \"linear\"}}", "rope_parameters.factor: a number of at least 1 expected; it is missing"},
        {"{\"rope_parameters\": {\"rope_type\": \"linear\", \"factor\": 0.5}}", "rope_parameters.factor: a number of at least 1 expected"},
        {"{\"rope_parameters\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1}}",
         "rope_parameters.high_freq_factor: a number of at least 1e-06 expected; it is missing"},
        {"{\"rope_parameters\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4, \"high_freq_factor\": 1, "
         "\"original_max_position_embeddings\": 8}}", "high_freq_factor must be above low_freq_factor"},
        {"{\"rope_parameters\": {\"partial_rotary_factor\": 0.5}}", "partial_rotary_factor: 1 is all that this version knows"},
        {"{\"rope_parameters\": {\"rope_theta\": 0}}", "rope_theta: a number above 1 expected"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        CHECKF(!changed("llama", rows[i][0]), "%s is taken", rows[i][0]);
        CHECK_CONTAINS(error.text, rows[i][1]);
    }
}

TEST("rows are no longer than a window of keys, where there is one, and than the positions behind the pad token")
{
    static const struct {
        const char *name, *changes;
        int64_t longest;
    } rows[] = {{"mistral", "{}", 16}, {"mistral", "{\"sliding_window\": 8}", 8}, {"mistral", "{\"sliding_window\": null}", 16},
                {"qwen2", "{\"sliding_window\": 8}", 16}, {"qwen2", "{\"sliding_window\": 8, \"use_sliding_window\": true}", 8},
                {"llama", "{\"sliding_window\": 8}", 16}, {"roberta-tokens", "{}", 14}, {"roberta-tokens", "{\"pad_token_id\": 0}", 15}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct mbl_model *m = changed(rows[i].name, rows[i].changes);
        CHECKF(m != NULL, "%s", error.text);
        CHECK_EQ(m->longest, rows[i].longest);
    }
    CHECK(!changed("roberta-tokens", "{\"pad_token_id\": 20}"));
    CHECK_CONTAINS(error.text, "max_position_embeddings: more than 21 expected");
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
        const struct mbl_parameter *of = &m->parameters[i];
        p[i] = (struct mbk_parameter){.value = of->value, .gradient = of->gradient, .first = of->value, .second = of->value};
        if (of->copy.data) {
            p[i].value = of->copy;
            p[i].master = of->value;
        }
        p[i].first.data = kept(calloc(1, mbk_bytes(&of->value)));
        p[i].second.data = kept(calloc(1, mbk_bytes(&of->value)));
    }
    return p;
}

enum { STEPS = 20 };

/* The loss before each of 20 steps of AdamW and behind the last. */
static void train(const char *name, enum mbk_type precision, double losses[STEPS + 1]) {
    struct mbk *k = open_cpu();
    struct mbl_model *m = load(k, data(name));
    struct record *r = read_record(name);
    if (precision == MBK_BF16 && mbl_model_narrow(m, true, &error)) FAIL("%s", error.text);
    struct mbk_parameter *p = optimized(m);
    int count = (int)m->parameter_count;
    r->batch.training = true;
    for (int step = 0; step <= STEPS; step++) {
        struct mbk_tensor y;
        if (m->architecture->forward(m, &r->batch, &y, &error)) FAIL("%s: %s", name, error.text);
        struct mbk_tensor d = y;
        d.data = calloc(1, mbk_bytes(&y));
        losses[step] = loss_of(m, r, &y, &d);
        struct mbk_adam adam = {.lr = 3e-3f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .step = step + 1, .gradient_scale = 1};
        if (mbk_zero_gradients(k, p, count) || m->architecture->backward(m, &r->batch, &d, &error) || mbk_adam(k, &adam, p, count))
            FAIL("%s: %s %s", name, error.text, mbk_error(k));
        free(d.data);
    }
}

static void check_training(const char *name, enum mbk_type precision, double most) {
    const struct record *r = read_record(name);
    const float *expected = (precision == MBK_BF16 ? r->losses_bf16 : r->losses)->data;
    double losses[STEPS + 1];
    train(name, precision, losses);
    for (int step = 0; step <= STEPS; step++)
        CHECKF(fabs(losses[step] - (double)expected[step]) <= most, "%s: loss after %d steps is %g, with PyTorch %g", name, step,
               losses[step], (double)expected[step]);
}

TEST("20 steps of AdamW on the same batch lose what they do in PyTorch")
{
    for (int i = 0; i < ALL; i++)
        if (!strstr(all[i], "-embedding")) check_training(all[i], MBK_F32, 1e-3);
}

/* -- bfloat16 */

/* Both round, but not in the same places: what PyTorch loses is up to 2e-3 from what it does in float32, what we lose as far, perhaps the other way. */
TEST("20 steps of AdamW in bfloat16 lose what they do under PyTorch's autocast, to 6e-3")
{
    for (int i = 0; i < ALL; i++)
        if (!strstr(all[i], "-embedding")) check_training(all[i], MBK_BF16, 6e-3);
}

TEST("20 steps in bfloat16 lose about what they do in float32, and not the same")
{
    for (int i = 0; i < ALL; i++) {
        double full[STEPS + 1], narrow[STEPS + 1], most = 0;
        if (strstr(all[i], "-embedding")) continue;
        train(all[i], MBK_F32, full);
        train(all[i], MBK_BF16, narrow);
        for (int s = 0; s <= STEPS; s++) {
            CHECKF(fabs(narrow[s] - full[s]) <= 4e-3, "%s: loss after %d steps is %g, in float32 %g", all[i], s, narrow[s], full[s]);
            most = fmax(most, fabs(narrow[s] - full[s]));
        }
        CHECKF(most > 1e-7, "%s: nothing was rounded", all[i]);
    }
}

/* -- gradients */

static double weighted_sum(struct mbl_model *m, const struct mbl_batch *b, const float *c) {
    struct mbk_tensor out;
    double sum = 0;
    if (m->architecture->forward(m, b, &out, &error)) FAIL("%s", error.text);
    for (int64_t i = 0; i < mbk_count(&out); i++) sum += (double)((float *)out.data)[i] * c[i];
    return sum;
}

/* The recorded model with dropout on, whose masks are the same for the same seed; its outputs' gradient is given by chance. */
struct slope {
    struct mbl_model *m;
    struct record *r;
    float *c;                    /* what the outputs are weighed by; 0 at padding */
};

static struct slope differentiate(const char *name, const char *const keys[3], enum mbk_type precision, int threads) {
    struct mbk *k;
    char message[256];
    struct mbl_json *config;
    struct slope s;
    struct mbl_model *from = load(open_cpu(), data(name));
    if (mbk_open("cpu", &(struct mbk_options){.threads = threads}, &k, message, sizeof message)) FAIL("%s", message);
    kept(k);
    if (mbl_json_read(data(mbl_arena_printf(&arena, "%s/config.json", name)), &arena, &config, &error)) FAIL("%s", error.text);
    for (int i = 0; i < 3 && keys[i]; i++) mbl_json_set(&arena, config, keys[i], mbl_json_float(&arena, 0.25));
    if (mbl_model_create(k, config, &s.m, &error) || mbl_model_allocate(s.m, &error) || mbl_model_allocate_gradients(kept(s.m), &error))
        FAIL("%s", error.text);
    memcpy(s.m->values, from->values, s.m->block_bytes);
    if (precision == MBK_BF16 && mbl_model_narrow(s.m, true, &error)) FAIL("%s", error.text);
    s.r = read_record(name);
    s.r->batch.training = true;
    s.r->batch.seed = 9;
    struct mbk_tensor y;
    if (s.m->architecture->forward(s.m, &s.r->batch, &y, &error)) FAIL("%s", error.text);
    struct mbk_tensor weights = y, dy = y;
    weights.type = MBK_F32;
    weights.data = s.c = kept(calloc((size_t)mbk_count(&y), sizeof *s.c));
    dy.data = kept(calloc((size_t)mbk_count(&y), sizeof *s.c));
    for (int64_t i = 0; i < mbk_count(&y); i++)
        if (!is_padding(s.r, i / y.shape[1], y.shape[0])) s.c[i] = (float)(small_random(6, (uint64_t)i) * 2 - 1);
    if (mbk_cast(k, &weights, &dy) || s.m->architecture->backward(s.m, &s.r->batch, &dy, &error))
        FAIL("%s %s", mbk_error(k), error.text);
    return s;
}

static void check_gradients(const char *name, const char *const keys[3]) {
    struct slope s = differentiate(name, keys, MBK_F32, 1);
    for (size_t p = 0; p < s.m->parameter_count; p++) {
        float *v = s.m->parameters[p].value.data, *g = s.m->parameters[p].gradient.data;
        int64_t count = mbk_count(&s.m->parameters[p].value);
        for (int64_t i = 0; i < count; i += count / 5 + 1) {
            const float was = v[i], step = 2e-3f;
            v[i] = was + step;
            double up = weighted_sum(s.m, &s.r->batch, s.c);
            v[i] = was - step;
            double down = weighted_sum(s.m, &s.r->batch, s.c);
            v[i] = was;
            double expected = (up - down) / (2 * (double)step);
            CHECKF(fabs(g[i] - expected) <= 6e-3 * (1 + fabs(expected)), "%s: %s[%lld]: gradient %g, by differences %g", name,
                   s.m->parameters[p].name, (long long)i, (double)g[i], expected);
        }
    }
}

/* Each parameter's gradient as a whole: how far it is from float32's, by its length; the keys' bias has none but for rounding. */
static void check_narrow_gradients(const char *name, const char *const keys[3]) {
    struct slope full = differentiate(name, keys, MBK_F32, 1), narrow = differentiate(name, keys, MBK_BF16, 1),
                 again = differentiate(name, keys, MBK_BF16, 3);
    double longest = 0;
    for (int round = 0; round < 2; round++)
        for (size_t p = 0; p < full.m->parameter_count; p++) {
            const struct mbl_parameter *a = &full.m->parameters[p], *b = &narrow.m->parameters[p];
            const float *x = a->gradient.data, *y = b->gradient.data;
            double length = 0, off = 0;
            for (int64_t i = 0; i < mbk_count(&a->value); i++) {
                length += (double)x[i] * x[i];
                off += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
            }
            longest = fmax(longest, sqrt(length));
            if (!round) continue;
            CHECKF(sqrt(off) <= 0.02 * sqrt(length) + 1e-4 * longest, "%s: %s: the gradient is %g long, and off by %g", name, a->name,
                   sqrt(length), sqrt(off));
            CHECK(b->gradient.type == MBK_F32);
            CHECK_MEM(y, again.m->parameters[p].gradient.data, mbk_bytes(&b->gradient));
        }
}

static const char *const encoder_rates[3] = {"hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"};
static const char *const gpt2_rates[3] = {"resid_pdrop", "attn_pdrop", "embd_pdrop"};
static const char *const llama_rates[3] = {"attention_dropout"};

TEST("gradients in bfloat16 are within 2 % of those in float32, in float32 themselves, and the same bits for any number of threads")
{
    for (int i = 0; i < 4; i++) check_narrow_gradients(all[i], encoder_rates);
    check_narrow_gradients("gpt2", gpt2_rates);
    check_narrow_gradients("llama", llama_rates);
    check_narrow_gradients("llama-tied", llama_rates);
}

TEST("an encoder's gradients are those that finite differences give, dropout and all")
{
    for (int i = 0; i < 4; i++) check_gradients(all[i], encoder_rates);
}

TEST("gradients of DistilBERT and RoBERTa, with each kind of head, are those that finite differences give, dropout and all")
{
    static const char *const distilbert_rates[3] = {"dropout", "attention_dropout", "seq_classif_dropout"};
    check_gradients("distilbert-classes", distilbert_rates);
    check_gradients("distilbert-tokens", distilbert_rates);
    check_gradients("distilbert-masked", distilbert_rates);
    check_gradients("roberta-value", encoder_rates);
    check_gradients("roberta-tokens", encoder_rates);
    check_gradients("roberta-masked", encoder_rates);
}

TEST("a GPT-2's gradients are those that finite differences give, dropout and all")
{
    check_gradients("gpt2", gpt2_rates);
}

TEST("a Llama's gradients are those that finite differences give, dropout and all")
{
    check_gradients("llama", llama_rates);
    check_gradients("llama-tied", llama_rates);
}

/* -- memory and answers */

/* All that a kernel takes from the system comes by this. */
static int allocations;

void *aligned_alloc(size_t alignment, size_t bytes) {
    void *p;
    allocations++;
    return posix_memalign(&p, alignment, bytes) ? NULL : p;
}

static void check_allocations(const char *name, enum mbk_type precision) {
    struct mbk *k = open_cpu();
    struct mbl_model *m = load(k, data(name));
    struct record *r = read_record(name);
    if (precision == MBK_BF16 && mbl_model_narrow(m, true, &error)) FAIL("%s", error.text);
    struct mbk_parameter *p = optimized(m);
    int count = (int)m->parameter_count, first = 0;
    void *room = kept(calloc((size_t)mbk_count(&r->batch.ids) * (size_t)m->outputs, sizeof(float)));
    r->batch.training = true;
    for (int step = 0; step < 4; step++) {
        struct mbk_tensor y;
        int before = allocations;
        if (m->architecture->forward(m, &r->batch, &y, &error)) FAIL("%s", error.text);
        struct mbk_tensor d = y;
        d.data = room;
        loss_of(m, r, &y, &d);
        struct mbk_adam adam = {.lr = 3e-3f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .step = step + 1, .gradient_scale = 1};
        if (mbk_zero_gradients(k, p, count) || m->architecture->backward(m, &r->batch, &d, &error) || mbk_adam(k, &adam, p, count))
            FAIL("%s: %s %s", name, error.text, mbk_error(k));
        if (!step) first = allocations - before;
        else CHECKF(allocations == before, "%s: step %d took memory %d times", name, step + 1, allocations - before);
    }
    CHECKF(first > 0, "%s: the first step took no memory, so nothing was counted", name);
}

TEST("after the first step of training a model of tokens no kernel takes memory, in float32 or bfloat16")
{
    for (int i = 0; i < ALL; i++) {
        if (strstr(all[i], "-embedding")) continue;
        check_allocations(all[i], MBK_F32);
        check_allocations(all[i], MBK_BF16);
    }
}

TEST("a model that but answers takes half the memory for its products' weights, and answers about the same")
{
    struct mbk *k = open_cpu();
    for (int i = 0; i < ALL; i++) {
        struct mbl_model *full = load(k, data(all[i])), *narrow = load(k, data(all[i]));
        struct record *r = read_record(all[i]);
        struct mbk_tensor x, y;
        size_t before = mbk_memory_used(k), halved = 0;
        if (mbl_model_narrow(narrow, false, &error)) FAIL("%s", error.text);
        for (size_t p = 0; p < full->parameter_count; p++)
            if (full->parameters[p].multiplied) halved += mbk_bytes(&full->parameters[p].value) / 2;
        CHECK(halved > 0 && before - mbk_memory_used(k) > halved * 9 / 10);
        if (full->architecture->forward(full, &r->batch, &x, &error) || narrow->architecture->forward(narrow, &r->batch, &y, &error))
            FAIL("%s: %s", all[i], error.text);
        CHECK(y.type == MBK_F32 && mbk_count(&x) == mbk_count(&y));
        const float *expected = x.data, *found = y.data;
        for (int64_t j = 0; j < mbk_count(&y); j++)
            if (!is_padding(r, j / y.shape[1], y.shape[0]))
                CHECKF(fabsf(found[j] - expected[j]) <= 0.03f, "%s: logit %lld is %g, in float32 %g", all[i], (long long)j, (double)found[j],
                       (double)expected[j]);
    }
}

/* -- generation */

TEST("the likeliest tokens are those that transformers generates, with a cache here and there; in bfloat16 too")
{
    static const char *const decoders[] = {"gpt2", "llama", "llama-tied"};
    struct mbk *k = open_cpu();
    for (int i = 0; i < 6; i++) {
        struct mbl_model *m = load(k, data(decoders[i / 2]));
        struct record *r = read_record(decoders[i / 2]);
        struct mbl_generation o = {.most = 8, .top_p = 1};
        int32_t out[8];
        int64_t made;
        if (i % 2 && mbl_model_narrow(m, false, &error)) FAIL("%s", error.text);
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
