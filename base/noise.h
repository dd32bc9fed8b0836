/* Random weights. Element i of a tensor depends on the tensor's key and on i alone, so any thread,
 * or a GPU, can make any part in any order. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"
#include "base/hash.h"

enum { NOISE_LEVELS = 1 << 16, NOISE_DRAWS = 4 }; // draws of 16 bits in one 64-bit number

/* The values that elements take. There are 65536, equally likely: value i is the (i + 1/2) / 65536
 * quantile of a normal distribution of mean 0. They depend on type and deviation only. */
struct noise {
    enum dtype type;
    double deviation;
    union {
        uint16_t half[NOISE_LEVELS]; // f16 or bf16
        float single[NOISE_LEVELS];
    } level;
};

/* Four draws: element i is level (noise_draw(key, i / 4) >> 16 * (i % 4)) & 0xffff. */
static inline DEVICE_TOO uint64_t noise_draw(uint64_t key, uint64_t counter)
{
    return hash_mix(key + counter * 0x9e3779b97f4a7c15u);
}

void noise_build(struct noise *n, enum dtype type, double deviation);
/* Elements [first, first + count) of the tensor. */
void noise_fill(const struct noise *n, uint64_t key, uint64_t first, size_t count, void *out);
