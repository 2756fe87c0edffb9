/* model_cnn.c: the convolutional net: convolutions with "same" padding, a max pool behind each, then an mlp. */
#include "layers.h"
#include "model_architectures.h"

static int configure(struct mbl_model *m, const struct mbl_json *config, struct mbl_error *e) {
    struct mbl_net *n = mbl_arena_alloc(&m->arena, sizeof *n);
    m->state = n;
    int64_t *channels, *hidden, kernel, pool;
    size_t channel_count, hidden_count;
    double dropout;
    enum mbk_activation activation;
    if (mbl_config_list(m, config, "channels", 1, MBL_WIDEST, &channels, &channel_count, e) ||
        mbl_config_list(m, config, "hidden", 1, MBL_WIDEST, &hidden, &hidden_count, e) ||
        mbl_config_int(m, config, "kernel", 1, 31, 3, &kernel, e) || mbl_config_int(m, config, "pool", 1, 31, 2, &pool, e) ||
        mbl_config_activation(m, config, &activation, e) || mbl_config_float(m, config, "dropout", 0, 0.95, 0, &dropout, e))
        return -1;
    if (m->schema.shape_rank != 3)
        return mbl_error_set(
            e, "a cnn takes images, and these data have no shape: give the dataset a shape = { height, width, channels }, or take an mlp");
    if (!channel_count) return mbl_error_set(e, "channels: a cnn needs at least one convolution, such as channels = { 32 }");
    if (kernel % 2 == 0) return mbl_error_set(e, "kernel: %lld is even; an odd size expected, such as 3", (long long)kernel);

    int64_t shape[3] = {m->schema.shape[0], m->schema.shape[1], m->schema.shape[2]};
    for (size_t i = 0; i < channel_count; i++) {
        mbl_net_convolution(m, n, mbl_arena_printf(&m->arena, "convs.%zu", i), shape, channels[i], (int)kernel, activation);
        shape[2] = channels[i];
        if (pool == 1) continue;
        if (shape[0] < pool || shape[1] < pool)
            return mbl_error_set(
                e, "the image is only %lld×%lld after convolution %zu: too small to be pooled by %lld; take fewer channels or pool = 1",
                (long long)shape[0], (long long)shape[1], i + 1, (long long)pool);
        mbl_net_pool(n, m, shape, (int)pool);
        shape[0] = mbk_window_out(shape[0], (int)pool, (int)pool, 0);
        shape[1] = mbk_window_out(shape[1], (int)pool, (int)pool, 0);
    }
    int64_t in = shape[0] * shape[1] * shape[2];
    const int64_t *image = shape; /* of what goes into the first linear layer */
    for (size_t i = 0; i < hidden_count; i++, image = NULL) {
        mbl_net_linear(m, n, mbl_arena_printf(&m->arena, "layers.%zu", i), in, image, hidden[i], activation, (float)dropout);
        in = hidden[i];
    }
    mbl_net_linear(m, n, "head", in, image, m->outputs, MBK_NONE, 0);
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

static const char *const fields[] = {"channels", "kernel", "pool", "hidden", "activation", "dropout", NULL};

const struct mbl_architecture mbl_cnn = {.kind = "cnn",
                                         .model_type = "mbuild-cnn",
                                         .class_name = "MbuildCnn",
                                         .fields = fields,
                                         .configure = configure,
                                         .reserve = reserve,
                                         .forward = forward,
                                         .backward = backward,
                                         .release = release};
