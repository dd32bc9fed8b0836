/* What works row by row: embedding, norms, moving rows about and adding them up. Memory is all that
 * these cost, so each thread moves 16 bytes at a time where widths and addresses allow. */
#include <math.h>
#include <string.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/number.cuh"
#include "kernels/cuda/reduce.cuh"

enum { NORM_THREADS = 512, ROW_THREADS = 128, PLACES = 4 };

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
    bool aligned; // to whole numbers
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
        LAUNCH(embed, grid, ROW_THREADS, 0, d->cuda->stream, c);
}

/* ---- rmsnorm ---- */

/* N columns at once: 4 need 16-byte alignment. */
template <int N> struct __align__(4 * N) floats
{
    float v[N];
};

template <class T, int N> struct __align__(sizeof(T) * N) numbers
{
    T v[N];
};

template <class T, int N>
static __global__ void __launch_bounds__(NORM_THREADS)
    rmsnorm(T *h, const float *x, const float *weight, int dim, int stride, float eps)
{
    x += (size_t)blockIdx.x * dim;
    h += (size_t)blockIdx.x * stride;
    float squares = 0;
    for (int i = (int)threadIdx.x * N; i < dim; i += (int)blockDim.x * N) {
        floats<N> a = *(const floats<N> *)(x + i);
#pragma unroll
        for (int j = 0; j < N; j++)
            squares = fmaf(a.v[j], a.v[j], squares);
    }
    float scale = 1 / sqrtf(block_sum(squares) / (float)dim + eps);
    for (int i = (int)threadIdx.x * N; i < dim; i += (int)blockDim.x * N) {
        floats<N> a = *(const floats<N> *)(x + i), w = *(const floats<N> *)(weight + i);
        numbers<T, N> y;
#pragma unroll
        for (int j = 0; j < N; j++)
            set(&y.v[j], a.v[j] * scale * w.v[j]);
        *(numbers<T, N> *)(h + i) = y;
    }
    for (int i = dim + (int)threadIdx.x; i < stride; i += (int)blockDim.x)
        set(&h[i], 0);
}

template <class T>
static void launch_rmsnorm(struct dev *d, T *h, const float *x, const float *weight, int n, int dim,
                           float eps)
{
    bool wide = dim % 4 == 0 && aligned(x, 16) && aligned(weight, 16);
    int items = wide ? dim / 4 : dim, threads = (items + WARP_LANES - 1) / WARP_LANES * WARP_LANES;
    threads = threads < NORM_THREADS ? threads : (int)NORM_THREADS;
    if (wide)
        LAUNCH((rmsnorm<T, 4>), n, threads, 0, d->cuda->stream, h, x, weight, dim, row_stride(dim),
               eps);
    else
        LAUNCH((rmsnorm<T, 1>), n, threads, 0, d->cuda->stream, h, x, weight, dim, row_stride(dim),
               eps);
}

