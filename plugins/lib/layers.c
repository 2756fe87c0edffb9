/* layers.c: linear layers, convolutions and pools in a row; see layers.h. */
#include "layers.h"

#include <math.h>
#include <string.h>

static int64_t layer_size(const int64_t shape[3]) {
    return shape[0] * shape[1] * shape[2];
}

/* -- declaring */

static struct mbl_layer *add_layer(struct mbl_net *n, struct mbl_model *m) {
    if (n->count == n->cap) { /* in the arena: layers are few and live as long as the model */
        size_t cap = n->cap ? n->cap * 2 : 8;
        struct mbl_layer *more = mbl_arena_alloc(&m->arena, cap * sizeof *more);
        if (n->count) memcpy(more, n->layers, n->count * sizeof *more);
        n->layers = more;
        n->cap = cap;
    }
    return &n->layers[n->count++];
}

/* Weight and bias as PyTorch starts them: uniform in ±1/√fan_in (He et al. 2015 with a = √5). */
static void declare_weights(struct mbl_model *m, struct mbl_layer *l, const char *name, int rank, const int64_t *shape, int64_t height,
                            int64_t width) {
    int64_t fan_in = 1;
    for (int i = 1; i < rank; i++) fan_in *= shape[i];
    l->weight = mbl_model_declare(m, mbl_arena_printf(&m->arena, "%s.weight", name), m->quantized ? MBK_I8 : MBK_F32, rank, shape);
    struct mbl_parameter *weight = &m->parameters[l->weight];
    weight->height = height;
    weight->width = width;
    weight->decays = true;
    weight->bound = (float)(1 / sqrt((double)fan_in));
    float bound = weight->bound;
    l->bias = mbl_model_declare(m, mbl_arena_printf(&m->arena, "%s.bias", name), MBK_F32, 1, shape);
    m->parameters[l->bias].bound = bound;
    if (!m->quantized) return;
    l->scales = mbl_model_declare(m, mbl_arena_printf(&m->arena, "%s.weight_scale", name), MBK_F32, 1, shape);
    l->input_scale = mbl_model_declare(m, mbl_arena_printf(&m->arena, "%s.input_scale", name), MBK_F32, 0, NULL);
}

void mbl_net_linear(struct mbl_model *m, struct mbl_net *n, const char *name, int64_t in, const int64_t in_image[3], int64_t out,
                    enum mbk_activation f, float dropout) {
    struct mbl_layer *l = add_layer(n, m);
    *l = (struct mbl_layer){.kind = MBL_LINEAR, .in = {1, 1, in}, .out = {1, 1, out}, .activation = f, .dropout = dropout};
    const int64_t shape[2] = {out, in};
    declare_weights(m, l, name, 2, shape, in_image ? in_image[0] : 1, in_image ? in_image[1] : 1);
}

void mbl_net_convolution(struct mbl_model *m, struct mbl_net *n, const char *name, const int64_t in[3], int64_t out, int kernel,
                         enum mbk_activation f) {
    struct mbl_layer *l = add_layer(n, m);
    *l = (struct mbl_layer){.kind = MBL_CONVOLUTION, .in = {in[0], in[1], in[2]}, .out = {in[0], in[1], out}, .activation = f,
                            .window = {kernel, kernel, 1, 1, kernel / 2, kernel / 2}};
    const int64_t shape[4] = {out, in[2], kernel, kernel};
    declare_weights(m, l, name, 4, shape, kernel, kernel);
}

void mbl_net_pool(struct mbl_net *n, struct mbl_model *m, const int64_t in[3], int size) {
    struct mbl_layer *l = add_layer(n, m);
    *l = (struct mbl_layer){.kind = MBL_POOL, .in = {in[0], in[1], in[2]}, .window = {size, size, size, size, 0, 0}};
    l->out[0] = mbk_window_out(in[0], size, size, 0);
    l->out[1] = mbk_window_out(in[1], size, size, 0);
    l->out[2] = in[2];
}

/* -- memory */

static size_t aligned(size_t bytes) {
    return (bytes + 255) & ~(size_t)255;
}

/* Gives out parts of the block, or with no block just counts. */
struct carver {
    char *block;
    size_t used;
};
static void *carve(struct carver *c, int64_t count, size_t width) {
    void *p = c->block ? c->block + c->used : NULL;
    c->used += aligned((size_t)count * width);
    return p;
}

