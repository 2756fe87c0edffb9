/* gemm.c: matrix products by cuBLASLt.
 *
 * cuBLASLt counts by columns: our row-major c = a b is its column-major cᵀ = bᵀ aᵀ, so its A is our b and its B our a, and its bias,
 * one for each of D's rows, is one for each of our columns. The algorithm for a shape is asked for once and kept: the heuristic
 * is a function of the shape, types and alignments, so the same calls take the same algorithm and give the same bits. Sums split over K are
 * joined in a fixed order in float32, in the workspace. float32 products are float32 throughout: no TF32.
 * What the epilogue can't do, gpu_finish does in one pass over c.
 */
#include "gpu.h"

#include <stdlib.h>
#include <string.h>

/* All that the choice of an algorithm depends on. Filled after memset, so that bytes can be compared. */
struct key {
    int64_t m, n, k, batch, lda, ldb, ldc, ld_from, stride_a, stride_b, stride_c, stride_from;
    int a_type, b_type, c_type, transpose_a, transpose_b, epilogue, add; /* add: D = … + beta · C */
    int align_a, align_b, align_c, align_from, align_before;
};

struct plan {
    struct key key;
    int usable;                /* 0: cuBLASLt has no algorithm for this */
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t a, b, from, c;
    cublasLtMatmulAlgo_t algorithm;
    size_t workspace;
};

/* Open addressing, at most half full. */
enum { PLAN_SLOTS = 8192, MOST_PLANS = PLAN_SLOTS / 2 };
struct gpu_gemm_plans {
    struct plan *slots[PLAN_SLOTS];
    int count;
};

static void free_plan(struct plan *p)
{
    if (!p)
        return;
    if (p->operation)
        (void)cublasLtMatmulDescDestroy(p->operation);
    cublasLtMatrixLayout_t layouts[] = { p->a, p->b, p->from, p->c };
    for (int i = 0; i < 4; i++)
        if (layouts[i])
            (void)cublasLtMatrixLayoutDestroy(layouts[i]);
    free(p);
}

static void forget_plans(struct gpu_gemm_plans *plans)
{
    for (int i = 0; i < PLAN_SLOTS; i++) {
        free_plan(plans->slots[i]);
        plans->slots[i] = NULL;
    }
    plans->count = 0;
}

void gpu_gemm_close(struct mbk *k)
{
    struct gpu *g = gpu_of(k);
    if (!g->gemm_plans)
        return;
    forget_plans(g->gemm_plans);
    free(g->gemm_plans);
    g->gemm_plans = NULL;
}

/* FNV-1a over the key's bytes. */
static unsigned hash_key(const struct key *key)
{
    const unsigned char *bytes = (const unsigned char *)key;
    unsigned hash = 2166136261u;
    for (size_t i = 0; i < sizeof *key; i++)
        hash = (hash ^ bytes[i]) * 16777619u;
    return hash;
}

/* The greatest power of two, up to 256, that the address is a multiple of. */
static int alignment_of(const void *p)
{
    uintptr_t address = (uintptr_t)p;
    int align = 256;
    while (address % (uintptr_t)align)
        align /= 2;
    return align;
}

static cudaDataType data_type(enum mbk_type type)
{
    switch (type) {
    case MBK_BF16: return CUDA_R_16BF;
    case MBK_F8_E4M3: return CUDA_R_8F_E4M3;
    case MBK_F8_E5M2: return CUDA_R_8F_E5M2;
    case MBK_I8: return CUDA_R_8I;
    case MBK_I32: return CUDA_R_32I;
    default: return CUDA_R_32F;
    }
}

static size_t type_size(enum mbk_type type)
{
    return type == MBK_F32 || type == MBK_I32 ? 4 : type == MBK_BF16 ? 2 : 1;
}

