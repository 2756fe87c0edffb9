/* kernels.c: how near the operations are to what the machine can do. A line a measure: name, ours, peer, ratio (ours / peer), parted by
 * tabs.
 *
 * Products: GFLOP/s, beside CBLAS in the same run where the library was built with one, else beside the best product of this run; of bytes
 * beside ours of float32; attention beside the best product. What memory bounds: GB/s that have to be read and written, beside a plain
 * copy. Each figure is the best of several turns, and the peer's turns stand between ours, so that a busy machine hurts both alike.
 *
 *     build/tests/bench/kernels [PART OF A NAME …]
 *
 * MB_BENCH_DEVICE: cpu or cuda. MB_BENCH_THREADS: how many (0: one a processor). MB_BENCH_SECONDS: how long a measure may take (1).
 */
#include "config.h"
#include "mbuild/kernels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef HAVE_OPENBLAS
#include <cblas.h>
#endif

static struct mbk *k;
static int on_cpu, part_count, failed;
static char **parts;
static double seconds = 1, copy_rate, product_rate;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int wanted(const char *name)
{
    for (int i = 0; i < part_count; i++)
        if (strstr(name, parts[i]))
            return 1;
    return part_count == 0;
}

/* What is measured: does the thing once; returns 0. */
typedef int measured(void *context);

static double once(measured *f, void *context)
{
    double start = now();
    if (f(context) || mbk_sync(k)) {
        fprintf(stderr, "%s\n", mbk_error(k));
        failed = 1;
    }
    return now() - start;
}

/* The best time of ours and of the peer (NULL: none), turn by turn. */
static void best(measured *ours, measured *peer, void *context, double *our_best, double *peer_best)
{
    double end = now() + seconds;
    *our_best = *peer_best = INFINITY;
    once(ours, context);
    for (int turn = 0; turn < 3 || (turn < 10000 && now() < end); turn++) {
        *our_best = fmin(*our_best, once(ours, context));
        if (peer)
            *peer_best = fmin(*peer_best, once(peer, context));
    }
}

static void row(const char *name, double ours, double peer)
{
    printf("%s\t%.1f\t%.1f\t%.3f\n", name, ours, peer, ours / peer);
    fflush(stdout);
}

static struct mbk_tensor tensor(enum mbk_type type, int64_t rows, int64_t columns, double least, double most)
{
    struct mbk_tensor t = mbk_tensor2(NULL, type, rows, columns), f = mbk_tensor2(NULL, MBK_F32, rows, columns);
    t.data = mbk_alloc(k, mbk_bytes(&t));
    f.data = mbk_alloc(k, mbk_bytes(&f));
    if (!t.data || !f.data || mbk_random_uniform(k, (float)least, (float)most, 1, 0, &f) || mbk_cast(k, &f, &t)) {
        fprintf(stderr, "%s\n", mbk_error(k));
        exit(1);
    }
    mbk_free(k, f.data);
    return t;
}

/* -- Products. */

struct product {
    struct mbk_product p;
    struct mbk_tensor a, b, c, a_bytes, b_bytes, a_scales, b_scales;
};

static int our_product(void *context)
{
    return mbk_matmul(k, &((struct product *)context)->p);
}

static int our_int8(void *context)
{
    struct product *p = context;
    return mbk_linear_int8(k, &p->a_bytes, &p->a_scales, &p->b_bytes, &p->b_scales, NULL, MBK_NONE, &p->c);
}

#ifdef HAVE_OPENBLAS
static int blas_product(void *context)
{
    const struct product *p = context;
    int n = (int)p->c.shape[1], m = (int)p->c.shape[0], depth = (int)p->a.shape[p->p.transpose_a ? 0 : 1];
    cblas_sgemm(CblasRowMajor, p->p.transpose_a ? CblasTrans : CblasNoTrans, p->p.transpose_b ? CblasTrans : CblasNoTrans, m, n, depth, 1,
                p->a.data, (int)p->a.shape[1], p->b.data, (int)p->b.shape[1], 0, p->c.data, n);
    return 0;
}
#endif

