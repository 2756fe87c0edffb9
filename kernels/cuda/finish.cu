/* finish.cu: what goes before and after a product: bias, activation and residual in one pass; bytes laid out for the tensor cores; and an int8
 * product for shapes that those don't take.
 */
#include "device.cuh"

__device__ __forceinline__ float to_float(int32_t x) { return (float)x; }

/* The row and the column of element i. Division of 32 bits is many times faster. */
__device__ __forceinline__ void split(int64_t i, int64_t columns, int64_t &row, int64_t &column)
{
    if (((i | columns) >> 32) == 0) {
        row = (uint32_t)i / (uint32_t)columns;
        column = (uint32_t)i % (uint32_t)columns;
    } else {
        row = i / columns;
        column = i % columns;
    }
}

template <int N>
__device__ __forceinline__ void load_any(enum mbk_type type, const void *from, int64_t i, float (&to)[N])
{
    if (type == MBK_F32)
        load<N>((const float *)from + i, to);
    else
        load<N>((const bf16 *)from + i, to);
}

template <class From, class C>
struct finish_op {
    struct gpu_finish f;

    template <int N>
    __device__ __forceinline__ void run(int64_t i) const
    {
        int64_t row, column;
        float x[N] = {}, other[N];
        split(i, f.columns, row, column);
        if (f.from)
            load<N>((const From *)f.from + row * f.ld_from + column, x);
        if (f.row_scale) {
            float scale = f.row_scale[f.one_row_scale ? 0 : row];
#pragma unroll
            for (int j = 0; j < N; j++)
                x[j] *= scale * f.column_scale[column + j];
        }
        if (f.bias) {
            load_any<N>(f.bias_type, f.bias, column, other);
#pragma unroll
            for (int j = 0; j < N; j++)
                x[j] += other[j];
        }
        if (f.before)
            store<N>((C *)f.before + i, x);
        if (f.activation != MBK_NONE)
#pragma unroll
            for (int j = 0; j < N; j++)
                x[j] = activation_of(f.activation, x[j]);
        if (f.residual) {
            load<N>((const C *)f.residual + i, other);
#pragma unroll
            for (int j = 0; j < N; j++)
                x[j] += other[j];
        }
        store<N>((C *)f.c + row * f.ldc + column, x);
    }
};

/* A pack never crosses a row's end: columns and the distances between rows are multiples of N. */
template <int N, class From, class C>
static int launch_finish(struct mbk *k, const char *what, const struct gpu_finish *f)
{
    finish_op<From, C> op = { *f };
    bool aligned = f->columns % N == 0 && f->ldc % N == 0 && f->ld_from % N == 0 && gpu_aligned(f->c) && gpu_aligned(f->from) &&
                   gpu_aligned(f->before) && gpu_aligned(f->residual) && gpu_aligned(f->bias);
    return gpu_elementwise<N>(k, what, f->rows * f->columns, aligned, op);
}

extern "C" int gpu_finish(struct mbk *k, const char *what, const struct gpu_finish *f)
{
    if (f->from_type == MBK_I32 && f->c_type == MBK_F32)
        return launch_finish<4, int32_t, float>(k, what, f);
    if (f->from_type == MBK_I32 && f->c_type == MBK_BF16)
        return launch_finish<8, int32_t, bf16>(k, what, f);
    if (f->from_type == MBK_F32 && f->c_type == MBK_F32)
        return launch_finish<4, float, float>(k, what, f);
    if (f->from_type == MBK_F32 && f->c_type == MBK_BF16)
        return launch_finish<4, float, bf16>(k, what, f);
    if (f->from_type == MBK_BF16 && f->c_type == MBK_BF16)
        return launch_finish<8, bf16, bf16>(k, what, f);
    return mbk_unsupported(k, what, f->from_type);
}

/* -- No product at all. */

template <class T>
struct scale_matrix_op {
    T *c;
    int64_t rows, columns, ld, stride;
    float beta;

    template <int N>
    __device__ __forceinline__ void run(int64_t i) const
    {
        int64_t row, column, batch, in_batch;
        split(i, columns, row, column);
        split(row, rows, batch, in_batch);
        T *p = c + batch * stride + in_batch * ld + column;
        if constexpr (sizeof(T) == 4 && !std::is_same_v<T, float>)
            *p = 0;
        else
            *p = from_float<T>(beta == 0 ? 0 : beta * to_float(*p));
    }
};

extern "C" int gpu_scale_matrix(struct mbk *k, const struct mbk_gemm *g)
{
    int64_t count = g->batch * g->m * g->n;
    if (g->c_type == MBK_I32) {
        scale_matrix_op<int32_t> op = { (int32_t *)g->c, g->m, g->n, g->ldc, g->stride_c, 0 };
        return gpu_elementwise<1>(k, "matmul", count, false, op);
    }
    return gpu_with_float(k, "matmul", g->c_type, [&](auto zero) {
        using T = decltype(zero);
        scale_matrix_op<T> op = { (T *)g->c, g->m, g->n, g->ldc, g->stride_c, g->beta };
        return gpu_elementwise<1>(k, "matmul", count, false, op);
    });
}

/* -- Bytes laid out anew: tiles of 32 × 32 through shared memory, so that both sides are read and written along their rows. */
enum { TILE = 32, TILE_ROWS = 8 };

