/* How evenly recorded routing loads the ranks of a placement, and which experts are wanted, alone
 * and together. Per layer, and for decode and prefill steps apart. docs/study.md. */
#pragma once

#include "model/placement.h"
#include "proto/routing.h"
#include "study/replay.h"

/* One layer's load in the steps of one kind, each step taken by itself, then added up. */
struct layer_balance {
    uint64_t *rows;                   // [ranks] (row, expert) pairs
    uint64_t *experts;                // [ranks] experts that had rows in a step
    uint64_t rows_most, experts_most; // of each step's busiest rank
    int holders;                      // ranks that hold experts of the layer
};

struct balance_stats {
    int n_ranks, n_layers;                      // layers with experts
    struct layer_balance *layers[REPLAY_KINDS]; // [n_layers]
};

/* The busiest rank's load over the mean of the ranks that hold experts, step by step; layer < 0: of
 * all layers together. 1 is even; 0: there are no such steps. */
double balance_rows(const struct balance_stats *s, enum replay_kind kind, int layer);
double balance_experts(const struct balance_stats *s, enum replay_kind kind, int layer);

/* Layers are those with experts, in order; `placement` has all of the model's. */
void balance_stats_make(struct balance_stats *s, const struct routing_file *f,
                        const struct placement *placement, struct arena *memory);

/* heat [layers][experts] := rows of each expert, of all steps. */
void routing_heat(uint64_t *heat, const struct routing_file *f, struct arena *scratch);
/* together [experts][experts] := how many rows of a layer went to both. */
void routing_together(uint32_t *together, const struct routing_file *f, int layer,
                      struct arena *scratch);
