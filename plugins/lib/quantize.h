/* quantize.h: from a model of floats to one with quantized weights.
 *
 * Models of features (mlp, cnn): int8, weights with a scale for each output channel, activations with one a layer, measured on data.
 * Models of tokens (bert, gpt2, llama): int8 with one scale a token, found as it comes; int4 in groups; GGUF's blocks. Data are optional there,
 * and say which way weights of 4 bits are rounded.
 */
#ifndef MBL_QUANTIZE_H
#define MBL_QUANTIZE_H

#include "feed.h"

enum mbl_rounding_way {
    MBL_ROUND_BEST,              /* by data where there are some, else by search */
    MBL_ROUND_NEAREST,           /* scales from the greatest of a group */
    MBL_ROUND_SEARCH,            /* scales that lose the least squared error */
    MBL_ROUND_DATA               /* GPTQ: what the data say is lost is made up for */
};

struct mbl_quantize_options {
    /* Of features: always int8. */
    double percentile;           /* of |activation|: what the scale covers; 100: the greatest */
    int64_t batch;
    /* Of tokens. */
    enum mbk_type type;          /* MBK_I8, MBK_I4, MBK_Q8_0, MBK_Q4_0, MBK_Q4_K */
    int64_t group;               /* of MBK_I4 */
    enum mbk_type vocabulary;    /* the embedding, and an output layer of its own: one of the blocks; 0: they stay floats */
    enum mbl_rounding_way rounding;
    int64_t samples;             /* rows of the data that are looked at, at most */
    const char *const *keep;     /* layers with one of these in their names stay floats */
    size_t keep_count;
};

/* What became of a layer's weights. */
struct mbl_quantized_layer {
    const char *name;
    const char *kept;            /* "int4:64"; "F32" where they stay floats … */
    const char *why;             /* … for this reason; NULL otherwise */
    int64_t weights, bytes;      /* how many; what they take, scales included */
    double error, most;          /* ‖w − ŵ‖ / ‖w‖, max |w − ŵ| */
};

struct mbl_quantize_report {
    double weight_error;         /* ‖w − ŵ‖ / ‖w‖ over all quantized weights */
    double weight_error_most;    /* max |w − ŵ|; of tokens alone, as all that follows */
    size_t layers;               /* quantized */
    int64_t floats;              /* parameters that stay floats: norms, biases, tables of positions and what was kept */
    struct mbl_quantized_layer *list; /* all with weights in a matrix, kept ones too, in the model's order */
    size_t list_count, list_cap;
    struct mbl_arena arena;
};
MBL_EXPORT void mbl_quantize_report_free(struct mbl_quantize_report *r); /* all zero is fine */

/* Makes a quantized copy of `m`, which is float32 and on the CPU. `calibrate` is bound to m; models of tokens take NULL. The copy's folder is
 * to have m's tokenizer: that is the caller's, who has both. Errors name the layer. */
MBL_EXPORT int mbl_quantize(struct mbl_model *m, struct mbl_feed *calibrate, const struct mbl_quantize_options *o,
                            struct mbl_model **out, struct mbl_quantize_report *report, struct mbl_error *e);

/* quantize.c's part for models of tokens. */
int mbl_quantize_tokens(struct mbl_model *m, struct mbl_feed *calibrate, const struct mbl_quantize_options *o, struct mbl_model **out,
                        struct mbl_quantize_report *report, struct mbl_error *e);

#endif
