/* The emulation of CUDA finds what is wrong: each bug is planted in a child process, and what the
 * child says is compared with what it should say. */
#include "kernels/cuda/async.cuh"
#include "tests/rig/planted.h"

#include <stdlib.h>
#include <string.h>

/* ---- Divergence ---- */

__global__ void leaves_early(float *x)
{
    if (threadIdx.x == 5)
        return;
    __syncthreads();
    x[threadIdx.x] = 1;
}

__global__ void two_barriers(float *x)
{
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads();
    x[threadIdx.x] = 1;
}

__global__ void lane_gone(float *x)
{
    if (threadIdx.x == 3)
        return;
    x[threadIdx.x] = __shfl_xor_sync(0xffffffffu, x[threadIdx.x], 1);
}

__global__ void two_shuffles(float *x)
{
    float v;
    if (threadIdx.x < 16)
        v = __shfl_sync(0xffffffffu, x[threadIdx.x], 0);
    else
        v = __shfl_sync(0xffffffffu, x[threadIdx.x], 1);
    x[threadIdx.x] = v;
}

__global__ void shuffle_and_barrier(float *x)
{
    if (threadIdx.x < 16)
        x[threadIdx.x] = __shfl_sync(0xffffffffu, x[threadIdx.x], 0);
    else
        __syncthreads();
}

__global__ void not_in_its_mask(float *x)
{
    x[threadIdx.x] = __shfl_sync(0x0000ffffu, x[threadIdx.x], 0);
}

__global__ void two_masks(float *x)
{
    x[threadIdx.x] = __shfl_sync(threadIdx.x < 16 ? 0xffffffffu : 0xffff0001u, x[threadIdx.x], 16);
}

__global__ void waits_for_the_next_block(float *x)
{
    atomicAdd(x, 1.0f);
    while (blockIdx.x == 0 && threadIdx.x == 0 && atomicAdd(x, 0.0f) < 64)
        __nanosleep(100);
}

template <void (*kernel)(float *), int THREADS> static void run_one()
{
    OK(LAUNCH_ON(nullptr, false, kernel, 2, THREADS, 0, device_floats(THREADS)));
    OK(cudaDeviceSynchronize());
}

static void test_divergence(void **)
{
    const char *block = ", block (0,0,0)";
    kills(run_one<leaves_early, 64>,
          "thread (5,0,0) has left the kernel while thread (0,0,0) "
          "waits in __syncthreads (",
          "kernel leaves_early<<<(2,1,1), (64,1,1)>>>, block (0,0,0)");
    kills(run_one<two_barriers, 64>, "divergent barrier: thread (32,0,0) is in __syncthreads",
          block);
    kills(run_one<lane_gone, 32>,
          "thread (3,0,0) has left the kernel while thread (0,0,0) waits "
          "in __shfl_xor_sync",
          block);
    kills(run_one<two_shuffles, 32>, "divergence in a warp: thread (16,0,0) is in __shfl_sync",
          block);
    kills(run_one<shuffle_and_barrier, 32>, "divergence: thread (0,0,0) is in __shfl_sync", block);
    kills(run_one<not_in_its_mask, 32>, "mask 0x0000ffff does not name the calling lane",
          "thread (16,0,0)");
    kills(run_one<waits_for_the_next_block, 32>, "a thread spins for ever", "thread (0,0,0)");
    kills(run_one<two_masks, 32>, "mask 0xffff0001 here, 0xffffffff in thread (0,0,0)", block);
}

/* ---- Memory ---- */

__global__ void write_at(float *x, int i)
{
    x[i] = 1;
}

__global__ void read_vector(float4 *to, const float *from)
{
    *to = *(const float4 *)from;
}

__global__ void beyond_shared(float *x, int i)
{
    __shared__ float mine[32];
    mine[threadIdx.x] = 1;
    x[threadIdx.x] = mine[threadIdx.x + i];
}

__global__ void beyond_dynamic(float *x, int i)
{
    DYNAMIC_SHARED(float, mine);
    mine[threadIdx.x] = 1;
    x[threadIdx.x] = mine[(int)threadIdx.x + i];
}

static void out_of_bounds()
{
    OK(LAUNCH_ON(nullptr, false, write_at, 1, 1, 0, device_floats(100), 100));
}

static void before_the_start()
{
    OK(LAUNCH_ON(nullptr, false, write_at, 1, 1, 0, device_floats(100), -1));
}

