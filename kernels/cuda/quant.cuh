/* Products with quantised weights (base/quant.h): the layout, the arithmetic and so the bits of
 * kernels/cpu/quant.h. Rows are quantised first, by a kernel of their own (quant.cu).
 *
 * A tile of work is 16 outputs for a strip of rows. A block of 32 inputs of 16 outputs is just one
 * operand of the tensor cores' integer tile, so one instruction makes the exact sums of a group for
 * 16 outputs and 8 rows. The block's warps take groups in turn, some neighbours each, and put what
 * these add to the sums, the groups' parts, into shared memory. Then one thread for each sum adds
 * its parts in the order of the groups. So all warps read at the same time, and still a sum is
 * added up as on the CPU, whatever the number of rows and the grid. While a warp multiplies, its
 * reads of the next groups, or of the next tile's first ones, are under way. */
#pragma once

#include "base/quant.h"
#include "kernels/cuda/integer_tile.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/stream.cuh"

enum { QUANTISE_THREADS = 256 }; // of a block that quantises rows, a group by a warp

/* 32 inputs of a row; a row of `groups` of them follows another. */
struct quant_inputs {
    float scale;
    int8_t q[QUANT_GROUP];
};

/* A packed block: the words of four inputs for 16 outputs, then those of the next four; q4 has the
 * words of inputs 0 to 15 in the low halves of its bytes, and of 16 to 31 in the high ones. Then 16
 * scales. */
enum { WORDS_BYTES = TILE_OUTPUTS * 4, HALF_BYTES = 4 * WORDS_BYTES };

template <enum quant Q> struct quant_block {
    static constexpr int HALVES =
        Q == QUANT_Q8 ? 2 : 1; // of the inputs, each with words of its own
    static constexpr int INTEGERS = HALVES * HALF_BYTES;
    static constexpr int BYTES = INTEGERS + TILE_OUTPUTS * (int)sizeof(f16);
};

/* How many neighbouring groups a warp takes at a time: the parts take as much shared memory with
 * any number of fragments. */
template <int FRAGMENTS> __host__ __device__ constexpr int quant_unit()
{
    return 4 / FRAGMENTS;
}

static inline int quant_groups(int k)
{
    return row_stride(k) / QUANT_GROUP;
}

static inline size_t quant_rows_bytes(size_t rows, int k)
{
    return rows * (size_t)quant_groups(k) * sizeof(quant_inputs);
}

/* A tile of work, and where one lane, 4 g + t, reads its pieces of block 0. Its outputs are 2 g and
 * 2 g + 1 of the tile. */
template <int FRAGMENTS> struct quant_tile {
    const char *w[2], *scale[2];      // word t of two outputs, and their scales
    const quant_inputs *x[FRAGMENTS]; // row g of each fragment; NULL: there is no such row
    int groups, rows;                 // rows 0: there is no such tile
    int first, output, job;           // as in stream_tile
};

/* The tile's output 2 g + which is output o of this panel of w. tile.groups is set before. */
template <enum quant Q, int FRAGMENTS>
__device__ __forceinline__ void quant_output(quant_tile<FRAGMENTS> &tile, int which, const void *w,
                                             int panel, int o, int lane)
{
    using block = quant_block<Q>;
    const char *at = (const char *)w + (size_t)panel * (size_t)tile.groups * block::BYTES;
    tile.w[which] = at + lane % 4 * WORDS_BYTES + o * 4;
    tile.scale[which] = at + block::INTEGERS + o * (int)sizeof(f16);
}

/* Outputs [output, output + 16), a panel of w, which has n outputs; instead of a panel beyond the
 * last, the last. */
template <enum quant Q, int FRAGMENTS>
__device__ __forceinline__ void quant_outputs(quant_tile<FRAGMENTS> &tile, const void *w, int n,
                                              int output, int lane)
{
    int panel = min(output, n - 1) / TILE_OUTPUTS;
    tile.output = output;
    quant_output<Q>(tile, 0, w, panel, lane / 4 * 2, lane);
    quant_output<Q>(tile, 1, w, panel, lane / 4 * 2 + 1, lane);
}

/* The tile's rows: `rows` of x from x_first on; their results' rows begin at `first`. */
template <int FRAGMENTS>
__device__ __forceinline__ void quant_rows(quant_tile<FRAGMENTS> &tile, const quant_inputs *x,
                                           int x_first, int first, int rows, int lane)
{
    tile.first = first;
    tile.rows = rows;
#pragma unroll
    for (int f = 0; f < FRAGMENTS; f++) {
        int r = f * FRAGMENT_ROWS + lane / 4;
        tile.x[f] = r < rows ? x + (size_t)(x_first + r) * (size_t)tile.groups : NULL;
    }
}

/* A lane's weights of one block. */
template <enum quant Q> struct quant_weights {
    uint32_t words[2][quant_block<Q>::HALVES];
    uint16_t scale[2];
};

