/* mbk_sequences.c: checks of embedding, rotary positions, attention and sampling. */
#include "mbk_check.h"

#include <math.h>

int mbk_embedding(struct mbk *k, const struct mbk_tensor *table, const struct mbk_tensor *ids, const struct mbk_tensor *y)
{
    int blocks = table && mbk_is_blocks(table->type);
    if (mbk_check(k, "embedding", blocks ? "table:*[V,C] y:f[...,C] ids:I32[R]" : "table:F[V,C] y:F[...,C] ids:I32[R]", table, y, ids))
        return -1;
    if (blocks && table->shape[1] % mbk_block(table->type))
        return mbk_mismatch(k, "embedding", "table", table, "y", y, "a row must be whole blocks");
    return mbk_count(y) == 0 ? 0 : MBK_CALL(k, embedding, table, ids, y);
}

int mbk_embedding_backward(struct mbk *k, const struct mbk_tensor *ids, const struct mbk_tensor *dy, const struct mbk_tensor *dtable)
{
    if (mbk_check(k, "embedding_backward", "dtable:F[V,C] dy:F[...,C] ids:I32[R]", dtable, dy, ids))
        return -1;
    return mbk_count(dy) == 0 ? 0 : MBK_CALL(k, embedding_backward, ids, dy, dtable);
}

int mbk_rope(struct mbk *k, const struct mbk_tensor *x, int64_t start, const struct mbk_rotary *r, int sign)
{
    char text[MBK_SHAPE_TEXT];
    if (mbk_check(k, "rope", "x:f[B,T,H,D]", x))
        return -1;
    if (x->shape[3] % 2)
        return mbk_fail(k, "rope: x is %s: the last dimension must be even", mbk_shape_text(x, text));
    if ((sign != 1 && sign != -1) || !(r->base > 0) || start < 0)
        return mbk_fail(k, "rope: sign %d must be 1 or -1, base %g above 0, start %lld not below 0", sign, (double)r->base,
                        (long long)start);
    if (!(r->factor >= 0) || (r->original > 0 && !(r->high > r->low)))
        return mbk_fail(k, "rope: factor %g must not be below 0, and high %g above low %g", (double)r->factor, (double)r->high,
                        (double)r->low);
    return mbk_count(x) == 0 ? 0 : MBK_CALL(k, rope, x, start, r, sign);
}

static int check_attention(struct mbk *k, const char *operation, const struct mbk_attention *a, struct mbk_attention *filled)
{
    if (mbk_check(k, operation, "q:f[B,T,H,D] keys:f[B,S,G,D] values:f[B,S,G,D] lengths?:I32[B] out:f[B,T,H,D] lse?:F32[B,H,T]", a->q,
                  a->keys,
                  a->values, a->lengths, a->out, a->lse))
        return -1;
    int64_t heads = a->q->shape[2], groups = a->keys->shape[2];
    if (groups == 0 ? heads != 0 : heads % groups != 0)
        return mbk_mismatch(k, operation, "q", a->q, "keys", a->keys, "the heads of q must be a multiple of those of keys");
    if (!(a->dropout >= 0 && a->dropout < 1))
        return mbk_fail(k, "%s: the dropout %g is not in [0, 1)", operation, (double)a->dropout);
    *filled = *a;
    filled->offset += mbk_varied(k)->offset;
    if (a->scale == 0)
        filled->scale = 1 / sqrtf((float)a->q->shape[3]);
    return 0;
}

int mbk_attend(struct mbk *k, const struct mbk_attention *a)
{
    struct mbk_attention filled;
    if (check_attention(k, "attend", a, &filled))
        return -1;
    if (mbk_count(a->out) == 0)
        return 0;
    if (mbk_count(a->keys) == 0) { /* nothing to see; lse is minus infinity, which backward has no use for either */
        if (a->lse && mbk_zero(k, a->lse))
            return -1;
        return mbk_zero(k, a->out);
    }
    return MBK_CALL(k, attend, &filled);
}

int mbk_attend_backward(struct mbk *k, const struct mbk_attention *a, const struct mbk_tensor *dout, const struct mbk_tensor *dq,
                        const struct mbk_tensor *dkeys, const struct mbk_tensor *dvalues)
{
    struct mbk_attention filled;
    if (check_attention(k, "attend_backward", a, &filled) ||
        mbk_check(k, "attend_backward", "q:f[B,T,H,D] keys:f[B,S,G,D] dout:f[B,T,H,D] dq:f[B,T,H,D] dkeys:f[B,S,G,D] dvalues:f[B,S,G,D]",
                  a->q,
                  a->keys, dout, dq, dkeys, dvalues))
        return -1;
    if (!a->lse)
        return mbk_fail(k, "attend_backward: lse is missing: mbk_attend writes it");
    if (mbk_count(dout) == 0 || mbk_count(a->keys) == 0)
        return mbk_zero(k, dq) || mbk_zero(k, dkeys) || mbk_zero(k, dvalues) ? -1 : 0;
    return MBK_CALL(k, attend_backward, &filled, dout, dq, dkeys, dvalues);
}

int mbk_sample(struct mbk *k, const struct mbk_tensor *logits, float temperature, int top_k, float top_p, uint64_t seed, uint64_t offset,
               const struct mbk_tensor *ids)
{
    if (mbk_check(k, "sample", "logits:f[...,V] ids:I32[R]", logits, ids))
        return -1;
    if (!(temperature >= 0) || top_k < 0 || !(top_p > 0 && top_p <= 1))
        return mbk_fail(k, "sample: temperature %g must be 0 or more, top_k %d too, and top_p %g in (0, 1]", (double)temperature, top_k,
                        (double)top_p);
    if (mbk_count(ids) > 0 && mbk_row_length(logits) == 0)
        return mbk_mismatch(k, "sample", "logits", logits, "ids", ids, "there is nothing to draw from");
    offset += mbk_varied(k)->offset;
    return mbk_count(ids) == 0 ? 0 : MBK_CALL(k, sample, logits, temperature, top_k, top_p, seed, offset, ids);
}
