/* mbk_products.c: checks matrix products and linear layers and brings all of them to one form, struct mbk_gemm.
 * Must not compute anything.
 */
#include "mbk_check.h"

/* Which types go together; the device decides which of them it can do. */
static int types_fit(enum mbk_type a, enum mbk_type b, enum mbk_type c, int transpose_b)
{
    int a_float = a == MBK_F32 || a == MBK_BF16, c_float = c == MBK_F32 || c == a;
    int a_fp8 = a == MBK_F8_E4M3 || a == MBK_F8_E5M2, b_fp8 = b == MBK_F8_E4M3 || b == MBK_F8_E5M2;
    if (a_float)
        return c_float && (b == a || (mbk_is_blocks(b) && transpose_b));
    if (a_fp8)
        return b_fp8 && (c == MBK_F32 || c == MBK_BF16);
    return a == MBK_I8 && b == MBK_I8 && c == MBK_I32;
}

/* One of before and residual: dense, of c's shape and type. */
static int check_like_c(struct mbk *k, const char *name, const struct mbk_tensor *t, const struct mbk_tensor *c)
{
    if (!t)
        return 0;
    if (mbk_check(k, "matmul", "c:*[...] t:*[...]", c, t))
        return -1;
    return t->type == c->type ? 0 : mbk_mismatch(k, "matmul", "c", c, name, t, "the types must be the same");
}

static int check_leading(struct mbk *k, const char *name, const struct mbk_tensor *t, int64_t *ld, int ranks_are_2)
{
    char text[MBK_SHAPE_TEXT];
    int64_t columns = mbk_row_length(t);
    if (*ld == 0) {
        *ld = columns;
        return 0;
    }
    if (!ranks_are_2 || *ld < columns)
        return mbk_fail(k, "matmul: a row of %s takes %lld elements and %s is %s: it takes rank 2 and at least the columns", name,
                        (long long)*ld, name, mbk_shape_text(t, text));
    return 0;
}

static int run(struct mbk *k, struct mbk_gemm *g)
{
    return g->m == 0 || g->n == 0 || g->batch == 0 ? 0 : MBK_CALL(k, gemm, g);
}

int mbk_matmul(struct mbk *k, const struct mbk_product *p)
{
    const struct mbk_tensor *a = p->a, *b = p->b, *c = p->c;
    if (mbk_check(k, "matmul", "a:*[...,M,K]", a) || mbk_check(k, "matmul", "b:*[...,K,N]", b) || mbk_check(k, "matmul", "c:*[...,M,N]",
            c) ||
        mbk_check(k, "matmul", "bias?:F[N]", p->bias) || mbk_check_activation(k, "matmul", p->activation))
        return -1;
    struct mbk_gemm g = {
        .m = a->shape[a->rank - (p->transpose_a ? 1 : 2)], .k = a->shape[a->rank - (p->transpose_a ? 2 : 1)],
        .n = b->shape[b->rank - (p->transpose_b ? 2 : 1)], .batch = 1,
        .a = a->data, .b = b->data, .c = c->data, .a_type = a->type, .b_type = b->type, .c_type = c->type,
        .transpose_a = !!p->transpose_a, .transpose_b = !!p->transpose_b, .lda = p->lda, .ldb = p->ldb, .ldc = p->ldc,
        .alpha = p->alpha, .beta = p->beta, .activation = p->activation,
    };
    if (p->alpha == 0 && p->beta == 0)
        g.alpha = 1;
    if (!types_fit(a->type, b->type, c->type, p->transpose_b))
        return mbk_fail(k, "matmul: no product takes %s and %s%s to %s", mbk_type_name(a->type), mbk_type_name(b->type),
                        p->transpose_b ? " transposed" : "", mbk_type_name(c->type));
    if (b->shape[b->rank - (p->transpose_b ? 1 : 2)] != g.k)
        return mbk_mismatch(k, "matmul", p->transpose_a ? "a transposed" : "a", a, p->transpose_b ? "b transposed" : "b", b,
                            "the inner dimensions must be the same");
    if (c->shape[c->rank - 2] != g.m)
        return mbk_mismatch(k, "matmul", p->transpose_a ? "a transposed" : "a", a, "c", c, "the rows must be as many");
    if (c->shape[c->rank - 1] != g.n)
        return mbk_mismatch(k, "matmul", p->transpose_b ? "b transposed" : "b", b, "c", c, "the columns must be as many");
    for (int i = 0; i < 2; i++) {
        const struct mbk_tensor *t = i ? b : a;
        int same = t->rank == 2 || t->rank == c->rank;
        for (int d = 0; same && t->rank > 2 && d < t->rank - 2; d++)
            same = t->shape[d] == c->shape[d];
        if (!same)
            return mbk_mismatch(k, "matmul", i ? "b" : "a", t, "c", c, "the leading dimensions must agree, or be none");
    }
    if (p->bias && p->bias->shape[0] != g.n)
        return mbk_mismatch(k, "matmul", "bias", p->bias, "c", c, "there must be a bias for each column");
    if (check_like_c(k, "before", p->before, c) || check_like_c(k, "residual", p->residual, c))
        return -1;
    if (c->type == MBK_I32 && (p->bias || p->activation || p->before || p->residual || g.alpha != 1 || g.beta != 0))
        return mbk_fail(k, "matmul: an I8 product has no alpha, beta, bias, activation or residual (mbk_linear_int8 has)");
    int rank_2 = a->rank == 2 && b->rank == 2 && c->rank == 2;
    if (check_leading(k, "a", a, &g.lda, rank_2) || check_leading(k, "b", b, &g.ldb, rank_2) || check_leading(k, "c", c, &g.ldc, rank_2))
        return -1;
    if (mbk_is_blocks(b->type) && (g.k % mbk_block(b->type) || g.ldb != g.k))
        return mbk_mismatch(k, "matmul", "a", a, "b", b, "the inner dimension must be whole blocks, row by row");
    for (int d = 0; d < c->rank - 2; d++)
        g.batch *= c->shape[d];
    if (a->rank > 2 && b->rank == 2 && !p->transpose_a) { /* the batch is only more rows */
        g.m *= g.batch;
        g.batch = 1;
    }
    if (g.batch != 1) {
        g.stride_a = a->rank > 2 ? g.m * g.k : 0;
        g.stride_b = b->rank > 2 ? g.k * g.n : 0;
        g.stride_c = g.m * g.n;
    }
    if (p->bias) {
        g.bias = p->bias->data;
        g.bias_type = p->bias->type;
    }
    g.before = p->before ? p->before->data : NULL;
    g.residual = p->residual ? p->residual->data : NULL;
    return run(k, &g);
}

