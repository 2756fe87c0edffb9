/* generate.h: text from a decoder, token by token: greedy, or drawn by temperature, top-k and top-p (Holtzman et al. 2020).
 *
 * A cache keeps keys and values of what came before, so that each token costs one row of products. What is drawn follows from the seed and
 * from how many tokens stand before it alone: the same seed gives the same text on the same device.
 */
#ifndef MBL_GENERATE_H
#define MBL_GENERATE_H

#include "model.h"

/* Room for `tokens` of one row. In batches: mbl_batch.cache. */
MBL_EXPORT int mbl_past_open(struct mbl_model *m, int64_t tokens, struct mbl_past **out, struct mbl_error *e);
MBL_EXPORT void mbl_past_clear(struct mbl_past *c); /* for another row */
MBL_EXPORT void mbl_past_close(struct mbl_past *c); /* NULL is fine */

struct mbl_generation {
    int64_t most;                /* tokens to make at most; prompt and they together never exceed m->longest */
    double temperature;          /* 0: always the likeliest */
    int64_t top_k;               /* draws from so many of the likeliest; 0: from all */
    double top_p;                /* draws from the fewest whose probabilities reach this; 1: from all */
    uint64_t seed;
    const int32_t *stops;        /* a token that ends it, and isn't given; usually the config's eos_token_id */
    size_t stop_count;
};

/* Goes on from `prompt`, at least one token. `out` has room for options->most; *made are filled. `each` (optional) hears of every token as
 * it comes; it returns 0, or anything else to end there. */
MBL_EXPORT int mbl_generate(struct mbl_model *m, const struct mbl_generation *options, const int32_t *prompt, int64_t prompt_tokens,
                            int (*each)(void *ctx, int32_t token), void *ctx, int32_t *out, int64_t *made, struct mbl_error *e);

/* The tokens that the config says end a text: eos_token_id, a number or a list. In the model's arena. */
MBL_EXPORT size_t mbl_generation_stops(struct mbl_model *m, const int32_t **out);

#endif