/* rows and columns as cuBLASLt counts: our row is its column. */
static int make_layout(struct mbk *k, cublasLtMatrixLayout_t *layout, enum mbk_type type, int64_t rows, int64_t columns, int64_t ld,
                       int64_t batch, int64_t stride)
{
    if (gpu_check_lt(k, "matmul", cublasLtMatrixLayoutCreate(layout, data_type(type), (uint64_t)rows, (uint64_t)columns, ld)))
        return -1;
    if (batch == 1)
        return 0;
    int32_t count = (int32_t)batch;
    if (gpu_check_lt(k, "matmul", cublasLtMatrixLayoutSetAttribute(*layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count)) ||
        gpu_check_lt(k, "matmul", cublasLtMatrixLayoutSetAttribute(*layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride,
                                                                   sizeof stride)))
        return -1;
    return 0;
}

static int set(struct mbk *k, cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute, const void *value, size_t size)
{
    return gpu_check_lt(k, "matmul", cublasLtMatmulDescSetAttribute(operation, attribute, value, size));
}

/* Pointers are of each call; plans are made with those of the first. */
static int set_pointers(struct mbk *k, cublasLtMatmulDesc_t operation, int epilogue, const struct mbk_gemm *g)
{
    if ((epilogue & CUBLASLT_EPILOGUE_BIAS) && set(k, operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &g->bias, sizeof g->bias))
        return -1;
    if ((epilogue & CUBLASLT_EPILOGUE_GELU_AUX) == CUBLASLT_EPILOGUE_GELU_AUX &&
        set(k, operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &g->before, sizeof g->before))
        return -1;
    return 0;
}

static int make_operation(struct mbk *k, struct plan *p, const struct mbk_gemm *g)
{
    int is_int = g->c_type == MBK_I32;
    cublasOperation_t flip_a = g->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N, flip_b = g->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasLtEpilogue_t epilogue = (cublasLtEpilogue_t)p->key.epilogue;
    if (gpu_check_lt(k, "matmul", cublasLtMatmulDescCreate(&p->operation, is_int ? CUBLAS_COMPUTE_32I : CUBLAS_COMPUTE_32F,
                                                           is_int ? CUDA_R_32I : CUDA_R_32F)) ||
        set(k, p->operation, CUBLASLT_MATMUL_DESC_TRANSA, &flip_a, sizeof flip_a) ||
        set(k, p->operation, CUBLASLT_MATMUL_DESC_TRANSB, &flip_b, sizeof flip_b) ||
        set(k, p->operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue))
        return -1;
    if (epilogue & CUBLASLT_EPILOGUE_BIAS) {
        cudaDataType type = data_type(g->bias_type);
        int64_t none = 0; /* one bias for all of a batch */
        if (set(k, p->operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type, sizeof type) ||
            (g->batch > 1 && set(k, p->operation, CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, &none, sizeof none)))
            return -1;
    }
    if ((epilogue & CUBLASLT_EPILOGUE_GELU_AUX) == CUBLASLT_EPILOGUE_GELU_AUX) {
        int64_t ld = g->n, stride = g->m * g->n;
        if (set(k, p->operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &ld, sizeof ld) ||
            (g->batch > 1 && set(k, p->operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, &stride, sizeof stride)))
            return -1;
    }
    return set_pointers(k, p->operation, p->key.epilogue, g);
}

static int choose(struct mbk *k, struct plan *p)
{
    struct gpu *gpu = gpu_of(k);
    const struct key *key = &p->key;
    cublasLtMatmulPreference_t preference = NULL;
    if (gpu_check_lt(k, "matmul", cublasLtMatmulPreferenceCreate(&preference)))
        return -1;
    uint64_t workspace = gpu->lt_workspace_size;
    uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    uint32_t align_a = (uint32_t)key->align_b, align_b = (uint32_t)key->align_a, align_c = (uint32_t)key->align_from,
             align_d = (uint32_t)key->align_c;
    const struct {
        cublasLtMatmulPreferenceAttributes_t attribute;
        const void *value;
        size_t size;
    } wishes[] = {
        { CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace },
        { CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof schemes },
        { CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &align_a, sizeof align_a },
        { CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &align_b, sizeof align_b },
        { CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &align_c, sizeof align_c },
        { CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &align_d, sizeof align_d },
    };
    int failed = 0;
    for (size_t i = 0; i < sizeof wishes / sizeof *wishes && !failed; i++)
        failed = gpu_check_lt(k, "matmul", cublasLtMatmulPreferenceSetAttribute(preference, wishes[i].attribute, wishes[i].value,
                                                                               wishes[i].size));
    cublasLtMatmulHeuristicResult_t found[8];
    int count = 0;
    if (!failed) {
        cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(gpu->lt, p->operation, p->a, p->b, p->from, p->c, preference, 8, found, &count);
        if (status != CUBLAS_STATUS_NOT_SUPPORTED && status != CUBLAS_STATUS_INVALID_VALUE)
            failed = gpu_check_lt(k, "matmul", status);
        else
            count = 0;
    }
    for (int i = 0; i < count && !failed && !p->usable; i++) {
        if (found[i].state != CUBLAS_STATUS_SUCCESS || found[i].workspaceSize > gpu->lt_workspace_size)
            continue;
        p->algorithm = found[i].algo;
        p->workspace = found[i].workspaceSize;
        p->usable = 1;
    }
    (void)cublasLtMatmulPreferenceDestroy(preference);
    return failed;
}

