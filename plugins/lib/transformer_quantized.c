/* transformer_quantized.c: quantized weights of encoders and decoders; see transformer_quantized.h. */
#include "transformer_quantized.h"

#include <stdlib.h>
#include <string.h>

#define GROUP_MOST 65536

/* -- the ways to keep a weight */

static const struct {
    const char *name;
    enum mbk_type type;
} ways[] = {{"int8", MBK_I8}, {"q8_0", MBK_Q8_0}, {"q4_0", MBK_Q4_0}, {"q4_k", MBK_Q4_K}};
#define WAYS "int8, int4:GROUP, q8_0, q4_0 or q4_k"

bool mbl_kept_parse(const char *text, struct mbl_kept *out) {
    *out = (struct mbl_kept){0};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        if (!strcmp(ways[i].name, text)) out->type = ways[i].type;
    if (out->type || strncmp(text, "int4:", 5)) return out->type != 0;
    size_t digits = strspn(text + 5, "0123456789");
    if (!digits || digits > 5 || text[5 + digits]) return false;
    *out = (struct mbl_kept){.type = MBK_I4, .group = atoi(text + 5)};
    return out->group >= 2 && out->group <= GROUP_MOST && out->group % 2 == 0;
}

const char *mbl_kept_text(const struct mbl_kept *kept, struct mbl_arena *a) {
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        if (ways[i].type == kept->type) return ways[i].name;
    return mbl_arena_printf(a, "int4:%lld", (long long)kept->group);
}

bool mbl_kept_fits(const struct mbl_kept *kept, int64_t width) {
    return width > 0 && width % (kept->type == MBK_I4 ? kept->group : mbk_block(kept->type)) == 0;
}

/* -- which layers */

static bool ends(const char *name, const char *with) {
    size_t n = strlen(name), m = strlen(with);
    return n >= m && !strcmp(name + n - m, with);
}

bool mbl_quantizable(const char *module) {
    static const char *const heads[] = {"cls.", "classifier", "pre_classifier", "vocab_transform", "lm_head."};
    static const char *const tables[] = {"position_embeddings", "token_type_embeddings", "wpe"};
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        if (!strncmp(module, heads[i], strlen(heads[i]))) return false;
    if (ends(module, "pooler.dense")) return false; /* takes every so many-th row, which products of int8 and int4 can't */
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        if (ends(module, tables[i])) return false;
    return true;
}

bool mbl_is_vocabulary(const char *module) {
    return ends(module, "word_embeddings") || ends(module, "wte") || ends(module, "embed_tokens") || !strcmp(module, "lm_head");
}

/* -- config */

static const struct mbl_json *modules_of(const struct mbl_model *m) {
    return mbl_json_get(mbl_json_get(m->config, "quantization_config"), "modules");
}

int mbl_quantized_configure(struct mbl_model *m, struct mbl_error *e) {
    const struct mbl_json *q = mbl_json_get(m->config, "quantization_config");
    if (!q || q->type == MBL_JSON_NULL) return 0;
    if (q->type != MBL_JSON_TABLE) return mbl_error_set(e, "quantization_config: a table expected, found %s", mbl_json_type_name(q->type));
    const char *method = mbl_json_get_string(q, "quant_method");
    if (!method || strcmp(method, "mbuild"))
        return mbl_error_set(e, "quantization_config.quant_method: \"mbuild\" expected%s%.60s; weights quantized by others are none that this "
                             "version loads", method ? ", found " : "", method ? method : "");
    const struct mbl_json *modules = modules_of(m);
    if (!modules || modules->type != MBL_JSON_TABLE)
        return mbl_error_set(e, "quantization_config.modules: a table of layers and how each is kept expected, found %s",
                             modules ? mbl_json_type_name(modules->type) : "none");
    for (size_t i = 0; i < modules->count; i++) {
        const char *text = modules->items[i]->type == MBL_JSON_STRING ? modules->items[i]->string : NULL;
        struct mbl_kept kept;
        if (!text || !mbl_kept_parse(text, &kept))
            return mbl_error_set(e, "quantization_config.modules[\"%.100s\"]: %s expected%s%.60s", modules->keys[i], WAYS,
                                 text ? ", found " : "", text ? text : "");
    }
    m->quantized = true;
    return 0;
}

static bool kept_of(const struct mbl_model *m, const char *module, struct mbl_kept *out) {
    const char *text = m->quantized ? mbl_json_get_string(modules_of(m), module) : NULL;
    return text && mbl_kept_parse(text, out);
}

int mbl_quantized_check(const struct mbl_model *m, struct mbl_error *e) {
    const struct mbl_json *modules = modules_of(m);
    for (size_t i = 0; m->quantized && i < modules->count; i++) {
        const char *name = modules->keys[i], *text = modules->items[i]->string;
        struct mbl_arena a = {0};
        const struct mbl_parameter *p = mbl_model_find(m, mbl_arena_printf(&a, "%s.weight", name));
        mbl_arena_free(&a);
        struct mbl_kept kept;
        mbl_kept_parse(text, &kept);
        if (!p) return mbl_error_set(e, "quantization_config.modules[\"%.100s\"]: the model has no such layer", name);
        if (p->value.type == kept.type) continue;
        if (!mbl_quantizable(name) || p->rank != 2)
            return mbl_error_set(e, "quantization_config.modules[\"%.100s\"]: this layer's weights are floats always", name);
        if (kept.type == MBK_I8 || kept.type == MBK_I4 ? mbl_is_vocabulary(name) && strcmp(name, "lm_head") : false)
            return mbl_error_set(e, "quantization_config.modules[\"%.100s\"]: the embedding can be q8_0, q4_0 or q4_k, but not %s", name, text);
        return mbl_error_set(e, "quantization_config.modules[\"%.100s\"]: rows of %lld are no whole groups of %s", name,
                             (long long)p->shape[!p->across], text);
    }
    return 0;
}

