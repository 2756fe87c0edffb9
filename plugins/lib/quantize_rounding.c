/* quantize_rounding.c: see quantize_rounding.h.
 *
 * Levels and what they stand for are the same in all three types: value = scale · level − less, a scale and a less for each part of a row (an
 * int4 group, 32 elements of a block), levels in −8 … 7, of Q4_K in 0 … 15. Scales are chosen when their part's turn comes, from weights
 * that have made up already for the errors of the columns before.
 */
#include "quantize_rounding.h"

#include "memory.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { PART = 32, Q4_0_BYTES = 18, Q4_K_ELEMENTS = 256, Q4_K_BYTES = 144, Q4_K_HEAD = 16, COLUMNS = 128, TRIES = 19 };
#define DAMPING 0.01             /* of the mean of the moments' diagonal, added to it */

struct work {
    const struct mbl_rounding *r;
    int64_t part, span, block;   /* columns: that share a scale, whose scales are chosen at once, that are done before the rest is updated */
    int64_t parts;               /* of a row */
    float *scale, *less;         /* [rows, parts] */
    int8_t *levels;              /* [rows, width] */
    uint8_t *heads;              /* of Q4_K: [rows, width / 256, 16], a block's scales */
    float *importance;           /* [width]: what a squared error in a column counts */
    float *factor;               /* [width, width], upper triangle: the Cholesky factor U of the moments' inverse, UᵀU; or NULL */
    float *lost;                 /* [rows, block]: of the block's columns */
    float *pieces;               /* of Q4_K: [rows, 256] */
    uint8_t *packed;             /* and as blocks */
};

/* -- halves, as the blocks have them; rounding is to nearest even */

static uint16_t to_half(float x) {
    uint32_t bits, sign;
    memcpy(&bits, &x, sizeof bits);
    sign = bits >> 16 & 0x8000;
    const float a = fabsf(x);
    if (a == 0) return (uint16_t)sign;
    if (a >= 65520) return (uint16_t)(sign | 0x7bff); /* the greatest number, not infinity */
    int exponent = 0;
    frexpf(a, &exponent);
    if (exponent < -13) exponent = -13;
    const int units = (int)nearbyintf(ldexpf(a, 11 - exponent)); /* 1024 … 2048, or fewer of a subnormal */
    return (uint16_t)(sign | (uint32_t)(((exponent + 13) << 10) + units));
}

static float from_half(uint16_t h) {
    const int field = h >> 10 & 31, low = h & 1023;
    const float a = field ? ldexpf((float)(low + 1024), field - 25) : ldexpf((float)low, -24);
    return h & 0x8000 ? -a : a;
}

/* -- scales */

static int level_of(float x, int least, int most) {
    const float magic = 12582912.0f; /* 1.5 · 2^23: adding and taking it away rounds to nearest even */
    x = x > (float)least ? x : (float)least;
    x = x < (float)most ? x : (float)most;
    return (int)((x + magic) - magic);
}

/* The scale whose levels, −8 … 7, lose the least of Σ importance · (x − scale · level)². Each try is a step that makes the largest |x|
 * about ±8 or 7; of its levels the best scale is known. `either`: it may be below 0. */
static float best_scale(const float *x, const float *importance, int64_t n, bool either) {
    float most = 0, best = 0, scale = 0;
    for (int64_t i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(most)) most = x[i];
    if (most == 0 || !isfinite(most)) return 0;
    for (int sign = 1; sign >= (either ? -1 : 1); sign -= 2)
        for (int t = 0; t < TRIES; t++) {
            const float end = (float)sign * most < 0 ? 8 : 7, inverse = (float)sign * (end + 0.15f * (float)(t - TRIES / 2)) / fabsf(most);
            float xl = 0, ll = 0;
            for (int64_t i = 0; i < n; i++) {
                const float l = (float)level_of(inverse * x[i], -8, 7), wl = importance[i] * l;
                xl += wl * x[i];
                ll += wl * l;
            }
            if (!(ll > 0) || !(xl * xl > best * ll)) continue;
            best = xl * xl / ll;
            scale = xl / ll;
        }
    return scale;
}

