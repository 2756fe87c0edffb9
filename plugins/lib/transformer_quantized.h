/* transformer_quantized.h: encoders and decoders whose weights stay quantized: what their config says, how the weights lie in memory and on
 * disk, and products of them as they are.
 *
 * config.json of such a model names its quantized layers, each with the way its weight is kept; all others have floats:
 *
 *     "quantization_config": { "quant_method": "mbuild", "modules": { "transformer.h.0.mlp.c_fc": "int4:64", "transformer.wte": "q8_0" }, … }
 *
 *     kept as        NAME.weight                NAME.weight_scale    a product's other side
 *     int8           I8 [out, in]               F32 [out]            int8, one scale a token, found as it comes
 *     int4:G         U8 [out, in / 2]           F32 [out, in / G]    float
 *     q8_0, q4_0,    U8 [out, bytes of a row]                        float
 *     q4_k
 *
 * int4 is two to a byte, low nibble first, signed; the blocks are GGUF's to the bit. Weights that a float model has as [in, out] (GPT-2's)
 * are [out, in] here, so that rows are groups of what is summed. Must not know how weights become quantized: that is quantize_tokens.c.
 */
#ifndef MBL_TRANSFORMER_QUANTIZED_H
#define MBL_TRANSFORMER_QUANTIZED_H

#include "transformer.h"

/* How a weight is kept. */
struct mbl_kept {
    enum mbk_type type;          /* MBK_I8, MBK_I4, MBK_Q8_0, MBK_Q4_0 or MBK_Q4_K */
    int64_t group;               /* of MBK_I4; else 0 */
};
bool mbl_kept_parse(const char *text, struct mbl_kept *out);
const char *mbl_kept_text(const struct mbl_kept *kept, struct mbl_arena *a); /* "int4:64" */
bool mbl_kept_fits(const struct mbl_kept *kept, int64_t width);              /* whether a row is whole groups */

/* Whether a layer may be quantized, and whether it is a table of the vocabulary (the embedding, or an output layer of its own), which are blocks
 * where they are. Not so: tables of positions and of token types, poolers, and the heads of encoders. */
bool mbl_quantizable(const char *module);
bool mbl_is_vocabulary(const char *module);

/* For mbl_hf_configure: reads m->config's quantization_config, of which nothing is believed; sets m->quantized. */
int mbl_quantized_configure(struct mbl_model *m, struct mbl_error *e);
/* Once all parameters are declared: whether each module that is named there is one, of a width that fits. */
int mbl_quantized_check(const struct mbl_model *m, struct mbl_error *e);

/* Declares the weight [out, in] of `module` as the config says, and its scales where it has some; `scales` NULL: it takes blocks alone. False:
 * it isn't quantized, and nothing was declared. */
bool mbl_quantized_declare(struct mbl_model *m, const char *module, int64_t out, int64_t in, size_t *weight, size_t *scales);

/* Whether `data`, the bytes of a quantized weight out of a file, has scales that are numbers. */
int mbl_quantized_check_bytes(const struct mbl_parameter *p, const void *data, struct mbl_error *e);

/* y = f(x wᵀ + bias) + residual, as mbl_linear has it. Returns what the kernels return. */
int mbl_quantized_multiply(struct mbl_model *m, const struct mbl_linear *l, const struct mbk_tensor *x, int64_t stride,
                           enum mbk_activation f, const struct mbk_tensor *residual, const struct mbk_tensor *y);

#endif