/* `from` is what beta multiplies: c itself, or a residual. */
static struct plan *find_plan(struct mbk *k, const struct mbk_gemm *g, int epilogue, int add, const void *from, int64_t ld_from,
                              int64_t stride_from)
{
    struct gpu *gpu = gpu_of(k);
    struct key key;
    memset(&key, 0, sizeof key);
    key.m = g->m, key.n = g->n, key.k = g->k, key.batch = g->batch;
    key.lda = g->lda, key.ldb = g->ldb, key.ldc = g->ldc, key.ld_from = ld_from;
    key.stride_a = g->stride_a, key.stride_b = g->stride_b, key.stride_c = g->stride_c, key.stride_from = stride_from;
    key.a_type = g->a_type, key.b_type = g->b_type, key.c_type = g->c_type;
    key.transpose_a = g->transpose_a, key.transpose_b = g->transpose_b, key.epilogue = epilogue, key.add = add;
    key.align_a = alignment_of(g->a), key.align_b = alignment_of(g->b), key.align_c = alignment_of(g->c), key.align_from = alignment_of(from);
    if ((epilogue & CUBLASLT_EPILOGUE_GELU_AUX) == CUBLASLT_EPILOGUE_GELU_AUX)
        key.align_before = alignment_of(g->before);
    if (!gpu->gemm_plans && !(gpu->gemm_plans = calloc(1, sizeof *gpu->gemm_plans))) {
        mbk_fail(k, "matmul: no memory for plans");
        return NULL;
    }
    struct gpu_gemm_plans *plans = gpu->gemm_plans;
    unsigned slot = hash_key(&key) % PLAN_SLOTS;
    for (; plans->slots[slot]; slot = (slot + 1) % PLAN_SLOTS)
        if (memcmp(&plans->slots[slot]->key, &key, sizeof key) == 0)
            return plans->slots[slot];
    if (plans->count >= MOST_PLANS) {
        forget_plans(plans);
        slot = hash_key(&key) % PLAN_SLOTS;
    }
    struct plan *p = calloc(1, sizeof *p);
    if (!p) {
        mbk_fail(k, "matmul: no memory for a plan");
        return NULL;
    }
    p->key = key;
    if (make_operation(k, p, g) ||
        make_layout(k, &p->a, g->b_type, g->transpose_b ? g->k : g->n, g->transpose_b ? g->n : g->k, g->ldb, g->batch, g->stride_b) ||
        make_layout(k, &p->b, g->a_type, g->transpose_a ? g->m : g->k, g->transpose_a ? g->k : g->m, g->lda, g->batch, g->stride_a) ||
        make_layout(k, &p->from, g->c_type, g->n, g->m, ld_from, g->batch, stride_from) ||
        make_layout(k, &p->c, g->c_type, g->n, g->m, g->ldc, g->batch, g->stride_c) || choose(k, p)) {
        free_plan(p);
        return NULL;
    }
    plans->slots[slot] = p;
    plans->count++;
    return p;
}

/* What cuBLASLt does along with a product. The bias can be fused where it is of c's type. GELU is its tanh form. Activations in float32 are
 * left to ours, which are exact to the last bits; in bfloat16 the difference is far below the rounding. */
