/* mbk_quantize.c: checks of quantization. */
#include "mbk_check.h"

int mbk_quantize_rows(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *q, const struct mbk_tensor *scales)
{
    if (mbk_check(k, "quantize_rows", "x:f[...,C] q:I8[...,C] scales:F32[R]", x, q, scales))
        return -1;
    return mbk_count(scales) == 0 ? 0 : MBK_CALL(k, quantize_rows, x, q, scales);
}

int mbk_quantize(struct mbk *k, const struct mbk_tensor *x, float scale, const struct mbk_tensor *q)
{
    if (mbk_check(k, "quantize", "x:f[...] q:I8[...]", x, q))
        return -1;
    if (!(scale > 0))
        return mbk_fail(k, "quantize: the scale %g is not above 0", (double)scale);
    return mbk_count(q) == 0 ? 0 : MBK_CALL(k, quantize, x, scale, q);
}

int mbk_dequantize_rows(struct mbk *k, const struct mbk_tensor *q, const struct mbk_tensor *scales, const struct mbk_tensor *x)
{
    if (mbk_check(k, "dequantize_rows", "x:f[...,C] q:I8[...,C] scales:F32[R]", x, q, scales))
        return -1;
    return mbk_count(x) == 0 ? 0 : MBK_CALL(k, dequantize_rows, q, scales, x);
}

static int check_groups(struct mbk *k, const char *operation, const struct mbk_tensor *x, int group, const struct mbk_tensor *q,
                        const struct mbk_tensor *scales)
{
    if (mbk_check(k, operation, "x:f[...,C] q:I4[...,C] scales:F32[...,G]", x, q, scales))
        return -1;
    if (group < 2 || group % 2 || mbk_row_length(x) != mbk_row_length(scales) * group)
        return mbk_mismatch(k, operation, "x", x, "scales", scales, "a row must be whole groups, each of an even number of elements");
    return 0;
}

int mbk_quantize_groups(struct mbk *k, const struct mbk_tensor *x, int group, const struct mbk_tensor *q, const struct mbk_tensor *scales)
{
    if (check_groups(k, "quantize_groups", x, group, q, scales))
        return -1;
    return mbk_count(q) == 0 ? 0 : MBK_CALL(k, quantize_groups, x, group, q, scales);
}

int mbk_dequantize_groups(struct mbk *k, const struct mbk_tensor *q, const struct mbk_tensor *scales, int group, const struct mbk_tensor *x)
{
    if (check_groups(k, "dequantize_groups", x, group, q, scales))
        return -1;
    return mbk_count(x) == 0 ? 0 : MBK_CALL(k, dequantize_groups, q, scales, group, x);
}

static int check_blocks(struct mbk *k, const char *operation, const struct mbk_tensor *x, const struct mbk_tensor *q)
{
    if (mbk_check(k, operation, "x:f[...,C] q:*[...,C]", x, q))
        return -1;
    if (!mbk_is_blocks(q->type))
        return mbk_mismatch(k, operation, "x", x, "q", q, "q must be Q8_0, Q4_0 or Q4_K");
    if (mbk_row_length(x) % mbk_block(q->type))
        return mbk_mismatch(k, operation, "x", x, "q", q, "a row must be whole blocks");
    return 0;
}

int mbk_quantize_blocks(struct mbk *k, const struct mbk_tensor *x, const struct mbk_tensor *q)
{
    if (check_blocks(k, "quantize_blocks", x, q))
        return -1;
    return mbk_count(q) == 0 ? 0 : MBK_CALL(k, quantize_blocks, x, q);
}

int mbk_dequantize_blocks(struct mbk *k, const struct mbk_tensor *q, const struct mbk_tensor *x)
{
    if (check_blocks(k, "dequantize_blocks", x, q))
        return -1;
    return mbk_count(x) == 0 ? 0 : MBK_CALL(k, dequantize_blocks, q, x);
}
