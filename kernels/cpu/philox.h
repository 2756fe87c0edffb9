/* philox.h: Philox4x32-10 for 16 counters at once, a lane each (see mbk_philox for its source). */
#ifndef MBK_CPU_PHILOX_H
#define MBK_CPU_PHILOX_H

#include <stdint.h>

enum { PHILOX_LANES = 16, PHILOX_WORDS = 4 * PHILOX_LANES };

/* The words of PHILOX_LANES counters from `counter` on, in the elements' order: the fastest there is for a stream's processor. */
struct mbk;
typedef void cpu_philox(uint64_t seed, uint64_t counter, uint32_t out[PHILOX_WORDS]);
cpu_philox *cpu_philox_of(const struct mbk *k);

/* The same in C, to be used inside CPU_CLONES functions. */
static inline __attribute__((always_inline)) void philox_words(uint64_t seed, uint64_t counter, uint32_t out[PHILOX_WORDS])
{
    uint32_t c0[PHILOX_LANES], c1[PHILOX_LANES], c2[PHILOX_LANES], c3[PHILOX_LANES];
    for (int i = 0; i < PHILOX_LANES; i++) {
        c0[i] = (uint32_t)(counter + (uint64_t)i);
        c1[i] = (uint32_t)((counter + (uint64_t)i) >> 32);
        c2[i] = c3[i] = 0;
    }
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < PHILOX_LANES; i++) {
            uint64_t p0 = (uint64_t)0xD2511F53 * c0[i], p1 = (uint64_t)0xCD9E8D57 * c2[i];
            c0[i] = (uint32_t)(p1 >> 32) ^ c1[i] ^ key0;
            c2[i] = (uint32_t)(p0 >> 32) ^ c3[i] ^ key1;
            c1[i] = (uint32_t)p1;
            c3[i] = (uint32_t)p0;
        }
        key0 += 0x9E3779B9;
        key1 += 0xBB67AE85;
    }
    for (int i = 0; i < PHILOX_LANES; i++) {
        out[4 * i] = c0[i];
        out[4 * i + 1] = c1[i];
        out[4 * i + 2] = c2[i];
        out[4 * i + 3] = c3[i];
    }
}

#endif
