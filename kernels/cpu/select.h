/* select.h: the greatest of many, in order. Floats are ranked as integers: NaN is the greatest, both zeros are equal, and among equals the
 * first in the row ranks higher, so that no two ranks are the same.
 */
#ifndef MBK_CPU_SELECT_H
#define MBK_CPU_SELECT_H

#include <stdint.h>
#include <string.h>

static inline uint64_t cpu_rank_of(float x, int64_t index)
{
    float positive = x + 0.0f; /* −0 becomes 0 */
    uint32_t bits;
    memcpy(&bits, &positive, sizeof bits);
    uint32_t order = x != x ? 0xffffffff : bits & 0x80000000 ? ~bits : bits | 0x80000000;
    return (uint64_t)order << 32 | (uint32_t)~(uint32_t)index;
}

static inline int64_t cpu_index_of(uint64_t rank)
{
    return (int64_t)(uint32_t)~(uint32_t)rank;
}

/* The `wanted` greatest of n ranks, greatest first: in `ranks` or in `room`, both of n, which are overwritten; returned. The ranks'
 * indices must ascend. */
uint64_t *cpu_greatest(uint64_t *ranks, uint64_t *room, int64_t n, int64_t wanted);

#endif