static void choose_scale(struct work *w, int64_t row, int64_t column) {
    const struct mbl_rounding *r = w->r;
    const bool halves = r->type == MBK_Q4_0;
    float scale = best_scale(r->weights + row * r->width + column, w->importance + column, w->part, halves);
    if (halves) scale = from_half(to_half(scale));
    else if (!(scale > 0)) scale = 1; /* a group of zeroes */
    w->scale[row * w->parts + column / w->part] = scale;
}

/* Of Q4_K the scales are those that ggml's search finds for the weights as they are now. */
static int choose_block_scales(struct work *w, int64_t column, struct mbl_error *e) {
    const struct mbl_rounding *r = w->r;
    for (int64_t row = 0; row < r->rows; row++)
        memcpy(w->pieces + row * Q4_K_ELEMENTS, r->weights + row * r->width + column, Q4_K_ELEMENTS * sizeof(float));
    const struct mbk_tensor x = mbk_tensor2(w->pieces, MBK_F32, r->rows, Q4_K_ELEMENTS),
                            q = mbk_tensor2(w->packed, MBK_Q4_K, r->rows, Q4_K_ELEMENTS);
    if (mbk_quantize_blocks(r->k, &x, &q)) return mbl_error_set(e, "%s", mbk_error(r->k));
    for (int64_t row = 0; row < r->rows; row++) {
        const uint8_t *b = w->packed + row * Q4_K_BYTES, *s = b + 4;
        memcpy(w->heads + (row * (r->width / Q4_K_ELEMENTS) + column / Q4_K_ELEMENTS) * Q4_K_HEAD, b, Q4_K_HEAD);
        const float d = from_half((uint16_t)(b[0] | b[1] << 8)), dmin = from_half((uint16_t)(b[2] | b[3] << 8));
        for (int p = 0; p < 8; p++) { /* six bits each, in twelve bytes (ggml's get_scale_min_k4) */
            const int scale = p < 4 ? s[p] & 63 : (s[p + 4] & 15) | (s[p - 4] >> 6) << 4;
            const int least = p < 4 ? s[p + 4] & 63 : s[p + 4] >> 4 | (s[p] >> 6) << 4;
            w->scale[row * w->parts + column / PART + p] = d * (float)scale;
            w->less[row * w->parts + column / PART + p] = dmin * (float)least;
        }
    }
    return 0;
}

/* -- levels */

/* The columns of one span, of one row. What each loses goes, as U says, to the columns behind it, up to the block's end. */
static void round_span(struct work *w, int64_t row, int64_t first, int64_t begin, int64_t end) {
    const struct mbl_rounding *r = w->r;
    float *x = r->weights + row * r->width;
    const bool unsigned_levels = r->type == MBK_Q4_K;
    for (int64_t c = begin; c < begin + w->span; c++) {
        const float scale = w->scale[row * w->parts + c / w->part], less = w->less[row * w->parts + c / w->part];
        const int level = scale != 0 ? level_of((x[c] + less) / scale, unsigned_levels ? 0 : -8, unsigned_levels ? 15 : 7) : 0;
        w->levels[row * r->width + c] = (int8_t)level;
        if (!w->factor) continue;
        const float *u = w->factor + c * r->width, lost = (x[c] - (scale * (float)level - less)) / u[c];
        w->lost[row * w->block + c - first] = lost;
        for (int64_t j = c + 1; j < end; j++) x[j] -= lost * u[j];
    }
}

