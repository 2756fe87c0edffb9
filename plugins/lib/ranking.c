/* ranking.c: lists of items for users, and their figures; see ranking.h. Products are the device's, what follows is the host's. */
#include "ranking.h"
#include "recommend.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCORES_AT_ONCE (INT64_C(1) << 22) /* users times items */

struct mbl_ranker {
    struct mbl_model *m;
    int32_t *items;              /* [count]: what can be recommended, ascending */
    int64_t count, users_at_once;
    float *popularity;           /* [count] */
    struct mbk_tensor vectors, biases, users, scores; /* on the device: [count, D], [count], [at once, D], [at once, count] */
    float *host, *user_vectors, *user_biases;         /* [at once, count], [at once, D], [at once] */
    bool *hidden;                /* by item, while one user's list is made */
};

/* -- scores */

static int put(struct mbk *k, struct mbk_tensor *t, struct mbk_tensor shape, const float *from, struct mbl_error *e) {
    *t = shape;
    t->data = mbk_alloc(k, mbk_bytes(t) + 1);
    if (!t->data) return mbl_error_set(e, "no memory for ranking (%zu bytes)", mbk_bytes(t));
    return from && mbk_write(k, t->data, from, mbk_bytes(t)) ? mbl_kernel_failed(k, "ranking", e) : 0;
}

static int open_items(struct mbl_ranker *r, struct mbl_error *e) {
    struct mbl_model *m = r->m;
    const struct mbl_entities *s = &m->catalogue->side[MBL_ITEMS];
    int64_t width = mbl_towers_of(m)->width;
    void *vectors;
    r->items = mbl_alloc((size_t)s->count * sizeof *r->items);
    r->popularity = mbl_alloc((size_t)s->count * sizeof *r->popularity);
    r->hidden = mbl_alloc((size_t)s->count * sizeof *r->hidden);
    for (int64_t i = 0; i < s->count; i++) {
        if (!mbl_towers_knows(m, MBL_ITEMS, i)) continue;
        r->popularity[r->count] = (float)s->counts[i];
        r->items[r->count++] = (int32_t)i;
    }
    if (!r->count) return mbl_error_set(e, "the model knows no item that could be recommended");
    if (mbl_try_alloc(&vectors, (uint64_t)(r->count * (width + 1)), sizeof(float), "the items' vectors", e)) return -1;
    float *v = vectors, *b = v + r->count * width;
    int status = mbl_towers_embed(m, MBL_ITEMS, r->items, r->count, v, b, e);
    if (!status)
        status = put(m->k, &r->vectors, mbk_tensor2(NULL, MBK_F32, r->count, width), v, e) ||
                 put(m->k, &r->biases, mbk_tensor1(NULL, MBK_F32, r->count), b, e);
    free(vectors);
    return status;
}

int mbl_ranker_open(struct mbl_model *m, struct mbl_ranker **out, struct mbl_error *e) {
    struct mbl_ranker *r = mbl_alloc(sizeof *r);
    int64_t width = mbl_towers_of(m)->width;
    void *block;
    r->m = m;
    *out = NULL;
    int status = open_items(r, e);
    if (!status) {
        r->users_at_once = SCORES_AT_ONCE / r->count;
        if (r->users_at_once < 1) r->users_at_once = 1;
        if (r->users_at_once > 256) r->users_at_once = 256;
        status = put(m->k, &r->users, mbk_tensor2(NULL, MBK_F32, r->users_at_once, width), NULL, e) ||
                 put(m->k, &r->scores, mbk_tensor2(NULL, MBK_F32, r->users_at_once, r->count), NULL, e) ||
                 mbl_try_alloc(&block, (uint64_t)(r->users_at_once * (r->count + width + 1)), sizeof(float), "ranking", e);
    }
    if (status) {
        mbl_ranker_close(r);
        return -1;
    }
    r->host = block;
    r->user_vectors = r->host + r->users_at_once * r->count;
    r->user_biases = r->user_vectors + r->users_at_once * width;
    *out = r;
    return 0;
}

void mbl_ranker_close(struct mbl_ranker *r) {
    if (!r) return;
    struct mbk_tensor *all[] = {&r->vectors, &r->biases, &r->users, &r->scores};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i]->data) mbk_free(r->m->k, all[i]->data);
    free(r->items);
    free(r->popularity);
    free(r->hidden);
    free(r->host);
    free(r);
}

