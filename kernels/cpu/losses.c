/* losses.c: a loss for each row and its gradient in the same pass. A row's gradient may be written over its input. */
#include "loops.h"
#include "vec_math.h"

#include <math.h>

struct work {
    const struct cpu_loops *loops;
    const struct mbk_tensor *x, *targets, *labels, *losses, *dx; /* targets: the teacher's logits in distillation */
    float smoothing, temperature, alpha, scale;
    float (*row)(const struct work *w, int64_t r, const float *x, const float *targets, float *dx, float *room, int64_t n);
    float *own; /* six rows for each worker */
    int64_t length;
};

static void work_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct work *w = context;
    int64_t n = w->length;
    float *own = w->own + 6 * n * worker, *losses = w->losses->data;
    for (int64_t r = first; r < end; r++) {
        const float *x = cpu_in(w->x, r * n, n, own), *targets = w->targets ? cpu_in(w->targets, r * n, n, own + n) : NULL;
        float *dx = w->dx ? cpu_out(w->dx, r * n, own + 2 * n) : own + 2 * n;
        losses[r] = w->row(w, r, x, targets, dx, own + 3 * n, n);
        if (w->dx)
            cpu_put(w->dx, r * n, n, dx);
    }
}

static int run(struct mbk *k, const char *operation, struct work w)
{
    w.loops = cpu_loops_of(k);
    w.length = mbk_row_length(w.x);
    int64_t rows = mbk_row_count(w.x);
    const int32_t *labels = w.labels ? w.labels->data : NULL;
    for (int64_t r = 0; labels && r < rows; r++)
        if (labels[r] != MBK_IGNORED_LABEL && (labels[r] < 0 || labels[r] >= w.length))
            return mbk_fail(k, "%s: the label of row %lld is %d, and there are %lld classes", operation, (long long)r, (int)labels[r],
                            (long long)w.length);
    size_t mark = cpu_mark(k);
    w.own = cpu_scratch(k, 6 * sizeof(float) * (size_t)w.length * (size_t)cpu_of(k)->threads);
    if (w.own)
        cpu_parallel(k, rows, cpu_grain(4 * w.length), work_body, &w);
    cpu_release(k, mark);
    return w.own ? 0 : -1;
}

static int label_of(const struct work *w, int64_t r)
{
    return w->labels ? ((const int32_t *)w->labels->data)[r] : MBK_IGNORED_LABEL;
}

static void clear(float *dx, int64_t n)
{
    memset(dx, 0, (size_t)n * sizeof *dx);
}

/* -- Cross-entropy, labels smoothed as by Szegedy et al. 2016: −Σ q log p with q = (1 − s) [c = label] + s / C. */

CPU_CLONES static float sum_less(const float *x, float most, int64_t n)
{
    float sum;
    VEC_SUM(sum, i, n, x[i] - most);
    return sum;
}

CPU_CLONES static float greatest_logit(const float *x, int64_t n)
{
    return vec_max(x, n);
}

CPU_CLONES static void affine(float *p, float factor, float term, int64_t n)
{
    CPU_LOOP(i, n)
        p[i] = p[i] * factor - term;
}

static float cross_entropy_row(const struct work *w, int64_t r, const float *x, const float *targets, float *dx, float *room, int64_t n)
{
    int label = label_of(w, r);
    (void)targets;
    (void)room;
    if (label == MBK_IGNORED_LABEL) {
        clear(dx, n);
        return 0;
    }
    float most = greatest_logit(x, n), s = w->smoothing, at_label = x[label] - most;
    float mean = s > 0 ? sum_less(x, most, n) / (float)n : 0;
    float sum = w->loops->exponentials(x, most, 1, dx, n);
    float loss = logf(sum) - (1 - s) * at_label - (s > 0 ? s * mean : 0);
    affine(dx, w->scale / sum, w->scale * s / (float)n, n);
    dx[label] -= w->scale * (1 - s);
    return loss;
}

int cpu_cross_entropy(struct mbk *k, const struct mbk_tensor *logits, const struct mbk_tensor *labels, float smoothing, float scale,
                      const struct mbk_tensor *losses, const struct mbk_tensor *dlogits)
{
    return run(k, "cross_entropy", (struct work){ .x = logits, .labels = labels, .losses = losses, .dx = dlogits, .smoothing = smoothing,
                                                  .scale = scale, .row = cross_entropy_row });
}

/* -- Binary cross-entropy: max(x, 0) − x t + log(1 + e^−|x|), which no x overflows. */

