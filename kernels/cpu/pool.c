/* pool.c: greatest and mean of windows, forward beside backward. Channels are the inner loop. Backward each thread has images of its
 * own. */
#include "cpu.h"

struct pool {
    const struct mbk_window *w;
    const struct mbk_tensor *x, *y; /* or dx and dy */
    int32_t *argmax;                /* optional forward */
    int64_t height, width, channels, out_height, out_width;
    float *own; /* own_size floats for each worker */
    int64_t own_size;
};

static struct pool describe(const struct mbk_window *w, const struct mbk_tensor *x, const struct mbk_tensor *y,
                            const struct mbk_tensor *argmax)
{
    return (struct pool){ .w = w, .x = x, .y = y, .argmax = argmax ? argmax->data : NULL, .height = x->shape[1], .width = x->shape[2],
                          .channels = x->shape[3], .out_height = y->shape[1], .out_width = y->shape[2] };
}

/* The part of window number `at` that lies inside [0, size). */
static void span(int64_t at, int kernel, int stride, int pad, int64_t size, int64_t *first, int64_t *end)
{
    int64_t start = at * stride - pad;
    *first = start < 0 ? 0 : start;
    *end = start + kernel > size ? size : start + kernel;
}

/* -- Forward: an element of the loop is a row of windows. */

CPU_CLONES static void take_greater(const float *x, int32_t index, float *most, int32_t *where, int64_t n)
{
    CPU_LOOP(i, n) {
        int greater = x[i] > most[i] || (x[i] != x[i] && most[i] == most[i]);
        most[i] = greater ? x[i] : most[i];
        where[i] = greater ? index + (int32_t)i : where[i];
    }
}

CPU_CLONES static void add_pixel_to(const float *x, float *sum, int64_t n)
{
    CPU_LOOP(i, n)
        sum[i] += x[i];
}

static void window(const struct pool *p, int64_t image, int64_t row, int64_t column, float *y, int32_t *where, float *buffer, int max)
{
    int64_t top, bottom, left, right, n = p->channels;
    const struct mbk_window *w = p->w;
    span(row, w->kernel_h, w->stride_h, w->pad_h, p->height, &top, &bottom);
    span(column, w->kernel_w, w->stride_w, w->pad_w, p->width, &left, &right);
    for (int64_t h = top; h < bottom; h++)
        for (int64_t v = left; v < right; v++) {
            int64_t at = (h * p->width + v) * n;
            const float *x = cpu_in(p->x, image * p->height * p->width * n + at, n, buffer);
            if (!max) {
                add_pixel_to(x, y, n);
            } else if (h == top && v == left) {
                memcpy(y, x, (size_t)n * sizeof *y);
                for (int64_t i = 0; i < n; i++)
                    where[i] = (int32_t)(at + i);
            } else {
                take_greater(x, (int32_t)at, y, where, n);
            }
        }
}

static void forward_row(const struct pool *p, int64_t index, int worker, int max)
{
    int64_t image = index / p->out_height, row = index % p->out_height, n = p->channels;
    float *own = p->own + p->own_size * worker, inverse = 1.0f / (float)((int64_t)p->w->kernel_h * p->w->kernel_w);
    for (int64_t q = 0; q < p->out_width; q++) {
        int64_t at = (index * p->out_width + q) * n;
        float *y = cpu_out(p->y, at, own);
        if (!max)
            memset(y, 0, (size_t)n * sizeof *y);
        window(p, image, row, q, y, p->argmax ? p->argmax + at : (int32_t *)(void *)(own + 2 * n), own + n, max);
        for (int64_t i = 0; !max && i < n; i++)
            y[i] *= inverse;
        cpu_put(p->y, at, n, y);
    }
}

static void max_body(void *context, int64_t first, int64_t end, int worker)
{
    for (int64_t i = first; i < end; i++)
        forward_row(context, i, worker, 1);
}

