/* int4.cu: 4-bit weights in groups along the last dimension, two to a byte, low nibble first, signed. A product of few rows reads them as
 * they are, once; for many rows they are widened to the other side's type and multiplied as that.
 */
#include "rows.cuh"

/* The greatest power of two up to 16 of bytes that rows and groups are whole of, so that as many can be read at once. */
static int bytes_at_once(const void *q, int64_t columns, int group)
{
    int bytes = 16;
    while (bytes > 1 && ((uintptr_t)q % bytes || columns / 2 % bytes || group / 2 % bytes))
        bytes = bytes == 16 ? 4 : 1;
    return bytes;
}

template <class F>
static int with_bytes(int bytes, F f)
{
    switch (bytes) {
    case 16: return f(std::integral_constant<int, 16>());
    case 4: return f(std::integral_constant<int, 4>());
    default: return f(std::integral_constant<int, 1>());
    }
}

/* The 2 · BYTES numbers of BYTES bytes, without their scale. */
template <int BYTES>
__device__ __forceinline__ void nibbles(const uint8_t *q, float (&v)[2 * BYTES])
{
    pack<uint8_t, BYTES> p = *(const pack<uint8_t, BYTES> *)q;
#pragma unroll
    for (int i = 0; i < BYTES; i++) {
        v[2 * i] = (float)((int)(p.v[i] & 15) - ((p.v[i] & 8) << 1));
        v[2 * i + 1] = (float)((int)(p.v[i] >> 4) - ((p.v[i] & 128) >> 3));
    }
}

/* -- From floats: scale = max|x| / 7, q in −7 … 7. A thread for each group. */

template <class T>
__global__ void __launch_bounds__(GPU_THREADS) quantize_groups_kernel(int64_t groups, int group, const T *x, uint8_t *q, float *scales)
{
    for (int64_t g = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; g < groups; g += (int64_t)gridDim.x * blockDim.x) {
        const T *from = x + g * group;
        float most = 0;
        for (int i = 0; i < group; i++) {
            float a = fabsf(to_float(from[i]));
            most = a > most ? a : most;
        }
        float scale = most / 7;
        if (!(scale > 0))
            scale = 1;
        scales[g] = scale;
        for (int i = 0; i < group; i += 2) {
            int two[2];
            for (int j = 0; j < 2; j++) {
                float v = to_float(from[i + j]) / scale;
                v = v > 7 ? 7 : v < -7 ? -7 : v == v ? v : 0;
                two[j] = __float2int_rn(v) & 15;
            }
            q[(g * group + i) / 2] = (uint8_t)(two[0] | two[1] << 4);
        }
    }
}

extern "C" int gpu_quantize_groups(struct mbk *k, const struct mbk_tensor *x, int group, const struct mbk_tensor *q,
                                   const struct mbk_tensor *scales)
{
    return gpu_with_float(k, "quantize_groups", x->type, [&](auto zero) {
        using T = decltype(zero);
        int64_t groups = mbk_count(scales);
        return gpu_launch(k, "quantize_groups", quantize_groups_kernel<T>, dim3(gpu_blocks(k, groups, GPU_THREADS)), dim3(GPU_THREADS), 0,
                          groups, group, (const T *)x->data, (uint8_t *)q->data, (float *)scales->data);
    });
}

/* -- To floats. Rows are whole groups and whole bytes: all of them are one long row. */

template <class T, int BYTES>
__global__ void __launch_bounds__(GPU_THREADS) dequantize_groups_kernel(int64_t chunks, int group, const uint8_t *q, const float *scales, T *x)
{
    for (int64_t c = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; c < chunks; c += (int64_t)gridDim.x * blockDim.x) {
        float v[2 * BYTES], scale = scales[c * (2 * BYTES) / group];
        nibbles<BYTES>(q + c * BYTES, v);
#pragma unroll
        for (int i = 0; i < 2 * BYTES; i++)
            x[c * (2 * BYTES) + i] = from_float<T>(v[i] * scale);
    }
}

static int dequantize(struct mbk *k, const char *what, const void *q, const void *scales, int64_t rows, int64_t columns, int group,
                      enum mbk_type type, void *x)
{
    return gpu_with_float(k, what, type, [&](auto zero) {
        return with_bytes(bytes_at_once(q, columns, group), [&](auto bytes) {
            using T = decltype(zero);
            int64_t chunks = rows * columns / (2 * bytes.value);
            return gpu_launch(k, what, dequantize_groups_kernel<T, bytes.value>, dim3(gpu_blocks(k, chunks, GPU_THREADS)), dim3(GPU_THREADS),
                              0, chunks, group, (const uint8_t *)q, (const float *)scales, (T *)x);
        });
    });
}

extern "C" int gpu_dequantize_groups(struct mbk *k, const struct mbk_tensor *q, const struct mbk_tensor *scales, int group,
                                     const struct mbk_tensor *x)
{
    return dequantize(k, "dequantize_groups", q->data, scales->data, mbk_row_count(x), mbk_row_length(x), group, x->type, x->data);
}

/* -- Products of few rows. A warp makes COLUMNS columns of y at once, so that what it reads of x serves all of them. */

enum { GEMV_ROWS = 8, GEMV_WARPS = 4 };

struct int4_gemv {
    const void *x;
    const uint8_t *w;
    const float *scales;
    const void *bias;
    void *y;
    int64_t m, n, k;
    int group;
    enum mbk_type bias_type;
    enum mbk_activation f;
    bool aligned; /* x's rows to four elements */
};

