/* device.cuh: what the kernels share: numbers in and out of memory, sums over warps and blocks, activations, Philox, and launching.
 *
 * Arithmetic is float32 whatever the storage. Sums over a warp or a block have one fixed order, so they give the same bits each time.
 */
#ifndef MBK_DEVICE_CUH
#define MBK_DEVICE_CUH

#include "gpu.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <math_constants.h>
#include <stdint.h>
#include <type_traits>
#include <utility>

typedef __nv_bfloat16 bf16;

/* -- Launching. */

enum { GPU_WARP = 32, GPU_THREADS = 256 };

static inline int64_t gpu_ceil(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Blocks for `work` items of `per_block` each, as grid-stride loops want it: enough to fill the device and no more. */
static inline unsigned gpu_blocks(struct mbk *k, int64_t work, int64_t per_block)
{
    int64_t wanted = gpu_ceil(work, per_block), most = (int64_t)gpu_of(k)->processors * 16;
    return (unsigned)(wanted < 1 ? 1 : wanted < most ? wanted : most);
}

template <class... P, class... A>
static int gpu_launch(struct mbk *k, const char *what, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, A &&...arguments)
{
    if (gpu_enter(k))
        return -1;
    if (shared > 48 * 1024 &&
        gpu_check(k, what, cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared)))
        return -1;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    config.stream = gpu_of(k)->stream;
    return gpu_check(k, what, cudaLaunchKernelEx(&config, kernel, std::forward<A>(arguments)...));
}

/* Calls f with a number of the type that `type`, F32 or BF16, stands for. */
template <class F>
static int gpu_with_float(struct mbk *k, const char *what, enum mbk_type type, F f)
{
    switch (type) {
    case MBK_F32: return f(float());
    case MBK_BF16: return f(bf16());
    default: return mbk_unsupported(k, what, type);
    }
}

static inline bool gpu_aligned(const void *p)
{
    return (uintptr_t)p % 16 == 0;
}

/* -- Numbers. */

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return __bfloat162float(x); }
template <class T> __device__ __forceinline__ T from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x) { return x; }
template <> __device__ __forceinline__ bf16 from_float<bf16>(float x) { return __float2bfloat16_rn(x); }

/* N neighbours, moved by accesses of 16 bytes where they are as many. */
template <class T, int N>
struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) pack {
    T v[N];
};

template <int N, class T>
__device__ __forceinline__ void load(const T *from, float (&to)[N])
{
    if constexpr (N == 1) {
        to[0] = to_float(*from);
    } else {
        pack<T, N> p = *(const pack<T, N> *)from;
#pragma unroll
        for (int i = 0; i < N; i++)
            to[i] = to_float(p.v[i]);
    }
}

template <int N, class T>
__device__ __forceinline__ void store(T *to, const float (&from)[N])
{
    if constexpr (N == 1) {
        *to = from_float<T>(from[0]);
    } else {
        pack<T, N> p;
#pragma unroll
        for (int i = 0; i < N; i++)
            p.v[i] = from_float<T>(from[i]);
        *(pack<T, N> *)to = p;
    }
}

/* -- Reductions. Every thread of the warp or block takes part and gets the result. */

struct sum_of { __device__ __forceinline__ float operator()(float a, float b) const { return a + b; } };
/* The greater, and NaN if either is. */
struct max_of { __device__ __forceinline__ float operator()(float a, float b) const { return a != a || a > b ? a : b; } };
struct min_of { __device__ __forceinline__ float operator()(float a, float b) const { return a != a || a < b ? a : b; } };

