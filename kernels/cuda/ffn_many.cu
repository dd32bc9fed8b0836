/* An ffn of many rows. For a block that all rows go through, cuBLAS does the two products, a slice
 * of rows at a time: gate and up of a slice, in f32, are small enough to stay in the L2 cache until
 * SwiGLU has read them. Where each block has only some of the rows, one launch for each projection
 * does all blocks, in tiles of 128 rows by 128 outputs, and the first launch applies SwiGLU to its
 * sums before it writes them.
 *
 * Each of a tile's 4 warps does 32 outputs of all the tile's rows. It multiplies rows in steps of
 * 16 and skips the steps that the last tile of a block has no rows for; with about 100 rows a block
 * that saves much. k passes through shared memory in slices of 64 bytes, STAGES of them at a time.
 * There the 16-byte pieces of a row are permuted (piece_at), so that the pieces of 8 rows for the
 * same k are in 8 different places modulo 128 bytes: ldmatrix then has no bank conflicts. */
#include "base/check.h"
#include "kernels/cuda/async.cuh"
#include "kernels/cuda/ffn.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/product.cuh"
#include "kernels/cuda/strip.cuh"
#include "kernels/cuda/tile.cuh"

enum {
    TILE_ROWS = 128,
    TILE_COLUMNS = 128,
    TILE_WARPS = 4,
    TILE_THREADS = TILE_WARPS * 32,
    WARP_COLUMNS = TILE_COLUMNS / TILE_WARPS,
    SLICE_BYTES = 64, // of a row, in a slice of k
    STAGES = 4,
    STAGE_BYTES = (TILE_ROWS + TILE_COLUMNS) * SLICE_BYTES,
    ROWS_AT_ONCE = TILE_THREADS / 4, // rows whose slices the threads copy together, 4 to a row
    PASSES = TILE_ROWS / ROWS_AT_ONCE,
    ROW_STEPS = TILE_ROWS / 16,
    COLUMN_STEPS = WARP_COLUMNS / 8,
};

/* One projection of a job. */
struct many_call {
    ffn_part p;
    bool gate_up;
    int n, stride; // outputs, without and with padding
    int k_bytes;   // of a row of weights and of a row of inputs
};

struct many_sums {
    float d[ROW_STEPS][COLUMN_STEPS][4];
};

/* Where a thread copies from: its pieces of slice 0, of PASSES rows of x and of weights. */
struct many_source {
    const char *x[PASSES], *w[PASSES];
    int rows; // how many rows of x the block of threads reads, a multiple of 16
};

__device__ __forceinline__ int piece_at(int row, int piece)
{
    return row * SLICE_BYTES + ((piece ^ (row / 2 % 4)) * 16);
}

/* Instead of a row beyond the strip's last, or an output beyond the last, the thread copies the
 * last one; put_sums() does not write the sums made of it. */
__device__ __forceinline__ many_source find_source(const many_call &c, const strip &s)
{
    many_source from;
    const ffn_weights &block = c.p.blocks[s.block];
    const char *x = (const char *)(c.gate_up ? c.p.x : c.p.hidden);
    const char *w = (const char *)(c.gate_up ? block.gate_up : block.down);
    int piece = (int)threadIdx.x % 4 * 16;
    from.rows = (s.rows + 15) / 16 * 16;
#pragma unroll
    for (int i = 0; i < PASSES; i++) {
        int at = i * ROWS_AT_ONCE + (int)threadIdx.x / 4;
        int row = (c.gate_up ? s.x_first : s.first) + min(at, s.rows - 1);
        int column = min((int)blockIdx.y * TILE_COLUMNS + at, c.n - 1);
        row = c.gate_up && c.p.source ? c.p.source[row] : row;
        from.x[i] = x + (size_t)row * (size_t)c.k_bytes + piece;
        from.w[i] = w + (size_t)column * (size_t)c.k_bytes + piece;
    }
    return from;
}

/* Start copying slice `slice` of k into its stage. */
__device__ __forceinline__ void copy_slice(char *shared, const many_source &from, int slice)
{
    char *x = shared + slice % STAGES * STAGE_BYTES, *w = x + TILE_ROWS * SLICE_BYTES;
    size_t k = (size_t)slice * SLICE_BYTES;
#pragma unroll
    for (int i = 0; i < PASSES; i++) {
        int row = i * ROWS_AT_ONCE + (int)threadIdx.x / 4;
        int to = piece_at(row, (int)threadIdx.x % 4);
        if (row < from.rows)
            cp_async16(x + to, from.x[i] + k);
        cp_async16(w + to, from.w[i] + k);
    }
}