int64_t mbl_ranker_items(const struct mbl_ranker *r) {
    return r->count;
}

/* r->host [count, items]: what the model says of at most users_at_once users. */
static int score_users(struct mbl_ranker *r, const int32_t *users, int64_t count, struct mbl_error *e) {
    struct mbl_model *m = r->m;
    struct mbk_tensor u = mbk_rows(&r->users, 0, count), s = mbk_rows(&r->scores, 0, count);
    const struct mbk_product p = {.a = &u, .b = &r->vectors, .c = &s, .transpose_b = 1, .bias = &r->biases,
                                  .alpha = (float)(1 / m->pairing.temperature)};
    if (mbl_towers_embed(m, MBL_USERS, users, count, r->user_vectors, r->user_biases, e)) return -1;
    if (mbk_write(m->k, u.data, r->user_vectors, mbk_bytes(&u)) || mbk_matmul(m->k, &p) || mbk_read(m->k, r->host, s.data, mbk_bytes(&s)))
        return mbl_kernel_failed(m->k, "ranking", e);
    for (int64_t i = 0; i < count; i++) {
        float *row = r->host + i * r->count;
        if (!mbl_towers_knows(m, MBL_USERS, users[i])) memcpy(row, r->popularity, (size_t)r->count * sizeof *row);
        for (int64_t k = 0; k < r->count; k++)
            if (!isfinite(row[k])) return mbl_error_set(e, "the model's score of item \"%.100s\" is no finite number",
                                                        m->catalogue->side[MBL_ITEMS].ids[r->items[k]]);
    }
    return 0;
}

/* -- the best of a list: a heap of k, the worst of them at its root; of equal scores the later item is the worse */

static bool worse(const float *scores, int32_t a, int32_t b) {
    return scores[a] < scores[b] || (scores[a] == scores[b] && a > b);
}

static void sift(const float *scores, int32_t *heap, int64_t n, int64_t at) {
    for (int64_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && worse(scores, heap[child + 1], heap[child])) child++;
        if (!worse(scores, heap[child], heap[at])) return;
        int32_t swap = heap[at];
        heap[at] = heap[child];
        heap[child] = swap;
    }
}

/* Places among r->items of the k best that aren't hidden, best first; returns how many there are. */
static int64_t pick(const struct mbl_ranker *r, const float *scores, int64_t k, int32_t *out) {
    int64_t n = 0;
    for (int32_t i = 0; i < r->count; i++) {
        if (r->hidden[r->items[i]] || (n == k && !worse(scores, out[0], i))) continue;
        if (n < k) {
            out[n++] = i;
            for (int64_t at = n / 2; n == k && at-- > 0;) sift(scores, out, n, at); /* full: from now on a heap */
        } else {
            out[0] = i;
            sift(scores, out, n, 0);
        }
    }
    for (int64_t at = n / 2; n < k && at-- > 0;) sift(scores, out, n, at);
    for (int64_t left = n; left > 1;) {
        int32_t last = out[--left];
        out[left] = out[0];
        out[0] = last;
        sift(scores, out, left, 0);
    }
    return n;
}

static void hide(struct mbl_ranker *r, const int32_t *items, int64_t count, bool hidden) {
    for (int64_t i = 0; i < count; i++) r->hidden[items[i]] = hidden;
}

int mbl_ranker_top(struct mbl_ranker *r, const int32_t *users, int64_t count, int64_t k, const int64_t *seen_at, const int32_t *seen,
                   int32_t *items, float *scores, struct mbl_error *e) {
    int64_t most = k < r->count ? k : r->count;
    for (int64_t first = 0, n; first < count; first += n) {
        n = count - first < r->users_at_once ? count - first : r->users_at_once;
        if (score_users(r, users + first, n, e)) return -1;
        for (int64_t u = first; u < first + n; u++) {
            const float *row = r->host + (u - first) * r->count;
            int32_t *to = items + u * k;
            if (seen_at) hide(r, seen + seen_at[u], seen_at[u + 1] - seen_at[u], true);
            int64_t found = pick(r, row, most, to);
            if (seen_at) hide(r, seen + seen_at[u], seen_at[u + 1] - seen_at[u], false);
            for (int64_t i = 0; i < k; i++) {
                scores[u * k + i] = i < found ? row[to[i]] : 0;
                to[i] = i < found ? r->items[to[i]] : -1;
            }
        }
    }
    return 0;
}

/* -- figures */

