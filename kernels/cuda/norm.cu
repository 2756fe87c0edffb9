/* norm.cu: layer norm (Ba, Kiros, Hinton 2016) and RMS norm (Zhang, Sennrich 2019), forward beside backward. RMS norm is layer norm with a
 * mean of 0 and no beta. Variances are sums over what is left after the mean, so that a large mean costs no digits.
 */
#include "reduce.cuh"
#include "rows.cuh"

template <class T, class Y>
struct norm_forward {
    const T *x, *gamma, *beta; /* beta NULL: RMS */
    float eps;
    Y *y;
    float *mean, *rstd; /* optional */
};

template <class T, class Y, int TEAM, int N>
__global__ void __launch_bounds__(GPU_THREADS) norm_kernel(int64_t rows, int64_t length, norm_forward<T, Y> o)
{
    FOR_ROWS(row, rows, TEAM) {
        const T *x = o.x + row * length;
        float v[N], g[N], b[N] = {}, mean = 0, mine = 0;
        if (o.beta) {
            FOR_ROW(i, length, TEAM, N) {
                load<N>(x + i, v);
#pragma unroll
                for (int j = 0; j < N; j++)
                    mine += v[j];
            }
            mean = team_reduce<TEAM>(mine, 0.0f, sum_of()) / (float)length;
        }
        mine = 0;
        FOR_ROW(i, length, TEAM, N) {
            load<N>(x + i, v);
#pragma unroll
            for (int j = 0; j < N; j++)
                mine += (v[j] - mean) * (v[j] - mean);
        }
        float rstd = 1 / sqrtf(team_reduce<TEAM>(mine, 0.0f, sum_of()) / (float)length + o.eps);
        FOR_ROW(i, length, TEAM, N) {
            load<N>(x + i, v);
            load<N>(o.gamma + i, g);
            if (o.beta)
                load<N>(o.beta + i, b);
#pragma unroll
            for (int j = 0; j < N; j++)
                v[j] = (v[j] - mean) * rstd * g[j] + b[j];
            store<N>(o.y + row * length + i, v);
        }
        if (threadIdx.x % TEAM == 0) {
            if (o.mean)
                o.mean[row] = mean;
            if (o.rstd)
                o.rstd[row] = rstd;
        }
    }
}

static int forward(struct mbk *k, const char *what, const struct mbk_tensor *x, const struct mbk_tensor *gamma, const struct mbk_tensor *beta,
                   float eps, const struct mbk_tensor *y, const struct mbk_tensor *mean, const struct mbk_tensor *rstd)
{
    int64_t rows = mbk_row_count(x), length = mbk_row_length(x);
    bool aligned = gpu_aligned(x->data) && gpu_aligned(gamma->data) && (!beta || gpu_aligned(beta->data)) && gpu_aligned(y->data);
    /* As many elements at once as the wider of x and y has in 16 bytes. */
    return gpu_with_rows(k, what, x->type, length, aligned, [&](auto zero, auto team, auto n) {
        return gpu_with_float(k, what, y->type, [&](auto y_zero) {
            using T = decltype(zero);
            using Y = decltype(y_zero);
            constexpr int all = decltype(n)::value, N = all * sizeof(Y) > 16 ? 16 / sizeof(Y) : all;
            norm_forward<T, Y> o = { (const T *)x->data, (const T *)gamma->data, beta ? (const T *)beta->data : nullptr, eps, (Y *)y->data,
                                     mean ? (float *)mean->data : nullptr, rstd ? (float *)rstd->data : nullptr };
            return gpu_launch(k, what, norm_kernel<T, Y, decltype(team)::value, N>, dim3(gpu_row_blocks(k, rows, team)), dim3(GPU_THREADS), 0,
                              rows, length, o);
        });
    });
}

extern "C" int gpu_layernorm(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *gamma, const struct mbk_tensor *beta, float eps,
                             const struct mbk_tensor *y, const struct mbk_tensor *mean, const struct mbk_tensor *rstd)
{
    return forward(k, "layernorm", x, gamma, beta, eps, y, mean, rstd);
}

extern "C" int gpu_rmsnorm(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *gamma, float eps, const struct mbk_tensor *y,
                           const struct mbk_tensor *rstd)
{
    return forward(k, "rmsnorm", x, gamma, nullptr, eps, y, nullptr, rstd);
}

/* -- Backward. With n = (x − mean) rstd and d = dy gamma: dx = rstd (d − mean(d) − n mean(d n)), mean(d) 0 for RMS. */

template <class T>
struct norm_backward {
    const T *x, *gamma, *dy;
    const float *mean, *rstd; /* mean NULL: RMS */
    T *dx;
};

template <class T, int TEAM, int N>
__global__ void __launch_bounds__(GPU_THREADS) norm_backward_kernel(int64_t rows, int64_t length, norm_backward<T> o)
{
    FOR_ROWS(row, rows, TEAM) {
        int64_t at = row * length;
        float mean = o.mean ? o.mean[row] : 0, rstd = o.rstd[row], v[N], d[N], g[N], sum = 0, product = 0;
        FOR_ROW(i, length, TEAM, N) {
            load<N>(o.x + at + i, v);
            load<N>(o.dy + at + i, d);
            load<N>(o.gamma + i, g);
#pragma unroll
            for (int j = 0; j < N; j++) {
                d[j] *= g[j];
                sum += d[j];
                product += d[j] * ((v[j] - mean) * rstd);
            }
        }
        sum = o.mean ? team_reduce<TEAM>(sum, 0.0f, sum_of()) / (float)length : 0;
        product = team_reduce<TEAM>(product, 0.0f, sum_of()) / (float)length;
        FOR_ROW(i, length, TEAM, N) {
            load<N>(o.x + at + i, v);
            load<N>(o.dy + at + i, d);
            load<N>(o.gamma + i, g);
#pragma unroll
            for (int j = 0; j < N; j++)
                v[j] = rstd * (d[j] * g[j] - sum - (v[j] - mean) * rstd * product);
            store<N>(o.dx + at + i, v);
        }
    }
}

