/* convert.c: elements of one type as those of another.
 *
 * Between float32 and bfloat16 by loops of their own. All others go through double, which holds every float and, of the integers, all up
 * to 2^53: integers among themselves and to float32 and float64 go directly. The small floats are rounded straight from the double.
 */
#include "cpu.h"

#include <math.h>

CPU_CLONES static void widen(const uint16_t *from, float *to, int64_t n)
{
    CPU_LOOP(i, n)
        to[i] = cpu_bf16_to_float(from[i]);
}

CPU_CLONES static void narrow(const float *from, uint16_t *to, int64_t n)
{
    CPU_LOOP(i, n)
        to[i] = cpu_float_to_bf16(from[i]);
}

void cpu_bf16_to_floats(const uint16_t *from, float *to, int64_t n)
{
    widen(from, to, n);
}

void cpu_floats_to_bf16(const float *from, uint16_t *to, int64_t n)
{
    narrow(from, to, n);
}

/* -- Floats of 8 and 16 bits, by their fields. */

struct small_float {
    int mantissa, bias; /* bits of the one; of the exponent, what is taken from it */
    double most;        /* the greatest finite value */
    unsigned beyond;    /* what values beyond it become: infinity, or `most` where they saturate */
    unsigned last;      /* the last code that is a number, infinity where the format has one; above it is NaN */
    unsigned nan, sign;
};

static const struct small_float formats[] = {
    [MBK_F16] = { 10, 15, 65504.0, 0x7c00, 0x7c00, 0x7e00, 0x8000 },
    [MBK_BF16] = { 7, 127, 0x1.fep127, 0x7f80, 0x7f80, 0x7fc0, 0x8000 },
    [MBK_F8_E4M3] = { 3, 7, 448.0, 0x7e, 0x7e, 0x7f, 0x80 },
    [MBK_F8_E5M2] = { 2, 15, 57344.0, 0x7b, 0x7c, 0x7e, 0x80 },
};

static unsigned encode(const struct small_float *f, double x)
{
    unsigned sign = signbit(x) ? f->sign : 0;
    double a = fabs(x);
    if (isnan(a))
        return sign | f->nan;
    if (a == 0)
        return sign;
    if (isinf(a))
        return sign | f->beyond;
    int exponent, least = 1 - f->bias;
    frexp(a, &exponent);
    exponent = exponent - 1 < least ? least : exponent - 1;
    double units = nearbyint(ldexp(a, f->mantissa - exponent));
    if (ldexp(units, exponent - f->mantissa) > f->most)
        return sign | f->beyond;
    /* The mantissa's leading 1, where there is one, adds 1 to the exponent's field, and so does rounding up to the next power of two. */
    return sign | (((unsigned)(exponent - least) << f->mantissa) + (unsigned)units);
}

static double decode(const struct small_float *f, unsigned code)
{
    unsigned magnitude = code & (f->sign - 1), field = magnitude >> f->mantissa, mantissa = magnitude & ((1u << f->mantissa) - 1);
    double x;
    if (magnitude > f->last)
        x = NAN;
    else if (field == 0)
        x = ldexp(mantissa, 1 - f->bias - f->mantissa);
    else
        x = ldexp(mantissa + (1u << f->mantissa), (int)field - f->bias - f->mantissa);
    if (x > f->most)
        x = INFINITY;
    return code & f->sign ? -x : x;
}

/* -- One element of any type. */

static int is_integer(enum mbk_type type)
{
    return type == MBK_I64 || type == MBK_I32 || type == MBK_I8 || type == MBK_U8;
}

static int64_t get_integer(enum mbk_type type, const void *data, int64_t i)
{
    switch (type) {
    case MBK_I64: return ((const int64_t *)data)[i];
    case MBK_I32: return ((const int32_t *)data)[i];
    case MBK_I8: return ((const int8_t *)data)[i];
    default: return ((const uint8_t *)data)[i];
    }
}

static double get_double(enum mbk_type type, const void *data, int64_t i)
{
    switch (type) {
    case MBK_F32: return (double)((const float *)data)[i];
    case MBK_F64: return ((const double *)data)[i];
    case MBK_BF16:
    case MBK_F16: return decode(&formats[type], ((const uint16_t *)data)[i]);
    case MBK_F8_E4M3:
    case MBK_F8_E5M2: return decode(&formats[type], ((const uint8_t *)data)[i]);
    default: return (double)get_integer(type, data, i);
    }
}

static int64_t clamp(int64_t x, int64_t least, int64_t most)
{
    return x < least ? least : x > most ? most : x;
}

static void put_integer(enum mbk_type type, void *data, int64_t i, int64_t x)
{
    switch (type) {
    case MBK_I64: ((int64_t *)data)[i] = x; break;
    case MBK_I32: ((int32_t *)data)[i] = (int32_t)clamp(x, INT32_MIN, INT32_MAX); break;
    case MBK_I8: ((int8_t *)data)[i] = (int8_t)clamp(x, INT8_MIN, INT8_MAX); break;
    default: ((uint8_t *)data)[i] = (uint8_t)clamp(x, 0, UINT8_MAX); break;
    }
}

static void put_double(enum mbk_type type, void *data, int64_t i, double x)
{
    switch (type) {
    case MBK_F32: ((float *)data)[i] = (float)x; break;
    case MBK_F64: ((double *)data)[i] = x; break;
    case MBK_BF16:
    case MBK_F16: ((uint16_t *)data)[i] = (uint16_t)encode(&formats[type], x); break;
    case MBK_F8_E4M3:
    case MBK_F8_E5M2: ((uint8_t *)data)[i] = (uint8_t)encode(&formats[type], x); break;
    default:
        x = nearbyint(x);
        put_integer(type, data, i, isnan(x) ? 0 : x >= 0x1p63 ? INT64_MAX : x < -0x1p63 ? INT64_MIN : (int64_t)x);
    }
}

struct work {
    const struct mbk_tensor *from, *to;
};

static void work_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct work *w = context;
    enum mbk_type from = w->from->type, to = w->to->type;
    (void)worker;
    if (from == MBK_BF16 && to == MBK_F32) {
        cpu_bf16_to_floats((const uint16_t *)w->from->data + first, (float *)w->to->data + first, end - first);
    } else if (from == MBK_F32 && to == MBK_BF16) {
        cpu_floats_to_bf16((const float *)w->from->data + first, (uint16_t *)w->to->data + first, end - first);
    } else if (is_integer(from) && is_integer(to)) {
        for (int64_t i = first; i < end; i++)
            put_integer(to, w->to->data, i, get_integer(from, w->from->data, i));
    } else if (is_integer(from) && to == MBK_F32) {
        for (int64_t i = first; i < end; i++)
            ((float *)w->to->data)[i] = (float)get_integer(from, w->from->data, i);
    } else {
        for (int64_t i = first; i < end; i++)
            put_double(to, w->to->data, i, get_double(from, w->from->data, i));
    }
}

int cpu_cast(struct mbk *k, const struct mbk_tensor *from, const struct mbk_tensor *to)
{
    struct work w = { from, to };
    if (from->type == to->type) {
        if (from->data != to->data)
            memcpy(to->data, from->data, mbk_bytes(to));
        return 0;
    }
    cpu_parallel(k, mbk_count(to), cpu_grain(8), work_body, &w);
    return 0;
}