static int choose_epilogue(const struct mbk_gemm *g)
{
    int bias = g->bias && g->bias_type == g->c_type ? CUBLASLT_EPILOGUE_BIAS : 0;
    int all = bias || !g->bias;
    if (all && g->c_type == MBK_BF16 && g->activation == MBK_RELU && !g->before)
        return CUBLASLT_EPILOGUE_RELU | bias;
    if (all && g->c_type == MBK_BF16 && g->activation == MBK_GELU_TANH && !g->before)
        return CUBLASLT_EPILOGUE_GELU | bias;
    if (all && g->c_type == MBK_BF16 && g->activation == MBK_GELU_TANH && g->n % 8 == 0 && alignment_of(g->before) >= 16)
        return CUBLASLT_EPILOGUE_GELU_AUX | bias;
    return bias ? bias : CUBLASLT_EPILOGUE_DEFAULT;
}

static int has_activation(int epilogue)
{
    return epilogue & (CUBLASLT_EPILOGUE_RELU | CUBLASLT_EPILOGUE_GELU);
}

/* Everything that the epilogue has left. */
static int finish(struct mbk *k, const struct mbk_gemm *g, int epilogue, int residual_done)
{
    int done = has_activation(epilogue);
    struct gpu_finish f = {
        .columns = g->n, .from_type = g->c_type, .ld_from = g->ldc, .c_type = g->c_type, .ldc = g->ldc,
        .bias = epilogue & CUBLASLT_EPILOGUE_BIAS ? NULL : g->bias, .bias_type = g->bias_type,
        .activation = done ? MBK_NONE : g->activation,
    };
    void *before = done ? NULL : g->before;
    const void *residual = residual_done ? NULL : g->residual;
    if (!f.bias && f.activation == MBK_NONE && !before && !residual)
        return 0;
    int whole = g->batch == 1 || (g->stride_c == g->m * g->n && g->ldc == g->n); /* then the batch is only more rows */
    f.rows = whole ? g->batch * g->m : g->m;
    size_t size = type_size(g->c_type);
    for (int64_t i = 0; i < (whole ? 1 : g->batch); i++) {
        f.c = (char *)g->c + (size_t)(i * g->stride_c) * size;
        f.from = f.c;
        f.before = before ? (char *)before + (size_t)(i * g->m * g->n) * size : NULL;
        f.residual = residual ? (const char *)residual + (size_t)(i * g->m * g->n) * size : NULL;
        if (gpu_finish(k, "matmul", &f))
            return -1;
    }
    return 0;
}

/* Returns 1 if cuBLASLt has no algorithm for it. */
static int run_plan(struct mbk *k, const struct mbk_gemm *g, int epilogue, int add_residual)
{
    struct gpu *gpu = gpu_of(k);
    const void *from = add_residual ? g->residual : g->c;
    int64_t ld_from = add_residual ? g->n : g->ldc, stride_from = add_residual ? g->m * g->n : g->stride_c;
    float alpha = g->alpha, beta = add_residual ? 1 : g->beta;
    int32_t int_alpha = 1, int_beta = 0;
    int is_int = g->c_type == MBK_I32;
    struct plan *p = find_plan(k, g, epilogue, beta != 0, from, ld_from, stride_from);
    if (!p)
        return -1;
    if (!p->usable)
        return 1;
    if (set_pointers(k, p->operation, epilogue, g))
        return -1;
    return gpu_check_lt(k, "matmul", cublasLtMatmul(gpu->lt, p->operation, is_int ? (void *)&int_alpha : (void *)&alpha, g->b, p->a, g->a,
                                                    p->b, is_int ? (void *)&int_beta : (void *)&beta, from, p->from, g->c, p->c,
                                                    &p->algorithm, gpu->lt_workspace, gpu->lt_workspace_size, gpu->stream));
}

