/* rope.c: rotary positions, in Llama's layout. Angles are made in float64, since a position of many thousands leaves no digits to
 * float32, and once for all heads and all of the batch.
 */
#include "cpu.h"
#include "rope.h"

#include <math.h>

struct work {
    const struct mbk_tensor *x;
    int64_t start;
    struct mbk_rotary rotary;
    double log_base;
    int sign;
    float *turns; /* [T, 2, D / 2]: cosines, sines */
    float *own;   /* a row for each worker */
};

static void turns_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct work *w = context;
    int64_t half = w->x->shape[3] / 2;
    (void)worker;
    for (int64_t t = first; t < end; t++)
        for (int64_t i = 0; i < half; i++) {
            double angle = (double)(w->start + t) * mbk_rotary_speed(w->rotary, w->log_base, i, half);
            w->turns[(2 * t) * half + i] = (float)cos(angle);
            w->turns[(2 * t + 1) * half + i] = (float)(w->sign * sin(angle));
        }
}

CPU_CLONES static void rope_turn(float *x, float *y, const float *cosine, const float *sine, int64_t n)
{
    CPU_LOOP(i, n) {
        float a = x[i], b = y[i];
        x[i] = a * cosine[i] - b * sine[i];
        y[i] = b * cosine[i] + a * sine[i];
    }
}

/* Positions, over the batch. */
static void turn_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct work *w = context;
    int64_t times = w->x->shape[1], heads = w->x->shape[2], size = w->x->shape[3], half = size / 2;
    float *own = w->own + size * worker;
    for (int64_t p = first; p < end; p++) {
        const float *cosine = w->turns + p % times * size;
        for (int64_t row = p * heads; row < (p + 1) * heads; row++) {
            float *x = cpu_out(w->x, row * size, own);
            cpu_in(w->x, row * size, size, own);
            rope_turn(x, x + half, cosine, cosine + half, half);
            cpu_put(w->x, row * size, size, x);
        }
    }
}

int cpu_rope(struct mbk *k, const struct mbk_tensor *x, int64_t start, const struct mbk_rotary *r, int sign)
{
    size_t mark = cpu_mark(k);
    int64_t times = x->shape[1], heads = x->shape[2], size = x->shape[3];
    struct work w = { .x = x, .start = start, .rotary = *r, .log_base = log((double)r->base), .sign = sign };
    w.turns = cpu_scratch(k, sizeof(float) * (size_t)size * (size_t)(times + cpu_of(k)->threads));
    if (w.turns) {
        w.own = w.turns + times * size;
        cpu_parallel(k, times, cpu_grain(32 * size), turns_body, &w);
        cpu_parallel(k, x->shape[0] * times, cpu_grain(heads * size), turn_body, &w);
    }
    cpu_release(k, mark);
    return w.turns ? 0 : -1;
}
