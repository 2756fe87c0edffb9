/* pairs.h: batches of users and items for recommenders: interactions in a model's own numbers, with negatives drawn for them.
 *
 * What chance decides follows from the seed, the epoch and the interaction's place in its part, never from what was done before.
 */
#ifndef MBL_PAIRS_H
#define MBL_PAIRS_H

#include "interactions.h"
#include "model.h"

struct mbl_pairs {
    struct mbl_interactions x;   /* bound to the model's catalogue */
    uint64_t seed;               /* of negatives and dropped ids */
    int64_t epoch;
    int64_t total;               /* interactions of the training, by which log Q is told */
    /* a batch: users, user_rows [room], items, item_rows [room · (1 + negatives)], I32, on the device and on the host; adjust F32 [room,
     * room] */
    struct mbk_tensor device[5];
    int32_t *staging, *head, *next; /* head: by item, the first of a batch's columns that has it, or -1; next: [room] */
    float *adjust;
    int64_t room, head_count;
};

/* Opens the interactions of a part for `m`, whose catalogue adopts whom it doesn't know. */
int mbl_pairs_open(struct mbl_pairs *p, struct mbl_model *m, const struct mbl_dataset *d, struct mbl_error *e);
void mbl_pairs_close(struct mbl_pairs *p, struct mbk *k); /* all zero is fine */
int mbl_pairs_reserve(struct mbl_pairs *p, struct mbl_model *m, int64_t rows, struct mbl_error *e);
/* The rows order[first] … (NULL: first …), at most as many as were reserved; good until the next call. b->training: ids are dropped. */
int mbl_pairs_batch(struct mbl_pairs *p, struct mbl_model *m, const int32_t *order, int64_t first, int64_t rows, struct mbl_batch *b,
                    struct mbl_error *e);

#endif
