/* Ffns with quantised weights, of any number of rows: the rows that a job reads are quantised, then
 * gate and up make hidden rows of the model's type, these are quantised, and then multiplied by
 * down. Each of the four is one launch for all jobs of a call. */
#include "kernels/cuda/quant_ffn.cuh"

#include "base/check.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/number.cuh"
#include "kernels/cuda/product.cuh"
#include "kernels/cuda/quant.cuh"

/* The rows that a part reads, or, if made, its hidden rows; by a whole warp. */
__device__ __forceinline__ int rows_of(const ffn_part &p, bool made, int lane)
{
    int rows = 0;
    if (!p.count)
        return made ? p.n * p.n_blocks : p.n;
    for (int base = 0; base < p.n_blocks; base += WARP_SIZE)
        rows += __reduce_add_sync(0xffffffffu, base + lane < p.n_blocks ? p.count[base + lane] : 0);
    return rows;
}

/* A group of a row by a warp; blockIdx.y is the part. */
template <class T, bool MADE>
__global__ void __launch_bounds__(QUANTISE_THREADS)
    quantise_blocks(const __grid_constant__ ffn_call call)
{
    const ffn_part &p = call.parts[blockIdx.y];
    int stride = MADE ? p.width_stride : p.dim_stride, lane = (int)threadIdx.x % WARP_SIZE;
    size_t number = ((size_t)blockIdx.x * QUANTISE_THREADS + threadIdx.x) / WARP_SIZE;
    size_t groups = (size_t)(stride / QUANT_GROUP), row = number / groups;
    let_next_begin();
    wait_for_previous();
    if (row >= (size_t)rows_of(p, MADE, lane))
        return;
    size_t from = !MADE && p.source ? (size_t)p.source[row] : row;
    const T *x = (const T *)(MADE ? p.hidden : p.x) + from * (size_t)stride;
    quantise_group((MADE ? p.made : p.read) + number,
                   to_float(x[number % groups * QUANT_GROUP + (size_t)lane]), lane);
}

/* In memory the panels of gate and up take turns; in a tile its 8 gates and ups do. */
template <enum quant Q> struct quant_gate_up : gate_up_sums {
    template <int FRAGMENTS> using tile_type = quant_tile<FRAGMENTS>;
    static constexpr enum quant QUANT = Q;

    template <class T, int FRAGMENTS>
    static __device__ __forceinline__ void fill(quant_tile<FRAGMENTS> &tile, const ffn_part &p,
                                                const strip &s, int output, int lane)
    {
        int value = output / 2, panel = value / TILE_OUTPUTS * 2;
        tile.output = output;
        tile.groups = p.dim_stride / QUANT_GROUP;
#pragma unroll
        for (int up = 0; up < 2; up++)
            quant_output<Q>(tile, up, p.blocks[s.block].gate_up, panel + up,
                            value % TILE_OUTPUTS + lane / 4, lane);
        quant_rows(tile, p.read, s.x_first, s.first, s.rows, lane);
    }
};

template <enum quant Q> struct quant_down : down_sums {
    template <int FRAGMENTS> using tile_type = quant_tile<FRAGMENTS>;
    static constexpr enum quant QUANT = Q;

    template <class T, int FRAGMENTS>
    static __device__ __forceinline__ void fill(quant_tile<FRAGMENTS> &tile, const ffn_part &p,
                                                const strip &s, int output, int lane)
    {
        tile.groups = p.width_stride / QUANT_GROUP;
        quant_outputs<Q>(tile, p.blocks[s.block].down, p.dim, output, lane);
        quant_rows(tile, p.made, s.first, s.first, s.rows, lane);
    }
};

template <class T, int FRAGMENTS, class Side>
__global__ void __launch_bounds__(STREAM_WARPS *WARP_SIZE, QUANT_BLOCKS)
    quant_ffn(const __grid_constant__ ffn_call call)
{
    quant_stream<Side::QUANT, FRAGMENTS>(ffn_tiles<T, FRAGMENTS, Side>{call});
}

