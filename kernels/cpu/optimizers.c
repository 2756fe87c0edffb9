/* optimizers.c: one pass over all parameters as if they were one long row, so that many small ones cost no more than a large one. */
#include "cpu.h"
#include "vec_math.h"

#include <math.h>

enum { PIECE = 1024 };

struct step {
    const struct mbk_parameter *parameters;
    int count;
    int64_t *starts; /* where each parameter starts in the long row; count + 1 of them */
    const struct mbk_adam *adam;
    const struct mbk_sgd *sgd;
    float gradient_scale, first_correction, second_correction;
};

/* -- The arithmetic, a piece at a time. p is what is updated, in float32. */

CPU_CLONES static void adam_loop(const struct step *s, float decay, float *p, const float *gradient, float *first, float *second, int64_t n)
{
    float beta1 = s->adam->beta1, beta2 = s->adam->beta2, lr = s->adam->lr, eps = s->adam->eps, scale = s->gradient_scale;
    float rest1 = 1 - beta1, rest2 = 1 - beta2, correct1 = s->first_correction, correct2 = s->second_correction;
    float coupled = s->adam->coupled ? decay : 0, decoupled = s->adam->coupled ? 0 : decay;
    CPU_LOOP(i, n) {
        float g = gradient[i] * scale + coupled * p[i];
        float m = beta1 * first[i] + rest1 * g, v = beta2 * second[i] + rest2 * (g * g);
        first[i] = m;
        second[i] = v;
        p[i] -= lr * (m * correct1 / (__builtin_sqrtf(v * correct2) + eps) + decoupled * p[i]);
    }
}

CPU_CLONES static void sgd_loop(const struct step *s, float decay, float *p, const float *gradient, float *first, float *second, int64_t n)
{
    float lr = s->sgd->lr, momentum = s->sgd->momentum, scale = s->gradient_scale;
    (void)second;
    if (momentum == 0) {
        CPU_LOOP(i, n)
            p[i] -= lr * (gradient[i] * scale + decay * p[i]);
    } else if (s->sgd->nesterov) {
        CPU_LOOP(i, n) {
            float g = gradient[i] * scale + decay * p[i], v = momentum * first[i] + g;
            first[i] = v;
            p[i] -= lr * (g + momentum * v);
        }
    } else {
        CPU_LOOP(i, n) {
            float v = momentum * first[i] + (gradient[i] * scale + decay * p[i]);
            first[i] = v;
            p[i] -= lr * v;
        }
    }
}

/* -- The long row. */

static void step_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct step *s = context;
    float gradient_buffer[PIECE], value_buffer[PIECE];
    int index = 0;
    (void)worker;
    while (s->starts[index + 1] <= first)
        index++;
    for (int64_t i = first, n; i < end; i += n) {
        while (s->starts[index + 1] <= i)
            index++;
        const struct mbk_parameter *p = &s->parameters[index];
        int64_t at = i - s->starts[index];
        n = s->starts[index + 1] < end ? s->starts[index + 1] - i : end - i;
        n = n < PIECE ? n : PIECE;
        const float *gradient = cpu_in(&p->gradient, at, n, gradient_buffer);
        float *value = p->master.data ? (float *)p->master.data + at : cpu_out(&p->value, at, value_buffer);
        if (value == value_buffer)
            cpu_in(&p->value, at, n, value_buffer);
        float *moments[2] = { p->first.data ? (float *)p->first.data + at : NULL, p->second.data ? (float *)p->second.data + at : NULL };
        (s->adam ? adam_loop : sgd_loop)(s, p->decay, value, gradient, moments[0], moments[1], n);
        float *out = cpu_out(&p->value, at, value);
        if (out != value)
            memcpy(out, value, (size_t)n * sizeof *out);
        cpu_put(&p->value, at, n, value);
    }
}

