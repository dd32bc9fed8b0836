/* Which tiles of work the two launches of an ffn's call have, and what becomes of their sums: what
 * ffn.cu and quant_ffn.cu share. Each has its two sides, which say how a tile's operands are found:
 *   tile_type<FRAGMENTS>                      a stream_tile or a quant_tile
 *   fill<T>(tile, part, strip, output, lane)  the tile of these outputs for these rows */
#pragma once

#include "kernels/cuda/ffn.cuh"
#include "kernels/cuda/stream.cuh"
#include "kernels/cuda/strip.cuh"

enum { MOST_PARTS = 8 };

/* Jobs that share their launches. Those with the largest tiles come first, as they take longest. */
struct ffn_call {
    ffn_part parts[MOST_PARTS];
    int n_parts;
    int ahead; // see prefetch_weights
};

/* The first launch: hidden := silu(gate x) * up x. A tile has both outputs of a hidden value,
 * beside each other. */
struct gate_up_sums {
    static __host__ __device__ int outputs(const ffn_part &p)
    {
        return 2 * p.width_stride;
    }

    template <class T, int THREADS, int WARPS, int ROWS, class Tile>
    static __device__ __forceinline__ void finish(const ffn_part &p, const Tile &tile,
                                                  const float (&sums)[WARPS][TILE_OUTPUTS][ROWS])
    {
        const int columns = TILE_OUTPUTS / 2;
        for (int i = (int)threadIdx.x; i < tile.rows * columns; i += THREADS) {
            int r = i / columns, column = i % columns;
            float h = swiglu(add_warps<WARPS>(sums, 2 * column, r),
                             add_warps<WARPS>(sums, 2 * column + 1, r));
            set((T *)p.hidden + (size_t)(tile.first + r) * (size_t)p.width_stride +
                    tile.output / 2 + column,
                h);
        }
    }
};

/* The second launch: y := down hidden, zero beyond dim. */
struct down_sums {
    static __host__ __device__ int outputs(const ffn_part &p)
    {
        return p.dim_stride;
    }

    template <class T, int THREADS, int WARPS, int ROWS, class Tile>
    static __device__ __forceinline__ void finish(const ffn_part &p, const Tile &tile,
                                                  const float (&sums)[WARPS][TILE_OUTPUTS][ROWS])
    {
        for (int i = (int)threadIdx.x; i < tile.rows * TILE_OUTPUTS; i += THREADS) {
            int r = i / TILE_OUTPUTS, o = tile.output + i % TILE_OUTPUTS;
            float sum = o < p.dim ? add_warps<WARPS>(sums, i % TILE_OUTPUTS, r) : 0;
            put<T>(p.y, (size_t)(tile.first + r) * (size_t)p.dim_stride + o, sum, p.y_is_f32);
        }
    }
};

/* How many tiles, from tile 0 on, do not depend on the routing: those of part 0, if all rows go
 * through each of its blocks, as they go through the pieces of a shared expert. */
template <int FRAGMENTS, class Side>
static __host__ __device__ __forceinline__ int known_tiles(const ffn_call &call)
{
    const ffn_part &p = call.parts[0];
    int strips =
        p.count || p.source ? 0 : p.n_blocks * ((p.n - 1) / (FRAGMENTS * FRAGMENT_ROWS) + 1);
    return strips * (Side::outputs(p) / TILE_OUTPUTS);
}

template <class T, int FRAGMENTS, class Side> struct ffn_tiles {
    using tile_of = typename Side::template tile_type<FRAGMENTS>;
    const ffn_call &call;

    __device__ __forceinline__ bool is_known(int number) const
    {
        return number < known_tiles<FRAGMENTS, Side>(call);
    }

    __device__ __forceinline__ int ahead() const
    {
        return call.ahead;
    }

    __device__ __forceinline__ tile_of find(int number, int lane) const
    {
        tile_of tile = {};
        for (int i = 0; i < call.n_parts; i++) {
            const ffn_part &p = call.parts[i];
            int tiles = Side::outputs(p) / TILE_OUTPUTS;
            strip s = find_strip(p.count, p.n_blocks, p.n, FRAGMENTS * FRAGMENT_ROWS,
                                 number / tiles, lane);
            if (s.rows) {
                Side::template fill<T>(tile, p, s, number % tiles * TILE_OUTPUTS, lane);
                tile.job = i;
                break;
            }
            number -= s.block * tiles;
        }
        return tile;
    }

    template <int WARPS, int ROWS>
    __device__ __forceinline__ void finish(const tile_of &tile,
                                           const float (&sums)[WARPS][TILE_OUTPUTS][ROWS]) const
    {
        Side::template finish<T, STREAM_WARPS * WARP_SIZE>(call.parts[tile.job], tile, sums);
    }
};

/* The most tiles that a call can have. */
template <int FRAGMENTS, class Side> static inline size_t most_tiles(const ffn_call &call)
{
    size_t tiles = 0;
    for (int i = 0; i < call.n_parts; i++) {
        const ffn_part &p = call.parts[i];
        int strips = most_strips(p.n, p.n_blocks, FRAGMENTS * FRAGMENT_ROWS, p.count != NULL);
        tiles += (size_t)strips * (size_t)(Side::outputs(p) / TILE_OUTPUTS);
    }
    return tiles;
}
