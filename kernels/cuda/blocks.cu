/* blocks.cu: GGUF's block layouts Q8_0, Q4_0 and Q4_K (ggml-common.h, ggml-quants.c): to and from floats, and products of few rows that read
 * the blocks as they are.
 *
 * A format decodes eight weights at a time: four from element `low` of the row on and four from `high` on, as they lie in its bytes, so
 * that the lanes of a warp read neighbouring words.
 */
#include "device.cuh"

#include <cuda_fp16.h>

__device__ __forceinline__ float half_at(const uint8_t *p)
{
    return __half2float(*(const __half *)p);
}

/* Blocks are multiples of two bytes, and so may begin at any of those. */
__device__ __forceinline__ uint32_t word_at(const uint8_t *p)
{
    const uint16_t *h = (const uint16_t *)p;
    return h[0] | (uint32_t)h[1] << 16;
}

/* Scale and least of one of Q4_K's eight parts, six bits each (get_scale_min_k4). */
__device__ __forceinline__ void q4_k_part(const uint8_t *scales, int part, int &scale, int &least)
{
    if (part < 4) {
        scale = scales[part] & 63;
        least = scales[part + 4] & 63;
    } else {
        scale = (scales[part + 4] & 15) | (scales[part - 4] >> 6) << 4;
        least = scales[part + 4] >> 4 | (scales[part] >> 6) << 4;
    }
}

struct q8_0 {
    enum { ELEMENTS = 32, BYTES = 34 };

    __device__ __forceinline__ static void decode(const uint8_t *row, int64_t chunk, float (&w)[8], int64_t &low, int64_t &high)
    {
        const uint8_t *block = row + chunk / 4 * BYTES;
        int at = (int)(chunk % 4) * 8;
        float d = half_at(block);
        uint32_t words[2] = { word_at(block + 2 + at), word_at(block + 6 + at) };
        low = chunk * 8;
        high = low + 4;
#pragma unroll
        for (int i = 0; i < 8; i++)
            w[i] = d * (float)(int8_t)(words[i / 4] >> 8 * (i % 4));
    }
};

struct q4_0 {
    enum { ELEMENTS = 32, BYTES = 18 };

    __device__ __forceinline__ static void decode(const uint8_t *row, int64_t chunk, float (&w)[8], int64_t &low, int64_t &high)
    {
        const uint8_t *block = row + chunk / 4 * BYTES;
        int at = (int)(chunk % 4) * 4;
        float d = half_at(block);
        uint32_t word = word_at(block + 2 + at);
        low = chunk / 4 * 32 + at;
        high = low + 16;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            w[i] = d * (float)((int)(word >> 8 * i & 15) - 8);
            w[4 + i] = d * (float)((int)(word >> (8 * i + 4) & 15) - 8);
        }
    }
};

struct q4_k {
    enum { ELEMENTS = 256, BYTES = 144 };

    __device__ __forceinline__ static void decode(const uint8_t *row, int64_t chunk, float (&w)[8], int64_t &low, int64_t &high)
    {
        const uint8_t *block = row + chunk / 32 * BYTES;
        int at = (int)(chunk % 32) * 4, part = at / 32 * 2;
        float d = half_at(block), dmin = half_at(block + 2);
        uint32_t word = word_at(block + 16 + at);
        int scale, least;
        low = chunk / 32 * 256 + part * 32 + at % 32;
        high = low + 32;
        q4_k_part(block + 4, part, scale, least);
        float factor = d * scale, from = dmin * least;
#pragma unroll
        for (int i = 0; i < 4; i++)
            w[i] = __fsub_rn(__fmul_rn(factor, (float)(word >> 8 * i & 15)), from);
        q4_k_part(block + 4, part + 1, scale, least);
        factor = d * scale, from = dmin * least;
#pragma unroll
        for (int i = 0; i < 4; i++)
            w[4 + i] = __fsub_rn(__fmul_rn(factor, (float)(word >> (8 * i + 4) & 15)), from);
    }
};

template <class F>
static int with_format(struct mbk *k, const char *what, enum mbk_type type, F f)
{
    switch (type) {
    case MBK_Q8_0: return f(q8_0());
    case MBK_Q4_0: return f(q4_0());
    case MBK_Q4_K: return f(q4_k());
    default: return mbk_unsupported(k, what, type);
    }
}

