/* bpr.c: the ranking loss −log σ(positive − negative), an element at a time. */
#include "cpu.h"

#include <math.h>

struct work {
    const struct mbk_tensor *positive, *negative, *dpositive, *dnegative;
    float *losses, scale;
};

static void work_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct work *w = context;
    float p_buffer[CPU_PIECE], n_buffer[CPU_PIECE], dp_buffer[CPU_PIECE], dn_buffer[CPU_PIECE];
    (void)worker;
    for (int64_t i = first, n; i < end; i += n) {
        n = end - i < CPU_PIECE ? end - i : CPU_PIECE;
        const float *p = cpu_in(w->positive, i, n, p_buffer), *q = cpu_in(w->negative, i, n, n_buffer);
        float *dp = w->dpositive ? cpu_out(w->dpositive, i, dp_buffer) : dp_buffer;
        float *dn = w->dnegative ? cpu_out(w->dnegative, i, dn_buffer) : dn_buffer;
        for (int64_t j = 0; j < n; j++) {
            float d = p[j] - q[j], e = expf(-fabsf(d)), slope = -w->scale * (d < 0 ? 1 / (1 + e) : e / (1 + e)); /* −σ(−d) */
            w->losses[i + j] = (d > 0 ? 0 : -d) + log1pf(e);
            dp[j] = slope;
            dn[j] = -slope;
        }
        if (w->dpositive)
            cpu_put(w->dpositive, i, n, dp);
        if (w->dnegative)
            cpu_put(w->dnegative, i, n, dn);
    }
}

int cpu_bpr(struct mbk *k, const struct mbk_tensor *positive, const struct mbk_tensor *negative, float scale,
            const struct mbk_tensor *losses, const struct mbk_tensor *dpositive, const struct mbk_tensor *dnegative)
{
    struct work w = { positive, negative, dpositive, dnegative, losses->data, scale };
    cpu_parallel(k, mbk_count(losses), cpu_grain(64), work_body, &w);
    return 0;
}
