/* How large a model is, and what one token costs: arithmetic on the config alone. */
#pragma once

#include <stdint.h>

#include "base/quant.h"
#include "model/config.h"

struct sizes {
    uint64_t embed;   // parameters of the embedding table
    uint64_t unembed; // of the output matrix (0 extra when tied; still read for every token)
    uint64_t
        layers;     // of all layers without routed experts: attention, norms, router, dense, shared
    uint64_t dense; // of these, dense MLPs and shared experts
    uint64_t expert; // of one routed expert
    int sparse_layers;
    uint64_t total;  // all parameters
    uint64_t active; // that work on one token, the embedding row left out
};

struct sizes sizes_of(const struct config *m);

/* Active parameters as models are named after them ("A2.7B"): with the whole embedding table. */
uint64_t sizes_active_published(const struct config *m);

/* Bytes of all weights, the embedding table and what stays as numbers included. */
double sizes_weight_bytes(const struct sizes *s, const struct config *m, const struct precision *p);

/* FLOPs of attention proper (scores and values) for n new positions after `before` old ones. */
double attention_flops(const struct config *m, int before, int n);
uint64_t kv_bytes_per_token(const struct config *m, enum dtype type);