static size_t lay_out(struct mbl_model *m, struct mbl_net *n, void *block, int64_t rows, bool training) {
    struct carver c = {block, 0};
    int64_t widest = 0;
    for (size_t i = 0; i < n->count; i++) {
        struct mbl_layer *l = &n->layers[i];
        int64_t in = rows * layer_size(l->in), out = rows * layer_size(l->out);
        bool weighted = l->kind != MBL_POOL;
        l->after = carve(&c, out, sizeof(float));
        l->before = training && weighted && l->activation != MBK_NONE ? carve(&c, out, sizeof(float)) : NULL;
        l->argmax = weighted ? NULL : carve(&c, out, sizeof(int32_t));
        l->patches = m->quantized && weighted ? carve(&c, in, 1) : NULL;
        if (m->quantized && l->kind == MBL_CONVOLUTION)
            carve(&c, rows * l->out[0] * l->out[1] * l->window.kernel_h * l->window.kernel_w * l->in[2],
                  1); /* right behind: see forward_int8 */
        if (in > widest) widest = in;
        if (out > widest) widest = out;
    }
    for (int i = 0; i < 2; i++) n->gradients[i] = training ? carve(&c, widest, sizeof(float)) : NULL;
    return c.used;
}

int mbl_net_reserve(struct mbl_model *m, struct mbl_net *n, int64_t rows, bool training, struct mbl_error *e) {
    if (rows <= n->rows && (n->training || !training)) return 0;
    if (rows < n->rows) rows = n->rows; /* only ever grows: a trainer goes to and fro between batches and validation */
    training |= n->training;
    mbl_net_release(m, n);
    double bytes = 0; /* a bound that can't overflow, before the sum that can */
    for (size_t i = 0; i < n->count; i++)
        bytes += 16.0 * (double)rows *
                 ((double)layer_size(n->layers[i].in) * (double)(n->layers[i].window.kernel_h * n->layers[i].window.kernel_w + 1) +
                  (double)layer_size(n->layers[i].out));
    if (bytes > 1e15) return mbl_error_set(e, "a batch of %lld rows would take %.3g bytes", (long long)rows, bytes);
    size_t size = lay_out(m, n, NULL, rows, training);
    n->block = mbk_alloc(m->k, size);
    if (!n->block)
        return mbl_error_set(e, "no memory for the layers of a batch of %lld rows (%zu bytes); make the batch smaller", (long long)rows,
                             size);
    lay_out(m, n, n->block, rows, training);
    n->rows = rows;
    n->training = training;
    for (size_t i = 0; m->quantized && i < n->count; i++) {
        struct mbl_layer *l = &n->layers[i];
        if (l->kind == MBL_POOL) continue;
        if (mbk_read(m->k, &l->scale, m->parameters[l->input_scale].value.data, sizeof l->scale))
            return mbl_kernel_failed(m->k, "reading scales", e);
    }
    return 0;
}

void mbl_net_release(struct mbl_model *m, struct mbl_net *n) {
    if (n->block) mbk_free(m->k, n->block);
    n->block = NULL;
    n->rows = 0;
    n->training = false;
}

/* -- forward. Values between layers are [rows, height, width, channels], or [rows, n] to a linear layer: the same bytes. */

static struct mbk_tensor view(void *data, int64_t rows, const int64_t shape[3], enum mbl_layer_kind kind) {
    if (kind == MBL_LINEAR) return mbk_tensor2(data, MBK_F32, rows, layer_size(shape));
    return mbk_tensor4(data, MBK_F32, rows, shape[0], shape[1], shape[2]);
}

/* The int8 image's patches as rows, so that the convolution is one product. In host memory: int8 models run on the CPU
 * (mbl_model_load_on). */
static void cut_patches(const struct mbl_layer *l, int64_t rows, const int8_t *x, int8_t *out) {
    const int64_t H = l->in[0], W = l->in[1], C = l->in[2];
    const int K = l->window.kernel_h, pad = l->window.pad_h;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t oy = 0; oy < H; oy++)
            for (int64_t ox = 0; ox < W; ox++)
                for (int ky = 0; ky < K; ky++)
                    for (int kx = 0; kx < K; kx++, out += C) {
                        int64_t y = oy + ky - pad, x0 = ox + kx - pad;
                        if (y >= 0 && y < H && x0 >= 0 && x0 < W) memcpy(out, x + ((r * H + y) * W + x0) * C, (size_t)C);
                        else memset(out, 0, (size_t)C);
                    }
}

static int forward_int8(struct mbl_model *m, const struct mbl_layer *l, const struct mbk_tensor *x, int64_t rows) {
    const struct mbl_parameter *p = m->parameters;
    int64_t in = layer_size(l->in), out = l->out[2], positions = l->kind == MBL_CONVOLUTION ? l->out[0] * l->out[1] : 1;
    struct mbk_tensor flat = mbk_tensor2(x->data, MBK_F32, rows, in), q = mbk_tensor2(l->patches, MBK_I8, rows, in);
    if (mbk_quantize(m->k, &flat, l->scale, &q)) return -1;
    struct mbk_tensor w = p[l->weight].value, y = mbk_tensor2(l->after, MBK_F32, rows * positions, out);
    if (l->kind == MBL_CONVOLUTION) {
        int64_t patch = mbk_count(&w) / out;
        int8_t *patches = (int8_t *)l->patches + aligned((size_t)(rows * in));
        cut_patches(l, rows, q.data, patches);
        q = mbk_tensor2(patches, MBK_I8, rows * positions, patch);
        w = mbk_tensor2(w.data, MBK_I8, out, patch);
    }
    return mbk_linear_int8(m->k, &q, &p[l->input_scale].value, &w, &p[l->scales].value, &p[l->bias].value, l->activation, &y);
}

