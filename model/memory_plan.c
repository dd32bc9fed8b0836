#include "model/memory_plan.h"

void memory_plan_open(struct memory_plan *p, const struct config *m, enum dtype type, int context)
{
    *p = (struct memory_plan){.config = *m,
                              .type = type,
                              .context = context,
                              .sizes = sizes_of(m),
                              .footprint = footprint_of(m, type),
                              .kv_bytes = kv_footprint(m, type, context)};
    p->embed_bytes = p->sizes.embed * (uint64_t)dtype_bytes(m->dtype);
}

uint64_t memory_plan_weights(const struct memory_plan *p)
{
    const struct footprint *f = &p->footprint;
    return f->attention + f->router + f->dense + f->unembed + p->embed_bytes;
}

uint64_t memory_plan_rest(const struct memory_plan *p)
{
    return memory_plan_weights(p) + p->kv_bytes;
}

struct rank_share memory_plan_share(const struct memory_plan *p, int rank)
{
    struct rank_share s = {.holding = placement_holding(&p->placement, rank)};
    s.experts = (uint64_t)s.holding.experts * p->footprint.expert;
    s.rest = rank == 0 ? memory_plan_rest(p) : 0;
    s.bytes = s.experts + s.rest;
    return s;
}

uint64_t memory_plan_bytes(const struct memory_plan *p)
{
    uint64_t sum = 0;
    for (int rank = 0; rank < p->placement.n_ranks; rank++)
        sum += memory_plan_share(p, rank).bytes;
    return sum;
}

uint64_t memory_plan_expert_of_each(const struct memory_plan *p)
{
    return (uint64_t)p->sizes.sparse_layers * p->footprint.expert;
}
