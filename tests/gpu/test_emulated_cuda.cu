/* The emulation of CUDA: correct programs work. What it finds in wrong ones is tested in
 * test_emulated_bugs.cu. */
#include "kernels/cuda/async.cuh"
#include "kernels/cuda/launch.cuh"

#include <stdlib.h>

extern "C" {
#include "tests/rig/cm.h"
}

#define OK(call) assert_int_equal(call, cudaSuccess)

enum { ALL = 0xffffffff };

template <class T> static T *device(size_t n, const T *from = nullptr)
{
    T *x;
    OK(cudaMalloc(&x, n * sizeof *x));
    if (from)
        OK(cudaMemcpy(x, from, n * sizeof *x, cudaMemcpyHostToDevice));
    return x;
}

/* To the host, and free. */
template <class T> static void take(T *to, T *x, size_t n)
{
    OK(cudaDeviceSynchronize());
    OK(cudaMemcpy(to, x, n * sizeof *x, cudaMemcpyDeviceToHost));
    OK(cudaFree(x));
}

static cudaStream_t new_stream()
{
    cudaStream_t s;
    OK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    return s;
}

static cudaEvent_t new_event()
{
    cudaEvent_t e;
    OK(cudaEventCreate(&e));
    return e;
}

/* ---- Blocks ---- */

__global__ void names(uint4 *to)
{
    unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    unsigned threads = blockDim.x * blockDim.y * blockDim.z;
    to[block * threads + thread] =
        make_uint4(blockIdx.x * 100 + threadIdx.x, blockIdx.y * 100 + threadIdx.y,
                   blockIdx.z * 100 + threadIdx.z, block);
}

static void test_indices(void **)
{
    uint4 host[24 * 30];
    uint4 *x = device<uint4>(24 * 30);
    OK(LAUNCH_ON(nullptr, false, names, dim3(2, 3, 4), dim3(5, 3, 2), 0, x));
    take(host, x, 24 * 30);
    for (unsigned i = 0; i < 24 * 30; i++) {
        unsigned b = i / 30, t = i % 30;
        assert_int_equal(host[i].x, b % 2 * 100 + t % 5);
        assert_int_equal(host[i].y, b / 2 % 3 * 100 + t / 5 % 3);
        assert_int_equal(host[i].z, b / 6 * 100 + t / 15);
    }
}

/* Sum by a tree in dynamic shared memory: wrong without each of its barriers. */
__global__ void tree_sum(int *out, const int *x)
{
    DYNAMIC_SHARED(int, sums);
    unsigned i = threadIdx.x;
    sums[i] = x[blockIdx.x * blockDim.x + i];
    for (unsigned by = blockDim.x / 2; by; by /= 2) {
        __syncthreads();
        if (i < by)
            sums[i] += sums[i + by];
    }
    if (i == 0)
        atomicAdd(out, sums[0]);
}

__global__ void vote(int *out)
{
    int i = (int)threadIdx.x;
    out[i] = __syncthreads_count(i % 3 == 0);
    out[i] += __syncthreads_and(i < 90) ? 1000 : 0;
    out[i] += __syncthreads_or(i == 89) ? 10000 : 0;
}

static void test_barriers(void **)
{
    int host[4096], sum = 0, votes[90];
    for (int i = 0; i < 4096; i++)
        sum += host[i] = i * 7 % 1000;
    int *x = device(4096, host), *out = device<int>(1), *v = device<int>(90), found;
    for (int threads = 1; threads <= 1024; threads *= 4) {
        OK(cudaMemset(out, 0, sizeof *out));
        OK(LAUNCH_ON(nullptr, false, tree_sum, 4096 / threads, threads, threads * sizeof(int), out,
                     x));
        OK(cudaMemcpy(&found, out, sizeof found, cudaMemcpyDeviceToHost));
        assert_int_equal(found, sum);
    }
    OK(LAUNCH_ON(nullptr, false, vote, 1, 90, 0, v));
    take(votes, v, 90);
    for (int i = 0; i < 90; i++)
        assert_int_equal(votes[i], 11030);
    OK(cudaFree(x));
    OK(cudaFree(out));
}

