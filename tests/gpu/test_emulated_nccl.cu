/* The emulation of NCCL: ranks are threads, each with an emulated GPU. What goes right, and what a
 * program must notice: calls that only begin, operations that never end, and refusals. */
#include <atomic>
#include <chrono>
#include <cuda_runtime.h>
#include <nccl.h>
#include <stdlib.h>
#include <thread>
#include <vector>

extern "C" {
#include "tests/rig/cm.h"
}

enum { MOST_RANKS = 9, LONG = 300 }; // questions after which nothing more is expected

/* A rank's thread may not leave by longjmp: it notes the line of its first failure. */
struct rank {
    int number, size, failed_line;
    ncclComm_t comm;
    cudaStream_t stream;
    bool blocking; // its calls come back when they are done
};
#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            r->failed_line = r->failed_line ? r->failed_line : __LINE__;                           \
            return;                                                                                \
        }                                                                                          \
    } while (0)

static ncclResult_t settle(rank *r, int questions = 1 << 20)
{
    ncclResult_t state = ncclInProgress;
    for (int i = 0; i < questions && state == ncclInProgress; i++) {
        if (ncclCommGetAsyncError(r->comm, &state) != ncclSuccess)
            return ncclInternalError;
        std::this_thread::yield();
    }
    return state;
}

static bool rests(rank *r) // the stream never gets past what is on it
{
    for (int i = 0; i < LONG; i++)
        if (cudaStreamQuery(r->stream) != cudaErrorNotReady)
            return false;
    return true;
}

static bool open_rank(rank *r, const ncclUniqueId *id, int device)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    config.splitShare = 1;
    return cudaSetDevice(device) == cudaSuccess &&
           cudaStreamCreateWithFlags(&r->stream, cudaStreamNonBlocking) == cudaSuccess &&
           ncclCommInitRankConfig(&r->comm, r->size, *id, r->number, &config) == ncclInProgress;
}

/* body(r) on every rank, once all have joined. */
template <class F> static void with_ranks(int n, F body)
{
    ncclUniqueId id;
    std::vector<rank> ranks((size_t)n);
    std::vector<std::thread> threads;
    assert_int_equal(ncclGetUniqueId(&id), ncclSuccess);
    for (int i = 0; i < n; i++) {
        ranks[(size_t)i] = {i, n, 0, nullptr, nullptr, false};
        threads.emplace_back([&id, &body, r = &ranks[(size_t)i]] {
            EXPECT(open_rank(r, &id, r->number));
            EXPECT(settle(r) == ncclSuccess);
            body(r);
            if (r->comm)
                ncclCommAbort(r->comm);
            EXPECT(cudaStreamDestroy(r->stream) == cudaSuccess);
        });
    }
    for (std::thread &t : threads)
        t.join();
    for (const rank &r : ranks)
        if (r.failed_line)
            fail_msg("rank %d of %d: line %d", r.number, n, r.failed_line);
}

static int *device_ints(size_t n)
{
    int *x = nullptr;
    return cudaMalloc(&x, n * sizeof *x + 1) == cudaSuccess ? x : nullptr;
}

/* ---- What goes right ---- */

static int rows_for(int from, int to, int round)
{
    return (from + 2 * to + round) % 5 * 3; // some have none
}

static int value(int from, int to, int i)
{
    return from * 10000 + to * 1000 + i;
}

static void uneven_rows(rank *r, int round)
{
    enum { ROOM = 16 };
    size_t n = (size_t)r->size * ROOM;
    std::vector<int> out(n), in(n);
    int *from = device_ints(n), *to = device_ints(n);
    for (int p = 0; p < r->size; p++)
        for (int i = 0; i < ROOM; i++)
            out[(size_t)(p * ROOM + i)] = value(r->number, p, i);
    EXPECT(from && to);
    EXPECT(cudaMemcpyAsync(from, out.data(), n * sizeof(int), cudaMemcpyHostToDevice, r->stream) ==
           cudaSuccess);
    EXPECT(ncclGroupStart() == ncclSuccess);
    for (int p = 0; p < r->size; p++) {
        EXPECT(ncclSend(from + p * ROOM, (size_t)rows_for(r->number, p, round), ncclInt32, p,
                        r->comm, r->stream) == ncclSuccess);
        EXPECT(ncclRecv(to + p * ROOM, (size_t)rows_for(p, r->number, round), ncclInt32, p, r->comm,
                        r->stream) == ncclSuccess);
    }
    EXPECT(ncclGroupEnd() == (r->blocking ? ncclSuccess : ncclInProgress));
    EXPECT(settle(r) == ncclSuccess);
    EXPECT(cudaStreamSynchronize(r->stream) == cudaSuccess);
    EXPECT(cudaMemcpy(in.data(), to, n * sizeof(int), cudaMemcpyDeviceToHost) == cudaSuccess);
    for (int p = 0; p < r->size; p++)
        for (int i = 0; i < rows_for(p, r->number, round); i++)
            EXPECT(in[(size_t)(p * ROOM + i)] == value(p, r->number, i));
    EXPECT(cudaFree(from) == cudaSuccess && cudaFree(to) == cudaSuccess);
}

