/* model_mlp.c: the multilayer perceptron; without a hidden layer it is linear or logistic regression. */
#include "layers.h"
#include "model_architectures.h"

static int configure(struct mbl_model *m, const struct mbl_json *config, struct mbl_error *e) {
    struct mbl_net *n = mbl_arena_alloc(&m->arena, sizeof *n);
    m->state = n;
    int64_t *hidden, in = (int64_t)m->schema.features;
    size_t count;
    double dropout;
    enum mbk_activation activation;
    if (mbl_config_list(m, config, "hidden", 1, MBL_WIDEST, &hidden, &count, e) || mbl_config_activation(m, config, &activation, e) ||
        mbl_config_float(m, config, "dropout", 0, 0.95, 0, &dropout, e))
        return -1;
    for (size_t i = 0; i < count; i++) {
        mbl_net_linear(m, n, mbl_arena_printf(&m->arena, "layers.%zu", i), in, NULL, hidden[i], activation, (float)dropout);
        in = hidden[i];
    }
    mbl_net_linear(m, n, "head", in, NULL, m->outputs, MBK_NONE, 0);
    return 0;
}

static int reserve(struct mbl_model *m, int64_t rows, bool training, struct mbl_error *e) {
    return mbl_net_reserve(m, m->state, rows, training, e);
}

static int forward(struct mbl_model *m, const struct mbl_batch *b, struct mbk_tensor *outputs, struct mbl_error *e) {
    return mbl_net_forward(m, m->state, b, outputs, e);
}

static int backward(struct mbl_model *m, const struct mbl_batch *b, const struct mbk_tensor *doutputs, struct mbl_error *e) {
    return mbl_net_backward(m, m->state, b, doutputs, e);
}

static void release(struct mbl_model *m) {
    if (m->state) mbl_net_release(m, m->state);
}

static const char *const fields[] = {"hidden", "activation", "dropout", NULL};

const struct mbl_architecture mbl_mlp = {.kind = "mlp",
                                         .model_type = "mbuild-mlp",
                                         .class_name = "MbuildMlp",
                                         .fields = fields,
                                         .configure = configure,
                                         .reserve = reserve,
                                         .forward = forward,
                                         .backward = backward,
                                         .release = release};