struct judging {
    struct mbl_ranker *ranker;
    const struct mbl_interactions *x;
    struct mbl_ranking *r;
    int64_t *own_at;             /* [users + 1]: what each took in this part … */
    int32_t *own;
    int32_t *users;              /* who is judged */
    int64_t count, longest;      /* the largest k */
    int32_t *list;
    bool *wanted, *recommended[2]; /* by item; recommended: by item and k */
};

static void gather_own(struct judging *j) {
    const struct mbl_interactions *x = j->x;
    int64_t *next = mbl_alloc(((size_t)x->user_count + 1) * sizeof *next);
    j->own_at = mbl_alloc(((size_t)x->user_count + 1) * sizeof *j->own_at);
    j->own = mbl_alloc((size_t)(x->rows + 1) * sizeof *j->own);
    j->users = mbl_alloc((size_t)(x->user_count + 1) * sizeof *j->users);
    for (int64_t i = 0; i < x->rows; i++) j->own_at[x->users[i] + 1]++;
    for (int64_t u = 0; u < x->user_count; u++) {
        j->own_at[u + 1] += j->own_at[u];
        next[u] = j->own_at[u];
        if (j->own_at[u + 1] > j->own_at[u] && (!j->r->most_users || j->count < j->r->most_users)) j->users[j->count++] = (int32_t)u;
    }
    for (int64_t i = 0; i < x->rows; i++) j->own[next[x->users[i]]++] = x->items[i];
    free(next);
}

/* Adds one user's figures, by these scores; what is seen is hidden, what is relevant is wanted. */
static void judge_list(struct judging *j, const float *scores, int64_t relevant, struct mbl_ranking_figures *out, double *mrr,
                       bool *recommended) {
    const struct mbl_ranker *r = j->ranker;
    int64_t most = j->longest < r->count ? j->longest : r->count, found = pick(r, scores, most, j->list), hits = 0, at = 0;
    double gain = 0;
    size_t next = 0;
    for (int64_t i = 0; next < j->r->at_count; i++) {
        while (next < j->r->at_count && i == j->r->at[next]) {
            double ideal = 0;
            for (int64_t n = 0; n < relevant && n < i; n++) ideal += 1 / log2((double)n + 2);
            out[next].recall += (double)hits / (double)relevant;
            out[next].hit_rate += hits > 0;
            out[next].ndcg += gain / ideal;
            next++;
        }
        if (i >= found) continue;
        int32_t item = r->items[j->list[i]];
        if (j->wanted[item]) hits++, gain += 1 / log2((double)i + 2);
        for (size_t k = next; k < j->r->at_count; k++) recommended[(size_t)item * j->r->at_count + k] = true;
    }
    /* The first relevant one of the whole list: how many stand before the best of them. */
    int32_t first = -1;
    for (int32_t i = 0; i < r->count; i++)
        if (j->wanted[r->items[i]] && !r->hidden[r->items[i]] && (first < 0 || worse(scores, first, i))) first = i;
    for (int32_t i = 0; first >= 0 && i < r->count; i++) at += !r->hidden[r->items[i]] && worse(scores, first, i);
    *mrr += first < 0 ? 0 : 1 / (double)(at + 1);
}

static int64_t mark(struct judging *j, const int32_t *items, int64_t count, bool on) {
    int64_t fresh = 0;
    for (int64_t i = 0; i < count; i++) {
        fresh += j->wanted[items[i]] != on;
        j->wanted[items[i]] = on;
    }
    return fresh;
}

static int judge_all(struct judging *j, struct mbl_error *e) {
    struct mbl_ranker *r = j->ranker;
    struct mbl_ranking *out = j->r;
    const struct mbl_interactions *x = j->x;
    for (int64_t first = 0, n; first < j->count; first += n) {
        n = j->count - first < r->users_at_once ? j->count - first : r->users_at_once;
        if (score_users(r, j->users + first, n, e)) return -1;
        for (int64_t i = 0; i < n; i++) {
            int32_t u = j->users[first + i];
            const int32_t *seen = x->seen + x->seen_at[u], *own = j->own + j->own_at[u];
            int64_t seen_count = x->seen_at[u + 1] - x->seen_at[u], own_count = j->own_at[u + 1] - j->own_at[u];
            int64_t relevant = mark(j, own, own_count, true);
            hide(r, seen, seen_count, true);
            judge_list(j, r->host + i * r->count, relevant, out->figures, &out->mrr, j->recommended[0]);
            judge_list(j, r->popularity, relevant, out->popular, &out->popular_mrr, j->recommended[1]);
            hide(r, seen, seen_count, false);
            mark(j, own, own_count, false);
            out->strangers += !mbl_towers_knows(r->m, MBL_USERS, u);
        }
    }
    return 0;
}