static int run(struct mbk *k, struct step s, const struct mbk_tensor *scale)
{
    size_t mark = cpu_mark(k);
    s.starts = cpu_scratch(k, ((size_t)s.count + 1) * sizeof *s.starts);
    if (s.starts) {
        s.starts[0] = 0;
        for (int i = 0; i < s.count; i++)
            s.starts[i + 1] = s.starts[i] + mbk_count(&s.parameters[i].value);
        if (scale)
            s.gradient_scale *= *(const float *)scale->data;
        cpu_parallel(k, s.starts[s.count], PIECE * 4, step_body, &s);
    }
    cpu_release(k, mark);
    return s.starts ? 0 : -1;
}

int cpu_adam(struct mbk *k, const struct mbk_adam *o, struct mbk_parameter *parameters, int count)
{
    struct step s = { .parameters = parameters, .count = count, .adam = o, .gradient_scale = o->gradient_scale };
    s.first_correction = (float)(1 / (1 - pow((double)o->beta1, (double)o->step)));
    s.second_correction = (float)(1 / (1 - pow((double)o->beta2, (double)o->step)));
    return run(k, s, o->scale);
}

int cpu_sgd(struct mbk *k, const struct mbk_sgd *o, struct mbk_parameter *parameters, int count)
{
    return run(k, (struct step){ .parameters = parameters, .count = count, .sgd = o, .gradient_scale = o->gradient_scale }, o->scale);
}

/* -- The norm of all gradients: sums of squares of PIECE elements, joined in order. */

struct norm {
    const struct mbk_parameter *parameters;
    int count;
    int64_t *starts; /* the first piece of each parameter */
    float *sums;     /* of each piece */
};

CPU_CLONES static float squares(const float *x, int64_t n)
{
    float sum;
    VEC_SUM(sum, i, n, x[i] * x[i]);
    return sum;
}

static void norm_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct norm *w = context;
    float buffer[PIECE];
    int index = 0;
    (void)worker;
    for (int64_t i = first; i < end; i++) {
        while (w->starts[index + 1] <= i)
            index++;
        const struct mbk_tensor *g = &w->parameters[index].gradient;
        int64_t at = (i - w->starts[index]) * PIECE, n = mbk_count(g) - at;
        n = n < PIECE ? n : PIECE;
        w->sums[i] = squares(cpu_in(g, at, n, buffer), n);
    }
}

int cpu_gradient_norm(struct mbk *k, const struct mbk_parameter *parameters, int count, float most, const struct mbk_tensor *norm,
                      const struct mbk_tensor *scale)
{
    size_t mark = cpu_mark(k);
    struct norm w = { .parameters = parameters, .count = count };
    w.starts = cpu_scratch(k, ((size_t)count + 1) * sizeof *w.starts);
    if (w.starts) {
        w.starts[0] = 0;
        for (int i = 0; i < count; i++)
            w.starts[i + 1] = w.starts[i] + (mbk_count(&parameters[i].gradient) + PIECE - 1) / PIECE;
        w.sums = cpu_scratch(k, (size_t)w.starts[count] * sizeof *w.sums);
    }
    if (w.sums) {
        cpu_parallel(k, w.starts[count], cpu_grain(PIECE), norm_body, &w);
        double sum = 0;
        for (int64_t i = 0; i < w.starts[count]; i++)
            sum += (double)w.sums[i];
        float length = (float)sqrt(sum), factor = most / (length + 1e-6f);
        if (norm)
            *(float *)norm->data = length;
        if (scale)
            *(float *)scale->data = factor > 1 ? 1 : factor;
    }
    cpu_release(k, mark);
    return w.sums ? 0 : -1;
}

int cpu_zero_gradients(struct mbk *k, struct mbk_parameter *parameters, int count)
{
    (void)k;
    for (int i = 0; i < count; i++)
        if (mbk_bytes(&parameters[i].gradient) > 0)
            memset(parameters[i].gradient.data, 0, mbk_bytes(&parameters[i].gradient));
    return 0;
}