static void average_body(void *context, int64_t first, int64_t end, int worker)
{
    for (int64_t i = first; i < end; i++)
        forward_row(context, i, worker, 0);
}

/* -- Backward: an element of the loop is an image, whose dx is summed in float32. */

static void max_backward_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct pool *p = context;
    int64_t image_size = p->height * p->width * p->channels, n = p->out_height * p->out_width * p->channels;
    float *own = p->own + p->own_size * worker;
    for (int64_t image = first; image < end; image++) {
        float *dx = cpu_out(p->x, image * image_size, own);
        const float *dy = cpu_in(p->y, image * n, n, own + image_size);
        memset(dx, 0, (size_t)image_size * sizeof *dx);
        for (int64_t i = 0; i < n; i++) {
            int32_t at = p->argmax[image * n + i];
            if (at >= 0 && at < image_size)
                dx[at] += dy[i];
        }
        cpu_put(p->x, image * image_size, image_size, dx);
    }
}

static void average_backward_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct pool *p = context;
    const struct mbk_window *w = p->w;
    int64_t image_size = p->height * p->width * p->channels, n = p->out_height * p->out_width * p->channels;
    float *own = p->own + p->own_size * worker, inverse = 1.0f / (float)((int64_t)w->kernel_h * w->kernel_w);
    for (int64_t image = first; image < end; image++) {
        float *dx = cpu_out(p->x, image * image_size, own);
        const float *dy = cpu_in(p->y, image * n, n, own + image_size);
        memset(dx, 0, (size_t)image_size * sizeof *dx);
        for (int64_t row = 0; row < p->out_height; row++)
            for (int64_t column = 0; column < p->out_width; column++) {
                int64_t top, bottom, left, right;
                span(row, w->kernel_h, w->stride_h, w->pad_h, p->height, &top, &bottom);
                span(column, w->kernel_w, w->stride_w, w->pad_w, p->width, &left, &right);
                for (int64_t h = top; h < bottom; h++)
                    for (int64_t v = left; v < right; v++)
                        add_pixel_to(dy + (row * p->out_width + column) * p->channels, dx + (h * p->width + v) * p->channels, p->channels);
            }
        for (int64_t i = 0; i < image_size; i++)
            dx[i] *= inverse;
        cpu_put(p->x, image * image_size, image_size, dx);
    }
}

static int run(struct mbk *k, struct pool p, cpu_body *body, int backward)
{
    size_t mark = cpu_mark(k);
    int64_t image = p.height * p.width * p.channels, out = p.out_height * p.out_width * p.channels;
    p.own_size = backward ? image + out : 3 * p.channels;
    p.own = cpu_scratch(k, (size_t)p.own_size * (size_t)cpu_of(k)->threads * sizeof(float));
    int64_t work = (int64_t)p.w->kernel_h * p.w->kernel_w * p.channels * p.out_width;
    if (p.own && backward)
        cpu_parallel(k, p.x->shape[0], cpu_grain(work * p.out_height), body, &p);
    else if (p.own)
        cpu_parallel(k, p.x->shape[0] * p.out_height, cpu_grain(work), body, &p);
    cpu_release(k, mark);
    return p.own ? 0 : -1;
}

int cpu_maxpool2d(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *x, const struct mbk_tensor *y,
                  const struct mbk_tensor *argmax)
{
    return run(k, describe(w, x, y, argmax), max_body, 0);
}

int cpu_maxpool2d_backward(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *argmax, const struct mbk_tensor *dy,
                           const struct mbk_tensor *dx)
{
    return run(k, describe(w, dx, dy, argmax), max_backward_body, 1);
}

int cpu_avgpool2d(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *x, const struct mbk_tensor *y)
{
    return run(k, describe(w, x, y, NULL), average_body, 0);
}

int cpu_avgpool2d_backward(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *dy, const struct mbk_tensor *dx)
{
    return run(k, describe(w, dx, dy, NULL), average_backward_body, 1);
}
