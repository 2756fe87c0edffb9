/* random.cu: dropout and random numbers. Element i takes word i % 4 of the counter offset + i / 4, as on every device; a thread does a counter.
 * Products and sums are written out as such, so that none are fused and uniform numbers and dropout have the bits that the CPU gives; normal
 * numbers differ from its in the last bits, as the two libraries' logarithms do.
 */
#include "device.cuh"

#define UNIT 5.9604644775390625e-8f /* 2⁻²⁴ */

/* op.make(words, x, y) for the four elements of a counter; x is read where the operation has one. */
template <class Op, class T>
__global__ void __launch_bounds__(GPU_THREADS)
    random_kernel(int64_t count, uint64_t seed, uint64_t offset, const mbk_varying *varying, Op op, const T *x, T *y, bool aligned)
{
    offset += varying->offset;
    int64_t counters = (count + 3) / 4, step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t c = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; c < counters; c += step) {
        uint32_t words[4];
        float v[4] = {};
        philox(seed, offset + (uint64_t)c, words);
        if (aligned && 4 * c + 4 <= count) {
            if (x)
                load<4>(x + 4 * c, v);
            op.make(words, v);
            store<4>(y + 4 * c, v);
        } else {
            int n = (int)(count - 4 * c < 4 ? count - 4 * c : 4);
            for (int i = 0; x && i < n; i++)
                v[i] = to_float(x[4 * c + i]);
            op.make(words, v);
            for (int i = 0; i < n; i++)
                y[4 * c + i] = from_float<T>(v[i]);
        }
    }
}

template <class Op>
static int run_random(struct mbk *k, const char *what, uint64_t seed, uint64_t offset, Op op, const struct mbk_tensor *x,
                      const struct mbk_tensor *y)
{
    return gpu_with_float(k, what, y->type, [&](auto zero) {
        using T = decltype(zero);
        int64_t count = mbk_count(y);
        const T *from = x ? (const T *)x->data : nullptr;
        bool aligned = gpu_aligned(from) && gpu_aligned(y->data);
        return gpu_launch(k, what, random_kernel<Op, T>, dim3(gpu_blocks(k, gpu_ceil(count, 4), GPU_THREADS)), dim3(GPU_THREADS), 0, count,
                          seed, offset, gpu_varying(k), op, from, (T *)y->data, aligned);
    });
}

struct dropout_op {
    uint64_t least;
    float factor;

    __device__ __forceinline__ void make(const uint32_t (&words)[4], float (&v)[4]) const
    {
#pragma unroll
        for (int i = 0; i < 4; i++)
            v[i] = words[i] >= least ? __fmul_rn(v[i], factor) : 0.0f;
    }
};

extern "C" int gpu_dropout(struct mbk *k, float rate, uint64_t seed, uint64_t offset, const struct mbk_tensor *x, const struct mbk_tensor *y)
{
    return run_random(k, "dropout", seed, offset, dropout_op{ gpu_keep_from(rate), 1.0f / (1.0f - rate) }, x, y);
}

struct uniform_op {
    float least, span;

    __device__ __forceinline__ void make(const uint32_t (&words)[4], float (&v)[4]) const
    {
#pragma unroll
        for (int i = 0; i < 4; i++)
            v[i] = __fadd_rn(least, __fmul_rn(span, __fmul_rn((float)(words[i] >> 8), UNIT)));
    }
};

extern "C" int gpu_random_uniform(struct mbk *k, float least, float most, uint64_t seed, uint64_t offset, const struct mbk_tensor *x)
{
    return run_random(k, "random_uniform", seed, offset, uniform_op{ least, most - least }, nullptr, x);
}

/* Box and Muller 1958: words 0 and 1 make elements 0 and 1, words 2 and 3 the others. */
struct normal_op {
    float mean, deviation;

    __device__ __forceinline__ void make(const uint32_t (&words)[4], float (&v)[4]) const
    {
#pragma unroll
        for (int i = 0; i < 4; i += 2) {
            float z0, z1;
            normal_pair(words[i], words[i + 1], z0, z1);
            v[i] = __fadd_rn(mean, __fmul_rn(deviation, z0));
            v[i + 1] = __fadd_rn(mean, __fmul_rn(deviation, z1));
        }
    }
};

extern "C" int gpu_random_normal(struct mbk *k, float mean, float deviation, uint64_t seed, uint64_t offset, const struct mbk_tensor *x)
{
    return run_random(k, "random_normal", seed, offset, normal_op{ mean, deviation }, nullptr, x);
}
