/* conv.c: convolution as a product, forward beside backward.
 *
 * Each window of x is laid out as a row (im2col); y is these rows times the weights, which already lie as [O, KH · KW · I]. Rows are made
 * for a few images at a time, so that the scratch stays small. A 1 × 1 window with stride 1 needs no rows: x is them.
 * Backward: dweight is dyᵀ times the rows; dx gathers for each row of an image what windows took from it, in a fixed order.
 */
#include "cpu.h"

enum { ROWS_BYTES_MOST = 16 << 20 };

struct conv {
    const struct mbk_window *w;
    int64_t images, height, width, in, out_height, out_width, out; /* in, out: channels */
    int64_t row;                                                   /* elements of one window: KH · KW · I */
    int direct;                                                    /* x is the rows */
    size_t size;                                                   /* bytes of an element of x */
    int64_t images_at_once;
};

static struct conv describe(const struct mbk_window *w, const struct mbk_tensor *x, const struct mbk_tensor *weight,
                            const struct mbk_tensor *y)
{
    struct conv c = {
        .w = w, .images = x->shape[0], .height = x->shape[1], .width = x->shape[2], .in = x->shape[3],
        .out_height = y->shape[1], .out_width = y->shape[2], .out = weight->shape[0], .size = x->type == MBK_F32 ? 4 : 2,
    };
    c.row = (int64_t)w->kernel_h * w->kernel_w * c.in;
    c.direct = w->kernel_h == 1 && w->kernel_w == 1 && w->stride_h == 1 && w->stride_w == 1;
    int64_t bytes = c.out_height * c.out_width * c.row * 4;
    c.images_at_once = c.direct ? c.images : bytes > 0 && ROWS_BYTES_MOST / bytes > 1 ? ROWS_BYTES_MOST / bytes : 1;
    if (c.images_at_once > c.images)
        c.images_at_once = c.images;
    return c;
}

/* -- im2col. An element of the loop is one row of windows of one image. */

struct unfold {
    const struct conv *c;
    const char *x;
    char *rows;
};

static void unfold_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct unfold *u = context;
    const struct conv *c = u->c;
    const struct mbk_window *w = c->w;
    size_t pixel = (size_t)c->in * c->size;
    (void)worker;
    for (int64_t i = first; i < end; i++) {
        int64_t image = i / c->out_height, p = i % c->out_height;
        char *to = u->rows + (size_t)(i * c->out_width * c->row) * c->size;
        const char *from = u->x + (size_t)(image * c->height * c->width) * pixel;
        for (int64_t q = 0; q < c->out_width; q++)
            for (int kh = 0; kh < w->kernel_h; kh++) {
                int64_t h = p * w->stride_h - w->pad_h + kh, left = q * w->stride_w - w->pad_w;
                int64_t skip = left < 0 ? -left : 0, stop = left + w->kernel_w > c->width ? c->width - left : w->kernel_w;
                if (h < 0 || h >= c->height || stop <= skip)
                    skip = stop = w->kernel_w;
                memset(to, 0, (size_t)skip * pixel);
                if (stop > skip)
                    memcpy(to + (size_t)skip * pixel, from + (size_t)(h * c->width + left + skip) * pixel, (size_t)(stop - skip) * pixel);
                memset(to + (size_t)stop * pixel, 0, (size_t)(w->kernel_w - stop) * pixel);
                to += (size_t)w->kernel_w * pixel;
            }
    }
}

/* The rows of `images` images from `first` on: in `rows`, or in x itself. */
static const void *unfold(struct mbk *k, const struct conv *c, const void *x, int64_t first, int64_t images, void *rows)
{
    const char *from = (const char *)x + (size_t)(first * c->height * c->width * c->in) * c->size;
    if (c->direct)
        return from;
    struct unfold u = { c, from, rows };
    cpu_parallel(k, images * c->out_height, cpu_grain(c->out_width * c->row), unfold_body, &u);
    return rows;
}

/* Room for the rows of as many images as are done at once; NULL after mbk_fail. */
static void *rows_scratch(struct mbk *k, const struct conv *c, size_t element)
{
    return cpu_scratch(k, c->direct ? 1 : (size_t)(c->images_at_once * c->out_height * c->out_width * c->row) * element);
}

static int64_t images_now(const struct conv *c, int64_t first)
{
    return c->images - first < c->images_at_once ? c->images - first : c->images_at_once;
}

int cpu_conv2d(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *x, const struct mbk_tensor *weight,
               const struct mbk_tensor *bias, enum mbk_activation f, const struct mbk_tensor *before, const struct mbk_tensor *y)
{
    struct conv c = describe(w, x, weight, y);
    size_t mark = cpu_mark(k);
    void *rows = rows_scratch(k, &c, c.size);
    int failed = !rows;
    for (int64_t first = 0; first < c.images && !failed; first += c.images_at_once) {
        int64_t images = images_now(&c, first);
        size_t done = (size_t)(first * c.out_height * c.out_width * c.out) * c.size;
        struct mbk_gemm g = {
            .m = images * c.out_height * c.out_width, .n = c.out, .k = c.row, .batch = 1, .a = unfold(k, &c, x->data, first, images, rows),
            .b = weight->data, .c = (char *)y->data + done, .a_type = x->type, .b_type = x->type, .c_type = x->type, .transpose_b = 1,
            .lda = c.row, .ldb = c.row, .ldc = c.out, .alpha = 1, .bias = bias ? bias->data : NULL,
                .bias_type = bias ? bias->type : MBK_F32,
            .activation = f, .before = before ? (char *)before->data + done : NULL,
        };
        failed = cpu_gemm(k, &g);
    }
    cpu_release(k, mark);
    return failed ? -1 : 0;
}

