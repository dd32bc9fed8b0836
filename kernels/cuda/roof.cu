/* Measures the most FLOP/s and bytes/s that this GPU reaches. Benchmarks print other figures as
 * shares of these two. */
extern "C" {
#include "base/hash.h"
}
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/integer_tile.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/number.cuh"
#include "kernels/cuda/product.cuh"

#ifdef EPMOE_EMULATED
enum { RUNS = 2, ROUNDS = 4, PRODUCT_SIZE = 32, READ_BYTES = 1 << 20 };
#else
enum { RUNS = 11, ROUNDS = 1 << 14, PRODUCT_SIZE = 4096, READ_BYTES = 1 << 30 };
#endif

enum { ROOF_THREADS = 256, ROOF_BLOCKS = 4, CHAINS = 8, LOADS = 8 };

/* What is timed, and its memory. */
struct trial {
    struct dev *d;
    enum dtype type;
    unsigned blocks;
    size_t bytes;
    void *memory; // [bytes]
};

/* The shortest time of RUNS runs but the first, which warms up, in seconds; 0 after an error. */
static double best_time(const trial &t, void (*work)(const trial &t))
{
    cudaStream_t stream = t.d->cuda->stream;
    cudaEvent_t begin = NULL, end = NULL;
    float best = 0;
    bool good = cuda_good(t.d, cudaEventCreate(&begin), "measuring") &&
                cuda_good(t.d, cudaEventCreate(&end), "measuring");
    for (int i = 0; i < RUNS && good; i++) {
        float ms = 0;
        good = cuda_good(t.d, cudaEventRecord(begin, stream), "measuring");
        work(t);
        good = good && cuda_works(t.d) &&
               cuda_good(t.d, cudaEventRecord(end, stream), "measuring") &&
               cuda_good(t.d, cudaEventSynchronize(end), "measuring") &&
               cuda_good(t.d, cudaEventElapsedTime(&ms, begin, end), "measuring");
        if (i == 1 || (i > 1 && ms < best))
            best = ms;
    }
    if (begin)
        cudaEventDestroy(begin);
    if (end)
        cudaEventDestroy(end);
    return good ? (double)best * 1e-3 : 0;
}

/* Fill with numbers of both signs from 0.5 to 1. With zeros the GPU would use less power, run at a
 * higher clock, and so be faster than with real numbers. */
__global__ void __launch_bounds__(ROOF_THREADS)
    scatter(uint16_t *to, size_t n, unsigned random, unsigned fixed)
{
    size_t i = (size_t)blockIdx.x * ROOF_THREADS + threadIdx.x;
    if (i < n)
        to[i] = (uint16_t)(((unsigned)(hash_mix(i) >> 32) & random) | fixed);
}

static bool take(trial *t, size_t bytes)
{
    size_t n = bytes / sizeof(uint16_t);
    bool is_half = t->type == DTYPE_F16;
    t->bytes = bytes;
    if (cudaMalloc(&t->memory, bytes) == cudaSuccess) {
        LAUNCH(t->d, scatter, (unsigned)blocks_for(n, ROOF_THREADS), ROOF_THREADS, 0,
               (uint16_t *)t->memory, n, is_half ? 0x83ff : 0x807f, is_half ? 0x3800 : 0x3f00);
        return true;
    }
    cudaGetLastError(); // clear it: a loaded model may leave too little memory to measure
    t->memory = NULL;
    return false;
}

/* ---- FLOP/s ---- */

/* Products in registers, in CHAINS chains that do not depend on each other. */
template <class T>
__global__ void __launch_bounds__(ROOF_THREADS) spin(float *sink, const float *from)
{
    float d[CHAINS][4];
#pragma unroll
    for (int i = 0; i < CHAINS * 4; i++)
        d[i / 4][i % 4] = (float)i; // different, or the compiler would merge the chains
    uint32_t x = __float_as_uint(from[threadIdx.x]), a[4] = {x, x, x, x}, b[2] = {x, x};
    for (int i = 0; i < ROUNDS; i++)
#pragma unroll
        for (int j = 0; j < CHAINS; j++)
            mma_16816<T>(d[j], a, b);
    float sum = 0;
#pragma unroll
    for (int j = 0; j < CHAINS; j++)
        sum += d[j][0] + d[j][1] + d[j][2] + d[j][3];
    sink[blockIdx.x * ROOF_THREADS + threadIdx.x] = sum;
}

template <>
__global__ void __launch_bounds__(ROOF_THREADS) spin<float>(float *sink, const float *from)
{
    float d[CHAINS], x = from[threadIdx.x];
#pragma unroll
    for (int j = 0; j < CHAINS; j++)
        d[j] = (float)j;
    for (int i = 0; i < ROUNDS; i++)
#pragma unroll
        for (int j = 0; j < CHAINS; j++)
            d[j] = fmaf(x, d[j], x);
    float sum = 0;
#pragma unroll
    for (int j = 0; j < CHAINS; j++)
        sum += d[j];
    sink[blockIdx.x * ROOF_THREADS + threadIdx.x] = sum;
}

/* The same with 8-bit integers, as products with quantised weights have them. */
__global__ void __launch_bounds__(ROOF_THREADS) spin_integers(int *sink, const uint32_t *from)
{
    int d[CHAINS][4], sum = 0;
#pragma unroll
    for (int i = 0; i < CHAINS * 4; i++)
        d[i / 4][i % 4] = i;
    uint32_t x = from[threadIdx.x], a[4] = {x, x, x, x}, b[2] = {x, x};
    for (int i = 0; i < ROUNDS; i++)
#pragma unroll
        for (int j = 0; j < CHAINS; j++)
            mma_16832(d[j], a, b);
#pragma unroll
    for (int j = 0; j < CHAINS; j++)
        sum ^= d[j][0] ^ d[j][1] ^ d[j][2] ^ d[j][3];
    sink[blockIdx.x * ROOF_THREADS + threadIdx.x] = sum;
}

