/* lists.c: what a recommender that ranks says: the best items for each user; see predict.h.
 *
 * Users are those who took something in the part that is given, or those whom a JSON file names, with features if they are new. What they
 * are known to have taken, by the part, is left out unless the rule says otherwise.
 */
#include "lib/ranking.h"
#include "lib/recommend.h"
#include "predict.h"

#include <stdlib.h>
#include <string.h>

struct lists {
    struct answers *a;
    struct mbl_interactions x;   /* bound to the model; all zero without data */
    int32_t *users;              /* [count]: whom to answer */
    int64_t count, k;
    int64_t *seen_at;            /* [count + 1] */
    int32_t *seen;
    int32_t *items;              /* [count, k] */
    float *scores;
};

/* -- whom */

static int open_data(struct lists *l, const char *path, struct mbl_dataset *d, struct mbl_error *e) {
    struct mbl_model *m = l->a->model;
    if (d->schema.task != MBL_INTERACTIONS)
        return mbl_error_set(e, "%s: a %s takes interactions of users and items", path, m->architecture->kind);
    return mbl_interactions_open(d, &l->x, e) || mbl_interactions_bind(&l->x, m->catalogue, e) ? mbl_error_wrap(e, "%s", path) : 0;
}

static void take_users_of_data(struct lists *l) {
    const struct mbl_interactions *x = &l->x;
    bool *there = mbl_alloc((size_t)x->user_count);
    l->users = mbl_alloc((size_t)x->user_count * sizeof *l->users);
    for (int64_t i = 0; i < x->rows; i++) there[x->users[i]] = true;
    for (int64_t u = 0; u < x->user_count; u++)
        if (there[u]) l->users[l->count++] = (int32_t)u;
    free(there);
}

static int set_features(struct lists *l, int64_t user, const char *id, const struct mbl_json *features, struct mbl_error *e) {
    struct mbl_catalogue *c = l->a->model->catalogue;
    if (features->type != MBL_JSON_TABLE) return mbl_error_set(e, "\"%.100s\": features: a table expected", id);
    for (size_t i = 0; i < features->count; i++) {
        const struct mbl_json *v = features->items[i];
        const char *text = v->type == MBL_JSON_STRING ? v->string : NULL;
        if (mbl_catalogue_set(c, MBL_USERS, user, features->keys[i], text, mbl_json_number(v), e))
            return mbl_error_wrap(e, "\"%.100s\"", id);
    }
    return 0;
}

/* One of the list: "u1", or { "id": "u9", "features": { "age": 31 } }, whose features are for one that the model doesn't know. */
static int take_user(struct lists *l, const struct mbl_json *entry, size_t i, struct mbl_error *e) {
    struct mbl_catalogue *c = l->a->model->catalogue;
    const char *id =
        entry->type == MBL_JSON_STRING ? entry->string : mbl_json_get_string(entry->type == MBL_JSON_TABLE ? entry : NULL, "id");
    const struct mbl_json *features = entry->type == MBL_JSON_TABLE ? mbl_json_get(entry, "features") : NULL;
    if (!id || !*id) return mbl_error_set(e, "users[%zu]: an id expected, or { \"id\": …, \"features\": { … } }", i + 1);
    int64_t user = mbl_catalogue_find(c, MBL_USERS, id);
    if (features && user >= 0)
        return mbl_error_set(e,
                             user < c->side[MBL_USERS].own ? "users[%zu]: \"%.100s\" is known, with features of its own"
                                                           : "users[%zu]: \"%.100s\" is there already, in the data or above",
                             i + 1, id);
    if (user < 0) user = mbl_catalogue_add(c, MBL_USERS, id);
    l->users[l->count++] = (int32_t)user;
    return features ? set_features(l, user, id, features, e) : 0;
}

static int take_users_of_file(struct lists *l, const char *path, struct mbl_error *e) {
    struct mbl_json *root;
    if (mbl_json_read(path, &l->a->arena, &root, e)) return -1;
    const struct mbl_json *users = root->type == MBL_JSON_TABLE ? mbl_json_get(root, "users") : root;
    if (!users || users->type != MBL_JSON_LIST || !users->count)
        return mbl_error_set(e, "%s: { \"users\": [\"u1\", { \"id\": \"u9\", \"features\": { … } }, …] } expected", path);
    l->users = mbl_alloc(users->count * sizeof *l->users);
    for (size_t i = 0; i < users->count; i++)
        if (take_user(l, users->items[i], i, e)) return mbl_error_wrap(e, "%s", path);
    return 0;
}

