/* Encoders and decoders with quantized weights: what they answer beside the same weights as floats, their folders read back and spoiled, which
 * layers stay floats, and how weights of 4 bits are rounded. */
#include "lib/generate.h"
#include "lib/hf.h"
#include "lib/quantize.h"
#include "lib/quantize_rounding.h"
#include "small_data.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

static struct mbl_error error;
static struct mbl_arena arena;

static struct mbk *open_cpu(int threads) {
    struct mbk *k;
    char message[256];
    struct mbk_options options = {.threads = threads};
    if (mbk_open("cpu", &options, &k, message, sizeof message)) FAIL("%s", message);
    return kept(k);
}

static char *in(const char *name) {
    return mbl_arena_printf(&arena, "%s/%s", test_folder(), name);
}

/* -- models. Wide enough for every type: rows of 256 and 512. */

static const struct {
    const char *name, *config;
} kinds[] = {
    {"gpt2", "{\"model_type\": \"gpt2\", \"architectures\": [\"GPT2LMHeadModel\"], \"vocab_size\": 37, \"n_embd\": 256, \"n_layer\": 2, "
             "\"n_head\": 4, \"n_inner\": 512, \"n_positions\": 16, \"initializer_range\": 0.06}"},
    {"llama", "{\"model_type\": \"llama\", \"architectures\": [\"LlamaForCausalLM\"], \"vocab_size\": 37, \"hidden_size\": 256, "
              "\"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"intermediate_size\": 512, "
              "\"max_position_embeddings\": 16, \"initializer_range\": 0.06}"},
    {"llama, tied", "{\"model_type\": \"llama\", \"architectures\": [\"LlamaForCausalLM\"], \"vocab_size\": 37, \"hidden_size\": 256, "
                    "\"num_hidden_layers\": 1, \"num_attention_heads\": 4, \"intermediate_size\": 256, \"tie_word_embeddings\": true, "
                    "\"max_position_embeddings\": 16, \"initializer_range\": 0.06, \"attention_bias\": true}"},
    {"bert, masked", "{\"model_type\": \"bert\", \"architectures\": [\"BertForMaskedLM\"], \"vocab_size\": 37, \"hidden_size\": 256, "
                     "\"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"intermediate_size\": 512, \"max_position_embeddings\": 16, "
                     "\"initializer_range\": 0.06}"},
    {"bert, classes", "{\"model_type\": \"bert\", \"architectures\": [\"BertForSequenceClassification\"], \"vocab_size\": 37, "
                      "\"hidden_size\": 256, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"intermediate_size\": 512, "
                      "\"max_position_embeddings\": 16, \"initializer_range\": 0.06, \"num_labels\": 3}"},
    {"qwen2", "{\"model_type\": \"qwen2\", \"architectures\": [\"Qwen2ForCausalLM\"], \"vocab_size\": 37, \"hidden_size\": 256, "
              "\"num_hidden_layers\": 1, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"intermediate_size\": 512, "
              "\"max_position_embeddings\": 16, \"initializer_range\": 0.06}"},
    {"distilbert, classes", "{\"model_type\": \"distilbert\", \"architectures\": [\"DistilBertForSequenceClassification\"], \"vocab_size\": 37, "
                            "\"dim\": 256, \"n_layers\": 2, \"n_heads\": 4, \"hidden_dim\": 512, \"max_position_embeddings\": 16, "
                            "\"initializer_range\": 0.06, \"num_labels\": 3}"}};
enum { KINDS = sizeof kinds / sizeof *kinds };

static struct mbl_model *make(struct mbk *k, const char *text) {
    struct mbl_json *config;
    struct mbl_model *m;
    if (mbl_json_parse(text, strlen(text), "config", &arena, &config, &error) || mbl_model_create(k, config, &m, &error) ||
        mbl_model_allocate(m, &error) || mbl_model_initialize(m, 7, &error))
        FAIL("%s", error.text);
    return kept(m);
}

static const struct {
    const char *name;
    enum mbk_type type;
    int64_t group;
} types[] = {{"int8", MBK_I8, 0}, {"int4:64", MBK_I4, 64}, {"int4:32", MBK_I4, 32}, {"q8_0", MBK_Q8_0, 0}, {"q4_0", MBK_Q4_0, 0}, {"q4_k", MBK_Q4_K, 0}};
enum { TYPES = sizeof types / sizeof *types };