__global__ void hand_over(int *flag, int *out) // one thread waits for another without a barrier
{
    if (threadIdx.x == 0)
        while (atomicAdd(flag, 0) == 0)
            __nanosleep(100);
    else
        atomicExch(flag, 42);
    *out = *flag;
}

static void test_spinning(void **)
{
    int zero = 0, found;
    int *flag = device(1, &zero), *out = device<int>(1);
    OK(LAUNCH_ON(nullptr, false, hand_over, 1, 2, 0, flag, out));
    take(&found, out, 1);
    assert_int_equal(found, 42);
    OK(cudaFree(flag));
}

/* ---- Warps ---- */

enum { OPERATIONS = 14 };

__global__ void operations(int *out)
{
    int me = (int)threadIdx.x, lane = me % 32, v = me * 3 + 1, i = 0;
    auto put = [&](int x) { out[i++ * 64 + me] = x; };
    put(__shfl_sync(ALL, v, 5));
    put(__shfl_sync(ALL, v, lane + 3, 8));
    put(__shfl_xor_sync(ALL, v, 9));
    put(__shfl_up_sync(ALL, v, 4));
    put(__shfl_down_sync(ALL, v, 4, 16));
    put((int)__ballot_sync(ALL, lane % 5 == 0));
    put(__any_sync(ALL, lane == 31));
    put(__all_sync(ALL, lane < 31));
    put((int)__match_any_sync(ALL, lane % 4));
    put(__reduce_add_sync(ALL, v));
    put(__reduce_max_sync(ALL, -v));
    put((int)__reduce_or_sync(ALL, 1u << lane / 2));
    unsigned side = lane < 16 ? 0xffffu : 0xffff0000u; // halves that go different ways
    if (lane < 16)
        put(__shfl_xor_sync(side, v, 1));
    else
        put(__shfl_xor_sync(side, v, 2));
    put(__reduce_add_sync(side, v));
    __syncwarp();
}

static int wanted(int operation, int me)
{
    int lane = me % 32, first = me - lane;
    auto v = [](int thread) { return thread * 3 + 1; };
    switch (operation) {
    case 0:
        return v(first + 5);
    case 1:
        return v(first + lane / 8 * 8 + (lane + 3) % 8);
    case 2:
        return v(first + (lane ^ 9));
    case 3:
        return v(lane < 4 ? me : me - 4);
    case 4:
        return v(lane % 16 < 12 ? me + 4 : me);
    case 5:
        return 0x42108421;
    case 6:
        return 1;
    case 7:
        return 0;
    case 8:
        return 0x11111111 << lane % 4;
    case 9:
        return 32 * v(first) + 3 * 496;
    case 10:
        return -v(first);
    case 11:
        return 0xffff;
    case 12:
        return v(me ^ (lane < 16 ? 1 : 2));
    default:
        return 16 * v(first + lane / 16 * 16) + 3 * 120;
    }
}

static void test_warps(void **)
{
    int host[OPERATIONS * 64];
    int *out = device<int>(OPERATIONS * 64);
    OK(LAUNCH_ON(nullptr, false, operations, 1, 64, 0, out));
    take(host, out, OPERATIONS * 64);
    for (int i = 0; i < OPERATIONS * 64; i++)
        assert_int_equal(host[i], wanted(i / 64, i % 64));
}

struct number {
    int n;
};

static void prefix(const number *const in[32], number *const out[32])
{
    for (int i = 0, sum = 0; i < 32; i++)
        out[i]->n = sum += in[i]->n;
}

