/* softmax.cu: softmax of rows, forward beside backward. Each row is read twice, the second time from cache. */
#include "rows.cuh"

template <class T, int TEAM, int N>
__global__ void __launch_bounds__(GPU_THREADS) softmax_kernel(int64_t rows, int64_t length, const T *x, T *y)
{
    FOR_ROWS(row, rows, TEAM) {
        const T *from = x + row * length;
        exp_sum mine = nothing_summed();
        float v[N];
        FOR_ROW(i, length, TEAM, N) {
            load<N>(from + i, v);
#pragma unroll
            for (int j = 0; j < N; j++)
                mine.take(v[j]);
        }
        exp_sum all = team_exp_sum<TEAM>(mine);
        FOR_ROW(i, length, TEAM, N) {
            load<N>(from + i, v);
#pragma unroll
            for (int j = 0; j < N; j++)
                v[j] = expf(v[j] - all.most) / all.sum;
            store<N>(y + row * length + i, v);
        }
    }
}

extern "C" int gpu_softmax(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *y)
{
    int64_t rows = mbk_row_count(x), length = mbk_row_length(x);
    bool aligned = gpu_aligned(x->data) && gpu_aligned(y->data);
    return gpu_with_rows(k, "softmax", x->type, length, aligned, [&](auto zero, auto team, auto n) {
        using T = decltype(zero);
        return gpu_launch(k, "softmax", softmax_kernel<T, team.value, n.value>, dim3(gpu_row_blocks(k, rows, team.value)), dim3(GPU_THREADS), 0,
                          rows, length, (const T *)x->data, (T *)y->data);
    });
}

/* dx = y (dy − Σ y dy) */
template <class T, int TEAM, int N>
__global__ void __launch_bounds__(GPU_THREADS) softmax_backward_kernel(int64_t rows, int64_t length, const T *y, const T *dy, T *dx)
{
    FOR_ROWS(row, rows, TEAM) {
        int64_t at = row * length;
        float v[N], d[N], mine = 0;
        FOR_ROW(i, length, TEAM, N) {
            load<N>(y + at + i, v);
            load<N>(dy + at + i, d);
#pragma unroll
            for (int j = 0; j < N; j++)
                mine += v[j] * d[j];
        }
        float sum = team_reduce<TEAM>(mine, 0.0f, sum_of());
        FOR_ROW(i, length, TEAM, N) {
            load<N>(y + at + i, v);
            load<N>(dy + at + i, d);
#pragma unroll
            for (int j = 0; j < N; j++)
                v[j] *= d[j] - sum;
            store<N>(dx + at + i, v);
        }
    }
}

extern "C" int gpu_softmax_backward(struct mbk *k, const struct mbk_tensor *y, const struct mbk_tensor *dy, const struct mbk_tensor *dx)
{
    int64_t rows = mbk_row_count(y), length = mbk_row_length(y);
    bool aligned = gpu_aligned(y->data) && gpu_aligned(dy->data) && gpu_aligned(dx->data);
    return gpu_with_rows(k, "softmax_backward", y->type, length, aligned, [&](auto zero, auto team, auto n) {
        using T = decltype(zero);
        return gpu_launch(k, "softmax_backward", softmax_backward_kernel<T, team.value, n.value>, dim3(gpu_row_blocks(k, rows, team.value)),
                          dim3(GPU_THREADS), 0, rows, length, (const T *)y->data, (const T *)dy->data, (T *)dx->data);
    });
}
