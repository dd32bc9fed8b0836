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

/* How many of a row's best tokens sampler_pick() must be given; 0: more than TOP_MOST, the most
 * that the kernel `top` finds, so that the whole row is needed (sampler_rank). */
int sampler_needs(const struct sampler_options *o, int vocab);
/* Draw a token from the n best, best first. */
int32_t sampler_pick(struct sampler *s, const struct candidate *best, int n);
/* Rank a whole row on the host: the candidates that sampler_pick() is to get, best first, the lower
 * token first among equals, are the first of all [2 * vocab]; the rest is scratch. Returns how many
 * there are. It takes two milliseconds for 150,000 tokens, so use `top` where sampler_needs() > 0.
 */
int sampler_rank(const struct sampler_options *o, struct candidate *all, const float *logits,
                 int vocab);
