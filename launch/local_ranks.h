/* The ranks of one process: rank 0 is the caller's thread, each other one a thread of its own. */
#pragma once

#include "transport/transport.h"

struct local_ranks {
    struct transport *ends;      // [n]; NULL: there are none
    struct rank_thread *threads; // [n] from entry 1 on
    int n;
};

/* Start ranks 1 to n - 1. Each runs serve(its end, its own copy of `given`, which is `bytes` long)
 * and closes its end. What serve() returns is of no concern, as it tells rank 0 of its errors; but
 * STATUS_LOST_RANK, rank 0 being lost, ends the process. A rank that makes no progress for
 * timeout_ns counts as lost. */
void local_ranks_start(struct local_ranks *l, int n, int64_t timeout_ns,
                       int (*serve)(struct transport *end, const void *given), const void *given,
                       size_t bytes);
/* Wait until all have ended. One that does not end in good time ends the process with
 * STATUS_LOST_RANK: a thread cannot be ended from outside. */
void local_ranks_join(struct local_ranks *l);
/* Close rank 0's end, once the others have ended. Does nothing for a struct of zeros. */
void local_ranks_close(struct local_ranks *l);
