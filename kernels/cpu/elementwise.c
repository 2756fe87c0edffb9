/* elementwise.c: sums, products and multiples of tensors, in float32, whatever the operands are kept in. */
#include "cpu.h"

CPU_CLONES static void add_loop(const float *a, const float *b, float *c, int64_t n, float factor)
{
    (void)factor;
    CPU_LOOP(i, n)
        c[i] = a[i] + b[i];
}

CPU_CLONES static void multiply_loop(const float *a, const float *b, float *c, int64_t n, float factor)
{
    (void)factor;
    CPU_LOOP(i, n)
        c[i] = a[i] * b[i];
}

CPU_CLONES static void axpy_loop(const float *a, const float *b, float *c, int64_t n, float factor)
{
    CPU_LOOP(i, n)
        c[i] = a[i] + factor * b[i];
}

CPU_CLONES static void scale_loop(const float *a, const float *b, float *c, int64_t n, float factor)
{
    (void)b;
    CPU_LOOP(i, n)
        c[i] = factor * a[i];
}

struct work {
    void (*loop)(const float *a, const float *b, float *c, int64_t n, float factor);
    const struct mbk_tensor *a, *b, *c; /* b NULL: the loop has no need of it */
    float factor;
    int64_t row; /* b is one row of so many, for each of a's; 0: b is like a */
};

static void work_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct work *w = context;
    float a_buffer[CPU_PIECE], b_buffer[CPU_PIECE], c_buffer[CPU_PIECE];
    (void)worker;
    for (int64_t i = first, n; i < end; i += n) {
        n = end - i < CPU_PIECE ? end - i : CPU_PIECE;
        int64_t at = w->row ? i % w->row : i;
        if (w->row && n > w->row - at)
            n = w->row - at;
        float *c = cpu_out(w->c, i, c_buffer);
        w->loop(cpu_in(w->a, i, n, a_buffer), w->b ? cpu_in(w->b, at, n, b_buffer) : NULL, c, n, w->factor);
        cpu_put(w->c, i, n, c);
    }
}

static int run(struct mbk *k, struct work w)
{
    if (w.b && w.b->rank == 1 && w.a->rank > 1)
        w.row = w.b->shape[0];
    cpu_parallel(k, mbk_count(w.c), cpu_grain(1), work_body, &w);
    return 0;
}

int cpu_add(struct mbk *k, const struct mbk_tensor *a, const struct mbk_tensor *b, const struct mbk_tensor *c)
{
    return run(k, (struct work){ .loop = add_loop, .a = a, .b = b, .c = c });
}

int cpu_multiply(struct mbk *k, const struct mbk_tensor *a, const struct mbk_tensor *b, const struct mbk_tensor *c)
{
    return run(k, (struct work){ .loop = multiply_loop, .a = a, .b = b, .c = c });
}

int cpu_scale(struct mbk *k, float factor, const struct mbk_tensor *x)
{
    return run(k, (struct work){ .loop = scale_loop, .a = x, .c = x, .factor = factor });
}

int cpu_axpy(struct mbk *k, float factor, const struct mbk_tensor *x, const struct mbk_tensor *y)
{
    return run(k, (struct work){ .loop = axpy_loop, .a = y, .b = x, .c = y, .factor = factor });
}
