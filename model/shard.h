/* The experts and pieces of dense blocks that one rank holds, and running rows through them. A
 * worker's whole model; and the coordinator's, for what it keeps at home. */
#pragma once

#include "kernels/device.h"
#include "model/placement.h"
#include "model/weights.h"

struct shard_layer {
    struct ffn_list experts, pieces; // those here, in the order of the placement's groups
};

struct shard {
    struct shard_layer *layers; // [n_layers]
    int n_experts, n_pieces;    // in all layers
    uint64_t bytes;             // packed
    struct precision precision;
    size_t row_bytes;   // of an expert's input or output row
    size_t piece_bytes; // of a piece's output row, which is f32
};

/* How many parameters a rank's experts and pieces have. */
uint64_t shard_parameters(const struct config *m, const struct placement *p, int rank);

/* Map and pack what this rank holds, and nothing else, into the device's memory. progress: see
 * weights.h. 0, or STATUS_BAD_FILE; a GPU's error comes with the next dev_wait(). */
int shard_open(struct shard *s, struct dev *d, const struct config *m, const struct checkpoint *c,
               struct precision precision, const struct placement *p, int rank,
               load_progress progress, void *context);

/* A job for run_ffn() with this rank's experts of a layer; the caller sets y, x, source, count and
 * n. */
static inline struct ffn_job shard_experts_job(const struct shard *s, int layer)
{
    return (struct ffn_job){.list = &s->layers[layer].experts, .y_type = s->precision.type};
}

/* The same with its pieces; the caller sets y [pieces][n], x and n. */
static inline struct ffn_job shard_pieces_job(const struct shard *s, int layer)
{
    return (struct ffn_job){.list = &s->layers[layer].pieces, .y_type = DTYPE_F32};
}
