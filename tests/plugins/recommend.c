/* Recommenders: gradients against finite differences, losses by hand, negatives, figures by hand, folders that lie. */
#include "lib/ranking.h"
#include "lib/recommend.h"
#include "lib/train.h"
#include "small_data.h"
#include "small_pairs.h"

#include <unistd.h>

static struct mbl_error error;

static struct mbk *open_cpu(int threads) {
    struct mbk *k;
    if (mbk_open("cpu", &(struct mbk_options){.threads = threads}, &k, error.text, sizeof error.text)) FAIL("%s", error.text);
    return kept(k);
}

/* A model for a part, with memory and starting weights, and the part bound to it. */
static struct mbl_model *open_model(struct mbk *k, const char *shape, const char *path, struct mbl_feed *feed) {
    static struct mbl_arena arena;
    struct mbl_json *given, *config;
    struct mbl_model *m;
    if (mbl_feed_open(feed, NULL, path, &error) || mbl_json_parse(shape, strlen(shape), "shape", &arena, &given, &error) ||
        mbl_model_config(given, &feed->data.schema, &arena, &config, &error) || mbl_model_create(k, config, &m, &error) ||
        mbl_catalogue_read(m->schema.json, &feed->data.file, &m->catalogue, &error) || mbl_feed_bind(feed, m, &error) ||
        mbl_model_allocate(m, &error) || mbl_model_initialize(m, 3, &error))
        FAIL("%s", error.text);
    return kept(m);
}

static const char *const few = "user,item,rating\na,x,5\na,y,3\nb,x,4\nb,z,1\nc,w,2\nc,y,4.5\nd,v,3\nd,x,2\n";
static const char *const people = "user,club,age\na,red,30\nb,blue,40\nc,red,\nd,,20\n";
static const char *const things = "item,genre,year\nv,g1,1990\nw,g2,2000\nx,g1,2010\ny,g3,1980\nz,g2,1995\n";

static void make_few(bool features) {
    struct fake *f;
    if (pairs_make(&f, "{\"rating\": \"rating\"}", few, features ? people : NULL, features ? things : NULL) != MB_OK)
        FAIL("%s", f->message);
}

/* -- gradients */

/* Σ c · output, by the model's forward: its gradient is c. */
static double weighted_sum(struct mbl_model *m, const struct mbl_batch *b, const float *c) {
    struct mbk_tensor out;
    double sum = 0;
    if (m->architecture->forward(m, b, &out, &error)) FAIL("%s", error.text);
    for (int64_t i = 0; i < mbk_count(&out); i++) sum += (double)((float *)out.data)[i] * c[i];
    return sum;
}

static void check_gradients(const char *shape, bool features) {
    struct mbl_feed *feed = kept(calloc(1, sizeof *feed));
    make_few(features);
    struct mbl_model *m = open_model(open_cpu(1), shape, pairs_path("all"), feed);
    int64_t rows = feed->rows, outputs = mbl_pairs_outputs(m, rows);
    float *c = kept(calloc((size_t)outputs, sizeof *c)), *d = kept(calloc((size_t)outputs, sizeof *d));
    struct mbl_batch b = {.training = true, .seed = 3};
    struct mbk_tensor out, dout = mbk_tensor2(d, MBK_F32, outputs, 1);
    for (int64_t i = 0; i < outputs; i++) d[i] = c[i] = (float)(small_random(6, (uint64_t)i) * 2 - 1);
    feed->pairs.seed = 9;
    if (mbl_model_allocate_gradients(m, &error) || m->architecture->reserve(m, rows, true, &error) ||
        mbl_feed_reserve(feed, rows, &error) || mbl_feed_batch(feed, NULL, 0, rows, &b, &error))
        FAIL("%s", error.text);
    /* What is banned from a softmax would drown what is looked at. */
    for (int64_t i = 0; b.adjust.data && i < rows * rows; i++) ((float *)b.adjust.data)[i] *= ((float *)b.adjust.data)[i] > -100;
    if (m->architecture->forward(m, &b, &out, &error) || m->architecture->backward(m, &b, &dout, &error)) FAIL("%s", error.text);
    int checked = 0;
    for (size_t p = 0; p < m->parameter_count; p++) {
        float *v = m->parameters[p].value.data, *g = m->parameters[p].gradient.data;
        int64_t count = mbk_count(&m->parameters[p].value);
        for (int64_t i = 0; i < count; i += count / 16 + 1, checked++) {
            const float before = v[i], step = 1e-3f;
            v[i] = before + step;
            double up = weighted_sum(m, &b, c);
            v[i] = before - step;
            double down = weighted_sum(m, &b, c);
            v[i] = before;
            double expected = (up - down) / (2 * (double)step);
            CHECKF(fabs(g[i] - expected) <= 3e-3 * (1 + fabs(expected)), "%s[%lld]: gradient %g, by differences %g", m->parameters[p].name,
                   (long long)i, (double)g[i], expected);
        }
    }
    CHECK(checked >= 8);
}

