/* A rank's device: its kernels, its threads, and memory that lasts as long as the device.
 *
 * There are two kinds of memory. Primitives read and write device memory. The program reads and
 * writes host memory, and a GPU copies from and to it fast (it is pinned). On the CPU both are the
 * same: the device copy of a piece of host memory is that piece, and copying between the two does
 * nothing. Both kinds are zeroed and last until dev_close().
 *
 * A GPU reports errors late. It keeps the first one, skips every later call, and dev_wait() returns
 * the error. */
#pragma once

#include "base/arena.h"
#include "kernels/kernels.h"

/* The CPU's instruction sets, slowest first. Their results differ by rounding, so all ranks of a
 * run use the same one. */
enum isa { ISA_PLAIN, ISA_AVX2, ISA_AVX_VNNI, ISA_AVX512, ISA_AMX, ISA_COUNT };

const char *isa_name(enum isa isa);
/* Bit (1 << isa) for each instruction set that this build has code for. */
unsigned isa_built(void);
/* Bit (1 << isa) for each of those that this machine can run. */
unsigned isa_available(void);
/* *isa := the best one of the mask `common`, or the one that EPMOE_ISA names; STATUS_USAGE when
 * that one is unknown or not in `common`. */
int isa_choose(enum isa *isa, unsigned common);

enum device { DEVICE_CPU, DEVICE_CUDA, DEVICE_COUNT };

struct dev {
    const struct kernels *kernels;
    const struct cpu_isa *cpu; // the inner loops of `isa`; see cpu/isa.h
    enum isa isa;
    int threads;
    int joint_ffn_max_rows; // with at most so many rows, several ffn jobs are faster in one call
                            // than one by one; 0: they never are
    struct arena memory;    // host memory
    uint64_t bytes;         // device memory allocated so far
    void *scratch;          // for use within a call; sized by dev_reserve()
    size_t scratch_bytes;
    struct ffn_run *runs; // [n_runs] likewise, for ffn
    int n_runs;
    struct cuda *cuda; // what only a GPU has; NULL on the CPU
    struct dev
        *memory_owner; // dev_open_host(): the GPU that allocates this device's memory; or NULL
};

/* What it computes with, for people: "cuda", or the instruction set. */
static inline const char *dev_name(const struct dev *d)
{
    return d->cuda ? "cuda" : isa_name(d->isa);
}

/* The largest sizes that any later call will have. dev_reserve() sizes the scratch by them. */
struct dev_limits {
    enum dtype type;
    int rows;                // of any call but for those of pieces
    int ffn_width;           // of blocks whose rows are counted
    int pieces, piece_width; // blocks that every row goes through: the most of a list, the widest,
    int piece_rows;          // and the most rows that go through them
    int dim, n_heads, head_dim, n_experts;
    int context;           // positions of a sequence
    int vocab, logit_rows; // for sampling; 0 on ranks that do not sample
    bool quantised;        // some matrix is
};

/* threads >= 1. Cannot fail for an isa in isa_available(). */
void dev_open_cpu(struct dev *d, enum isa isa, int threads);

/* From now on a CPU device computes with these, and at most as many threads as it was opened with.
 */
void dev_use_cpu(struct dev *d, enum isa isa, int threads);

/* How a straightforward program goes through the experts: each of its rows through all of them,
 * each row through its own, or each expert with its rows together. */
enum eager { EAGER_EVERY_EXPERT, EAGER_ROW_BY_ROW, EAGER_GROUPED, EAGER_COUNT };
/* Make a CPU device one that has weights in rows and computes a sum at a time, in plain C on one
 * thread (cpu/eager.c). Before weights are packed; later calls change how it goes through experts.
 */
void dev_make_eager(struct dev *d, enum eager how);

/* A CPU device for the work that the host of a GPU does itself. Its memory is pinned, allocated by
 * the GPU. Close it before the GPU. */
void dev_open_host(struct dev *d, struct dev *gpu);