static struct mbl_quantize_report report;

static struct mbl_quantize_options options_for(int type) {
    return (struct mbl_quantize_options){.type = types[type].type, .group = types[type].group, .vocabulary = MBK_Q8_0};
}

static struct mbl_model *quantize(struct mbl_model *m, struct mbl_quantize_options o) {
    struct mbl_model *q;
    mbl_quantize_report_free(&report);
    if (mbl_quantize(m, NULL, &o, &q, &report, &error)) FAIL("%s", error.text);
    return kept(q);
}

static int32_t ids[2 * 12] = {3, 17, 9, 30, 1, 5, 22, 8, 14, 2, 36, 0, 11, 4, 4, 29, 6, 19, 33, 12, 7, 1, 1, 35};

static float *answer(struct mbl_model *m, int64_t *count) {
    struct mbl_batch b = {.ids = mbk_tensor2(ids, MBK_I32, 2, 12)};
    struct mbk_tensor y;
    if (m->architecture->forward(m, &b, &y, &error)) FAIL("%s", error.text);
    float *out = kept(malloc(mbk_bytes(&y)));
    memcpy(out, y.data, mbk_bytes(&y));
    *count = mbk_count(&y);
    return out;
}

/* -- answers */

/* The same model with the weights that the quantized one stands for, as floats. */
static struct mbl_model *floats_of(struct mbk *k, const char *config, struct mbl_model *q) {
    struct mbl_model *m = make(k, config);
    for (size_t i = 0; i < m->parameter_count; i++) {
        const struct mbl_parameter *to = &m->parameters[i], *from = mbl_model_find(q, to->name);
        const struct mbl_parameter *scales = mbl_model_find(q, mbl_arena_printf(&arena, "%s_scale", to->name));
        if (!mbl_parameter_quantized(from)) {
            CHECK(!mbk_copy(k, &from->value, &to->value));
            continue;
        }
        int64_t rows = from->value.shape[0], width = from->value.shape[1];
        float *w = kept(malloc((size_t)(rows * width) * sizeof *w));
        struct mbk_tensor t = mbk_tensor2(w, MBK_F32, rows, width);
        CHECK(!(from->value.type == MBK_I8   ? mbk_dequantize_rows(k, &from->value, &scales->value, &t)
                : from->value.type == MBK_I4 ? mbk_dequantize_groups(k, &from->value, &scales->value, (int)(width / scales->value.shape[1]), &t)
                                             : mbk_dequantize_blocks(k, &from->value, &t)));
        for (int64_t r = 0; r < rows; r++)
            for (int64_t c = 0; c < width; c++) ((float *)to->value.data)[to->across ? c * rows + r : r * width + c] = w[r * width + c];
    }
    return m;
}

static void answers_body(const void *which) {
    const int type = *(const int *)which;
    struct mbk *k = open_cpu(1);
    for (int i = 0; i < KINDS; i++) {
        struct mbl_model *q = quantize(make(k, kinds[i].config), options_for(type)), *f = floats_of(k, kinds[i].config, q);
        int64_t n, same;
        const float *x = answer(q, &n), *y = answer(f, &same);
        float most = 0, off = 0;
        CHECK_EQ(n, same);
        for (int64_t j = 0; j < n; j++) {
            most = fmaxf(most, fabsf(y[j]));
            off = fmaxf(off, fabsf(x[j] - y[j]));
        }
        /* int8 activations: half a step of 1/127 in each of a layer's inputs, and four layers' worth of those. */
        const float bound = types[type].type == MBK_I8 ? 0.06f : 1e-5f;
        CHECKF(off <= bound * most && (types[type].type != MBK_I8 || off > 0), "%s: %g off, of up to %g", kinds[i].name, (double)off, (double)most);
        CHECKF(report.layers >= 7 && report.weight_error > 0, "%s: %zu layers, error %g", kinds[i].name, report.layers, report.weight_error);
        CHECKF(report.weight_error < (mbk_block(types[type].type) == 1 || types[type].type == MBK_Q8_0 ? 0.01 : 0.12), "%s: error %g",
               kinds[i].name, report.weight_error);
    }
}

