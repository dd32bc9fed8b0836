/* One number to order scores by: larger is better, and among equals the lower index. Every number
 * has a key of its own, 0 is nobody's. Adding 0 makes a zero positive, so that zeros are equal. */
#pragma once

#include <cuda_runtime.h>
#include <stdint.h>

__device__ __forceinline__ unsigned long long rank_key(float score, int index)
{
    uint32_t bits = __float_as_uint(score + 0.0f);
    uint32_t ordered = bits >> 31 ? ~bits : bits | 0x80000000u;
    return (unsigned long long)ordered << 32 | (0xffffffffu - (uint32_t)index);
}

__device__ __forceinline__ int rank_index(unsigned long long key)
{
    return (int)(0xffffffffu - (uint32_t)key);
}

__device__ __forceinline__ float rank_score(unsigned long long key)
{
    uint32_t ordered = (uint32_t)(key >> 32);
    return __uint_as_float(ordered >> 31 ? ordered & 0x7fffffffu : ~ordered);
}