static const struct product_row {
    const char *name;
    int64_t m, n, k;
    int transpose_a, transpose_b;
} products[] = {
    { "product 1024x1024x1024", 1024, 1024, 1024, 0, 0 },
    { "product BERT-base attention, 4096x768x768", 4096, 768, 768, 0, 1 },
    { "product BERT-base up, 4096x3072x768", 4096, 3072, 768, 0, 1 },
    { "product BERT-base down, 4096x768x3072", 4096, 768, 3072, 0, 1 },
    { "product BERT-base up, backward to x", 4096, 768, 3072, 0, 0 },
    { "product BERT-base up, backward to w", 3072, 768, 4096, 1, 0 },
    { "product GPT-2 logits, 512x50257x768", 512, 50257, 768, 0, 1 },
    { "product small batch, 64x128x64", 64, 128, 64, 0, 1 },
    { "product eight rows, 8x4096x4096", 8, 4096, 4096, 0, 1 },
    { "product one row, 1x4096x4096", 1, 4096, 4096, 0, 1 },
};

static void bench_products(void)
{
    for (size_t i = 0; i < sizeof products / sizeof products[0]; i++) {
        const struct product_row *r = &products[i];
        struct product p = { .a = tensor(MBK_F32, r->transpose_a ? r->k : r->m, r->transpose_a ? r->m : r->k, -1, 1),
                             .b = tensor(MBK_F32, r->transpose_b ? r->n : r->k, r->transpose_b ? r->k : r->n, -1, 1),
                             .c = tensor(MBK_F32, r->m, r->n, 0, 1) };
        p.p = (struct mbk_product){ .a = &p.a, .b = &p.b, .c = &p.c, .transpose_a = r->transpose_a, .transpose_b = r->transpose_b };
        double flops = 2.0 * (double)r->m * (double)r->n * (double)r->k * 1e-9, ours, peer;
        measured *with = NULL;
#ifdef HAVE_OPENBLAS
        with = on_cpu ? blas_product : NULL;
#endif
        if (i == 0 || wanted(r->name)) {
            best(our_product, with, &p, &ours, &peer);
            product_rate = fmax(product_rate, flops / ours);
            if (wanted(r->name))
                row(r->name, flops / ours, with ? flops / peer : product_rate);
        }
        mbk_free(k, p.a.data);
        mbk_free(k, p.b.data);
        mbk_free(k, p.c.data);
    }
}

/* Beside our own float32 product of the same shape. */
static void bench_bytes(void)
{
    for (size_t i = 0; i < sizeof products / sizeof products[0]; i++) {
        const struct product_row *r = &products[i];
        char name[100];
        snprintf(name, sizeof name, "int8 %s", r->name);
        if (!wanted(name) || !r->transpose_b || r->n > 10000)
            continue;
        struct product p = { .a = tensor(MBK_F32, r->m, r->k, -1, 1), .b = tensor(MBK_F32, r->n, r->k, -1, 1), .c = tensor(MBK_F32, r->m,
                r->n, 0, 1),
                             .a_bytes = tensor(MBK_I8, r->m, r->k, -127, 127), .b_bytes = tensor(MBK_I8, r->n, r->k, -127, 127),
                             .a_scales = tensor(MBK_F32, 1, r->m, 0, 1), .b_scales = tensor(MBK_F32, 1, r->n, 0, 1) };
        p.p = (struct mbk_product){ .a = &p.a, .b = &p.b, .c = &p.c, .transpose_b = 1 };
        p.a_scales = mbk_tensor1(p.a_scales.data, MBK_F32, r->m);
        p.b_scales = mbk_tensor1(p.b_scales.data, MBK_F32, r->n);
        double flops = 2.0 * (double)r->m * (double)r->n * (double)r->k * 1e-9, ours, peer;
        best(our_int8, our_product, &p, &ours, &peer);
        row(name, flops / ours, flops / peer);
        struct mbk_tensor *all[] = { &p.a, &p.b, &p.c, &p.a_bytes, &p.b_bytes, &p.a_scales, &p.b_scales };
        for (int j = 0; j < 7; j++)
            mbk_free(k, all[j]->data);
    }
}

/* -- Attention: GFLOP/s of what is seen, beside the best product of this run. */

struct attention {
    struct mbk_attention a;
    struct mbk_tensor q, keys, values, out, lse, dout, dq, dkeys, dvalues;
};

static int our_attention(void *context)
{
    return mbk_attend(k, &((struct attention *)context)->a);
}

static int our_attention_backward(void *context)
{
    const struct attention *t = context;
    return mbk_attend_backward(k, &t->a, &t->dout, &t->dq, &t->dkeys, &t->dvalues);
}