__global__ void collectives(int *out)
{
    number mine = {(int)threadIdx.x}, sum;
    int all[32];
    emulated::warp_collective<number, number, prefix>(mine, sum);
    emulated::warp_exchange(&mine, sizeof mine, all);
    out[threadIdx.x] = sum.n * 1000 + all[31 - threadIdx.x];
}

static void test_collectives(void **)
{
    int host[32];
    int *out = device<int>(32);
    OK(LAUNCH_ON(nullptr, false, collectives, 1, 32, 0, out));
    take(host, out, 32);
    for (int i = 0; i < 32; i++)
        assert_int_equal(host[i], i * (i + 1) / 2 * 1000 + 31 - i);
}

/* ---- Copies that happen late ---- */

template <int STAGES> __global__ void pipeline(float *out, const float4 *x, int steps)
{
    __shared__ float4 stage[STAGES][32];
    float sum = 0;
    auto fetch = [&](int i) {
        cp_async16_or_zero(&stage[i % STAGES][threadIdx.x], &x[i % steps * 32 + threadIdx.x],
                           i < steps);
        cp_async_commit();
    };
    for (int i = 0; i < STAGES - 1; i++)
        fetch(i);
    for (int i = 0; i < steps; i++) {
        cp_async_wait<STAGES - 2>();
        __syncthreads();
        sum += stage[i % STAGES][threadIdx.x ^ 1].y;
        fetch(i + STAGES - 1);
    }
    out[threadIdx.x] = sum;
}

static void test_async(void **)
{
    float host[8 * 32 * 4], sums[32];
    for (int i = 0; i < 8 * 32 * 4; i++)
        host[i] = (float)i;
    float *x = device(8 * 32 * 4, host), *out = device<float>(32);
    OK(LAUNCH_ON(nullptr, false, pipeline<3>, 1, 32, 0, out, (const float4 *)x, 8));
    take(sums, out, 32);
    for (int t = 0; t < 32; t++)
        assert_true(sums[t] == (float)(8 * ((t ^ 1) * 4 + 1) + 128 * 28));
    OK(cudaFree(x));
}

/* ---- Streams and graphs ---- */

__global__ void step(float *x, const float *y, float by)
{
    x[threadIdx.x] = y[threadIdx.x] * 2 + by;
}

/* a doubles in x, b in y; they exchange every time. The same with every order of the streams. */
static void two_streams(cudaStream_t a, cudaStream_t b, cudaEvent_t *event, float *x, float *y)
{
    OK(cudaEventRecord(event[0], a));
    OK(cudaStreamWaitEvent(b, event[0]));
    OK(LAUNCH_ON(b, false, step, 1, 8, 0, y, x, 1.0f));
    OK(LAUNCH_ON(a, false, step, 1, 8, 0, x + 8, x, 2.0f));
    OK(cudaEventRecord(event[1], b));
    OK(cudaStreamWaitEvent(a, event[1]));
    OK(LAUNCH_ON(a, false, step, 1, 8, 0, x, y, 3.0f));
}

static void check_steps(float *x, float first, int steps)
{
    float host[16], value = first, before = 0;
    OK(cudaMemcpy(host, x, sizeof host, cudaMemcpyDeviceToHost));
    for (int i = 0; i < steps; i++) {
        before = value;
        value = (value * 2 + 1) * 2 + 3;
    }
    assert_true(host[3] == value);
    assert_true(host[11] == before * 2 + 2);
}