/* The rest of all rows, by the kernels: weights −= lost · U. */
static int update_rest(struct work *w, int64_t first, int64_t end, struct mbl_error *e) {
    const struct mbl_rounding *r = w->r;
    if (!w->factor || end == r->width) return 0;
    const struct mbk_tensor lost = mbk_tensor2(w->lost, MBK_F32, r->rows, end - first),
                            u = mbk_tensor2(w->factor + first * r->width + end, MBK_F32, end - first, r->width - end),
                            rest = mbk_tensor2(r->weights + end, MBK_F32, r->rows, r->width - end);
    const struct mbk_product p = {.a = &lost, .b = &u, .c = &rest, .alpha = -1, .beta = 1, .lda = w->block, .ldb = r->width, .ldc = r->width};
    return mbk_matmul(r->k, &p) ? mbl_error_set(e, "%s", mbk_error(r->k)) : 0;
}

static int round_all(struct work *w, struct mbl_error *e) {
    const struct mbl_rounding *r = w->r;
    for (int64_t first = 0; first < r->width; first += w->block) {
        const int64_t end = first + w->block < r->width ? first + w->block : r->width;
        for (int64_t begin = first; begin < end; begin += w->span) {
            if (r->type == MBK_Q4_K && choose_block_scales(w, begin, e)) return -1;
            for (int64_t row = 0; row < r->rows; row++) {
                if (r->type != MBK_Q4_K) choose_scale(w, row, begin);
                round_span(w, row, first, begin, end);
            }
        }
        if (update_rest(w, first, end, e)) return -1;
    }
    return 0;
}

/* -- bytes */

static void pack(const struct work *w, uint8_t *bytes, float *scales) {
    const struct mbl_rounding *r = w->r;
    const int8_t *l = w->levels;
    const int64_t count = r->rows * r->width;
    switch (r->type) {
    case MBK_I4:
        for (int64_t i = 0; i < count; i += 2) bytes[i / 2] = (uint8_t)((l[i] & 15) | (l[i + 1] & 15) << 4);
        memcpy(scales, w->scale, (size_t)(r->rows * w->parts) * sizeof *scales);
        return;
    case MBK_Q4_0:
        for (int64_t b = 0; b < count / PART; b++, l += PART, bytes += Q4_0_BYTES) {
            const uint16_t d = to_half(w->scale[b]);
            bytes[0] = (uint8_t)d;
            bytes[1] = (uint8_t)(d >> 8);
            for (int i = 0; i < PART / 2; i++) bytes[2 + i] = (uint8_t)((l[i] + 8) | (l[PART / 2 + i] + 8) << 4);
        }
        return;
    default:
        for (int64_t b = 0; b < count / Q4_K_ELEMENTS; b++, l += Q4_K_ELEMENTS, bytes += Q4_K_BYTES) {
            memcpy(bytes, w->heads + b * Q4_K_HEAD, Q4_K_HEAD);
            for (int i = 0; i < Q4_K_ELEMENTS / 2; i++) {
                const int at = i / PART * 2 * PART + i % PART; /* of 64 elements the first half are the lower nibbles */
                bytes[Q4_K_HEAD + i] = (uint8_t)(l[at] | l[at + PART] << 4);
            }
        }
    }
}

/* -- the factor */

static double dot(const double *a, const double *b, int64_t n) {
    double lane[8] = {0};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; j++) lane[j] += a[i + j] * b[i + j];
    for (; i < n; i++) lane[0] += a[i] * b[i];
    return ((lane[0] + lane[4]) + (lane[1] + lane[5])) + ((lane[2] + lane[6]) + (lane[3] + lane[7]));
}

/* H = R Rᵀ with R upper triangular, in place, from the last row up; so H⁻¹ = UᵀU with U = R⁻¹, without the inverse itself. */
static int factorize(double *h, int64_t n, struct mbl_error *e) {
    for (int64_t i = n - 1; i >= 0; i--) {
        const double square = h[i * n + i] - dot(h + i * n + i + 1, h + i * n + i + 1, n - i - 1);
        if (!(square > 0)) return mbl_error_set(e, "the calibration data say too little: their second moments have no inverse");
        const double root = sqrt(square);
        h[i * n + i] = root;
        for (int64_t j = 0; j < i; j++)
            h[j * n + i] = (h[j * n + i] - dot(h + j * n + i + 1, h + i * n + i + 1, n - i - 1)) / root;
    }
    return 0;
}