/* Operands b (tile.cuh) of the warp's columns for 16 inputs, half a slice. */
__device__ __forceinline__ void load_weights(uint32_t (&b)[COLUMN_STEPS][2], const char *w,
                                             int first, int inner, int lane)
{
#pragma unroll
    for (int i = 0; i < COLUMN_STEPS; i += 2) {
        int column = first + (i + lane / 16) * 8 + lane % 8;
        uint32_t two[4];
        ldmatrix_x4(two, w + piece_at(column, inner * 2 + lane / 8 % 2));
        b[i][0] = two[0];
        b[i][1] = two[1];
        b[i + 1][0] = two[2];
        b[i + 1][1] = two[3];
    }
}

template <class T>
__device__ __forceinline__ void multiply_slice(many_sums &sums, const char *stage, int rows,
                                               int warp, int lane)
{
    const char *w = stage + TILE_ROWS * SLICE_BYTES;
#pragma unroll
    for (int inner = 0; inner < 2; inner++) {
        uint32_t b[COLUMN_STEPS][2];
        load_weights(b, w, warp * WARP_COLUMNS, inner, lane);
#pragma unroll
        for (int step = 0; step < ROW_STEPS; step++) {
            if (step * 16 >= rows)
                break;
            uint32_t a[4];
            ldmatrix_x4(a, stage + piece_at(step * 16 + lane % 16, inner * 2 + lane / 16));
#pragma unroll
            for (int i = 0; i < COLUMN_STEPS; i++)
                mma_16816<T>(sums.d[step][i], a, b[i]);
        }
    }
}

template <class T>
__device__ __forceinline__ void multiply_all(many_sums &sums, char *shared, const many_source &from,
                                             int slices, int warp, int lane)
{
#pragma unroll
    for (int i = 0; i < ROW_STEPS * COLUMN_STEPS * 4; i++)
        sums.d[i / 4 / COLUMN_STEPS][i / 4 % COLUMN_STEPS][i % 4] = 0;
    for (int i = 0; i < STAGES - 1; i++) {
        if (i < slices)
            copy_slice(shared, from, i);
        cp_async_commit();
    }
    for (int i = 0; i < slices; i++) {
        cp_async_wait<STAGES - 2>();
        __syncthreads(); // slice i is in its stage, and all warps are done with slice i - 1
        if (i + STAGES - 1 < slices)
            copy_slice(shared, from, i + STAGES - 1);
        cp_async_commit();
        multiply_slice<T>(sums, shared + i % STAGES * STAGE_BYTES, from.rows, warp, lane);
    }
}

/* Write two neighbouring sums of a row: gate and up of one hidden value, or two outputs. */
template <class T>
__device__ __forceinline__ void put_pair(const many_call &c, int row, int column, float low,
                                         float high)
{
    const ffn_part &p = c.p;
    if (column >= c.stride)
        return;
    if (c.gate_up) {
        set((T *)p.hidden + (size_t)row * (size_t)p.width_stride + column / 2, swiglu(low, high));
        return;
    }
    size_t at = (size_t)row * (size_t)p.dim_stride + (size_t)column;
    put<T>(p.y, at, column < c.n ? low : 0, p.y_is_f32);
    put<T>(p.y, at + 1, column + 1 < c.n ? high : 0, p.y_is_f32);
}

template <class T>
__device__ __forceinline__ void put_sums(const many_call &c, const many_sums &sums, const strip &s,
                                         int warp, int lane)
{
    int first = (int)blockIdx.y * TILE_COLUMNS + warp * WARP_COLUMNS + lane % 4 * 2;
#pragma unroll
    for (int step = 0; step < ROW_STEPS; step++)
#pragma unroll
        for (int i = 0; i < COLUMN_STEPS * 2; i++) {
            int row = step * 16 + i % 2 * 8 + lane / 4;
            const float *d = &sums.d[step][i / 2][i % 2 * 2];
            if (row < s.rows)
                put_pair<T>(c, s.first + row, first + i / 2 * 8, d[0], d[1]);
        }
}

template <class T>
__global__ void __launch_bounds__(TILE_THREADS, 2) ffn_grouped(const __grid_constant__ many_call c)
{
    DYNAMIC_SHARED(char, shared);
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    strip s = find_strip(c.p.count, c.p.n_blocks, c.p.n, TILE_ROWS, (int)blockIdx.x, lane);
    if (s.rows == 0)
        return;
    many_sums sums;
    multiply_all<T>(sums, shared, find_source(c, s), c.k_bytes / SLICE_BYTES, warp, lane);
    put_sums<T>(c, sums, s, warp, lane);
}

/* Tiles of rows are the grid's first dimension, so that the tiles of one block read its weights at
 * about the same time. */
