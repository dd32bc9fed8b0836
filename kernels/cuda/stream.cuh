/* Products with few rows. Their time is the time to read the weights, so every weight is read once,
 * from memory straight to the registers of a tensor-core tile, without shared memory.
 *
 * A tile of work is 16 outputs for a strip of rows. Its k is divided into chunks of 64 bytes, which
 * the block's warps take two at a time, in turn. At the end the warps' sums are added in order, so
 * a row's result depends neither on the number of rows nor on the grid. While a warp multiplies two
 * chunks, its reads of the next two are under way; at the end of a tile these are the first two of
 * the next tile, so a block never stops reading. A block starts reading its first tile while the
 * kernels before are still running (launch.cuh).
 *
 * Lane 4 g + t holds bytes [16 t, 16 t + 16) of a chunk of row g, so that all loads are of 16
 * bytes. The tensor core's fragments have another order of k (tile.cuh). That does no harm: weights
 * and rows are in the same order, so each weight is multiplied by its own input. */
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

/* How many blocks of STREAM_WARPS warps a multiprocessor has registers for. */
template <class T, int FRAGMENTS> constexpr int stream_blocks()
{
    return FRAGMENTS == 1 && sizeof(T) == 2 ? 3 : 2;
}

/* A tile of work, and where one lane reads its pieces of it. */
template <int FRAGMENTS> struct stream_tile {
    const char *w[2]; // the lane's pieces of chunk 0 of two outputs
    const char
        *x[FRAGMENTS]; // the lane's pieces of chunk 0 of its rows; NULL: there is no such row
    int chunks;
    int rows;               // 0: there is no such tile
    int first, output, job; // the tile's first row and first output, and the job it belongs to
};

struct stream_weights {
    uint4 of[2][GROUP_CHUNKS];
};

/* Load the lane's weights of a group of chunks; zeros beyond the last chunk. */
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

/* A warp's sums of 16 outputs and, for each fragment, 8 rows. This is for 16-bit types, by tensor
 * cores. */
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

/* The same for f32, without tensor cores: each lane sums its pieces of two outputs for all 8 rows
 * of a fragment, and gets the rows' inputs from the lanes that loaded them, by shuffles. */
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

/* The sum of the warps' sums of one output and one row. */
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

/* While the kernels before are still running, prefetch to L2 what the warps have not yet loaded of
 * the block's first tile, up to chunk `most` of each output. */
template <int WARPS, int FRAGMENTS>
__device__ __forceinline__ void prefetch_weights(const stream_tile<FRAGMENTS> &tile, int most,
                                                 int warp, int lane)
{
    most = min(tile.chunks, most);
    for (int chunk = WARPS * GROUP_CHUNKS + warp; chunk < most; chunk += WARPS)
#pragma unroll
        for (int upper = 0; upper < 2; upper++)
            if (lane % 2 == 0) // a prefetch brings 32 bytes, the pieces of two lanes
                prefetch_l2(tile.w[upper] + (size_t)chunk * CHUNK_BYTES);
}

/* How many chunks of each output a block may prefetch, if all blocks together may prefetch `bytes`.
 */
static inline int chunks_ahead(int bytes, int blocks)
{
    return blocks ? bytes / (TILE_OUTPUTS * CHUNK_BYTES) / blocks : 0;
}

/* Do all tiles of a call, with a grid of any size, in blocks of WARPS warps. The call has:
 *   find(number, lane)   the tile of this number; called by whole warps
 *   is_known(number)     whether find() reads nothing that an earlier kernel writes
 *   ahead()              how many chunks to prefetch of a tile that is known
 *   finish(tile, sums)   writes the results; called by all threads, sums [WARPS][16][rows] */
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

/* Make `tile` one of outputs [output, output + 16) of w [n][row_bytes]. The lane reads two of them;
 * instead of an output beyond the last, it reads the last. */
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

/* Give `tile` its rows: `rows` rows of x [][row_bytes], by their numbers source[x_first], …, or
 * x_first, … if source is NULL. Their results are rows first, … of y. */
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
