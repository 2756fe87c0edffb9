/* cast.cu: elements of one type as those of another. Among float32, bfloat16 and fp8 by kernels of their own; all else through float64, which
 * holds every float and the integers up to 2⁵³, and integers among themselves through int64. Rounded once, to nearest even.
 */
#include "device.cuh"

#include <cuda_fp16.h>
#include <cuda_fp8.h>

__device__ __forceinline__ float to_float(__nv_fp8_e4m3 x) { return (float)x; }
__device__ __forceinline__ float to_float(__nv_fp8_e5m2 x) { return (float)x; }
template <> __device__ __forceinline__ __nv_fp8_e4m3 from_float<__nv_fp8_e4m3>(float x)
{
    __nv_fp8_e4m3 to;
    to.__x = __nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E4M3);
    return to;
}
template <> __device__ __forceinline__ __nv_fp8_e5m2 from_float<__nv_fp8_e5m2>(float x)
{
    __nv_fp8_e5m2 to;
    to.__x = __nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E5M2);
    return to;
}

template <class From, class To>
struct cast_op {
    const From *from;
    To *to;

    template <int N>
    __device__ __forceinline__ void run(int64_t i) const
    {
        float v[N];
        load<N>(from + i, v);
        store<N>(to + i, v);
    }
};

template <class From, class To>
static int cast(struct mbk *k, const struct mbk_tensor *from, const struct mbk_tensor *to)
{
    cast_op<From, To> op = { (const From *)from->data, (To *)to->data };
    return gpu_elementwise<8>(k, "cast", mbk_count(to), gpu_aligned(from->data) && gpu_aligned(to->data), op);
}

template <class From>
static int cast_from(struct mbk *k, const struct mbk_tensor *from, const struct mbk_tensor *to)
{
    switch (to->type) {
    case MBK_F32: return cast<From, float>(k, from, to);
    case MBK_BF16: return cast<From, bf16>(k, from, to);
    case MBK_F8_E4M3: return cast<From, __nv_fp8_e4m3>(k, from, to);
    default: return cast<From, __nv_fp8_e5m2>(k, from, to);
    }
}

/* -- Any to any. The types are the same for all threads. */

__device__ __forceinline__ int64_t get_integer(enum mbk_type type, const void *data, int64_t i)
{
    switch (type) {
    case MBK_I64: return ((const int64_t *)data)[i];
    case MBK_I32: return ((const int32_t *)data)[i];
    case MBK_I8: return ((const int8_t *)data)[i];
    default: return ((const uint8_t *)data)[i];
    }
}

__device__ __forceinline__ double get_double(enum mbk_type type, const void *data, int64_t i)
{
    switch (type) {
    case MBK_F32: return ((const float *)data)[i];
    case MBK_F64: return ((const double *)data)[i];
    case MBK_BF16: return to_float(((const bf16 *)data)[i]);
    case MBK_F16: return __half2float(((const __half *)data)[i]);
    case MBK_F8_E4M3: return to_float(((const __nv_fp8_e4m3 *)data)[i]);
    case MBK_F8_E5M2: return to_float(((const __nv_fp8_e5m2 *)data)[i]);
    default: return (double)get_integer(type, data, i);
    }
}

__device__ __forceinline__ int64_t clamp_to(int64_t x, int64_t least, int64_t most)
{
    return x < least ? least : x > most ? most : x;
}

__device__ __forceinline__ void put_integer(enum mbk_type type, void *data, int64_t i, int64_t x)
{
    switch (type) {
    case MBK_I64: ((int64_t *)data)[i] = x; break;
    case MBK_I32: ((int32_t *)data)[i] = (int32_t)clamp_to(x, INT32_MIN, INT32_MAX); break;
    case MBK_I8: ((int8_t *)data)[i] = (int8_t)clamp_to(x, INT8_MIN, INT8_MAX); break;
    default: ((uint8_t *)data)[i] = (uint8_t)clamp_to(x, 0, UINT8_MAX);
    }
}

__device__ __forceinline__ void put_double(enum mbk_type type, void *data, int64_t i, double x)
{
    switch (type) {
    case MBK_F32: ((float *)data)[i] = (float)x; break;
    case MBK_F64: ((double *)data)[i] = x; break;
    case MBK_BF16: ((bf16 *)data)[i] = __double2bfloat16(x); break;
    case MBK_F16: ((__half *)data)[i] = __double2half(x); break;
    case MBK_F8_E4M3: ((uint8_t *)data)[i] = __nv_cvt_double_to_fp8(x, __NV_SATFINITE, __NV_E4M3); break;
    case MBK_F8_E5M2: ((uint8_t *)data)[i] = __nv_cvt_double_to_fp8(x, __NV_SATFINITE, __NV_E5M2); break;
    default: /* NaN is 0, and what is beyond the integers is the last of them: so __double2ll_rn has it for int64 */
        put_integer(type, data, i, x != x ? 0 : __double2ll_rn(x));
    }
}

__host__ __device__ __forceinline__ bool is_integer(enum mbk_type type)
{
    return type == MBK_I64 || type == MBK_I32 || type == MBK_I8 || type == MBK_U8;
}

struct any_op {
    const void *from;
    void *to;
    enum mbk_type from_type, to_type;

    template <int N>
    __device__ __forceinline__ void run(int64_t i) const
    {
        if (is_integer(from_type) && is_integer(to_type))
            put_integer(to_type, to, i, get_integer(from_type, from, i));
        else if (from_type == MBK_I64 && to_type == MBK_F32) /* beyond 2⁵³ a float64 between would round twice */
            ((float *)to)[i] = __ll2float_rn(((const int64_t *)from)[i]);
        else
            put_double(to_type, to, i, get_double(from_type, from, i));
    }
};

static bool is_small_float(enum mbk_type type)
{
    return type == MBK_F32 || type == MBK_BF16 || type == MBK_F8_E4M3 || type == MBK_F8_E5M2;
}

extern "C" int gpu_cast(struct mbk *k, const struct mbk_tensor *from, const struct mbk_tensor *to)
{
    if (from->type == to->type) {
        if (from->data == to->data)
            return 0;
        return gpu_enter(k) || gpu_check(k, "cast", cudaMemcpyAsync(to->data, from->data, mbk_bytes(to), cudaMemcpyDeviceToDevice,
                                                                    gpu_of(k)->stream)) ? -1 : 0;
    }
    if (is_small_float(from->type) && is_small_float(to->type)) {
        switch (from->type) {
        case MBK_F32: return cast_from<float>(k, from, to);
        case MBK_BF16: return cast_from<bf16>(k, from, to);
        case MBK_F8_E4M3: return cast_from<__nv_fp8_e4m3>(k, from, to);
        default: return cast_from<__nv_fp8_e5m2>(k, from, to);
        }
    }
    any_op op = { from->data, to->data, from->type, to->type };
    return gpu_elementwise<1>(k, "cast", mbk_count(to), false, op);
}
