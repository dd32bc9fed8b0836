/* Products with few rows, where reading the weights is all the work: every weight goes once from
 * memory into a tensor-core tile, past shared memory.
 *
 * A tile of work is 16 outputs for a strip of rows. Its k is cut into chunks of 64 bytes, dealt to
 * the block's warps two by two; the warps' sums are added in order at the end, so a row's result
 * depends on neither the number of rows nor on the grid. While a warp multiplies two chunks, the
 * next two are on their way, those of the next tile at a tile's end: a block's reads never pause.
 * The first tile's set out while the kernels before are still at work (launch.cuh).
 *
 * The order of k within a chunk is the same for weights and rows but not the fragment's own: lane
 * 4 g + t holds bytes [16 t, 16 t + 16) of rows g, so that all loads are of 16 bytes. */
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/number.cuh"
#include "kernels/cuda/tile.cuh"

enum {
    TILE_OUTPUTS = 16,
    FRAGMENT_ROWS = 8,
    CHUNK_BYTES = 64,
    PIECE_BYTES = 16,
    GROUP_CHUNKS = 2,
    STREAM_WARPS = 8,
    WARP_SIZE = 32,
};

/* Blocks of STREAM_WARPS that a multiprocessor has registers for. */
template <class T, int FRAGMENTS> constexpr int stream_blocks()
{
    return FRAGMENTS == 1 && sizeof(T) == 2 ? 3 : 2;
}

/* What one lane reads of a tile, and what the tile is. */
template <int FRAGMENTS> struct stream_tile {
    const char *w[2];         // its pieces of chunk 0 of two outputs
    const char *x[FRAGMENTS]; // and of its rows, NULL where there is none
    int chunks;
    int rows; // 0: there is no such tile
    int first, output, job;
};

struct stream_weights {
    uint4 of[2][GROUP_CHUNKS];
};

/* Nothing beyond the last chunk. */
template <int FRAGMENTS>
__device__ __forceinline__ void load_weights(stream_weights &to, const stream_tile<FRAGMENTS> &tile,
                                             int group)
{
#pragma unroll
    for (int i = 0; i < GROUP_CHUNKS; i++)
#pragma unroll
        for (int upper = 0; upper < 2; upper++) {
            int chunk = group * GROUP_CHUNKS + i;
            to.of[upper][i] = make_uint4(0, 0, 0, 0);
            if (chunk < tile.chunks)
                to.of[upper][i] =
                    __ldcs((const uint4 *)(tile.w[upper] + (size_t)chunk * CHUNK_BYTES));
        }
}

/* A warp's sums of 16 outputs and 8 rows a fragment, in halves by tensor cores. */
template <class T, int FRAGMENTS> struct stream_sums {
    float d[FRAGMENTS][4];

    __device__ __forceinline__ void clear()
    {
#pragma unroll
        for (int i = 0; i < FRAGMENTS * 4; i++)
            d[i / 4][i % 4] = 0;
    }

    __device__ __forceinline__ void add(int f, const uint4 &low, const uint4 &high, const uint4 &x,
                                        int rows)
    {
        (void)rows;
        mma_16816<T>(d[f], {low.x, high.x, low.y, high.y}, {x.x, x.y});
        mma_16816<T>(d[f], {low.z, high.z, low.w, high.w}, {x.z, x.w});
    }

    __device__ __forceinline__ void put(float (*sums)[FRAGMENTS * FRAGMENT_ROWS], int lane) const
    {
        int g = lane / 4, t = lane % 4;
#pragma unroll
        for (int i = 0; i < FRAGMENTS * 4; i++)
            sums[g + i % 4 / 2 * 8][i / 4 * FRAGMENT_ROWS + 2 * t + i % 2] = d[i / 4][i % 4];
    }
};