/* -- parameters */

bool mbl_quantized_declare(struct mbl_model *m, const char *module, int64_t out, int64_t in, size_t *weight, size_t *scales) {
    struct mbl_kept kept;
    if (!kept_of(m, module, &kept) || !mbl_quantizable(module) || !mbl_kept_fits(&kept, in)) return false;
    bool scaled = kept.type == MBK_I8 || kept.type == MBK_I4;
    if (scaled && !scales) return false;
    const struct mbk_tensor row = mbk_tensor1(NULL, kept.type, in);
    const int64_t shape[2] = {out, (int64_t)mbk_bytes(&row)}, groups[2] = {out, scaled && kept.group ? in / kept.group : 0};
    *weight = mbl_model_declare(m, mbl_arena_printf(&m->arena, "%s.weight", module), kept.type, 2, shape);
    m->parameters[*weight].value = mbk_tensor2(NULL, kept.type, out, in);
    if (scaled)
        *scales = mbl_model_declare(m, mbl_arena_printf(&m->arena, "%s.weight_scale", module), MBK_F32, kept.group ? 2 : 1, groups);
    return true;
}

/* Halves of infinity and NaN have all bits of the exponent. */
static bool is_number(const uint8_t *half) {
    return (half[1] & 0x7c) != 0x7c;
}

int mbl_quantized_check_bytes(const struct mbl_parameter *p, const void *data, struct mbl_error *e) {
    if (mbk_block(p->value.type) < 32) return 0;
    const struct mbk_tensor one = mbk_tensor1(NULL, p->value.type, mbk_block(p->value.type));
    const size_t bytes = mbk_bytes(&one), all = mbk_bytes(&p->value);
    for (size_t at = 0; at < all; at += bytes) {
        const uint8_t *block = (const uint8_t *)data + at;
        if (!is_number(block) || (p->value.type == MBK_Q4_K && !is_number(block + 2)))
            return mbl_error_set(e, "tensor %s: the scale of block %zu is no finite number", p->name, at / bytes);
    }
    return 0;
}

/* -- products */

/* Room that stays the model's, and is taken anew just where a batch is larger than all before. */
static void *room(struct mbl_model *m, size_t bytes) {
    if (bytes <= m->scratch_bytes) return m->scratch;
    if (m->scratch) mbk_free(m->k, m->scratch);
    m->scratch = mbk_alloc(m->k, bytes);
    m->scratch_bytes = m->scratch ? bytes : 0;
    return m->scratch;
}

static int multiply_int8(struct mbl_model *m, const struct mbk_tensor *x, const struct mbk_tensor *w, const struct mbk_tensor *scales,
                         const struct mbk_tensor *bias, enum mbk_activation f, const struct mbk_tensor *y) {
    const int64_t rows = x->shape[0], width = x->shape[1];
    struct mbk_tensor q = mbk_tensor2(NULL, MBK_I8, rows, width), x_scales = mbk_tensor1(NULL, MBK_F32, rows);
    const size_t behind = (mbk_bytes(&q) + 255) & ~(size_t)255;
    q.data = room(m, behind + mbk_bytes(&x_scales));
    if (!q.data) return -1;
    x_scales.data = (char *)q.data + behind;
    return mbk_quantize_rows(m->k, x, &q, &x_scales) || mbk_linear_int8(m->k, &q, &x_scales, w, scales, bias, f, y) ? -1 : 0;
}

int mbl_quantized_multiply(struct mbl_model *m, const struct mbl_linear *l, const struct mbk_tensor *x, int64_t stride,
                           enum mbk_activation f, const struct mbk_tensor *residual, const struct mbk_tensor *y) {
    const struct mbk_tensor *whole = &m->parameters[l->weight].value;
    const int64_t out = l->out ? l->out : whole->shape[0]; /* an embedding as output layer says nothing of its size */
    struct mbk_tensor w = mbk_rows(whole, l->first, out), scales, bias;
    if (l->biased) bias = mbk_rows(&m->parameters[l->bias].value, l->first, out);
    if (mbk_block(w.type) >= 32)
        return mbk_matmul(m->k, &(struct mbk_product){.a = x, .b = &w, .c = y, .transpose_b = 1, .bias = l->biased ? &bias : NULL,
                                                      .activation = f, .residual = residual, .lda = stride});
    scales = mbk_rows(&m->parameters[l->scales].value, l->first, out);
    int status = w.type == MBK_I8 ? multiply_int8(m, x, &w, &scales, l->biased ? &bias : NULL, f, y)
                                  : mbk_linear_int4(m->k, x, &w, &scales, (int)(w.shape[1] / scales.shape[1]), l->biased ? &bias : NULL, f, y);
    return status || (residual && mbk_add(m->k, y, residual, y)) ? -1 : 0;
}
