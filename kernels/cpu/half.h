/* half.h: IEEE 754 half precision, for the scales of GGUF's blocks. */
#ifndef MBK_CPU_HALF_H
#define MBK_CPU_HALF_H

#include <stdint.h>
#include <string.h>

/* The half's bits, moved to a float's place, are the number times 2^-112, subnormal ones too. */
static inline float cpu_half_to_float(uint16_t h)
{
    uint32_t magnitude = (uint32_t)(h & 0x7fff) << 13, bits;
    float x;
    memcpy(&x, &magnitude, sizeof x);
    x *= 0x1p112f;
    memcpy(&bits, &x, sizeof bits);
    bits |= (magnitude >= 0x0f800000 ? 0x7f800000 : 0) | (uint32_t)(h & 0x8000) << 16;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint16_t cpu_float_to_half(float x) /* to nearest even */
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000, a = bits & 0x7fffffff;
    if (a > 0x7f800000)
        return (uint16_t)(sign | 0x7e00);
    if (a >= 0x47800000)
        return (uint16_t)(sign | 0x7c00);
    if (a < 0x38800000) { /* subnormal: the addition rounds at the last bit that a half has */
        float magnitude;
        memcpy(&magnitude, &a, sizeof magnitude);
        magnitude += 0.5f;
        memcpy(&a, &magnitude, sizeof a);
        return (uint16_t)(sign | (a - 0x3f000000));
    }
    return (uint16_t)(sign | (a - 0x38000000 + 0xfff + (a >> 13 & 1)) >> 13);
}

#endif
