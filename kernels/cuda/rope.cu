/* rope.cu: rotary positions, in Llama's layout. A thread turns one pair of each head of a position, so that the angle, which is made in
 * float64, is made once for all heads.
 */
#include "device.cuh"
#include "rope.h"

template <class T>
__global__ void __launch_bounds__(GPU_THREADS)
    rope_kernel(int64_t positions, int64_t times, int64_t heads, int half, int64_t start, struct mbk_rotary r, double log_base, float sign,
                T *x)
{
    int64_t count = positions * half;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (int64_t)gridDim.x * blockDim.x) {
        int64_t position = i / half;
        int pair = (int)(i % half);
        double sine, cosine, angle = (double)(start + position % times) * mbk_rotary_speed(r, log_base, pair, half);
        sincos(angle, &sine, &cosine);
        float s = sign * (float)sine, c = (float)cosine;
        T *at = x + position * heads * 2 * half + pair;
        for (int64_t h = 0; h < heads; h++, at += 2 * half) {
            float a = to_float(at[0]), b = to_float(at[half]);
            at[0] = from_float<T>(a * c - b * s);
            at[half] = from_float<T>(b * c + a * s);
        }
    }
}

extern "C" int gpu_rope(struct mbk *k, const struct mbk_tensor *x, int64_t start, const struct mbk_rotary *r, int sign)
{
    int64_t positions = x->shape[0] * x->shape[1];
    int half = (int)(x->shape[3] / 2);
    return gpu_with_float(k, "rope", x->type, [&](auto zero) {
        using T = decltype(zero);
        return gpu_launch(k, "rope", rope_kernel<T>, dim3(gpu_blocks(k, positions * half, GPU_THREADS)), dim3(GPU_THREADS), 0, positions,
                          x->shape[1], x->shape[2], half, start, *r, log((double)r->base), (float)sign, (T *)x->data);
    });
}
