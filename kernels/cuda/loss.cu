/* loss.cu: a loss for each row and its gradient, which may be written over its input. Labels lie on the device, so that one outside the
 * classes gives NaN, not an error.
 */
#include "rows.cuh"

/* What the row's label is, and whether it counts. */
struct label_of_row {
    int label;
    bool ignored, wrong;

    __device__ __forceinline__ label_of_row(const int32_t *labels, int64_t row, int64_t length)
        : label(labels ? labels[row] : MBK_IGNORED_LABEL), ignored(labels && label == MBK_IGNORED_LABEL),
          wrong(!ignored && labels && (label < 0 || label >= length))
    {
    }
};

template <class T, int TEAM, int N>
__device__ __forceinline__ void fill_row(T *row, int64_t length, float value)
{
    float v[N];
#pragma unroll
    for (int j = 0; j < N; j++)
        v[j] = value;
    FOR_ROW(i, length, TEAM, N)
        store<N>(row + i, v);
}

/* -- Cross-entropy, labels smoothed as by Szegedy et al. 2016: −Σ q log p with q = (1 − s) [c = label] + s / C. */

template <class T, int TEAM, int N>
__global__ void __launch_bounds__(GPU_THREADS) cross_entropy_kernel(int64_t rows, int64_t length, const T *logits, const int32_t *labels,
                                                                    float smoothing, float scale, const mbk_varying *varying,
                                                                    float *losses, T *dlogits)
{
    scale *= varying->scale;
    bool leader = threadIdx.x % TEAM == 0;
    FOR_ROWS(row, rows, TEAM) {
        label_of_row l(labels, row, length);
        const T *x = logits + row * length;
        if (l.ignored || l.wrong) {
            float value = l.ignored ? 0 : CUDART_NAN_F;
            if (leader)
                losses[row] = value;
            if (dlogits)
                fill_row<T, TEAM, N>(dlogits + row * length, length, value);
            continue;
        }
        float at_label = to_float(x[l.label]), v[N]; /* read before the gradient may be written over it */
        exp_sum mine = nothing_summed();
        FOR_ROW(i, length, TEAM, N) {
            load<N>(x + i, v);
#pragma unroll
            for (int j = 0; j < N; j++)
                mine.take(v[j]);
        }
        exp_sum all = team_exp_sum<TEAM>(mine);
        float mean = 0;
        if (smoothing > 0) {
            float below = 0;
            FOR_ROW(i, length, TEAM, N) {
                load<N>(x + i, v);
#pragma unroll
                for (int j = 0; j < N; j++)
                    below += v[j] - all.most;
            }
            mean = team_reduce<TEAM>(below, 0.0f, sum_of()) / (float)length;
        }
        if (leader)
            losses[row] = logf(all.sum) - (1 - smoothing) * (at_label - all.most) - (smoothing > 0 ? smoothing * mean : 0);
        if (!dlogits)
            continue;
        float factor = scale / all.sum, even = scale * smoothing / (float)length, hit = scale * (1 - smoothing);
        FOR_ROW(i, length, TEAM, N) {
            load<N>(x + i, v);
#pragma unroll
            for (int j = 0; j < N; j++) {
                v[j] = expf(v[j] - all.most) * factor - even;
                if (i + j == l.label)
                    v[j] -= hit;
            }
            store<N>(dlogits + row * length + i, v);
        }
    }
}

extern "C" int gpu_cross_entropy(struct mbk *k, const struct mbk_tensor *logits, const struct mbk_tensor *labels, float smoothing, float scale,
                                 const struct mbk_tensor *losses, const struct mbk_tensor *dlogits)
{
    int64_t rows = mbk_row_count(logits), length = mbk_row_length(logits);
    bool aligned = gpu_aligned(logits->data) && (!dlogits || gpu_aligned(dlogits->data));
    return gpu_with_rows(k, "cross_entropy", logits->type, length, aligned, [&](auto zero, auto team, auto n) {
        using T = decltype(zero);
        return gpu_launch(k, "cross_entropy", cross_entropy_kernel<T, team.value, n.value>, dim3(gpu_row_blocks(k, rows, team.value)),
                          dim3(GPU_THREADS), 0, rows, length, (const T *)logits->data, (const int32_t *)labels->data, smoothing, scale,
                          gpu_varying(k), (float *)losses->data, dlogits ? (T *)dlogits->data : nullptr);
    });
}

/* -- Losses that are means over a row: op.loss(x, t), op.slope(x, t). */

/* max(x, 0) − x t + log(1 + e^−|x|), which no x overflows. */
struct bce_op {
    __device__ __forceinline__ float loss(float x, float t) const { return (x < 0 ? 0 : x) - x * t + log1pf(expf(-fabsf(x))); }
    __device__ __forceinline__ float slope(float x, float t) const
    {
        float e = expf(-fabsf(x));
        return (x < 0 ? e / (1 + e) : 1 / (1 + e)) - t;
    }
};

