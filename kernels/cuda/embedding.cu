/* embedding.cu: rows of a table by their numbers, and their gradient.
 *
 * Many tokens may have one row, whose gradient must not depend on who comes first: ids are sorted, with their places, by a stable sort, and
 * each run of equal ids is summed in the order of its places. A long run (a padding token, say) is cut into pieces of PIECE, which are summed
 * apart and then joined in order, so that one frequent token doesn't hold up all others.
 */
#include "device.cuh"

#include <cub/device/device_radix_sort.cuh>

template <class T, class Y>
struct embedding_op {
    const T *table;
    const int32_t *ids;
    Y *y;
    int64_t length, count;

    template <int N>
    __device__ __forceinline__ void run(int64_t i) const
    {
        bool narrow = (i | length) >> 32 == 0;
        int64_t row = narrow ? (uint32_t)i / (uint32_t)length : i / length, column = i - row * length;
        int32_t id = ids[row];
        float v[N];
        if (id >= 0 && id < count) {
            load<N>(table + id * length + column, v);
        } else {
#pragma unroll
            for (int j = 0; j < N; j++)
                v[j] = CUDART_NAN_F;
        }
        store<N>(y + i, v);
    }
};

extern "C" int gpu_embedding(struct mbk *k, const struct mbk_tensor *table, const struct mbk_tensor *ids, const struct mbk_tensor *y)
{
    if (mbk_is_blocks(table->type))
        return gpu_embedding_blocks(k, table, ids, y);
    return gpu_with_float(k, "embedding", table->type, [&](auto zero) {
        return gpu_with_float(k, "embedding", y->type, [&](auto y_zero) {
            using T = decltype(zero);
            using Y = decltype(y_zero);
            constexpr int N = 16 / (sizeof(T) > sizeof(Y) ? sizeof(T) : sizeof(Y));
            embedding_op<T, Y> op = { (const T *)table->data, (const int32_t *)ids->data, (Y *)y->data, table->shape[1], table->shape[0] };
            bool aligned = table->shape[1] % N == 0 && gpu_aligned(table->data) && gpu_aligned(y->data);
            return gpu_elementwise<N>(k, "embedding", mbk_count(y), aligned, op);
        });
    });
}

/* -- Backward. */

enum { PIECE = 128 };

__global__ void __launch_bounds__(GPU_THREADS) places_kernel(int count, int32_t *places)
{
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x)
        places[i] = i;
}

struct runs {
    const int32_t *ids, *places; /* sorted by id */
    int64_t count, length, table_rows;
    float *pieces;               /* [⌈count / PIECE⌉, length]: a piece's sum, where it isn't its run's only one */
};

