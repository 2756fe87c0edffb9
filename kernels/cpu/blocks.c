/* blocks.c: GGUF's block layouts (ggml-common.h), to the bit as ggml's plain C makes them: in float32, sums in the order of the
 * elements, and no fused multiply-adds.
 *
 *   Q8_0  32 elements: half d; 32 signed bytes q.                                    x = d q
 *   Q4_0  32 elements: half d; 16 bytes, elements 0 … 15 in their lower halves.      x = d (q − 8)
 *   Q4_K  256 elements, 8 parts of 32: halves d, dmin; 6-bit scales and minima in 12 bytes; 128 bytes, of each 32 the lower halves are one
 *         part, the upper the next.                                                  x = d scale q − dmin minimum
 *
 * What is not finite becomes level 0 where ggml would do the undefined.
 */
#include "blocks.h"
#include "half.h"
#include "vec_math.h"

#include <math.h>

enum { PART = 32, PARTS = 8, Q4_K_ELEMENTS = PART * PARTS };

static uint16_t get_half(const uint8_t *from)
{
    return (uint16_t)(from[0] | from[1] << 8);
}

static void put_half(uint8_t *to, float x)
{
    uint16_t h = cpu_float_to_half(x);
    to[0] = (uint8_t)h;
    to[1] = (uint8_t)(h >> 8);
}

/* -- Q8_0. */

CPU_CLONES static void q8_0_decode(const uint8_t *block, float *to, int64_t blocks)
{
    for (int64_t b = 0; b < blocks; b++, block += 34, to += PART) {
        float d = cpu_half_to_float((uint16_t)(block[0] | block[1] << 8));
        CPU_LOOP(i, PART)
            to[i] = (float)(int8_t)block[2 + i] * d;
    }
}

/* roundf to an integer: halves go away from 0, and so what is added is the greatest number below a half. */
VEC_MATH int32_t round_away(float x)
{
    return (int32_t)(x + vec_float(vec_bits(0x1.fffffep-2f) | (vec_bits(x) & 0x80000000)));
}

/* max|x| of a part, NaN overlooked. */
VEC_MATH float part_most(const float *x)
{
    float lane[VEC_LANES];
    for (int l = 0; l < VEC_LANES; l++) {
        float a = vec_abs(x[l]), b = vec_abs(x[VEC_LANES + l]);
        a = a == a ? a : 0.0f;
        lane[l] = b > a ? b : a;
    }
    for (int width = VEC_LANES / 2; width > 0; width /= 2)
        for (int l = 0; l < width; l++)
            lane[l] = lane[l + width] > lane[l] ? lane[l + width] : lane[l];
    return lane[0];
}

CPU_CLONES static void q8_0_encode(const float *x, uint8_t *block)
{
    float most = part_most(x);
    float d = most / 127, inverse = d != 0 ? 1 / d : 0;
    put_half(block, d);
    CPU_LOOP(i, PART) {
        float v = x[i] * inverse;
        v = v > 127.0f ? 127.0f : v;
        v = v < -127.0f ? -127.0f : v;
        v = v == v ? v : 0.0f;
        block[2 + i] = (uint8_t)round_away(v);
    }
}

/* -- Q4_0. */

CPU_CLONES static void q4_0_decode(const uint8_t *block, float *to, int64_t blocks)
{
    for (int64_t b = 0; b < blocks; b++, block += 18, to += PART) {
        float d = cpu_half_to_float((uint16_t)(block[0] | block[1] << 8));
        CPU_LOOP(i, PART / 2)
            to[i] = (float)((block[2 + i] & 15) - 8) * d;
        CPU_LOOP(i, PART / 2)
            to[PART / 2 + i] = (float)((block[2 + i] >> 4) - 8) * d;
    }
}