static int product(struct mbk *k, const struct mbk_gemm *g)
{
    if (g->k == 0)
        return gpu_scale_matrix(k, g) || finish(k, g, CUBLASLT_EPILOGUE_DEFAULT, 0) ? -1 : 0;
    int epilogue = choose_epilogue(g), status;
    int plain = g->activation == MBK_NONE && !g->before && (!g->bias || epilogue == CUBLASLT_EPILOGUE_BIAS);
    int add_residual = g->residual && g->beta == 0 && plain;
    status = run_plan(k, g, epilogue, add_residual);
    if (status == 1 && epilogue != CUBLASLT_EPILOGUE_DEFAULT) {
        epilogue = CUBLASLT_EPILOGUE_DEFAULT;
        add_residual = add_residual && !g->bias;
        status = run_plan(k, g, epilogue, add_residual);
    }
    if (status == 1)
        return mbk_fail(k, "matmul: cuBLASLt has no algorithm for %s and %s to %s, %lld × %lld × %lld, %lld times", mbk_type_name(g->a_type),
                        mbk_type_name(g->b_type), mbk_type_name(g->c_type), (long long)g->m, (long long)g->k, (long long)g->n,
                        (long long)g->batch);
    return status || finish(k, g, epilogue, add_residual) ? -1 : 0;
}

/* -- Products of bytes: tensor cores take rows along K alone, of whole 16 bytes. */

/* Our a as [m, k] and b as [n, k], rows padded with zeros to 16 bytes, in scratch where they don't lie so already. */
static int align_bytes(struct mbk *k, struct mbk_gemm *g)
{
    int64_t padded = (g->k + 15) / 16 * 16;
    const struct { const void **data; int64_t *ld, *stride; int *transposed, wanted; int64_t rows; } sides[] = {
        { &g->a, &g->lda, &g->stride_a, &g->transpose_a, 0, g->m }, { &g->b, &g->ldb, &g->stride_b, &g->transpose_b, 1, g->n },
    };
    for (int i = 0; i < 2; i++) {
        int64_t rows = sides[i].rows, ld = *sides[i].ld, stride = *sides[i].stride;
        int transpose = *sides[i].transposed != sides[i].wanted;
        if (!transpose && padded == g->k && ld % 16 == 0 && stride % 16 == 0 && alignment_of(*sides[i].data) >= 16)
            continue;
        int64_t count = g->batch > 1 && stride != 0 ? g->batch : 1;
        char *to = gpu_scratch(k, "matmul", (size_t)(count * rows * padded));
        if (!to)
            return -1;
        for (int64_t b = 0; b < count; b++)
            if (gpu_pack_bytes(k, "matmul", (const char *)*sides[i].data + b * stride, transpose ? g->k : rows, transpose ? rows : g->k, ld,
                               transpose, to + b * rows * padded, rows, padded))
                return -1;
        *sides[i].data = to;
        *sides[i].ld = padded;
        *sides[i].stride = count > 1 ? rows * padded : 0;
        *sides[i].transposed = sides[i].wanted;
    }
    g->k = padded;
    return 0;
}

/* fp8 numbers are bfloat16 numbers, and their products are the same: for what cuBLASLt has no fp8 algorithm for. */
static int widen_fp8(struct mbk *k, struct mbk_gemm *g)
{
    const struct { const void **data; enum mbk_type *type; int64_t rows, ld, stride; } sides[] = {
        { &g->a, &g->a_type, g->m, g->lda, g->stride_a }, { &g->b, &g->b_type, g->n, g->ldb, g->stride_b },
    };
    for (int i = 0; i < 2; i++) {
        int64_t last = g->batch > 1 ? (g->batch - 1) * sides[i].stride : 0, count = last + (sides[i].rows - 1) * sides[i].ld + g->k;
        void *to = gpu_scratch(k, "matmul", (size_t)count * 2);
        if (!to)
            return -1;
        struct mbk_tensor from = mbk_tensor1((void *)(uintptr_t)*sides[i].data, *sides[i].type, count), wide = mbk_tensor1(to, MBK_BF16, count);
        if (gpu_cast(k, &from, &wide))
            return -1;
        *sides[i].data = to;
        *sides[i].type = MBK_BF16;
    }
    return 0;
}

