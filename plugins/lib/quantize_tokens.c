/* quantize_tokens.c: models of tokens to weights of 8 or 4 bits; see quantize.h, and transformer_quantized.h for what comes of it.
 *
 * What is quantized: every linear layer of the body, and the embedding, as blocks. Norms, biases, tables of positions and token types, poolers
 * and encoders' heads stay floats: they are few, and what they do shows at once. A layer whose rows are no whole groups takes the next
 * finer kind that fits, or stays floats; the report says so. Data are seen in passes over the float model, as many as it takes to hold
 * second moments of no more than MOMENTS_MOST bytes.
 */
#include "quantize.h"
#include "quantize_rounding.h"
#include "transformer_quantized.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MOMENTS_MOST ((size_t)1 << 30)
enum { LEAST_GROUP = 16 };

/* A layer on its way. */
struct layer {
    const char *name;            /* without ".weight" */
    const struct mbl_parameter *from, *to;
    const struct mbl_parameter *scales; /* NULL: it has none */
    struct mbl_kept kept;
    int64_t rows, width;         /* of the quantized weight, [out, in] */
    float *moments;              /* [width, width], while they are wanted */
    size_t reported;             /* which of the report's list */
};

struct job {
    struct mbl_observer observer; /* first, so that it is the job */
    struct mbl_model *from, *to;
    struct mbl_feed *feed;       /* NULL: no data */
    const struct mbl_quantize_options *o;
    struct mbl_quantize_report *report;
    struct layer *layers;
    size_t count, cap;
    double squares, lost;        /* Σ w², Σ (w − ŵ)² of all that was quantized */
};

/* -- which layers, and how */

static int64_t common(int64_t a, int64_t b) {
    while (b) {
        const int64_t c = a % b;
        a = b;
        b = c;
    }
    return a;
}

static const char *choose(const struct mbl_quantize_options *o, const char *name, int64_t width, struct mbl_kept *out, struct mbl_arena *a) {
    const bool vocabulary = mbl_is_vocabulary(name);
    *out = (struct mbl_kept){vocabulary ? o->vocabulary : o->type, 0};
    if (!mbl_quantizable(name)) return "a head, or a table of positions or types";
    for (size_t i = 0; i < o->keep_count; i++)
        if (strstr(name, o->keep[i])) return "keep";
    if (!out->type) return "embeddings";
    if (out->type == MBK_I4) {
        out->group = common(o->group, width);
        if (out->group >= LEAST_GROUP && out->group % 2 == 0) return NULL;
        return mbl_arena_printf(a, "rows of %lld are no whole groups", (long long)width);
    }
    if (out->type == MBK_Q4_K && !mbl_kept_fits(out, width)) out->type = MBK_Q4_0;
    if (mbl_kept_fits(out, width)) return NULL;
    return mbl_arena_printf(a, "rows of %lld are no whole blocks", (long long)width);
}

static const char *stem_of(const struct mbl_parameter *p, struct mbl_arena *a) {
    const size_t n = strlen(p->name);
    if (p->rank != 2 || n < 8 || strcmp(p->name + n - 7, ".weight")) return NULL;
    return mbl_arena_strndup(a, p->name, n - 7);
}

static void list_layers(struct job *j, struct mbl_json *modules) {
    struct mbl_quantize_report *r = j->report;
    for (size_t i = 0; i < j->from->parameter_count; i++) {
        const struct mbl_parameter *p = &j->from->parameters[i];
        const char *name = stem_of(p, &r->arena);
        r->floats += name ? 0 : mbk_count(&p->value);
        if (!name) continue;
        struct layer l = {.name = name, .from = p, .rows = p->shape[p->across], .width = p->shape[!p->across], .reported = r->list_count};
        const char *why = choose(j->o, name, l.width, &l.kept, &r->arena);
        r->list = mbl_grow(r->list, &r->list_cap, r->list_count + 1, sizeof *r->list);
        r->list[r->list_count++] = (struct mbl_quantized_layer){.name = name, .kept = why ? "F32" : mbl_kept_text(&l.kept, &r->arena), .why = why,
                                                                .weights = l.rows * l.width, .bytes = l.rows * l.width * (int64_t)sizeof(float)};
        if (why) {
            r->floats += l.rows * l.width;
            continue;
        }
        mbl_json_set(&r->arena, modules, name, mbl_json_string(&r->arena, r->list[l.reported].kept));
        j->layers = mbl_grow(j->layers, &j->cap, j->count + 1, sizeof *j->layers);
        j->layers[j->count++] = l;
    }
}

