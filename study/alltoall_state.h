/* What both sides of the benchmark have in common; private to study/alltoall*.c. */
#pragma once

#include "base/hash.h"
#include "proto/control.h"
#include "proto/phase.h"
#include "study/alltoall.h"
#include "study/lap.h"

/* Each iteration of a size leaves two marks in a worker's log: it has its rows, and it begins to
 * give results back. */
enum { MARKS_OF_LAP = 2, MARK_ARRIVED = PHASE_COMPUTE, MARK_LEAVES = PHASE_PACK };

/* A digest of all options that ranks must have in common. */
static inline uint64_t alltoall_digest(const struct alltoall_options *o)
{
    const int64_t numbers[] = {o->hidden, o->top_k,      o->experts, o->type, o->n_sizes,
                               o->warmup, o->iterations, o->check,   o->nccl};
    uint64_t hash = hash_bytes(HASH_START, numbers, sizeof numbers);
    hash = hash_bytes(hash, &o->seed, sizeof o->seed);
    hash = hash_bytes(hash, o->rows, (size_t)o->n_sizes * sizeof *o->rows);
    return hash_bytes(hash, o->weights, (size_t)o->experts * sizeof *o->weights);
}

/* The one layer of the benchmark, as a placement needs it. */
static inline struct config alltoall_layer(const struct alltoall_options *o)
{
    return (struct config){
        .n_layers = 1, .n_experts = o->experts, .top_k = o->top_k, .sparse = {true}};
}

/* Groups are the placement's. */
static inline struct exchange_limits alltoall_limits(const struct alltoall_options *o)
{
    int rows = 1;
    for (int i = 0; i < o->n_sizes; i++)
        rows = o->rows[i] > rows ? o->rows[i] : rows;
    return (struct exchange_limits){.rows = rows,
                                    .top_k = o->top_k,
                                    .experts = o->experts,
                                    .width = o->hidden,
                                    .type = o->type};
}