TEST("matrix factorization's gradients are those that finite differences give: ratings with both biases")
{
    check_gradients("{\"kind\": \"matrix_factorization\", \"factors\": 6, \"deviation\": 0.5}", false);
}
TEST("matrix factorization's gradients are those that finite differences give: bpr with three negatives")
{
    check_gradients("{\"kind\": \"matrix_factorization\", \"factors\": 6, \"loss\": \"bpr\", \"negatives\": 3, \"deviation\": 0.5}", false);
}
TEST("matrix factorization's gradients are those that finite differences give: in-batch softmax")
{
    check_gradients("{\"kind\": \"matrix_factorization\", \"factors\": 6, \"loss\": \"softmax\", \"temperature\": 0.7, \"deviation\": 0.5}",
                    false);
}
TEST("two towers' gradients are those that finite differences give, through features, layers and unit length")
{
    check_gradients(
        "{\"kind\": \"two_towers\", \"embedding\": 5, \"hidden\": [7], \"factors\": 4, \"activation\": \"tanh\", \"temperature\": 0.5}",
        true);
}
TEST("two towers' gradients are those that finite differences give with bpr, without unit length, under dropout")
{
    check_gradients(
        "{\"kind\": \"two_towers\", \"embedding\": 5, \"hidden\": [7], \"factors\": 4, \"activation\": \"gelu\", \"loss\": \"bpr\", "
        "\"negatives\": 2, \"normalize\": false, \"dropout\": 0.3, \"temperature\": 1}",
        true);
}

/* -- losses by hand */

TEST("in-batch softmax leaves out items that the user is known to have taken, and subtracts log Q")
{
    struct mbl_feed *feed = kept(calloc(1, sizeof *feed));
    make_few(false);
    open_model(open_cpu(1), "{\"kind\": \"matrix_factorization\", \"factors\": 2, \"loss\": \"softmax\"}", pairs_path("all"), feed);
    int64_t rows = feed->rows;
    struct mbl_batch b = {0};
    if (mbl_feed_reserve(feed, rows, &error) || mbl_feed_batch(feed, NULL, 0, rows, &b, &error)) FAIL("%s", error.text);
    const float *adjust = b.adjust.data;
    /* Rows: a x, a y, b x, b z, c w, c y, d v, d x. */
    static const bool counts[8][8] = {
        {1, 0, 0, 1, 1, 0, 1, 0}, {0, 1, 0, 1, 1, 0, 1, 0}, {0, 1, 1, 0, 1, 1, 1, 0}, {0, 1, 0, 1, 1, 1, 1, 0},
        {1, 0, 1, 1, 1, 0, 1, 1}, {1, 0, 1, 1, 0, 1, 1, 1}, {0, 1, 0, 1, 1, 1, 1, 0}, {0, 1, 0, 1, 1, 1, 0, 1},
    };
    static const double taken[8] = {3, 2, 3, 1, 1, 2, 1, 3}; /* of 8 interactions */
    for (int r = 0; r < 8; r++)
        for (int c = 0; c < 8; c++) {
            if (counts[r][c]) CHECK_NEAR(adjust[r * 8 + c], -log(taken[c] / 8), 1e-6);
            else CHECK(adjust[r * 8 + c] < -1e8f);
        }
}

