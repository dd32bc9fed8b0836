/* Where the time of a run's steps goes: every rank's phases, by layer, on rank 0's clock.
 *
 * Ranks log marks (base/trace.h). Between steps, when the log is half full, and at the end, rank 0
 * measures the workers' clocks, asks for their logs and folds all of them into the sums below; so a
 * profile of a long run takes no more memory than one of a short run. docs/profile.md defines the
 * terms; study/profile.h prints them. */
#pragma once

#include "base/trace.h"
#include "exchange/root.h"
#include "profile/clocks.h"
#include "proto/phase.h"

enum step_kind {
    STEP_PREFILL, // some sequence has more than one row
    STEP_DECODE,
    STEP_KINDS
};

struct phase_times {
    int64_t ns[PHASE_COUNT];
};

/* What the exchange of a layer was to the coordinator, in ns. */
struct exchange_times {
    int64_t compute, skew, transfer; // their sum is the PHASE_WAIT of rank 0
    int64_t hidden;                  // rows were away, and rank 0 had other work
};

/* What the ranks that hold experts of a layer had to do. */
struct rank_load {
    uint64_t rows;    // (row, expert) pairs
    uint64_t experts; // that had any
};

struct layer_load {
    int holders;                      // ranks that hold experts of the layer
    uint64_t rows_most, experts_most; // of the busiest rank, summed over steps (or their halves)
};

struct step_sums {
    uint64_t steps, rows;
    struct phase_times *times;       // [ranks][layers + 1]; the last: outside the layers
    struct exchange_times *exchange; // [layers]
    struct rank_load *loads;         // [ranks][layers]
    struct layer_load *layers;       // [layers]
    struct exchange_counters bytes;  // of rank 0
    struct pair_bytes *with;         // [ranks] of them, what went to and came from each
};

/* A rank's log, on rank 0's clock. */
struct rank_log {
    struct trace_event *events;
    size_t n, room;
    size_t at; // the next to be folded
};

struct profile_options {
    bool on;
    bool keep; // logs as they are, too, for a trace file: the first PROFILE_KEPT marks of a rank
};
enum { PROFILE_KEPT = 1 << 19 };

struct profile {
    struct transport *transport; // NULL: alone
    int n_ranks, n_layers;
    struct trace log;          // of this rank
    struct rank_clock *clocks; // [ranks]
    struct step_sums steps[STEP_KINDS];
    int64_t outside_ns, profiling_ns; // of rank 0, between steps
    uint64_t dropped;                 // marks that a log had no room for
    bool keep, kept_all, finished;
    struct rank_log *kept; // [ranks]
    // private
    struct rank_log *logs;            // [ranks] as they were collected
    struct worker_span *worker_spans; // [ranks][layers][halves] of the step at hand
    struct wait_span *wait_spans;     // [layers][halves]
    struct exchange_counters counted;
    struct pair_bytes *counted_with; // [ranks]
    struct wait_span *away[2];       // of each half, the latest
    enum step_kind kind;
};

/* Measures the clocks: the workers must be between steps. *p := NULL unless o->on. */
int profile_open(struct profile **p, struct transport *t, int n_layers,
                 const struct profile_options *o);
/* Rank 0's marks are timed by its device, if that has a clock of its own. p may be NULL. */
void profile_time_by(struct profile *p, struct dev *d);
void profile_close(struct profile *p); // NULL is legal

/* The rest does nothing when p is NULL. */

/* A step of n rows begins; before it the logs are collected if need be. */
int profile_begin_step(struct profile *p, enum step_kind kind, int n,
                       const struct exchange_counters *bytes);
/* A layer's rows have been sorted: what each rank has to do. r->count must be host memory. */
void profile_count_rows(struct profile *p, int layer, const struct routing *r);
/* After the last step: complete the sums. */
int profile_finish(struct profile *p, const struct exchange_counters *bytes);

/* ---- reading ---- */

static inline struct phase_times *profile_times(const struct profile *p, enum step_kind kind,
                                                int rank, int layer)
{
    return &p->steps[kind].times[rank * (p->n_layers + 1) + layer];
}
