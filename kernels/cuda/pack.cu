/* Packing weights. The host copies a piece of the checkpoint's rows to pinned memory, the GPU
 * copies it to device memory, and a kernel converts it and writes it to its place. There are two
 * pieces of each memory, and the copy to the device has a stream of its own. So the three steps run
 * at the same time, on different pieces, and PCIe is always busy. The host waits only until the
 * piece that it fills next has been copied. Rows of noise are made on the GPU, and the host does
 * not wait.
 *
 * Every row is written up to its stride, zero beyond k. Rows of padding are not written: the memory
 * comes zeroed. */
#include "base/check.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/host.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/number.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/product.cuh"
extern "C" {
#include "base/noise.h"
}

enum { PACK_ELEMENTS = 8 };

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

/* Each thread writes PACK_ELEMENTS elements of a destination row. */
template <class To, class From>
__global__ void __launch_bounds__(PACK_THREADS)
    pack_rows(To *to, const From *from, int rows, int columns, int pitch, int stride, placing at)
{
    size_t i = (size_t)blockIdx.x * PACK_THREADS + threadIdx.x;
    int pieces = stride / PACK_ELEMENTS, row = (int)(i / (size_t)pieces);
    int column = (int)(i % (size_t)pieces) * PACK_ELEMENTS;
    if (row >= rows)
        return;
    const From *source = from + (size_t)row * (size_t)pitch + column;
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
    bool whole = pitch % PACK_ELEMENTS == 0 && column + PACK_ELEMENTS <= columns; // so aligned
    if (whole)
        in = *(const decltype(in) *)source;
#pragma unroll
    for (int j = 0; j < PACK_ELEMENTS; j++) {
        if (!whole)
            in.v[j] = column + j < columns ? source[j] : From(0.0f);
        out.v[j] = converted<To>(in.v[j]);
    }
    size_t to_row = (size_t)(at.first + row) * (size_t)at.step + (size_t)at.offset;
    *(decltype(out) *)(to + to_row * (size_t)stride + column) = out;
}

template <class To, class From>
static void place_rows(struct dev *d, const struct matrix *w, const void *from, int rows,
                       int columns, int pitch, placing at)
{
    int stride = row_stride(w->k);
    size_t pieces = (size_t)rows * (size_t)(stride / PACK_ELEMENTS);
    LAUNCH(d, (pack_rows<To, From>), (unsigned)blocks_for(pieces, PACK_THREADS), PACK_THREADS, 0,
           (To *)w->data, (const From *)from, rows, columns, pitch, stride, at);
}

/* Elements first, first + 1, … of a tensor of noise; each thread makes the four of one draw. */
template <class Bits>
__global__ void __launch_bounds__(PACK_THREADS)
    make_noise(Bits *to, const Bits *levels, uint64_t key, uint64_t first, size_t count)
{
    size_t number = (size_t)blockIdx.x * PACK_THREADS + threadIdx.x;
    size_t skip = first % NOISE_DRAWS, begin = number * NOISE_DRAWS;
    struct __align__(sizeof(Bits) * NOISE_DRAWS)
    {
        Bits v[NOISE_DRAWS];
    }
    four;
    if (begin >= skip + count)
        return;
    uint64_t r = noise_draw(key, first / NOISE_DRAWS + number);
#pragma unroll
    for (int i = 0; i < NOISE_DRAWS; i++)
        four.v[i] = levels[r >> 16 * i & 0xffff];
    if (skip == 0 && begin + NOISE_DRAWS <= count) {
        *(decltype(four) *)(to + begin) = four;
        return;
    }
    for (int i = 0; i < NOISE_DRAWS; i++)
        if (begin + i >= skip && begin + i < skip + count)
            to[begin + i - skip] = four.v[i];
}

/* The levels of the noise in device memory; uploaded unless they are those of the last call. */
static const void *levels_of(struct dev *d, const struct noise *n)
{
    struct cuda *c = d->cuda;
    size_t bytes = (size_t)NOISE_LEVELS * (size_t)dtype_bytes(n->type);
    if (c->levels && c->levels_type == n->type && c->levels_deviation == n->deviation)
        return c->levels;
    c->levels = cuda_alloc(d, bytes);
    c->levels_type = n->type;
    c->levels_deviation = n->deviation;
    cuda_upload(d, c->levels, &n->level, bytes);
    return c->levels;
}

template <class Bits>
static void launch_noise(struct dev *d, void *to, const struct values *source, size_t first,
                         size_t count)
{
    uint64_t begin = source->first + first;
    const void *levels = levels_of(d, source->noise);
    size_t draws = (begin % NOISE_DRAWS + count - 1) / NOISE_DRAWS + 1;
    if (cuda_works(d))
        LAUNCH(d, make_noise<Bits>, (unsigned)blocks_for(draws, PACK_THREADS), PACK_THREADS, 0,
               (Bits *)to, (const Bits *)levels, source->key, begin, count);
}

