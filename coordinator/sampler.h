/* Chooses a token from a row's candidates by temperature, top-k, top-p, min-p and typical-p, in
 * transformers' order. Penalties and bans have been applied to the candidates before (picker.h).
 * Each sequence has its own random numbers, so a seed gives the same text alone or in a batch. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "coordinator/bans.h"
#include "kernels/kernels.h"
#include "model/config.h"

/* Log probabilities in the row that a token was picked from (coordinator/adjust.h). */
enum { MAX_LOGPROBS = 20 };
struct token_logprobs {
    int most;       // how many of the best are wanted, at most MAX_LOGPROBS
    double log_sum; // log_sum() of the row
    float picked;   // the log probability of the token that was picked
    int n_best;
    struct candidate best[MAX_LOGPROBS]; // [n_best] most probable first; logit: the log probability
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
    // the three pointers are the caller's, and must stay valid as long as the sampler
    const struct candidate *biases; // [n_biases] are added to tokens' logits
    int n_biases;
    struct token_logprobs *logprobs; // NULL: not wanted; else set each time a token is picked
    const struct token_bans *bans;   // NULL: none
};

struct sampler {
    struct sampler_options options;
    struct history history; // for bans and penalties
    uint64_t draws;         // random numbers drawn so far: each is a function of (seed, draws)
};

/* Instead of a token: the logits are not finite; all tokens are banned. */
enum { PICK_BROKEN = -1, PICK_NONE_LEFT = -2 };

/* The options that a checkpoint's generation defaults give. The result points into g. */
struct sampler_options sampler_defaults(const struct generation_defaults *g);

/* How many of a row's best tokens the choice needs if `banned` tokens are banned. 0: the whole row
 * (sampler_rank), because more than TOP_MOST are needed or because of adjust_needs_row(). */
int sampler_needs(const struct sampler_options *o, int banned, int vocab);
/* Rank a whole row on the host: the first half of all [2 * vocab] := all tokens, best first, among
 * equals the lower one first; the second half is scratch. NaN counts as infinity, as in the kernel
 * `top`. It takes two milliseconds for 150,000 tokens, so use `top` where sampler_needs() > 0. */
void sampler_rank(struct candidate *all, const float *logits, int vocab);

/* Of the n >= 1 best candidates, best first, keep those that top-k, top-p, min-p and typical-p
 * leave, in order; the others are overwritten. scratch [n]. Returns how many are left. Only for
 * temperature > 0. */
int sampler_keep(const struct sampler_options *o, struct candidate *best, int n,
                 struct candidate *scratch);
/* Choose a token from the n best candidates, best first, which are overwritten: the best one at
 * temperature 0, else one drawn from those that sampler_keep() keeps. PICK_NONE_LEFT if n is 0 or
 * all logits are -infinity. */
int32_t sampler_pick(struct sampler *s, struct candidate *best, int n, struct candidate *scratch);
