/* Ranks that measure together without a model: how they greet, meet between laps, and put the times
 * of all on rank 0's clock. Rank 0 asks, all others answer (worker/answers.h). */
#pragma once

#include "profile/clocks.h"
#include "profile/logs.h"
#include "proto/control.h"
#include "study/lap.h"
#include "transport/transport.h"

/* Rank 0: hear every worker's hello, and refuse by name one of another version or digest. *common
 * := the instruction sets that all have. t may be NULL: alone. */
int rally_greet(struct transport *t, const char *version, uint64_t digest, unsigned *common);

/* Take over what a Setup says, whose layers and experts the worker has compared with `layers`:
 * sets lap->isa, options and limits.groups, and *p, who holds which expert. 0, or STATUS_FAILED. */
int rally_understand(struct lap_setup *lap, struct placement *p, struct arena *memory,
                     const struct config *layers, const struct setup *setup);
/* A worker tells rank 0 that it is ready, with so much memory taken. */
int rally_ready(struct transport *t, uint64_t bytes);

/* What a worker does when rank 0 asks, and what it keeps meanwhile. */
struct rally_worker {
    void *of;                                           // the first argument of both
    int (*set_up)(void *of, const struct setup *setup); // NULL: no Setup is expected
    int (*step)(void *of, int rows);
    struct trace *log;    // of its marks; NULL: no questions about time are expected
    struct arena message; // what the message at hand points to
    bool stopped;         // rank 0 has said Stop
};
/* A worker, from its hello until rank 0 says Stop. What set_up() and step() return is told rank 0,
 * unless they were interrupted because rank 0 gave up itself. 0 or the error's status. */
int rally_serve(struct transport *t, struct rally_worker *w, const char *version, uint64_t digest);

/* Rank 0: the same Step to every worker. */
int rally_step(struct transport *t, int rows);
/* All ranks: wait until all others have come here, too. No control message says so: while NCCL
 * moves rows, such a message would call them off. */
int rally_meet(struct transport *t);

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
/* m may be all zeros: never opened. */
void rally_close(struct rally_marks *m, struct transport *t);