/* The inverse of an upper triangle, row by row from the last: U[i] = −(Σ R[i, k] U[k]) / R[i, i]. `u` has as much room. */
static void invert(const double *r, double *u, int64_t n) {
    for (int64_t i = n - 1; i >= 0; i--) {
        double *to = u + i * n;
        memset(to, 0, (size_t)n * sizeof *to);
        for (int64_t k = i + 1; k < n; k++) {
            const double by = r[i * n + k], *from = u + k * n;
            for (int64_t j = k; j < n; j++) to[j] += by * from[j];
        }
        const double by = -1 / r[i * n + i];
        for (int64_t j = i + 1; j < n; j++) to[j] *= by;
        to[i] = -by;
    }
}

static int make_factor(struct work *w, struct mbl_error *e) {
    const int64_t n = w->r->width;
    void *h, *u = NULL;
    double sum = 0;
    if (mbl_try_alloc(&h, (uint64_t)n * (uint64_t)n, sizeof(double), "second moments", e) ||
        mbl_try_alloc(&u, (uint64_t)n * (uint64_t)n, sizeof(double), "second moments", e)) {
        free(h);
        return -1;
    }
    double *a = h, *b = u;
    for (int64_t i = 0; i < n * n; i++) a[i] = (double)w->r->moments[i];
    for (int64_t i = 0; i < n; i++) sum += a[i * n + i];
    int status = isfinite(sum) ? 0 : mbl_error_set(e, "what goes into it is no finite number on the calibration data");
    for (int64_t i = 0; i < n && sum > 0; i++) {
        a[i * n + i] += DAMPING * sum / (double)n;
        w->importance[i] = (float)(a[i * n + i] * (double)n / sum);
    }
    const bool seen = sum > 0; /* an embedding that is no output layer is in no product: then as without data */
    if (!status && seen) status = factorize(a, n, e);
    if (!status && seen) {
        invert(a, b, n);
        w->factor = w->r->moments;
        for (int64_t i = 0; i < n * n; i++) w->factor[i] = (float)b[i];
    }
    free(h);
    free(u);
    return status;
}

/* -- all of it */

static void *take(struct mbl_arena *a, int64_t count, size_t size) {
    return mbl_arena_alloc(a, (size_t)count * size + 64);
}

int mbl_round_weights(const struct mbl_rounding *r, uint8_t *bytes, float *scales, struct mbl_error *e) {
    struct mbl_arena a = {0};
    struct work w = {.r = r, .part = r->type == MBK_I4 ? r->group : PART};
    w.span = r->type == MBK_Q4_K ? Q4_K_ELEMENTS : w.part;
    w.block = w.span < COLUMNS ? COLUMNS / w.span * w.span : w.span;
    w.parts = r->width / w.part;
    w.scale = take(&a, r->rows * w.parts, sizeof(float));
    w.less = take(&a, r->rows * w.parts, sizeof(float));
    w.levels = take(&a, r->rows * r->width, 1);
    w.importance = take(&a, r->width, sizeof(float));
    w.lost = take(&a, r->moments ? r->rows * w.block : 0, sizeof(float));
    if (r->type == MBK_Q4_K) {
        w.heads = take(&a, r->rows * (r->width / Q4_K_ELEMENTS), Q4_K_HEAD);
        w.pieces = take(&a, r->rows * Q4_K_ELEMENTS, sizeof(float));
        w.packed = take(&a, r->rows, Q4_K_BYTES);
    }
    for (int64_t i = 0; i < r->width; i++) w.importance[i] = 1;
    int status = (r->moments && make_factor(&w, e)) || round_all(&w, e) ? -1 : 0;
    if (!status) pack(&w, bytes, scales);
    mbl_arena_free(&a);
    return status;
}
