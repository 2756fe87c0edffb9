/* random.c: dropout and random numbers. Element i takes word i % 4 of the counter offset + i / 4, so any range can be made alone and every
 * device makes the same numbers. Philox is done for 16 counters at once, a lane each (mbk_philox says where it is from).
 */
#include "cpu.h"

#include <math.h>

enum { LANES = 16, WORDS = 4 * LANES };

/* The words of LANES counters from `counter` on, in the elements' order. */
static void philox_plain(uint64_t seed, uint64_t counter, uint32_t out[WORDS])
{
    uint32_t c0[LANES], c1[LANES], c2[LANES], c3[LANES];
    for (int i = 0; i < LANES; i++) {
        c0[i] = (uint32_t)(counter + (uint64_t)i);
        c1[i] = (uint32_t)((counter + (uint64_t)i) >> 32);
        c2[i] = c3[i] = 0;
    }
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < LANES; i++) {
            uint64_t p0 = (uint64_t)0xD2511F53 * c0[i], p1 = (uint64_t)0xCD9E8D57 * c2[i];
            c0[i] = (uint32_t)(p1 >> 32) ^ c1[i] ^ key0;
            c2[i] = (uint32_t)(p0 >> 32) ^ c3[i] ^ key1;
            c1[i] = (uint32_t)p1;
            c3[i] = (uint32_t)p0;
        }
        key0 += 0x9E3779B9;
        key1 += 0xBB67AE85;
    }
    for (int i = 0; i < LANES; i++) {
        out[4 * i] = c0[i];
        out[4 * i + 1] = c1[i];
        out[4 * i + 2] = c2[i];
        out[4 * i + 3] = c3[i];
    }
}

#ifdef __x86_64__
#include <immintrin.h>

/* The same, four counters in 64-bit lanes, whose lower halves are multiplied. Compilers do not find this instruction by themselves. */
__attribute__((target("avx2"))) static void philox_avx2(uint64_t seed, uint64_t counter, uint32_t out[WORDS])
{
    const __m256i low = _mm256_set1_epi64x(0xffffffff), m0 = _mm256_set1_epi64x(0xD2511F53), m1 = _mm256_set1_epi64x(0xCD9E8D57);
    __m256i c0[4], c1[4], c2[4], c3[4];
    for (int q = 0; q < 4; q++) {
        __m256i n = _mm256_add_epi64(_mm256_set1_epi64x((int64_t)(counter + 4 * (uint64_t)q)), _mm256_set_epi64x(3, 2, 1, 0));
        c0[q] = _mm256_and_si256(n, low);
        c1[q] = _mm256_srli_epi64(n, 32);
        c2[q] = c3[q] = _mm256_setzero_si256();
    }
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        __m256i k0 = _mm256_set1_epi64x(key0), k1 = _mm256_set1_epi64x(key1);
        for (int q = 0; q < 4; q++) {
            __m256i p0 = _mm256_mul_epu32(c0[q], m0), p1 = _mm256_mul_epu32(c2[q], m1);
            c0[q] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p1, 32), c1[q]), k0);
            c2[q] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p0, 32), c3[q]), k1);
            c1[q] = _mm256_and_si256(p1, low);
            c3[q] = _mm256_and_si256(p0, low);
        }
        key0 += 0x9E3779B9;
        key1 += 0xBB67AE85;
    }
    for (int q = 0; q < 4; q++) {
        __m256i first = _mm256_or_si256(c0[q], _mm256_slli_epi64(c1[q], 32)), second = _mm256_or_si256(c2[q], _mm256_slli_epi64(c3[q], 32));
        __m256i even = _mm256_unpacklo_epi64(first, second), odd = _mm256_unpackhi_epi64(first, second);
        _mm256_storeu_si256((__m256i *)(void *)(out + 16 * q), _mm256_permute2x128_si256(even, odd, 0x20));
        _mm256_storeu_si256((__m256i *)(void *)(out + 16 * q + 8), _mm256_permute2x128_si256(even, odd, 0x31));
    }
}
#endif

