/* quantize.c: floats to 8 bits and back, a scale for each row or one for all. Symmetric: 0 stays 0, and −128 is not used. */
#include "cpu.h"
#include "vec_math.h"

/* max|x|, NaN overlooked */
CPU_CLONES static float greatest_magnitude(const float *x, int64_t n)
{
    float lane[VEC_LANES] = { 0 };
    int64_t i = 0;
    for (; i + VEC_LANES <= n; i += VEC_LANES)
        for (int l = 0; l < VEC_LANES; l++) {
            float a = vec_abs(x[i + l]);
            lane[l] = a > lane[l] ? a : lane[l];
        }
    for (; i < n; i++) {
        float a = vec_abs(x[i]);
        lane[0] = a > lane[0] ? a : lane[0];
    }
    for (int l = 1; l < VEC_LANES; l++)
        lane[0] = lane[l] > lane[0] ? lane[l] : lane[0];
    return lane[0];
}

/* To nearest even by adding and taking away 1.5 · 2²³, after cutting to ±127; NaN becomes 0. */
CPU_CLONES static void quantize_loop(const float *x, float scale, int8_t *q, int64_t n)
{
    const float magic = 12582912.0f;
    CPU_LOOP(i, n) {
        float v = x[i] / scale;
        v = v > 127.0f ? 127.0f : v;
        v = v < -127.0f ? -127.0f : v;
        v = v == v ? v : 0.0f;
        q[i] = (int8_t)(int32_t)((v + magic) - magic);
    }
}

CPU_CLONES static void dequantize_loop(const int8_t *q, float scale, float *x, int64_t n)
{
    CPU_LOOP(i, n)
        x[i] = (float)q[i] * scale;
}

struct work {
    const struct mbk_tensor *x;
    int8_t *q;
    float *scales;      /* of each row; NULL: `scale` for all */
    float scale, *own;  /* own: a row for each worker */
    int64_t length;
};

static void quantize_rows_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct work *w = context;
    for (int64_t r = first; r < end; r++) {
        const float *x = cpu_in(w->x, r * w->length, w->length, w->own + w->length * worker);
        float most = greatest_magnitude(x, w->length), scale = most > 0 ? most / 127.0f : 1.0f;
        if (!(scale > 0))
            scale = 1.0f; /* so small that a 127th of it is 0 */
        w->scales[r] = scale;
        quantize_loop(x, scale, w->q + r * w->length, w->length);
    }
}

static void dequantize_rows_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct work *w = context;
    for (int64_t r = first; r < end; r++) {
        float *x = cpu_out(w->x, r * w->length, w->own + w->length * worker);
        dequantize_loop(w->q + r * w->length, w->scales[r], x, w->length);
        cpu_put(w->x, r * w->length, w->length, x);
    }
}

static int run_rows(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *q, const struct mbk_tensor *scales, cpu_body *body)
{
    size_t mark = cpu_mark(k);
    struct work w = { .x = x, .q = q->data, .scales = scales->data, .length = mbk_row_length(x) };
    w.own = cpu_scratch(k, (size_t)w.length * (size_t)cpu_of(k)->threads * sizeof(float));
    if (w.own)
        cpu_parallel(k, mbk_row_count(x), cpu_grain(2 * w.length), body, &w);
    cpu_release(k, mark);
    return w.own ? 0 : -1;
}

int cpu_quantize_rows(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *q, const struct mbk_tensor *scales)
{
    return run_rows(k, x, q, scales, quantize_rows_body);
}

int cpu_dequantize_rows(struct mbk *k, const struct mbk_tensor *q, const struct mbk_tensor *scales, const struct mbk_tensor *x)
{
    return run_rows(k, x, q, scales, dequantize_rows_body);
}

static void quantize_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct work *w = context;
    float buffer[CPU_PIECE];
    (void)worker;
    for (int64_t i = first; i < end; i += CPU_PIECE) {
        int64_t n = end - i < CPU_PIECE ? end - i : CPU_PIECE;
        quantize_loop(cpu_in(w->x, i, n, buffer), w->scale, w->q + i, n);
    }
}

int cpu_quantize(struct mbk *k, const struct mbk_tensor *x, float scale, const struct mbk_tensor *q)
{
    struct work w = { .x = x, .q = q->data, .scale = scale };
    cpu_parallel(k, mbk_count(x), cpu_grain(1), quantize_body, &w);
    return 0;
}