__global__ void __launch_bounds__(TILE *TILE_ROWS)
    pack_bytes_kernel(const uint8_t *from, int64_t rows, int64_t columns, int64_t ld, bool transpose, uint8_t *to, int64_t to_rows,
                      int64_t to_columns, int64_t tiles_across)
{
    __shared__ uint8_t tile[TILE][TILE + 4];
    int64_t to_row = (int64_t)(blockIdx.x / tiles_across) * TILE, to_column = (int64_t)(blockIdx.x % tiles_across) * TILE;
    int64_t from_row = transpose ? to_column : to_row, from_column = transpose ? to_row : to_column;
    for (int r = threadIdx.y; r < TILE; r += TILE_ROWS) {
        int64_t row = from_row + r, column = from_column + threadIdx.x;
        tile[r][threadIdx.x] = row < rows && column < columns ? from[row * ld + column] : 0;
    }
    __syncthreads();
    for (int r = threadIdx.y; r < TILE; r += TILE_ROWS) {
        int64_t row = to_row + r, column = to_column + threadIdx.x;
        if (row < to_rows && column < to_columns)
            to[row * to_columns + column] = transpose ? tile[threadIdx.x][r] : tile[r][threadIdx.x];
    }
}

extern "C" int gpu_pack_bytes(struct mbk *k, const char *what, const void *from, int64_t rows, int64_t columns, int64_t ld, int transpose,
                              void *to, int64_t to_rows, int64_t to_columns)
{
    int64_t across = gpu_ceil(to_columns, TILE), tiles = across * gpu_ceil(to_rows, TILE);
    if (tiles > INT32_MAX)
        return mbk_fail(k, "%s: a matrix of %lld × %lld bytes is too large to lay out anew", what, (long long)rows, (long long)columns);
    return gpu_launch(k, what, pack_bytes_kernel, dim3((unsigned)tiles), dim3(TILE, TILE_ROWS), 0, (const uint8_t *)from, rows, columns, ld,
                      transpose != 0, (uint8_t *)to, to_rows, to_columns, across);
}

/* -- int8 by any strides. A block makes 32 × 32 sums of c, a thread four of them, from tiles of 32 along K in shared memory. */

struct int8_product {
    const int8_t *a, *b;
    int32_t *c;
    int64_t m, n, k;
    int64_t a_row, a_inner, b_column, b_inner, ldc; /* distances */
    int64_t stride_a, stride_b, stride_c, tiles_across;
};

__global__ void __launch_bounds__(TILE *TILE_ROWS) int8_product_kernel(int8_product p)
{
    /* Rows of 36 bytes: words stay aligned and a warp's reads spread over the banks. */
    __shared__ __align__(4) int8_t a[TILE][TILE + 4], b[TILE][TILE + 4];
    int64_t row0 = (int64_t)(blockIdx.x / p.tiles_across) * TILE, column0 = (int64_t)(blockIdx.x % p.tiles_across) * TILE;
    const int8_t *from_a = p.a + blockIdx.y * p.stride_a, *from_b = p.b + blockIdx.y * p.stride_b;
    int32_t sums[TILE / TILE_ROWS] = {};
    for (int64_t inner0 = 0; inner0 < p.k; inner0 += TILE) {
        int64_t inner = inner0 + threadIdx.x;
        for (int r = threadIdx.y; r < TILE; r += TILE_ROWS) {
            a[r][threadIdx.x] = row0 + r < p.m && inner < p.k ? from_a[(row0 + r) * p.a_row + inner * p.a_inner] : 0;
            b[r][threadIdx.x] = column0 + r < p.n && inner < p.k ? from_b[(column0 + r) * p.b_column + inner * p.b_inner] : 0;
        }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < TILE; i += 4) {
            int from_column = *(const int *)&b[threadIdx.x][i];
#pragma unroll
            for (int r = 0; r < TILE / TILE_ROWS; r++)
                sums[r] = __dp4a(*(const int *)&a[threadIdx.y + r * TILE_ROWS][i], from_column, sums[r]);
        }
        __syncthreads();
    }
    int64_t column = column0 + threadIdx.x;
#pragma unroll
    for (int r = 0; r < TILE / TILE_ROWS; r++) {
        int64_t row = row0 + threadIdx.y + r * TILE_ROWS;
        if (row < p.m && column < p.n)
            p.c[blockIdx.y * p.stride_c + row * p.ldc + column] = sums[r];
    }
}

extern "C" int gpu_gemm_int8_any(struct mbk *k, const struct mbk_gemm *g)
{
    int8_product p = { (const int8_t *)g->a, (const int8_t *)g->b, (int32_t *)g->c, g->m, g->n, g->k, 0, 0, 0, 0, g->ldc,
                       g->stride_a, g->stride_b, g->stride_c, gpu_ceil(g->n, TILE) };
    p.a_row = g->transpose_a ? 1 : g->lda;
    p.a_inner = g->transpose_a ? g->lda : 1;
    p.b_column = g->transpose_b ? g->ldb : 1;
    p.b_inner = g->transpose_b ? 1 : g->ldb;
    int64_t tiles = p.tiles_across * gpu_ceil(g->m, TILE);
    if (tiles > INT32_MAX || g->batch > 65535)
        return mbk_fail(k, "matmul: I8 [%lld, %lld] by [%lld, %lld], %lld times, is too large", (long long)g->m, (long long)g->k,
                        (long long)g->k, (long long)g->n, (long long)g->batch);
    return gpu_launch(k, "matmul", int8_product_kernel, dim3((unsigned)tiles, (unsigned)g->batch), dim3(TILE, TILE_ROWS), 0, p);
}

extern "C" int gpu_has_code(void)
{
    cudaFuncAttributes attributes;
    cudaError_t error = cudaFuncGetAttributes(&attributes, (const void *)pack_bytes_kernel);
    (void)cudaGetLastError();
    return error == cudaSuccess;
}
