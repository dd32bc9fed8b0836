/* Races between threads of a block, and kernels that touch memory that is not a GPU's: found in a
 * build with EPMOE_RACES, each planted in a child process. What has no race is not reported. */
#include "kernels/cuda/async.cuh"
#include "tests/rig/planted.h"

#include <stdlib.h>

enum { N = 64, ALL = -1 };

/* Each thread writes, then reads its neighbour's: in one warp, or from the next. */
template <int BY, bool BARRIER, bool WARP_BARRIER> __global__ void neighbours(float *x)
{
    __shared__ float mine[N];
    int i = (int)threadIdx.x;
    mine[i] = (float)i;
    if (BARRIER)
        __syncthreads();
    if (WARP_BARRIER)
        __syncwarp();
    x[i] = mine[(i + BY) % N];
}

/* Read by all, then written by one, who must wait until all have read. */
template <bool BARRIER> __global__ void reused(float *x)
{
    DYNAMIC_SHARED(float, mine);
    int i = (int)threadIdx.x;
    mine[i] = 1;
    __syncthreads();
    x[i] = mine[0] + mine[i];
    if (BARRIER)
        __syncthreads();
    if (i == N - 1)
        mine[0] = 2;
}

template <bool ATOMIC> __global__ void counted(float *x)
{
    __shared__ int n;
    if (threadIdx.x == 0)
        n = 0;
    __syncthreads();
    if (ATOMIC)
        atomicAdd(&n, 1);
    else
        n++;
    __syncthreads();
    x[threadIdx.x] = (float)n;
}

/* Halves of a bf16 pair belong to different threads: no race. */
__global__ void pairs(float *x)
{
    __shared__ unsigned short mine[N];
    mine[threadIdx.x] = (unsigned short)threadIdx.x;
    __syncthreads();
    x[threadIdx.x] = (float)mine[N - 1 - threadIdx.x];
}

/* A stage is filled again while others may still read it. */
template <bool BARRIER> __global__ void refilled(float *x)
{
    __shared__ float4 stage[N];
    const float4 *from = (const float4 *)x;
    int i = (int)threadIdx.x;
    float sum = 0;
    for (int round = 0; round < 2; round++) {
        if (BARRIER)
            __syncthreads();
        cp_async16(&stage[i], &from[i]);
        cp_async_commit();
        cp_async_wait<0>();
        __syncthreads();
        sum += stage[(i + 1) % N].x;
    }
    x[i * 4] = sum;
}

/* A shuffle brings lanes together, but orders no memory. */
__global__ void shuffled(float *x)
{
    __shared__ float mine[N];
    int i = (int)threadIdx.x;
    mine[i] = 1;
    float v = __shfl_xor_sync((unsigned)ALL, 1.0f, 1);
    x[i] = mine[i ^ 1] + v;
}

template <void (*kernel)(float *)> static void run()
{
    OK(LAUNCH_ON(nullptr, false, kernel, 2, N, N * sizeof(float), device_floats(4 * N)));
    OK(cudaDeviceSynchronize());
}

static void finds(void (*bug)(), const char *first, const char *second)
{
    kills(bug, "race in shared memory, byte 0: thread (", ", block (0,0,0), thread (");
    kills(bug, first, second);
}

static void test_races(void **)
{
    const char *here = "test_emulated_races.cu:", *apart = ", with no barrier between";
    finds(run<neighbours<1, false, false>>, "reads at ", here);
    finds(run<neighbours<32, false, true>>, "writes at ", apart);
    finds(run<reused<false>>, "thread (63,0,0) writes at ", "reads at ");
    finds(run<counted<false>>, here, apart);
    finds(run<refilled<false>>, "writes at ", "reads at ");
    finds(run<shuffled>, here, apart);
}

/* In this process: a report would end it. */
static void test_no_races(void **)
{
    run<neighbours<1, true, false>>();
    run<neighbours<32, true, false>>();
    run<reused<true>>();
    run<counted<true>>();
    run<refilled<true>>();
    run<pairs>();
}

/* ---- Memory of others ---- */

struct call {
    float *to;
    const float *from;
};

__global__ void copy_one(call c)
{
    *c.to = *c.from;
}

static void host_pointer_in_a_struct()
{
    float *on_host = (float *)malloc(sizeof *on_host);
    *on_host = 1;
    OK(LAUNCH_ON(nullptr, false, copy_one, 1, 1, 0, call{device_floats(1), on_host}));
}

static void host_pointer_in_memory()
{
    float on_host = 0, *pointer = &on_host, **table;
    OK(cudaMalloc(&table, sizeof pointer));
    OK(cudaMemcpy(table, &pointer, sizeof pointer, cudaMemcpyHostToDevice));
    OK(LAUNCH_ON(
        nullptr, false, +[](float **t) { **t = 2; }, 1, 1, 0, table));
}

static void beyond_the_allocation()
{
    float *x = device_floats(4);
    OK(LAUNCH_ON(nullptr, false, copy_one, 1, 1, 0, call{x, x + 4}));
}

/* The kernel before may still read what this one writes. */
template <bool WAITS> __global__ void overwrites(float *x)
{
    if (WAITS)
        wait_for_previous();
    x[threadIdx.x] = 1;
    wait_for_previous();
}

template <bool WAITS> static void run_early()
{
    OK(LAUNCH_ON(nullptr, true, overwrites<WAITS>, 1, 4, 0, device_floats(4)));
    OK(cudaDeviceSynchronize());
}

static void test_early_writes(void **)
{
    kills(run_early<false>, "a write that has not waited for the kernels before",
          "test_emulated_races.cu:");
    run_early<true>(); // in this process
}

static void test_strays(void **)
{
    kills(host_pointer_in_a_struct, "a kernel reads host memory that is not pinned: 0x",
          "in kernel copy_one<<<");
    kills(host_pointer_in_memory, "a kernel writes host memory that is not pinned: 0x",
          "test_emulated_races.cu:");
    kills(beyond_the_allocation, "a kernel reads beyond its memory: 0x",
          "byte 16 of an allocation of 16");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_races),
        cmocka_unit_test(test_no_races),
        cmocka_unit_test(test_strays),
        cmocka_unit_test(test_early_writes),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
