/* optimizer.cu: AdamW, SGD and the gradients' norm, over many tensors in few launches.
 *
 * The tensors' addresses travel in the kernel's own arguments, so that there is no table to copy and a recorded step holds all it needs. Each
 * launch takes up to GROUP tensors; blocks are dealt out in pieces of PIECE elements, and a block finds its tensor by its number.
 */
#include "device.cuh"

#include <math.h>

enum { GROUP = 60, PIECE = GPU_THREADS * 16 };

struct tensor_slot {
    void *value, *gradient;
    float *master, *first, *second;
    int64_t count;
    int64_t first_block; /* of the launch */
    float decay;
    uint8_t value_bf16, gradient_bf16;
    uint8_t aligned;     /* all of them, to 16 bytes */
};

struct tensor_group {
    tensor_slot slots[GROUP];
    int used;
    int64_t blocks;
};

/* 4 KiB is what a kernel's arguments may take on every toolkit and card. */
static_assert(sizeof(tensor_group) + 64 <= 4096, "a group must fit a kernel's arguments");

/* Which of the group's tensors the block works on: the last whose first block is not after it. */
__device__ __forceinline__ const tensor_slot &slot_of(const tensor_group &g, int64_t block)
{
    int low = 0, high = g.used - 1;
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (g.slots[middle].first_block <= block)
            low = middle;
        else
            high = middle - 1;
    }
    return g.slots[low];
}

template <int N>
__device__ __forceinline__ void load_as(bool is_bf16, const void *from, int64_t i, float (&to)[N])
{
    if (is_bf16)
        load<N>((const bf16 *)from + i, to);
    else
        load<N>((const float *)from + i, to);
}

template <int N>
__device__ __forceinline__ void store_as(bool is_bf16, void *to, int64_t i, const float (&from)[N])
{
    if (is_bf16)
        store<N>((bf16 *)to + i, from);
    else
        store<N>((float *)to + i, from);
}

/* op.run<N>(slot, i, now) for all elements of the block's piece; op.now() looks up what holds for this step. */
template <class Op>
__global__ void __launch_bounds__(GPU_THREADS) tensors_kernel(const __grid_constant__ tensor_group g, Op op)
{
    const tensor_slot &s = slot_of(g, blockIdx.x);
    int64_t begin = (blockIdx.x - s.first_block) * PIECE, end = s.count < begin + PIECE ? s.count : begin + PIECE;
    auto now = op.now();
    int64_t i = begin + 4 * (int64_t)threadIdx.x;
    if (s.aligned) {
        for (; i + 4 <= end; i += 4 * GPU_THREADS)
            op.template run<4>(s, i, now);
        for (; i < end; i++) /* only the thread whose four the end cuts off gets here */
            op.template run<1>(s, i, now);
    } else {
        for (i = begin + threadIdx.x; i < end; i += GPU_THREADS)
            op.template run<1>(s, i, now);
    }
}

static bool slot_aligned(const tensor_slot &s)
{
    return gpu_aligned(s.value) && gpu_aligned(s.gradient) && gpu_aligned(s.master) && gpu_aligned(s.first) && gpu_aligned(s.second);
}

/* Calls launch(group) for groups that hold all parameters in order. `moments`: how many of first and second are used. */
template <class F>
static int for_groups(const struct mbk_parameter *parameters, int count, bool updates, int moments, F launch)
{
    tensor_group g = {};
    for (int i = 0; i < count; i++) {
        const struct mbk_parameter *p = &parameters[i];
        tensor_slot s = {};
        s.count = mbk_count(&p->gradient);
        if (s.count == 0)
            continue;
        s.gradient = p->gradient.data;
        s.gradient_bf16 = p->gradient.type == MBK_BF16;
        if (updates) {
            s.value = p->value.data;
            s.value_bf16 = p->value.type == MBK_BF16;
            s.master = s.value_bf16 ? (float *)p->master.data : nullptr;
            s.first = moments > 0 ? (float *)p->first.data : nullptr;
            s.second = moments > 1 ? (float *)p->second.data : nullptr;
            s.decay = p->decay;
        }
        s.aligned = slot_aligned(s);
        s.first_block = g.blocks;
        g.slots[g.used++] = s;
        g.blocks += gpu_ceil(s.count, PIECE);
        if (g.used == GROUP || g.blocks > INT32_MAX / 2) {
            if (launch(g))
                return -1;
            g = {};
        }
    }
    return g.used ? launch(g) : 0;
}

