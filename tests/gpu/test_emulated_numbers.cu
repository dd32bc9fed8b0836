/* The emulation's number types, intrinsics and cuBLAS, against plain formulas. */
#include "kernels/cuda/launch.cuh"

#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <math.h>
#include <string.h>
#include <vector>

extern "C" {
#include "base/dtype.h"
#include "tests/rig/cm.h"
}

#define OK(call) assert_int_equal(call, 0)

static uint64_t state = 1;

static float uniform() // -1 .. 1
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(state >> 32) * 0x1p-31f;
}

/* ---- Numbers ---- */

__global__ void convert(uint2 *out, const float *x)
{
    float f = x[threadIdx.x];
    float2 pair = make_float2(f, -f);
    __nv_bfloat162 b = __float22bfloat162_rn(pair);
    __half2 h = __floats2half2_rn(f, -f);
    unsigned low = __bfloat16_as_ushort(__float2bfloat16_rn(f)), high = __half_as_ushort(h.x);
    out[threadIdx.x] = make_uint2(low << 16 | high, __float_as_uint(__bfloat1622float2(b).y));
}

static void test_conversions(void **)
{
    float host[256], *x;
    uint2 found[256], *out;
    for (int i = 0; i < 256; i++)
        host[i] = i < 2 ? (float)i * INFINITY : ldexpf(uniform(), i % 60 - 30);
    OK(cudaMalloc(&x, sizeof host));
    OK(cudaMalloc(&out, sizeof found));
    OK(cudaMemcpy(x, host, sizeof host, cudaMemcpyHostToDevice));
    OK(LAUNCH_ON(nullptr, false, convert, 1, 256, 0, out, x));
    OK(cudaMemcpy(found, out, sizeof found, cudaMemcpyDeviceToHost));
    for (int i = 0; i < 256; i++) {
        assert_int_equal(found[i].x >> 16, float_to_bf16(host[i]));
        assert_int_equal(found[i].x & 0xffff, float_to_f16(host[i]));
        assert_int_equal(found[i].y, float_to_bits(-bf16_to_float(float_to_bf16(host[i]))));
    }
    OK(cudaFree(x));
    OK(cudaFree(out));
}

__global__ void few(float *out, unsigned *bits, float x, int n)
{
    out[0] = __expf(x);
    out[1] = rsqrtf(x);
    out[2] = __fdividef(1, x);
    out[3] = max(x, 2.0f);
    out[4] = (float)min(n, 7u);
    out[5] = __fmaf_rn(x, x, x);
    bits[0] = (unsigned)__popc(0xf0f0u);
    bits[1] = (unsigned)__ffs(8);
    bits[2] = (unsigned)__clz(1);
    bits[3] = __brev(1);
    bits[4] = __byte_perm(0x33221100u, 0x77665544u, 0x7520);
    bits[5] = atomicMax(&bits[6], 5u);
    atomicCAS(&bits[6], 5u, 9u);
}

static void test_intrinsics(void **)
{
    float found[6], *out;
    unsigned bits[7], *words;
    OK(cudaMalloc(&out, sizeof found));
    OK(cudaMalloc(&words, sizeof bits));
    OK(cudaMemset(words, 0, sizeof bits));
    OK(LAUNCH_ON(nullptr, false, few, 1, 1, 0, out, words, 0.25f, 9));
    OK(cudaMemcpy(found, out, sizeof found, cudaMemcpyDeviceToHost));
    OK(cudaMemcpy(bits, words, sizeof bits, cudaMemcpyDeviceToHost));
    const float floats[] = {expf(0.25f), 2, 4, 2, 7, 0.3125f};
    const unsigned wanted[] = {8, 4, 31, 0x80000000u, 0x77552200u, 0, 9};
    assert_memory_equal(found, floats, sizeof found);
    assert_memory_equal(bits, wanted, sizeof bits);
    OK(cudaFree(out));
    OK(cudaFree(words));
}

/* ---- cuBLAS ---- */

struct problem {
    int m, n, k;
    bool trans_a, trans_b;
    cudaDataType in, out;
};

static enum dtype dtype_of(cudaDataType t)
{
    return t == CUDA_R_32F ? DTYPE_F32 : t == CUDA_R_16F ? DTYPE_F16 : DTYPE_BF16;
}

struct matrix_on_both { // column-major, ld rows
    cudaDataType type;
    int ld, columns;
    std::vector<char> host;
    void *device;
    float at(bool transposed, int row, int column) const
    {
        int r = transposed ? column : row, c = transposed ? row : column;
        return dtype_load(dtype_of(type), host.data(), (size_t)c * (size_t)ld + (size_t)r);
    }
};

static matrix_on_both random_matrix(cudaDataType type, int rows, int columns)
{
    matrix_on_both m = {type, rows + 3, columns, {}, nullptr};
    size_t n = (size_t)m.ld * (size_t)columns;
    m.host.resize(n * (size_t)dtype_bytes(dtype_of(type)));
    for (size_t i = 0; i < n; i++)
        dtype_store(dtype_of(type), m.host.data(), i, uniform());
    OK(cudaMalloc(&m.device, m.host.size()));
    OK(cudaMemcpy(m.device, m.host.data(), m.host.size(), cudaMemcpyHostToDevice));
    return m;
}

