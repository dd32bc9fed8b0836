/* Rows in the narrower forms that they have on the wire. A block of threads does a row. The
 * arithmetic is that of cpu/wire.c: each operation on an element is exact or is rounded once, and
 * conversions are those of base/dtype.h, so the bytes are the same as on the CPU. The error is
 * measured for each row, and one more launch adds it up. */
#include <string.h>

#include "base/check.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/reduce.cuh"

enum { THREADS = 256 };

struct wire_call {
    char *to;
    const char *from;
    struct wire_error *of_row; // [n]
    int width;
    size_t to_bytes, from_bytes; // from one row to the next
};

size_t cuda_wire_scratch_bytes(const struct dev_limits *limits)
{
    return (size_t)limits->rows * sizeof(struct wire_error);
}

template <enum dtype TYPE> __device__ __forceinline__ float element(const void *row, int i)
{
    if (TYPE == DTYPE_F32)
        return ((const float *)row)[i];
    uint16_t bits = ((const uint16_t *)row)[i];
    return TYPE == DTYPE_BF16 ? bf16_to_float(bits) : f16_to_float(bits);
}

/* The bits of positive floats, read as integers, have the order of the floats, with infinity and
 * then NaN above all numbers. */
template <enum dtype TYPE>
__device__ __forceinline__ float largest_magnitude(const void *row, int width)
{
    __shared__ unsigned of_warp[THREADS / WARP_LANES];
    unsigned most = 0;
    for (int i = (int)threadIdx.x; i < width; i += THREADS)
        most = max(most, float_to_bits(element<TYPE>(row, i)) & 0x7fffffffu);
    most = __reduce_max_sync(ALL_LANES, most);
    if (threadIdx.x % WARP_LANES == 0)
        of_warp[threadIdx.x / WARP_LANES] = most;
    __syncthreads();
    for (int i = 0; i < THREADS / WARP_LANES; i++)
        most = max(most, of_warp[i]);
    return bits_to_float(most);
}

/* The integer nearest to v, ties to even, within +-127: v + 1.5 * 2^23 has it in its low bits. */
static __device__ __forceinline__ int8_t nearest(float v)
{
    v = v > 127 ? 127 : v;
    v = v < -127 ? -127 : v;
    return (int8_t)(int32_t)(float_to_bits(v + 12582912.0f) - 0x4b400000u);
}

/* The value that the receiver will have for element i. */
template <enum dtype TYPE, enum wire WIRE>
__device__ __forceinline__ float arrived(const char *from, float scale, int i)
{
    if (WIRE == WIRE_BF16)
        return dtype_round(TYPE, bf16_to_float(((const bf16 *)from)[i]));
    return dtype_round(TYPE, (float)((const int8_t *)from + sizeof scale)[i] * scale);
}

template <enum dtype TYPE, enum wire WIRE>
static __global__ void __launch_bounds__(THREADS) narrow(const wire_call c)
{
    const char *row = c.from + (size_t)blockIdx.x * c.from_bytes;
    char *to = c.to + (size_t)blockIdx.x * c.to_bytes;
    int used = c.width;
    float scale = 0, squares = 0, errors = 0;
    if (WIRE == WIRE_INT8) {
        float largest = largest_magnitude<TYPE>(row, c.width);
        scale = largest / 127;
        used = scale > 0 && largest <= 3.402823466e38f ? c.width : 0; // else q is all zeros
        if (threadIdx.x == 0)
            *(float *)to = scale;
    }
    for (int i = (int)threadIdx.x; i < row_stride(c.width); i += THREADS) {
        float x = i < c.width ? element<TYPE>(row, i) : 0;
        if (WIRE == WIRE_BF16)
            ((bf16 *)to)[i] = i < c.width ? float_to_bf16(x) : 0;
        else
            ((int8_t *)to + sizeof scale)[i] = i < used ? nearest(x / scale) : 0;
        if (i < c.width) {
            float gone = x - arrived<TYPE, WIRE>(to, scale, i);
            squares += x * x;
            errors += gone * gone;
        }
    }
    squares = block_sum(squares);
    errors = block_sum(errors);
    if (threadIdx.x == 0)
        c.of_row[blockIdx.x] = {(double)squares, (double)errors};
}

