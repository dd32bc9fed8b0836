/* cuBLAS as plain loops, queued on the handle's stream like a kernel. */
#include "cublas_v2.h"

#include <algorithm>
#include <string.h>

#include "api.h"
#include "base/dtype.h"
#include "heap.h"
#include "stream.h"

struct cublasContext {
    cudaStream_t stream;
};

namespace emulated
{

struct operand {
    const void *at;
    cudaDataType type;
    int ld;
    bool transposed;
};

struct gemm {
    int m, n, k;
    float alpha, beta;
    operand a, b;
    void *c;
    cudaDataType c_type;
    int ldc;
};

static enum dtype dtype_of(cudaDataType type)
{
    return type == CUDA_R_32F ? DTYPE_F32 : type == CUDA_R_16F ? DTYPE_F16 : DTYPE_BF16;
}

static float element(const operand &o, int row, int column)
{
    size_t r = (size_t)(o.transposed ? column : row), c = (size_t)(o.transposed ? row : column);
    return dtype_load(dtype_of(o.type), o.at, c * (size_t)o.ld + r);
}

static std::vector<float> unpacked(const operand &o, int rows, int columns)
{
    std::vector<float> x((size_t)rows * (size_t)columns);
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++)
            x[(size_t)r * (size_t)columns + (size_t)c] = element(o, r, c);
    return x;
}

static void run(const gemm &g)
{
    operand b_rows = g.b; // columns of op(B), so that the inner loop runs along both
    b_rows.transposed = !b_rows.transposed;
    std::vector<float> a = unpacked(g.a, g.m, g.k), b = unpacked(b_rows, g.n, g.k);
    enum dtype type = dtype_of(g.c_type);
    for (int j = 0; j < g.n; j++)
        for (int i = 0; i < g.m; i++) {
            const float *x = &a[(size_t)i * (size_t)g.k], *y = &b[(size_t)j * (size_t)g.k];
            float sum = 0;
            for (int l = 0; l < g.k; l++)
                sum += x[l] * y[l];
            size_t at = (size_t)j * (size_t)g.ldc + (size_t)i;
            float old = g.beta != 0 ? g.beta * dtype_load(type, g.c, at) : 0;
            dtype_store(type, g.c, at, g.alpha * sum + old);
        }
}

static cublasStatus_t wrong(const char *call, const char *what)
{
    misuse(cudaErrorInvalidValue, "%s: %s", call, what);
    return CUBLAS_STATUS_INVALID_VALUE;
}

static cublasStatus_t unsupported(const char *call, const char *what)
{
    misuse(cudaErrorInvalidValue, "%s: %s", call, what);
    return CUBLAS_STATUS_NOT_SUPPORTED;
}

static cublasStatus_t check(const char *call, const gemm &g)
{
    if (g.m < 0 || g.n < 0 || g.k < 0)
        return wrong(call, "a size is negative");
    if (g.a.ld < (g.a.transposed ? g.k : g.m) || g.b.ld < (g.b.transposed ? g.n : g.k) ||
        g.ldc < g.m)
        return wrong(call, "a leading dimension is too small");
    if (g.a.type != g.b.type || (g.c_type != CUDA_R_32F && g.c_type != g.a.type))
        return wrong(call, "cuBLAS has no such combination of types");
    return CUBLAS_STATUS_SUCCESS;
}

static bool holds(const void *at, size_t rows, size_t columns, int ld, cudaDataType type)
{
    size_t elements = rows && columns ? (columns - 1) * (size_t)ld + rows : 0;
    memory_kind kind = kind_of(at, elements * (size_t)dtype_bytes(dtype_of(type)));
    return elements == 0 || kind == DEVICE || kind == PINNED;
}

static cublasStatus_t check_memory(const char *call, const gemm &g)
{
    size_t m = (size_t)g.m, n = (size_t)g.n, k = (size_t)g.k;
    if (!holds(g.a.at, g.a.transposed ? k : m, g.a.transposed ? m : k, g.a.ld, g.a.type))
        return wrong(call, "A does not lie in an allocation of device memory");
    if (!holds(g.b.at, g.b.transposed ? n : k, g.b.transposed ? k : n, g.b.ld, g.b.type))
        return wrong(call, "B does not lie in an allocation of device memory");
    if (!holds(g.c, m, n, g.ldc, g.c_type))
        return wrong(call, "C does not lie in an allocation of device memory");
    return CUBLAS_STATUS_SUCCESS;
}

