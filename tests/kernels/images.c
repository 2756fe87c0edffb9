/* images.c: convolution and pooling, forward against float64 and backward against its finite differences, on every backend. */
#include "kernels.h"
#include "reference/reference.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct ref_images cases[] = {
    { 1, 1, 1, 1, 1, { 1, 1, 1, 1, 0, 0 } },
    { 0, 5, 5, 2, 3, { 3, 3, 1, 1, 1, 1 } },
    { 2, 5, 7, 3, 4, { 1, 1, 1, 1, 0, 0 } },
    { 2, 5, 7, 3, 4, { 1, 1, 2, 2, 0, 0 } },
    { 2, 7, 5, 2, 3, { 3, 3, 1, 1, 1, 1 } },
    { 3, 8, 8, 1, 17, { 3, 3, 1, 1, 1, 1 } },
    { 1, 9, 8, 3, 2, { 5, 3, 2, 3, 2, 1 } },
    { 2, 6, 6, 5, 2, { 2, 2, 2, 2, 0, 0 } },
    { 1, 4, 11, 2, 3, { 4, 5, 1, 2, 3, 4 } },
    { 1, 2, 2, 2, 2, { 3, 3, 1, 1, 0, 0 } }, /* the window is larger than the image: nothing comes out */
};
enum { CASES = sizeof cases / sizeof cases[0] };

struct image_test {
    const struct ref_images *s;
    const char *backend;
    enum mbk_type type;
};

struct forward {
    const struct ref_images *s;
    double *x, *weight, *bias, *y, *dy; /* loss: Σ dy · y */
    int64_t count;
    int kind; /* 0 convolution, 1 greatest, 2 mean */
};

static double loss(void *context)
{
    const struct forward *f = context;
    if (f->kind == 0)
        ref_conv2d(f->s, f->x, f->weight, f->bias, f->y);
    else if (f->kind == 1)
        ref_maxpool2d(f->s, f->x, f->y, NULL);
    else
        ref_avgpool2d(f->s, f->x, f->y);
    double sum = 0;
    for (int64_t i = 0; i < f->count; i++)
        sum += f->dy[i] * f->y[i];
    return sum;
}

static double *constant(int64_t n, double value)
{
    double *x = kernels_zeros(n);
    for (int64_t i = 0; i < n; i++)
        x[i] = value;
    return x;
}