TEST("bpr's loss is the mean over the negatives, and a row is right whose item beats the first")
{
    struct mbl_feed *feed = kept(calloc(1, sizeof *feed));
    make_few(false);
    struct mbl_model *m = open_model(
        open_cpu(1), "{\"kind\": \"matrix_factorization\", \"factors\": 2, \"loss\": \"bpr\", \"negatives\": 2}", pairs_path("all"), feed);
    float scores[6] = {2, -1, 1, 0.5f, 3, 4}, losses[2], gradients[6]; /* taken: 2, -1; first others: 1, 0.5; second: 3, 4 */
    int32_t predictions[2], labels[2] = {1, 1};
    struct mbk_tensor s = mbk_tensor2(scores, MBK_F32, 6, 1), l = mbk_tensor1(losses, MBK_F32, 2),
                      d = mbk_tensor2(gradients, MBK_F32, 6, 1), p = mbk_tensor1(predictions, MBK_I32, 2),
                      y = mbk_tensor1(labels, MBK_I32, 2);
    if (m->architecture->reserve(m, 2, true, &error) || mbl_pairs_loss(m, &s, &y, 0.5f, &l, &d, &p, &error)) FAIL("%s", error.text);
    CHECK_NEAR(losses[0], (log1p(exp(-1)) + log1p(exp(1))) / 2, 1e-6);
    CHECK_NEAR(losses[1], (log1p(exp(1.5)) + log1p(exp(5))) / 2, 1e-6);
    CHECK_EQ(predictions[0], 1);
    CHECK_EQ(predictions[1], 0);
    double first = -0.25 / (1 + exp(1)), second = -0.25 / (1 + exp(-1));
    CHECK_NEAR(gradients[0], first + second, 1e-6);
    CHECK_NEAR(gradients[2], -first, 1e-6);
    CHECK_NEAR(gradients[4], -second, 1e-6);
}

/* -- negatives */

TEST("a negative is any item that the user is not known to have taken, each as often as any other")
{
    struct mbl_feed *feed = kept(calloc(1, sizeof *feed));
    make_few(false);
    struct mbl_model *m = open_model(open_cpu(1), "{\"kind\": \"matrix_factorization\", \"loss\": \"bpr\"}", pairs_path("all"), feed);
    const struct mbl_interactions *x = &feed->pairs.x;
    int64_t counts[5] = {0}, items = m->catalogue->side[MBL_ITEMS].trained;
    CHECK_EQ(items, 5);
    const int draws = 30000;
    for (int i = 0; i < draws; i++) {
        uint32_t words[4];
        mbk_philox(5, (uint64_t)i, words);
        int32_t item = mbl_interactions_negative(x, 0, items, (uint64_t)words[0] << 32 | words[1]);
        CHECK(item >= 0 && item < items);
        counts[item]++;
    }
    /* Items are v, w, x, y, z; user a took x and y. */
    CHECK_EQ(counts[2] + counts[3], 0);
    for (int i = 0; i < 5; i++)
        if (i != 2 && i != 3) CHECK(fabs((double)counts[i] - draws / 3.0) < 4 * sqrt(draws * 2 / 9.0));
}

TEST("negatives depend on the seed, the epoch and the interaction alone, not on the batch that it is in")
{
    struct mbl_feed *feed = kept(calloc(1, sizeof *feed));
    make_few(false);
    open_model(open_cpu(1), "{\"kind\": \"matrix_factorization\", \"loss\": \"bpr\", \"negatives\": 4}", pairs_path("all"), feed);
    int32_t whole[40], part[10];
    struct mbl_batch b = {0};
    bool other = false;
    feed->pairs.seed = 77;
    feed->pairs.epoch = 3;
    if (mbl_feed_reserve(feed, 8, &error) || mbl_feed_batch(feed, NULL, 0, 8, &b, &error)) FAIL("%s", error.text);
    memcpy(whole, b.items.data, sizeof whole);
    const int32_t order[] = {5, 1};
    if (mbl_feed_batch(feed, order, 0, 2, &b, &error)) FAIL("%s", error.text);
    memcpy(part, b.items.data, sizeof part);
    for (int j = 0; j < 5; j++)
        for (int r = 0; r < 2; r++) CHECK_EQ(part[j * 2 + r], whole[j * 8 + order[r]]);
    feed->pairs.epoch = 4;
    if (mbl_feed_batch(feed, NULL, 0, 8, &b, &error)) FAIL("%s", error.text);
    for (int i = 8; i < 40; i++) other |= ((int32_t *)b.items.data)[i] != whole[i];
    CHECK(other);
}

