/* attention.cuh: what both ways of attention share: the operands, which keys a query sees, and dropout. */
#ifndef MBK_ATTENTION_CUH
#define MBK_ATTENTION_CUH

#include "device.cuh"

struct attention {
    const void *q, *keys, *values, *dout;
    void *out, *dq, *dkeys, *dvalues;
    float *lse, *delta;
    const int32_t *lengths;
    int64_t batch, queries, keys_count, heads, groups, size;
    float scale, rate, keep_factor;
    uint64_t keep_from, seed, offset;
    const mbk_varying *varying; /* gone into offset once a kernel has begun: see begin */
    bool causal, aligned; /* aligned: all rows to four elements */
};

/* Every kernel that drops anything begins with it. */
__device__ __forceinline__ void begin(attention &a)
{
    if (a.rate != 0)
        a.offset += a.varying->offset;
}

/* A row of one head: at `base` + row · `step`. */
struct rows_of {
    int64_t base, step;
};

__device__ __forceinline__ rows_of query_rows(const attention &a, int64_t b, int64_t h)
{
    return { (b * a.queries * a.heads + h) * a.size, a.heads * a.size };
}

__device__ __forceinline__ rows_of key_rows(const attention &a, int64_t b, int64_t g)
{
    return { (b * a.keys_count * a.groups + g) * a.size, a.groups * a.size };
}

/* How many of the batch's keys there are, from the left. */
__device__ __forceinline__ int64_t real_keys(const attention &a, int64_t b)
{
    int64_t n = a.lengths ? a.lengths[b] : a.keys_count;
    return n < 0 ? 0 : n < a.keys_count ? n : a.keys_count;
}

/* The end of the keys that query t sees. */
__device__ __forceinline__ int64_t seen_keys(const attention &a, int64_t t, int64_t real)
{
    int64_t end = a.causal ? t + a.keys_count - a.queries + 1 : real;
    return end < 0 ? 0 : end < real ? end : real;
}

/* What dropout multiplies the weight of (b, h, t, s) with. */
__device__ __forceinline__ float kept(const attention &a, int64_t head_row, int64_t s)
{
    if (a.rate == 0)
        return 1;
    uint32_t words[4];
    uint64_t i = (uint64_t)(head_row * a.keys_count + s);
    philox(a.seed, a.offset + i / 4, words);
    uint32_t word = i % 4 == 0 ? words[0] : i % 4 == 1 ? words[1] : i % 4 == 2 ? words[2] : words[3];
    return word >= a.keep_from ? a.keep_factor : 0;
}

/* Tiles of `tile` rows, and the blocks that all lines (heads of batches) take; 0 after mbk_fail. */
static inline int64_t gpu_attention_tiles(struct mbk *k, const char *what, int64_t rows, int tile, int64_t lines, int64_t *blocks)
{
    int64_t tiles = gpu_ceil(rows, tile);
    *blocks = tiles * lines;
    if (*blocks > INT32_MAX) {
        mbk_fail(k, "%s: %lld tiles of queries or keys are more than can be launched", what, (long long)*blocks);
        return 0;
    }
    return tiles;
}

/* By tensor cores; 1 if they are not for these heads. Backward wants delta made. */
int gpu_attend_tensor(struct mbk *k, const attention &a);
int gpu_attend_backward_tensor(struct mbk *k, const attention &a);

#endif
