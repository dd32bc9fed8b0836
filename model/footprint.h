/* How many bytes of memory the parts of a model take, as the device packs them: exact, and from the
 * config alone. What sizes.h counts in parameters. */
#pragma once

#include <stdint.h>

#include "base/quant.h"
#include "model/config.h"

struct footprint {
    uint64_t attention; // of all layers: projections, biases, and both norms of the layer
    uint64_t router;    // of all sparse layers, with the shared expert's gate
    uint64_t dense;     // of all layers: dense MLPs and shared experts
    uint64_t unembed;   // the output matrix and the norm before it
    uint64_t expert;    // one routed expert
};

/* Bytes of one piece of a layer's dense block; 0 if it has none. */
uint64_t piece_footprint(const struct config *m, struct precision p, int layer);

/* Bytes of so many rows of the output matrix. */
uint64_t outputs_footprint(const struct config *m, struct precision p, int outputs);

struct footprint footprint_of(const struct config *m, struct precision p);

/* Bytes of the KV cache of one sequence of `context` positions, rounded up to whole blocks. */
uint64_t kv_footprint(const struct config *m, enum dtype type, int context);