static int forward_layer(struct mbl_model *m, const struct mbl_layer *l, const struct mbk_tensor *x, int64_t rows, bool training) {
    struct mbk_tensor y = view(l->after, rows, l->out, l->kind), before = y;
    before.data = l->before;
    const struct mbk_tensor *kept = training && l->before ? &before : NULL;
    if (l->kind == MBL_POOL) {
        struct mbk_tensor argmax = y;
        argmax.data = l->argmax;
        argmax.type = MBK_I32;
        return mbk_maxpool2d(m->k, &l->window, x, &y, &argmax);
    }
    if (m->quantized) return forward_int8(m, l, x, rows);
    const struct mbk_tensor *w = &m->parameters[l->weight].value, *bias = &m->parameters[l->bias].value;
    if (l->kind == MBL_CONVOLUTION) return mbk_conv2d(m->k, &l->window, x, w, bias, l->activation, kept, &y);
    return mbk_linear(m->k, x, w, bias, l->activation, kept, &y);
}

int mbl_net_forward(struct mbl_model *m, struct mbl_net *n, const struct mbl_batch *b, struct mbk_tensor *outputs, struct mbl_error *e) {
    int64_t rows = b->x.shape[0];
    void *data = b->x.data;
    for (size_t i = 0; i < n->count; i++) {
        struct mbl_layer *l = &n->layers[i];
        struct mbk_tensor x = view(data, rows, l->in, l->kind);
        if (m->observer && l->kind != MBL_POOL && m->observer->input(m->observer, m->k, m->parameters[l->weight].name, &x, e)) return -1;
        if (forward_layer(m, l, &x, rows, b->training)) return mbl_kernel_failed(m->k, "forward", e);
        data = l->after;
        *outputs = mbk_tensor2(data, MBK_F32, rows, layer_size(l->out));
        if (!b->training || l->dropout <= 0) continue;
        /* Each layer has offsets of its own, so its mask depends on nothing but the step. */
        if (mbk_dropout(m->k, l->dropout, b->seed, b->offset + ((uint64_t)i << 26), outputs, outputs))
            return mbl_kernel_failed(m->k, "dropout", e);
    }
    return 0;
}

/* -- backward */

static int backward_layer(struct mbl_model *m, const struct mbl_layer *l, const struct mbk_tensor *x, struct mbk_tensor *dy,
                          const struct mbk_tensor *dx, int64_t rows) {
    if (l->kind == MBL_POOL) {
        struct mbk_tensor argmax = *dy;
        argmax.data = l->argmax;
        argmax.type = MBK_I32;
        return mbk_maxpool2d_backward(m->k, &l->window, &argmax, dy, dx);
    }
    if (l->before) {
        struct mbk_tensor before = view(l->before, rows, l->out, l->kind);
        if (mbk_activate_backward(m->k, l->activation, &before, dy, dy)) return -1;
    }
    const struct mbl_parameter *w = &m->parameters[l->weight], *bias = &m->parameters[l->bias];
    if (l->kind == MBL_CONVOLUTION) return mbk_conv2d_backward(m->k, &l->window, x, &w->value, dy, dx, &w->gradient, &bias->gradient);
    return mbk_linear_backward(m->k, x, &w->value, dy, dx, &w->gradient, &bias->gradient);
}

int mbl_net_backward(struct mbl_model *m, struct mbl_net *n, const struct mbl_batch *b, const struct mbk_tensor *doutputs,
                     struct mbl_error *e) {
    int64_t rows = b->x.shape[0];
    void *gradient = doutputs->data;
    for (size_t i = n->count; i-- > 0;) {
        const struct mbl_layer *l = &n->layers[i];
        struct mbk_tensor x = view(i ? n->layers[i - 1].after : b->x.data, rows, l->in, l->kind);
        struct mbk_tensor dy = view(gradient, rows, l->out, l->kind), dx = view(i ? n->gradients[i % 2] : n->input_gradient, rows, l->in, l->kind);
        if (l->dropout > 0 && mbk_dropout(m->k, l->dropout, b->seed, b->offset + ((uint64_t)i << 26), &dy, &dy))
            return mbl_kernel_failed(m->k, "dropout", e);
        if (backward_layer(m, l, &x, &dy, dx.data ? &dx : NULL, rows)) return mbl_kernel_failed(m->k, "backward", e);
        gradient = dx.data;
    }
    return 0;
}