static void test_streams(void **)
{
    cudaStream_t a = new_stream(), b = new_stream();
    cudaEvent_t event[2] = {new_event(), new_event()};
    float *x = device<float>(16), *y = device<float>(8), ms;
    for (int round = 0; round < 12; round++) {
        OK(cudaMemset(x, 0, 16 * sizeof *x));
        for (int i = 0; i < 5; i++)
            two_streams(a, b, event, x, y);
        OK(round % 2 ? cudaStreamSynchronize(a) : cudaDeviceSynchronize());
        check_steps(x, 0, 5);
        OK(cudaEventElapsedTime(&ms, event[0], event[1]));
        assert_true(ms >= 0);
    }
    OK(LAUNCH_ON(a, false, step, 1, 8, 0, x, y, 3.0f));
    OK(cudaEventRecord(event[0], a));
    assert_int_equal(cudaEventQuery(event[0]), cudaErrorNotReady);
    while (cudaEventQuery(event[0]) == cudaErrorNotReady)
        ;
    OK(cudaStreamQuery(a));
    for (int i = 0; i < 2; i++)
        OK(cudaEventDestroy(event[i]));
    OK(cudaStreamDestroy(a));
    OK(cudaStreamDestroy(b));
    OK(cudaFree(x));
    OK(cudaFree(y));
}

static void test_graphs(void **)
{
    cudaStream_t a = new_stream(), b = new_stream();
    cudaEvent_t event[2] = {new_event(), new_event()};
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    float *x = device<float>(16), *y = device<float>(8);
    OK(cudaStreamBeginCapture(a, cudaStreamCaptureModeThreadLocal));
    two_streams(a, b, event, x, y);
    two_streams(a, b, event, x, y);
    OK(cudaStreamEndCapture(a, &graph));
    OK(cudaGraphInstantiate(&exec, graph));
    OK(cudaGraphDestroy(graph));
    OK(cudaMemset(x, 0, 16 * sizeof *x)); // nothing of it has run
    for (int i = 0; i < 3; i++)
        OK(cudaGraphLaunch(exec, a));
    OK(cudaStreamSynchronize(a));
    check_steps(x, 0, 6);
    two_streams(a, b, event, x, y); // both streams are as they were
    OK(cudaStreamSynchronize(a));
    check_steps(x, 0, 7);
    OK(cudaGraphExecDestroy(exec));
    for (int i = 0; i < 2; i++)
        OK(cudaEventDestroy(event[i]));
    OK(cudaStreamDestroy(a));
    OK(cudaStreamDestroy(b));
    OK(cudaFree(x));
    OK(cudaFree(y));
}

/* ---- Devices ---- */

static void test_device(void **)
{
    int n;
    cudaDeviceProp p;
    size_t free_bytes, total;
    void *x, *y;
    OK(cudaGetDeviceCount(&n));
    assert_int_equal(n, 1);
    setenv("EPMOE_EMULATED_GPUS", "0", 1);
    assert_int_equal(cudaGetDeviceCount(&n), cudaErrorNoDevice);
    assert_string_equal(cudaGetErrorString(cudaGetLastError()),
                        "no CUDA-capable device is detected");
    setenv("EPMOE_EMULATED_GPUS", "2", 1);
    OK(cudaGetDeviceCount(&n));
    assert_int_equal(n, 2);
    setenv("EPMOE_EMULATED_GPU_MEMORY", "10000", 1);
    OK(cudaGetDeviceProperties(&p, 1));
    assert_string_equal(p.name, "emulated");
    assert_int_equal(p.totalGlobalMem, 10000);
    OK(cudaSetDevice(1));
    OK(cudaMalloc(&x, 6000));
    OK(cudaMemGetInfo(&free_bytes, &total));
    assert_int_equal(free_bytes, 4000);
    assert_int_equal(cudaMalloc(&y, 6000), cudaErrorMemoryAllocation);
    OK(cudaSetDevice(0));
    OK(cudaMalloc(&y, 6000)); // the other's memory
    OK(cudaFree(x));
    OK(cudaFree(y));
    unsetenv("EPMOE_EMULATED_GPUS");
    unsetenv("EPMOE_EMULATED_GPU_MEMORY");
    assert_int_equal(cudaGetLastError(), cudaErrorMemoryAllocation);
}

