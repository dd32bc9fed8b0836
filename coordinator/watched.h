/* Who works now: rows that have gone through each expert and each rank, counted where the host can
 * read a step's routing (not where a GPU alone has it). For people who watch, not for results. */
#pragma once

#include "exchange/root.h"
#include "model/placement.h"

struct watched {
    int n_layers, n_experts, n_ranks;
    uint64_t *experts; // [n_layers][n_experts] by expert
    uint64_t *ranks;   // [n_ranks] of experts and pieces
};

void watched_open(struct watched *w, int n_layers, int n_experts, int n_ranks);
void watched_close(struct watched *w);
/* Count a layer's routing to experts that are where `experts` says. w NULL: nobody watches. */
void watched_count(struct watched *w, int layer, const struct routing *r,
                   const struct layer_placement *experts);
/* to := what from has; both were opened alike. */
void watched_copy(struct watched *to, const struct watched *from);
