/* philox.c: Philox by AVX2. */
#include "philox.h"
#include "cpu.h"

static void philox_plain(uint64_t seed, uint64_t counter, uint32_t out[PHILOX_WORDS])
{
    philox_words(seed, counter, out);
}

#ifdef __x86_64__
#include <immintrin.h>

/* Four counters in 64-bit lanes, whose lower halves are multiplied. Compilers do not find this instruction by themselves. */
__attribute__((target("avx2"))) static void philox_avx2(uint64_t seed, uint64_t counter, uint32_t out[PHILOX_WORDS])
{
    const __m256i low = _mm256_set1_epi64x(0xffffffff), m0 = _mm256_set1_epi64x(0xD2511F53), m1 = _mm256_set1_epi64x(0xCD9E8D57);
    __m256i c0[4], c1[4], c2[4], c3[4];
    CPU_UNROLL
    for (int q = 0; q < 4; q++) {
        __m256i n = _mm256_add_epi64(_mm256_set1_epi64x((int64_t)(counter + 4 * (uint64_t)q)), _mm256_set_epi64x(3, 2, 1, 0));
        c0[q] = _mm256_and_si256(n, low);
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
            c1[q] = _mm256_and_si256(p1, low);
            c3[q] = _mm256_and_si256(p0, low);
        }
        key0 += 0x9E3779B9;
        key1 += 0xBB67AE85;
    }
    CPU_UNROLL
    for (int q = 0; q < 4; q++) {
        __m256i first = _mm256_or_si256(c0[q], _mm256_slli_epi64(c1[q], 32)), second = _mm256_or_si256(c2[q], _mm256_slli_epi64(c3[q], 32));
        __m256i even = _mm256_unpacklo_epi64(first, second), odd = _mm256_unpackhi_epi64(first, second);
        _mm256_storeu_si256((__m256i *)(void *)(out + 16 * q), _mm256_permute2x128_si256(even, odd, 0x20));
        _mm256_storeu_si256((__m256i *)(void *)(out + 16 * q + 8), _mm256_permute2x128_si256(even, odd, 0x31));
    }
}
#endif

cpu_philox *cpu_philox_of(const struct mbk *k)
{
#ifdef __x86_64__
    if (cpu_of(k)->level >= CPU_AVX2)
        return philox_avx2;
#endif
    (void)k;
    return philox_plain;
}
