/* train_pairs.c: what training a recommender does otherwise: losses of batches that aren't rows of labels, and validation by ranking; see
 * train.h.
 */
#include "ranking.h"
#include "recommend.h"
#include "train.h"

#include <stdlib.h>

#define JUDGED_USERS 2000        /* an epoch's validation ranks for so many users at most: those with the lowest indices */
#define JUDGED_AT 10

/* Mean loss over another part, with negatives that are the same each time. */
static int mean_loss(struct mbl_trainer *t, struct mbl_feed *f, double *out, struct mbl_error *e) {
    struct mbl_model *m = t->model;
    struct mbk *k = m->k;
    struct mbk_tensor labels = mbk_rows(&t->arrays[MBL_LABELS], 0, t->piece_rows), none = {0};
    double sum = 0;
    f->pairs.seed = mbl_seed_for(t->options.seed, MBL_FOR_NEGATIVES);
    f->pairs.epoch = -1; /* no epoch of the training */
    if (mbl_feed_reserve(f, t->piece_rows, e)) return -1;
    for (int64_t done = 0; done < f->rows;) {
        int64_t rows = f->rows - done < t->piece_rows ? f->rows - done : t->piece_rows;
        struct mbk_tensor losses = mbk_rows(&t->spare, 0, rows), predictions = mbk_rows(&t->judged, 0, rows), outputs;
        struct mbl_batch b = {0};
        labels.shape[0] = rows;
        if (mbl_feed_batch(f, NULL, done, rows, &b, e) || m->architecture->forward(m, &b, &outputs, e) ||
            mbl_pairs_loss(m, &outputs, &labels, 1, &losses, &none, &predictions, e))
            return -1;
        if (mbk_read(k, t->staging, losses.data, mbk_bytes(&losses))) return mbl_kernel_failed(k, "validation", e);
        for (int64_t i = 0; i < rows; i++) sum += (double)t->staging[i];
        done += rows;
    }
    *out = sum / (double)f->rows;
    return 0;
}

int mbl_trainer_validate_pairs(struct mbl_trainer *t, struct mbl_feed *f, struct mbl_epoch *out, struct mbl_error *e) {
    static const int64_t at[] = {JUDGED_AT};
    struct mbl_ranking r = {.at = at, .at_count = 1, .most_users = JUDGED_USERS};
    int status = mean_loss(t, f, &out->loss, e) || mbl_rank_part(t->model, &f->pairs.x, &r, e) ? -1 : 0;
    if (!status) out->score = r.figures[0].ndcg;
    mbl_ranking_free(&r);
    return status;
}