static int product_of_bytes(struct mbk *k, const struct mbk_gemm *given)
{
    struct mbk_gemm g = *given;
    if (g.k == 0)
        return product(k, &g);
    int is_int = g.a_type == MBK_I8;
    /* D's rows must be whole words for the tensor cores, and bytes must be many enough to be worth laying out anew. */
    int fits = g.n % (is_int ? 4 : 16) == 0 && g.ldc % 4 == 0 && alignment_of(g.c) >= 16;
    if (is_int && (!fits || g.m < 8))
        return gpu_gemm_int8_any(k, &g);
    if (align_bytes(k, &g))
        return -1;
    if (fits) {
        int status = run_plan(k, &g, CUBLASLT_EPILOGUE_DEFAULT, 0);
        if (status != 1)
            return status || finish(k, &g, CUBLASLT_EPILOGUE_DEFAULT, 0) ? -1 : 0;
    }
    if (is_int)
        return gpu_gemm_int8_any(k, &g);
    return widen_fp8(k, &g) ? -1 : product(k, &g);
}

/* Few rows by weights as they are; 1 if it isn't for the shape. What comes after a bfloat16 product is added to its sums, before they are rounded. */
static int few_rows_of_blocks(struct mbk *k, const struct mbk_gemm *g)
{
    struct mbk_gemm sums = *g;
    int more = g->bias || g->activation != MBK_NONE || g->before || g->residual;
    if (!more || g->c_type == MBK_F32 || g->beta != 0 || g->batch > 1 || g->transpose_a || g->m > GPU_GEMV_ROWS) {
        int status = gpu_gemv_blocks(k, g);
        return status ? status : finish(k, g, CUBLASLT_EPILOGUE_DEFAULT, 0);
    }
    sums.c = gpu_scratch(k, "matmul", (size_t)(g->m * g->n) * sizeof(float));
    sums.c_type = MBK_F32;
    sums.ldc = g->n;
    int status = sums.c ? gpu_gemv_blocks(k, &sums) : -1;
    if (status)
        return status;
    const struct gpu_finish f = {
        .rows = g->m, .columns = g->n, .from = sums.c, .from_type = MBK_F32, .ld_from = g->n, .c = g->c, .c_type = g->c_type, .ldc = g->ldc,
        .bias = g->bias, .bias_type = g->bias_type, .activation = g->activation, .before = g->before, .residual = g->residual,
    };
    return gpu_finish(k, "matmul", &f);
}

/* Weights in GGUF blocks: read as they are for few rows, else widened to a's type and multiplied as that. */
static int product_of_blocks(struct mbk *k, const struct mbk_gemm *given)
{
    struct mbk_gemm g = *given;
    if (g.k > 0) {
        int status = few_rows_of_blocks(k, &g);
        if (status != 1)
            return status;
        int64_t rows = g.batch > 1 && g.stride_b != 0 ? g.batch * g.n : g.n;
        void *wide = gpu_scratch(k, "matmul", (size_t)(rows * g.k) * type_size(g.a_type));
        if (!wide || gpu_dequantize(k, "matmul", g.b_type, g.b, rows, g.k, g.a_type, wide))
            return -1;
        g.b = wide;
    }
    g.b_type = g.a_type;
    g.ldb = g.k > 0 ? g.k : 1;
    return product(k, &g);
}

int gpu_gemm(struct mbk *k, const struct mbk_gemm *g)
{
    if (gpu_enter(k))
        return -1;
    if ((g->a_type == MBK_F8_E4M3 || g->a_type == MBK_F8_E5M2) && gpu_of(k)->arch < GPU_FP8_ARCH)
        return mbk_unsupported(k, "matmul", g->a_type);
    if (g->batch > INT32_MAX)
        return mbk_fail(k, "matmul: a batch of %lld is more than cuBLASLt counts", (long long)g->batch);
    size_t mark = gpu_scratch_mark(k);
    int status;
    switch (g->b_type) {
    case MBK_F32: case MBK_BF16: status = product(k, g); break;
    case MBK_I8: case MBK_F8_E4M3: case MBK_F8_E5M2: status = product_of_bytes(k, g); break;
    case MBK_Q8_0: case MBK_Q4_0: case MBK_Q4_K: status = product_of_blocks(k, g); break;
    default: status = mbk_unsupported(k, "matmul", g->b_type);
    }
    gpu_scratch_release(k, mark);
    return status;
}
