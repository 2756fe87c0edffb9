/* select.cu: the greatest elements of rows. A few are found by going through the row once for each; more by sorting, which CUB does. */
#include "rows.cuh"
#include "select.cuh"

#include <cub/device/device_segmented_radix_sort.cuh>

template <class T, int TEAM, int N>
__global__ void __launch_bounds__(GPU_THREADS) argmax_kernel(int64_t rows, int64_t length, const T *x, int32_t *out)
{
    FOR_ROWS(row, rows, TEAM) {
        unsigned long long best = 0;
        float v[N];
        FOR_ROW(i, length, TEAM, N) {
            load<N>(x + row * length + i, v);
#pragma unroll
            for (int j = 0; j < N; j++)
                best = greater_of()(best, rank_of(v[j], i + j));
        }
        best = team_reduce<TEAM>(best, 0ull, greater_of());
        if (threadIdx.x % TEAM == 0)
            out[row] = index_of(best);
    }
}

extern "C" int gpu_argmax(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *out)
{
    int64_t rows = mbk_row_count(x), length = mbk_row_length(x);
    return gpu_with_rows(k, "argmax", x->type, length, gpu_aligned(x->data), [&](auto zero, auto team, auto n) {
        using T = decltype(zero);
        return gpu_launch(k, "argmax", argmax_kernel<T, team.value, n.value>, dim3(gpu_row_blocks(k, rows, team.value)), dim3(GPU_THREADS), 0,
                          rows, length, (const T *)x->data, (int32_t *)out->data);
    });
}

/* -- Sorting. */

template <class T>
__global__ void __launch_bounds__(GPU_THREADS)
    orders_kernel(int64_t count, int64_t length, int64_t rows, const T *x, uint32_t *orders, int32_t *indices, int *offsets)
{
    int64_t first = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = first; i < count; i += step) {
        orders[i] = order_of(to_float(x[i]));
        indices[i] = (int32_t)(i % length);
    }
    for (int64_t i = first; i <= rows; i += step)
        offsets[i] = (int)(i * length);
}

/* CUB's radix sort is stable: equals stay in the order of their indices. */
int gpu_sort_rows(struct mbk *k, const char *what, const struct mbk_tensor *x, uint32_t **orders, int32_t **indices)
{
    int64_t rows = mbk_row_count(x), length = mbk_row_length(x), count = rows * length;
    if (count > INT32_MAX)
        return mbk_fail(k, "%s: %lld rows of %lld are too many to sort at once", what, (long long)rows, (long long)length);
    uint32_t *unsorted = (uint32_t *)gpu_scratch(k, what, (size_t)count * 4);
    int32_t *unsorted_indices = (int32_t *)gpu_scratch(k, what, (size_t)count * 4);
    int *offsets = (int *)gpu_scratch(k, what, (size_t)(rows + 1) * sizeof(int));
    *orders = (uint32_t *)gpu_scratch(k, what, (size_t)count * 4);
    *indices = (int32_t *)gpu_scratch(k, what, (size_t)count * 4);
    if (!unsorted || !unsorted_indices || !offsets || !*orders || !*indices)
        return -1;
    int status = gpu_with_float(k, what, x->type, [&](auto zero) {
        using T = decltype(zero);
        return gpu_launch(k, what, orders_kernel<T>, dim3(gpu_blocks(k, count, GPU_THREADS)), dim3(GPU_THREADS), 0, count, length, rows,
                          (const T *)x->data, unsorted, unsorted_indices, offsets);
    });
    size_t bytes = 0;
    void *space = nullptr;
    for (int pass = 0; pass < 2 && status == 0; pass++) { /* the first says how much space it takes */
        status = gpu_check(k, what, cub::DeviceSegmentedRadixSort::SortPairsDescending(space, bytes, unsorted, *orders, unsorted_indices,
                                                                                      *indices, (int)count, (int)rows, offsets, offsets + 1, 0,
                                                                                      32, gpu_of(k)->stream));
        if (pass == 0 && status == 0 && !(space = gpu_scratch(k, what, bytes)))
            status = -1;
    }
    return status;
}

/* -- The n greatest. */

enum { MOST_PASSES = 32 };

template <class T, int TEAM, int N>
__global__ void __launch_bounds__(GPU_THREADS)
    top_k_kernel(int64_t rows, int64_t length, int64_t wanted, const T *x, T *values, int32_t *indices)
{
    FOR_ROWS(row, rows, TEAM) {
        unsigned long long last = ~0ull; /* the rank of the one found before */
        for (int64_t n = 0; n < wanted; n++) {
            unsigned long long best = 0;
            float v[N];
            FOR_ROW(i, length, TEAM, N) {
                load<N>(x + row * length + i, v);
#pragma unroll
                for (int j = 0; j < N; j++) {
                    unsigned long long rank = rank_of(v[j], i + j);
                    best = rank < last && rank > best ? rank : best;
                }
            }
            last = team_reduce<TEAM>(best, 0ull, greater_of());
            if (threadIdx.x % TEAM == 0) {
                values[row * wanted + n] = x[row * length + index_of(last)];
                indices[row * wanted + n] = index_of(last);
            }
        }
    }
}

template <class T>
__global__ void __launch_bounds__(GPU_THREADS)
    take_first_kernel(int64_t count, int64_t wanted, int64_t length, const T *x, const int32_t *sorted, T *values, int32_t *indices)
{
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (int64_t)gridDim.x * blockDim.x) {
        int64_t row = i / wanted;
        int32_t index = sorted[row * length + i % wanted];
        indices[i] = index;
        values[i] = x[row * length + index];
    }
}

extern "C" int gpu_top_k(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *values, const struct mbk_tensor *indices)
{
    int64_t rows = mbk_row_count(x), length = mbk_row_length(x), wanted = mbk_row_length(values);
    if (wanted <= MOST_PASSES)
        return gpu_with_rows(k, "top_k", x->type, length, gpu_aligned(x->data), [&](auto zero, auto team, auto n) {
            using T = decltype(zero);
            return gpu_launch(k, "top_k", top_k_kernel<T, team.value, n.value>, dim3(gpu_row_blocks(k, rows, team.value)), dim3(GPU_THREADS),
                              0, rows, length, wanted, (const T *)x->data, (T *)values->data, (int32_t *)indices->data);
        });
    size_t mark = gpu_scratch_mark(k);
    uint32_t *orders;
    int32_t *sorted;
    int status = gpu_sort_rows(k, "top_k", x, &orders, &sorted);
    if (status == 0)
        status = gpu_with_float(k, "top_k", x->type, [&](auto zero) {
            using T = decltype(zero);
            int64_t count = rows * wanted;
            return gpu_launch(k, "top_k", take_first_kernel<T>, dim3(gpu_blocks(k, count, GPU_THREADS)), dim3(GPU_THREADS), 0, count, wanted,
                              length, (const T *)x->data, (const int32_t *)sorted, (T *)values->data, (int32_t *)indices->data);
        });
    gpu_scratch_release(k, mark);
    return status;
}
