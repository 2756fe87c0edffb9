/* attention.cu: attention in blocks (Dao et al. 2022), for any type, head size up to 256, mask and dropout, in float32 arithmetic. What the
 * tensor cores take, attention_tensor.cu does.
 *
 * A block of threads keeps a tile of queries and goes along the keys in tiles, holding for each query the greatest score, the sum of
 * exponentials and the weighted sum of values so far; no score leaves the processor. Backward makes the scores again from lse. It runs once for
 * dq, along the keys, and once for dkeys and dvalues, along the queries of all heads of the group, so that each gradient is summed by one
 * block in one order and nothing is added by two.
 *
 * q, out [B, T, H, D]; keys, values [B, S, G, D]; lse, delta [B, H, T]. Tiles lie in shared memory as float32, rows padded by four floats so that
 * eight rows' reads of 16 bytes meet all banks once.
 */
#include "attention.cuh"

enum { TILE_THREADS = 256, SIDE = 16 }; /* threads stand as SIDE × SIDE over a tile of scores */

/* ROWS rows from `first` on into a tile; what is beyond `end`, or beyond the head's size, is 0. */
template <class T, int ROWS, int D>
__device__ __forceinline__ void load_tile(const attention &a, const void *from, rows_of r, int64_t first, int64_t end, float (*tile)[D + 4])
{
    for (int i = threadIdx.x; i < ROWS * (D / 4); i += TILE_THREADS) {
        int row = i / (D / 4), column = i % (D / 4) * 4;
        float v[4] = {};
        if (first + row < end) {
            const T *at = (const T *)from + r.base + (first + row) * r.step + column;
            if (a.aligned && column + 4 <= a.size) {
                load<4>(at, v);
            } else {
#pragma unroll
                for (int j = 0; j < 4; j++)
                    if (column + j < a.size)
                        v[j] = to_float(at[j]);
            }
        }
        *(float4 *)&tile[row][column] = make_float4(v[0], v[1], v[2], v[3]);
    }
}

/* scores[i][j] = x[row + i] · y[column + SIDE j] */
template <int D, int I, int J>
__device__ __forceinline__ void multiply_tiles(const float (*x)[D + 4], const float (*y)[D + 4], int row, int column, float (&scores)[I][J])
{
#pragma unroll
    for (int i = 0; i < I; i++)
#pragma unroll
        for (int j = 0; j < J; j++)
            scores[i][j] = 0;
#pragma unroll 4
    for (int d = 0; d < D; d += 4) {
        float4 u[I], v[J];
#pragma unroll
        for (int i = 0; i < I; i++)
            u[i] = *(const float4 *)&x[row + i][d];
#pragma unroll
        for (int j = 0; j < J; j++)
            v[j] = *(const float4 *)&y[column + SIDE * j][d];
#pragma unroll
        for (int i = 0; i < I; i++)
#pragma unroll
            for (int j = 0; j < J; j++)
                scores[i][j] += u[i].x * v[j].x + u[i].y * v[j].y + u[i].z * v[j].z + u[i].w * v[j].w;
    }
}

/* A thread's columns of a row of D: packs of WIDTH, SIDE · WIDTH apart. */
template <int D>
struct columns {
    enum { COUNT = D / SIDE, WIDTH = COUNT < 4 ? COUNT : 4, PACKS = COUNT / WIDTH };
};

/* sums[i][…] += Σ_c weights[row + i][c] · y[c][the thread's columns] */
template <int D, int I, int C>
__device__ __forceinline__ void add_weighted(const float (*weights)[C + 4], const float (*y)[D + 4], int row, int column,
                                             float (&sums)[I][columns<D>::COUNT])
{
    constexpr int W = columns<D>::WIDTH;
#pragma unroll 4
    for (int c = 0; c < C; c++) {
        float w[I];
#pragma unroll
        for (int i = 0; i < I; i++)
            w[i] = weights[row + i][c];
#pragma unroll
        for (int p = 0; p < columns<D>::PACKS; p++) {
            float v[W];
            load<W>(&y[c][(p * SIDE + column) * W], v);
#pragma unroll
            for (int i = 0; i < I; i++)
#pragma unroll
                for (int j = 0; j < W; j++)
                    sums[i][p * W + j] += w[i] * v[j];
        }
    }
}