CPU_CLONES static void q4_0_encode(const float *x, uint8_t *block)
{
    int level[PART], at = 0;
    float most = part_most(x);
    while (at < PART - 1 && vec_abs(x[at]) != most)
        at++;
    float d = (most > 0 ? x[at] : 0) / -8, inverse = d != 0 ? 1 / d : 0;
    put_half(block, d);
    CPU_LOOP(i, PART) {
        float v = x[i] * inverse + 8.5f;
        v = v > 0.0f ? v : 0.0f;
        level[i] = (int)(v > 15.0f ? 15.0f : v);
    }
    for (int i = 0; i < PART / 2; i++)
        block[2 + i] = (uint8_t)(level[i] | level[PART / 2 + i] << 4);
}

/* -- Q4_K. */

static void put_scales(uint8_t *packed, const uint8_t scales[PARTS], const uint8_t minima[PARTS])
{
    for (int p = 0; p < 4; p++) {
        packed[p] = (uint8_t)(scales[p] | scales[4 + p] >> 4 << 6);
        packed[4 + p] = (uint8_t)(minima[p] | minima[4 + p] >> 4 << 6);
        packed[8 + p] = (uint8_t)((scales[4 + p] & 15) | (minima[4 + p] & 15) << 4);
    }
}

CPU_CLONES static void q4_k_parts(const uint8_t *levels, float low_factor, float low_less, float high_factor, float high_less, float *to)
{
    CPU_LOOP(i, PART)
        to[i] = low_factor * (float)(levels[i] & 15) - low_less;
    CPU_LOOP(i, PART)
        to[PART + i] = high_factor * (float)(levels[i] >> 4) - high_less;
}

static void q4_k_decode(const uint8_t *block, float *to, int64_t blocks)
{
    for (int64_t b = 0; b < blocks; b++, block += 144, to += Q4_K_ELEMENTS) {
        uint8_t scales[PARTS], minima[PARTS];
        float d = cpu_half_to_float(get_half(block)), dmin = cpu_half_to_float(get_half(block + 2));
        cpu_q4_k_scales(block + 4, scales, minima);
        for (int p = 0; p < PARTS; p += 2)
            q4_k_parts(block + 16 + p / 2 * PART, d * (float)scales[p], dmin * (float)minima[p], d * (float)scales[p + 1],
                       dmin * (float)minima[p + 1], to + p * PART);
    }
}

/* The parts of a block side by side, so that each lane sums its own part in the order of its elements. */
struct lanes {
    float x[PART][PARTS], weight[PART][PARTS], level[PART][PARTS]; /* level: of the best try so far */
    float least[PARTS], most[PARTS], scale[PARTS];
    float sum_w[PARTS], sum_x[PARTS], best[PARTS];
};

/* To nearest even, within 0 … 15; NaN is 0. */
VEC_MATH float level_of(float x)
{
    const float magic = 12582912.0f; /* 1.5 · 2^23 */
    x = x > 0.0f ? x : 0.0f;
    x = x < 15.0f ? x : 15.0f;
    return (x + magic) - magic;
}

CPU_CLONES static void q4_k_begin(struct lanes *s)
{
    float squares[PARTS] = { 0 };
    for (int i = 0; i < PART; i++)
        CPU_LOOP(p, PARTS)
            squares[p] += s->x[i][p] * s->x[i][p];
    for (int p = 0; p < PARTS; p++)
        squares[p] = sqrtf(squares[p] / PART);
    for (int i = 0; i < PART; i++)
        CPU_LOOP(p, PARTS)
            s->weight[i][p] = squares[p] + vec_abs(s->x[i][p]);
    for (int i = 0; i < PART; i++)
        CPU_LOOP(p, PARTS) {
            float v = s->x[i][p], w = s->weight[i][p];
            s->least[p] = i == 0 || v < s->least[p] ? v : s->least[p];
            s->most[p] = i == 0 || v > s->most[p] ? v : s->most[p];
            s->sum_w[p] = i == 0 ? w : s->sum_w[p] + w;
            s->sum_x[p] = i == 0 ? w * v : s->sum_x[p] + w * v;
        }
    CPU_LOOP(p, PARTS) {
        s->least[p] = s->least[p] > 0 ? 0 : s->least[p];
        s->scale[p] = 1 / (15 / (s->most[p] - s->least[p]));
        s->best[p] = 0;
    }
    float inverse[PARTS];
    CPU_LOOP(p, PARTS)
        inverse[p] = 15 / (s->most[p] - s->least[p]);
    for (int i = 0; i < PART; i++)
        CPU_LOOP(p, PARTS) {
            float l = level_of(inverse[p] * (s->x[i][p] - s->least[p])), off = s->scale[p] * l + s->least[p] - s->x[i][p];
            s->level[i][p] = l;
            s->best[p] += s->weight[i][p] * (off * off);
        }
}