/* -- the new model */

static const char *way_name(const struct job *j) {
    if (j->o->type == MBK_I8 || j->o->type == MBK_Q8_0) return "nearest";
    return j->o->rounding == MBL_ROUND_DATA ? "gptq" : j->o->rounding == MBL_ROUND_SEARCH ? "search" : "nearest";
}

static struct mbl_json *describe(struct job *j, struct mbl_json *modules) {
    struct mbl_arena *a = &j->report->arena;
    const struct mbl_kept kept = {j->o->type, j->o->type == MBK_I4 ? j->o->group : 0};
    struct mbl_json *q = mbl_json_table(a), *floats = mbl_json_list(a);
    for (size_t i = 0; i < j->report->list_count; i++)
        if (j->report->list[i].why) mbl_json_push(a, floats, mbl_json_string(a, j->report->list[i].name));
    mbl_json_set(a, q, "quant_method", mbl_json_string(a, "mbuild"));
    mbl_json_set(a, q, "bits", mbl_json_int(a, kept.type == MBK_I8 || kept.type == MBK_Q8_0 ? 8 : 4));
    mbl_json_set(a, q, "group_size", mbl_json_int(a, kept.type == MBK_I4 ? kept.group : kept.type == MBK_I8 ? -1 : mbk_block(kept.type)));
    mbl_json_set(a, q, "scheme", mbl_json_string(a, kept.type == MBK_I4 ? "int4" : mbl_kept_text(&kept, a)));
    mbl_json_set(a, q, "activations", mbl_json_string(a, kept.type == MBK_I8 ? "int8, one scale a token, dynamic" : "float"));
    mbl_json_set(a, q, "rounding", mbl_json_string(a, way_name(j)));
    mbl_json_set(a, q, "modules", modules);
    mbl_json_set(a, q, "modules_to_not_convert", floats);
    return q;
}

static int create(struct job *j, struct mbl_error *e) {
    struct mbl_arena *a = &j->report->arena;
    struct mbl_json *config = mbl_json_table(a), *modules = mbl_json_table(a);
    list_layers(j, modules);
    if (!j->count)
        return mbl_error_set(e, "no layer of the model can be quantized so: %s", j->report->list_count ? j->report->list[0].why : "it has none");
    for (size_t i = 0; i < j->from->config->count; i++) mbl_json_set(a, config, j->from->config->keys[i], j->from->config->items[i]);
    mbl_json_set(a, config, "quantization_config", describe(j, modules));
    if (mbl_model_create(j->from->k, config, &j->to, e) || mbl_model_allocate(j->to, e)) return -1;
    for (size_t i = 0; i < j->count; i++) {
        struct layer *l = &j->layers[i];
        l->to = mbl_model_find(j->to, l->from->name);
        l->scales = mbl_model_find(j->to, mbl_arena_printf(a, "%s.weight_scale", l->name));
    }
    return 0;
}

/* -- data. Rows go one by one, so that next to nothing of what is seen is padding. */

static int see(struct mbl_observer *o, struct mbk *k, const char *weight, const struct mbk_tensor *x, struct mbl_error *e) {
    struct job *j = (struct job *)(void *)o;
    for (size_t i = 0; i < j->count; i++) {
        struct layer *l = &j->layers[i];
        if (!l->moments || strcmp(l->from->name, weight)) continue;
        const struct mbk_tensor c = mbk_tensor2(l->moments, MBK_F32, l->width, l->width);
        if (mbk_matmul(k, &(struct mbk_product){.a = x, .b = x, .c = &c, .transpose_a = 1, .alpha = 1, .beta = 1}))
            return mbl_kernel_failed(k, weight, e);
    }
    return 0;
}

static int look_at_data(struct job *j, struct mbl_error *e) {
    struct mbl_feed *f = j->feed;
    const int64_t rows = f->rows < j->o->samples ? f->rows : j->o->samples;
    int status = mbl_model_reserve(j->from, 1, f->tokens.longest, false, e) || mbl_feed_reserve(f, 1, e) ? -1 : 0;
    j->observer.input = see;
    j->from->observer = &j->observer;
    for (int64_t i = 0; i < rows && !status; i++) {
        const int32_t row = (int32_t)(i * f->rows / rows); /* spread over the data */
        struct mbl_batch b = {0};
        struct mbk_tensor outputs;
        status = mbl_feed_batch(f, &row, 0, 1, &b, e) || j->from->architecture->forward(j->from, &b, &outputs, e) ? -1 : 0;
    }
    j->from->observer = NULL;
    return status;
}