static void close_well(rank *r)
{
    EXPECT(ncclCommFinalize(r->comm) == ncclInProgress);
    EXPECT(settle(r) == ncclSuccess);
    EXPECT(ncclCommDestroy(r->comm) == ncclSuccess);
    r->comm = nullptr;
}

static void test_sends_and_receives(void **)
{
    for (int n = 1; n <= MOST_RANKS; n++)
        with_ranks(n, [](rank *r) {
            for (int round = 0; round < 6; round++)
                uneven_rows(r, round);
            close_well(r);
        });
}

static void collectives(rank *r)
{
    size_t n = (size_t)r->size;
    std::vector<int> mine(n), theirs(n);
    float f = (float)r->number + 1, sum = 0;
    int *a = device_ints(n), *b = device_ints(n);
    for (int p = 0; p < r->size; p++)
        mine[(size_t)p] = value(r->number, p, 0);
    EXPECT(a && b);
    EXPECT(cudaMemcpy(a, mine.data(), n * sizeof(int), cudaMemcpyHostToDevice) == cudaSuccess);
    EXPECT(ncclAlltoAll(a, b, 1, ncclInt32, r->comm, r->stream) == ncclInProgress);
    EXPECT(settle(r) == ncclSuccess && cudaStreamSynchronize(r->stream) == cudaSuccess);
    EXPECT(cudaMemcpy(theirs.data(), b, n * sizeof(int), cudaMemcpyDeviceToHost) == cudaSuccess);
    for (int p = 0; p < r->size; p++)
        EXPECT(theirs[(size_t)p] == value(p, r->number, 0));
    EXPECT(ncclBroadcast(a, b, n, ncclInt32, 1 % r->size, r->comm, r->stream) == ncclInProgress);
    EXPECT(settle(r) == ncclSuccess && cudaStreamSynchronize(r->stream) == cudaSuccess);
    EXPECT(cudaMemcpy(theirs.data(), b, n * sizeof(int), cudaMemcpyDeviceToHost) == cudaSuccess);
    for (int p = 0; p < r->size; p++)
        EXPECT(theirs[(size_t)p] == value(1 % r->size, p, 0));
    EXPECT(cudaMemcpy(a, &f, sizeof f, cudaMemcpyHostToDevice) == cudaSuccess);
    EXPECT(ncclReduce(a, b, 1, ncclFloat32, ncclSum, 0, r->comm, r->stream) == ncclInProgress);
    EXPECT(settle(r) == ncclSuccess && cudaStreamSynchronize(r->stream) == cudaSuccess);
    EXPECT(cudaMemcpy(&sum, b, sizeof sum, cudaMemcpyDeviceToHost) == cudaSuccess);
    EXPECT(r->number > 0 || sum == (float)(r->size * (r->size + 1) / 2));
    EXPECT(cudaFree(a) == cudaSuccess && cudaFree(b) == cudaSuccess);
}

static void test_collectives(void **)
{
    for (int n = 1; n <= MOST_RANKS; n += 2)
        with_ranks(n, collectives);
}

/* ---- What a program must notice ---- */

/* A call has begun and is not on the stream: whoever waits for the stream waits for nothing. */
static void test_calls_only_begin(void **)
{
    with_ranks(2, [](rank *r) {
        int *x = device_ints(4);
        EXPECT(x);
        ncclResult_t begun = r->number ? ncclSend(x, 4, ncclInt32, 0, r->comm, r->stream)
                                       : ncclRecv(x, 4, ncclInt32, 1, r->comm, r->stream);
        EXPECT(begun == ncclInProgress);
        EXPECT(cudaStreamQuery(r->stream) == cudaSuccess);
        EXPECT(ncclSend(x, 4, ncclInt32, 0, r->comm, r->stream) == ncclInvalidArgument);
        EXPECT(settle(r) == ncclSuccess);
        EXPECT(cudaStreamSynchronize(r->stream) == cudaSuccess);
        EXPECT(cudaFree(x) == cudaSuccess);
    });
}

