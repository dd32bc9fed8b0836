/* The phases of a layer as coordinator/forward.c calls them. Calls of a phase differ in their
 * weights, experts and sequences, so that no cache answers for the memory. */
#pragma once

#include "tests/gpu/bench/bench.h"

struct step {
    rig &r;
    int n, context, variants;
    bool decode;
    float *x, *qkv, *scores, *dense, *logits, *norm, *weight;
    void *h, *q, *a, *y;
    int32_t *expert, *slot, *source, *count, *piece_at;
    struct candidate *best;
    struct kv_layer kv;
    struct head_norm head_norm; // none
    struct rope_table rope;
    std::vector<struct positions> at;
    std::vector<routing> routes;
    std::vector<work> layer, ending; // its phases, in order; those after the last layer

    /* batch sequences that decode, or 0: a prompt in one step. Its memory is the device's. */
    step(rig &of, int batch);
    step(const step &) = delete;

    /* One of the layer's phases or of the ending's. */
    const work &phase(const char *name) const;
    /* All of the layer's, in order, as one. */
    work whole_layer() const;
    /* What a layer adds to or takes from the one before, the same each time. */
    void refill();
    /* What a layer leaves behind; waits. */
    std::vector<float> result();
};