/* -- To floats. */

template <class Format, class T>
__global__ void __launch_bounds__(GPU_THREADS) dequantize_kernel(const uint8_t *q, int64_t chunks, T *x)
{
    for (int64_t c = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; c < chunks; c += (int64_t)gridDim.x * blockDim.x) {
        float w[8];
        int64_t low, high;
        Format::decode(q, c, w, low, high);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            x[low + i] = from_float<T>(w[i]);
            x[high + i] = from_float<T>(w[4 + i]);
        }
    }
}

/* Rows are whole blocks and lie one after the other: all of them are one long row. */
extern "C" int gpu_dequantize(struct mbk *k, const char *what, enum mbk_type blocks, const void *q, int64_t rows, int64_t columns,
                              enum mbk_type type, void *x)
{
    return with_format(k, what, blocks, [&](auto format) {
        using Format = decltype(format);
        return gpu_with_float(k, what, type, [&](auto zero) {
            using T = decltype(zero);
            int64_t chunks = rows * columns / 8;
            return gpu_launch(k, what, dequantize_kernel<Format, T>, dim3(gpu_blocks(k, chunks, GPU_THREADS)), dim3(GPU_THREADS), 0,
                              (const uint8_t *)q, chunks, (T *)x);
        });
    });
}

extern "C" int gpu_dequantize_blocks(struct mbk *k, const struct mbk_tensor *q, const struct mbk_tensor *x)
{
    return gpu_dequantize(k, "dequantize_blocks", q->type, q->data, mbk_row_count(x), mbk_row_length(x), x->type, x->data);
}

/* -- Rows of a table by their numbers. A chunk is eight elements of a row: two runs of four. */

template <class Format, class T>
__global__ void __launch_bounds__(GPU_THREADS) rows_kernel(const uint8_t *table, int64_t table_rows, const int32_t *ids, int64_t rows,
                                                           int64_t length, T *y)
{
    int64_t chunks = length / 8, row_bytes = length / Format::ELEMENTS * Format::BYTES;
    for (int64_t c = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; c < rows * chunks; c += (int64_t)gridDim.x * blockDim.x) {
        int64_t row = c / chunks, low, high;
        int32_t id = ids[row];
        bool known = id >= 0 && id < table_rows;
        float w[8];
        if (known) {
            Format::decode(table + id * row_bytes, c - row * chunks, w, low, high);
        } else {
            low = (c - row * chunks) * 8, high = low + 4;
#pragma unroll
            for (int i = 0; i < 8; i++)
                w[i] = CUDART_NAN_F;
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            y[row * length + low + i] = from_float<T>(w[i]);
            y[row * length + high + i] = from_float<T>(w[4 + i]);
        }
    }
}

extern "C" int gpu_embedding_blocks(struct mbk *k, const struct mbk_tensor *table, const struct mbk_tensor *ids, const struct mbk_tensor *y)
{
    return with_format(k, "embedding", table->type, [&](auto format) {
        using Format = decltype(format);
        return gpu_with_float(k, "embedding", y->type, [&](auto zero) {
            using T = decltype(zero);
            return gpu_launch(k, "embedding", rows_kernel<Format, T>, dim3(gpu_blocks(k, mbk_count(y) / 8, GPU_THREADS)), dim3(GPU_THREADS), 0,
                              (const uint8_t *)table->data, table->shape[0], (const int32_t *)ids->data, mbk_count(ids), table->shape[1],
                              (T *)y->data);
        });
    });
}

/* -- Products of few rows. A warp makes one column of c, its lanes taking chunks in turn. */

enum { GEMV_WARPS = 4 };

struct gemv {
    const void *a;
    const uint8_t *b;
    void *c;
    int64_t m, n, k, lda, ldc;
    float alpha, beta;
    bool aligned; /* rows of a to four elements */
};