TEST("a user who took everything gets a pair that teaches nothing")
{
    struct fake *f;
    struct mbl_feed *feed = kept(calloc(1, sizeof *feed));
    if (pairs_make(&f, "{}", "user,item\na,x\na,y\nb,x\n", NULL, NULL) != MB_OK) FAIL("%s", f->message);
    struct mbl_model *m = open_model(open_cpu(1), "{\"kind\": \"matrix_factorization\", \"factors\": 3}", pairs_path("all"), feed);
    struct mbl_batch b = {0};
    CHECK_EQ(m->pairing.loss, MBL_LOSS_BPR);
    if (mbl_feed_reserve(feed, 3, &error) || mbl_feed_batch(feed, NULL, 0, 3, &b, &error)) FAIL("%s", error.text);
    const int32_t *items = b.items.data;
    CHECK_EQ(items[3], items[0]);
    CHECK_EQ(items[4], items[1]);
    CHECK(items[5] != items[2]);
}

/* -- splits don't leak */

static void check_no_leak(const char *params) {
    struct world w = {.users = 60, .items = 40, .clubs = 4, .each = 12, .seed = 5};
    struct mbl_buf pairs = {0}, users = {0}, items = {0};
    struct fake *f;
    struct mbl_feed *part[3];
    static const char *const names[] = {"train", "val", "test"};
    world_write(&w, &pairs, &users, &items);
    if (pairs_make(&f, params, pairs.data, users.data, items.data) != MB_OK) FAIL("%s", f->message);
    struct mbk *k = open_cpu(1);
    struct mbl_model *m = NULL;
    static bool in[3][60][40];
    memset(in, 0, sizeof in);
    for (int p = 0; p < 3; p++) {
        part[p] = kept(calloc(1, sizeof **part));
        if (!p) m = open_model(k, "{\"kind\": \"matrix_factorization\", \"factors\": 2, \"loss\": \"bpr\"}", pairs_path("train"), part[0]);
        else if (mbl_feed_open(part[p], m, pairs_path(names[p]), &error)) FAIL("%s", error.text);
        const struct mbl_interactions *x = &part[p]->pairs.x;
        for (int64_t i = 0; i < x->rows; i++) {
            CHECK(!in[p][x->users[i]][x->items[i]]);
            in[p][x->users[i]][x->items[i]] = true;
        }
    }
    bool negative_of_test = false;
    for (int u = 0; u < 60; u++)
        for (int i = 0; i < 40; i++) CHECK(in[0][u][i] + in[1][u][i] + in[2][u][i] <= 1);
    for (int p = 0; p < 3; p++) { /* what a part says was seen is what the parts before it have, no more and no less */
        const struct mbl_interactions *x = &part[p]->pairs.x;
        for (int u = 0; u < 60; u++) {
            bool seen[40] = {false};
            for (int64_t i = x->seen_at[u]; i < x->seen_at[u + 1]; i++) seen[x->seen[i]] = true;
            for (int i = 0; i < 40; i++) CHECK_EQ(seen[i], (p > 0 && in[0][u][i]) || (p > 1 && in[1][u][i]));
        }
    }
    /* Training knows nothing of what is held back: such items are drawn as negatives like any other. */
    for (int u = 0; u < 60; u++)
        for (int n = 0; n < 200; n++) {
            uint32_t words[4];
            mbk_philox(1, (uint64_t)(u * 200 + n), words);
            int32_t item =
                mbl_interactions_negative(&part[0]->pairs.x, u, m->catalogue->side[MBL_ITEMS].trained, (uint64_t)words[0] << 32 | words[1]);
            CHECK(!in[0][u][item]);
            negative_of_test |= in[2][u][item];
        }
    CHECK(negative_of_test);
    mbl_buf_free(&pairs);
    mbl_buf_free(&users);
    mbl_buf_free(&items);
}