struct mse_op {
    __device__ __forceinline__ float loss(float x, float t) const { return (x - t) * (x - t); }
    __device__ __forceinline__ float slope(float x, float t) const { return 2 * (x - t); }
};

template <class T, int TEAM, int N, class Op>
__global__ void __launch_bounds__(GPU_THREADS)
    mean_loss_kernel(int64_t rows, int64_t length, const T *x, const float *targets, float scale, const mbk_varying *varying, float *losses,
                     T *dx, Op op)
{
    float factor = scale * varying->scale / (float)length;
    FOR_ROWS(row, rows, TEAM) {
        int64_t at = row * length;
        float v[N], t[N], d[N], mine = 0;
        FOR_ROW(i, length, TEAM, N) {
            load<N>(x + at + i, v);
            load<N>(targets + at + i, t);
#pragma unroll
            for (int j = 0; j < N; j++) {
                mine += op.loss(v[j], t[j]);
                d[j] = factor * op.slope(v[j], t[j]);
            }
            if (dx)
                store<N>(dx + at + i, d);
        }
        float sum = team_reduce<TEAM>(mine, 0.0f, sum_of());
        if (threadIdx.x % TEAM == 0)
            losses[row] = sum / (float)length;
    }
}

template <class Op>
static int mean_loss(struct mbk *k, const char *what, const struct mbk_tensor *x, const struct mbk_tensor *targets, float scale,
                     const struct mbk_tensor *losses, const struct mbk_tensor *dx, Op op)
{
    int64_t rows = mbk_row_count(x), length = mbk_row_length(x);
    bool aligned = gpu_aligned(x->data) && gpu_aligned(targets->data) && (!dx || gpu_aligned(dx->data));
    return gpu_with_rows(k, what, x->type, length, aligned, [&](auto zero, auto team, auto n) {
        using T = decltype(zero);
        return gpu_launch(k, what, mean_loss_kernel<T, team.value, n.value, Op>, dim3(gpu_row_blocks(k, rows, team.value)), dim3(GPU_THREADS),
                          0, rows, length, (const T *)x->data, (const float *)targets->data, scale, gpu_varying(k), (float *)losses->data,
                          dx ? (T *)dx->data : nullptr, op);
    });
}

extern "C" int gpu_bce_with_logits(struct mbk *k, const struct mbk_tensor *logits, const struct mbk_tensor *targets, float scale,
                                   const struct mbk_tensor *losses, const struct mbk_tensor *dlogits)
{
    return mean_loss(k, "bce_with_logits", logits, targets, scale, losses, dlogits, bce_op());
}

extern "C" int gpu_mse(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *targets, float scale,
                       const struct mbk_tensor *losses, const struct mbk_tensor *dx)
{
    return mean_loss(k, "mse", x, targets, scale, losses, dx, mse_op());
}

/* -- Distillation: alpha T² Σ p (log p − log q) + (1 − alpha) · cross-entropy, p the teacher's and q the student's softmax at T. */

struct distillation {
    const int32_t *labels;
    float temperature, alpha, scale;
    const mbk_varying *varying;
    float *losses;
};