static void conv_body(const void *argument)
{
    const struct image_test *test = argument;
    const struct ref_images *s = test->s;
    struct mbk *k = kernels_open(test->backend, 2);
    int64_t oh = mbk_window_out(s->height, s->w.kernel_h, s->w.stride_h, s->w.pad_h), ow = mbk_window_out(s->width, s->w.kernel_w,
            s->w.stride_w, s->w.pad_w);
    int64_t nx = s->images * s->height * s->width * s->in, nw = s->out * s->w.kernel_h * s->w.kernel_w * s->in,
        ny = s->images * oh * ow * s->out;
    struct forward f = { s, kernels_random(nx, -1, 1, 1), kernels_random(nw, -1, 1, 2), kernels_random(s->out, -1, 1, 3), kernels_zeros(ny),
                         kernels_random(ny, -1, 1, 4), ny, 0 };
    struct mbk_tensor x = kernels_put(k, test->type, SHAPE(s->images, s->height, s->width, s->in), f.x), dx = kernels_put(k, test->type,
            SHAPE(s->images, s->height, s->width, s->in), NULL);
    struct mbk_tensor w = kernels_put(k, test->type, SHAPE(s->out, s->w.kernel_h, s->w.kernel_w, s->in), f.weight);
    double *dw = kernels_random(nw, -1, 1, 5), *db = kernels_random(s->out, -1, 1, 6);
    struct mbk_tensor tdw = kernels_put(k, test->type, SHAPE(s->out, s->w.kernel_h, s->w.kernel_w, s->in), dw), tdb = kernels_put(k,
            test->type, SHAPE(s->out), db);
    struct mbk_tensor bias = kernels_put(k, test->type, SHAPE(s->out), f.bias), dy = kernels_put(k, test->type, SHAPE(s->images, oh, ow,
            s->out), f.dy);
    struct mbk_tensor y = kernels_put(k, test->type, SHAPE(s->images, oh, ow, s->out), NULL), before = kernels_put(k, test->type,
            SHAPE(s->images, oh, ow, s->out), NULL);
    struct mbk_window window = s->w;
    if (window.stride_h == 1 && window.stride_w == 1)
        window.stride_h = window.stride_w = 0; /* the same */
    CHECK_RUN(k, mbk_conv2d(k, &window, &x, &w, &bias, MBK_RELU, &before, &y));
    ref_conv2d(s, f.x, f.weight, f.bias, f.y);
    double *size = constant(nx + nw + ny + s->out, 20 + (double)(s->images * oh * ow) / 4);
    kernels_check(k, "before", &before, f.y, size, 4);
    for (int64_t i = 0; i < ny; i++)
        f.y[i] = ref_activation(MBK_RELU, f.y[i]);
    kernels_check(k, "y", &y, f.y, size, 4);
    CHECK_RUN(k, mbk_conv2d_backward(k, &window, &x, &w, &dy, &dx, &tdw, &tdb));
    double *gradient = kernels_zeros(nx + nw + s->out);
    kernels_differentiate(loss, &f, f.x, nx, gradient);
    kernels_check(k, "dx", &dx, gradient, size, 8);
    kernels_differentiate(loss, &f, f.weight, nw, gradient);
    for (int64_t i = 0; i < nw; i++)
        gradient[i] += dw[i];
    kernels_check(k, "dweight, added to", &tdw, gradient, size, 8);
    kernels_differentiate(loss, &f, f.bias, s->out, gradient);
    for (int64_t i = 0; i < s->out; i++)
        gradient[i] += db[i];
    kernels_check(k, "dbias, added to", &tdb, gradient, size, 8);
    struct mbk_tensor *all[] = { &x, &dx, &w, &tdw, &tdb, &bias, &dy, &y, &before };
    for (int i = 0; i < 9; i++)
        kernels_drop(k, all[i]);
    double *host[] = { f.x, f.weight, f.bias, f.y, f.dy, dw, db, size, gradient };
    for (int i = 0; i < 9; i++)
        free(host[i]);
    kernels_close(k);
}

