/* A block of threads on the CPU. Each thread is a lane; lanes run one at a time, on fibers, and
 * change only where they must wait for each other. A fiber runs lane after lane as long as none has
 * to wait: a kernel without barriers needs one. */
#pragma once

#include <functional>
#include <memory>
#include <stddef.h>
#include <vector>

#include "cuda_runtime_api.h"

namespace emulated
{

enum { WARP = 32, MOST_THREADS = 1024, MOST_AT_ONCE = 4 };

struct site { // where a lane waits
    const char *what, *file;
    int line;
};

/* Code of ours within a kernel's, which has nothing to check and runs often. */
#define EMULATED_UNCHECKED __attribute__((no_sanitize("address", "undefined", "thread")))

enum lane_state { NEW, READY, RUNNING, AT_BARRIER, AT_WARP, AT_PREVIOUS, LEFT };
enum reduction { COUNT, AND, OR };

struct fiber;
/* What the last lane to arrive does for all lanes of `mask`: reads in[lane], writes out[lane]. */
typedef void collective(unsigned mask, const void *const in[WARP], void *const out[WARP]);

struct lane {
    uint3 thread;
    int index; // in the block
    lane_state state;
    struct fiber *on;
    site at;             // while it waits
    int result;          // of a barrier
    unsigned mask;       // of a warp's operation
    const void *in;      // its operand
    void *out;           // its result
    bool pending_copies; // cp.async not waited for
    bool has_waited;     // for the kernels before
    bool in_kernel;      // not yet, or no more, in the code that brings it there
    bool in_collective;  // computes for all of its warp
};

struct kernel_launch {
    const char *name;
    const void *function;
    dim3 grid, block;
    size_t shared_bytes;
    bool early;                 // may begin before the one before has ended
    std::function<void()> body; // one thread's run
};

struct running { // what the present OS thread executes
    const kernel_launch *kernel;
    dim3 grid, block;
    uint3 index;
    int n;     // threads of a block
    int depth; // kernels that have begun and wait for this one
    void *shared;
    const void *closure; // the arguments
    size_t closure_bytes;
    const char *near; // the allocation that was touched last, for races.cc
    size_t near_bytes;
};

extern __thread lane *self; // of the running lane; null on the host
extern __thread running *now;

using kernel_chain = std::vector<std::shared_ptr<const kernel_launch>>;

/* Run all blocks of these grids, here and now; all but the first are early. Each begins before the
 * one before it: the first thing that runs is a block of the last, until it waits. */
void run_grids(const kernel_chain &chain);

/* The lane goes on when the grids before are over. */
void wait_for_previous();

/* Wait for all lanes of the block; their predicates, reduced. */
int barrier(site at, reduction how, int predicate);

/* Wait for the lanes of mask, which must all come to the same operation; the last one runs f. */
void collect(site at, unsigned mask, const void *in, void *out, collective *f);

/* Let other lanes run first (a spin on memory must call this, there is no other preemption). */
void yield();

/* Check a launch and queue it; what is wrong is printed, becomes the last error and is returned. */
cudaError_t launch_kernel(kernel_launch k, cudaStream_t stream);
void prefetch(const void *at);
void log_run(const kernel_launch &k); // for people and tests, see launch.cc
void check_pointer(const char *kernel, int index, const void *argument);

cudaError_t copy_to_symbol(void *symbol, size_t size, const void *from, size_t bytes,
                           size_t offset);

/* cp.async: copies that this lane has issued happen when it waits for them, not before. */
void copy_later(void *shared, const void *global, size_t bytes, bool zero);
void close_copies();         // commit
void read_copies();          // their sources are read now
void finish_copies(int but); // wait for all groups but the last `but`
void abandon_copies(lane *l);

/* The block's dynamic shared memory, 1024-byte aligned. */
inline void *dynamic_shared()
{
    return now->shared;
}

} // namespace emulated