template <class T, class Teacher, int TEAM, int N>
__global__ void __launch_bounds__(GPU_THREADS)
    distillation_kernel(int64_t rows, int64_t length, const T *student, const Teacher *teacher, distillation o, T *dstudent)
{
    float inverse = 1 / o.temperature, scale = o.scale * o.varying->scale;
    bool leader = threadIdx.x % TEAM == 0, hard = o.alpha != 1;
    FOR_ROWS(row, rows, TEAM) {
        label_of_row l(o.labels, row, length);
        const T *x = student + row * length;
        const Teacher *t = teacher + row * length;
        if (l.ignored || l.wrong) {
            float value = l.ignored ? 0 : CUDART_NAN_F;
            if (leader)
                o.losses[row] = value;
            if (dstudent)
                fill_row<T, TEAM, N>(dstudent + row * length, length, value);
            continue;
        }
        float at_label = hard ? to_float(x[l.label]) : 0, v[N], w[N];
        float x_most = -CUDART_INF_F, t_most = -CUDART_INF_F;
        FOR_ROW(i, length, TEAM, N) {
            load<N>(x + i, v);
            load<N>(t + i, w);
#pragma unroll
            for (int j = 0; j < N; j++) {
                x_most = max_of()(x_most, v[j]);
                t_most = max_of()(t_most, w[j]);
            }
        }
        x_most = team_reduce<TEAM>(x_most, -CUDART_INF_F, max_of());
        t_most = team_reduce<TEAM>(t_most, -CUDART_INF_F, max_of());
        float p_sum = 0, q_sum = 0, hard_sum = 0;
        FOR_ROW(i, length, TEAM, N) {
            load<N>(x + i, v);
            load<N>(t + i, w);
#pragma unroll
            for (int j = 0; j < N; j++) {
                p_sum += expf((w[j] - t_most) * inverse);
                q_sum += expf((v[j] - x_most) * inverse);
                if (hard)
                    hard_sum += expf(v[j] - x_most);
            }
        }
        p_sum = team_reduce<TEAM>(p_sum, 0.0f, sum_of());
        q_sum = team_reduce<TEAM>(q_sum, 0.0f, sum_of());
        hard_sum = hard ? team_reduce<TEAM>(hard_sum, 0.0f, sum_of()) : 1;
        float offset = logf(q_sum) - logf(p_sum), divergence = 0;
        float soft_factor = scale * o.alpha * o.temperature, hard_factor = scale * (1 - o.alpha);
        FOR_ROW(i, length, TEAM, N) {
            load<N>(x + i, v);
            load<N>(t + i, w);
#pragma unroll
            for (int j = 0; j < N; j++) {
                float p = expf((w[j] - t_most) * inverse), q = expf((v[j] - x_most) * inverse);
                if (p != 0) /* 0 log 0 is 0 */
                    divergence += p / p_sum * (((w[j] - t_most) - (v[j] - x_most)) * inverse + offset);
                float d = q * (soft_factor / q_sum) - p * (soft_factor / p_sum);
                if (hard) {
                    d += hard_factor / hard_sum * expf(v[j] - x_most);
                    if (i + j == l.label)
                        d -= hard_factor;
                }
                v[j] = d;
            }
            if (dstudent)
                store<N>(dstudent + row * length + i, v);
        }
        divergence = team_reduce<TEAM>(divergence, 0.0f, sum_of());
        if (leader)
            o.losses[row] = o.alpha * o.temperature * o.temperature * divergence +
                            (hard ? (1 - o.alpha) * (logf(hard_sum) - (at_label - x_most)) : 0);
    }
}

extern "C" int gpu_distillation(struct mbk *k, const struct mbk_tensor *student, const struct mbk_tensor *teacher,
                                const struct mbk_tensor *labels, float temperature, float alpha, float scale, const struct mbk_tensor *losses,
                                const struct mbk_tensor *dstudent)
{
    int64_t rows = mbk_row_count(student), length = mbk_row_length(student);
    bool aligned = gpu_aligned(student->data) && gpu_aligned(teacher->data) && (!dstudent || gpu_aligned(dstudent->data));
    distillation o = { labels ? (const int32_t *)labels->data : nullptr, temperature, alpha, scale, gpu_varying(k),
                       (float *)losses->data };
    return gpu_with_float(k, "distillation", teacher->type, [&](auto teacher_zero) {
        using Teacher = decltype(teacher_zero);
        return gpu_with_rows(k, "distillation", student->type, length, aligned, [&](auto zero, auto team, auto n) {
            using T = decltype(zero);
            return gpu_launch(k, "distillation", distillation_kernel<T, Teacher, team.value, n.value>,
                              dim3(gpu_row_blocks(k, rows, team.value)), dim3(GPU_THREADS), 0, rows, length, (const T *)student->data,
                              (const Teacher *)teacher->data, o, dstudent ? (T *)dstudent->data : nullptr);
        });
    });
}

/* -- BPR: −log σ(positive − negative) = log(1 + e^−d). */

template <class T>
struct bpr_op {
    const T *positive, *negative;
    float scale;
    const mbk_varying *varying;
    float *losses;
    T *dpositive, *dnegative;

    template <int N>
    __device__ __forceinline__ void run(int64_t i) const
    {
        float d = to_float(positive[i]) - to_float(negative[i]), e = expf(-fabsf(d));
        float slope = -(scale * varying->scale) * (d < 0 ? 1 / (1 + e) : e / (1 + e)); /* −σ(−d) */
        losses[i] = (d < 0 ? -d : d != d ? d : 0) + log1pf(e);
        if (dpositive)
            dpositive[i] = from_float<T>(slope);
        if (dnegative)
            dnegative[i] = from_float<T>(-slope);
    }
};

extern "C" int gpu_bpr(struct mbk *k, const struct mbk_tensor *positive, const struct mbk_tensor *negative, float scale,
                       const struct mbk_tensor *losses, const struct mbk_tensor *dpositive, const struct mbk_tensor *dnegative)
{
    return gpu_with_float(k, "bpr", positive->type, [&](auto zero) {
        using T = decltype(zero);
        bpr_op<T> op = { (const T *)positive->data, (const T *)negative->data, scale, gpu_varying(k), (float *)losses->data,
                         dpositive ? (T *)dpositive->data : nullptr, dnegative ? (T *)dnegative->data : nullptr };
        return gpu_elementwise<1>(k, "bpr", mbk_count(losses), false, op);
    });
}