static void pool_body(const void *argument)
{
    const struct image_test *test = argument;
    const struct ref_images *s = test->s;
    struct mbk *k = kernels_open(test->backend, 2);
    int64_t oh = mbk_window_out(s->height, s->w.kernel_h, s->w.stride_h, s->w.pad_h), ow = mbk_window_out(s->width, s->w.kernel_w,
            s->w.stride_w, s->w.pad_w);
    int64_t nx = s->images * s->height * s->width * s->in, ny = s->images * oh * ow * s->in;
    struct forward f = { s, kernels_random(nx, -1, 1, 1), NULL, NULL, kernels_zeros(ny), kernels_random(ny, -1, 1, 4), ny, 1 };
    for (int64_t i = 0; i < nx; i++) /* far enough apart for finite differences, and exact in bfloat16 */
        f.x[i] = (double)((i * 37) % 101) / 64;
    struct mbk_tensor x = kernels_put(k, test->type, SHAPE(s->images, s->height, s->width, s->in), f.x), dx = kernels_put(k, test->type,
            SHAPE(s->images, s->height, s->width, s->in), NULL);
    struct mbk_tensor y = kernels_put(k, test->type, SHAPE(s->images, oh, ow, s->in), NULL), dy = kernels_put(k, test->type,
            SHAPE(s->images, oh, ow, s->in), f.dy);
    struct mbk_tensor argmax = kernels_put(k, MBK_I32, SHAPE(s->images, oh, ow, s->in), NULL);
    CHECK_RUN(k, mbk_maxpool2d(k, &s->w, &x, &y, &argmax));
    int64_t *where = calloc((size_t)ny + 1, sizeof *where);
    ref_maxpool2d(s, f.x, f.y, where);
    kernels_check(k, "the greatest", &y, f.y, NULL, 0);
    double *index = kernels_zeros(ny), *gradient = kernels_zeros(nx), *size = constant(nx + ny, 4);
    for (int64_t i = 0; i < ny; i++) {
        index[i] = (double)where[i];
        gradient[i / (oh * ow * s->in) * s->height * s->width * s->in + where[i]] += f.dy[i];
    }
    kernels_check(k, "where it stands", &argmax, index, NULL, 0);
    CHECK_RUN(k, mbk_maxpool2d_backward(k, &s->w, &argmax, &dy, &dx));
    kernels_check(k, "its gradient", &dx, gradient, size, 4);
    CHECK_RUN(k, mbk_maxpool2d(k, &s->w, &x, &y, NULL));
    kernels_check(k, "the greatest, without where", &y, f.y, NULL, 0);
    f.kind = 2;
    ref_avgpool2d(s, f.x, f.y);
    CHECK_RUN(k, mbk_avgpool2d(k, &s->w, &x, &y));
    kernels_check(k, "the mean", &y, f.y, size, 4);
    kernels_differentiate(loss, &f, f.x, nx, gradient);
    CHECK_RUN(k, mbk_avgpool2d_backward(k, &s->w, &dy, &dx));
    kernels_check(k, "the mean's gradient", &dx, gradient, size, 4);
    struct mbk_tensor *all[] = { &x, &dx, &y, &dy, &argmax };
    for (int i = 0; i < 5; i++)
        kernels_drop(k, all[i]);
    double *host[] = { f.x, f.y, f.dy, index, gradient, size };
    for (int i = 0; i < 6; i++)
        free(host[i]);
    free(where);
    kernels_close(k);
}

static void equals_body(const void *argument)
{
    const struct image_test *test = argument;
    struct mbk *k = kernels_open(test->backend, 1);
    double x[] = { 1, 1, NAN, 2, -INFINITY, -INFINITY, 5, NAN }, y[] = { 1, NAN, -INFINITY, NAN }, index[] = { 0, 2, 4, 7 };
    struct mbk_tensor tx = kernels_put(k, test->type, SHAPE(1, 1, 8, 1), x), ty = kernels_put(k, test->type, SHAPE(1, 1, 4, 1), NULL);
    struct mbk_tensor where = kernels_put(k, MBK_I32, SHAPE(1, 1, 4, 1), NULL);
    CHECK_RUN(k, mbk_maxpool2d(k, &(struct mbk_window){ 1, 2, 1, 2, 0, 0 }, &tx, &ty, &where));
    kernels_check(k, "y", &ty, y, NULL, 0);
    kernels_check(k, "where", &where, index, NULL, 0);
    kernels_drop(k, &tx);
    kernels_drop(k, &ty);
    kernels_drop(k, &where);
    kernels_close(k);
}

TEST_TABLE
{
    static struct image_test tests[KERNELS_BACKENDS * 2 * CASES];
    struct image_test *t = tests;
    for (int b = 0; b < KERNELS_BACKENDS; b++)
        for (int y = 0; y < 2; y++)
            for (int i = 0; i < (int)CASES; i++, t++) {
                *t = (struct image_test){ &cases[i], kernels_backends[b], y ? MBK_BF16 : MBK_F32 };
                const struct ref_images *s = t->s;
                test_add(conv_body, t, "%s, %s: convolution %d of %lldx%lldx%lldx%lld and its gradients", t->backend,
                         mbk_type_name(t->type), i,
                         (long long)s->images, (long long)s->height, (long long)s->width, (long long)s->in);
                test_add(pool_body, t, "%s, %s: pooling %d of %lldx%lldx%lldx%lld and its gradients", t->backend, mbk_type_name(t->type), i,
                         (long long)s->images, (long long)s->height, (long long)s->width, (long long)s->in);
                if (i == 0)
                    test_add(equals_body, t, "%s, %s: of equals the first is the greatest, and NaN greater than all", t->backend,
                             mbk_type_name(t->type));
            }
}
