/* Embedding, gathering rows and summing them. Memory bandwidth alone limits these, so each thread
 * moves 16 bytes at a time if width and address allow it. */
#include <math.h>
#include <string.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/sums.cuh"

enum { ROW_THREADS = 128 };

static unsigned blocks_for(int items, int threads)
{
    return (unsigned)((items + threads - 1) / threads);
}

static bool aligned(const void *at, size_t bytes)
{
    return (uintptr_t)at % bytes == 0;
}

/* ---- embed ---- */

struct embed_call {
    float *x;
    const char *table;
    const int32_t *tokens;
    enum dtype from, as;
    int dim;
    bool aligned; // the table is aligned to its elements
};

static __global__ void __launch_bounds__(ROW_THREADS) embed(const embed_call c)
{
    int row = (int)blockIdx.x, i = (int)(blockIdx.y * ROW_THREADS + threadIdx.x);
    if (i >= c.dim)
        return;
    size_t at = (size_t)c.tokens[row] * c.dim + i;
    float x;
    if (!c.aligned)
        x = dtype_load(c.from, c.table, at);
    else if (c.from == DTYPE_F32)
        x = ((const float *)c.table)[at];
    else {
        uint16_t bits = ((const uint16_t *)c.table)[at];
        x = c.from == DTYPE_BF16 ? bf16_to_float(bits) : f16_to_float(bits);
    }
    c.x[(size_t)row * c.dim + i] = dtype_round(c.as, x);
}

void cuda_embed(struct dev *d, float *x, const void *table, enum dtype from, enum dtype as,
                const int32_t *tokens, int n, int dim)
{
    bool whole = aligned(table, (size_t)dtype_bytes(from));
    embed_call c = {x, (const char *)table, tokens, from, as, dim, whole};
    dim3 grid((unsigned)n, blocks_for(dim, ROW_THREADS));
    if (cuda_works(d) && n)
        LAUNCH(d, embed, grid, ROW_THREADS, 0, c);
}

/* ---- gather ---- */

template <class Unit>
static __global__ void __launch_bounds__(ROW_THREADS)
    gather(Unit *to, const Unit *from, const int32_t *index, int units)
{
    size_t row = blockIdx.x, source = (size_t)index[row];
    int i = (int)(blockIdx.y * ROW_THREADS + threadIdx.x);
    if (i < units)
        to[row * units + i] = from[source * units + i];
}

template <class Unit>
static void launch_gather(struct dev *d, void *to, const void *from, const int32_t *index, int n,
                          size_t bytes)
{
    int units = (int)(bytes / sizeof(Unit));
    dim3 grid((unsigned)n, blocks_for(units, ROW_THREADS));
    LAUNCH(d, gather<Unit>, grid, ROW_THREADS, 0, (Unit *)to, (const Unit *)from, index, units);
}

void cuda_gather(struct dev *d, void *to, const void *from, const int32_t *index, int n,
                 size_t bytes)
{
    uintptr_t all = (uintptr_t)to | (uintptr_t)from | bytes;
    if (!cuda_works(d) || n == 0 || bytes == 0)
        return;
    if (all % sizeof(uint4) == 0)
        launch_gather<uint4>(d, to, from, index, n, bytes);
    else if (all % sizeof(uint32_t) == 0)
        launch_gather<uint32_t>(d, to, from, index, n, bytes);
    else
        launch_gather<uint8_t>(d, to, from, index, n, bytes);
}

/* ---- sum_rows ---- */

template <class T>
static __global__ void __launch_bounds__(ROW_THREADS) sum_rows(T *out, const sum_call c)
{
    constexpr int N = vec<T>::N;
    int row = (int)blockIdx.x, column = (int)(blockIdx.y * ROW_THREADS + threadIdx.x) * N;
    if (column >= c.stride)
        return;
    floats<N> sum = {};
    add_places<T>(sum, c, row, column);
    vec<T> rounded;
#pragma unroll
    for (int i = 0; i < N; i++)
        set(&rounded.v[i], column + i < c.dim ? sum.v[i] : 0);
    store16(out + (size_t)row * c.stride + column, rounded);
}

/* The grid in which each thread has 16 bytes of a row. */
static dim3 sum_grid(int n, enum dtype type, int dim)
{
    int pieces = row_stride(dim) * dtype_bytes(type) / 16;
    return dim3((unsigned)n, blocks_for(pieces, ROW_THREADS));
}

void cuda_sum_rows(struct dev *d, void *out, const void *y, enum dtype type, const int32_t *slot,
                   const float *weight, int n, int k, int dim)
{
    sum_call c = {y, slot, weight, k, dim, row_stride(dim)};
    if (cuda_works(d) && n)
        FOR_TYPE(type, T,
                 LAUNCH(d, sum_rows<T>, sum_grid(n, type, dim), ROW_THREADS, 0, (T *)out, c));
}
