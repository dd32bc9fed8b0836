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

/* Run all layers; c->state.x [n][dim] is the result. 0, or an error of the transport, the device or
 * the profile, or a worker's Fault, which fail() has told; then the run is over. */
int forward(struct coordinator *c, const struct batch *b);

/* Run tokens [n] of a slot from position 0 on, in steps of at most c->chunk rows. After each step
 * on_chunk, unless it is NULL, is called with the position of the step's first row and the number
 * of its rows, which are in c->state. 0, or the first error of forward() or on_chunk. */
int forward_sequence(struct coordinator *c, int slot, const int32_t *tokens, int n,
                     int (*on_chunk)(void *context, struct coordinator *c, int first, int n),
                     void *context);
