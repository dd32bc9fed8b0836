/* What a synthetic tensor holds, wherever it is put. */
#pragma once

#include "model/noise.h"

#define SYNTH_DEVIATION 0.02

/* Elements [first, first + count) of the tensor of this name: ones for a norm's weights, else
 * noise that depends on seed and name; first is a multiple of 4. */
void synth_fill(const struct noise *n, uint64_t seed, const char *tensor, uint64_t first,
                size_t count, void *out);