static float bce_row(const struct work *w, int64_t r, const float *x, const float *targets, float *dx, float *room, int64_t n)
{
    float sum = 0, factor = w->scale / (float)n;
    (void)r;
    (void)room;
    for (int64_t i = 0; i < n; i++) {
        float v = x[i], t = targets[i], e = expf(-fabsf(v));
        sum += (v < 0 ? 0 : v) - v * t + log1pf(e);
        dx[i] = factor * ((v < 0 ? e / (1 + e) : 1 / (1 + e)) - t);
    }
    return sum / (float)n;
}

int cpu_bce_with_logits(struct mbk *k, const struct mbk_tensor *logits, const struct mbk_tensor *targets, float scale,
                        const struct mbk_tensor *losses, const struct mbk_tensor *dlogits)
{
    return run(k, "bce_with_logits", (struct work){ .x = logits, .targets = targets, .losses = losses, .dx = dlogits, .scale = scale,
                                                    .row = bce_row });
}

/* -- Mean squared error. */

CPU_CLONES static float mse_row(const struct work *w, int64_t r, const float *x, const float *targets, float *dx, float *room, int64_t n)
{
    float sum, factor = 2 * w->scale / (float)n;
    (void)r;
    CPU_LOOP(i, n)
        room[i] = x[i] - targets[i];
    VEC_SUM(sum, i, n, room[i] * room[i]);
    CPU_LOOP(i, n)
        dx[i] = factor * room[i];
    return sum / (float)n;
}

int cpu_mse(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *targets, float scale, const struct mbk_tensor *losses,
            const struct mbk_tensor *dx)
{
    return run(k, "mse", (struct work){ .x = x, .targets = targets, .losses = losses, .dx = dx, .scale = scale, .row = mse_row });
}

/* -- Distillation. */

/* Σ p (log p − log q) with p = e^((t − t_most) / T) / p_sum as it stands in `p`; `offset` is log q_sum − log p_sum. p = 0 counts as 0. */
static float divergence(const float *p, float p_sum, const float *t, float t_most, const float *s, float s_most, float inverse,
                        float offset,
                        int64_t n)
{
    float sum = 0;
    for (int64_t i = 0; i < n; i++)
        if (p[i] != 0)
            sum += p[i] / p_sum * (((t[i] - t_most) - (s[i] - s_most)) * inverse + offset);
    return sum;
}

CPU_CLONES static void mixed_gradient(const float *p, float p_factor, const float *q, float q_factor, const float *x, float most,
                                      float hard_factor, float *dx, int64_t n)
{
    CPU_LOOP(i, n)
        dx[i] = q[i] * q_factor - p[i] * p_factor + hard_factor * vec_exp(x[i] - most);
}

static float distillation_row(const struct work *w, int64_t r, const float *x, const float *targets, float *dx, float *room, int64_t n)
{
    int label = label_of(w, r), hard = w->alpha != 1;
    if (w->labels && label == MBK_IGNORED_LABEL) {
        clear(dx, n);
        return 0;
    }
    float temperature = w->temperature, inverse = 1 / temperature, alpha = w->alpha, *p = room, *q = room + n;
    float x_most = greatest_logit(x, n), t_most = greatest_logit(targets, n);
    float p_sum = w->loops->exponentials(targets, t_most, inverse, p, n), q_sum = w->loops->exponentials(x, x_most, inverse, q, n);
    float loss = alpha * temperature * temperature *
                 divergence(p, p_sum, targets, t_most, x, x_most, inverse, logf(q_sum) - logf(p_sum), n);
    float hard_sum = 1, soft_factor = w->scale * alpha * temperature, hard_factor = w->scale * (1 - alpha);
    if (hard) {
        hard_sum = w->loops->exponentials(x, x_most, 1, room + 2 * n, n);
        loss += (1 - alpha) * (logf(hard_sum) - (x[label] - x_most));
    }
    mixed_gradient(p, soft_factor / p_sum, q, soft_factor / q_sum, x, x_most, hard_factor / hard_sum, dx, n);
    if (hard)
        dx[label] -= hard_factor;
    return loss;
}

int cpu_distillation(struct mbk *k, const struct mbk_tensor *student, const struct mbk_tensor *teacher, const struct mbk_tensor *labels,
                     float temperature, float alpha, float scale, const struct mbk_tensor *losses, const struct mbk_tensor *dstudent)
{
    return run(k, "distillation", (struct work){ .x = student, .targets = teacher, .labels = labels, .losses = losses, .dx = dstudent,
                                                 .temperature = temperature, .alpha = alpha, .scale = scale, .row = distillation_row });
}
