/* One step of the model: tokens go in, the residual stream comes out, and logits where wanted. */
#pragma once

#include "coordinator/coordinator.h"

/* The rows of a step: those of one sequence stand together, positions ascending. Their KV blocks
 * have been taken (kv_cache_extend). */
struct batch {
    int n;                 // 1 .. coordinator.chunk
    const int32_t *tokens; // [n] below vocab_size
    const int32_t *seq;    // [n] sequence slot
    const int32_t *pos;    // [n] position in it
};

/* Runs all layers; c->state.x holds the result. 0, or an error that fail() has told: of the
 * transport, the device or the profile, or the one that a worker's Fault tells. Then the run is
 * over. */
int forward(struct coordinator *c, const struct batch *b);

/* Tokens [n] of a slot from position 0 on, in steps of c->chunk rows. Each step is handed to
 * on_chunk, unless that is NULL, while its rows are in c->state. 0, or what either returned. */
int forward_sequence(struct coordinator *c, int slot, const int32_t *tokens, int n,
                     int (*on_chunk)(void *context, struct coordinator *c, int first, int n),
                     void *context);
