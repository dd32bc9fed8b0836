/* A score and its index as one key to order by: the larger score has the larger key, and among
 * equal scores the lower index has. No two indices have the same key, and none has key 0. Adding 0
 * turns -0 into +0, so that the two count as equal. */
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
