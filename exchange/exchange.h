/* The all-to-all of a layer: rows are sent to the ranks whose experts they need, and the experts'
 * results come back. This header has what the two ends, root.h and worker.h, share.
 *
 * Three parts that do not know each other's insides:
 *   a plan      which row goes to which rank, in which order; made once from a layer's routing
 *   a strategy  what is sent to whom, and what comes back (exact.c, padded.c, allgather.c)
 *   a mover     how rows get there: behind the message in the host's memory, or from GPU to GPU
 * Every strategy works with every mover, and all give the same bits. COMBINE_SUM and a narrower
 * wire change results, but again to the same bits for every strategy, dedup and mover.
 *
 * An end is a role: the root has rows and needs results, a worker has experts. Errors: as in
 * transport.h, and STATUS_FAILED for a message that does not hold what the step requires. */
#pragma once

#include "base/trace.h"
#include "exchange/options.h"
#include "kernels/device.h"
#include "transport/transport.h"

struct exchange_limits {
    int rows;        // the most of a step
    int top_k;       // experts of a row
    int experts;     // of one layer, on all ranks
    int width;       // of a row
    enum dtype type; // of a row
    int pieces;      // the most of one layer, on all ranks
    int groups;      // the most of one layer, on all ranks: its experts, and copies of them
};

/* What both ends are opened with. */
struct exchange_setup {
    struct dev *host; // a CPU device: its memory has messages and plans
    struct dev *dev;  // its memory has the rows, and it narrows, widens, gathers and sums them: the
                      // GPU with nccl, else the same as host
    struct transport *transport; // NULL, or of size 1: alone, nothing travels
    int root;                    // the root's rank
    struct exchange_limits limits;
    struct exchange_options options;
    bool nccl; // on all ranks or on none: rows go from GPU to GPU
};

/* Which rank has which of a layer's experts and pieces (model/placement.h); both ends know it.
 * Every row goes through every piece, whose result is f32. */
struct exchange_layer {
    struct grouping groups;     // of experts and their copies, in (rank, expert) order
    const int32_t *rank_first;  // [n_ranks + 1] first group of each rank
    const int32_t *piece_first; // [n_ranks + 1] the same of pieces, in (rank, piece) order
    int top_k;                  // experts of a row; 0 in a layer that has pieces only
};

static inline int layer_experts(const struct exchange_layer *l, int rank)
{
    return l->rank_first[rank + 1] - l->rank_first[rank];
}

static inline int layer_pieces(const struct exchange_layer *l, int rank)
{
    return l->piece_first[rank + 1] - l->piece_first[rank];
}

/* Does `rank` have all experts and pieces of this layer? If the root does, no row travels. */
static inline bool layer_stays(const struct exchange_layer *l, int rank, int n_ranks)
{
    return layer_experts(l, rank) == l->rank_first[n_ranks] &&
           layer_pieces(l, rank) == l->piece_first[n_ranks];
}

/* Between two ranks, in bytes. */
struct pair_bytes {
    uint64_t sent, received;
};

/* What one rank has moved so far, in bytes, and how it spent the time. The root's rows are away
 * from the end of a dispatch until the last result is back. exposed_ns is the part of that time in
 * which the root waits, hidden_ns the part in which it works, also on the other half of a step.
 * Over MPI results count as back when the rank next looks for them. */
struct exchange_counters {
    uint64_t sent, received; // everything that travelled: rows, counts, padding
    uint64_t messages;       // how many were sent
    uint64_t exposed_ns;     // waiting for rows; counted on workers too
    uint64_t hidden_ns;      // root only
    uint64_t logical;        // root only: the input and output rows of all (row, expert) and (row,
                             // piece) pairs
    uint64_t local;          // of these, the pairs on rank 0 itself
    struct pair_bytes *with; // [n_ranks] sent to and received from each rank
};
