/* Which row goes to which rank, in which order: made once from a layer's routing, then only read.
 * Private to exchange/. */
#pragma once

#include "exchange/dedup.h"
#include "exchange/root.h"

struct plan {
    int ranks, root;
    const struct routing *routing;
    int *first; // [ranks + 1] first slot of each rank
    int *sent;  // [ranks] rows that leave for it
    int *back; // [ranks] rows that come back from its experts: one for each slot, or a sum for each
               // distinct row
    int32_t *leaving;   // which rows those that leave are, rank by rank: the distinct ones, or one
                        // for each slot; for a rank with pieces all, in order, or after the others
    int *leaving_first; // [ranks + 1] first of each rank
    bool dedup, sum;
    struct dedup_map map; // with dedup or sum
    struct row_sums sums; // with sum: what the root adds up
};

void plan_open(struct plan *p, const struct exchange_setup *setup);
void plan_make(struct plan *p, const struct routing *r);

/* The most rows that leave in a layer. */
int plan_leaving_most(const struct exchange_limits *l, int ranks);

static inline int plan_slots(const struct plan *p, int rank)
{
    return p->first[rank + 1] - p->first[rank];
}
