/* Launches that CUDA refuses: the emulation's limits are a GPU's, and whatever is refused becomes
 * the device's one error, with the kernel's name, whether it is launched by itself or recorded. */
#include "tests/rig/planted.h"

#include <stdlib.h>
#include <string.h>

extern "C" {
#include "kernels/side.h"
}

__global__ void add_one(float *x)
{
    wait_for_previous();
    *x += 1;
}

/* ---- Refusals on demand ---- */

enum { LAUNCHES = 3 };

struct scene {
    struct dev d;
    float *x; // device
};

static void open(scene *s)
{
    MUST(dev_open_cuda(&s->d, 0, ISA_PLAIN, 1) == 0);
    s->x = (float *)dev_alloc(&s->d, sizeof *s->x);
    MUST(dev_wait(&s->d) == 0);
}

static float value(scene *s)
{
    float x;
    OK(cudaMemcpy(&x, s->x, sizeof x, cudaMemcpyDeviceToHost));
    return x;
}

static void add_ones(scene *s)
{
    LAUNCH(&s->d, add_one, 1, 1, 0, s->x);
    for (int i = 1; i < LAUNCHES; i++)
        LAUNCH_EARLY(&s->d, add_one, 1, 1, 0, s->x);
}

static void refuse(const char *launch)
{
    setenv("EPMOE_EMULATED_FAIL", launch, 1);
}

/* The launches before it were put on the stream, those after it were not; it is told of once, and
 * CUDA's last error is left behind for nobody. */
static void must_have_failed(scene *s, float wanted)
{
    OK(cudaPeekAtLastError());
    add_ones(s);
    MUST(dev_wait(&s->d) == STATUS_FAILED && dev_wait(&s->d) == STATUS_FAILED);
    OK(cudaDeviceSynchronize());
    MUST(value(s) == wanted);
    unsetenv("EPMOE_EMULATED_FAIL");
    dev_close(&s->d);
}

template <int N> static void alone()
{
    scene s;
    open(&s);
    refuse(N == 1 ? "add_one:1:209" : N == 2 ? "add_one:2:209" : "cudaLaunchKernel:3:209");
    add_ones(&s);
    must_have_failed(&s, N - 1);
}

/* By itself, and then recorded, where launch N is refused: some of them end the capture. */
template <int N> static void recorded()
{
    scene s;
    open(&s);
    for (int i = 0; i < 2; i++) {
        refuse(i == 0 ? "" : N == 1 ? "add_one:1:9" : N == 2 ? "add_one:2:9" : "add_one:3:9");
        MUST(dev_graph_begin(&s.d, 7));
        add_ones(&s);
        dev_graph_end(&s.d);
    }
    MUST(dev_graph_begin(&s.d, 7)); // what was recorded is not played
    dev_graph_end(&s.d);
    must_have_failed(&s, LAUNCHES);
}

static void after_a_fault()
{
    scene s;
    open(&s);
    refuse("add_one:2:700");
    add_ones(&s);
    MUST(dev_wait(&s.d) == STATUS_FAILED);
}

__global__ void sums(float *x)
{
    DYNAMIC_SHARED(float, mine);
    mine[threadIdx.x] = 1;
    __syncthreads();
    x[threadIdx.x] = mine[threadIdx.x ^ 1];
}

static void no_more_shared()
{
    scene s;
    open(&s);
    refuse("cudaFuncSetAttribute:1:209");
    LAUNCH(&s.d, sums, 1, 1, 50 << 10, s.x);
    MUST(dev_wait(&s.d) == STATUS_FAILED);
    unsetenv("EPMOE_EMULATED_FAIL");
    dev_close(&s.d);
}

/* `bug` says that, and nothing else. */
static void says_once(void (*bug)(), const char *message)
{
    bool died;
    std::string said = child(bug, &died);
    expect(said, message, !died);
    assert_true(said.find("epmoe: ") == said.rfind("epmoe: "));
}

static void test_refused(void **)
{
    const char *no_code = "epmoe: GPU 0: launching add_one (grid 1,1,1, block 1,1,1, 0 bytes of "
                          "dynamic shared memory): no kernel image is available for execution on "
                          "the device\n";
    const char *no_shape = "epmoe: GPU 0: launching add_one (grid 1,1,1, block 1,1,1, 0 bytes of "
                           "dynamic shared memory): invalid configuration argument\n";
    says_once(alone<1>, no_code);
    says_once(alone<2>, no_code);
    says_once(alone<3>, no_code);
    says_once(recorded<1>, no_shape);
    says_once(recorded<2>, no_shape);
    says_once(recorded<3>, no_shape);
    says_once(after_a_fault, "memory), after a kernel that failed: an illegal memory access");
    says_once(no_more_shared, "epmoe: GPU 0: asking for shared memory for sums (grid 1,1,1, block "
                              "1,1,1, 51200 bytes of dynamic shared memory): no kernel image");
}

/* ---- Errors that are none ---- */

/* CUDA keeps "not ready" as the thread's last error. No kernel gets the blame, and who has asked
 * takes it away. */