static void used_after_free()
{
    float *x = device_floats(100), **indirect;
    OK(cudaMalloc(&indirect, sizeof x));
    OK(cudaMemcpy(indirect, &x, sizeof x, cudaMemcpyHostToDevice));
    OK(cudaFree(x));
    OK(LAUNCH_ON(
        nullptr, false, +[](float **p) { (*p)[0] = 1; }, 1, 1, 0, indirect));
}

static void freed_argument()
{
    float *x = device_floats(100);
    OK(cudaFree(x));
    OK(LAUNCH_ON(nullptr, false, write_at, 1, 1, 0, x, 0));
}

static void host_argument()
{
    float on_host = 0;
    OK(LAUNCH_ON(nullptr, false, write_at, 1, 1, 0, &on_host, 0));
}

static void host_reads_device()
{
    volatile float *x = device_floats(100);
    fprintf(stderr, "%f", (double)x[7]);
}

static void misaligned()
{
    OK(LAUNCH_ON(nullptr, false, read_vector, 1, 1, 0, (float4 *)device_floats(4),
                 device_floats(8) + 1));
}

static void out_of_static_shared()
{
    OK(LAUNCH_ON(nullptr, false, beyond_shared, 1, 32, 0, device_floats(32), 1));
}

static void out_of_dynamic_shared()
{
    OK(LAUNCH_ON(nullptr, false, beyond_dynamic, 1, 32, 32 * sizeof(float), device_floats(32), 1));
}

static void test_memory(void **)
{
    const char *inside = "invalid access of memory in kernel write_at<<<(1,1,1), (1,1,1)>>>, block "
                         "(0,0,0), thread (0,0,0)";
    kills(out_of_bounds, inside, "use-after-poison");
    kills(before_the_start, inside, "use-after-poison");
    kills(used_after_free, "invalid access of memory in kernel", "use-after-poison");
    kills(freed_argument, "kernel write_at: argument 1 is 0x", "that has been freed");
    kills(host_argument, "kernel write_at: argument 1 (0x", "is not device memory, nor pinned");
    kills(host_reads_device, "the host touches device memory", "byte 28 of an allocation of 400");
    kills(misaligned, "undefined behaviour in kernel read_vector", "misaligned address");
    kills(out_of_static_shared, "in kernel beyond_shared", "thread (31,0,0)");
    kills(out_of_dynamic_shared, "in kernel beyond_dynamic", "thread (31,0,0)");
}

/* ---- Copies ---- */

template <bool WAIT> __global__ void copies(float4 *to, const float4 *from)
{
    __shared__ float4 mine[32];
    cp_async16(&mine[threadIdx.x], &from[threadIdx.x]);
    cp_async_commit();
    if (WAIT)
        cp_async_wait<0>();
    __syncthreads();
    to[threadIdx.x] = mine[threadIdx.x ^ 1];
}

static void copy_without_wait()
{
    float4 *x = (float4 *)device_floats(128);
    OK(LAUNCH_ON(nullptr, false, copies<false>, 1, 32, 0, x, x));
}

static void copy_to_global()
{
    float4 *x = (float4 *)device_floats(128);
    OK(LAUNCH_ON(
        nullptr, false, +[](float4 *p) { cp_async16(p, p); }, 1, 1, 0, x));
}

static void copy_too_much()
{
    float host[16] = {};
    RETURNS(cudaErrorInvalidValue,
            cudaMemcpy(device_floats(15), host, sizeof host, cudaMemcpyHostToDevice));
}

static void copy_wrong_way()
{
    float host[4] = {};
    RETURNS(cudaErrorInvalidValue,
            cudaMemcpy(host, device_floats(4), sizeof host, cudaMemcpyHostToDevice));
}

static void free_twice()
{
    float *x = device_floats(4);
    OK(cudaFree(x));
    RETURNS(cudaErrorInvalidValue, cudaFree(x));
}

static void test_copies(void **)
{
    kills(copy_without_wait, "in kernel copies<false>", "use-after-poison");
    kills(copy_to_global, "which is not in shared memory", "block (0,0,0), thread (0,0,0)");
    warns(copy_too_much, "cudaMemcpy of 64 bytes: the target is 0x");
    warns(copy_wrong_way, "cudaMemcpy: the target is host memory, not what its kind says");
    warns(free_twice, "which is not an allocation");
}

/* ---- Launches ---- */

template <int THREADS, int GRID_Y, int SHARED, cudaError_t ERROR> static void launch()
{
    RETURNS(ERROR, LAUNCH_ON(nullptr, false, write_at, dim3(1, GRID_Y), THREADS, SHARED,
                             device_floats(1), 0));
    RETURNS(ERROR, cudaGetLastError());
    OK(cudaPeekAtLastError());
}