template <class Format, class A, class C, int M>
__global__ void __launch_bounds__(GPU_WARP *GEMV_WARPS) gemv_kernel(gemv g)
{
    int lane = threadIdx.x % GPU_WARP;
    int64_t column = (int64_t)blockIdx.x * GEMV_WARPS + threadIdx.x / GPU_WARP;
    if (column >= g.n)
        return;
    const uint8_t *row = g.b + column * (g.k / Format::ELEMENTS * Format::BYTES);
    float sums[M] = {};
    for (int64_t chunk = lane; chunk < g.k / 8; chunk += GPU_WARP) {
        float w[8], x[4];
        int64_t at[2];
        Format::decode(row, chunk, w, at[0], at[1]);
#pragma unroll
        for (int r = 0; r < M; r++) {
            if (r >= g.m)
                break;
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const A *a = (const A *)g.a + r * g.lda + at[half];
                if (g.aligned) {
                    load<4>(a, x);
                } else {
#pragma unroll
                    for (int i = 0; i < 4; i++)
                        x[i] = to_float(a[i]);
                }
#pragma unroll
                for (int i = 0; i < 4; i++)
                    sums[r] += w[4 * half + i] * x[i];
            }
        }
    }
#pragma unroll
    for (int r = 0; r < M; r++) {
        float sum = warp_reduce(sums[r], sum_of());
        if (lane == 0 && r < g.m) {
            C *c = (C *)g.c + r * g.ldc + column;
            *c = from_float<C>(g.alpha * sum + (g.beta == 0 ? 0 : g.beta * to_float(*c)));
        }
    }
}

extern "C" int gpu_gemv_blocks(struct mbk *k, const struct mbk_gemm *p)
{
    if (p->batch != 1 || p->m > GPU_GEMV_ROWS || p->transpose_a)
        return 1;
    gemv g = { p->a, (const uint8_t *)p->b, p->c, p->m, p->n, p->k, p->lda, p->ldc, p->alpha, p->beta,
               gpu_aligned(p->a) && p->lda % 4 == 0 };
    int64_t blocks = gpu_ceil(p->n, GEMV_WARPS);
    if (blocks > INT32_MAX)
        return 1;
    return with_format(k, "matmul", p->b_type, [&](auto format) {
        using Format = decltype(format);
        return gpu_with_float(k, "matmul", p->a_type, [&](auto a_zero) {
            using A = decltype(a_zero);
            return gpu_with_float(k, "matmul", p->c_type, [&](auto c_zero) {
                using C = decltype(c_zero);
                auto kernel = p->m == 1 ? gemv_kernel<Format, A, C, 1> : p->m == 2 ? gemv_kernel<Format, A, C, 2>
                              : p->m <= 4 ? gemv_kernel<Format, A, C, 4> : gemv_kernel<Format, A, C, GPU_GEMV_ROWS>;
                return gpu_launch(k, "matmul", kernel, dim3((unsigned)blocks), dim3(GPU_WARP * GEMV_WARPS), 0, g);
            });
        });
    });
}

/* -- From floats, a thread for each 32 elements, in ggml's order of operations and without fused products, so that the bytes are its own. */

__device__ __forceinline__ void put_half(uint8_t *to, float x)
{
    *(__half *)to = __float2half_rn(x);
}

template <class T>
__device__ __forceinline__ void read_part(const T *x, float (&v)[32])
{
#pragma unroll
    for (int i = 0; i < 32; i++)
        v[i] = to_float(x[i]);
}

template <class T>
__global__ void __launch_bounds__(GPU_THREADS) quantize_q8_0_kernel(const T *x, int64_t parts, uint8_t *q)
{
    for (int64_t p = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; p < parts; p += (int64_t)gridDim.x * blockDim.x) {
        float v[32], most = 0;
        read_part(x + p * 32, v);
#pragma unroll
        for (int i = 0; i < 32; i++)
            most = fmaxf(most, fabsf(v[i]));
        float d = most / 127, inverse = d != 0 ? 1 / d : 0;
        uint8_t *block = q + p * q8_0::BYTES;
        put_half(block, d);
        for (int i = 0; i < 32; i++)
            block[2 + i] = (uint8_t)(int8_t)roundf(__fmul_rn(v[i], inverse));
    }
}

