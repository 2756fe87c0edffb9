/* mbk_elementwise.c: checks of activations, sums, casts, dropout and random numbers; and Philox itself, which all devices share. */
#include "mbk_check.h"

int mbk_activate(struct mbk *k, enum mbk_activation f, const struct mbk_tensor *x, const struct mbk_tensor *y)
{
    if (mbk_check(k, "activate", "x:f[...] y:f[...]", x, y) || mbk_check_activation(k, "activate", f))
        return -1;
    return mbk_count(y) == 0 ? 0 : MBK_CALL(k, activate, f, x, y);
}

int mbk_activate_backward(struct mbk *k, enum mbk_activation f, const struct mbk_tensor *x, const struct mbk_tensor *dy,
                          const struct mbk_tensor *dx)
{
    if (mbk_check(k, "activate_backward", "x:f[...] dy:f[...] dx:f[...]", x, dy, dx) || mbk_check_activation(k, "activate_backward", f))
        return -1;
    return mbk_count(dx) == 0 ? 0 : MBK_CALL(k, activate_backward, f, x, dy, dx);
}

/* b like a, or one row that goes to all of a's. */
static int check_pair(struct mbk *k, const char *operation, const struct mbk_tensor *a, const struct mbk_tensor *b,
                      const struct mbk_tensor *c)
{
    if (mbk_check(k, operation, "a:f[...] c:f[...]", a, c))
        return -1;
    return mbk_check(k, operation, b && b->rank == 1 && a->rank > 1 ? "a:f[...,C] b:f[C]" : "a:f[...] b:f[...]", a, b);
}

int mbk_add(struct mbk *k, const struct mbk_tensor *a, const struct mbk_tensor *b, const struct mbk_tensor *c)
{
    if (check_pair(k, "add", a, b, c))
        return -1;
    return mbk_count(c) == 0 ? 0 : MBK_CALL(k, add, a, b, c);
}

int mbk_multiply(struct mbk *k, const struct mbk_tensor *a, const struct mbk_tensor *b, const struct mbk_tensor *c)
{
    if (check_pair(k, "multiply", a, b, c))
        return -1;
    return mbk_count(c) == 0 ? 0 : MBK_CALL(k, multiply, a, b, c);
}

int mbk_scale(struct mbk *k, float factor, const struct mbk_tensor *x)
{
    if (mbk_check(k, "scale", "x:f[...]", x))
        return -1;
    return mbk_count(x) == 0 ? 0 : MBK_CALL(k, scale, factor, x);
}

int mbk_axpy(struct mbk *k, float factor, const struct mbk_tensor *x, const struct mbk_tensor *y)
{
    if (mbk_check(k, "axpy", "x:F[...] y:F[...]", x, y))
        return -1;
    return mbk_count(y) == 0 ? 0 : MBK_CALL(k, axpy, factor, x, y);
}

int mbk_cast(struct mbk *k, const struct mbk_tensor *from, const struct mbk_tensor *to)
{
    if (mbk_check(k, "cast", "from:*[...] to:*[R]", from, to))
        return -1;
    if (from->type == MBK_I4 || from->type >= MBK_Q8_0 || to->type == MBK_I4 || to->type >= MBK_Q8_0)
        return mbk_mismatch(k, "cast", "from", from, "to", to, "packed types are converted by mbk_quantize_… and mbk_dequantize_…");
    return mbk_count(to) == 0 ? 0 : MBK_CALL(k, cast, from, to);
}

int mbk_dropout(struct mbk *k, float rate, uint64_t seed, uint64_t offset, const struct mbk_tensor *x, const struct mbk_tensor *y)
{
    if (mbk_check(k, "dropout", "x:f[...] y:f[...]", x, y))
        return -1;
    if (!(rate >= 0 && rate < 1))
        return mbk_fail(k, "dropout: the rate %g is not in [0, 1)", (double)rate);
    offset += mbk_varied(k)->offset;
    return mbk_count(y) == 0 ? 0 : MBK_CALL(k, dropout, rate, seed, offset, x, y);
}

int mbk_random_normal(struct mbk *k, float mean, float deviation, uint64_t seed, uint64_t offset, const struct mbk_tensor *x)
{
    if (mbk_check(k, "random_normal", "x:f[...]", x))
        return -1;
    offset += mbk_varied(k)->offset;
    return mbk_count(x) == 0 ? 0 : MBK_CALL(k, random_normal, mean, deviation, seed, offset, x);
}

int mbk_random_uniform(struct mbk *k, float least, float most, uint64_t seed, uint64_t offset, const struct mbk_tensor *x)
{
    if (mbk_check(k, "random_uniform", "x:f[...]", x))
        return -1;
    offset += mbk_varied(k)->offset;
    return mbk_count(x) == 0 ? 0 : MBK_CALL(k, random_uniform, least, most, seed, offset, x);
}

/* Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3 (SC 2011), Philox4x32-10. The counter's upper half is 0. */
void mbk_philox(uint64_t seed, uint64_t offset, uint32_t out[4])
{
    uint32_t c0 = (uint32_t)offset, c1 = (uint32_t)(offset >> 32), c2 = 0, c3 = 0;
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53 * c0, p1 = (uint64_t)0xCD9E8D57 * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ key0;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ key1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        key0 += 0x9E3779B9;
        key1 += 0xBB67AE85;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}
