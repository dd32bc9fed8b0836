/* The experts that one rank holds, and running rows through them. A worker's whole model; and the
 * coordinator's, for the experts it keeps at home. */
#pragma once

#include "kernels/device.h"
#include "model/placement.h"
#include "model/weights.h"

struct shard_layer {
    int n_experts;       // here
    struct ffn *experts; // [n_experts] in the order of the placement's groups
};

struct shard {
    struct shard_layer *layers; // [n_layers]
    struct ffn_run *runs;       // scratch, [most experts of a layer]
    int n_experts;              // in all layers
    uint64_t bytes;             // packed
    enum dtype type;
    size_t row_bytes; // of an expert's input or output row
};

/* Map and pack this rank's experts, and nobody else's. progress: see weights.h. */
int shard_open(struct shard *s, struct dev *d, const struct config *m, const struct checkpoint *c,
               enum dtype type, const struct placement *p, int rank, load_progress progress,
               void *context);

/* rows y := each run of rows x through its expert. count[i] rows belong to the layer's i-th expert
 * here, in order. Both buffers hold rows of the model's type. */
void shard_run(struct shard *s, struct dev *d, int layer, void *y, const void *x,
               const int32_t *count);
