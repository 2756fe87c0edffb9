/* select.cuh: the order of floats as an order of integers: NaN is the greatest, and both zeros are equal. */
#ifndef MBK_SELECT_CUH
#define MBK_SELECT_CUH

#include "device.cuh"

__device__ __forceinline__ uint32_t order_of(float x)
{
    if (x != x)
        return 0xfffffffeu; /* with any index, less than all ones */
    uint32_t bits = __float_as_uint(x + 0.0f); /* −0 becomes 0 */
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

/* The number that has this order; NaN for NaN's. */
__device__ __forceinline__ float number_of(uint32_t order)
{
    return __uint_as_float(order & 0x80000000u ? order & 0x7fffffffu : ~order);
}

/* Greater for greater numbers, and among equals for the first. */
__device__ __forceinline__ unsigned long long rank_of(float x, int64_t index)
{
    return (unsigned long long)order_of(x) << 32 | (0xffffffffu - (uint32_t)index);
}

__device__ __forceinline__ int32_t index_of(unsigned long long rank)
{
    return (int32_t)(0xffffffffu - (uint32_t)rank);
}

struct greater_of {
    __device__ __forceinline__ unsigned long long operator()(unsigned long long a, unsigned long long b) const { return a > b ? a : b; }
};

/* Rows sorted: orders descending, ties by index, as orders [rows, length] and indices [rows, length], both in scratch. */
int gpu_sort_rows(struct mbk *k, const char *what, const struct mbk_tensor *x, uint32_t **orders, int32_t **indices);

#endif
