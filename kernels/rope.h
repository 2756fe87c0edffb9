/* rope.h: how fast rotary positions turn, the same for both backends. */
#ifndef MBK_ROPE_H
#define MBK_ROPE_H

#include <math.h>
#include <mbuild/kernels.h>

#ifdef __CUDACC__
#define MBK_BOTH_SIDES __host__ __device__
#else
#define MBK_BOTH_SIDES
#endif

/* Radians a position at pair i of `half`; log_base is the logarithm of r.base. */
MBK_BOTH_SIDES static inline double mbk_rotary_speed(struct mbk_rotary r, double log_base, int64_t i, int64_t half)
{
    double speed = exp(-log_base * (double)i / (double)half);
    if (!(r.factor > 0))
        return speed;
    double slow = speed / (double)r.factor, turns = (double)r.original * speed / 6.283185307179586;
    if (!(r.original > 0) || turns < (double)r.low)
        return slow;
    if (turns > (double)r.high)
        return speed;
    double fast = (turns - (double)r.low) / ((double)r.high - (double)r.low);
    return (1 - fast) * slow + fast * speed;
}

#endif