template <enum dtype TYPE, enum wire WIRE>
static __global__ void __launch_bounds__(THREADS) widen(const wire_call c)
{
    const char *from = c.from + (size_t)blockIdx.x * c.from_bytes;
    char *row = c.to + (size_t)blockIdx.x * c.to_bytes;
    float scale = WIRE == WIRE_INT8 ? *(const float *)from : 0;
    for (int i = (int)threadIdx.x; i < row_stride(c.width); i += THREADS)
        dtype_store(TYPE, row, (size_t)i, i < c.width ? arrived<TYPE, WIRE>(from, scale, i) : 0);
}

/* *error += the errors of n rows: each thread sums every THREADS-th row, then the threads' sums are
 * added in order. */
static __global__ void __launch_bounds__(THREADS)
    add_errors(struct wire_error *error, const struct wire_error *of_row, int n)
{
    __shared__ struct wire_error parts[THREADS];
    struct wire_error sum = {0, 0};
    for (int i = (int)threadIdx.x; i < n; i += THREADS) {
        sum.squares += of_row[i].squares;
        sum.errors += of_row[i].errors;
    }
    parts[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x > 0)
        return;
    for (int i = 1; i < THREADS; i++) {
        sum.squares += parts[i].squares;
        sum.errors += parts[i].errors;
    }
    error->squares += sum.squares;
    error->errors += sum.errors;
}

/* Launch the kernel for a type and a wire other than WIRE_MODEL. */
#define LAUNCH_WIRE(d, kernel, type, wire, n, c)                                                   \
    do {                                                                                           \
        if (wire == WIRE_BF16 && type == DTYPE_F32)                                                \
            LAUNCH(d, (kernel<DTYPE_F32, WIRE_BF16>), n, THREADS, 0, c);                           \
        else if (wire == WIRE_BF16 && type == DTYPE_F16)                                           \
            LAUNCH(d, (kernel<DTYPE_F16, WIRE_BF16>), n, THREADS, 0, c);                           \
        else if (wire == WIRE_BF16)                                                                \
            LAUNCH(d, (kernel<DTYPE_BF16, WIRE_BF16>), n, THREADS, 0, c);                          \
        else if (type == DTYPE_F32)                                                                \
            LAUNCH(d, (kernel<DTYPE_F32, WIRE_INT8>), n, THREADS, 0, c);                           \
        else if (type == DTYPE_F16)                                                                \
            LAUNCH(d, (kernel<DTYPE_F16, WIRE_INT8>), n, THREADS, 0, c);                           \
        else                                                                                       \
            LAUNCH(d, (kernel<DTYPE_BF16, WIRE_INT8>), n, THREADS, 0, c);                          \
    } while (0)

static void copy_rows(struct dev *d, void *to, const void *from, size_t bytes)
{
    cuda_good(d, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, d->cuda->stream),
              "copying rows");
}

void cuda_narrow(struct dev *d, void *to, enum wire wire, const void *rows, enum dtype type, int n,
                 int width, struct wire_error *error)
{
    struct wire_error *of_row = (struct wire_error *)d->scratch;
    wire_call c = {(char *)to,
                   (const char *)rows,
                   of_row,
                   width,
                   wire_row_bytes(wire, type, width),
                   wire_row_bytes(WIRE_MODEL, type, width)};
    CHECK((size_t)n * sizeof *of_row <= d->scratch_bytes, "%d rows", n);
    if (!cuda_works(d) || n == 0)
        return;
    if (wire == WIRE_MODEL) {
        copy_rows(d, to, rows, (size_t)n * c.to_bytes);
        return;
    }
    LAUNCH_WIRE(d, narrow, type, wire, n, c);
    LAUNCH(d, add_errors, 1, THREADS, 0, error, of_row, n);
}

void cuda_widen(struct dev *d, void *rows, enum dtype type, const void *from, enum wire wire, int n,
                int width)
{
    wire_call c = {(char *)rows,
                   (const char *)from,
                   NULL,
                   width,
                   wire_row_bytes(WIRE_MODEL, type, width),
                   wire_row_bytes(wire, type, width)};
    if (!cuda_works(d) || n == 0)
        return;
    if (wire == WIRE_MODEL)
        copy_rows(d, rows, from, (size_t)n * c.to_bytes);
    else
        LAUNCH_WIRE(d, widen, type, wire, n, c);
}
