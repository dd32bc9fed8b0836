/* Dense products with quantised weights, of any number of rows: the rows are quantised, then
 * multiplied in strips (quant.cuh). */
#include "base/check.h"
#include "kernels/cuda/dense.cuh"
#include "kernels/cuda/number.cuh"
#include "kernels/cuda/product.cuh"
#include "kernels/cuda/quant.cuh"

/* Rows x [rows][groups * 32] to `to` [rows][groups], a group by a warp. */
template <class T>
__global__ void __launch_bounds__(QUANTISE_THREADS)
    quantise_rows(quant_inputs *to, const T *x, size_t groups)
{
    int lane = (int)threadIdx.x % WARP_SIZE;
    size_t group = ((size_t)blockIdx.x * QUANTISE_THREADS + threadIdx.x) / WARP_SIZE;
    let_next_begin();
    wait_for_previous();
    if (group < groups)
        quantise_group(to + group, to_float(x[group * QUANT_GROUP + (size_t)lane]), lane);
}

struct quant_dense_call {
    const char *w;
    const quant_inputs *x;
    dense_output to;
    int groups, rows;
};

/* Tiles of the same outputs follow each other, so that their weights are read from L2 but once. */
template <enum quant Q, int FRAGMENTS> struct quant_dense_tiles {
    quant_dense_call c;
    static constexpr int STRIP = FRAGMENTS * FRAGMENT_ROWS;

    __device__ __forceinline__ bool is_known(int number) const
    {
        (void)number;
        return true;
    }

    __device__ __forceinline__ quant_tile<FRAGMENTS> find(int number, int lane) const
    {
        int strips = (c.rows - 1) / STRIP + 1, first = number % strips * STRIP;
        int output = number / strips * TILE_OUTPUTS;
        quant_tile<FRAGMENTS> tile = {};
        if (output >= c.to.n)
            return tile;
        tile.groups = c.groups;
        quant_outputs<Q>(tile, c.w, c.to.n, output, lane);
        quant_rows(tile, c.x, first, first, min(c.rows - first, STRIP), lane);
        return tile;
    }

    __device__ __forceinline__ void finish(const quant_tile<FRAGMENTS> &tile,
                                           const float (&sums)[1][TILE_OUTPUTS][STRIP]) const
    {
        finish_dense<STREAM_WARPS * WARP_SIZE>(c.to, tile, sums);
    }
};

template <enum quant Q, int FRAGMENTS>
__global__ void __launch_bounds__(STREAM_WARPS *WARP_SIZE, QUANT_BLOCKS)
    quant_dense(quant_dense_call call)
{
    quant_stream<Q, FRAGMENTS>(quant_dense_tiles<Q, FRAGMENTS>{call});
}

template <enum quant Q, int FRAGMENTS>
static void launch_dense(struct dev *d, const quant_dense_call &call)
{
    size_t strips = (size_t)(call.rows - 1) / (FRAGMENTS * FRAGMENT_ROWS) + 1;
    size_t tiles = strips * (size_t)((call.to.n - 1) / TILE_OUTPUTS + 1);
    size_t most = (size_t)(d->cuda->multiprocessors * QUANT_BLOCKS);
    CHECK(tiles + most < INT32_MAX, "%zu tiles", tiles);
    LAUNCH_EARLY(d, (quant_dense<Q, FRAGMENTS>), (unsigned)(tiles < most ? tiles : most),
                 STREAM_WARPS * WARP_SIZE, 0, call);
}

template <enum quant Q> static void multiply(struct dev *d, const quant_dense_call &call)
{
    if (call.rows <= FEW_ROWS)
        launch_dense<Q, 1>(d, call);
    else
        launch_dense<Q, 4>(d, call);
}

void quant_product(struct dev *d, float *y, int ldy, const void *x, const struct matrix *w, int n,
                   bool add)
{
    quant_inputs *rows = (quant_inputs *)d->scratch;
    size_t groups = (size_t)n * (size_t)quant_groups(w->k);
    CHECK(quant_rows_bytes((size_t)n, w->k) <= d->scratch_bytes, "%d rows in %zu bytes of scratch",
          n, d->scratch_bytes);
    FOR_TYPE(w->type, T,
             LAUNCH_EARLY(d, quantise_rows<T>,
                          (unsigned)blocks_for(groups * WARP_SIZE, QUANTISE_THREADS),
                          QUANTISE_THREADS, 0, rows, (const T *)x, groups));
    quant_dense_call call = {
        (const char *)w->data, rows, {w->bias, y, w->n, ldy, add}, quant_groups(w->k), n};
    if (w->quant == QUANT_Q8)
        multiply<QUANT_Q8>(d, call);
    else
        multiply<QUANT_Q4>(d, call);
}

size_t cuda_quant_scratch_bytes(const struct dev_limits *l)
{
    int heads = l->n_heads * l->head_dim, k = l->dim > heads ? l->dim : heads;
    int rows = l->rows > l->piece_rows ? l->rows : l->piece_rows;
    return quant_rows_bytes((size_t)(rows > l->logit_rows ? rows : l->logit_rows), k);
}
