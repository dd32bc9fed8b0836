/* Which row goes to which rank, in which order: made once from a layer's routing, then only read.
 * Private to exchange/. */
#pragma once

#include "exchange/dedup.h"
#include "exchange/root.h"

struct plan {
    int ranks, root;
    const struct routing *routing;
    int *first; // [ranks + 1] first slot of each rank
    int *sent;  // [ranks] rows that leave for it: distinct ones, or one for each slot
    int *back;  // [ranks] rows that come back: one for each slot, or a sum for each distinct row
    bool dedup, sum;
    struct dedup_map map; // with dedup or sum
    struct row_sums sums; // with sum: what the root adds up
};

void plan_open(struct plan *p, const struct exchange_setup *setup);
void plan_make(struct plan *p, const struct routing *r);

/* Which rows leave for a rank, from its first slot on. */
static inline const int32_t *plan_rows(const struct plan *p)
{
    return p->dedup ? p->map.row : p->routing->source;
}

static inline int plan_slots(const struct plan *p, int rank)
{
    return p->first[rank + 1] - p->first[rank];
}

/* Experts of one rank in this layer. */
static inline int layer_experts(const struct exchange_layer *layer, int rank)
{
    return layer->rank_first[rank + 1] - layer->rank_first[rank];
}
