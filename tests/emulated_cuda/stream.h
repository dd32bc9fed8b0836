/* Streams: work is queued when it is issued and runs when something waits for it, in an order that
 * CUDA allows and a careless program does not expect. Three orders take turns at random (seed
 * EPMOE_EMULATED_SEED): only what is waited for; everything else first; any.
 * All of it under api_lock. */
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <stdint.h>
#include <thread>
#include <vector>

#include "block.h"

namespace emulated
{

struct marker {      // one recording of an event
    CUstream_st *on; // NULL: other ranks decide when it happens
    bool done;
    double milliseconds; // when it happened
};

struct task { // a kernel, or anything else
    std::function<void()> run;
    std::shared_ptr<const kernel_launch> kernel;

    template <class F> task(F f) : run(std::move(f))
    {
    }
    task(std::shared_ptr<const kernel_launch> k) : kernel(std::move(k))
    {
    }
};

struct work {
    task todo;
    std::shared_ptr<marker> wait; // runnable only once this has happened
};

struct graph_node {
    task todo;
    std::vector<int> after; // nodes that must have run
};

struct capture {
    CUstream_st *origin;
    std::thread::id thread;
    cudaStreamCaptureMode mode;
    bool lost;
    std::vector<graph_node> nodes;
    std::vector<CUstream_st *> streams; // origin and those that joined
};

/* Queue it, or record it where the stream is being captured. */
cudaError_t issue(cudaStream_t stream, task todo);

/* Run it, and as many of the early kernels that follow directly as chance will have: next() gives
 * the one that does, or null. Returns how many tasks it ran. */
int run_task(const task &first, const std::function<const task *()> &next);

/* What follows on the stream waits for the marker. */
void wait_for(cudaStream_t stream, std::shared_ptr<marker> m);

/* Run what has been issued: to one stream, or to all of a device. Where that takes another host
 * thread's call (a rank's that NCCL waits for), the lock is free until it comes; the caller holds
 * it once. */
void finish(cudaStream_t stream);
void finish_device(int device);

/* A host thread has done what another may be waiting for; and: wait for such a thing. */
void something_happened();
void let_others_act();

/* The capture that this host thread's call may break, or null. */
capture *endangered_capture();
bool is_capturing(cudaStream_t stream);
cudaError_t record_node(cudaStream_t stream, task todo);
void leave_capture(capture *c);
uint64_t next_random();

} // namespace emulated

struct CUstream_st {
    int device;
    bool blocking; // waits for the legacy default stream, and it for this one
    std::deque<emulated::work> queue;
    uint64_t issued, done;
    std::shared_ptr<emulated::capture> captured;
    std::vector<int> frontier; // nodes that the next captured one must follow
};

struct CUevent_st {
    bool timed;
    std::shared_ptr<emulated::marker> last;     // recorded
    std::shared_ptr<emulated::capture> capture; // or recorded in a capture, after these nodes
    std::vector<int> frontier;
};