/* How many of three ranks were refused, of which two share a device. */
static int refused_of_three(void)
{
    ncclUniqueId id;
    std::atomic<int> refused{0}, joined{0};
    std::vector<std::thread> threads;
    assert_int_equal(ncclGetUniqueId(&id), ncclSuccess);
    for (int i = 0; i < 3; i++)
        threads.emplace_back([&, i] {
            rank r = {i, 3, 0, nullptr, nullptr, false};
            ncclResult_t state = open_rank(&r, &id, i == 2 ? 0 : i) ? settle(&r) : ncclSystemError;
            refused += state == ncclInvalidUsage;
            joined += state == ncclSuccess;
            if (state == ncclSuccess)
                while (refused + joined < 3) // an abort would end the others' joining
                    std::this_thread::yield();
            ncclCommAbort(r.comm);
            cudaStreamDestroy(r.stream);
        });
    for (std::thread &t : threads)
        t.join();
    assert_int_equal(refused + joined, 3);
    return refused;
}

static void test_duplicate_devices(void **)
{
    assert_int_equal(refused_of_three(), 2); // those who share one
    setenv("NCCL_MULTI_RANK_GPU_ENABLE", "1", 1);
    assert_int_equal(refused_of_three(), 2); // this NCCL is too old
    setenv("EPMOE_EMULATED_NCCL", "2.30.3", 1);
    assert_int_equal(refused_of_three(), 0);
    setenv("NCCL_MULTI_RANK_GPU_ENABLE", "0", 1);
    assert_int_equal(refused_of_three(), 2);
    unsetenv("NCCL_MULTI_RANK_GPU_ENABLE");
    unsetenv("EPMOE_EMULATED_NCCL");
}

/* ---- Communicators that block ---- */

/* r->comm becomes a blocking one; the one it was split off is returned. */
static ncclComm_t split_off(rank *r)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    ncclComm_t parent = r->comm, blocking = nullptr;
    config.blocking = 1;
    if (ncclCommSplit(parent, 0, r->number, &blocking, &config) != ncclInProgress ||
        settle(r) != ncclSuccess || !blocking)
        return nullptr;
    r->comm = blocking;
    r->blocking = true;
    return parent;
}

static void test_blocking_calls(void **)
{
    for (int n = 1; n <= MOST_RANKS; n += 2)
        with_ranks(n, [](rank *r) {
            ncclComm_t parent = split_off(r);
            EXPECT(parent);
            for (int round = 0; round < 6; round++)
                uneven_rows(r, round);
            EXPECT(ncclCommFinalize(r->comm) == ncclSuccess);
            EXPECT(ncclCommDestroy(r->comm) == ncclSuccess);
            r->comm = parent;
            close_well(r);
        });
}

/* The first exchange of two ranks waits inside the call, until somebody aborts the parent. */
static void test_abort_from_another_thread(void **)
{
    std::atomic<int> split{0};
    with_ranks(2, [&](rank *r) {
        int *x = device_ints(4);
        ncclComm_t parent = split_off(r);
        EXPECT(x && parent);
        split++;
        while (split < 2)
            std::this_thread::yield();
        if (r->number == 0) {
            std::atomic<bool> back{false}, early{false};
            std::thread watchdog([&] {
                std::this_thread::sleep_for(std::chrono::milliseconds(50));
                early = back.load();
                ncclCommAbort(parent);
            });
            ncclResult_t result = ncclRecv(x, 4, ncclInt32, 1, r->comm, r->stream);
            back = true;
            watchdog.join();
            EXPECT(result == ncclInternalError && !early);
            EXPECT(ncclRecv(x, 4, ncclInt32, 1, r->comm, r->stream) == ncclInvalidUsage);
        } else {
            EXPECT(ncclCommAbort(parent) == ncclSuccess);
        }
        EXPECT(cudaStreamSynchronize(r->stream) == cudaSuccess);
        EXPECT(cudaFree(x) == cudaSuccess);
    });
}

/* What is on the stream already is let go of, too. */
static void test_abort_frees_the_stream(void **)
{
    with_ranks(2, [](rank *r) {
        int *x = device_ints(4);
        ncclComm_t parent = split_off(r);
        EXPECT(x && parent);
        if (r->number == 0) {
            EXPECT(ncclBroadcast(x, x, 4, ncclInt32, 0, r->comm, r->stream) == ncclSuccess);
            EXPECT(rests(r));
        }
        EXPECT(ncclCommAbort(parent) == ncclSuccess);
        EXPECT(cudaStreamSynchronize(r->stream) == cudaSuccess);
        EXPECT(cudaFree(x) == cudaSuccess);
    });
}

/* ---- What else a program must notice ---- */

