/* interactions_split.c: which interactions train, which validate and which test; see interactions.h.
 *
 * `last` is what a recommender has to do in earnest: from what a user did so far, guess what comes next. `random` says how well tastes are
 * told, and `time` cuts the whole at two moments. Ties in time are broken by the place in the source; chance is Philox's.
 */
#include "interactions.h"

#include <math.h>
#include <mbuild/kernels.h>
#include <stdlib.h>
#include <string.h>

struct ticket {
    double key;                  /* the time, or what chance drew */
    int32_t user;                /* SPLIT_LAST: one user's stand together; otherwise 0 */
    uint32_t at;
};

static int by_ticket(const void *a, const void *b) {
    const struct ticket *x = a, *y = b;
    if (x->user != y->user) return x->user < y->user ? -1 : 1;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* A user with too few to leave one for training stays in training as a whole. */
static void split_last(struct interactions *x, const struct ticket *t) {
    size_t val = (size_t)x->shares[PART_VAL], test = (size_t)x->shares[PART_TEST];
    for (size_t i = 0, end; i < x->count; i = end) {
        for (end = i + 1; end < x->count && t[end].user == t[i].user;) end++;
        bool enough = end - i > val + test;
        for (size_t k = i; k < end; k++) {
            size_t left = end - k; /* this one counted */
            x->pairs[t[k].at].part = !enough || left > val + test ? PART_TRAIN : left > test ? PART_VAL : PART_TEST;
        }
    }
}

static void split_shares(struct interactions *x, const struct ticket *t) {
    double n = (double)x->count;
    size_t train = (size_t)floor(n * x->shares[PART_TRAIN] + 0.5),
           val = (size_t)floor(n * (x->shares[PART_TRAIN] + x->shares[PART_VAL]) + 0.5);
    for (size_t i = 0; i < x->count; i++) x->pairs[t[i].at].part = i < train ? PART_TRAIN : i < val ? PART_VAL : PART_TEST;
}

/* By part; within one in the source's order. */
static void sort_parts(struct interactions *x) {
    struct pair *sorted = mbl_alloc(x->cap * sizeof *sorted);
    size_t n = 0;
    for (int p = 0; p < PART_COUNT; p++)
        for (size_t i = 0; i < x->count; i++)
            if (x->pairs[i].part == p) sorted[n++] = x->pairs[i];
    free(x->pairs);
    x->pairs = sorted;
}

int interactions_divide(struct interactions *x) {
    size_t counts[PART_COUNT] = {0};
    void *block;
    if (x->by == SPLIT_NONE) {
        for (size_t i = 0; i < x->count; i++) x->pairs[i].part = PART_ALL;
        return 0;
    }
    if (mbl_try_alloc(&block, x->count, sizeof(struct ticket), "the split", &x->e)) return -1;
    struct ticket *tickets = block;
    for (size_t i = 0; i < x->count; i++) {
        uint32_t words[4];
        mbk_philox(x->seed, i, words);
        double drawn = (double)words[0] * 4294967296.0 + (double)(words[1] & 0xfffff000); /* exact: 52 bits */
        tickets[i] =
            (struct ticket){x->by == SPLIT_RANDOM ? drawn : x->pairs[i].time, x->by == SPLIT_LAST ? x->pairs[i].user : 0, (uint32_t)i};
    }
    qsort(tickets, x->count, sizeof *tickets, by_ticket);
    if (x->by == SPLIT_LAST) split_last(x, tickets);
    else split_shares(x, tickets);
    free(block);
    for (size_t i = 0; i < x->count; i++) counts[x->pairs[i].part]++;
    for (int p = 0; p < PART_ALL; p++)
        if (!counts[p] && (x->shares[p] > 0 || p == PART_TRAIN))
            return mbl_error_set(&x->e, "split: no interaction is left for %s%s", part_names[p],
                                 x->by == SPLIT_LAST ? ": no user has enough of them" : "");
    sort_parts(x);
    return 0;
}