/* Sums over rows of dy n and of dy: a block adds up `chunk` rows of 32 columns in eight lines, as sum_rows does. Reads x and dy before
 * dx is written, which may lie over either. */
template <class T>
__global__ void __launch_bounds__(GPU_THREADS)
    norm_parameters_kernel(int64_t rows, int64_t length, int64_t chunk, norm_backward<T> o, float *gamma_parts, float *beta_parts)
{
    __shared__ float shared[2][8][GPU_WARP];
    int64_t column = (int64_t)blockIdx.x * GPU_WARP + threadIdx.x;
    int64_t begin = blockIdx.y * chunk, end = begin + chunk < rows ? begin + chunk : rows;
    float for_gamma = 0, for_beta = 0;
    if (column < length)
        for (int64_t r = begin + threadIdx.y; r < end; r += 8) {
            float d = to_float(o.dy[r * length + column]), v = to_float(o.x[r * length + column]);
            for_gamma += d * ((v - (o.mean ? o.mean[r] : 0)) * o.rstd[r]);
            for_beta += d;
        }
    shared[0][threadIdx.y][threadIdx.x] = for_gamma;
    shared[1][threadIdx.y][threadIdx.x] = for_beta;
    __syncthreads();
    if (threadIdx.y < 2 && column < length) {
        float *parts = threadIdx.y == 0 ? gamma_parts : beta_parts, sum = 0;
        for (int line = 0; line < 8; line++)
            sum += shared[threadIdx.y][line][threadIdx.x];
        if (parts)
            parts[blockIdx.y * length + column] = sum;
    }
}

template <class T>
static int parameter_gradients(struct mbk *k, const char *what, int64_t rows, int64_t length, norm_backward<T> o,
                               const struct mbk_tensor *dgamma, const struct mbk_tensor *dbeta)
{
    int64_t across = gpu_ceil(length, GPU_WARP), most = gpu_ceil(rows, 64), parts = gpu_ceil((int64_t)gpu_of(k)->processors * 8, across);
    parts = parts > most ? most : parts;
    int64_t chunk = gpu_ceil(rows, parts);
    parts = gpu_ceil(rows, chunk);
    if (across > INT32_MAX || parts > 65535)
        return mbk_fail(k, "%s: [%lld, %lld] is too large", what, (long long)rows, (long long)length);
    size_t mark = gpu_scratch_mark(k), bytes = (size_t)(parts * length) * sizeof(float);
    float *gamma_parts = dgamma ? (float *)gpu_scratch(k, what, bytes) : nullptr;
    float *beta_parts = dbeta ? (float *)gpu_scratch(k, what, bytes) : nullptr;
    int status = (dgamma && !gamma_parts) || (dbeta && !beta_parts) ? -1 : 0;
    if (status == 0)
        status = gpu_launch(k, what, norm_parameters_kernel<T>, dim3((unsigned)across, (unsigned)parts), dim3(GPU_WARP, 8), 0, rows, length,
                            chunk, o, gamma_parts, beta_parts);
    if (status == 0 && dgamma)
        status = gpu_add_partials(k, what, gamma_parts, parts, length, dgamma);
    if (status == 0 && dbeta)
        status = gpu_add_partials(k, what, beta_parts, parts, length, dbeta);
    gpu_scratch_release(k, mark);
    return status;
}

static int backward(struct mbk *k, const char *what, const struct mbk_tensor *x, const struct mbk_tensor *gamma, const struct mbk_tensor *mean,
                    const struct mbk_tensor *rstd, const struct mbk_tensor *dy, const struct mbk_tensor *dx, const struct mbk_tensor *dgamma,
                    const struct mbk_tensor *dbeta)
{
    int64_t rows = mbk_row_count(x), length = mbk_row_length(x);
    bool aligned = gpu_aligned(x->data) && gpu_aligned(gamma->data) && gpu_aligned(dy->data) && (!dx || gpu_aligned(dx->data));
    return gpu_with_rows(k, what, x->type, length, aligned, [&](auto zero, auto team, auto n) {
        using T = decltype(zero);
        norm_backward<T> o = { (const T *)x->data, (const T *)gamma->data, (const T *)dy->data, mean ? (const float *)mean->data : nullptr,
                               (const float *)rstd->data, dx ? (T *)dx->data : nullptr };
        if ((dgamma || dbeta) && parameter_gradients<T>(k, what, rows, length, o, dgamma, dbeta))
            return -1;
        return !dx ? 0
                   : gpu_launch(k, what, norm_backward_kernel<T, team.value, n.value>, dim3(gpu_row_blocks(k, rows, team.value)),
                                dim3(GPU_THREADS), 0, rows, length, o);
    });
}

extern "C" int gpu_layernorm_backward(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *gamma, const struct mbk_tensor *mean,
                                      const struct mbk_tensor *rstd, const struct mbk_tensor *dy, const struct mbk_tensor *dx,
                                      const struct mbk_tensor *dgamma, const struct mbk_tensor *dbeta)
{
    return backward(k, "layernorm_backward", x, gamma, mean, rstd, dy, dx, dgamma, dbeta);
}

extern "C" int gpu_rmsnorm_backward(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *gamma, const struct mbk_tensor *rstd,
                                    const struct mbk_tensor *dy, const struct mbk_tensor *dx, const struct mbk_tensor *dgamma)
{
    return backward(k, "rmsnorm_backward", x, gamma, nullptr, rstd, dy, dx, dgamma, nullptr);
}