static void same_bits_body(const void *which) {
    const int type = *(const int *)which;
    struct mbk *k = open_cpu(2);
    for (int i = 0; i < KINDS; i++) {
        struct mbl_model *q = quantize(make(k, kinds[i].config), options_for(type)), *again;
        if (mbl_model_save(q, in("q"), &error) || mbl_model_load(k, in("q"), &again, &error)) FAIL("%s: %s", kinds[i].name, error.text);
        kept(again);
        CHECK(again->quantized && mbl_model_parameter_count(again) == mbl_model_parameter_count(q));
        int64_t n, m;
        const float *x = answer(q, &n), *y = answer(again, &m);
        CHECK_EQ(n, m);
        CHECK_MEM(y, x, (size_t)n * sizeof *x);
    }
}

TEST_TABLE
{
    static int numbers[TYPES];
    for (int i = 0; i < TYPES; i++) {
        numbers[i] = i;
        test_add(answers_body, &numbers[i], "%s: models answer as with the same weights as floats", types[i].name);
        test_add(same_bits_body, &numbers[i], "%s: a model that was saved and loaded answers with the same bits", types[i].name);
    }
}

TEST("a quantized decoder writes the same tokens with its cache as without")
{
    struct mbk *k = open_cpu(1);
    for (int type = 0; type < TYPES; type++) {
        struct mbl_model *q = quantize(make(k, kinds[0].config), options_for(type));
        const struct mbl_generation o = {.most = 6, .top_p = 1};
        int32_t out[6], row[16] = {3, 17, 9};
        int64_t made;
        if (mbl_generate(q, &o, row, 3, NULL, NULL, out, &made, &error)) FAIL("%s", error.text);
        CHECK_EQ(made, 6);
        for (int64_t t = 3; t < 9; t++) {
            struct mbl_batch b = {.ids = mbk_tensor2(row, MBK_I32, 1, t)};
            struct mbk_tensor y, last;
            int32_t best;
            if (q->architecture->forward(q, &b, &y, &error)) FAIL("%s", error.text);
            last = mbk_rows(&y, t - 1, 1);
            struct mbk_tensor one = mbk_tensor1(&best, MBK_I32, 1);
            CHECK(!mbk_argmax(k, &last, &one));
            CHECKF(best == out[t - 3], "%s: token %d is %d, with the cache %d", types[type].name, (int)t, best, out[t - 3]);
            row[t] = best;
        }
    }
}

/* -- the folder */

TEST("what lies in the file are GGUF's blocks of the weights, output by output")
{
    struct mbk *k = open_cpu(1);
    struct mbl_model *m = make(k, kinds[0].config);
    for (int type = 3; type < TYPES; type++) {
        struct mbl_quantize_options o = options_for(type);
        o.rounding = MBL_ROUND_NEAREST;
        if (mbl_model_save(quantize(m, o), in("q"), &error)) FAIL("%s", error.text);
        static struct mbl_safetensors file;
        if (mbl_safetensors_open(in("q/model.safetensors"), &file, &error)) FAIL("%s", error.text);
        const struct mbl_tensor *t = mbl_safetensors_find(&file, "transformer.h.1.mlp.c_fc.weight");
        const float *across = mbl_model_find(m, "transformer.h.1.mlp.c_fc.weight")->value.data;
        float *w = kept(malloc(512 * 256 * sizeof *w));
        for (int r = 0; r < 512; r++)
            for (int c = 0; c < 256; c++) w[r * 256 + c] = across[c * 512 + r];
        struct mbk_tensor tw = mbk_tensor2(w, MBK_F32, 512, 256), tq = mbk_tensor2(NULL, types[type].type, 512, 256);
        tq.data = kept(malloc(mbk_bytes(&tq)));
        CHECK(!mbk_quantize_blocks(k, &tw, &tq));
        CHECK(t && t->type == MBL_U8 && t->rank == 2 && t->shape[0] == 512);
        CHECK_EQ(t->bytes, mbk_bytes(&tq));
        CHECK_MEM(t->data, tq.data, t->bytes);
        mbl_safetensors_close(&file);
    }
}

