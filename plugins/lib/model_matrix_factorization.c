/* model_matrix_factorization.c: a vector and a bias for each user and each item, no more; learned from ratings or from what was taken. */
#include "model_architectures.h"
#include "recommend.h"

struct factorization {
    struct mbl_towers towers;    /* first: see recommend.h */
    size_t table[MBL_SIDES];
    struct mbk_tensor vectors[MBL_SIDES];
    int64_t room[MBL_SIDES];
};

static int reserve_side(struct mbl_model *m, enum mbl_side side, int64_t rows, bool training, struct mbl_error *e) {
    struct factorization *f = m->state;
    (void)training; /* the same for both */
    if (rows <= f->room[side]) return 0;
    if (f->vectors[side].data) mbk_free(m->k, f->vectors[side].data);
    f->vectors[side] = mbk_tensor2(NULL, MBK_F32, rows, f->towers.width);
    f->vectors[side].data = mbk_alloc(m->k, mbk_bytes(&f->vectors[side]));
    f->room[side] = f->vectors[side].data ? rows : 0;
    return f->room[side] ? 0 : mbl_error_set(e, "no memory for %lld vectors; make the batch smaller", (long long)rows);
}

static int look_up(struct mbl_model *m, const struct mbl_tower_call *c, struct mbk_tensor *vectors, struct mbl_error *e) {
    struct factorization *f = m->state;
    *vectors = mbk_rows(&f->vectors[c->side], 0, c->rows.shape[0]);
    return mbk_embedding(m->k, &m->parameters[f->table[c->side]].value, &c->rows, vectors) ? mbl_kernel_failed(m->k, "vectors", e) : 0;
}

static int scatter(struct mbl_model *m, const struct mbl_tower_call *c, const struct mbk_tensor *dvectors, struct mbl_error *e) {
    const struct factorization *f = m->state;
    return mbk_embedding_backward(m->k, &c->rows, dvectors, &m->parameters[f->table[c->side]].gradient)
               ? mbl_kernel_failed(m->k, "gradients of vectors", e)
               : 0;
}

static int configure(struct mbl_model *m, const struct mbl_json *config, struct mbl_error *e) {
    struct factorization *f = mbl_arena_alloc(&m->arena, sizeof *f);
    struct mbl_towers *t = &f->towers;
    double deviation;
    bool biased;
    m->state = f;
    t->reserve = reserve_side;
    t->forward = look_up;
    t->backward = scatter;
    if (mbl_pairing_configure(m, config, 1, e) || mbl_config_int(m, config, "factors", 1, MBL_WIDEST, 64, &t->width, e) ||
        mbl_config_flag(m, config, "bias", true, &biased, e) || mbl_config_float(m, config, "deviation", 1e-6, 10, 0.1, &deviation, e))
        return -1;
    for (enum mbl_side side = MBL_USERS; side < MBL_SIDES; side++) {
        struct mbl_entities s;
        if (mbl_entities_parse(m->schema.json, side, &m->arena, &s, e)) return mbl_error_wrap(e, "dataset");
        f->table[side] = mbl_towers_table(m, side, &s, "embedding", t->width, (float)deviation);
        /* A user's bias changes no order: only ratings need it. */
        if (biased && (side == MBL_ITEMS || m->problem == MBL_VALUES)) t->bias[side] = mbl_towers_table(m, side, &s, "bias", 1, 0);
    }
    return 0;
}

static void release(struct mbl_model *m) {
    struct factorization *f = m->state;
    if (!f) return;
    for (enum mbl_side side = MBL_USERS; side < MBL_SIDES; side++) {
        if (f->vectors[side].data) mbk_free(m->k, f->vectors[side].data);
        f->vectors[side].data = NULL;
        f->room[side] = 0;
    }
    mbl_towers_release(m);
}

static const char *const fields[] = {"factors", "bias", "loss", "negatives", "temperature", "log_q", "deviation", NULL};

const struct mbl_architecture mbl_matrix_factorization = {.kind = "matrix_factorization",
                                                          .model_type = "mbuild-matrix-factorization",
                                                          .class_name = "MbuildMatrixFactorization",
                                                          .takes = MBL_TAKES_PAIRS,
                                                          .fields = fields,
                                                          .configure = configure,
                                                          .reserve = mbl_towers_reserve,
                                                          .forward = mbl_towers_forward,
                                                          .backward = mbl_towers_backward,
                                                          .release = release};