template <class T>
__global__ void __launch_bounds__(GPU_THREADS) quantize_q4_0_kernel(const T *x, int64_t parts, uint8_t *q)
{
    for (int64_t p = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; p < parts; p += (int64_t)gridDim.x * blockDim.x) {
        float v[32], most = 0, signed_most = 0;
        read_part(x + p * 32, v);
#pragma unroll
        for (int i = 0; i < 32; i++)
            if (most < fabsf(v[i])) {
                most = fabsf(v[i]);
                signed_most = v[i];
            }
        float d = signed_most / -8, inverse = d != 0 ? 1 / d : 0;
        uint8_t *block = q + p * q4_0::BYTES;
        put_half(block, d);
#pragma unroll
        for (int i = 0; i < 16; i++) {
            int low = (int8_t)__fadd_rn(__fmul_rn(v[i], inverse), 8.5f), high = (int8_t)__fadd_rn(__fmul_rn(v[i + 16], inverse), 8.5f);
            block[2 + i] = (uint8_t)((low < 15 ? low : 15) | (high < 15 ? high : 15) << 4);
        }
    }
}

__device__ __forceinline__ int level_of(float x)
{
    int l = __float2int_rn(x);
    return l < 0 ? 0 : l > 15 ? 15 : l;
}

/* make_qkx2_quants: the scale, and the least as a positive number, that lose the least, weights counted, of 22 tries. Its own levels are
 * level_of((v − base) · to_level). */
__device__ float q4_k_scale(const float (&v)[32], float &least, float &base, float &to_level)
{
    float low = v[0], high = v[0], squares = 0;
#pragma unroll
    for (int i = 0; i < 32; i++) {
        low = v[i] < low ? v[i] : low;
        high = v[i] > high ? v[i] : high;
        squares = __fadd_rn(squares, __fmul_rn(v[i], v[i]));
    }
    float mean = sqrtf(squares / 32), sum_w = 0, sum_x = 0;
#pragma unroll
    for (int i = 0; i < 32; i++) {
        float w = mean + fabsf(v[i]);
        sum_w = i == 0 ? w : __fadd_rn(sum_w, w);
        sum_x = i == 0 ? __fmul_rn(w, v[i]) : __fadd_rn(sum_x, __fmul_rn(w, v[i]));
    }
    low = low > 0 ? 0 : low;
    base = low;
    to_level = 0;
    if (high == low) {
        least = -low;
        return 0;
    }
    float inverse = 15 / (high - low), scale = 1 / inverse, best = 0;
    to_level = inverse;
#pragma unroll
    for (int i = 0; i < 32; i++) {
        float off = __fsub_rn(__fadd_rn(__fmul_rn(scale, (float)level_of(__fmul_rn(inverse, v[i] - low))), low), v[i]);
        best = __fadd_rn(best, __fmul_rn(mean + fabsf(v[i]), __fmul_rn(off, off)));
    }
    for (int step = 0; step <= 20; step++) {
        inverse = __fadd_rn(__fadd_rn(-1.0f, __fmul_rn(0.1f, (float)step)), 15.0f) / (high - low);
        float sum_l = 0, sum_l2 = 0, sum_xl = 0;
#pragma unroll
        for (int i = 0; i < 32; i++) {
            float l = (float)level_of(__fmul_rn(inverse, v[i] - low)), w = mean + fabsf(v[i]), wl = __fmul_rn(w, l);
            sum_l = __fadd_rn(sum_l, wl);
            sum_l2 = __fadd_rn(sum_l2, __fmul_rn(wl, l));
            sum_xl = __fadd_rn(sum_xl, __fmul_rn(wl, v[i]));
        }
        float determinant = __fsub_rn(__fmul_rn(sum_w, sum_l2), __fmul_rn(sum_l, sum_l));
        if (!(determinant > 0))
            continue;
        float this_scale = __fsub_rn(__fmul_rn(sum_w, sum_xl), __fmul_rn(sum_x, sum_l)) / determinant;
        float this_from = __fsub_rn(__fmul_rn(sum_l2, sum_x), __fmul_rn(sum_l, sum_xl)) / determinant;
        if (this_from > 0) {
            this_from = 0;
            this_scale = sum_xl / sum_l2;
        }
        float lost = 0;
#pragma unroll
        for (int i = 0; i < 32; i++) {
            float l = (float)level_of(__fmul_rn(inverse, v[i] - low));
            float off = __fsub_rn(__fadd_rn(__fmul_rn(this_scale, l), this_from), v[i]);
            lost = __fadd_rn(lost, __fmul_rn(mean + fabsf(v[i]), __fmul_rn(off, off)));
        }
        if (lost < best) {
            best = lost;
            base = low;
            to_level = inverse;
            scale = this_scale;
            low = this_from; /* the next tries' levels count from here */
        }
    }
    least = -low;
    return scale;
}

