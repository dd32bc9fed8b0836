/* A row of logits as a distribution over tokens: p_i = exp(logit_i) / sum over j of exp(logit_j).
 * All sums are in double, in order of the token, so they depend on nothing but the row. */
#pragma once

/* log(sum of exp(logits)) of n >= 1 logits. NaN or infinite if a logit is NaN or +infinity, or all
 * are -infinity. */
double log_sum(const float *logits, int n);

/* The token with the largest of n >= 1 logits, the lowest among equals. */
int best_token(const float *logits, int n);

/* Kullback-Leibler divergence KL(p || q) in nats of two rows of n >= 1 logits: the sum of
 * p_i (log p_i - log q_i). Not below 0 but for rounding. */
double divergence(const float *p, const float *q, int n);