/* Levels of another step; where all elements are the same, they stay 0, and so does the scale, as 1 / (15 / 0). The scale and minimum
 * that then lose the least are found by least squares, and kept where they lose less than the best. */
CPU_CLONES static void q4_k_try(struct lanes *s, float steps)
{
    float level[PART][PARTS], inverse[PARTS], sum_l[PARTS] = { 0 }, sum_l2[PARTS] = { 0 }, sum_xl[PARTS] = { 0 };
    CPU_LOOP(p, PARTS)
        inverse[p] = steps / (s->most[p] - s->least[p]);
    for (int i = 0; i < PART; i++)
        CPU_LOOP(p, PARTS) {
            float l = level_of(inverse[p] * (s->x[i][p] - s->least[p])), wl = s->weight[i][p] * l;
            level[i][p] = l;
            sum_l[p] += wl;
            sum_l2[p] += wl * l;
            sum_xl[p] += wl * s->x[i][p];
        }
    float scale[PARTS], least[PARTS], lost[PARTS] = { 0 };
    uint32_t better[PARTS], any = 0;
    CPU_LOOP(p, PARTS) {
        float determinant = s->sum_w[p] * sum_l2[p] - sum_l[p] * sum_l[p];
        float a = (s->sum_w[p] * sum_xl[p] - s->sum_x[p] * sum_l[p]) / determinant;
        float b = (sum_l2[p] * s->sum_x[p] - sum_l[p] * sum_xl[p]) / determinant;
        scale[p] = b > 0 ? sum_xl[p] / sum_l2[p] : a;
        least[p] = b > 0 ? 0 : b;
        better[p] = determinant > 0 ? 1 : 0;
    }
    for (int i = 0; i < PART; i++)
        CPU_LOOP(p, PARTS) {
            float off = scale[p] * level[i][p] + least[p] - s->x[i][p];
            lost[p] += s->weight[i][p] * (off * off);
        }
    for (int p = 0; p < PARTS; p++) {
        better[p] &= lost[p] < s->best[p] ? 1u : 0u;
        any |= better[p];
    }
    if (!any)
        return;
    for (int i = 0; i < PART; i++)
        CPU_LOOP(p, PARTS)
            s->level[i][p] = better[p] ? level[i][p] : s->level[i][p];
    CPU_LOOP(p, PARTS) {
        s->best[p] = better[p] ? lost[p] : s->best[p];
        s->scale[p] = better[p] ? scale[p] : s->scale[p];
        s->least[p] = better[p] ? least[p] : s->least[p];
    }
}

/* Six bits of a scale or minimum. */
static uint8_t six_bits(float factor, float x)
{
    float v = rintf(factor * x);
    return (uint8_t)(v > 63 ? 63 : v > 0 ? v : 0);
}

