/* The values of synthetic tensors: for synth.c, which writes them to files, and synth_made.c, which
 * makes them in memory. */
#pragma once

#include <stdbool.h>

#include "base/noise.h"

#define SYNTH_DEVIATION 0.02

/* Is the tensor all ones? The weights of norms are; all others are noise (base/noise.h). */
bool synth_is_ones(const char *tensor);
/* The key of the noise of a tensor. */
uint64_t synth_key(uint64_t seed, const char *tensor);

/* out := elements [first, first + count) of the tensor of this name, of type n->type. */
void synth_fill(const struct noise *n, uint64_t seed, const char *tensor, uint64_t first,
                size_t count, void *out);
