/* Counts the rows that go through each expert and each rank, for display. A step's routing is
 * counted only if the host can read it, which it cannot when a GPU without other ranks routes. */
#pragma once

#include "exchange/root.h"
#include "model/placement.h"

struct watched {
    int n_layers, n_experts, n_ranks;
    uint64_t *experts; // [n_layers][n_experts] by expert
    uint64_t *ranks;   // [n_ranks] rows through the rank's experts and pieces
};

void watched_open(struct watched *w, int n_layers, int n_experts, int n_ranks);
void watched_close(struct watched *w);
/* Count a layer's routing; `experts`: the layer's placement. Does nothing if w is NULL. */
void watched_count(struct watched *w, int layer, const struct routing *r,
                   const struct layer_placement *experts);
/* Copy the counters; both must have been opened with the same sizes. */
void watched_copy(struct watched *to, const struct watched *from);
