/* pairs.c: batches of users and items; see pairs.h. */
#include "pairs.h"
#include "recommend.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BANNED (-1e9f) /* added to a logit that must not count */
#define MOST_ROWS 16384 /* of a batch whose rows all meet each other */

enum { USERS, USER_ROWS, ITEMS, ITEM_ROWS, ADJUST };

int mbl_pairs_open(struct mbl_pairs *p, struct mbl_model *m, const struct mbl_dataset *d, struct mbl_error *e) {
    if (d->schema.task != MBL_INTERACTIONS)
        return mbl_error_set(e, "a %s takes interactions: a dataset with user = \"column\" and item = \"column\"", m->architecture->kind);
    if (mbl_interactions_open(d, &p->x, e) || mbl_interactions_bind(&p->x, m->catalogue, e)) return -1;
    const struct mbl_entities *items = &m->catalogue->side[MBL_ITEMS];
    for (int64_t i = 0; i < items->trained; i++) p->total += items->counts[i];
    return 0;
}

static void release(struct mbl_pairs *p, struct mbk *k) {
    for (size_t i = 0; i < sizeof p->device / sizeof *p->device; i++) {
        if (p->device[i].data) mbk_free(k, p->device[i].data);
        p->device[i].data = NULL;
    }
    free(p->staging);
    free(p->next);
    free(p->adjust);
    p->staging = p->next = NULL;
    p->adjust = NULL;
    p->room = 0;
}

void mbl_pairs_close(struct mbl_pairs *p, struct mbk *k) {
    release(p, k);
    free(p->head);
    mbl_interactions_close(&p->x);
    *p = (struct mbl_pairs){0};
}

int mbl_pairs_reserve(struct mbl_pairs *p, struct mbl_model *m, int64_t rows, struct mbl_error *e) {
    bool all = m->pairing.loss == MBL_LOSS_SOFTMAX;
    int64_t items = rows * (1 + m->pairing.negatives);
    void *block;
    if (rows <= p->room) return 0;
    release(p, m->k);
    if (all && rows > MOST_ROWS)
        return mbl_error_set(e, "batch: %lld rows that all meet each other are too many; at most %d, or take loss = \"bpr\"",
                             (long long)rows, MOST_ROWS);
    const struct mbk_tensor shapes[] = {mbk_tensor1(NULL, MBK_I32, rows), mbk_tensor1(NULL, MBK_I32, rows),
                                        mbk_tensor1(NULL, MBK_I32, items), mbk_tensor1(NULL, MBK_I32, items),
                                        mbk_tensor2(NULL, MBK_F32, rows, rows)};
    for (int i = 0; i <= (all ? ADJUST : ITEM_ROWS); i++) {
        p->device[i] = shapes[i];
        p->device[i].data = mbk_alloc(m->k, mbk_bytes(&shapes[i]));
        if (!p->device[i].data) return mbl_error_set(e, "no memory for a batch of %lld pairs; make the batch smaller", (long long)rows);
    }
    if (mbl_try_alloc(&block, 2 * (uint64_t)(rows + items), sizeof(int32_t), "a batch", e)) return -1;
    p->staging = block;
    if (all) {
        if (mbl_try_alloc(&block, (uint64_t)(rows * rows), sizeof(float), "a batch", e)) return -1;
        p->adjust = block;
        p->next = mbl_alloc((size_t)rows * sizeof *p->next);
        free(p->head);
        p->head_count = m->catalogue->side[MBL_ITEMS].count;
        p->head = mbl_alloc((size_t)p->head_count * sizeof *p->head);
        for (int64_t i = 0; i < p->head_count; i++) p->head[i] = -1;
    }
    p->room = rows;
    return 0;
}

/* -- what chance decides */

struct chance {
    uint64_t key;
    bool drops[MBL_SIDES];       /* where features are left when an id is gone */
    double rate;
};

static struct chance chance_of(const struct mbl_pairs *p, struct mbl_model *m, bool training) {
    uint32_t words[4];
    mbk_philox(p->seed, (uint64_t)p->epoch, words);
    const bool *cold = mbl_towers_of(m)->cold;
    training = training && m->pairing.id_dropout > 0;
    return (struct chance){
        (uint64_t)words[0] << 32 | words[1], {training && cold[MBL_USERS], training && cold[MBL_ITEMS]}, m->pairing.id_dropout};
}

