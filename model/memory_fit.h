/* Is there as much memory as ranks will take? Asked once the placement is known, before a byte is
 * loaded: by rank 0 for its own host, by the first rank of each other host for that, and by each
 * process for itself. */
#pragma once

#include <stdbool.h>

#include "base/memory.h"
#include "model/memory_plan.h"

/* What one host's main memory must hold, in bytes. */
struct memory_need {
    const struct memory_plan *plan;
    uint64_t weights, experts, kv, buffers; // of this rank, which has the KV cache if it is rank 0
    uint64_t others;                        // of the host's other ranks
    int ranks;                              // of this host
    bool threads;                           // these ranks are threads of this process
};

/* What `rank` needs, with so many bytes of buffers; on_host [n_ranks]: which ranks are on its host,
 * whose needs go to `others`. */
struct memory_need memory_need_of(const struct memory_plan *plan, int rank, uint64_t buffers,
                                  const bool *on_host);

/* 0, or STATUS_FAILED after fail() has told what is needed, item by item, what is free, and what
 * would fit. here: check all ranks of the host together, too. */
int memory_fit(const struct memory_need *need, const char *host, bool here);
/* The same with a given room, for tests. */
int memory_fit_in(const struct memory_need *need, const char *host, struct memory_room here,
                  struct memory_room process);
