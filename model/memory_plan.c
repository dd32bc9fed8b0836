#include "model/memory_plan.h"

void memory_plan_open(struct memory_plan *p, const struct config *m, struct precision precision,
                      int context)
{
    *p = (struct memory_plan){.config = *m,
                              .precision = precision,
                              .context = context,
                              .sizes = sizes_of(m),
                              .footprint = footprint_of(m, precision),
                              .kv_bytes = kv_footprint(m, precision.type, context)};
    p->embed_bytes = p->sizes.embed * (uint64_t)dtype_bytes(m->dtype);
}

uint64_t memory_plan_weights(const struct memory_plan *p)
{
    const struct footprint *f = &p->footprint;
    uint64_t outputs = outputs_footprint(&p->config, p->precision, p->config.vocab_size);
    return f->attention + f->router + f->unembed - outputs + p->embed_bytes;
}

uint64_t memory_plan_rest(const struct memory_plan *p)
{
    return memory_plan_weights(p) + p->kv_bytes;
}

/* Bytes of a rank's pieces. Without a placement rank 0 has all of them. */
static uint64_t pieces_bytes(const struct memory_plan *p, int rank)
{
    uint64_t sum = 0;
    if (!p->placement.pieces)
        return rank == 0 ? p->footprint.dense : 0;
    for (int l = 0; l < p->placement.n_layers; l++)
        sum += (uint64_t)placement_count(&p->placement.pieces[l], rank) *
               piece_footprint(&p->config, p->precision, l);
    return sum;
}

static uint64_t outputs_bytes(const struct memory_plan *p, int rank)
{
    const int32_t *first = p->placement.output_first;
    int n = first ? first[rank + 1] - first[rank] : rank == 0 ? p->config.vocab_size : 0;
    return outputs_footprint(&p->config, p->precision, n);
}

struct rank_share memory_plan_share(const struct memory_plan *p, int rank)
{
    struct rank_share s = {.holding = placement_holding(&p->placement, rank),
                           .pieces = pieces_bytes(p, rank),
                           .outputs = outputs_bytes(p, rank),
                           .rest = rank == 0 ? memory_plan_rest(p) : 0};
    s.experts = (uint64_t)s.holding.experts * p->footprint.expert;
    s.bytes = s.experts + s.pieces + s.outputs + s.rest;
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
