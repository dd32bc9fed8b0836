/* Sums and maxima over the lanes of a warp, and over the threads of a block, always in the same
 * order, so that the same call gives the same bits. All lanes (threads) must call, and all get the
 * result. */
#pragma once

#include <cuda_runtime.h>

enum { WARP_LANES = 32 };

#define ALL_LANES 0xffffffffu

__device__ __forceinline__ float warp_sum(float x)
{
    for (int lanes = WARP_LANES / 2; lanes; lanes /= 2)
        x += __shfl_xor_sync(ALL_LANES, x, lanes);
    return x;
}

__device__ __forceinline__ float warp_max(float x)
{
    for (int lanes = WARP_LANES / 2; lanes; lanes /= 2)
        x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, lanes));
    return x;
}

/* The block must have one dimension and at most 32 warps, all of them whole. */
__device__ __forceinline__ float block_sum(float x)
{
    __shared__ float of_warp[WARP_LANES];
    int lane = (int)threadIdx.x % WARP_LANES, warps = (int)blockDim.x / WARP_LANES;
    x = warp_sum(x);
    __syncthreads(); // all threads have read what the last call wrote to of_warp
    if (lane == 0)
        of_warp[threadIdx.x / WARP_LANES] = x;
    __syncthreads();
    return warp_sum(lane < warps ? of_warp[lane] : 0);
}