/* What a grouped call asks of matrices of 16-bit types. */
static bool is_aligned(const gemm &g)
{
    size_t bytes = (size_t)dtype_bytes(dtype_of(g.a.type)), row = (size_t)g.k * bytes;
    size_t unit = row % 16 == 0 ? 16 : row % 4 == 0 ? 4 : 1;
    for (const void *at : {g.a.at, g.b.at, (const void *)g.c})
        if (bytes == 2 && (uintptr_t)at % unit)
            return false;
    return true;
}

/* Problems of a grouped call run in any order, or at once. */
static void check_apart(const std::vector<gemm> &all)
{
    std::vector<std::pair<const char *, const char *>> ranges;
    for (const gemm &g : all) {
        size_t elements = g.m && g.n ? (size_t)(g.n - 1) * (size_t)g.ldc + (size_t)g.m : 0;
        const char *at = (const char *)g.c;
        ranges.push_back({at, at + elements * (size_t)dtype_bytes(dtype_of(g.c_type))});
    }
    std::sort(ranges.begin(), ranges.end());
    for (size_t i = 1; i < ranges.size(); i++)
        if (ranges[i].first < ranges[i - 1].second)
            die("cublasGemmGroupedBatchedEx: two of the matrices C overlap");
}

static cublasStatus_t issued(cublasHandle_t handle, std::function<void()> f)
{
    return issue(handle->stream, std::move(f)) ? CUBLAS_STATUS_EXECUTION_FAILED
                                               : CUBLAS_STATUS_SUCCESS;
}

#define BLAS_CALL()                                                                                \
    std::lock_guard<std::recursive_mutex> hold(api_lock);                                          \
    if (enter(__func__))                                                                           \
        return CUBLAS_STATUS_EXECUTION_FAILED;

static float scalar(const void *at, int i)
{
    return ((const float *)at)[i];
}

} // namespace emulated

using namespace emulated;

