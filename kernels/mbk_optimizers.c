/* mbk_optimizers.c: checks of optimizers and of what works on gradients. */
#include "mbk_check.h"

#include <stdio.h>

/* moments: how many of first and second are needed. */
static int check_parameters(struct mbk *k, const char *operation, const struct mbk_parameter *parameters, int count, int moments)
{
    for (int i = 0; i < count; i++) {
        const struct mbk_parameter *p = &parameters[i];
        char name[64];
        snprintf(name, sizeof name, "%s, parameter %d", operation, i);
        if (mbk_check(k, name, "value:F[...] gradient:F[...] master?:F32[...] first?:F32[...] second?:F32[...]", &p->value, &p->gradient,
                      moments > 0 && p->master.data ? &p->master : NULL, moments > 0 ? &p->first : NULL, moments > 1 ? &p->second : NULL))
            return -1;
    }
    return 0;
}

static int check_gradients(struct mbk *k, const char *operation, const struct mbk_parameter *parameters, int count)
{
    for (int i = 0; i < count; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s, parameter %d", operation, i);
        if (mbk_check(k, name, "gradient:f[...]", &parameters[i].gradient))
            return -1;
    }
    return 0;
}

int mbk_adam(struct mbk *k, const struct mbk_adam *o, struct mbk_parameter *parameters, int count)
{
    if (check_parameters(k, "adam", parameters, count, 2) || mbk_check(k, "adam", "scale?:F32[]", o->scale))
        return -1;
    int64_t step = o->step + k->varying.step;
    if (step < 1 || !(o->beta1 >= 0 && o->beta1 < 1) || !(o->beta2 >= 0 && o->beta2 < 1))
        return mbk_fail(k, "adam: step %lld must be 1 or more, and the betas %g and %g in [0, 1)", (long long)step, (double)o->beta1,
                        (double)o->beta2);
    struct mbk_adam varied = *o;
    varied.lr *= mbk_varied(k)->lr;
    varied.step += mbk_varied(k)->step;
    return count == 0 ? 0 : MBK_CALL(k, adam, &varied, parameters, count);
}

int mbk_sgd(struct mbk *k, const struct mbk_sgd *o, struct mbk_parameter *parameters, int count)
{
    if (check_parameters(k, "sgd", parameters, count, o->momentum != 0 ? 1 : 0) || mbk_check(k, "sgd", "scale?:F32[]", o->scale))
        return -1;
    struct mbk_sgd varied = *o;
    varied.lr *= mbk_varied(k)->lr;
    return count == 0 ? 0 : MBK_CALL(k, sgd, &varied, parameters, count);
}

int mbk_gradient_norm(struct mbk *k, const struct mbk_parameter *parameters, int count, float most, const struct mbk_tensor *norm,
                      const struct mbk_tensor *scale)
{
    if (check_gradients(k, "gradient_norm", parameters, count) || mbk_check(k, "gradient_norm", "norm?:F32[] scale?:F32[]", norm, scale))
        return -1;
    if (!norm && !scale)
        return 0;
    return MBK_CALL(k, gradient_norm, parameters, count, most, norm, scale);
}

int mbk_zero_gradients(struct mbk *k, struct mbk_parameter *parameters, int count)
{
    if (check_gradients(k, "zero_gradients", parameters, count))
        return -1;
    return count == 0 ? 0 : MBK_CALL(k, zero_gradients, parameters, count);
}

int mbk_private_sum(struct mbk *k, const struct mbk_tensor *gradients, float most, float noise, uint64_t seed, uint64_t offset,
                    const struct mbk_tensor *sum)
{
    if (mbk_check(k, "private_sum", "gradients:f[B,P] sum:F[P]", gradients, sum))
        return -1;
    if (!(most > 0) || !(noise >= 0))
        return mbk_fail(k, "private_sum: the norm %g must be above 0, and the noise %g not below", (double)most, (double)noise);
    offset += mbk_varied(k)->offset;
    return mbk_count(sum) == 0 ? 0 : MBK_CALL(k, private_sum, gradients, most, noise, seed, offset, sum);
}
