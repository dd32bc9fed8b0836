/* From candidates to a token: temperature, top-k, top-p, min-p, typical-p, in transformers' order
 * after the repetition penalty and the bans, which candidates have behind them (see picker.h). The
 * generator is the sequence's own, so a seed gives the same text alone or in a batch. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "coordinator/bans.h"
#include "kernels/kernels.h"
#include "model/config.h"

/* The log probabilities at one new token (coordinator/adjust.h). */
enum { MAX_LOGPROBS = 20 };
struct token_logprobs {
    int most;       // how many of the best are wanted, at most MAX_LOGPROBS
    double log_sum; // of the row
    float picked;   // of the token that was picked
    int n_best;
    struct candidate best[MAX_LOGPROBS]; // [n_best] most probable first, each with its own
};

struct sampler_options {
    double temperature;        // 0: greedy, the lowest token among equals
    double top_p;              // 1: off
    double min_p;              // 0: off
    double typical_p;          // 0 or 1: off
    double repetition_penalty; // 1: off
    double frequency_penalty;  // 0: off
    double presence_penalty;   // 0: off
    int top_k;                 // 0: off
    uint64_t seed;
    const struct candidate *biases; // [n_biases] added to tokens' logits; as bans, the caller's
    int n_biases;
    struct token_logprobs *logprobs; // NULL: not wanted; else those of the token picked last
    const struct token_bans *bans;   // NULL: none; the caller's, as long as the sampler lasts
};

struct sampler {
    struct sampler_options options;
    struct history history; // for bans and penalties
    uint64_t draws;         // the generator is a function of (seed, draws)
};

/* Instead of a token: why there is none. */
enum { PICK_BROKEN = -1, PICK_NONE_LEFT = -2 };

/* g stays the caller's, and must last as long as the sampler. */
struct sampler_options sampler_defaults(const struct generation_defaults *g);

/* How many of a row's best tokens sampler_pick() must be given, if `banned` of all may not come; 0:
 * the whole row (sampler_rank), as that is more than TOP_MOST, the most that the kernel `top`
 * finds, or as o wants more of the row than candidates (coordinator/adjust.h). */
int sampler_needs(const struct sampler_options *o, int banned, int vocab);
/* Rank a whole row on the host: the candidates, best first, the lower token first among equals, are
 * the first half of all [2 * vocab]; the rest is scratch. NaN counts as infinity, as in the kernel
 * `top`. It takes two milliseconds for 150,000 tokens, so use `top` where sampler_needs() > 0. */
void sampler_rank(struct candidate *all, const float *logits, int vocab);

/* Of the n >= 1 best candidates, best first, keep those that may be drawn, in order; the others are
 * overwritten. scratch [n]. Returns how many; temperature > 0. */
int sampler_keep(const struct sampler_options *o, struct candidate *best, int n,
                 struct candidate *scratch);
/* Draw a token from the n best, best first, of which sampler_keep() keeps some; or PICK_NONE_LEFT
 * of none. */
int32_t sampler_pick(struct sampler *s, struct candidate *best, int n, struct candidate *scratch);
