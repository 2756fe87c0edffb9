/* kernels.c: see kernels.h. */
#include "kernels.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const kernels_backends[] = { "cpu", "cuda" };

enum { GUARD = 64, GUARD_BYTE = 0xA5, ALIGNED = 256, MOST_TENSORS = 256 };

/* What kernels_put took from the device, so that kernels_drop knows how far the guards reach. */
static struct taken {
    char *base;
    void *data;
    size_t bytes, before;
} taken[MOST_TENSORS];

struct mbk *kernels_open(const char *backend, int threads)
{
    char message[512];
    struct mbk *k;
    if (!mbk_available(backend))
        SKIP("there is no %s here", backend);
    struct mbk_options options = { .threads = threads };
    CHECKF(mbk_open(backend, &options, &k, message, sizeof message) == 0, "%s", message);
    return k;
}

void kernels_close(struct mbk *k)
{
    mbk_close(k);
}

double *kernels_zeros(int64_t n)
{
    double *values = calloc((size_t)(n > 0 ? n : 1), sizeof *values);
    CHECK(values != NULL);
    return values;
}

double *kernels_random(int64_t n, double least, double most, unsigned seed)
{
    double *values = kernels_zeros(n);
    uint64_t state = seed * 2654435761u + 88172645463325252u;
    for (int64_t i = 0; i < n; i++) { /* xorshift64* (Vigna 2016) */
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        values[i] = least + (most - least) * ((double)((state * 2685821657736338717u) >> 11) / 9007199254740992.0);
    }
    return values;
}

/* Mantissa bits with the hidden one, and the least exponent of a normal number. */
static int precision(enum mbk_type type, int *least)
{
    *least = type == MBK_F16 || type == MBK_F8_E5M2 ? -14 : type == MBK_F8_E4M3 ? -6 : type == MBK_F64 ? -1022 : -126;
    return type == MBK_F64 ? 53 : type == MBK_F32 ? 24 : type == MBK_F16 ? 11 : type == MBK_BF16 ? 8 : type == MBK_F8_E4M3 ? 4 : 3;
}

double kernels_epsilon(enum mbk_type type)
{
    int least;
    return ldexp(1, -precision(type, &least));
}

double kernels_round(enum mbk_type type, double x)
{
    int least, exponent, bits = precision(type, &least);
    if (type == MBK_F64 || !isfinite(x) || x == 0)
        return x;
    frexp(x, &exponent);
    int unit = (exponent - 1 < least ? least : exponent - 1) - (bits - 1);
    return ldexp(nearbyint(ldexp(x, -unit)), unit);
}

static size_t element_size(enum mbk_type type)
{
    struct mbk_tensor one = { .type = type };
    return mbk_bytes(&one);
}

static void encode(enum mbk_type type, double x, void *to)
{
    float f = (float)x;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    switch (type) {
    case MBK_F32: memcpy(to, &f, 4); break;
    case MBK_F64: memcpy(to, &x, 8); break;
    case MBK_BF16: bits >>= 16; memcpy(to, &bits, 2); break; /* x was rounded already */
    case MBK_I64: { int64_t v = (int64_t)x; memcpy(to, &v, 8); break; }
    case MBK_I32: { int32_t v = (int32_t)x; memcpy(to, &v, 4); break; }
    case MBK_I8: { int8_t v = (int8_t)x; memcpy(to, &v, 1); break; }
    case MBK_U8: { uint8_t v = (uint8_t)x; memcpy(to, &v, 1); break; }
    default: FAIL("no test makes %s", mbk_type_name(type));
    }
}

static double decode(enum mbk_type type, const void *from)
{
    switch (type) {
    case MBK_F32: { float v; memcpy(&v, from, 4); return (double)v; }
    case MBK_F64: { double v; memcpy(&v, from, 8); return v; }
    case MBK_BF16: { uint16_t h; memcpy(&h, from, 2); uint32_t bits = (uint32_t)h << 16; float v; memcpy(&v, &bits, 4); return (double)v; }
    case MBK_I64: { int64_t v; memcpy(&v, from, 8); return (double)v; }
    case MBK_I32: { int32_t v; memcpy(&v, from, 4); return (double)v; }
    case MBK_I8: { int8_t v; memcpy(&v, from, 1); return (double)v; }
    case MBK_U8: { uint8_t v; memcpy(&v, from, 1); return (double)v; }
    default: FAIL("no test reads %s", mbk_type_name(type));
    }
}

