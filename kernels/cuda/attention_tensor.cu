/* attention_tensor.cu: attention in bfloat16 by the tensor cores, for heads of up to 128 whose rows are whole 16 bytes.
 *
 * The same walk as in attention.cu: four warps have 16 rows each of a fixed tile and go along the moving tiles. Scores stay in the registers in
 * which the product leaves them, which are those in which the next product wants its left side. Weights and the scores' gradients are split into
 * two bfloat16 numbers, so that they keep 16 bits: what is rounded to 8 is the result alone. The moving side lies in shared memory by
 * rows for the first product and across for the second; rows are padded so that a warp's reads meet each bank once.
 */
#include "attention.cuh"
#include "mma.cuh"

enum { WARPS = 4, FIXED = 16 * WARPS, MOVING = 32, BLOCK = GPU_WARP * WARPS };

template <int D> using by_rows = bf16[D + 8];
using across = bf16[MOVING + 8];

/* ROWS rows from `first` on: `tile` by rows, `turned` across; either may be NULL. What is beyond `end`, or the head's size, is 0. */
template <int ROWS, int D>
__device__ __forceinline__ void load_tile(const attention &a, const void *from, rows_of r, int64_t first, int64_t end, by_rows<D> *tile,
                                          across *turned)
{
    for (int i = threadIdx.x; i < ROWS * (D / 8); i += BLOCK) {
        int row = i % ROWS, column = i / ROWS * 8;
        pack<bf16, 8> p;
        if (first + row < end && column < a.size) {
            p = *(const pack<bf16, 8> *)((const bf16 *)from + r.base + (first + row) * r.step + column);
        } else {
#pragma unroll
            for (int j = 0; j < 8; j++)
                p.v[j] = from_float<bf16>(0);
        }
        if (tile)
            *(pack<bf16, 8> *)&tile[row][column] = p;
        if (turned)
#pragma unroll
            for (int j = 0; j < 8; j++)
                turned[column + j][row] = p.v[j];
    }
}

__device__ __forceinline__ uint32_t two_at(const bf16 *p)
{
    return *(const uint32_t *)p;
}

/* Two neighbours, the first in the lower half, and what their rounding has left of them. */
__device__ __forceinline__ uint32_t two_of(float first, float second, float &first_rest, float &second_rest)
{
    bf16 a = from_float<bf16>(first), b = from_float<bf16>(second);
    first_rest = first - to_float(a);
    second_rest = second - to_float(b);
    return (uint32_t)__bfloat16_as_ushort(a) | (uint32_t)__bfloat16_as_ushort(b) << 16;
}

