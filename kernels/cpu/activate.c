/* activate.c: activations of tensors, forward beside backward, by the loops of loops.h; products apply these to what they have made. */
#include "loops.h"

struct work {
    const struct cpu_loops *loops;
    enum mbk_activation f;
    const struct mbk_tensor *x, *dy, *out; /* dy NULL: forward */
};

static void work_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct work *w = context;
    float x_buffer[CPU_PIECE], dy_buffer[CPU_PIECE], out_buffer[CPU_PIECE];
    (void)worker;
    for (int64_t i = first; i < end; i += CPU_PIECE) {
        int64_t n = end - i < CPU_PIECE ? end - i : CPU_PIECE;
        const float *x = cpu_in(w->x, i, n, x_buffer);
        float *out = cpu_out(w->out, i, out_buffer);
        if (w->dy)
            w->loops->activations[w->f].backward(x, cpu_in(w->dy, i, n, dy_buffer), out, n);
        else
            w->loops->activations[w->f].forward(x, out, n);
        cpu_put(w->out, i, n, out);
    }
}

int cpu_activate(struct mbk *k, enum mbk_activation f, const struct mbk_tensor *x, const struct mbk_tensor *y)
{
    struct work w = { cpu_loops_of(k), f, x, NULL, y };
    cpu_parallel(k, mbk_count(y), cpu_grain(4), work_body, &w);
    return 0;
}

int cpu_activate_backward(struct mbk *k, enum mbk_activation f, const struct mbk_tensor *x, const struct mbk_tensor *dy,
                          const struct mbk_tensor *dx)
{
    struct work w = { cpu_loops_of(k), f, x, dy, dx };
    cpu_parallel(k, mbk_count(dx), cpu_grain(4), work_body, &w);
    return 0;
}
