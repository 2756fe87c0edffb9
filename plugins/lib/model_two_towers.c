/* model_two_towers.c: users and items each through a tower of their own: what is learned of the id, plus what is learned of each category,
 * plus a linear map of the numbers, then linear layers to the vector (Covington, Adams, Sargin 2016; Yi et al. 2019). Whoever wasn't met in
 * training has the features alone, to which `id_dropout` accustoms the tower.
 *
 * The features of all that the catalogue knows lie on the device, codes as float32 (exact below 2^24), so that a batch brings indices
 * alone.
 */
#include "layers.h"
#include "model_architectures.h"
#include "recommend.h"

#include <math.h>
#include <stdlib.h>

#define NORM_EPSILON 1e-12f /* of the squared length */

struct tower {
    struct mbl_entities schema;  /* its traits: of the config, no entities */
    size_t ids, numbers, numbers_bias, *categories; /* parameters; categories by trait */
    struct mbl_net net;
    /* on the device: features of all entities [uploaded, …] */
    struct mbk_tensor all_numbers, *all_codes;
    int64_t uploaded;
    /* of a batch */
    struct mbk_tensor x, dx, part, values, *codes, code, out, y, dout, rstd;
    int64_t room;
    bool training;
};

struct two_towers {
    struct mbl_towers towers;    /* first: see recommend.h */
    int64_t embedding;
    bool normalize;
    struct tower tower[MBL_SIDES];
    struct mbk_tensor gamma;     /* [width], 1/√width: RMS normalization then gives length 1 */
};

/* -- the config */

static int declare_tower(struct mbl_model *m, enum mbl_side side, const int64_t *hidden, size_t count, enum mbk_activation f, float dropout,
                         struct mbl_error *e) {
    struct two_towers *s = m->state;
    struct tower *t = &s->tower[side];
    struct mbl_arena *a = &m->arena;
    const char *name = mbl_side_name(side);
    int64_t D = s->embedding, in = D;
    float deviation = (float)(1 / sqrt((double)D));
    struct mbl_entities schema;
    if (mbl_entities_parse(m->schema.json, side, a, &schema, e)) return mbl_error_wrap(e, "dataset");
    t->ids = mbl_towers_table(m, side, &schema, "embedding", D, deviation);
    t->categories = mbl_arena_alloc(a, (schema.trait_count + 1) * sizeof *t->categories);
    t->all_codes = mbl_arena_alloc(a, (schema.trait_count + 1) * sizeof *t->all_codes);
    t->codes = mbl_arena_alloc(a, (schema.trait_count + 1) * sizeof *t->codes);
    t->schema = schema; /* only now: what is released by its traits is there */
    for (size_t i = 0, k = 0; i < t->schema.trait_count; i++) {
        if (!t->schema.traits[i].category) continue;
        const int64_t shape[2] = {(int64_t)t->schema.traits[i].category_count + 1, D}; /* row 0: missing */
        t->categories[i] = mbl_model_declare(m, mbl_arena_printf(a, "%s_categories.%zu.weight", name, k++), MBK_F32, 2, shape);
        m->parameters[t->categories[i]].deviation = deviation;
        m->parameters[t->categories[i]].decays = m->parameters[t->categories[i]].padded = true;
    }
    if (t->schema.number_count) {
        const int64_t shape[2] = {D, (int64_t)t->schema.number_count};
        t->numbers = mbl_model_declare(m, mbl_arena_printf(a, "%s_numbers.weight", name), MBK_F32, 2, shape);
        m->parameters[t->numbers].decays = true;
        t->numbers_bias = mbl_model_declare(m, mbl_arena_printf(a, "%s_numbers.bias", name), MBK_F32, 1, shape);
        m->parameters[t->numbers].bound = m->parameters[t->numbers_bias].bound = (float)(1 / sqrt((double)shape[1]));
    }
    for (size_t i = 0; i < count; in = hidden[i++])
        mbl_net_linear(m, &t->net, mbl_arena_printf(a, "%s_layers.%zu", name, i), in, NULL, hidden[i], f, dropout);
    mbl_net_linear(m, &t->net, mbl_arena_printf(a, "%s_head", name), in, NULL, s->towers.width, MBK_NONE, 0);
    s->towers.cold[side] = t->schema.trait_count > 0;
    return 0;
}

/* -- memory */

static void release_features(struct mbl_model *m, struct tower *t) {
    if (t->all_numbers.data) mbk_free(m->k, t->all_numbers.data);
    t->all_numbers.data = NULL;
    for (size_t i = 0; i < t->schema.trait_count; i++) {
        if (t->all_codes[i].data) mbk_free(m->k, t->all_codes[i].data);
        t->all_codes[i].data = NULL;
    }
    t->uploaded = 0;
}

