/* reduce.cu: sums over rows and over everything, least and greatest, counts in bins. Sums are made in parts that depend on the shape and the
 * device alone and joined in the parts' order; counts are integers, which may be added in any.
 */
#include "reduce.cuh"

/* -- Rows into one: a block adds up `chunk` rows of 32 · N columns, its 8 lines of threads each every eighth row. */

template <class T, int N>
__global__ void __launch_bounds__(GPU_THREADS) sum_rows_kernel(const T *x, int64_t rows, int64_t columns, int64_t chunk, float *partials)
{
    __shared__ float shared[8][GPU_WARP * N];
    int64_t column = ((int64_t)blockIdx.x * GPU_WARP + threadIdx.x) * N;
    int64_t begin = blockIdx.y * chunk, end = begin + chunk < rows ? begin + chunk : rows;
    float sum[N] = {};
    if (column < columns)
        for (int64_t r = begin + threadIdx.y; r < end; r += 8) {
            float v[N];
            load<N>(x + r * columns + column, v);
#pragma unroll
            for (int j = 0; j < N; j++)
                sum[j] += v[j];
        }
#pragma unroll
    for (int j = 0; j < N; j++)
        shared[threadIdx.y][threadIdx.x * N + j] = sum[j];
    __syncthreads();
    for (int i = threadIdx.y * GPU_WARP + threadIdx.x; i < GPU_WARP * N; i += GPU_THREADS) {
        int64_t c = (int64_t)blockIdx.x * GPU_WARP * N + i;
        float total = 0;
        for (int line = 0; line < 8; line++)
            total += shared[line][i];
        if (c < columns)
            partials[blockIdx.y * columns + c] = total;
    }
}

template <class T>
__global__ void __launch_bounds__(GPU_THREADS) add_partials_kernel(const float *partials, int64_t parts, int64_t columns, T *out)
{
    for (int64_t c = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; c < columns; c += (int64_t)gridDim.x * blockDim.x) {
        float sum = 0;
        for (int64_t p = 0; p < parts; p++)
            sum += partials[p * columns + c];
        out[c] = from_float<T>(to_float(out[c]) + sum);
    }
}

int gpu_add_partials(struct mbk *k, const char *what, const float *partials, int64_t parts, int64_t columns, const struct mbk_tensor *out)
{
    return gpu_with_float(k, what, out->type, [&](auto zero) {
        using T = decltype(zero);
        return gpu_launch(k, what, add_partials_kernel<T>, dim3(gpu_blocks(k, columns, GPU_THREADS)), dim3(GPU_THREADS), 0, partials, parts,
                          columns, (T *)out->data);
    });
}

template <class T, int N>
static int launch_sum_rows(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *out)
{
    int64_t rows = mbk_row_count(x), columns = mbk_row_length(x), across = gpu_ceil(columns, GPU_WARP * N);
    int64_t parts = gpu_ceil((int64_t)gpu_of(k)->processors * 8, across), most = gpu_ceil(rows, 64);
    parts = parts > most ? most : parts;
    int64_t chunk = gpu_ceil(rows, parts);
    parts = gpu_ceil(rows, chunk);
    if (across > INT32_MAX || parts > 65535)
        return mbk_fail(k, "sum_rows: [%lld, %lld] is too large", (long long)rows, (long long)columns);
    size_t mark = gpu_scratch_mark(k);
    float *partials = (float *)gpu_scratch(k, "sum_rows", (size_t)(parts * columns) * sizeof(float));
    int status = !partials ? -1
                           : gpu_launch(k, "sum_rows", sum_rows_kernel<T, N>, dim3((unsigned)across, (unsigned)parts), dim3(GPU_WARP, 8), 0,
                                        (const T *)x->data, rows, columns, chunk, partials);
    if (status == 0)
        status = gpu_add_partials(k, "sum_rows", partials, parts, columns, out);
    gpu_scratch_release(k, mark);
    return status;
}

extern "C" int gpu_sum_rows(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *out)
{
    return gpu_with_float(k, "sum_rows", x->type, [&](auto zero) {
        using T = decltype(zero);
        if (mbk_row_length(x) % 4 == 0 && gpu_aligned(x->data))
            return launch_sum_rows<T, 4>(k, x, out);
        return launch_sum_rows<T, 1>(k, x, out);
    });
}

/* -- Everything into one: op.take(state, x) for each element, op.join(a, b), op.put(state, out). */

struct sum_state {
    double sum;
};

struct sum_all {
    using State = sum_state;
    __device__ static State none() { return { 0 }; }
    __device__ static void take(State &s, float x) { s.sum += x; }
    __device__ static State join(State a, State b) { return { a.sum + b.sum }; }
    __device__ static State other(State s, int step) { return { __shfl_xor_sync(0xffffffffu, s.sum, step) }; }
    __device__ static void put(State s, float *out) { *out = (float)s.sum; }
};

struct min_max_state {
    float least, most;
};

struct min_max_all {
    using State = min_max_state;
    __device__ static State none() { return { CUDART_INF_F, -CUDART_INF_F }; }
    __device__ static void take(State &s, float x) { s = { min_of()(s.least, x), max_of()(s.most, x) }; }
    __device__ static State join(State a, State b) { return { min_of()(a.least, b.least), max_of()(a.most, b.most) }; }
    __device__ static State other(State s, int step)
    {
        return { __shfl_xor_sync(0xffffffffu, s.least, step), __shfl_xor_sync(0xffffffffu, s.most, step) };
    }
    __device__ static void put(State s, float *out)
    {
        out[0] = s.least;
        out[1] = s.most;
    }
};