static void test_not_ready(void **)
{
    scene s;
    struct side side;
    open(&s);
    assert_int_equal(side_open(&side, &s.d), 0);
    LAUNCH(&s.d, add_one, 1, 1, 0, s.x);
    assert_int_equal(cudaStreamQuery(s.d.cuda->stream), cudaErrorNotReady);
    LAUNCH(&s.d, add_one, 1, 1, 0, s.x);
    assert_int_equal(dev_wait(&s.d), 0);
    assert_int_equal(cudaGetLastError(), cudaErrorNotReady);
    LAUNCH(&s.d, add_one, 1, 1, 0, s.x);
    side_follow(&side);
    OK(LAUNCH_ON((cudaStream_t)side.stream, false, add_one, 1, 1, 0, s.x));
    assert_false(side_is_done(&side));
    OK(cudaPeekAtLastError());
    assert_int_equal(side_status(&side), 0);
    OK(cudaDeviceSynchronize());
    assert_true(side_is_done(&side));
    assert_true(value(&s) == 4);
    side_close(&side);
    dev_close(&s.d);
}

/* ---- Shared memory ---- */

enum { OWN = 6 << 10, DEFAULT = 48 << 10 };

/* 6 KiB of its own, as behind them the dynamic begins at a multiple of 1 KiB. */
__global__ void sums_beside(float *x)
{
    DYNAMIC_SHARED(float, mine);
    __shared__ float own[OWN / sizeof(float) - 1];
    mine[threadIdx.x] = own[threadIdx.x] = 1;
    __syncthreads();
    x[threadIdx.x] = mine[threadIdx.x ^ 1] + own[threadIdx.x ^ 1];
}

/* By itself a launch gets what fits into 48 KiB; what it may ask for depends on the GPU. */
template <int SM, int MOST> static void limits()
{
    float *x = device_floats(32);
    auto try_with = [=](int bytes) {
        return LAUNCH_ON(nullptr, false, sums_beside, 1, 32, bytes, x);
    };
    auto ask_for = [](int bytes) {
        return cudaFuncSetAttribute(sums_beside, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    bytes);
    };
    cudaFuncAttributes attributes;
    setenv("EPMOE_EMULATED_SM", SM == 80 ? "80" : "90", 1);
    OK(cudaFuncGetAttributes(&attributes, sums_beside));
    MUST(attributes.sharedSizeBytes == OWN);
    MUST(attributes.maxDynamicSharedSizeBytes == DEFAULT - OWN);
    OK(try_with(DEFAULT - OWN));
    RETURNS(cudaErrorInvalidValue, try_with(DEFAULT - OWN + 1));
    RETURNS(cudaErrorInvalidValue, ask_for(MOST - OWN + 1));
    OK(ask_for(MOST - OWN));
    OK(try_with(MOST - OWN));
    RETURNS(cudaErrorInvalidValue, try_with(MOST - OWN + 1));
    OK(ask_for(DEFAULT));
    RETURNS(cudaErrorInvalidValue, try_with(DEFAULT + 1));
}

/* A kernel is granted more on one GPU, not on all. */
static void other_gpu()
{
    setenv("EPMOE_EMULATED_GPUS", "2", 1);
    cudaFuncAttribute most = cudaFuncAttributeMaxDynamicSharedMemorySize;
    OK(cudaFuncSetAttribute(sums_beside, most, 100 << 10));
    OK(LAUNCH_ON(nullptr, false, sums_beside, 1, 32, 100 << 10, device_floats(32)));
    OK(cudaSetDevice(1));
    RETURNS(cudaErrorInvalidValue,
            LAUNCH_ON(nullptr, false, sums_beside, 1, 32, 100 << 10, device_floats(32)));
}

/* LAUNCH asks for what static and dynamic memory need together, whichever comes first. */
template <int FIRST> static void asks()
{
    scene s;
    open(&s);
    float *x = (float *)dev_alloc(&s.d, 32 * sizeof *x);
    const int sizes[] = {FIRST, DEFAULT - OWN, DEFAULT - OWN + 512, DEFAULT, 150 << 10};
    for (int bytes : sizes)
        LAUNCH(&s.d, sums_beside, 1, 32, bytes, x);
    MUST(dev_wait(&s.d) == 0);
    LAUNCH(&s.d, sums_beside, 1, 32, (227 << 10) - OWN + 1, x);
    MUST(dev_wait(&s.d) == STATUS_FAILED);
    dev_close(&s.d);
}

static void test_shared_memory(void **)
{
    warns(limits<80, 163 << 10>, "160769 bytes of shared memory; sm_80 has 160768");
    warns(limits<90, 227 << 10>, "226305 bytes of shared memory; sm_90 has 226304");
    warns(other_gpu, "102400 bytes of dynamic shared memory beside 6140 static; it was granted "
                     "43008");
    const char *line =
        "epmoe: GPU 0: launching sums_beside (grid 1,1,1, block 32,1,1, 226305 bytes "
        "of dynamic shared memory): invalid argument";
    says_once(asks<256>, line);
    says_once(asks<(48 << 10) - (6 << 10) + 256>, line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_not_ready),
        cmocka_unit_test(test_shared_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