/* Four words for the j-th item of an interaction: j = 0 is the one that was taken. */
static void draw(const struct chance *c, int64_t row, int64_t j, uint32_t words[4]) {
    mbk_philox(c->key, (uint64_t)row << 16 | (uint64_t)j, words);
}

static bool dropped(const struct chance *c, enum mbl_side side, uint32_t word) {
    return c->drops[side] && (double)word < c->rate * 4294967296.0;
}

/* -- a batch */

/* In-batch softmax: which columns don't count against a row's own: those of items that its user is known to have taken; and −log Q. */
static void fill_adjust(struct mbl_pairs *p, const struct mbl_model *m, int64_t rows, const int32_t *users, const int32_t *items) {
    const struct mbl_interactions *x = &p->x;
    const struct mbl_entities *s = &m->catalogue->side[MBL_ITEMS];
    for (int64_t c = rows - 1; c >= 0; c--) {
        p->next[c] = p->head[items[c]];
        p->head[items[c]] = (int32_t)c;
        double q = m->pairing.log_q && items[c] < s->trained ? (double)s->counts[items[c]] / (double)p->total : 1;
        p->adjust[c] = (float)-log(q);
    }
    for (int64_t r = 1; r < rows; r++) memcpy(p->adjust + r * rows, p->adjust, (size_t)rows * sizeof *p->adjust);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = x->known_at[users[r]]; i < x->known_at[users[r] + 1]; i++)
            for (int32_t c = p->head[x->known[i]]; c >= 0; c = p->next[c])
                if (c != r) p->adjust[r * rows + c] = BANNED;
    for (int64_t c = 0; c < rows; c++) p->head[items[c]] = -1;
}

int mbl_pairs_batch(struct mbl_pairs *p, struct mbl_model *m, const int32_t *order, int64_t first, int64_t rows, struct mbl_batch *b,
                    struct mbl_error *e) {
    const struct mbl_interactions *x = &p->x;
    const struct mbl_catalogue *c = m->catalogue;
    int64_t items = rows * (1 + m->pairing.negatives), users_trained = c->side[MBL_USERS].trained, trained = c->side[MBL_ITEMS].trained;
    int32_t *user = p->staging, *user_row = user + rows, *item = user_row + rows, *item_row = item + items;
    struct chance chance = chance_of(p, m, b->training);
    uint32_t words[4] = {0};
    for (int64_t r = 0; r < rows; r++) {
        int64_t row = order ? order[first + r] : first + r;
        if (chance.drops[MBL_USERS] || chance.drops[MBL_ITEMS]) draw(&chance, row, 0, words);
        user[r] = x->users[row];
        item[r] = x->items[row];
        user_row[r] = user[r] < users_trained && !dropped(&chance, MBL_USERS, words[0]) ? user[r] + 1 : 0;
        item_row[r] = item[r] < trained && !dropped(&chance, MBL_ITEMS, words[1]) ? item[r] + 1 : 0;
        for (int64_t j = 1; j <= m->pairing.negatives; j++) {
            draw(&chance, row, j, words);
            int32_t other = mbl_interactions_negative(x, user[r], trained, (uint64_t)words[0] << 32 | words[1]);
            if (other < 0) other = item[r]; /* the user took everything: the pair says nothing, and its gradients cancel */
            item[j * rows + r] = other;
            item_row[j * rows + r] = other < trained && !dropped(&chance, MBL_ITEMS, words[2]) ? other + 1 : 0;
        }
    }
    const int32_t *from[] = {user, user_row, item, item_row};
    struct mbk_tensor *to[] = {&b->users, &b->user_rows, &b->items, &b->item_rows};
    for (int i = USERS; i <= ITEM_ROWS; i++) {
        *to[i] = mbk_tensor1(p->device[i].data, MBK_I32, i < ITEMS ? rows : items);
        if (mbk_write(m->k, to[i]->data, from[i], mbk_bytes(to[i]))) return mbl_kernel_failed(m->k, "a batch", e);
    }
    if (m->pairing.loss != MBL_LOSS_SOFTMAX) return 0;
    fill_adjust(p, m, rows, user, item);
    b->adjust = mbk_tensor2(p->device[ADJUST].data, MBK_F32, rows, rows);
    return mbk_write(m->k, b->adjust.data, p->adjust, mbk_bytes(&b->adjust)) ? mbl_kernel_failed(m->k, "a batch", e) : 0;
}
