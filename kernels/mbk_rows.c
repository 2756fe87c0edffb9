/* mbk_rows.c: checks of what works on rows: softmax, norms, reductions. */
#include "mbk_check.h"

int mbk_softmax(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *y)
{
    if (mbk_check(k, "softmax", "x:f[...,C] y:f[...,C]", x, y))
        return -1;
    return mbk_count(y) == 0 ? 0 : MBK_CALL(k, softmax, x, y);
}

int mbk_softmax_backward(struct mbk *k, const struct mbk_tensor *y, const struct mbk_tensor *dy, const struct mbk_tensor *dx)
{
    if (mbk_check(k, "softmax_backward", "y:f[...,C] dy:f[...,C] dx:f[...,C]", y, dy, dx))
        return -1;
    return mbk_count(dx) == 0 ? 0 : MBK_CALL(k, softmax_backward, y, dy, dx);
}

int mbk_layernorm(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *gamma, const struct mbk_tensor *beta, float eps,
                  const struct mbk_tensor *y, const struct mbk_tensor *mean, const struct mbk_tensor *rstd)
{
    if (mbk_check(k, "layernorm", "x:f[...,C] gamma:f[C] beta:f[C] y:F[...,C] mean?:F32[R] rstd?:F32[R]", x, gamma, beta, y, mean, rstd))
        return -1;
    return mbk_count(y) == 0 ? 0 : MBK_CALL(k, layernorm, x, gamma, beta, eps, y, mean, rstd);
}

int mbk_layernorm_backward(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *gamma, const struct mbk_tensor *mean,
                           const struct mbk_tensor *rstd, const struct mbk_tensor *dy, const struct mbk_tensor *dx,
                           const struct mbk_tensor *dgamma, const struct mbk_tensor *dbeta)
{
    if (mbk_check(k, "layernorm_backward",
                  "x:f[...,C] gamma:f[C] mean:F32[R] rstd:F32[R] dy:f[...,C] dx?:f[...,C] dgamma?:F[C] dbeta?:F[C]", x, gamma, mean, rstd,
                      dy,
                  dx, dgamma, dbeta))
        return -1;
    return mbk_count(x) == 0 ? 0 : MBK_CALL(k, layernorm_backward, x, gamma, mean, rstd, dy, dx, dgamma, dbeta);
}

int mbk_rmsnorm(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *gamma, float eps, const struct mbk_tensor *y,
                const struct mbk_tensor *rstd)
{
    if (mbk_check(k, "rmsnorm", "x:f[...,C] gamma:f[C] y:F[...,C] rstd?:F32[R]", x, gamma, y, rstd))
        return -1;
    return mbk_count(y) == 0 ? 0 : MBK_CALL(k, rmsnorm, x, gamma, eps, y, rstd);
}

int mbk_rmsnorm_backward(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *gamma, const struct mbk_tensor *rstd,
                         const struct mbk_tensor *dy, const struct mbk_tensor *dx, const struct mbk_tensor *dgamma)
{
    if (mbk_check(k, "rmsnorm_backward", "x:f[...,C] gamma:f[C] rstd:F32[R] dy:f[...,C] dx?:f[...,C] dgamma?:F[C]", x, gamma, rstd, dy, dx,
                  dgamma))
        return -1;
    return mbk_count(x) == 0 ? 0 : MBK_CALL(k, rmsnorm_backward, x, gamma, rstd, dy, dx, dgamma);
}

int mbk_argmax(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *out)
{
    if (mbk_check(k, "argmax", "x:f[...,C] out:I32[R]", x, out))
        return -1;
    if (mbk_count(out) > 0 && mbk_row_length(x) == 0)
        return mbk_mismatch(k, "argmax", "x", x, "out", out, "a row of nothing has no greatest element");
    return mbk_count(out) == 0 ? 0 : MBK_CALL(k, argmax, x, out);
}

int mbk_top_k(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *values, const struct mbk_tensor *indices)
{
    if (mbk_check(k, "top_k", "x:f[...,C] values:f[...,N] indices:I32[...,N]", x, values, indices))
        return -1;
    if (mbk_row_length(values) > mbk_row_length(x))
        return mbk_mismatch(k, "top_k", "x", x, "values", values, "there are fewer elements in a row than are wanted of it");
    return mbk_count(values) == 0 ? 0 : MBK_CALL(k, top_k, x, values, indices);
}

int mbk_sum_rows(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *out)
{
    if (mbk_check(k, "sum_rows", "x:F[...,C] out:F[C]", x, out))
        return -1;
    return mbk_count(x) == 0 ? 0 : MBK_CALL(k, sum_rows, x, out);
}

int mbk_sum(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *out)
{
    if (mbk_check(k, "sum", "x:f[...] out:F32[]", x, out))
        return -1;
    return mbk_count(x) == 0 ? mbk_zero(k, out) : MBK_CALL(k, sum, x, out);
}

int mbk_min_max(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *out)
{
    if (mbk_check(k, "min_max", "x:f[...] out:F32[2]", x, out))
        return -1;
    if (mbk_count(x) == 0)
        return mbk_mismatch(k, "min_max", "x", x, "out", out, "nothing has no least and no greatest element");
    return MBK_CALL(k, min_max, x, out);
}

int mbk_histogram(struct mbk *k, const struct mbk_tensor *x, float least, float most, const struct mbk_tensor *counts)
{
    if (mbk_check(k, "histogram", "x:f[...] counts:I64[B]", x, counts))
        return -1;
    if (mbk_count(counts) == 0 || !(least < most))
        return mbk_mismatch(k, "histogram", "x", x, "counts", counts, "it takes one bin or more, and least < most");
    return mbk_count(x) == 0 ? 0 : MBK_CALL(k, histogram, x, least, most, counts);
}
