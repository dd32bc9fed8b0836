/* Random weights, fast: element i of a tensor depends on the tensor's key and i alone, so any part
 * can be made in any order by any thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"

enum { NOISE_LEVELS = 1 << 16 };

/* Normal-like: 65536 equally likely values at the middle quantiles of a normal distribution. */
struct noise {
    enum dtype type;
    union {
        uint16_t half[NOISE_LEVELS]; // f16 or bf16
        float single[NOISE_LEVELS];
    } level;
};

void noise_build(struct noise *n, enum dtype type, double deviation);
/* Elements [first, first + count) of the tensor; first is a multiple of 4. */
void noise_fill(const struct noise *n, uint64_t key, uint64_t first, size_t count, void *out);