/* In floats by lanes: each adds up its pieces for all rows, which their lanes pass round. */
template <int FRAGMENTS> struct stream_sums<float, FRAGMENTS> {
    float d[FRAGMENTS][2][FRAGMENT_ROWS];

    __device__ __forceinline__ void clear()
    {
#pragma unroll
        for (int f = 0; f < FRAGMENTS; f++)
#pragma unroll
            for (int r = 0; r < FRAGMENT_ROWS; r++)
                d[f][0][r] = d[f][1][r] = 0;
    }

    static __device__ __forceinline__ float dot(float sum, const uint4 &a, const uint4 &b)
    {
        sum += __uint_as_float(a.x) * __uint_as_float(b.x);
        sum += __uint_as_float(a.y) * __uint_as_float(b.y);
        sum += __uint_as_float(a.z) * __uint_as_float(b.z);
        return sum + __uint_as_float(a.w) * __uint_as_float(b.w);
    }

    __device__ __forceinline__ void add(int f, const uint4 &low, const uint4 &high, const uint4 &x,
                                        int rows)
    {
        int t = (int)threadIdx.x % 4;
#pragma unroll
        for (int r = 0; r < FRAGMENT_ROWS; r++)
            if (f * FRAGMENT_ROWS + r < rows) {
                uint4 of = make_uint4(__shfl_sync(0xffffffffu, x.x, r * 4 + t),
                                      __shfl_sync(0xffffffffu, x.y, r * 4 + t),
                                      __shfl_sync(0xffffffffu, x.z, r * 4 + t),
                                      __shfl_sync(0xffffffffu, x.w, r * 4 + t));
                d[f][0][r] = dot(d[f][0][r], low, of);
                d[f][1][r] = dot(d[f][1][r], high, of);
            }
    }

    static __device__ __forceinline__ float over_pieces(float x)
    {
        x += __shfl_xor_sync(0xffffffffu, x, 1);
        return x + __shfl_xor_sync(0xffffffffu, x, 2);
    }

    __device__ __forceinline__ void put(float (*sums)[FRAGMENTS * FRAGMENT_ROWS], int lane) const
    {
        int g = lane / 4, t = lane % 4;
#pragma unroll
        for (int f = 0; f < FRAGMENTS; f++)
#pragma unroll
            for (int i = 0; i < 2 * FRAGMENT_ROWS; i++) {
                int upper = i / FRAGMENT_ROWS, r = i % FRAGMENT_ROWS;
                float sum = over_pieces(d[f][upper][r]);
                if (r % 4 == t)
                    sums[g + upper * 8][f * FRAGMENT_ROWS + r] = sum;
            }
    }
};

template <class T, int FRAGMENTS>
__device__ __forceinline__ void multiply_group(stream_sums<T, FRAGMENTS> &sums,
                                               const stream_weights &w,
                                               const stream_tile<FRAGMENTS> &tile, int group)
{
#pragma unroll
    for (int f = 0; f < FRAGMENTS; f++) {
        if (f * FRAGMENT_ROWS >= tile.rows)
            break;
        uint4 x[GROUP_CHUNKS];
#pragma unroll
        for (int i = 0; i < GROUP_CHUNKS; i++) {
            int chunk = group * GROUP_CHUNKS + i;
            x[i] = make_uint4(0, 0, 0, 0);
            if (tile.x[f] && chunk < tile.chunks)
                x[i] = *(const uint4 *)(tile.x[f] + (size_t)chunk * CHUNK_BYTES);
        }
#pragma unroll
        for (int i = 0; i < GROUP_CHUNKS; i++)
            sums.add(f, w.of[0][i], w.of[1][i], x[i], tile.rows);
    }
}

/* Of the warps' sums of an output and a row. */
template <int WARPS, int ROWS>
__device__ __forceinline__ float add_warps(const float (*sums)[TILE_OUTPUTS][ROWS], int output,
                                           int row)
{
    float sum = 0;
#pragma unroll
    for (int w = 0; w < WARPS; w++)
        sum += sums[w][output][row];
    return sum;
}

/* The rest of a block's first tile on its way to L2, while the kernels before are at work; of each
 * output so many chunks at most. */