/* A gpt2 of int4 in the folder "q", its config with one text for another. */
static void save_int4(const char *from, const char *to) {
    struct mbl_model *q = quantize(make(open_cpu(1), kinds[0].config), options_for(1));
    struct mbl_buf text = {0}, changed = {0};
    if (mbl_model_save(q, in("q"), &error) || mbl_file_read(in("q/config.json"), 1 << 20, &text, &error)) FAIL("%s", error.text);
    char *at = strstr(text.data, from);
    CHECKF(at != NULL, "config.json has no %s", from);
    mbl_buf_add(&changed, text.data, (size_t)(at - text.data));
    mbl_buf_adds(&changed, to);
    mbl_buf_adds(&changed, at + strlen(from));
    if (mbl_file_write(in("q/config.json"), changed.data, changed.len, &error)) FAIL("%s", error.text);
    mbl_buf_free(&text);
    mbl_buf_free(&changed);
}

static void expect_refused(const char *message) {
    struct mbl_model *m;
    CHECK_EQ(mbl_model_load(open_cpu(1), in("q"), &m, &error), -1);
    CHECK_CONTAINS(error.text, message);
}

#define FC "\"transformer.h.0.mlp.c_fc\": "
static const struct {
    const char *from, *to, *message;
} edits[] = {
    {"\"quant_method\": \"mbuild\"", "\"quant_method\": \"gptq\"", "quant_method: \"mbuild\" expected, found gptq"},
    {"\"quant_method\": \"mbuild\"", "\"quant_kind\": 4.5", "quant_method: \"mbuild\" expected"},
    {"\"modules\"", "\"layers\"", "modules: a table of layers and how each is kept expected, found none"},
    {FC "\"int4:64\"", FC "\"int3:64\"", "c_fc\"]: int8, int4:GROUP, q8_0, q4_0 or q4_k expected, found int3:64"},
    {FC "\"int4:64\"", FC "\"int4:63\"", "expected, found int4:63"},
    {FC "\"int4:64\"", FC "\"int4:99999999999999999999\"", "expected, found int4:9999"},
    {FC "\"int4:64\"", FC "\"int4:-64\"", "expected, found int4:-64"},
    {FC "\"int4:64\"", FC "4", "q4_0 or q4_k expected"},
    {"\"transformer.h.0.mlp.c_proj\": \"int4:64\"", "\"transformer.h.0.mlp.c_proj\": \"int4:96\"", "rows of 512 are no whole groups of int4:96"},
    {FC "\"int4:64\"", FC "\"int4:32\"", "c_fc.weight_scale is [512, 4], but config.json makes it [512, 8]"},
    {FC "\"int4:64\"", FC "\"q8_0\"", "c_fc.weight is [512, 128], but config.json makes it [512, 272]"},
    {FC "\"int4:64\"", FC "\"int8\"", "c_fc.weight is U8, but config.json makes it I8 as I8"},
    {FC, "\"transformer.h.7.mlp.c_fc\": ", "[\"transformer.h.7.mlp.c_fc\"]: the model has no such layer"},
    {FC, "\"transformer.wpe\": ", "[\"transformer.wpe\"]: this layer's weights are floats always"},
    {"\"transformer.wte\": \"q8_0\"", "\"transformer.wte\": \"int4:64\"", "the embedding can be q8_0, q4_0 or q4_k, but not int4:64"},
    {"\"n_embd\": 256", "\"n_embd\": 288", "are no whole groups of int4:64"},
    {"\"quantization_config\"", "\"quantisation\"", "weight is U8; F32, F16, BF16 or F64 expected"},
    {"\"quantization_config\"", "\"quantization_config\": 8, \"other\"", "quantization_config: a table expected, found a number"},
    {"\"quantization_config\"", "\"quantization\"", "a gpt2 has quantization_config"},
};

static void check_edit(const void *which) {
    const size_t i = *(const size_t *)which;
    save_int4(edits[i].from, edits[i].to);
    expect_refused(edits[i].message);
}

TEST_TABLE
{
    static size_t numbers[sizeof edits / sizeof *edits];
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        numbers[i] = i;
        test_add(check_edit, &numbers[i], "a config of quantized weights with %s is refused", edits[i].to);
    }
}

