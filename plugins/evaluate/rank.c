/* rank.c: judging recommenders; see rank.h. */
#include "rank.h"

#include <stdlib.h>

#define TIMED_AT 10

static int by_value(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

int rank_judge(const struct mb_host *host, struct mb_run *run, struct mbl_model *m, struct mbl_feed *f, struct mbl_arena *a,
               struct mbl_ranking *out, struct mbl_error *e) {
    size_t given = host->param_count(run, "k");
    int64_t *at = mbl_arena_alloc(a, (given + 1) * sizeof *at);
    *out = (struct mbl_ranking){.at = at};
    if (!given) return mbl_error_set(e, "k: a length of lists expected, such as { 10 }");
    for (size_t i = 0; i < given; i++) at[i] = host->param_int(run, mbl_arena_printf(a, "k[%zu]", i));
    qsort(at, given, sizeof *at, by_value);
    for (size_t i = 0; i < given; i++)
        if (!i || at[i] != at[out->at_count - 1]) at[out->at_count++] = at[i];
    if (mbl_rank_part(m, &f->pairs.x, out, e)) return -1;
    if (out->strangers)
        host->log(run, MB_WARN, "%lld of %lld users are unknown to the model: they are recommended the most popular items",
                  (long long)out->strangers, (long long)out->users);
    const struct mbl_ranking_figures *mine = &out->figures[out->at_count - 1], *popular = &out->popular[out->at_count - 1];
    host->log(run, MB_INFO, "at %lld: recall %.4f, NDCG %.4f, hit rate %.4f; the most popular items: %.4f, %.4f, %.4f",
              (long long)out->at[out->at_count - 1], mine->recall, mine->ndcg, mine->hit_rate, popular->recall, popular->ndcg,
              popular->hit_rate);
    return 0;
}

int rank_time(const struct mbl_feed *f, struct mbl_ranker *ranker, int64_t first, int64_t count, struct mbl_error *e) {
    int32_t *items = mbl_alloc((size_t)count * TIMED_AT * sizeof *items);
    float *scores = mbl_alloc((size_t)count * TIMED_AT * sizeof *scores);
    int status = mbl_ranker_top(ranker, f->pairs.x.users + first, count, TIMED_AT, NULL, NULL, items, scores, e);
    free(items);
    free(scores);
    return status;
}
