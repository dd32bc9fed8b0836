/* The frequencies of rotary embedding: pair i of a head turns by position * frequency[i]. Scaling
 * changes them so that a model reads further than it was trained to. As transformers computes them,
 * in its precision and order. */
#pragma once

#include "model/config.h"

const char *rope_type_name(enum rope_type type); // as config.json calls it

/* frequency [head_dim / 2] of positions of a text of `length` tokens, on which they depend only if
 * rope_follows_length(). Returns what cosines and sines are to be multiplied by. */
float rope_frequencies(const struct config *m, int length, float *frequency);

/* Do the frequencies for a text of so many tokens differ from those for a shorter one? */
bool rope_follows_length(const struct config *m, int length);
