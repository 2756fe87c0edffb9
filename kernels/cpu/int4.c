/* int4.c: 4-bit weights in groups along the last dimension, two to a byte, low nibble first, signed: scale = max|x| / 7, levels −7 … 7.
 * Products widen them while they pack; since rows are whole groups, all rows are one long one.
 */
#include "blocks.h"
#include "gemm.h"
#include "vec_math.h"

CPU_CLONES static float int4_most(const float *x, int64_t n)
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

/* n is even. To nearest even, by adding and taking away 1.5 · 2^23; NaN is 0. */
CPU_CLONES static void int4_encode(const float *x, float scale, uint8_t *q, int64_t n)
{
    const float magic = 12582912.0f;
    CPU_LOOP(i, n / 2) {
        float a = x[2 * i] / scale, b = x[2 * i + 1] / scale;
        a = a > 7.0f ? 7.0f : a;
        b = b > 7.0f ? 7.0f : b;
        a = a > -7.0f ? a : a <= -7.0f ? -7.0f : 0.0f;
        b = b > -7.0f ? b : b <= -7.0f ? -7.0f : 0.0f;
        int32_t low = (int32_t)((a + magic) - magic), high = (int32_t)((b + magic) - magic);
        q[i] = (uint8_t)((low & 15) | (high & 15) << 4);
    }
}

CPU_CLONES static void int4_decode(const uint8_t *q, float scale, float *to, int64_t n)
{
    CPU_LOOP(i, n / 2) {
        int32_t low = ((q[i] & 15) ^ 8) - 8, high = ((q[i] >> 4) ^ 8) - 8;
        to[2 * i] = (float)low * scale;
        to[2 * i + 1] = (float)high * scale;
    }
}

struct work {
    const struct mbk_tensor *x;
    uint8_t *q;
    float *scales, *own; /* own: a group for each worker */
    int64_t group;
};

static void encode_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct work *w = context;
    for (int64_t g = first; g < end; g++) {
        const float *x = cpu_in(w->x, g * w->group, w->group, w->own + w->group * worker);
        float scale = int4_most(x, w->group) / 7.0f;
        if (!(scale > 0))
            scale = 1.0f;
        w->scales[g] = scale;
        int4_encode(x, scale, w->q + g * w->group / 2, w->group);
    }
}

static void decode_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct work *w = context;
    for (int64_t g = first; g < end; g++) {
        float *x = cpu_out(w->x, g * w->group, w->own + w->group * worker);
        int4_decode(w->q + g * w->group / 2, w->scales[g], x, w->group);
        cpu_put(w->x, g * w->group, w->group, x);
    }
}

static int run(struct mbk *k, const struct mbk_tensor *x, int group, const struct mbk_tensor *q, const struct mbk_tensor *scales,
               cpu_body *body)
{
    size_t mark = cpu_mark(k);
    struct work w = { .x = x, .q = q->data, .scales = scales->data, .group = group };
    w.own = cpu_scratch(k, sizeof(float) * (size_t)group * (size_t)cpu_of(k)->threads);
    if (w.own)
        cpu_parallel(k, mbk_count(x) / group, cpu_grain(2 * group), body, &w);
    cpu_release(k, mark);
    return w.own ? 0 : -1;
}

int cpu_quantize_groups(struct mbk *k, const struct mbk_tensor *x, int group, const struct mbk_tensor *q, const struct mbk_tensor *scales)
{
    return run(k, x, group, q, scales, encode_body);
}

int cpu_dequantize_groups(struct mbk *k, const struct mbk_tensor *q, const struct mbk_tensor *scales, int group, const struct mbk_tensor *x)
{
    return run(k, x, group, q, scales, decode_body);
}

/* -- The linear layer. */

/* first and n are even. */
static void read_groups(const void *context, int64_t first, int64_t n, float *to)
{
    const struct work *w = context;
    while (n > 0) {
        int64_t left = w->group - first % w->group, count = n < left ? n : left;
        int4_decode(w->q + first / 2, w->scales[first / w->group], to, count);
        first += count;
        to += count;
        n -= count;
    }
}

#ifdef __x86_64__
static float dot_groups(const void *context, int64_t first, int64_t n, const float *x)
{
    const struct work *w = context;
    return cpu_int4_dot_avx512(w->q + first / 2, w->scales + first / w->group, w->group, n, x);
}
#endif

int cpu_linear_int4(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *w, const struct mbk_tensor *scales, int group,
                    const struct mbk_tensor *bias, enum mbk_activation f, const struct mbk_tensor *y)
{
    struct work groups = { .q = w->data, .scales = scales->data, .group = group };
    struct mbk_gemm g = {
        .m = mbk_row_count(x), .n = w->shape[0], .k = w->shape[1], .batch = 1, .a = x->data, .b = w->data, .c = y->data, .a_type = x->type,
        .b_type = MBK_I4, .c_type = y->type, .transpose_b = 1, .lda = w->shape[1], .ldb = w->shape[1], .ldc = w->shape[0], .alpha = 1,
        .bias = bias ? bias->data : NULL, .bias_type = bias ? bias->type : MBK_F32, .activation = f,
    };
    struct cpu_gemm_reader reader = { .read = read_groups };
#ifdef __x86_64__
    if (cpu_of(k)->level == CPU_AVX512 && group % CPU_INT4_DOT == 0)
        reader.dot = dot_groups;
#endif
    return cpu_gemm_by(k, &g, cpu_gemm_kernel_of(k), &reader, &groups);
}
