/* Which row goes to which rank, in which order: made once from a layer's routing, then only read.
 * Private to exchange/. */
#pragma once

#include "exchange/dedup.h"
#include "exchange/root.h"

struct plan {
    int ranks, root;
    const struct routing *routing;
    int *first; // [ranks + 1] first slot of each rank
    int *sent;  // [ranks] how many rows are sent to each rank
    int *back;  // [ranks] how many rows come back from its experts: one for each slot, or with sum
                // one for each distinct row
    int32_t *leaving; // the rows to send, rank by rank: with dedup the rank's distinct rows, or all
                      // rows if it has pieces; without dedup the row of each slot, and then all
                      // rows if it has pieces
    int *leaving_first; // [ranks + 1] where each rank's begin in `leaving`
    bool dedup, sum;
    struct dedup_map map; // with dedup or sum
    struct row_sums sums; // with sum: what the root adds up
};

void plan_open(struct plan *p, const struct exchange_setup *setup);
void plan_make(struct plan *p, const struct routing *r);

/* The most rows that are sent in a layer, to all ranks together. */
int plan_leaving_most(const struct exchange_limits *l, int ranks);

static inline int plan_slots(const struct plan *p, int rank)
{
    return p->first[rank + 1] - p->first[rank];
}
