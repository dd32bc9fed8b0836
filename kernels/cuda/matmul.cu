/* Dense products: of few rows by stream.cuh, of many by cuBLAS; those with quantised weights by
 * quant.cu. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/dense.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/product.cuh"
#include "kernels/cuda/quant.cuh"

struct dense_call {
    const char *w, *x;
    dense_output to;
    int row_bytes, rows;
    int ahead; // see prefetch_weights
};

template <int FRAGMENTS> struct dense_tiles {
    dense_call c;
    static constexpr int STRIP = FRAGMENTS * FRAGMENT_ROWS;

    __device__ __forceinline__ bool is_known(int number) const
    {
        (void)number;
        return true;
    }

    __device__ __forceinline__ int ahead() const
    {
        return c.ahead;
    }

    __device__ __forceinline__ stream_tile<FRAGMENTS> find(int number, int lane) const
    {
        int tiles = (c.to.n + TILE_OUTPUTS - 1) / TILE_OUTPUTS, first = number / tiles * STRIP;
        int rows = min(c.rows - first, STRIP);
        stream_tile<FRAGMENTS> tile = {};
        if (rows <= 0)
            return tile;
        stream_outputs(tile, c.w, c.row_bytes, c.to.n, number % tiles * TILE_OUTPUTS, lane);
        stream_rows(tile, c.x, c.row_bytes, NULL, first, first, rows, lane);
        return tile;
    }

    template <int WARPS>
    __device__ __forceinline__ void finish(const stream_tile<FRAGMENTS> &tile,
                                           const float (&sums)[WARPS][TILE_OUTPUTS][STRIP]) const
    {
        finish_dense<WARPS * WARP_SIZE>(c.to, tile, sums);
    }
};

template <class T, int FRAGMENTS, int WARPS>
__global__ void __launch_bounds__(WARPS *WARP_SIZE,
                                  WARPS > STREAM_WARPS ? 1 : stream_blocks<T, FRAGMENTS>())
    dense_stream(dense_call call)
{
    stream<T, FRAGMENTS, WARPS>(dense_tiles<FRAGMENTS>{call});
}

/* If there are fewer tiles than multiprocessors, each tile gets more warps. */
template <class T, int FRAGMENTS> static void launch_stream(struct dev *d, dense_call call)
{
    int strips = (call.rows - 1) / (FRAGMENTS * FRAGMENT_ROWS) + 1;
    int tiles = (call.to.n - 1) / TILE_OUTPUTS + 1, most = d->cuda->multiprocessors;
    call.ahead = chunks_ahead(d->cuda->ahead_bytes,
                              min(tiles * strips, most * stream_blocks<T, FRAGMENTS>()));
    if (tiles * strips <= most)
        LAUNCH_EARLY(d, (dense_stream<T, FRAGMENTS, 2 * STREAM_WARPS>), tiles * strips,
                     2 * STREAM_WARPS * WARP_SIZE, 0, call);
    else
        LAUNCH_EARLY(d, (dense_stream<T, FRAGMENTS, STREAM_WARPS>),
                     min(tiles * strips, most * stream_blocks<T, FRAGMENTS>()),
                     STREAM_WARPS * WARP_SIZE, 0, call);
}

static void stream_product(struct dev *d, const dense_call &call, enum dtype type)
{
    if (type == DTYPE_F32)
        launch_stream<float, 1>(d, call);
    else if (type == DTYPE_F16 && call.rows <= FEW_ROWS)
        launch_stream<__half, 1>(d, call);
    else if (type == DTYPE_F16)
        launch_stream<__half, 4>(d, call);
    else if (call.rows <= FEW_ROWS)
        launch_stream<__nv_bfloat16, 1>(d, call);
    else
        launch_stream<__nv_bfloat16, 4>(d, call);
}

static cudaDataType_t blas_type(enum dtype type)
{
    return type == DTYPE_F32 ? CUDA_R_32F : type == DTYPE_F16 ? CUDA_R_16F : CUDA_R_16BF;
}

/* cuBLAS stores matrices by columns, so our rows of x, w and y are its columns. */
void blas_product(struct dev *d, void *y, enum dtype y_type, int ldy, const void *x,
                  const struct matrix *w, int n, float beta)
{
    float one = 1;
    int stride = row_stride(w->k);
    cublas_good(d,
                cublasGemmEx(d->cuda->blas, CUBLAS_OP_T, CUBLAS_OP_N, w->n, n, stride, &one,
                             w->data, blas_type(w->type), stride, x, blas_type(w->type), stride,
                             &beta, y, blas_type(y_type), ldy, CUBLAS_COMPUTE_32F,
                             CUBLAS_GEMM_DEFAULT),
                "multiplying matrices");
}

enum { BIAS_THREADS = 256 };

__global__ void __launch_bounds__(BIAS_THREADS)
    add_bias(float *y, int ldy, const float *bias, int columns)
{
    int column = (int)(blockIdx.y * BIAS_THREADS + threadIdx.x);
    if (column < columns)
        y[(size_t)blockIdx.x * (size_t)ldy + column] += bias[column];
}

static void many_rows(struct dev *d, float *y, int ldy, const void *x, const struct matrix *w,
                      int n, bool add)
{
    blas_product(d, y, DTYPE_F32, ldy, x, w, n, add ? 1 : 0);
    if (w->bias)
        LAUNCH(d, add_bias, dim3((unsigned)n, (unsigned)blocks_for((size_t)w->n, BIAS_THREADS)),
               BIAS_THREADS, 0, y, ldy, w->bias, w->n);
}

static void product(struct dev *d, float *y, int ldy, const void *x, const struct matrix *w, int n,
                    bool add)
{
    if (n == 0 || !cuda_works(d))
        return;
    if (w->quant) {
        quant_product(d, y, ldy, x, w, n, add);
        return;
    }
    if (n > STREAM_ROWS) {
        many_rows(d, y, ldy, x, w, n, add);
        return;
    }
    int row_bytes = row_stride(w->k) * dtype_bytes(w->type);
    stream_product(
        d, {(const char *)w->data, (const char *)x, {w->bias, y, w->n, ldy, add}, row_bytes, n, 0},
        w->type);
}

void cuda_matmul(struct dev *d, float *y, int ldy, const void *x, const struct matrix *w, int n)
{
    product(d, y, ldy, x, w, n, false);
}

void cuda_matmul_add(struct dev *d, float *y, int ldy, const void *x, const struct matrix *w, int n)
{
    product(d, y, ldy, x, w, n, true);
}
