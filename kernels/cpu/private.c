/* private.c: the sum of single examples' gradients, each cut to a norm, with noise (Abadi et al. 2016). The gradients are read twice:
 * for their norms, and for the sum, in which each thread has columns of its own.
 */
#include "cpu.h"
#include "vec_math.h"

#include <math.h>

enum { BLOCK_ROWS = 64 };

CPU_CLONES static float private_squares(const float *x, int64_t n)
{
    float sum;
    VEC_SUM(sum, i, n, x[i] * x[i]);
    return sum;
}

CPU_CLONES static void private_add(const float *x, float factor, float *sum, int64_t n)
{
    CPU_LOOP(i, n)
        sum[i] += x[i] * factor;
}

struct work {
    const struct mbk_tensor *gradients, *sum;
    float most, *factors; /* what each row is multiplied with: min(1, most / norm) */
    float *noise;         /* of each column, or NULL */
};

static void factors_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct work *w = context;
    int64_t length = w->gradients->shape[1];
    float buffer[CPU_PIECE];
    (void)worker;
    for (int64_t r = first; r < end; r++) {
        double squares = 0;
        for (int64_t i = 0; i < length; i += CPU_PIECE) {
            int64_t n = length - i < CPU_PIECE ? length - i : CPU_PIECE;
            squares += (double)private_squares(cpu_in(w->gradients, r * length + i, n, buffer), n);
        }
        float norm = (float)sqrt(squares);
        w->factors[r] = norm > w->most ? w->most / norm : isnan(norm) ? norm : 1;
    }
}

static void sum_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct work *w = context;
    int64_t rows = w->gradients->shape[0], length = w->gradients->shape[1];
    float total[CPU_PIECE], block[CPU_PIECE], buffer[CPU_PIECE];
    (void)worker;
    for (int64_t c = first, n; c < end; c += n) {
        n = end - c < CPU_PIECE ? end - c : CPU_PIECE;
        memset(total, 0, sizeof total);
        for (int64_t r = 0; r < rows;) {
            memset(block, 0, sizeof block);
            for (int64_t stop = rows - r < BLOCK_ROWS ? rows : r + BLOCK_ROWS; r < stop; r++)
                private_add(cpu_in(w->gradients, r * length + c, n, buffer), w->factors[r], block, n);
            private_add(block, 1, total, n);
        }
        if (w->noise)
            private_add(w->noise + c, 1, total, n);
        float *out = cpu_out(w->sum, c, block);
        const float *before = cpu_in(w->sum, c, n, buffer);
        for (int64_t i = 0; i < n; i++)
            out[i] = before[i] + total[i];
        cpu_put(w->sum, c, n, out);
    }
}

int cpu_private_sum(struct mbk *k, const struct mbk_tensor *gradients, float most, float noise, uint64_t seed, uint64_t offset,
                    const struct mbk_tensor *sum)
{
    size_t mark = cpu_mark(k);
    int64_t rows = gradients->shape[0], length = gradients->shape[1];
    struct work w = { .gradients = gradients, .sum = sum, .most = most };
    int status = -1;
    w.factors = cpu_scratch(k, (size_t)rows * sizeof(float));
    if (w.factors && noise > 0)
        w.noise = cpu_scratch(k, (size_t)length * sizeof(float));
    if (w.factors && (w.noise || noise == 0)) {
        struct mbk_tensor t = mbk_tensor1(w.noise, MBK_F32, length);
        status = w.noise ? cpu_random_normal(k, 0, noise * most, seed, offset, &t) : 0;
        cpu_parallel(k, rows, cpu_grain(length), factors_body, &w);
        int64_t grain = cpu_grain(2 * rows);
        cpu_parallel(k, length, grain < 16 ? 16 : grain, sum_body, &w);
    }
    cpu_release(k, mark);
    return status;
}
