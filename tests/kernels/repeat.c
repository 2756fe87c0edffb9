/* repeat.c: operations of sequences and quantization give the same bits again, with any number of threads, and take no memory after the
 * first time. */
#include "kernels.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>

enum { B = 3, T = 65, S = 101, H = 4, G = 2, D = 24, ROWS = B * T, C = H * D, V = 37, TENSORS = 64 };

/* What every operation reads and writes. `most` 0 below: what is there is nonsense. */
struct run {
    struct mbk *k;
    enum mbk_type type;
    struct mbk_tensor x, dy, gamma, beta, ids, table, q, keys, values, lengths, logits, blocks, groups, scales; /* read */
    struct mbk_tensor y, mean, rstd, dx, dgamma, dbeta, found, dtable, out, lse, dq, dkeys, dvalues, turned, drawn, best, best_at, losses,
        dp, dn, product, product4, sum, back; /* written */
    struct mbk_tensor *all[TENSORS];
    int count;
};

static void make(struct run *r, struct mbk_tensor *t, enum mbk_type type, int rank, const int64_t *shape, double most)
{
    *t = mbk_tensor(NULL, type, rank, shape);
    double *values = kernels_random(mbk_count(t), type == MBK_I32 ? 0 : -most, most, (unsigned)r->count + 1);
    *t = kernels_put(r->k, type, rank, shape, most > 0 ? values : NULL);
    free(values);
    CHECK(r->count < TENSORS);
    r->all[r->count++] = t;
}

static void make_bytes(struct run *r, struct mbk_tensor *t, enum mbk_type type, int64_t rows, int64_t n)
{
    *t = mbk_tensor2(NULL, type, rows, n);
    t->data = mbk_alloc(r->k, mbk_bytes(t));
    CHECK(t->data != NULL);
}

static void run_make(struct run *r)
{
    enum mbk_type f = r->type;
    make(r, &r->x, f, SHAPE(ROWS, C), 2);
    make(r, &r->dy, f, SHAPE(ROWS, C), 1);
    make(r, &r->gamma, f, SHAPE(C), 1);
    make(r, &r->beta, f, SHAPE(C), 1);
    make(r, &r->ids, MBK_I32, SHAPE(ROWS), V);
    make(r, &r->table, f, SHAPE(V, C), 1);
    make(r, &r->q, f, SHAPE(B, T, H, D), 2);
    make(r, &r->keys, f, SHAPE(B, S, G, D), 2);
    make(r, &r->values, f, SHAPE(B, S, G, D), 2);
    make(r, &r->lengths, MBK_I32, SHAPE(B), S);
    make(r, &r->logits, f, SHAPE(ROWS, 1031), 9);
    make(r, &r->y, f, SHAPE(ROWS, C), 0);
    make(r, &r->mean, MBK_F32, SHAPE(ROWS), 0);
    make(r, &r->rstd, MBK_F32, SHAPE(ROWS), 0);
    make(r, &r->dx, f, SHAPE(ROWS, C), 0);
    make(r, &r->dgamma, MBK_F32, SHAPE(C), 1);
    make(r, &r->dbeta, MBK_F32, SHAPE(C), 1);
    make(r, &r->found, f, SHAPE(ROWS, C), 0);
    make(r, &r->dtable, f, SHAPE(V, C), 1);
    make(r, &r->out, f, SHAPE(B, T, H, D), 0);
    make(r, &r->lse, MBK_F32, SHAPE(B, H, T), 0);
    make(r, &r->dq, f, SHAPE(B, T, H, D), 0);
    make(r, &r->dkeys, f, SHAPE(B, S, G, D), 0);
    make(r, &r->dvalues, f, SHAPE(B, S, G, D), 0);
    make(r, &r->turned, f, SHAPE(B, T, H, D), 1);
    make(r, &r->drawn, MBK_I32, SHAPE(ROWS), 0);
    make(r, &r->best, f, SHAPE(ROWS, 5), 0);
    make(r, &r->best_at, MBK_I32, SHAPE(ROWS, 5), 0);
    make(r, &r->losses, MBK_F32, SHAPE(C), 0);
    make(r, &r->dp, f, SHAPE(C), 0);
    make(r, &r->dn, f, SHAPE(C), 0);
    make(r, &r->product, f, SHAPE(ROWS, ROWS), 0);
    make(r, &r->product4, f, SHAPE(ROWS, ROWS), 0);
    make(r, &r->sum, f, SHAPE(C), 1);
    make(r, &r->back, f, SHAPE(ROWS, C), 0);
    make(r, &r->scales, MBK_F32, SHAPE(ROWS, C / 32), 0);
    make_bytes(r, &r->blocks, MBK_Q4_0, ROWS, C);
    make_bytes(r, &r->groups, MBK_I4, ROWS, C);
}