template <class T> static void launch_many(struct dev *d, const many_call &call)
{
    unsigned rows =
        (unsigned)most_strips(call.p.n, call.p.n_blocks, TILE_ROWS, call.p.count != NULL);
    unsigned columns = (unsigned)blocks_for((size_t)call.stride, TILE_COLUMNS);
    LAUNCH(d, ffn_grouped<T>, dim3(rows, columns), TILE_THREADS, STAGES * STAGE_BYTES, call);
}

template <class T> static void grouped(struct dev *d, const struct ffn_job *job)
{
    ffn_part p = ffn_part_of(job, d->scratch);
    int size = (int)sizeof(T);
    launch_many<T>(d, {p, true, 2 * p.width_stride, 2 * p.width_stride, p.dim_stride * size});
    launch_many<T>(d, {p, false, p.dim, p.dim_stride, p.width_stride * size});
}

/* ---- a dense block ---- */

enum { ELEMENT_THREADS = 256 };

/* Each thread makes two hidden values of four numbers of gate_up. */
template <class T>
__global__ void __launch_bounds__(ELEMENT_THREADS)
    swiglu_pairs(T *hidden, const float4 *gate_up, size_t pairs)
{
    size_t i = (size_t)blockIdx.x * ELEMENT_THREADS + threadIdx.x;
    if (i >= pairs)
        return;
    float4 two = __ldcs(gate_up + i);
    set(hidden + 2 * i, swiglu(two.x, two.y));
    set(hidden + 2 * i + 1, swiglu(two.z, two.w));
}

/* Columns [dim, stride) of y := 0, a block of threads for each row. All types have the same 0. */
__global__ void __launch_bounds__(ROW_ALIGN)
    clear_padding(char *y, int dim, int stride, int element_bytes)
{
    char *row = y + (size_t)blockIdx.x * (size_t)(stride * element_bytes);
    for (int i = dim * element_bytes + (int)threadIdx.x; i < stride * element_bytes; i += ROW_ALIGN)
        row[i] = 0;
}

/* One slice of n rows; x and y point to the slice's first row. */
template <class T>
static void dense_slice(struct dev *d, const struct ffn *f, void *y, enum dtype y_type,
                        const void *x, int n)
{
    int stride = row_stride(f->down.k), dim_stride = row_stride(f->down.n);
    size_t pairs = (size_t)n * (size_t)stride / 2;
    float *gate_up = (float *)d->scratch;
    T *hidden = (T *)(gate_up + 4 * pairs);
    blas_product(d, gate_up, DTYPE_F32, 2 * stride, x, &f->gate_up, n, 0);
    LAUNCH(d, swiglu_pairs<T>, (unsigned)blocks_for(pairs, ELEMENT_THREADS), ELEMENT_THREADS, 0,
           hidden, (const float4 *)gate_up, pairs);
    blas_product(d, y, y_type, dim_stride, hidden, &f->down, n, 0);
    if (dim_stride != f->down.n)
        LAUNCH(d, clear_padding, (unsigned)n, ROW_ALIGN, 0, (char *)y, f->down.n, dim_stride,
               dtype_bytes(y_type));
}

/* All rows through block number b. */
template <class T> static void dense(struct dev *d, const struct ffn_job *job, int b)
{
    const struct ffn *f = &job->list->ffns[b];
    size_t x_row = (size_t)row_stride(f->gate_up.k) * sizeof(T);
    size_t y_row = (size_t)(row_stride(f->down.n) * dtype_bytes(job->y_type));
    char *y = (char *)job->y + (size_t)b * (size_t)job->n * y_row;
    int most = d->cuda->dense_rows;
    for (int first = 0; first < job->n; first += most) {
        int n = job->n - first < most ? job->n - first : most;
        dense_slice<T>(d, f, y + (size_t)first * y_row, job->y_type,
                       (const char *)job->x + (size_t)first * x_row, n);
    }
}

size_t ffn_dense_bytes(const struct dev *d, enum dtype type, int rows, int width)
{
    int most = rows < d->cuda->dense_rows ? rows : d->cuda->dense_rows;
    size_t values = (size_t)most * (size_t)row_stride(width);
    return values * (2 * sizeof(float) + (size_t)dtype_bytes(type));
}

void ffn_many(struct dev *d, const struct ffn_job *job)
{
    const struct matrix *down = &ffn_shape(job)->down;
    bool shared = job->count || job->source;
    size_t need = shared ? ffn_hidden_bytes(job) : ffn_dense_bytes(d, down->type, job->n, down->k);
    CHECK(need <= d->scratch_bytes, "%d rows in %zu bytes of scratch", job->n, d->scratch_bytes);
    if (shared && down->type == DTYPE_F16)
        grouped<__half>(d, job);
    else if (shared)
        grouped<__nv_bfloat16>(d, job);
    else
        for (int b = 0; b < job->list->n; b++)
            FOR_TYPE(down->type, T, dense<T>(d, job, b));
}
