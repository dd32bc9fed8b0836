/* A rank's device: which kernels, how many threads, and the memory that lives as long as it does.
 *
 * Two kinds of memory. Device memory is what primitives read and write; host memory is the
 * program's own, from where a device copies fast. On the CPU they are one, so that a device copy is
 * its original and a copy of it to itself is nothing. Both are zeroed and last until dev_close().
 *
 * A GPU fails late: the first error sticks, what follows is skipped, and dev_wait() tells. */
#pragma once

#include "base/arena.h"
#include "kernels/kernels.h"

/* The CPU's instruction sets, least first. Paths differ from each other by rounding, so all ranks
 * of a run use one. */
enum isa { ISA_PLAIN, ISA_AVX2, ISA_AVX512, ISA_AMX, ISA_COUNT };

const char *isa_name(enum isa isa);
/* Bit (1 << isa) for each path that this build has. */
unsigned isa_built(void);
/* Bit (1 << isa) for each path that this build has and this machine can run. */
unsigned isa_available(void);
/* The best path in `common` (a mask), or the one that EPMOE_ISA names; STATUS_USAGE when that is
 * unknown or not in `common`. */
int isa_choose(enum isa *isa, unsigned common);

enum device { DEVICE_CPU, DEVICE_CUDA, DEVICE_COUNT };

struct dev {
    const struct kernels *kernels;
    const struct cpu_isa *cpu; // this path's inner loops; see cpu/isa.h
    enum isa isa;
    int threads;
    int joint_rows;      // up to so many rows, ffn() runs its jobs best in one call; 0: never
    struct arena memory; // the host's
    uint64_t bytes;      // of device memory so far
    void *scratch;       // per-call scratch, dev_reserve
    size_t scratch_bytes;
    struct ffn_run *runs; // the same, of ffn: [n_runs]
    int n_runs;
    struct cuda *cuda; // a GPU's own; NULL on the CPU
    struct dev
        *memory_owner; // of a GPU's host: the GPU that allocates its memory (pinned); or NULL
};

/* The most that a later call may ask for: fixes the scratch. */
struct dev_limits {
    enum dtype type;
    int rows;                // of any call but for those of pieces
    int ffn_width;           // of blocks whose rows are counted
    int pieces, piece_width; // blocks that every row goes through: the most of a list, the widest,
    int piece_rows;          // and the most rows that go through them
    int dim, n_heads, head_dim, n_experts;
    int context;           // positions of a sequence
    int vocab, logit_rows; // of sampling; 0 where there is none
};

/* threads >= 1. Never fails for an isa in isa_available(). */
void dev_open_cpu(struct dev *d, enum isa isa, int threads);

/* The CPU beside a GPU: its memory is what the GPU copies fast. Close it before the GPU. */
void dev_open_host(struct dev *d, struct dev *gpu);

/* GPUs that this build can use, now; 0 also where there is no driver, or no CUDA in this build. */
int cuda_count(void);
/* One line for people: "built for sm_80 sm_90; no GPU found". */
void cuda_describe(char *text, size_t size);
/* GPU number `gpu`; isa and threads serve what its host does. STATUS_USAGE when there is none. */
int dev_open_cuda(struct dev *d, int gpu, enum isa isa, int threads);

static inline void dev_reserve(struct dev *d, const struct dev_limits *limits)
{
    d->kernels->reserve(d, limits); // may be called again, to grow
}

static inline void dev_close(struct dev *d)
{
    if (d->kernels)
        d->kernels->close(d);
}

static inline void *dev_alloc(struct dev *d, size_t bytes)
{
    d->bytes += (bytes + 63) / 64 * 64;
    return d->kernels->alloc(d, bytes);
}

static inline void *dev_alloc_host(struct dev *d, size_t bytes)
{
    return d->kernels->alloc_host(d, bytes);
}

/* Device memory that mirrors host memory, its device copy: dev_upload() fills it, dev_download()
 * reads it back. On the CPU it is the host memory itself. */
static inline void *dev_alloc_copy(struct dev *d, void *host, size_t bytes)
{
    d->bytes += (bytes + 63) / 64 * 64;
    return d->kernels->alloc_copy(d, host, bytes);
}

/* Copies, in order with the primitives. What is dev_alloc_host's must rest until dev_wait(); any
 * other host memory is read or written by the time of return. */
static inline void dev_upload(struct dev *d, void *to, const void *from, size_t bytes)
{
    d->kernels->upload(d, to, from, bytes);
}

static inline void dev_download(struct dev *d, void *to, const void *from, size_t bytes)
{
    d->kernels->download(d, to, from, bytes);
}

/* Device memory that is still to be had. */
static inline uint64_t dev_free_bytes(struct dev *d)
{
    return d->kernels->free_bytes(d);
}

/* Everything so far is done: 0, or STATUS_FAILED. What others see of the pulse meanwhile: see
 * pulse_seen(). */
static inline int dev_wait(struct dev *d)
{
    return d->kernels->wait(d);
}

/* From now on: what times marks (base/trace.h) on this device's own clock, `room` of them before
 * they are settled, and names the phases to profilers; no sequence is recorded or played any more
 * (see below). NULL where the host's clock is right. Lasts until dev_close(). */
static inline const struct trace_timer *dev_time_marks(struct dev *d, size_t room)
{
    return d->kernels->time_marks(d, room);
}

/* A sequence of primitives that comes again and again with the same arguments (not values) is
 * recorded the first time and then played as one. True: make the calls, then dev_graph_end();
 * false: they have been played. Neither waits nor copies to or from other than dev_alloc_host's
 * memory may stand between. key: not 0, and only ever this sequence's. */
static inline bool dev_graph_begin(struct dev *d, uint64_t key)
{
    return d->kernels->graph_begin(d, key);
}

static inline void dev_graph_end(struct dev *d)
{
    d->kernels->graph_end(d);
}

/* Cores this process may run on (its affinity mask), at least 1. */
int usable_cores(void);
