/* Numbers of the three types in kernels: converting to float and back (rounding to nearest, ties to
 * even), loading 16 bytes of them at a time, and choosing a template's type by enum dtype. */
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "base/dtype.h"

__device__ __forceinline__ float to_float(float x)
{
    return x;
}

__device__ __forceinline__ float to_float(__half x)
{
    return __half2float(x);
}

__device__ __forceinline__ float to_float(__nv_bfloat16 x)
{
    return __bfloat162float(x);
}

__device__ __forceinline__ void set(float *to, float x)
{
    *to = x;
}

__device__ __forceinline__ void set(__half *to, float x)
{
    *to = __float2half_rn(x);
}

__device__ __forceinline__ void set(__nv_bfloat16 *to, float x)
{
    *to = __float2bfloat16_rn(x);
}

/* 16 bytes of numbers: loaded or stored by one instruction. */
template <class T> struct __align__(16) vec
{
    static constexpr int N = 16 / (int)sizeof(T);
    T v[N];
};

template <class T> __device__ __forceinline__ vec<T> load16(const T *from)
{
    return *(const vec<T> *)from;
}

template <class T> __device__ __forceinline__ void store16(T *to, const vec<T> &x)
{
    *(vec<T> *)to = x;
}

/* Run the statement with T as the C++ type of `type`. */
#define FOR_TYPE(type, T, ...)                                                                     \
    do {                                                                                           \
        if ((type) == DTYPE_F32) {                                                                 \
            using T = float;                                                                       \
            __VA_ARGS__;                                                                           \
        } else if ((type) == DTYPE_F16) {                                                          \
            using T = __half;                                                                      \
            __VA_ARGS__;                                                                           \
        } else {                                                                                   \
            using T = __nv_bfloat16;                                                               \
            __VA_ARGS__;                                                                           \
        }                                                                                          \
    } while (0)
