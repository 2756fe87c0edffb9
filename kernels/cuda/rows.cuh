/* rows.cuh: work on rows, by teams of threads: a warp for a short row, a block for a long one. A row kernel is
 *
 *     template <class T, int TEAM, int N> __global__ void kernel(int64_t rows, int64_t length, …)
 *     {
 *         FOR_ROWS(row, rows, TEAM)
 *             FOR_ROW(i, length, TEAM, N) …elements i to i + N − 1 of the row…
 *             float sum = team_reduce<TEAM>(mine, 0.0f, sum_of());
 *
 * N is 1 unless the length is a multiple of it and all rows lie at multiples of 16 bytes. Every thread of a team goes through the same
 * reductions.
 */
#ifndef MBK_ROWS_CUH
#define MBK_ROWS_CUH

#include "device.cuh"

enum { LONG_ROW = 1024, LONG_TEAM = GPU_THREADS };

template <int TEAM>
__device__ __forceinline__ int64_t first_row()
{
    return (int64_t)blockIdx.x * (GPU_THREADS / TEAM) + threadIdx.x / TEAM;
}

#define FOR_ROWS(row, rows, TEAM) \
    for (int64_t row = first_row<TEAM>(); row < (rows); row += (int64_t)gridDim.x * (GPU_THREADS / (TEAM)))
#define FOR_ROW(i, length, TEAM, N) for (int64_t i = (int64_t)(threadIdx.x % (TEAM)) * (N); i < (length); i += (TEAM) * (N))

/* `none` is what op leaves everything as it is with. */
template <int TEAM, class T, class Op>
__device__ __forceinline__ T team_reduce(T x, T none, Op op)
{
    if constexpr (TEAM == GPU_WARP) {
        return warp_reduce(x, op);
    } else {
        __shared__ T shared[GPU_THREADS / GPU_WARP];
        return block_reduce(x, none, shared, op);
    }
}

/* Between reading what others of the team will write, or reading what they have written. */
template <int TEAM>
__device__ __forceinline__ void team_sync()
{
    if constexpr (TEAM == GPU_WARP)
        __syncwarp();
    else
        __syncthreads();
}

static inline unsigned gpu_row_blocks(struct mbk *k, int64_t rows, int team)
{
    return gpu_blocks(k, rows, GPU_THREADS / team);
}

/* f(a T, a TEAM, an N) for the type and the shape; the latter two as std::integral_constant. */
template <class F>
static int gpu_with_rows(struct mbk *k, const char *what, enum mbk_type type, int64_t length, bool aligned, F f)
{
    return gpu_with_float(k, what, type, [&](auto zero) {
        constexpr int N = 16 / sizeof(zero);
        using Short = std::integral_constant<int, GPU_WARP>;
        using Long = std::integral_constant<int, LONG_TEAM>;
        using One = std::integral_constant<int, 1>;
        using Many = std::integral_constant<int, N>;
        if (aligned && length % N == 0)
            return length > LONG_ROW ? f(zero, Long(), Many()) : f(zero, Short(), Many());
        return length > LONG_ROW ? f(zero, Long(), One()) : f(zero, Short(), One());
    });
}

/* The greatest so far and the sum of e^(x − greatest), in one pass. */
struct exp_sum {
    float most, sum;

    __device__ __forceinline__ void take(float x)
    {
        if (x > most) {
            sum = sum * expf(most - x) + (1 + (x - x)); /* infinity less itself is NaN */
            most = x;
        } else {
            sum += x == most ? 1 : expf(x - most); /* also where both are minus infinity */
        }
    }
};

__device__ __forceinline__ exp_sum nothing_summed()
{
    return { -CUDART_INF_F, 0 };
}

template <int TEAM>
__device__ __forceinline__ exp_sum team_exp_sum(exp_sum mine)
{
    float most = team_reduce<TEAM>(mine.most, -CUDART_INF_F, max_of());
    float part = mine.sum == 0 ? 0 : mine.most == most ? mine.sum : mine.sum * expf(mine.most - most);
    return { most, team_reduce<TEAM>(part, 0.0f, sum_of()) };
}

#endif
