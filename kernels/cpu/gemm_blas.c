/* gemm_blas.c: float32 products by CBLAS, for processors that gemm.c has nothing better for than plain C.
 *
 * Our threads cut the rows of c between them, and OpenBLAS is told to keep to the one that calls it: two pools on the same processors
 * would get in each other's way. Without CBLAS (config.h then has no HAVE_OPENBLAS) there is nothing here, and cpu->blas is 0.
 */
#include "config.h"
#include "gemm.h"

#ifdef HAVE_OPENBLAS
#include <cblas.h>

struct work {
    const struct mbk_gemm *g;
    const float *a, *b;
    float *c;
};

static void rows_body(void *context, int64_t first, int64_t end, int worker)
{
    const struct work *w = context;
    const struct mbk_gemm *g = w->g;
    (void)worker;
    cblas_sgemm(CblasRowMajor, g->transpose_a ? CblasTrans : CblasNoTrans, g->transpose_b ? CblasTrans : CblasNoTrans, (int)(end - first),
                (int)g->n, (int)g->k, g->alpha, w->a + first * (g->transpose_a ? 1 : g->lda), (int)g->lda, w->b, (int)g->ldb, g->beta,
                w->c + first * g->ldc, (int)g->ldc);
}

void cpu_gemm_blas(struct mbk *k, const struct mbk_gemm *g, const float *a, const float *b, float *c)
{
    struct work w = { g, a, b, c };
#if HAVE_OPENBLAS
    openblas_set_num_threads(1);
#endif
    cpu_parallel(k, g->m, 16, rows_body, &w);
}
#else
void cpu_gemm_blas(struct mbk *k, const struct mbk_gemm *g, const float *a, const float *b, float *c)
{
    (void)k, (void)g, (void)a, (void)b, (void)c;
}
#endif