/* Where the run that place `at` is in begins, and where it ends. */
__device__ __forceinline__ int64_t run_begin(const runs &r, int64_t at)
{
    int32_t id = r.ids[at];
    int64_t low = 0, high = at;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (r.ids[middle] < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

__device__ __forceinline__ int64_t run_end(const runs &r, int64_t at)
{
    int32_t id = r.ids[at];
    int64_t low = at + 1, high = r.count;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (r.ids[middle] <= id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Pieces are of the sorted list as it lies: block b has places b · PIECE to (b + 1) · PIECE, in which there are whole runs and parts of runs.
 * Whole runs go to the table at once. Of a run that goes beyond the piece, the part is kept: the first part in `pieces` row b if the run
 * began before (it can be but one such), the part of the run's beginning in `heads` row b. */
template <class DY, class T>
__global__ void __launch_bounds__(GPU_THREADS) sum_runs_kernel(runs r, float *heads, const DY *dy, T *dtable)
{
    int64_t begin = (int64_t)blockIdx.x * PIECE, end = begin + PIECE < r.count ? begin + PIECE : r.count;
    for (int64_t column = blockIdx.y * (int64_t)blockDim.x + threadIdx.x; column < r.length; column += (int64_t)gridDim.y * blockDim.x) {
        int64_t i = begin;
        while (i < end) {
            int32_t id = r.ids[i];
            bool began_before = i == begin && i > 0 && r.ids[i - 1] == id;
            float sum = 0;
            for (; i < end && r.ids[i] == id; i++)
                sum += to_float(dy[r.places[i] * r.length + column]);
            bool goes_on = i == end && i < r.count && r.ids[i] == id;
            if (began_before)
                r.pieces[blockIdx.x * r.length + column] = sum;
            else if (goes_on)
                heads[blockIdx.x * r.length + column] = sum;
            else if (id >= 0 && id < r.table_rows)
                dtable[id * r.length + column] = from_float<T>(to_float(dtable[id * r.length + column]) + sum);
        }
    }
}

/* Runs of several pieces: the block whose piece holds the run's beginning joins them. */
template <class T>
__global__ void __launch_bounds__(GPU_THREADS) join_runs_kernel(runs r, const float *heads, T *dtable)
{
    int64_t next = ((int64_t)blockIdx.x + 1) * PIECE;
    if (next >= r.count || r.ids[next - 1] != r.ids[next])
        return; /* no run goes on from this piece */
    int32_t id = r.ids[next];
    if (run_begin(r, next) < (int64_t)blockIdx.x * PIECE || id < 0 || id >= r.table_rows)
        return; /* it began before this piece */
    int64_t last = (run_end(r, next) - 1) / PIECE;
    for (int64_t column = blockIdx.y * (int64_t)blockDim.x + threadIdx.x; column < r.length; column += (int64_t)gridDim.y * blockDim.x) {
        float sum = heads[blockIdx.x * r.length + column];
        for (int64_t piece = blockIdx.x + 1; piece <= last; piece++)
            sum += r.pieces[piece * r.length + column];
        dtable[id * r.length + column] = from_float<T>(to_float(dtable[id * r.length + column]) + sum);
    }
}

static int sort_ids(struct mbk *k, const int32_t *ids, int count, runs *r)
{
    const char *what = "embedding_backward";
    int32_t *places = (int32_t *)gpu_scratch(k, what, (size_t)count * 4), *sorted = (int32_t *)gpu_scratch(k, what, (size_t)count * 4);
    int32_t *sorted_places = (int32_t *)gpu_scratch(k, what, (size_t)count * 4);
    if (!places || !sorted || !sorted_places ||
        gpu_launch(k, what, places_kernel, dim3(gpu_blocks(k, count, GPU_THREADS)), dim3(GPU_THREADS), 0, count, places))
        return -1;
    size_t bytes = 0;
    void *space = nullptr;
    for (int pass = 0; pass < 2; pass++) { /* the first says how much space it takes */
        if (gpu_check(k, what, cub::DeviceRadixSort::SortPairs(space, bytes, ids, sorted, places, sorted_places, count, 0, 32,
                                                               gpu_of(k)->stream)))
            return -1;
        if (pass == 0 && !(space = gpu_scratch(k, what, bytes)))
            return -1;
    }
    r->ids = sorted;
    r->places = sorted_places;
    return 0;
}

extern "C" int gpu_embedding_backward(struct mbk *k, const struct mbk_tensor *ids, const struct mbk_tensor *dy, const struct mbk_tensor *dtable)
{
    const char *what = "embedding_backward";
    int64_t count = mbk_count(ids), length = dtable->shape[1];
    if (count > INT32_MAX)
        return mbk_fail(k, "%s: %lld ids are more than can be sorted", what, (long long)count);
    runs r = {};
    r.count = count;
    r.length = length;
    r.table_rows = dtable->shape[0];
    int64_t pieces = gpu_ceil(count, PIECE);
    size_t mark = gpu_scratch_mark(k);
    int status = sort_ids(k, (const int32_t *)ids->data, (int)count, &r);
    if (status == 0) {
        r.pieces = (float *)gpu_scratch(k, what, (size_t)(pieces * length) * sizeof(float));
        float *heads = (float *)gpu_scratch(k, what, (size_t)(pieces * length) * sizeof(float));
        int64_t across = gpu_ceil(length, GPU_THREADS);
        dim3 grid((unsigned)pieces, (unsigned)(across < 65535 ? across : 65535));
        dim3 block(length < GPU_THREADS ? (unsigned)gpu_ceil(length, GPU_WARP) * GPU_WARP : (unsigned)GPU_THREADS);
        status = !r.pieces || !heads ? -1 : gpu_with_float(k, what, dy->type, [&](auto dy_zero) {
            return gpu_with_float(k, what, dtable->type, [&](auto zero) {
                using DY = decltype(dy_zero);
                using T = decltype(zero);
                if (gpu_launch(k, what, sum_runs_kernel<DY, T>, grid, block, 0, r, heads, (const DY *)dy->data, (T *)dtable->data))
                    return -1;
                return gpu_launch(k, what, join_runs_kernel<T>, grid, block, 0, r, (const float *)heads, (T *)dtable->data);
            });
        });
    }
    gpu_scratch_release(k, mark);
    return status;
}