/* Weights that are read once do not stay in the caches; the strips of many rows read them again. */
template <int FRAGMENTS, class T> __device__ __forceinline__ T load_weight(const char *at)
{
    return FRAGMENTS == 1 ? __ldcs((const T *)at) : *(const T *)at;
}

/* Load the lane's weights of groups first, first + 1, …; zeros beyond the last group. */
template <enum quant Q, int FRAGMENTS, int UNIT>
__device__ __forceinline__ void load_unit(quant_weights<Q> (&to)[UNIT],
                                          const quant_tile<FRAGMENTS> &tile, int first)
{
    using block = quant_block<Q>;
#pragma unroll
    for (int u = 0; u < UNIT; u++) {
        size_t at = (size_t)(first + u) * block::BYTES;
        to[u] = {};
        if (first + u >= tile.groups)
            continue;
#pragma unroll
        for (int i = 0; i < 2; i++) {
#pragma unroll
            for (int half = 0; half < block::HALVES; half++)
                to[u].words[i][half] =
                    load_weight<FRAGMENTS, uint32_t>(tile.w[i] + at + half * HALF_BYTES);
            to[u].scale[i] = load_weight<FRAGMENTS, uint16_t>(tile.scale[i] + at);
        }
    }
}

/* Four integers from the low halves of a word's bytes, which hold 8 more than each. The highest bit
 * of a byte keeps the subtraction from borrowing of the next byte. */
__device__ __forceinline__ uint32_t integers_of(uint32_t word)
{
    return (((word & 0x0f0f0f0fu) | 0x80808080u) - 0x08080808u) ^ 0x80808080u;
}

__device__ __forceinline__ void operand_of(uint32_t (&a)[4], const quant_weights<QUANT_Q8> &w)
{
    a[0] = w.words[0][0];
    a[1] = w.words[1][0];
    a[2] = w.words[0][1];
    a[3] = w.words[1][1];
}

__device__ __forceinline__ void operand_of(uint32_t (&a)[4], const quant_weights<QUANT_Q4> &w)
{
    a[0] = integers_of(w.words[0][0]);
    a[1] = integers_of(w.words[1][0]);
    a[2] = integers_of(w.words[0][0] >> 4);
    a[3] = integers_of(w.words[1][0] >> 4);
}

/* The parts that one group adds to the sums of a fragment's 8 rows; by the whole warp. */
template <int FRAGMENTS>
__device__ __forceinline__ void put_parts(float (*parts)[FRAGMENTS * FRAGMENT_ROWS], int f,
                                          const uint32_t (&a)[4], const float (&scale)[2],
                                          const quant_inputs *x, int lane)
{
    uint32_t b[2] = {0, 0};
    float own = 0;
    int d[4] = {0, 0, 0, 0}, g = lane / 4, t = lane % 4;
    if (x) {
        const uint32_t *words = (const uint32_t *)x->q;
        b[0] = words[t];
        b[1] = words[t + 4];
        own = x->scale;
    }
    mma_16832(d, a, b);
#pragma unroll
    for (int i = 0; i < 2; i++) { // row 2 t + i of the fragment, whose scale lane 4 (2 t + i) has
        float of_row = __shfl_sync(0xffffffffu, own, 4 * (2 * t + i));
#pragma unroll
        for (int upper = 0; upper < 2; upper++)
            parts[2 * g + upper][f * FRAGMENT_ROWS + 2 * t + i] =
                __fmul_rn((float)d[2 * upper + i], __fmul_rn(scale[upper], of_row));
    }
}

/* The parts of groups first, first + 1, … to parts [UNIT][16][rows]. */
template <enum quant Q, int FRAGMENTS, int UNIT>
__device__ __forceinline__ void
multiply_unit(float (*parts)[TILE_OUTPUTS][FRAGMENTS * FRAGMENT_ROWS],
              const quant_weights<Q> (&w)[UNIT], const quant_tile<FRAGMENTS> &tile, int first,
              int lane)
{
#pragma unroll
    for (int u = 0; u < UNIT; u++) {
        if (first + u >= tile.groups)
            break;
        uint32_t a[4];
        float scale[2] = {__half2float(__ushort_as_half(w[u].scale[0])),
                          __half2float(__ushort_as_half(w[u].scale[1]))};
        operand_of(a, w[u]);
#pragma unroll
        for (int f = 0; f < FRAGMENTS; f++)
            if (f * FRAGMENT_ROWS < tile.rows)
                put_parts<FRAGMENTS>(parts[u], f, a, scale,
                                     tile.x[f] ? tile.x[f] + first + u : NULL, lane);
    }
}

