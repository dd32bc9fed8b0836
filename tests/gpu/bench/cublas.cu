#include <algorithm>
#include <stdio.h>

#include "kernels/cuda/ffn.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/product.cuh"
#include "tests/gpu/bench/bench.h"

enum { THREADS = 256, SIDES = 2 };

/* One projection, as a grouped call wants it: a group for each expert that has rows. */
struct blas_side {
    int outputs, inputs;
    std::vector<int> m, n, k, ldw, ldx, ldy, size;
    std::vector<const void *> w, x;
    std::vector<void *> y;
    void *pointers; // device: w, x and y
};

struct blas_ffn {
    const void *x;
    const int32_t *source;
    int pairs, dim, width;
    char *gathered, *gate_up, *hidden, *y; // rows in the order of the experts; the device's
    std::vector<blas_side> sides;          // [layers][SIDES]
    std::vector<cublasOperation_t> transposed, plain;
    std::vector<float> ones, zeros;
};

/* hidden [pairs][width] := swiglu of gate_up [pairs][width][2] */
__global__ void __launch_bounds__(THREADS)
    swiglu_rows(__nv_bfloat16 *hidden, const __nv_bfloat16 *gate_up, size_t n)
{
    size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < n)
        set(hidden + i, swiglu(to_float(gate_up[2 * i]), to_float(gate_up[2 * i + 1])));
}

static void add_group(blas_side &side, const struct matrix &w, int rows, const char *x, char *y)
{
    side.m.push_back(w.n);
    side.n.push_back(rows);
    side.k.push_back(w.k);
    side.ldw.push_back(w.k);
    side.ldx.push_back(w.k);
    side.ldy.push_back(w.n);
    side.size.push_back(1);
    side.w.push_back(w.data);
    side.x.push_back(x);
    side.y.push_back(y);
}

static void upload_pointers(rig &r, blas_side &side)
{
    size_t n = side.w.size();
    std::vector<const void *> all(side.w);
    all.insert(all.end(), side.x.begin(), side.x.end());
    all.insert(all.end(), side.y.begin(), side.y.end());
    side.pointers = dev_alloc(&r.d, 3 * n * sizeof(void *));
    dev_upload(&r.d, side.pointers, all.data(), 3 * n * sizeof(void *));
}

/* Gate and up, then down, of each expert that has rows. */
static void add_layer(rig &r, blas_ffn *b, const routing &route, const struct ffn *experts)
{
    size_t dim = (size_t)b->dim, width = (size_t)b->width, first = 0;
    blas_side up = {}, down = {};
    for (size_t e = 0; e < route.host_count.size(); e++) {
        int rows = route.host_count[e];
        size_t at = first * sizeof(bf16);
        if (rows == 0)
            continue;
        add_group(up, experts[e].gate_up, rows, b->gathered + at * dim,
                  b->gate_up + at * 2 * width);
        add_group(down, experts[e].down, rows, b->hidden + at * width, b->y + at * dim);
        first += (size_t)rows;
    }
    upload_pointers(r, up);
    upload_pointers(r, down);
    b->sides.push_back(up);
    b->sides.push_back(down);
}

blas_ffn *blas_ffn_open(rig &r, const routing &route, const void *x)
{
    const shape &s = r.s;
    size_t pairs = (size_t)route.pairs, dim = (size_t)s.dim, width = (size_t)s.width;
    blas_ffn *b = new blas_ffn();
    b->x = x;
    b->source = route.source;
    b->pairs = route.pairs;
    b->dim = s.dim;
    b->width = s.width;
    b->gathered = (char *)dev_alloc(&r.d, pairs * dim * sizeof(bf16));
    b->gate_up = (char *)dev_alloc(&r.d, pairs * 2 * width * sizeof(bf16));
    b->hidden = (char *)dev_alloc(&r.d, pairs * width * sizeof(bf16));
    b->y = (char *)dev_alloc(&r.d, pairs * dim * sizeof(bf16));
    for (const struct ffn_list *layer : r.experts)
        add_layer(r, b, route, layer->ffns);
    size_t groups = b->sides[0].w.size();
    b->transposed.assign(groups, CUBLAS_OP_T);
    b->plain.assign(groups, CUBLAS_OP_N);
    b->ones.assign(groups, 1);
    b->zeros.assign(groups, 0);
    return b;
}

void blas_ffn_close(blas_ffn *b)
{
    delete b;
}

static cublasStatus_t run_grouped(rig &r, const blas_ffn *b, const blas_side &side)
{
    int groups = (int)side.w.size();
    const void *const *pointers = (const void *const *)side.pointers;
    return cublasGemmGroupedBatchedEx(
        r.d.cuda->blas, b->transposed.data(), b->plain.data(), side.m.data(), side.n.data(),
        side.k.data(), b->ones.data(), pointers, CUDA_R_16BF, side.ldw.data(), pointers + groups,
        CUDA_R_16BF, side.ldx.data(), b->zeros.data(), (void *const *)(pointers + 2 * groups),
        CUDA_R_16BF, side.ldy.data(), groups, side.size.data(), CUBLAS_COMPUTE_32F);
}

static cublasStatus_t run_loop(rig &r, const blas_side &side)
{
    float one = 1, zero = 0;
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    for (size_t i = 0; i < side.w.size() && status == CUBLAS_STATUS_SUCCESS; i++)
        status = cublasGemmEx(r.d.cuda->blas, CUBLAS_OP_T, CUBLAS_OP_N, side.m[i], side.n[i],
                              side.k[i], &one, side.w[i], CUDA_R_16BF, side.ldw[i], side.x[i],
                              CUDA_R_16BF, side.ldx[i], &zero, side.y[i], CUDA_R_16BF, side.ldy[i],
                              CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
    return status;
}

bool blas_ffn_run(rig &r, blas_ffn *b, int layer, bool grouped, bf16 *y)
{
    size_t hidden = (size_t)b->pairs * (size_t)b->width;
    gather(&r.d, b->gathered, b->x, b->source, b->pairs, (size_t)b->dim * sizeof(bf16));
    for (int i = 0; i < SIDES; i++) {
        const blas_side &side = b->sides[(size_t)(layer * SIDES + i)];
        cublasStatus_t status = grouped ? run_grouped(r, b, side) : run_loop(r, side);
        if (status != CUBLAS_STATUS_SUCCESS) {
            printf("| %s: %s | %d | | | | | |\n", grouped ? "cuBLAS grouped" : "cuBLAS in a loop",
                   cublasGetStatusString(status), b->pairs / r.s.top_k);
            return false;
        }
        if (i == 0)
            LAUNCH(&r.d, swiglu_rows, (unsigned)blocks_for(hidden, THREADS), THREADS, 0,
                   (__nv_bfloat16 *)b->hidden, (const __nv_bfloat16 *)b->gate_up, hidden);
    }
    if (y)
        dev_download(&r.d, y, b->y, (size_t)b->pairs * (size_t)b->dim * sizeof(bf16));
    return true;
}