/* The file with some bytes of a tensor changed. */
static void spoil(const char *name, size_t at, const void *bytes, size_t n) {
    struct mbl_safetensors file;
    if (mbl_safetensors_open(in("q/model.safetensors"), &file, &error)) FAIL("%s", error.text);
    for (size_t i = 0; i < file.count; i++)
        if (!strcmp(file.tensors[i].name, name)) {
            char *copy = kept(malloc(file.tensors[i].bytes));
            memcpy(copy, file.tensors[i].data, file.tensors[i].bytes);
            CHECK(at + n <= file.tensors[i].bytes);
            memcpy(copy + at, bytes, n);
            file.tensors[i].data = copy;
            if (mbl_safetensors_save(in("q/changed"), file.tensors, file.count, NULL, &error)) FAIL("%s", error.text);
            CHECK_EQ(rename(in("q/changed"), in("q/model.safetensors")), 0);
            mbl_safetensors_close(&file);
            return;
        }
    FAIL("there is no %s", name);
}

TEST("scales that are no numbers above 0 are refused, in blocks too")
{
    const float scales[] = {NAN, INFINITY, 0, -1};
    static const char *const messages[] = {"element 2 is no finite number", "element 2 is no finite number", "element 2 is 0; a scale above 0",
                                           "element 2 is -1; a scale above 0"};
    for (int i = 0; i < 4; i++) {
        save_int4("{", "{");
        spoil("transformer.h.1.attn.c_attn.weight_scale", 8, &scales[i], 4);
        expect_refused(messages[i]);
    }
    const uint8_t infinite[] = {0, 0x7c}, nan[] = {1, 0xfe};
    save_int4("{", "{");
    spoil("transformer.wte.weight", 34 * 5, infinite, 2);
    expect_refused("tensor transformer.wte.weight: the scale of block 5 is no finite number");
    if (mbl_model_save(quantize(make(open_cpu(1), kinds[0].config), options_for(5)), in("q"), &error)) FAIL("%s", error.text);
    spoil("transformer.h.0.mlp.c_proj.weight", 144 * 3 + 2, nan, 2);
    expect_refused("c_proj.weight: the scale of block 3 is no finite number");
}

TEST("a file of quantized weights that was cut short is refused")
{
    save_int4("{", "{");
    struct mbl_buf b = {0};
    if (mbl_file_read(in("q/model.safetensors"), 1 << 24, &b, &error)) FAIL("%s", error.text);
    CHECK_EQ(truncate(in("q/model.safetensors"), (off_t)b.len - 1), 0);
    mbl_buf_free(&b);
    expect_refused("model.safetensors");
}

TEST("a quantized model is not quantized again, and doesn't learn")
{
    struct mbl_model *q, *m;
    save_int4("{", "{");
    struct mbk *k = open_cpu(1);
    if (mbl_model_load(k, in("q"), &q, &error)) FAIL("%s", error.text);
    kept(q);
    struct mbl_quantize_options o = options_for(0);
    mbl_quantize_report_free(&report);
    CHECK_EQ(mbl_quantize(q, NULL, &o, &m, &report, &error), -1);
    CHECK_CONTAINS(error.text, "quantized already");
    CHECK_EQ(mbl_model_allocate_gradients(q, &error), -1);
    CHECK_CONTAINS(error.text, "such weights don't learn");
    CHECK_EQ(mbl_model_load_for(k, in("q"), MBL_NEXT_TOKEN, NULL, 1, &m, &error), -1);
    CHECK_CONTAINS(error.text, "the model is quantized: such weights don't learn; train on from the model that it was made of");
    CHECK_EQ(mbl_model_narrow(q, false, &error), -1);
    CHECK_CONTAINS(error.text, "quantized");
}

/* -- which layers */

static const char *kept_as(const char *name) {
    for (size_t i = 0; i < report.list_count; i++)
        if (!strcmp(report.list[i].name, name)) return report.list[i].why ? report.list[i].why : report.list[i].kept;
    return "(not listed)";
}