/* Copy a piece to device memory: fill pinned memory when it is free, and put the copy on its own
 * stream, where it waits until `to` is free (emptied[turn]). The device's stream waits for the
 * copy, so that later calls find the piece there. */
static void copy_piece(struct dev *d, int turn, void *to, const void *source, size_t bytes)
{
    struct cuda *c = d->cuda;
    const char *doing = "loading weights";
    if (!cuda_good(d, cudaEventSynchronize(c->staged[turn]), doing))
        return;
    stage_bytes(c->staging[turn], source, bytes, d->threads);
    bool good =
        cuda_good(d, cudaStreamWaitEvent(c->copying, c->emptied[turn], 0), doing) &&
        cuda_good(d,
                  cudaMemcpyAsync(to, c->staging[turn], bytes, cudaMemcpyHostToDevice, c->copying),
                  doing) &&
        cuda_good(d, cudaEventRecord(c->staged[turn], c->copying), doing);
    if (good)
        cuda_good(d, cudaStreamWaitEvent(c->stream, c->staged[turn], 0), doing);
}

/* Bring elements [first, first + count) of the source, STAGING_BYTES at most, to device memory. */
static void bring(struct dev *d, int turn, void *to, const struct values *source, size_t first,
                  size_t count)
{
    size_t width = (size_t)dtype_bytes(source->type);
    host_pulse();
    if (source->data)
        copy_piece(d, turn, to, (const char *)source->data + first * width, count * width);
    else if (width == sizeof(float))
        launch_noise<uint32_t>(d, to, source, first, count);
    else
        launch_noise<uint16_t>(d, to, source, first, count);
}

static int next_turn(struct cuda *c)
{
    c->turn = !c->turn;
    return c->turn;
}

static void note_emptied(struct dev *d, int turn)
{
    cuda_good(d, cudaEventRecord(d->cuda->emptied[turn], d->cuda->stream), "loading weights");
}

/* If the source uses only some columns of its rows, whole rows go to the GPU all the same: they lie
 * one after the other, so a piece of them is one copy. */
static void pack(struct dev *d, const struct matrix *w, const struct values *source, int rows,
                 placing at)
{
    int columns = source->columns ? source->columns : w->k;
    int pitch = source->stride ? source->stride : columns;
    size_t row_bytes = (size_t)pitch * (size_t)dtype_bytes(source->type);
    CHECK(row_bytes <= STAGING_BYTES, "a row of %zu bytes", row_bytes);
    int most = (int)((size_t)STAGING_BYTES / row_bytes);
    for (int done = 0; done < rows && cuda_works(d); done += most) {
        int n = rows - done < most ? rows - done : most, turn = next_turn(d->cuda);
        placing here = {at.first + done, at.step, at.offset};
        void *piece = d->cuda->staged_rows[turn];
        bring(d, turn, piece, source, (size_t)done * (size_t)pitch,
              (size_t)(n - 1) * (size_t)pitch + (size_t)columns);
        if (!cuda_works(d))
            return;
        if (w->quant)
            quant_place_rows(d, w, {source->type, piece, n, columns, pitch}, here);
        else
            FOR_TYPE(w->type, To,
                     FOR_TYPE(source->type, From,
                              place_rows<To, From>(d, w, piece, n, columns, pitch, here)));
        note_emptied(d, turn);
    }
}

size_t cuda_matrix_bytes(enum dtype type, int n, int k)
{
    return (size_t)n * (size_t)row_stride(k) * (size_t)dtype_bytes(type);
}

void cuda_matrix_pack(struct dev *d, struct matrix *w, int first, const struct values *source,
                      int rows)
{
    pack(d, w, source, rows, {first, 1, 0});
}

void cuda_matrix_pack_pair(struct dev *d, struct matrix *gate_up, const struct values *gate,
                           const struct values *up, int width)
{
    pack(d, gate_up, gate, width, {0, 2, 0});
    pack(d, gate_up, up, width, {0, 2, 1});
}

void cuda_fill(struct dev *d, void *to, const struct values *source, size_t count)
{
    size_t width = (size_t)dtype_bytes(source->type), most = (size_t)STAGING_BYTES / width;
    for (size_t done = 0; done < count && cuda_works(d); done += most) {
        int turn = next_turn(d->cuda);
        note_emptied(d, turn); // from here on in the stream, the piece may be overwritten
        bring(d, turn, (char *)to + done * width, source, done,
              count - done < most ? count - done : most);
    }
}
