/* From candidates to a token: top-k, temperature, top-p, in transformers' order after the
 * repetition penalty, which logits have behind them (see picker.h). The generator is the sequence's
 * own, so a seed gives the same text alone or in a batch. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kernels/kernels.h"
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
    uint64_t draws; // the generator is a function of (seed, draws)
};

struct sampler_options sampler_defaults(const struct generation_defaults *g);

/* Of how many of a row's best tokens a pick chooses; 0: the device cannot tell so many. */
int sampler_needs(const struct sampler_options *o, int vocab);
/* A token of those, best first. */
int32_t sampler_pick(struct sampler *s, const struct candidate *best, int n);
/* The same candidates from a whole row: the first so many of all [2 * vocab], of which the rest is
 * scratch; among equals the lower token comes first. Returns their number. Two milliseconds for
 * 150,000 tokens: where the device can rank, let it. */
int sampler_rank(const struct sampler_options *o, struct candidate *all, const float *logits,
                 int vocab);