static void bench_attention(void)
{
    static const struct {
        const char *name;
        int64_t batch, length, heads, size;
        int causal;
        float dropout;
    } rows[] = {
        { "attention BERT-base, 32x128", 32, 128, 12, 64, 0, 0 },
        { "attention BERT-base, 32x128, dropout", 32, 128, 12, 64, 0, 0.1f },
        { "attention GPT-2, 4x1024", 4, 1024, 12, 64, 1, 0 },
        { "attention 128 wide, 2x1024", 2, 1024, 8, 128, 1, 0 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int64_t batch = rows[i].batch, length = rows[i].length, heads = rows[i].heads, size = rows[i].size;
        struct attention t = { 0 };
        struct mbk_tensor *all[] = { &t.q, &t.keys, &t.values, &t.out, &t.dout, &t.dq, &t.dkeys, &t.dvalues };
        char name[100];
        double ours, peer, pairs = (double)(batch * heads * length) * (double)(rows[i].causal ? (length + 1) / 2 : length);
        if (!wanted(rows[i].name))
            continue;
        for (int j = 0; j < 8; j++)
            *all[j] = mbk_tensor4(tensor(MBK_F32, batch * length, heads * size, -1, 1).data, MBK_F32, batch, length, heads, size);
        t.lse = mbk_tensor3(tensor(MBK_F32, batch * heads, length, 0, 1).data, MBK_F32, batch, heads, length);
        t.a = (struct mbk_attention){ .q = &t.q, .keys = &t.keys, .values = &t.values, .out = &t.out, .lse = &t.lse,
                                      .causal = rows[i].causal, .dropout = rows[i].dropout, .seed = 1 };
        best(our_attention, NULL, &t, &ours, &peer);
        row(rows[i].name, 4e-9 * pairs * (double)size / ours, product_rate);
        snprintf(name, sizeof name, "%s, backward", rows[i].name);
        best(our_attention_backward, NULL, &t, &ours, &peer);
        row(name, 10e-9 * pairs * (double)size / ours, product_rate);
        for (int j = 0; j < 8; j++)
            mbk_free(k, all[j]->data);
        mbk_free(k, t.lse.data);
    }
}

/* -- What memory bounds: an operation over [4096, 3072]. */

static struct mbk_tensor x, y, z, u, bytes_out, half, scales, labels, line, scalar, pair;

static int run_copy(void *c) { (void)c; return mbk_copy(k, &x, &y); }
static int run_add(void *c) { (void)c; return mbk_add(k, &x, &z, &y); }
static int run_add_row(void *c) { (void)c; return mbk_add(k, &x, &line, &y); }
static int run_relu(void *c) { (void)c; return mbk_activate(k, MBK_RELU, &x, &y); }
static int run_gelu(void *c) { (void)c; return mbk_activate(k, MBK_GELU, &x, &y); }
static int run_gelu_tanh(void *c) { (void)c; return mbk_activate(k, MBK_GELU_TANH, &x, &y); }
static int run_gelu_backward(void *c) { (void)c; return mbk_activate_backward(k, MBK_GELU, &x, &z, &y); }
static int run_softmax(void *c) { (void)c; return mbk_softmax(k, &x, &y); }
static int run_softmax_backward(void *c) { (void)c; return mbk_softmax_backward(k, &x, &z, &y); }
static int run_layernorm(void *c) { (void)c; return mbk_layernorm(k, &x, &line, &line, 1e-5f, &y, NULL, NULL); }
static int run_rmsnorm(void *c) { (void)c; return mbk_rmsnorm(k, &x, &line, 1e-5f, &y, NULL); }
static int run_cross_entropy(void *c) { (void)c; return mbk_cross_entropy(k, &x, &labels, 0, 1, &scales, &y); }
static int run_dropout(void *c) { (void)c; return mbk_dropout(k, 0.1f, 1, 0, &x, &y); }
static int run_sum(void *c) { (void)c; return mbk_sum(k, &x, &scalar); }
static int run_sum_rows(void *c) { (void)c; return mbk_sum_rows(k, &x, &line); }
static int run_min_max(void *c) { (void)c; return mbk_min_max(k, &x, &pair); }
static int run_quantize(void *c) { (void)c; return mbk_quantize_rows(k, &x, &bytes_out, &scales); }
static int run_dequantize(void *c) { (void)c; return mbk_dequantize_rows(k, &bytes_out, &scales, &y); }
static int run_cast(void *c) { (void)c; return mbk_cast(k, &x, &half); }
static int run_adam(void *c)
{
    (void)c;
    struct mbk_parameter p = { .value = y, .gradient = x, .first = z, .second = u, .decay = 0.01f };
    return mbk_adam(k, &(struct mbk_adam){ 1e-4f, 0.9f, 0.999f, 1e-8f, 0, 10, 1, NULL }, &p, 1);
}
static int run_sgd(void *c)
{
    (void)c;
    struct mbk_parameter p = { .value = y, .gradient = x, .first = z };
    return mbk_sgd(k, &(struct mbk_sgd){ 1e-4f, 0.9f, 0, 1, NULL }, &p, 1);
}
static int run_norm(void *c)
{
    (void)c;
    return mbk_gradient_norm(k, &(struct mbk_parameter){ .gradient = x }, 1, 1, &scalar, NULL);
}

static void bench_memory(void)
{
    static const struct {
        const char *name;
        measured *run;
        double bytes; /* an element, read and written */
    } rows[] = {
        { "add", run_add, 12 }, { "add a row to all", run_add_row, 8 }, { "relu", run_relu, 8 }, { "gelu", run_gelu, 8 },
        { "gelu, tanh", run_gelu_tanh, 8 }, { "gelu backward", run_gelu_backward, 12 }, { "softmax", run_softmax, 8 },
        { "softmax backward", run_softmax_backward, 12 }, { "layernorm", run_layernorm, 8 }, { "rmsnorm", run_rmsnorm, 8 },
        { "cross-entropy with gradient", run_cross_entropy, 8 }, { "dropout", run_dropout, 8 }, { "sum", run_sum, 4 },
        { "sum of rows", run_sum_rows, 4 }, { "least and greatest", run_min_max, 4 }, { "gradient norm", run_norm, 4 },
        { "quantize rows", run_quantize, 5 }, { "dequantize rows", run_dequantize, 5 }, { "float32 to bfloat16", run_cast, 6 },
        { "AdamW", run_adam, 28 }, { "SGD with momentum", run_sgd, 20 },
    };
    enum { ROWS = 4096, COLUMNS = 3072 };
    x = tensor(MBK_F32, ROWS, COLUMNS, -4, 4);
    y = tensor(MBK_F32, ROWS, COLUMNS, -4, 4);
    z = tensor(MBK_F32, ROWS, COLUMNS, -4, 4);
    u = tensor(MBK_F32, ROWS, COLUMNS, 0, 1);
    bytes_out = tensor(MBK_I8, ROWS, COLUMNS, -127, 127);
    half = tensor(MBK_BF16, ROWS, COLUMNS, -4, 4);
    scales = mbk_tensor1(tensor(MBK_F32, 1, ROWS, 0, 1).data, MBK_F32, ROWS);
    labels = mbk_tensor1(tensor(MBK_I32, 1, ROWS, 0, COLUMNS - 1).data, MBK_I32, ROWS);
    line = mbk_tensor1(tensor(MBK_F32, 1, COLUMNS, -1, 1).data, MBK_F32, COLUMNS);
    scalar = mbk_tensor(tensor(MBK_F32, 1, 1, 0, 1).data, MBK_F32, 0, NULL);
    pair = mbk_tensor1(tensor(MBK_F32, 1, 2, 0, 1).data, MBK_F32, 2);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        double ours, peer, size = (double)ROWS * COLUMNS * 1e-9;
        if (!wanted(rows[i].name))
            continue;
        best(rows[i].run, run_copy, NULL, &ours, &peer);
        copy_rate = fmax(copy_rate, 8 * size / peer);
        row(rows[i].name, rows[i].bytes * size / ours, 8 * size / peer);
    }
}

int main(int argc, char **argv)
{
    char message[512];
    const char *device = getenv("MB_BENCH_DEVICE"), *threads = getenv("MB_BENCH_THREADS"), *limit = getenv("MB_BENCH_SECONDS");
    struct mbk_options options = { .threads = threads ? atoi(threads) : 0 };
    part_count = argc - 1;
    parts = argv + 1;
    seconds = limit ? atof(limit) : seconds;
    if (mbk_open(device ? device : "cpu", &options, &k, message, sizeof message)) {
        fprintf(stderr, "kernels: %s\n", message);
        return 1;
    }
    on_cpu = strcmp(mbk_device(k), "cpu") == 0;
#if defined HAVE_OPENBLAS && HAVE_OPENBLAS
    if (options.threads > 0)
        openblas_set_num_threads(options.threads);
#endif
    fprintf(stderr, "%s: %s\n", mbk_device(k), mbk_description(k));
    bench_products();
    bench_bytes();
    bench_attention();
    bench_memory();
    fprintf(stderr, "the most seen: %.1f GFLOP/s in a product, %.1f GB/s in a copy\n", product_rate, copy_rate);
    mbk_close(k);
    return failed;
}
