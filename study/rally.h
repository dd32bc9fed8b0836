/* Ranks that measure together without a model: how they greet, meet between laps, and put the times
 * of all on rank 0's clock. Rank 0 asks, all others answer (worker/answers.h). */
#pragma once

#include "profile/clocks.h"
#include "profile/logs.h"
#include "proto/control.h"
#include "study/lap.h"
#include "transport/transport.h"

/* A worker's first message: its version, instruction sets, and a digest of its options and files.
 */
int rally_hello(struct transport *t, const char *version, uint64_t digest);
/* Rank 0: hear every worker's, and refuse by name one of another version or digest. *common := the
 * instruction sets that all have. t may be NULL: alone. */
int rally_greet(struct transport *t, const char *version, uint64_t digest, unsigned *common);

/* Take over what a Setup says, whose layers and experts the worker has compared with `layers`:
 * sets lap->isa, options and limits.groups, and *p, who holds which expert. 0, or STATUS_FAILED. */
int rally_understand(struct lap_setup *lap, struct placement *p, struct arena *memory,
                     const struct config *layers, const struct setup *setup);
/* A worker tells rank 0 that it is ready, with so much memory taken. */
int rally_ready(struct transport *t, uint64_t bytes);

/* Rank 0: the same Step to every worker. */
int rally_step(struct transport *t, int rows);
/* A worker tells rank 0 that it has come to an agreed place; rank 0 waits for that of all. */
int rally_here(struct transport *t);
int rally_await_all(struct transport *t);

/* The marks of all workers. */
struct rally_marks {
    struct rank_clock *clocks; // [ranks]
    struct rank_log *logs;     // [ranks]
    int64_t uncertainty_ns;    // of the clocks, the worst rank's; 0: all ranks share one
};
/* Measures the clocks for the first time. 0 or an error of the transport. */
int rally_open(struct rally_marks *m, struct transport *t, struct arena *memory);
/* Collect the latest `wanted` marks of every worker; STATUS_FAILED if one has fewer. */
int rally_collect(struct rally_marks *m, struct transport *t, size_t wanted);
/* When a worker made its mark i, in rank 0's time. */
int64_t rally_time(const struct rally_marks *m, int rank, size_t i);
void rally_close(struct rally_marks *m, struct transport *t);