/* What all updates read first, and write last. */
template <int N>
__device__ __forceinline__ void read_parameter(const tensor_slot &s, int64_t i, float scale, float (&p)[N], float (&g)[N])
{
    load_as<N>(s.gradient_bf16, s.gradient, i, g);
    if (s.master)
        load<N>(s.master + i, p);
    else
        load_as<N>(s.value_bf16, s.value, i, p);
#pragma unroll
    for (int j = 0; j < N; j++)
        g[j] *= scale;
}

template <int N>
__device__ __forceinline__ void write_parameter(const tensor_slot &s, int64_t i, const float (&p)[N])
{
    if (s.master)
        store<N>(s.master + i, p);
    store_as<N>(s.value_bf16, s.value, i, p);
}

/* What of a step may vary. correction1, correction2: Adam's 1 / (1 − betaᵗ). */
struct step_numbers {
    float lr, scale, correction1, correction2;
};

/* -- Adam. The corrections are made once, by a kernel of one warp, so that they follow a step number that varies. */

__global__ void corrections_kernel(float beta1, float beta2, int64_t step, const mbk_varying *varying, float *corrections)
{
    double beta = threadIdx.x == 0 ? beta1 : beta2;
    if (threadIdx.x < 2)
        corrections[threadIdx.x] = (float)(1 / (1 - pow(beta, (double)(step + varying->step))));
}

struct adam_op {
    float lr, beta1, beta2, eps, gradient_scale;
    int coupled;
    const float *more_scale, *corrections;
    const mbk_varying *varying;

    __device__ __forceinline__ step_numbers now() const
    {
        return { lr * varying->lr, more_scale ? gradient_scale * *more_scale : gradient_scale, corrections[0], corrections[1] };
    }

    template <int N>
    __device__ __forceinline__ void run(const tensor_slot &s, int64_t i, const step_numbers &now) const
    {
        float p[N], g[N], m[N], v[N];
        read_parameter<N>(s, i, now.scale, p, g);
        load<N>(s.first + i, m);
        load<N>(s.second + i, v);
#pragma unroll
        for (int j = 0; j < N; j++) {
            if (coupled)
                g[j] += s.decay * p[j];
            m[j] = beta1 * m[j] + (1 - beta1) * g[j];
            v[j] = beta2 * v[j] + (1 - beta2) * g[j] * g[j];
            float step = m[j] * now.correction1 / (sqrtf(v[j] * now.correction2) + eps);
            p[j] -= now.lr * (coupled ? step : step + s.decay * p[j]);
        }
        store<N>(s.first + i, m);
        store<N>(s.second + i, v);
        write_parameter<N>(s, i, p);
    }
};

extern "C" int gpu_adam(struct mbk *k, const struct mbk_adam *o, struct mbk_parameter *parameters, int count)
{
    size_t mark = gpu_scratch_mark(k);
    float *corrections = (float *)gpu_scratch(k, "adam", 2 * sizeof(float));
    adam_op op = { o->lr, o->beta1, o->beta2, o->eps, o->gradient_scale, o->coupled, o->scale ? (const float *)o->scale->data : nullptr,
                   corrections, gpu_varying(k) };
    int status = !corrections ? -1 : gpu_launch(k, "adam", corrections_kernel, dim3(1), dim3(GPU_WARP), 0, o->beta1, o->beta2, o->step,
                                                gpu_varying(k), corrections);
    if (status == 0)
        status = for_groups(parameters, count, true, 2, [&](const tensor_group &g) {
            return gpu_launch(k, "adam", tensors_kernel<adam_op>, dim3((unsigned)g.blocks), dim3(GPU_THREADS), 0, g, op);
        });
    gpu_scratch_release(k, mark);
    return status;
}

/* -- SGD. */

struct sgd_op {
    float lr, momentum, gradient_scale;
    int nesterov;
    const float *more_scale;
    const mbk_varying *varying;

    __device__ __forceinline__ step_numbers now() const
    {
        return { lr * varying->lr, more_scale ? gradient_scale * *more_scale : gradient_scale, 1, 1 };
    }

    template <int N>
    __device__ __forceinline__ void run(const tensor_slot &s, int64_t i, const step_numbers &now) const
    {
        float p[N], g[N], v[N];
        read_parameter<N>(s, i, now.scale, p, g);
        if (momentum != 0)
            load<N>(s.first + i, v);
#pragma unroll
        for (int j = 0; j < N; j++) {
            float d = g[j] + s.decay * p[j];
            if (momentum != 0) {
                v[j] = momentum * v[j] + d;
                d = nesterov ? d + momentum * v[j] : v[j];
            }
            p[j] -= now.lr * d;
        }
        if (momentum != 0)
            store<N>(s.first + i, v);
        write_parameter<N>(s, i, p);
    }
};

