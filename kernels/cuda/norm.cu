/* The residual stream: adding a layer's outputs to it, and the norm that the next layer reads. A
 * block of threads does a whole row, so one launch does both. As much of a row as fits stays in
 * registers. Which columns a thread has depends on the width alone, so rmsnorm and add_norm give
 * the same bits. */
#include <math.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/sums.cuh"

enum { NORM_THREADS = 512, PIECE = 4 };

struct norm_call {
    const float *x;
    float *sum;              // x plus what is added to it is written here; NULL: nothing is added
    void *h;                 // NULL: no norm
    const float *norm;       // [dim]
    const float *pieces;     // see struct pending_residual
    const int32_t *piece_at; //
    const float *gate;       //
    int n_pieces, ld_pieces; //
    int ld_gate, n;          // n: rows
    struct sum_call experts; // k 0: none
    int dim, stride;         // width and stride of h's rows
    float eps;
};

static bool aligned(const void *at)
{
    return (uintptr_t)at % sizeof(float4) == 0;
}

/* Load min(left, PIECE) columns of a row. WIDE: PIECE of them, aligned, by one load. */
template <bool WIDE>
__device__ __forceinline__ floats<PIECE> load_piece(const float *from, int left)
{
    floats<PIECE> x = {};
    if constexpr (WIDE)
        x = *(const floats<PIECE> *)from;
    else
#pragma unroll
        for (int j = 0; j < PIECE; j++)
            x.v[j] = j < left ? from[j] : 0;
    return x;
}

template <bool WIDE>
__device__ __forceinline__ void store_piece(float *to, const floats<PIECE> &x, int left)
{
    if constexpr (WIDE)
        *(floats<PIECE> *)to = x;
    else
#pragma unroll
        for (int j = 0; j < PIECE; j++)
            if (j < left)
                to[j] = x.v[j];
}

/* Columns from i on of what one piece of a dense block has made of a row. */
template <bool WIDE>
__device__ __forceinline__ floats<PIECE> load_part(const norm_call &c, int p, int row, int i)
{
    size_t at = (size_t)c.piece_at[p] * (size_t)c.n + (size_t)row;
    return load_piece<WIDE>(c.pieces + at * (size_t)c.ld_pieces + i, c.dim - i);
}

template <class T, bool WIDE>
__device__ __forceinline__ floats<PIECE> add_up(const norm_call &c, float gate, int row, int i)
{
    floats<PIECE> x = load_piece<WIDE>(c.x + (size_t)row * c.dim + i, c.dim - i);
    if (c.n_pieces) {
        floats<PIECE> y = load_part<WIDE>(c, 0, row, i);
        for (int p = 1; p < c.n_pieces; p++) {
            floats<PIECE> more = load_part<WIDE>(c, p, row, i);
#pragma unroll
            for (int j = 0; j < PIECE; j++)
                y.v[j] += more.v[j];
        }
#pragma unroll
        for (int j = 0; j < PIECE; j++)
            x.v[j] = fmaf(gate, y.v[j], x.v[j]);
    }
    add_places<T>(x, c.experts, row, i);
    return x;
}

/* A piece of h := x * scale * norm, zero beyond the row. */
template <class T>
__device__ __forceinline__ void put_scaled(T *h, const floats<PIECE> &x, float scale,
                                           const floats<PIECE> &norm, int left)
{
    numbers<T, PIECE> y;
#pragma unroll
    for (int j = 0; j < PIECE; j++)
        set(&y.v[j], j < left ? x.v[j] * scale * norm.v[j] : 0);
    *(numbers<T, PIECE> *)h = y;
}

template <class T, bool WIDE>
static __global__ void __launch_bounds__(NORM_THREADS, 2) add_norm(const norm_call c)
{
    int row = (int)blockIdx.x, first = (int)threadIdx.x * PIECE, step = (int)blockDim.x * PIECE;
    floats<PIECE> kept = {}, norm = {};
    let_next_begin();
    if (c.h && first < c.dim)
        norm = load_piece<WIDE>(c.norm + first, c.dim - first);
    wait_for_previous();
    float gate = c.gate ? 1 / (1 + expf(-c.gate[(size_t)row * c.ld_gate])) : 1, squares = 0;
    for (int i = first; i < c.dim; i += step) {
        floats<PIECE> x = add_up<T, WIDE>(c, gate, row, i);
        if (c.sum)
            store_piece<WIDE>(c.sum + (size_t)row * c.dim + i, x, c.dim - i);
#pragma unroll
        for (int j = 0; j < PIECE; j++)
            squares = i + j < c.dim ? fmaf(x.v[j], x.v[j], squares) : squares;
        if (i == first)
            kept = x;
    }
    if (!c.h)
        return;
    float scale = 1 / sqrtf(block_sum(squares) / (float)c.dim + c.eps);
    const float *x = (c.sum ? c.sum : c.x) + (size_t)row * c.dim;
    T *h = (T *)c.h + (size_t)row * c.stride;
    for (int i = first; i < c.stride; i += step) {
        if (i > first && i < c.dim) { // columns that did not fit in registers
            kept = load_piece<WIDE>(x + i, c.dim - i);
            norm = load_piece<WIDE>(c.norm + i, c.dim - i);
        }
        put_scaled(h + i, kept, scale, norm, c.dim - i);
    }
}

template <class T> static void launch_norm(struct dev *d, const norm_call &c, int n)
{
    bool wide = c.dim % PIECE == 0 && c.ld_pieces % PIECE == 0 && aligned(c.x) && aligned(c.norm) &&
                aligned(c.pieces);
    int threads = (c.dim + PIECE * WARP_LANES - 1) / (PIECE * WARP_LANES) * WARP_LANES;
    threads = threads < NORM_THREADS ? threads : (int)NORM_THREADS;
    if (wide)
        LAUNCH_EARLY(d, (add_norm<T, true>), n, threads, 0, c);
    else
        LAUNCH_EARLY(d, (add_norm<T, false>), n, threads, 0, c);
}

void cuda_rmsnorm(struct dev *d, void *h, enum dtype type, const float *x, const float *weight,
                  int n, int dim, float eps)
{
    norm_call c = {};
    c.x = x;
    c.h = h;
    c.norm = weight;
    c.dim = dim;
    c.stride = row_stride(dim);
    c.eps = eps;
    if (cuda_works(d) && n)
        FOR_TYPE(type, T, launch_norm<T>(d, c, n));
}

void cuda_add_norm(struct dev *d, float *x, void *h, enum dtype type,
                   const struct pending_residual *a, const float *norm, int n, int dim, float eps)
{
    bool adds = a->n_pieces || a->k;
    norm_call c = {x,
                   adds ? x : NULL,
                   norm ? h : NULL,
                   norm,
                   a->pieces,
                   a->piece_at,
                   a->gate,
                   a->n_pieces,
                   a->ld_pieces,
                   a->ld_gate,
                   n,
                   {a->y, a->slot, a->weight, a->k, dim, row_stride(dim)},
                   dim,
                   row_stride(dim),
                   eps};
    if (cuda_works(d) && n && (adds || norm))
        FOR_TYPE(type, T, launch_norm<T>(d, c, n));
}