TEST("heads, tables of positions and what is to be kept stay floats; rows that don't fit take the next finer kind, or stay")
{
    struct mbk *k = open_cpu(1);
    quantize(make(k, kinds[4].config), options_for(1));
    CHECK_STR(kept_as("bert.encoder.layer.1.output.dense"), "int4:64");
    CHECK_STR(kept_as("bert.embeddings.word_embeddings"), "q8_0");
    CHECK_CONTAINS(kept_as("bert.embeddings.position_embeddings"), "a head, or a table");
    CHECK_CONTAINS(kept_as("bert.pooler.dense"), "a head");
    CHECK_CONTAINS(kept_as("classifier"), "a head");
    static const char *const names[] = {"layer.0", "word"};
    struct mbl_quantize_options o = options_for(5);
    o.keep = names;
    o.keep_count = 2;
    struct mbl_model *q = quantize(make(k, kinds[4].config), o);
    CHECK_STR(kept_as("bert.encoder.layer.0.output.dense"), "keep");
    CHECK_STR(kept_as("bert.embeddings.word_embeddings"), "keep");
    CHECK_STR(kept_as("bert.encoder.layer.1.output.dense"), "q4_k");
    CHECK(mbl_model_find(q, "bert.encoder.layer.0.output.dense.weight")->value.type == MBK_F32);
    static const char narrow[] = "{\"model_type\": \"llama\", \"vocab_size\": 20, \"hidden_size\": 96, \"num_hidden_layers\": 1, "
                                 "\"num_attention_heads\": 4, \"intermediate_size\": 40, \"max_position_embeddings\": 16}";
    o = options_for(5);
    o.vocabulary = 0;
    quantize(make(k, narrow), o);
    CHECK_STR(kept_as("model.layers.0.self_attn.q_proj"), "q4_0");
    CHECK_STR(kept_as("model.layers.0.mlp.down_proj"), "rows of 40 are no whole blocks");
    CHECK_STR(kept_as("lm_head"), "embeddings");
    CHECK_STR(kept_as("model.embed_tokens"), "embeddings");
    quantize(make(k, narrow), options_for(1));
    CHECK_STR(kept_as("model.layers.0.self_attn.q_proj"), "int4:32");
    CHECK_STR(kept_as("model.layers.0.mlp.down_proj"), "rows of 40 are no whole groups");
    CHECK_STR(kept_as("lm_head"), "q8_0");
}

TEST("rounding by data wants data")
{
    struct mbk *k = open_cpu(1);
    struct mbl_quantize_options o = options_for(1);
    struct mbl_model *q;
    o.rounding = MBL_ROUND_DATA;
    mbl_quantize_report_free(&report);
    CHECK_EQ(mbl_quantize(make(k, kinds[0].config), NULL, &o, &q, &report, &error), -1);
    CHECK_CONTAINS(error.text, "gptq looks at data");
}

/* -- rounding */

enum { ROWS = 24, WIDTH = 512, SEEN = 2000 };

/* Weights, and the second moments of what hangs together: a few causes behind many inputs, as in real layers. */
static void make_problem(float *w, float *moments, float *x) {
    for (int i = 0; i < ROWS * WIDTH; i++) w[i] = (float)(small_random(1, (uint64_t)i) + small_random(2, (uint64_t)i) - 1);
    for (int s = 0; s < SEEN; s++)
        for (int c = 0; c < WIDTH; c++) {
            double sum = 0.3 * (small_random(3, (uint64_t)(s * WIDTH + c)) - 0.5);
            for (int f = 0; f < 6; f++)
                sum += (small_random(4, (uint64_t)(s * 6 + f)) - 0.5) * (small_random(5, (uint64_t)(c * 6 + f)) - 0.5);
            x[s * WIDTH + c] = (float)sum;
        }
    memset(moments, 0, WIDTH * WIDTH * sizeof *moments);
    for (int s = 0; s < SEEN; s++)
        for (int i = 0; i < WIDTH; i++)
            for (int j = 0; j < WIDTH; j++) moments[i * WIDTH + j] += x[s * WIDTH + i] * x[s * WIDTH + j];
}

static double lost_of(const float *w, const float *back, const float *moments) {
    double sum = 0;
    for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < WIDTH; i++)
            for (int j = 0; j < WIDTH; j++)
                sum += (double)(w[r * WIDTH + i] - back[r * WIDTH + i]) * (double)(w[r * WIDTH + j] - back[r * WIDTH + j]) *
                       (moments ? (double)moments[i * WIDTH + j] : i == j);
    return sum;
}

struct rounded {
    uint8_t bytes[ROWS * WIDTH];
    float scales[ROWS * WIDTH / 32];
    float back[ROWS * WIDTH];
};

