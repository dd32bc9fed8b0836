/* A benchmark of the all-to-all of a layer: dispatch, combine and the round trip of both, for a
 * list of sizes, without a model. docs/measuring.md defines and derives what is measured.
 *
 * Rank 0 coordinates; all others serve. They agree on the options by a digest in Hello, and by
 * Setup on the instruction set, the placement and how rows travel. */
#pragma once

#include <stdio.h>

#include "exchange/exchange.h"
#include "model/placement.h"
#include "transport/transport.h"

enum { ALLTOALL_MAX_SIZES = 64 };

struct alltoall_options {
    int hidden, top_k, experts;
    enum dtype type;
    struct exchange_options exchange; // overlap is off
    const char *skew;
    const double *weights; // [experts] of the skew
    int n_sizes;
    int rows[ALLTOALL_MAX_SIZES]; // of each size; ascending
    int warmup, iterations;       // laps of each size
    bool check;                   // compare all that travels, in laps of their own
    uint64_t seed;
    struct placement *placement; // rank 0: of one layer; workers are told
    const char *placed;          // what the user asked for, in words
    bool nccl;                   // rows go from GPU to GPU,
    int gpu;                     // and this is this rank's
    const char *version;
};

/* Of a time in ns over the iterations. */
struct lap_times {
    double median, p99;
};
struct lap_times lap_times_of(double *values, int n); // n >= 1; sorts them

struct alltoall_size {
    int rows;
    uint64_t out, back;      // bytes that left rank 0, and that came back, in one lap
    uint64_t messages;       // that left
    uint64_t logical, local; // bytes of rows in and out of all experts; of those at home
    struct lap_times dispatch, combine, round;
    int slowest;             // the rank that most often was the last to have its rows; 0: alone
    double *rank_dispatch;   // [ranks] median time until the rank had its rows; 0 of rank 0
    struct pair_bytes *with; // [ranks] of one lap, as rank 0 counts them
    bool checked;            // everything that travelled was right
};

struct alltoall_report {
    struct arena memory;
    int n_ranks, n_sizes;
    enum isa isa;
    int64_t uncertainty_ns; // of the clocks, the worst rank's; 0: all ranks share one
    struct alltoall_size size[ALLTOALL_MAX_SIZES];
};

/* Rank 0. t: NULL when alone. 0, or the error's status; a report is to be freed in any case. */
int alltoall_coordinate(struct alltoall_report *r, struct transport *t,
                        const struct alltoall_options *o);
void alltoall_report_free(struct alltoall_report *r);

/* Any other rank: serve until rank 0 says Stop. Errors go to rank 0; the caller's thread captures
 * them. Returns 0 or the error's status. */
int alltoall_serve(struct transport *t, const struct alltoall_options *o);

/* Bytes of memory that rank 0, or a worker, will take, about. */
uint64_t alltoall_bytes(const struct alltoall_options *o, bool worker);

enum alltoall_format { ALLTOALL_TEXT, ALLTOALL_JSON, ALLTOALL_CSV };
/* Bytes a second, of bytes and a time in ns; 0 where there is no time. */
static inline double alltoall_rate(uint64_t bytes, double ns)
{
    return ns > 0 ? (double)bytes / ns * 1e9 : 0;
}
/* How reports call what moves rows. */
static inline const char *alltoall_transport(const struct transport *t, bool nccl)
{
    return !t || t->size < 2 ? "none" : nccl ? "nccl" : t->name;
}
void alltoall_print(const struct alltoall_report *r, const struct alltoall_options *o,
                    const struct transport *t, enum alltoall_format format, FILE *out);
