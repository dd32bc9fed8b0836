/* Where the sums of a dense product go: to y, with a bias and added to what is there, if wanted. */
#pragma once

#include "kernels/cuda/stream.cuh"

struct dense_output {
    const float *bias; // [n] or NULL
    float *y;
    int n, ldy;
    bool add;
};

/* By a block of THREADS threads. */
template <int THREADS, int WARPS, int ROWS, class Tile>
__device__ __forceinline__ void finish_dense(const dense_output &to, const Tile &tile,
                                             const float (&sums)[WARPS][TILE_OUTPUTS][ROWS])
{
    for (int i = (int)threadIdx.x; i < tile.rows * TILE_OUTPUTS; i += THREADS) {
        int o = tile.output + i % TILE_OUTPUTS, r = i / TILE_OUTPUTS;
        if (o >= to.n)
            continue;
        float sum = add_warps<WARPS>(sums, i % TILE_OUTPUTS, r);
        float *y = to.y + (size_t)(tile.first + r) * (size_t)to.ldy + o;
        sum = to.bias ? sum + to.bias[o] : sum;
        *y = to.add ? *y + sum : sum;
    }
}
