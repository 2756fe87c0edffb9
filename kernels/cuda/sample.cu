/* sample.cu: a token from each row of logits. Where top_k or top_p limit the choice, the rows are sorted first, ties by index; a block then
 * finds, by sums of pieces of the row, where the drawn part of the whole lies.
 */
#include "rows.cuh"
#include "select.cuh"

struct sampling {
    float temperature, top_p;
    int64_t most;           /* of the sorted row, how many may be drawn */
    uint64_t seed, offset;
    const mbk_varying *varying;
    const uint32_t *orders; /* sorted, with their indices; NULL: the row as it is */
    const int32_t *indices;
};

/* What the elements weigh: e^((x − greatest) / T). */
template <class T>
struct weights {
    const T *x;
    const uint32_t *orders;
    float most, temperature;

    __device__ __forceinline__ float number(int64_t i) const { return orders ? number_of(orders[i]) : to_float(x[i]); }
    __device__ __forceinline__ float operator()(int64_t i) const { return expf((number(i) - most) / temperature); }
};

/* The first of `count` places at which the sum of weights up to it is more than `target` (or_equal: as much); the last that weighs anything if
 * rounding leaves none. `sums` are of pieces of the row, and the place is found by going over those, then within one. One thread does it. */
template <class W>
__device__ int64_t find(const W &weight, int64_t count, int64_t piece, const double *sums, double target, bool or_equal, double &up_to)
{
    double sum = 0;
    int64_t p = 0, pieces = (count + piece - 1) / piece, place = 0;
    for (; p < pieces - 1 && !(sum + sums[p] > target || (or_equal && sum + sums[p] >= target)); p++)
        sum += sums[p];
    for (int64_t i = p * piece; i < count; i++) {
        float w = weight(i);
        sum += w;
        if (w > 0)
            place = i;
        if (sum > target || (or_equal && sum >= target))
            break;
    }
    up_to = sum;
    while (place == 0 && p > 0) { /* nothing here weighs anything: the last before it that does */
        p--;
        for (int64_t i = p * piece; i < (p + 1) * piece; i++)
            place = weight(i) > 0 ? i : place;
    }
    return place;
}

template <class T>
__global__ void __launch_bounds__(GPU_THREADS) sample_kernel(int64_t rows, int64_t length, const T *logits, sampling s, int32_t *ids)
{
    __shared__ double sums[GPU_THREADS];
    for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
        weights<T> weight = { logits + row * length, s.orders ? s.orders + row * length : nullptr, 0, s.temperature };
        int64_t count = s.most, piece = (count + GPU_THREADS - 1) / GPU_THREADS, begin = threadIdx.x * piece;
        unsigned long long best = 0;
        for (int64_t i = threadIdx.x; i < count; i += GPU_THREADS)
            best = greater_of()(best, rank_of(weight.number(i), i));
        best = team_reduce<LONG_TEAM>(best, 0ull, greater_of());
        int64_t place = index_of(best);
        weight.most = weight.number(place);
        double mine = 0;
        for (int64_t i = begin; i < begin + piece && i < count; i++)
            mine += weight(i);
        sums[threadIdx.x] = mine; /* the row before was read before the reduction */
        __syncthreads();
        if (threadIdx.x != 0)
            continue;
        if (isfinite(weight.most)) { /* NaN or infinity has all the weight */
            double whole = 0, up_to;
            uint32_t words[4];
            for (int p = 0; p < GPU_THREADS; p++)
                whole += sums[p];
            if (s.top_p < 1)
                count = find(weight, count, piece, sums, s.top_p * whole, true, whole) + 1;
            philox(s.seed, s.offset + s.varying->offset + (uint64_t)row, words);
            place = find(weight, count, piece, sums, (double)(words[0] >> 8) * 5.9604644775390625e-8 * whole, false, up_to);
        }
        ids[row] = s.indices ? s.indices[row * length + place] : (int32_t)place;
    }
}

extern "C" int gpu_sample(struct mbk *k, const struct mbk_tensor *logits, float temperature, int top_k, float top_p, uint64_t seed,
                          uint64_t offset, const struct mbk_tensor *ids)
{
    if (temperature == 0)
        return gpu_argmax(k, logits, ids);
    int64_t rows = mbk_row_count(logits), length = mbk_row_length(logits);
    sampling s = { temperature, top_p, top_k > 0 && top_k < length ? top_k : length, seed, offset, gpu_varying(k), nullptr, nullptr };
    size_t mark = gpu_scratch_mark(k);
    int status = 0;
    if (s.most < length || top_p < 1) {
        uint32_t *orders;
        int32_t *indices;
        status = gpu_sort_rows(k, "sample", logits, &orders, &indices);
        s.orders = orders;
        s.indices = indices;
    }
    if (status == 0)
        status = gpu_with_float(k, "sample", logits->type, [&](auto zero) {
            using T = decltype(zero);
            return gpu_launch(k, "sample", sample_kernel<T>, dim3(gpu_blocks(k, rows, 1)), dim3(GPU_THREADS), 0, rows, length,
                              (const T *)logits->data, s, (int32_t *)ids->data);
        });
    gpu_scratch_release(k, mark);
    return status;
}