/* -- weights */

static bool by_data(const struct job *j, const struct layer *l) {
    return j->o->rounding == MBL_ROUND_DATA && (l->kept.type == MBK_I4 || l->kept.type == MBK_Q4_0 || l->kept.type == MBK_Q4_K);
}

static bool by_search(const struct job *j, const struct layer *l) { /* ggml's own encoder of Q4_K searches */
    return j->o->rounding == MBL_ROUND_SEARCH && (l->kept.type == MBK_I4 || l->kept.type == MBK_Q4_0);
}

/* The weights as [out, in] on the host. */
static int read_weights(const struct layer *l, struct mbk *k, float **out, struct mbl_error *e) {
    void *raw, *turned = NULL;
    const uint64_t count = (uint64_t)(l->rows * l->width);
    *out = NULL;
    if (mbl_try_alloc(&raw, count, sizeof(float), l->name, e)) return -1;
    if (mbk_read(k, raw, l->from->value.data, count * sizeof(float))) {
        free(raw);
        return mbl_kernel_failed(k, l->name, e);
    }
    *out = raw;
    if (!l->from->across) return 0;
    if (!mbl_try_alloc(&turned, count, sizeof(float), l->name, e))
        for (int64_t r = 0; r < l->rows; r++)
            for (int64_t c = 0; c < l->width; c++) ((float *)turned)[r * l->width + c] = ((const float *)raw)[c * l->rows + r];
    free(raw);
    *out = turned;
    return turned ? 0 : -1;
}

static int by_kernels(struct mbk *k, const struct layer *l, const struct mbk_tensor *w) {
    switch (l->kept.type) {
    case MBK_I8: return mbk_quantize_rows(k, w, &l->to->value, &l->scales->value);
    case MBK_I4: return mbk_quantize_groups(k, w, (int)l->kept.group, &l->to->value, &l->scales->value);
    default: return mbk_quantize_blocks(k, w, &l->to->value);
    }
}

static int by_rounding(struct mbk *k, const struct layer *l, const float *weights, struct mbl_error *e) {
    const uint64_t count = (uint64_t)(l->rows * l->width);
    const size_t scale_bytes = l->scales ? mbk_bytes(&l->scales->value) : 0;
    void *copy, *bytes = NULL, *scales = NULL;
    int status = -1;
    if (!mbl_try_alloc(&copy, count, sizeof(float), l->name, e) && !mbl_try_alloc(&bytes, mbk_bytes(&l->to->value), 1, l->name, e) &&
        !mbl_try_alloc(&scales, scale_bytes + 1, 1, l->name, e)) {
        memcpy(copy, weights, count * sizeof(float));
        const struct mbl_rounding r = {.k = k, .type = l->kept.type, .group = l->kept.group, .rows = l->rows, .width = l->width,
                                       .weights = copy, .moments = l->moments};
        status = mbl_round_weights(&r, bytes, scales, e);
        if (!status && (mbk_write(k, l->to->value.data, bytes, mbk_bytes(&l->to->value)) ||
                        (l->scales && mbk_write(k, l->scales->value.data, scales, scale_bytes))))
            status = mbl_kernel_failed(k, l->name, e);
    }
    free(copy);
    free(bytes);
    free(scales);
    return status;
}

static int dequantize(struct mbk *k, const struct layer *l, const struct mbk_tensor *w) {
    switch (l->kept.type) {
    case MBK_I8: return mbk_dequantize_rows(k, &l->to->value, &l->scales->value, w);
    case MBK_I4: return mbk_dequantize_groups(k, &l->to->value, &l->scales->value, (int)l->kept.group, w);
    default: return mbk_dequantize_blocks(k, &l->to->value, w);
    }
}