__global__ void much_static(float *x)
{
    __shared__ float mine[10000];
    mine[threadIdx.x] = 1;
    x[threadIdx.x] = mine[threadIdx.x];
}

static void too_much_together()
{
    RETURNS(cudaErrorInvalidValue,
            LAUNCH_ON(nullptr, false, much_static, 1, 32, 10000, device_floats(32)));
}

static void too_much_asked()
{
    setenv("EPMOE_EMULATED_SM", "80", 1);
    RETURNS(cudaErrorInvalidValue,
            cudaFuncSetAttribute(write_at, cudaFuncAttributeMaxDynamicSharedMemorySize, 200 << 10));
    RETURNS(cudaErrorInvalidValue, cudaGetLastError());
    setenv("EPMOE_EMULATED_SM", "90", 1);
    OK(cudaFuncSetAttribute(write_at, cudaFuncAttributeMaxDynamicSharedMemorySize, 200 << 10));
    OK(LAUNCH_ON(nullptr, false, write_at, 1, 1, 200 << 10, device_floats(1), 0));
}

static void never_waits()
{
    float *x = device_floats(2);
    OK(LAUNCH_ON(nullptr, true, write_at, 2, 1, 0, x, 1));
}

static void test_launches(void **)
{
    kills(never_waits, "launched early, and no thread has waited", "in kernel write_at<<<");
    warns(launch<1025, 1, 0, cudaErrorInvalidConfiguration>,
          "kernel write_at: a block of (1025,1,1) threads; 1 to 1024 is legal");
    warns(launch<1, 65536, 0, cudaErrorInvalidConfiguration>,
          "kernel write_at: a grid of (1,65536,1) blocks");
    warns(launch<1, 0, 0, cudaErrorInvalidConfiguration>,
          "kernel write_at: a grid of (1,0,1) blocks");
    warns(launch<1, 1, (48 << 10) + 1, cudaErrorInvalidValue>,
          "kernel write_at: 49153 bytes of dynamic shared memory beside 0 static; it was granted "
          "49152");
    warns(too_much_together, "10000 bytes of dynamic shared memory beside 40000 static");
    warns(too_much_asked, "204800 bytes of shared memory; sm_80 has 166912");
}

/* ---- Capture ---- */

static cudaStream_t stream()
{
    cudaStream_t s;
    OK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    return s;
}

/* The call is refused with the error, and the capture lost. */
template <class F> static void in_capture(cudaError_t error, F call)
{
    cudaGraph_t graph;
    cudaStream_t s = stream();
    OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
    RETURNS(error, call(s));
    RETURNS(cudaErrorStreamCaptureInvalidated, cudaStreamEndCapture(s, &graph));
    MUST(!graph);
    OK(cudaStreamSynchronize(s));
}

static void malloc_in_capture()
{
    in_capture(cudaErrorStreamCaptureUnsupported, [](cudaStream_t) {
        void *p;
        return cudaMalloc(&p, 4);
    });
}

static void wait_in_capture()
{
    in_capture(cudaErrorStreamCaptureUnsupported, cudaStreamSynchronize);
}

static void pageable_in_capture()
{
    in_capture(cudaErrorStreamCaptureUnsupported, [](cudaStream_t s) {
        static float host;
        return cudaMemcpyAsync(&host, &host, 4, cudaMemcpyHostToHost, s);
    });
}

static void outside_event_in_capture()
{
    cudaEvent_t event;
    OK(cudaEventCreate(&event));
    OK(cudaEventRecord(event, stream()));
    in_capture(cudaErrorStreamCaptureUnsupported,
               [=](cudaStream_t s) { return cudaStreamWaitEvent(s, event); });
}

static void unjoined()
{
    cudaGraph_t graph;
    cudaEvent_t fork;
    cudaStream_t a = stream(), b = stream();
    float *x = device_floats(1);
    OK(cudaEventCreate(&fork));
    OK(cudaStreamBeginCapture(a, cudaStreamCaptureModeThreadLocal));
    OK(cudaEventRecord(fork, a));
    OK(cudaStreamWaitEvent(b, fork));
    OK(LAUNCH_ON(b, false, write_at, 1, 1, 0, x, 0));
    RETURNS(cudaErrorStreamCaptureUnjoined, cudaStreamEndCapture(a, &graph));
}

static void test_capture(void **)
{
    warns(malloc_in_capture, "cudaMalloc: not while a stream is being captured");
    warns(wait_in_capture, "cudaStreamSynchronize: not while a stream is being captured");
    warns(pageable_in_capture, "cudaMemcpyAsync of pageable memory in a capture");
    warns(outside_event_in_capture, "a captured stream waits for an event from outside");
    warns(unjoined, "work of another stream was never waited for");
}