TEST("the split by each user's last leaks nothing into training or its negatives")
{
    check_no_leak("{\"time\": \"time\", \"split\": {\"by\": \"last\", \"val\": 1, \"test\": 2}}");
}
TEST("the random split leaks nothing into training or its negatives")
{
    check_no_leak("{\"split\": {\"train\": 0.7, \"val\": 0.15, \"test\": 0.15, \"seed\": 4}, \"users\": {\"unknown\": \"keep\"}}");
}

/* -- figures */

/* A world of 2 users and 6 items, with vectors put by hand so that scores are known. */
static struct mbl_model *by_hand(struct mbl_feed *test) {
    struct fake *f;
    struct mbl_feed *train = kept(calloc(1, sizeof *train));
    /* Last of each user goes to the test; c's two items are there to be known. Popularity: p 3, q 2, others 1. */
    if (pairs_make(&f, "{\"split\": {\"by\": \"last\", \"test\": 2}}",
                   "user,item\na,p\na,q\na,r\na,s\nb,p\nb,t\nb,r\nb,u\nc,p\nc,q\nd,r\nd,s\ne,u\n", NULL, NULL) != MB_OK)
        FAIL("%s", f->message);
    struct mbl_model *m =
        open_model(open_cpu(1), "{\"kind\": \"matrix_factorization\", \"factors\": 1, \"loss\": \"bpr\"}", pairs_path("train"), train);
    if (mbl_feed_open(test, m, pairs_path("test"), &error)) FAIL("%s", error.text);
    return m;
}

TEST("recall, NDCG, hit rate, MRR and coverage are what they are by hand, for the model and for the most popular items")
{
    struct mbl_feed *test = kept(calloc(1, sizeof *test));
    struct mbl_model *m = by_hand(test);
    float *u = mbl_model_find(m, "user_embedding.weight")->value.data, *v = mbl_model_find(m, "item_embedding.weight")->value.data;
    /* Items p q r s t u. User a (seen p, q; relevant r, s) has 1: order of what is left: u .9, s .8, r .3, t .1.
     * User b (seen p, t; relevant r, u) has -1: q -1?, order by lowest: q -.5 first … */
    static const float scores[] = {0.95f, -0.5f, 0.3f, 0.8f, 0.1f, 0.9f};
    for (int i = 0; i < 6; i++) v[i + 1] = scores[i];
    for (int64_t i = 1; i < mbk_count(&mbl_model_find(m, "user_embedding.weight")->value); i++) u[i] = 0;
    u[1] = 1;
    u[2] = -1;
    static const int64_t at[] = {1, 2, 3};
    struct mbl_ranking r = {.at = at, .at_count = 3};
    if (mbl_rank_part(m, &test->pairs.x, &r, &error)) FAIL("%s", error.text);
    CHECK_EQ(r.users, 2);
    CHECK_EQ(r.items, 6);
    CHECK_EQ(r.strangers, 0);
    /* a: u s r t, relevant r s: hits at 2 and 3. b: q r s u (p, t seen): -(-.5) .5, -.3, -.8, -.9: relevant r at 2, u at 4. */
    double two = 1 / log2(3), three = 0.5, ideal2 = 1 + two;
    CHECK_NEAR(r.figures[0].recall, 0, 1e-12);
    CHECK_NEAR(r.figures[0].hit_rate, 0, 1e-12);
    CHECK_NEAR(r.figures[0].coverage, 2 / 6.0, 1e-12);
    CHECK_NEAR(r.figures[1].recall, 0.5, 1e-12);
    CHECK_NEAR(r.figures[1].hit_rate, 1, 1e-12);
    CHECK_NEAR(r.figures[1].ndcg, two / ideal2, 1e-12);
    CHECK_NEAR(r.figures[1].coverage, 4 / 6.0, 1e-12);
    CHECK_NEAR(r.figures[2].recall, (1 + 0.5) / 2, 1e-12);
    CHECK_NEAR(r.figures[2].ndcg, ((two + three) / ideal2 + two / ideal2) / 2, 1e-12);
    CHECK_NEAR(r.mrr, 0.5, 1e-12);
    /* Counts in training: p 3, q 2, r 1, s 1, t 1, u 1; equal ones by id. a: r s t u: hits 1, 2. b: q r s u: hits 2, 4. */
    CHECK_NEAR(r.popular[0].recall, 0.25, 1e-12);
    CHECK_NEAR(r.popular[1].recall, (1 + 0.5) / 2, 1e-12);
    CHECK_NEAR(r.popular[1].ndcg, (1 + two / ideal2) / 2, 1e-12);
    CHECK_NEAR(r.popular_mrr, (1 + 0.5) / 2, 1e-12);
    mbl_ranking_free(&r);
}