cublasStatus_t cublasCreate(cublasHandle_t *handle)
{
    std::lock_guard<std::recursive_mutex> hold(api_lock);
    if (enter(__func__))
        return CUBLAS_STATUS_NOT_INITIALIZED;
    *handle = new cublasContext{nullptr};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy(cublasHandle_t handle)
{
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream)
{
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t, cublasMath_t)
{
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetPointerMode(cublasHandle_t, cublasPointerMode_t mode)
{
    return mode == CUBLAS_POINTER_MODE_HOST ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasSetAtomicsMode(cublasHandle_t, cublasAtomicsMode_t)
{
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace(cublasHandle_t, void *workspace, size_t bytes)
{
    BLAS_CALL();
    if (workspace && kind_of(workspace, bytes) != DEVICE)
        return wrong(__func__, "the workspace is not device memory");
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetVersion(cublasHandle_t, int *version)
{
    *version = 130000;
    return CUBLAS_STATUS_SUCCESS;
}

const char *cublasGetStatusName(cublasStatus_t status)
{
    switch (status) {
    case CUBLAS_STATUS_SUCCESS:
        return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
        return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED:
        return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE:
        return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_EXECUTION_FAILED:
        return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_NOT_SUPPORTED:
        return "CUBLAS_STATUS_NOT_SUPPORTED";
    }
    return "unknown cuBLAS status";
}

const char *cublasGetStatusString(cublasStatus_t status)
{
    return cublasGetStatusName(status);
}

/* Checked one by one, and run in order. */
static cublasStatus_t issue_gemms(const char *call, cublasHandle_t handle, std::vector<gemm> all)
{
    for (const gemm &g : all) {
        if (cublasStatus_t bad = check(call, g))
            return bad;
        if (cublasStatus_t bad = check_memory(call, g))
            return bad;
    }
    return issued(handle, [all] {
        for (const gemm &g : all)
            run(g);
    });
}

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t trans_a,
                                          cublasOperation_t trans_b, int m, int n, int k,
                                          const void *alpha, const void *a, cudaDataType a_type,
                                          int lda, long long stride_a, const void *b,
                                          cudaDataType b_type, int ldb, long long stride_b,
                                          const void *beta, void *c, cudaDataType c_type, int ldc,
                                          long long stride_c, int batch, cublasComputeType_t,
                                          cublasGemmAlgo_t)
{
    BLAS_CALL();
    std::vector<gemm> all;
    for (long long i = 0; i < batch; i++) {
        auto nth = [=](const void *p, cudaDataType type, long long stride) {
            return (char *)p + i * stride * dtype_bytes(dtype_of(type));
        };
        all.push_back({m,
                       n,
                       k,
                       scalar(alpha, 0),
                       scalar(beta, 0),
                       {nth(a, a_type, stride_a), a_type, lda, trans_a == CUBLAS_OP_T},
                       {nth(b, b_type, stride_b), b_type, ldb, trans_b == CUBLAS_OP_T},
                       nth(c, c_type, stride_c),
                       c_type,
                       ldc});
    }
    return issue_gemms(__func__, handle, std::move(all));
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t trans_a,
                            cublasOperation_t trans_b, int m, int n, int k, const void *alpha,
                            const void *a, cudaDataType a_type, int lda, const void *b,
                            cudaDataType b_type, int ldb, const void *beta, void *c,
                            cudaDataType c_type, int ldc, cublasComputeType_t, cublasGemmAlgo_t)
{
    BLAS_CALL();
    gemm g = {m,
              n,
              k,
              scalar(alpha, 0),
              scalar(beta, 0),
              {a, a_type, lda, trans_a == CUBLAS_OP_T},
              {b, b_type, ldb, trans_b == CUBLAS_OP_T},
              c,
              c_type,
              ldc};
    return issue_gemms(__func__, handle, {g});
}

cublasStatus_t cublasGemmGroupedBatchedEx(cublasHandle_t handle, const cublasOperation_t trans_a[],
                                          const cublasOperation_t trans_b[], const int m[],
                                          const int n[], const int k[], const void *alpha,
                                          const void *const a[], cudaDataType a_type,
                                          const int lda[], const void *const b[],
                                          cudaDataType b_type, const int ldb[], const void *beta,
                                          void *const c[], cudaDataType c_type, const int ldc[],
                                          int groups, const int group_size[], cublasComputeType_t)
{
    BLAS_CALL();
    std::vector<gemm> all;
    for (const void *array : {(const void *)trans_a, (const void *)trans_b, (const void *)m,
                              (const void *)n, (const void *)k, alpha, (const void *)lda,
                              (const void *)ldb, beta, (const void *)ldc, (const void *)group_size})
        if (!array)
            return wrong(__func__, "an array is NULL");
    if (groups < 0)
        return wrong(__func__, "a number of groups is negative");
    if (c_type != a_type || b_type != a_type)
        return unsupported(__func__, "grouped, cuBLAS has A, B and C of one type only");
    for (int g = 0; g < groups; g++) {
        gemm one = {m[g],
                    n[g],
                    k[g],
                    scalar(alpha, g),
                    scalar(beta, g),
                    {nullptr, a_type, lda[g], trans_a[g] == CUBLAS_OP_T},
                    {nullptr, b_type, ldb[g], trans_b[g] == CUBLAS_OP_T},
                    nullptr,
                    c_type,
                    ldc[g]};
        if (cublasStatus_t bad = check(__func__, one))
            return bad;
        if (group_size[g] < 0)
            return wrong(__func__, "a size of a group is negative");
        all.insert(all.end(), (size_t)group_size[g], one);
    }
    for (const void *array : {(const void *)a, (const void *)b, (const void *)c})
        if (!all.empty() && kind_of(array, all.size() * sizeof(void *)) != DEVICE)
            return wrong(__func__, "an array of pointers is not in device memory");
    return issued(handle, [all, a, b, c]() mutable {
        for (size_t i = 0; i < all.size(); i++) {
            all[i].a.at = a[i];
            all[i].b.at = b[i];
            all[i].c = c[i];
            if (!is_aligned(all[i]))
                die("cublasGemmGroupedBatchedEx: problem %zu: a matrix is not aligned", i);
            if (check_memory("cublasGemmGroupedBatchedEx", all[i]))
                die("cublasGemmGroupedBatchedEx: problem %zu", i);
        }
        check_apart(all);
        for (const gemm &one : all)
            run(one);
    });
}