extern "C" int gpu_sgd(struct mbk *k, const struct mbk_sgd *o, struct mbk_parameter *parameters, int count)
{
    sgd_op op = { o->lr, o->momentum, o->gradient_scale, o->nesterov, o->scale ? (const float *)o->scale->data : nullptr,
                  gpu_varying(k) };
    return for_groups(parameters, count, true, o->momentum != 0 ? 1 : 0, [&](const tensor_group &g) {
        return gpu_launch(k, "sgd", tensors_kernel<sgd_op>, dim3((unsigned)g.blocks), dim3(GPU_THREADS), 0, g, op);
    });
}

/* -- Zero. */

struct zero_op {
    __device__ __forceinline__ int now() const { return 0; }

    template <int N>
    __device__ __forceinline__ void run(const tensor_slot &s, int64_t i, int) const
    {
        float none[N] = {};
        store_as<N>(s.gradient_bf16, s.gradient, i, none);
    }
};

extern "C" int gpu_zero_gradients(struct mbk *k, struct mbk_parameter *parameters, int count)
{
    return for_groups(parameters, count, false, 0, [&](const tensor_group &g) {
        return gpu_launch(k, "zero_gradients", tensors_kernel<zero_op>, dim3((unsigned)g.blocks), dim3(GPU_THREADS), 0, g, zero_op{});
    });
}

/* -- The norm: a sum for each block, then one block adds those up in their order. Both in float64, so that no gradient of a large
 * model is lost below the sum. */

__global__ void __launch_bounds__(GPU_THREADS) squares_kernel(const __grid_constant__ tensor_group g, double *sums)
{
    __shared__ double shared[GPU_THREADS / GPU_WARP];
    const tensor_slot &s = slot_of(g, blockIdx.x);
    int64_t begin = (blockIdx.x - s.first_block) * PIECE, end = s.count < begin + PIECE ? s.count : begin + PIECE;
    float sum = 0;
    for (int64_t i = begin + threadIdx.x; i < end; i += GPU_THREADS) {
        float x[1];
        load_as<1>(s.gradient_bf16, s.gradient, i, x);
        sum += x[0] * x[0];
    }
    double total = block_reduce((double)sum, 0.0, shared, [](double a, double b) { return a + b; });
    if (threadIdx.x == 0)
        sums[blockIdx.x] = total;
}

__global__ void __launch_bounds__(GPU_THREADS) norm_kernel(const double *sums, int64_t count, float most, float *norm, float *scale)
{
    __shared__ double shared[GPU_THREADS / GPU_WARP];
    double sum = 0;
    for (int64_t i = threadIdx.x; i < count; i += GPU_THREADS)
        sum += sums[i];
    sum = block_reduce(sum, 0.0, shared, [](double a, double b) { return a + b; });
    if (threadIdx.x == 0) {
        float root = (float)sqrt(sum), factor = most / (root + 1e-6f);
        if (norm)
            *norm = root;
        if (scale)
            *scale = factor > 1 ? 1 : factor;
    }
}

extern "C" int gpu_gradient_norm(struct mbk *k, const struct mbk_parameter *parameters, int count, float most, const struct mbk_tensor *norm,
                                 const struct mbk_tensor *scale)
{
    int64_t blocks = 0;
    for (int i = 0; i < count; i++)
        blocks += gpu_ceil(mbk_count(&parameters[i].gradient), PIECE);
    size_t mark = gpu_scratch_mark(k);
    double *sums = (double *)gpu_scratch(k, "gradient_norm", (size_t)blocks * sizeof(double));
    int64_t done = 0;
    int status = !sums ? -1 : for_groups(parameters, count, false, 0, [&](const tensor_group &g) {
        double *here = sums + done;
        done += g.blocks;
        return gpu_launch(k, "gradient_norm", squares_kernel, dim3((unsigned)g.blocks), dim3(GPU_THREADS), 0, g, here);
    });
    if (status == 0)
        status = gpu_launch(k, "gradient_norm", norm_kernel, dim3(1), dim3(GPU_THREADS), 0, (const double *)sums, blocks, most,
                            norm ? (float *)norm->data : nullptr, scale ? (float *)scale->data : nullptr);
    gpu_scratch_release(k, mark);
    return status;
}