static void release_batch(struct mbl_model *m, struct tower *t) {
    struct mbk_tensor *all[] = {&t->x, &t->dx, &t->part, &t->values, &t->code, &t->y, &t->dout, &t->rstd};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (all[i]->data) mbk_free(m->k, all[i]->data);
        all[i]->data = NULL;
    }
    for (size_t i = 0; i < t->schema.trait_count; i++) {
        if (t->codes[i].data) mbk_free(m->k, t->codes[i].data);
        t->codes[i].data = NULL;
    }
    t->room = 0;
}

static void release(struct mbl_model *m) {
    struct two_towers *s = m->state;
    if (!s) return;
    for (enum mbl_side side = MBL_USERS; side < MBL_SIDES; side++) {
        struct tower *t = &s->tower[side];
        release_features(m, t);
        release_batch(m, t);
        mbl_net_release(m, &t->net);
    }
    if (s->gamma.data) mbk_free(m->k, s->gamma.data);
    s->gamma.data = NULL;
    mbl_towers_release(m);
}

static int take(struct mbl_model *m, struct mbk_tensor *t, struct mbk_tensor shape, struct mbl_error *e) {
    *t = shape;
    t->data = mbk_alloc(m->k, mbk_bytes(t) + 1);
    return t->data ? 0 : mbl_error_set(e, "no memory for the towers (%zu bytes); make the batch smaller", mbk_bytes(t));
}

static int upload(struct mbl_model *m, struct mbk_tensor *t, int64_t rows, int64_t width, const float *from, struct mbl_error *e) {
    if (take(m, t, mbk_tensor2(NULL, MBK_F32, rows, width), e)) return -1;
    return mbk_write(m->k, t->data, from, mbk_bytes(t)) ? mbl_kernel_failed(m->k, "features", e) : 0;
}

/* Features of all that the catalogue knows by now. */
static int upload_features(struct mbl_model *m, enum mbl_side side, struct tower *t, struct mbl_error *e) {
    const struct mbl_entities *s = &m->catalogue->side[side];
    size_t n = t->schema.number_count, rows = (size_t)s->count;
    if (t->uploaded == s->count || !t->schema.trait_count) return 0;
    release_features(m, t);
    float *staging = mbl_alloc(rows * (n > 1 ? n : 1) * sizeof *staging);
    int status = 0;
    for (size_t i = 0, column = 0; i < t->schema.trait_count && !status; i++) {
        const struct mbl_trait *trait = &t->schema.traits[i];
        if (trait->category) continue;
        for (size_t r = 0; r < rows; r++) { /* what is missing is taken for the mean */
            float v = (s->numbers[r * n + column] - trait->offset) * trait->factor;
            staging[r * n + column] = isfinite(v) ? v : 0;
        }
        column++;
    }
    if (n) status = upload(m, &t->all_numbers, s->count, (int64_t)n, staging, e);
    for (size_t i = 0; i < t->schema.trait_count && !status; i++) {
        if (!t->schema.traits[i].category) continue;
        for (size_t r = 0; r < rows; r++) staging[r] = (float)(s->codes[i][r] + 1);
        status = upload(m, &t->all_codes[i], s->count, 1, staging, e);
    }
    free(staging);
    if (!status) t->uploaded = s->count;
    return status;
}

static int make_gamma(struct mbl_model *m, struct two_towers *s, struct mbl_error *e) {
    int64_t width = s->towers.width;
    if (s->gamma.data) return 0;
    if (take(m, &s->gamma, mbk_tensor1(NULL, MBK_F32, width), e)) return -1;
    float *values = mbl_alloc((size_t)width * sizeof *values);
    for (int64_t i = 0; i < width; i++) values[i] = (float)(1 / sqrt((double)width));
    int status = mbk_write(m->k, s->gamma.data, values, mbk_bytes(&s->gamma)) ? mbl_kernel_failed(m->k, "the towers", e) : 0;
    free(values);
    return status;
}