/* What each is known to have taken, one after the other. */
static void gather_seen(struct lists *l) {
    const struct mbl_interactions *x = &l->x;
    l->seen_at = mbl_alloc(((size_t)l->count + 1) * sizeof *l->seen_at);
    for (int64_t i = 0; i < l->count; i++) {
        int32_t u = l->users[i];
        l->seen_at[i + 1] = l->seen_at[i] + (u < x->user_count ? x->known_at[u + 1] - x->known_at[u] : 0);
    }
    l->seen = mbl_alloc((size_t)(l->seen_at[l->count] + 1) * sizeof *l->seen);
    for (int64_t i = 0; i < l->count; i++)
        if (l->seen_at[i + 1] > l->seen_at[i])
            memcpy(l->seen + l->seen_at[i], x->known + x->known_at[l->users[i]],
                   (size_t)(l->seen_at[i + 1] - l->seen_at[i]) * sizeof *l->seen);
}

/* -- writing */

static const char *user_id(const struct lists *l, int64_t i) {
    return l->a->model->catalogue->side[MBL_USERS].ids[l->users[i]];
}

static const char *item_id(const struct lists *l, int32_t item) {
    return l->a->model->catalogue->side[MBL_ITEMS].ids[item];
}

static void list_of(const struct lists *l, int64_t i, struct mbl_arena *a, struct mbl_json **items, struct mbl_json **scores) {
    *items = mbl_json_list(a);
    *scores = mbl_json_list(a);
    for (int64_t k = i * l->k; k < (i + 1) * l->k && l->items[k] >= 0; k++) {
        mbl_json_push(a, *items, mbl_json_string(a, item_id(l, l->items[k])));
        mbl_json_push(a, *scores, mbl_json_float32(a, l->scores[k]));
    }
}

static int write_json(const struct lists *l, const char *path, struct mbl_error *e) {
    struct mbl_arena *a = &l->a->arena;
    struct mbl_json *root = mbl_json_table(a), *users = mbl_json_list(a), *all_items = mbl_json_list(a), *outputs = mbl_json_list(a),
                    *items, *scores;
    for (int64_t i = 0; i < l->count; i++) {
        list_of(l, i, a, &items, &scores);
        mbl_json_push(a, users, mbl_json_string(a, user_id(l, i)));
        mbl_json_push(a, all_items, items);
        mbl_json_push(a, outputs, scores);
    }
    mbl_json_set(a, root, "users", users);
    mbl_json_set(a, root, "items", all_items);
    mbl_json_set(a, root, "outputs", outputs);
    mbl_json_set(a, root, "problem_type", mbl_json_string(a, mbl_problem_name(l->a->model->problem)));
    return mbl_json_save(path, root, e);
}

static int write_lines(const struct lists *l, const char *path, struct mbl_error *e) {
    struct mbl_buf out = {0};
    for (int64_t i = 0; i < l->count; i++) {
        struct mbl_arena line = {0};
        struct mbl_json *t = mbl_json_table(&line), *items, *scores;
        list_of(l, i, &line, &items, &scores);
        mbl_json_set(&line, t, "user", mbl_json_string(&line, user_id(l, i)));
        mbl_json_set(&line, t, "items", items);
        mbl_json_set(&line, t, "scores", scores);
        mbl_json_write(t, MBL_JSON_COMPACT, &out);
        mbl_buf_addc(&out, '\n');
        mbl_arena_free(&line);
    }
    int status = mbl_file_write(path, mbl_buf_str(&out), out.len, e);
    mbl_buf_free(&out);
    return status;
}

