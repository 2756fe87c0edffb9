/* sample.cu: a token from each row of logits. Where top_k or top_p limit the choice, the rows are sorted first, ties by index; a block then
 * finds, by sums of pieces of the row, where the drawn part of the whole lies.
 */
#include "rows.cuh"
#include "select.cuh"

struct sampling {
    float inverse;         /* 1 / temperature */
    int64_t most;          /* of the sorted row, how many may be drawn */
    float top_p;
    uint64_t seed, offset;
    const uint32_t *orders; /* sorted, with their indices; NULL: the row as it is */
    const int32_t *indices;
};

/* What the elements weigh: e^((x − greatest) / T). */
template <class T>
struct weights {
    const T *x;
    const uint32_t *orders;
    float most, inverse;

    __device__ __forceinline__ float number(int64_t i) const { return orders ? number_of(orders[i]) : to_float(x[i]); }
    __device__ __forceinline__ float operator()(int64_t i) const { return expf((number(i) - most) * inverse); }
};

/* The first place at which the sum of all weights up to it is more than `target` (or_equal: as much); the last that weighs anything if none
 * is. Thread 0's sums go over the pieces in order. All threads get the place, and the sum up to it. */
template <class W>
__device__ int64_t find(const W &weight, int64_t count, int64_t piece, const float *sums, float target, bool or_equal, float *up_to)
{
    __shared__ int64_t found;
    __shared__ float found_sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        float sum = 0;
        int64_t i = 0, last = 0;
        for (int p = 0; p < GPU_THREADS && (int64_t)p * piece < count; p++) {
            float next = sum + sums[p];
            i = p * piece;
            last = sums[p] > 0 ? p : last;
            if (next > target || (or_equal && next >= target))
                break;
            sum = next;
            i = count;
        }
        if (i >= count) { /* rounding has left the target beyond the whole: the last piece that weighs anything */
            sum = 0;
            for (int64_t p = 0; p < last; p++)
                sum += sums[p];
            i = last * piece;
        }
        int64_t end = i + piece < count ? i + piece : count, place = i;
        float place_sum = sum;
        for (; i < end; i++) {
            float w = weight(i);
            sum += w;
            if (w > 0) {
                place = i;
                place_sum = sum;
            }
            if (sum > target || (or_equal && sum >= target))
                break;
        }
        found = place;
        found_sum = place_sum;
    }
    __syncthreads();
    *up_to = found_sum;
    return found;
}

template <class T>
__global__ void __launch_bounds__(GPU_THREADS) sample_kernel(int64_t rows, int64_t length, const T *logits, sampling s, int32_t *ids)
{
    __shared__ float sums[GPU_THREADS];
    for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
        weights<T> weight = { logits + row * length, s.orders ? s.orders + row * length : nullptr, -CUDART_INF_F, s.inverse };
        int64_t count = s.most, piece = (count + GPU_THREADS - 1) / GPU_THREADS, begin = threadIdx.x * piece;
        float most = -CUDART_INF_F, mine = 0, up_to;
        for (int64_t i = threadIdx.x; i < count; i += GPU_THREADS)
            most = max_of()(most, weight.number(i));
        weight.most = team_reduce<LONG_TEAM>(most, -CUDART_INF_F, max_of());
        for (int64_t i = begin; i < begin + piece && i < count; i++)
            mine += weight(i);
        __syncthreads(); /* the row before may still be read */
        sums[threadIdx.x] = mine;
        __syncthreads();
        float whole = 0;
        for (int p = 0; p < GPU_THREADS; p++)
            whole += sums[p];
        int64_t within = count;
        if (s.top_p < 1) {
            within = find(weight, count, piece, sums, s.top_p * whole, true, &up_to) + 1;
            whole = up_to;
        }
        uint32_t words[4];
        philox(s.seed, s.offset + (uint64_t)row, words);
        float target = (float)(words[0] >> 8) * 5.9604644775390625e-8f * whole;
        int64_t place = find(weight, within, piece, sums, target, false, &up_to);
        if (threadIdx.x == 0)
            ids[row] = s.indices ? s.indices[row * length + place] : (int32_t)place;
    }
}

extern "C" int gpu_sample(struct mbk *k, const struct mbk_tensor *logits, float temperature, int top_k, float top_p, uint64_t seed,
                          uint64_t offset, const struct mbk_tensor *ids)
{
    if (temperature == 0)
        return gpu_argmax(k, logits, ids);
    int64_t rows = mbk_row_count(logits), length = mbk_row_length(logits);
    sampling s = { 1 / temperature, top_k > 0 && top_k < length ? top_k : length, top_p, seed, offset, nullptr, nullptr };
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
