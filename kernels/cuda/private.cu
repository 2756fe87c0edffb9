/* private.cu: the sum of single examples' gradients, each cut to a norm, with noise (Abadi et al. 2016). The gradients are read twice: for
 * their norms, and for the sum.
 */
#include "rows.cuh"

/* The factor that each row is multiplied with: min(1, most / norm). */
template <class T, int TEAM, int N>
__global__ void __launch_bounds__(GPU_THREADS) row_factors_kernel(int64_t rows, int64_t length, const T *x, float most, float *factors)
{
    FOR_ROWS(row, rows, TEAM) {
        double mine = 0;
        float v[N];
        FOR_ROW(i, length, TEAM, N) {
            load<N>(x + row * length + i, v);
            float part = 0;
#pragma unroll
            for (int j = 0; j < N; j++)
                part += v[j] * v[j];
            mine += part;
        }
        double sum = team_reduce<TEAM>(mine, 0.0, [](double a, double b) { return a + b; });
        if (threadIdx.x % TEAM == 0) {
            float norm = (float)sqrt(sum);
            factors[row] = norm > most ? most / norm : norm != norm ? norm : 1;
        }
    }
}

/* A thread makes the four elements of one of Philox's counters. */
template <class T>
__global__ void __launch_bounds__(GPU_THREADS) private_sum_kernel(int64_t rows, int64_t length, const T *x, const float *factors, float deviation,
                                                                  uint64_t seed, uint64_t offset, const mbk_varying *varying, T *sum)
{
    offset += varying->offset;
    int64_t counters = (length + 3) / 4;
    for (int64_t c = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; c < counters; c += (int64_t)gridDim.x * blockDim.x) {
        float total[4] = {}, noise[4] = {};
        int n = (int)(length - 4 * c < 4 ? length - 4 * c : 4);
        for (int64_t r = 0; r < rows; r++)
#pragma unroll
            for (int j = 0; j < 4; j++)
                if (j < n)
                    total[j] += to_float(x[r * length + 4 * c + j]) * factors[r];
        if (deviation > 0) {
            uint32_t words[4];
            philox(seed, offset + (uint64_t)c, words);
            normal_pair(words[0], words[1], noise[0], noise[1]);
            normal_pair(words[2], words[3], noise[2], noise[3]);
        }
#pragma unroll
        for (int j = 0; j < 4; j++)
            if (j < n)
                sum[4 * c + j] = from_float<T>(to_float(sum[4 * c + j]) + total[j] + deviation * noise[j]);
    }
}

extern "C" int gpu_private_sum(struct mbk *k, const struct mbk_tensor *gradients, float most, float noise, uint64_t seed, uint64_t offset,
                               const struct mbk_tensor *sum)
{
    int64_t rows = gradients->shape[0], length = gradients->shape[1];
    size_t mark = gpu_scratch_mark(k);
    float *factors = (float *)gpu_scratch(k, "private_sum", (size_t)rows * sizeof(float));
    int status = !factors ? -1 : gpu_with_rows(k, "private_sum", gradients->type, length, gpu_aligned(gradients->data),
                                               [&](auto zero, auto team, auto n) {
        using T = decltype(zero);
        const T *x = (const T *)gradients->data;
        if (rows > 0 && gpu_launch(k, "private_sum", row_factors_kernel<T, team.value, n.value>, dim3(gpu_row_blocks(k, rows, team.value)),
                                   dim3(GPU_THREADS), 0, rows, length, x, most, factors))
            return -1;
        return gpu_launch(k, "private_sum", private_sum_kernel<T>, dim3(gpu_blocks(k, gpu_ceil(length, 4), GPU_THREADS)), dim3(GPU_THREADS),
                          0, rows, length, x, (const float *)factors, noise * most, seed, offset, gpu_varying(k), (T *)sum->data);
    });
    gpu_scratch_release(k, mark);
    return status;
}
