/* quantize.c: models of features to int8; see quantize.h. Two passes over the calibration data see what goes into each layer: the first its range, the second
 * a histogram, from which the percentile is read. The weights' own error is small (at most half a step of 1/127 of a channel's greatest);
 * that of activations is what the percentile trades: clipping a few, for a finer step for all others. */
#include "quantize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BINS 4096

struct seen {
    const char *weight;          /* the layer's, by its name */
    float most;                  /* of |x| */
    int64_t counts[BINS];        /* over ±most */
};

struct watcher {
    struct mbl_observer observer; /* first, so that it is the watcher */
    struct seen *layers;
    size_t count, cap;
    bool counting;               /* the second pass */
    struct mbk_tensor range, counts; /* device */
};

static struct seen *find_layer(struct watcher *w, const char *weight) {
    for (size_t i = 0; i < w->count; i++)
        if (!strcmp(w->layers[i].weight, weight)) return &w->layers[i];
    w->layers = mbl_grow(w->layers, &w->cap, w->count + 1, sizeof *w->layers);
    memset(&w->layers[w->count], 0, sizeof *w->layers);
    w->layers[w->count].weight = weight;
    return &w->layers[w->count++];
}

static int watch_input(struct mbl_observer *o, struct mbk *k, const char *weight, const struct mbk_tensor *x, struct mbl_error *e) {
    struct watcher *w = (struct watcher *)(void *)o;
    struct seen *s = find_layer(w, weight);
    float range[2];
    if (!w->counting) {
        if (mbk_min_max(k, x, &w->range) || mbk_read(k, range, w->range.data, sizeof range)) return mbl_kernel_failed(k, weight, e);
        float most = fmaxf(fabsf(range[0]), fabsf(range[1]));
        if (!isfinite(most)) return mbl_error_set(e, "what goes into %s is no finite number on the calibration data", weight);
        if (most > s->most) s->most = most;
        return 0;
    }
    if (s->most == 0) return 0;
    if (mbk_write(k, w->counts.data, s->counts, sizeof s->counts) || mbk_histogram(k, x, -s->most, s->most, &w->counts) ||
        mbk_read(k, s->counts, w->counts.data, sizeof s->counts))
        return mbl_kernel_failed(k, weight, e);
    return 0;
}

/* The scale that lets 127 stand for that percentile of |x|. Where all was 0, any will do. */
static float activation_scale(const struct seen *s, double percentile) {
    if (s->most == 0) return 1;
    if (percentile >= 100) return s->most / 127;
    double all = 0, below = 0;
    for (int i = 0; i < BINS; i++) all += (double)s->counts[i];
    for (int i = 0; i < BINS / 2; i++) { /* bin i of |x| is two of x */
        below += (double)(s->counts[BINS / 2 + i] + s->counts[BINS / 2 - 1 - i]);
        if (below >= all * percentile / 100) return s->most * (float)(i + 1) / (BINS / 2) / 127;
    }
    return s->most / 127;
}

static int calibrate(struct mbl_model *m, struct mbl_feed *f, int64_t batch, struct watcher *w, struct mbl_error *e) {
    void *answers;
    if (mbl_try_alloc(&answers, (uint64_t)f->rows * (uint64_t)m->outputs, sizeof(float), "calibration", e)) return -1;
    w->observer.input = watch_input;
    w->range = mbk_tensor1(mbk_alloc(m->k, 2 * sizeof(float)), MBK_F32, 2);
    w->counts = mbk_tensor1(mbk_alloc(m->k, BINS * sizeof(int64_t)), MBK_I64, BINS);
    int status = w->range.data && w->counts.data ? 0 : mbl_error_set(e, "no memory for calibration");
    m->observer = &w->observer;
    if (!status) status = mbl_predict(m, f, 0, f->rows, batch, answers, e);
    w->counting = true;
    if (!status) status = mbl_predict(m, f, 0, f->rows, batch, answers, e);
    m->observer = NULL;
    mbk_free(m->k, w->range.data);
    mbk_free(m->k, w->counts.data);
    free(answers);
    return status;
}

/* -- weights */

struct error_sum {
    double error, all;
};

static int add_error(struct mbk *k, const struct mbk_tensor *w, const struct mbk_tensor *q, const struct mbk_tensor *scales,
                     struct error_sum *sum, struct mbl_error *e) {
    int64_t rows = w->shape[0], columns = w->shape[1];
    void *a, *b = NULL, *c = NULL;
    int status = -1;
    if (mbl_try_alloc(&a, (uint64_t)(rows * columns), sizeof(float), "weights", e) ||
        mbl_try_alloc(&b, (uint64_t)(rows * columns), 1, "weights", e) || mbl_try_alloc(&c, (uint64_t)rows, sizeof(float), "scales", e))
        goto done;
    if (mbk_read(k, a, w->data, mbk_bytes(w)) || mbk_read(k, b, q->data, mbk_bytes(q)) || mbk_read(k, c, scales->data, mbk_bytes(scales))) {
        mbl_kernel_failed(k, "weights", e);
        goto done;
    }
    for (int64_t i = 0; i < rows * columns; i++) {
        double exact = ((float *)a)[i], off = exact - (double)((int8_t *)b)[i] * ((float *)c)[i / columns];
        sum->error += off * off;
        sum->all += exact * exact;
    }
    status = 0;
done:
    free(a);
    free(b);
    free(c);
    return status;
}

