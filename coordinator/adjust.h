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

/* Does this sampler want its whole row on the host? */
bool adjust_any(const struct sampler_options *o);
/* logits [vocab] := as biases and penalties leave them. counts [vocab] is scratch. */
void adjust_row(const struct sampler *s, float *logits, int32_t *counts, int vocab);
/* l->best and l->n_best := the l->most most probable tokens of a row; ties: the lower first. */
void logprobs_of_best(struct token_logprobs *l, const float *logits, int vocab);
/* l->picked := of this token, after logprobs_of_best() of the same row. */
void logprobs_of_picked(struct token_logprobs *l, const float *logits, int32_t token);
