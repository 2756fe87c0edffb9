/* ranking.h: a recommender's items for users, best first, and how good such lists are.
 *
 * Everything is ranked, nothing sampled: all items that the model knows, but for what a user has seen. Equal scores stand in the
 * catalogue's order. A user whom the model doesn't know gets the most popular items: those that were taken most in training.
 *
 * Of a user with relevant items R and the list L, k of it: recall@k = |L_k ∩ R| / |R|; hit rate@k = whether L_k has any of R; NDCG@k = Σ 1
 * / log2(rank + 1) over L_k ∩ R, over the same sum for the best list there could be (Järvelin, Kekäläinen 2002); MRR: 1 / rank of the first
 * of R in the whole list, 0 if it isn't there. An item of R that the model doesn't know is missed. Means are over users that have an R.
 * Coverage@k: the share of the items that could be recommended which at least one user's L_k has.
 */
#ifndef MBL_RANKING_H
#define MBL_RANKING_H

#include "interactions.h"
#include "model.h"

struct mbl_ranking_figures {     /* at one k */
    double recall, ndcg, hit_rate, coverage;
};

struct mbl_ranking {
    const int64_t *at;           /* the ks */
    size_t at_count;
    int64_t most_users;          /* 0: all */
    /* what comes out */
    struct mbl_ranking_figures *figures, *popular; /* [at_count]: of the model; of the most popular items for everybody */
    double mrr, popular_mrr;
    int64_t users, items, strangers; /* users judged; items that can be recommended; users whom the model doesn't know */
};

/* Judges by a part that is bound to the model: relevant is what its rows say, seen what was taken before. Fails where nobody is there to
 * be judged. */
MBL_EXPORT int mbl_rank_part(struct mbl_model *m, const struct mbl_interactions *x, struct mbl_ranking *r, struct mbl_error *e);
MBL_EXPORT void mbl_ranking_free(struct mbl_ranking *r); /* all zero is fine */

/* The figures by name: "recall@10", "mrr"; and the same of `popular`. */
MBL_EXPORT struct mbl_json *mbl_ranking_json(const struct mbl_ranking *r, bool popular, struct mbl_arena *a);
MBL_EXPORT void mbl_ranking_each(const struct mbl_ranking *r, bool popular, void (*each)(void *ctx, const char *name, double value),
                                 void *ctx);

/* Lists, some users at a time. */
struct mbl_ranker;
MBL_EXPORT int mbl_ranker_open(struct mbl_model *m, struct mbl_ranker **out, struct mbl_error *e);
MBL_EXPORT void mbl_ranker_close(struct mbl_ranker *r); /* NULL is fine */
MBL_EXPORT int64_t mbl_ranker_items(const struct mbl_ranker *r); /* how many can be recommended */
/* The k best for each of `count` users, by their indices, in items [count, k] and scores [count, k]; where there are fewer, items are −1.
 * seen_at [count + 1] and seen: what each must not get, ascending; NULL: anything goes. A stranger's scores are counts. */
MBL_EXPORT int mbl_ranker_top(struct mbl_ranker *r, const int32_t *users, int64_t count, int64_t k, const int64_t *seen_at,
                              const int32_t *seen, int32_t *items, float *scores, struct mbl_error *e);

#endif
