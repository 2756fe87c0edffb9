/* recommend.h: what recommenders have in common: a tower of users and one of items, each giving a vector, and what is made of the two.
 *
 * An architecture that takes pairs of users and items brings two functions, from indices to vectors and back; scores, losses and their
 * gradients are here. A score is the product of the two vectors (over the temperature), plus the item's bias, plus the user's where ratings
 * are told. Learned is by one of:
 *     mse      (score − rating)², ratings standardized (Koren, Bell, Volinsky 2009): the problem is MBL_VALUES
 *     bpr      −log σ(score of the item taken − score of one not taken) (Rendle et al. 2009), the mean over `negatives` of them
 *     softmax  which of the batch's items the user took: cross-entropy over them, less log Q, how likely an item is to be in a batch
 *              (Yi et al. 2019); items that the user is known to have taken don't count against it
 * It knows of models their parameters, and nothing of files.
 */
#ifndef MBL_RECOMMEND_H
#define MBL_RECOMMEND_H

#include "model.h"

#define MBL_TOWER_NONE SIZE_MAX

struct mbl_tower_call {          /* some users, or some items */
    enum mbl_side side;
    struct mbk_tensor indices;   /* I32 [n]: in the catalogue */
    struct mbk_tensor rows;      /* I32 [n]: of tables of what was learned: index + 1, or 0 for those not met in training */
    bool training;
    uint64_t seed, offset;       /* of dropout */
};

/* The state of such an architecture begins with this. */
struct mbl_towers {
    int64_t width;               /* of a vector */
    size_t bias[MBL_SIDES];      /* parameters [trained + 1, 1], or MBL_TOWER_NONE */
    bool cold[MBL_SIDES];        /* those not met in training have vectors that mean something */
    int (*reserve)(struct mbl_model *m, enum mbl_side side, int64_t rows, bool training, struct mbl_error *e);
    int (*forward)(struct mbl_model *m, const struct mbl_tower_call *c, struct mbk_tensor *vectors, struct mbl_error *e);
    int (*backward)(struct mbl_model *m, const struct mbl_tower_call *c, const struct mbk_tensor *dvectors, struct mbl_error *e);
    /* memory of a batch of `room` pairs */
    int64_t room;
    bool training;
    struct mbk_tensor vectors[MBL_SIDES]; /* what forward gave */
    struct mbk_tensor ones, products, spread, scores, biases, dvectors[MBL_SIDES], dbiases, spare;
};

/* -- For the architectures. */
/* loss, negatives, temperature (`otherwise` if none is said), log_q. */
int mbl_pairing_configure(struct mbl_model *m, const struct mbl_json *config, double otherwise, struct mbl_error *e);
int mbl_config_flag(struct mbl_model *m, const struct mbl_json *config, const char *key, bool otherwise, bool *out, struct mbl_error *e);
/* A table [trained + 1, width] of what is learned of each user or item of `s`; row 0 starts at 0. Returns the parameter. */
size_t mbl_towers_table(struct mbl_model *m, enum mbl_side side, const struct mbl_entities *s, const char *name, int64_t width,
                        float deviation);
int mbl_towers_reserve(struct mbl_model *m, int64_t rows, bool training, struct mbl_error *e);
int mbl_towers_forward(struct mbl_model *m, const struct mbl_batch *b, struct mbk_tensor *outputs, struct mbl_error *e);
int mbl_towers_backward(struct mbl_model *m, const struct mbl_batch *b, const struct mbk_tensor *doutputs, struct mbl_error *e);
void mbl_towers_release(struct mbl_model *m);

/* -- For model.c. */
/* Which problem the config's loss, or without one the data, make it. */
int mbl_pairing_problem(struct mbl_model *m, const struct mbl_json *config, struct mbl_error *e);

/* -- For training. */
/* Numbers that a batch of so many pairs gives: [rows] for mse, [1 + negatives, rows] for bpr, [rows, rows] for softmax. */
MBL_EXPORT int64_t mbl_pairs_outputs(const struct mbl_model *m, int64_t rows);
/* The label of a batch's row i: what mbl_pairs_loss's prediction is where the model is right. */
MBL_EXPORT int32_t mbl_pairs_label(const struct mbl_model *m, int64_t i);
/* Of MBL_RANKING: losses F32 [rows], doutputs like outputs (data NULL: not wanted), predictions I32 [rows]. */
MBL_EXPORT int mbl_pairs_loss(struct mbl_model *m, const struct mbk_tensor *outputs, const struct mbk_tensor *labels, float scale,
                              const struct mbk_tensor *losses, const struct mbk_tensor *doutputs, const struct mbk_tensor *predictions,
                              struct mbl_error *e);

/* -- For ranking. */
/* Vectors [count, width] and biases [count] (0 where there are none) of the side's entities indices[0] … on the host. */
MBL_EXPORT int mbl_towers_embed(struct mbl_model *m, enum mbl_side side, const int32_t *indices, int64_t count, float *vectors,
                                float *biases, struct mbl_error *e);
MBL_EXPORT struct mbl_towers *mbl_towers_of(struct mbl_model *m);
/* Whether the entity has a vector that means something: it was met in training, or is told by its features. */
MBL_EXPORT bool mbl_towers_knows(const struct mbl_model *m, enum mbl_side side, int64_t index);

#endif