static int reserve_tower(struct mbl_model *m, enum mbl_side side, int64_t rows, bool training, struct mbl_error *e) {
    struct two_towers *s = m->state;
    struct tower *t = &s->tower[side];
    int64_t D = s->embedding, width = s->towers.width;
    if (upload_features(m, side, t, e) || make_gamma(m, s, e)) return -1;
    if (rows <= t->room && (t->training || !training)) return 0;
    release_batch(m, t);
    if (take(m, &t->x, mbk_tensor2(NULL, MBK_F32, rows, D), e) || take(m, &t->part, mbk_tensor2(NULL, MBK_F32, rows, D), e) ||
        take(m, &t->code, mbk_tensor2(NULL, MBK_F32, rows, 1), e) || take(m, &t->y, mbk_tensor2(NULL, MBK_F32, rows, width), e) ||
        take(m, &t->rstd, mbk_tensor1(NULL, MBK_F32, rows), e) ||
        take(m, &t->values, mbk_tensor2(NULL, MBK_F32, rows, (int64_t)t->schema.number_count), e))
        return -1;
    if (training &&
        (take(m, &t->dx, mbk_tensor2(NULL, MBK_F32, rows, D), e) || take(m, &t->dout, mbk_tensor2(NULL, MBK_F32, rows, width), e)))
        return -1;
    for (size_t i = 0; i < t->schema.trait_count; i++)
        if (t->schema.traits[i].category && take(m, &t->codes[i], mbk_tensor1(NULL, MBK_I32, rows), e)) return -1;
    t->net.input_gradient = t->dx.data;
    t->room = rows;
    t->training = training;
    return mbl_net_reserve(m, &t->net, rows, training, e);
}

/* mbl_towers_reserve asks for more only when the batch grows; the catalogue may have grown alone. */
static int reserve(struct mbl_model *m, int64_t rows, bool training, struct mbl_error *e) {
    struct two_towers *s = m->state;
    for (enum mbl_side side = MBL_USERS; side < MBL_SIDES; side++)
        if (upload_features(m, side, &s->tower[side], e)) return -1;
    return mbl_towers_reserve(m, rows, training, e);
}

/* -- forward and backward */

static struct mbl_batch batch_of(const struct mbl_tower_call *c, const struct mbk_tensor *x) {
    return (struct mbl_batch){.x = *x, .training = c->training, .seed = c->seed, .offset = c->offset};
}

/* x += what is learned of a category. */
static int add_category(struct mbl_model *m, struct tower *t, size_t trait, const struct mbl_tower_call *c, const struct mbk_tensor *x) {
    int64_t n = c->rows.shape[0];
    struct mbk_tensor raw = mbk_rows(&t->code, 0, n), flat = mbk_tensor1(raw.data, MBK_F32, n), code = mbk_rows(&t->codes[trait], 0, n),
                      part = mbk_rows(&t->part, 0, n);
    return mbk_embedding(m->k, &t->all_codes[trait], &c->indices, &raw) || mbk_cast(m->k, &flat, &code) ||
           mbk_embedding(m->k, &m->parameters[t->categories[trait]].value, &code, &part) || mbk_axpy(m->k, 1, &part, x);
}

static int add_numbers(struct mbl_model *m, struct tower *t, const struct mbl_tower_call *c, const struct mbk_tensor *x) {
    int64_t n = c->rows.shape[0];
    struct mbk_tensor values = mbk_rows(&t->values, 0, n);
    const struct mbk_product p = {.a = &values, .b = &m->parameters[t->numbers].value, .c = x, .transpose_b = 1, .alpha = 1, .beta = 1,
                                  .bias = &m->parameters[t->numbers_bias].value};
    return mbk_embedding(m->k, &t->all_numbers, &c->indices, &values) || mbk_matmul(m->k, &p);
}

static int forward_tower(struct mbl_model *m, const struct mbl_tower_call *c, struct mbk_tensor *vectors, struct mbl_error *e) {
    struct two_towers *s = m->state;
    struct tower *t = &s->tower[c->side];
    int64_t n = c->rows.shape[0];
    struct mbk_tensor x = mbk_rows(&t->x, 0, n);
    int failed = mbk_embedding(m->k, &m->parameters[t->ids].value, &c->rows, &x);
    for (size_t i = 0; i < t->schema.trait_count && !failed; i++)
        if (t->schema.traits[i].category) failed = add_category(m, t, i, c, &x);
    if (!failed && t->schema.number_count) failed = add_numbers(m, t, c, &x);
    if (failed) return mbl_kernel_failed(m->k, "features", e);
    struct mbl_batch b = batch_of(c, &x);
    if (mbl_net_forward(m, &t->net, &b, &t->out, e)) return -1;
    *vectors = t->out;
    if (!s->normalize) return 0;
    struct mbk_tensor rstd = mbk_rows(&t->rstd, 0, n);
    *vectors = mbk_rows(&t->y, 0, n);
    return mbk_rmsnorm(m->k, &t->out, &s->gamma, NORM_EPSILON / (float)s->towers.width, vectors, &rstd)
               ? mbl_kernel_failed(m->k, "the vectors' length", e)
               : 0;
}