/* Texts as datasets have them; of an item that isn't there, the empty one. */
static void pack(const struct lists *l, bool of_items, struct mbl_arena *a, const char *name, struct mbl_tensor out[2]) {
    int64_t n = of_items ? l->count * l->k : l->count, *offsets = mbl_arena_alloc(a, ((size_t)n + 1) * sizeof *offsets);
    struct mbl_buf bytes = {0};
    for (int64_t i = 0; i < n; i++) {
        mbl_buf_adds(&bytes, !of_items ? user_id(l, i) : l->items[i] < 0 ? "" : item_id(l, l->items[i]));
        offsets[i + 1] = (int64_t)bytes.len;
    }
    out[0] = (struct mbl_tensor){.name = mbl_arena_printf(a, "text:%s", name), .type = MBL_U8, .rank = 1, .shape = {(int64_t)bytes.len},
                                 .data = mbl_arena_strndup(a, mbl_buf_str(&bytes), bytes.len)};
    out[1] = (struct mbl_tensor){.name = mbl_arena_printf(a, "text:%s:offsets", name), .type = MBL_I64, .rank = 1, .shape = {n + 1},
                                 .data = offsets};
    mbl_buf_free(&bytes);
}

static int write_tensors(const struct lists *l, const char *path, struct mbl_error *e) {
    struct mbl_arena *a = &l->a->arena;
    struct mbl_json *metadata = mbl_json_table(a);
    struct mbl_tensor t[6] = {{.name = "outputs", .type = MBL_F32, .rank = 2, .shape = {l->count, l->k}, .data = l->scores},
                              {.name = "items", .type = MBL_I32, .rank = 2, .shape = {l->count, l->k}, .data = l->items}};
    mbl_json_set(a, metadata, "problem_type", mbl_json_string(a, mbl_problem_name(l->a->model->problem)));
    pack(l, false, a, "user", t + 2);
    pack(l, true, a, "item", t + 4);
    return mbl_safetensors_save(path, t, 6, metadata, e);
}

/* -- the whole */

/* The first user whom the model doesn't know; how many of them there are. */
static int64_t count_strangers(const struct lists *l, const char **first) {
    int64_t n = 0;
    for (int64_t i = 0; i < l->count; i++)
        if (!mbl_towers_knows(l->a->model, MBL_USERS, l->users[i]) && !n++) *first = user_id(l, i);
    return n;
}

static int make_lists(struct lists *l, struct mbl_error *e) {
    struct mbl_ranker *ranker = NULL;
    void *items, *scores;
    uint64_t n = (uint64_t)l->count * (uint64_t)l->k;
    if (mbl_try_alloc(&items, n, sizeof *l->items, "the lists", e)) return -1;
    l->items = items;
    if (mbl_try_alloc(&scores, n, sizeof *l->scores, "the lists", e)) return -1;
    l->scores = scores;
    int status = mbl_ranker_open(l->a->model, &ranker, e) ||
                 mbl_ranker_top(ranker, l->users, l->count, l->k, l->seen_at, l->seen, l->items, l->scores, e);
    mbl_ranker_close(ranker);
    return status ? -1 : 0;
}

static int answer(const struct mb_host *host, struct mb_run *run, struct lists *l, struct mbl_dataset *d, struct mbl_error *e) {
    const char *data = host->input_path(run, "data", 0), *ids = host->input_path(run, "ids", 0), *first = NULL;
    l->k = host->param_int(run, "k");
    if (data && (mbl_dataset_open(data, d, e) || open_data(l, data, d, e))) return -1;
    if (!ids) take_users_of_data(l);
    else if (take_users_of_file(l, ids, e)) return -1;
    int64_t strangers = count_strangers(l, &first);
    if (strangers && !strcmp(host->param_string(run, "unknown"), "fail"))
        return mbl_error_set(e, "user \"%.100s\" is unknown to the model; unknown = \"popular\" recommends what everybody takes", first);
    if (strangers)
        host->log(run, MB_WARN, "%lld of %lld users are unknown to the model, \"%.100s\" say: they are recommended the most popular items",
                  (long long)strangers, (long long)l->count, first);
    if (data && host->param_bool(run, "exclude_seen")) gather_seen(l);
    l->a->rows = l->count;
    return make_lists(l, e);
}

int predict_lists(const struct mb_host *host, struct mb_run *run, struct answers *a, enum predict_form form, const char *to,
                  struct mbl_error *e) {
    static int (*const writers[])(const struct lists *, const char *, struct mbl_error *) = {write_tensors, write_json, write_lines};
    struct lists l = {.a = a};
    struct mbl_dataset d = {0};
    int status = answer(host, run, &l, &d, e) || writers[form](&l, to, e);
    mbl_interactions_close(&l.x);
    mbl_dataset_close(&d);
    free(l.users);
    free(l.seen_at);
    free(l.seen);
    free(l.items);
    free(l.scores);
    return status ? -1 : 0;
}
