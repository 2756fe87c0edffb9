/* blocks_avx512.c: dot products of GGUF's blocks and of 4-bit groups with floats. A level of 4 bits is looked up: the permutation takes
 * the lower four bits of each lane as its index and doesn't see the others.
 */
#include "blocks.h"

#ifdef __x86_64__
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,f16c,fma")))
#define INLINE TARGET static inline __attribute__((always_inline))

enum { SUMS = 4 }; /* so many at once, since each has to wait for itself */

INLINE __m512 half_of(const uint8_t *from)
{
    return _mm512_cvtph_ps(_mm256_set1_epi16((int16_t)(from[0] | from[1] << 8)));
}

INLINE __m512i bytes_of(const uint8_t *from)
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)from));
}

INLINE __m256 eight_of(const uint8_t *from)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)from)));
}

INLINE __m512 join(const __m512 sum[SUMS])
{
    return _mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3]));
}

INLINE __m512 q8_0_block(const uint8_t *block, const float *x, __m512 sum)
{
    __m512 a = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(block + 2))));
    __m512 b = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(block + 18))));
    __m512 part = _mm512_fmadd_ps(b, _mm512_loadu_ps(x + 16), _mm512_mul_ps(a, _mm512_loadu_ps(x)));
    return _mm512_fmadd_ps(half_of(block), part, sum);
}

INLINE __m512 q4_0_block(const uint8_t *block, const float *x, __m512 sum)
{
    const __m512 levels = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
    __m512i q = bytes_of(block + 2);
    __m512 a = _mm512_permutexvar_ps(q, levels), b = _mm512_permutexvar_ps(_mm512_srli_epi32(q, 4), levels);
    __m512 part = _mm512_fmadd_ps(b, _mm512_loadu_ps(x + 16), _mm512_mul_ps(a, _mm512_loadu_ps(x)));
    return _mm512_fmadd_ps(half_of(block), part, sum);
}

/* Two parts of 32, the lower and the upper halves of the same bytes: Σ (factor q − less) x. */
INLINE __m512 q4_k_parts(const uint8_t *q, const float factor[2], const float less[2], const float *x, __m512 sum)
{
    const __m512 levels = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512i first = bytes_of(q), second = bytes_of(q + 16);
    __m512 x0 = _mm512_loadu_ps(x), x1 = _mm512_loadu_ps(x + 16), x2 = _mm512_loadu_ps(x + 32), x3 = _mm512_loadu_ps(x + 48);
    __m512 low = _mm512_mul_ps(_mm512_permutexvar_ps(first, levels), x0);
    low = _mm512_fmadd_ps(_mm512_permutexvar_ps(second, levels), x1, low);
    __m512 high = _mm512_mul_ps(_mm512_permutexvar_ps(_mm512_srli_epi32(first, 4), levels), x2);
    high = _mm512_fmadd_ps(_mm512_permutexvar_ps(_mm512_srli_epi32(second, 4), levels), x3, high);
    __m512 less_low = _mm512_mul_ps(_mm512_set1_ps(less[0]), _mm512_add_ps(x0, x1));
    __m512 less_both = _mm512_fmadd_ps(_mm512_set1_ps(less[1]), _mm512_add_ps(x2, x3), less_low);
    sum = _mm512_fmadd_ps(_mm512_set1_ps(factor[0]), low, sum);
    return _mm512_sub_ps(_mm512_fmadd_ps(_mm512_set1_ps(factor[1]), high, sum), less_both);
}

TARGET static float q8_0_dot(const uint8_t *block, const float *x, int64_t blocks)
{
    __m512 sum[SUMS] = { _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps() };
    int64_t b = 0;
    for (; b + SUMS <= blocks; b += SUMS)
        CPU_UNROLL
        for (int i = 0; i < SUMS; i++)
            sum[i] = q8_0_block(block + (b + i) * 34, x + (b + i) * 32, sum[i]);
    for (; b < blocks; b++)
        sum[0] = q8_0_block(block + b * 34, x + b * 32, sum[0]);
    return _mm512_reduce_add_ps(join(sum));
}

TARGET static float q4_0_dot(const uint8_t *block, const float *x, int64_t blocks)
{
    __m512 sum[SUMS] = { _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps() };
    int64_t b = 0;
    for (; b + SUMS <= blocks; b += SUMS)
        CPU_UNROLL
        for (int i = 0; i < SUMS; i++)
            sum[i] = q4_0_block(block + (b + i) * 18, x + (b + i) * 32, sum[i]);
    for (; b < blocks; b++)
        sum[0] = q4_0_block(block + b * 18, x + b * 32, sum[0]);
    return _mm512_reduce_add_ps(join(sum));
}

TARGET static float q4_k_dot(const uint8_t *block, const float *x, int64_t blocks)
{
    __m512 sum[SUMS] = { _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps() };
    for (int64_t b = 0; b < blocks; b++, block += 144, x += 256) {
        uint8_t scales[8], minima[8];
        float factor[8], less[8];
        cpu_q4_k_scales(block + 4, scales, minima);
        _mm256_storeu_ps(factor, _mm256_mul_ps(eight_of(scales), _mm512_castps512_ps256(half_of(block))));
        _mm256_storeu_ps(less, _mm256_mul_ps(eight_of(minima), _mm512_castps512_ps256(half_of(block + 2))));
        CPU_UNROLL
        for (int i = 0; i < SUMS; i++)
            sum[i] = q4_k_parts(block + 16 + i * 32, factor + 2 * i, less + 2 * i, x + i * 64, sum[i]);
    }
    return _mm512_reduce_add_ps(join(sum));
}

float cpu_blocks_dot_avx512(enum mbk_type type, const void *data, int64_t first, int64_t n, const float *x)
{
    const uint8_t *blocks = data;
    switch (type) {
    case MBK_Q8_0: return q8_0_dot(blocks + first / 32 * 34, x, n / 32);
    case MBK_Q4_0: return q4_0_dot(blocks + first / 32 * 18, x, n / 32);
    default: return q4_k_dot(blocks + first / 256 * 144, x, n / 256);
    }
}

/* Elements 2 i and 2 i + 1 are in byte i: x is parted into those of even and of odd place. */
TARGET float cpu_int4_dot_avx512(const uint8_t *q, const float *scales, int64_t group, int64_t n, const float *x)
{
    const __m512 levels = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1);
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    __m512 sum = _mm512_setzero_ps();
    for (int64_t g = 0; g < n; g += group) {
        __m512 low = _mm512_setzero_ps(), high = _mm512_setzero_ps();
        for (int64_t i = g; i < g + group; i += CPU_INT4_DOT) {
            __m512i bytes = bytes_of(q + i / 2);
            __m512 a = _mm512_loadu_ps(x + i), b = _mm512_loadu_ps(x + i + 16);
            low = _mm512_fmadd_ps(_mm512_permutexvar_ps(bytes, levels), _mm512_permutex2var_ps(a, even, b), low);
            high = _mm512_fmadd_ps(_mm512_permutexvar_ps(_mm512_srli_epi32(bytes, 4), levels), _mm512_permutex2var_ps(a, odd, b), high);
        }
        sum = _mm512_fmadd_ps(_mm512_set1_ps(*scales++), _mm512_add_ps(low, high), sum);
    }
    return _mm512_reduce_add_ps(sum);
}
#endif