static void test_sizes_that_differ(void **)
{
    with_ranks(2, [](rank *r) {
        int *x = device_ints(8);
        EXPECT(x);
        ncclResult_t begun = r->number ? ncclSend(x, 3, ncclInt32, 0, r->comm, r->stream)
                                       : ncclRecv(x, 4, ncclInt32, 1, r->comm, r->stream);
        EXPECT(begun == ncclInProgress);
        EXPECT(settle(r) == ncclSuccess);
        EXPECT(rests(r));
        EXPECT(ncclCommAbort(r->comm) == ncclSuccess);
        r->comm = nullptr;
        EXPECT(cudaStreamSynchronize(r->stream) == cudaSuccess);
        EXPECT(cudaFree(x) == cudaSuccess);
    });
}

static void test_a_rank_that_never_calls(void **)
{
    with_ranks(3, [](rank *r) {
        int *x = device_ints(8);
        EXPECT(x);
        if (r->number < 2) {
            ncclResult_t begun = r->number
                                     ? ncclRecv(x, 4, ncclInt32, 2, r->comm, r->stream)
                                     : ncclBroadcast(x, x, 4, ncclInt32, 0, r->comm, r->stream);
            EXPECT(begun == ncclInProgress);
            // the first exchange of two ranks is not even on the stream; a broadcast is, and rests
            EXPECT(settle(r, LONG) == (r->number ? ncclInProgress : ncclSuccess));
            EXPECT(r->number || rests(r));
            EXPECT(ncclCommAbort(r->comm) == ncclSuccess);
            r->comm = nullptr;
        }
        EXPECT(cudaStreamSynchronize(r->stream) == cudaSuccess);
        EXPECT(cudaFree(x) == cudaSuccess);
    });
}

static void test_failures_on_demand(void **)
{
    std::atomic<int> failed{0}, joined{0};
    std::atomic<bool> asked_for{false};
    setenv("EPMOE_EMULATED_FAIL", "ncclSend:2", 1);
    with_ranks(2, [&](rank *r) {
        int *x = device_ints(8);
        EXPECT(x);
        ncclResult_t begun = ncclSend(x, 3, ncclInt32, !r->number, r->comm, r->stream);
        failed += begun == ncclSystemError;
        EXPECT(begun == ncclSystemError || begun == ncclInProgress);
        EXPECT(ncclCommAbort(r->comm) == ncclSuccess);
        r->comm = nullptr;
        EXPECT(cudaFree(x) == cudaSuccess);
    });
    assert_int_equal(failed, 1);
    unsetenv("EPMOE_EMULATED_FAIL");
    failed = 0;
    with_ranks(2, [&](rank *r) {
        int *x = device_ints(8);
        EXPECT(x);
        joined++;
        while (joined < 2) // or its joining would be what fails
            std::this_thread::yield();
        if (r->number > 0) {
            while (!asked_for) // the environment must not change while it is read
                std::this_thread::yield();
            EXPECT(cudaFree(x) == cudaSuccess);
            return;
        }
        setenv("EPMOE_EMULATED_FAIL", "ncclAsync:1", 1);
        asked_for = true;
        EXPECT(ncclBroadcast(x, x, 3, ncclInt32, 0, r->comm, r->stream) == ncclInProgress);
        failed += settle(r) == ncclRemoteError;
        EXPECT(ncclBroadcast(x, x, 3, ncclInt32, 0, r->comm, r->stream) == ncclInvalidUsage);
        EXPECT(ncclCommAbort(r->comm) == ncclSuccess);
        r->comm = nullptr;
        EXPECT(cudaFree(x) == cudaSuccess);
    });
    assert_int_equal(failed, 1);
    unsetenv("EPMOE_EMULATED_FAIL");
}

static void test_names(void **)
{
    int version;
    assert_int_equal(ncclGetVersion(&version), ncclSuccess);
    assert_int_equal(version, NCCL_VERSION(2, 28, 9));
    assert_string_equal(ncclGetErrorString(ncclSuccess), "no error");
    assert_int_equal(ncclGroupEnd(), ncclInvalidUsage);
    assert_string_equal(ncclGetLastError(nullptr), "ncclGroupEnd without ncclGroupStart");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sends_and_receives),
        cmocka_unit_test(test_collectives),
        cmocka_unit_test(test_calls_only_begin),
        cmocka_unit_test(test_duplicate_devices),
        cmocka_unit_test(test_sizes_that_differ),
        cmocka_unit_test(test_a_rank_that_never_calls),
        cmocka_unit_test(test_failures_on_demand),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_blocking_calls),
        cmocka_unit_test(test_abort_from_another_thread),
        cmocka_unit_test(test_abort_frees_the_stream),
    };
    setenv("EPMOE_EMULATED_GPUS", "9", 1);
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