int mbk_linear(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *w, const struct mbk_tensor *bias,
               enum mbk_activation activation, const struct mbk_tensor *before, const struct mbk_tensor *y)
{
    if (mbk_check(k, "linear", "x:*[...,I] w:*[O,I] bias?:F[O] before?:*[...,O] y:*[...,O]", x, w, bias, before, y))
        return -1;
    struct mbk_tensor x2 = mbk_tensor2(x->data, x->type, mbk_row_count(x), mbk_row_length(x));
    struct mbk_tensor y2 = mbk_tensor2(y->data, y->type, mbk_row_count(y), mbk_row_length(y));
    struct mbk_tensor before2;
    if (before)
        before2 = mbk_tensor2(before->data, before->type, mbk_row_count(before), mbk_row_length(before));
    struct mbk_product p = { .a = &x2, .b = w, .c = &y2, .transpose_b = 1, .bias = bias, .activation = activation,
                             .before = before ? &before2 : NULL };
    return mbk_matmul(k, &p);
}

int mbk_linear_backward(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *w, const struct mbk_tensor *dy,
                        const struct mbk_tensor *dx, const struct mbk_tensor *dw, const struct mbk_tensor *dbias)
{
    if (mbk_check(k, "linear_backward", "x:f[...,I] w:f[O,I] dy:f[...,O] dx?:f[...,I] dw?:F[O,I] dbias?:F[O]", x, w, dy, dx, dw, dbias))
        return -1;
    int64_t rows = mbk_row_count(x), in = w->shape[1], out = w->shape[0];
    struct mbk_tensor x2 = mbk_tensor2(x->data, x->type, rows, in), dy2 = mbk_tensor2(dy->data, dy->type, rows, out), dx2;
    if (dx) {
        dx2 = mbk_tensor2(dx->data, dx->type, rows, in);
        if (mbk_matmul(k, &(struct mbk_product){ .a = &dy2, .b = w, .c = &dx2 }))
            return -1;
    }
    if (dw && rows > 0 && mbk_matmul(k, &(struct mbk_product){ .a = &dy2, .b = &x2, .c = dw, .transpose_a = 1, .alpha = 1, .beta = 1 }))
        return -1;
    return dbias ? mbk_sum_rows(k, &dy2, dbias) : 0;
}

int mbk_linear_int8(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *x_scales, const struct mbk_tensor *w,
                    const struct mbk_tensor *w_scales, const struct mbk_tensor *bias, enum mbk_activation f, const struct mbk_tensor *y)
{
    if (mbk_check(k, "linear_int8", "x:I8[...,I] w:I8[O,I] w_scales:F32[O] bias?:F[O] y:F[...,O]", x, w, w_scales, bias, y) ||
        mbk_check(k, "linear_int8", "x_scales:F32[...]", x_scales) || mbk_check_activation(k, "linear_int8", f))
        return -1;
    if (x_scales->rank != 0 && mbk_count(x_scales) != mbk_row_count(x))
        return mbk_mismatch(k, "linear_int8", "x", x, "x_scales", x_scales, "there must be a scale for each row, or one of rank 0");
    return mbk_count(y) == 0 ? 0 : MBK_CALL(k, linear_int8, x, x_scales, w, w_scales, bias, f, y);
}

int mbk_linear_int4(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *w, const struct mbk_tensor *scales, int group,
                    const struct mbk_tensor *bias, enum mbk_activation f, const struct mbk_tensor *y)
{
    if (mbk_check(k, "linear_int4", "x:f[...,I] w:I4[O,I] scales:F32[O,G] bias?:F[O] y:f[...,O]", x, w, scales, bias, y) ||
        mbk_check_activation(k, "linear_int4", f))
        return -1;
    if (group < 2 || group % 2 || w->shape[1] != scales->shape[1] * group)
        return mbk_mismatch(k, "linear_int4", "w", w, "scales", scales, "a row must be whole groups, each of an even number of elements");
    return mbk_count(y) == 0 ? 0 : MBK_CALL(k, linear_int4, x, w, scales, group, bias, f, y);
}