/* scores = the warp's rows of `fixed` times all rows of `moving` */
template <int D>
__device__ __forceinline__ void multiply_tiles(const by_rows<D> *fixed, const by_rows<D> *moving, float (&scores)[MOVING / 8][4])
{
    int g = threadIdx.x % GPU_WARP / 4, t = threadIdx.x % 4 * 2, row = threadIdx.x / GPU_WARP * 16 + g;
#pragma unroll
    for (int n = 0; n < MOVING / 8; n++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            scores[n][e] = 0;
#pragma unroll
    for (int d = 0; d < D; d += 16) {
        uint32_t a[4] = { two_at(&fixed[row][d + t]), two_at(&fixed[row + 8][d + t]), two_at(&fixed[row][d + t + 8]),
                          two_at(&fixed[row + 8][d + t + 8]) };
#pragma unroll
        for (int n = 0; n < MOVING / 8; n++)
            mma_bf16(scores[n], a, two_at(&moving[8 * n + g][d + t]), two_at(&moving[8 * n + g][d + t + 8]));
    }
}

/* sums += weights times the rows that lie across in `y` */
template <int D>
__device__ __forceinline__ void add_weighted(const float (&weights)[MOVING / 8][4], const across *y, float (&sums)[D / 8][4])
{
    int g = threadIdx.x % GPU_WARP / 4, t = threadIdx.x % 4 * 2;
#pragma unroll
    for (int m = 0; m < MOVING / 16; m++) {
        uint32_t high[4], low[4];
#pragma unroll
        for (int i = 0; i < 4; i++) { /* the first 8 columns' row g and row g + 8, then the second's */
            float rest[2], none[2];
            high[i] = two_of(weights[2 * m + i / 2][i % 2 * 2], weights[2 * m + i / 2][i % 2 * 2 + 1], rest[0], rest[1]);
            low[i] = two_of(rest[0], rest[1], none[0], none[1]);
        }
#pragma unroll
        for (int n = 0; n < D / 8; n++) {
            uint32_t b0 = two_at(&y[8 * n + g][16 * m + t]), b1 = two_at(&y[8 * n + g][16 * m + t + 8]);
            mma_bf16(sums[n], high, b0, b1);
            mma_bf16(sums[n], low, b0, b1);
        }
    }
}

/* The warp's rows, from `first` + its own on, times a factor for the upper and the lower eight. */
template <int D>
__device__ __forceinline__ void store_rows(const attention &a, void *to, rows_of r, int64_t first, int64_t end, const float (&sums)[D / 8][4],
                                           float upper, float lower)
{
    int g = threadIdx.x % GPU_WARP / 4, t = threadIdx.x % 4 * 2;
    int64_t row = first + threadIdx.x / GPU_WARP * 16 + g;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        if (row + 8 * half >= end)
            continue;
        bf16 *at = (bf16 *)to + r.base + (row + 8 * half) * r.step + t;
        float factor = half ? lower : upper;
#pragma unroll
        for (int n = 0; n < D / 8; n++) {
            float two[2] = { sums[n][2 * half] * factor, sums[n][2 * half + 1] * factor };
            if (8 * n < a.size)
                store<2>(at + 8 * n, two);
        }
    }
}