/* -- Backward. */

/* dx of one row of an image: what each window that has this row took from it. */
struct fold {
    const struct conv *c;
    const float *rows;
    struct mbk_tensor dx; /* the images that are done now */
    float *own;           /* a row of the image for each worker */
};

static void fold_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct fold *f = context;
    const struct conv *c = f->c;
    const struct mbk_window *w = c->w;
    int64_t length = c->width * c->in;
    for (int64_t i = first; i < end; i++) {
        int64_t image = i / c->height, h = i % c->height;
        float *dx = cpu_out(&f->dx, i * length, f->own + length * worker);
        memset(dx, 0, (size_t)length * sizeof *dx);
        for (int kh = 0; kh < w->kernel_h; kh++) {
            int64_t top = h + w->pad_h - kh, p = top / w->stride_h;
            if (top < 0 || top % w->stride_h || p >= c->out_height)
                continue;
            for (int64_t q = 0; q < c->out_width; q++) {
                const float *from = f->rows + ((image * c->out_height + p) * c->out_width + q) * c->row + (int64_t)kh * w->kernel_w * c->in;
                int64_t left = q * w->stride_w - w->pad_w;
                int64_t skip = left < 0 ? -left : 0, stop = left + w->kernel_w > c->width ? c->width - left : w->kernel_w;
                for (int64_t j = skip * c->in; j < stop * c->in; j++)
                    dx[left * c->in + j] += from[j];
            }
        }
        cpu_put(&f->dx, i * length, length, dx);
    }
}

static int backward_input(struct mbk *k, const struct conv *c, const struct mbk_tensor *weight, const struct mbk_tensor *dy,
                          const struct mbk_tensor *dx)
{
    size_t mark = cpu_mark(k);
    struct fold f = { .c = c };
    f.own = cpu_scratch(k, (size_t)(c->width * c->in) * (size_t)cpu_of(k)->threads * sizeof(float));
    float *rows = f.own ? rows_scratch(k, c, sizeof(float)) : NULL;
    int failed = !rows;
    for (int64_t first = 0; first < c->images && !failed; first += c->images_at_once) {
        int64_t images = images_now(c, first);
        f.rows = rows;
        f.dx = mbk_rows(dx, first, images);
        struct mbk_gemm g = {
            .m = images * c->out_height * c->out_width, .n = c->row, .k = c->out, .batch = 1,
            .a = (const char *)dy->data + (size_t)(first * c->out_height * c->out_width * c->out) * c->size, .b = weight->data,
            .c = c->direct ? f.dx.data : rows, .a_type = dy->type, .b_type = dy->type, .c_type = c->direct ? dx->type : MBK_F32,
                .lda = c->out,
            .ldb = c->row, .ldc = c->row, .alpha = 1,
        };
        failed = cpu_gemm(k, &g);
        if (!failed && !c->direct)
            cpu_parallel(k, images * c->height, cpu_grain(c->out_width * c->row), fold_body, &f);
    }
    cpu_release(k, mark);
    return failed ? -1 : 0;
}

/* Summed in float32 over all images, whatever dweight is kept in. */
static int backward_weight(struct mbk *k, const struct conv *c, const struct mbk_tensor *x, const struct mbk_tensor *dy,
                           const struct mbk_tensor *dweight)
{
    size_t mark = cpu_mark(k);
    struct mbk_tensor sum = mbk_tensor2(dweight->data, MBK_F32, c->out, c->row);
    if (dweight->type != MBK_F32)
        sum.data = cpu_scratch(k, mbk_bytes(&sum));
    void *rows = sum.data ? rows_scratch(k, c, c->size) : NULL;
    int failed = !rows;
    if (!failed && dweight->type != MBK_F32)
        memset(sum.data, 0, mbk_bytes(&sum));
    for (int64_t first = 0; first < c->images && !failed; first += c->images_at_once) {
        int64_t images = images_now(c, first);
        struct mbk_gemm g = {
            .m = c->out, .n = c->row, .k = images * c->out_height * c->out_width, .batch = 1,
            .a = (const char *)dy->data + (size_t)(first * c->out_height * c->out_width * c->out) * c->size,
            .b = unfold(k, c, x->data, first, images, rows), .c = sum.data, .a_type = dy->type, .b_type = x->type, .c_type = MBK_F32,
            .transpose_a = 1, .lda = c->out, .ldb = c->row, .ldc = c->row, .alpha = 1, .beta = 1,
        };
        failed = cpu_gemm(k, &g);
    }
    if (!failed && dweight->type != MBK_F32)
        failed = cpu_axpy(k, 1, &sum, &(struct mbk_tensor){ dweight->data, dweight->type, 2, { c->out, c->row } });
    cpu_release(k, mark);
    return failed ? -1 : 0;
}

int cpu_conv2d_backward(struct mbk *k, const struct mbk_window *w, const struct mbk_tensor *x, const struct mbk_tensor *weight,
                        const struct mbk_tensor *dy, const struct mbk_tensor *dx, const struct mbk_tensor *dweight,
                            const struct mbk_tensor *dbias)
{
    struct conv c = describe(w, x, weight, dy);
    if (dweight && backward_weight(k, &c, x, dy, dweight))
        return -1;
    if (dx && backward_input(k, &c, weight, dy, dx))
        return -1;
    return dbias ? cpu_sum_rows(k, dy, dbias) : 0;
}
