/* feed.h: a dataset's part as a model takes it: scaled or tokenized, checked, on the model's device; and a model's answers to it. */
#ifndef MBL_FEED_H
#define MBL_FEED_H

#include "model.h"
#include "pairs.h"
#include "tokens.h"

struct mbl_feed {
    struct mbl_dataset data;
    int64_t rows;                /* as the model sees them: the part's, or pieces of a stream of tokens */
    float *scaled;               /* features: [rows, features] on the host, between bind and upload */
    struct mbk_tensor x;         /* features: F32 [rows, features] on the device, after upload */
    float *targets;              /* MBL_VALUES: standardized, on the host; NULL otherwise. Labels are in data.labels */
    struct mbl_tokens tokens;    /* models of tokens */
    struct mbl_pairs pairs;      /* models of pairs */
    struct mbk_tensor batch[6];  /* I32 ids, types, positions [room · longest], lengths [room], and what mbl_feed_judge takes, on the device … */
    int32_t *staging;            /* … and on the host */
    int64_t room;                /* rows of a batch */
    bool pads_inside;            /* a text has the model's pad token in it, which matters to its positions */
    struct mbl_model *model;
    bool shared;                 /* the rows are another feed's */
    bool unlabelled;             /* labels, if there are any, are of no interest. Set between open with m NULL and bind */
};

/* Opens a part for `m` and brings it to its device; or, with m NULL, just reads it: mbl_feed_bind is to follow. */
MBL_EXPORT int mbl_feed_open(struct mbl_feed *f, struct mbl_model *m, const char *path, struct mbl_error *e);
/* Scales the features as the model's schema says, or makes tokens of the texts as m->texts says. Fails on data that the model can't
 * take, on values that are no finite numbers, on no rows. */
MBL_EXPORT int mbl_feed_bind(struct mbl_feed *f, struct mbl_model *m, struct mbl_error *e);
/* Moves features to the model's device. */
MBL_EXPORT int mbl_feed_upload(struct mbl_feed *f, struct mbl_error *e);
MBL_EXPORT void mbl_feed_close(struct mbl_feed *f); /* all zero is fine */
/* The same rows for a copy of the model on another stream: batches of tokens get room of their own there, features come from elsewhere. `from`
 * outlives it. */
void mbl_feed_share(const struct mbl_feed *from, struct mbl_model *m, struct mbl_feed *out);

/* Makes room for batches of tokens or pairs of up to `rows` rows. */
MBL_EXPORT int mbl_feed_reserve(struct mbl_feed *f, int64_t rows, struct mbl_error *e);
/* A batch of the rows order[first] … (NULL: first …), no more than were reserved: features are a view of x, and order must be NULL; tokens
 * and pairs are written to the device, good until the next call. */
MBL_EXPORT int mbl_feed_batch(struct mbl_feed *f, const int32_t *order, int64_t first, int64_t rows, struct mbl_batch *b,
                              struct mbl_error *e);

/* The model's answers to rows first … first + count - 1, at most `batch` at a time: logits [count, outputs]; of MBL_VALUES in the
 * target's own unit. `out` is on the host. `f` was uploaded. Not for models that answer to each token. */
MBL_EXPORT int mbl_predict(struct mbl_model *m, struct mbl_feed *f, int64_t first, int64_t count, int64_t batch, float *out,
                           struct mbl_error *e);

/* How a model that answers to each token does on the rows first … first + count - 1: sums over the tokens that count. */
struct mbl_token_score {
    int64_t tokens, hits;
    double loss;                 /* sum of negative log-likelihoods */
};
MBL_EXPORT int mbl_feed_judge(struct mbl_model *m, struct mbl_feed *f, int64_t first, int64_t count, int64_t batch,
                              struct mbl_token_score *out, struct mbl_error *e);

/* What a model of classes of words says to the rows first … first + count - 1: of each of their words the likeliest class and its
 * probability, by its first token. tags[w] and scores[w] are those of word w, counted from the part's first; both have room for all of
 * f->tokens.words; -1 and 0 where the row was cut before it. `loss` is summed over the `judged` words that have a tag in the data. */
struct mbl_word_answers {
    int32_t *tags;
    float *scores;
    int64_t judged;
    double loss;
};
MBL_EXPORT int mbl_word_answers_open(struct mbl_word_answers *out, const struct mbl_feed *f, struct mbl_error *e);
MBL_EXPORT void mbl_word_answers_close(struct mbl_word_answers *a); /* all zero is fine */
MBL_EXPORT int mbl_feed_tag(struct mbl_model *m, struct mbl_feed *f, int64_t first, int64_t count, int64_t batch,
                            struct mbl_word_answers *out, struct mbl_error *e);

#endif
