/* quantize_rounding.h: weights of 4 bits out of floats: which scale a group gets, and which way each weight is rounded.
 *
 * Without data: scales that lose the least squared error, weights to the nearest level. With the second moments of what the weights are
 * multiplied by: GPTQ (Frantar et al. 2023, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers"), column by
 * column, the error of each made up for by those that follow. Must not know of models.
 */
#ifndef MBL_QUANTIZE_ROUNDING_H
#define MBL_QUANTIZE_ROUNDING_H

#include "error.h"
#include <mbuild/kernels.h>

struct mbl_rounding {
    struct mbk *k;               /* on the CPU, whose memory is the host's */
    enum mbk_type type;          /* MBK_I4, MBK_Q4_0 or MBK_Q4_K */
    int64_t group;               /* of MBK_I4 */
    int64_t rows, width;         /* a row is whole groups or blocks */
    float *weights;              /* [rows, width]; used up */
    float *moments;              /* [width, width], Σ x xᵀ over the data; used up. NULL: no data */
};
/* `bytes` gets the rows as mbk_linear_int4 or mbk_matmul take them, `scales` (MBK_I4 alone) [rows, width / group]. The same bits whatever the
 * number of threads. */
MBL_EXPORT int mbl_round_weights(const struct mbl_rounding *r, uint8_t *bytes, float *scales, struct mbl_error *e);

#endif