/* Eight threads to a block of 256; the blocks of a warp are whole, and all its threads go through the shuffles. */
template <class T>
__global__ void __launch_bounds__(GPU_THREADS) quantize_q4_k_kernel(const T *x, int64_t parts, uint8_t *q)
{
    for (int64_t base = (int64_t)blockIdx.x * blockDim.x; base < parts; base += (int64_t)gridDim.x * blockDim.x) {
        int64_t p = base + threadIdx.x;
        bool real = p < parts;
        int part = threadIdx.x % 8;
        float v[32] = {}, least = 0, scale = 0, base_level = 0, to_level = 0;
        if (real) {
            read_part(x + p * 32, v);
            scale = q4_k_scale(v, least, base_level, to_level);
        }
        float most_scale = scale > 0 ? scale : 0, most_least = least > 0 ? least : 0;
#pragma unroll
        for (int step = 4; step > 0; step /= 2) {
            most_scale = fmaxf(most_scale, __shfl_xor_sync(0xffffffffu, most_scale, step));
            most_least = fmaxf(most_least, __shfl_xor_sync(0xffffffffu, most_least, step));
        }
        float to_scale = most_scale > 0 ? 63 / most_scale : 0, to_least = most_least > 0 ? 63 / most_least : 0;
        int six_scale = (uint8_t)__float2int_rn(__fmul_rn(to_scale, scale)), six_least = (uint8_t)__float2int_rn(__fmul_rn(to_least, least));
        six_scale = six_scale > 63 ? 63 : six_scale;
        six_least = six_least > 63 ? 63 : six_least;
        /* What part p + 4 leaves of its upper bits lies beside part p's. */
        int other_scale = __shfl_xor_sync(0xffffffffu, six_scale, 4), other_least = __shfl_xor_sync(0xffffffffu, six_least, 4);
        __half d = __float2half_rn(most_scale / 63), dmin = __float2half_rn(most_least / 63);
        uint8_t *block = q + p / 8 * q4_k::BYTES;
        if (real) {
            if (part == 0) {
                *(__half *)block = d;
                *(__half *)(block + 2) = dmin;
            }
            if (part < 4) {
                block[4 + part] = (uint8_t)(six_scale | other_scale >> 4 << 6);
                block[8 + part] = (uint8_t)(six_least | other_least >> 4 << 6);
            } else {
                block[8 + part] = (uint8_t)((six_scale & 15) | (six_least & 15) << 4);
            }
        }
        float factor = __half2float(d) * six_scale, from = __half2float(dmin) * six_least;
#pragma unroll
        for (int i = 0; i < 32; i++) {
            int l = level_of(factor != 0 ? (v[i] + from) / factor : __fmul_rn(to_level, v[i] - base_level));
            int other = __shfl_xor_sync(0xffffffffu, l, 1);
            if (real && part % 2 == 0)
                block[16 + part / 2 * 32 + i] = (uint8_t)(l | other << 4);
        }
    }
}

template <class T>
static void (*quantizer(q8_0, T))(const T *, int64_t, uint8_t *) { return quantize_q8_0_kernel<T>; }
template <class T>
static void (*quantizer(q4_0, T))(const T *, int64_t, uint8_t *) { return quantize_q4_0_kernel<T>; }
template <class T>
static void (*quantizer(q4_k, T))(const T *, int64_t, uint8_t *) { return quantize_q4_k_kernel<T>; }

extern "C" int gpu_quantize_blocks(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *q)
{
    return with_format(k, "quantize_blocks", q->type, [&](auto format) {
        return gpu_with_float(k, "quantize_blocks", x->type, [&](auto zero) {
            using T = decltype(zero);
            int64_t parts = mbk_count(x) / 32;
            return gpu_launch(k, "quantize_blocks", quantizer(format, zero), dim3(gpu_blocks(k, parts, GPU_THREADS)), dim3(GPU_THREADS), 0,
                              (const T *)x->data, parts, (uint8_t *)q->data);
        });
    });
}