TEST("a list is the best of all unseen items, equal scores in the catalogue's order, whatever its length")
{
    struct mbl_feed *test = kept(calloc(1, sizeof *test));
    struct mbl_model *m = by_hand(test);
    float *u = mbl_model_find(m, "user_embedding.weight")->value.data, *v = mbl_model_find(m, "item_embedding.weight")->value.data;
    static const float scores[] = {1, 3, 2, 3, 0, 2};
    struct mbl_ranker *r;
    int32_t user = 0, items[8];
    float out[8];
    for (int i = 0; i < 6; i++) v[i + 1] = scores[i];
    u[1] = 1;
    if (mbl_ranker_open(m, &r, &error) || mbl_ranker_top(r, &user, 1, 8, NULL, NULL, items, out, &error)) FAIL("%s", error.text);
    static const int32_t all[8] = {1, 3, 2, 5, 0, 4, -1, -1};
    CHECK_MEM(items, all, sizeof all);
    CHECK_NEAR(out[0], 3, 1e-6);
    const int64_t seen_at[2] = {0, 2};
    const int32_t seen[2] = {1, 2};
    for (int k = 1; k <= 3; k++) {
        static const int32_t rest[3] = {3, 5, 0};
        if (mbl_ranker_top(r, &user, 1, k, seen_at, seen, items, out, &error)) FAIL("%s", error.text);
        CHECK_MEM(items, rest, (size_t)k * sizeof *rest);
    }
    mbl_ranker_close(r);
}

/* -- folders */

static struct mbl_model *saved(const char *folder, bool features) {
    struct mbl_feed *feed = kept(calloc(1, sizeof *feed));
    make_few(features);
    struct mbl_model *m =
        open_model(open_cpu(1), "{\"kind\": \"two_towers\", \"embedding\": 4, \"factors\": 3, \"hidden\": [5]}", pairs_path("all"), feed);
    if (mbl_model_save(m, folder, &error)) FAIL("%s", error.text);
    return m;
}

TEST("a recommender's folder is read back as it was: vectors, ids, features")
{
    const char *folder = pairs_path("model");
    struct mbl_model *m = saved(folder, true), *again;
    if (mbl_model_load(m->k, folder, &again, &error)) FAIL("%s", error.text);
    kept(again);
    int32_t indices[4] = {0, 1, 2, 3};
    float before[12], after[12], biases[4];
    for (enum mbl_side side = MBL_USERS; side < MBL_SIDES; side++) {
        if (mbl_towers_embed(m, side, indices, 4, before, biases, &error) ||
            mbl_towers_embed(again, side, indices, 4, after, biases, &error))
            FAIL("%s", error.text);
        CHECK_MEM(before, after, sizeof before);
    }
    CHECK_EQ(mbl_catalogue_find(again->catalogue, MBL_ITEMS, "y"), mbl_catalogue_find(m->catalogue, MBL_ITEMS, "y"));
    CHECK_EQ(mbl_catalogue_find(again->catalogue, MBL_USERS, "nobody"), -1);
}