/* Add the parts of the next n groups to the sums, in order; each sum by one thread. */
template <int ROWS>
__device__ __forceinline__ void add_parts(float (&sums)[TILE_OUTPUTS][ROWS],
                                          float (*parts)[TILE_OUTPUTS][ROWS], int n, bool first,
                                          int rows)
{
    for (int i = (int)threadIdx.x; i < TILE_OUTPUTS * ROWS; i += STREAM_WARPS * WARP_SIZE) {
        int o = i / ROWS, r = i % ROWS;
        if (r >= rows)
            continue;
        float sum = first ? 0 : sums[o][r];
        for (int j = 0; j < n; j++)
            sum = __fadd_rn(sum, parts[j][o][r]);
        sums[o][r] = sum;
    }
}

/* All sums of a tile. `ahead` has the weights of its first groups, and then of the next tile's. */
template <enum quant Q, int FRAGMENTS>
__device__ __forceinline__ void sum_tile(float (&sums)[TILE_OUTPUTS][FRAGMENTS * FRAGMENT_ROWS],
                                         float (*parts)[TILE_OUTPUTS][FRAGMENTS * FRAGMENT_ROWS],
                                         quant_weights<Q> (&ahead)[quant_unit<FRAGMENTS>()],
                                         const quant_tile<FRAGMENTS> &tile,
                                         const quant_tile<FRAGMENTS> &next, int lane)
{
    constexpr int UNIT = quant_unit<FRAGMENTS>(), SEGMENT = STREAM_WARPS * UNIT;
    const int own = (int)threadIdx.x / WARP_SIZE * UNIT; // the warp's groups in each segment
    for (int base = 0; base < tile.groups; base += SEGMENT) {
        quant_weights<Q> here[UNIT];
#pragma unroll
        for (int u = 0; u < UNIT; u++)
            here[u] = ahead[u];
        if (base + SEGMENT < tile.groups)
            load_unit<Q>(ahead, tile, base + SEGMENT + own);
        else
            load_unit<Q>(ahead, next, own);
        multiply_unit<Q>(parts + own, here, tile, base + own, lane);
        __syncthreads();
        add_parts(sums, parts, min(SEGMENT, tile.groups - base), base == 0, tile.rows);
        __syncthreads();
    }
}

/* Do all tiles of a call, with a grid of any size. The call is as in stream(), without ahead(). */
template <enum quant Q, int FRAGMENTS, class Call>
__device__ __forceinline__ void quant_stream(const Call &call)
{
    constexpr int UNIT = quant_unit<FRAGMENTS>(), ROWS = FRAGMENTS * FRAGMENT_ROWS;
    __shared__ float parts[STREAM_WARPS * UNIT][TILE_OUTPUTS][ROWS];
    __shared__ float sums[1][TILE_OUTPUTS]
                         [ROWS]; // finish() adds up those of each warp: here one for all
    const int lane = (int)threadIdx.x % WARP_SIZE, warp = (int)threadIdx.x / WARP_SIZE;
    int number = (int)blockIdx.x;
    const bool known = call.is_known(number);
    let_next_begin();
    if (!known)
        wait_for_previous();
    quant_tile<FRAGMENTS> tile = call.find(number, lane);
    quant_weights<Q> ahead[UNIT];
    load_unit<Q>(ahead, tile, warp * UNIT);
    if (known)
        wait_for_previous();
    while (tile.rows > 0) {
        number += (int)gridDim.x;
        quant_tile<FRAGMENTS> next = call.find(number, lane);
        sum_tile<Q>(sums[0], parts, ahead, tile, next, lane);
        call.finish(tile, sums); // the next tile's sums are written after a barrier
        tile = next;
    }
}

/* Blocks of threads that a multiprocessor has registers for. */
enum { QUANT_BLOCKS = 2 };

__device__ __forceinline__ int quant_nearest(float x)
{
    return __float_as_int(__fadd_rn(x, 0x1.8p23f)) - 0x4b400000;
}

/* The largest magnitude of the warp's numbers, as an integer. */
__device__ __forceinline__ uint32_t warp_largest(float x)
{
    return __reduce_max_sync(0xffffffffu, __float_as_uint(x) & 0x7fffffffu);
}

/* One group of a row, by a warp whose lanes have the inputs. */
__device__ __forceinline__ void quantise_group(quant_inputs *to, float x, int lane)
{
    uint32_t bits = warp_largest(x);
    float largest = __uint_as_float(bits);
    bool finite = bits < 0x7f800000u, some = finite && largest >= QUANT_TINY;
    float inverse = some ? __fdiv_rn(127, largest) : 0;
    to->q[lane] = (int8_t)(some ? quant_nearest(__fmul_rn(x, inverse)) : 0);
    if (lane == 0)
        to->scale = !finite ? __uint_as_float(0x7fc00000u) : some ? __fdiv_rn(largest, 127) : 0;
}

/* quant.cu: a dense product. */
void quant_product(struct dev *d, float *y, int ldy, const void *x, const struct matrix *w, int n,
                   bool add);