static int backward_features(struct mbl_model *m, struct tower *t, const struct mbl_tower_call *c, const struct mbk_tensor *dx) {
    int64_t n = c->rows.shape[0];
    struct mbl_parameter *p = m->parameters;
    if (mbk_embedding_backward(m->k, &c->rows, dx, &p[t->ids].gradient)) return -1;
    for (size_t i = 0; i < t->schema.trait_count; i++) {
        struct mbk_tensor code = mbk_rows(&t->codes[i], 0, n);
        if (t->schema.traits[i].category && mbk_embedding_backward(m->k, &code, dx, &p[t->categories[i]].gradient)) return -1;
    }
    struct mbk_tensor values = mbk_rows(&t->values, 0, n);
    return t->schema.number_count
               ? mbk_linear_backward(m->k, &values, &p[t->numbers].value, dx, NULL, &p[t->numbers].gradient, &p[t->numbers_bias].gradient)
               : 0;
}

static int backward_tower(struct mbl_model *m, const struct mbl_tower_call *c, const struct mbk_tensor *dvectors, struct mbl_error *e) {
    struct two_towers *s = m->state;
    struct tower *t = &s->tower[c->side];
    int64_t n = c->rows.shape[0];
    struct mbk_tensor x = mbk_rows(&t->x, 0, n), dx = mbk_rows(&t->dx, 0, n), dout = mbk_rows(&t->dout, 0, n),
                      rstd = mbk_rows(&t->rstd, 0, n);
    const struct mbk_tensor *d = dvectors;
    if (s->normalize) {
        if (mbk_rmsnorm_backward(m->k, &t->out, &s->gamma, &rstd, dvectors, &dout, NULL))
            return mbl_kernel_failed(m->k, "the vectors' length", e);
        d = &dout;
    }
    struct mbl_batch b = batch_of(c, &x);
    if (mbl_net_backward(m, &t->net, &b, d, e)) return -1;
    return backward_features(m, t, c, &dx) ? mbl_kernel_failed(m->k, "gradients of features", e) : 0;
}

static int configure(struct mbl_model *m, const struct mbl_json *config, struct mbl_error *e) {
    struct two_towers *s = mbl_arena_alloc(&m->arena, sizeof *s);
    struct mbl_towers *t = &s->towers;
    int64_t *hidden;
    size_t count;
    double dropout;
    enum mbk_activation activation;
    bool featured =
        mbl_json_get(mbl_json_get(m->schema.json, "users"), "features") || mbl_json_get(mbl_json_get(m->schema.json, "items"), "features");
    m->state = s;
    t->reserve = reserve_tower;
    t->forward = forward_tower;
    t->backward = backward_tower;
    if (mbl_pairing_configure(m, config, 0.1, e) || mbl_config_int(m, config, "embedding", 1, MBL_WIDEST, 64, &s->embedding, e) ||
        mbl_config_int(m, config, "factors", 1, MBL_WIDEST, 64, &t->width, e) ||
        mbl_config_list(m, config, "hidden", 1, MBL_WIDEST, &hidden, &count, e) || mbl_config_activation(m, config, &activation, e) ||
        mbl_config_float(m, config, "dropout", 0, 0.95, 0, &dropout, e) ||
        mbl_config_flag(m, config, "normalize", true, &s->normalize, e) ||
        mbl_config_float(m, config, "id_dropout", 0, 0.95, featured ? 0.1 : 0, &m->pairing.id_dropout, e))
        return -1;
    for (enum mbl_side side = MBL_USERS; side < MBL_SIDES; side++)
        if (declare_tower(m, side, hidden, count, activation, (float)dropout, e)) return -1;
    return 0;
}

static const char *const fields[] = {"embedding", "hidden", "factors", "activation", "dropout", "normalize", "loss",
                                     "negatives", "temperature", "log_q", "id_dropout", NULL};

const struct mbl_architecture mbl_two_towers = {.kind = "two_towers",
                                                .model_type = "mbuild-two-towers",
                                                .class_name = "MbuildTwoTowers",
                                                .takes = MBL_TAKES_PAIRS,
                                                .usual = MBL_RANKING,
                                                .fields = fields,
                                                .configure = configure,
                                                .reserve = reserve,
                                                .forward = mbl_towers_forward,
                                                .backward = mbl_towers_backward,
                                                .release = release};