TEST("those that other data bring along are never saved with the model")
{
    const char *folder = pairs_path("model");
    struct mbl_model *m = saved(folder, true), *again;
    for (int i = 0; i < 100; i++) {
        char id[16];
        snprintf(id, sizeof id, "new%d", i);
        CHECK_EQ(mbl_catalogue_add(m->catalogue, MBL_USERS, id), 4 + i);
    }
    CHECK_EQ(mbl_catalogue_find(m->catalogue, MBL_USERS, "new57"), 61);
    if (mbl_model_save(m, folder, &error) || mbl_model_load(m->k, folder, &again, &error)) FAIL("%s", error.text);
    CHECK_EQ(again->catalogue->side[MBL_USERS].count, 4);
    kept(again);
}

/* The catalogue with one tensor's bytes changed by `spoil`. */
static void check_refused(void (*spoil)(struct mbl_tensor *, size_t), const char *message) {
    const char *folder = pairs_path("model"), *path = pairs_path("model/catalogue.safetensors");
    struct mbl_model *m = saved(folder, true), *again;
    struct mbl_safetensors file;
    if (mbl_safetensors_open(path, &file, &error)) FAIL("%s", error.text);
    struct mbl_tensor *tensors = kept(calloc(file.count, sizeof *tensors));
    for (size_t i = 0; i < file.count; i++) {
        tensors[i] = file.tensors[i];
        void *copy = kept(malloc(tensors[i].bytes + 64));
        memcpy(copy, tensors[i].data, tensors[i].bytes);
        tensors[i].data = copy;
    }
    spoil(tensors, file.count);
    unlink(path);
    if (mbl_safetensors_save(path, tensors, file.count, NULL, &error)) FAIL("%s", error.text);
    mbl_safetensors_close(&file);
    CHECK_EQ(mbl_model_load(m->k, folder, &again, &error), -1);
    CHECK_CONTAINS(error.text, message);
    CHECK_CONTAINS(error.text, "catalogue.safetensors");
}

static struct mbl_tensor *named(struct mbl_tensor *t, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++)
        if (!strcmp(t[i].name, name)) return &t[i];
    FAIL("there is no tensor %s", name);
    return NULL;
}

static void same_ids(struct mbl_tensor *t, size_t n) { memset((void *)named(t, n, "user:ids")->data, 'a', 4); }
static void bad_text(struct mbl_tensor *t, size_t n) { *(unsigned char *)named(t, n, "user:ids")->data = 0xff; }
static void nul(struct mbl_tensor *t, size_t n) { *(unsigned char *)named(t, n, "item:ids")->data = 0; }
static void far_offset(struct mbl_tensor *t, size_t n) { ((int64_t *)named(t, n, "item:ids:offsets")->data)[2] = INT64_MAX; }
static void backwards(struct mbl_tensor *t, size_t n) { ((int64_t *)named(t, n, "item:ids:offsets")->data)[3] = 1; }
static void no_count(struct mbl_tensor *t, size_t n) { ((int64_t *)named(t, n, "item:counts")->data)[0] = 0; }
static void endless_number(struct mbl_tensor *t, size_t n) { *(float *)named(t, n, "item:numbers")->data = INFINITY; }
static void no_category(struct mbl_tensor *t, size_t n) { *(int32_t *)named(t, n, "user:category:club")->data = 2; }
static void fewer(struct mbl_tensor *t, size_t n) { named(t, n, "user:counts")->shape[0] = 3; }
static void other_name(struct mbl_tensor *t, size_t n) { named(t, n, "user:category:club")->name = "user:category:clubs"; }

TEST("two users of one id are refused") { check_refused(same_ids, "id \"a\" is there twice"); }
TEST("ids that are no text are refused") { check_refused(bad_text, "id 0 is no UTF-8 text"); }
TEST("an id with a NUL in it is refused") { check_refused(nul, "id 0 is no UTF-8 text"); }
TEST("offsets beyond the ids are refused") { check_refused(far_offset, "which parts nothing off"); }
TEST("offsets that go backwards are refused") { check_refused(backwards, "which parts nothing off"); }
TEST("an item that was trained but never taken is refused") { check_refused(no_count, "row 0 is 0, which can't be"); }
TEST("an infinite feature is refused") { check_refused(endless_number, "element 0 is infinite"); }
TEST("a category that isn't there is refused") { check_refused(no_category, "there is no category 2"); }
TEST("a catalogue of another size than the config says is refused") { check_refused(fewer, "of 3 rows"); }
TEST("a feature that is missing is refused") { check_refused(other_name, "user:category:club is missing"); }