static double spin_flops(const trial &t)
{
    double threads = (double)t.blocks * ROOF_THREADS, chains = (double)ROUNDS * CHAINS;
    double each = t.type == DTYPE_F32 ? 2 : 2.0 * 16 * 16 * 8 / 32;
    return threads * chains * each;
}

static void run_spin(const trial &t)
{
    float *sink = (float *)t.memory, *from = sink + (size_t)t.blocks * ROOF_THREADS;
    FOR_TYPE(t.type, T, LAUNCH(t.d, spin<T>, t.blocks, ROOF_THREADS, 0, sink, from));
}

/* A large product by cuBLAS, which may use faster instructions than spin(). */
static void run_product(const trial &t)
{
    size_t each = (size_t)PRODUCT_SIZE * PRODUCT_SIZE * (size_t)dtype_bytes(t.type);
    char *at = (char *)t.memory;
    struct matrix w = {t.type, PRODUCT_SIZE, PRODUCT_SIZE, at, NULL, QUANT_NONE};
    blas_product(t.d, at + 2 * each, t.type, PRODUCT_SIZE, at + each, &w, PRODUCT_SIZE, 0);
}

static double rate(double amount, double seconds)
{
    return seconds > 0 ? amount / seconds : 0;
}

/* `quick` changes nothing: the measurement is short without it. */
double cuda_peak_flops(struct dev *d, enum dtype type, bool quick)
{
    (void)quick;
    trial t = {d, type, (unsigned)(d->cuda->multiprocessors * ROOF_BLOCKS), 0, NULL};
    size_t size = PRODUCT_SIZE, best_bytes = 3 * size * size * (size_t)dtype_bytes(type);
    size_t spin_bytes = (size_t)(t.blocks + 1) * ROOF_THREADS * sizeof(float);
    double best = 0;
    if (!cuda_works(d) || !take(&t, best_bytes > spin_bytes ? best_bytes : spin_bytes))
        return 0;
    best = rate(spin_flops(t), best_time(t, run_spin));
    double product =
        rate(2.0 * PRODUCT_SIZE * PRODUCT_SIZE * PRODUCT_SIZE, best_time(t, run_product));
    cudaFree(t.memory);
    return product > best ? product : best;
}

static void run_spin_integers(const trial &t)
{
    int *sink = (int *)t.memory;
    LAUNCH(t.d, spin_integers, t.blocks, ROOF_THREADS, 0, sink,
           (const uint32_t *)(sink + (size_t)t.blocks * ROOF_THREADS));
}

/* Of both kinds: weights of 4 bits are multiplied as integers of 8. */
double cuda_quant_peak_flops(struct dev *d, enum quant quant, bool quick)
{
    (void)quant, (void)quick;
    trial t = {d, DTYPE_F32, (unsigned)(d->cuda->multiprocessors * ROOF_BLOCKS), 0, NULL};
    if (!cuda_works(d) || !take(&t, (size_t)(t.blocks + 1) * ROOF_THREADS * sizeof(int)))
        return 0;
    double warps = (double)t.blocks * ROOF_THREADS / 32, each = 2.0 * 16 * 8 * 32;
    double best = rate(warps * ROUNDS * CHAINS * each, best_time(t, run_spin_integers));
    cudaFree(t.memory);
    return best;
}

/* ---- bytes/s ---- */

/* Each thread reads LOADS times 16 bytes at a time. The blocks read neighbouring parts. */
__global__ void __launch_bounds__(ROOF_THREADS)
    read_all(uint32_t *sink, const uint4 *from, size_t pieces)
{
    uint32_t sum = 0;
    size_t step = (size_t)gridDim.x * ROOF_THREADS * LOADS;
    for (size_t i = (size_t)blockIdx.x * ROOF_THREADS * LOADS + threadIdx.x; i < pieces;
         i += step) {
        uint4 v[LOADS];
#pragma unroll
        for (int j = 0; j < LOADS; j++)
            v[j] = i + (size_t)(j * ROOF_THREADS) < pieces ? __ldcs(from + i + j * ROOF_THREADS)
                                                           : make_uint4(0, 0, 0, 0);
#pragma unroll
        for (int j = 0; j < LOADS; j++)
            sum += v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
    }
    sink[blockIdx.x * ROOF_THREADS + threadIdx.x] = sum;
}

static size_t sink_bytes(const trial &t)
{
    return (size_t)t.blocks * ROOF_THREADS * sizeof(uint32_t);
}

static void run_read(const trial &t)
{
    char *from = (char *)t.memory + sink_bytes(t);
    LAUNCH(t.d, read_all, t.blocks, ROOF_THREADS, 0, (uint32_t *)t.memory, (const uint4 *)from,
           (t.bytes - sink_bytes(t)) / sizeof(uint4));
}

double cuda_read_bandwidth(struct dev *d, bool quick)
{
    (void)quick;
    trial t = {d, DTYPE_F32, (unsigned)(d->cuda->multiprocessors * ROOF_BLOCKS), 0, NULL};
    size_t room = cuda_free_bytes(d) / 2, bytes = READ_BYTES;
    if (!cuda_works(d) || !take(&t, sink_bytes(t) + (room < bytes ? room : bytes)))
        return 0;
    double seconds = best_time(t, run_read);
    cudaFree(t.memory);
    return rate((double)(t.bytes - sink_bytes(t)), seconds);
}
