/* reduce.cuh: what other kernels use of reduce.cu. */
#ifndef MBK_REDUCE_CUH
#define MBK_REDUCE_CUH

#include "device.cuh"

/* out [columns] += partials [parts, columns], in the parts' order. */
int gpu_add_partials(struct mbk *k, const char *what, const float *partials, int64_t parts, int64_t columns, const struct mbk_tensor *out);

#endif