/* From sums to means, and the coverage. */
static void settle(struct judging *j, struct mbl_ranking_figures *figures, double *mrr, const bool *recommended) {
    double n = (double)j->count;
    *mrr /= n;
    for (size_t k = 0; k < j->r->at_count; k++) {
        int64_t covered = 0;
        for (int64_t i = 0; i < j->ranker->count; i++) covered += recommended[(size_t)j->ranker->items[i] * j->r->at_count + k];
        figures[k].recall /= n;
        figures[k].ndcg /= n;
        figures[k].hit_rate /= n;
        figures[k].coverage = (double)covered / (double)j->ranker->count;
    }
}

int mbl_rank_part(struct mbl_model *m, const struct mbl_interactions *x, struct mbl_ranking *r, struct mbl_error *e) {
    struct judging j = {.x = x, .r = r};
    int status = mbl_ranker_open(m, &j.ranker, e);
    if (!status) {
        size_t items = (size_t)m->catalogue->side[MBL_ITEMS].count;
        gather_own(&j);
        for (size_t k = 0; k < r->at_count; k++)
            if (r->at[k] > j.longest) j.longest = r->at[k];
        r->figures = mbl_alloc((r->at_count + 1) * sizeof *r->figures);
        r->popular = mbl_alloc((r->at_count + 1) * sizeof *r->popular);
        r->users = j.count;
        r->items = j.ranker->count;
        r->mrr = r->popular_mrr = 0;
        r->strangers = 0;
        j.list = mbl_alloc((size_t)(j.longest < r->items ? j.longest : r->items) * sizeof *j.list + 1);
        j.wanted = mbl_alloc(items * sizeof *j.wanted);
        for (int i = 0; i < 2; i++) j.recommended[i] = mbl_alloc(items * (r->at_count + 1));
        status = j.count ? judge_all(&j, e) : mbl_error_set(e, "the part has no interactions to judge by");
    }
    if (!status) {
        settle(&j, r->figures, &r->mrr, j.recommended[0]);
        settle(&j, r->popular, &r->popular_mrr, j.recommended[1]);
    }
    void *all[] = {j.own_at, j.own, j.users, j.list, j.wanted, j.recommended[0], j.recommended[1]};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    mbl_ranker_close(j.ranker);
    return status;
}

void mbl_ranking_free(struct mbl_ranking *r) {
    free(r->figures);
    free(r->popular);
    r->figures = r->popular = NULL;
}

/* -- by name */

void mbl_ranking_each(const struct mbl_ranking *r, bool popular, void (*each)(void *ctx, const char *name, double value), void *ctx) {
    const struct mbl_ranking_figures *figures = popular ? r->popular : r->figures;
    for (size_t k = 0; k < r->at_count; k++) {
        const struct {
            const char *name;
            double value;
        } rows[] = {
            {"recall", figures[k].recall}, {"ndcg", figures[k].ndcg}, {"hit_rate", figures[k].hit_rate}, {"coverage", figures[k].coverage}};
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            char name[48];
            snprintf(name, sizeof name, "%s@%lld", rows[i].name, (long long)r->at[k]);
            each(ctx, name, rows[i].value);
        }
    }
    each(ctx, "mrr", popular ? r->popular_mrr : r->mrr);
}

struct filling {
    struct mbl_json *table;
    struct mbl_arena *a;
};

static void fill(void *ctx, const char *name, double value) {
    const struct filling *f = ctx;
    mbl_json_set(f->a, f->table, mbl_arena_strdup(f->a, name), mbl_json_float(f->a, value));
}

struct mbl_json *mbl_ranking_json(const struct mbl_ranking *r, bool popular, struct mbl_arena *a) {
    struct filling f = {mbl_json_table(a), a};
    mbl_ranking_each(r, popular, fill, &f);
    mbl_json_set(a, f.table, "users", mbl_json_int(a, r->users));
    mbl_json_set(a, f.table, "items", mbl_json_int(a, r->items));
    if (!popular) mbl_json_set(a, f.table, "strangers", mbl_json_int(a, r->strangers));
    return f.table;
}
