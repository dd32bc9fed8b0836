/* Where the time of a run's steps goes: the phases of every rank, by layer, in times of rank 0's
 * clock.
 *
 * Ranks log marks (base/trace.h). Between two steps when the log is half full, and at the end, rank
 * 0 measures the workers' clocks, asks for their logs and adds all logs to the sums below. So a
 * profile of a long run takes no more memory than one of a short run. docs/profile.md defines the
 * terms; study/profile.h prints them. */
#pragma once

#include "base/trace.h"
#include "exchange/root.h"
#include "profile/clocks.h"
#include "profile/logs.h"
#include "proto/phase.h"

enum step_kind {
    STEP_PREFILL, // some sequence has more than one row
    STEP_DECODE,
    STEP_KINDS
};

struct phase_times {
    int64_t ns[PHASE_COUNT];
};

/* How rank 0 spent the time while a layer's rows were away, in ns. */
struct exchange_times {
    int64_t compute, skew, transfer; // what it waited for (fold.c); the sum is its PHASE_WAIT
    int64_t hidden;                  // it did other work
};

/* The work that a layer gave to a rank. */
struct rank_load {
    uint64_t rows;    // (row, expert) pairs
    uint64_t experts; // experts that had rows
};

struct layer_load {
    int holders;                      // ranks that hold experts of the layer
    uint64_t rows_most, experts_most; // of the busiest rank, summed over steps (or their halves)
};

struct step_sums {
    uint64_t steps, rows;
    struct phase_times *times;       // [ranks][layers + 1]; entry [layers]: outside the layers
    struct exchange_times *exchange; // [layers]
    struct rank_load *loads;         // [ranks][layers]
    struct layer_load *layers;       // [layers]
    struct exchange_counters bytes;  // of rank 0
    struct pair_bytes *with;         // [ranks] what rank 0 sent to and received from each
};

struct profile_options {
    bool on;
    bool keep; // keep the first PROFILE_KEPT marks of each rank as well, for a trace file
};
enum { PROFILE_KEPT = 1 << 19 };

struct profile {
    struct transport *transport; // NULL: rank 0 is the only rank
    int n_ranks, n_layers;
    struct trace log;          // of this rank
    struct rank_clock *clocks; // [ranks]
    struct step_sums steps[STEP_KINDS];
    int64_t outside_ns, profiling_ns; // of rank 0, between steps
    uint64_t dropped;                 // marks that a log had no room for
    bool keep, kept_all, finished;
    struct rank_log *kept; // [ranks]
    // private
    struct rank_log *logs;            // [ranks] collected, not yet folded
    struct worker_span *worker_spans; // [ranks][layers][halves] of the current step
    struct wait_span *wait_spans;     // [layers][halves] likewise
    struct exchange_counters counted; // rank 0's counters at the last step's beginning
    struct pair_bytes *counted_with;  // [ranks] likewise
    struct wait_span *away[2];        // the latest wait_span of each half
    enum step_kind kind;              // of the current step
};

/* *p := a new profile, or NULL unless o->on. It measures the clocks, so the workers must be between
 * steps. 0, or an error of the transport. */
int profile_open(struct profile **p, struct transport *t, int n_layers,
                 const struct profile_options *o);
/* Have rank 0's device time its marks, if the device has a clock of its own. p may be NULL. */
void profile_time_by(struct profile *p, struct dev *d);
void profile_close(struct profile *p); // NULL is legal

/* The functions below do nothing when p is NULL. */

/* A step of n rows begins. Collects the logs first if the step may need their room. */
int profile_begin_step(struct profile *p, enum step_kind kind, int n,
                       const struct exchange_counters *bytes);
/* A layer's rows have been sorted: count what each rank has to do. r->count must be host memory. */
void profile_count_rows(struct profile *p, int layer, const struct routing *r);
/* After the last step: collect the logs and complete the sums. */
int profile_finish(struct profile *p, const struct exchange_counters *bytes);

/* ---- reading ---- */

static inline struct phase_times *profile_times(const struct profile *p, enum step_kind kind,
                                                int rank, int layer)
{
    return &p->steps[kind].times[rank * (p->n_layers + 1) + layer];
}
