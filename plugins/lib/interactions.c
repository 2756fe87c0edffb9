/* interactions.c: reading a part of a dataset of interactions, and drawing what a user didn't take; see interactions.h. */
#include "interactions.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int find_tensor(const struct mbl_dataset *d, const char *name, enum mbl_dtype type, int64_t rows, const struct mbl_tensor **out,
                       struct mbl_error *e) {
    const struct mbl_tensor *t = *out = mbl_safetensors_find(&d->file, name);
    if (!t) return mbl_error_set(e, "the tensor %s is missing", name);
    if (t->type == type && t->rank == 1 && (rows < 0 || t->shape[0] == rows)) return 0;
    return mbl_error_set(e, "the tensor %s is %s with %d dimensions, of %lld rows; %s with one, of %lld rows, expected", name,
                         mbl_dtype_name(t->type), t->rank, t->rank ? (long long)t->shape[0] : 0, mbl_dtype_name(type), (long long)rows);
}

/* Its data, copied if whoever wrote the file didn't align it. */
static const void *aligned(struct mbl_interactions *x, const struct mbl_tensor *t) {
    if ((uintptr_t)t->data % mbl_dtype_width(t->type) == 0) return t->data;
    return memcpy(mbl_arena_alloc(&x->arena, t->bytes + 1), t->data, t->bytes);
}

static int open_indices(const struct mbl_dataset *d, struct mbl_interactions *x, enum mbl_side side, const int32_t **out,
                        struct mbl_error *e) {
    const struct mbl_tensor *t;
    int64_t count = x->catalogue->side[side].count;
    if (find_tensor(d, mbl_side_name(side), MBL_I32, d->rows, &t, e)) return -1;
    *out = aligned(x, t);
    for (int64_t i = 0; i < d->rows; i++)
        if ((*out)[i] < 0 || (*out)[i] >= count)
            return mbl_error_set(e, "row %lld: %s %d; there are %lld", (long long)i, mbl_side_name(side), (*out)[i], (long long)count);
    return 0;
}

static int open_ratings(const struct mbl_dataset *d, struct mbl_interactions *x, struct mbl_error *e) {
    const struct mbl_tensor *t;
    if (!mbl_json_get_string(d->schema.json, "rating")) return 0;
    if (find_tensor(d, "rating", MBL_F32, d->rows, &t, e)) return -1;
    x->ratings = aligned(x, t);
    for (int64_t i = 0; i < d->rows; i++)
        if (!isfinite(x->ratings[i])) return mbl_error_set(e, "row %lld: the rating is no finite number", (long long)i);
    return 0;
}

/* What users took before: `seen` may be absent, then it was nothing. */
static int open_seen(const struct mbl_dataset *d, struct mbl_interactions *x, struct mbl_error *e) {
    const struct mbl_tensor *offsets, *items;
    int64_t users = x->user_count, item_count = x->catalogue->side[MBL_ITEMS].count;
    x->seen_at = mbl_alloc(((size_t)users + 1) * sizeof *x->seen_at);
    if (!mbl_safetensors_find(&d->file, "seen")) {
        x->seen = mbl_alloc(sizeof *x->seen);
        return 0;
    }
    if (find_tensor(d, "seen", MBL_I32, -1, &items, e) || find_tensor(d, "seen:offsets", MBL_I64, users + 1, &offsets, e)) return -1;
    x->seen = mbl_alloc(items->bytes + 1);
    memcpy(x->seen, items->data, items->bytes);
    memcpy(x->seen_at, offsets->data, offsets->bytes);
    for (int64_t u = 0; u <= users; u++)
        if (u == 0 ? x->seen_at[0] != 0 : x->seen_at[u] < x->seen_at[u - 1] || x->seen_at[u] > items->shape[0])
            return mbl_error_set(e, "seen:offsets: entry %lld is %lld, which parts nothing off", (long long)u, (long long)x->seen_at[u]);
    for (int64_t u = 0; u < users; u++)
        for (int64_t i = x->seen_at[u]; i < x->seen_at[u + 1]; i++)
            if (x->seen[i] < 0 || x->seen[i] >= item_count || (i > x->seen_at[u] && x->seen[i] <= x->seen[i - 1]))
                return mbl_error_set(e, "seen: entry %lld is item %d: items from 0 to %lld in ascending order expected", (long long)i,
                                     x->seen[i], (long long)item_count - 1);
    return 0;
}