/* The four threads of a row. */
template <class Op>
__device__ __forceinline__ float quad_reduce(float x, Op op)
{
    x = op(x, __shfl_xor_sync(0xffffffffu, x, 1));
    return op(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

/* -- Forward. */

template <int D>
struct forward_tiles {
    by_rows<D> q[FIXED], keys[MOVING];
    across values[D];
};

template <int D>
__global__ void __launch_bounds__(BLOCK) attend_kernel(attention a, int64_t tiles)
{
    extern __shared__ __align__(16) char memory[];
    forward_tiles<D> &m = *(forward_tiles<D> *)memory;
    begin(a);
    int64_t first = (tiles - 1 - blockIdx.x % tiles) * FIXED, h = blockIdx.x / tiles % a.heads, b = blockIdx.x / tiles / a.heads;
    int64_t real = real_keys(a, b), last = first + FIXED < a.queries ? first + FIXED : a.queries, end = seen_keys(a, last - 1, real);
    int64_t row = first + threadIdx.x / GPU_WARP * 16 + threadIdx.x % GPU_WARP / 4, head_row = (b * a.heads + h) * a.queries;
    rows_of to_q = query_rows(a, b, h), to_k = key_rows(a, b, h / (a.heads / a.groups));
    float most[2] = { -CUDART_INF_F, -CUDART_INF_F }, sum[2] = {}, out[D / 8][4] = {};
    load_tile<FIXED, D>(a, a.q, to_q, first, last, m.q, nullptr);
    for (int64_t start = 0; start < end; start += MOVING) {
        float scores[MOVING / 8][4];
        __syncthreads(); /* the tiles before have been read */
        load_tile<MOVING, D>(a, a.keys, to_k, start, end, m.keys, nullptr);
        load_tile<MOVING, D>(a, a.values, to_k, start, end, nullptr, m.values);
        __syncthreads();
        multiply_tiles<D>(m.q, m.keys, scores);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int64_t seen = seen_keys(a, row + 8 * half, real), s0 = start + threadIdx.x % 4 * 2;
            float greatest = most[half], part = 0;
#pragma unroll
            for (int i = 0; i < MOVING / 4; i++) {
                float &score = scores[i / 2][2 * half + i % 2];
                score *= a.scale;
                if (s0 + i / 2 * 8 + i % 2 < seen)
                    greatest = max_of()(greatest, score);
            }
            greatest = quad_reduce(greatest, max_of());
            float correction = most[half] == greatest ? 1 : expf(most[half] - greatest), shift = greatest == -INFINITY ? 0 : greatest;
#pragma unroll
            for (int i = 0; i < MOVING / 4; i++) {
                int64_t s = s0 + i / 2 * 8 + i % 2;
                float &score = scores[i / 2][2 * half + i % 2], weight = s < seen ? expf(score - shift) : 0;
                part += weight;
                score = weight == 0 ? 0 : weight * kept(a, head_row + row + 8 * half, s);
            }
            sum[half] = sum[half] * correction + quad_reduce(part, sum_of());
            most[half] = greatest;
#pragma unroll
            for (int n = 0; n < D / 8; n++) {
                out[n][2 * half] *= correction;
                out[n][2 * half + 1] *= correction;
            }
        }
        add_weighted<D>(scores, m.values, out);
    }
    if (a.lse && threadIdx.x % 4 == 0)
        for (int half = 0; half < 2; half++)
            if (row + 8 * half < a.queries)
                a.lse[head_row + row + 8 * half] = most[half] + logf(sum[half]);
    store_rows<D>(a, a.out, to_q, first, last, out, sum[0] == 0 ? 0 : 1 / sum[0], sum[1] == 0 ? 0 : 1 / sum[1]);
}

/* -- Backward: the formulas, and the two runs, are attention.cu's. */

template <int D>
struct backward_tiles {
    by_rows<D> fixed[2][FIXED], moving[2][MOVING];
    across turned[2][D]; /* the second for keys alone */
};

template <int D, bool KEYS>
__global__ void __launch_bounds__(BLOCK) attend_backward_kernel(attention a, int64_t tiles)
{
    extern __shared__ __align__(16) char memory[];
    backward_tiles<D> &m = *(backward_tiles<D> *)memory;
    begin(a);
    int64_t per_group = a.heads / a.groups, lines = KEYS ? a.groups : a.heads;
    int64_t first = blockIdx.x % tiles * FIXED, line = blockIdx.x / tiles % lines, b = blockIdx.x / tiles / lines;
    int64_t real = real_keys(a, b), g = KEYS ? line : line / per_group, behind = a.keys_count - a.queries;
    int64_t row = first + threadIdx.x / GPU_WARP * 16 + threadIdx.x % GPU_WARP / 4, column = threadIdx.x % 4 * 2;
    rows_of to_k = key_rows(a, b, g), to_fixed = KEYS ? to_k : query_rows(a, b, line);
    int64_t fixed_end = KEYS ? real : a.queries;
    float sums[D / 8][4] = {}, value_sums[KEYS ? D / 8 : 1][4] = {};
    load_tile<FIXED, D>(a, KEYS ? a.keys : a.q, to_fixed, first, fixed_end, m.fixed[0], nullptr);
    load_tile<FIXED, D>(a, KEYS ? a.values : a.dout, to_fixed, first, fixed_end, m.fixed[1], nullptr);
    for (int64_t h = KEYS ? g * per_group : line; h < (KEYS ? (g + 1) * per_group : line + 1); h++) {
        rows_of to_moving = KEYS ? query_rows(a, b, h) : to_k;
        int64_t head_row = (b * a.heads + h) * a.queries;
        int64_t from = KEYS && a.causal && first - behind > 0 ? (first - behind) / MOVING * MOVING : 0;
        int64_t last = first + FIXED < a.queries ? first + FIXED : a.queries;
        int64_t end = KEYS ? (first < real ? a.queries : 0) : seen_keys(a, last - 1, real);
        for (int64_t start = from; start < end; start += MOVING) {
            float scores[MOVING / 8][4], ds[MOVING / 8][4];
            __syncthreads(); /* the tiles before have been read */
            load_tile<MOVING, D>(a, KEYS ? a.q : a.keys, to_moving, start, end, m.moving[0], m.turned[0]);
            load_tile<MOVING, D>(a, KEYS ? a.dout : a.values, to_moving, start, end, m.moving[1], KEYS ? m.turned[1] : nullptr);
            __syncthreads();
            multiply_tiles<D>(m.fixed[0], m.moving[0], scores);
            multiply_tiles<D>(m.fixed[1], m.moving[1], ds);
#pragma unroll
            for (int i = 0; i < MOVING / 2; i++) {
                float &score = scores[i / 4][i % 4], &d = ds[i / 4][i % 4], p = 0, slope = 0;
                int64_t here = row + i % 4 / 2 * 8, there = start + column + i / 4 * 8 + i % 2, t = KEYS ? there : here, s = KEYS ? here : there;
                if (t < a.queries && s < seen_keys(a, t, real)) {
                    float keep = kept(a, head_row + t, s);
                    p = expf(score * a.scale - a.lse[head_row + t]);
                    slope = p * (d * keep - a.delta[head_row + t]) * a.scale;
                    p *= keep;
                }
                score = p;
                d = slope;
            }
            add_weighted<D>(ds, m.turned[0], sums);
            if constexpr (KEYS)
                add_weighted<D>(scores, m.turned[1], value_sums);
        }
    }
    if constexpr (KEYS) {
        store_rows<D>(a, a.dkeys, to_k, first, a.keys_count, sums, 1, 1);
        store_rows<D>(a, a.dvalues, to_k, first, a.keys_count, value_sums, 1, 1);
    } else {
        store_rows<D>(a, a.dq, to_fixed, first, a.queries, sums, 1, 1);
    }
}

/* -- Launching. */

static bool fits(const attention &a)
{
    return a.size <= 128 && a.size % 8 == 0 && a.aligned;
}

template <int D>
static int launch_forward(struct mbk *k, const attention &a)
{
    int64_t blocks, tiles = gpu_attention_tiles(k, "attend", a.queries, FIXED, a.batch * a.heads, &blocks);
    return !tiles ? -1 : gpu_launch(k, "attend", attend_kernel<D>, dim3((unsigned)blocks), dim3(BLOCK), sizeof(forward_tiles<D>), a, tiles);
}

int gpu_attend_tensor(struct mbk *k, const attention &a)
{
    return !fits(a) ? 1 : a.size <= 64 ? launch_forward<64>(k, a) : launch_forward<128>(k, a);
}

template <int D>
static int launch_backward(struct mbk *k, const attention &a)
{
    const char *what = "attend_backward";
    size_t shared = sizeof(backward_tiles<D>);
    int64_t blocks, tiles = gpu_attention_tiles(k, what, a.queries, FIXED, a.batch * a.heads, &blocks);
    if (!tiles || gpu_launch(k, what, attend_backward_kernel<D, false>, dim3((unsigned)blocks), dim3(BLOCK), shared, a, tiles))
        return -1;
    tiles = gpu_attention_tiles(k, what, a.keys_count, FIXED, a.batch * a.groups, &blocks);
    return !tiles ? -1 : gpu_launch(k, what, attend_backward_kernel<D, true>, dim3((unsigned)blocks), dim3(BLOCK), shared, a, tiles);
}

int gpu_attend_backward_tensor(struct mbk *k, const attention &a)
{
    return !fits(a) ? 1 : a.size <= 64 ? launch_backward<64>(k, a) : launch_backward<128>(k, a);
}
