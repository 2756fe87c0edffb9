/* random.c: dropout and random numbers. Element i takes word i % 4 of the counter offset + i / 4, so any range can be made alone and every
 * device makes the same numbers. Philox is done for 16 counters at once, a lane each (mbk_philox says where it is from).
 */
#include "cpu.h"
#include "philox.h"
#include "vec_math.h"

#include <math.h>

/* So many words are made at once that the first have reached memory before they are read with wider vectors than they were written. */
enum { WORDS = 16 * PHILOX_WORDS };

struct work {
    cpu_philox *philox;
    uint64_t seed, offset;
    const struct mbk_tensor *x, *y;
    float a, b;     /* mean and deviation; least and most; nothing and factor */
    uint32_t least; /* the least word that dropout keeps */
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
        for (int64_t j = 0; j < n; j += PHILOX_WORDS)
            w->philox(w->seed, w->offset + (uint64_t)((i + j) / 4), words + j);
        float *y = cpu_out(w->y, i, y_buffer);
        w->make(w, words, w->x ? cpu_in(w->x, i, n, x_buffer) : NULL, y, n);
        cpu_put(w->y, i, n, y);
    }
}

static int run(struct mbk *k, struct work w, int cost)
{
    w.philox = cpu_philox_of(k);
    int64_t grain = (cpu_grain(cost) + WORDS - 1) / WORDS * WORDS;
    cpu_parallel(k, mbk_count(w.y), grain, work_body, &w);
    return 0;
}

/* -- Dropout. word / 2³² ≥ rate, in integers so that all devices agree: the least word that is kept is ⌈rate · 2³²⌉. */

CPU_CLONES static void make_dropout(const struct work *w, const uint32_t words[WORDS], const float *x, float *y, int64_t n)
{
    uint32_t least = w->least;
    float factor = w->b;
    CPU_LOOP(i, n)
        y[i] = vec_float(vec_bits(x[i] * factor) & (words[i] >= least ? 0xffffffffu : 0));
}

int cpu_dropout(struct mbk *k, float rate, uint64_t seed, uint64_t offset, const struct mbk_tensor *x, const struct mbk_tensor *y)
{
    struct work w = { .seed = seed, .offset = offset, .x = x, .y = y, .b = 1.0f / (1.0f - rate), .make = make_dropout };
    w.least = (uint32_t)ceil((double)rate * 4294967296.0); /* fits, since rate < 1 */
    return run(k, w, 8);
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
    return run(k, (struct work){ .seed = seed, .offset = offset, .y = x, .a = least, .b = most, .make = make_uniform }, 8);
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
    return run(k, (struct work){ .seed = seed, .offset = offset, .y = x, .a = mean, .b = deviation, .make = make_normal }, 64);
}