template <class T, int BYTES, int M, int COLUMNS>
__global__ void __launch_bounds__(GPU_WARP *GEMV_WARPS) int4_gemv_kernel(int4_gemv g)
{
    int lane = threadIdx.x % GPU_WARP;
    int64_t first = ((int64_t)blockIdx.x * GEMV_WARPS + threadIdx.x / GPU_WARP) * COLUMNS, groups = g.k / g.group;
    if (first >= g.n)
        return;
    float sums[M][COLUMNS] = {};
    for (int64_t at = (int64_t)lane * 2 * BYTES; at < g.k; at += GPU_WARP * 2 * BYTES) {
        float v[COLUMNS][2 * BYTES], scale[COLUMNS];
        int64_t group = at / g.group;
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) {
            int64_t column = first + c < g.n ? first + c : g.n - 1; /* beyond the last: done again, and not written */
            scale[c] = g.scales[column * groups + group];
            nibbles<BYTES>(g.w + (column * g.k + at) / 2, v[c]);
        }
#pragma unroll
        for (int r = 0; r < M; r++) {
            if (r >= g.m)
                break;
            const T *x = (const T *)g.x + r * g.k + at;
            float part[COLUMNS] = {};
            if (BYTES > 1 && g.aligned) {
#pragma unroll
                for (int i = 0; i < 2 * BYTES; i += 4) {
                    float a[4];
                    load<4>(x + i, a);
#pragma unroll
                    for (int c = 0; c < COLUMNS; c++)
#pragma unroll
                        for (int j = 0; j < 4; j++)
                            part[c] += a[j] * v[c][(i + j) % (2 * BYTES)];
                }
            } else {
#pragma unroll
                for (int i = 0; i < 2 * BYTES; i++) {
                    float a = to_float(x[i]);
#pragma unroll
                    for (int c = 0; c < COLUMNS; c++)
                        part[c] += a * v[c][i];
                }
            }
#pragma unroll
            for (int c = 0; c < COLUMNS; c++)
                sums[r][c] += part[c] * scale[c];
        }
    }
#pragma unroll
    for (int r = 0; r < M; r++)
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) {
            float sum = warp_reduce(sums[r][c], sum_of());
            int64_t column = first + c;
            if (lane != 0 || r >= g.m || column >= g.n)
                continue;
            if (g.bias)
                sum += g.bias_type == MBK_F32 ? ((const float *)g.bias)[column] : to_float(((const bf16 *)g.bias)[column]);
            ((T *)g.y)[r * g.n + column] = from_float<T>(activation_of(g.f, sum));
        }
}

template <class T, int BYTES>
static int launch_gemv(struct mbk *k, const int4_gemv &g)
{
    /* Fewer columns at once where there are more rows: sums stay in registers. */
    auto kernel = g.m == 1 ? int4_gemv_kernel<T, BYTES, 1, 2> : g.m == 2 ? int4_gemv_kernel<T, BYTES, 2, 2>
                  : g.m <= 4 ? int4_gemv_kernel<T, BYTES, 4, 2> : int4_gemv_kernel<T, BYTES, GEMV_ROWS, 2>;
    return gpu_launch(k, "linear_int4", kernel, dim3((unsigned)gpu_ceil(g.n, 2 * GEMV_WARPS)), dim3(GPU_WARP * GEMV_WARPS), 0, g);
}

extern "C" int gpu_linear_int4(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *w, const struct mbk_tensor *scales, int group,
                               const struct mbk_tensor *bias, enum mbk_activation f, const struct mbk_tensor *y)
{
    int64_t m = mbk_row_count(x), n = w->shape[0], inner = w->shape[1];
    if (m <= GEMV_ROWS && n <= INT32_MAX) {
        int4_gemv g = { x->data, (const uint8_t *)w->data, (const float *)scales->data, bias ? bias->data : nullptr, y->data, m, n, inner,
                        group, bias ? bias->type : MBK_F32, f, gpu_aligned(x->data) && inner % 8 == 0 };
        return gpu_with_float(k, "linear_int4", x->type, [&](auto zero) {
            using T = decltype(zero);
            return with_bytes(bytes_at_once(w->data, inner, group), [&](auto bytes) { return launch_gemv<T, bytes.value>(k, g); });
        });
    }
    struct mbk_gemm g = {};
    size_t mark = gpu_scratch_mark(k);
    void *wide = gpu_scratch(k, "linear_int4", (size_t)(n * inner) * (x->type == MBK_BF16 ? 2 : 4));
    g.m = m;
    g.n = n;
    g.k = inner;
    g.batch = 1;
    g.a = x->data;
    g.b = wide;
    g.c = y->data;
    g.a_type = g.b_type = x->type;
    g.c_type = y->type;
    g.transpose_b = 1;
    g.lda = g.ldb = inner > 0 ? inner : 1;
    g.ldc = n;
    g.alpha = 1;
    g.bias = bias ? bias->data : nullptr;
    g.bias_type = bias ? bias->type : MBK_F32;
    g.activation = f;
    int status = !wide || (inner > 0 && dequantize(k, "linear_int4", w->data, scales->data, n, inner, group, x->type, wide)) || gpu_gemm(k, &g)
                     ? -1 : 0;
    gpu_scratch_release(k, mark);
    return status;
}
