/* The experts that one rank holds, and running rows through them. A worker's whole model; and the
 * coordinator's, for the experts it keeps at home. */
#pragma once

#include "kernels/device.h"
#include "model/placement.h"
#include "model/weights.h"

struct shard_layer {
    int n_experts;       // here
    struct ffn *experts; // [n_experts] in the order of the placement's groups
    struct ffn_list list;
};

struct shard {
    struct shard_layer *layers; // [n_layers]
    int n_experts;              // in all layers
    uint64_t bytes;             // packed
    enum dtype type;
    size_t row_bytes; // of an expert's input or output row
};

/* Map and pack this rank's experts, and nobody else's. progress: see weights.h. */
int shard_open(struct shard *s, struct dev *d, const struct config *m, const struct checkpoint *c,
               enum dtype type, const struct placement *p, int rank, load_progress progress,
               void *context);

/* A layer's experts here, as run_ffn takes them: y, x, source, count and n are the caller's. */
static inline struct ffn_job shard_job(const struct shard *s, int layer)
{
    return (struct ffn_job){.list = &s->layers[layer].list, .y_type = s->type};
}