static void q4_k_encode(const float *x, uint8_t *block)
{
    struct lanes s;
    uint8_t scales[PARTS], minima[PARTS];
    float most_scale = 0, most_minimum = 0;
    for (int i = 0; i < Q4_K_ELEMENTS; i++)
        s.x[i % PART][i / PART] = x[i];
    q4_k_begin(&s);
    for (int step = 0; step <= 20; step++)
        q4_k_try(&s, -1.0f + 0.1f * (float)step + 15.0f);
    for (int p = 0; p < PARTS; p++) {
        most_scale = s.scale[p] > most_scale ? s.scale[p] : most_scale;
        most_minimum = -s.least[p] > most_minimum ? -s.least[p] : most_minimum;
    }
    float to_scale = most_scale > 0 ? 63 / most_scale : 0, to_minimum = most_minimum > 0 ? 63 / most_minimum : 0;
    for (int p = 0; p < PARTS; p++) {
        scales[p] = six_bits(to_scale, s.scale[p]);
        minima[p] = six_bits(to_minimum, -s.least[p]);
    }
    put_half(block, most_scale / 63);
    put_half(block + 2, most_minimum / 63);
    put_scales(block + 4, scales, minima);
    float d = cpu_half_to_float(get_half(block)), dmin = cpu_half_to_float(get_half(block + 2));
    for (int p = 0; p < PARTS; p++) { /* the levels for the scales as they are now */
        float factor = d * (float)scales[p], less = dmin * (float)minima[p];
        for (int i = 0; factor != 0 && i < PART; i++)
            s.level[i][p] = level_of((x[p * PART + i] + less) / factor);
    }
    for (int p = 0; p < PARTS; p += 2)
        for (int i = 0; i < PART; i++)
            block[16 + p / 2 * PART + i] = (uint8_t)((int)s.level[i][p] | (int)s.level[i][p + 1] << 4);
}

/* -- All of them. */

static const struct format {
    int64_t elements, bytes;
    void (*encode)(const float *x, uint8_t *block);
    void (*decode)(const uint8_t *block, float *to, int64_t blocks);
} formats[] = {
    [MBK_Q8_0] = { PART, 34, q8_0_encode, q8_0_decode },
    [MBK_Q4_0] = { PART, 18, q4_0_encode, q4_0_decode },
    [MBK_Q4_K] = { Q4_K_ELEMENTS, 144, q4_k_encode, q4_k_decode },
};

void cpu_blocks_to_floats(enum mbk_type type, const void *data, int64_t first, int64_t n, float *to)
{
    const struct format *f = &formats[type];
    f->decode((const uint8_t *)data + first / f->elements * f->bytes, to, n / f->elements);
}

struct work {
    const struct mbk_tensor *x, *q;
};

static void encode_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct work *w = context;
    const struct format *f = &formats[w->q->type];
    float buffer[Q4_K_ELEMENTS];
    (void)worker;
    for (int64_t b = first; b < end; b++)
        f->encode(cpu_in(w->x, b * f->elements, f->elements, buffer), (uint8_t *)w->q->data + b * f->bytes);
}

static void decode_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct work *w = context;
    const struct format *f = &formats[w->q->type];
    float buffer[CPU_PIECE];
    int64_t piece = CPU_PIECE / f->elements;
    (void)worker;
    for (int64_t b = first; b < end; b += piece) {
        int64_t n = end - b < piece ? end - b : piece;
        float *to = cpu_out(w->x, b * f->elements, buffer);
        f->decode((const uint8_t *)w->q->data + b * f->bytes, to, n);
        cpu_put(w->x, b * f->elements, n * f->elements, to);
    }
}

int cpu_quantize_blocks(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *q)
{
    struct work w = { x, q };
    int64_t elements = formats[q->type].elements;
    cpu_parallel(k, mbk_count(x) / elements, cpu_grain((q->type == MBK_Q4_K ? 64 : 4) * elements), encode_body, &w);
    return 0;
}

int cpu_dequantize_blocks(struct mbk *k, const struct mbk_tensor *q, const struct mbk_tensor *x)
{
    struct work w = { x, q };
    int64_t elements = formats[q->type].elements;
    cpu_parallel(k, mbk_count(x) / elements, cpu_grain(elements), decode_body, &w);
    return 0;
}