void cuda_rmsnorm(struct dev *d, void *h, enum dtype type, const float *x, const float *weight,
                  int n, int dim, float eps)
{
    if (cuda_works(d) && n)
        FOR_TYPE(type, T, launch_rmsnorm<T>(d, (T *)h, x, weight, n, dim, eps));
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
    LAUNCH(gather<Unit>, grid, ROW_THREADS, 0, d->cuda->stream, (Unit *)to, (const Unit *)from,
           index, units);
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

/* ---- sums of rows ---- */

struct sum_call {
    const void *y;
    const int32_t *place;
    const float *weight;
    int k, dim, stride; // of y's rows
};

/* sum += weight * y over the row's places, columns [column, column + 16 bytes). The rows of four
 * places are asked for together. */
template <class T>
__device__ __forceinline__ void add_places(float (&sum)[vec<T>::N], const sum_call &c, int row,
                                           int column)
{
    const int32_t *place = c.place + (size_t)row * c.k;
    const float *weight = c.weight + (size_t)row * c.k;
    const T *y = (const T *)c.y + column;
    bool on = true;
    for (int first = 0; first < c.k && on; first += PLACES) {
        vec<T> a[PLACES] = {};
        float w[PLACES];
#pragma unroll
        for (int j = 0; j < PLACES; j++) {
            int at = first + j < c.k ? place[first + j] : -1;
            on = on && at >= 0;
            w[j] = on ? weight[first + j] : 0;
            if (on)
                a[j] = load16(y + (size_t)at * c.stride);
        }
#pragma unroll
        for (int j = 0; j < PLACES; j++)
#pragma unroll
            for (int i = 0; i < vec<T>::N; i++)
                sum[i] = fmaf(w[j], to_float(a[j].v[i]), sum[i]);
    }
}

/* As many columns of x as a piece of y has: 4 at a time, or by themselves up to dim. */
template <int N>
__device__ __forceinline__ void load_columns(float (&to)[N], const float *x, int left, bool wide)
{
#pragma unroll
    for (int i = 0; i < N; i += 4) {
        floats<4> four = {};
        if (wide && i < left)
            four = *(const floats<4> *)(x + i);
#pragma unroll
        for (int j = 0; j < 4; j++)
            to[i + j] = wide || i + j >= left ? four.v[j] : x[i + j];
    }
}

template <int N>
__device__ __forceinline__ void store_columns(float *x, const float (&from)[N], int left, bool wide)
{
#pragma unroll
    for (int i = 0; i < N; i += 4) {
        floats<4> four = {{from[i], from[i + 1], from[i + 2], from[i + 3]}};
        if (wide && i < left)
            *(floats<4> *)(x + i) = four;
        for (int j = i; !wide && j < i + 4 && j < left; j++)
            x[j] = four.v[j - i];
    }
}

template <class T>
static __global__ void __launch_bounds__(ROW_THREADS)
    weighted_sum(float *x, const sum_call c, bool wide)
{
    constexpr int N = vec<T>::N;
    int row = (int)blockIdx.x, column = (int)(blockIdx.y * ROW_THREADS + threadIdx.x) * N;
    if (column >= c.dim)
        return;
    x += (size_t)row * c.dim + column;
    float sum[N];
    load_columns(sum, x, c.dim - column, wide);
    add_places<T>(sum, c, row, column);
    store_columns(x, sum, c.dim - column, wide);
}

template <class T>
static __global__ void __launch_bounds__(ROW_THREADS) sum_rows(T *out, const sum_call c)
{
    constexpr int N = vec<T>::N;
    int row = (int)blockIdx.x, column = (int)(blockIdx.y * ROW_THREADS + threadIdx.x) * N;
    if (column >= c.stride)
        return;
    float sum[N] = {};
    add_places<T>(sum, c, row, column);
    vec<T> rounded;
#pragma unroll
    for (int i = 0; i < N; i++)
        set(&rounded.v[i], column + i < c.dim ? sum[i] : 0);
    store16(out + (size_t)row * c.stride + column, rounded);
}

/* A thread for every 16 bytes of a row. */
static dim3 sum_grid(int n, enum dtype type, int dim)
{
    int pieces = row_stride(dim) * dtype_bytes(type) / 16;
    return dim3((unsigned)n, blocks_for(pieces, ROW_THREADS));
}

void cuda_weighted_sum(struct dev *d, float *x, const void *y, enum dtype type,
                       const int32_t *place, const float *weight, int n, int k, int dim)
{
    sum_call c = {y, place, weight, k, dim, row_stride(dim)};
    bool wide = dim % 4 == 0 && aligned(x, 16);
    if (cuda_works(d) && n)
        FOR_TYPE(type, T,
                 LAUNCH(weighted_sum<T>, sum_grid(n, type, dim), ROW_THREADS, 0, d->cuda->stream, x,
                        c, wide));
}

void cuda_sum_rows(struct dev *d, void *out, const void *y, enum dtype type, const int32_t *place,
                   const float *weight, int n, int k, int dim)
{
    sum_call c = {y, place, weight, k, dim, row_stride(dim)};
    if (cuda_works(d) && n)
        FOR_TYPE(type, T,
                 LAUNCH(sum_rows<T>, sum_grid(n, type, dim), ROW_THREADS, 0, d->cuda->stream,
                        (T *)out, c));
}

/* ---- add ---- */

struct add_call {
    float *x;
    const float *y, *gate; // gate NULL: 1
    int ldy, ldgate, dim;
};

template <int N> static __global__ void __launch_bounds__(ROW_THREADS) add(const add_call c)
{
    int row = (int)blockIdx.x, i = (int)(blockIdx.y * ROW_THREADS + threadIdx.x) * N;
    if (i >= c.dim)
        return;
    float a = c.gate ? 1 / (1 + expf(-c.gate[(size_t)row * c.ldgate])) : 1;
    floats<N> *to = (floats<N> *)(c.x + (size_t)row * c.dim + i);
    floats<N> x = *to, y = *(const floats<N> *)(c.y + (size_t)row * c.ldy + i);
#pragma unroll
    for (int j = 0; j < N; j++)
        x.v[j] = fmaf(a, y.v[j], x.v[j]);
    *to = x;
}

void cuda_add(struct dev *d, float *x, const float *y, int ldy, const float *gate, int ldgate,
              int n, int dim)
{
    bool wide = dim % 4 == 0 && ldy % 4 == 0 && aligned(x, 16) && aligned(y, 16);
    add_call c = {x, y, gate, ldy, ldgate, dim};
    dim3 grid((unsigned)n, blocks_for(wide ? dim / 4 : dim, ROW_THREADS));
    if (!cuda_works(d) || n == 0)
        return;
    if (wide)
        LAUNCH(add<4>, grid, ROW_THREADS, 0, d->cuda->stream, c);
    else
        LAUNCH(add<1>, grid, ROW_THREADS, 0, d->cuda->stream, c);
}
