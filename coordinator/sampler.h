/* From logits to a token: repetition penalty, temperature, top-k, top-p, in transformers' order.
 * The generator is the sequence's own, so a seed gives the same text alone or in a batch. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "model/config.h"

struct sampler_options {
    double temperature;        // 0: greedy, the lowest token among equals
    double top_p;              // 1: off
    double repetition_penalty; // 1: off
    int top_k;                 // 0: off
    uint64_t seed;
};

struct sampler {
    struct sampler_options options;
    int vocab_size;
    uint64_t draws;            // the generator is a function of (seed, draws)
    uint8_t *seen;             // [vocab_size] tokens of the prompt and the text so far
    struct candidate *scratch; // [vocab_size]
};

struct sampler_options sampler_defaults(const struct generation_defaults *g);

void sampler_open(struct sampler *s, const struct sampler_options *o, int vocab_size);
void sampler_close(struct sampler *s);
void sampler_see(struct sampler *s, int32_t token);           // a token of the prompt
int32_t sampler_pick(struct sampler *s, const float *logits); // and sees it