static void test_failures(void **)
{
    void *x;
    cudaStream_t s;
    setenv("EPMOE_EMULATED_FAIL", "cudaMallocHost:2", 1);
    OK(cudaMallocHost(&x, 8));
    OK(cudaFreeHost(x));
    assert_int_equal(cudaMallocHost(&x, 8), cudaErrorMemoryAllocation);
    setenv("EPMOE_EMULATED_FAIL", "cudaStreamCreateWithFlags:1", 1);
    assert_int_equal(cudaStreamCreateWithFlags(&s, 0), cudaErrorUnknown);
    float *y = device<float>(1);
    setenv("EPMOE_EMULATED_FAIL", "cudaLaunchKernel:1", 1);
    assert_int_equal(LAUNCH_ON(nullptr, false, step, 1, 1, 0, y, y, 1.0f), cudaErrorUnknown);
    setenv("EPMOE_EMULATED_FAIL", "step:2:209", 1);
    OK(LAUNCH_ON(nullptr, false, step, 1, 1, 0, y, y, 1.0f));
    assert_int_equal(LAUNCH_ON(nullptr, false, step, 1, 1, 0, y, y, 1.0f),
                     cudaErrorNoKernelImageForDevice);
    OK(cudaFree(y));
    unsetenv("EPMOE_EMULATED_FAIL");
}

/* ---- Early kernels ---- */

/* to := from + 1, and a shared array that must be as it was after the wait. */
__global__ void count_on(int *to, const int *from, bool peeks)
{
    __shared__ unsigned kept[64];
    unsigned i = blockIdx.x * 64 + threadIdx.x;
    let_next_begin();
    prefetch_l2(from);
    kept[threadIdx.x] = i;
    int early = from[i];
    wait_for_previous();
    int x = peeks ? early : from[i];
    __syncthreads();
    to[i] = kept[63 - threadIdx.x] == blockIdx.x * 64 + 63 - threadIdx.x ? x + 1 : -1;
}

enum { CHAIN = 12 };

static void chain(cudaStream_t s, int *x, int *y, bool peeks)
{
    for (int i = 0; i < CHAIN; i++)
        OK(LAUNCH_ON(s, i > 0, count_on, 3, 64, 0, i % 2 ? x : y, i % 2 ? y : x, peeks));
}

/* How many of x are not what a chain after the other would make of them. */
static int miscounted(bool peeks, bool recorded)
{
    cudaStream_t s = new_stream();
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    int found[3 * 64], wrong = 0, *x = device<int>(3 * 64), *y = device<int>(3 * 64);
    OK(cudaMemset(x, 0, 3 * 64 * sizeof *x));
    OK(cudaMemset(y, 0, 3 * 64 * sizeof *y));
    if (recorded)
        OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
    chain(s, x, y, peeks);
    if (recorded) {
        OK(cudaStreamEndCapture(s, &graph));
        OK(cudaGraphInstantiate(&exec, graph));
        OK(cudaGraphLaunch(exec, s));
        OK(cudaGraphDestroy(graph));
    }
    OK(cudaStreamSynchronize(s));
    if (recorded)
        OK(cudaGraphExecDestroy(exec));
    take(found, x, 3 * 64);
    for (int i : found)
        wrong += i != CHAIN;
    OK(cudaFree(y));
    OK(cudaStreamDestroy(s));
    return wrong;
}

/* A kernel that has waited sees all; one that reads before, now and then, what was there before. */
static void test_early(void **)
{
    for (int recorded = 0; recorded < 2; recorded++) {
        int wrong = 0;
        for (int i = 0; i < 20; i++) {
            assert_int_equal(miscounted(false, recorded), 0);
            wrong += miscounted(true, recorded);
        }
        assert_true(wrong > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_indices),     cmocka_unit_test(test_barriers),
        cmocka_unit_test(test_spinning),    cmocka_unit_test(test_warps),
        cmocka_unit_test(test_collectives), cmocka_unit_test(test_async),
        cmocka_unit_test(test_streams),     cmocka_unit_test(test_graphs),
        cmocka_unit_test(test_device),      cmocka_unit_test(test_failures),
        cmocka_unit_test(test_early),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
