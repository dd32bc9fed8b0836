/* A rank's device: which kernels, how many threads, and the memory that lives as long as it does.
 */
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

struct dev {
    const struct kernels *kernels;
    const struct cpu_isa *cpu; // this path's inner loops; see cpu/isa.h
    enum isa isa;
    int threads;
    struct arena memory; // dev_alloc
    void *scratch;       // per-call scratch, dev_reserve
    size_t scratch_bytes;
};

/* The most that a later call may ask for: fixes the scratch. */
struct dev_limits {
    enum dtype type;
    int rows;      // of any call
    int ffn_width; // the widest ffn
    int dim, n_heads, head_dim, n_experts;
};

/* threads >= 1. Never fails for an isa in isa_available(). */
void dev_open_cpu(struct dev *d, enum isa isa, int threads);
void dev_reserve(struct dev *d, const struct dev_limits *limits); // may be called again, to grow
void dev_close(struct dev *d);

/* Device memory, zeroed, until dev_close. */
static inline void *dev_alloc(struct dev *d, size_t bytes)
{
    return arena_alloc(&d->memory, bytes);
}

/* Cores this process may run on (its affinity mask), at least 1. */
int usable_cores(void);
