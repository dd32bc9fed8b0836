/* The all-to-all of a layer: rows go out to the ranks whose experts they need, and what the experts
 * make of them comes back. What the two ends, root.h and worker.h, have in common.
 *
 * Three parts that do not know each other's insides:
 *   a plan      which row goes to which rank, in which order; made once from a layer's routing
 *   a strategy  what is sent to whom, and what comes back (exact.c, padded.c, allgather.c)
 *   a mover     how rows get there: behind the message in the host's memory, or from GPU to GPU
 * Every strategy works with every mover, and all give the same bits, but for COMBINE_SUM and a
 * narrower wire; those give the same bits for every strategy, dedup and mover.
 *
 * An end is a role: the root has rows and wants results, a worker has experts. Errors: as in
 * transport.h, and STATUS_FAILED for a message that does not hold what the step calls for. */
#pragma once

#include "base/trace.h"
#include "exchange/options.h"
#include "kernels/device.h"
#include "transport/transport.h"

struct exchange_limits {
    int rows, top_k; // of any step
    int experts;     // of one layer on all ranks
    int width;       // of a row
    enum dtype type;
    int pieces; // of one layer on all ranks
    int groups; // of one layer on all ranks: its experts, and copies of them
};

/* What both ends are opened with. */
struct exchange_setup {
    struct dev *host, *dev; // where messages and plans are, and where rows are: the host's memory,
                            // or with nccl the GPU's
    struct transport *transport; // NULL, or of size 1: alone, nothing travels
    int root;                    // the root's rank
    struct exchange_limits limits;
    struct exchange_options options;
    bool nccl; // on all ranks or on none: rows go from GPU to GPU
};

/* Where a layer's experts and pieces live (see model/placement.h): known to both ends. Every row
 * goes through every piece, and what a piece makes of it is f32. */
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

/* Nothing of this layer is on another rank than this one: no row travels, and only the root, if it
 * is this one, has anything to do. */
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
 * from the end of a dispatch until the last of them is back: exposed_ns is the part of that time in
 * which the root waits, hidden_ns the part in which it works, on the other half of a step, too.
 * Over MPI rows count as back when they are next looked for. */
struct exchange_counters {
    uint64_t sent, received; // all that travelled: rows, counts, padding
    uint64_t messages;       // sent
    uint64_t exposed_ns;     // waiting for rows, on a worker, too
    uint64_t hidden_ns;      // root only
    uint64_t logical;        // rows in and out of each expert and piece that they go through
    uint64_t local;          // of these, what stayed at home
    struct pair_bytes *with; // [n_ranks] sent and received, by the other rank
};
