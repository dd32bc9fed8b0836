/* Which rank holds which expert: the only difference between running alone and running apart.
 *
 * Rows travel sorted by group: the experts of a layer in order of (rank, expert). A rank's groups
 * are therefore contiguous, and so are its rows. */
#pragma once

#include <stdint.h>

#include "base/arena.h"
#include "model/config.h"

struct layer_placement {
    int32_t *rank_of;    // [n_experts]
    int32_t *group_of;   // [n_experts] place of an expert in (rank, expert) order
    int32_t *expert_at;  // [n_experts] its inverse
    int32_t *rank_first; // [n_ranks + 1] first group of each rank
};

struct placement {
    int n_layers, n_experts, n_ranks;
    struct layer_placement *layers; // [n_layers]; all NULL in a dense layer
};

/* Experts in contiguous, almost equal shares over ranks 1 .. n_ranks - 1 (the first ones get one
 * more); with one rank all at home, on rank 0. */
void placement_even(struct placement *p, struct arena *memory, const struct config *m, int n_ranks);

/* From rank_of [n_layers][n_experts] as the Setup message carries it (-1 in dense layers): 0, or
 * STATUS_FAILED when a rank is out of range. */
int placement_from_ranks(struct placement *p, struct arena *memory, const int32_t *rank_of,
                         int n_layers, int n_experts, int n_ranks);

/* Groups of one rank in a layer. */
static inline int placement_count(const struct layer_placement *l, int rank)
{
    return l->rank_first[rank + 1] - l->rank_first[rank];
}