static void run_once(struct run *r)
{
    struct mbk *k = r->k;
    struct mbk_attention a = { .q = &r->q, .keys = &r->keys, .values = &r->values, .lengths = &r->lengths, .out = &r->out, .lse = &r->lse,
                               .causal = 1, .dropout = 0.1f, .seed = 3, .offset = 4 };
    CHECK_RUN(k, mbk_layernorm(k, &r->x, &r->gamma, &r->beta, 1e-5f, &r->y, &r->mean, &r->rstd));
    CHECK_RUN(k, mbk_layernorm_backward(k, &r->x, &r->gamma, &r->mean, &r->rstd, &r->dy, &r->dx, &r->dgamma, &r->dbeta));
    CHECK_RUN(k, mbk_rmsnorm(k, &r->x, &r->gamma, 1e-5f, &r->y, &r->rstd));
    CHECK_RUN(k, mbk_rmsnorm_backward(k, &r->x, &r->gamma, &r->rstd, &r->dy, &r->dx, &r->dgamma));
    CHECK_RUN(k, mbk_embedding(k, &r->table, &r->ids, &r->found));
    CHECK_RUN(k, mbk_embedding_backward(k, &r->ids, &r->dy, &r->dtable));
    CHECK_RUN(k, mbk_attend(k, &a));
    CHECK_RUN(k, mbk_attend_backward(k, &a, &r->turned, &r->dq, &r->dkeys, &r->dvalues));
    CHECK_RUN(k, mbk_rope(k, &r->turned, 5, &(struct mbk_rotary){ .base = 10000 }, 1));
    CHECK_RUN(k, mbk_sample(k, &r->logits, 0.8f, 100, 0.9f, 7, 8, &r->drawn));
    CHECK_RUN(k, mbk_top_k(k, &r->logits, &r->best, &r->best_at));
    CHECK_RUN(k, mbk_bpr(k, &r->gamma, &r->beta, 1, &r->losses, &r->dp, &r->dn));
    CHECK_RUN(k, mbk_private_sum(k, &r->x, 1, 1, 5, 6, &r->sum));
    CHECK_RUN(k, mbk_quantize_blocks(k, &r->x, &r->blocks));
    CHECK_RUN(k, mbk_dequantize_blocks(k, &r->blocks, &r->back));
    CHECK_RUN(k, mbk_matmul(k, &(struct mbk_product){ .a = &r->dy, .b = &r->blocks, .c = &r->product, .transpose_b = 1 }));
    CHECK_RUN(k, mbk_quantize_groups(k, &r->x, 32, &r->groups, &r->scales));
    CHECK_RUN(k, mbk_linear_int4(k, &r->dy, &r->groups, &r->scales, 32, NULL, MBK_NONE, &r->product4));
}

static void run_close(struct run *r)
{
    for (int i = 0; i < r->count; i++)
        kernels_drop(r->k, r->all[i]);
    mbk_free(r->k, r->blocks.data);
    mbk_free(r->k, r->groups.data);
}

/* All tensors' bytes, one after the other. */
static unsigned char *run_bytes(struct run *r, size_t *bytes)
{
    *bytes = 0;
    for (int i = 0; i < r->count; i++)
        *bytes += mbk_bytes(r->all[i]);
    unsigned char *all = malloc(*bytes), *to = all;
    CHECK(all != NULL);
    for (int i = 0; i < r->count; i++) {
        CHECK_RUN(r->k, mbk_read(r->k, to, r->all[i]->data, mbk_bytes(r->all[i])));
        to += mbk_bytes(r->all[i]);
    }
    return all;
}

static unsigned char *bits_of(struct mbk *k, enum mbk_type type, size_t *bytes)
{
    struct run r = { .k = k, .type = type };
    run_make(&r);
    run_once(&r);
    unsigned char *all = run_bytes(&r, bytes);
    run_close(&r);
    return all;
}

static void again_body(const void *argument)
{
    struct mbk *k = kernels_open(argument, 2);
    for (int type = MBK_F32; type <= MBK_BF16; type++) {
        size_t bytes;
        unsigned char *first = bits_of(k, (enum mbk_type)type, &bytes);
        for (int i = 0; i < 100; i++) {
            unsigned char *again = bits_of(k, (enum mbk_type)type, &bytes);
            CHECK_MEM(again, first, bytes);
            free(again);
        }
        free(first);
    }
    kernels_close(k);
}

static void memory_body(const void *argument)
{
    struct mbk *k = kernels_open(argument, 3);
    struct run r = { .k = k, .type = MBK_F32 };
    run_make(&r);
    run_once(&r);
    size_t used = mbk_memory_used(k);
    for (int i = 0; i < 3; i++) {
        run_once(&r);
        CHECK_EQ(mbk_memory_used(k), used);
    }
    run_close(&r);
    kernels_close(k);
}

TEST_TABLE
{
    for (int b = 0; b < KERNELS_BACKENDS; b++) {
        const char *backend = kernels_backends[b];
        test_add(again_body, backend, "%s: a hundred runs of the operations of sequences and quantization give the same bits", backend);
        test_add(memory_body, backend, "%s: the operations of sequences and quantization take no memory after the first time", backend);
    }
}

TEST("cpu: the operations of sequences and quantization give the same bits with any number of threads")
{
    for (int type = MBK_F32; type <= MBK_BF16; type++) {
        unsigned char *one = NULL;
        for (int threads = 1; threads <= 5; threads++) {
            size_t bytes;
            struct mbk *k = kernels_open("cpu", threads);
            unsigned char *found = bits_of(k, (enum mbk_type)type, &bytes);
            if (one)
                CHECK_MEM(found, one, bytes);
            if (one)
                free(found);
            else
                one = found;
            kernels_close(k);
        }
        free(one);
    }
}