struct work {
    void (*philox)(uint64_t seed, uint64_t counter, uint32_t out[WORDS]);
    uint64_t seed, offset;
    const struct mbk_tensor *x, *y;
    float a, b; /* mean and deviation; least and most; rate and factor */
    void (*make)(const struct work *w, const uint32_t words[WORDS], const float *x, float *y, int64_t n);
};

/* first is a multiple of WORDS: the grain sees to it. */
static void work_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct work *w = context;
    uint32_t words[WORDS];
    float x_buffer[WORDS], y_buffer[WORDS];
    (void)worker;
    for (int64_t i = first; i < end; i += WORDS) {
        int64_t n = end - i < WORDS ? end - i : WORDS;
        w->philox(w->seed, w->offset + (uint64_t)(i / 4), words);
        float *y = cpu_out(w->y, i, y_buffer);
        w->make(w, words, w->x ? cpu_in(w->x, i, n, x_buffer) : NULL, y, n);
        cpu_put(w->y, i, n, y);
    }
}

static int run(struct mbk *k, struct work w, int cost)
{
    w.philox = philox_plain;
#ifdef __x86_64__
    if (cpu_of(k)->level >= CPU_AVX2)
        w.philox = philox_avx2;
#endif
    int64_t grain = (cpu_grain(cost) + WORDS - 1) / WORDS * WORDS;
    cpu_parallel(k, mbk_count(w.y), grain, work_body, &w);
    return 0;
}

/* -- Dropout. word / 2³² ≥ rate, in integers so that all devices agree: the least word that is kept is ⌈rate · 2³²⌉. */

CPU_CLONES static void make_dropout(const struct work *w, const uint32_t words[WORDS], const float *x, float *y, int64_t n)
{
    uint64_t least = (uint64_t)ceil((double)w->a * 4294967296.0);
    float factor = w->b;
    CPU_LOOP(i, n)
        y[i] = words[i] >= least ? x[i] * factor : 0.0f;
}

int cpu_dropout(struct mbk *k, float rate, uint64_t seed, uint64_t offset, const struct mbk_tensor *x, const struct mbk_tensor *y)
{
    return run(k, (struct work){ NULL, seed, offset, x, y, rate, 1.0f / (1.0f - rate), make_dropout }, 8);
}

/* -- Uniform: the upper 24 bits, of [0, 1). */

CPU_CLONES static void make_uniform(const struct work *w, const uint32_t words[WORDS], const float *x, float *y, int64_t n)
{
    float least = w->a, span = w->b - w->a;
    (void)x;
    CPU_LOOP(i, n)
        y[i] = least + span * ((float)(int32_t)(words[i] >> 8) * 5.9604644775390625e-8f);
}

int cpu_random_uniform(struct mbk *k, float least, float most, uint64_t seed, uint64_t offset, const struct mbk_tensor *x)
{
    return run(k, (struct work){ NULL, seed, offset, NULL, x, least, most, make_uniform }, 8);
}

/* -- Normal: Box and Muller 1958, words 0 and 1 of a counter to elements 0 and 1, 2 and 3 to 2 and 3: r cos, r sin, with r = √(−2 ln u),
 * u of (0, 1] from the first word's upper 24 bits, the angle from the second's. */

static void make_normal(const struct work *w, const uint32_t words[WORDS], const float *x, float *y, int64_t n)
{
    (void)x;
    for (int64_t i = 0; i < n; i += 2) {
        float u = (float)((words[i] >> 8) + 1) * 5.9604644775390625e-8f;
        float angle = 6.28318531f * ((float)(words[i + 1] >> 8) * 5.9604644775390625e-8f);
        float r = sqrtf(-2.0f * logf(u));
        y[i] = w->a + w->b * (r * cosf(angle));
        if (i + 1 < n)
            y[i + 1] = w->a + w->b * (r * sinf(angle));
    }
}

int cpu_random_normal(struct mbk *k, float mean, float deviation, uint64_t seed, uint64_t offset, const struct mbk_tensor *x)
{
    return run(k, (struct work){ NULL, seed, offset, NULL, x, mean, deviation, make_normal }, 64);
}
