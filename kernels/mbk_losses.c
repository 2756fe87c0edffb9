/* mbk_losses.c: checks of losses. */
#include "mbk_check.h"

/* A row without classes has no loss. */
static int check_classes(struct mbk *k, const char *operation, const struct mbk_tensor *x, const struct mbk_tensor *losses)
{
    if (mbk_count(losses) > 0 && mbk_row_length(x) == 0)
        return mbk_mismatch(k, operation, "x", x, "losses", losses, "a row of nothing has no loss");
    return 0;
}

int mbk_cross_entropy(struct mbk *k, const struct mbk_tensor *logits, const struct mbk_tensor *labels, float smoothing, float scale,
                      const struct mbk_tensor *losses, const struct mbk_tensor *dlogits)
{
    if (mbk_check(k, "cross_entropy", "logits:f[...,C] labels:I32[R] losses:F32[R] dlogits?:f[...,C]", logits, labels, losses, dlogits) ||
        check_classes(k, "cross_entropy", logits, losses))
        return -1;
    if (!(smoothing >= 0 && smoothing <= 1))
        return mbk_fail(k, "cross_entropy: the smoothing %g is not in [0, 1]", (double)smoothing);
    scale *= mbk_varied(k)->scale;
    return mbk_count(losses) == 0 ? 0 : MBK_CALL(k, cross_entropy, logits, labels, smoothing, scale, losses, dlogits);
}

int mbk_bce_with_logits(struct mbk *k, const struct mbk_tensor *logits, const struct mbk_tensor *targets, float scale,
                        const struct mbk_tensor *losses, const struct mbk_tensor *dlogits)
{
    if (mbk_check(k, "bce_with_logits", "logits:f[...,C] targets:F32[...,C] losses:F32[R] dlogits?:f[...,C]", logits, targets, losses,
                  dlogits) ||
        check_classes(k, "bce_with_logits", logits, losses))
        return -1;
    scale *= mbk_varied(k)->scale;
    return mbk_count(losses) == 0 ? 0 : MBK_CALL(k, bce_with_logits, logits, targets, scale, losses, dlogits);
}

int mbk_mse(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *targets, float scale, const struct mbk_tensor *losses,
            const struct mbk_tensor *dx)
{
    if (mbk_check(k, "mse", "x:f[...,C] targets:F32[...,C] losses:F32[R] dx?:f[...,C]", x, targets, losses, dx) ||
        check_classes(k, "mse", x, losses))
        return -1;
    scale *= mbk_varied(k)->scale;
    return mbk_count(losses) == 0 ? 0 : MBK_CALL(k, mse, x, targets, scale, losses, dx);
}

int mbk_distillation(struct mbk *k, const struct mbk_tensor *student, const struct mbk_tensor *teacher, const struct mbk_tensor *labels,
                     float temperature, float alpha, float scale, const struct mbk_tensor *losses, const struct mbk_tensor *dstudent)
{
    if (mbk_check(k, "distillation", "student:f[...,C] teacher:F[...,C] labels?:I32[R] losses:F32[R] dstudent?:f[...,C]", student, teacher,
                  labels, losses, dstudent) ||
        check_classes(k, "distillation", student, losses))
        return -1;
    if (!(temperature > 0) || !(alpha >= 0 && alpha <= 1))
        return mbk_fail(k, "distillation: the temperature %g is not above 0, or alpha %g not in [0, 1]", (double)temperature,
                        (double)alpha);
    if (!labels && alpha != 1)
        return mbk_fail(k, "distillation: labels are missing, and alpha is %g, not 1", (double)alpha);
    scale *= mbk_varied(k)->scale;
    return mbk_count(losses) == 0 ? 0 : MBK_CALL(k, distillation, student, teacher, labels, temperature, alpha, scale, losses, dstudent);
}

int mbk_bpr(struct mbk *k, const struct mbk_tensor *positive, const struct mbk_tensor *negative, float scale,
            const struct mbk_tensor *losses,
            const struct mbk_tensor *dpositive, const struct mbk_tensor *dnegative)
{
    if (mbk_check(k, "bpr", "positive:f[...] negative:f[R] losses:F32[R] dpositive?:f[R] dnegative?:f[R]", positive, negative, losses,
                  dpositive, dnegative))
        return -1;
    scale *= mbk_varied(k)->scale;
    return mbk_count(losses) == 0 ? 0 : MBK_CALL(k, bpr, positive, negative, scale, losses, dpositive, dnegative);
}
