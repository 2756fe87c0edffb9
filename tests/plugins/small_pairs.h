/* small_pairs.h: datasets of interactions for tests, made by the step itself from text, or from tastes that are known. */
#ifndef SMALL_PAIRS_H
#define SMALL_PAIRS_H

#include "fake_host.h"
#include "lib/feed.h"

#include <math.h>

/* Remembers what a test leaves lying, so that it counts as no leak. */
static inline void *pairs_kept(void *p) {
    static void *list[4096];
    static int count;
    CHECK(count < 4096);
    return list[count++] = p;
}

static inline const char *pairs_path(const char *name) {
    static struct mbl_arena arena;
    return mbl_arena_printf(&arena, "%s/%s", test_folder(), name);
}

static inline const char *pairs_write(const char *name, const char *text) {
    struct mbl_error e;
    const char *path = pairs_path(name);
    if (mbl_file_write(path, text, strlen(text), &e)) FAIL("%s", e.text);
    return path;
}

/* Runs the step on `text` (and tables of features, NULL for none); the parts are train, val, test, or all. The status is the step's;
 * *out has its message. */
static inline int pairs_make(struct fake **out, const char *params, const char *text, const char *users, const char *items) {
    static const char *const parts[] = {"schema", "train", "val", "test", "all"};
    struct fake *f = *out = pairs_kept(calloc(1, sizeof *f));
    fake_open(f, "dataset.interactions", params);
    fake_path(f, "from", pairs_write("pairs.csv", text));
    if (users) fake_path(f, "users", pairs_write("users.csv", users));
    if (items) fake_path(f, "items", pairs_write("items.csv", items));
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) fake_path(f, parts[i], pairs_path(parts[i]));
    return fake_run(f);
}

static inline double pairs_random(uint64_t seed, uint64_t i) {
    uint32_t words[4];
    mbk_philox(seed, i, words);
    return (words[0] + 0.5) / 4294967296.0;
}

/* A world with tastes: clubs of users like genres of items; each user takes `each` items, most of them of the genres that its club likes,
 * popular ones more often. Ratings say how well the two fit. Writes user,item,rating,time, and the tables of features. */
struct world {
    int users, items, clubs, each;
    uint64_t seed;
};

static inline double world_liking(const struct world *w, int user, int item) {
    int club = user % w->clubs, genre = item % w->clubs;
    double fit = pairs_random(w->seed + 1, (uint64_t)(club * w->clubs + genre)) * 3 + (club == genre ? 4 : 0);
    return fit + pairs_random(w->seed + 2, (uint64_t)item) * 2;
}

static inline void world_write(const struct world *w, struct mbl_buf *pairs, struct mbl_buf *users, struct mbl_buf *items) {
    bool *taken = calloc((size_t)w->items, sizeof *taken);
    mbl_buf_adds(pairs, "user,item,rating,time\n");
    mbl_buf_adds(users, "user,club,age\n");
    mbl_buf_adds(items, "item,genre,year\n");
    for (int u = 0; u < w->users; u++) {
        memset(taken, 0, (size_t)w->items * sizeof *taken);
        for (int n = 0; n < w->each; n++) {
            int best = -1;
            double most = 0;
            for (int i = 0; i < w->items; i++) { /* Gumbel's trick: the greatest of liking plus noise is a draw from their softmax */
                double drawn =
                    world_liking(w, u, i) - log(-log(pairs_random(w->seed + 3, ((uint64_t)u << 32) + (uint64_t)(n * w->items + i))));
                if (!taken[i] && (best < 0 || drawn > most)) best = i, most = drawn;
            }
            taken[best] = true;
            mbl_buf_addf(pairs, "u%d,i%d,%.2f,%d\n", u, best, 1 + world_liking(w, u, best) / 2, 1000 * n + u);
        }
        mbl_buf_addf(users, "u%d,club%d,%d\n", u, u % w->clubs, 20 + u % 50);
    }
    for (int i = 0; i < w->items; i++) mbl_buf_addf(items, "i%d,g%d,%d\n", i, i % w->clubs, 1980 + i % 40);
    free(taken);
}

#endif
