/* The emulation of CUDA itself: correct programs work. */
#include "kernels/cuda/async.cuh"
#include "kernels/cuda/launch.cuh"

#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

extern "C" {
#include "tests/cm.h"
}

#define OK(call) assert_int_equal(call, cudaSuccess)

__global__ void scale(float *x, int n, float by)
{
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n)
        x[i] *= by;
}

__device__ float warp_sum(float v)
{
    for (int bits = 16; bits; bits /= 2)
        v += __shfl_xor_sync(0xffffffffu, v, bits);
    return v;
}

template <int THREADS> __global__ void sum(float *out, const float *x, int n)
{
    __shared__ float of_warp[THREADS / 32];
    float mine = 0;
    for (int i = (int)threadIdx.x; i < n; i += THREADS)
        mine += x[i];
    mine = warp_sum(mine);
    if (threadIdx.x % 32 == 0)
        of_warp[threadIdx.x / 32] = mine;
    __syncthreads();
    if (threadIdx.x == 0) {
        float all = 0;
        for (float w : of_warp)
            all += w;
        *out = all;
    }
}

static void test_kernels(void **)
{
    enum { N = 1000 };
    float host[N], result;
    for (int i = 0; i < N; i++)
        host[i] = (float)i;
    float *x, *out;
    cudaStream_t stream;
    OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    OK(cudaMalloc(&x, sizeof host));
    OK(cudaMalloc(&out, sizeof(float)));
    OK(cudaMemcpyAsync(x, host, sizeof host, cudaMemcpyHostToDevice, stream));
    LAUNCH(scale, (N + 127) / 128, 128, 0, stream, x, (int)N, 2.0f);
    LAUNCH(sum<256>, 1, 256, 0, stream, out, x, (int)N);
    OK(launch_take().error);
    OK(cudaMemcpyAsync(&result, out, sizeof result, cudaMemcpyDeviceToHost, stream));
    OK(cudaStreamSynchronize(stream));
    assert_true(result == 999000.0f);
    OK(cudaFree(x));
    OK(cudaFree(out));
    OK(cudaStreamDestroy(stream));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kernels),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
