/* tokens.h: a part's texts as rows of tokens, made once, and batches of these.
 *
 * Where a model answers to a row as a whole, a row is a text or a pair, cut to the longest length. Where it answers to each token
 * (language models), the texts are one stream that is cut into rows of the full length, only the last one shorter. Where it gives each word
 * a class, a row is a sentence; its labels stand at the first token of each word (or at all of them). A batch is as wide as
 * its longest row needs; rows of about the same length come together, in an order that follows from a seed.
 */
#ifndef MBL_TOKENS_H
#define MBL_TOKENS_H

#include "model.h"
#include "texts.h"
#include "words.h"

#define MBL_NO_LABEL (-100)

struct mbl_tokens {
    enum mbl_problem problem;
    int64_t rows, longest;       /* longest: tokens */
    int32_t *ids;                /* row r: starts[r] … starts[r + 1] - 1 */
    uint8_t *types;              /* likewise; NULL: all 0 */
    int64_t *starts;             /* [rows + 1] */
    int64_t cut;                 /* texts that were longer than a row */
    struct mbl_words words;      /* MBL_TOKEN_CLASSES, as the two below: what is to be tagged … */
    int32_t *firsts;             /* … like ids: the word whose first token it is, counted over all rows; -1: none's … */
    int32_t *labels;             /* … like ids: the token's class, or MBL_NO_LABEL; NULL if the data have no tags … */
    int32_t *tags;               /* … and [words.count]: the word's class, as the model counts them; NULL likewise */
    int32_t pad, mask;
    int64_t vocabulary;
    bool *special;               /* [vocabulary]: never masked */
    /* Masked language modelling: which tokens are hidden follows from these (Devlin et al. 2019: 15 %, of these 80 % as the mask token,
     * 10 % as any other, 10 % as they are). */
    uint64_t seed;
    int64_t epoch;
    struct mbl_sized_row *scratch; /* of mbl_tokens_bucket */
    int32_t *swapped;
};

/* `length`: of a row at most; `classes`: the model's, for MBL_TOKEN_CLASSES. Errors: a column that isn't there, no text at all, a tokenizer
 * without a mask token where it takes one, tags that the model doesn't know. */
MBL_EXPORT int mbl_tokens_open(struct mbl_tokens *t, struct mbl_texts *x, const struct mbl_dataset *d, enum mbl_problem problem,
                               int64_t length, const struct mbl_schema *classes, struct mbl_error *e);
MBL_EXPORT void mbl_tokens_close(struct mbl_tokens *t); /* all zero is fine */

/* How wide a batch of rows order[0] … order[rows - 1] is: its longest row, rounded up to 8, at most t->longest. order NULL: 0, 1, 2, … from
 * `first` on, here and below. */
MBL_EXPORT int64_t mbl_tokens_width(const struct mbl_tokens *t, const int32_t *order, int64_t first, int64_t rows);
/* ids and types [rows, width] (types may be NULL), padded on the right, and lengths [rows]. */
MBL_EXPORT void mbl_tokens_fill(const struct mbl_tokens *t, const int32_t *order, int64_t first, int64_t rows, int64_t width, int32_t *ids,
                                int32_t *types, int32_t *lengths);
/* What the model has to say at each token, [rows, width]; MBL_NO_LABEL where nothing. Returns how many count. */
MBL_EXPORT int64_t mbl_tokens_labels(const struct mbl_tokens *t, const int32_t *order, int64_t first, int64_t rows, int64_t width,
                                     int32_t *labels);

/* Puts a shuffled order so that batches of `batch` rows have about the same length: within stretches of 32 batches rows are sorted, then
 * the full batches are shuffled, so that lengths come in any order. Takes memory at its first call only, so `batch` is always the same. */
MBL_EXPORT void mbl_tokens_bucket(struct mbl_tokens *t, uint64_t seed, int64_t epoch, int64_t batch, int32_t *order);

#endif