template <class Op>
__device__ typename Op::State join_block(typename Op::State s)
{
    __shared__ typename Op::State shared[GPU_THREADS / GPU_WARP];
    for (int step = GPU_WARP / 2; step > 0; step /= 2)
        s = Op::join(s, Op::other(s, step));
    if (threadIdx.x % GPU_WARP == 0)
        shared[threadIdx.x / GPU_WARP] = s;
    __syncthreads();
    s = shared[0];
    for (int i = 1; i < GPU_THREADS / GPU_WARP; i++)
        s = Op::join(s, shared[i]);
    return s;
}

template <class Op, class T>
__global__ void __launch_bounds__(GPU_THREADS) reduce_kernel(const T *x, int64_t count, bool aligned, typename Op::State *parts)
{
    constexpr int N = 16 / sizeof(T);
    typename Op::State s = Op::none();
    int64_t first = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, step = (int64_t)gridDim.x * blockDim.x;
    int64_t packs = aligned ? count / N : 0;
    for (int64_t i = first; i < packs; i += step) {
        float v[N];
        load<N>(x + i * N, v);
#pragma unroll
        for (int j = 0; j < N; j++)
            Op::take(s, v[j]);
    }
    for (int64_t i = packs * N + first; i < count; i += step)
        Op::take(s, to_float(x[i]));
    s = join_block<Op>(s);
    if (threadIdx.x == 0)
        parts[blockIdx.x] = s;
}

template <class Op>
__global__ void __launch_bounds__(GPU_THREADS) join_kernel(const typename Op::State *parts, int count, float *out)
{
    typename Op::State s = Op::none();
    for (int i = threadIdx.x; i < count; i += GPU_THREADS)
        s = Op::join(s, parts[i]);
    s = join_block<Op>(s);
    if (threadIdx.x == 0)
        Op::put(s, out);
}

template <class Op>
static int reduce(struct mbk *k, const char *what, const struct mbk_tensor *x, const struct mbk_tensor *out)
{
    using State = typename Op::State;
    return gpu_with_float(k, what, x->type, [&](auto zero) {
        using T = decltype(zero);
        int64_t count = mbk_count(x);
        unsigned blocks = gpu_blocks(k, count, GPU_THREADS * 16);
        size_t mark = gpu_scratch_mark(k);
        State *parts = (State *)gpu_scratch(k, what, blocks * sizeof(State));
        int status = !parts ? -1
                            : gpu_launch(k, what, reduce_kernel<Op, T>, dim3(blocks), dim3(GPU_THREADS), 0, (const T *)x->data, count,
                                         gpu_aligned(x->data), parts);
        if (status == 0)
            status = gpu_launch(k, what, join_kernel<Op>, dim3(1), dim3(GPU_THREADS), 0, (const State *)parts, (int)blocks,
                                (float *)out->data);
        gpu_scratch_release(k, mark);
        return status;
    });
}

extern "C" int gpu_sum(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *out)
{
    return reduce<sum_all>(k, "sum", x, out);
}

extern "C" int gpu_min_max(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *out)
{
    return reduce<min_max_all>(k, "min_max", x, out);
}

/* -- Counts: in shared memory first where the bins fit, so that few threads meet at one counter of the device's. */

enum { SHARED_BINS = 4096 };

template <class T>
__global__ void __launch_bounds__(GPU_THREADS)
    histogram_kernel(const T *x, int64_t count, float least, float most, int64_t bins, unsigned long long *counts)
{
    extern __shared__ unsigned local[];
    bool shared = bins <= SHARED_BINS;
    for (int64_t b = threadIdx.x; shared && b < bins; b += blockDim.x)
        local[b] = 0;
    __syncthreads();
    float factor = (float)bins / (most - least);
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (int64_t)gridDim.x * blockDim.x) {
        float v = to_float(x[i]);
        if (v != v)
            continue; /* it is in no bin */
        float at = __fmul_rn(v - least, factor);
        int64_t bin = at < 0 ? 0 : at >= (float)bins ? bins - 1 : (int64_t)at;
        bin = bin > bins - 1 ? bins - 1 : bin;
        if (shared)
            atomicAdd(&local[bin], 1u);
        else
            atomicAdd(&counts[bin], 1ull);
    }
    __syncthreads();
    for (int64_t b = threadIdx.x; shared && b < bins; b += blockDim.x)
        if (local[b])
            atomicAdd(&counts[b], (unsigned long long)local[b]);
}

extern "C" int gpu_histogram(struct mbk *k, const struct mbk_tensor *x, float least, float most, const struct mbk_tensor *counts)
{
    return gpu_with_float(k, "histogram", x->type, [&](auto zero) {
        using T = decltype(zero);
        int64_t count = mbk_count(x), bins = mbk_count(counts);
        size_t shared = bins <= SHARED_BINS ? (size_t)bins * sizeof(unsigned) : 0;
        return gpu_launch(k, "histogram", histogram_kernel<T>, dim3(gpu_blocks(k, count, GPU_THREADS * 8)), dim3(GPU_THREADS), shared,
                          (const T *)x->data, count, least, most, bins, (unsigned long long *)counts->data);
    });
}