template <class T, bool MADE> static void quantise(struct dev *d, const ffn_call &call)
{
    size_t most = 0;
    for (int i = 0; i < call.n_parts; i++) {
        const ffn_part &p = call.parts[i];
        size_t rows = (size_t)p.n * (size_t)(MADE && !p.count ? p.n_blocks : 1);
        size_t groups = rows * (size_t)((MADE ? p.width_stride : p.dim_stride) / QUANT_GROUP);
        most = groups > most ? groups : most;
    }
    dim3 grid((unsigned)blocks_for(most * WARP_SIZE, QUANTISE_THREADS), (unsigned)call.n_parts);
    LAUNCH_EARLY(d, (quantise_blocks<T, MADE>), grid, QUANTISE_THREADS, 0, call);
}

template <class T, int FRAGMENTS, class Side>
static void launch_side(struct dev *d, const ffn_call &call)
{
    size_t tiles = most_tiles<FRAGMENTS, Side>(call);
    size_t most = (size_t)(d->cuda->multiprocessors * QUANT_BLOCKS);
    CHECK(tiles + most < INT32_MAX, "%zu tiles", tiles);
    LAUNCH_EARLY(d, (quant_ffn<T, FRAGMENTS, Side>), (unsigned)(tiles < most ? tiles : most),
                 STREAM_WARPS * WARP_SIZE, 0, call);
}

template <class T, int FRAGMENTS, enum quant Q>
static void launch_sides(struct dev *d, const ffn_call &call)
{
    quantise<T, false>(d, call);
    launch_side<T, FRAGMENTS, quant_gate_up<Q>>(d, call);
    quantise<T, true>(d, call);
    launch_side<T, FRAGMENTS, quant_down<Q>>(d, call);
}

/* Whether some block has more rows than one fragment takes, as far as the host knows. */
static bool has_many_rows(const ffn_call &call)
{
    bool many = false;
    for (int i = 0; i < call.n_parts; i++) {
        const ffn_part &p = call.parts[i];
        many = many || (p.count ? p.n / p.n_blocks : p.n) > FEW_ROWS;
    }
    return many;
}

template <class T, enum quant Q> static void launch_call(struct dev *d, const ffn_call &call)
{
    if (has_many_rows(call))
        launch_sides<T, 4, Q>(d, call);
    else
        launch_sides<T, 1, Q>(d, call);
}

void quant_ffn_call(struct dev *d, const ffn_call &call, enum dtype type, enum quant quant)
{
    if (quant == QUANT_Q8)
        FOR_TYPE(type, T, launch_call<T, QUANT_Q8>(d, call));
    else
        FOR_TYPE(type, T, launch_call<T, QUANT_Q4>(d, call));
}

/* ---- scratch ---- */

static size_t read_bytes(const struct ffn_job *job)
{
    return quant_rows_bytes((size_t)job->n, ffn_shape(job)->gate_up.k);
}

size_t quant_job_bytes(const struct ffn_job *job)
{
    const struct matrix *down = &ffn_shape(job)->down;
    if (!down->quant)
        return 0;
    size_t bytes = read_bytes(job) + quant_rows_bytes((size_t)ffn_rows(job), down->k);
    return (bytes + QUANT_ALIGN - 1) / QUANT_ALIGN * QUANT_ALIGN;
}

void quant_part_open(ffn_part *p, const struct ffn_job *job)
{
    if (!ffn_shape(job)->down.quant)
        return;
    char *read = (char *)p->hidden + ffn_hidden_bytes(job);
    p->read = (quant_inputs *)read;
    p->made = (quant_inputs *)(read + read_bytes(job));
}

size_t quant_experts_bytes(const struct dev_limits *l)
{
    size_t rows = (size_t)l->rows;
    return quant_rows_bytes(rows, l->dim) + quant_rows_bytes(rows, l->ffn_width) + QUANT_ALIGN;
}

size_t quant_pieces_bytes(const struct dev_limits *l)
{
    size_t rows = (size_t)l->piece_rows, pieces = (size_t)l->pieces;
    return quant_rows_bytes(rows, l->dim) + quant_rows_bytes(rows * pieces, l->piece_width) +
           QUANT_ALIGN;
}