static void check(const problem &p, const matrix_on_both &a, const matrix_on_both &b,
                  const matrix_on_both &c, float alpha, float beta)
{
    std::vector<char> found(c.host.size());
    OK(cudaMemcpy(found.data(), c.device, found.size(), cudaMemcpyDeviceToHost));
    double unit = p.out == CUDA_R_32F ? 1e-6 : p.out == CUDA_R_16F ? 1e-3 : 8e-3;
    for (int i = 0; i < c.ld; i++)
        for (int j = 0; j < p.n; j++) {
            size_t at = (size_t)j * (size_t)c.ld + (size_t)i;
            double sum = 0, old = c.at(false, i, j), new_value;
            new_value = dtype_load(dtype_of(p.out), found.data(), at);
            for (int l = 0; l < p.k && i < p.m; l++)
                sum += (double)a.at(p.trans_a, i, l) * (double)b.at(p.trans_b, l, j);
            double wanted = i < p.m ? alpha * sum + beta * old : old;
            assert_true(fabs(new_value - wanted) <= unit * (p.k + fabs(wanted)));
        }
}

static void test_gemm(void **)
{
    cublasHandle_t blas;
    cudaStream_t stream;
    OK(cublasCreate(&blas));
    OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    OK(cublasSetStream(blas, stream));
    const cudaDataType in[] = {CUDA_R_32F, CUDA_R_16F, CUDA_R_16BF};
    const float alpha = 0.5f, beta = -1;
    for (int i = 0; i < 24; i++) {
        problem p = {5, 7, 9, (i & 1) != 0, (i & 2) != 0, in[i / 8], CUDA_R_32F};
        if (i & 4)
            p.out = p.in;
        matrix_on_both a = random_matrix(p.in, p.trans_a ? p.k : p.m, p.trans_a ? p.m : p.k);
        matrix_on_both b = random_matrix(p.in, p.trans_b ? p.n : p.k, p.trans_b ? p.k : p.n);
        matrix_on_both c = random_matrix(p.out, p.m, p.n);
        OK(cublasGemmEx(blas, p.trans_a ? CUBLAS_OP_T : CUBLAS_OP_N,
                        p.trans_b ? CUBLAS_OP_T : CUBLAS_OP_N, p.m, p.n, p.k, &alpha, a.device,
                        p.in, a.ld, b.device, p.in, b.ld, &beta, c.device, p.out, c.ld,
                        CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
        OK(cudaStreamSynchronize(stream));
        check(p, a, b, c, alpha, beta);
        for (const matrix_on_both *m : {&a, &b, &c})
            OK(cudaFree(m->device));
    }
    OK(cublasDestroy(blas));
    OK(cudaStreamDestroy(stream));
}

/* Two groups, of two problems and of one, by pointers in device memory. */
static void test_grouped_gemm(void **)
{
    cublasHandle_t blas;
    OK(cublasCreate(&blas));
    const problem shapes[] = {{4, 3, 8, true, false, CUDA_R_16BF, CUDA_R_16BF},
                              {6, 1, 5, true, false, CUDA_R_16BF, CUDA_R_16BF}};
    const int group_size[] = {2, 1}, m[] = {4, 6}, n[] = {3, 1}, k[] = {8, 5};
    const int lda[] = {11, 8}, ldb[] = {11, 8}, ldc[] = {7, 9};
    const cublasOperation_t trans[] = {CUBLAS_OP_T, CUBLAS_OP_T};
    const cublasOperation_t plain[] = {CUBLAS_OP_N, CUBLAS_OP_N};
    const float alpha[] = {1, 2}, beta[] = {0, 1};
    std::vector<matrix_on_both> all;
    void *pointers[9], **on_device;
    for (int i = 0; i < 3; i++) {
        const problem &p = shapes[i / 2];
        all.push_back(random_matrix(p.in, p.k, p.m));
        all.push_back(random_matrix(p.in, p.k, p.n));
        all.push_back(random_matrix(p.out, p.m, p.n));
        for (int j = 0; j < 3; j++)
            pointers[j * 3 + i] = all[(size_t)(i * 3 + j)].device;
    }
    OK(cudaMalloc(&on_device, sizeof pointers));
    OK(cudaMemcpy(on_device, pointers, sizeof pointers, cudaMemcpyHostToDevice));
    OK(cublasGemmGroupedBatchedEx(
        blas, trans, plain, m, n, k, alpha, (const void *const *)on_device, CUDA_R_16BF, lda,
        (const void *const *)(on_device + 3), CUDA_R_16BF, ldb, beta, on_device + 6, CUDA_R_16BF,
        ldc, 2, group_size, CUBLAS_COMPUTE_32F));
    for (size_t i = 0; i < 3; i++)
        check(shapes[i / 2], all[i * 3], all[i * 3 + 1], all[i * 3 + 2], alpha[i / 2], beta[i / 2]);
    assert_int_equal(cublasGemmGroupedBatchedEx(
                         blas, trans, plain, m, n, k, alpha, (const void *const *)on_device,
                         CUDA_R_16BF, lda, (const void *const *)(on_device + 3), CUDA_R_16BF, ldb,
                         beta, on_device + 6, CUDA_R_32F, ldc, 2, group_size, CUBLAS_COMPUTE_32F),
                     CUBLAS_STATUS_NOT_SUPPORTED);
    assert_int_equal(cublasGemmGroupedBatchedEx(
                         blas, trans, plain, m, n, k, alpha, (const void *const *)on_device,
                         CUDA_R_16BF, lda, (const void *const *)(on_device + 3), CUDA_R_16BF, ldb,
                         beta, on_device + 6, CUDA_R_16BF, NULL, 2, group_size, CUBLAS_COMPUTE_32F),
                     CUBLAS_STATUS_INVALID_VALUE);
    cudaGetLastError();
    for (const matrix_on_both &each : all)
        OK(cudaFree(each.device));
    OK(cudaFree(on_device));
    OK(cublasDestroy(blas));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conversions),
        cmocka_unit_test(test_intrinsics),
        cmocka_unit_test(test_gemm),
        cmocka_unit_test(test_grouped_gemm),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