/* -- training */

/* The loss of the second epoch and the first of the weights behind it, taken by way of a checkpoint after `stop` steps (0: without), on so
 * many threads. */
static double trained(const char *shape, int threads, int stop, float *first) {
    struct mbl_feed *feed = kept(calloc(1, sizeof *feed));
    struct mbl_buf log = {0};
    struct mbl_trainer *t = NULL;
    struct mbl_epoch figures = {0};
    const struct mbl_train_options o = {.optimizer = MBL_ADAMW,
                                        .lr = 0.01,
                                        .beta1 = 0.9,
                                        .beta2 = 0.999,
                                        .epsilon = 1e-8,
                                        .weight_decay = 0.01,
                                        .epochs = 2,
                                        .batch = 64,
                                        .seed = 7,
                                        .clip = 1};
    struct mbl_model *m = open_model(open_cpu(threads), shape, pairs_path("train"), feed);
    for (int run = 0; run < (stop ? 2 : 1); run++) {
        if (run) { /* as another process would: all anew, then what the checkpoint says */
            feed = kept(calloc(1, sizeof *feed));
            m = open_model(open_cpu(threads), shape, pairs_path("train"), feed);
        }
        t = kept(calloc(1, sizeof *t));
        *t = (struct mbl_trainer){.model = m, .train = feed, .options = o};
        if (mbl_trainer_open(t, &error)) FAIL("%s", error.text);
        if (run && mbl_checkpoint_read(t, test_folder(), &log, &error)) FAIL("%s", error.text);
        while (t->epoch < o.epochs) {
            if (mbl_trainer_begin_epoch(t, &error)) FAIL("%s", error.text);
            while (t->position < feed->rows && !(stop && !run && t->step == stop))
                if (mbl_trainer_step(t, &error)) FAIL("%s", error.text);
            if (stop && !run && t->step == stop) break;
            if (mbl_trainer_end_epoch(t, &figures, &error)) FAIL("%s", error.text);
        }
        if (stop && !run && mbl_checkpoint_write(t, test_folder(), "", &error)) FAIL("%s", error.text);
    }
    memcpy(first, m->values, 4096);
    mbl_buf_free(&log);
    return figures.loss;
}

static void check_same_bits(const char *shape) {
    struct world w = {.users = 80, .items = 60, .clubs = 4, .each = 10, .seed = 5};
    struct mbl_buf pairs = {0}, users = {0}, items = {0};
    struct fake *f;
    static float a[1024], b[1024], c[1024];
    world_write(&w, &pairs, &users, &items);
    if (pairs_make(&f, "{\"split\": {\"train\": 0.8, \"test\": 0.2}, \"users\": {\"unknown\": \"keep\"}}", pairs.data, users.data,
                   items.data) != MB_OK)
        FAIL("%s", f->message);
    double loss = trained(shape, 1, 0, a);
    CHECK(loss > 0);
    CHECK(trained(shape, 3, 0, b) == loss);
    CHECK(trained(shape, 1, 13, c) == loss);
    CHECK_MEM(a, b, sizeof a);
    CHECK_MEM(a, c, sizeof a);
    mbl_buf_free(&pairs);
    mbl_buf_free(&users);
    mbl_buf_free(&items);
}

TEST("matrix factorization has the same bits on any number of threads, and after a checkpoint in mid-epoch")
{
    check_same_bits("{\"kind\": \"matrix_factorization\", \"factors\": 16, \"loss\": \"bpr\", \"negatives\": 3}");
}
TEST("two towers have the same bits on any number of threads, and after a checkpoint in mid-epoch")
{
    check_same_bits("{\"kind\": \"two_towers\", \"embedding\": 16, \"hidden\": [24], \"factors\": 12, \"dropout\": 0.2}");
}