static int compare(struct job *j, const struct layer *l, const float *weights, struct mbl_error *e) {
    struct mbk *k = j->from->k;
    struct mbl_quantized_layer *to = &j->report->list[l->reported];
    void *back;
    double squares = 0, lost = 0;
    if (mbl_try_alloc(&back, (uint64_t)(l->rows * l->width), sizeof(float), l->name, e)) return -1;
    const struct mbk_tensor w = mbk_tensor2(back, MBK_F32, l->rows, l->width);
    int status = dequantize(k, l, &w) ? mbl_kernel_failed(k, l->name, e) : 0;
    for (int64_t i = 0; i < l->rows * l->width && !status; i++) {
        const double off = (double)weights[i] - (double)((const float *)back)[i];
        squares += (double)weights[i] * (double)weights[i];
        lost += off * off;
        if (fabs(off) > to->most) to->most = fabs(off);
    }
    free(back);
    to->error = squares > 0 ? sqrt(lost / squares) : 0;
    to->bytes = (int64_t)(mbk_bytes(&l->to->value) + (l->scales ? mbk_bytes(&l->scales->value) : 0));
    if (to->most > j->report->weight_error_most) j->report->weight_error_most = to->most;
    j->squares += squares;
    j->lost += lost;
    return status;
}

static int quantize_layer(struct job *j, const struct layer *l, struct mbl_error *e) {
    struct mbk *k = j->from->k;
    float *weights;
    if (read_weights(l, k, &weights, e)) return -1;
    const struct mbk_tensor w = mbk_tensor2(weights, MBK_F32, l->rows, l->width);
    int status = l->moments || by_search(j, l) ? by_rounding(k, l, weights, e) : by_kernels(k, l, &w) ? mbl_kernel_failed(k, l->name, e) : 0;
    if (!status) status = compare(j, l, weights, e);
    free(weights);
    return status;
}

/* As many layers at a time as there is memory for what the data say of them. */
static int quantize_layers(struct job *j, struct mbl_error *e) {
    int status = 0;
    for (size_t first = 0, end; first < j->count && !status; first = end) {
        size_t bytes = 0;
        bool looks = false;
        for (end = first; end < j->count && !status; end++) {
            struct layer *l = &j->layers[end];
            const size_t more = by_data(j, l) ? (size_t)(l->width * l->width) * sizeof(float) : 0;
            if (looks && more > MOMENTS_MOST - bytes) break;
            void *moments = NULL;
            if (more) status = mbl_try_alloc(&moments, (uint64_t)(l->width * l->width), sizeof(float), l->name, e);
            l->moments = moments;
            looks |= more != 0;
            bytes = more > MOMENTS_MOST - bytes ? MOMENTS_MOST : bytes + more;
        }
        if (looks && !status) status = look_at_data(j, e);
        for (size_t i = first; i < end && !status; i++) {
            status = quantize_layer(j, &j->layers[i], e);
            if (status) mbl_error_wrap(e, "%s", j->layers[i].name);
            free(j->layers[i].moments);
            j->layers[i].moments = NULL;
        }
    }
    for (size_t i = 0; i < j->count; i++) free(j->layers[i].moments);
    return status;
}

/* What is no layer's weight stays as it is. */
static int copy_rest(struct job *j, struct mbl_error *e) {
    for (size_t i = 0; i < j->from->parameter_count; i++) {
        const struct mbl_parameter *p = &j->from->parameters[i], *to = mbl_model_find(j->to, p->name);
        if (!mbl_parameter_quantized(to) && mbk_copy(j->from->k, &p->value, &to->value)) return mbl_kernel_failed(j->from->k, p->name, e);
    }
    return 0;
}

int mbl_quantize_tokens(struct mbl_model *m, struct mbl_feed *calibrate, const struct mbl_quantize_options *o, struct mbl_model **out,
                        struct mbl_quantize_report *report, struct mbl_error *e) {
    struct mbl_quantize_options chosen = *o;
    if (o->rounding == MBL_ROUND_BEST) chosen.rounding = calibrate ? MBL_ROUND_DATA : MBL_ROUND_SEARCH;
    if (chosen.rounding == MBL_ROUND_DATA && !calibrate)
        return mbl_error_set(e, "rounding by gptq looks at data: calibrate is missing, a part of the data");
    struct job j = {.from = m, .feed = calibrate, .o = &chosen, .report = report};
    int status = create(&j, e) || copy_rest(&j, e) || quantize_layers(&j, e) ? -1 : 0;
    free(j.layers);
    if (status) {
        mbl_model_free(j.to);
        return -1;
    }
    report->layers = j.count;
    report->weight_error = j.squares > 0 ? sqrt(j.lost / j.squares) : 0;
    *out = j.to;
    return 0;
}