static int by_number(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* Sorts each user's items, and drops what is there twice. */
static void tidy(int64_t users, int64_t *at, int32_t *items) {
    int64_t to = 0, begin = 0;
    for (int64_t u = 0; u < users; u++) {
        int64_t end = at[u + 1], first = to;
        if (end > begin) qsort(items + begin, (size_t)(end - begin), sizeof *items, by_number);
        for (int64_t i = begin; i < end; i++)
            if (to == first || items[i] != items[to - 1]) items[to++] = items[i];
        begin = end;
        at[u + 1] = to;
    }
}

/* What users are known to have taken: before, and in this part. */
static void gather_known(struct mbl_interactions *x) {
    int64_t users = x->user_count, *at = mbl_alloc(((size_t)users + 1) * sizeof *at), *next = mbl_alloc(((size_t)users + 1) * sizeof *next);
    x->known = mbl_alloc((size_t)(x->rows + x->seen_at[users] + 1) * sizeof *x->known);
    x->known_at = at;
    for (int64_t i = 0; i < x->rows; i++) at[x->users[i] + 1]++;
    for (int64_t u = 0; u < users; u++) {
        next[u] = at[u];
        at[u + 1] += at[u] + x->seen_at[u + 1] - x->seen_at[u];
        for (int64_t i = x->seen_at[u]; i < x->seen_at[u + 1]; i++) x->known[next[u]++] = x->seen[i];
    }
    for (int64_t i = 0; i < x->rows; i++) x->known[next[x->users[i]]++] = x->items[i];
    tidy(users, at, x->known);
    free(next);
}

int mbl_interactions_open(const struct mbl_dataset *d, struct mbl_interactions *x, struct mbl_error *e) {
    *x = (struct mbl_interactions){.rows = d->rows};
    if (mbl_catalogue_read(d->schema.json, &d->file, &x->catalogue, e)) return -1;
    x->user_count = x->catalogue->side[MBL_USERS].count;
    if (open_indices(d, x, MBL_USERS, &x->users, e) || open_indices(d, x, MBL_ITEMS, &x->items, e) || open_ratings(d, x, e) ||
        open_seen(d, x, e)) {
        mbl_interactions_close(x);
        return -1;
    }
    gather_known(x);
    return 0;
}

/* Lists by user under other numbers for both; a user of the model's whom the part doesn't know has nothing. */
static void move_lists(const int32_t *users, const int32_t *items, int64_t before, int64_t after, int64_t **at, int32_t *list) {
    int64_t *moved_at = mbl_alloc(((size_t)after + 1) * sizeof *moved_at), total = (*at)[before];
    int32_t *moved = mbl_alloc((size_t)(total + 1) * sizeof *moved);
    for (int64_t u = 0; u < before; u++) moved_at[users[u] + 1] = (*at)[u + 1] - (*at)[u];
    for (int64_t u = 0; u < after; u++) moved_at[u + 1] += moved_at[u];
    for (int64_t u = 0; u < before; u++)
        for (int64_t i = (*at)[u], to = moved_at[users[u]]; i < (*at)[u + 1]; i++, to++) moved[to] = items[list[i]];
    tidy(after, moved_at, moved);
    memcpy(list, moved, (size_t)total * sizeof *list);
    free(moved);
    free(*at);
    *at = moved_at;
}

int mbl_interactions_bind(struct mbl_interactions *x, struct mbl_catalogue *to, struct mbl_error *e) {
    int32_t *maps[MBL_SIDES];
    int64_t before = x->user_count;
    void *block;
    int status = 0;
    for (enum mbl_side side = MBL_USERS; side < MBL_SIDES; side++) {
        maps[side] = mbl_alloc((size_t)x->catalogue->side[side].count * sizeof **maps);
        mbl_catalogue_adopt(to, side, x->catalogue, maps[side]);
    }
    x->user_count = to->side[MBL_USERS].count;
    move_lists(maps[MBL_USERS], maps[MBL_ITEMS], before, x->user_count, &x->seen_at, x->seen);
    move_lists(maps[MBL_USERS], maps[MBL_ITEMS], before, x->user_count, &x->known_at, x->known);
    for (enum mbl_side side = MBL_USERS; side < MBL_SIDES && !status; side++) {
        const int32_t **list = side == MBL_USERS ? &x->users : &x->items;
        status = mbl_try_alloc(&block, (uint64_t)x->rows, sizeof(int32_t), "interactions", e);
        if (status) break;
        for (int64_t i = 0; i < x->rows; i++) ((int32_t *)block)[i] = maps[side][(*list)[i]];
        *list = x->moved[side] = block;
    }
    free(maps[MBL_USERS]);
    free(maps[MBL_ITEMS]);
    return status;
}

void mbl_interactions_close(struct mbl_interactions *x) {
    mbl_catalogue_free(x->catalogue);
    free(x->seen_at);
    free(x->seen);
    free(x->known_at);
    free(x->known);
    free(x->moved[MBL_USERS]);
    free(x->moved[MBL_ITEMS]);
    mbl_arena_free(&x->arena);
    *x = (struct mbl_interactions){0};
}

/* The n-th item (from 0) that is not on the ascending list is n + j, where j is how many of the list lie before it: the least j with
 * list[j] − j > n. So every item that may be drawn has the same chance, and one draw is enough. */
int32_t mbl_interactions_negative(const struct mbl_interactions *x, int32_t user, int64_t items, uint64_t word) {
    const int32_t *list = x->known + x->known_at[user];
    int64_t count = x->known_at[user + 1] - x->known_at[user], low = 0;
    while (count > 0 && list[count - 1] >= items) count--; /* never met in training: at the end, and few */
    if (count >= items) return -1;
    int64_t n = (int64_t)(word % (uint64_t)(items - count)), high = count; /* 64 bits against at most 2^30: the bias is below 2^-33 */
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (list[middle] - middle > n) high = middle;
        else low = middle + 1;
    }
    return (int32_t)(n + low);
}
