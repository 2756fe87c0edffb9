/* philox.c: Philox by AVX2 and AVX-512. */
#include "philox.h"
#include "cpu.h"

static void philox_plain(uint64_t seed, uint64_t counter, uint32_t out[PHILOX_WORDS])
{
    philox_words(seed, counter, out);
}

#ifdef __x86_64__
#include <immintrin.h>

/* Four counters in 64-bit lanes, whose lower halves are multiplied; what the upper ones hold doesn't matter until the end. Compilers do not
 * find this instruction by themselves. */
__attribute__((target("avx2"))) static void philox_avx2(uint64_t seed, uint64_t counter, uint32_t out[PHILOX_WORDS])
{
    const __m256i m0 = _mm256_set1_epi64x(0xD2511F53), m1 = _mm256_set1_epi64x(0xCD9E8D57);
    __m256i c0[4], c1[4], c2[4], c3[4];
    CPU_UNROLL
    for (int q = 0; q < 4; q++) {
        __m256i n = _mm256_add_epi64(_mm256_set1_epi64x((int64_t)(counter + 4 * (uint64_t)q)), _mm256_set_epi64x(3, 2, 1, 0));
        c0[q] = n;
        c1[q] = _mm256_srli_epi64(n, 32);
        c2[q] = c3[q] = _mm256_setzero_si256();
    }
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        __m256i k0 = _mm256_set1_epi64x(key0), k1 = _mm256_set1_epi64x(key1);
        CPU_UNROLL
        for (int q = 0; q < 4; q++) {
            __m256i p0 = _mm256_mul_epu32(c0[q], m0), p1 = _mm256_mul_epu32(c2[q], m1);
            c0[q] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p1, 32), c1[q]), k0);
            c2[q] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p0, 32), c3[q]), k1);
            c1[q] = p1;
            c3[q] = p0;
        }
        key0 += 0x9E3779B9;
        key1 += 0xBB67AE85;
    }
    CPU_UNROLL
    for (int q = 0; q < 4; q++) {
        __m256i first = _mm256_blend_epi32(c0[q], _mm256_slli_epi64(c1[q], 32), 0xaa),
                second = _mm256_blend_epi32(c2[q], _mm256_slli_epi64(c3[q], 32), 0xaa);
        __m256i even = _mm256_unpacklo_epi64(first, second), odd = _mm256_unpackhi_epi64(first, second);
        _mm256_storeu_si256((__m256i *)(void *)(out + 16 * q), _mm256_permute2x128_si256(even, odd, 0x20));
        _mm256_storeu_si256((__m256i *)(void *)(out + 16 * q + 8), _mm256_permute2x128_si256(even, odd, 0x31));
    }
}

/* The same, eight counters at a time. */
__attribute__((target("avx512f"))) static void philox_avx512(uint64_t seed, uint64_t counter, uint32_t out[PHILOX_WORDS])
{
    const __m512i m0 = _mm512_set1_epi64(0xD2511F53), m1 = _mm512_set1_epi64(0xCD9E8D57);
    __m512i c0[2], c1[2], c2[2], c3[2];
    CPU_UNROLL
    for (int q = 0; q < 2; q++) {
        c0[q] = _mm512_add_epi64(_mm512_set1_epi64((int64_t)(counter + 8 * (uint64_t)q)), _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0));
        c1[q] = _mm512_srli_epi64(c0[q], 32);
        c2[q] = c3[q] = _mm512_setzero_si512();
    }
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        __m512i k0 = _mm512_set1_epi64(key0), k1 = _mm512_set1_epi64(key1);
        CPU_UNROLL
        for (int q = 0; q < 2; q++) {
            __m512i p0 = _mm512_mul_epu32(c0[q], m0), p1 = _mm512_mul_epu32(c2[q], m1);
            c0[q] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(p1, 32), c1[q], k0, 0x96); /* all three xored */
            c2[q] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(p0, 32), c3[q], k1, 0x96);
            c1[q] = p1;
            c3[q] = p0;
        }
        key0 += 0x9E3779B9;
        key1 += 0xBB67AE85;
    }
    CPU_UNROLL
    for (int q = 0; q < 2; q++) {
        __m512i first = _mm512_mask_blend_epi32(0xaaaa, c0[q], _mm512_slli_epi64(c1[q], 32));
        __m512i second = _mm512_mask_blend_epi32(0xaaaa, c2[q], _mm512_slli_epi64(c3[q], 32));
        __m512i even = _mm512_unpacklo_epi64(first, second), odd = _mm512_unpackhi_epi64(first, second);
        /* even: counters 0, 2, 4, 6; odd: 1, 3, 5, 7 */
        __m512i low = _mm512_permutex2var_epi64(even, _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0), odd);
        __m512i high = _mm512_permutex2var_epi64(even, _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4), odd);
        _mm512_storeu_si512(out + 32 * q, low);
        _mm512_storeu_si512(out + 32 * q + 16, high);
    }
}
#endif

cpu_philox *cpu_philox_of(const struct mbk *k)
{
#ifdef __x86_64__
    if (cpu_of(k)->level == CPU_AVX512)
        return philox_avx512;
    if (cpu_of(k)->level == CPU_AVX2)
        return philox_avx2;
#endif
    (void)k;
    return philox_plain;
}
