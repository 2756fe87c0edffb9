/* quantize.cu: floats to 8 bits and back, a scale for each row or one for all; and the linear layer on such numbers. Symmetric: 0 stays 0, and
 * −128 is not used. A NaN is overlooked by scales and becomes 0.
 */
#include "rows.cuh"

__device__ __forceinline__ int8_t quantized(float x, float scale)
{
    float v = x / scale;
    v = v > 127 ? 127 : v < -127 ? -127 : v == v ? v : 0;
    return (int8_t)__float2int_rn(v);
}

template <int N>
__device__ __forceinline__ void store_bytes(int8_t *to, const int8_t (&from)[N])
{
    pack<int8_t, N> p;
#pragma unroll
    for (int j = 0; j < N; j++)
        p.v[j] = from[j];
    *(pack<int8_t, N> *)to = p;
}

struct greater_magnitude {
    __device__ __forceinline__ float operator()(float a, float b) const { return a > b ? a : b; }
};

template <class T, int TEAM, int N>
__global__ void __launch_bounds__(GPU_THREADS) quantize_rows_kernel(int64_t rows, int64_t length, const T *x, int8_t *q, float *scales)
{
    FOR_ROWS(row, rows, TEAM) {
        float v[N], most = 0;
        int8_t bytes[N];
        FOR_ROW(i, length, TEAM, N) {
            load<N>(x + row * length + i, v);
#pragma unroll
            for (int j = 0; j < N; j++)
                most = fabsf(v[j]) > most ? fabsf(v[j]) : most;
        }
        most = team_reduce<TEAM>(most, 0.0f, greater_magnitude());
        float scale = most / 127;
        if (!(scale > 0))
            scale = 1; /* all 0, or so small that a 127th of it is */
        if (threadIdx.x % TEAM == 0)
            scales[row] = scale;
        FOR_ROW(i, length, TEAM, N) {
            load<N>(x + row * length + i, v);
#pragma unroll
            for (int j = 0; j < N; j++)
                bytes[j] = quantized(v[j], scale);
            store_bytes<N>(q + row * length + i, bytes);
        }
    }
}

/* N bytes are stored at once, so q lies at multiples of N wherever x's rows are whole packs. */
extern "C" int gpu_quantize_rows(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *q, const struct mbk_tensor *scales)
{
    int64_t rows = mbk_row_count(x), length = mbk_row_length(x);
    return gpu_with_rows(k, "quantize_rows", x->type, length, gpu_aligned(x->data) && gpu_aligned(q->data), [&](auto zero, auto team, auto n) {
        using T = decltype(zero);
        return gpu_launch(k, "quantize_rows", quantize_rows_kernel<T, team.value, n.value>, dim3(gpu_row_blocks(k, rows, team.value)),
                          dim3(GPU_THREADS), 0, rows, length, (const T *)x->data, (int8_t *)q->data, (float *)scales->data);
    });
}

template <class T>
struct quantize_op {
    const T *x;
    int8_t *q;
    float scale;

    template <int N>
    __device__ __forceinline__ void run(int64_t i) const
    {
        float v[N];
        int8_t bytes[N];
        load<N>(x + i, v);
#pragma unroll
        for (int j = 0; j < N; j++)
            bytes[j] = quantized(v[j], scale);
        store_bytes<N>(q + i, bytes);
    }
};

extern "C" int gpu_quantize(struct mbk *k, const struct mbk_tensor *x, float scale, const struct mbk_tensor *q)
{
    return gpu_with_float(k, "quantize", x->type, [&](auto zero) {
        using T = decltype(zero);
        quantize_op<T> op = { (const T *)x->data, (int8_t *)q->data, scale };
        return gpu_elementwise<16>(k, "quantize", mbk_count(q), gpu_aligned(x->data) && gpu_aligned(q->data), op);
    });
}

__device__ __forceinline__ float to_float(int8_t x) { return (float)x; }

/* Packs don't cross rows' ends. */
template <class T>
struct dequantize_op {
    const int8_t *q;
    const float *scales;
    T *x;
    int64_t length;

    template <int N>
    __device__ __forceinline__ void run(int64_t i) const
    {
        float v[N], scale = scales[((i | length) >> 32) == 0 ? (uint32_t)i / (uint32_t)length : i / length];
        load<N>(q + i, v);
#pragma unroll
        for (int j = 0; j < N; j++)
            v[j] *= scale;
        store<N>(x + i, v);
    }
};

extern "C" int gpu_dequantize_rows(struct mbk *k, const struct mbk_tensor *q, const struct mbk_tensor *scales, const struct mbk_tensor *x)
{
    return gpu_with_float(k, "dequantize_rows", x->type, [&](auto zero) {
        using T = decltype(zero);
        int64_t length = mbk_row_length(x);
        dequantize_op<T> op = { (const int8_t *)q->data, (const float *)scales->data, (T *)x->data, length };
        return gpu_elementwise<16>(k, "dequantize_rows", mbk_count(x), length % 16 == 0 && gpu_aligned(x->data) && gpu_aligned(q->data), op);
    });
}

/* Sums in scratch by the tensor cores, then scales, bias and activation in one pass. */
extern "C" int gpu_linear_int8(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *x_scales, const struct mbk_tensor *w,
                               const struct mbk_tensor *w_scales, const struct mbk_tensor *bias, enum mbk_activation f,
                               const struct mbk_tensor *y)
{
    struct mbk_gemm g = {};
    g.m = mbk_row_count(x);
    g.n = w->shape[0];
    g.k = w->shape[1];
    g.batch = 1;
    size_t mark = gpu_scratch_mark(k);
    int32_t *sums = (int32_t *)gpu_scratch(k, "linear_int8", (size_t)(g.m * g.n) * sizeof(int32_t));
    g.a = x->data;
    g.b = w->data;
    g.c = sums;
    g.a_type = g.b_type = MBK_I8;
    g.c_type = MBK_I32;
    g.transpose_b = 1;
    g.lda = g.ldb = g.k;
    g.ldc = g.n;
    g.alpha = 1;
    struct gpu_finish job = {};
    job.rows = g.m;
    job.columns = job.ld_from = job.ldc = g.n;
    job.from = sums;
    job.from_type = MBK_I32;
    job.c = y->data;
    job.c_type = y->type;
    job.row_scale = (const float *)x_scales->data;
    job.one_row_scale = x_scales->rank == 0;
    job.column_scale = (const float *)w_scales->data;
    job.bias = bias ? bias->data : nullptr;
    job.bias_type = bias ? bias->type : MBK_F32;
    job.activation = f;
    int status = !sums || gpu_gemm(k, &g) || gpu_finish(k, "linear_int8", &job) ? -1 : 0;
    gpu_scratch_release(k, mark);
    return status;
}