template <int WARPS, int FRAGMENTS>
__device__ __forceinline__ void prefetch_weights(const stream_tile<FRAGMENTS> &tile, int most,
                                                 int warp, int lane)
{
    most = min(tile.chunks, most);
    for (int chunk = WARPS * GROUP_CHUNKS + warp; chunk < most; chunk += WARPS)
#pragma unroll
        for (int upper = 0; upper < 2; upper++)
            if (lane % 2 == 0) // two pieces are a sector
                prefetch_l2(tile.w[upper] + (size_t)chunk * CHUNK_BYTES);
}

/* What so many blocks may prefetch of each output of their first tiles, `bytes` in all. */
static inline int chunks_ahead(int bytes, int blocks)
{
    return blocks ? bytes / (TILE_OUTPUTS * CHUNK_BYTES) / blocks : 0;
}

/* All tiles of a call, by blocks of WARPS warps, as many as there are. The call's
 * find(number, lane) gives tile after tile, to whole warps; is_known(number) says whether that
 * takes nothing that an earlier kernel writes, ahead() what to prefetch then; finish(tile, sums)
 * gets sums [WARPS][16][rows], and all threads. */
template <class T, int FRAGMENTS, int WARPS, class Call>
__device__ __forceinline__ void stream(const Call &call)
{
    __shared__ float sums[WARPS][TILE_OUTPUTS][FRAGMENTS * FRAGMENT_ROWS];
    const int lane = (int)threadIdx.x % WARP_SIZE, warp = (int)threadIdx.x / WARP_SIZE;
    int number = (int)blockIdx.x;
    const bool known = call.is_known(number);
    let_next_begin();
    if (!known)
        wait_for_previous();
    stream_tile<FRAGMENTS> tile = call.find(number, lane);
    stream_weights ahead;
    load_weights(ahead, tile, warp);
    if (known) {
        prefetch_weights<WARPS>(tile, call.ahead(), warp, lane);
        wait_for_previous();
    }
    while (tile.rows > 0) {
        number += (int)gridDim.x;
        stream_tile<FRAGMENTS> next = call.find(number, lane);
        stream_sums<T, FRAGMENTS> own;
        own.clear();
        int group = warp;
        do {
            stream_weights here = ahead;
            bool more = (group + WARPS) * GROUP_CHUNKS < tile.chunks;
            if (more)
                load_weights(ahead, tile, group + WARPS);
            else
                load_weights(ahead, next, warp);
            multiply_group<T>(own, here, tile, group);
            group += WARPS;
        } while (group * GROUP_CHUNKS < tile.chunks);
        own.put(sums[warp], lane);
        __syncthreads();
        call.finish(tile, sums);
        __syncthreads();
        tile = next;
    }
}

/* Tile of outputs [output, output + 16) of w [n][row_bytes], of which the lane reads two; beyond
 * the last output it reads that one. */
template <int FRAGMENTS>
__device__ __forceinline__ void stream_outputs(stream_tile<FRAGMENTS> &tile, const void *w,
                                               int row_bytes, int n, int output, int lane)
{
    tile.output = output;
    tile.chunks = row_bytes / CHUNK_BYTES;
#pragma unroll
    for (int upper = 0; upper < 2; upper++) {
        int o = output + upper * 8 + lane / 4;
        tile.w[upper] = (const char *)w + (size_t)(o < n ? o : n - 1) * (size_t)row_bytes +
                        lane % 4 * PIECE_BYTES;
    }
}

/* Its rows: `rows` of x [][row_bytes] from x_first on, through source unless that is NULL; their
 * results' rows begin at `first`. */
template <int FRAGMENTS>
__device__ __forceinline__ void stream_rows(stream_tile<FRAGMENTS> &tile, const void *x,
                                            int row_bytes, const int32_t *source, int x_first,
                                            int first, int rows, int lane)
{
    tile.first = first;
    tile.rows = rows;
#pragma unroll
    for (int f = 0; f < FRAGMENTS; f++) {
        int r = f * FRAGMENT_ROWS + lane / 4;
        tile.x[f] = NULL;
        if (r < rows)
            tile.x[f] = (const char *)x +
                        (size_t)(source ? source[x_first + r] : x_first + r) * (size_t)row_bytes +
                        lane % 4 * PIECE_BYTES;
    }
}