template <class Op, class T>
__device__ __forceinline__ T warp_reduce(T x, Op op)
{
#pragma unroll
    for (int step = GPU_WARP / 2; step > 0; step /= 2)
        x = op(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
}

/* `shared`: room for one T a warp. Blocks are whole warps. */
template <class Op, class T>
__device__ __forceinline__ T block_reduce(T x, T none, T *shared, Op op)
{
    int lane = threadIdx.x % GPU_WARP, warp = threadIdx.x / GPU_WARP, warps = blockDim.x / GPU_WARP;
    x = warp_reduce(x, op);
    __syncthreads(); /* an earlier reduction may still be read */
    if (lane == 0)
        shared[warp] = x;
    __syncthreads();
    x = lane < warps ? shared[lane] : none;
    return warp_reduce(x, op);
}

/* -- Activations and their derivatives. `f` is the same for all threads. */

__device__ __forceinline__ float sigmoid_of(float x)
{
    return 1 / (1 + expf(-x));
}

/* √(2/π) and the cubic's factor (Hendrycks and Gimpel 2016, the approximation). */
#define GELU_SCALE 0.7978845608028654f
#define GELU_CUBIC 0.044715f

__device__ __forceinline__ float activation_of(int f, float x)
{
    switch (f) {
    case MBK_RELU: return x < 0 ? 0 : x;
    case MBK_GELU: return 0.5f * x * (1 + erff(x * 0.7071067811865475f));
    case MBK_GELU_TANH: return 0.5f * x * (1 + tanhf(GELU_SCALE * (x + GELU_CUBIC * x * x * x)));
    case MBK_SILU: return x * sigmoid_of(x);
    case MBK_TANH: return tanhf(x);
    case MBK_SIGMOID: return sigmoid_of(x);
    default: return x;
    }
}

__device__ __forceinline__ float activation_slope(int f, float x)
{
    switch (f) {
    case MBK_RELU: return x <= 0 ? 0 : 1;
    case MBK_GELU: {
        float cumulative = 0.5f * (1 + erff(x * 0.7071067811865475f));
        return cumulative + x * 0.3989422804014327f * expf(-0.5f * x * x);
    }
    case MBK_GELU_TANH: {
        float t = tanhf(GELU_SCALE * (x + GELU_CUBIC * x * x * x));
        return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * GELU_SCALE * (1 + 3 * GELU_CUBIC * x * x);
    }
    case MBK_SILU: {
        float s = sigmoid_of(x);
        return s * (1 + x * (1 - s));
    }
    case MBK_TANH: {
        float t = tanhf(x);
        return 1 - t * t;
    }
    case MBK_SIGMOID: {
        float s = sigmoid_of(x);
        return s * (1 - s);
    }
    default: return 1;
    }
}

/* -- Philox4x32-10 as mbk_philox: four words of counter `offset` under key `seed`. */
__device__ __forceinline__ void philox(uint64_t seed, uint64_t offset, uint32_t (&out)[4])
{
    uint32_t c0 = (uint32_t)offset, c1 = (uint32_t)(offset >> 32), c2 = 0, c3 = 0;
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; round++) {
        uint32_t high0 = __umulhi(0xD2511F53u, c0), low0 = 0xD2511F53u * c0;
        uint32_t high1 = __umulhi(0xCD9E8D57u, c2), low1 = 0xCD9E8D57u * c2;
        c0 = high1 ^ c1 ^ key0;
        c2 = high0 ^ c3 ^ key1;
        c1 = low1;
        c3 = low0;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* Two normal numbers of two words (Box and Muller 1958): r cos, r sin, r = √(−2 ln u), u of (0, 1] and the angle from the upper 24 bits. */
__device__ __forceinline__ void normal_pair(uint32_t first, uint32_t second, float &a, float &b)
{
    const float unit = 5.9604644775390625e-8f; /* 2⁻²⁴ */
    float u = __fmul_rn((float)((first >> 8) + 1), unit);
    float angle = __fmul_rn(6.28318531f, __fmul_rn((float)(second >> 8), unit));
    float r = sqrtf(__fmul_rn(-2.0f, logf(u)));
    a = __fmul_rn(r, cosf(angle));
    b = __fmul_rn(r, sinf(angle));
}

/* What a word must reach for an element to be kept: word / 2³² ≥ rate. */
static inline uint64_t gpu_keep_from(float rate)
{
    double words = (double)rate * 4294967296.0;
    uint64_t whole = (uint64_t)words;
    return whole + ((double)whole < words);
}

/* -- Elementwise work: op.run<N>(i) does elements i … i + N − 1. The vector version is for pointers that are all aligned to 16 bytes. */
template <int N, class Op>
__global__ void __launch_bounds__(GPU_THREADS) elementwise_kernel(int64_t count, Op op)
{
    int64_t first = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, step = (int64_t)gridDim.x * blockDim.x;
    int64_t packs = count / N;
    for (int64_t i = first; i < packs; i += step)
        op.template run<N>(i * N);
    if (N > 1)
        for (int64_t i = packs * N + first; i < count; i += step)
            op.template run<1>(i);
}

template <int N, class Op>
static int gpu_elementwise(struct mbk *k, const char *what, int64_t count, bool aligned, Op op)
{
    if (aligned && count >= N)
        return gpu_launch(k, what, elementwise_kernel<N, Op>, dim3(gpu_blocks(k, count / N, GPU_THREADS)), dim3(GPU_THREADS), 0, count, op);
    return gpu_launch(k, what, elementwise_kernel<1, Op>, dim3(gpu_blocks(k, count, GPU_THREADS)), dim3(GPU_THREADS), 0, count, op);
}

#endif
