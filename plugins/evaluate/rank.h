/* rank.h: what evaluate does with a recommender that ranks: figures of full rankings, beside those of the most popular items. */
#ifndef EVALUATE_RANK_H
#define EVALUATE_RANK_H

#include "lib/feed.h"
#include "lib/ranking.h"

#include <mbuild/plugin.h>

/* Judges `f`, bound to `m`, at the ks of the parameter `k`, which it keeps in the arena. */
int rank_judge(const struct mb_host *host, struct mb_run *run, struct mbl_model *m, struct mbl_feed *f, struct mbl_arena *a,
               struct mbl_ranking *out, struct mbl_error *e);
/* Lists for `count` rows' users, whatever becomes of them: for timing. */
int rank_time(const struct mbl_feed *f, struct mbl_ranker *ranker, int64_t first, int64_t count, struct mbl_error *e);

#endif
