/* softmax.c: softmax of rows, forward beside backward. */
#include "loops.h"
#include "vec_math.h"

/* dx = y (dy − Σ y dy) */
CPU_CLONES static void backward_row(const float *y, const float *dy, float *dx, int64_t n)
{
    float sum;
    VEC_SUM(sum, i, n, y[i] * dy[i]);
    CPU_LOOP(i, n)
        dx[i] = y[i] * (dy[i] - sum);
}

struct work {
    const struct cpu_loops *loops;
    const struct mbk_tensor *in, *dy, *out; /* dy NULL: forward */
    float *own;                             /* three rows for each worker */
    int64_t length;
};

static void work_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct work *w = context;
    int64_t n = w->length;
    float *own = w->own + 3 * n * worker;
    for (int64_t r = first; r < end; r++) {
        const float *in = cpu_in(w->in, r * n, n, own);
        float *out = cpu_out(w->out, r * n, own + n);
        if (w->dy)
            backward_row(in, cpu_in(w->dy, r * n, n, own + 2 * n), out, n);
        else
            w->loops->softmax(in, out, n);
        cpu_put(w->out, r * n, n, out);
    }
}

static int run(struct mbk *k, struct work w)
{
    size_t mark = cpu_mark(k);
    w.loops = cpu_loops_of(k);
    w.length = mbk_row_length(w.out);
    w.own = cpu_scratch(k, 3 * sizeof(float) * (size_t)w.length * (size_t)cpu_of(k)->threads);
    if (w.own)
        cpu_parallel(k, mbk_row_count(w.out), cpu_grain(4 * w.length), work_body, &w);
    cpu_release(k, mark);
    return w.own ? 0 : -1;
}

int cpu_softmax(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *y)
{
    return run(k, (struct work){ .in = x, .out = y });
}

int cpu_softmax_backward(struct mbk *k, const struct mbk_tensor *y, const struct mbk_tensor *dy, const struct mbk_tensor *dx)
{
    return run(k, (struct work){ .in = y, .dy = dy, .out = dx });
}