/* How many GPUs this build can use here; 0 without a driver, or without CUDA in this build. */
int cuda_count(void);
/* One line for people: "built for sm_80 sm_90; no GPU found". */
void cuda_describe(char *text, size_t size);
/* Open GPU number `gpu`; isa and threads are for dev_open_host(), and so many threads copy weights
 * while they are packed. STATUS_USAGE when there is no such GPU, or EPMOE_EARLY or
 * EPMOE_OWN_ALLOCATIONS is neither 0 nor 1; STATUS_FAILED when it cannot be opened. Then there is
 * nothing to close. */
int dev_open_cuda(struct dev *d, int gpu, enum isa isa, int threads);

/* Make the scratch large enough for calls within the limits. May be called again with larger ones.
 */
static inline void dev_reserve(struct dev *d, const struct dev_limits *limits)
{
    d->kernels->reserve(d, limits);
}

static inline void dev_close(struct dev *d)
{
    if (d->kernels)
        d->kernels->close(d);
}

/* Device memory and host memory, zeroed, until dev_close(). Where there is no more, a CPU ends the
 * process with a message. On a GPU dev_alloc() and dev_alloc_copy() return NULL, and the next
 * dev_wait() says why. */
static inline void *dev_alloc(struct dev *d, size_t bytes)
{
    d->bytes += (bytes + 63) / 64 * 64;
    return d->kernels->alloc(d, bytes);
}

static inline void *dev_alloc_host(struct dev *d, size_t bytes)
{
    return d->kernels->alloc_host(d, bytes);
}

/* The device copy of a piece of host memory: as many bytes of device memory. dev_upload() and
 * dev_download() copy between the two. On the CPU it is the host memory itself. */
static inline void *dev_alloc_copy(struct dev *d, void *host, size_t bytes)
{
    d->bytes += (bytes + 63) / 64 * 64;
    return d->kernels->alloc_copy(d, host, bytes);
}

/* Copy to the device (upload) or from it (download), in order with the primitives. If the host's
 * side is of dev_alloc_host(), it must not change until dev_wait(). With any other host memory the
 * copy is complete on return. */
static inline void dev_upload(struct dev *d, void *to, const void *from, size_t bytes)
{
    d->kernels->upload(d, to, from, bytes);
}

static inline void dev_download(struct dev *d, void *to, const void *from, size_t bytes)
{
    d->kernels->download(d, to, from, bytes);
}

/* How many bytes of device memory can still be allocated. */
static inline uint64_t dev_free_bytes(struct dev *d)
{
    return d->kernels->free_bytes(d);
}

/* Wait until the device has done all calls made so far. 0, or STATUS_FAILED after an error, which
 * fail() has told. For the rank's pulse during the wait see pulse_seen(). */
static inline int dev_wait(struct dev *d)
{
    return d->kernels->wait(d);
}

/* The timer that times the marks of a log (base/trace.h) on the device's own clock, for at most
 * `room` marks between two settles. It also names the phases to profilers. From this call on, no
 * sequence of primitives is recorded or played (see below), as its phases would have no times. NULL
 * on the CPU, where the host's clock is right. Owned by the device. */
static inline const struct trace_timer *dev_time_marks(struct dev *d, size_t room)
{
    return d->kernels->time_marks(d, room);
}

/* For a sequence of primitives that is called again and again with the same arguments (the contents
 * of arrays may differ): a GPU records it as a CUDA graph and later plays it with one launch. True:
 * the caller makes the calls, then dev_graph_end(). False: the device has played the recorded ones,
 * and the caller makes none. The sequence may not contain dev_wait(), nor copies from or to host
 * memory that is not of dev_alloc_host(). key: not 0, and of this sequence alone. */
static inline bool dev_graph_begin(struct dev *d, uint64_t key)
{
    return d->kernels->graph_begin(d, key);
}

static inline void dev_graph_end(struct dev *d)
{
    d->kernels->graph_end(d);
}

/* How many cores this process may run on (by its affinity mask), at least 1. */
int usable_cores(void);