struct mbk_tensor kernels_put(struct mbk *k, enum mbk_type type, int rank, const int64_t *shape, double *values)
{
    struct mbk_tensor t = mbk_tensor(NULL, type, rank, shape);
    size_t bytes = mbk_bytes(&t), size = element_size(type), before = ALIGNED + size; /* one element off */
    struct taken *slot = taken;
    while (slot < taken + MOST_TENSORS && slot->base)
        slot++;
    CHECK(slot < taken + MOST_TENSORS);
    char *host = malloc(before + bytes + GUARD);
    CHECK(host != NULL);
    memset(host, GUARD_BYTE, before + bytes + GUARD);
    int is_float = type == MBK_F32 || type == MBK_F64 || type == MBK_BF16;
    for (int64_t i = 0; values && i < mbk_count(&t); i++) {
        values[i] = is_float ? kernels_round(type, values[i]) : values[i];
        encode(type, values[i], host + before + (size_t)i * size);
    }
    char *base = mbk_alloc(k, before + bytes + GUARD);
    CHECKF(base != NULL, "%s", mbk_error(k));
    CHECK_RUN(k, mbk_write(k, base, host, before + bytes + GUARD));
    CHECK_RUN(k, mbk_sync(k));
    free(host);
    t.data = base + before;
    *slot = (struct taken){ base, t.data, bytes, before };
    return t;
}

double *kernels_get(struct mbk *k, const struct mbk_tensor *t)
{
    size_t bytes = mbk_bytes(t), size = element_size(t->type);
    char *host = malloc(bytes + 1);
    CHECK(host != NULL);
    CHECK_RUN(k, mbk_read(k, host, t->data, bytes));
    double *values = kernels_zeros(mbk_count(t));
    for (int64_t i = 0; i < mbk_count(t); i++)
        values[i] = decode(t->type, host + (size_t)i * size);
    free(host);
    return values;
}

void kernels_drop(struct mbk *k, struct mbk_tensor *t)
{
    struct taken *slot = taken;
    while (slot < taken + MOST_TENSORS && !(slot->base && slot->data == t->data))
        slot++;
    CHECK(slot < taken + MOST_TENSORS);
    size_t all = slot->before + slot->bytes + GUARD;
    unsigned char *host = malloc(all);
    CHECK(host != NULL);
    CHECK_RUN(k, mbk_read(k, host, slot->base, all));
    for (size_t i = 0; i < all; i++)
        if ((i < slot->before || i >= slot->before + slot->bytes) && host[i] != GUARD_BYTE)
            FAIL("byte %lld beside a %s tensor of %zu bytes was written", (long long)i - (long long)slot->before, mbk_type_name(t->type),
                 slot->bytes);
    free(host);
    mbk_free(k, slot->base);
    slot->base = NULL;
}

void kernels_check(struct mbk *k, const char *what, const struct mbk_tensor *t, const double *expected, const double *magnitude,
                   double factor)
{
    double *found = kernels_get(k, t), own = t->type == MBK_F32 || t->type == MBK_BF16 ? kernels_epsilon(t->type) : 0;
    for (int64_t i = 0; i < mbk_count(t); i++) {
        double e = expected[i], size = magnitude ? magnitude[i] : fabs(e);
        double tolerance = own * fabs(e) + factor * kernels_epsilon(MBK_F32) * size + 1e-40;
        int good = isnan(e) ? isnan(found[i]) : isinf(e) ? found[i] == e : fabs(found[i] - e) <= tolerance;
        if (!good)
            FAIL("%s: element %lld of %lld is %.9g, not %.9g within %.3g", what, (long long)i, (long long)mbk_count(t), found[i], e,
                 tolerance);
    }
    free(found);
}

void kernels_differentiate(double (*f)(void *context), void *context, double *x, int64_t n, double *gradient)
{
    for (int64_t i = 0; i < n; i++) {
        double at = x[i], h = 1e-5 * fmax(1, fabs(at));
        x[i] = at + h;
        double above = f(context);
        x[i] = at - h;
        double below = f(context);
        x[i] = at;
        gradient[i] = (above - below) / (2 * h);
    }
}
