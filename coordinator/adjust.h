/* What a request may do to a whole row of logits, or ask of it, on the host: biases of single
 * tokens, penalties that count, and the log probabilities of what was picked. The order is that of
 * transformers' processors: biases, then the repetition penalty, then OpenAI's frequency and
 * presence penalties, which know the new tokens only:
 *
 *   z[t] -= frequency * (how often t was generated) + presence * (1 if it was generated at all)
 *
 * Log probabilities are those of the model itself: of the row before any of this, and before
 * temperature and cuts. */
#pragma once

#include "coordinator/sampler.h"

/* Do these options need a whole row of logits on the host? */
bool adjust_needs_row(const struct sampler_options *o);
/* Apply biases and penalties to logits [vocab]. counts [vocab] is scratch. */
void adjust_row(const struct sampler *s, float *logits, int32_t *counts, int vocab);
/* l->best [l->n_best] := the l->most most probable tokens of a row with their log probabilities,
 * among equals the lower token first; l->log_sum := log_sum() of the row. */
void logprobs_of_best(struct token_logprobs *l, const float *logits, int vocab);
/* l->picked := the log probability of `token`; logprobs_of_best() of the same row comes first. */
void logprobs_of_picked(struct token_logprobs *l, const float *logits, int32_t token);