static void round_by(struct mbk *k, enum mbk_type type, enum mbl_rounding_way way, const float *w, const float *moments, struct rounded *out) {
    static float weights[ROWS * WIDTH], seen[WIDTH * WIDTH];
    memcpy(weights, w, sizeof weights);
    memcpy(seen, moments, sizeof seen);
    memset(out, 0, sizeof *out);
    struct mbk_tensor x = mbk_tensor2(weights, MBK_F32, ROWS, WIDTH), q = mbk_tensor2(out->bytes, type, ROWS, WIDTH);
    struct mbk_tensor scales = mbk_tensor2(out->scales, MBK_F32, ROWS, WIDTH / 64), back = mbk_tensor2(out->back, MBK_F32, ROWS, WIDTH);
    if (way == MBL_ROUND_NEAREST) {
        CHECK(!(type == MBK_I4 ? mbk_quantize_groups(k, &x, 64, &q, &scales) : mbk_quantize_blocks(k, &x, &q)));
    } else {
        const struct mbl_rounding r = {.k = k, .type = type, .group = 64, .rows = ROWS, .width = WIDTH, .weights = weights,
                                       .moments = way == MBL_ROUND_DATA ? seen : NULL};
        if (mbl_round_weights(&r, out->bytes, out->scales, &error)) FAIL("%s", error.text);
    }
    CHECK(!(type == MBK_I4 ? mbk_dequantize_groups(k, &q, &scales, 64, &back) : mbk_dequantize_blocks(k, &q, &back)));
}

static void rounding_body(const void *which) {
    const enum mbk_type type = types[*(const int *)which].type;
    float *w = kept(malloc(ROWS * WIDTH * sizeof *w)), *moments = kept(malloc(WIDTH * WIDTH * sizeof *w)), *x = kept(malloc(SEEN * WIDTH * sizeof *x));
    struct rounded *nearest = kept(malloc(sizeof *nearest)), *search = kept(malloc(sizeof *search)), *data = kept(malloc(sizeof *data)),
                   *threads = kept(malloc(sizeof *threads));
    struct mbk *k = open_cpu(1);
    make_problem(w, moments, x);
    round_by(k, type, MBL_ROUND_NEAREST, w, moments, nearest);
    round_by(k, type, MBL_ROUND_SEARCH, w, moments, search);
    round_by(k, type, MBL_ROUND_DATA, w, moments, data);
    round_by(open_cpu(3), type, MBL_ROUND_DATA, w, moments, threads);
    CHECK_MEM(threads, data, sizeof *data);
    double plain = lost_of(w, nearest->back, NULL), searched = lost_of(w, search->back, NULL);
    CHECKF(type == MBK_Q4_K ? searched <= plain : searched < 0.95 * plain, "search loses %g, nearest %g", searched, plain);
    plain = lost_of(w, nearest->back, moments);
    double seen = lost_of(w, data->back, moments);
    CHECKF(seen < 0.5 * plain, "of what comes out gptq loses %g, nearest %g", seen, plain);
}

TEST_TABLE
{
    static int numbers[] = {1, 4, 5};
    for (int i = 0; i < 3; i++)
        test_add(rounding_body, &numbers[i], "%s: search loses less of the weights than nearest, gptq less than half of what comes out; same bits on "
                 "any number of threads", types[numbers[i]].name);
}

TEST("data that say nothing, and weights that are 0, have a scale and a rounding")
{
    struct mbk *k = open_cpu(1);
    static float w[2 * 256], moments[256 * 256], scales[8];
    static uint8_t bytes[256];
    struct mbl_rounding r = {.k = k, .type = MBK_I4, .group = 64, .rows = 2, .width = 256, .weights = w, .moments = moments};
    for (int some = 0; some < 2; some++) {
        for (int i = 0; i < 256; i++) moments[i * 257] = some && i % 3 ? 1 : 0;
        if (mbl_round_weights(&r, bytes, scales, &error)) FAIL("%s", error.text);
        for (int i = 0; i < 8; i++) CHECK(scales[i] == 1);
        for (int i = 0; i < 256; i++) CHECK_EQ(bytes[i], 0);
    }
    moments[5] = moments[0] = NAN;
    CHECK_EQ(mbl_round_weights(&r, bytes, scales, &error), -1);
    CHECK_CONTAINS(error.text, "what goes into it is no finite number on the calibration data");
}
