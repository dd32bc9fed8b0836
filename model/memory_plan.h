/* How many bytes of memory a model takes on each rank of a placement: the weights as they are
 * packed, the embedding as it lies in its file, and the KV cache. */
#pragma once

#include "model/footprint.h"
#include "model/placement.h"
#include "model/sizes.h"

struct memory_plan {
    struct config config;
    struct precision precision; // of weights and KV cache
    int context;                // positions that the KV cache is counted for
    struct sizes sizes;
    struct footprint footprint;
    uint64_t embed_bytes, kv_bytes; // the caller may know them better
    struct placement placement; // the caller's; none yet: no experts anywhere, all else on rank 0
};

/* Fill *p, except for the placement: kv_bytes for one sequence of `context` positions, embed_bytes
 * for the embedding in the config's type. */
void memory_plan_open(struct memory_plan *p, const struct config *m, struct precision precision,
                      int context);

/* What one rank holds, in bytes. */
struct rank_share {
    struct holding holding;
    uint64_t experts, pieces, outputs, rest, bytes; // rest: what only rank 0 has; bytes: all
};
struct rank_share memory_plan_share(const struct memory_plan *p, int rank);

uint64_t memory_plan_weights(const struct memory_plan *p); // all but experts, pieces, outputs
uint64_t memory_plan_rest(const struct memory_plan *p);    // the same with the KV cache
uint64_t memory_plan_bytes(const struct memory_plan *p);   // of all ranks
/* One routed expert of every layer that has them. */
uint64_t memory_plan_expert_of_each(const struct memory_plan *p);
