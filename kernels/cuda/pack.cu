/* Packing weights: the checkpoint's rows go through pinned memory to the GPU, where a kernel puts
 * them in their places, converted. While the host fills one of two pieces of pinned memory the GPU
 * empties the other; what the host waits for is only that its next piece has been read.
 *
 * Every row is written up to its stride, zero beyond k. Rows of padding are never written: the
 * memory comes zeroed. */
#include "base/check.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/number.cuh"
#include "kernels/cuda/product.cuh"
#include "kernels/cuda/stage.h"

enum { PACK_THREADS = 256, PACK_ELEMENTS = 8 };

/* Where rows of a source go: row r to row (first + r) * step + offset of the matrix. */
struct placing {
    int first, step, offset;
};

template <class To, class From> __device__ __forceinline__ To converted(From x)
{
    To y;
    set(&y, to_float(x));
    return y;
}

template <> __device__ __forceinline__ __half converted(__half x)
{
    return x;
}

template <> __device__ __forceinline__ __nv_bfloat16 converted(__nv_bfloat16 x)
{
    return x;
}

/* Eight elements of a destination row a thread. */
template <class To, class From>
__global__ void __launch_bounds__(PACK_THREADS)
    pack_rows(To *to, const From *from, int rows, int k, int stride, placing at)
{
    size_t i = (size_t)blockIdx.x * PACK_THREADS + threadIdx.x;
    int pieces = stride / PACK_ELEMENTS, row = (int)(i / (size_t)pieces);
    int column = (int)(i % (size_t)pieces) * PACK_ELEMENTS;
    if (row >= rows)
        return;
    const From *source = from + (size_t)row * (size_t)k + column;
    struct __align__(16)
    {
        From v[PACK_ELEMENTS];
    }
    in;
    struct __align__(16)
    {
        To v[PACK_ELEMENTS];
    }
    out;
    bool whole = k % PACK_ELEMENTS == 0 && column < k; // and so aligned
    if (whole)
        in = *(const decltype(in) *)source;
#pragma unroll
    for (int j = 0; j < PACK_ELEMENTS; j++) {
        if (!whole)
            in.v[j] = column + j < k ? source[j] : From(0.0f);
        out.v[j] = converted<To>(in.v[j]);
    }
    size_t to_row = (size_t)(at.first + row) * (size_t)at.step + (size_t)at.offset;
    *(decltype(out) *)(to + to_row * (size_t)stride + column) = out;
}

template <class To, class From>
static void place_rows(struct dev *d, const struct matrix *w, int rows, placing at)
{
    int stride = row_stride(w->k);
    size_t pieces = (size_t)rows * (size_t)(stride / PACK_ELEMENTS);
    LAUNCH((pack_rows<To, From>), (unsigned)blocks_for(pieces, PACK_THREADS), PACK_THREADS, 0,
           d->cuda->stream, (To *)w->data, (const From *)d->cuda->staged_rows, rows, w->k, stride,
           at);
}

/* Some rows, no more than a piece of pinned memory holds. */
static void pack_piece(struct dev *d, const struct matrix *w, const char *source, size_t bytes,
                       enum dtype from, int rows, placing at)
{
    struct cuda *c = d->cuda;
    int turn = c->turn;
    c->turn = !turn;
    if (!cuda_good(d, cudaEventSynchronize(c->staged[turn]), "loading weights"))
        return;
    stage_bytes(c->staging[turn], source, bytes, d->threads);
    if (!cuda_good(d,
                   cudaMemcpyAsync(c->staged_rows, c->staging[turn], bytes, cudaMemcpyHostToDevice,
                                   c->stream),
                   "loading weights") ||
        !cuda_good(d, cudaEventRecord(c->staged[turn], c->stream), "loading weights"))
        return;
    FOR_TYPE(w->type, To, FOR_TYPE(from, From, place_rows<To, From>(d, w, rows, at)));
}

static void pack(struct dev *d, const struct matrix *w, const void *source, enum dtype from,
                 int rows, placing at)
{
    size_t row_bytes = (size_t)w->k * (size_t)dtype_bytes(from);
    CHECK(row_bytes <= STAGING_BYTES, "a row of %zu bytes", row_bytes);
    int most = (int)((size_t)STAGING_BYTES / row_bytes);
    for (int done = 0; done < rows && cuda_works(d); done += most) {
        int n = rows - done < most ? rows - done : most;
        pack_piece(d, w, (const char *)source + (size_t)done * row_bytes, (size_t)n * row_bytes,
                   from, n, {at.first + done, at.step, at.offset});
    }
}

size_t cuda_matrix_bytes(enum dtype type, int n, int k)
{
    return (size_t)n * (size_t)row_stride(k) * (size_t)dtype_bytes(type);
}

void cuda_matrix_pack(struct dev *d, struct matrix *w, int first, const void *source,
                      enum dtype from, int rows)
{
    pack(d, w, source, from, rows, {first, 1, 0});
}

void cuda_matrix_pack_pair(struct dev *d, struct matrix *gate_up, const void *gate, const void *up,
                           enum dtype from, int width)
{
    pack(d, gate_up, gate, from, width, {0, 2, 0});
    pack(d, gate_up, up, from, width, {0, 2, 1});
}