/* ---- Bugs that show as wrong data ---- */

__global__ void hands_on(float *x) // to the next thread and to the one before, without a barrier
{
    __shared__ float mine[64];
    int i = (int)threadIdx.x;
    mine[i] = 1;
    x[i] = mine[(i + 1) % 64];
    __syncthreads();
    mine[i] = 2;
    x[64 + i] = mine[(i + 63) % 64];
}

__global__ void unwritten(float *x)
{
    __shared__ float mine[32];
    if (threadIdx.x > 0)
        mine[threadIdx.x] = 0;
    __syncthreads();
    x[threadIdx.x] = mine[threadIdx.x];
}

static int wrong_floats(const float *x, int n, float wanted)
{
    float host[128];
    int wrong = 0;
    OK(cudaMemcpy(host, x, (size_t)n * sizeof *x, cudaMemcpyDeviceToHost));
    for (int i = 0; i < n; i++)
        wrong += !(host[i] == wanted);
    return wrong;
}

static void test_shared_memory(void **)
{
    float *x = device_floats(128);
    OK(LAUNCH_ON(nullptr, false, hands_on, 1, 64, 0, x));
    assert_int_not_equal(wrong_floats(x, 64, 1), 0);
    assert_int_not_equal(wrong_floats(x + 64, 64, 2), 0);
    OK(LAUNCH_ON(nullptr, false, unwritten, 1, 32, 0, x));
    assert_int_equal(wrong_floats(x, 32, 0), 1);
    OK(cudaFree(x));
}

__global__ void add_one(float *to, const float *from)
{
    *to = *from + 1;
}

/* A chain over two streams, with and without its events: the number of times it goes wrong. */
static int wrong_chains(bool with_events)
{
    cudaStream_t a = stream(), b = stream();
    cudaEvent_t made, used;
    OK(cudaEventCreate(&made));
    OK(cudaEventCreate(&used));
    float *x = device_floats(1), *y = device_floats(1), host;
    int wrong = 0;
    for (int i = 0; i < 16; i++) {
        OK(cudaMemset(x, 0, sizeof *x));
        OK(LAUNCH_ON(a, false, add_one, 1, 1, 0, x, x));
        OK(cudaEventRecord(made, a));
        if (with_events)
            OK(cudaStreamWaitEvent(b, made));
        OK(LAUNCH_ON(b, false, add_one, 1, 1, 0, y, x));
        OK(cudaEventRecord(used, b));
        if (with_events)
            OK(cudaStreamWaitEvent(a, used));
        OK(cudaMemsetAsync(x, 0, sizeof *x, a));
        OK(cudaStreamSynchronize(i % 2 ? a : b));
        OK(cudaDeviceSynchronize());
        OK(cudaMemcpy(&host, y, sizeof host, cudaMemcpyDeviceToHost));
        wrong += host != 2;
    }
    OK(cudaEventDestroy(made));
    OK(cudaEventDestroy(used));
    OK(cudaStreamDestroy(a));
    OK(cudaStreamDestroy(b));
    OK(cudaFree(x));
    OK(cudaFree(y));
    return wrong;
}

/* A result that is read before the stream has been waited for, and a source that is changed. */
static void test_missing_waits(void **)
{
    assert_int_equal(wrong_chains(true), 0);
    assert_int_not_equal(wrong_chains(false), 0);

    cudaStream_t s = stream();
    float *x = device_floats(1), *pinned;
    OK(cudaMallocHost(&pinned, sizeof *pinned));
    *pinned = 7;
    OK(cudaMemcpyAsync(x, pinned, sizeof *x, cudaMemcpyHostToDevice, s));
    *pinned = 8; // too early
    OK(cudaStreamSynchronize(s));
    assert_int_equal(wrong_floats(x, 1, 8), 0);
    *pinned = 0;
    OK(cudaMemcpyAsync(pinned, x, sizeof *x, cudaMemcpyDeviceToHost, s));
    assert_true(*pinned == 0); // not yet
    OK(cudaStreamSynchronize(s));
    assert_true(*pinned == 8);
    OK(cudaFreeHost(pinned));
    OK(cudaFree(x));
    OK(cudaStreamDestroy(s));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_divergence),    cmocka_unit_test(test_memory),
        cmocka_unit_test(test_copies),        cmocka_unit_test(test_launches),
        cmocka_unit_test(test_capture),       cmocka_unit_test(test_shared_memory),
        cmocka_unit_test(test_missing_waits),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
