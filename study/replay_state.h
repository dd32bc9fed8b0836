/* What both sides of a replay have in common; private to study/replay*.c. */
#pragma once

#include "base/hash.h"
#include "study/lap.h"
#include "study/replay.h"

/* A digest of all that ranks must have in common: the options, and every row of the file. */
static inline uint64_t replay_digest(const struct replay_options *o)
{
    const struct routing_file *f = o->file;
    const int64_t numbers[] = {o->iterations,          o->check,      f->head.n_layers,
                               f->head.n_experts,      f->head.top_k, f->head.hidden,
                               (int64_t)f->head.dtype, f->n_steps};
    uint64_t hash = hash_bytes(HASH_START, numbers, sizeof numbers);
    for (int i = 0; i < f->n_steps; i++)
        hash = hash_bytes(hash, f->steps[i].experts,
                          (size_t)f->n_sparse * (size_t)f->steps[i].n_rows * (size_t)f->head.top_k *
                              routing_expert_bytes(&f->head));
    return hash;
}

/* Groups are the placement's. */
static inline struct exchange_limits replay_limits(const struct replay_options *o)
{
    const struct routing_head *h = &o->file->head;
    return (struct exchange_limits){.rows = o->file->most_rows,
                                    .top_k = h->top_k,
                                    .experts = h->n_experts,
                                    .width = h->hidden,
                                    .type = h->dtype};
}