static int quantize_layer(struct mbl_model *from, struct mbl_model *to, const struct seen *s, const struct mbl_quantize_options *o,
                          struct error_sum *sum, struct mbl_error *e) {
    size_t stem = strlen(s->weight) - strlen("weight");
    const char *prefix = mbl_arena_strndup(&to->arena, s->weight, stem);
    const struct mbl_parameter *w = mbl_model_find(from, s->weight), *q = mbl_model_find(to, s->weight);
    const struct mbl_parameter *scales = mbl_model_find(to, mbl_arena_printf(&to->arena, "%sweight_scale", prefix));
    const struct mbl_parameter *input = mbl_model_find(to, mbl_arena_printf(&to->arena, "%sinput_scale", prefix));
    int64_t rows = w->value.shape[0], columns = mbk_count(&w->value) / rows;
    struct mbk_tensor wm = mbk_tensor2(w->value.data, MBK_F32, rows, columns), qm = mbk_tensor2(q->value.data, MBK_I8, rows, columns);
    float scale = activation_scale(s, o->percentile);
    if (mbk_quantize_rows(to->k, &wm, &qm, &scales->value) || mbk_write(to->k, input->value.data, &scale, sizeof scale))
        return mbl_kernel_failed(to->k, s->weight, e);
    return add_error(to->k, &wm, &qm, &scales->value, sum, e);
}

static int create_int8(struct mbl_model *m, struct mbl_model **out, struct mbl_error *e) {
    struct mbl_arena arena = {0};
    struct mbl_json *config = mbl_json_table(&arena), *q = mbl_json_table(&arena);
    for (size_t i = 0; i < m->config->count; i++) mbl_json_set(&arena, config, m->config->keys[i], m->config->items[i]);
    mbl_json_set(&arena, q, "scheme", mbl_json_string(&arena, "int8"));
    mbl_json_set(&arena, q, "weights", mbl_json_string(&arena, "symmetric, one scale an output channel"));
    mbl_json_set(&arena, q, "activations", mbl_json_string(&arena, "symmetric, one scale a layer"));
    mbl_json_set(&arena, config, "quantization", q);
    int status = mbl_model_create(m->k, config, out, e) || mbl_model_allocate(*out, e) ? -1 : 0;
    mbl_arena_free(&arena);
    return status;
}

void mbl_quantize_report_free(struct mbl_quantize_report *r) {
    free(r->list);
    mbl_arena_free(&r->arena);
    *r = (struct mbl_quantize_report){0};
}

int mbl_quantize(struct mbl_model *m, struct mbl_feed *f, const struct mbl_quantize_options *o, struct mbl_model **out,
                 struct mbl_quantize_report *report, struct mbl_error *e) {
    struct watcher w = {.layers = NULL};
    struct error_sum sum = {0, 0};
    int status = -1;
    *out = NULL;
    *report = (struct mbl_quantize_report){0};
    if (m->quantized) return mbl_error_set(e, "the model is quantized already");
    if (m->architecture->takes == MBL_TAKES_TOKENS) return mbl_quantize_tokens(m, f, o, out, report, e);
    if (o->type && o->type != MBK_I8) return mbl_error_set(e, "a %s is quantized to int8 alone", m->architecture->kind);
    if (m->architecture->takes == MBL_TAKES_PAIRS) return mbl_error_set(e, "a %s stays float32: there is no quantized one", m->architecture->kind);
    if (!f) return mbl_error_set(e, "a %s is calibrated on data: calibrate is missing, a part of the data", m->architecture->kind);
    if (calibrate(m, f, o->batch, &w, e) || create_int8(m, out, e)) goto done;
    for (size_t i = 0; i < w.count; i++)
        if (quantize_layer(m, *out, &w.layers[i], o, &sum, e)) goto done;
    for (size_t i = 0; i < m->parameter_count; i++) { /* biases stay as they are */
        const struct mbl_parameter *from = &m->parameters[i], *to = mbl_model_find(*out, from->name);
        if (to->value.type == from->value.type && mbk_copy(m->k, &from->value, &to->value)) {
            mbl_kernel_failed(m->k, from->name, e);
            goto done;
        }
    }
    report->layers = w.count;
    report->weight_error = sum.all > 0 ? sqrt(sum.error / sum.all) : 0;
    status = 0;
done:
    free(w.layers);
    if (status) {
        mbl_model_free(*out);
        *out = NULL;
    }
    return status;
}