template <class T, int D, int I>
__device__ __forceinline__ void store_rows(const attention &a, void *to, rows_of r, int64_t first, int64_t end, int row, int column,
                                           const float (&sums)[I][columns<D>::COUNT], const float (&factor)[I])
{
    constexpr int W = columns<D>::WIDTH;
#pragma unroll
    for (int i = 0; i < I; i++) {
        if (first + row + i >= end)
            continue;
        T *at = (T *)to + r.base + (first + row + i) * r.step;
#pragma unroll
        for (int n = 0; n < columns<D>::COUNT; n++) {
            int c = (n / W * SIDE + column) * W + n % W;
            if (c < a.size)
                at[c] = from_float<T>(sums[i][n] * factor[i]);
        }
    }
}

/* The 16 threads of a row of scores are half a warp. */
template <class Op>
__device__ __forceinline__ float row_reduce(float x, Op op)
{
#pragma unroll
    for (int step = SIDE / 2; step > 0; step /= 2)
        x = op(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
}

/* -- Forward. */

template <int Q, int K, int D>
struct forward_tiles {
    float q[Q][D + 4], keys[K][D + 4], values[K][D + 4], weights[Q][K + 4];
};

template <class T, int Q, int K, int D>
__global__ void __launch_bounds__(TILE_THREADS) attend_kernel(attention a, int64_t tiles)
{
    constexpr int I = Q / SIDE, J = K / SIDE;
    extern __shared__ __align__(16) char memory[];
    forward_tiles<Q, K, D> &m = *(forward_tiles<Q, K, D> *)memory;
    begin(a);
    int column = threadIdx.x % SIDE, row = threadIdx.x / SIDE * I;
    int64_t first = (tiles - 1 - blockIdx.x % tiles) * Q, h = blockIdx.x / tiles % a.heads, b = blockIdx.x / tiles / a.heads;
    int64_t real = real_keys(a, b), last = first + Q < a.queries ? first + Q : a.queries;
    int64_t end = seen_keys(a, last - 1, real), head_row = (b * a.heads + h) * a.queries + first + row;
    rows_of to_q = query_rows(a, b, h), to_k = key_rows(a, b, h / (a.heads / a.groups));
    float most[I], sum[I], out[I][columns<D>::COUNT] = {};
#pragma unroll
    for (int i = 0; i < I; i++) {
        most[i] = -CUDART_INF_F;
        sum[i] = 0;
    }
    load_tile<T, Q, D>(a, a.q, to_q, first, last, m.q);
    for (int64_t start = 0; start < end; start += K) {
        __syncthreads(); /* the tiles before have been read */
        load_tile<T, K, D>(a, a.keys, to_k, start, end, m.keys);
        load_tile<T, K, D>(a, a.values, to_k, start, end, m.values);
        __syncthreads();
        float scores[I][J];
        multiply_tiles<D, I, J>(m.q, m.keys, row, column, scores);
#pragma unroll
        for (int i = 0; i < I; i++) {
            int64_t seen = seen_keys(a, first + row + i, real);
            float greatest = most[i], part = 0;
#pragma unroll
            for (int j = 0; j < J; j++) {
                scores[i][j] *= a.scale;
                if (start + column + SIDE * j < seen)
                    greatest = max_of()(greatest, scores[i][j]);
            }
            greatest = row_reduce(greatest, max_of());
            /* Minus infinity: nothing seen so far. */
            float correction = most[i] == greatest ? 1 : expf(most[i] - greatest), shift = greatest == -INFINITY ? 0 : greatest;
#pragma unroll
            for (int j = 0; j < J; j++) {
                int64_t s = start + column + SIDE * j;
                float weight = s < seen ? expf(scores[i][j] - shift) : 0;
                part += weight;
                m.weights[row + i][column + SIDE * j] = weight == 0 ? 0 : weight * kept(a, head_row + i, s);
            }
            sum[i] = sum[i] * correction + row_reduce(part, sum_of());
            most[i] = greatest;
#pragma unroll
            for (int n = 0; n < columns<D>::COUNT; n++)
                out[i][n] *= correction;
        }
        __syncwarp(); /* the threads of a row of weights are of one warp */
        add_weighted<D, I, K>(m.weights, m.values, row, column, out);
    }
    float factor[I];
#pragma unroll
    for (int i = 0; i < I; i++) {
        factor[i] = sum[i] == 0 ? 0 : 1 / sum[i];
        if (a.lse && column == 0 && first + row + i < a.queries)
            a.lse[head_row + i] = most[i] + logf(sum[i]);
    }
    store_rows<T, D, I>(a, a.out, to_q, first, last, row, column, out, factor);
}

/* -- Backward. With p = e^(score − lse), dp = dout · value, delta = Σ out dout: ds = p (dp − delta); dq = scale ds keys, dkeys = scale dsᵀ q,
 * dvalues = pᵀ dout. Under dropout dp and the p of dvalues carry its factor. */

template <class T>
__global__ void __launch_bounds__(TILE_THREADS) delta_kernel(attention a)
{
    int64_t count = a.batch * a.queries * a.heads, row = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / GPU_WARP;
    int lane = threadIdx.x % GPU_WARP;
    for (; row < count; row += (int64_t)gridDim.x * blockDim.x / GPU_WARP) {
        const T *out = (const T *)a.out + row * a.size, *dout = (const T *)a.dout + row * a.size;
        float sum = 0;
        for (int64_t i = lane; i < a.size; i += GPU_WARP)
            sum += to_float(out[i]) * to_float(dout[i]);
        sum = warp_reduce(sum, sum_of());
        int64_t h = row % a.heads, t = row / a.heads % a.queries, b = row / a.heads / a.queries;
        if (lane == 0)
            a.delta[(b * a.heads + h) * a.queries + t] = sum;
    }
}

/* Of each side two tiles: `fixed` are the block's own, `moving` those that it goes along. */
template <int F, int M, int D>
struct backward_tiles {
    float fixed[2][F][D + 4], moving[2][M][D + 4], ds[F][M + 4], p[F][M + 4];
};

/* KEYS: the fixed side is the keys and the values, the moving one q and dout; otherwise the other way round. */
template <class T, int F, int M, int D, bool KEYS>
__global__ void __launch_bounds__(TILE_THREADS) attend_backward_kernel(attention a, int64_t tiles)
{
    constexpr int I = F / SIDE, J = M / SIDE;
    extern __shared__ __align__(16) char memory[];
    backward_tiles<F, M, D> &m = *(backward_tiles<F, M, D> *)memory;
    begin(a);
    int column = threadIdx.x % SIDE, row = threadIdx.x / SIDE * I;
    int64_t per_group = a.heads / a.groups, lines = KEYS ? a.groups : a.heads;
    int64_t first = blockIdx.x % tiles * F, line = blockIdx.x / tiles % lines, b = blockIdx.x / tiles / lines;
    int64_t real = real_keys(a, b), g = KEYS ? line : line / per_group, behind = a.keys_count - a.queries;
    rows_of to_k = key_rows(a, b, g);
    int64_t fixed_end = KEYS ? real : a.queries;
    float sums[I][columns<D>::COUNT] = {}, value_sums[KEYS ? I : 1][columns<D>::COUNT] = {};
    if constexpr (KEYS) {
        load_tile<T, F, D>(a, a.keys, to_k, first, fixed_end, m.fixed[0]);
        load_tile<T, F, D>(a, a.values, to_k, first, fixed_end, m.fixed[1]);
    } else {
        load_tile<T, F, D>(a, a.q, query_rows(a, b, line), first, fixed_end, m.fixed[0]);
        load_tile<T, F, D>(a, a.dout, query_rows(a, b, line), first, fixed_end, m.fixed[1]);
    }
    for (int64_t h = KEYS ? g * per_group : line; h < (KEYS ? (g + 1) * per_group : line + 1); h++) {
        rows_of to_q = query_rows(a, b, h);
        int64_t head_row = (b * a.heads + h) * a.queries;
        /* Queries before `from` see none of the tile's keys; keys from `end` on are seen by none of its queries. */
        int64_t from = KEYS && a.causal && first - behind > 0 ? (first - behind) / M * M : 0;
        int64_t last = first + F < a.queries ? first + F : a.queries;
        int64_t end = KEYS ? (first < real ? a.queries : 0) : seen_keys(a, last - 1, real);
        for (int64_t start = from; start < end; start += M) {
            __syncthreads(); /* the tiles before have been read */
            load_tile<T, M, D>(a, KEYS ? a.q : a.keys, KEYS ? to_q : to_k, start, end, m.moving[0]);
            load_tile<T, M, D>(a, KEYS ? a.dout : a.values, KEYS ? to_q : to_k, start, end, m.moving[1]);
            __syncthreads();
            float scores[I][J], dp[I][J];
            multiply_tiles<D, I, J>(m.fixed[0], m.moving[0], row, column, scores);
            multiply_tiles<D, I, J>(m.fixed[1], m.moving[1], row, column, dp);
#pragma unroll
            for (int i = 0; i < I; i++)
#pragma unroll
                for (int j = 0; j < J; j++) {
                    int64_t here = first + row + i, there = start + column + SIDE * j;
                    int64_t t = KEYS ? there : here, s = KEYS ? here : there;
                    float p = 0, ds = 0, dropped = 0;
                    if (t < a.queries && s < seen_keys(a, t, real)) {
                        p = expf(scores[i][j] * a.scale - a.lse[head_row + t]);
                        float keep = kept(a, head_row + t, s);
                        ds = p * (dp[i][j] * keep - a.delta[head_row + t]) * a.scale;
                        dropped = p * keep;
                    }
                    m.ds[row + i][column + SIDE * j] = ds;
                    if constexpr (KEYS)
                        m.p[row + i][column + SIDE * j] = dropped;
                }
            __syncwarp(); /* the threads of a row are of one warp */
            add_weighted<D, I, M>(m.ds, m.moving[0], row, column, sums);
            if constexpr (KEYS)
                add_weighted<D, I, M>(m.p, m.moving[1], row, column, value_sums);
        }
    }
    float one[I];
#pragma unroll
    for (int i = 0; i < I; i++)
        one[i] = 1;
    if constexpr (KEYS) {
        store_rows<T, D, I>(a, a.dkeys, to_k, first, a.keys_count, row, column, sums, one);
        store_rows<T, D, I>(a, a.dvalues, to_k, first, a.keys_count, row, column, value_sums, one);
    } else {
        store_rows<T, D, I>(a, a.dq, query_rows(a, b, line), first, a.queries, row, column, sums, one);
    }
}

/* -- Launching: tiles as large as the shared memory of the least of our cards, 99 KiB, takes. */

template <class T, int Q, int K, int D>
static int launch_forward(struct mbk *k, const attention &a)
{
    int64_t blocks, tiles = gpu_attention_tiles(k, "attend", a.queries, Q, a.batch * a.heads, &blocks);
    return !tiles ? -1 : gpu_launch(k, "attend", attend_kernel<T, Q, K, D>, dim3((unsigned)blocks), dim3(TILE_THREADS),
                                    sizeof(forward_tiles<Q, K, D>), a, tiles);
}

template <class T, int F, int M, int D>
static int launch_backward(struct mbk *k, const attention &a)
{
    const char *what = "attend_backward";
    int64_t blocks, tiles = gpu_attention_tiles(k, what, a.queries, F, a.batch * a.heads, &blocks);
    size_t shared = sizeof(backward_tiles<F, M, D>);
    if (!tiles || gpu_launch(k, what, attend_backward_kernel<T, F, M, D, false>, dim3((unsigned)blocks), dim3(TILE_THREADS), shared, a, tiles))
        return -1;
    tiles = gpu_attention_tiles(k, what, a.keys_count, F, a.batch * a.groups, &blocks);
    return !tiles ? -1 : gpu_launch(k, what, attend_backward_kernel<T, F, M, D, true>, dim3((unsigned)blocks), dim3(TILE_THREADS), shared, a,
                                    tiles);
}

static attention describe(struct mbk *k, const struct mbk_attention *o)
{
    attention a = {};
    a.q = o->q->data;
    a.keys = o->keys->data;
    a.values = o->values->data;
    a.out = o->out->data;
    a.lse = o->lse ? (float *)o->lse->data : nullptr;
    a.lengths = o->lengths ? (const int32_t *)o->lengths->data : nullptr;
    a.batch = o->q->shape[0];
    a.queries = o->q->shape[1];
    a.heads = o->q->shape[2];
    a.size = o->q->shape[3];
    a.keys_count = o->keys->shape[1];
    a.groups = o->keys->shape[2];
    a.scale = o->scale;
    a.rate = o->dropout;
    a.keep_factor = 1.0f / (1.0f - o->dropout);
    a.keep_from = gpu_keep_from(o->dropout);
    a.seed = o->seed;
    a.offset = o->offset;
    a.varying = gpu_varying(k);
    a.causal = o->causal;
    a.aligned = a.size % 4 == 0 && gpu_aligned(a.q) && gpu_aligned(a.keys) && gpu_aligned(a.values) && gpu_aligned(a.out);
    return a;
}

static int too_large(struct mbk *k, const char *what, int64_t size)
{
    return mbk_fail(k, "%s: heads of %lld are not supported on cuda; at most 256 are", what, (long long)size);
}

extern "C" int gpu_attend(struct mbk *k, const struct mbk_attention *o)
{
    attention a = describe(k, o);
    int status = o->q->type == MBK_BF16 ? gpu_attend_tensor(k, a) : 1;
    return status != 1 ? status : gpu_with_float(k, "attend", o->q->type, [&](auto zero) {
        using T = decltype(zero);
        return a.size <= 32    ? launch_forward<T, 64, 32, 32>(k, a)
               : a.size <= 64  ? launch_forward<T, 64, 32, 64>(k, a)
               : a.size <= 128 ? launch_forward<T, 64, 32, 128>(k, a)
               : a.size <= 256 ? launch_forward<T, 32, 16, 256>(k, a)
                               : too_large(k, "attend", a.size);
    });
}

extern "C" int gpu_attend_backward(struct mbk *k, const struct mbk_attention *o, const struct mbk_tensor *dout, const struct mbk_tensor *dq,
                                   const struct mbk_tensor *dkeys, const struct mbk_tensor *dvalues)
{
    attention a = describe(k, o);
    a.dout = dout->data;
    a.dq = dq->data;
    a.dkeys = dkeys->data;
    a.dvalues = dvalues->data;
    a.aligned = a.aligned && gpu_aligned(a.dout) && gpu_aligned(a.dq) && gpu_aligned(a.dkeys) && gpu_aligned(a.dvalues);
    size_t mark = gpu_scratch_mark(k);
    a.delta = (float *)gpu_scratch(k, "attend_backward", (size_t)(a.batch * a.heads * a.queries) * sizeof(float));
    int status = !a.delta ? -1 : gpu_with_float(k, "attend_backward", o->q->type, [&](auto zero) {
        using T = decltype(zero);
        unsigned blocks = gpu_blocks(k, a.batch * a.heads * a.queries, TILE_THREADS / GPU_WARP);
        if (gpu_launch(k, "attend_backward", delta_kernel<T>, dim3(blocks), dim3(TILE_THREADS), 0, a))
            return -1;
        int tensor = o->q->type == MBK_BF16 ? gpu_attend_backward_tensor(k, a) : 1;
        return tensor != 1       ? tensor
               : a.size <= 32  ? launch_backward<T, 32, 32, 32>(k, a)
               : a.size <= 64  ? launch_backward<T, 32, 32, 64>(k, a)
               : a.size <= 128 ? launch_backward<T, 32, 32, 128>(k, a)
               : a.size <= 256 ? launch_backward<T, 16, 16, 256>(k, a)
                               : too_large(k, "attend_backward", a.size);
    });
    gpu_scratch_release(k, mark);
    return status;
}
