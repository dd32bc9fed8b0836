/* What a synthetic tensor holds, wherever it is put. */
#pragma once

#include <stdbool.h>

#include "base/noise.h"

#define SYNTH_DEVIATION 0.02

/* Ones: a norm's weights. All else is noise of this key. */
bool synth_is_ones(const char *tensor);
uint64_t synth_key(uint64_t seed, const char *tensor);

/* Elements [first, first + count) of the tensor of this name. */
void synth_fill(const struct noise *n, uint64_t seed, const char *tensor, uint64_t first,
                size_t count, void *out);
